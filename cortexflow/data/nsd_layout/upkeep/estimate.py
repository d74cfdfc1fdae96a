"""What preparing a subject will take, computed before anything is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cortexflow.data.nsd_layout.design import PER_SESSION
from cortexflow.data.nsd_layout.prepared import FOLDER, can_keep, ready
from cortexflow.data.nsd_layout.spaces import Space
from cortexflow.data.nsd_layout.timeseries.detrended import TOGETHER, place
from cortexflow.data.nsd_layout.timeseries.detrended import Kept as KeptRuns
from cortexflow.data.nsd_layout.timeseries.runs import Run
from cortexflow.data.nsd_layout.upkeep.disk import check_space, size_text
from cortexflow.data.on_disk.volumes import BLOCK
from cortexflow.errors import CortexflowError

SIDE_BY_SIDE = 2  # sessions that are prepared at the same time


class Estimate(NamedTuple):
    """Of one subject.

    Arguments:
        subject: Whose.
        what: What is prepared one after the other, ``sessions`` or ``runs``.
        left: How many of them are to be read now.
        ready: How many are prepared already.
        voxels: Of the mask.
        disk: Bytes that will be written.
        memory: Bytes that are held at most, beside Python and its libraries.
    """

    subject: str
    what: str
    left: int
    ready: int
    voxels: int
    disk: int
    memory: int

    def __str__(self) -> str:
        done = f", {self.ready} more are prepared" if self.ready else ""
        takes = f"{size_text(self.disk)} of disk and at most {size_text(self.memory)} of memory beside Python's own"
        return f"{self.subject}: {self.left} {self.what} of {self.voxels} voxels{done}; {takes}"


def estimate(kept: Space, sessions: Mapping[int, tuple[Path, ...]], mask: np.ndarray) -> Estimate:
    """What :meth:`cortexflow.data.nsd.NSD.prepare` will take.

    Arguments:
        kept: Where the subject's sessions lie.
        sessions: The files of each session that is to be prepared.
        mask: Which voxels.
    """
    voxels, width = int(mask.sum()), 4 if kept.kept.name == "fsaverage" else 2
    done = sum(ready(kept, number, files, mask) for number, files in sessions.items())
    session, left = PER_SESSION * voxels * width, len(sessions) - done
    # the session, once more while its axes are put in order, a block of the file, a trial of it, and the mask as places
    memory = min(left, SIDE_BY_SIDE) * (2 * session + BLOCK + mask.size * (width + 1) + 64 * voxels)
    return Estimate(kept.kept.subject, "sessions", left, done, voxels, left * session, memory)


def estimate_runs(subject: str, runs: Sequence[Run], kept: KeptRuns) -> Estimate:
    """What :meth:`cortexflow.data.nsd_timeseries.NSDTimeSeries.prepare` will take.

    Arguments:
        subject: Whose.
        runs: Those that are to be prepared.
        kept: Where and how they are kept.
    """
    voxels, done = int(kept.mask.sum()), sum(place(run, kept).is_file() for run in runs)
    run, left = 4 * kept.clock.volumes * voxels, len(runs) - done
    # as it is stored and as it becomes, some voxels in double precision, a volume of the file, and the mask as places
    memory = 2 * run + 4 * 8 * kept.clock.volumes * min(TOGETHER, voxels) + BLOCK + 5 * kept.mask.size + 64 * voxels
    return Estimate(subject, "runs", left, done, voxels, left * run, memory if left else 0)


def check_room(root: Path, estimates: list[Estimate]) -> None:
    """Whether the folder can take what is to be prepared.

    Raises:
        CortexflowError: The disk is too small, or the folder cannot be written to.
    """
    if any(one.left for one in estimates) and not can_keep(root / FOLDER / "file"):
        raise CortexflowError(f"{root} or its folder {FOLDER}, where it is kept, cannot be written to; change their permissions or copy it")
    check_space(root, sum(one.disk for one in estimates), "choose fewer subjects or a smaller mask (-s mask=prf-visualrois)")
