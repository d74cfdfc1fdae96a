"""What is there of the dataset and whether it can be read: every file by what it says of itself, without reading gigabytes."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from cortexflow.data.base import Check
from cortexflow.data.nsd_layout.design import DESIGN, PICTURES, TABLE, read_design, read_table
from cortexflow.data.nsd_layout.files import official
from cortexflow.data.nsd_layout.pictures import BRICK, SIDE
from cortexflow.data.nsd_layout.spaces import Space
from cortexflow.data.nsd_layout.upkeep.wholeness import check_length, read_through
from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import CortexflowError


def check_experiment(root: Path) -> list[Check]:
    """The plan in both of its files, and the pictures."""
    looks = {DESIGN: partial(_look_at_design, root), TABLE: partial(_look_at_table, root), BRICK: partial(_look_at_pictures, root)}
    return [Check.of(name, look) for name, look in looks.items()]


def check_subject(space: Space, sessions: Mapping[int, tuple[Path, ...]], planned: int, atlas: str) -> Iterator[Check]:
    """A subject's mask, areas and sessions.

    Arguments:
        space: Where they lie.
        sessions: The files of each session that is there.
        planned: How many sessions the subject had.
        atlas: The label map that is the mask.
    """
    subject = space.kept.subject
    yield Check(f"{subject}, {space.kept.name}, {space.kept.betas}", f"{len(sessions)} of {planned} sessions{_lacking(sessions)}")
    try:
        mask = space.mask(atlas)
    except CortexflowError as error:
        yield Check(f"{subject}, mask {atlas}", wrong=str(error))
        return
    lost = int(space.labelled(atlas).sum() - mask.sum())
    yield Check(f"{subject}, mask {atlas}", f"{int(mask.sum())} of {by(mask.shape)}" + f"; {lost} without numbers left out" * (lost > 0))
    yield from check_areas(space, mask)
    yield from check_sessions(space, sessions, mask)


def check_areas(space: Space, mask: np.ndarray) -> Iterator[Check]:
    """Every label map that is there, and how much of the mask its areas have."""
    for name in space.atlases():
        yield Check.of(f"{space.kept.subject}, {space.kept.name}, {name}", partial(_look_at_areas, space, name, mask))


def check_sessions(space: Space, sessions: Mapping[int, tuple[Path, ...]], mask: np.ndarray, deep: bool = False) -> Iterator[Check]:
    """Every session by its header and its length; with ``deep``, read to its end."""
    for files in sessions.values():
        yield Check.of(files[0].relative_to(space.kept.root).as_posix(), partial(_look_at_session, space, files, mask, deep))


def _look_at_session(space: Space, files: tuple[Path, ...], mask: np.ndarray, deep: bool) -> str:
    said = space.look(files, mask)
    for path in files:
        check_length(path)
        if deep:
            read_through(path)
    return said


def _lacking(sessions: Mapping[int, tuple[Path, ...]]) -> str:
    gaps = sorted(set(range(1, max(sessions, default=0))) - set(sessions))
    return f"; without session {', '.join(map(str, gaps))}" if gaps else ""


def _look_at_design(root: Path) -> str:
    official(root, DESIGN)
    design = read_design(root)
    return f"{len(design.shared)} shared pictures, {design.shown.shape[1]} trials planned for each of {len(design.shown)} subjects"


def _look_at_table(root: Path) -> str:
    table = read_table(root / TABLE)
    if (root / DESIGN).is_file():
        one, other = read_design(root), table.design()
        if not (np.array_equal(one.shown, other.shown) and np.array_equal(one.shared, other.shared)):
            raise CortexflowError(f"{root / TABLE} tells another plan than {DESIGN}; copy both again")
    return f"{len(table.split)} pictures"


def _look_at_pictures(root: Path) -> str:
    path = official(root, BRICK)
    with readable(path), h5py.File(path, "r") as file:
        found = file["imgBrick"].shape
    if found != (PICTURES, SIDE, SIDE, 3):
        raise CortexflowError(f"{path} has pictures of shape {found} where ({PICTURES}, {SIDE}, {SIDE}, 3) is expected; copy the file again")
    return f"{PICTURES} pictures of {SIDE} × {SIDE}"


def _look_at_areas(space: Space, name: str, mask: np.ndarray) -> str:
    return ", ".join(f"{area} {int(members.sum())}" for area, members in space.areas(name, mask).items()) or "no area in the mask"


def by(shape: tuple[int, ...]) -> str:
    """The sides of a grid in words."""
    return " × ".join(map(str, shape))
