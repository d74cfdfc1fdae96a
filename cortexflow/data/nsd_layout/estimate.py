"""What preparing a subject will take, computed before anything is read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cortexflow.data.nsd_layout.design import PER_SESSION
from cortexflow.data.nsd_layout.download import check_space, size_text
from cortexflow.data.nsd_layout.prepared import FOLDER, ready
from cortexflow.data.nsd_layout.spaces import Space
from cortexflow.data.volumes_on_disk import BLOCK
from cortexflow.errors import CortexflowError


class Estimate(NamedTuple):
    """Of one subject.

    Arguments:
        subject: Whose.
        voxels: Of the mask.
        sessions: To be read now.
        ready: Sessions that are prepared already.
        disk: Bytes that will be written.
        memory: Bytes that are held at most, beside Python and its libraries.
    """

    subject: str
    voxels: int
    sessions: int
    ready: int
    disk: int
    memory: int

    def __str__(self) -> str:
        done = f", {self.ready} more are prepared" if self.ready else ""
        takes = f"{size_text(self.disk)} of disk and {size_text(self.memory)} of memory beside Python's own"
        return f"{self.subject}: {self.sessions} sessions of {self.voxels} voxels{done}; at most {takes}"


def estimate(kept: Space, sessions: Mapping[int, tuple[Path, ...]], mask: np.ndarray) -> Estimate:
    """What :meth:`cortexflow.data.nsd.NSD.prepare` will take.

    Arguments:
        kept: Where the subject's sessions lie.
        sessions: The files of each session that is to be prepared.
        mask: Which voxels.
    """
    voxels, width = int(mask.sum()), 4 if kept.kept.name == "fsaverage" else 2
    done = sum(ready(kept, number, files, mask) for number, files in sessions.items())
    session = PER_SESSION * voxels * width
    left = len(sessions) - done
    # the session, once more while its axes are put in order, a block of the file, and the mask as places
    memory = 2 * session + BLOCK + mask.size * (width + 1) + 32 * voxels
    return Estimate(kept.kept.subject, voxels, left, done, left * session, memory if left else 0)


def check_room(root: Path, estimates: list[Estimate]) -> None:
    """Whether the folder can take what is to be prepared.

    Raises:
        CortexflowError: The disk is too small, or the folder cannot be written to.
    """
    if any(one.sessions for one in estimates) and not os.access(root, os.W_OK):
        raise CortexflowError(f"{root} cannot be written to, prepared sessions are kept in its folder {FOLDER}; change its permissions or copy it")
    check_space(root, sum(one.disk for one in estimates), "choose fewer subjects or a smaller mask (-s mask=prf-visualrois)")
