"""Splits of the trials of a time series, and what each of them leaks: pictures, volumes, or neither.

A split by picture leaves test and training windows in the same runs, where they overlap: a picture begins every four seconds and
is answered for longer. A split by run shares no volume and shows pictures on both sides, because most are shown three times.
Leaving a test run's pictures out of the training runs leaks neither, and leaves fewer trials to train on.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError

PUBLISHED = 45 / 480  # the share of a subject's runs that the time-resolved split holds out


@dataclass(frozen=True)
class Events:
    """The trials of a subject, in the order of recording.

    Arguments:
        stimuli: The picture of each trial.
        sessions: From 1.
        runs: Session and run in one: 2105 is run 5 of session 21.
        repeats: 0 for the first time that the subject saw the picture.
        onsets: Seconds from the start of the run.
        planned: Which of the subject's 30,000 planned trials it is, from 0.
    """

    stimuli: Int[Tensor, " trials"]
    sessions: Int[Tensor, " trials"]
    runs: Int[Tensor, " trials"]
    repeats: Int[Tensor, " trials"]
    onsets: Float[Tensor, " trials"]
    planned: Int[Tensor, " trials"]

    def __len__(self) -> int:
        return len(self.stimuli)

    def where(self, rows: Bool[Tensor, " trials"]) -> "Events":
        """Some of the trials."""
        return Events(*(getattr(self, name)[rows] for name in ("stimuli", "sessions", "runs", "repeats", "onsets", "planned")))


@dataclass(frozen=True)
class Leak:
    """What a test shares with its training.

    Arguments:
        trials: Of the test.
        seen_trials: Those of them whose picture a training trial shows.
        pictures: Of the test, each counted once.
        seen_pictures: Those of them that a training trial shows.
        volumes: In any test window, each counted once.
        shared_volumes: Those of them that are in a training window as well.
    """

    trials: int
    seen_trials: int
    pictures: int
    seen_pictures: int
    volumes: int
    shared_volumes: int

    def __str__(self) -> str:
        trials = f"{self.seen_trials} of {self.trials} test trials show a picture that a training trial shows"
        pictures = f"{self.seen_pictures} of {self.pictures} pictures"
        return f"{trials} ({pictures}), {self.shared_volumes} of {self.volumes} test volumes are in a training window"


@dataclass(frozen=True)
class Split:
    """Which trials train and which test, as masks over the trials of a subject; a trial may be in neither.

    Arguments:
        training: The trials to learn from.
        test: The trials to be judged by.
        leak: What the two share.
    """

    training: Bool[Tensor, " trials"]
    test: Bool[Tensor, " trials"]
    leak: Leak


def drawn_runs(events: Events, count: int | None, seed: int) -> Int[Tensor, " runs"]:
    """The runs that are held out, sorted.

    Arguments:
        events: All trials.
        count: How many; where None, the share that was published, 45 of 480.
        seed: Decides on which.

    Raises:
        CortexflowError: None or no run would be left to train on.
    """
    runs = torch.unique(events.runs)
    count = max(1, round(PUBLISHED * len(runs))) if count is None else count
    if not 0 < count < len(runs):
        raise CortexflowError(f"{count} runs are to be held out of {len(runs)}; choose 1 to {len(runs) - 1}")
    return runs[torch.randperm(len(runs), generator=torch.Generator().manual_seed(seed))[:count]].sort().values


def leak(events: Events, training: Bool[Tensor, " trials"], test: Bool[Tensor, " trials"], first: Int[Tensor, " trials"], length: int) -> Leak:
    """Count what test trials share with training trials.

    Arguments:
        events: All trials.
        training: Those to learn from.
        test: Those to be judged by.
        first: The volume of its run at which each trial's window begins.
        length: Volumes of a window.

    Raises:
        CortexflowError: Training or test is empty, or they have a trial in common.

    Example:
        Pictures 5, 7, 5 in three runs, the last one held out: 1 of 1 test trials is seen, and no volume is shared.
    """
    if not training.any() or not test.any() or (training & test).any():
        have = f"training has {int(training.sum())} trials, the test {int(test.sum())} and both {int((training & test).sum())}"
        raise CortexflowError(f"{have}; give each some trials of its own")
    seen = torch.isin(events.stimuli[test], events.stimuli[training])
    volumes = _volumes(events.runs[test], first[test], length)
    return Leak(
        int(test.sum()),
        int(seen.sum()),
        len(torch.unique(events.stimuli[test])),
        len(torch.unique(events.stimuli[test][seen])),
        len(volumes),
        int(np.isin(volumes, _volumes(events.runs[training], first[training], length)).sum()),
    )


def _volumes(runs: Int[Tensor, " trials"], first: Int[Tensor, " trials"], length: int) -> Int[np.ndarray, " volumes"]:
    """Every volume of some windows, once, as a number of its own."""
    return np.unique((runs * 10_000 + first)[:, None].numpy() + np.arange(length))
