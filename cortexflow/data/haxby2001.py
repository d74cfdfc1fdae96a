"""Eight categories of objects, twelve runs, one person: raw BOLD as NIfTI with its events, for decoding by category."""

import csv
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import nibabel
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from nibabel.filebasedimages import ImageFileError
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Cortex, Dataset, Trials
from cortexflow.data.published import published
from cortexflow.data.standardize import detrend, lagged_windows, zscore_sessions
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.storage import checksum


class Haxby2001(Dataset):
    """Blocks of pictures of one category each, as they came from the scanner: neither detrended nor smoothed by the publisher.

    The pictures are not part of the publication. The stimulus id of a trial is therefore its category, an index of
    :attr:`conditions`, and not a picture: :meth:`images` raises, nothing is held out by stimulus, and a split is made of
    runs (:meth:`held_out_trials`). Every run holds one block of each category, and runs are sessions and groups.

    Each run is detrended and z-scored over its own volumes (of all conditions and the rest between them), so that no run
    knows another. A trial is the mean of a block's window, or one volume of it.

    Known figures, leaving one run out, eight categories (chance .125, the highest of 50 shuffles .208), logistic regression
    (scikit-learn, C = 1) on blocks with the defaults: .729 for one slice, .302 for 25 mm. Windows of nine volumes, the whole
    block: .698 and .271.

    References:
        Distributed and overlapping representations of faces and objects in ventral temporal cortex (Haxby et al., 2001).
        PyMVPA/PyMVPA, commit 20f0335f, ``mvpa2/data/haxby2001``: "made available under the terms of the Creative Commons
        Attribution-Share Alike 3.0 license".
    """

    class Config(Choices):
        """Choices of the study.

        Arguments:
            resolution: One slice of 3.1 × 3.75 mm voxels within a mask, or the whole head in voxels of 25 mm.
            form: A trial is a block's mean, or one of its volumes.
            detrend: What is taken for drift: a straight line, or cosines slower than 128 s. A category comes once a run (300
                s), so that the cosines also take some of what tells categories apart.
            lag: Volumes from the onset of a block to its window; two are 5 s.
            window: Volumes per block. The default ends 20 s after the onset, within the block of 22.5 s.
            held_out_runs: The test, numbers as the study counts, 1 to 12.
        """

        resolution: Literal["1slice", "25mm"] = "1slice"
        form: Literal["volumes", "blocks"] = "blocks"
        detrend: Literal["linear", "cosine"] = "linear"
        lag: int = Field(2, ge=0)
        window: int = Field(6, ge=1)
        held_out_runs: tuple[int, ...] = (12,)

    title = "8 object categories in ventral temporal cortex, one person, BOLD without pictures (Haxby et al., 2001)"
    TR: ClassVar[float] = 2.5  # seconds
    RUNS: ClassVar[int] = 12
    CONDITIONS: ClassVar[tuple[str, ...]] = ("house", "scrambledpix", "cat", "shoe", "bottle", "scissors", "chair", "face")
    SHAPES: ClassVar[dict[str, tuple[int, ...]]] = {"1slice": (40, 20, 1, 121), "25mm": (6, 10, 10, 121)}
    MASKS: ClassVar[dict[str, dict[str, str]]] = {
        "1slice": {"slice": "mask_1slice.nii.gz"},
        "25mm": {name: f"sub001/masks/25mm/{name}.nii.gz" for name in ("brain", "gray", "white", "vt", "hoc")},
    }

    config: Config

    @property
    def subjects(self) -> tuple[str, ...]:
        """The first subject of six."""
        return ("sub001",)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The categories, in the study's order; ``conditions[trials.stimuli[i]]`` is what trial ``i`` showed."""
        return self.CONDITIONS

    def trials(self, subject: str) -> Trials:
        """One row per block, or per volume of its window, in the order of recording; runs count from 1.

        Raises:
            CortexflowError: No such subject, a file is missing, or the window leaves its run.
            DamagedFileError: A file is not what the study published.
        """
        self.check_subject(subject)
        series, runs = self._recording
        onsets, categories, event_runs = self._events
        windows = lagged_windows(series, onsets, self.TR, self.config.lag, self.config.window, runs, event_runs)
        rows = self.config.window if self.config.form == "volumes" else 1
        responses = windows.flatten(0, 1) if self.config.form == "volumes" else windows.mean(1)
        stimuli, sessions = (labels.repeat_interleave(rows) for labels in (categories, event_runs))
        units = f"BOLD signal, {self.config.detrend} drift removed, z-scored within run"
        return Trials(subject, stimuli, sessions, _occurrences(stimuli), responses, units, sessions)

    def _look(self, subject: str) -> str:
        """Trials and cortex of a subject; this study has no pictures to look at."""
        trials, cortex = self.trials(subject), self.cortex(subject)
        return f"{len(trials)} trials of {len(self.conditions)} categories, {cortex.voxels} voxels, no pictures"

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """Raises CortexflowError: there are no pictures."""
        what = "haxby2001 was published without its pictures; a stimulus id is a category"
        raise CortexflowError(f"{what}; decode categories from trials, or use a study with pictures for models of pictures")

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """None: every category is in every run; see :meth:`held_out_trials`."""
        return torch.empty(0, dtype=torch.long)

    def held_out_trials(self, trials: Trials) -> Bool[Tensor, " trials"]:
        """Which trials belong to the held-out runs.

        Raises:
            CortexflowError: A held-out run does not exist.
        """
        wrong = [run for run in self.config.held_out_runs if not 1 <= run <= self.RUNS]
        if wrong:
            raise CortexflowError(f"haxby2001 has runs 1 to {self.RUNS}, {wrong[0]} was held out; choose held_out_runs from them")
        return torch.isin(trials.sessions, torch.tensor(self.config.held_out_runs, dtype=torch.long))

    def cortex(self, subject: str) -> Cortex:
        """The published masks (``vt`` is ventral temporal cortex), and where each voxel's centre is in the scanner."""
        self.check_subject(subject)
        resolution = self.config.resolution
        masks = {name: self._load(file, self.SHAPES[resolution][:3])[0] > 0 for name, file in self.MASKS[resolution].items()}
        kept = self._kept()
        areas = {name: torch.from_numpy(mask[kept]) for name, mask in masks.items()}
        _, affine = self._load(self._bold(1), self.SHAPES[resolution])
        coordinates = torch.from_numpy(nibabel.affines.apply_affine(affine, np.argwhere(kept))).float()
        return Cortex(subject, int(kept.sum()), areas, coordinates)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file that is read."""
        runs = range(1, self.RUNS + 1)
        names = [*self.MASKS[self.config.resolution].values(), *map(self._bold, runs), *map(self._event_file, runs)]
        return {name: checksum(self._file(name)) for name in names}

    @cached_property
    def _recording(self) -> tuple[Float[Tensor, "time voxels"], Int[Tensor, " time"]]:
        """Every volume of every run, detrended and z-scored, and the run of each."""
        shape, kept = self.SHAPES[self.config.resolution], self._kept()
        raw = [self._load(self._bold(run), shape)[0][kept].T for run in range(1, self.RUNS + 1)]
        runs = torch.arange(1, self.RUNS + 1).repeat_interleave(shape[-1])
        series = detrend(torch.from_numpy(np.concatenate(raw)), runs, self.TR, self.config.detrend)
        volumes = Trials("sub001", torch.zeros_like(runs), runs, torch.arange(len(runs)), series, "BOLD signal")
        return zscore_sessions(volumes).responses, runs

    @cached_property
    def _events(self) -> tuple[Float[Tensor, " events"], Int[Tensor, " events"], Int[Tensor, " events"]]:
        """Onset in seconds, category and run of every block."""
        events = [(onset, category, run) for run in range(1, self.RUNS + 1) for onset, category in self._blocks(run)]
        onsets, categories, runs = zip(*events, strict=True)
        return torch.tensor(onsets), torch.tensor(categories), torch.tensor(runs)

    def _blocks(self, run: int) -> Iterator[tuple[float, int]]:
        path = self._file(self._event_file(run))
        try:
            with open(path, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    yield float(row["onset"]), self.CONDITIONS.index(row["trial_type"])
        except (KeyError, ValueError) as error:
            raise DamagedFileError(f"{path} has an event that is not of this study ({error}); copy the file again") from error

    def _kept(self) -> np.ndarray:
        shape = self.SHAPES[self.config.resolution][:3]
        if self.config.resolution == "25mm":
            return np.ones(shape, dtype=bool)
        return self._load(self.MASKS["1slice"]["slice"], shape)[0] > 0

    def _load(self, name: str, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Values and affine of an image."""
        path = self._file(name)
        try:
            image = nibabel.load(path)
            values, affine = image.get_fdata(dtype=np.float32), image.affine  # type: ignore[attr-defined]
        except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
            raise DamagedFileError(f"{path} is damaged ({error}); copy the file again") from error
        if values.shape != shape:
            raise DamagedFileError(f"{path} has shape {values.shape} where the study has {shape}; copy the file again")
        return values, affine

    def _bold(self, run: int) -> str:
        return f"sub001/BOLD/task001_run{run:03d}/bold_{self.config.resolution}.nii.gz"

    def _event_file(self, run: int) -> str:
        return f"sub001/BOLD/task001_run{run:03d}/bold_events.tsv"

    def _file(self, name: str) -> Path:
        remedy = "copy mvpa2/data/haxby2001 of https://github.com/PyMVPA/PyMVPA (commit 20f0335f) to DIR/haxby2001"
        return published("haxby2001", self.root, name, remedy)


def _occurrences(stimuli: Int[Tensor, " trials"]) -> Int[Tensor, " trials"]:
    """How often each trial's stimulus came before."""
    earlier = (stimuli[:, None] == stimuli[None]).tril(-1)
    return earlier.sum(1)
