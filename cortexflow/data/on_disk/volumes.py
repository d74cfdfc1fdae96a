"""NIfTI files, a block of volumes at a time, so that memory never holds more of them than it must."""

import gzip
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from jaxtyping import Bool, Float
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError
from nibabel.wrapstruct import WrapStructError
from torch import Tensor

from cortexflow.errors import CortexflowError, DamagedFileError

BLOCK = 64 << 20  # bytes of a file that are held at a time
ENDINGS = (".nii.gz", ".nii")
DAMAGE = (  # what nibabel, numpy, h5py and their decompressors raise on a file that is cut short or altered
    *(ImageFileError, HeaderDataError, HeaderTypeError, WrapStructError, zipfile.BadZipFile, zlib.error, tokenize.TokenError),
    *(OSError, EOFError, ValueError, KeyError, RuntimeError, SyntaxError),
)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What goes wrong in reading a file becomes a DamagedFileError that names it."""
    try:
        yield
    except DAMAGE as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise DamagedFileError(f"{path} is damaged or not of its type ({why}); copy or make the file again") from error


def open_volumes(path: Path, shape: tuple[int, ...] | None = None) -> Any:
    """A NIfTI image of numbers, its values not read yet.

    Arguments:
        path: The file.
        shape: The grid it must have, width × depth × height.

    Raises:
        CortexflowError: No such file, another grid, or values that are no real numbers.
        DamagedFileError: It is no NIfTI file.
    """
    if not path.is_file():
        raise CortexflowError(f"{path} does not exist; put it there")
    with readable(path):
        _check_compressed(path, path.stat().st_size, path.stat().st_mtime_ns)
        image: Any = nibabel.load(path, keep_file_open=True)  # a compressed file is read once from front to end
    if image.get_data_dtype().kind not in "fiu":
        raise CortexflowError(f"{path} holds {image.get_data_dtype()}, which are not real numbers; save it as float32")
    if shape is not None and image.shape[:3] != shape:
        raise CortexflowError(f"{path} has the grid {_by(image.shape[:3])} where its mask has {_by(shape)}; resample one to the other")
    return image


def volume_blocks(path: Path, image: Any, mask: Bool[np.ndarray, "x y z"]) -> Iterator[tuple[slice, Float[np.ndarray, "volumes voxels"]]]:
    """The voxels of a mask in some volumes after the other.

    Arguments:
        path: The file, for errors.
        image: From :func:`open_volumes`, of four dimensions.
        mask: Which voxels; they come in the order of the mask's axes, the last one fastest.

    Returns:
        Which volumes, and their values in single precision.

    Raises:
        DamagedFileError: The file ends early.
    """
    step = max(1, BLOCK // (8 * mask.size))  # scaled values come in double precision
    for start in range(0, image.shape[3], step):
        volumes = slice(start, min(start + step, image.shape[3]))
        with readable(path):
            values = np.asarray(image.dataobj[..., volumes])[mask].T
        yield volumes, np.ascontiguousarray(values, dtype=np.float32)


def read_volume(path: Path, shape: tuple[int, ...] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The values and the affine of a single volume.

    Raises:
        CortexflowError: What :func:`open_volumes` raises, or several volumes.
    """
    image = open_volumes(path, shape)
    if image.ndim < 3 or np.prod(image.shape[3:]) != 1:
        raise CortexflowError(f"{path} has the shape {_by(image.shape)} where one volume is expected; save a single volume")
    with readable(path):
        return np.asarray(image.dataobj).reshape(image.shape[:3]), image.affine


def read_mask(path: Path) -> tuple[Bool[np.ndarray, "x y z"], np.ndarray]:
    """Where a volume is above 0, and its affine.

    Raises:
        CortexflowError: What :func:`read_volume` raises, or an empty mask.
    """
    values, affine = read_volume(path)
    if not (values > 0).any():
        raise CortexflowError(f"{path} is 0 everywhere; write 1 where a voxel is to be used")
    return values > 0, affine


def read_areas(folder: Path, mask: Bool[np.ndarray, "x y z"]) -> Mapping[str, Bool[Tensor, " voxels"]]:
    """Every mask of a folder by the name of its file, for the voxels of another mask; sorted, without ``mask`` itself.

    Raises:
        CortexflowError: A file has another grid, or none of the mask's voxels.
    """
    areas = {}
    for path in sorted(path for path in folder.glob("*.nii*") if not path.name.startswith(".")):
        name = next((path.name.removesuffix(ending) for ending in ENDINGS if path.name.endswith(ending)), "mask")
        if name != "mask":
            areas[name] = torch.from_numpy(read_volume(path, mask.shape)[0][mask] > 0)
            if not areas[name].any():
                raise CortexflowError(f"{path} has none of the voxels that are used; check that it lies in the space of the responses")
    return areas


def positions(mask: Bool[np.ndarray, "x y z"], affine: np.ndarray) -> Float[Tensor, "voxels 3"]:
    """The centre of each voxel of a mask, in millimetres of the affine's space."""
    return torch.from_numpy(nibabel.affines.apply_affine(affine, np.argwhere(mask))).float()


@lru_cache(maxsize=4096)
def _check_compressed(path: Path, size: int, changed: int) -> None:
    """Compare the checksum at the end of a compressed file, which reading its values never reaches; once per file and process."""
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            while file.read(1 << 22):
                pass


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
