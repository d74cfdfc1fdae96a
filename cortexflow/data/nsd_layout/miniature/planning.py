"""A design of the dataset's own shapes and constraints, generated: which picture in which trial, and the two files that say so."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
from jaxtyping import Int

from cortexflow.data.nsd_layout.design import DESIGN, OWN, PER_SESSION, PICTURES, REPEATS, SESSIONS, SHARED, SUBJECTS, TABLE, Design
from cortexflow.data.simulation.streams import stream
from cortexflow.storage import replacing

RUNS, SLOTS = 12, 75  # of a session, and of a run; 63 slots of odd runs and 62 of even ones show a picture
BEFORE, AFTER = 3, 4  # slots that are empty at the start and at the end of every run, so that the last answers are recorded


def spread(seed: int) -> Int[np.ndarray, " trials"]:
    """Three trials of each of a subject's 10,000 pictures anywhere in the 40 sessions: places in the subject's list, from 0."""
    return stream(seed, "schedule").permutation(np.repeat(np.arange(OWN), REPEATS))


def dense(seed: int, together: int, shared: float) -> Int[np.ndarray, " trials"]:
    """All three trials of a picture within so many neighbouring sessions, so that few sessions make an experiment.

    Arguments:
        seed: Of the study.
        together: Sessions that share their pictures: 250 for each session.
        shared: Share of the first of these groups that is shown to all subjects, at most 1000 pictures.
    """
    rng = stream(seed, "schedule")
    size = together * PER_SESSION // REPEATS
    first = min(round(shared * size), SHARED)
    common, own = rng.permutation(SHARED), SHARED + rng.permutation(OWN - SHARED)
    rest = rng.permutation(np.concatenate([common[first:], own[size - first :]]))
    order = np.concatenate([common[:first], own[: size - first], rest])
    groups = [order[start : start + size] for start in range(0, OWN, size)]
    return np.concatenate([rng.permutation(np.repeat(group, REPEATS)) for group in groups])


class Plan(NamedTuple):
    """A design, and the arrays of the dataset's file that say it, where ids begin at 1."""

    design: Design
    arrays: Mapping[str, Int[np.ndarray, "..."]]


def plan(order: Int[np.ndarray, " trials"], seed: int) -> Plan:
    """Give ids to the pictures of a schedule.

    Arguments:
        order: Place in the subject's list of each trial, the shared pictures first; the same for all subjects.
        seed: Decides which picture has which id, and which slots stay empty.
    """
    rng = stream(seed, "identities")
    ids = rng.permutation(PICTURES)
    shared, others = np.sort(ids[:SHARED]), ids[SHARED:].reshape(SUBJECTS, OWN - SHARED)
    own = np.concatenate([np.tile(shared, (SUBJECTS, 1)), others], axis=1)
    arrays = {"masterordering": order[None] + 1, "sharedix": shared[None] + 1, "subjectim": own + 1, "stimpattern": _pattern(rng)}
    return Plan(Design(shared, own[:, order]), arrays)


def write_plan(root: Path, planned: Plan) -> None:
    """Write the design file and the table of pictures into the folder that stands for the bucket."""
    with replacing(root / DESIGN) as temporary, open(temporary, "wb") as file:
        scipy.io.savemat(file, {name: array.astype(np.float64) for name, array in planned.arrays.items()}, do_compression=True)
    _write_table(root / TABLE, planned.design)


def _pattern(rng: np.random.Generator) -> Int[np.ndarray, "sessions runs slots"]:
    """Which slots show a picture."""
    shows = np.zeros((SESSIONS, RUNS, SLOTS), dtype=np.int64)
    for run in range(RUNS):
        slots = rng.permuted(np.tile(np.arange(BEFORE, SLOTS - AFTER), (SESSIONS, 1)), axis=1)[:, : 63 - run % 2]
        np.put_along_axis(shows[:, run], slots, 1, axis=1)
    return shows


def _write_table(path: Path, design: Design) -> None:
    trials = np.zeros((PICTURES, SUBJECTS, REPEATS), dtype=np.int64)
    for subject, shown in enumerate(design.shown):
        when = np.argsort(shown, kind="stable").reshape(OWN, REPEATS)
        trials[shown[when[:, 0]], subject] = when + 1
    has = (trials > 0).any(2).astype(int)
    common = np.isin(np.arange(PICTURES), design.shared)
    names = ["", "cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000", "shared1000"]
    names += [f"subject{subject + 1}" for subject in range(SUBJECTS)]
    names += [f"subject{subject + 1}_rep{repeat}" for subject in range(SUBJECTS) for repeat in range(REPEATS)]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for picture, (where, seen) in enumerate(zip(trials.reshape(PICTURES, -1).tolist(), has.tolist(), strict=True)):
            split = "train2017" if picture % 5 else "val2017"
            crop = "(0.0, 0.0, 0.1, 0.15)" if picture % 2 else "(0.05, 0.2, 0.0, 0.0)"
            writer.writerow([picture, picture + 100_000, split, crop, 0.25, picture, False, False, bool(common[picture]), *seen, *where])
