"""Is the trial-to-trial variability of visual cortex low-dimensional, with a strength that a trial's voxels share?

Three noises on the same ridge mean, on the simulated cortex whose truth is known. The radius must help where the planted
noise has trial-wise strength, and must not be found where it has none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.standardize import average_repeats
from cortexflow.encoding.base import DensityEncoder, Encoder
from cortexflow.experiments.base import Estimate, Question, estimate, part
from cortexflow.metrics.intervals import resampling_weights, weighted_correlation
from cortexflow.metrics.nulls import derangement
from cortexflow.metrics.variability import within_stimulus_residuals
from cortexflow.metrics.voxelwise import bits_per_voxel, median_over_voxels
from cortexflow.progress import track
from cortexflow.training import Joined, Machine, RunConfig, fit, fit_space, join, open_study, tabulate

NOISES = ("diagonal", "factors", "factors+radius")
HARMLESS = 0.01
SHUFFLES = 10
RATIO = (0.9, 1.15)


class NoiseModels(Question):
    """Bits per voxel of single held-out trials under a diagonal, a factor and a radial noise."""

    title = "Is trial variability low-dimensional, with a strength that voxels share?"
    hypothesis = "Noise is correlated between voxels by some factors, and trials differ in the strength of all their noise."
    prediction = (
        "Where such noise is planted (rich), factors beat diagonal and factors+radius beats factors; where noise is Gaussian the radius is idle."
    )
    test = "Bits per voxel of single trials of held-out images; the mean is the same ridge; differences are paired by image."
    controls = "The Gaussian setting, in which a radius can only harm; the training-mean pattern, which must not predict any voxel across images."
    rule = (
        "Yes if in `rich` both differences lie above 0 in every seed and pooled, in `gaussian` the radius changes less than "
        ".01 bits, and samples vary .9 to 1.15 times as much as repeats; no if a difference lies below 0; else undecided."
    )

    class Config(Choices):
        """Choices of the question: seeds (each its own cortex, pictures and split), and the size of the study."""

        seeds: int = Field(3, ge=1)
        images: int = Field(1150, ge=200)
        voxels: int = Field(600, ge=60)
        draws: int = Field(1000, ge=100)

    config: Config

    def measure(self, folder: Path, machine: Machine) -> Sequence[Estimate]:
        """Differences in bits, variance ratio and the null's r, per setting."""
        found: list[Estimate] = []
        for setting in ("rich", "calibrated", "gaussian"):
            seeds = [self._seed(setting, seed, folder, machine) for seed in track(range(self.config.seeds), setting)]
            for name in seeds[0]:
                unit = "bits/voxel" if "bits" in name else "r" if name.startswith("r,") else "ratio"
                found.append(estimate(f"{setting}: {name}", [one[name] for one in seeds], unit))
        return found

    def decide(self, estimates: Mapping[str, Estimate]) -> tuple[Literal["yes", "no", "undecided"], str]:
        """By the rule above."""
        steps = [estimates[f"rich: bits saved by {name}"] for name in ("factors", "radius")]
        idle = estimates["gaussian: bits saved by radius"]
        ratio = estimates["rich: sample variance / repeat variance"]
        saved = f"rich: factors save {steps[0].value:.3f} and the radius {steps[1].value:.3f} bits per voxel"
        sentence = f"{saved}; gaussian: the radius {idle.value:+.4f}; samples vary {ratio.value:.2f} times as much as repeats"
        if any(step.high < 0 for step in steps):
            return "no", sentence
        fine = all(step.above_zero for step in steps) and idle.within(HARMLESS) and RATIO[0] <= ratio.value <= RATIO[1]
        return ("yes" if fine else "undecided"), sentence

    def _seed(self, setting: str, seed: int, folder: Path, machine: Machine) -> dict[str, Tensor]:
        """The draws of one seed, from the folder where they are there."""
        path = folder / "parts" / f"{setting}-{seed}-{self.config.images}-{self.config.voxels}-{self.config.draws}.safetensors"
        return part(path, lambda: self._compute(setting, seed, machine))

    def _compute(self, setting: str, seed: int, machine: Machine) -> dict[str, Tensor]:
        data = {"name": "simulated", "setting": setting, "seed": seed, "images": self.config.images, "voxels": self.config.voxels}
        config = RunConfig.of({"data": data, "seed": seed})
        study = open_study(config, machine)
        space = fit_space(config, study, machine)
        table = tabulate(space, study, torch.cat([study.training.seen, study.test.seen]).unique(), machine)
        training, test = join(study.training, table), join(study.test, table)

        def fitted(encoder: dict[str, str]) -> Encoder:
            return fit(RunConfig.of({"data": data, "seed": seed, "encoder": encoder}), training, space.levels, study.cortex, None, machine)

        ridges = {noise: fitted({"name": "ridge", "noise": noise}) for noise in NOISES}
        bits = {noise: _bits(ridge, test) for noise, ridge in ridges.items()}
        scores = _scores(bits, test, self.config.draws, seed)
        last = ridges["factors+radius"]
        return (
            scores
            | _accuracy(last, fitted({"name": "null"}), test, self.config.draws, seed)
            | {"sample variance / repeat variance": _ratio(last, test, self.config.draws, seed)}
        )


def _bits(encoder: Encoder, test: Joined) -> Tensor:
    assert isinstance(encoder, DensityEncoder)
    return bits_per_voxel(encoder.log_prob(test.features, test.trials.responses), encoder.voxels)


def _ratio(encoder: Encoder, test: Joined, draws: int, seed: int) -> Tensor:
    """Median over voxels of the variance of samples over the variance across repeats; this noise is the same for all images."""
    samples = encoder.sample(test.features[:1], 2000)[:, 0].double()
    images, row, counts = torch.unique(test.trials.stimuli, return_inverse=True, return_counts=True)
    squares = within_stimulus_residuals(test.trials.responses, test.trials.stimuli).double().square()
    seen = counts[row] > 1
    weights = resampling_weights(len(images), draws, torch.Generator().manual_seed(seed))[:, row[seen]]
    return median_over_voxels(samples.var(0) / (weights @ squares / weights.sum(1, keepdim=True)))


def _scores(bits: Mapping[str, Tensor], test: Joined, draws: int, seed: int) -> dict[str, Tensor]:
    """Bits and their differences, in the estimate and in every draw of images."""
    images, row = torch.unique(test.trials.stimuli, return_inverse=True)
    weights = resampling_weights(len(images), draws, torch.Generator().manual_seed(seed))[:, row]

    def mean(values: Tensor) -> Tensor:
        return weights @ values.double() / weights.sum(1)

    return {f"bits, {noise}": mean(bits[noise]) for noise in NOISES} | {
        "bits saved by factors": mean(bits["diagonal"] - bits["factors"]),
        "bits saved by radius": mean(bits["factors"] - bits["factors+radius"]),
    }


def _accuracy(ridge: Encoder, null: Encoder, test: Joined, draws: int, seed: int) -> dict[str, Tensor]:
    """Median r across images of ridge, of ridge given the wrong images, and of the null."""
    average = average_repeats(test.trials)
    first = torch.stack([(test.trials.stimuli == stimulus).nonzero()[0, 0] for stimulus in average.stimuli])
    features, generator = test.features[first], torch.Generator().manual_seed(seed)
    weights = resampling_weights(len(average), draws, generator)
    cases = {"r, ridge": ridge.predict(features), "r, training-mean pattern": null.predict(features)}
    shuffles = [ridge.predict(features[derangement(len(features), generator)]) for _ in range(SHUFFLES)]
    chance = [median_over_voxels(weighted_correlation(predicted, average.responses, weights)) for predicted in shuffles]
    return {"r, shuffled images": torch.stack(chance).mean(0)} | {
        name: median_over_voxels(weighted_correlation(predicted, average.responses, weights)) for name, predicted in cases.items()
    }
