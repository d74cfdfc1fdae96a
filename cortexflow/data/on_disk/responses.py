"""Responses in files, trials × voxels: what is there is known at once, the numbers are read a block at a time."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.lib import format as npy
from torch import Tensor

from cortexflow.data.on_disk.volumes import BLOCK, open_volumes, readable, volume_blocks
from cortexflow.errors import CortexflowError
from cortexflow.storage import replacing

NAMES = ("responses.npy", "responses.h5", "responses.hdf5", "responses.npz", "responses.nii.gz", "responses.nii")
GLMSINGLE = "TYPE?_*"  # TYPED_FITHRF_GLMDENOISE_RR.hdf5 and its simpler sisters

Mask = Bool[np.ndarray, "x y z"]
Block = tuple[slice, slice, np.ndarray]  # which trials, which voxels, and their values


@dataclass(frozen=True)
class Responses:
    """A file of responses.

    Arguments:
        path: The file.
        trials: Its rows.
        voxels: Its columns.
        dtype: How numbers are stored.
        pieces: Goes through the file, block by block.
        mapped: Whether memory can stand for the file, which is then read where it is looked at.
    """

    path: Path
    trials: int
    voxels: int
    dtype: np.dtype
    pieces: Callable[[], Iterator[Block]]
    mapped: bool = False

    def blocks(self) -> Iterator[Block]:
        """Which trials, which voxels, and their values in single precision.

        Raises:
            DamagedFileError: The file ends early or is altered.
        """
        blocks = self.pieces()
        while True:
            with readable(self.path):
                block = next(blocks, None)
            if block is None:
                return
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and infinite responses are refused
                yield block[0], block[1], np.ascontiguousarray(block[2], dtype=np.float32)

    def read(self) -> Float[Tensor, "trials voxels"]:
        """All of them. A mapped file takes memory only for what is looked at; writing to the tensor does not reach the file."""
        if self.mapped:
            with readable(self.path):
                return torch.from_numpy(np.load(self.path, mmap_mode="c", allow_pickle=False))
        responses = torch.empty(self.trials, self.voxels)
        for trials, voxels, values in self.blocks():
            responses[trials, voxels] = torch.from_numpy(values)
        return responses


def find_responses(folder: Path) -> Path:
    """The one file of responses of a folder.

    Raises:
        CortexflowError: There is none, or several.
    """
    files = [folder / name for name in NAMES if (folder / name).is_file()]
    files += sorted(path for path in folder.glob(GLMSINGLE) if path.suffix in (".npy", ".h5", ".hdf5"))
    if not files:
        raise CortexflowError(f"{folder} has no responses; put one of {', '.join(NAMES)} there, or GLMsingle's TYPED_FITHRF_GLMDENOISE_RR.hdf5")
    if len(files) > 1:
        raise CortexflowError(f"{folder} has responses in {' and '.join(path.name for path in files)}; keep one of them")
    return files[0]


def open_responses(path: Path, mask: Mask | None = None) -> Responses:
    """What a file of responses holds; its numbers are not read yet.

    Arguments:
        path: ``.npy`` (trials × voxels); ``.h5`` or ``.hdf5`` with a dataset ``responses`` (trials × voxels) or GLMsingle's
            ``betasmd`` (voxels or volume × trials); ``.npz`` with one of the two; ``.nii`` or ``.nii.gz`` (volume × trials).
        mask: Which voxels of a volume are used, in the order of its axes, the last one fastest.

    Raises:
        CortexflowError: A volume without a mask, another grid than the mask's, values that are no real numbers, a pickle, or
            a file that has neither dataset.
        DamagedFileError: The file is cut short or of another type.
    """
    if path.name.endswith((".nii", ".nii.gz")):
        return _nifti(path, mask)
    return {".npy": _npy, ".npz": _npz}.get(path.suffix, _hdf5)(path, mask)


def save_responses(path: Path, responses: Float[Tensor, "trials voxels"]) -> None:
    """Write a ``.npy`` file that :func:`open_responses` maps, whole or not at all, a block of rows at a time."""
    rows = max(1, BLOCK // (4 * max(1, responses.shape[1])))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": tuple(responses.shape)})
        for block in responses.split(rows):
            file.write(np.ascontiguousarray(block.numpy(), dtype="<f4").data)


@dataclass(frozen=True)
class Survey:
    """What is wrong with responses.

    Arguments:
        broken: Voxels with a response that is not finite.
        constant: Finite voxels that do not vary within a session of two trials or more.
        twins: Pairs of trials whose responses are the same in every voxel.
    """

    broken: int
    constant: int
    twins: list[tuple[int, int]]


def survey(responses: Responses, sessions: Int[Tensor, " trials"]) -> Survey:
    """Goes once through a file of responses."""
    labels = sessions.unique(return_inverse=True)[1].numpy()
    finite = np.ones(responses.voxels, dtype=bool)
    low, high = (np.full((labels.max() + 1, responses.voxels), limit, dtype=np.float32) for limit in (np.inf, -np.inf))
    digests = [hashlib.blake2b(digest_size=16) for _ in range(responses.trials)]
    for trials, voxels, values in responses.blocks():
        finite[voxels] &= np.isfinite(values).all(0)
        for label in np.unique(labels[trials]):
            part = values[labels[trials] == label]
            low[label, voxels], high[label, voxels] = np.fmin(low[label, voxels], part.min(0)), np.fmax(high[label, voxels], part.max(0))
        for digest, row in zip(digests[trials], values, strict=True):
            digest.update(row.data)
    asked = np.bincount(labels) > 1
    varies = (low[asked] != high[asked]).all(0)
    return Survey(int((~finite).sum()), int((finite & ~varies).sum()), _twins([digest.digest() for digest in digests]))


def _twins(digests: Sequence[bytes]) -> list[tuple[int, int]]:
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(digest, row), row) for row, digest in enumerate(digests)]
    return [(one, other) for one, other in pairs if one != other]


def _npy(path: Path, mask: Mask | None) -> Responses:
    with readable(path), open(path, "rb") as file:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        version = npy.read_magic(file)
        shape, fortran, dtype = readers.get(version, npy.read_array_header_2_0)(file)
    if dtype.hasobject:
        what = f"{path} is a pickle (as GLMsingle's .npy is), and opening one can run any program"
        raise CortexflowError(f"{what}; let GLMsingle write HDF5 with opt['wanthdf5'] = 1, or save the numbers alone with numpy.save")
    _check(path, dtype, shape, "responses")
    with readable(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    mapped = dtype == np.dtype("=f4") and not fortran
    return Responses(path, shape[0], shape[1], dtype, lambda: _rows(array), mapped)


def _npz(path: Path, mask: Mask | None) -> Responses:
    with readable(path), np.load(path, allow_pickle=False) as archive:
        name = _dataset(path, archive.files)
        array = archive[name]  # a member of an archive cannot be read in parts
    return _of_array(path, name, array.shape, array.dtype, mask, lambda used: _blocks(array, name, used))


def _hdf5(path: Path, mask: Mask | None) -> Responses:
    def pieces(used: Mask | None) -> Iterator[Block]:
        with h5py.File(path, "r") as file:
            yield from _blocks(file[name], name, used)

    with readable(path), h5py.File(path, "r") as file:
        name = _dataset(path, [name for name, entry in file.items() if isinstance(entry, h5py.Dataset)])
        shape, dtype = file[name].shape, file[name].dtype
    return _of_array(path, name, shape or (), dtype, mask, pieces)


def _nifti(path: Path, mask: Mask | None) -> Responses:
    if mask is None:
        raise CortexflowError(f"{path} needs a mask.nii.gz beside it, which says which voxels are used; write 1 there")
    image = open_volumes(path, mask.shape)
    _check(path, image.get_data_dtype(), image.shape, "volumes")
    voxels = slice(0, int(mask.sum()))
    return Responses(
        path,
        image.shape[3],
        voxels.stop,
        image.get_data_dtype(),
        lambda: ((volumes, voxels, values) for volumes, values in volume_blocks(path, image, mask)),
    )


def _of_array(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, mask: Mask | None, pieces: Callable[[Mask | None], Iterator[Block]]
) -> Responses:
    _check(path, dtype, shape, name)
    if name == "responses":
        return Responses(path, shape[0], shape[1], dtype, lambda: pieces(None))
    grid = shape[:-1]
    if len(grid) == 1 or grid[1:] == (1, 1):  # GLMsingle writes a list of voxels as voxels × 1 × 1
        return Responses(path, shape[-1], grid[0], dtype, lambda: pieces(None))
    if mask is None:
        raise CortexflowError(f"{path} has volumes of {grid} and needs a mask.nii.gz beside it, which says which voxels are used; write 1 there")
    if grid != mask.shape:
        raise CortexflowError(f"{path} has volumes of {grid} and its mask {mask.shape}; use the mask of the same space")
    return Responses(path, shape[-1], int(mask.sum()), dtype, lambda: pieces(mask))


def _dataset(path: Path, names: Sequence[str]) -> str:
    found = [name for name in ("responses", "betasmd") if name in names]
    if len(found) != 1:
        raise CortexflowError(f"{path} must hold 'responses' or 'betasmd', it holds {', '.join(names) or 'nothing'}; name the numbers so")
    return found[0]


def _check(path: Path, dtype: np.dtype, shape: tuple[int, ...], name: str) -> None:
    """Raises CortexflowError where numbers of this type and shape cannot be responses."""
    expected = {"responses": "trials × voxels", "betasmd": "voxels × trials or volume × trials", "volumes": "volume × trials"}[name]
    dimensions = {"responses": (2,), "betasmd": (2, 4), "volumes": (4,)}[name]
    if dtype.kind not in "fiu":
        raise CortexflowError(f"{path} holds {dtype}, which are not real numbers; save it as float32")
    if len(shape) not in dimensions or 0 in shape:
        raise CortexflowError(f"{path} has the shape {shape} where {expected} is expected; reshape it")


def _blocks(array: Any, name: str, mask: Mask | None) -> Iterator[Block]:
    return _rows(array) if name == "responses" else _planes(array, mask)


def _rows(array: Any) -> Iterator[Block]:
    """Blocks of an array of trials × voxels along the axis in which it is stored."""
    trials, voxels = array.shape
    by_voxel = isinstance(array, np.ndarray) and not array.flags.c_contiguous
    length, step = (voxels, trials) if by_voxel else (trials, voxels)
    step = max(1, BLOCK // (step * array.dtype.itemsize))
    for start in range(0, length, step):
        part, every = slice(start, min(start + step, length)), slice(None)
        rows, columns = (every, part) if by_voxel else (part, every)
        yield slice(*rows.indices(trials)), slice(*columns.indices(voxels)), array[rows, columns]


def _planes(array: Any, mask: Mask | None) -> Iterator[Block]:
    """Blocks of an array of voxels × trials or volume × trials, along its first axis, turned to trials × voxels."""
    length, trials, done = array.shape[0], array.shape[-1], 0
    step = max(1, BLOCK // (int(np.prod(array.shape[1:])) * array.dtype.itemsize))
    for start in range(0, length, step):
        values = array[start : start + step]
        values = values[mask[start : start + step]] if mask is not None else values.reshape(-1, trials)
        yield slice(0, trials), slice(done, done + len(values)), values.T
        done += len(values)
