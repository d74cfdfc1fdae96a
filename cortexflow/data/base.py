"""Who saw what, and how their cortex answered: the contract of every study."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import AfterValidator
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.errors import CortexflowError


def _one_folder(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name:
        raise ValueError(f"{name!r} is not the name of one folder; give the name, and the folder above it with --data")
    return name


EARLY = {"V1": r"V1[vd]?", "V2": r"V2[vd]?", "V3": r"V3[vd]?", "hV4": r"h?V4[vd]?"}  # stages and how atlases write their areas

FolderName = Annotated[str, AfterValidator(_one_folder)]  # paths belong to the machine, a name to the recipe


@dataclass(frozen=True)
class Exposure:
    """How much of each stimulus each response holds, where one response answers several stimuli.

    A volume of a time series answers the pictures of the seconds before it, weighted by the haemodynamic response. Studies
    of single-trial betas have no exposure: there a trial answers its own stimulus.

    Arguments:
        stimuli: The stimulus id of each column, each once.
        weights: One row per trial, one column per stimulus (no unit).
    """

    stimuli: Int[Tensor, " stimuli"]
    weights: scipy.sparse.csr_array

    def __post_init__(self) -> None:
        if self.weights.shape[1] != len(self.stimuli):
            raise CortexflowError(f"exposure has {self.weights.shape[1]} columns for {len(self.stimuli)} stimuli; give one column a stimulus")

    def where(self, rows: Bool[Tensor, " trials"]) -> "Exposure":
        """The exposure of some of the trials."""
        return Exposure(self.stimuli, self.weights[np.flatnonzero(rows.numpy())])

    def mix(self, features: Float[Tensor, "stimuli features"]) -> Float[Tensor, "trials features"]:
        """Features per trial from features per stimulus, in the order of ``stimuli``."""
        return torch.from_numpy(np.asarray(self.weights @ features.numpy(), dtype=np.float32))


@dataclass(frozen=True)
class Trials:
    """What one subject saw, and the answer of every voxel. Rows are joined to pictures by ``stimuli``, never by position.

    Arguments:
        subject: As the study writes it, ``subj01``.
        stimuli: Stimulus id of each trial. For a time series, the picture on screen at that volume.
        sessions: Scan session (or run) of each trial.
        repeats: 0 for the first time the subject saw this stimulus, 1 for the second …
        responses: One row per trial, one column per voxel, in ``units``.
        units: In words, for reports: "percent signal change", "z-scored within session".
        groups: What must not be split between folds; by default the stimulus.
        exposure: For time series, which stimuli each volume answers.
    """

    subject: str
    stimuli: Int[Tensor, " trials"]
    sessions: Int[Tensor, " trials"]
    repeats: Int[Tensor, " trials"]
    responses: Float[Tensor, "rows voxels"]  # as many rows as trials: checked below, with a message
    units: str
    groups: Int[Tensor, " trials"] = field(default=None)  # type: ignore[assignment]
    exposure: Exposure | None = None

    def __post_init__(self) -> None:
        if self.groups is None:
            object.__setattr__(self, "groups", self.stimuli)
        rows = {"stimuli": len(self.stimuli), "sessions": len(self.sessions), "repeats": len(self.repeats), "groups": len(self.groups)}
        if self.exposure is not None:
            rows["exposure"] = self.exposure.weights.shape[0]
        for name, count in rows.items():
            if count != len(self.responses):
                raise CortexflowError(f"{self.subject}: responses have {len(self.responses)} rows and {name} {count}; give one row per trial in both")

    def __len__(self) -> int:
        return len(self.stimuli)

    @property
    def voxels(self) -> int:
        """How many voxels answered."""
        return self.responses.shape[1]

    @property
    def seen(self) -> Int[Tensor, " stimuli"]:
        """Every stimulus whose features these trials need, sorted, each once."""
        return torch.unique(self.exposure.stimuli if self.exposure is not None else self.stimuli)

    def where(self, rows: Bool[Tensor, " trials"]) -> "Trials":
        """Some of the trials: ``trials.where(trials.sessions <= 1)``."""
        exposure = self.exposure.where(rows) if self.exposure is not None else None
        picked = {name: getattr(self, name)[rows] for name in ("stimuli", "sessions", "repeats", "responses", "groups")}
        return replace(self, **picked, exposure=exposure)

    def of(self, stimuli: Int[Tensor, " stimuli"]) -> "Trials":
        """The trials that showed one of these stimuli."""
        return self.where(torch.isin(self.stimuli, stimuli))

    def only(self, voxels: Bool[Tensor, " voxels"]) -> "Trials":
        """The same trials for some of the voxels."""
        return replace(self, responses=self.responses[:, voxels])


@dataclass(frozen=True)
class Cortex:
    """Where the voxels are and what is known of them before any model.

    Arguments:
        subject: As the study writes it.
        voxels: How many there are.
        areas: ROI masks by the atlas's own names; they may overlap and need not cover all voxels.
        coordinates: Position of each voxel, in millimetres.
        flat: Position on the flattened cortex, in millimetres, where the study has one.
        ncsnr: Noise-ceiling signal-to-noise ratio of one trial (no unit), where the study ships one.
    """

    subject: str
    voxels: int
    areas: Mapping[str, Bool[Tensor, " voxels"]] = field(default_factory=dict)
    coordinates: Float[Tensor, "voxels 3"] | None = None
    flat: Float[Tensor, "voxels 2"] | None = None
    ncsnr: Float[Tensor, " voxels"] | None = None

    def __post_init__(self) -> None:
        parts = {**self.areas, "coordinates": self.coordinates, "flat": self.flat, "ncsnr": self.ncsnr}
        for name, values in parts.items():
            if values is not None and len(values) != self.voxels:
                have = f"{self.subject}: {name} has {len(values)} voxels where the cortex has {self.voxels}"
                raise CortexflowError(f"{have}; use the same mask for both")

    def area(self, name: str) -> Bool[Tensor, " voxels"]:
        """The mask of an ROI or of a stage of the chain, or of several joined by commas: ``cortex.area("V1,hV4")``."""
        masks, known = torch.zeros(self.voxels, dtype=torch.bool), {**self.chain(), **self.areas}
        for part in name.split(","):
            if part not in known:
                raise CortexflowError(f"{self.subject} has no area {part!r}; choose from {', '.join({**self.areas, **known}) or 'none'}")
            masks |= known[part]
        return masks

    def chain(self) -> dict[str, Bool[Tensor, " voxels"]]:
        """The stages V1, V2, V3, hV4 and higher that this cortex has, early ones first; each voxel is in one of them.

        Parts of an area (``V1v``, ``V1d``) belong to its stage. What is in no early area is higher.
        """
        left, stages = torch.ones(self.voxels, dtype=torch.bool), {}
        for stage, pattern in EARLY.items():
            masks = [mask for name, mask in self.areas.items() if re.fullmatch(pattern, name)]
            stages[stage] = torch.stack(masks).any(0) & left if masks else torch.zeros_like(left)
            left &= ~stages[stage]
        return {name: mask for name, mask in {**stages, "higher": left}.items() if mask.any()}

    def only(self, voxels: Bool[Tensor, " voxels"]) -> "Cortex":
        """The cortex of some of the voxels."""
        parts = {name: getattr(self, name) for name in ("coordinates", "flat", "ncsnr")}
        return Cortex(
            self.subject,
            int(voxels.sum()),
            {name: mask[voxels] for name, mask in self.areas.items()},
            **{name: values[voxels] if values is not None else None for name, values in parts.items()},
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything as named tensors, for storage; :meth:`from_tensors` reads it back."""
        parts = {name: getattr(self, name) for name in ("coordinates", "flat", "ncsnr")}
        return {f"area.{name}": mask for name, mask in self.areas.items()} | {k: v for k, v in parts.items() if v is not None}

    @classmethod
    def from_tensors(cls, subject: str, voxels: int, order: Sequence[str], tensors: Mapping[str, Tensor]) -> "Cortex":
        """The inverse of :meth:`tensors`; ``order`` are the area names in the study's order."""
        areas = {name: tensors[f"area.{name}"] for name in order}
        return cls(subject, voxels, areas, **{name: tensors.get(name) for name in ("coordinates", "flat", "ncsnr")})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Check:
    """One thing of a study that was looked at.

    Arguments:
        file: The file, from the study's folder on, or the part of a study that has no files.
        found: What it holds, in a few words.
        wrong: What is wrong and what to do, in one line; None where nothing is.
    """

    file: str
    found: str = ""
    wrong: str | None = None

    @classmethod
    def of(cls, file: str, look: Callable[[], str]) -> "Check":
        """What ``look`` says it found, or the error it raised."""
        try:
            return cls(file, look())
        except CortexflowError as error:
            return cls(file, wrong=str(error))


class Dataset(ABC):
    """A study: subjects, trials, pictures, and which pictures are held out.

    A new study is one file in this folder with one class that derives from this one. Facts of the study are class data,
    choices are its ``Config``, and the place of its files is ``root``, which belongs to the machine.

    Arguments:
        config: The choices; defaults where absent.
        root: The folder that holds the study's files, for studies that have any.
    """

    class Config(Choices):
        """Choices of a study."""

    title: ClassVar[str]  # for lists and reports, with the reference

    def __init__(self, config: Choices | None = None, root: Path | str | None = None) -> None:
        self.config = config if config is not None else self.Config()
        self.root = Path(root) if root is not None else None

    @classmethod
    def folder(cls, config: Choices) -> str | None:
        """The folder of the study's files under the machine's data folder: ``config.study``, or the entry's name where None."""
        return getattr(config, "study", None)

    @property
    def place(self) -> Path:
        """The folder of the study's files.

        Raises:
            CortexflowError: None was given, or it does not exist.
        """
        entry = type(self).__module__.rsplit(".", 1)[-1]
        which = "" if self.folder(self.config) is None else ", and theirs with study=NAME"
        if self.root is None:
            raise CortexflowError(f"{entry} needs the folder of its files; name the folder above it with --data{which}")
        if not self.root.is_dir() and self.root.parent.name == self.root.name:
            raise CortexflowError(f"--data {self.root.parent} is the study's own folder; name the one above it, {self.root.parent.parent}")
        if not self.root.is_dir():
            raise CortexflowError(f"{self.root} does not exist; name the folder above the study's files with --data{which}")
        return self.root

    @property
    @abstractmethod
    def subjects(self) -> tuple[str, ...]:
        """The subjects that can be read."""

    @abstractmethod
    def trials(self, subject: str) -> Trials:
        """Every trial of a subject, in the order they were recorded."""

    @abstractmethod
    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """The pictures of these stimuli, in this order, values 0 to 255."""

    @abstractmethod
    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The test pictures. A split is made of pictures, never of trials."""

    @abstractmethod
    def cortex(self, subject: str) -> Cortex:
        """ROIs, geometry and noise ceiling of a subject's voxels."""

    @abstractmethod
    def checksums(self) -> dict[str, str]:
        """What the pictures and responses are: SHA-256 of each file read, or the configuration that generates them."""

    def cautions(self, subject: str) -> tuple[str, ...]:
        """What the authors of the study say of its data, or of this subject's, that a reader of scores should know: a sentence each."""
        return ()

    def check_subject(self, subject: str) -> None:
        """Raises CortexflowError where the study has no such subject."""
        if subject not in self.subjects:
            raise CortexflowError(f"no subject {subject!r}; choose one of {', '.join(self.subjects)}")

    def check(self) -> list[Check]:
        """Goes over everything that a run will ask of the study, and says of each part what it holds or what is wrong.

        A study whose files a user makes overrides this with one entry or more for every file.
        """
        subjects = Check.of("subjects", lambda: ", ".join(self.subjects))
        files = Check.of("files", lambda: f"{len(self.checksums())} read")
        held_out = Check.of("held out", lambda: f"{len(self.held_out())} pictures")
        parts = [Check.of(subject, partial(self._look, subject)) for subject in (() if subjects.wrong else self.subjects)]
        return [subjects, files, held_out, *parts]

    def _look(self, subject: str) -> str:
        """Trials, cortex and the first picture of a subject, in a few words."""
        trials, cortex = self.trials(subject), self.cortex(subject)
        if trials.voxels != cortex.voxels:
            raise CortexflowError(f"responses have {trials.voxels} voxels and the cortex {cortex.voxels}; use the same mask for both")
        height, width = self.images(trials.stimuli[:1]).shape[-2:]
        return f"{len(trials)} trials, {len(trials.seen)} pictures of {height} × {width}, {trials.voxels} voxels, {len(cortex.areas)} areas"
