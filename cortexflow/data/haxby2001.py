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
from cortexflow.data.on_disk.published import published
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
    FILES: ClassVar[dict[str, str]] = {  # SHA-256 at the commit named above
        "mask_1slice.nii.gz": "8d879d35aaeee3afddfb69a7e1b8dd2b3be446671452d7e841dc6588845f2877",
        "sub001/masks/25mm/brain.nii.gz": "06baff59204b30dfdae31845f2b9b3fac2bb3363d558b8955000536c4567a151",
        "sub001/masks/25mm/gray.nii.gz": "84ea63ac81d75119f8d82aaf8da40cbb403b215bf872f8aaae4b060b6814ca18",
        "sub001/masks/25mm/white.nii.gz": "d3799c20fdbeece63e352e146fd385ffd7352ad9d5fe952c9ba5f57bbd07a56d",
        "sub001/masks/25mm/vt.nii.gz": "7d018dc136203856a30445b44b00cccca9f8f4da73716e3b01b47e8da1b15dce",
        "sub001/masks/25mm/hoc.nii.gz": "9785889c78ae9cbbe9ac8fcc551afde66600187940c1106dc71bd6f85ea98f73",
        "sub001/BOLD/task001_run001/bold_1slice.nii.gz": "d15c9164814eaa25b7fb3b62f976524e55051e1973ff2b90b4e966b6c3259248",
        "sub001/BOLD/task001_run002/bold_1slice.nii.gz": "bf879fb923c81fdff11b1170b1724fa68beb0e9fa042bc053260d9d0e4d68c42",
        "sub001/BOLD/task001_run003/bold_1slice.nii.gz": "ae04aadb1ed6dc365dc117f522a3584aba0a8ac99fae008078147c94289ced49",
        "sub001/BOLD/task001_run004/bold_1slice.nii.gz": "60ed27e90dff5417cfe7118f87b59a1cae73367ab6578bdd873b57db22a00cdb",
        "sub001/BOLD/task001_run005/bold_1slice.nii.gz": "af9dd7c655aa1cb09f8d7444f124ff14b40cab14c92b4c4fe9c0efde97d8da38",
        "sub001/BOLD/task001_run006/bold_1slice.nii.gz": "c753fdc068123ff6b407572bd39af6e1fecd1aace8a64dbace25b19d875128ee",
        "sub001/BOLD/task001_run007/bold_1slice.nii.gz": "26bd002f5e33470179d39c4870d24d42a5cfa4e150782b8bf84885368a6016a3",
        "sub001/BOLD/task001_run008/bold_1slice.nii.gz": "eb13ff766f629410b4bccfa3f39f1a7439133648d0637ffac6cc22f4397b8881",
        "sub001/BOLD/task001_run009/bold_1slice.nii.gz": "0356e45b5922586f40cc84890ebaecac2d85510004978d2fa214d652bfb4b35e",
        "sub001/BOLD/task001_run010/bold_1slice.nii.gz": "a4a2a0e12d2a53df4efab50b9abf250f351def069fa0a3153a1b6e46809e490c",
        "sub001/BOLD/task001_run011/bold_1slice.nii.gz": "4c2bcf74db2cb0d77ecb6d60c0df8eec69715f579f6b628823319e67c80511cb",
        "sub001/BOLD/task001_run012/bold_1slice.nii.gz": "8713435c5894ef06bd2a72e786ebf93b74ec3d7e46d7411f229fd6ffa5d62e9a",
        "sub001/BOLD/task001_run001/bold_25mm.nii.gz": "fb8da73b747bd3f8f0c7cacf38c7173f3ec8ba1eb3a776003fa14880c31846e7",
        "sub001/BOLD/task001_run002/bold_25mm.nii.gz": "c349c15e761f580d7d0de365d05c6a7c269496e75a3ad58ca05a34ed15f91d5d",
        "sub001/BOLD/task001_run003/bold_25mm.nii.gz": "a2e72670e8380a337870ada7a8896211b849f1987107d6fd99171cc48a8bdc60",
        "sub001/BOLD/task001_run004/bold_25mm.nii.gz": "96780e718abc001d2c1c4996a9187e85b427e9fa2500e56716ff8873fded63ca",
        "sub001/BOLD/task001_run005/bold_25mm.nii.gz": "53eebe6b2c6edb7a82a0e84e5c72687ebe2a2d1cbd43f005ff83c88e1b06b49a",
        "sub001/BOLD/task001_run006/bold_25mm.nii.gz": "a079fa51847925d12edb52b03b0f19cd14c5a02db156a247736f6152017780f3",
        "sub001/BOLD/task001_run007/bold_25mm.nii.gz": "26c8fca45ee3fed85b925ea5411698fe234c9b9b0eee184a772fbf873003eb4f",
        "sub001/BOLD/task001_run008/bold_25mm.nii.gz": "366248d75f6f15b86ee8fb0777cfd1861e4950b81fde87f92a74f0a39cd75109",
        "sub001/BOLD/task001_run009/bold_25mm.nii.gz": "4f9a07a44fc3ca0402b0d69eb91132f1a03e32b96ed1fb744d3f558d4d774d97",
        "sub001/BOLD/task001_run010/bold_25mm.nii.gz": "796c21c4ef9d89f723b78c3b76853cd0aca58c93d0409b0967a45841bebe5432",
        "sub001/BOLD/task001_run011/bold_25mm.nii.gz": "d7e04d78df0aa81d7a8de8ac6c1c0044ff1a6583e92abe8ebafac8851010523b",
        "sub001/BOLD/task001_run012/bold_25mm.nii.gz": "7bda1f0ee3483f2755e61afa0e96ce825cd2c28b0e03a91a2a96b018c10e8a40",
        "sub001/BOLD/task001_run001/bold_events.tsv": "f2cbdad57ece6d3f0ba9746fc03eb8f0d279be520f7ee55f17623565d138364e",
        "sub001/BOLD/task001_run002/bold_events.tsv": "6ed581e40ba4850b4c4d9854aa0db4c979ef01794972911eb4869db6342fb3ad",
        "sub001/BOLD/task001_run003/bold_events.tsv": "465ecdb410acc0753f733906c4d56258e0d753b73c25ca08e85a10215fcce308",
        "sub001/BOLD/task001_run004/bold_events.tsv": "9d8eef194e0e72b1ded0caa3be16e95778fc16f218e521c10802d9a1d1bc2820",
        "sub001/BOLD/task001_run005/bold_events.tsv": "4404718524d21cc2650a8fe9860c94b6e83592c46594ab11fb22272150e5c6fe",
        "sub001/BOLD/task001_run006/bold_events.tsv": "0ab33f912cca0076c65b2a034973b71c3b9d00011ad6adeeef356d5f9f71c4e5",
        "sub001/BOLD/task001_run007/bold_events.tsv": "0075f78df0b08d44c687581cbe33aa93db833ff574684d9bc24734649a3a6564",
        "sub001/BOLD/task001_run008/bold_events.tsv": "ed40c886032a5db2b6416488b8ac36b7902242c9b5bdea23d8894eeba11aa539",
        "sub001/BOLD/task001_run009/bold_events.tsv": "d94f85d8378c72c45f95a8db2aa85576eb4e050827ab338b075315e7bc80a013",
        "sub001/BOLD/task001_run010/bold_events.tsv": "cb9d60adb7971d00b4f199a8729dd9de6f4f27b37f680197c7ba2d96e7be7ab2",
        "sub001/BOLD/task001_run011/bold_events.tsv": "377788e2ef133ffcc40da369b060009397ef8ab12732c5386945e6c608293418",
        "sub001/BOLD/task001_run012/bold_events.tsv": "50cfed990226325726f91da555f1a412fc6a932cb754825462e03b30317579bb",
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
        return published("haxby2001", self.root, name, remedy, self.FILES[name])


def _occurrences(stimuli: Int[Tensor, " trials"]) -> Int[Tensor, " trials"]:
    """How often each trial's stimulus came before."""
    earlier = (stimuli[:, None] == stimuli[None]).tril(-1)
    return earlier.sum(1)
