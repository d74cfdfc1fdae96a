"""Ridge of every voxel on the feature levels that it may see: the mean of ridge and the anchor of the flow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cortexflow.nn.least_squares import RidgeFit, banded_ridge_cv, ridge_cv

FEW_PICTURES = 300  # below, one penalty per area is more stable than one per voxel
PENALTIES = tuple(10.0**power for power in range(-1, 8))
Per = Literal["auto", "voxel", "area"]


@dataclass(frozen=True)
class BandedRidge:
    """How the regression is made.

    Arguments:
        bands: Voxels that may see the same features, with these features.
        levels: Sizes of the feature levels, in order.
        areas: Masks of areas, for penalties per area: a voxel counts for the first that holds it, those of none form one of their own.
        penalties: The candidates.
        per: One penalty for each "voxel" or "area"; "auto" is per area below 300 pictures.
        per_level: Whether every level has its own penalty.
        folds: Of the cross-validation over pictures.
    """

    bands: Sequence[tuple[Bool[Tensor, " voxels"], Bool[Tensor, " features"]]]
    levels: Mapping[str, int]
    areas: Sequence[Bool[Tensor, " voxels"]]
    penalties: Sequence[float] = PENALTIES
    per: Per = "auto"
    per_level: bool = False
    folds: int = 5

    def fit(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]) -> RidgeFit:
        """Weights at the cross-validated penalties, and the prediction of each trial by the fold that had not seen its picture.

        What a voxel does not see has weight 0.
        """
        fits = [self._band(features, responses, groups, area, columns) for area, columns in self.bands]
        if len(fits) == 1 and bool(self.bands[0][1].all()):
            return fits[0]
        count, voxels = features.shape[1], responses.shape[1]
        levels = (len(self.levels),) if self.per_level else ()
        whole = RidgeFit(
            torch.zeros(count, voxels),
            torch.zeros(voxels),
            torch.full((*levels, voxels), torch.inf),  # of a level that is not seen
            torch.zeros(voxels),
            torch.empty_like(responses),
        )
        for (area, columns), fit in zip(self.bands, fits, strict=True):
            assert whole.held_out is not None and fit.held_out is not None
            whole.weights[columns.nonzero(), area.nonzero().T] = fit.weights
            whole.intercept[area], whole.scores[area], whole.held_out[:, area] = fit.intercept, fit.scores, fit.held_out
            seen = self._level_of()[columns].unique()
            whole.penalties[(seen[:, None], area.nonzero().T) if levels else area] = fit.penalties
        return whole

    def _band(self, features: Tensor, responses: Tensor, groups: Tensor, area: Tensor, columns: Tensor) -> RidgeFit:
        folds = min(self.folds, len(torch.unique(groups)))
        seen, targets = (features, responses) if area.all() and columns.all() else (features[:, columns], responses[:, area])
        if self.per_level:
            sizes = [size for size in self._level_of()[columns].bincount(minlength=len(self.levels)).tolist() if size]
            return banded_ridge_cv(seen, targets, groups, sizes, self.penalties, folds=folds, held_out=True)
        pool = self._area_of(responses.shape[1])[area] if self._pools(groups) else None
        return ridge_cv(seen, targets, groups, self.penalties, folds=folds, pool=pool, held_out=True)

    def _level_of(self) -> Int[Tensor, " features"]:
        """The number of the level that holds each feature."""
        return torch.arange(len(self.levels)).repeat_interleave(torch.tensor(list(self.levels.values())))

    def _pools(self, groups: Tensor) -> bool:
        return len(torch.unique(groups)) < FEW_PICTURES if self.per == "auto" else self.per == "area"

    def _area_of(self, voxels: int) -> Int[Tensor, " voxels"]:
        label = torch.full((voxels,), len(self.areas))
        for number in reversed(range(len(self.areas))):
            label[self.areas[number]] = number
        return label
