"""Sentences about a scene, in plain lower-case words of a small closed vocabulary."""

from typing import TYPE_CHECKING

from cortexflow.data.scenery.kinds import KINDS

if TYPE_CHECKING:  # a scene knows its captions, so compose imports this module
    from cortexflow.data.scenery.compose import Scene, Thing

WHERE = {
    "field": "in a field",
    "mountains": "in front of mountains",
    "sea": "by the sea",
    "street": "on a street",
    "forest": "in a forest",
    "room": "in a room",
    "corridor": "in a long corridor",
    "table": "on a table",
    "studio": "in front of a plain wall",
}
PLURALS = {"body": "people", "church": "churches", "scissors": "scissors", "bus": "buses"}
NUMBERS = ("no", "one", "two", "three", "four", "five")
SINGULAR = {"body": "person"}


def captions(content: "Scene") -> list[str]:
    """Six or more different sentences: the main object, all objects, their places, counts, layout and light.

    Example:
        "a large red apple on a table", "an apple to the left of a cup", "two objects indoors in bright light" …
    """
    things = sorted(content.things, key=lambda thing: -thing.size)
    where = WHERE[content.backdrop.layout]
    first = things[0]
    sentences = [
        f"{_phrase(first)} {where}",
        f"{_listed([_phrase(thing) for thing in things])}",
        f"a picture of {_listed(_counted(things))} {where}",
        f"{_extent(first)} {_noun(first)} {_side(first)} {_inside(content)}",
        f"{_amount(len(things))} {_inside(content)} in {_light(content)} light",
        f"{_listed([_article(thing.colour) + ' ' + _noun(thing) for thing in things])} {where}",
    ]
    sentences += [f"{_article(_noun(first))} {_relation(first, other)} {_article(_noun(other))}" for other in things[1:]]
    return list(dict.fromkeys(sentences))


def vocabulary() -> tuple[str, ...]:
    """Every word that captions can hold, sorted."""
    words = {"a", "an", "and", "picture", "of", "object", "objects", "indoors", "outdoors", "light", "in", "bright", "dark", "normal", "warm", "cold"}
    words |= {"large", "small", "on", "the", "left", "right", "middle", "to", "above", "below", "with", "hair", *NUMBERS}
    for phrase in WHERE.values():
        words |= set(phrase.split())
    for name, kind in KINDS.items():
        words |= {SINGULAR.get(name, name), _plural(name), *kind.colours}
    return tuple(sorted(words))


def _noun(thing: "Thing") -> str:
    return SINGULAR.get(thing.name, thing.name)


def _plural(name: str) -> str:
    return PLURALS.get(name, name if name == "fish" else name + "s")


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _extent(thing: "Thing") -> str:
    return "a large" if thing.size > 0.27 else "a small"


def _phrase(thing: "Thing") -> str:
    return f"{_extent(thing)} {_coloured(thing)}"


def _coloured(thing: "Thing") -> str:
    """The colour is the hair's for faces, and the clothes' for people and hands."""
    if thing.name == "face":
        return f"face with {thing.colour} hair"
    if thing.kind.group == "bodies":
        return f"{_noun(thing)} in {thing.colour}"
    return f"{thing.colour} {_noun(thing)}"


def _listed(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{' '.join(phrases[:-1])} and {phrases[-1]}"


def _counted(things: list["Thing"]) -> list[str]:
    names = [thing.name for thing in things]
    return [
        _article(SINGULAR.get(name, name)) if names.count(name) == 1 else f"{NUMBERS[names.count(name)]} {_plural(name)}"
        for name in dict.fromkeys(names)
    ]


def _amount(count: int) -> str:
    return f"{NUMBERS[count]} object{'s' if count > 1 else ''}"


def _side(thing: "Thing") -> str:
    return "on the left" if thing.x < 0.4 else "on the right" if thing.x > 0.6 else "in the middle"


def _inside(content: "Scene") -> str:
    return "outdoors" if content.outdoors else "indoors"


def _light(content: "Scene") -> str:
    bright = "bright" if content.light.brightness > 1.02 else "dark" if content.light.brightness < 0.82 else "normal"
    return bright if abs(content.light.warmth) < 0.5 else f"{bright} {'warm' if content.light.warmth > 0 else 'cold'}"


def _relation(first: "Thing", other: "Thing") -> str:
    across, down = other.x - first.x, other.y - first.y
    if abs(across) >= abs(down):
        return "to the left of" if across > 0 else "to the right of"
    return "above" if down > 0 else "below"
