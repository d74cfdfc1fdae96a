"""CortexFlow: ridge owns the mean, a normalizing flow owns the noise.

The mean is ridge on the features. What it leaves of a trial is described, area by area, by how strong each of a few factors is
and by the length of all the rest (:mod:`cortexflow.nn.radial_coordinates`). A conditional flow that goes along the chain of
areas is the density of these numbers (:mod:`cortexflow.nn.chain_flow`), so that the density over all voxels is exact, and a sample
takes one pass. Where trials are few the flow stays what it is before training, a closed form.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, PositiveFloat
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.encoding.base import DensityEncoder
from cortexflow.errors import CortexflowError
from cortexflow.nn.banded import PENALTIES, BandedRidge, Per
from cortexflow.nn.chain_flow import ChainFlow
from cortexflow.nn.cortical_graph import Smoother
from cortexflow.nn.factor_analysis import choose_factors, factor_log_prob
from cortexflow.nn.least_squares import RidgeFit
from cortexflow.nn.noise import factor_candidates
from cortexflow.nn.radial_coordinates import RadialCoordinates
from cortexflow.nn.signal_gain import SignalGain

FEW_TRIALS, MANY_TRIALS = 1000, 10_000
SMALLEST_AREA = 8  # voxels: two factors, and a rest that has a direction
LOUDEST = 5.0  # a sample may exceed the largest coordinate of training so many times
CALM = (0.8, 1.25)  # variance of samples over that of trials


class FlowEncoder(DensityEncoder):
    """A linear mean, factors and lengths per area, and a conditional flow over them.

    References:
        Design and measurements: ``docs/cortexflow.md``. Real NVP (Dinh et al., 2017).
    """

    class Config(Choices):
        """Choices of the flow; None is decided by the number of trials.

        Arguments:
            stages: "areas" in the order V1, V2, V3, hV4, higher, or "one" block; "auto" is one block below 1,000 trials.
            factors: Of the factor analysis over all voxels; None by held-out likelihood.
            per_area: Factors whose strength is modelled in each area.
            couplings: Layers per area; 0 leaves the closed form.
            width: Units of their hidden layers.
            context: What a picture is to the flow, in numbers.
            bound: Of the log scale of a coupling.
            squash: Earlier areas are seen through s tanh(u / s).
            dropout: Of the network that looks at the features.
            penalties: Of the mean, as in ridge.
            penalty_per: As in ridge.
            folds: As in ridge.
            smooth: Whether weights may be drawn towards those of neighbours on the cortex.
            gain: Whether the noise may grow along what the picture evokes.
        """

        stages: Literal["auto", "areas", "one"] = "auto"
        factors: int | None = Field(None, ge=0)
        per_area: int | None = Field(None, ge=1)
        couplings: int | None = Field(None, ge=0)
        width: int | None = Field(None, ge=1)
        context: int | None = Field(None, ge=1)
        bound: PositiveFloat = 0.7
        squash: PositiveFloat = 3.0
        dropout: float = Field(0.2, ge=0, lt=1)
        penalties: tuple[PositiveFloat, ...] = PENALTIES
        penalty_per: Per = "auto"
        folds: int = Field(5, ge=2)
        gain: bool = True
        smooth: bool = True

    reduces = True
    config: Config
    weights: Tensor
    intercept: Tensor
    centre: Tensor
    penalties: Tensor
    training_r: Tensor
    plan: Tensor
    loudest: Tensor
    smoothness: Tensor
    trials: Tensor

    def __init__(self, features: int, voxels: int, config: Choices | None = None, **context: Any) -> None:
        super().__init__(features, voxels, config, **context)
        self.register_buffer("weights", torch.zeros(features, voxels))
        self.register_buffer("intercept", torch.zeros(voxels))
        self.register_buffer("centre", torch.zeros(voxels))  # the mean expected response
        self.register_buffer("penalties", torch.ones(voxels))
        self.register_buffer("training_r", torch.zeros(voxels))
        self.register_buffer("plan", torch.tensor([0, 1, 1]))  # couplings per area, their width, the context's size
        self.register_buffer("loudest", torch.tensor(1.0))
        self.register_buffer("smoothness", torch.tensor(0.0))  # of the area that has most of it
        self.register_buffer("trials", torch.tensor(0))  # that it was fitted to
        self.coordinates, self.gain = RadialCoordinates(voxels), SignalGain()
        self.flow: ChainFlow | None = None

    def solve(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]) -> None:
        """The closed form: mean, factors, lengths, and their covariance."""
        self._solve(features, responses, groups)

    def reduce(
        self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"], groups: Int[Tensor, " trials"]
    ) -> Float[Tensor, "trials coordinates"]:
        """The closed form, and where each trial lies as if it had been fitted to the others; the flow is trained on these."""
        coordinates = self._solve(features, responses, groups)
        self.loudest = coordinates.abs().max()
        self._choose(len(responses))
        return coordinates

    def reduced_loss(self, features: Float[Tensor, "trials features"], coordinates: Float[Tensor, "trials coordinates"]) -> Float[Tensor, ""]:
        """Negative log-likelihood of the coordinates, nats per voxel: that of the responses without what training cannot change."""
        return -self._log_prob(features, coordinates).mean() / self.voxels

    def grow(self, state: Mapping[str, Tensor]) -> None:
        """Make the flow that a stored state has, unless it is there: an optimiser may hold its parameters."""
        if self.flow is None and any(name.startswith("flow.") for name in state):
            self.plan, self.coordinates.sizes = state["plan"], state["coordinates.sizes"]
            self._grow()

    @torch.no_grad()
    def sound(self, features: Float[Tensor, "trials features"], coordinates: Float[Tensor, "trials coordinates"]) -> bool:
        """Whether samples are like trials: finite, not much louder than the loudest, as variable; also for features twice as strong."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            usual, strong = self._draw(features), self._draw(2 * features)
        ratio = usual.var(0).sum() / coordinates.var(0).sum()
        quiet = all(bool(drawn.isfinite().all()) and drawn.abs().max() < LOUDEST * self.loudest for drawn in (usual, strong))
        return quiet and CALM[0] < float(ratio) < CALM[1]

    def predict(self, features: Float[Tensor, "trials features"]) -> Float[Tensor, "trials voxels"]:
        """The linear mean."""
        return features @ self.weights + self.intercept

    def log_prob(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"]) -> Float[Tensor, " trials"]:
        """Exact log density over all voxels, in nats."""
        mean = self.predict(features)
        coordinates, volume = self.coordinates(responses - mean)
        steady, gained = self.gain(coordinates, self.coordinates.signal(mean - self.centre))
        return self._log_prob(features, steady) + gained + volume

    def sample(self, features: Float[Tensor, "trials features"], n: int = 1) -> Float[Tensor, "n trials voxels"]:
        """Coordinates from the flow, a direction for the rest, and the mean."""
        normal = torch.randn(n * len(features), len(self.coordinates.mean), device=features.device)
        return self.from_noise(features.repeat(n, 1), normal).reshape(n, len(features), self.voxels)

    def notes(self) -> tuple[str, ...]:
        """Stages and factors, gains, and whether there is a trained flow over them."""
        sizes = ", ".join(f"{name} {size}" for name, size in zip(self.stages, self.coordinates.sizes.tolist(), strict=True))
        gains = [f"{name} {gain:.2f}" for name, gain in zip(["shared", *self.stages], self.gain.gains.sqrt().tolist(), strict=True) if gain]
        couplings, trials = int(self.plan[0]), int(self.trials)
        if couplings:
            flow = f"A flow of {couplings} couplings per stage was trained over the closed form, and stopped on held-out pictures."
        else:
            why = "as was asked" if self.config.couplings == 0 else f"{trials} training trials are fewer than {FEW_TRIALS}"
            flow = f"Couplings are off ({why}): the density is the closed form."
        if self.flow is not None and self._at_rest():
            flow = f"A flow of {couplings} couplings per stage was trained and fitted held-out pictures no better than the closed form, which stands."
        said = f"Noise: factors per stage of the chain: {sizes}; deviation of a gain on the signal: {', '.join(gains) or 'none found'}."
        mean = f"Mean: ridge; weights drawn towards those of neighbours on the cortex with a strength of up to {float(self.smoothness):g}."
        return mean, said, flow

    @property
    def stages(self) -> dict[str, Bool[Tensor, " voxels"]]:
        """The areas of the fitted chain by name, early ones first; areas that were joined have joined names."""
        masks = [self.coordinates.stage == number for number in range(len(self.coordinates.sizes))]
        chain = self.cortex.chain() if self.cortex is not None and len(masks) > 1 else {"all": torch.ones(self.voxels, dtype=torch.bool)}
        return {"+".join(name for name, area in chain.items() if bool((area & mask).any())): mask for mask in masks}

    def to_noise(
        self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"]
    ) -> tuple[Float[Tensor, "trials coordinates"], Float[Tensor, "trials voxels"]]:
        """What a trial is beside its picture: the inverse of :meth:`from_noise`.

        Returns:
            Standard normal numbers, area by area (a trial of usual noise has 0), and where the rest of each area points.
        """
        mean = self.predict(features)
        coordinates, _ = self.coordinates(responses - mean)
        steady, _ = self.gain(coordinates, self.coordinates.signal(mean - self.centre))
        normal = steady if self.flow is None else self.flow.to_normal(features, steady)
        return normal, self.coordinates.directions(responses - mean)

    def from_noise(
        self,
        features: Float[Tensor, "trials features"],
        normal: Float[Tensor, "trials coordinates"],
        directions: Float[Tensor, "trials voxels"] | None = None,
    ) -> Float[Tensor, "trials voxels"]:
        """The trial that has this noise; directions are drawn where they are absent."""
        mean = self.predict(features)
        steady = normal if self.flow is None else self.flow.from_normal(features, normal)
        coordinates = self.gain.inverse(steady, self.coordinates.signal(mean - self.centre))
        return mean + self.coordinates.residuals(coordinates, directions)

    def sample_given(
        self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"], stage: str, n: int = 1
    ) -> Float[Tensor, "n trials voxels"]:
        """Synthetic trials whose areas up to a stage answered as they did: had V1 answered so, how would the later areas?

        Arguments:
            features: Of the pictures.
            responses: Measured; only voxels up to the stage are used, and they come back as they are.
            stage: A name of :attr:`stages`.
            n: Trials for each row. Seeded by ``torch.manual_seed``.

        Raises:
            CortexflowError: There is no such stage.
        """
        names = list(self.stages)
        if stage not in names:
            raise CortexflowError(f"the chain has no stage {stage!r}; choose from {', '.join(names)}")
        known = names.index(stage) + 1
        answered = self.coordinates.stage < known
        told = torch.where(answered, responses, self.predict(features) + self.coordinates.deviation)  # the others' values do not count
        normal, directions = (values.repeat(n, 1) for values in self.to_noise(features, told))
        drawn, columns = torch.randn_like(normal), sum(self.coordinates.widths[:known])
        normal = torch.cat([normal[:, :columns], drawn[:, columns:]], 1)
        directions = torch.where(answered, directions, torch.randn_like(directions))
        return self.from_noise(features.repeat(n, 1), normal, directions).reshape(n, len(features), self.voxels)

    def _solve(self, features: Tensor, responses: Tensor, groups: Tensor) -> Float[Tensor, "trials coordinates"]:
        fit = self._smoothed(self._regression().fit(features, responses, groups), responses)
        self.weights, self.intercept, self.penalties, self.training_r = fit.weights, fit.intercept, fit.penalties, fit.scores
        assert fit.held_out is not None
        self.trials = torch.tensor(len(responses))
        residuals = responses - fit.held_out
        factors = self.config.factors
        if factors is None:
            factors = choose_factors(residuals, groups, factor_candidates(*residuals.shape), factor_log_prob)
        stages = self._stages(len(responses))
        sizes = [min(self._per_area(len(responses), factors), int(stage.sum()) // 4) for stage in stages]
        coordinates = self.coordinates.fit(residuals, groups, _root(features, fit.weights), stages, factors, sizes)
        self.centre = fit.held_out.mean(0)
        signal = self.coordinates.signal(fit.held_out - self.centre) if self.config.gain else torch.zeros_like(coordinates)
        return self.gain.fit(coordinates, signal, self.coordinates.widths)

    def _smoothed(self, fit: RidgeFit, responses: Tensor) -> RidgeFit:
        """Weights drawn towards those of neighbours, where voxels have places and it predicts better."""
        positions = None if self.cortex is None else self.cortex.flat if self.cortex.flat is not None else self.cortex.coordinates
        if not self.config.smooth or positions is None or self.cortex is None:
            return fit
        assert fit.held_out is not None
        smoother = Smoother(positions, [stage & band for stage in self.cortex.chain().values() for band, _ in self.bands])  # levels stay unseen
        smoother.fit(fit.held_out, responses)
        self.smoothness = torch.tensor(max(smoother.strengths, default=0.0))
        return replace(fit, weights=smoother(fit.weights), intercept=smoother(fit.intercept), held_out=smoother(fit.held_out))

    def _log_prob(self, features: Tensor, coordinates: Tensor) -> Tensor:
        if self.flow is None:
            return torch.distributions.Normal(0.0, 1.0).log_prob(coordinates).sum(1)
        return self.flow.log_prob(features, coordinates)

    def _at_rest(self) -> bool:
        assert self.flow is not None
        probe = torch.ones(2, len(self.coordinates.mean))
        with torch.no_grad():
            told = self.flow.log_prob(torch.zeros(2, self.features), probe)
        return bool(torch.allclose(told, torch.distributions.Normal(0.0, 1.0).log_prob(probe).sum(1), atol=1e-4))

    def _draw(self, features: Tensor) -> Tensor:
        if self.flow is None:
            return torch.randn(len(features), len(self.coordinates.mean), device=features.device)
        return self.flow.sample(features)

    def _choose(self, trials: int) -> None:
        """How large the flow is."""
        few, many = trials < FEW_TRIALS, trials >= MANY_TRIALS
        couplings = self.config.couplings if self.config.couplings is not None else 0 if few else 4
        width, context = self.config.width or (192 if many else 96), self.config.context or (96 if many else 48)
        self.plan = torch.tensor([couplings, width, context])
        if couplings:
            self._grow()

    def _grow(self) -> None:
        layers, width, context = self.plan.tolist()
        options = {"bound": self.config.bound, "squash": self.config.squash, "dropout": self.config.dropout}
        self.flow = ChainFlow(self.features, self.coordinates.widths, layers=layers, width=width, context=context, **options)

    def _per_area(self, trials: int, factors: int) -> int:
        if self.config.per_area is not None:
            return self.config.per_area
        return min(64, max(factors, 6 if trials < FEW_TRIALS else 24))

    def _stages(self, trials: int) -> list[Bool[Tensor, " voxels"]]:
        """The chain's areas; those too small for a length of their own are joined to the next one."""
        whole = [torch.ones(self.voxels, dtype=torch.bool)]
        one = self.config.stages == "one" or (self.config.stages == "auto" and trials < FEW_TRIALS)
        if one or self.cortex is None:
            return whole
        stages: list[Tensor] = []
        for stage in self.cortex.chain().values():
            if stages and min(int(stages[-1].sum()), int(stage.sum())) < SMALLEST_AREA:
                stages[-1] = stages[-1] | stage
            else:
                stages.append(stage)
        return stages

    def _regression(self) -> BandedRidge:
        areas = list(self.cortex.areas.values()) if self.cortex is not None else []
        return BandedRidge(self.bands, self.levels, areas, self.config.penalties, self.config.penalty_per, folds=self.config.folds)


def _root(features: Tensor, weights: Tensor) -> Float[Tensor, "voxels features"]:
    """A root of the covariance of the expected responses."""
    values, vectors = torch.linalg.eigh(torch.cov(features.T.double()).reshape(features.shape[1], -1))
    return weights.T @ (vectors * values.clamp(min=0).sqrt()).float()
