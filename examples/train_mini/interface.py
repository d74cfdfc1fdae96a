"""The one place that knows how scenes are made: what training needs of one."""

import numpy as np

from cortexflow.data.scenery.compose import CATEGORIES, captions, render, scene

CLASSES = ("background", *CATEGORIES)


def one(seed: int, number: int, world: str, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Picture, segmentation, which categories can be seen (20 pixels or more), and captions."""
    content = scene(seed, number, world)
    shown = render(content, size)
    counts = np.bincount(shown.segmentation.ravel(), minlength=len(CLASSES))[1:]
    return shown.image, shown.segmentation, counts >= 20, list(captions(content))
