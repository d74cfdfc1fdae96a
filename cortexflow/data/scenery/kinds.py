"""The categories: how they are drawn, in which colours, and where one would expect them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cortexflow.data.scenery import animals, buildings, food, people, things, vehicles, writing
from cortexflow.data.scenery.pen import Look, Pen, Real

ANY = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "gray", "black")
BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
HAIR = ("brown", "black", "yellow", "orange", "gray")
FUR = ("brown", "black", "gray", "white", "orange")
WALLS = ("white", "yellow", "red", "gray", "pink", "blue", "brown")
GREEN = ("field", "forest", "mountains")
TOWN = ("street", "field")
HOME = ("table", "room")


@dataclass(frozen=True)
class Kind:
    """A category.

    Arguments:
        group: Its supercategory.
        draw: How it is drawn.
        colours: Names of its possible main colours.
        home: Layouts where one would expect it.
        stands: Whether it stands on a ground or a table.
        turns: Largest tilt where it does not stand, in degrees.
        foot: Its lowest point in its own frame.
        scale: Factor on its size.
        fill: Share of the square of half extent 1 that it covers.
        mirrors: Whether its mirror image is as good.
        flies: Whether it is found in the upper half.
    """

    group: str
    draw: Callable[[Pen, Look], None]
    colours: tuple[str, ...] = BRIGHT
    home: tuple[str, ...] = ()
    stands: bool = True
    turns: Real = 15.0
    foot: Real = 0.97
    scale: Real = 1.0
    fill: Real = 0.4
    mirrors: bool = True
    flies: bool = False


KINDS: dict[str, Kind] = {
    "face": Kind("faces", people.face, HAIR, ("room", "studio", "street", "field"), stands=False, turns=22, fill=0.47),
    "body": Kind("bodies", people.body, ANY, ("street", "field", "room", "corridor"), scale=1.1, foot=1, fill=0.2),
    "hand": Kind("bodies", people.hand, BRIGHT, ("studio", "table", "room"), stands=False, turns=90, fill=0.3),
    "word": Kind("words", writing.word, ANY, ("street", "studio", "room"), stands=False, turns=15, foot=0.4, fill=0.4, mirrors=False),
    "number": Kind("words", writing.number, ANY, ("street", "studio", "room"), stands=False, turns=15, scale=0.85, foot=0.9, fill=0.7, mirrors=False),
    "house": Kind("places", buildings.house, WALLS, TOWN, foot=1, scale=1.1, fill=0.62),
    "church": Kind("places", buildings.church, WALLS, TOWN, foot=1, scale=1.1, fill=0.42),
    "tower": Kind("places", buildings.tower, WALLS, TOWN, foot=1, scale=1.15, fill=0.5),
    "apple": Kind("food", food.apple, ("red", "green", "yellow"), HOME, scale=0.7, foot=0.88, fill=0.6),
    "banana": Kind("food", food.banana, ("yellow", "yellow", "green"), HOME, turns=60, scale=0.8, foot=0.6, fill=0.24),
    "pizza": Kind("food", food.pizza, ("yellow",), HOME, stands=False, turns=180, fill=0.73),
    "cake": Kind("food", food.cake, ("pink", "white", "brown", "blue"), HOME, scale=0.85, fill=0.48),
    "burger": Kind("food", food.burger, ("brown",), HOME, scale=0.8, foot=0.88, fill=0.62),
    "cat": Kind("animals", animals.cat, FUR, ("room", "field", "street"), scale=0.9, fill=0.35),
    "dog": Kind("animals", animals.dog, FUR, ("room", "field", "street"), scale=0.95, fill=0.32),
    "horse": Kind("animals", animals.horse, ("brown", "black", "white", "gray"), GREEN, foot=1, scale=1.05, fill=0.27),
    "bird": Kind("animals", animals.bird, BRIGHT, (*GREEN, "sea"), stands=False, turns=20, scale=0.8, fill=0.32, flies=True),
    "fish": Kind("animals", animals.fish, BRIGHT, ("sea", "studio", "table"), stands=False, turns=30, scale=0.9, foot=0.7, fill=0.32),
    "car": Kind("vehicles", vehicles.car, ANY, ("street",), foot=0.62, fill=0.27),
    "bus": Kind("vehicles", vehicles.bus, BRIGHT, ("street",), foot=0.68, scale=1.1, fill=0.52),
    "bicycle": Kind("vehicles", vehicles.bicycle, BRIGHT, ("street", "field"), foot=0.9, scale=0.95, fill=0.2),
    "boat": Kind("vehicles", vehicles.boat, BRIGHT, ("sea",), foot=0.9, fill=0.34),
    "plane": Kind(
        "vehicles", vehicles.plane, ("white", "gray", "red", "blue", "yellow"), ("field", "sea", "mountains"), False, 20, 0.7, 1, 0.22, True, True
    ),
    "hammer": Kind("tools", things.hammer, ("brown", "red", "orange", "blue", "black"), HOME, stands=False, turns=180, fill=0.15),
    "scissors": Kind("tools", things.scissors, BRIGHT, HOME, stands=False, turns=180, fill=0.16),
    "key": Kind("tools", things.key, ("yellow", "gray", "brown", "black"), HOME, stands=False, turns=180, fill=0.14),
    "spoon": Kind("tools", things.spoon, ("gray", "white", "brown"), HOME, stands=False, turns=180, fill=0.13),
    "chair": Kind("furniture", things.chair, ANY, ("room", "corridor"), fill=0.25),
    "lamp": Kind("furniture", things.lamp, BRIGHT, HOME, fill=0.3),
    "clock": Kind("furniture", things.clock, ANY, ("room", "corridor", "studio"), stands=False, turns=10, scale=0.75, fill=0.73, mirrors=False),
    "cup": Kind("objects", things.cup, ANY, HOME, scale=0.75, foot=0.88, fill=0.42),
    "ball": Kind("objects", things.ball, BRIGHT, ("field", "room", "sea"), scale=0.65, foot=0.95, fill=0.7),
    "umbrella": Kind("objects", things.umbrella, BRIGHT, ("street", "sea"), turns=40, foot=0.95, fill=0.32),
    "tree": Kind("plants", things.tree, ("green", "green", "orange", "yellow"), GREEN, foot=1, scale=1.15, fill=0.42),
    "flower": Kind("plants", things.flower, ("red", "yellow", "pink", "purple", "white", "orange", "blue"), (*GREEN, "table"), foot=1, fill=0.22),
}
SUPERCATEGORIES: Mapping[str, tuple[str, ...]] = {
    group: tuple(name for name, kind in KINDS.items() if kind.group == group) for group in dict.fromkeys(kind.group for kind in KINDS.values())
}
