"""What a subject's part of the dataset holds, from its plan and its maps, without reading a response."""

from typing import TYPE_CHECKING

import numpy as np

from cortexflow.data.nsd_layout.design import REPEATS, read_design

if TYPE_CHECKING:
    from cortexflow.data.nsd import NSD


def summary(dataset: "NSD", subject: str) -> dict[str, str]:
    """Names and values for people, of the trials that the dataset's configuration asks for.

    Raises:
        CortexflowError: A map, the plan or an asked session is missing.
    """
    order, cortex = dataset.order(subject), dataset.cortex(subject)
    pictures, counts = np.unique(order.stimuli, return_counts=True)
    test = np.isin(order.stimuli, dataset.held_out().numpy())
    shared = np.isin(pictures, read_design(dataset.place).shared)
    areas = ", ".join(f"{name} {int(mask.sum())}" for name, mask in cortex.areas.items())
    return {
        "sessions": f"{len(np.unique(order.sessions))} of {dataset.SESSIONS[subject]}: {_ranges(np.unique(order.sessions).tolist())}",
        "trials": f"{len(order.stimuli)}",
        "pictures": f"{len(pictures)}: " + ", ".join(f"{int((counts == times + 1).sum())} shown {_times(times + 1)}" for times in range(REPEATS)),
        "shared pictures": f"{int(shared.sum())} seen, {int((shared & (counts == REPEATS)).sum())} of them {_times(REPEATS)}",
        "training": _side(order.stimuli[~test]),
        f"test ({dataset.config.split})": _side(order.stimuli[test]),
        f"voxels ({dataset.config.mask}, {dataset.config.space})": f"{cortex.voxels}",
        "areas": areas or "none",
        "noise ratio": "not shipped" if cortex.ncsnr is None else f"median {float(cortex.ncsnr.nanmedian()):.2f}",
    }


def _side(stimuli: np.ndarray) -> str:
    return f"{len(np.unique(stimuli))} pictures, {len(stimuli)} trials"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _ranges(numbers: list[int]) -> str:
    """Numbers in rising order in a few words.

    Example:
        >>> _ranges([1, 2, 3, 7])
        '1-3, 7'
    """
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    return ", ".join(f"{start}-{end}" if end > start else str(start) for start, end in zip(starts, ends, strict=True))
