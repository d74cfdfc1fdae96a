"""The null: the training-mean pattern, blind to the image, with the covariance of the training responses.

It is a model like any other, because the scores that a constant reaches are the scores that every other model must beat.
Across voxels of un-z-scored responses this constant correlates with single trials at about .67 (see
``docs/constant_pattern.md``); across images it correlates at 0.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.encoding.base import AdditiveEncoder
from cortexflow.nn.noise import Kind, make_noise


class NullEncoder(AdditiveEncoder):
    """The mean response of the training trials, whatever the picture."""

    class Config(Choices):
        """Choices of the null: its noise, and the number of factors (None: by held-out likelihood)."""

        noise: Kind = "factors"
        factors: int | None = Field(None, ge=0)

    config: Config
    mean: Tensor

    def __init__(self, features: int, voxels: int, config: Choices | None = None, **context: Any) -> None:
        super().__init__(features, voxels, config, **context)
        self.register_buffer("mean", torch.zeros(voxels))
        self.noise = make_noise(self.config.noise, voxels, self.config.factors)

    def solve(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]) -> None:
        """The mean over training trials, and the covariance around it."""
        self.mean = responses.mean(0)
        self.noise.fit(responses - self.mean, groups)

    def predict(self, features: Float[Tensor, "trials features"]) -> Float[Tensor, "trials voxels"]:
        """The same pattern in every row."""
        return self.mean.expand(len(features), -1)
