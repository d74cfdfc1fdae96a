"""Which pictures are held out, by the name that the literature gives a split. A split is made of pictures, never of trials."""

import numpy as np
from jaxtyping import Bool, Int

from cortexflow.data.nsd_layout.design import PER_SESSION, REPEATS, Design

BEFORE_RELEASE = 37  # sessions that were public while the last three of each subject were held back
COMPLETED_BY_ALL = 30  # sessions


def held_out(design: Design, split: str) -> Int[np.ndarray, " stimuli"]:
    """The test pictures, sorted.

    Arguments:
        design: The plan.
        split: ``nsd_1000``: all pictures planned for every subject. ``nsd_982``: those of them that come in the first 37
            sessions. ``shared_515``: those that every subject saw three times, in the 30 sessions that all completed.
    """
    if split == "nsd_1000":
        return design.shared
    if split == "nsd_982":
        return design.shared[np.isin(design.shared, design.shown[:, : BEFORE_RELEASE * PER_SESSION])]
    seen = [np.bincount(shown[: COMPLETED_BY_ALL * PER_SESSION], minlength=int(design.shown.max()) + 1) for shown in design.shown]
    return design.shared[(np.stack(seen)[:, design.shared] >= REPEATS).all(0)]


def last_session(split: str) -> int | None:
    """The last session that belongs to a split; None where all do."""
    return BEFORE_RELEASE if split == "nsd_982" else None


def kept(
    stimuli: Int[np.ndarray, " trials"],
    numbers: Int[np.ndarray, " trials"],
    test: Int[np.ndarray, " stimuli"],
    sessions: int | None,
    images: int | None,
) -> Bool[np.ndarray, " trials"]:
    """Which trials stay where training is to be shorter; those of test pictures always do.

    Arguments:
        stimuli: The picture of each trial, in the order of recording.
        numbers: The session of each trial, from 1.
        test: The held-out pictures.
        sessions: Training trials come from the first so many sessions (an hour each); from all where None.
        images: And show one of the first so many training pictures; any where None.
    """
    testing = np.isin(stimuli, test)
    training = ~testing if sessions is None else ~testing & (numbers <= sessions)
    if images is not None:
        ids, first = np.unique(stimuli[training], return_index=True)
        training &= np.isin(stimuli, ids[np.argsort(first)[:images]])
    return testing | training
