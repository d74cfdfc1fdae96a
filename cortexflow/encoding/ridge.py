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
from cortexflow.nn.banded import PENALTIES, BandedRidge, Per
from cortexflow.nn.noise import Kind, make_noise


class RidgeEncoder(AdditiveEncoder):
    """A linear mean with a Gaussian or radial noise."""

    class Config(Choices):
        """Choices of ridge.

        ``penalty_per`` is "voxel", "area" (the first area that holds a voxel), or "auto": per area below 300 pictures.
        ``bands`` is "one" penalty for all features or one for each feature "level".
        """

        noise: Kind = "factors+radius"
        factors: int | None = Field(None, ge=0)
        penalties: tuple[PositiveFloat, ...] = PENALTIES
        penalty_per: Per = "auto"
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
        fit = self._regression().fit(features, responses, groups)
        self.weights, self.intercept, self.penalties, self.training_r = fit.weights, fit.intercept, fit.penalties, fit.scores
        assert fit.held_out is not None
        self.noise.fit(responses - fit.held_out, groups)

    def predict(self, features: Float[Tensor, "trials features"]) -> Float[Tensor, "trials voxels"]:
        """The linear mean."""
        return features @ self.weights + self.intercept

    def _regression(self) -> BandedRidge:
        areas = list(self.cortex.areas.values()) if self.cortex is not None else []
        choices = self.config
        return BandedRidge(self.bands, self.levels, areas, choices.penalties, choices.penalty_per, choices.bands == "level", choices.folds)
