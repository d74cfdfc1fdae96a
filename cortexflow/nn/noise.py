r"""Trial-to-trial variability: distributions of a residual that does not depend on the image.

Three of them, each a special case of the next:

* ``diagonal``: every voxel for itself, :math:`r_v \sim N(0, \sigma_v^2)`.
* ``factors``: a low-rank plus diagonal Gaussian, :math:`r \sim N(0, \Lambda\Lambda^\top + \Psi)`.
* ``factors+radius``: the factors as above, and of all the rest only the *length* is modelled. With
  :math:`w = \Psi^{-1/2} r`, an orthonormal basis :math:`U` of the whitened factors, :math:`z = U^\top w` and
  :math:`\rho = \lVert w - Uz \rVert`,

  .. math:: z_i \sim N(0, s_i^2), \quad \log\rho \sim N(m, t^2), \quad (w - Uz) / \rho \sim \text{uniform on the unit sphere},

  so that a trial whose noise is larger as a whole is not taken for a surprise in every voxel at once. The density over the
  voxels is exact: with :math:`d = V - k`,
  :math:`\log p(r) = -\tfrac12\sum\log\Psi + \log p(z) + \log p(\log\rho) - d\log\rho - \log S_d`, where
  :math:`S_d = 2\pi^{d/2}/\Gamma(d/2)` is the surface of the sphere.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cortexflow.errors import CortexflowError
from cortexflow.nn.factor_analysis import choose_factors, factor_log_prob, fit_factors

Kind = Literal["diagonal", "factors", "factors+radius"]
CANDIDATES = (1, 2, 3, 5, 8, 12, 18, 27, 40, 64, 96, 128)
TRIALS_PER_FACTOR = 10


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
        """Factor analysis; the number of factors by held-out likelihood unless it was given."""
        factors = choose_factors(residuals, groups, self._candidates(*residuals.shape), factor_log_prob)
        self.loadings, self.uniquenesses = fit_factors(residuals, factors)

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

    def _candidates(self, trials: int, voxels: int) -> Sequence[int]:
        if self.factors is not None:
            return (self.factors,)
        most = min(trials // TRIALS_PER_FACTOR, voxels // 4)
        return [factors for factors in CANDIDATES if factors <= most] or [0]


class RadialFactorNoise(FactorNoise):
    """Factors, and a length for all the rest: heavy or light tails that the voxels share."""

    basis: Tensor
    spread: Tensor
    radius: Tensor

    def __init__(self, voxels: int, factors: int | None = None) -> None:
        super().__init__(voxels, factors)
        self.register_buffer("basis", torch.zeros(voxels, 0))
        self.register_buffer("spread", torch.ones(0))
        self.register_buffer("radius", torch.tensor([0.5 * math.log(voxels), 1.0]))  # mean and deviation of log rho

    def fit(self, residuals: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]) -> None:
        """Factor analysis, then the spread of each factor and of the log radius."""
        super().fit(residuals, groups)
        if residuals.shape[1] - self.loadings.shape[1] < 2:
            raise CortexflowError("a radius needs at least 2 voxels more than factors; choose fewer factors or noise 'factors'")
        whitened = (self.loadings / self.uniquenesses.sqrt()[:, None]).double()
        self.basis = torch.linalg.svd(whitened, full_matrices=False)[0].float()
        z, log_rho = self._coordinates(residuals)
        self.spread = z.square().mean(0).sqrt()
        self.radius = torch.stack([log_rho.mean(), log_rho.std(correction=0)])

    def log_prob(self, residuals: Float[Tensor, "trials voxels"]) -> Float[Tensor, " trials"]:
        """Exact log density over all voxels, in nats."""
        z, log_rho = self._coordinates(residuals)
        rest = residuals.shape[1] - z.shape[1]
        mean, deviation = self.radius
        factors = _normal_log_prob(z / self.spread).sum(1) - self.spread.log().sum()
        length = _normal_log_prob((log_rho - mean) / deviation) - deviation.log()
        return factors + length - rest * log_rho - _log_sphere(rest) - 0.5 * self.uniquenesses.log().sum()

    def sample(self, n: int) -> Float[Tensor, "n voxels"]:
        """Factors, a length, and a direction uniform among those without factors."""
        voxels, factors = self.basis.shape
        device = self.basis.device
        z = torch.randn(n, factors, device=device) * self.spread
        rho = (self.radius[0] + self.radius[1] * torch.randn(n, 1, device=device)).exp()
        direction = torch.randn(n, voxels, device=device)
        direction = direction - direction @ self.basis @ self.basis.T
        whitened = z @ self.basis.T + rho * direction / direction.norm(dim=1, keepdim=True)
        return whitened * self.uniquenesses.sqrt()

    def covariance(self) -> Float[Tensor, "voxels voxels"]:
        """The covariance of the samples: factor variances in their basis, the mean squared radius in the rest."""
        voxels, factors = self.basis.shape
        square = (2 * self.radius[0] + 2 * self.radius[1].square()).exp() / (voxels - factors)
        inner = (self.basis * (self.spread.square() - square)) @ self.basis.T + square * torch.eye(voxels)
        root = self.uniquenesses.sqrt()
        return root[:, None] * inner * root

    def _coordinates(self, residuals: Tensor) -> tuple[Tensor, Tensor]:
        whitened = residuals / self.uniquenesses.sqrt()
        z = whitened @ self.basis
        # The basis is orthonormal, so the rest's square is a difference; it is formed in float64 because both are large.
        square = whitened.double().square().sum(1) - z.double().square().sum(1)
        return z, 0.5 * square.clamp(min=1e-12).log().to(residuals.dtype)


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


def _normal_log_prob(values: Tensor) -> Tensor:
    return -0.5 * (values.square() + math.log(2 * math.pi))


def _log_sphere(dimensions: int) -> float:
    """Log surface of the unit sphere in this many dimensions."""
    return math.log(2) + dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2)
