"""A miniature's annotations and answers: files as COCO and the dataset have them, of the simulated scenes and of a simulated memory."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from cortexflow.data.nsd_layout.behaviour import COLUMNS, behaviour_file, lags
from cortexflow.data.nsd_layout.coco.annotations import FOLDERS, SPLITS
from cortexflow.data.nsd_layout.design import PER_SESSION, TABLE, read_table
from cortexflow.data.nsd_layout.miniature.planning import Plan
from cortexflow.data.nsd_layout.splits import COMPLETED_BY_ALL
from cortexflow.data.scenery.compose import CATEGORIES, SUPERCATEGORIES, Scene, Thing, captions, scene
from cortexflow.data.scenery.paint import Patch, coverage
from cortexflow.data.simulation.streams import stream
from cortexflow.storage import replacing

LONG, SIDE = 640, 480  # pixels of a photograph; the crop is as high and wide as its short side
NUMBERS = {name: number + 1 + number // 10 for number, name in enumerate(CATEGORIES)}  # COCO's numbers have gaps as well
TRIAL, RUN = 4 / 86_400, 320 / 86_400  # days


class Photograph(NamedTuple):
    """A scene in a photograph that shows more than the picture.

    Arguments:
        coco: Its number.
        size: Width and height.
        corner: Where the picture begins, from the left and from the top, in pixels.
        content: What the picture shows.
    """

    coco: int
    size: tuple[int, int]
    corner: tuple[float, float]
    content: Scene


def write_annotations(root: Path, seed: int, stimuli: Int[np.ndarray, " stimuli"]) -> None:
    """Captions and objects of the scenes, for the pictures of these ids, in the order of the scenes' numbers.

    Objects reach beyond the picture as far as they did; each photograph has one more in the part that the crop takes away. Whole
    objects are polygons, what is partly hidden is a crowd, in runs of pixels.
    """
    table = read_table(root / TABLE)
    shown = {split: [(row, int(stimulus)) for row, stimulus in enumerate(stimuli) if table.split[stimulus] == split] for split in SPLITS}
    for split, pairs in shown.items():
        photographs = [_photograph(int(table.coco[stimulus]), table.crop[stimulus], scene(seed, row)) for row, stimulus in pairs]
        lists = {"info": {"description": "a simulated study", "year": 2017}, "licenses": [], "images": [_image(one) for one in photographs]}
        sayings = [{"image_id": one.coco, "caption": words} for one in photographs for words in captions(one.content)]
        things = [thing for one in photographs for thing in _things(one)]
        categories = [{"supercategory": group, "id": NUMBERS[name], "name": name} for name in CATEGORIES for group in _groups(name)]
        _write(root / FOLDERS[0] / f"captions_{split}.json", lists | {"annotations": _numbered(sayings)})
        _write(root / FOLDERS[0] / f"instances_{split}.json", lists | {"annotations": _numbered(things), "categories": categories})


def write_behaviour(root: Path, subject: str, planned: Plan, sessions: int, seed: int) -> None:
    """A subject's answers in all sessions, whether or not those have responses here: better the sooner a picture comes again."""
    sessions = max(sessions, COMPLETED_BY_ALL)
    shown = planned.design.of(subject)[: sessions * PER_SESSION]
    own = planned.arrays["masterordering"][0][: len(shown)]
    columns = _clock(planned.arrays["stimpattern"][:sessions]) | _memory(shown, stream(seed, "behaviour", subject))
    columns |= {"SUBJECT": np.full(len(shown), int(subject.removeprefix("subj"))), "73KID": shown + 1, "10KID": own}
    text = io.StringIO()
    np.savetxt(text, np.stack([columns[name] for name in COLUMNS], axis=1), fmt="%.12g", delimiter="\t")
    with replacing(root / behaviour_file(subject)) as temporary:
        temporary.write_text("\t".join(COLUMNS) + "\n" + text.getvalue().replace("nan", "NaN"), encoding="utf-8")


def _photograph(coco: int, crop: Float[np.ndarray, "4"], content: Scene) -> Photograph:
    """Wide or high, as the crop says."""
    top, _, left, right = crop
    width, height = (LONG, SIDE) if left + right > 0 else (SIDE, LONG)
    return Photograph(coco, (width, height), (left * width, top * height), content)


def _image(photograph: Photograph) -> dict[str, Any]:
    name = f"{photograph.coco:012d}.jpg"
    return {"license": 1, "file_name": name, "width": photograph.size[0], "height": photograph.size[1], "id": photograph.coco}


def _groups(name: str) -> Iterator[str]:
    return (group for group, members in SUPERCATEGORIES.items() if name in members)


def _numbered(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**item, "id": number} for number, item in enumerate(items, 1)]


def _write(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")


def _things(photograph: Photograph) -> Iterator[dict[str, Any]]:
    """The objects of a scene, and one that is in none of its pixels."""
    yield _annotated(photograph, _outside(photograph), [_corner(photograph)])
    places = [_placed(photograph, thing) for thing in photograph.content.things]
    hidden = [any(_touch(place, nearer) for nearer in places[row + 1 :]) or not _contained(photograph, place) for row, place in enumerate(places)]
    patches = _patches(photograph) if any(hidden) else []
    for row, thing in enumerate(photograph.content.things):
        if not hidden[row]:
            yield _annotated(photograph, thing.name, places[row])
        elif (mask := _seen(photograph, patches[row:])).any():
            yield _crowd(photograph, thing.name, mask, row)


def _placed(photograph: Photograph, thing: Thing) -> list[Float[np.ndarray, "_ 2"]]:
    """Its parts in pixels of the photograph."""
    return [np.stack([points.real, points.imag], axis=1) * SIDE + photograph.corner for points, _ in thing.parts()]


def _outside(photograph: Photograph) -> str:
    """A category that no object of the scene has."""
    there = {thing.name for thing in photograph.content.things}
    return next(name for name in CATEGORIES[photograph.coco % 7 :] if name not in there)


def _corner(photograph: Photograph) -> Float[np.ndarray, "4 2"]:
    """A rectangle beside the picture or below it."""
    (width, height), (left, top) = photograph.size, photograph.corner
    if width > height:
        low, high = (left + SIDE + 8, height * 0.2), (width - 8.0, height * 0.6)
    else:
        low, high = (width * 0.3, top + SIDE + 8), (width * 0.7, height - 8.0)
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def _touch(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    """Whether their boxes do."""
    (low, high), (other_low, other_high) = (_extent(parts) for parts in (one, other))
    return bool((low < other_high).all() and (other_low < high).all())


def _extent(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    every = np.concatenate(parts)
    return every.min(0), every.max(0)


def _contained(photograph: Photograph, parts: list[np.ndarray]) -> bool:
    low, high = _extent(parts)
    return bool((low >= 0).all() and (high <= photograph.size).all())


def _annotated(photograph: Photograph, name: str, parts: list[Float[np.ndarray, "_ 2"]]) -> dict[str, Any]:
    low, high = _extent(parts)
    outline = [part.round(2).ravel().tolist() for part in parts if len(part) > 2]
    return _item(photograph, name, outline, float(np.prod(high - low)) / 2, [*low.tolist(), *(high - low).tolist()], 0)


def _item(photograph: Photograph, name: str, outline: Any, area: float, box: list[float], crowd: int) -> dict[str, Any]:
    return {
        "segmentation": outline,
        "area": round(area, 2),
        "iscrowd": crowd,
        "image_id": photograph.coco,
        "bbox": [round(float(side), 2) for side in box],
        "category_id": NUMBERS[name],
    }


def _patches(photograph: Photograph) -> list[Patch]:
    """What each object of the scene covers of a square around the photograph."""
    corner = complex(*photograph.corner)
    parts = [[((points * SIDE + corner) / LONG, tone) for points, tone in thing.parts()] for thing in photograph.content.things]
    return [coverage(every, LONG)[0] for every in parts]


def _seen(photograph: Photograph, patches: list[Patch]) -> Bool[np.ndarray, "height width"]:
    """The pixels of the first object that no other one covers, all of which are nearer."""
    width, height = photograph.size
    mask = np.zeros((LONG, LONG), dtype=bool)
    mask[patches[0].within()] = patches[0].cover > 0.5
    for nearer in patches[1:]:
        mask[nearer.within()] &= nearer.cover <= 0.5
    return mask[:height, :width]


def _crowd(photograph: Photograph, name: str, mask: Bool[np.ndarray, "height width"], row: int) -> dict[str, Any]:
    counts = _runs(mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [float(side) for side in (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])]
    outline = {"counts": compressed(counts) if row % 2 else counts, "size": list(mask.shape)}
    return _item(photograph, name, outline, float(mask.sum()), box, 1)


def _runs(mask: Bool[np.ndarray, "height width"]) -> list[int]:
    """Lengths of runs down the columns, the first of pixels that are not in the mask."""
    flat = mask.T.ravel()
    turns = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], turns, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def compressed(counts: list[int]) -> str:
    """Runs as COCO's tools write them in text; see :func:`cortexflow.data.nsd_layout.coco.outlines.runs`."""
    text = ""
    for place, count in enumerate(counts):
        value, more = count - (counts[place - 2] if place > 2 else 0), True
        while more:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr(48 + (bits | (0x20 if more else 0)))
    return text


def _clock(pattern: Int[np.ndarray, "sessions runs slots"]) -> dict[str, np.ndarray]:
    """Session, run and place in the run of each picture, and when it came on: a session a week, at noon."""
    session, run, slot = np.nonzero(pattern)
    counts = pattern.sum(2).ravel()
    trial = np.arange(len(slot)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    return {"SESSION": session + 1, "RUN": run + 1, "TRIAL": trial, "TIME": 0.5 + 7 * session + run * RUN + slot * TRIAL}


def _memory(shown: Int[np.ndarray, " trials"], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Answers of somebody who forgets with the logarithm of the lag, sometimes presses nothing, and once had a broken button."""
    count, between = len(shown), lags(shown)
    lag, place = between[:, 0], np.arange(count) % PER_SESSION
    old, today = ~np.isnan(lag), lag < place  # NaN is below nothing
    strength = np.where(old, 2.6 - 0.5 * np.log10(1 + np.nan_to_num(lag)), -1.3)
    said = rng.random(count) < 1 / (1 + np.exp(-strength))
    twice = rng.random(count) < 0.04
    milliseconds = np.clip(np.exp(6.7 + 0.1 * ~said + 0.25 * rng.standard_normal(count)), 250, 3990).round(3)
    broken = (np.arange(count) // PER_SESSION == 0) & (place >= 5 * 62 + 3) & (place < 6 * 62 + 3)  # run 6 of the first session
    silent = broken | (rng.random(count) < 0.015)
    answers = {"ISCORRECT": said == old, "RT": milliseconds, "CHANGEMIND": twice, "ISCORRECTCURRENT": said == today, "BUTTON": 1 + said}
    presses = {"TOTAL1": np.where(said, twice, 1), "TOTAL2": np.where(said, 1, twice)}
    return {
        **{name: np.where(silent, np.nan, values) for name, values in answers.items()},
        **{name: np.where(broken, np.nan, np.where(silent, 0, values)) for name, values in presses.items()},
        **{"ISOLD": old, "ISOLDCURRENT": today, "MISSINGDATA": broken, "MEMORYRECENT": lag, "MEMORYFIRST": between[:, 1]},
    }
