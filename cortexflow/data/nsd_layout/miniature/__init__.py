"""A small study with known truth in the dataset's own layout."""
