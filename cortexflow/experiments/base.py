"""One question, one file: what is believed, what would count, and what decides is written down before any number."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from rich.console import Console
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.errors import DamagedFileError
from cortexflow.report.finding import write_finding
from cortexflow.storage import load_metadata, load_tensors, save_sealed_json, save_tensors
from cortexflow.training import Machine, made_of

REVISION = 2  # of what the package's own models and simulations compute: raise it whenever their numbers change


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
        value: The mean over seeds, each the mean over its subjects.
        low: The lower end of its interval.
        high: The upper end.
        over: What the interval resamples: "images", "images and seeds", "images, subjects and seeds" …
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


def estimate(name: str, draws: Sequence[Float[Tensor, "*subjects draws"]], unit: str = "", seed: int = 0, over: str | None = None) -> Estimate:
    """Combine seeds: each draw of the interval resamples the seeds, in each of them its subjects, and takes their bootstrap draw.

    Subjects of one seed must have seen the same pictures and share the draws of them (the weights have one seed), so that
    what a draw of pictures does to all of them at once is kept. Few seeds or subjects give too short an interval: of three,
    none lies outside their range.

    Arguments:
        name: What it is, in words.
        draws: For every seed the estimate followed by its bootstrap draws over images, as many for each; of several subjects
            one row each.
        unit: Of the value.
        seed: Of the resampling of seeds and subjects.
        over: What is resampled, in words; by default what the shapes say.

    Example:
        Two seeds without any spread over images, ``[torch.tensor([1.0, 1.0, …]), torch.tensor([3.0, 3.0, …])]``: value 2,
        interval [1, 3], because a draw picks seed 1 twice with chance 1/4, and seed 2 as often.
    """
    every = torch.stack([one.reshape(-1, one.shape[-1]).double() for one in draws])
    generator = torch.Generator().manual_seed(seed)
    alone = [_quantiles(_resampled(one[None], generator)) for one in every]
    value = every[:, :, 0].mean(1)
    each = tuple((float(middle), *ends) for middle, ends in zip(value, alone, strict=True))
    return Estimate(name, float(value.mean()), *_quantiles(_resampled(every, generator)), over or _what(*every.shape[:2]), each, unit)


def finished(path: Path) -> bool:
    """Whether a part is there whose numbers this revision of the code would compute again.

    Raises:
        DamagedFileError: The file is damaged.
    """
    return path.is_file() and load_metadata(path).get("revision") == REVISION  # parts from before there were revisions have none


def part(path: Path, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What an earlier call of this revision left in this file; else what is computed now, and left there.

    Arguments:
        path: Its name must hold every choice that the numbers follow from.
        compute: Named tensors.

    Raises:
        DamagedFileError: The file is damaged, or was written under another name.
    """
    if not finished(path):
        save_tensors(path, compute(), {"part": path.name, "revision": REVISION})
    tensors, about = load_tensors(path)
    if about.get("part", path.name) != path.name:
        raise DamagedFileError(f"{path} holds the numbers of {about['part']}; delete it, it will be computed again")
    return tensors


def _resampled(every: Float[Tensor, "seeds subjects draws"], generator: torch.Generator) -> Float[Tensor, " resampled"]:
    """Draw by draw, the mean over seeds and subjects that were picked with replacement."""
    seeds, subjects, count = every.shape[0], every.shape[1], every.shape[2] - 1
    seed = torch.randint(seeds, (count, seeds, 1), generator=generator)
    subject = torch.randint(subjects, (count, seeds, subjects), generator=generator)
    return every[seed, subject, torch.arange(1, count + 1)[:, None, None]].mean((1, 2))


def _quantiles(draws: Tensor) -> tuple[float, float]:
    return float(draws.quantile(0.025)), float(draws.quantile(0.975))


def _what(seeds: int, subjects: int) -> str:
    words = ["images"] + ["subjects"] * (subjects > 1) + ["seeds"] * (seeds > 1)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


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
    chosen_after: ClassVar[str | None] = None  # what was chosen after numbers of the test side had been seen, said on the page

    @abstractmethod
    def measure(self, folder: Path, machine: Machine) -> Sequence[Estimate]:
        """Every number that the question asks for; parts already in ``folder`` are not computed again."""

    @abstractmethod
    def decide(self, estimates: Mapping[str, Estimate]) -> tuple[Literal["yes", "no", "undecided"], str]:
        """The verdict by the rule, and the sentence that says why."""

    def figure(self, estimates: Sequence[Estimate]) -> Figure | None:
        """A picture of the question's own, above those of all estimates; none by default."""

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
            "chosen_after": self.chosen_after,
            **asdict(finding),
            "config": self.config.model_dump(mode="json"),
            "made": made_of(machine, time.perf_counter() - began),
        }
        save_sealed_json(folder / "finding.json", content)
        page = write_finding(folder, self.figure(estimates))
        for one in estimates:
            console.print(f"  {one.name}: {one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}] {one.unit}")
        console.print(f"[bold]{verdict}[/bold]: {why}\n{page}")

    def plan(self) -> dict[str, str]:
        """The sentences that were written before."""
        return {name: getattr(self, name) for name in ("hypothesis", "prediction", "test", "controls", "rule")}
