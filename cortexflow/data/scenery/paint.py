"""Objects into pictures: polygons drawn finer than the picture, averaged, shaded, lit, laid over what is behind, with a shadow."""

import math
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from jaxtyping import Complex, Float
from PIL import Image, ImageDraw

from cortexflow.data.scenery.backdrops import Canvas
from cortexflow.data.scenery.pen import Real, Tone

Part = tuple[Complex[np.ndarray, " _points"], Tone]


@dataclass(frozen=True)
class Light:
    """How a scene is lit.

    Arguments:
        side: Where the light comes from, -1 from the left to 1 from the right.
        warmth: -1 bluish to 1 reddish.
        brightness: Factor on everything.
        fall: How much the light falls off across the picture, 0 to 1.
    """

    side: float
    warmth: float
    brightness: float
    fall: float


@dataclass(frozen=True)
class Patch:
    """How much an object covers each pixel, before others cover it; in the part of the picture from (top, left) on."""

    top: int
    left: int
    cover: Float[np.ndarray, "rows columns"]

    def within(self) -> tuple[slice, slice]:
        """Rows and columns of the picture."""
        rows, columns = self.cover.shape
        return slice(self.top, self.top + rows), slice(self.left, self.left + columns)


def coverage(parts: list[Part], size: int) -> tuple[Patch, Float[np.ndarray, "3 rows columns"]]:
    """The covered pixels and their colours; ``parts`` are in picture widths."""
    steps = 4 if size <= 128 else 3 if size <= 256 else 2
    every = np.concatenate([points for points, _ in parts])
    left, top = (max(0, math.floor(low * size)) for low in (every.real.min(), every.imag.min()))
    right, bottom = (min(size, math.ceil(high * size)) for high in (every.real.max(), every.imag.max()))
    if right <= left or bottom <= top:
        return Patch(0, 0, np.zeros((0, 0), dtype=np.float32)), np.zeros((3, 0, 0), dtype=np.float32)
    fine = Image.new("RGBA", ((right - left) * steps, (bottom - top) * steps))
    pencil = ImageDraw.Draw(fine)
    places = (every * size - complex(left, top)) * steps
    flat = np.stack([places.real, places.imag], axis=1).ravel().tolist()
    start = 0
    for points, (red, green, blue) in parts:
        pencil.polygon(flat[start : start + 2 * len(points)], fill=(_byte(red), _byte(green), _byte(blue), 255))
        start += 2 * len(points)
    pixels = np.ascontiguousarray(np.asarray(fine.reduce(steps)).transpose(2, 0, 1)) * np.float32(1 / 255)
    return Patch(top, left, pixels[3]), pixels[:3]


def _byte(value: Real) -> int:
    return max(0, min(255, int(255 * value + 0.5)))


def lay(canvas: Canvas, patch: Patch, colours: Float[np.ndarray, "3 rows columns"], light: Light, size: float) -> None:
    """Shade the object as if it bulged, and lay it over the canvas.

    Arguments:
        canvas: Changed in place.
        patch: Where the object is.
        colours: Its colours.
        light: Bright towards it.
        size: Half the object's extent in picture widths.
    """
    if not patch.cover.size:
        return
    shading = _bulge(patch.cover, light, max(1.0, 0.16 * size * canvas.shape[-1]))
    part = canvas[(slice(None), *patch.within())]
    part += patch.cover * (colours * shading - part)


def _bulge(cover: Float[np.ndarray, "rows columns"], light: Light, width: float) -> Float[np.ndarray, "rows columns"]:
    """Brighter where the surface, taken as a cushion over the object, faces the light."""
    reach = max(1, round(width))
    padded = np.pad(cover, reach)
    soft = scipy.ndimage.uniform_filter(scipy.ndimage.uniform_filter(padded, 2 * reach + 1, mode="constant"), reach | 1, mode="constant")
    across, down = np.zeros_like(soft), np.zeros_like(soft)
    across[:, 1:-1] = soft[:, 2:] - soft[:, :-2]
    down[1:-1] = soft[2:] - soft[:-2]
    facing = (-light.side * across + 0.8 * down) * reach
    return (1 + 0.42 * facing[reach:-reach, reach:-reach]).clip(0.55, 1.4)


def shadow(canvas: Canvas, patch: Patch, light: Light, base: float, standing: bool) -> None:
    """Darken where the object takes the light: on the ground behind it, or on the wall behind it.

    Arguments:
        canvas: Changed in place.
        patch: Where the object is.
        light: Its side decides where the shadow falls.
        base: Where the object stands, in picture heights.
        standing: Whether it stands on a ground.
    """
    if not patch.cover.size:
        return
    size = canvas.shape[-1]
    rows, columns = patch.cover.shape
    squash, lean = (0.28, -0.7 * light.side) if standing else (1.0, 0.0)
    reach = int(abs(lean) * rows * squash) + 2
    shift = 0 if standing else round(0.06 * rows)
    left, right = max(0, patch.left - reach - shift), min(size, patch.left + columns + reach + shift)
    top, bottom = (round(base * size - squash * rows), round(base * size + 2)) if standing else (patch.top + shift, patch.top + shift + rows)
    top, bottom = max(0, top), min(size, bottom)
    if right <= left or bottom <= top:
        return
    # Pillow asks where each pixel of the shadow comes from in the object.
    feet = base * size - patch.top
    if standing:
        places = (1, lean, left - patch.left - lean * (base * size - top), 0, 1 / squash, feet - (base * size - top) / squash)
    else:
        places = (1, 0, left - patch.left + round(0.06 * rows * math.copysign(1, light.side)), 0, 1, top - patch.top - shift)
    mask = Image.fromarray((patch.cover * 255).astype(np.uint8)).transform(
        (right - left, bottom - top), Image.Transform.AFFINE, places, Image.Resampling.BILINEAR
    )
    dark = np.asarray(mask, dtype=np.float32) * np.float32(0.45 / 255)
    dark = scipy.ndimage.uniform_filter(dark, max(1, round(0.02 * size)))
    canvas[:, top:bottom, left:right] *= 1 - dark


def lit(canvas: Canvas, light: Light) -> None:
    """Put the whole picture under its light, values then about 0 to 255."""
    size = canvas.shape[-1]
    place = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    fall = 1 + light.fall * (0.8 * light.side * place[None] - 0.5 * place[:, None])
    tint = (1 + 0.13 * light.warmth, 1.0, 1 - 0.16 * light.warmth)
    for channel, factor in zip(canvas, tint, strict=True):
        channel *= fall * np.float32(255 * light.brightness * factor)
