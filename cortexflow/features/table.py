"""Rows that are found by the picture they belong to, never by their position."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError


class FeatureTable:
    """One feature vector per picture, joined to trials by stimulus id: ``features[trials.stimuli]``.

    Arguments:
        stimuli: Stimulus id of each row, each once, in any order.
        values: The feature vectors.

    Raises:
        CortexflowError: Not one row per id, or an id twice.

    Example:
        >>> FeatureTable(torch.tensor([7, 3]), torch.tensor([[0.7], [0.3]]))[torch.tensor([3, 3, 7])]
        tensor([[0.3000],
                [0.3000],
                [0.7000]])
    """

    def __init__(self, stimuli: Int[Tensor, " stimuli"], values: Float[Tensor, "rows features"]) -> None:
        if len(stimuli) != len(values):
            raise CortexflowError(f"{len(stimuli)} stimuli for {len(values)} rows of features; give one row per stimulus")
        # Kept sorted, so that a look-up is a binary search.
        self.stimuli, order = stimuli.cpu().sort()
        twice = self.stimuli[1:][self.stimuli[1:] == self.stimuli[:-1]]
        if len(twice):
            raise CortexflowError(f"stimulus {_some(twice.unique())} has more than one row of features; give each stimulus once")
        self.values = values[order.to(values.device)]

    def __len__(self) -> int:
        return len(self.stimuli)

    @property
    def features(self) -> int:
        """Size of one feature vector."""
        return self.values.shape[1]

    def __getitem__(self, stimuli: Int[Tensor, " trials"]) -> Float[Tensor, "trials features"]:
        """The rows of these stimuli, in this order, as often as they are asked for.

        Raises:
            CortexflowError: A stimulus has no row.
        """
        rows = rows_of(stimuli.cpu(), self.stimuli)
        if (rows < 0).any():
            unknown = stimuli.cpu()[rows < 0].unique()
            raise CortexflowError(
                f"no features for stimulus {_some(unknown)} ({len(unknown)} of {len(stimuli.unique())} asked); compute them for every picture"
            )
        return self.values[rows.to(self.values.device)]


def rows_of(asked: Int[Tensor, " asked"], held: Int[Tensor, " held"]) -> Int[Tensor, " asked"]:
    """Where each asked id stands among the held ones, or -1 where it is not held.

    Arguments:
        asked: Ids in any order, repeats allowed.
        held: Ids in any order.

    Example:
        >>> rows_of(torch.tensor([5, 8, 5]), torch.tensor([9, 5]))
        tensor([ 1, -1,  1])
    """
    if not len(held):
        return torch.full_like(asked, -1)
    ordered, order = held.sort()
    rows = order[torch.searchsorted(ordered, asked).clamp(max=len(held) - 1)]
    return torch.where(held[rows] == asked, rows, -1)


def _some(ids: Tensor) -> str:
    """The first five ids in words."""
    return ", ".join(str(number) for number in ids[:5].tolist()) + (" …" if len(ids) > 5 else "")
