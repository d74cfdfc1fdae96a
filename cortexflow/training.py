"""Joins trials and features by stimulus, fits any model, checkpoints and resumes.

A run is a folder: ``run.json`` (the resolved configuration), ``provenance.json`` (what made it), ``space.safetensors`` (how
pictures become features), ``metrics.jsonl`` (the training log), ``state.safetensors`` (where training stands) and, once it
is finished, ``encoder.safetensors``. Every file is whole or absent.
"""

import json
import math
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field, ValidationError, field_validator
from torch import Tensor

import cortexflow
from cortexflow.catalog import Choices, configure, explain
from cortexflow.data.base import Cortex, Dataset, Trials
from cortexflow.data.standardize import usable_voxels, zscore_sessions
from cortexflow.encoding.base import Encoder, adopt, load_encoder
from cortexflow.encoding.levels import Plan, assign, bands
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.features.base import Features
from cortexflow.features.cache import FeatureCache
from cortexflow.features.space import FeatureSpace, load_space
from cortexflow.features.table import FeatureTable
from cortexflow.parallel import World, run_all
from cortexflow.progress import track
from cortexflow.storage import (
    checksum,
    fingerprint,
    load_json,
    load_metadata,
    load_sealed_json,
    load_tensors,
    replacing,
    save_json,
    save_sealed_json,
    save_tensors,
)

CHECKED = 500  # validation trials whose samples are looked at after an epoch
BESIDE = ("run.json", "space.safetensors", "voxels.safetensors", "metrics.jsonl")  # what a finished encoder vouches for


class Optimisation(Choices):
    """Gradient descent by AdamW with a one-cycle learning rate, stopped on validation pictures."""

    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    epochs: int = Field(60, ge=1)
    batch: int = Field(256, ge=1)
    patience: int = Field(10, ge=1)
    clip: float = Field(1.0, gt=0)
    validation: float = Field(0.1, gt=0, lt=1)


class RunConfig(Choices):
    """Everything that decides a result, and nothing that belongs to the machine.

    ``data``, ``features`` and ``encoder`` name an entry of their room and its options: ``{"name": "ridge", "factors": 40}``,
    or the name alone. ``area`` keeps the voxels of an area (or of several, joined by commas). ``components`` keeps that many
    principal components of every feature level (None keeps all). ``zscore`` takes the statistics of each session from its
    "training" trials or from "all" of them, or leaves the responses as they are ("none"). ``bad_voxels`` says what happens
    to constant and non-finite voxels. ``levels`` says which feature levels each area may see: a plan of
    :mod:`cortexflow.encoding.levels`, or the levels by area, ``{"V1": ["gabor"], "IT": ["resnet.stage4"]}``.
    """

    data: dict[str, Any] = Field(default_factory=lambda: {"name": "simulated"})
    subject: str = "subj01"
    area: str | None = None
    features: list[dict[str, Any]] = Field(default_factory=lambda: [{"name": "gabor"}], min_length=1)
    components: int | None = Field(100, ge=1)
    encoder: dict[str, Any] = Field(default_factory=lambda: {"name": "ridge"})
    levels: Plan | dict[str, list[str]] = "all"
    zscore: Literal["training", "all", "none"] = "training"
    bad_voxels: Literal["error", "drop"] = "error"
    training: Optimisation = Optimisation()
    seed: int = Field(0, ge=0, lt=2**31)

    @field_validator("data", "encoder", mode="before")
    @classmethod
    def _named(cls, choice: Any, info: Any) -> Any:
        default = {"data": "simulated", "encoder": "ridge"}[info.field_name]
        if isinstance(choice, dict):
            return {"name": default, **choice}
        return {"name": choice} if isinstance(choice, str) else choice

    @field_validator("features", mode="before")
    @classmethod
    def _all_named(cls, choices: Any) -> Any:
        listed = [choices] if isinstance(choices, (str, dict)) else choices
        return [{"name": choice} if isinstance(choice, str) else choice for choice in listed] if isinstance(listed, list) else listed

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> "RunConfig":
        """A checked configuration with every default written out.

        Raises:
            CortexflowError: A misspelt key, an unknown entry, or a value out of range; the message lists what there is.
        """
        if not isinstance(tree, Mapping) or not all(isinstance(key, str) for key in tree):
            raise CortexflowError(f"a configuration maps names to choices; options are {', '.join(cls.model_fields)}")
        try:
            config = cls(**tree)
        except ValidationError as error:
            raise CortexflowError(explain(error, "configuration", cls)) from error
        resolved = {
            "data": _resolve("data", config.data),
            "encoder": _resolve("encoding", config.encoder),
            "features": [_resolve("features", choice) for choice in config.features],
        }
        return config.model_copy(update=resolved)

    @property
    def title(self) -> str:
        """The model in a few words: ``ridge (factors+radius)``."""
        plan = self.levels if isinstance(self.levels, str) else "by area"
        about = [self.encoder.get("noise"), f"levels {plan}" if plan != "all" else None]
        return self.encoder["name"] + (f" ({words})" if (words := ", ".join(word for word in about if word)) else "")


@dataclass(frozen=True)
class Machine:
    """What belongs to a machine and never to a recipe.

    Arguments:
        device: ``cpu``, ``cuda``, ``cuda:1`` …
        data: The folder that holds one folder per study.
        cache: The folder for features; None computes them anew each time.
    """

    device: str = "cpu"
    data: Path | None = None
    cache: Path | None = None

    def root(self, study: str) -> Path | None:
        """The folder of a study's files."""
        return self.data / study if self.data is not None else None


def open_dataset(choice: Mapping[str, Any], machine: Machine) -> Dataset:
    """The dataset of this name and these options, with its files where this machine keeps them."""
    entry, config = configure("data", choice)
    return entry(config, machine.root(entry.folder(config) or choice["name"]))


@dataclass(frozen=True)
class Study:
    """The trials of one subject, standardised and split by picture.

    Arguments:
        dataset: Where the pictures come from.
        cortex: The voxels that are used.
        training: Trials of training pictures.
        test: Trials of held-out pictures.
        kept: Which of the study's voxels are used.
        dropped: How many bad voxels were left out.
    """

    dataset: Dataset
    cortex: Cortex
    training: Trials
    test: Trials
    kept: Bool[Tensor, " voxels"]
    dropped: int


def open_study(config: RunConfig, machine: Machine) -> Study:
    """Read a subject, drop or refuse bad voxels, z-score, and split by picture.

    Raises:
        CortexflowError: Unknown subject, voxels that disagree, bad voxels, an empty side, or a picture on both sides.
    """
    dataset = open_dataset(config.data, machine)
    dataset.check_subject(config.subject)
    trials, cortex = dataset.trials(config.subject), dataset.cortex(config.subject)
    if trials.voxels != cortex.voxels:
        raise CortexflowError(f"{config.subject}: responses have {trials.voxels} voxels and the cortex {cortex.voxels}; use the same mask for both")
    kept = cortex.area(config.area) if config.area is not None else torch.ones(trials.voxels, dtype=torch.bool)
    if not kept.any():
        raise CortexflowError(f"{config.subject} has no voxels in {config.area}; choose from {', '.join(cortex.areas)}")
    trials, cortex = trials.only(kept), cortex.only(kept)
    held = torch.isin(trials.stimuli, dataset.held_out())
    statistics = None if config.zscore == "all" else ~held
    good = usable_voxels(trials, statistics)
    if not good.all():
        what = f"{config.subject}: {int((~good).sum())} of {trials.voxels} voxels are constant within a session or not finite"
        if config.bad_voxels == "error" or not good.any():
            raise CortexflowError(f"{what}; check the response files, or leave such voxels out with -s bad_voxels=drop")
        trials, cortex = trials.only(good), cortex.only(good)
        kept[kept.clone()] = good
    if config.zscore != "none":
        trials = zscore_sessions(trials, statistics)
    training, test = trials.where(~held), trials.where(held)
    check_split(training, test)
    return Study(dataset, cortex, training, test, kept, int((~good).sum()))


def check_split(training: Trials, test: Trials) -> None:
    """Raises CortexflowError where a side is empty or a picture (or what must not be split) is on both sides."""
    for name, side in (("training", training), ("test", test)):
        if len(side) == 0:
            raise CortexflowError(f"{side.subject} has no {name} trials; choose another split or subject")
    for what in ("stimuli", "groups"):
        shared = torch.unique(getattr(training, what)[torch.isin(getattr(training, what), getattr(test, what))])
        if len(shared):
            raise CortexflowError(f"{len(shared)} {what} are on both sides of the split (the first is {int(shared[0])}); hold out whole pictures")


@dataclass(frozen=True)
class Joined:
    """Trials with their features: what a model sees. Joined by stimulus id."""

    trials: Trials
    features: Float[Tensor, "trials features"]

    def where(self, rows: Bool[Tensor, " trials"]) -> "Joined":
        """Some of the trials."""
        return Joined(self.trials.where(rows), self.features[rows])


def join(trials: Trials, table: FeatureTable) -> Joined:
    """Features for each trial: those of its stimulus, or of the stimuli it answers, weighted by its exposure."""
    if trials.exposure is not None:
        return Joined(trials, trials.exposure.mix(table[trials.exposure.stimuli]))
    return Joined(trials, table[trials.stimuli])


def make_features(config: RunConfig) -> list[Features]:
    """The extractors of a run."""
    made = [configure("features", choice) for choice in config.features]
    return [entry(choices) for entry, choices in made]


def fit_space(config: RunConfig, study: Study, machine: Machine) -> FeatureSpace:
    """How pictures become features, with the statistics of training pictures only."""
    space = FeatureSpace(make_features(config), FeatureSpace.Config(components=config.components))
    pictures = torch.unique(study.training.stimuli)
    return space.fit(space.on_disk(FeatureCache(machine.cache), study.dataset, pictures, device=machine.device))


def tabulate(space: FeatureSpace, study: Study, stimuli: Int[Tensor, " stimuli"], machine: Machine) -> FeatureTable:
    """The features of these stimuli."""
    return FeatureTable(stimuli, space.of_dataset(FeatureCache(machine.cache), study.dataset, stimuli, device=machine.device))


def split_validation(joined: Joined, share: float, seed: int) -> tuple[Joined, Joined]:
    """Training and validation trials; whole pictures go to validation, chosen by the seed."""
    groups = torch.unique(joined.trials.groups)
    count = max(1, round(share * len(groups)))
    if count >= len(groups):
        raise CortexflowError(f"{len(groups)} training pictures are too few to hold out {count} for validation; record or include more")
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))
    held = torch.isin(joined.trials.groups, groups[order[:count]])
    return joined.where(~held), joined.where(held)


@dataclass(frozen=True)
class Run:
    """A run's folder and what it says of itself."""

    folder: Path
    config: RunConfig

    @classmethod
    def load(cls, folder: Path | str) -> "Run":
        """Open a finished run.

        Raises:
            CortexflowError: No run there, or one that has not been finished.
            DamagedFileError: A file is not the one with which the run was finished.
        """
        folder = Path(folder)
        if not (folder / "run.json").is_file():
            raise CortexflowError(f"{folder} is not a run (it has no run.json); make one with: cortexflow train --out {folder}")
        if not (folder / "encoder.safetensors").is_file():
            raise CortexflowError(f"{folder} is not finished; continue it with: cortexflow train --resume --out {folder}")
        check_files(folder)
        return cls(folder, RunConfig.of(load_json(folder / "run.json")))

    @cached_property
    def encoder(self) -> Encoder:
        """The fitted model."""
        return load_encoder(self.folder / "encoder.safetensors")

    @cached_property
    def voxels(self) -> Int[Tensor, " voxels"]:
        """The number of each of its voxels in the study."""
        return load_tensors(self.folder / "voxels.safetensors")[0]["kept"].nonzero().flatten()

    @cached_property
    def space(self) -> FeatureSpace:
        """How pictures become its features."""
        return load_space(self.folder / "space.safetensors")


def check_files(folder: Path) -> None:
    """Whether the files of a finished run belong to its encoder, which keeps their checksums.

    Raises:
        DamagedFileError: One is missing, was altered, or comes from another run.
    """
    beside = load_metadata(folder / "encoder.safetensors").get("beside", {})
    if beside and load_sealed_json(folder / "provenance.json").get("files") != beside:
        raise DamagedFileError(f"{folder / 'provenance.json'} is of another run than encoder.safetensors; restore it, or train again")
    for name, expected in beside.items():
        if not (folder / name).is_file() or checksum(folder / name) != expected:
            what = "was altered, or is of another run than encoder.safetensors" if (folder / name).is_file() else "is missing"
            raise DamagedFileError(f"{folder / name} {what}; restore it, or train again")


def train(config: RunConfig, folder: Path | str, machine: Machine | None = None, *, resume: bool = False) -> Run:
    """Fit a model and write its run folder.

    Arguments:
        config: What to fit, from :meth:`RunConfig.of`.
        folder: Where; it must not hold a run unless ``resume``.
        machine: Device and folders of this machine.
        resume: Continue where an interrupted run of the same configuration stands. The result is the same, bit for bit.

    Raises:
        CortexflowError: The folder holds another run, or the data cannot be used; each with its remedy.
    """
    folder, machine = Path(folder), machine or Machine()
    world = World(machine.device)
    if world.writes:
        _check_folder(folder, config, resume)
    world.wait()
    if (folder / "encoder.safetensors").is_file():
        if world.writes:
            (folder / "state.safetensors").unlink(missing_ok=True)  # it was killed between its last two steps
        return Run.load(folder)
    started = time.perf_counter()
    study = open_study(config, machine)
    space = fit_space(config, study, machine)
    table = tabulate(space, study, study.training.seen, machine)
    bands(_sees(config, space.levels, study.cortex), space.levels, study.cortex, study.cortex.voxels)  # raises where these do not exist
    if world.writes and not _check_folder(folder, config, resume):
        save_json(folder / "run.json", config.model_dump(mode="json"))  # now: a mistake in what was asked takes no folder
    encoder = fit(config, join(study.training, table), space.levels, study.cortex, folder, machine, world)
    if world.writes:
        space.save(folder / "space.safetensors")
        save_tensors(folder / "voxels.safetensors", {"kept": study.kept})
        beside = {name: checksum(folder / name) for name in BESIDE if (folder / name).is_file()}
        made_by = provenance(config, study, space, machine, time.perf_counter() - started)
        save_sealed_json(folder / "provenance.json", made_by | {"files": beside})
        encoder.save(folder / "encoder.safetensors", beside)  # last: its presence says that the run is finished
        (folder / "state.safetensors").unlink(missing_ok=True)
    world.wait()
    return Run.load(folder)


def train_all(
    configs: Mapping[Path, RunConfig], machine: Machine, *, jobs: int = 1, scheduler: str | None = None, resume: bool = False
) -> list[Path]:
    """Fit many models, each into its folder, on several processes or a dask cluster.

    Arguments:
        configs: What to fit, by folder: subjects, areas, noises …
        machine: Device and folders, the same on every process.
        jobs: Processes on this machine; -1 for one per core.
        scheduler: The address of a dask scheduler, instead.
        resume: Finished runs are kept, interrupted ones continued.

    Raises:
        CortexflowError: A subject that its study does not have, before anything is fitted; and what :func:`train` raises.
    """
    if len(configs) > 1:
        _check_subjects(configs.values(), machine)
    work = [partial(_train_one, config, folder, machine, resume) for folder, config in configs.items()]
    return run_all(work, jobs, scheduler)


def _check_subjects(configs: Iterable[RunConfig], machine: Machine) -> None:
    datasets: dict[str, Dataset] = {}
    for config in configs:
        made_of = fingerprint(config.data)
        datasets[made_of] = datasets.get(made_of) or open_dataset(config.data, machine)
        datasets[made_of].check_subject(config.subject)


def _train_one(config: RunConfig, folder: Path, machine: Machine, resume: bool) -> Path:
    return train(config, folder, machine, resume=resume).folder


def fit(
    config: RunConfig,
    joined: Joined,
    levels: Mapping[str, int],
    cortex: Cortex,
    folder: Path | None,
    machine: Machine,
    world: World | None = None,
) -> Encoder:
    """Fit an encoder to joined training trials; checkpoints go to ``folder`` where one is given."""
    encoder = build(config, joined, levels, cortex)
    if encoder.reduces:
        coordinates = encoder.reduce(joined.features, joined.trials.responses, joined.trials.groups)
        joined = replace(joined, trials=replace(joined.trials, responses=coordinates))
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        if not encoder.reduces:
            encoder.solve(joined.features, joined.trials.responses, joined.trials.groups)
        return encoder.eval()
    training, validation = split_validation(joined, config.training.validation, config.seed)
    descent = Descent(encoder.to(machine.device), config, training, validation, folder, machine, world or World(machine.device))
    for _ in track(descent.epochs(), f"training {config.title}", total=config.training.epochs):
        pass
    encoder.cpu().eval()  # closed forms are solved where the trials are
    if encoder.reduces:
        return encoder
    with torch.no_grad():
        encoder.calibrate(validation.features, validation.trials.responses, validation.trials.groups)
    return encoder


def build(config: RunConfig, joined: Joined, levels: Mapping[str, int], cortex: Cortex) -> Encoder:
    """An unfitted encoder whose sizes come from the data; its random numbers come from the seed."""
    torch.manual_seed(config.seed)
    entry, choices = configure("encoding", config.encoder)
    sees = _sees(config, levels, cortex)
    if config.levels == "learned":
        choices = choices.model_copy(update={"bands": "level"})
    return entry(joined.features.shape[1], joined.trials.voxels, choices, levels=levels, cortex=cortex, sees=sees)


def _sees(config: RunConfig, levels: Mapping[str, int], cortex: Cortex) -> Mapping[str, Sequence[str]] | None:
    """The levels of each area, by plan or by name; raises CortexflowError for a plan that the encoder cannot follow."""
    if config.levels == "learned" and "bands" not in configure("encoding", config.encoder)[0].Config.model_fields:
        raise CortexflowError(f"{config.encoder['name']} cannot weigh levels voxel by voxel; levels=learned is for ridge, choose another plan")
    if isinstance(config.levels, str):
        return assign(config.levels, list(levels), list(cortex.chain()), config.seed)
    return config.levels


class Descent:
    """Gradient descent that can be killed at any point and resumed to the same bits.

    After every epoch the weights, the best weights so far and the optimiser are written as one file; everything random in an
    epoch (order of trials, dropout) follows from the seed and the epoch alone.
    """

    def __init__(
        self, encoder: Encoder, config: RunConfig, training: Joined, validation: Joined, folder: Path | None, machine: Machine, world: World
    ) -> None:
        self.world = world
        self.encoder, self.training, self.validation = encoder, training, validation
        self.choices, self.seed, self.device = config.training, config.seed, machine.device
        self.state = folder / "state.safetensors" if folder is not None else None
        self.log = folder / "metrics.jsonl" if folder is not None else None
        self.identity = fingerprint(config.model_dump(mode="json"))
        self.rows: list[dict[str, float]] = []
        self.best, self.best_state = math.inf, {name: value.clone() for name, value in encoder.state_dict().items()}
        self.optimiser = torch.optim.AdamW(encoder.parameters(), lr=self.choices.learning_rate, weight_decay=self.choices.weight_decay)

    def epochs(self) -> Iterator[int]:
        """Run the remaining epochs, one at a time; ends with the best weights in place."""
        if self.state is not None and self.state.is_file():
            self._restore()
        else:
            self._solve()
            self._checkpoint()
        while len(self.rows) < self.choices.epochs and self._stale() < self.choices.patience:
            self._epoch(len(self.rows))
            self._checkpoint()
            yield len(self.rows)
        self.encoder.load_state_dict(self.best_state)

    def _solve(self) -> None:
        trials = self.training.trials
        if self.encoder.reduces:
            self.best = self._validate()  # of the closed form, which training must better
        else:
            self.encoder.cpu().solve(self.training.features, trials.responses, trials.groups)
        self.encoder.to(self.device)
        self.best_state = {name: value.clone() for name, value in self.encoder.state_dict().items()}

    def _epoch(self, epoch: int) -> None:
        self.encoder.train()
        torch.manual_seed(_epoch_seed(self.seed, epoch, self.world))
        order = torch.randperm(len(self.training.trials), generator=torch.Generator().manual_seed(self.seed * 100_003 + epoch))
        batches = order.split(self.choices.batch)
        losses = [self._step(batch, (epoch + number / len(batches)) / self.choices.epochs) for number, batch in enumerate(batches)]
        validation = self._validate()
        if not math.isfinite(validation):
            raise CortexflowError(f"validation loss is {validation} in epoch {epoch + 1}; lower training.learning_rate or look for extreme responses")
        if validation < self.best and self._sound():
            self.best = validation
            self.best_state = {name: value.clone() for name, value in self.encoder.state_dict().items()}
        self.rows.append({"epoch": epoch + 1, "training": sum(losses) / len(losses), "validation": validation})

    def _step(self, batch: Tensor, progress: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.choices.learning_rate * one_cycle(progress)
        self.optimiser.zero_grad(set_to_none=True)
        rows, weight = self.world.share(batch)
        loss = self._loss(self.training, rows) * weight
        loss.backward()
        total = loss.detach()
        self.world.add([total, *(parameter.grad for parameter in self.encoder.parameters() if parameter.grad is not None)])
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), self.choices.clip)
        self.optimiser.step()
        return float(total)

    @torch.no_grad()
    def _validate(self) -> float:
        self.encoder.eval()
        rows = torch.arange(len(self.validation.trials)).split(self.choices.batch)
        losses = [float(self._loss(self.validation, batch)) * len(batch) for batch in rows]
        return sum(losses) / len(self.validation.trials)

    def _loss(self, joined: Joined, rows: Tensor) -> Tensor:
        return (self.encoder.reduced_loss if self.encoder.reduces else self.encoder.loss)(*self._batch(joined, rows))

    def _sound(self) -> bool:
        rows = torch.arange(min(len(self.validation.trials), CHECKED))
        return not self.encoder.reduces or self.encoder.sound(*self._batch(self.validation, rows))

    def _batch(self, joined: Joined, rows: Tensor) -> tuple[Tensor, Tensor]:
        return joined.features[rows].to(self.device), joined.trials.responses[rows].to(self.device)

    def _stale(self) -> int:
        """Epochs since the best one."""
        return next((age for age, row in enumerate(reversed(self.rows)) if row["validation"] <= self.best), len(self.rows))

    def _checkpoint(self) -> None:
        if self.state is None or self.log is None or not self.world.writes:
            return
        tensors = {f"encoder.{name}": value for name, value in self.encoder.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in self.best_state.items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        save_tensors(self.state, tensors, {"rows": self.rows, "best": self.best, "identity": self.identity})
        self._write_log()

    def _write_log(self) -> None:
        assert self.log is not None
        with replacing(self.log) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def _restore(self) -> None:
        assert self.state is not None
        tensors, metadata = load_tensors(self.state)
        if metadata.get("identity") != self.identity:
            raise CortexflowError(f"{self.state} belongs to another configuration; delete it to start afresh")
        try:
            self._adopt(tensors, metadata["rows"], metadata["best"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise DamagedFileError(f"{self.state} does not hold a whole state of training ({error}); delete it to start afresh") from error
        if self.world.writes:
            self._write_log()  # the state is written before the log, and the run may have been killed between them

    def _adopt(self, tensors: Mapping[str, Tensor], rows: list[dict[str, Any]], best: float) -> None:
        self.rows, self.best = rows, best
        adopt(self.encoder, _under("encoder.", tensors))
        self.encoder.to(self.device)
        self.best_state = {name: value.to(self.device) for name, value in _under("best.", tensors).items()}
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under("optimiser.", tensors).items():
            number, _, moment = name.partition(".")
            state.setdefault(int(number), {})[moment] = value
        self.optimiser.load_state_dict({"state": state, "param_groups": self.optimiser.state_dict()["param_groups"]})


def _epoch_seed(seed: int, epoch: int, world: World) -> int:
    return ((seed * 100_003 + epoch) * 1009 + world.size) * 1009 + world.rank


def one_cycle(progress: float, warm: float = 0.3) -> float:
    """The learning rate's factor at a share of training: up from .04 over ``warm``, then down to almost 0, by cosines."""
    if progress < warm:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / warm)) / 2
    return (1 + math.cos(math.pi * (progress - warm) / (1 - warm))) / 2


def provenance(config: RunConfig, study: Study, space: FeatureSpace, machine: Machine, seconds: float) -> dict[str, Any]:
    """What made a run: code, libraries, machine kind, data checksums, seed, command."""
    return {
        **made_of(machine, seconds),
        "seed": config.seed,
        "data": study.dataset.checksums(),
        "split": identity(study),
        "features": space.keys,
        "pictures": list(study.dataset.images(study.training.stimuli[:1]).shape[-2:]),
        "trials": {"training": len(study.training), "test": len(study.test)},
        "voxels": {"used": study.cortex.voxels, "dropped": study.dropped},
        "units": study.training.units,
    }


def identity(study: Study) -> str:
    """A name for the data and the split of a study: equal names, equal training and test sides."""
    sides = {name: torch.unique(side.stimuli).tolist() for name, side in (("training", study.training), ("test", study.test))}
    return fingerprint({"data": study.dataset.checksums(), "kept": study.kept.nonzero().flatten().tolist(), **sides})


def made_of(machine: Machine, seconds: float) -> dict[str, Any]:
    """Code, libraries, kind of machine, command and seconds."""
    return {
        "cortexflow": cortexflow.__version__,
        "commit": _commit(),
        "libraries": {name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {machine.device}, {torch.get_num_threads()} threads",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seconds": round(seconds, 2),
    }


def _commit() -> str | None:
    """The commit of a source checkout, with a mark where it was changed; None for an installed package."""
    package = Path(cortexflow.__file__).parent
    if not (package.parent / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _check_folder(folder: Path, config: RunConfig, resume: bool) -> bool:
    """Whether the folder holds this run already; raises CortexflowError where it cannot be written or holds another one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # before hours of features
    except OSError as error:
        raise CortexflowError(f"{folder} cannot be written ({error.strerror}); free space or choose another folder") from error
    if not (folder / "run.json").exists():
        return False
    if not resume:
        raise CortexflowError(f"{folder} already holds a run; choose another folder, or continue it with --resume")
    if load_json(folder / "run.json") != json.loads(json.dumps(config.model_dump(mode="json"))):
        raise CortexflowError(f"{folder} holds a run of another configuration; choose another folder, or resume without changes")
    return True


def _resolve(room: str, choice: Mapping[str, Any]) -> dict[str, Any]:
    _, options = configure(room, choice)
    return {"name": choice["name"], **options.model_dump(mode="json")}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
