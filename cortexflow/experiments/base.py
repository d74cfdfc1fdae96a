"""One question, one file: what is believed, what would count, and what decides is written down before any number."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from rich.console import Console
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.report.finding import write_finding
from cortexflow.storage import save_json
from cortexflow.training import Machine, made_of


class Experiment(ABC):
    """Something that runs from data to a page by one command, ``cortexflow run NAME --out DIR``.

    Arguments:
        config: The choices; defaults where absent.
    """

    class Config(Choices):
        """Choices of an experiment."""

    title: ClassVar[str]

    def __init__(self, config: Choices | None = None) -> None:
        self.config = config if config is not None else self.Config()

    @abstractmethod
    def run(self, folder: Path, machine: Machine) -> None:
        """Do everything and leave the results in ``folder``; a second call continues where the first one stopped."""


@dataclass(frozen=True)
class Estimate:
    """One number that a question turns on.

    Arguments:
        name: What it is, in words.
        value: The mean over seeds (or subjects).
        low: The lower end of its interval.
        high: The upper end.
        over: What the interval resamples: "images", "images and seeds" …
        each: The value, low and high of every seed, in their order.
        unit: Of the value.
    """

    name: str
    value: float
    low: float
    high: float
    over: str
    each: tuple[tuple[float, float, float], ...]
    unit: str = ""

    @property
    def above_zero(self) -> bool:
        """Whether the interval, and that of every seed, lies above zero."""
        return self.low > 0 and all(low > 0 for _, low, _ in self.each)

    def within(self, bound: float) -> bool:
        """Whether the interval lies between minus and plus ``bound``."""
        return -bound <= self.low and self.high <= bound


def estimate(name: str, draws: Sequence[Float[Tensor, " draws"]], unit: str = "", seed: int = 0) -> Estimate:
    """Combine seeds: each draw of the interval resamples the seeds, then takes a bootstrap draw of each.

    Arguments:
        name: What it is, in words.
        draws: For every seed the estimate followed by its bootstrap draws over images, as many for each.
        unit: Of the value.
        seed: Of the resampling of seeds.
    """
    each = tuple((float(one[0]), float(one[1:].quantile(0.025)), float(one[1:].quantile(0.975))) for one in draws)
    every = torch.stack([one[1:] for one in draws])
    picked = torch.randint(len(draws), every.T.shape, generator=torch.Generator().manual_seed(seed))
    pooled = every.T.gather(1, picked).mean(1)
    over = "images" if len(draws) == 1 else "images and seeds"
    value = sum(value for value, _, _ in each) / len(each)
    return Estimate(name, value, float(pooled.quantile(0.025)), float(pooled.quantile(0.975)), over, each, unit)


@dataclass(frozen=True)
class Finding:
    """What came out of a question.

    Arguments:
        verdict: By the rule that was written before.
        why: One sentence that applies the rule to the estimates.
        estimates: Every number of the question, also those that do not decide.
    """

    verdict: Literal["yes", "no", "undecided"]
    why: str
    estimates: Sequence[Estimate]


class Question(Experiment):
    """An experiment that ends in a verdict. The five sentences stand before any number is computed."""

    hypothesis: ClassVar[str]
    prediction: ClassVar[str]
    test: ClassVar[str]
    controls: ClassVar[str]
    rule: ClassVar[str]

    @abstractmethod
    def measure(self, folder: Path, machine: Machine) -> Sequence[Estimate]:
        """Every number that the question asks for; parts already in ``folder`` are not computed again."""

    @abstractmethod
    def decide(self, estimates: Mapping[str, Estimate]) -> tuple[Literal["yes", "no", "undecided"], str]:
        """The verdict by the rule, and the sentence that says why."""

    def run(self, folder: Path, machine: Machine) -> None:
        """Print the plan, measure, decide, and write ``finding.json`` and ``finding.html``."""
        console = Console()
        for name, sentence in self.plan().items():
            console.print(f"[bold]{name}[/bold]: {sentence}")
        began = time.perf_counter()
        estimates = self.measure(folder, machine)
        verdict, why = self.decide({one.name: one for one in estimates})
        finding = Finding(verdict, why, estimates)
        content = {
            "question": self.title,
            **self.plan(),
            **asdict(finding),
            "config": self.config.model_dump(mode="json"),
            "made": made_of(machine, time.perf_counter() - began),
        }
        save_json(folder / "finding.json", content)
        page = write_finding(folder)
        for one in estimates:
            console.print(f"  {one.name}: {one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}] {one.unit}")
        console.print(f"[bold]{verdict}[/bold]: {why}\n{page}")

    def plan(self) -> dict[str, str]:
        """The sentences that were written before."""
        return {name: getattr(self, name) for name in ("hypothesis", "prediction", "test", "controls", "rule")}
