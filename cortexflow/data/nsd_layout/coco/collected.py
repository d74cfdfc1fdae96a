"""COCO's images and annotations, item by item, into arrays: outlines of hundreds of thousands of objects in a hundred megabytes."""

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cortexflow.data.nsd_layout.coco.outlines import areas_inside, runs, unrolled
from cortexflow.data.nsd_layout.design import PICTURES
from cortexflow.errors import DamagedFileError

TOGETHER = 20_000  # parts of objects whose areas are computed at a time
MOST = 255  # categories that a segmentation can number
Arrays = dict[str, np.ndarray]


class Collection:
    """What was read so far. Items come in any order; places are in pixels of the photograph."""

    def __init__(self) -> None:
        self.sizes = np.zeros((PICTURES, 2))  # height and width of each photograph; 0 where nothing was said of it
        self.categories: dict[int, str] = {}
        self.pictures, self.kinds, self.areas = array("i"), array("i"), array("f")  # of each object
        self.parts, self.corners, self.points = array("q", [0]), array("q", [0]), array("f")  # where each ends; x, y, x, y …
        self.grids, self.lengths, self.runs = array("i"), array("i"), array("q", [0])  # of objects that are no polygons; -1 for those that are

    def name(self, number: int, category: str) -> None:
        """Take a category. Raises ValueError where the number has another name already, or there are too many."""
        if self.categories.setdefault(number, category) != category:
            raise ValueError(f"category {number} is {self.categories[number]!r} and {category!r}")
        if len(self.categories) > MOST:
            raise ValueError(f"more than {MOST} categories")

    def add(self, name: str, picture: int, item: dict[str, Any]) -> None:
        """Take an item of ``images`` or of ``annotations``. Raises KeyError, TypeError or ValueError where it is not as COCO writes it."""
        if name == "images":
            self.sizes[picture] = item["height"], item["width"]
            return
        kind, area, outline = int(item["category_id"]), float(item["area"]), item["segmentation"]
        if isinstance(outline, dict):
            self._grid(outline)
        else:
            self._polygons(outline)
        self.pictures.append(picture)
        self.kinds.append(kind)
        self.areas.append(area)
        self.parts.append(len(self.corners) - 1)

    def cut(self, crop: Float[np.ndarray, "pictures 4"]) -> tuple[list[str], Arrays]:
        """Names of the categories, and everything as arrays, without the objects that the crop took away.

        ``windows`` are left, top, width and height of each picture in its photograph; ``first`` is the first object of each picture,
        one more than there are; ``category`` and ``share``, what is left of the area, are of each object, ``parts`` its first and last
        part; ``corners`` where each part begins in ``points``. ``grid`` is -1 for polygons, else the number of a mask in runs, which
        begin at ``runs`` in ``lengths``, of the photograph's size, ``sizes``.

        Arguments:
            crop: Shares of the photograph that were cut off at the top, bottom, left and right.

        Raises:
            DamagedFileError: An object of a photograph or a category that no list names.
        """
        pictures, kinds, grids = map(_whole, (self.pictures, self.kinds, self.grids))
        numbers = sorted(self.categories)
        self._check(pictures, kinds)
        windows = _windows(self.sizes, crop)
        share = self._shares(pictures, grids, windows)
        kept = np.flatnonzero(share > 0)
        kept = kept[np.lexsort((kept, -np.array(self.areas)[kept], pictures[kept]))]
        parts = _whole(self.parts)
        owners = np.zeros(len(self.runs) - 1, dtype=np.int64)
        owners[grids[grids >= 0]] = pictures[grids >= 0]
        arrays = {
            "windows": windows,
            "first": np.searchsorted(pictures[kept], np.arange(PICTURES + 1)),
            "category": np.searchsorted(numbers, kinds[kept]).astype(np.uint8),
            "share": share[kept].astype(np.float32),
            "parts": np.stack([parts[:-1], parts[1:]], axis=1)[kept],
            "corners": _whole(self.corners),
            "points": _view(self.points).reshape(-1, 2),
            "grid": grids[kept].astype(np.int32),
            "sizes": self.sizes[owners].astype(np.int32),
            "runs": _whole(self.runs),
            "lengths": _view(self.lengths),
        }
        return [self.categories[number] for number in numbers], arrays

    def _polygons(self, outline: Any) -> None:
        for part in outline:
            if len(part) % 2:
                raise ValueError("a polygon has an odd number of coordinates")
            if len(part) >= 6:  # less encloses nothing
                self.points.extend(part)
                self.corners.append(len(self.points) // 2)
        self.grids.append(-1)

    def _grid(self, outline: dict[str, Any]) -> None:
        self.lengths.extend(runs(outline["counts"]).tolist())
        self.grids.append(len(self.runs) - 1)
        self.runs.append(len(self.lengths))

    def _check(self, pictures: Int[np.ndarray, " objects"], kinds: Int[np.ndarray, " objects"]) -> None:
        unknown = np.setdiff1d(kinds, list(self.categories))
        if len(unknown):
            raise DamagedFileError(f"instances have the category {unknown[0]}, which 'categories' does not name; copy the annotations again")
        lost = pictures[self.sizes[pictures, 0] == 0]
        if len(lost):
            raise DamagedFileError(f"instances have an object of stimulus {lost[0]}'s photograph, which 'images' lacks; copy the annotations again")

    def _shares(self, pictures: np.ndarray, grids: np.ndarray, windows: np.ndarray) -> Float[np.ndarray, " objects"]:
        """How much of each object's area is left."""
        parts = np.diff(self.parts)
        owner = np.repeat(np.arange(len(pictures)), parts)
        whole, left = np.zeros(len(pictures)), np.zeros(len(pictures))
        points, corners = _view(self.points).reshape(-1, 2), _whole(self.corners)
        for some in _blocks(len(owner)):
            start, end = corners[some.start], corners[some.stop]
            window = np.repeat(windows[pictures[owner[some]]], np.diff(corners[some.start : some.stop + 1]), axis=0)
            places = (points[start:end] - window[:, :2]) / window[:, 2:]
            starts = corners[some] - start
            np.add.at(left, owner[some], areas_inside(places, starts))
            np.add.at(whole, owner[some], _areas(places, starts))
        for thing in np.flatnonzero(grids >= 0):
            mask = self._mask(int(grids[thing]), int(pictures[thing]))
            whole[thing], left[thing] = mask.sum(), mask[_within(mask.shape, windows[pictures[thing]])].sum()
        return np.clip(np.divide(left, whole, out=np.zeros_like(whole), where=whole > 0), 0, 1)

    def _mask(self, grid: int, picture: int) -> Bool[np.ndarray, "height width"]:
        height, width = self.sizes[picture].astype(int)
        return unrolled(np.array(self.lengths[self.runs[grid] : self.runs[grid + 1]], dtype=np.int64), int(height), int(width))


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + TOGETHER, count)) for start in range(0, count, TOGETHER))


def _windows(sizes: Float[np.ndarray, "pictures 2"], crop: Float[np.ndarray, "pictures 4"]) -> Float[np.ndarray, "pictures 4"]:
    height, width = sizes.T
    top, bottom, left, right = crop.T
    return np.stack([left * width, top * height, (1 - left - right) * width, (1 - top - bottom) * height], axis=1)


def _within(shape: tuple[int, ...], window: Float[np.ndarray, "4"]) -> tuple[slice, slice]:
    """The rows and columns of the photograph whose middles are in the window."""
    left, top, width, height = window
    rows, columns = np.ceil(np.array([[top, top + height], [left, left + width]]) - 0.5).astype(int)
    return slice(*rows), slice(*columns)


def _areas(points: Float[np.ndarray, "corners 2"], starts: Int[np.ndarray, " polygons"]) -> Float[np.ndarray, " polygons"]:
    """Of whole polygons; see :func:`cortexflow.data.nsd_layout.coco.outlines.areas_inside`."""
    far = 2 + np.abs(points).max(initial=0)  # a square that holds them all, as the unit square
    return areas_inside((points + far) / (2 * far), starts) * (2 * far) ** 2


def _whole(values: array) -> Int[np.ndarray, " _"]:
    return np.array(values, dtype=np.int64)


def _view(values: array) -> np.ndarray:
    """The numbers where they are; they are as many as those of a large file."""
    return np.frombuffer(values, dtype=values.typecode) if len(values) else np.empty(0, dtype=values.typecode)
