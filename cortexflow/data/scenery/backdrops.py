"""What stands behind the objects: nine layouts, indoors and outdoors, as functions of the place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cortexflow.data.scenery.pen import Real, Tone, mix, shade
from cortexflow.data.scenery.textures import SURFACES, band, clouds, noise

Canvas = Float[np.ndarray, "3 height width"]


@dataclass(frozen=True)
class Backdrop:
    """A layout and what it is made of.

    Arguments:
        layout: A key of :data:`LAYOUTS`.
        horizon: Where the ground or the floor ends, from the top, in picture heights.
        tones: Of sky or wall, of ground or floor, and two more.
        surfaces: Of wall and floor, keys of :data:`cortexflow.data.scenery.textures.SURFACES`.
        dials: Sixteen numbers in [0, 1].
    """

    layout: str
    horizon: float
    tones: tuple[Tone, Tone, Tone, Tone]
    surfaces: tuple[str, str]
    dials: tuple[float, ...]


class Field:
    """Places of the pixels of a square picture, from 0 to 1."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fine = 1 / size
        self.x = ((np.arange(size, dtype=np.float32) + 0.5) / size)[None]
        self.y = ((np.arange(size, dtype=np.float32) + 0.5) / size)[:, None]

    def cover(self, inside: np.ndarray) -> np.ndarray:
        """How much of a pixel lies inside, from the distance to the edge."""
        return (inside * self.size + 0.5).clip(0, 1)

    def box(self, left: Real, top: Real, right: Real, bottom: Real) -> np.ndarray:
        """Cover of an upright rectangle."""
        return self.cover(np.minimum(self.x - left, right - self.x)) * self.cover(np.minimum(self.y - top, bottom - self.y))


def backdrop(made_of: Backdrop, size: int) -> Canvas:
    """Paint the layout, values about 0 to 1."""
    field = Field(size)
    canvas = np.empty((3, size, size), dtype=np.float32)
    LAYOUTS[made_of.layout](canvas, field, made_of)
    return canvas


def _flood(canvas: Canvas, tone: Tone, factor: np.ndarray | Real = 1.0) -> None:
    """Paint everything."""
    for channel, value in zip(canvas, tone, strict=True):
        channel[:] = factor * np.float32(value)


def _lay(canvas: Canvas, cover: np.ndarray, tone: Tone, factor: np.ndarray | Real = 1.0) -> None:
    """Paint a tone over the canvas where it is covered."""
    cover = np.asarray(cover, dtype=np.float32)
    rows = np.flatnonzero(cover.any(axis=1))
    if not len(rows):
        return
    where = slice(rows[0], rows[-1] + 1)
    cover = cover[where] if len(cover) > 1 else cover
    light = np.asarray(factor, dtype=np.float32)
    light = light[where] if light.ndim and len(light) > 1 else light
    for channel, value in zip(canvas[:, where] if len(cover) > 1 else canvas, tone, strict=True):
        channel += cover * (light * np.float32(value) - channel)


def _sky(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    top, dials = made_of.tones[0], made_of.dials
    haze = (field.y / made_of.horizon).clip(0, 1)
    for channel, high, low in zip(canvas, top, mix(top, (1, 0.97, 0.92), 0.65), strict=True):
        channel[:] = high + haze * (low - high)
    drift = clouds(field.x * 0.25 + dials[0], field.y * 0.55 + dials[1]) + 0.15 * noise(field.x * 0.5, field.y, 1.5 / field.size)
    _lay(canvas, ((drift - 1.2 + 1.6 * dials[2]) * 0.8).clip(0, 0.8), mix(top, (1, 1, 1), 0.88))


def _ground(canvas: Canvas, field: Field, made_of: Backdrop, surface: str, cover: np.ndarray | None = None) -> None:
    """The floor in perspective; it darkens a little towards the viewer."""
    top = int(max(0, np.floor((made_of.horizon - 0.02) * field.size)))
    below = (field.y[top:] - made_of.horizon).clip(0.015)
    depth = 0.35 / below
    u, v = (field.x - 0.5) * depth + made_of.dials[3], depth * 0.9 + made_of.dials[4]
    du, dv = depth / field.size, 0.9 * depth / below / field.size
    factor = SURFACES[surface](u, v, du, dv, made_of.dials[5])
    inside = field.cover(field.y[top:] - made_of.horizon) if cover is None else cover[top:]
    _lay(canvas[:, top:], inside, made_of.tones[1], factor * (1.05 - 0.25 * below))


def _hills(field: Field, dials: Sequence[float]) -> np.ndarray:
    """Rounded heights along the first axis, 0 to 1."""
    waves = [0.45**k * np.sin(2 * np.pi * ((0.6 + 1.1 * k) * field.x[0] + 3 * dials[k + 6])) for k in range(4)]
    return 0.5 + 0.28 * np.asarray(sum(waves))


def _peaks(field: Field, dials: Sequence[float]) -> np.ndarray:
    """Jagged heights along the first axis, 0 to 1."""
    folds = [0.5**k * (1 - np.abs(np.sin(np.pi * ((1.1 + dials[k]) * 1.9**k * field.x[0] + 3 * dials[k + 6])))) for k in range(7)]
    return np.asarray(sum(folds)) / 1.6


def _field(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    _sky(canvas, field, made_of)
    for layer in (0, 1):
        high = (0.2 - 0.08 * layer) * (0.4 + made_of.dials[6 + layer])
        edge = made_of.horizon - high * _hills(field, made_of.dials[layer:])
        tone = mix(shade(made_of.tones[1], 0.75), made_of.tones[0], 0.55 - 0.35 * layer)
        _lay(canvas, field.cover(field.y - edge[None]), tone, 1 + 0.06 * noise(field.x * 2, field.y * 3, 2 / field.size))
    _ground(canvas, field, made_of, "carpet")


def _mountains(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    _sky(canvas, field, made_of)
    edge = made_of.horizon - (0.22 + 0.25 * made_of.dials[6]) * _peaks(field, made_of.dials)
    below = field.y - edge[None]
    rock = noise(field.x * 0.9 + below, field.y * 1.2 - 0.5 * field.x, 1 / field.size)
    _lay(canvas, field.cover(below), made_of.tones[2], 0.85 + 0.13 * rock)
    snow = made_of.horizon - 0.22 + 0.15 * made_of.dials[8] - field.y + 0.035 * rock
    _lay(canvas, field.cover(below) * (snow * 40).clip(0, 1), (0.93, 0.94, 0.98), 0.95 + 0.06 * rock)
    _ground(canvas, field, made_of, "carpet")


def _sea(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    _sky(canvas, field, made_of)
    below = (field.y - made_of.horizon).clip(0.004)
    waves = noise(field.x * 0.5 / (below + 0.25) + made_of.dials[4], 0.35 * np.log(below) * 2, 1.5 / field.size)
    water = mix((0.08, 0.3, 0.45), made_of.tones[0], 0.35)
    _lay(canvas, field.cover(field.y - made_of.horizon), water, 0.95 + 0.16 * waves + 0.2 * below)
    shore = 1.05 - 0.3 * made_of.dials[7] + 0.04 * np.sin(7 * field.x + 6 * made_of.dials[8])
    _lay(canvas, field.cover(field.y - shore + 0.02), (0.93, 0.95, 0.95))
    _lay(canvas, field.cover(field.y - shore), made_of.tones[3], 1 + 0.08 * noise(field.x * 3, field.y * 3, 3 / field.size))


def _street(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    _sky(canvas, field, made_of)
    dials, left = made_of.dials, 0.0
    for place in range(6):
        wide = 0.14 + 0.16 * dials[(place + 5) % 16]
        top = made_of.horizon - 0.1 - 0.34 * dials[(place + 9) % 16]
        tone = mix(made_of.tones[2 + place % 2], (0.6, 0.6, 0.65), 0.5 * dials[place])
        cover = field.box(left, top, left + wide, made_of.horizon + 0.03)
        _lay(canvas, cover, tone, 0.9 + 0.1 * (place % 2))
        columns = 3 + place % 2
        panes = band((field.x - left) / wide * columns, field.fine / wide * columns, 0.5) * band((field.y - top) * 14, field.fine * 14, 0.5)
        _lay(canvas, cover * panes, (0.25, 0.32, 0.4))
        left += wide
    _ground(canvas, field, made_of, "tiles")
    side, depth = field.x - 0.5 - 0.25 * (dials[3] - 0.5), field.y - made_of.horizon - 0.02
    _lay(canvas, field.cover(0.85 * depth - np.abs(side)), (0.3, 0.3, 0.32), 1 + 0.08 * noise(field.x * 2, field.y * 2, 2 / field.size))
    dashes = band(0.5 / depth.clip(0.01) + dials[4], 0.5 / depth.clip(0.01) ** 2 / field.size, 0.55)
    _lay(canvas, field.cover(0.025 * depth - np.abs(side)) * dashes, (0.9, 0.88, 0.8))


def _forest(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    leaves = noise(field.x * 1.5 + made_of.dials[0], field.y * 1.5 + made_of.dials[1], 1.5 / field.size)
    green = mix(made_of.tones[1], (0.1, 0.3, 0.12), 0.5)
    _flood(canvas, green, 0.8 + 0.25 * leaves - 0.2 * field.y)
    _lay(canvas, (leaves * 0.8 - 0.9).clip(0, 0.8), mix(made_of.tones[0], (1, 1, 0.9), 0.5))
    for trunk in range(7):
        x, wide = (trunk + made_of.dials[trunk]) / 7, 0.012 + 0.035 * made_of.dials[trunk + 8] ** 2
        bark = 0.65 + 2.2 * wide * 5 * (0.5 + (field.x - x) / wide / 4) + 0.1 * noise(field.x * 3, field.y * 0.6, 3 / field.size)
        _lay(canvas, field.cover(wide - np.abs(field.x - x - 0.01 * np.sin(5 * field.y + trunk))), (0.38, 0.28, 0.2), bark)
    _ground(canvas, field, made_of, "carpet")


def _wall(canvas: Canvas, field: Field, made_of: Backdrop, tone: Tone) -> None:
    factor = SURFACES[made_of.surfaces[0]](field.x + made_of.dials[1], field.y + made_of.dials[2], field.fine, field.fine, made_of.dials[0])
    _flood(canvas, tone, factor)


def _room(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    _wall(canvas, field, made_of, made_of.tones[0])
    x, y, wide, high = (
        low + span * dial for low, span, dial in zip((0.08, 0.06, 0.16, 0.15), (0.6, 0.12, 0.18, 0.18), made_of.dials[6:10], strict=True)
    )
    frame: Tone = (0.9, 0.88, 0.84) if made_of.dials[10] < 0.6 else (0.4, 0.28, 0.18)
    _lay(canvas, field.box(x - 0.02, y - 0.02, x + wide + 0.02, y + high + 0.02), frame)
    view = field.box(x, y, x + wide, y + high)
    if made_of.dials[11] < 0.6:
        _lay(canvas, view, (0.62, 0.8, 0.95), 1.1 - 0.4 * (field.y - y) + 0 * field.x)
        bars = np.maximum(
            field.box(x, y + high / 2 - 0.008, x + wide, y + high / 2 + 0.008), field.box(x + wide / 2 - 0.008, y, x + wide / 2 + 0.008, y + high)
        )
        _lay(canvas, bars, frame)
    else:
        _lay(canvas, view, made_of.tones[2], 1 + 0.25 * noise(field.x + made_of.dials[12], field.y, 1 / field.size))
    _lay(canvas, field.cover(field.y - made_of.horizon + 0.025), shade(made_of.tones[0], 1.6))
    _ground(canvas, field, made_of, made_of.surfaces[1])


def _corridor(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    dials = made_of.dials
    across, down = (field.x - 0.35 - 0.3 * dials[6]) / 0.62, (field.y - made_of.horizon + 0.06) / 0.62
    out = np.maximum(np.abs(across), np.abs(down)).clip(0.13 + 0.1 * dials[7])
    depth, end = 0.5 / out, out < 0.1301 + 0.1 * dials[7]
    fade = (1.15 - 0.16 * depth).clip(0.45, 1.1)
    walls, fine = np.abs(across) > np.abs(down), depth / field.size * 1.6
    u, v = np.where(walls, down, across) / out * 0.5, depth
    wall = SURFACES[made_of.surfaces[0]](v, u, 2 * fine * depth, fine, dials[0])
    floor = SURFACES[made_of.surfaces[1]](u, v, fine, 2 * fine * depth, dials[5])
    lamps = band(v * 1.4 + dials[8], fine * 1.4, 0.35) * (np.abs(u) < 0.12)
    _flood(canvas, made_of.tones[0], wall * fade)
    doors = band(v * 1.1 + dials[9], fine * 1.1, 0.35) * (u > -0.22) * walls
    _lay(canvas, doors, shade(made_of.tones[2], 0.8), fade)
    _lay(canvas, ~walls & (down > 0), made_of.tones[1], floor * fade)
    _lay(canvas, ~walls & (down < 0), (0.85, 0.85, 0.83), fade)
    _lay(canvas, lamps * (~walls & (down < 0)), (1, 1, 0.93), 1.1)
    _lay(canvas, end, shade(made_of.tones[0], 1.3), 0.8 + 0.2 * band(field.x * 3, 0.03, 0.7))


def _table(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    blur = clouds(field.x * 0.2 + made_of.dials[0], field.y * 0.2 + made_of.dials[1])
    _flood(canvas, made_of.tones[0], 0.9 + 0.14 * blur - 0.25 * field.y)
    _lay(
        canvas,
        field.box(0.1 + 0.5 * made_of.dials[6], -0.1, 0.5 + 0.5 * made_of.dials[7], made_of.horizon),
        shade(made_of.tones[2], 0.8),
        0.9 + 0.1 * blur,
    )
    _ground(canvas, field, made_of, made_of.surfaces[1])
    _lay(canvas, field.box(-1, made_of.horizon - 0.006, 2, made_of.horizon + 0.006), shade(made_of.tones[1], 1.25))


def _studio(canvas: Canvas, field: Field, made_of: Backdrop) -> None:
    _wall(canvas, field, made_of, made_of.tones[0])
    canvas *= 1.1 - 0.5 * ((field.x - made_of.dials[6]) ** 2 + (field.y - made_of.dials[7]) ** 2)


LAYOUTS: dict[str, Callable[[Canvas, Field, Backdrop], None]] = {
    "field": _field,
    "mountains": _mountains,
    "sea": _sea,
    "street": _street,
    "forest": _forest,
    "room": _room,
    "corridor": _corridor,
    "table": _table,
    "studio": _studio,
}
OUTDOORS = ("field", "mountains", "sea", "street", "forest")
