"""Does a distribution describe single trials better than its mean alone, and does it predict as well?

Four models on the same trials and features: ridge with a distribution of factors and a radius, ridge as a deterministic mean with
independent noise, a multilayer perceptron (another mean, the same distribution), and the training-mean pattern.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.experiments.base import Estimate, Question, estimate, part
from cortexflow.experiments.comparison import Comparison
from cortexflow.progress import track
from cortexflow.storage import fingerprint
from cortexflow.training import Machine, RunConfig, open_study

MODELS = {
    "distribution": {"name": "ridge", "noise": "factors+radius"},
    "mean alone": {"name": "ridge", "noise": "diagonal"},
    "mlp": {"name": "mlp", "noise": "factors+radius"},
    "training-mean pattern": {"name": "null", "noise": "factors+radius"},
}
SCORES = {"bits": "bits/voxel", "r": "r", "two_way": "share of pairs"}
SHORT = {"bits": "bits", "r": "r", "two_way": "two-way"}
AS_WELL = 0.01  # r, or share of pairs


class EncodingAccuracy(Question):
    """Bits of single trials, r and two-way identification of a distribution, a mean with independent noise, an mlp and the null."""

    title = "Does a distribution describe single trials better than its mean alone, and does it predict as well?"
    hypothesis = (
        "The noise that voxels share can be described without loss of accuracy: a distribution around a linear mean gives single "
        "trials a higher density than the same mean with independent noise, and its expectation predicts as well as any other."
    )
    prediction = (
        "The distribution saves bits over the mean alone, in a simulation near its own form (calibrated) and in one outside it "
        "(image_covariance); its r and two-way identification are within .01 of the mean alone and not below those of an mlp."
    )
    test = (
        "Single trials of held-out pictures (bits) and their average over repeats (median r across pictures, two-way "
        "identification); differences are paired by picture; intervals resample pictures, subjects and seeds."
    )
    controls = (
        "The training-mean pattern with the same distribution, which must lose bits against ridge and reach r = 0: a distribution "
        "alone is no prediction. Ridge has the same mean with either noise, so that their equal r checks the code and no more."
    )
    rule = (
        "Yes if in every setting the distribution saves bits over the mean alone (interval above 0, pooled and in every seed) and its "
        "r and two-way lie at most .01 below those of the mean alone and of the mlp (whole interval); no if it costs bits, or "
        "one of these lies more than .01 below (whole interval); else undecided."
    )

    class Config(Choices):
        """Choices of the question: settings of the simulation, seeds (each its own pictures), subjects of each, and sizes."""

        settings: tuple[str, ...] = Field(("calibrated", "image_covariance"), min_length=1)
        seeds: int = Field(3, ge=1)
        subjects: int = Field(3, ge=1)
        images: int = Field(650, ge=200)
        voxels: int = Field(300, ge=60)
        draws: int = Field(1000, ge=100)

    config: Config

    def measure(self, folder: Path, machine: Machine) -> Sequence[Estimate]:
        """Scores of every model, and how far the distribution is ahead of each other, per setting."""
        machine = replace(machine, cache=machine.cache or folder / "features")
        found: list[Estimate] = []
        for setting in self.config.settings:
            seeds = [self._seed(setting, seed, folder, machine) for seed in track(range(self.config.seeds), setting)]
            found += [estimate(f"{setting}: {SHORT[score]}, {model}", draws, SCORES[score]) for (model, score), draws in _levels(seeds).items()]
            found += [estimate(f"{setting}: {name}", draws, unit) for (name, unit), draws in _gains(seeds).items()]
        return found

    def decide(self, estimates: Mapping[str, Estimate]) -> tuple[Literal["yes", "no", "undecided"], str]:
        """By the rule above."""
        settings = self.config.settings
        saved = [estimates[f"{setting}: bits saved over mean alone"] for setting in settings]
        rivals = [f"{SHORT[score]} gained over {other}" for score in ("r", "two_way") for other in ("mean alone", "mlp")]
        ahead = [estimates[f"{setting}: {name}"] for setting in settings for name in rivals]
        parts = [f"{one.value:.3f} bits per voxel in {setting}" for setting, one in zip(settings, saved, strict=True)]
        least = min((one for one in ahead if one.name.endswith("mlp")), key=lambda one: one.value)  # over the same mean it is 0
        sentence = f"Over the mean alone the distribution saves {' and '.join(parts)}; the least it gains over the mlp is "
        sentence += f"{least.value:+.3f} [{least.low:+.3f}, {least.high:+.3f}] ({least.name.removesuffix(' gained over mlp')})"
        if any(one.high < 0 for one in saved) or any(one.high < -AS_WELL for one in ahead):
            return "no", sentence
        fine = all(one.above_zero for one in saved) and all(one.low > -AS_WELL for one in ahead)
        return ("yes" if fine else "undecided"), sentence

    def _seed(self, setting: str, seed: int, folder: Path, machine: Machine) -> list[dict[str, Tensor]]:
        """What each subject of a seed scores; subjects of one seed saw the same pictures and share their draws."""
        size = fingerprint([self.config.images, self.config.voxels, self.config.draws, MODELS])
        found = []
        for number in range(1, self.config.subjects + 1):
            subject = f"subj{number:02d}"
            path = folder / "parts" / f"{setting}-{seed}-{subject}-{size}.safetensors"
            found.append(part(path, partial(self._compute, setting, seed, subject, machine)))
        return found

    def _compute(self, setting: str, seed: int, subject: str, machine: Machine) -> dict[str, Tensor]:
        data = {"name": "simulated", "setting": setting, "seed": seed, "images": self.config.images, "voxels": self.config.voxels}
        # as many subjects as asked, and never fewer than the default, so that features are kept for all of them
        config = RunConfig.of({"data": {**data, "subjects": max(3, self.config.subjects)}, "subject": subject, "seed": seed})
        comparison = Comparison.of(config, open_study(config, machine), machine, self.config.draws)
        found: dict[str, Tensor] = {}
        for name, choice in MODELS.items():
            encoder = comparison.fitted(choice)
            row = comparison.accuracy(encoder)
            found |= {f"{name}.bits": comparison.bits(encoder)} | {f"{name}.{score}": row.scores[score, "all"] for score in ("r", "two_way")}
        return found


def _levels(seeds: Sequence[Sequence[Mapping[str, Tensor]]]) -> dict[tuple[str, str], list[Tensor]]:
    """By model and score, the draws of every seed, subjects × draws."""
    return {
        (model, score): [torch.stack([subject[f"{model}.{score}"] for subject in subjects]) for subjects in seeds]
        for score in SCORES
        for model in MODELS
    }


def _gains(seeds: Sequence[Sequence[Mapping[str, Tensor]]]) -> dict[tuple[str, str], list[Tensor]]:
    """By name and unit, how far the distribution is ahead; above 0 it is the better one."""
    levels, gains = _levels(seeds), {}
    for score in SCORES:
        for other in list(MODELS)[1 : None if score == "bits" else -1]:  # that the null predicts nothing is seen in its level
            pairs = zip(levels["distribution", score], levels[other, score], strict=True)
            change = "saved" if score == "bits" else "gained"
            gains[f"{SHORT[score]} {change} over {other}", f"{SCORES[score]} {change}"] = [(b - a) if score == "bits" else (a - b) for a, b in pairs]
    return gains
