"""Procedural pictures: a textured background and one to four objects of ten categories.

A picture is a pure function of (seed, stimulus): any subset of stimuli gives the same bits. The scene behind a picture
(which objects, where, how large) is known, which is what the semantic drives of the simulated cortex read.
"""

import cmath
import colorsys
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, UInt8

from cortexflow.data.simulation.streams import stream

MAIN, DARK, LIGHT, ACCENT = range(4)

# Parts in the object's own frame, x to the right and y downwards, the object within [-1, 1]:
# (shape, x, y, half width, half height, degrees, tone)
SHAPES: dict[str, tuple[tuple[str, float, float, float, float, float, int], ...]] = {
    "face": (
        ("ellipse", 0.0, 0.0, 0.75, 1.0, 0.0, MAIN),
        ("ellipse", -0.3, -0.25, 0.14, 0.1, 0.0, DARK),
        ("ellipse", 0.3, -0.25, 0.14, 0.1, 0.0, DARK),
        ("wedge", 0.0, 0.1, 0.12, 0.2, 0.0, LIGHT),
        ("ellipse", 0.0, 0.55, 0.35, 0.1, 0.0, DARK),
    ),
    "body": (
        ("ellipse", 0.0, -0.8, 0.2, 0.2, 0.0, LIGHT),
        ("box", 0.0, -0.2, 0.3, 0.42, 0.0, MAIN),
        ("box", -0.48, -0.25, 0.1, 0.45, 25.0, LIGHT),
        ("box", 0.48, -0.25, 0.1, 0.45, -25.0, LIGHT),
        ("box", -0.17, 0.6, 0.12, 0.42, 6.0, DARK),
        ("box", 0.17, 0.6, 0.12, 0.42, -6.0, DARK),
    ),
    "animal": (
        ("ellipse", 0.1, 0.0, 0.65, 0.35, 0.0, MAIN),
        ("ellipse", -0.65, -0.3, 0.28, 0.24, 0.0, MAIN),
        ("wedge", -0.75, -0.6, 0.1, 0.18, 0.0, DARK),
        ("box", -0.3, 0.55, 0.08, 0.35, 0.0, DARK),
        ("box", 0.5, 0.55, 0.08, 0.35, 0.0, DARK),
        ("box", 0.85, -0.15, 0.06, 0.3, 40.0, DARK),
    ),
    "bird": (
        ("ellipse", 0.0, 0.1, 0.6, 0.3, -15.0, MAIN),
        ("wedge", 0.1, -0.3, 0.4, 0.5, 20.0, ACCENT),
        ("ellipse", -0.6, -0.1, 0.22, 0.2, 0.0, LIGHT),
        ("wedge", -0.9, -0.08, 0.08, 0.14, -90.0, DARK),
    ),
    "house": (
        ("box", 0.0, 0.35, 0.7, 0.6, 0.0, MAIN),
        ("wedge", 0.0, -0.55, 0.9, 0.4, 0.0, ACCENT),
        ("box", 0.0, 0.6, 0.15, 0.35, 0.0, DARK),
        ("box", -0.42, 0.2, 0.15, 0.15, 0.0, LIGHT),
        ("box", 0.42, 0.2, 0.15, 0.15, 0.0, LIGHT),
    ),
    "car": (
        ("box", 0.0, 0.15, 1.0, 0.28, 0.0, MAIN),
        ("box", -0.05, -0.25, 0.5, 0.25, 0.0, LIGHT),
        ("ellipse", -0.55, 0.5, 0.24, 0.24, 0.0, DARK),
        ("ellipse", 0.55, 0.5, 0.24, 0.24, 0.0, DARK),
    ),
    "tree": (
        ("box", 0.0, 0.6, 0.13, 0.4, 0.0, DARK),
        ("ellipse", -0.3, -0.1, 0.42, 0.4, 0.0, MAIN),
        ("ellipse", 0.3, -0.05, 0.42, 0.4, 0.0, MAIN),
        ("ellipse", 0.0, -0.5, 0.45, 0.42, 0.0, LIGHT),
    ),
    "cup": (
        ("ring", 0.55, 0.05, 0.4, 0.4, 0.0, DARK),
        ("box", -0.1, 0.05, 0.55, 0.7, 0.0, MAIN),
        ("ellipse", -0.1, -0.65, 0.55, 0.16, 0.0, LIGHT),
    ),
    "fruit": (
        ("ellipse", 0.0, 0.1, 0.8, 0.78, 0.0, MAIN),
        ("ellipse", -0.3, -0.15, 0.18, 0.22, 30.0, LIGHT),
        ("box", 0.0, -0.75, 0.05, 0.25, 10.0, DARK),
        ("ellipse", 0.3, -0.8, 0.28, 0.12, -25.0, ACCENT),
    ),
    "letters": (
        ("box", -0.85, 0.0, 0.08, 0.5, 0.0, MAIN),
        ("box", -0.6, 0.0, 0.3, 0.08, 0.0, MAIN),
        ("box", -0.35, 0.0, 0.08, 0.5, 0.0, MAIN),
        ("ring", 0.2, 0.1, 0.35, 0.42, 0.0, MAIN),
        ("box", 0.8, 0.0, 0.08, 0.5, 20.0, MAIN),
        ("box", 0.8, 0.0, 0.08, 0.5, -20.0, MAIN),
    ),
}
CATEGORIES = tuple(SHAPES)
HUES = {"face": 0.07, "body": 0.6, "animal": 0.08, "bird": 0.55, "house": 0.03, "car": 0.0, "tree": 0.33, "cup": 0.58, "fruit": 0.95, "letters": 0.7}


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Arguments:
        category: Index into :data:`CATEGORIES`.
        x: Centre, in picture widths from the left.
        y: Centre, in picture heights from the top.
        size: Half the extent, in picture widths.
        angle: Rotation, in radians.
        contrast: Opacity, 0 to 1.
        colours: Main, dark, light and accent colour, RGB in 0 to 1.
    """

    category: int
    x: float
    y: float
    size: float
    angle: float
    contrast: float
    colours: Float[np.ndarray, "4 3"]


@dataclass(frozen=True)
class Scene:
    """What is in a picture; the last thing lies in front."""

    seed: int
    stimulus: int
    things: tuple[Thing, ...]


def scene(seed: int, stimulus: int) -> Scene:
    """The scene of a stimulus; equal arguments, equal scene."""
    rng = stream(seed, "scene", stimulus)
    return Scene(seed, stimulus, tuple(_thing(rng) for _ in range(int(rng.integers(1, 5)))))


def render(content: Scene, size: int) -> UInt8[np.ndarray, "3 size size"]:
    """Draw a scene.

    Arguments:
        content: What to draw.
        size: Width and height in pixels.
    """
    canvas = _background(stream(content.seed, "background", content.stimulus), size)
    for thing in content.things:
        _draw(canvas, thing)
    return np.round(255 * canvas.clip(0, 1)).astype(np.uint8)


def _thing(rng: np.random.Generator) -> Thing:
    category = int(rng.integers(len(CATEGORIES)))
    hue = HUES[CATEGORIES[category]] + 0.09 * rng.standard_normal()  # trees are mostly green, mostly
    main = _rgb(hue, rng.uniform(0.25, 0.9), rng.uniform(0.4, 1.0))
    accent = _rgb(rng.uniform(), rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.9))
    return Thing(
        category,
        x=float(np.clip(rng.normal(0.5, 0.2), 0.1, 0.9)),
        y=float(np.clip(rng.normal(0.52, 0.17), 0.1, 0.9)),
        size=float(rng.uniform(0.12, 0.38)),
        angle=float(rng.normal(0, 0.25)),
        contrast=float(rng.uniform(0.6, 1)),
        colours=np.stack([main, 0.3 * main, 0.45 * main + 0.55, accent]),
    )


def _background(rng: np.random.Generator, size: int) -> Float[np.ndarray, "3 size size"]:
    """A tint over 1/f texture, a grating, or sky above textured ground."""
    kind, contrast = int(rng.integers(3)), rng.uniform(0.05, 0.3)
    texture = _texture(rng, size, rng.uniform(0.7, 1.8))
    across, down = rng.uniform(-9, 9, 2)
    phase, horizon = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.7)
    tints = rng.uniform(0.2, 0.8, (2, 3)).astype(np.float32)[:, :, None, None]
    x = (np.arange(size, dtype=np.float32) + 0.5) / size
    y = np.broadcast_to(x[:, None], (size, size))
    if kind == 1:
        texture = np.sqrt(2) * np.sin(2 * np.pi * (across * x + down * y) + phase) + 0.3 * texture
    ground = y > horizon if kind == 2 else np.ones_like(y, dtype=bool)
    tint = np.where(ground, tints[0], tints[1])
    return (tint + contrast * np.where(ground, texture, 0.15 * texture)).astype(np.float32).clip(0, 1)


def _texture(rng: np.random.Generator, size: int, exponent: float) -> Float[np.ndarray, "size size"]:
    """Noise whose amplitude falls as frequency to the power of ``-exponent``; mean 0, deviation 1."""
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    radius[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * radius**-exponent, s=(size, size))
    return (noise / noise.std()).astype(np.float32)


def _draw(canvas: np.ndarray, thing: Thing) -> None:
    """Draw one object into the canvas, its edges one pixel soft and lit from above."""
    size = canvas.shape[-1]
    left, top = (max(0, int((centre - 1.5 * thing.size) * size)) for centre in (thing.x, thing.y))
    right, bottom = (min(size, int((centre + 1.5 * thing.size) * size) + 1) for centre in (thing.x, thing.y))
    # Places are complex numbers, x + iy, so that turning is multiplying.
    across, down = (np.arange(left, right) + 0.5) / size - thing.x, (np.arange(top, bottom) + 0.5) / size - thing.y
    places = ((across + 1j * down[:, None]) * np.exp(-1j * thing.angle) / thing.size).astype(np.complex64)
    light = (1 - 0.2 * places.imag).clip(0.6, 1.2)
    part = canvas[:, top:bottom, left:right]
    for shape, x, y, width, height, degrees, tone in SHAPES[CATEGORIES[thing.category]]:
        inside = _inside(shape, (places - complex(x, y)) * cmath.rect(1, -math.radians(degrees)), width, height)
        mask = thing.contrast * (inside * thing.size * size + 0.5).clip(0, 1)
        part += mask * (light * thing.colours[tone, :, None, None] - part)


def _inside(shape: str, places: Complex[np.ndarray, "rows columns"], width: float, height: float) -> Float[np.ndarray, "rows columns"]:
    """Roughly the distance to the edge, positive inside."""
    x, y = places.real, places.imag
    if shape == "box":
        return np.minimum(width - np.abs(x), height - np.abs(y))
    if shape == "wedge":
        return np.minimum(height - y, 0.7 * ((y + height) * (width / (2 * height)) - np.abs(x)))
    round_ = (1 - np.abs(x / width + 1j * (y / height))) * min(width, height)
    return round_ if shape == "ellipse" else 0.09 - np.abs(round_ - 0.09)


def _rgb(hue: float, saturation: float, value: float) -> Float[np.ndarray, " 3"]:
    return np.asarray(colorsys.hsv_to_rgb(hue % 1, saturation, value), dtype=np.float32)
