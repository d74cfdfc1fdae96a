"""The objects of every picture, cut by its crop and drawn at any size."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8

from cortexflow.data.nsd_layout.coco.outlines import filled, unrolled
from cortexflow.errors import CortexflowError

VISIBLE = 0.25  # share of an object's area that must be left for its category to count as seen


class Drawn:
    """The objects of all pictures; those of one picture the largest first, since small ones are in front of large ones.

    Arguments:
        categories: Their names, by COCO's numbers.
        arrays: As :class:`cortexflow.data.nsd_layout.coco.collected.Collection` gives them.
        origin: Where they were read, for errors.
    """

    def __init__(self, categories: tuple[str, ...], arrays: Mapping[str, np.ndarray], origin: str) -> None:
        self.categories, self.origin = categories, origin
        self._windows, self._first, self._category, self._share = (arrays[name] for name in ("windows", "first", "category", "share"))
        self._parts, self._corners, self._points = arrays["parts"], arrays["corners"], arrays["points"]
        self._grid, self._sizes, self._runs, self._lengths = (arrays[name] for name in ("grid", "sizes", "runs", "lengths"))

    def present(self, pictures: list[int]) -> Bool[np.ndarray, "pictures categories"]:
        """Whether a quarter or more of an object of each category is left in each picture.

        Raises:
            CortexflowError: A photograph of which the files say nothing.
        """
        found = np.zeros((len(pictures), len(self.categories)), dtype=bool)
        for row, picture in enumerate(pictures):
            objects = self._objects(picture)
            found[row, self._category[objects][self._share[objects] >= VISIBLE]] = True
        return found

    def labels(self, picture: int) -> Int[np.ndarray, " objects"]:
        """The category of each object of which something is left."""
        return self._category[self._objects(picture)].astype(np.int64)

    def shares(self, picture: int) -> Shaped[np.ndarray, " objects"]:
        """The share of each object's area that is left, above 0."""
        return self._share[self._objects(picture)]

    def masks(self, picture: int, size: tuple[int, int]) -> Bool[np.ndarray, "objects height width"]:
        """What is left of each object, at this height and width."""
        objects = self._objects(picture)
        masks = np.zeros((objects.stop - objects.start, *size), dtype=bool)
        for row, thing in enumerate(range(objects.start, objects.stop)):
            masks[row] = self._mask(thing, self._windows[picture], size)
        return masks

    def segmentation(self, picture: int, size: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
        """The category of each pixel from 1, and 0 where no object is."""
        labels = np.zeros(size, dtype=np.uint8)
        for mask, label in zip(self.masks(picture, size), self.labels(picture), strict=True):
            labels[mask] = label + 1
        return labels

    def _objects(self, picture: int) -> slice:
        if self._windows[picture, 2] == 0:
            raise CortexflowError(f"{self.origin} say nothing of stimulus {picture}'s photograph; copy the whole files again")
        return slice(int(self._first[picture]), int(self._first[picture + 1]))

    def _mask(self, thing: int, window: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        left, top, width, height = window
        if self._grid[thing] >= 0:
            whole = self._unrolled(int(self._grid[thing]))
            rows, columns = _middles(top, height, size[0]), _middles(left, width, size[1])
            return whole[np.minimum(rows, whole.shape[0] - 1)][:, np.minimum(columns, whole.shape[1] - 1)]
        mask = np.zeros(size, dtype=bool)
        scale = np.array([size[1] / width, size[0] / height])
        for part in range(*self._parts[thing]):
            corners = self._points[self._corners[part] : self._corners[part + 1]].astype(np.float64)
            mask |= filled((corners - [left, top]) * scale, *size)
        return mask

    def _unrolled(self, grid: int) -> Bool[np.ndarray, "height width"]:
        return unrolled(self._lengths[self._runs[grid] : self._runs[grid + 1]], *map(int, self._sizes[grid]))


def _middles(start: float, extent: float, count: int) -> Int[np.ndarray, " count"]:
    """The pixel of the photograph at the middle of each of the picture's."""
    return (start + (np.arange(count) + 0.5) / count * extent).astype(np.int64)
