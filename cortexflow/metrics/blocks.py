"""What every metric rests on: voxels in blocks, rows in pairs, and an honest word on what is constant.

A thousand images of 15,724 voxels take 126 MB in double precision. The metrics compute in double precision and give back
the precision they were given, so they take a block of voxels at a time and never hold two such copies.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cortexflow.errors import CortexflowError

ELEMENTS_AT_ONCE = 1 << 22  # 32 MB in double precision


def over_voxels(function: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    """Apply a function to blocks of voxels and join what it returns.

    Arguments:
        function: Maps blocks of the arrays to a tensor whose last axis is the same voxels.
        arrays: Tensors whose last axis is voxels.

    Returns:
        The results joined along the last axis, in the precision of the first array.
    """
    voxels = arrays[0].shape[-1]
    rows = max(array.numel() for array in arrays) // max(voxels, 1)
    size = max(ELEMENTS_AT_ONCE // max(rows, 1), 1)
    blocks = zip(*(array.split(size, dim=-1) for array in arrays), strict=True)
    return torch.cat([function(*block) for block in blocks], dim=-1).to(arrays[0].dtype)


def constant(values: Tensor, dim: int) -> Tensor:
    """Whether the values along an axis are all the same, up to rounding in their own precision; False where one is NaN."""
    high, low = values.amax(dim), values.amin(dim)
    return high - low <= 4 * torch.finfo(values.dtype).eps * torch.maximum(high.abs(), low.abs())


def unit(values: Tensor, dim: int) -> Tensor:
    """Values centred along an axis and divided by their length, in double precision; zeros where they are constant.

    The product of two such vectors is their Pearson correlation, and 0 where one of them is constant.
    """
    centred = values.double() - values.double().mean(dim, keepdim=True)
    length = centred.norm(dim=dim, keepdim=True)
    return torch.where(constant(values, dim).unsqueeze(dim), 0.0, centred / length)


def check_matched(predicted: Tensor, measured: Tensor, least: int = 1) -> None:
    """Raises CortexflowError unless the two match row by row and voxel by voxel and have at least so many rows."""
    if predicted.shape != measured.shape:
        shapes = f"{tuple(predicted.shape)} and {tuple(measured.shape)}"
        raise CortexflowError(f"predicted and measured have shapes {shapes}; give the same images and voxels in both")
    if len(measured) < least:
        raise CortexflowError(f"at least {least} images are needed, {len(measured)} came; hold out more images")


def check_samples(samples: Tensor, measured: Tensor, least: int = 1) -> None:
    """Raises CortexflowError unless there are at least so many samples of every measured row and voxel."""
    if samples.shape[1:] != measured.shape:
        shapes = f"{tuple(samples.shape)} and {tuple(measured.shape)}"
        raise CortexflowError(f"samples and measured have shapes {shapes}; give (n, trials, voxels) and (trials, voxels) of the same trials")
    if len(samples) < least:
        raise CortexflowError(f"at least {least} samples of each trial are needed, {len(samples)} came; draw more")
