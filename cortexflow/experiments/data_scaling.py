r"""How does accuracy grow with the number of training pictures, and would more of them still help?

Ridge is fitted to the first 50, 100, 200 … training pictures of one random order and scored on the same held-out ones. The
median correlation is described by a power law,

.. math:: r(n) = r_\infty - a \, n^{-b},

whose limit and exponent have intervals of their own: the law is fitted anew to every draw of pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from pydantic import Field, field_validator
from scipy.optimize import curve_fit
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.encoding.base import Encoder
from cortexflow.experiments.base import Estimate, Question, estimate, part
from cortexflow.experiments.comparison import Comparison
from cortexflow.metrics.nulls import derangement
from cortexflow.progress import track
from cortexflow.report.canvas import KINDS, MUTED, new_figure, styled
from cortexflow.storage import fingerprint
from cortexflow.training import Machine, RunConfig, Study, open_study

HELD_OUT, SHUFFLES = 150, 10
MISS = 0.02  # r: a law that is off by more does not tell what more pictures would bring
LOWER, UPPER = (0.0, 0.0, 0.05), (1.0, 2.0, 3.0)  # of the limit, of what is missing from it in the middle, and of the exponent
AHEAD = 4  # times the most pictures: how far the figure follows the law


class DataScaling(Question):
    """Median r and bits against the number of training pictures, with a power law."""

    title = "How does accuracy grow with the number of training pictures, and would more of them still help?"
    hypothesis = "Accuracy follows a power law in the number of training pictures, and has not reached its limit at the most we have."
    prediction = (
        "Median r still rises from the last size but one to the last; the law of all sizes but the last predicts r at the last to within .02."
    )
    test = (
        "Ridge (factors+radius) on nested sets of training pictures; median r of repeat averages and bits of single trials, always of the "
        "same held-out pictures; the law is fitted to every draw of pictures; intervals resample pictures, subjects and seeds."
    )
    controls = "At the last size, ridge given the features of other pictures, and the training-mean pattern: their r must be 0."
    rule = (
        "Yes if the last step raises r (interval above 0, pooled and in every seed) and the law misses the last size by less than .02 (whole "
        "interval); no if the last step lowers r, or the miss is larger than .02 (whole interval); else undecided."
    )

    class Config(Choices):
        """Choices of the question: sizes of the training set, simulation, seeds (each its own pictures), subjects and voxels."""

        sizes: tuple[int, ...] = Field((50, 100, 200, 400, 800), min_length=5)
        setting: str = "calibrated"
        seeds: int = Field(3, ge=1)
        subjects: int = Field(2, ge=1)
        voxels: int = Field(300, ge=60)
        draws: int = Field(1000, ge=100)

        @field_validator("sizes")
        @classmethod
        def _rising(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
            if sizes[0] < 10 or any(b <= a for a, b in pairwise(sizes)):
                raise ValueError(f"sizes must rise from 10 pictures or more, they are {sizes}")
            return sizes

    config: Config

    def measure(self, folder: Path, machine: Machine) -> Sequence[Estimate]:
        """r and bits at every size, the law's three numbers, its miss at the last size, and the controls."""
        machine = replace(machine, cache=machine.cache or folder / "features")
        seeds = [self._seed(seed, folder, machine) for seed in track(range(self.config.seeds), "seeds")]
        sizes = self.config.sizes
        named = {f"r, {size} pictures": ("r", seeds_of(seeds, f"r.{size}")) for size in sizes}
        named |= {f"bits, {size} pictures": ("bits/voxel", seeds_of(seeds, f"bits.{size}")) for size in sizes}
        pairs = [(f"{a} to {b} pictures", a, b) for a, b in pairwise(sizes)]
        named |= {f"r gained, {words}": ("r gained", seeds_of(seeds, f"r.{b}", f"r.{a}")) for words, a, b in pairs}
        named |= {f"bits saved, {words}": ("bits/voxel saved", seeds_of(seeds, f"bits.{a}", f"bits.{b}")) for words, a, b in pairs}
        named |= {"r, features of other pictures": ("r", seeds_of(seeds, "r.other")), "r, training-mean pattern": ("r", seeds_of(seeds, "r.null"))}
        named |= {
            "r_inf, the limit": ("r", seeds_of(seeds, "law.limit")),
            "a, the law's scale": ("r at one picture", seeds_of(seeds, "law.scale")),
            "b, the law's exponent": ("exponent", seeds_of(seeds, "law.exponent")),
            f"r at {sizes[-1]} pictures minus the law of smaller sizes": ("r missed", seeds_of(seeds, "law.miss")),
        }
        return [estimate(name, draws, unit) for name, (unit, draws) in named.items()]

    def decide(self, estimates: Mapping[str, Estimate]) -> tuple[Literal["yes", "no", "undecided"], str]:
        """By the rule above."""
        before, last = self.config.sizes[-2:]
        step, miss = estimates[f"r gained, {before} to {last} pictures"], estimates[f"r at {last} pictures minus the law of smaller sizes"]
        limit, exponent = estimates["r_inf, the limit"], estimates["b, the law's exponent"]
        law = f"the law's limit is {limit.value:.3f} [{limit.low:.3f}, {limit.high:.3f}] and its exponent {exponent.value:.2f}"
        sentence = f"From {before} to {last} pictures r changes by {step.value:+.3f}; the law of the smaller sizes misses by {miss.value:+.3f}; {law}"
        if step.high < 0 or miss.low > MISS or miss.high < -MISS:
            return "no", sentence
        return ("yes" if step.above_zero and miss.within(MISS) else "undecided"), sentence

    def figure(self, estimates: Sequence[Estimate]) -> Figure:
        """r with the law, and bits, against the number of pictures."""
        named, sizes = {one.name: one for one in estimates}, self.config.sizes
        r, bits = ([named[f"{kind}, {size} pictures"] for size in sizes] for kind in ("r", "bits"))
        return plot_scaling(sizes, r, bits, named["r_inf, the limit"])

    def _seed(self, seed: int, folder: Path, machine: Machine) -> list[dict[str, Tensor]]:
        """What each subject of a seed scores, and the law of it."""
        config = self.config
        size = fingerprint([config.sizes, config.voxels, config.draws])
        found = []
        for number in range(1, config.subjects + 1):
            subject = f"subj{number:02d}"
            path = folder / "parts" / f"{config.setting}-{seed}-{subject}-{size}.safetensors"
            found.append(part(path, partial(self._compute, seed, subject, machine)))
        return found

    def _compute(self, seed: int, subject: str, machine: Machine) -> dict[str, Tensor]:
        """Scores at every size and their law. Responses are z-scored once, so that bits of all sizes have one unit."""
        sizes = self.config.sizes
        data = {"name": "simulated", "setting": self.config.setting, "seed": seed, "voxels": self.config.voxels}
        data |= {"images": HELD_OUT + sizes[-1], "held_out": HELD_OUT, "subjects": max(3, self.config.subjects)}
        config = RunConfig.of({"data": data, "subject": subject, "seed": seed})
        study = open_study(config, machine)
        scores: dict[str, Tensor] = {}
        for size in sizes:
            comparison = Comparison.of(config, _smaller(study, size, seed), machine, self.config.draws)
            ridge = comparison.fitted({"name": "ridge", "noise": "factors+radius"})
            scores |= {f"r.{size}": comparison.accuracy(ridge).scores["r", "all"], f"bits.{size}": comparison.bits(ridge)}
        null = comparison.fitted({"name": "null"})
        scores |= {"r.null": comparison.accuracy(null).scores["r", "all"], "r.other": _chance(comparison, ridge, seed)}
        return scores | laws(sizes, torch.stack([scores[f"r.{size}"] for size in sizes], 1))


def laws(sizes: Sequence[int], r: Float[Tensor, "draws sizes"]) -> dict[str, Float[Tensor, " draws"]]:
    """The law of every draw, and how far the last size lies from the law of the others.

    Arguments:
        sizes: Numbers of training pictures, at least five.
        r: The estimate at each size, followed by its bootstrap draws.
    """
    n, curves = np.array(sizes, dtype=float), r.double().numpy()
    whole, part_of = fit_law(n, curves[0]), fit_law(n[:-1], curves[0, :-1])
    laws = torch.from_numpy(np.stack([fit_law(n, curve, whole) for curve in curves]))
    last = np.array([law(n[-1], *fit_law(n[:-1], curve[:-1], part_of)) for curve in curves])
    return {f"law.{name}": laws[:, column] for column, name in enumerate(("limit", "scale", "exponent"))} | {
        "law.miss": torch.from_numpy(curves[:, -1] - last)
    }


def law(n: Float[np.ndarray, "*sizes"] | float, limit: float, scale: float, exponent: float) -> Float[np.ndarray, "*sizes"]:
    r""":math:`r_\infty - a \, n^{-b}`.

    Example:
        A limit of .5, a scale of 2 and an exponent of .5 at n = 100: .5 − 2 / 10 = .3.
    """
    return np.asarray(_power(np.asarray(n, dtype=float), limit, scale, exponent))


def fit_law(n: Float[np.ndarray, " sizes"], r: Float[np.ndarray, " sizes"], start: np.ndarray | None = None) -> Float[np.ndarray, "3"]:
    """Limit, scale and exponent by least squares, every size alike, within bounds that hold for any correlations.

    The limit is in [0, 1], what is missing from it at the geometric middle of ``n`` in [0, 2], and the exponent in [.05, 3].

    Arguments:
        n: Numbers of pictures, at least three.
        r: What was reached with each.
        start: A solution for similar numbers, to start from.
    """
    middle = float(np.exp(np.log(n).mean()))
    # Around the middle size the three numbers are nearly independent; at one picture scale and exponent are as good as one.
    first = (float(r[-1]) + 0.05, 0.1, 0.5) if start is None else (start[0], start[1] * middle ** -start[2], start[2])
    inside = np.clip(first, np.array(LOWER) + 1e-6, np.array(UPPER) - 1e-6)
    limit, missing, exponent = curve_fit(_power, n / middle, r, p0=inside, bounds=(LOWER, UPPER), jac=_slopes, max_nfev=10_000)[0]
    return np.array([limit, missing * middle**exponent, exponent])


# The two that the fit calls some hundred thousand times carry no types, which the tests would check at every call.
def _power(n, limit, scale, exponent):
    return limit - scale * n**-exponent


def _slopes(n, limit, scale, exponent):
    power = n**-exponent
    return np.stack([np.ones_like(n), -power, scale * power * np.log(n)], 1)


def seeds_of(seeds: Sequence[Sequence[Mapping[str, Tensor]]], name: str, less: str | None = None) -> list[Tensor]:
    """Of every seed, subjects × draws of one number, or of its difference from another."""
    return [torch.stack([one[name] - one[less] if less else one[name] for one in subjects]) for subjects in seeds]


@styled
def plot_scaling(sizes: Sequence[int], r: Sequence[Estimate], bits: Sequence[Estimate], limit: Estimate) -> Figure:
    """r and bits with their intervals; thin lines are laws fitted to the r of single seeds, broken beyond the last size.

    Arguments:
        sizes: Numbers of training pictures.
        r: Median r at each size.
        bits: Bits per voxel at each size.
        limit: Of the law, the mean over seeds and subjects.
    """
    figure = new_figure(9.2, 3.5)
    left, right = figure.subplots(1, 2)
    for ax, found, label in ((left, r, "median r across held-out pictures"), (right, bits, "bits per voxel of single trials")):
        ax.vlines(sizes, [one.low for one in found], [one.high for one in found], color=KINDS["model"], linewidth=2)
        ax.plot(sizes, [one.value for one in found], "o", color=KINDS["model"], markersize=5)
        ax.set_xscale("log")
        ax.set_xlabel("training pictures")
        ax.set_ylabel(label)
    right.plot(sizes, [one.value for one in bits], color=KINDS["model"], linewidth=1)
    inside, beyond = np.geomspace(sizes[0], sizes[-1]), np.geomspace(sizes[-1], AHEAD * sizes[-1])
    for seed in range(len(limit.each)):
        one = fit_law(np.array(sizes, dtype=float), np.array([size.each[seed][0] for size in r]))
        left.plot(inside, law(inside, *one), color=MUTED, linewidth=0.8)
        left.plot(beyond, law(beyond, *one), color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    left.axhspan(limit.low, limit.high, color=KINDS["reference"], alpha=0.15, linewidth=0)
    left.axhline(limit.value, color=KINDS["reference"], linewidth=1)
    left.annotate("limit of the law", (sizes[0], limit.value), xytext=(0, 3), textcoords="offset points", fontsize=8, color=KINDS["reference"])
    for ax in (left, right):
        shown = [*sizes, AHEAD * sizes[-1]] if ax is left else list(sizes)
        ax.set_xticks(shown, [f"{size}" for size in shown])
        ax.minorticks_off()
    return figure


def _smaller(study: Study, size: int, seed: int) -> Study:
    """The study with the first so many training pictures of one random order."""
    pictures = torch.unique(study.training.stimuli)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    return replace(study, training=study.training.of(pictures[order[:size]]))


def _chance(comparison: Comparison, encoder: Encoder, seed: int) -> Tensor:
    """r of the same model given the features of other held-out pictures, mean over ways to shuffle them."""
    features, generator = comparison.test.features, torch.Generator().manual_seed(seed)
    shuffled = [features[derangement(len(features), generator)] for _ in range(SHUFFLES)]
    return torch.stack([comparison.accuracy(encoder, one).scores["r", "all"] for one in shuffled]).mean(0)
