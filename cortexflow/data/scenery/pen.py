"""Objects as lists of coloured polygons in a frame of their own: x to the right, y downwards, the object within [-1, 1]."""

import colorsys
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Complex, Float

Real = int | float  # the tests take types at their word, and a drawing is easier to read with whole numbers
Tone = tuple[Real, Real, Real]  # red, green, blue in [0, 1]
Place = tuple[Real, Real]

COLOURS: dict[str, Tone] = {
    "red": (0.82, 0.13, 0.13),
    "orange": (0.93, 0.5, 0.1),
    "yellow": (0.95, 0.83, 0.2),
    "green": (0.2, 0.6, 0.25),
    "blue": (0.16, 0.36, 0.78),
    "purple": (0.5, 0.24, 0.66),
    "pink": (0.93, 0.55, 0.68),
    "brown": (0.45, 0.28, 0.15),
    "white": (0.93, 0.92, 0.9),
    "gray": (0.52, 0.53, 0.55),
    "black": (0.13, 0.13, 0.15),
}
SKINS: tuple[Tone, ...] = ((0.96, 0.8, 0.69), (0.88, 0.68, 0.53), (0.76, 0.55, 0.4), (0.58, 0.4, 0.28), (0.4, 0.27, 0.19))
BLACK, WHITE = COLOURS["black"], COLOURS["white"]


@dataclass(frozen=True)
class Look:
    """What makes one exemplar of a category differ from the others.

    Arguments:
        main: Its colour.
        second: Another colour, for trousers, doors, icing …
        skin: For people.
        dials: Sixteen numbers in [0, 1]: poses and proportions.
    """

    main: Tone
    second: Tone
    skin: Tone
    dials: Sequence[float]

    def between(self, dial: int, low: Real, high: Real) -> float:
        """The dial's value, from ``low`` to ``high``."""
        return low + (high - low) * self.dials[dial]

    def pick(self, dial: int, count: int) -> int:
        """One of ``count`` kinds."""
        return min(int(self.dials[dial] * count), count - 1)


class Pen:
    """Collects polygons; later ones lie over earlier ones."""

    def __init__(self) -> None:
        self.parts: list[tuple[Complex[np.ndarray, " _points"], Tone]] = []

    def polygon(self, tone: Tone, *places: Place) -> None:
        """Straight edges."""
        self.parts.append((np.array([complex(*place) for place in places]), tone))

    def box(self, tone: Tone, left: Real, top: Real, right: Real, bottom: Real) -> None:
        """An upright rectangle."""
        self.polygon(tone, (left, top), (right, top), (right, bottom), (left, bottom))

    def ellipse(self, tone: Tone, x: Real, y: Real, width: Real, height: Real, turn: Real = 0.0) -> None:
        """An ellipse by its half axes, turned clockwise by ``turn`` radians."""
        circle = _circle(40)
        points = width * circle.real + 1j * height * circle.imag
        self.parts.append((complex(x, y) + points * complex(math.cos(turn), math.sin(turn)), tone))

    def smooth(self, tone: Tone, *places: Place) -> None:
        """A closed curve through the places."""
        self.parts.append((_spline(len(places)) @ np.array([complex(*place) for place in places]), tone))

    def limb(self, tone: Tone, start: Place, end: Place, first: Real, last: Real | None = None) -> None:
        """A capsule between two places, of half width ``first`` at the start and ``last`` at the end."""
        a, b = complex(*start), complex(*end)
        along = (b - a) / abs(b - a) if a != b else 1.0 + 0j
        half = _circle(20)[:11] * (-1j) * along  # from one side over the end to the other
        self.parts.append((np.concatenate([b + half * (first if last is None else last), a - half * first]), tone))

    def path(self, tone: Tone, width: Real, *places: Place) -> None:
        """A line of half width ``width`` with round corners."""
        for start, end in itertools.pairwise(places):
            self.limb(tone, start, end, width)

    def arc(self, tone: Tone, width: Real, x: Real, y: Real, radius: Real, first: Real, last: Real) -> None:
        """Part of a ring, angles in radians clockwise from the right."""
        turns = np.linspace(first, last, 17)
        rays = np.exp(1j * turns)
        self.parts.append((complex(x, y) + np.concatenate([(radius + width) * rays, (radius - width) * rays[::-1]]), tone))


def shade(tone: Tone, factor: Real) -> Tone:
    """Darker below 1; above 1 mixed with white: 2 is white."""
    if factor <= 1:
        return (tone[0] * factor, tone[1] * factor, tone[2] * factor)
    return mix(tone, (1.0, 1.0, 1.0), factor - 1)


def mix(first: Tone, second: Tone, share: Real) -> Tone:
    """The two tones, ``share`` of the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return (red, green, blue)


def jitter(tone: Tone, hue: Real, saturation: Real, value: Real) -> Tone:
    """The tone moved a little in hue (share of the circle), saturation and value (factors less one)."""
    h, s, v = colorsys.rgb_to_hsv(*tone)
    return colorsys.hsv_to_rgb((h + hue) % 1, min(1.0, s * (1 + saturation)), min(1.0, v * (1 + value)))


def ray(x: Real, y: Real, degrees: Real, length: Real) -> Place:
    """The place ``length`` away, 0 degrees downwards and 90 to the right."""
    angle = math.radians(degrees)
    return (x + length * math.sin(angle), y + length * math.cos(angle))


@cache
def _circle(points: int) -> Complex[np.ndarray, " points"]:
    return np.exp(2j * np.pi * np.arange(points) / points)


@cache
def _spline(count: int, steps: int = 7) -> Float[np.ndarray, "points places"]:
    """Catmull-Rom weights of ``count`` places of a closed curve."""
    weights = np.zeros((count * steps, count))
    for place in range(count):
        for step in range(steps):
            t = step / steps
            basis = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
            for offset, weight in enumerate(basis):
                weights[place * steps + step, (place + offset - 1) % count] += weight / 2
    return weights
