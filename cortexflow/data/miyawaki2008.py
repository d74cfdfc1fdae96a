"""Random and figural patterns of 10 × 10 patches, and one person's visual cortex: raw BOLD with what was on the screen."""

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import nibabel
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices, load
from cortexflow.data.base import Cortex, Dataset, Trials
from cortexflow.data.on_disk.pictures import ImageSize
from cortexflow.data.on_disk.published import published
from cortexflow.data.on_disk.recorded import record, recorded
from cortexflow.data.on_disk.volumes import positions, read_mask, read_volume, readable
from cortexflow.data.presentations import occurrences
from cortexflow.data.standardize import detrend
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.storage import checksum

REST = -1  # a row of the label files outside blocks


class Shown(NamedTuple):
    """What was on the screen, volume by volume of all runs that are read.

    Arguments:
        runs: The run of each volume.
        stimuli: The pattern of each volume, -1 during rest.
        blocks: Which block each volume belongs to, counted over all runs, -1 during rest.
    """

    runs: Int[Tensor, " volumes"]
    stimuli: Int[Tensor, " volumes"]
    blocks: Int[Tensor, " volumes"]


class Miyawaki2008(Dataset):
    """Patterns of 10 × 10 patches, each there or not, in 20 runs of random patterns and 12 runs of figures (shapes and letters).

    A random pattern was shown once, for 6 s with 6 s of rest after it; a figure several times, for 12 s with 12 s of rest. A
    stimulus is a pattern, numbered in the order in which patterns first appear, random runs before figures. Runs are sessions,
    random ones 1 to 20 and figures 21 to 32, and groups of trials too: a random pattern is in one run only.

    Each run is detrended and z-scored over its own volumes, rest included, so that no run knows another. What a volume answers
    is taken from ``lag`` volumes earlier; a trial is the mean of a block, or one of its volumes. Only a figure has repeats,
    so that the noise ceiling of random patterns cannot be estimated.

    The published protocol fits a model to random patterns and tests it on figures. ``split="random"`` leaves the figures out
    and tests on whole runs of random patterns, where no pattern is more likely than another and only the brain can tell.

    Names and order of the files are those of nilearn's fetcher; that a label file has one row of 100 numbers per volume, column
    by column of the pattern, with -1 for rest, and the lag of two volumes are those of its examples. Numbers of volumes and
    voxels, the grid and the affine are read from the files, none of which could be seen when this was written; no checksum is
    published. :meth:`fetch` writes down what it got, and later reading is compared with that.

    **Terms.** nilearn gives the licence as unknown. Its address at NITRC carries the answer "I agree" to terms that a visitor
    would be shown: read them there before fetching. Publications cite the paper.

    References:
        Visual image reconstruction from human brain activity using a combination of multiscale local image decoders (Miyawaki
        et al., 2008), data prepared by its authors and handed out by nilearn, ``nilearn.datasets.fetch_miyawaki2008``.
    """

    class Config(Choices):
        """Choices of the study.

        Arguments:
            form: A trial is a block's mean, or one of its volumes.
            lag: Volumes from what is on the screen to the answer; two are 4 s.
            detrend: What is taken for drift: a straight line, or cosines slower than 128 s.
            split: The held-out patterns: all figures, or the random ones of ``held_out_runs``, and then figures are not read.
            held_out_runs: Of random patterns, 1 to 20.
            image_size: Height and width of the pictures in pixels, 10 at least; a patch becomes a rectangle.
        """

        form: Literal["blocks", "volumes"] = "blocks"
        lag: int = Field(2, ge=0)
        detrend: Literal["linear", "cosine"] = "linear"
        split: Literal["figures", "random"] = "figures"
        held_out_runs: tuple[int, ...] = (19, 20)
        image_size: ImageSize = (100, 100)

    title = "Random and figural 10 × 10 patterns in visual cortex, one person, BOLD (Miyawaki et al., 2008, through nilearn)"
    TR: ClassVar[float] = 2.0  # seconds
    SIDE: ClassVar[int] = 10  # patches
    RUNS: ClassVar[Mapping[str, int]] = {"random": 20, "figure": 12}
    AREAS: ClassVar[tuple[str, ...]] = (
        *("V1d", "V1v", "V2d", "V2v", "V3", "VP", "V3A", "V4v"),
        *(f"lag{step}to{step + 1}" for step in range(11)),
    )
    SIDES: ClassVar[tuple[str, ...]] = ("LH", "RH")
    MASK: ClassVar[str] = "mask/mask.nii.gz"

    config: Config

    @classmethod
    def fetch(cls, root: Path | str) -> Path:
        """Download the study through nilearn, 153 MB, and write down the checksums. A whole study is left as it is.

        Arguments:
            root: The folder for its files.

        Raises:
            CortexflowError: nilearn is not installed, or could not download the files.
        """
        root = Path(root)
        names = cls.files()
        if not all((root / name).is_file() for name in names):
            datasets = load("nilearn.datasets")  # not at the top: who has the files reads them without it
            try:
                found = datasets.fetch_miyawaki2008(data_dir=root, verbose=0)
            except Exception as error:  # what it raises depends on its version and on the network
                why = (str(error).splitlines() or [type(error).__name__])[0]
                remedy = f"check the connection and that {root} can be written, or copy nilearn's folder miyawaki2008 to {root}"
                raise CortexflowError(f"miyawaki2008 could not be downloaded ({why}); {remedy}") from error
            _move(Path(found.mask).parents[1], root)  # it makes a folder of the study's name within
        record(root, names)
        return root

    @classmethod
    def files(cls) -> tuple[str, ...]:
        """Every file that is read, from the study's folder on."""
        runs = [(kind, run) for kind, count in cls.RUNS.items() for run in range(1, count + 1)]
        masks = [f"mask/{side}{area}.nii.gz" for side in cls.SIDES for area in cls.AREAS]
        return (*(part for run in runs for part in (_bold(*run), _labels(*run))), cls.MASK, *masks)

    @property
    def subjects(self) -> tuple[str, ...]:
        """One person, whom the fetcher does not name."""
        return ("subj01",)

    def trials(self, subject: str) -> Trials:
        """One row per block, or per volume of a block, in the order of recording.

        Raises:
            CortexflowError: No such subject, a file is missing, or the lag leads out of a run.
            DamagedFileError: A file is not the one that was downloaded, or a run's labels do not fit its volumes.
        """
        self.check_subject(subject)
        shown = self._shown
        rows = torch.nonzero(shown.stimuli >= 0).flatten()
        answers = rows + self.config.lag
        if (answers >= len(shown.runs)).any() or not torch.equal(shown.runs[answers], shown.runs[rows]):
            raise CortexflowError(f"a lag of {self.config.lag} volumes leads out of a run; choose a smaller lag, two are usual")
        responses, stimuli, runs = self._series[answers], shown.stimuli[rows], shown.runs[rows]
        if self.config.form == "blocks":
            first = _begins(shown.blocks[rows])
            responses, stimuli, runs = _means(responses, shown.blocks[rows]), stimuli[first], runs[first]
        units = f"BOLD signal, {self.config.detrend} drift removed, z-scored within run"
        return Trials(subject, stimuli, runs, occurrences(stimuli), responses, units, runs)

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """These patterns, white where a patch was.

        On the screen a patch was a flickering checkerboard on gray.

        Raises:
            CortexflowError: An id is none of the study's, or the size is below 10.
        """
        height, width = self.config.image_size
        if min(height, width) < self.SIDE:
            raise CortexflowError(f"image_size must be {self.SIDE} at least, {height} × {width} was asked; choose 10 × 10 or more")
        wrong = stimuli[(stimuli < 0) | (stimuli >= len(self._patterns))]
        if len(wrong):
            known = f"miyawaki2008 has stimuli 0 to {len(self._patterns) - 1}"
            raise CortexflowError(f"{known}, {int(wrong[0])} was asked; ask for ids of its trials")
        rows, columns = (torch.arange(size) * self.SIDE // size for size in (height, width))
        picked = self._patterns[stimuli][:, rows][:, :, columns]
        return (picked[:, None] * 255).to(torch.uint8).expand(-1, 3, -1, -1).contiguous()

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The figures, or the random patterns of the held-out runs.

        Raises:
            CortexflowError: A held-out run does not exist.
        """
        shown, last = self._shown, self.RUNS["random"]
        wrong = [run for run in self.config.held_out_runs if not 1 <= run <= last]
        if wrong:
            raise CortexflowError(f"miyawaki2008 has random runs 1 to {last}, {wrong[0]} was held out; choose held_out_runs from them")
        runs = shown.runs > last if self.config.split == "figures" else torch.isin(shown.runs, torch.tensor(self.config.held_out_runs).long())
        return shown.stimuli[runs & (shown.stimuli >= 0)].unique()

    def cortex(self, subject: str) -> Cortex:
        """Areas of both hemispheres by the names of the files, the hemispheres, and where each voxel's centre is in the scanner.

        ``VP`` is the ventral part of the third area, which :meth:`Cortex.chain` counts among the higher ones; ``lag0to1`` to
        ``lag10to11`` are steps of the retinotopic mapping as the files have them. The mask may have voxels that are in no area.
        """
        self.check_subject(subject)
        parts = {side + area: self._area(f"mask/{side}{area}.nii.gz") for side in self.SIDES for area in self.AREAS}
        areas = {area: torch.stack([parts[side + area] for side in self.SIDES]).any(0) for area in self.AREAS}
        sides = {side: torch.stack([parts[side + area] for area in self.AREAS]).any(0) for side in self.SIDES}
        return Cortex(subject, int(self._mask.sum()), areas | sides, positions(self._mask, self._affine))

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file that is read, and the size of the pictures."""
        unread = () if self.config.split == "figures" else tuple(f"{kind}/data_figure" for kind in ("func", "label"))
        size = {"image size": "×".join(map(str, self.config.image_size))}
        return {name: checksum(self._file(name)) for name in self.files() if not name.startswith(unread)} | size

    def _runs(self) -> list[tuple[str, int]]:
        """Kind and number of every run that is read, in the order of their numbers as sessions."""
        kinds = ("random", "figure") if self.config.split == "figures" else ("random",)
        return [(kind, run) for kind in kinds for run in range(1, self.RUNS[kind] + 1)]

    @cached_property
    def _rows(self) -> list[Int[np.ndarray, "volumes patches"]]:
        """The label files."""
        return [self._read_labels(_labels(*run)) for run in self._runs()]

    def _read_labels(self, name: str) -> Int[np.ndarray, "volumes patches"]:
        path = self._file(name)
        with readable(path):
            rows = np.loadtxt(path, delimiter=",", ndmin=2)
        resting = (rows == REST).all(1)
        if rows.shape[1] != self.SIDE**2 or not np.isin(rows[~resting], (0, 1)).all():
            what = f"rows of {rows.shape[1]} numbers between {rows.min():g} and {rows.max():g}"
            raise DamagedFileError(f"{path} has {what} where each has {self.SIDE**2} of 0 and 1, or of -1; fetch the study again")
        return rows.astype(np.int64)

    @cached_property
    def _numbered(self) -> tuple[Bool[Tensor, "stimuli rows columns"], Int[Tensor, " volumes"]]:
        """Every pattern once, in the order of first appearance, and the number of each volume's, -1 during rest."""
        rows = np.concatenate(self._rows)
        numbers: dict[bytes, int] = {}
        stimuli = [REST if row[0] == REST else numbers.setdefault(row.tobytes(), len(numbers)) for row in rows]
        flat = np.array([np.frombuffer(key, dtype=rows.dtype) for key in numbers]).reshape(-1, self.SIDE, self.SIDE)
        return torch.from_numpy(flat.transpose(0, 2, 1) == 1), torch.tensor(stimuli)  # files go down a column first

    @property
    def _patterns(self) -> Bool[Tensor, "stimuli rows columns"]:
        return self._numbered[0]

    @cached_property
    def _shown(self) -> Shown:
        numbers = [run + (kind == "figure") * self.RUNS["random"] for kind, run in self._runs()]
        runs = torch.tensor(numbers).repeat_interleave(torch.tensor([len(rows) for rows in self._rows]))
        stimuli = self._numbered[1]
        blocks = (_begins(stimuli) | _begins(runs)).cumsum(0)
        return Shown(runs, stimuli, torch.where(stimuli >= 0, blocks, REST))

    @cached_property
    def _series(self) -> Float[Tensor, "volumes voxels"]:
        """Every volume of every run that is read, detrended and z-scored; a voxel that is constant in a run is 0 there."""
        return torch.cat([self._cleaned(self._read_bold(run, len(rows))) for run, rows in zip(self._runs(), self._rows, strict=True)])

    def _cleaned(self, raw: Float[Tensor, "volumes voxels"]) -> Float[Tensor, "volumes voxels"]:
        flat = detrend(raw, torch.zeros(len(raw), dtype=torch.long), self.TR, self.config.detrend)
        scored = flat / flat.std(0, correction=0)
        return torch.where(raw.amax(0) > raw.amin(0), scored, 0.0)  # what rounding leaves of a constant must not become a signal

    def _read_bold(self, run: tuple[str, int], volumes: int) -> Float[Tensor, "volumes voxels"]:
        path = self._file(_bold(*run))
        with readable(path):
            values = np.asanyarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
        if values.shape != (*self._mask.shape, volumes):
            have = f"{path} has shape {values.shape} where mask and labels have {(*self._mask.shape, volumes)}"
            raise DamagedFileError(f"{have}; fetch the study again")
        return torch.from_numpy(np.ascontiguousarray(values[self._mask].T, dtype=np.float32))

    @cached_property
    def _masked(self) -> tuple[Bool[np.ndarray, "x y z"], np.ndarray]:
        return read_mask(self._file(self.MASK))

    @property
    def _mask(self) -> Bool[np.ndarray, "x y z"]:
        return self._masked[0]

    @property
    def _affine(self) -> np.ndarray:
        return self._masked[1]

    def _area(self, name: str) -> Bool[Tensor, " voxels"]:
        return torch.from_numpy(read_volume(self._file(name), self._mask.shape)[0][self._mask] > 0)

    @cached_property
    def _known(self) -> Mapping[str, str]:
        return recorded(self.root)

    def _file(self, name: str) -> Path:
        remedy = "fetch the study with: cortexflow data fetch miyawaki2008 --to DIR"
        return published("miyawaki2008", self.root, name, remedy, self._known.get(name))


def _move(folder: Path, target: Path) -> None:
    """All files of one folder to another one."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    shutil.rmtree(folder)


def _bold(kind: str, run: int) -> str:
    return f"func/data_{kind}_run{run:02d}.nii.gz"


def _labels(kind: str, run: int) -> str:
    return f"label/data_{kind}_run{run:02d}_label.csv"


def _begins(values: Int[Tensor, " rows"]) -> Bool[Tensor, " rows"]:
    """The first row of all, and those that differ from the row before."""
    return torch.cat([torch.ones(min(1, len(values)), dtype=torch.bool), values[1:] != values[:-1]])


def _means(rows: Float[Tensor, "rows voxels"], members: Int[Tensor, " rows"]) -> Float[Tensor, "blocks voxels"]:
    """The mean of the rows of each block, blocks in rising order."""
    _, places, counts = members.unique(return_inverse=True, return_counts=True)
    return torch.zeros(len(counts), rows.shape[1]).index_add_(0, places, rows) / counts[:, None]
