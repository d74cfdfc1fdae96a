"""The kinds of space that responses come in, volumes and surfaces: where each keeps its sessions, maps and places."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import nibabel
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cortexflow.data.nsd_layout.atlases import DRAWN, areas_of, read_ctab
from cortexflow.data.nsd_layout.betas import PERCENT, look_at_volumes, read_surface, read_volumes
from cortexflow.data.nsd_layout.files import BUCKET
from cortexflow.data.nsd_layout.orientation import check_orientation
from cortexflow.data.nsd_layout.upkeep.wholeness import read_through
from cortexflow.data.on_disk.volumes import positions, read_volume, readable
from cortexflow.errors import CortexflowError

BETAS = {"b1": "betas_assumehrf", "b2": "betas_fithrf", "b3": "betas_fithrf_GLMdenoise_RR"}
ENDINGS = {"any": ("hdf5", "nii.gz", "nii"), "hdf5": ("hdf5",), "nifti": ("nii.gz", "nii")}  # the fastest first
SIDES = ("lh", "rh")


class Kept(NamedTuple):
    """A subject's maps and sessions in one space.

    Arguments:
        root: The folder that stands for the bucket.
        subject: As the dataset writes it.
        name: ``func1pt8mm``, ``func1mm``, ``fsaverage`` or ``nativesurface``.
        betas: ``b1``, ``b2`` or ``b3``.
        files: Which files of a session to read, ``any``, ``hdf5`` or ``nifti``.
    """

    root: Path
    subject: str
    name: str
    betas: str
    files: str

    @property
    def folder(self) -> Path:
        """Where the sessions lie."""
        return self.root / "nsddata_betas/ppdata" / self.subject / self.name / BETAS[self.betas]

    @property
    def maps(self) -> Path:
        """Where the subject's other maps of this space lie."""
        return self.root / "nsddata/ppdata" / self.subject / self.name

    def missing(self, path: Path) -> CortexflowError:
        """The error for a file that is not there."""
        return CortexflowError(f"{path} does not exist; copy {BUCKET}/{path.relative_to(self.root).as_posix()} to this place")


class Space(ABC):
    """One subject's responses in one space."""

    per_percent: float  # stored numbers per percent signal change

    def __init__(self, kept: Kept) -> None:
        self.kept = kept

    @abstractmethod
    def sessions(self) -> dict[int, tuple[Path, ...]]:
        """The files of each session that is there, by its number."""

    @abstractmethod
    def read(self, files: tuple[Path, ...], mask: np.ndarray) -> np.ndarray:
        """Stored numbers of one session, trials × voxels."""

    @abstractmethod
    def look(self, files: tuple[Path, ...], mask: np.ndarray) -> str:
        """What the files of one session say of themselves. Raises CortexflowError where they cannot be read for this mask."""

    @abstractmethod
    def atlases(self) -> list[str]:
        """The names of all label maps that are there, sorted."""

    @abstractmethod
    def labels(self, atlas: str) -> np.ndarray:
        """A label map. Raises CortexflowError where it is not there."""

    @abstractmethod
    def coordinates(self, mask: np.ndarray) -> Float[Tensor, "voxels 3"] | None:
        """Where the voxels are, in millimetres, if a file says it."""

    @abstractmethod
    def ncsnr(self, mask: np.ndarray) -> Float[Tensor, " voxels"] | None:
        """The noise-ceiling signal-to-noise ratio that the dataset ships beside the responses, if it is there."""

    @abstractmethod
    def named(self, pattern: str) -> list[str]:
        """The names of other maps that are there and fit a pattern with stars, as :meth:`map` takes them, sorted."""

    @abstractmethod
    def map(self, name: str, mask: np.ndarray) -> Float[Tensor, " voxels"]:
        """Another of the subject's maps. Raises CortexflowError where it is not there."""

    def labelled(self, atlas: str) -> np.ndarray:
        """Where a map has a label, that is where it is above 0: -1 and 0 are no label."""
        mask = self.labels(atlas) > 0
        if not mask.any():
            raise CortexflowError(f"{self.kept.subject}: {atlas} has no label above 0 in {self.kept.name}; choose another mask")
        return mask

    def mask(self, atlas: str) -> np.ndarray:
        """What has a label, without places that have no responses in a session that is there."""
        labelled, answering = self.labelled(atlas), self.answering()
        mask = labelled & answering if answering.shape in ((), labelled.shape) else labelled  # another size has an error of its own
        if not mask.any():
            raise CortexflowError(f"{self.kept.subject} has no responses where {atlas} has labels in {self.kept.name}; copy its sessions again")
        return mask

    def answering(self) -> np.ndarray:
        """Where every session that is there has numbers: everywhere, unless a space says otherwise."""
        return np.array(True)

    def areas(self, atlas: str, mask: np.ndarray) -> Mapping[str, Bool[Tensor, " voxels"]]:
        """The areas of one map that have a voxel in the mask."""
        return areas_of(atlas, self.labels(atlas), self._names(atlas), mask)

    def drawn(self) -> list[str]:
        """The maps that are there among those that most studies use."""
        found = self.atlases()
        return [atlas for atlas in DRAWN if atlas in found]

    def _tables(self, atlas: str) -> list[Path]:
        """The tables of a map's labels that are there, the subject's own first."""
        folders = [self.kept.root / "nsddata/freesurfer" / owner / "label" for owner in (self.kept.subject, "fsaverage")]
        files = [folder / f"{side}{atlas}.mgz.ctab" for folder in folders for side in ("", "lh.")]
        return [path for path in files if path.is_file()]

    def _names(self, atlas: str) -> dict[int, str]:
        tables = self._tables(atlas)
        if tables:
            return read_ctab(tables[0])
        if (self.labels(atlas) > 1).any():
            raise self.kept.missing(self.kept.root / "nsddata/freesurfer" / self.kept.subject / "label" / f"{atlas}.mgz.ctab")
        return {}


class Volumes(Space):
    """A grid of voxels in the subject's own head."""

    per_percent = float(PERCENT)

    def sessions(self) -> dict[int, tuple[Path, ...]]:
        """The fastest file of each session."""
        return {number: (path,) for ending in reversed(ENDINGS[self.kept.files]) for number, path in _numbered(self.kept.folder, "", ending)}

    def read(self, files: tuple[Path, ...], mask: np.ndarray) -> np.ndarray:
        """300 per percent signal change, 16-bit integers."""
        self._check_axes(files[0], mask)
        return read_volumes(files[0], mask)

    def look(self, files: tuple[Path, ...], mask: np.ndarray) -> str:
        """By its header, and by where its first trial is 0."""
        said = look_at_volumes(files[0], mask)
        self._check_axes(files[0], mask)
        return said

    def atlases(self) -> list[str]:
        """From the folder ``roi``; the files of one hemisphere are parts of those without a prefix."""
        return sorted({path.name.removesuffix(".nii.gz").removeprefix("lh.").removeprefix("rh.") for path in self._drawings()})

    def labels(self, atlas: str) -> np.ndarray:
        """The map of both hemispheres, put together from the two where only they are there; or ``brainmask``."""
        if atlas == "brainmask":
            return self._volume(self.kept.maps / "brainmask.nii.gz")
        folder = self.kept.maps / "roi"
        sides = [folder / f"{side}.{atlas}.nii.gz" for side in SIDES]
        if (folder / f"{atlas}.nii.gz").is_file() or not all(path.is_file() for path in sides):
            return self._volume(folder / f"{atlas}.nii.gz")
        left, right = map(self._volume, sides)
        return np.where(left != -1, left, right)

    def coordinates(self, mask: np.ndarray) -> Float[Tensor, "voxels 3"] | None:
        """By the affine of the mean volume or of any label map: the order of the axes says nothing about left and right."""
        files = [self.kept.maps / "mean.nii.gz", *sorted(self._drawings()), self.kept.maps / "brainmask.nii.gz"]
        there = next(path for path in files if path.is_file())
        return positions(mask, read_volume(there, mask.shape)[1])

    def ncsnr(self, mask: np.ndarray) -> Float[Tensor, " voxels"] | None:
        """NaN outside the brain, as in the file."""
        path = self.kept.folder / "ncsnr.nii.gz"
        return torch.from_numpy(read_volume(path, mask.shape)[0][mask].astype(np.float32)) if path.is_file() else None

    def named(self, pattern: str) -> list[str]:
        """From the subject's folder of this space."""
        return sorted(path.name.removesuffix(".nii.gz") for path in self.kept.maps.glob(f"{pattern}.nii.gz"))

    def map(self, name: str, mask: np.ndarray) -> Float[Tensor, " voxels"]:
        """``floc_facestval``, ``prf_angle``, ``R2`` … of the subject's folder of this space."""
        path = self.kept.maps / f"{name}.nii.gz"
        return torch.from_numpy(self._volume(path, mask.shape)[mask].astype(np.float32))

    def _drawings(self) -> Iterator[Path]:
        """The files of label maps, without those that systems hide beside them."""
        return (self.kept.maps / "roi").glob("[!.]*.nii.gz")

    @cached_property
    def _brain(self) -> np.ndarray | None:
        path = self.kept.maps / "brainmask.nii.gz"
        return self._volume(path) > 0 if path.is_file() else None

    def _check_axes(self, path: Path, mask: np.ndarray) -> None:
        look_at_volumes(path, mask)  # another shape has an error of its own
        if self._brain is not None and self._brain.shape == mask.shape:
            check_orientation(path, self._brain)

    def _volume(self, path: Path, shape: tuple[int, ...] | None = None) -> np.ndarray:
        if not path.is_file():
            raise self.kept.missing(path)
        return read_volume(path, shape)[0]


class Surface(Space):
    """The vertices of both hemispheres, the left one first."""

    ending: str  # of the files of sessions

    def sessions(self) -> dict[int, tuple[Path, ...]]:
        """Sessions of which both hemispheres are there."""
        sides = [dict(_numbered(self.kept.folder, f"{side}.", self.ending)) for side in SIDES]
        return {number: (sides[0][number], sides[1][number]) for number in sorted(set(sides[0]) & set(sides[1]))}

    def read(self, files: tuple[Path, ...], mask: np.ndarray) -> np.ndarray:
        """As they are stored."""
        parts = np.split(mask, self._sizes(files, mask)[:1])
        return np.concatenate([read_surface(path, part) for path, part in zip(files, parts, strict=True)], axis=1)

    def look(self, files: tuple[Path, ...], mask: np.ndarray) -> str:
        """The vertices of both hemispheres."""
        return " and ".join(map(str, self._sizes(files, mask))) + " vertices"

    def atlases(self) -> list[str]:
        """From the folder of labels, where maps of other kinds lie as well: those that have a table of labels, and nsdgeneral."""
        names = sorted(path.name.removesuffix(".mgz").removeprefix("lh.") for path in self._labels.glob("lh.*.mgz"))
        return [name for name in names if name == "nsdgeneral" or self._tables(name)]

    def labels(self, atlas: str) -> np.ndarray:
        """Both hemispheres, one after the other."""
        return self._both([self._labels / f"{side}.{atlas}.mgz" for side in SIDES])

    def coordinates(self, mask: np.ndarray) -> Float[Tensor, "voxels 3"] | None:
        """On the white matter's surface of the brain whose vertices these are, if that is there."""
        files = [self._labels.parent / f"surf/{side}.white" for side in SIDES]
        if not all(path.is_file() for path in files):
            return None
        return torch.from_numpy(np.concatenate([nibabel.freesurfer.read_geometry(path)[0] for path in files])[mask]).float()

    def ncsnr(self, mask: np.ndarray) -> Float[Tensor, " voxels"] | None:
        """Of both hemispheres."""
        files = [self.kept.folder / f"{side}.ncsnr.mgh" for side in SIDES]
        return torch.from_numpy(self._both(files)[mask].astype(np.float32)) if all(path.is_file() for path in files) else None

    def named(self, pattern: str) -> list[str]:
        """From the folder of labels."""
        files = sorted(self._labels.glob(f"lh.{_joined(pattern)}.mgz"))
        return [re.sub("^(prf|floc)", r"\1_", path.name.removesuffix(".mgz").removeprefix("lh.")) for path in files]

    def map(self, name: str, mask: np.ndarray) -> Float[Tensor, " voxels"]:
        """Of the folder of labels, where ``prf_angle`` is called ``prfangle``."""
        return torch.from_numpy(self.labels(_joined(name))[mask].astype(np.float32))

    @property
    @abstractmethod
    def _labels(self) -> Path:
        """The folder of labels."""

    @abstractmethod
    def _vertices(self, path: Path) -> int:
        """How many a session's file has."""

    def _both(self, files: list[Path]) -> np.ndarray:
        return np.concatenate([self._read(path) for path in files])

    def _read(self, path: Path) -> np.ndarray:
        if not path.is_file():
            raise self.kept.missing(path)
        read_through(path)  # what is altered is told by the checksum at its end, which reading the numbers never reaches
        with readable(path):
            image: Any = nibabel.load(path)
            return np.asarray(image.dataobj).ravel()

    def _sizes(self, files: tuple[Path, ...], mask: np.ndarray) -> list[int]:
        """How many vertices each hemisphere has."""
        sizes = [self._vertices(path) for path in files]
        if sum(sizes) != len(mask):
            raise CortexflowError(f"{files[0]} and {files[1].name} have {sum(sizes)} vertices where the mask has {len(mask)}; copy them again")
        return sizes


class Average(Surface):
    """The average brain, in percent signal change. In some subjects vertices are NaN, because they were not recorded."""

    per_percent, ending = 1.0, "mgh"

    def read(self, files: tuple[Path, ...], mask: np.ndarray) -> np.ndarray:
        """Percent signal change. Raises CortexflowError where a vertex has numbers in the first trial and not in another."""
        values = super().read(files, mask)
        broken = int(np.isnan(values).any(axis=0).sum())
        if broken:
            raise CortexflowError(f"{files[0]} and {files[1].name}: {broken} vertices are NaN in some trials and not in others; copy them again")
        return values

    def answering(self) -> np.ndarray:
        """Where no session's first trial is NaN."""
        finite: np.ndarray | None = None
        for files in self.sessions().values():
            here = np.concatenate([np.isfinite(self._first(path)) for path in files])
            finite = here if finite is None or finite.shape != here.shape else finite & here
        return np.array(True) if finite is None else finite

    @property
    def _labels(self) -> Path:
        return self.kept.root / "nsddata/freesurfer/fsaverage/label"

    def _vertices(self, path: Path) -> int:
        with readable(path):
            image: Any = nibabel.load(path)
            return int(image.shape[0])

    def _first(self, path: Path) -> np.ndarray:
        """The first trial, without reading the others."""
        with readable(path):
            image: Any = nibabel.load(path)
            return np.asarray(image.dataobj[..., 0]).ravel()


class Native(Surface):
    """The subject's own surface, 300 per percent signal change."""

    per_percent, ending = float(PERCENT), "hdf5"

    @property
    def _labels(self) -> Path:
        return self.kept.root / "nsddata/freesurfer" / self.kept.subject / "label"

    def _vertices(self, path: Path) -> int:
        with readable(path), h5py.File(path, "r") as file:
            return int(file["betas"].shape[-1])


def _joined(name: str) -> str:
    """Surfaces write without an underline what volumes write with one."""
    return re.sub("^(prf|floc)_", r"\1", name)


def _numbered(folder: Path, prefix: str, ending: str) -> list[tuple[int, Path]]:
    """The sessions of a folder by their numbers."""
    pattern = re.compile(rf"{re.escape(prefix)}betas_session(\d\d)\.{re.escape(ending)}")
    matches = [(pattern.fullmatch(path.name), path) for path in folder.glob(f"{prefix}betas_session*.{ending}")]
    return sorted((int(match[1]), path) for match, path in matches if match)


def space(kept: Kept) -> Space:
    """The space of this name."""
    kinds: dict[str, type[Space]] = {"fsaverage": Average, "nativesurface": Native}
    return kinds.get(kept.name, Volumes)(kept)
