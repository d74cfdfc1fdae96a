r"""What raises one area against the others: a direction of features, or of noise, with its map and what random directions do.

With the slope J of the expected response at the mean picture and :math:`c_v = 1/|A|` in the area and :math:`-1/|R|` in the rest,
:math:`g = J c` is how the contrast grows with each feature. Of all directions that are one standard deviation long among
training pictures, :math:`d = \Sigma g / \sqrt{g^\top \Sigma g}` raises it most. A linear model makes this exact; for others it holds
around the mean picture.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cortexflow.encoding.base import Encoder
from cortexflow.encoding.flow import FlowEncoder
from cortexflow.errors import CortexflowError

RANDOM = 1000  # directions of the null


@dataclass(frozen=True)
class Direction:
    """A direction that raises an area.

    Arguments:
        direction: One standard deviation long: of training features, or of the noise.
        slope: How the contrast grows with each feature; pictures are ranked by it (:meth:`rank`).
        map: What the direction adds to every voxel, response units.
        contrast: Of the map: mean of the area less mean of the rest.
        random: The contrasts of random directions of the same length.
    """

    direction: Float[Tensor, " inputs"]
    slope: Float[Tensor, " inputs"]
    map: Float[Tensor, " voxels"]
    contrast: float
    random: Float[Tensor, " directions"]

    def rank(self, features: Float[Tensor, "pictures inputs"]) -> Float[Tensor, " pictures"]:
        """The contrast that each picture is expected to have, but for a constant."""
        return features @ self.slope


def direction_for(encoder: Encoder, area: str, features: Float[Tensor, "pictures features"], seed: int = 0) -> Direction:
    """The direction of features that raises an area against all other voxels.

    Arguments:
        encoder: Fitted, with a cortex that has the area.
        area: An area or several, ``"FFA-1,FFA-2"``.
        features: Of training pictures: what a standard deviation is.
        seed: Of the random directions.

    Raises:
        CortexflowError: No such area, or it holds all voxels or none.
    """
    weights = _contrast(encoder, area)
    mean = features.mean(0, keepdim=True)
    slope = torch.autograd.functional.jacobian(lambda x: encoder.predict(x)[0], mean)[:, 0].T  # features × voxels
    covariance = torch.cov(features.T.double()).float()
    return _best(slope, weights, covariance, seed)


def noise_direction_for(encoder: FlowEncoder, area: str, features: Float[Tensor, "pictures features"], seed: int = 0) -> Direction:
    """The direction of a flow's noise that raises an area: how trials of one picture differ when it answers more than the others.

    Arguments:
        encoder: Fitted, with a cortex that has the area.
        area: An area or several, joined by commas.
        features: Of training pictures; the noise is looked at around their mean.
        seed: Of the random directions, and of where the rest of the noise points.

    Raises:
        CortexflowError: No such area, or it holds all voxels or none.
    """
    weights = _contrast(encoder, area)
    mean = features.mean(0, keepdim=True)
    rest = torch.randn(1, encoder.voxels, generator=torch.Generator().manual_seed(seed))
    usual = torch.zeros(1, len(encoder.coordinates.mean))
    slope = torch.autograd.functional.jacobian(lambda u: encoder.from_noise(mean, u, rest)[0], usual)[:, 0].T.detach()
    return _best(slope, weights, torch.eye(len(slope)), seed)


def _best(slope: Tensor, weights: Tensor, covariance: Tensor, seed: int) -> Direction:
    steep = slope @ weights
    longest = (steep @ covariance @ steep).sqrt()
    direction = covariance @ steep / longest
    generator = torch.Generator().manual_seed(seed)
    values, vectors = torch.linalg.eigh(covariance.double())
    drawn = torch.randn(RANDOM, len(steep), generator=generator)
    drawn = drawn / drawn.norm(dim=1, keepdim=True)
    random = (drawn.double() * values.clamp(min=0).sqrt()) @ (vectors.T @ steep.double())
    return Direction(direction, steep, direction @ slope, float(longest), random.float())


def _contrast(encoder: Encoder, area: str) -> Float[Tensor, " voxels"]:
    if encoder.cortex is None:
        raise CortexflowError("a direction for an area needs the areas of the voxels; give the encoder a cortex")
    inside: Bool[Tensor, " voxels"] = encoder.cortex.area(area)
    count = int(inside.sum())
    if not 0 < count < encoder.voxels:
        raise CortexflowError(f"{area} has {count} of {encoder.voxels} voxels; choose an area with some voxels inside and some outside")
    return torch.where(inside, 1 / count, -1 / (encoder.voxels - count))
