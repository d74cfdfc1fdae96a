r"""Trial-to-trial variability: distributions of a residual that does not depend on the image.

Three of them, each a special case of the next:

* ``diagonal``: every voxel for itself, :math:`r_v \sim N(0, \sigma_v^2)`.
* ``factors``: a low-rank plus diagonal Gaussian, :math:`r \sim N(0, \Lambda\Lambda^\top + \Psi)`.
* ``factors+radius``: the factors as above, and of all the rest only the *length* is modelled. With
  :math:`w = \Psi^{-1/2} r`, an orthonormal basis :math:`U` of the whitened factors, :math:`z = U^\top w` and
  :math:`\rho = \lVert w - Uz \rVert`,

  .. math:: \log\rho \sim N(m, t^2), \quad z_i \sim N(0, s_i^2 (\rho / e^m)^{2a}), \quad
            (w - Uz) / \rho \sim \text{uniform on the unit sphere},

  so that a trial whose noise is larger as a whole is not taken for a surprise in every voxel at once. The coupling :math:`a`
  says how much the factors grow with the rest: 0 where they do not, 1 where a trial's strength scales everything. The density
  over the voxels is exact: with :math:`d = V - k`,
  :math:`\log p(r) = -\tfrac12\sum\log\Psi + \log p(z | \rho) + \log p(\log\rho) - d\log\rho - \log S_d`, where
  :math:`S_d = 2\pi^{d/2}/\Gamma(d/2)` is the surface of the sphere.

Factors found in some trials carry less variance in others, and what they leave is longer. Spread and length are therefore
corrected by what five-fold cross-fitting finds of this (:class:`Optimism`); without it a density is too sure of itself.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from cortexflow.errors import CortexflowError
from cortexflow.nn.factor_analysis import choose_factors, factor_log_prob, fit_factors
from cortexflow.nn.least_squares import fold_of

Kind = Literal["diagonal", "factors", "factors+radius"]
CANDIDATES = (1, 2, 3, 5, 8, 12, 18, 27, 40, 64, 96, 128)
TRIALS_PER_FACTOR = 10
FOLDS = 5


class Noise(nn.Module, ABC):
    """A distribution of residuals, fitted in closed form; everything it learns is a buffer."""

    @abstractmethod
    def fit(self, residuals: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]) -> None:
        """Learn from residuals of trials that the mean was not fitted on; ``groups`` are the stimuli."""

    @abstractmethod
    def log_prob(self, residuals: Float[Tensor, "trials voxels"]) -> Float[Tensor, " trials"]:
        """Log density in nats, over all voxels together."""

    @abstractmethod
    def sample(self, n: int) -> Float[Tensor, "n voxels"]:
        """``n`` residuals. Seeded by ``torch.manual_seed``."""

    @abstractmethod
    def covariance(self) -> Float[Tensor, "voxels voxels"]:
        """The covariance of the density; voxels × voxels, for analyses of some thousand voxels."""


class DiagonalNoise(Noise):
    """Independent Gaussian noise in every voxel."""

    variance: Tensor

    def __init__(self, voxels: int) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(voxels))

    def fit(self, residuals: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]) -> None:
        """The mean square of each voxel."""
        _, self.variance = fit_factors(residuals, 0)

    def log_prob(self, residuals: Float[Tensor, "trials voxels"]) -> Float[Tensor, " trials"]:
        """Sum over voxels of the Gaussian log density, in nats."""
        return -0.5 * (residuals.square() / self.variance + (2 * math.pi * self.variance).log()).sum(1)

    def sample(self, n: int) -> Float[Tensor, "n voxels"]:
        """Independent draws."""
        return torch.randn(n, len(self.variance), device=self.variance.device) * self.variance.sqrt()

    def covariance(self) -> Float[Tensor, "voxels voxels"]:
        """A diagonal matrix."""
        return self.variance.diag()


class FactorNoise(Noise):
    """Low-rank plus diagonal Gaussian noise.

    Arguments:
        voxels: Size of a residual.
        factors: How many; None chooses by held-out likelihood.
    """

    loadings: Tensor
    uniquenesses: Tensor

    def __init__(self, voxels: int, factors: int | None = None) -> None:
        super().__init__()
        self.factors = factors
        self.register_buffer("loadings", torch.zeros(voxels, 0))
        self.register_buffer("uniquenesses", torch.ones(voxels))

    def fit(self, residuals: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]) -> None:
        """Factor analysis, its variances as they are in trials that it was not fitted to.

        The number of factors is chosen by held-out likelihood unless it was given.
        """
        self._fit(residuals, groups)

    def log_prob(self, residuals: Float[Tensor, "trials voxels"]) -> Float[Tensor, " trials"]:
        """Gaussian log density in nats."""
        return factor_log_prob(residuals, self.loadings, self.uniquenesses)

    def sample(self, n: int) -> Float[Tensor, "n voxels"]:
        """Factors times loadings plus independent noise."""
        voxels, factors = self.loadings.shape
        device = self.loadings.device
        return torch.randn(n, factors, device=device) @ self.loadings.T + torch.randn(n, voxels, device=device) * self.uniquenesses.sqrt()

    def covariance(self) -> Float[Tensor, "voxels voxels"]:
        r""":math:`\Lambda\Lambda^\top + \Psi`."""
        return self.loadings @ self.loadings.T + self.uniquenesses.diag()

    def _fit(self, residuals: Tensor, groups: Tensor) -> tuple[Tensor, "Optimism"]:
        candidates = (self.factors,) if self.factors is not None else factor_candidates(*residuals.shape)
        factors = choose_factors(residuals, groups, candidates, factor_log_prob)
        loadings, unique = fit_factors(residuals, factors)
        optimism = Optimism.of(residuals, groups, factors)
        basis, z, log_rho = _coordinates(residuals, loadings, unique)
        spread = z.square().mean(0) * optimism.spread**2
        rest = (2 * log_rho).exp().mean() / (residuals.shape[1] - factors) * optimism.length**2
        self.uniquenesses = unique * rest.float()
        self.loadings = unique.sqrt()[:, None] * basis * (spread - rest).clamp(min=0).sqrt().float()
        return basis, optimism


class RadialFactorNoise(FactorNoise):
    """Factors, and a length for all the rest: heavy or light tails that the voxels share."""

    basis: Tensor
    spread: Tensor
    radius: Tensor
    coupling: Tensor

    def __init__(self, voxels: int, factors: int | None = None) -> None:
        super().__init__(voxels, factors)
        self.register_buffer("basis", torch.zeros(voxels, 0))
        self.register_buffer("spread", torch.ones(0))
        self.register_buffer("radius", torch.tensor([0.5 * math.log(voxels), 1.0]))  # mean and deviation of log rho
        self.register_buffer("coupling", torch.tensor(0.0))

    def fit(self, residuals: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]) -> None:
        """Factor analysis, then the spread of each factor, the log radius, and how the one grows with the other."""
        self.basis, optimism = self._fit(residuals, groups)
        if residuals.shape[1] - self.loadings.shape[1] < 2:
            raise CortexflowError("a radius needs at least 2 voxels more than factors; choose fewer factors or noise 'factors'")
        z, log_rho = self._coordinates(residuals)  # in units of the corrected uniquenesses: the length's optimism is in them
        self.coupling = optimism.coupling
        self.radius = torch.stack([log_rho.mean() + optimism.length.log(), log_rho.std(correction=0) * optimism.deviation])
        own = (log_rho - log_rho.mean()) * self.coupling
        self.spread = (z * (-own).exp()[:, None]).square().mean(0).sqrt() * optimism.coupled_spread

    def log_prob(self, residuals: Float[Tensor, "trials voxels"]) -> Float[Tensor, " trials"]:
        """Exact log density over all voxels, in nats."""
        z, log_rho = self._coordinates(residuals)
        rest = residuals.shape[1] - z.shape[1]
        mean, deviation = self.radius
        scale = self.spread * (self.coupling * (log_rho - mean)).exp()[:, None]
        factors = (_normal_log_prob(z / scale) - scale.log()).sum(1)
        length = _normal_log_prob((log_rho - mean) / deviation) - deviation.log()
        return factors + length - rest * log_rho - log_sphere(rest) - 0.5 * self.uniquenesses.log().sum()

    def sample(self, n: int) -> Float[Tensor, "n voxels"]:
        """A length, factors that grow with it, and a direction uniform among those without factors."""
        voxels, factors = self.basis.shape
        device = self.basis.device
        stronger = self.radius[1] * torch.randn(n, 1, device=device)
        z = torch.randn(n, factors, device=device) * self.spread * (self.coupling * stronger).exp()
        direction = torch.randn(n, voxels, device=device)
        direction = direction - direction @ self.basis @ self.basis.T
        whitened = z @ self.basis.T + (self.radius[0] + stronger).exp() * direction / direction.norm(dim=1, keepdim=True)
        return whitened * self.uniquenesses.sqrt()

    def covariance(self) -> Float[Tensor, "voxels voxels"]:
        """The covariance of the samples: factor variances in their basis, the mean squared radius in the rest."""
        voxels, factors = self.basis.shape
        square = (2 * self.radius[0] + 2 * self.radius[1].square()).exp() / (voxels - factors)
        along = self.spread.square() * (2 * (self.coupling * self.radius[1]).square()).exp()
        root = self.uniquenesses.sqrt()
        inner = (self.basis * (along - square)) @ self.basis.T + square * torch.eye(voxels, device=root.device)
        return root[:, None] * inner * root

    def _coordinates(self, residuals: Tensor) -> tuple[Tensor, Tensor]:
        return along(residuals / self.uniquenesses.sqrt(), self.basis)


@dataclass(frozen=True)
class Optimism:
    """How trials that factors were not fitted to differ from those that they were: factors on the one, 1 where they do not.

    Found with four fifths of the trials and scaled to all of them, as an excess shrinks with their number.

    Arguments:
        spread: Of each factor's deviation, the strongest first.
        length: Of the length of the rest.
        deviation: Of the deviation of its logarithm.
        coupled_spread: As ``spread``, at a trial of average length.
        coupling: Not a ratio: how the factors grow with the length (the exponent a), in trials not fitted to.
    """

    spread: Float[Tensor, " factors"]
    length: Float[Tensor, ""]
    deviation: Float[Tensor, ""]
    coupled_spread: Float[Tensor, " factors"]
    coupling: Float[Tensor, ""]

    @classmethod
    def of(cls, residuals: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"], factors: int) -> "Optimism":
        """Cross-fit over groups; nothing is corrected where there are too few of them to fit these factors on a part."""
        count = min(FOLDS, len(torch.unique(groups)))
        fold = fold_of(groups, count, 0) if count > 1 else torch.zeros_like(groups)
        if factors >= min(int((fold != part).sum()) for part in range(count)):
            one = residuals.new_ones(())
            return cls(one.expand(factors), one, one, one.expand(factors), 0 * one)
        parts = [cls._part(residuals, fold == part, factors) for part in range(count)]
        z, log_rho, log_rho_fitted = (torch.cat(values) for values in zip(*parts, strict=True))
        centred = log_rho - log_rho.mean()
        coupling = growth(z, centred)
        share = 1 - 1 / count
        return cls(
            z.square().mean(0).sqrt() ** share,
            (log_rho.mean() * share).exp(),
            (log_rho.std(correction=0) / log_rho_fitted.std(correction=0)) ** share,
            (z * (-coupling * centred).exp()[:, None]).square().mean(0).sqrt() ** share,
            coupling,
        )

    @staticmethod
    def _part(residuals: Tensor, held: Tensor, factors: int) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates of held-out trials, and lengths of fitted ones, in units of those of fitted ones."""
        loadings, unique = fit_factors(residuals[~held], factors)
        basis, z, log_rho = _coordinates(residuals[~held], loadings, unique)
        z_held, log_rho_held = along(residuals[held] / unique.sqrt(), basis)
        return z_held / z.square().mean(0).sqrt(), log_rho_held - log_rho.mean(), log_rho - log_rho.mean()


def factor_candidates(trials: int, voxels: int) -> Sequence[int]:
    """Numbers of factors that so many trials and voxels may have."""
    most = min(trials // TRIALS_PER_FACTOR, voxels // 4)
    return [factors for factors in CANDIDATES if factors <= most] or [0]


def make_noise(kind: Kind, voxels: int, factors: int | None = None) -> Noise:
    """The noise of this name.

    Arguments:
        kind: ``diagonal``, ``factors`` or ``factors+radius``.
        voxels: Size of a residual.
        factors: How many; None chooses by held-out likelihood.
    """
    if kind == "diagonal":
        return DiagonalNoise(voxels)
    return FactorNoise(voxels, factors) if kind == "factors" else RadialFactorNoise(voxels, factors)


def _coordinates(residuals: Tensor, loadings: Tensor, unique: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A basis of the whitened factors, the residuals along it, and the log length of their rest."""
    whitened = (loadings / unique.sqrt()[:, None]).double()
    basis = torch.linalg.svd(whitened, full_matrices=False)[0].float()
    return basis, *along(residuals / unique.sqrt(), basis)


def along(
    whitened: Float[Tensor, "trials voxels"], basis: Float[Tensor, "voxels factors"]
) -> tuple[Float[Tensor, "trials factors"], Float[Tensor, " trials"]]:
    """Coordinates along an orthonormal basis, and the log length of what is left."""
    z = whitened @ basis
    # The basis is orthonormal, so the rest's square is a difference; it is formed in float64 because both are large.
    square = whitened.double().square().sum(1) - z.double().square().sum(1)
    return z, 0.5 * square.clamp(min=1e-12).log().to(whitened.dtype)


def growth(z: Float[Tensor, "trials factors"], log_rho: Float[Tensor, " trials"]) -> Float[Tensor, ""]:
    """The exponent a of the highest likelihood, the spreads being free; ``log_rho`` has mean 0, so that only they remain."""
    if not z.shape[1]:
        return z.new_zeros(())
    square, length = z.double().square(), log_rho.double()

    def cost(a: float) -> float:
        return float((square * (-2 * a * length).exp()[:, None]).mean(0).log().sum())

    return z.new_tensor(minimize_scalar(cost, bounds=(-1, 2), method="bounded", options={"xatol": 1e-4}).x)


def _normal_log_prob(values: Tensor) -> Tensor:
    return -0.5 * (values.square() + math.log(2 * math.pi))


def log_sphere(dimensions: int) -> float:
    """Log surface of the unit sphere in this many dimensions."""
    return math.log(2) + dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2)
