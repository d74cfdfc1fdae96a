"""What subjects answered: at every picture they pressed a button for new or for old, as ``responses.tsv`` tells trial by trial.

Trials are found by session, run and place in the run, and must show the picture that the design has there.
"""

import warnings
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cortexflow.data.nsd_layout.design import PER_SESSION, SESSIONS
from cortexflow.data.nsd_layout.files import official
from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import CortexflowError, CortexflowWarning, DamagedFileError

COLUMNS = (
    *("SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME", "ISOLD", "ISCORRECT", "RT", "CHANGEMIND", "MEMORYRECENT"),
    *("MEMORYFIRST", "ISOLDCURRENT", "ISCORRECTCURRENT", "TOTAL1", "TOTAL2", "BUTTON", "MISSINGDATA"),
)
FLAGS = ("ISOLD", "ISCORRECT", "CHANGEMIND", "ISOLDCURRENT", "ISCORRECTCURRENT", "MISSINGDATA")
RUNS, EVEN = 12, 62  # of a session; pictures of an even run, odd ones have one more
LATEST = 5_000  # milliseconds after a picture came on; the next one comes after 4,000


@dataclass(frozen=True)
class Behaviour:
    """A subject's answers, one entry per trial, in the order of the trials they were asked for.

    Arguments:
        subject: As the dataset writes it.
        stimuli: Picture of each trial, from 0.
        sessions: Session of each trial, from 1.
        is_old: Whether the subject had seen the picture in any earlier trial.
        said_old: 1 for old, 0 for new, by the last button pressed; NaN where none was.
        correct: Whether that was right, 1 or 0; NaN without an answer.
        lag: Stimulus trials between this and the last time the picture was shown, 0 for none; NaN where it is new.
        first_lag: The same from the first time it was shown.
        old_today: Whether it was shown earlier in the same session.
        correct_today: Whether the answer was right as to the session alone, 1 or 0; NaN without an answer.
        reaction_time: From the picture's onset to the button, in milliseconds; NaN without an answer.
        changed_mind: Whether more than one button was pressed, 1 or 0; NaN without an answer.
        missing: Whether the answer was lost, not withheld.
    """

    subject: str
    stimuli: Int[Tensor, " trials"]
    sessions: Int[Tensor, " trials"]
    is_old: Bool[Tensor, " trials"]
    said_old: Float[Tensor, " trials"]
    correct: Float[Tensor, " trials"]
    lag: Float[Tensor, " trials"]
    first_lag: Float[Tensor, " trials"]
    old_today: Bool[Tensor, " trials"]
    correct_today: Float[Tensor, " trials"]
    reaction_time: Float[Tensor, " trials"]
    changed_mind: Float[Tensor, " trials"]
    missing: Bool[Tensor, " trials"]

    COVARIATES: ClassVar[tuple[str, ...]] = ("is_old", "log_lag", "old_today", "answered", "said_old", "correct", "reaction_time", "changed_mind")

    def __len__(self) -> int:
        return len(self.stimuli)

    def where(self, rows: Bool[Tensor, " trials"]) -> "Behaviour":
        """Some of the trials."""
        return Behaviour(self.subject, **{part.name: getattr(self, part.name)[rows] for part in fields(self) if part.name != "subject"})

    @property
    def answered(self) -> Bool[Tensor, " trials"]:
        """Whether a button was pressed."""
        return ~self.correct.isnan()

    def covariates(self) -> Float[Tensor, "trials covariates"]:
        """Columns for a model, named by ``COVARIATES``; no entry is NaN.

        ``is_old``, ``old_today`` and ``answered`` are 0 or 1; ``log_lag`` is the decimal logarithm of one more than the lag, 0 for
        new pictures; ``said_old``, ``correct`` and ``changed_mind`` are 0 or 1 and ``reaction_time`` in seconds where there is an
        answer, and where there is none the mean over the session's answers, so that a trial without one says nothing.

        Returns:
            One row per trial; not standardised.
        """
        columns = {
            "is_old": self.is_old.float(),
            "log_lag": torch.log10(1 + self.lag.nan_to_num(0)),
            "old_today": self.old_today.float(),
            "answered": self.answered.float(),
            "said_old": self._filled(self.said_old),
            "correct": self._filled(self.correct),
            "reaction_time": self._filled(self.reaction_time / 1000),
            "changed_mind": self._filled(self.changed_mind),
        }
        return torch.stack([columns[name] for name in self.COVARIATES], dim=1)

    def _filled(self, values: Float[Tensor, " trials"]) -> Float[Tensor, " trials"]:
        filled = values.clone()
        for session in self.sessions.unique():
            here = self.sessions == session
            for part in (values[here], values):  # a session without any answer takes the mean of all
                filled[here & filled.isnan()] = part.nanmean()
        return filled.nan_to_num(0)


def behaviour_file(subject: str) -> str:
    """The name of a subject's file, from the folder that stands for the bucket on."""
    return f"nsddata/ppdata/{subject}/behav/responses.tsv"


def answered_sessions(root: Path, subject: str) -> list[int]:
    """The sessions of which a subject's file tells, sorted.

    Raises:
        CortexflowError: The file is not there.
        DamagedFileError: Columns are missing, or values are none that the column can have.
    """
    path = official(root, behaviour_file(subject))
    return np.unique(_read(path, path.stat().st_mtime_ns)[:, COLUMNS.index("SESSION")]).astype(np.int64).tolist()


def read_behaviour(
    root: Path, subject: str, shown: Int[np.ndarray, " planned"], sessions: Int[np.ndarray, " trials"], rows: Int[np.ndarray, " trials"]
) -> Behaviour:
    """A subject's answers in some trials.

    Arguments:
        root: The folder that stands for the bucket.
        subject: Whose.
        shown: The picture of each planned trial, from 0, as the design has it.
        sessions: Session of each trial that is asked for, from 1.
        rows: Its place in the session, from 0.

    Raises:
        CortexflowError: The file is not there, is another subject's, lacks a session, or shows another picture than the design.
        DamagedFileError: Columns are missing, or values are none that the column can have.
    """
    path = official(root, behaviour_file(subject))
    table = _read(path, path.stat().st_mtime_ns)
    found = _found(path, subject, table, (sessions - 1) * PER_SESSION + rows)
    here = {name: table[found, column] for column, name in enumerate(COLUMNS)}
    _check_pictures(path, here, shown[(sessions - 1) * PER_SESSION + rows])
    _look_at_lags(path, here, shown, (sessions - 1) * PER_SESSION + rows)
    _look_at_times(path, here)
    old, right = here["ISOLD"], here["ISCORRECT"]
    names = {"correct": "ISCORRECT", "lag": "MEMORYRECENT", "first_lag": "MEMORYFIRST", "correct_today": "ISCORRECTCURRENT"}
    names |= {"reaction_time": "RT", "changed_mind": "CHANGEMIND"}
    return Behaviour(
        subject,
        torch.from_numpy(here["73KID"].astype(np.int64) - 1),
        torch.from_numpy(sessions),
        is_old=torch.from_numpy(old == 1),
        said_old=torch.from_numpy(np.where(np.isnan(right), np.nan, (right == 1) == (old == 1)).astype(np.float32)),
        old_today=torch.from_numpy(here["ISOLDCURRENT"] == 1),
        missing=torch.from_numpy(here["MISSINGDATA"] == 1),
        **{name: torch.from_numpy(here[column].astype(np.float32)) for name, column in names.items()},
    )


def lags(shown: Int[np.ndarray, " trials"]) -> Float[np.ndarray, "trials 2"]:
    """Trials between each trial and the last and the first time that its picture was shown; NaN where it is new.

    Example:
        >>> lags(np.array([7, 8, 7, 7])).tolist()
        [[nan, nan], [nan, nan], [1.0, 1.0], [0.0, 2.0]]
    """
    order = np.argsort(shown, kind="stable")
    again = np.append(False, shown[order][1:] == shown[order][:-1])
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
    between = np.stack([order - np.roll(order, 1), order - order[first]], axis=1) - 1
    found = np.full((len(shown), 2), np.nan)
    found[order[again]] = between[again]
    return found


@lru_cache(maxsize=8)
def _read(path: Path, changed: int) -> Float[np.ndarray, "rows columns"]:
    with readable(path), open(path, encoding="utf-8") as file:
        header = tuple(file.readline().split())
        if header != COLUMNS:
            raise DamagedFileError(f"{path} must have the columns {' '.join(COLUMNS)}, it has {' '.join(header) or 'none'}; copy the file again")
        table = np.loadtxt(file, delimiter="\t", ndmin=2)
        if table.shape[1] != len(COLUMNS):
            raise ValueError(f"{len(COLUMNS)} columns are named and {table.shape[1]} are there")
    for name, last in (("SESSION", SESSIONS), ("RUN", RUNS), ("TRIAL", EVEN + 1)):
        values = table[:, COLUMNS.index(name)]
        odd = values[~((values >= 1) & (values <= last) & (values == values.round()))]
        if len(odd):
            raise DamagedFileError(f"{path} has {odd[0]:g} in {name}, which is 1 to {last}; copy the file again")
    for name in FLAGS:
        values = table[:, COLUMNS.index(name)]
        odd = values[~np.isnan(values) & (values != 0) & (values != 1)]
        if len(odd):
            raise DamagedFileError(f"{path} has {odd[0]:g} in {name}, which is 0, 1 or NaN; copy the file again")
    return table


def _found(path: Path, subject: str, table: np.ndarray, wanted: Int[np.ndarray, " trials"]) -> Int[np.ndarray, " trials"]:
    """The row of each wanted trial, which are counted over all sessions from 0."""
    whose, session, run, trial = table[:, :4].T
    if (whose != int(subject.removeprefix("subj"))).any():
        raise CortexflowError(f"{path} is of subject {whose[0]:g}, not of {subject}; copy {subject}'s file there")
    if (trial > EVEN + run % 2).any():
        raise DamagedFileError(f"{path} has a trial that its run has not; copy the file again")
    place = ((session - 1) * PER_SESSION + (run - 1) * EVEN + run // 2 + trial - 1).astype(np.int64)
    rows = np.full(max(int(place.max(initial=0)), int(wanted.max(initial=0))) + 1, -1)
    rows[place] = np.arange(len(place))
    if len(np.unique(place)) < len(place):
        raise DamagedFileError(f"{path} has a trial twice; copy the file again")
    lost = wanted[rows[wanted] < 0]
    if len(lost):
        raise CortexflowError(f"{path} lacks {len(lost)} trials, the first in session {lost[0] // PER_SESSION + 1}; copy the whole file")
    return rows[wanted]


def _check_pictures(path: Path, here: dict[str, np.ndarray], planned: Int[np.ndarray, " trials"]) -> None:
    other = np.flatnonzero(here["73KID"] != planned + 1)
    if len(other):
        where = " ".join(f"{name.lower()} {here[name][other[0]]:g}" for name in ("SESSION", "RUN", "TRIAL"))
        told = f"picture {here['73KID'][other[0]]:g} in {where} and the design {planned[other[0]] + 1} (both from 1; {len(other)} such trials)"
        raise CortexflowError(f"{path} has {told}; copy the file and the design again")


def _look_at_lags(path: Path, here: dict[str, np.ndarray], shown: np.ndarray, wanted: np.ndarray) -> None:
    counted = lags(shown)[wanted]
    told = np.stack([here["MEMORYRECENT"], here["MEMORYFIRST"]], axis=1)
    other = ~((counted == told) | (np.isnan(counted) & np.isnan(told))).all(1) | (here["ISOLD"] != ~np.isnan(counted[:, 0]))
    if other.any():
        warnings.warn(f"{path} tells other lags than the design in {other.sum()} of {len(other)} trials; the file's are used", CortexflowWarning, 4)


def _look_at_times(path: Path, here: dict[str, np.ndarray]) -> None:
    late = here["RT"][(here["RT"] <= 0) | (here["RT"] > LATEST)]
    if len(late):
        warnings.warn(
            f"{path} has {len(late)} reaction times outside 0 to {LATEST} ms, such as {late[0]:g}; they are given as they are", CortexflowWarning, 4
        )
