r"""Which picture, and which features? Bayes' rule through any encoder that has a density.

The encoder says :math:`p(y | x)`; pictures of a gallery, or a Gaussian over features fitted to training pictures, say
:math:`p(x)`. Trials of one picture are independent given it, so that their log densities add. A density that is too sure of
itself is made milder by a temperature T: :math:`\log p(x | y_{1 \dots n}) = \frac{1}{T} \sum_i \log p(y_i | x) + \log p(x) + c`.

For features, a start in closed form takes the encoder to be linear around the mean picture and its noise to be Gaussian; some
gradient steps then climb the true posterior.

References:
    Bayesian reconstruction of natural images from human brain activity (Naselaris et al., 2009).
"""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.nn.factor_analysis import fit_factors

DRAWS, FACTORS = 1000, 40  # synthetic trials that stand for the noise at the mean picture, and the factors they have
STEPS, RATE = 60, 0.02


@runtime_checkable
class Density(Protocol):
    """What is asked of an encoder: the contract of :class:`cortexflow.encoding.base.DensityEncoder`."""

    features: int

    def predict(self, features: Tensor) -> Tensor:
        """The expected response."""

    def sample(self, features: Tensor, n: int = 1) -> Tensor:
        """Synthetic trials."""

    def log_prob(self, features: Tensor, responses: Tensor) -> Tensor:
        """Nats per trial."""

    def eval(self) -> Any:
        """The same, without what is for training alone."""


class BayesianDecoder:
    """Responses to pictures of a gallery, or to features.

    Arguments:
        encoder: Fitted; it is not changed.
        features: Of training pictures, one row each: the prior.
        temperature: Above 1 makes the encoder's densities milder. Fit it on pictures that are not tested on.

    Raises:
        CortexflowError: Features of another size than the encoder's, fewer than two of them, or a temperature that is not positive.
    """

    def __init__(self, encoder: Density, features: Float[Tensor, "pictures features"], temperature: float = 1.0) -> None:
        if features.shape[1] != encoder.features or len(features) < 2:
            have = f"{len(features)} pictures of {features.shape[1]} features"
            raise CortexflowError(f"the prior needs two or more pictures of the encoder's {encoder.features} features, there are {have}")
        if not temperature > 0:
            raise CortexflowError(f"a temperature is above 0, {temperature} was given; 1 leaves densities as they are")
        self.encoder, self.temperature = encoder, temperature
        encoder.eval()
        self.mean = features.mean(0)
        centred = (features - self.mean).double()
        covariance = centred.T @ centred / (len(features) - 1)
        floor = 1e-3 * covariance.diagonal().mean().clamp(min=1e-12)  # directions that few pictures leave empty
        self.precision = torch.linalg.inv(covariance + floor * torch.eye(len(covariance), dtype=torch.float64))

    @torch.no_grad()
    def evidence(
        self, responses: Float[Tensor, "trials voxels"], pictures: Int[Tensor, " trials"], gallery: Float[Tensor, "candidates features"]
    ) -> Float[Tensor, "pictures candidates"]:
        """Log posterior of every candidate, all being equally likely before, from all trials of each picture.

        Arguments:
            responses: Single trials.
            pictures: A number for each trial; trials of equal numbers are of one picture, whichever it is.
            gallery: Features of the candidates.

        Returns:
            Nats, whose exponentials sum to 1 in each row; rows are the numbers in ``pictures``, sorted.
        """
        single = torch.stack([self.encoder.log_prob(one.expand(len(responses), -1), responses) for one in gallery], 1)
        return torch.log_softmax(_summed(single.double(), pictures) / self.temperature, 1)

    def start(self, responses: Float[Tensor, "trials voxels"], pictures: Int[Tensor, " trials"]) -> Float[Tensor, "pictures features"]:
        """The posterior mean of a linear Gaussian encoder: its slope and noise are those at the mean picture."""
        slope, loadings, unique, centre = self._linear()
        told, precision = self._whitened(slope, loadings, unique)
        counts = _summed(torch.ones(len(responses), 1, dtype=torch.float64), pictures)[:, 0]
        evidence = _summed((responses - centre).double() @ told, pictures) / self.temperature
        found = [torch.linalg.solve(self.precision + count / self.temperature * precision, row) for count, row in zip(counts, evidence, strict=True)]
        return (self.mean + torch.stack(found)).float()

    def most_likely(
        self, responses: Float[Tensor, "trials voxels"], pictures: Int[Tensor, " trials"], steps: int = STEPS
    ) -> Float[Tensor, "pictures features"]:
        """The features of the highest posterior, by gradient steps from :meth:`start`; a row never ends below its start."""
        begin = self.start(responses, pictures)
        row = torch.unique(pictures, return_inverse=True)[1]
        features = begin.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([features], lr=RATE * float((1 / self.precision.diagonal()).sqrt().mean()))
        best, highest = begin.clone(), self._posterior(begin, responses, row).detach()
        for _ in range(steps):
            optimiser.zero_grad()
            (-self._posterior(features, responses, row).sum()).backward()
            optimiser.step()
            now = self._posterior(features, responses, row).detach()
            better = now > highest
            best[better], highest[better] = features.detach()[better], now[better]
        return best

    def _posterior(self, features: Tensor, responses: Tensor, row: Tensor) -> Float[Tensor, " pictures"]:
        likelihood = _summed(self.encoder.log_prob(features[row], responses)[:, None].double(), row)[:, 0]
        away = (features - self.mean).double()
        return likelihood / self.temperature - 0.5 * ((away @ self.precision) * away).sum(1)

    def _linear(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Slope (features × voxels), loadings and uniquenesses of the noise, and the expected response, at the mean picture."""
        mean = self.mean[None]
        slope = torch.autograd.functional.jacobian(lambda x: self.encoder.predict(x)[0], mean)[:, 0]
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            centre = self.encoder.predict(mean)[0]
            noise = self.encoder.sample(mean, DRAWS)[:, 0] - centre
        loadings, unique = fit_factors(noise, min(FACTORS, noise.shape[1] // 4))
        return slope.T.detach(), loadings, unique, centre

    @staticmethod
    def _whitened(slope: Tensor, loadings: Tensor, unique: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse covariance of the noise times the slope (voxels × features), and the slope's square in it, by Woodbury."""
        steep, loadings, unique = slope.double().T, loadings.double(), unique.double()[:, None]
        inner = torch.eye(loadings.shape[1], dtype=torch.float64) + loadings.T @ (loadings / unique)
        told = steep / unique - loadings / unique @ torch.linalg.solve(inner, loadings.T @ (steep / unique))
        return told, steep.T @ told


def _summed(values: Float[Tensor, "trials columns"], pictures: Int[Tensor, " trials"]) -> Float[Tensor, "pictures columns"]:
    """Sums over the trials of each picture, pictures sorted."""
    known, row = torch.unique(pictures, return_inverse=True)
    return values.new_zeros(len(known), values.shape[1]).index_add(0, row, values)
