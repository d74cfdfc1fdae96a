r"""Factor analysis of residuals: a covariance that is low-rank plus diagonal, :math:`\Lambda\Lambda^\top + \Psi`.

The likelihood is maximised by alternating two exact steps: given the uniquenesses, the loadings are the leading
eigenvectors of the whitened covariance; given the loadings, the uniquenesses are what is left on the diagonal. The
eigenvectors are followed from one round to the next by subspace iteration, so that a voxels × voxels matrix is formed only
where it is the smaller of the two ways.

References:
    A rapidly convergent descent method for minimization (Jöreskog, 1967, for the alternating solution);
    Mixtures of probabilistic principal component analysers (Tipping & Bishop, 1999, for its eigenvector form).
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.nn.least_squares import fold_of

SMALLEST_UNIQUENESS = 0.005  # share of a voxel's variance: below, the likelihood runs away (Heywood case)


def fit_factors(
    residuals: Float[Tensor, "trials voxels"], factors: int, *, rounds: int = 100, tolerance: float = 1e-4
) -> tuple[Float[Tensor, "voxels factors"], Float[Tensor, " voxels"]]:
    """Loadings and uniquenesses of zero-mean residuals.

    Arguments:
        residuals: What a mean leaves of single trials, in response units; its mean is taken to be zero.
        factors: How many, at least 0 and fewer than trials and voxels.
        rounds: Alternations at most.
        tolerance: Stop when no uniqueness changes by more than this share of its voxel's variance.

    Returns:
        Loadings (response units, ordered by the variance they carry in units of the noise), and uniquenesses (variances).

    Raises:
        CortexflowError: As many factors as trials or voxels, or more; or a voxel without variance.
    """
    trials, voxels = residuals.shape
    if not 0 <= factors < min(trials, voxels):
        raise CortexflowError(f"{factors} factors were asked of {trials} trials × {voxels} voxels; choose fewer than both")
    variance = residuals.double().square().mean(0)
    if not bool((variance > 0).all()):
        raise CortexflowError(f"{int((variance <= 0).sum())} voxels have no residual variance; drop constant voxels before fitting")
    if factors == 0:
        return torch.zeros(voxels, 0), variance.float()
    scale = variance.sqrt()
    multiply = _covariance_product(residuals, scale)
    unique = torch.full((voxels,), 0.5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(voxels, factors, dtype=torch.float64, generator=generator))[0]
    for _ in range(rounds):
        basis, values = _leading(multiply, unique, basis)
        loadings = unique.sqrt()[:, None] * basis * (values - 1).clamp(min=0).sqrt()
        update = (1 - loadings.square().sum(1)).clamp(SMALLEST_UNIQUENESS, 1)
        change = (update - unique).abs().max()
        unique = update
        if change < tolerance:
            break
    return (loadings * scale[:, None]).float(), (unique * variance).float()


def choose_factors(
    residuals: Float[Tensor, "trials voxels"],
    groups: Int[Tensor, " trials"],
    candidates: Sequence[int],
    log_prob: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> int:
    """The candidate number of factors with the highest likelihood on a fifth of the groups that was not fitted.

    Arguments:
        residuals: Cross-fitted residuals of single trials.
        groups: What must not be split (the stimulus of each trial).
        candidates: Numbers of factors to try.
        log_prob: ``log_prob(residuals, loadings, uniquenesses)`` in nats per trial.
    """
    if len(candidates) == 1:
        return candidates[0]
    held = fold_of(groups, min(5, len(torch.unique(groups))), 0) == 0
    possible = [factors for factors in candidates if factors < min(int((~held).sum()), residuals.shape[1])]
    scores = [float(log_prob(residuals[held], *fit_factors(residuals[~held], factors)).mean()) for factors in possible]
    return possible[max(range(len(scores)), key=scores.__getitem__)]


def factor_log_prob(
    residuals: Float[Tensor, "trials voxels"], loadings: Float[Tensor, "voxels factors"], uniquenesses: Float[Tensor, " voxels"]
) -> Float[Tensor, " trials"]:
    """Log density of a zero-mean Gaussian with this covariance, in nats, by the Woodbury identity."""
    whitened = residuals / uniquenesses.sqrt()
    basis = (loadings / uniquenesses.sqrt()[:, None]).double()
    inner = torch.eye(basis.shape[1], dtype=torch.float64, device=basis.device) + basis.T @ basis
    root = torch.linalg.cholesky(inner)
    explained = torch.linalg.solve_triangular(root, (whitened @ basis.to(whitened.dtype)).double().T, upper=False).square().sum(0)
    distance = whitened.double().square().sum(1) - explained
    log_det = uniquenesses.double().log().sum() + 2 * root.diagonal().log().sum()
    return (-0.5 * (distance + log_det + residuals.shape[1] * math.log(2 * math.pi))).to(residuals.dtype)


def _covariance_product(residuals: Tensor, scale: Tensor) -> Callable[[Tensor], Tensor]:
    """Multiplication by the residuals' correlation matrix: formed once where small, else two passes over the trials."""
    trials, voxels = residuals.shape
    if voxels <= max(1000, trials):
        scaled = residuals.double() / scale
        matrix = scaled.T @ scaled / trials
        return lambda right: matrix @ right
    scaled = residuals / scale.float()  # float32: the passes are many and the error is far below the sampling error
    return lambda right: (scaled.T @ (scaled @ right.float())).double() / trials


def _leading(multiply: Callable[[Tensor], Tensor], unique: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Two steps of subspace iteration towards the leading eigenvectors of the whitened correlation matrix."""
    root = unique.sqrt()[:, None]
    for _ in range(2):
        basis = torch.linalg.qr(multiply(basis / root) / root)[0]
    projected = basis.T @ (multiply(basis / root) / root)
    values, vectors = torch.linalg.eigh((projected + projected.T) / 2)
    return basis @ vectors.flip(1), values.flip(0)
