r"""Residuals in few coordinates per area: how strong each factor is, and how long the rest is.

With the uniquenesses :math:`D^2` of a factor analysis and an orthonormal basis :math:`U_a` of what varies most in area a, in
units of its independent noise,

.. math:: w_a = D_a^{-1} r_a, \quad z_a = U_a^\top w_a, \quad \rho_a = \lVert w_a - U_a z_a \rVert,

and the direction of the rest is taken to be uniform among those without factors. A trial's strength scales its factors:
:math:`\tilde z_a = z_a (\rho_a / e^{m_a})^{-g_a}`. All :math:`(\log\rho_a, \tilde z_a)` together, areas in the order of the chain, are
whitened by the Cholesky factor of their covariance, so that the coordinates of an area are what its earlier areas do not tell
linearly. If the coordinates were independent standard normal numbers, the density of the residual would be exact and closed:
this is where a flow begins.

Trials that a basis was fitted to look stronger along it than new ones, and their rests shorter. Everything is corrected by
what five-fold cross-fitting finds of this; see :mod:`cortexflow.nn.noise`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cortexflow.nn.factor_analysis import fit_factors
from cortexflow.nn.least_squares import fold_of
from cortexflow.nn.noise import FOLDS, along, growth, log_sphere

SHARES = tuple(tenth / 10 for tenth in range(11))  # of the covariance that factor analysis says


class Axes(NamedTuple):
    """Deviations of the independent noise, and the basis of each area."""

    deviation: Float[Tensor, " voxels"]
    bases: tuple[Tensor, ...]
    implied: Float[Tensor, "factors factors"]  # covariance of all z that the factor analysis says

    @classmethod
    def of(cls, residuals: Tensor, signal: Float[Tensor, "voxels features"], stages: Sequence[Tensor], factors: int, sizes: Sequence[int]) -> "Axes":
        """From residuals, and a root of the covariance of the expected responses."""
        loadings, unique = fit_factors(residuals, factors)
        deviation = unique.sqrt()
        common, told = loadings / deviation[:, None], signal / deviation[:, None]
        bases = tuple(_leading(torch.cat([common[stage], told[stage]], 1), size) for stage, size in zip(stages, sizes, strict=True))
        seen = torch.cat([basis.T @ common[stage] for basis, stage in zip(bases, stages, strict=True)])
        return cls(deviation, bases, seen @ seen.T + torch.eye(len(seen)))

    def raw(self, residuals: Tensor, stages: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Per area the log length of the rest and the factors."""
        whitened = residuals / self.deviation
        found = [along(whitened[:, stage], basis) for stage, basis in zip(stages, self.bases, strict=True)]
        return [(log_rho, z) for z, log_rho in found]


class RadialCoordinates(nn.Module):
    """The map from residuals to coordinates and back, fitted in closed form; everything it learns is a buffer.

    Arguments:
        voxels: Size of a residual.
    """

    deviation: Tensor
    basis: Tensor
    stage: Tensor
    sizes: Tensor
    grows: Tensor
    mean: Tensor
    root: Tensor

    def __init__(self, voxels: int) -> None:
        super().__init__()
        self.register_buffer("deviation", torch.ones(voxels))
        self.register_buffer("basis", torch.zeros(voxels, 1))  # of the voxel's own area
        self.register_buffer("stage", torch.zeros(voxels, dtype=torch.long))
        self.register_buffer("sizes", torch.tensor([1]))  # factors of each area
        self.register_buffer("grows", torch.zeros(1))
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("root", torch.eye(2))

    @property
    def widths(self) -> list[int]:
        """How many coordinates each area has: its factors and its length."""
        return [size + 1 for size in self.sizes.tolist()]

    @torch.no_grad()
    def fit(
        self,
        residuals: Float[Tensor, "trials voxels"],
        groups: Int[Tensor, " trials"],
        signal: Float[Tensor, "voxels features"],
        stages: Sequence[Bool[Tensor, " voxels"]],
        factors: int,
        sizes: Sequence[int],
    ) -> Float[Tensor, "trials coordinates"]:
        """Learn the axes, and say where these trials lie as if the axes had been learned from others.

        Arguments:
            residuals: Of trials whose pictures the mean was not fitted to.
            groups: The pictures, which folds never split.
            signal: A root of the covariance of expected responses: what an image-dependent gain acts on.
            stages: Masks of the areas in the order of the chain; every voxel is in one.
            factors: Of the factor analysis.
            sizes: Factors of each area, fewer than its voxels by 2 or more.
        """
        places = [stage.nonzero().squeeze(1) for stage in stages]
        axes = Axes.of(residuals, signal, places, factors, sizes)
        raw = _corrected(axes.raw(residuals, places), *self._foldwise(residuals, groups, signal, places, factors, sizes))
        self._keep(axes, places, sizes)
        self.grows = torch.stack([growth(z, log_rho - log_rho.mean()) for log_rho, z in raw])
        joined = torch.cat([torch.cat([log_rho[:, None], z], 1) for log_rho, z in raw], 1)
        self.mean = torch.zeros(joined.shape[1])
        self.mean[self._lengths()] = joined[:, self._lengths()].mean(0)
        steady = self._steady(joined)
        self.mean = steady.mean(0)
        self.root = self._whitening(steady - self.mean, axes.implied, groups)
        return self._white(steady)

    def forward(self, residuals: Float[Tensor, "trials voxels"]) -> tuple[Float[Tensor, "trials coordinates"], Float[Tensor, " trials"]]:
        """Coordinates, and what is added to their log density to make it that of the residuals, in nats."""
        axes = self._axes()
        raw = axes.raw(residuals, self._places())
        joined = torch.cat([torch.cat([log_rho[:, None], z], 1) for log_rho, z in raw], 1)
        centred = joined[:, self._lengths()] - self.mean[self._lengths()]
        rests = [len(basis) - basis.shape[1] for basis in axes.bases]
        fixed = self.deviation.log().sum() + self.root.diagonal().log().sum() + sum(map(log_sphere, rests))
        lengths = sum(rest * log_rho for rest, (log_rho, _) in zip(rests, raw, strict=True))
        return self._white(self._steady(joined)), -(fixed + lengths + (centred * self.grows * self.sizes).sum(1))

    def signal(self, responses: Float[Tensor, "trials voxels"]) -> Float[Tensor, "trials coordinates"]:
        """Coordinates of expected responses less their mean: linear, and 0 along the lengths."""
        axes = self._axes()
        whitened = responses / self.deviation
        parts = [whitened[:, place] @ basis for place, basis in zip(self._places(), axes.bases, strict=True)]
        joined = torch.cat([torch.cat([part.new_zeros(len(part), 1), part], 1) for part in parts], 1)
        return torch.linalg.solve_triangular(self.root, joined.T, upper=False).T

    def directions(self, residuals: Float[Tensor, "trials voxels"]) -> Float[Tensor, "trials voxels"]:
        """Where the rest of each area points: what :meth:`residuals` needs beside the coordinates; of length 1 in every area."""
        whitened = residuals / self.deviation
        for place, basis in zip(self._places(), self._axes().bases, strict=True):
            whitened[:, place] = _pointing(whitened[:, place], basis)
        return whitened

    def residuals(
        self, coordinates: Float[Tensor, "trials coordinates"], directions: Float[Tensor, "trials voxels"] | None = None
    ) -> Float[Tensor, "trials voxels"]:
        """Residuals at these coordinates.

        Arguments:
            coordinates: See :meth:`forward`.
            directions: Where the rest of each area points, of any length; drawn by ``torch``'s global generator where absent.
        """
        joined = coordinates @ self.root.T + self.mean
        answer = torch.randn(len(joined), len(self.deviation), device=joined.device) if directions is None else directions.clone()
        parts = joined.split(self.widths, 1)
        lengths = self.mean[self._lengths()]
        for part, place, basis, grows, usual in zip(parts, self._places(), self._axes().bases, self.grows, lengths, strict=True):
            log_rho, z = part[:, :1], part[:, 1:] * (grows * (part[:, :1] - usual)).exp()
            answer[:, place] = z @ basis.T + log_rho.exp() * _pointing(answer[:, place], basis)
        return answer * self.deviation

    def _foldwise(
        self, residuals: Tensor, groups: Tensor, signal: Tensor, places: Sequence[Tensor], factors: int, sizes: Sequence[int]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """How held-out trials differ from fitted ones, by area: spread of factors, shift of the length, ratio of its deviations."""
        count = min(FOLDS, len(torch.unique(groups)))
        fold = fold_of(groups, count, 0)
        seen, held = [], []
        for part in range(count):
            axes = Axes.of(residuals[fold != part], signal, places, factors, sizes)
            fitted = axes.raw(residuals[fold != part], places)
            spread = [z.square().mean(0).sqrt() for _, z in fitted]
            middle = [log_rho.mean() for log_rho, _ in fitted]
            seen.append([log_rho - m for (log_rho, _), m in zip(fitted, middle, strict=True)])
            new = axes.raw(residuals[fold == part], places)
            held.append([(log_rho - m, z / s) for (log_rho, z), m, s in zip(new, middle, spread, strict=True)])
        share = 1 - 1 / count  # an excess shrinks with the number of trials, and all of them are used in the end
        spreads, shifts, ratios = [], [], []
        for area in range(len(places)):
            lengths, z = (torch.cat([part[area][which] for part in held]) for which in (0, 1))
            spreads.append(z.square().mean(0).sqrt() ** share)
            shifts.append(lengths.mean() * share)
            ratios.append((lengths.std() / torch.cat([part[area] for part in seen]).std()) ** share)
        return spreads, shifts, ratios

    def _keep(self, axes: Axes, places: Sequence[Tensor], sizes: Sequence[int]) -> None:
        self.deviation = axes.deviation
        self.basis = torch.zeros(len(axes.deviation), max(sizes))
        self.stage = torch.zeros(len(axes.deviation), dtype=torch.long)
        for number, (place, basis) in enumerate(zip(places, axes.bases, strict=True)):
            self.basis[place, : basis.shape[1]] = basis
            self.stage[place] = number
        self.sizes = torch.tensor(list(sizes))

    def _axes(self) -> Axes:
        bases = tuple(self.basis[place, :size] for place, size in zip(self._places(), self.sizes.tolist(), strict=True))
        return Axes(self.deviation, bases, self.root)

    def _places(self) -> list[Tensor]:
        return [(self.stage == number).nonzero().squeeze(1) for number in range(len(self.sizes))]

    def _lengths(self) -> Int[Tensor, " areas"]:
        """Where among the coordinates the lengths stand."""
        return (self.sizes + 1).cumsum(0) - (self.sizes + 1)

    def _steady(self, joined: Tensor) -> Tensor:
        """Factors as they would be in a trial of usual length."""
        stronger = (joined[:, self._lengths()] - self.mean[self._lengths()]) * self.grows
        scale = stronger.repeat_interleave(self.sizes + 1, dim=1)
        scale[:, self._lengths()] = 0
        return joined * (-scale).exp()

    def _white(self, steady: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.root, (steady - self.mean).T, upper=False).T

    def _whitening(self, centred: Tensor, implied: Tensor, groups: Tensor) -> Tensor:
        """Cholesky factor of the covariance: the sample's, mixed with that which factor analysis says, as held-out trials like best.

        Factor analysis has few numbers for what areas share; it says nothing of lengths, whose own covariance is the sample's.
        """
        target = torch.zeros(len(self.mean), len(self.mean), dtype=torch.float64)
        lengths = self._lengths()
        factors = torch.ones(len(self.mean), dtype=torch.bool)
        factors[lengths] = False
        places = factors.nonzero().squeeze(1)
        target[places[:, None], places] = implied.double()
        fold = fold_of(groups, min(FOLDS, len(torch.unique(groups))), 0)
        scores = torch.zeros(len(SHARES), dtype=torch.float64)
        for part in range(int(fold.max()) + 1):
            sample = _covariance(centred[fold != part])
            scores += torch.stack([_likelihood(centred[fold == part], _mixed(sample, target, lengths, share)) for share in SHARES])
        best = SHARES[int(scores.argmax())]
        return torch.linalg.cholesky(_mixed(_covariance(centred), target, lengths, best)).float()


def _pointing(values: Tensor, basis: Tensor) -> Tensor:
    """What is orthogonal to the basis, of length 1."""
    rest = values - values @ basis @ basis.T
    return rest / rest.norm(dim=1, keepdim=True)


def _corrected(
    raw: Sequence[tuple[Tensor, Tensor]], spreads: Sequence[Tensor], shifts: Sequence[Tensor], ratios: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    found = []
    for (log_rho, z), spread, shift, ratio in zip(raw, spreads, shifts, ratios, strict=True):
        middle = log_rho.mean()
        found.append((middle + shift + (log_rho - middle) * ratio, z * spread))
    return found


def _leading(directions: Tensor, size: int) -> Tensor:
    """The leading left singular vectors, orthonormal; made up at random where there are fewer directions."""
    values, vectors = torch.linalg.eigh(directions.double().T @ directions.double())
    kept = values.flip(0) > 1e-10 * values[-1]
    basis = (directions.double() @ vectors.flip(1)[:, kept])[:, :size]
    if basis.shape[1] < size:
        more = torch.randn(len(directions), size - basis.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        basis = torch.cat([basis, more], 1)
    return torch.linalg.qr(basis)[0].float()


def _covariance(centred: Tensor) -> Tensor:
    values = centred.double()
    return values.T @ values / len(values)


def _mixed(sample: Tensor, target: Tensor, lengths: Tensor, share: float) -> Tensor:
    """A mixture of two correlations, with the variances of the sample."""
    deviation = sample.diagonal().sqrt()
    said = target.clone()
    said[lengths[:, None], lengths] = sample[lengths[:, None], lengths]
    scale = (deviation / said.diagonal().sqrt())[:, None]
    mixed = (1 - share) * sample + share * scale * said * scale.T
    return mixed + 1e-6 * mixed.diagonal().diag()


def _likelihood(values: Tensor, covariance: Tensor) -> Tensor:
    root, failed = torch.linalg.cholesky_ex(covariance)
    if failed:
        return torch.tensor(-math.inf, dtype=torch.float64)
    return -0.5 * torch.linalg.solve_triangular(root, values.double().T, upper=False).square().sum() - len(values) * root.diagonal().log().sum()
