r"""Noise along the signal: a gain per trial, shared by all areas or each area's own, on what the picture is expected to evoke.

Where the response to a picture, :math:`\mu`, comes with a gain :math:`1 + \epsilon` of variance g, the noise of that picture has more variance
along :math:`\mu`. In coordinates whose covariance over all pictures is the identity, with m the coordinates of :math:`\mu`,

.. math:: \operatorname{cov}(v | m) = I - g \langle m m^\top \rangle + g \, m m^\top = A (I + g \, b b^\top) A^\top, \quad
            A A^\top = I - g \langle m m^\top \rangle, \quad b = A^{-1} m,

so that the mean over pictures stays. The triangular root of :math:`I + g b b^\top` has a closed form in running sums: with
:math:`s_i = 1 + g \sum_{j \le i} b_j^2`,

.. math:: u_i = \sqrt{s_{i-1} / s_i} \left(v_i - g \, b_i \sum_{j < i} b_j v_j / s_{i-1}\right),

and being triangular it keeps the order of the areas. One number per gain is fitted, by likelihood; one that does not pay for
itself (half the logarithm of the number of trials) is 0.

References:
    Partitioning neuronal variability (Goris, Movshon and Simoncelli, 2014), for multiplicative gain.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

LARGEST = 0.95  # share of what the mean covariance allows


class SignalGain(nn.Module):
    """A shared gain, then one for each area; everything it learns is a buffer."""

    gains: Tensor
    roots: Tensor
    widths: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gains", torch.zeros(2))  # variances: of the shared gain, then of the areas' own
        self.register_buffer("roots", torch.eye(2)[None].repeat(2, 1, 1))  # A of the shared gain, and of those of all areas together
        self.register_buffer("widths", torch.tensor([2]))

    @torch.no_grad()
    def fit(
        self, coordinates: Float[Tensor, "trials coordinates"], signal: Float[Tensor, "trials coordinates"], widths: Sequence[int]
    ) -> Float[Tensor, "trials coordinates"]:
        """Learn the gains, and say where the trials lie once they are taken out.

        Arguments:
            coordinates: Of trials, with the identity as covariance.
            signal: Of what each trial's picture is expected to evoke, less the mean over pictures.
            widths: Coordinates of each area.
        """
        self.widths = torch.tensor(list(widths))
        shared, root = _fitted(coordinates, signal)
        rest, told = _solve(root, coordinates), _solve(root, signal)
        rest, _ = whiten(rest, told, torch.tensor(shared))
        found = [_fitted(part, own) for part, own in zip(rest.split(list(widths), 1), told.split(list(widths), 1), strict=True)]
        self.gains = torch.tensor([shared, *(gain for gain, _ in found)])
        self.roots = torch.stack([root, torch.block_diag(*(own for _, own in found))])
        return self(coordinates, signal)[0]

    def forward(
        self, coordinates: Float[Tensor, "trials coordinates"], signal: Float[Tensor, "trials coordinates"]
    ) -> tuple[Float[Tensor, "trials coordinates"], Float[Tensor, " trials"]]:
        """Coordinates without the gains, and the log determinant of the step, in nats."""
        first, told = _solve(self.roots[0], coordinates), _solve(self.roots[0], signal)
        first, volume = whiten(first, told, self.gains[0])
        second, told = _solve(self.roots[1], first), _solve(self.roots[1], told)
        parts = [whiten(part, own, gain) for part, own, gain in zip(self._areas(second), self._areas(told), self.gains[1:], strict=True)]
        fixed = self.roots.diagonal(dim1=1, dim2=2).log().sum()
        return torch.cat([part for part, _ in parts], 1), volume + torch.stack([one for _, one in parts]).sum(0) - fixed

    def inverse(self, rest: Float[Tensor, "trials coordinates"], signal: Float[Tensor, "trials coordinates"]) -> Float[Tensor, "trials coordinates"]:
        """Coordinates with the gains."""
        told = _solve(self.roots[0], signal)
        deeper = _solve(self.roots[1], told)
        parts = [colour(part, own, gain) for part, own, gain in zip(self._areas(rest), self._areas(deeper), self.gains[1:], strict=True)]
        first = torch.cat(parts, 1) @ self.roots[1].T
        return colour(first, told, self.gains[0]) @ self.roots[0].T

    def _areas(self, values: Tensor) -> Sequence[Tensor]:
        return values.split(self.widths.tolist(), 1)


def whiten(
    values: Float[Tensor, "trials coordinates"], signal: Float[Tensor, "trials coordinates"], gain: Float[Tensor, ""]
) -> tuple[Float[Tensor, "trials coordinates"], Float[Tensor, " trials"]]:
    """Take a covariance I + g b bᵀ to the identity by its triangular root.

    Returns:
        The whitened values, and the log determinant, in nats.
    """
    upto, before = _sums(signal, gain)
    along = (signal * values).cumsum(1) - signal * values
    return (before / upto).sqrt() * (values - gain * signal * along / before), -0.5 * upto[:, -1].log()


def colour(
    values: Float[Tensor, "trials coordinates"], signal: Float[Tensor, "trials coordinates"], gain: Float[Tensor, ""]
) -> Float[Tensor, "trials coordinates"]:
    """The inverse of :func:`whiten`."""
    upto, before = _sums(signal, gain)
    step = signal * values / (upto * before).sqrt()
    return gain * signal * (step.cumsum(1) - step) + (upto / before).sqrt() * values


def _sums(signal: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    upto = 1 + gain * signal.square().cumsum(1)
    return upto, upto - gain * signal.square()


def _fitted(values: Tensor, signal: Tensor) -> tuple[float, Tensor]:
    """The gain's variance of the highest likelihood, and the root of what it leaves to all pictures alike."""
    mean = (signal.double().T @ signal.double()) / len(signal)
    eye = torch.eye(len(mean), dtype=torch.float64)
    largest = LARGEST / max(float(torch.linalg.eigvalsh(mean)[-1]), 1e-9)

    def cost(gain: float) -> float:
        root = torch.linalg.cholesky(eye - gain * mean)
        white, volume = whiten(_solve(root, values.double()), _solve(root, signal.double()), torch.tensor(gain, dtype=torch.float64))
        return float(0.5 * white.square().sum() - volume.sum() + len(values) * root.diagonal().log().sum())

    best = minimize_scalar(cost, bounds=(0, largest), method="bounded", options={"xatol": 1e-4 * largest})
    gain = float(best.x) if cost(0.0) - best.fun > 0.5 * math.log(len(values)) else 0.0
    return gain, torch.linalg.cholesky(eye - gain * mean).to(values.dtype)


def _solve(root: Tensor, values: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(root, values.T, upper=False).T
