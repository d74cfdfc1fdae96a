"""Ridge regression as a distribution: the oldest baseline competes on variability as well.

The mean is a linear function of the features, its penalty chosen per voxel (or per area where pictures are few) by
cross-validation over pictures. The noise is fitted to cross-fitted residuals: those of trials whose picture the mean had
not seen. ``noise="factors+radius"`` is the closed form that every flow has to beat.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveFloat
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.encoding.base import AdditiveEncoder
from cortexflow.nn.least_squares import RidgeFit, banded_ridge_cv, ridge_cv
from cortexflow.nn.noise import Kind, make_noise

FEW_PICTURES = 300  # below, one penalty per area is more stable than one per voxel


class RidgeEncoder(AdditiveEncoder):
    """A linear mean with a Gaussian or radial noise."""

    class Config(Choices):
        """Choices of ridge.

        ``penalty_per`` is "voxel", "area" (the first area that holds a voxel), or "auto": per area below 300 pictures.
        ``bands`` is "one" penalty for all features or one for each feature "level".
        """

        noise: Kind = "factors+radius"
        factors: int | None = Field(None, ge=0)
        penalties: tuple[PositiveFloat, ...] = tuple(10.0**power for power in range(-1, 8))
        penalty_per: Literal["auto", "voxel", "area"] = "auto"
        bands: Literal["one", "level"] = "one"
        folds: int = Field(5, ge=2)

    config: Config
    weights: Tensor
    intercept: Tensor
    penalties: Tensor
    training_r: Tensor

    def __init__(self, features: int, voxels: int, config: Choices | None = None, **context: Any) -> None:
        super().__init__(features, voxels, config, **context)
        self.register_buffer("weights", torch.zeros(features, voxels))
        self.register_buffer("intercept", torch.zeros(voxels))
        self.register_buffer("penalties", torch.ones(voxels))
        self.register_buffer("training_r", torch.zeros(voxels))  # cross-validated on training pictures: may choose voxels
        self.noise = make_noise(self.config.noise, voxels, self.config.factors)

    def solve(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]) -> None:
        """Weights at the cross-validated penalty, then the noise of the cross-fitted residuals."""
        fit = self._regress(features, responses, groups)
        self.weights, self.intercept, self.penalties, self.training_r = fit.weights, fit.intercept, fit.penalties, fit.scores
        assert fit.held_out is not None
        self.noise.fit(responses - fit.held_out, groups)

    def predict(self, features: Float[Tensor, "trials features"]) -> Float[Tensor, "trials voxels"]:
        """The linear mean."""
        return features @ self.weights + self.intercept

    def _regress(self, features: Tensor, responses: Tensor, groups: Tensor) -> RidgeFit:
        """Ridge of each band of voxels on the features that it may see; what it does not see has weight 0."""
        fits = [self._regress_band(features, responses, groups, area, columns) for area, columns in self.bands]
        if len(fits) == 1 and bool(self.bands[0][1].all()):
            return fits[0]
        levels = (len(self.levels),) if self.config.bands == "level" else ()
        whole = RidgeFit(
            torch.zeros(self.features, self.voxels),
            torch.zeros(self.voxels),
            torch.full((*levels, self.voxels), torch.inf),  # of a level that is not seen
            torch.zeros(self.voxels),
            torch.empty_like(responses),
        )
        for (area, columns), fit in zip(self.bands, fits, strict=True):
            assert whole.held_out is not None and fit.held_out is not None
            whole.weights[columns.nonzero(), area.nonzero().T] = fit.weights
            whole.intercept[area], whole.scores[area], whole.held_out[:, area] = fit.intercept, fit.scores, fit.held_out
            seen = self._level_of()[columns].unique()
            whole.penalties[(seen[:, None], area.nonzero().T) if levels else area] = fit.penalties
        return whole

    def _regress_band(self, features: Tensor, responses: Tensor, groups: Tensor, area: Tensor, columns: Tensor) -> RidgeFit:
        folds = min(self.config.folds, len(torch.unique(groups)))
        seen, targets = (features, responses) if area.all() and columns.all() else (features[:, columns], responses[:, area])
        if self.config.bands == "level":
            sizes = [size for size in self._level_of()[columns].bincount(minlength=len(self.levels)).tolist() if size]
            return banded_ridge_cv(seen, targets, groups, sizes, self.config.penalties, folds=folds, held_out=True)
        pool = self._areas()[area] if self._pools(groups) else None
        return ridge_cv(seen, targets, groups, self.config.penalties, folds=folds, pool=pool, held_out=True)

    def _level_of(self) -> Int[Tensor, " features"]:
        """The number of the level that holds each feature."""
        return torch.arange(len(self.levels)).repeat_interleave(torch.tensor(list(self.levels.values())))

    def _pools(self, groups: Tensor) -> bool:
        if self.config.penalty_per == "auto":
            return len(torch.unique(groups)) < FEW_PICTURES
        return self.config.penalty_per == "area"

    def _areas(self) -> Int[Tensor, " voxels"]:
        """The number of the first area that holds each voxel; voxels of no area form one of their own."""
        areas = list(self.cortex.areas.values()) if self.cortex is not None else []
        label = torch.full((self.voxels,), len(areas))
        for number in reversed(range(len(areas))):
            label[areas[number]] = number
        return label
