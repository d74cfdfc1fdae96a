"""Pure functions, one number per voxel or per image; the mean comes last."""
