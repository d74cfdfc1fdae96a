"""Outlines of objects, as COCO writes them, into masks: polygons, and runs of pixels in columns.

Places are in pixels of a photograph, whose first pixel reaches from 0 to 1; a pixel is covered where its middle is.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from cortexflow.errors import CortexflowError

OFFSET, SIX, FIVE, MORE = 48, 6, 5, 0x20  # of compressed runs: characters hold six bits each, the highest says that more follow


def filled(points: Float[np.ndarray, "corners 2"], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """The pixels of a grid whose middles lie in a polygon, by the even-odd rule.

    Arguments:
        points: Corners as (x, y) in pixels of the grid, anywhere in it or outside; the last is joined to the first.
        height: Of the grid.
        width: Of the grid.
    """
    x, y = points.astype(np.float64).T
    to_x, to_y = np.roll(x, -1), np.roll(y, -1)
    first, last = (_above(edge(y, to_y), height) for edge in (np.minimum, np.maximum))
    crossings = last - first  # rows whose middles an edge crosses
    edge = np.repeat(np.arange(len(x)), crossings)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossings) - crossings, crossings) + first[edge]
    along = (row + 0.5 - y[edge]) / (to_y - y)[edge]
    column = _above(x[edge] + along * (to_x - x)[edge], width)
    mask = np.zeros((height, width), dtype=bool)
    if len(row):
        low, high = row.min(), row.max() + 1
        left, right = column.min(), column.max()
        turns = np.bincount((row - low) * (right - left + 1) + column - left, minlength=(high - low) * (right - left + 1))
        mask[low:high, left:right] = (np.cumsum(turns.reshape(high - low, -1), axis=1) % 2)[:, :-1] > 0
    return mask


def _above(places: Float[np.ndarray, " _"], size: int) -> Int[np.ndarray, " _"]:
    """The first pixel whose middle is not below each place."""
    return np.clip(np.ceil(places - 0.5), 0, size).astype(np.int64)


def runs(counts: str | Sequence[int]) -> Int[np.ndarray, " runs"]:
    """The lengths of runs of pixels outside and inside in turn, from the list of them or from COCO's compressed text.

    In the text a number has five bits a character, the lowest first, and from the fourth on is the difference to the one two before.

    Raises:
        CortexflowError: A text that ends within a number, or a run below 0.

    Example:
        >>> runs("52201")
        array([5, 2, 2, 2, 3])
    """
    found = _uncompressed(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if any(count < 0 for count in found):
        raise CortexflowError(f"runs of pixels must be 0 or more, one is {min(found)}; copy the annotations again")
    return np.array(found, dtype=np.int64)


def _uncompressed(text: str) -> list[int]:
    found: list[int] = []
    value = shift = 0
    for character in text.encode():
        bits = character - OFFSET
        value |= (bits & 0x1F) << shift
        shift += FIVE
        if bits & MORE:
            continue
        if bits & 0x10:  # the sign
            value -= 1 << shift
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value = shift = 0
    if shift:
        raise CortexflowError(f"a text of runs ends within a number ({text[-12:]!r}); copy the annotations again")
    return found


def unrolled(lengths: Int[np.ndarray, " runs"], height: int, width: int) -> Bool[np.ndarray, "height width"]:
    """The mask of runs, which go down the columns and from left to right, the first of them outside.

    Raises:
        CortexflowError: They make another number of pixels.
    """
    if lengths.sum() != height * width:
        raise CortexflowError(f"runs make {lengths.sum()} pixels where the photograph has {height} × {width}; copy the annotations again")
    return np.repeat(np.arange(len(lengths)) % 2 > 0, lengths).reshape(width, height).T


def areas_inside(points: Float[np.ndarray, "corners 2"], starts: Int[np.ndarray, " polygons"]) -> Float[np.ndarray, " polygons"]:
    r"""The area that each polygon has within the unit square, exactly.

    By Green's theorem it is the integral of :math:`\min(\max(x, 0), 1)` over dy along those parts of the edges that have
    :math:`0 \le y \le 1`.

    Arguments:
        points: Corners of all polygons, one polygon after the other.
        starts: The first corner of each polygon.
    """
    following = np.arange(1, len(points) + 1)
    following[np.append(starts[1:], len(points)) - 1] = starts
    (x, y), (to_x, to_y) = points.T, points[following].T
    level = to_y == y
    slope = np.divide(to_x - x, to_y - y, out=np.zeros_like(x), where=~level)
    low, high = np.clip(y, 0, 1), np.clip(to_y, 0, 1)
    mean = _clamped_mean(x + slope * (low - y), x + slope * (high - y))
    return np.abs(np.add.reduceat(np.where(level, 0, mean * (high - low)), starts))


def _clamped_mean(start: Float[np.ndarray, " edges"], end: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " edges"]:
    """The mean of min(max(x, 0), 1) from start to end."""
    short = np.abs(end - start) < 1e-9
    whole = [np.where(x < 0, 0, np.where(x > 1, x - 0.5, x**2 / 2)) for x in (start, end)]
    return np.where(short, np.clip(start, 0, 1), np.divide(whole[1] - whole[0], end - start, out=np.zeros_like(start), where=~short))
