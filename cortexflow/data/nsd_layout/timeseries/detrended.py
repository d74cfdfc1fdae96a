"""Runs cut down to the voxels of a mask, without their drifts and z-scored: one ``.npy`` file each, made once.

What is done to a run is done to the whole run and never to a window of it, so that windows that overlap hold the same numbers.
A file's name says of which source, mask and choices it was made. It is whole or absent: where the work was stopped, it goes on
with the run at which it stopped.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, Shaped

from cortexflow.data.nsd_layout.prepared import FOLDER, can_keep
from cortexflow.data.nsd_layout.timeseries.runs import Clock, Run, missing, read_motion, read_series
from cortexflow.data.single_trials import drifts
from cortexflow.storage import fingerprint, replacing

REVISION = 1  # of what the files hold
TOGETHER = 2048  # voxels held in double precision at a time
NOTHING = 1e-9  # of its largest value: a voxel whose residual varies less has only rounding left


class Cleaning(NamedTuple):
    """What is taken out of a run before it is z-scored.

    Arguments:
        drifts: ``cosine`` or ``polynomial``.
        cutoff: Cosines of this many seconds and slower are taken out.
        degree: Polynomials up to this degree are taken out; 1 is a straight line.
        motion: Whether the six motion parameters are taken out as well.
    """

    drifts: str
    cutoff: float
    degree: int
    motion: bool

    @property
    def choices(self) -> dict[str, object]:
        """Those that matter, for names of files."""
        return {"cutoff": self.cutoff} if self.drifts == "cosine" else {"degree": self.degree}


class Kept(NamedTuple):
    """Where and how runs are kept.

    Arguments:
        folder: Of one subject and space, in the study's folder.
        clock: Of the space.
        mask: Which voxels.
        cleaning: What is taken out.
    """

    folder: Path
    clock: Clock
    mask: Bool[np.ndarray, "x y z"]
    cleaning: Cleaning


def kept_in(root: Path, subject: str, space: str) -> Path:
    """The folder of a subject's prepared runs."""
    return root / FOLDER / subject / space / "runs"


def detrended(run: Run, kept: Kept) -> Float[np.ndarray, "volumes voxels"]:
    """One run in single precision, mapped from its prepared file where that is there, made now where it is not.

    Where nothing can be written to its place, the run is made anew at every time.

    Raises:
        CortexflowError: What reading the run raises, or the disk is full.
    """
    path = place(run, kept)
    if not _whole(path, (kept.clock.volumes, int(kept.mask.sum()))):
        values = make(run, kept)
        if not can_keep(path):
            return values
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, values, allow_pickle=False)
        del values
    return np.load(path, mmap_mode="c", allow_pickle=False)  # torch wants arrays that can be written to; the file stays as it is


def place(run: Run, kept: Kept) -> Path:
    """Where a run's prepared file lies.

    Raises:
        CortexflowError: The run's volumes are not there, or its motion where that is used.
    """
    sources = []
    for path in (run.series, run.motion)[: 1 + kept.cleaning.motion]:
        if not path.is_file():
            raise missing(path)
        sources.append([path.name, path.stat().st_size, path.stat().st_mtime_ns])
    used = hashlib.sha256(np.packbits(kept.mask).data).hexdigest()
    name = fingerprint({"revision": REVISION, "sources": sources, "mask": [used, kept.mask.shape], "cleaning": kept.cleaning.choices})
    return kept.folder / f"session{run.session:02d}_run{run.number:02d}-{name}.npy"


def make(run: Run, kept: Kept) -> Float[np.ndarray, "volumes voxels"]:
    """One run from its source. Memory holds its voxels as stored and as they become, and nothing of other voxels."""
    motion = read_motion(run, kept.clock) if kept.cleaning.motion else None
    return cleaned(read_series(run, kept.clock, kept.mask), nuisance(kept.clock, kept.cleaning, motion))


def nuisance(clock: Clock, cleaning: Cleaning, motion: Float[np.ndarray, "volumes parameters"] | None) -> Float[np.ndarray, "volumes columns"]:
    """What is to explain nothing: the mean, drifts and, where it is given, motion."""
    if cleaning.drifts == "cosine":
        slow = drifts(clock.volumes, clock.tr, cleaning.cutoff)
    else:
        slow = np.polynomial.legendre.legvander(np.linspace(-1, 1, clock.volumes), cleaning.degree)
    return slow if motion is None else np.concatenate([slow, motion - motion.mean(0)], axis=1)


def cleaned(values: Shaped[np.ndarray, "volumes voxels"], nuisance: Float[np.ndarray, "volumes columns"]) -> Float[np.ndarray, "volumes voxels"]:
    """What nuisance does not explain, each voxel with mean 0 and (population) standard deviation 1 over the run.

    Arguments:
        values: In any unit.
        nuisance: Its columns may depend on each other or be 0; a constant must be among what they span.

    Returns:
        In single precision. A voxel of which nothing is left, such as a constant one, is 0 throughout.
    """
    length = np.linalg.norm(nuisance, axis=0)
    basis = scipy.linalg.orth(nuisance / np.where(length > 0, length, 1), rcond=1e-8)
    result = np.empty(values.shape, dtype=np.float32)
    for start in range(0, values.shape[1], TOGETHER):
        block = values[:, start : start + TOGETHER].astype(np.float64)
        largest = np.abs(block).max(0)
        block -= basis @ (basis.T @ block)
        deviation = block.std(0)
        left = deviation > NOTHING * largest
        result[:, start : start + TOGETHER] = block * np.where(left, 1 / np.where(left, deviation, 1), 0)
    return result


def _whole(path: Path, shape: tuple[int, int]) -> bool:
    if not path.is_file():
        return False
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).shape == shape
    except (ValueError, OSError, EOFError):  # somebody cut it short: it is made again
        return False
