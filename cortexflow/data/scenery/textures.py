"""Procedural surfaces as functions of the place, so that any resolution shows the same ones.

Each is a factor on the surface's colour, about 1, at the place (u, v). ``du`` and ``dv`` are the width and height of a pixel in the
units of the place: patterns are averaged over it, so that far floors become even instead of flickering.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float

Plane = Float[np.ndarray, "*plane"]
SIDE = 512
Width = np.ndarray | float
Surface = Callable[[np.ndarray, np.ndarray, Width, Width, float], np.ndarray]


def noise(u: np.ndarray, v: np.ndarray, fine: float = 0.0) -> np.ndarray:
    """Fractal noise of period 1 with mean 0 and deviation about 1.

    Arguments:
        u: First place; broadcasts with ``v``.
        v: Second place.
        fine: Width of a pixel: the noise is averaged over it.
    """
    level = int(np.clip(np.log2(max(fine, 1e-6) * SIDE), 0, 5))
    tile, side = _tiles()[level], SIDE >> level
    return tile[np.floor(v * side).astype(np.int32) % side, np.floor(u * side).astype(np.int32) % side]


@cache
def _tiles() -> list[Float[np.ndarray, "side side"]]:
    """One periodic tile and its averages over blocks of 2, 4, 8 …"""
    rng = np.random.default_rng(20)
    radius = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    radius[0, 0] = np.inf
    tile = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * radius**-1.15, s=(SIDE, SIDE))
    tiles = [(tile / tile.std()).astype(np.float32)]
    for _ in range(5):
        half = len(tiles[-1]) // 2
        tiles.append(tiles[-1].reshape(half, 2, half, 2).mean(axis=(1, 3)))
    return tiles


def clouds(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Soft noise of period 1, detail only down to a 32nd, mean 0 and deviation about 1."""
    tile, side = _tiles()[4], SIDE >> 4
    x, y = u * side, v * side
    left, top = np.floor(x), np.floor(y)
    across, down = _eased(x - left), _eased(y - top)
    columns, rows = left.astype(np.int32), top.astype(np.int32)
    upper, lower = ((1 - across) * tile[row % side, columns % side] + across * tile[row % side, (columns + 1) % side] for row in (rows, rows + 1))
    return upper + down * (lower - upper)


def _eased(t: np.ndarray) -> np.ndarray:
    return t * t * (3 - 2 * t)


def band(t: np.ndarray, fine: Width, share: float = 0.5) -> np.ndarray:
    """1 in the middle share of every period of ``t``, 0 elsewhere, averaged over a width of ``fine``."""
    half = np.maximum(fine, 1e-3) / 2
    return (_filled(t + half, share) - _filled(t - half, share)) / (2 * half)


def _filled(t: np.ndarray, share: float) -> np.ndarray:
    """Integral of the unaveraged band from 0 to t."""
    whole = np.floor(t)
    return whole * share + (t - whole - (1 - share) / 2).clip(0, share)


def plain(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Plaster: next to nothing."""
    return 1 + 0.03 * _grain(u, v, du, dv, dial)


def stripes(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Upright stripes, as of wallpaper."""
    count = 5 + 12 * dial
    return 1 - 0.25 * band(u * count, du * count) + 0 * v


def diagonal(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Oblique stripes."""
    count = 4 + 8 * dial
    return 1 - 0.25 * band((u + v) * count, (du + dv) * count)


def checks(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Tiles in two tones."""
    count = 3 + 4 * dial
    one, other = band(u * count, du * count), band(v * count, dv * count)
    return 1.05 - 0.4 * (one * (1 - other) + other * (1 - one))


def tiles(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Square tiles with bright joints."""
    count = 4 + 8 * dial
    joints = np.maximum(1 - band(u * count, du * count, 0.9), 1 - band(v * count, dv * count, 0.9))
    return 0.9 + 0.3 * joints + 0.04 * _grain(u, v, du, dv, dial)


def bricks(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Courses of bricks, every other one shifted by half a brick."""
    rows = 9 + 9 * dial
    course = np.floor(v * rows)
    near = 1 / (1 + (rows * np.maximum(du / 2, dv)) ** 4)  # far bricks melt into one tone
    across = u * rows / 2.2 + 0.5 * (course % 2)
    tone = 0.1 * near * np.sin(12.9 * np.floor(across) + 78.2 * course)
    joints = np.maximum(1 - band(across, du * rows / 2.2, 0.92), 1 - band(v * rows, dv * rows, 0.84))
    return (0.95 + tone) * (1 - joints) + 1.25 * joints + 0.05 * _grain(u, v, du, dv, dial)


def planks(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Boards along the second axis, with grain."""
    count = 5 + 6 * dial
    board = np.floor(u * count)
    tone = 0.12 * np.sin(37.7 * board + 5) / (1 + (count * du) ** 4)
    grain = noise(u * 2.2 + 0.37 * board, v * 0.15 + 0.61 * board, float(np.median(du))) / (1 + (20 * du) ** 2)
    return 0.98 + tone + 0.07 * grain - 0.4 * (1 - band(u * count, du * count, 0.95))


def dots(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Spots on a grid."""
    count = 6 + 8 * dial
    row = np.floor(v * count)
    x, y = u * count + 0.5 * (row % 2), v * count
    away = np.hypot(x - np.floor(x) - 0.5, y - row - 0.5)
    wide = np.maximum(np.maximum(du, dv) * count, 1e-4)
    return 1 + 0.35 * ((0.24 - away) / wide + 0.5).clip(0, 1) / (1 + wide**4)


def carpet(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Grass, sand, carpet: strong fine noise."""
    return 1 + 0.14 * _grain(2 * u, 2 * v, 2 * du, 2 * dv, dial) + 0.06 * _grain(u / 3, v / 3, du / 3, dv / 3, dial)


def _grain(u: np.ndarray, v: np.ndarray, du: Width, dv: Width, dial: float) -> np.ndarray:
    """Noise that is lost where a pixel holds much of it."""
    far = np.maximum(du, dv)
    return noise(u + dial, v + 3.7 * dial, float(np.median(far))) / (1 + (20 * far) ** 2)


SURFACES: dict[str, Surface] = {
    "plain": plain,
    "stripes": stripes,
    "diagonal": diagonal,
    "checks": checks,
    "tiles": tiles,
    "bricks": bricks,
    "planks": planks,
    "dots": dots,
    "carpet": carpet,
}
