"""Which picture was on in which trial: the design file and the table of pictures, whose ids begin at 1 and at 0.

Everything here counts pictures from 0, as ``nsd_stimuli.hdf5`` does, and sessions from 1, as file names do.
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.io
from jaxtyping import Bool, Float, Int
from scipy.io.matlab import MatReadError

from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import CortexflowError, DamagedFileError

DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
SUBJECTS, SESSIONS, PER_SESSION, REPEATS = 8, 40, 750, 3
PICTURES, OWN, SHARED = 73_000, 10_000, 1_000  # of the dataset, of a subject, and of all subjects together
TRIALS = SESSIONS * PER_SESSION


@dataclass(frozen=True)
class Design:
    """The plan of the experiment, which subjects with fewer than 40 sessions did not see to its end.

    Arguments:
        shared: The pictures planned for every subject, sorted.
        shown: The picture of each trial, in the order of recording; one row per subject.
    """

    shared: Int[np.ndarray, " shared"]
    shown: Int[np.ndarray, "subjects trials"]

    def of(self, subject: str) -> Int[np.ndarray, " trials"]:
        """The picture of each of a subject's 30,000 planned trials."""
        return self.shown[int(subject.removeprefix("subj")) - 1]


@dataclass(frozen=True)
class StimulusTable:
    """What is known of each of the 73,000 pictures; rows are ids.

    Arguments:
        coco: Id of the photograph in COCO.
        split: ``train2017`` or ``val2017``, where COCO keeps its annotations.
        crop: Shares of the photograph that were cut off at the top, bottom, left and right.
        shared: Whether it was planned for every subject.
        trials: Trials of each subject and repeat that were to show it, from 1; 0 where none.
    """

    coco: Int[np.ndarray, " pictures"]
    split: tuple[str, ...]
    crop: Float[np.ndarray, "pictures 4"]
    shared: Bool[np.ndarray, " pictures"]
    trials: Int[np.ndarray, "pictures subjects repeats"]

    def design(self) -> Design:
        """The same plan as in the design file."""
        shown = np.full((self.trials.shape[1], TRIALS), -1)
        picture, subject, repeat = np.nonzero(self.trials)
        shown[subject, self.trials[picture, subject, repeat] - 1] = picture
        if (shown < 0).any():
            raise CortexflowError(f"{TABLE} leaves {int((shown < 0).sum())} trials without a picture; copy the file again")
        return Design(np.flatnonzero(self.shared), shown)


def read_design(root: Path) -> Design:
    """The plan, from the design file, or from the table of pictures where only that is there.

    Raises:
        CortexflowError: Neither is there.
        DamagedFileError: The file has not the arrays that it should have.
    """
    path = root / DESIGN
    if path.is_file():
        return _from_matlab(path, path.stat().st_mtime_ns)
    if (root / TABLE).is_file():
        return read_table(root / TABLE).design()
    raise CortexflowError(f"{path} does not exist; copy it from s3://natural-scenes-dataset/{DESIGN} to this place")


def read_table(path: Path) -> StimulusTable:
    """The table of pictures.

    Raises:
        CortexflowError: No such file.
        DamagedFileError: Columns or rows are missing.
    """
    if not path.is_file():
        raise CortexflowError(f"{path} does not exist; copy it from s3://natural-scenes-dataset/{TABLE} to this place")
    return _from_csv(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _from_matlab(path: Path, changed: int) -> Design:
    with _damage(path):
        content = scipy.io.loadmat(path, variable_names=["masterordering", "sharedix", "subjectim"])
    wanted = {"masterordering": (1, TRIALS), "sharedix": (1, SHARED), "subjectim": (SUBJECTS, OWN)}
    for name, shape in wanted.items():
        if name not in content or content[name].shape != shape:
            found = content[name].shape if name in content else "nothing"
            raise DamagedFileError(f"{path} must hold {name} of shape {shape}, it holds {found}; copy the file again")
    order, shared, own = (content[name].astype(np.int64) - 1 for name in wanted)
    _within(path, "masterordering", order, OWN)
    _within(path, "sharedix", shared, PICTURES)
    _within(path, "subjectim", own, PICTURES)
    return Design(np.sort(shared[0]), own[:, order[0]])


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What goes wrong in reading becomes a DamagedFileError, with what only SciPy and the reader of tables raise."""
    with readable(path):
        try:
            yield
        except (MatReadError, csv.Error, IndexError, TypeError) as error:
            raise ValueError(str(error)) from error


def _within(path: Path, name: str, ids: Int[np.ndarray, "rows columns"], count: int) -> None:
    """The file counts from 1; here ids were brought to 0."""
    if ids.min() < 0 or ids.max() >= count:
        raise DamagedFileError(f"{path}: {name} must lie in 1 to {count}, it has {ids.min() + 1} to {ids.max() + 1}; copy the file again")


@lru_cache(maxsize=1)
def _from_csv(path: Path, changed: int) -> StimulusTable:
    repeats = [f"subject{subject + 1}_rep{repeat}" for subject in range(SUBJECTS) for repeat in range(REPEATS)]
    with _damage(path), open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = list(reader)
        columns = {name: header.index(name) for name in ("cocoId", "cocoSplit", "cropBox", "nsdId", "shared1000", *repeats)}
        if [row[columns["nsdId"]] for row in rows] != [str(number) for number in range(PICTURES)]:
            raise ValueError(f"nsdId must run from 0 to {PICTURES - 1} in this order")
        where = [columns[name] for name in repeats]
        trials = np.loadtxt(path, dtype=np.int64, delimiter=",", skiprows=1, usecols=where, quotechar='"')  # faster than from the rows
        if trials.min() < 0 or trials.max() > TRIALS:
            raise ValueError(f"trials must lie in 1 to {TRIALS}, or be 0 for none, they lie in {trials.min()} to {trials.max()}")
        return StimulusTable(
            np.array([int(row[columns["cocoId"]]) for row in rows]),
            tuple(row[columns["cocoSplit"]] for row in rows),
            np.array([_fractions(row[columns["cropBox"]]) for row in rows]),
            np.array([row[columns["shared1000"]] == "True" for row in rows]),
            trials.reshape(-1, SUBJECTS, REPEATS),
        )


def _fractions(box: str) -> Sequence[float]:
    return [float(part) for part in box.strip("()").split(",")]
