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
        folds = min(self.config.folds, len(torch.unique(groups)))
        if self.config.bands == "level":
            return banded_ridge_cv(features, responses, groups, list(self.levels.values()), self.config.penalties, folds=folds, held_out=True)
        pool = self._areas() if self._pools(groups) else None
        return ridge_cv(features, responses, groups, self.config.penalties, folds=folds, pool=pool, held_out=True)

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
