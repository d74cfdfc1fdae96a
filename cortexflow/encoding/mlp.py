"""A multilayer perceptron for the mean, with the noise of ridge: the plain non-linear baseline.

The mean is trained by gradient descent on the mean squared error; the noise is fitted at the end to the residuals of
validation pictures, which the mean has not been trained on.
"""

from itertools import pairwise
from typing import Any

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from cortexflow.catalog import Choices
from cortexflow.encoding.base import AdditiveEncoder
from cortexflow.nn.noise import Kind, make_noise


class MLPEncoder(AdditiveEncoder):
    """Hidden layers of GELU units between features and the expected response."""

    class Config(Choices):
        """Choices of the network (hidden units, hidden layers, dropout) and of its noise."""

        hidden: int = Field(256, ge=1)
        layers: int = Field(1, ge=1)
        dropout: float = Field(0.5, ge=0, lt=1)
        noise: Kind = "factors+radius"
        factors: int | None = Field(None, ge=0)

    config: Config

    def __init__(self, features: int, voxels: int, config: Choices | None = None, **context: Any) -> None:
        super().__init__(features, voxels, config, **context)
        self.means = nn.ModuleList(self._network(int(columns.sum()), int(area.sum())) for area, columns in self.bands)
        self.noise = make_noise(self.config.noise, voxels, self.config.factors)

    def loss(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"]) -> Float[Tensor, ""]:
        """Mean squared error, in squared response units."""
        return (self.predict(features) - responses).square().mean()

    def calibrate(
        self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]
    ) -> None:
        """The noise, from the residuals of validation pictures."""
        self.noise.fit(responses - self.predict(features), groups)

    def predict(self, features: Float[Tensor, "trials features"]) -> Float[Tensor, "trials voxels"]:
        """The network's output; areas that see other levels have a network of their own."""
        expected = features.new_empty(len(features), self.voxels)
        for network, (area, columns) in zip(self.means, self.bands, strict=True):
            expected[:, area] = network(features[:, columns])
        return expected

    def _network(self, features: int, voxels: int) -> nn.Module:
        widths = [features] + [self.config.hidden] * self.config.layers
        hidden = [_layer(a, b, self.config.dropout) for a, b in pairwise(widths)]
        return nn.Sequential(*hidden, nn.Linear(widths[-1], voxels))


def _layer(inputs: int, outputs: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.GELU(), nn.Dropout(dropout))
