"""How often each picture was shown, and which pictures are held out where a study does not say."""

from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from cortexflow.data.on_disk.pictures import Pictures
from cortexflow.errors import CortexflowError


def occurrences(stimuli: Int[Tensor, " trials"]) -> Int[Tensor, " trials"]:
    """How often each trial's stimulus came before.

    Example:
        >>> occurrences(torch.tensor([7, 5, 7, 7, 5]))
        tensor([0, 0, 1, 2, 1])
    """
    order = torch.argsort(stimuli, stable=True)
    counts = torch.unique(stimuli, return_counts=True)[1]
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    return torch.empty_like(stimuli).index_put_((order,), torch.arange(len(stimuli), dtype=stimuli.dtype) - starts)


def most_repeated(stimuli: Int[Tensor, " trials"], share: float, seed: int) -> Int[Tensor, " stimuli"]:
    """A share of the pictures, those with most trials first: the average of many repeats is the test that says most.

    Arguments:
        stimuli: The stimulus id of every trial, of all subjects together, so that what all of them saw comes first.
        share: How much of the pictures (not of the trials) to hold out, between 0 and 1; one picture at least.
        seed: Decides among pictures of the same number of trials.

    Returns:
        Their ids, sorted.

    Example:
        Trials of the pictures 3, 5, 5, 8, 8 and a share of .4: either 5 or 8.
    """
    ids, counts = torch.unique(stimuli, return_counts=True)
    shuffled = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))
    order = shuffled[torch.argsort(counts[shuffled], descending=True, stable=True)]
    return ids[order[: max(1, round(share * len(ids)))]].sort().values


def listed(path: Path, pictures: Pictures) -> Int[Tensor, " stimuli"]:
    """The pictures that a text file names, one on each line.

    Raises:
        CortexflowError: The file cannot be read or is empty, or a line is the name of no picture.
    """
    try:
        words = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CortexflowError(f"{path} cannot be read ({error}); save it as text in UTF-8, one picture on each line") from error
    if not words:
        raise CortexflowError(f"{path} is empty; name one picture on each line, or delete the file")
    return pictures.find(words, path).unique()
