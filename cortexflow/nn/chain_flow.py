r"""A conditional normalizing flow that goes from area to area: each depends on the image and on the areas before it.

Per area, from data to a standard normal: an elementwise affine map whose shift and scale depend on the context, then layers of
a fixed random rotation and an affine coupling. The context is what a small network makes of the image, and the earlier areas'
coordinates, squashed by :math:`3\tanh(u/3)` so that no outlier can carry the chain away. Last layers begin at zero, so that an
untrained flow is the standard normal turned by rotations, that is, the standard normal. Scales are bounded; a likelihood does
not see samples that explode, bounds do.

Transforms are zuko's.

References:
    Density estimation using Real NVP (Dinh et al., 2017). Neural spline flows (Durkan et al., 2019), for rotations between couplings.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.transforms import Transform
from zuko.distributions import DiagNormal
from zuko.flows import ElementWiseTransform, Flow, GeneralCouplingTransform, UnconditionalDistribution, UnconditionalTransform
from zuko.nn import MLP
from zuko.transforms import MonotonicAffineTransform

HEAD_BOUND = 1.5  # of the log scale of the elementwise map


class Rotation(Transform):
    """Multiplication by an orthonormal matrix."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def _call(self, x: Tensor) -> Tensor:
        return x @ self.matrix.T

    def _inverse(self, y: Tensor) -> Tensor:
        return y @ self.matrix

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """0: a rotation keeps volumes."""
        return x.new_zeros(x.shape[:-1])


class ChainFlow(nn.Module):
    """The density of all coordinates given features.

    Arguments:
        features: Size of one feature vector.
        widths: Coordinates of each area, in the order of the chain; at least 2 each.
        layers: Couplings per area.
        width: Units of the hidden layer of a coupling.
        context: What a picture is to the flow, in numbers.
        bound: Of the log scale of a coupling.
        squash: Earlier areas are seen through :math:`s \\tanh(u / s)`.
        dropout: Of the network that looks at the features.
    """

    def __init__(
        self, features: int, widths: Sequence[int], *, layers: int, width: int, context: int, bound: float, squash: float, dropout: float
    ) -> None:
        super().__init__()
        self.widths, self.squash = list(widths), squash
        self.look = nn.Sequential(nn.Linear(features, 2 * context), nn.SiLU(), nn.Dropout(dropout), nn.Linear(2 * context, context), nn.SiLU())
        told = [context + sum(self.widths[:number]) for number in range(len(self.widths))]
        self.areas = nn.ModuleList(_area(size, seen, layers, width, bound) for size, seen in zip(self.widths, told, strict=True))

    def log_prob(self, features: Float[Tensor, "trials features"], coordinates: Float[Tensor, "trials coordinates"]) -> Float[Tensor, " trials"]:
        """In nats."""
        context = self.look(features)
        total = coordinates.new_zeros(len(coordinates))
        for flow, part in zip(self.areas, coordinates.split(self.widths, 1), strict=True):
            total = total + flow(context).log_prob(part)
            context = torch.cat([context, self._squashed(part)], 1)
        return total

    def sample(self, features: Float[Tensor, "trials features"]) -> Float[Tensor, "trials coordinates"]:
        """One draw for each row, by ``torch``'s global generator."""
        return self.from_normal(features, torch.randn(len(features), sum(self.widths), device=features.device))

    def from_normal(
        self, features: Float[Tensor, "trials features"], normal: Float[Tensor, "trials coordinates"]
    ) -> Float[Tensor, "trials coordinates"]:
        """Coordinates that the flow takes to these standard normal numbers."""
        context, found = self.look(features), []
        for flow, part in zip(self.areas, normal.split(self.widths, 1), strict=True):
            found.append(flow(context).transform.inv(part))
            context = torch.cat([context, self._squashed(found[-1])], 1)
        return torch.cat(found, 1)

    def to_normal(
        self, features: Float[Tensor, "trials features"], coordinates: Float[Tensor, "trials coordinates"]
    ) -> Float[Tensor, "trials coordinates"]:
        """The inverse of :meth:`from_normal`."""
        context, found = self.look(features), []
        for flow, part in zip(self.areas, coordinates.split(self.widths, 1), strict=True):
            found.append(flow(context).transform(part))
            context = torch.cat([context, self._squashed(part)], 1)
        return torch.cat(found, 1)

    def _squashed(self, values: Tensor) -> Tensor:
        return self.squash * torch.tanh(values / self.squash)


def _area(size: int, context: int, layers: int, width: int, bound: float) -> Flow:
    """The flow of one area."""
    head = ElementWiseTransform(
        size, context, partial(MonotonicAffineTransform, slope=math.exp(-HEAD_BOUND)), hidden_features=(width,), activation=nn.SiLU
    )
    transforms: list[nn.Module] = [_quiet(head)]
    for _ in range(layers):
        rotation = torch.linalg.qr(torch.randn(size, size))[0]
        transforms.append(UnconditionalTransform(Rotation, rotation, buffer=True))
        affine = partial(MonotonicAffineTransform, slope=math.exp(-bound))
        transforms.append(_quiet(GeneralCouplingTransform(size, context, univariate=affine, hidden_features=(width, width), activation=nn.SiLU)))
    return Flow(transforms, UnconditionalDistribution(DiagNormal, torch.zeros(size), torch.ones(size), buffer=True))


def _quiet(transform: nn.Module) -> nn.Module:
    """Begin at the identity."""
    for part in transform.modules():
        if isinstance(part, MLP):
            last = [layer for layer in part if hasattr(layer, "weight")][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return transform
