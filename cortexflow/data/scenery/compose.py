"""Scenes: a backdrop, a light, and one to five objects of thirty-five categories, all of it from a seed and a number.

``scene`` decides what there is, ``render`` shows it at any resolution, ``captions`` says it. Three worlds never share a scene:
``stimuli`` for what subjects see, ``training`` for networks, ``localiser`` for block designs.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from cortexflow.data.scenery.backdrops import LAYOUTS, OUTDOORS, Backdrop, backdrop
from cortexflow.data.scenery.captions import captions as sentences
from cortexflow.data.scenery.kinds import KINDS, SUPERCATEGORIES, Kind
from cortexflow.data.scenery.paint import Light, Part, Patch, coverage, lay, lit, shadow
from cortexflow.data.scenery.pen import COLOURS, SKINS, Look, Pen, Real, Tone, jitter, mix
from cortexflow.data.scenery.textures import SURFACES
from cortexflow.data.simulation.streams import stream
from cortexflow.errors import CortexflowError

CATEGORIES: tuple[str, ...] = tuple(KINDS)
WORLDS = ("stimuli", "training", "localiser")
SMALLEST, LARGEST = 16, 2048  # pixels
COUNTS = (0.3, 0.33, 0.2, 0.12, 0.05)  # share of scenes with one, two … objects
AT_HOME = 0.7  # share of objects in a layout where one would expect them
PARAMETERS: tuple[str, ...] = (
    *CATEGORIES,
    *(f"{group}.{axis}" for group in SUPERCATEGORIES for axis in ("x", "y")),
    *COLOURS,
    *("objects", "area", "outdoors"),
    *LAYOUTS,
    *("light.side", "light.warmth", "light.brightness", "light.fall", "horizon"),
    *(f"tone{tone}.{channel}" for tone in range(4) for channel in ("red", "green", "blue")),
)
LATTICE = (np.linspace(-0.8, 0.8, 5)[:, None] + 1j * np.linspace(-0.8, 0.8, 5)).ravel()
__all__ = [
    "CATEGORIES",
    "PARAMETERS",
    "SUPERCATEGORIES",
    "WORLDS",
    "Rendered",
    "Scene",
    "Thing",
    "boxes",
    "captions",
    "masks",
    "portrait",
    "render",
    "scene",
]


@dataclass(frozen=True)
class Thing:
    """An object in a scene.

    Arguments:
        category: Index into :data:`CATEGORIES`.
        x: Its middle from the left, in picture widths.
        y: Its middle from the top.
        size: Half its extent, in picture widths.
        angle: Turned clockwise, radians.
        width: Factor on its width: foreshortening, negative where mirrored.
        colour: Name of its main colour.
        look: What makes it an exemplar.
        standing: Whether it stands on the ground.
        base: Where its foot is, from the top, in picture heights.
    """

    category: int
    x: float
    y: float
    size: float
    angle: float
    width: float
    colour: str
    look: Look
    standing: bool
    base: float

    @property
    def name(self) -> str:
        """The category."""
        return CATEGORIES[self.category]

    @property
    def kind(self) -> Kind:
        """How things of this category are drawn and where they are found."""
        return KINDS[self.name]

    def parts(self) -> list[Part]:
        """Polygons in picture widths."""
        pen = Pen()
        self.kind.draw(pen, self.look)
        factor = self.size * complex(math.cos(self.angle), math.sin(self.angle))
        every = np.concatenate([points for points, _ in pen.parts])
        every = complex(self.x, self.y) + factor * (self.width * every.real + 1j * every.imag)
        parts, start = [], 0
        for points, tone in pen.parts:
            parts.append((every[start : start + len(points)], tone))
            start += len(points)
        return parts


@dataclass(frozen=True)
class Scene:
    """What is in a picture.

    Arguments:
        number: Which of its world's scenes.
        world: One of :data:`WORLDS`.
        backdrop: What is behind the objects.
        light: How it is lit.
        things: The objects, the farthest first.
    """

    number: int
    world: str
    backdrop: Backdrop
    light: Light
    things: tuple[Thing, ...]

    @property
    def outdoors(self) -> bool:
        """Whether there is a sky."""
        return self.backdrop.layout in OUTDOORS

    @cached_property
    def visible(self) -> Float[np.ndarray, " objects"]:
        """Area of each object that neither the frame nor a nearer object hides, in picture areas.

        Estimated from 25 places in each object's extent, so that it depends on no resolution.
        """
        areas = np.zeros(len(self.things))
        for row, thing in enumerate(self.things):
            places = complex(thing.x, thing.y) + 0.8 * thing.size * LATTICE
            seen = (np.abs(places.real - 0.5) < 0.5) & (np.abs(places.imag - 0.5) < 0.5)
            for nearer in self.things[row + 1 :]:
                reach = nearer.size * math.sqrt(nearer.kind.fill)
                seen &= np.abs(places - complex(nearer.x, nearer.y)) > reach
            areas[row] = 4 * thing.size**2 * thing.kind.fill * abs(thing.width) * seen.mean()
        return areas

    @cached_property
    def parameters(self) -> Float[np.ndarray, " parameters"]:
        """What is in the picture in numbers, named by :data:`PARAMETERS`.

        Per category the square root of the visible area; per supercategory the mean place of it, weighted by area and measured
        from the middle; number and summed area of objects; main colours weighted by area; layout; light; horizon.
        """
        root = np.sqrt(self.visible)
        presence, colours = np.zeros(len(CATEGORIES)), np.zeros(len(COLOURS))
        places = np.zeros((len(SUPERCATEGORIES), 2))
        for thing, extent in zip(self.things, root, strict=True):
            presence[thing.category] += extent
            colours[list(COLOURS).index(thing.colour)] += extent
            places[list(SUPERCATEGORIES).index(thing.kind.group)] += extent * (thing.x - 0.5), extent * (thing.y - 0.5)
        layout = [float(self.backdrop.layout == name) for name in LAYOUTS]
        light = [self.light.side, self.light.warmth, self.light.brightness, self.light.fall]
        whole = [len(self.things), float(self.visible.sum()), float(self.outdoors), *layout, *light, self.backdrop.horizon]
        return np.concatenate([presence, places.ravel(), colours, np.array(whole), np.array(self.backdrop.tones).ravel()])


@dataclass(frozen=True)
class Rendered:
    """A scene at one resolution.

    Arguments:
        scene: What is shown.
        image: The picture.
        patches: What each object covers.
    """

    scene: Scene
    image: UInt8[np.ndarray, "3 size size"]
    patches: tuple[Patch, ...]

    @cached_property
    def masks(self) -> Bool[np.ndarray, "objects size size"]:
        """The visible part of each object, in the order of ``scene.things``."""
        size = self.image.shape[-1]
        visible = np.zeros((len(self.patches), size, size), dtype=bool)
        for row, patch in enumerate(self.patches):
            covered = patch.cover > 0.5
            visible[(slice(0, row), *patch.within())] &= ~covered
            visible[(row, *patch.within())] = covered
        return visible

    @cached_property
    def segmentation(self) -> UInt8[np.ndarray, "size size"]:
        """Category index + 1 of each pixel, 0 for the backdrop."""
        labels = np.zeros(self.image.shape[1:], dtype=np.uint8)
        for thing, patch in zip(self.scene.things, self.patches, strict=True):
            labels[patch.within()][patch.cover > 0.5] = thing.category + 1
        return labels

    @cached_property
    def boxes(self) -> Int[np.ndarray, "objects 4"]:
        """Left, top, right and bottom of each object's visible part, in pixels, right and bottom exclusive; zeros where hidden."""
        found = np.zeros((len(self.patches), 4), dtype=np.int64)
        for row, mask in enumerate(self.masks):
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if len(rows):
                found[row] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return found


def render(content: Scene, size: int) -> Rendered:
    """The picture of a scene.

    Arguments:
        content: What to show.
        size: Width and height in pixels.

    Raises:
        CortexflowError: A size below 16 or above 2048.
    """
    check_size(size)
    canvas = backdrop(content.backdrop, size)
    patches = []
    for thing in content.things:
        patch, colours = coverage(thing.parts(), size)
        shadow(canvas, patch, content.light, thing.base, thing.standing)
        lay(canvas, patch, colours, content.light, thing.size)
        patches.append(patch)
    lit(canvas, content.light)
    canvas += 0.5
    return Rendered(content, canvas.clip(0, 255, out=canvas).astype(np.uint8), tuple(patches))


def masks(content: Scene, size: int) -> Bool[np.ndarray, "objects size size"]:
    """The visible part of each object, without the picture."""
    return outlined(content, size).masks


def boxes(content: Scene, size: int) -> Int[np.ndarray, "objects 4"]:
    """Left, top, right and bottom of each object's visible part, in pixels; zeros where it is hidden."""
    return outlined(content, size).boxes


def outlined(content: Scene, size: int) -> Rendered:
    """What each object covers; the picture is left black."""
    check_size(size)
    patches = tuple(coverage(thing.parts(), size)[0] for thing in content.things)
    return Rendered(content, np.zeros((3, size, size), dtype=np.uint8), patches)


def captions(content: Scene) -> list[str]:
    """Five or more different sentences; see :mod:`cortexflow.data.scenery.captions`."""
    return sentences(content)


def check_size(size: int) -> None:
    """Raises CortexflowError where no picture has this size."""
    if not SMALLEST <= size <= LARGEST:
        raise CortexflowError(f"pictures have {SMALLEST} to {LARGEST} pixels a side, asked were {size}; choose a size in that range")


def scene(seed: int, number: int, world: str = "stimuli") -> Scene:
    """Decide what is in a picture.

    Arguments:
        seed: Of the world, at least 0.
        number: Which picture, at least 0.
        world: One of :data:`WORLDS`; worlds are disjoint random streams.

    Raises:
        CortexflowError: An unknown world, or a seed or number below 0.
    """
    draws = _draws(seed, number, world)
    count = 1 + draws.weighted(COUNTS)
    categories = [draws.below(len(CATEGORIES)) for _ in range(count)]
    return _compose(draws, number, world, categories, draws.uniform(0.24, 0.46))


def portrait(seed: int, number: int, supercategory: str, world: str = "localiser") -> Scene:
    """A large picture of one object of a supercategory, as in a localiser; any layout, so that backdrops tell no category.

    Raises:
        CortexflowError: An unknown supercategory or world, or a seed or number below 0.
    """
    if supercategory not in SUPERCATEGORIES:
        raise CortexflowError(f"no supercategory {supercategory!r}; choose one of {', '.join(SUPERCATEGORIES)}")
    members = SUPERCATEGORIES[supercategory]
    draws = _draws(seed, number, world, supercategory)
    return _portrait(draws, number, world, members[draws.below(len(members))])


def exemplar(seed: int, number: int, category: str, world: str = "localiser") -> Scene:
    """A large picture of one object of a category, in any layout.

    Raises:
        CortexflowError: An unknown category or world, or a seed or number below 0.
    """
    if category not in CATEGORIES:
        raise CortexflowError(f"no category {category!r}; choose one of {', '.join(CATEGORIES)}")
    return _portrait(_draws(seed, number, world, "exemplar", category), number, world, category)


def _portrait(draws: "_Draws", number: int, world: str, category: str) -> Scene:
    return _compose(draws, number, world, [CATEGORIES.index(category)], draws.uniform(0.33, 0.46), tuple(LAYOUTS)[draws.below(len(LAYOUTS))])


class _Draws:
    """Uniform numbers by the handful: a generator called for one number at a time would cost more than the drawing."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.left = rng, rng.random(512).tolist()

    def uniform(self, low: Real = 0, high: Real = 1) -> float:
        if not self.left:
            self.left = self.rng.random(512).tolist()
        return low + (high - low) * self.left.pop()

    def below(self, count: int) -> int:
        return int(self.uniform(0, count))

    def dials(self) -> tuple[float, ...]:
        return tuple(self.uniform() for _ in range(16))

    def weighted(self, shares: tuple[float, ...]) -> int:
        at = self.uniform(0, sum(shares))
        for index, share in enumerate(shares):
            at -= share
            if at < 0:
                return index
        return len(shares) - 1


def _draws(seed: int, number: int, world: str, *purpose: str) -> _Draws:
    if world not in WORLDS:
        raise CortexflowError(f"no world {world!r}; choose one of {', '.join(WORLDS)}")
    if seed < 0 or number < 0:
        raise CortexflowError(f"seed and number of a scene must be at least 0, they are {seed} and {number}; choose others")
    return _Draws(stream(seed, "scenes", world, number, *purpose))


def _compose(draws: _Draws, number: int, world: str, categories: list[int], largest: float, layout: str | None = None) -> Scene:
    """Put objects into a layout: where None, into one that suits the first, else into the middle of it."""
    middle = layout is not None
    made_of = _backdrop(draws, layout or _layout(draws, KINDS[CATEGORIES[categories[0]]]))
    light = Light(draws.uniform(-1, 1), draws.uniform(-1, 1), draws.uniform(0.68, 1.18), draws.uniform(0, 0.6))
    things: list[Thing] = []
    for place, category in enumerate(categories):
        size = largest if place == 0 else largest * draws.uniform(0.4, 0.95)
        things.append(_thing(draws, category, made_of, size, things, middle))
    return Scene(number, world, made_of, light, tuple(sorted(things, key=lambda thing: (thing.standing, thing.base))))


def _layout(draws: _Draws, kind: Kind) -> str:
    every = tuple(LAYOUTS)
    if kind.home and draws.uniform() < AT_HOME:
        return kind.home[draws.below(len(kind.home))]
    return every[draws.below(len(every))]


def _backdrop(draws: _Draws, layout: str) -> Backdrop:
    low, high = {"corridor": (0.45, 0.55), "table": (0.3, 0.55), "room": (0.5, 0.72)}.get(layout, (0.35, 0.62))
    names = tuple(SURFACES)
    wall, floor = names[draws.below(len(names) - 1)], names[draws.below(len(names))]
    if layout == "table" and draws.uniform() < 0.7:
        floor = "planks"
    return Backdrop(layout, draws.uniform(low, high), _tones(draws, layout), (wall, floor), draws.dials())


def _tones(draws: _Draws, layout: str) -> tuple[Tone, Tone, Tone, Tone]:
    def near(tone: Tone, share: Real = 0.5) -> Tone:
        return jitter(
            mix(tone, tuple(COLOURS.values())[draws.below(8)], share * 0.3),
            draws.uniform(-0.03, 0.03),
            draws.uniform(-0.3, 0.3),
            draws.uniform(-0.2, 0.2),
        )

    def any_(pale: float) -> Tone:
        return jitter(
            mix(tuple(COLOURS.values())[draws.below(10)], (0.9, 0.88, 0.84), draws.uniform(pale, 0.9)),
            draws.uniform(-0.05, 0.05),
            0,
            draws.uniform(-0.35, 0.1),
        )

    if layout in OUTDOORS:
        skies: tuple[Tone, ...] = ((0.35, 0.6, 0.9), (0.55, 0.72, 0.88), (0.95, 0.62, 0.4), (0.6, 0.63, 0.7), (0.2, 0.26, 0.45))
        grounds: tuple[Tone, ...] = ((0.35, 0.55, 0.22), (0.5, 0.55, 0.25), (0.66, 0.55, 0.35), (0.55, 0.52, 0.48), (0.8, 0.82, 0.86))
        return near(skies[draws.below(5)]), near(grounds[draws.below(5)]), near((0.5, 0.42, 0.4), 2.0), near((0.85, 0.75, 0.55))
    return any_(0.35), any_(0.15), any_(0.0), any_(0.0)


def _thing(draws: _Draws, category: int, made_of: Backdrop, size: float, others: list[Thing], middle: bool) -> Thing:
    kind = KINDS[CATEGORIES[category]]
    standing = kind.stands and made_of.layout != "studio"
    colour = kind.colours[draws.below(len(kind.colours))]
    main = jitter(COLOURS[colour], draws.uniform(-0.015, 0.015), draws.uniform(-0.2, 0.15), draws.uniform(-0.12, 0.12))
    second = tuple(COLOURS.values())[draws.below(len(COLOURS))]
    look = Look(main, second, SKINS[draws.below(len(SKINS))], draws.dials())
    angle = math.radians(draws.uniform(-1, 1) * (min(kind.turns, 3) if standing else kind.turns))
    width = draws.uniform(0.8, 1.05) * (-1 if draws.uniform() < 0.5 and kind.mirrors else 1)
    places = [_place(draws, made_of, size * kind.scale, standing, kind, middle) for _ in range(6)]
    x, y, half, base = min(places, key=lambda place: _crowding(place, others))
    return Thing(category, x, y, half, angle, width, colour, look, standing, base)


def _place(draws: _Draws, made_of: Backdrop, size: float, standing: bool, kind: Kind, middle: bool) -> tuple[float, float, float, float]:
    """Middle, half extent and foot; what stands nearer is larger."""
    x = draws.uniform(0.35, 0.65) if middle else draws.uniform(0.04, 0.96)
    if not standing:
        y = draws.uniform(0.38, 0.62) if middle else draws.uniform(0.1, 0.85 if not kind.flies else 0.5)
        return x, y, size * draws.uniform(0.75, 1.1), y + size * kind.foot
    near = draws.uniform(0.6, 0.9) if middle else draws.uniform(0.1, 1.0)
    base = made_of.horizon + (1.02 - made_of.horizon) * near
    half = size * (0.55 + 0.5 * near)
    return x, base - half * kind.foot, half, base


def _crowding(place: tuple[float, float, float, float], others: list[Thing]) -> float:
    x, y, size, _ = place
    outside = max(0.0, size - x, x + size - 1) + max(0.0, size - y, y + size - 1)
    return outside / size + sum(max(0.0, 1 - math.hypot(x - other.x, y - other.y) / (size + other.size)) for other in others)
