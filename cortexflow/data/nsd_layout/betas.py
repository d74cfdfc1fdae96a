"""One session of single-trial responses, for the voxels of a mask, in little more memory than these voxels take.

NIfTI files hold one volume after the other, x fastest, and are read as a stream. HDF5 files have the axes the other way round
(trials, z, y, x) and are read along the blocks in which they are stored, whatever those are. Surface files are streams again.
"""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
from jaxtyping import Bool, Int

from cortexflow.data.nsd_layout.design import PER_SESSION
from cortexflow.data.on_disk.volumes import BLOCK, readable
from cortexflow.errors import CortexflowError, DamagedFileError

try:
    from isal import isal_zlib as inflate  # half the time of the standard library's, for those who have it
except ModuleNotFoundError:
    inflate = zlib

PERCENT = 300  # volumes hold integers, 300 per percent signal change; surfaces hold percent


def read_volumes(path: Path, mask: Bool[np.ndarray, "x y z"]) -> Int[np.ndarray, "trials voxels"]:
    """A session in a volume, 300 per percent signal change; voxels in the order of the mask's axes, the last one fastest.

    Raises:
        CortexflowError: Another grid than the mask's, another number of trials, or values that are no 16-bit integers.
        DamagedFileError: The file is cut short or altered.
    """
    values = _hdf5(path, mask) if path.suffix == ".hdf5" else _nifti(path, mask)
    empty = (values == 0).all(0).mean()
    if empty > 0.5:
        what = f"{path} is 0 in {empty:.0%} of the mask's voxels"
        raise CortexflowError(
            f"{what}; its axes are in another order or the mask is of another space: copy both again from the same subject and space"
        )
    return values


def look_at_volumes(path: Path, mask: Bool[np.ndarray, "x y z"]) -> str:
    """What a session's file says of itself, in a few words; its numbers are not read.

    Raises:
        CortexflowError: As :func:`read_volumes` for what the header tells.
        DamagedFileError: It is cut short (HDF5) or of another type.
    """
    if path.suffix == ".hdf5":
        with readable(path), h5py.File(path, "r") as file:
            _dataset(path, file, mask.shape)
    else:
        _open_nifti(path, mask.shape)
    return f"{PER_SESSION} trials of {_by(mask.shape)}"


def read_surface(path: Path, mask: Bool[np.ndarray, " vertices"]) -> np.ndarray:
    """A session on one hemisphere, trials × vertices of the mask.

    Returns:
        Of the average brain (``.mgh``), percent signal change in single precision; of the subject's own surface (``.hdf5``), 300 per
        percent signal change, 16-bit integers.

    Raises:
        CortexflowError: Another number of vertices than the mask's, or another number of trials.
        DamagedFileError: The file is cut short.
    """
    if path.suffix == ".hdf5":
        return _hdf5(path, mask)
    with readable(path):
        image: Any = nibabel.load(path)
    shape = tuple(map(int, image.shape))  # nibabel gives numpy's integers here
    _check(path, shape, (len(mask), 1, 1), image.get_data_dtype(), "f4")
    dtype, offset = image.get_data_dtype().newbyteorder(">"), image.header.get_data_offset()
    return picked(path, offset, dtype, shape, np.flatnonzero(mask)).astype(np.float32, copy=False)


def _nifti(path: Path, mask: Bool[np.ndarray, "x y z"]) -> Int[np.ndarray, "trials voxels"]:
    image = _open_nifti(path, mask.shape)
    return picked(path, image.dataobj.offset, image.get_data_dtype(), image.shape, places(mask))


def _open_nifti(path: Path, grid: tuple[int, ...]) -> Any:
    with readable(path):
        image: Any = nibabel.load(path)
    _check(path, image.shape, grid, image.get_data_dtype(), "i2")
    if (image.dataobj.slope, image.dataobj.inter) != (1, 0):
        raise CortexflowError(f"{path} is scaled by {image.dataobj.slope} in its header, the dataset's files are not; copy the file again")
    return image


def picked(path: Path, offset: int, dtype: np.dtype, shape: tuple[int, ...], where: Int[np.ndarray, " voxels"]) -> np.ndarray:
    """Some voxels of a file that holds one volume after the other, read as a stream, compressed or not.

    Arguments:
        path: The file.
        offset: Bytes before its first volume.
        dtype: Of its numbers, in the file's order of bytes.
        shape: Width, depth, height and number of volumes, the first changing fastest.
        where: Place of each voxel in a volume, in the file's order.

    Returns:
        Volumes × voxels, in this machine's order of bytes.

    Raises:
        DamagedFileError: The file is cut short, or its checksum does not match.
    """
    values = np.empty((shape[3], len(where)), dtype=dtype.newbyteorder("="))
    for row, frame in enumerate(_frames(path, offset, dtype, shape)):
        values[row] = frame[where]
    return values


def places(mask: Bool[np.ndarray, "x y z"]) -> Int[np.ndarray, " voxels"]:
    """Where a mask's voxels lie in a volume of a file, in the order of the mask's axes, the last one fastest."""
    return np.asarray(np.ravel_multi_index(tuple(np.argwhere(mask).T), mask.shape, order="F"))


def _frames(path: Path, offset: int, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """One volume after the other, flat, in the same piece of memory."""
    frame = np.empty(int(np.prod(shape[:3])), dtype=dtype)
    with readable(path), Inflating(path) if path.suffix == ".gz" else open(path, "rb", buffering=0) as file:
        _fill(file, memoryview(bytearray(offset)))
        for _ in range(shape[3]):
            _fill(file, frame.view(np.uint8).data)
            yield frame
        while file.read(1 << 20):  # the checksum of a compressed file comes after its last byte
            pass


class Inflating(io.RawIOBase):
    """What a compressed file holds, from front to end; one checksum less, and larger pieces, than in the standard library's stream.

    Arguments:
        path: The file; several compressed files in a row are one.
    """

    PIECE, GZIP = 1 << 18, 31  # bytes; the number by which zlib is told to expect gzip's header and checksum

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed with the stream)
        self._left, self._stream, self._begun = b"", inflate.decompressobj(self.GZIP), False

    def close(self) -> None:
        """Closes the file too."""
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fills a part of the buffer, 0 bytes at the end.

        Raises:
            EOFError: The file is cut short.
            OSError: It is altered, or not compressed at all.
        """
        while True:
            part = self._left or self._file.read(self.PIECE)
            data = self._next(part, len(buffer))
            if data or not part:
                break
        if not data and self._begun:
            raise EOFError("it ends in the middle of what is compressed")
        buffer[: len(data)] = data
        return len(data)

    def _next(self, part: bytes, most: int) -> bytes:
        try:
            data = self._stream.decompress(part, most)
        except inflate.error as error:
            raise OSError(str(error)) from error
        self._left, self._begun = self._stream.unconsumed_tail, self._begun or bool(part)
        if self._stream.eof:
            self._left = self._stream.unused_data.lstrip(b"\0")  # some writers fill the last block with zeros
            self._stream, self._begun = inflate.decompressobj(self.GZIP), False
        return data


def _fill(file: Any, buffer: memoryview) -> None:
    done = 0
    while done < len(buffer):
        count = file.readinto(buffer[done:])
        if not count:
            raise EOFError("it ends in the middle of a volume")
        done += count


def _hdf5(path: Path, mask: Bool[np.ndarray, "*grid"]) -> Int[np.ndarray, "trials voxels"]:
    with readable(path), h5py.File(path, "r") as file:
        betas = _dataset(path, file, mask.shape)
        where = np.argwhere(mask)[:, ::-1]
        whole = betas.chunks == (betas.shape[0], *[1] * mask.ndim) and betas.id.get_create_plist().get_nfilters() == 0
        return _voxel_by_voxel(betas, where) if whole else _tile_by_tile(betas, where)


def _dataset(path: Path, file: h5py.File, grid: tuple[int, ...]) -> h5py.Dataset:
    betas = file.get("betas")
    if not isinstance(betas, h5py.Dataset):
        raise DamagedFileError(f"{path} must hold the dataset 'betas', it holds {', '.join(file) or 'nothing'}; copy the file again")
    _check(path, (*betas.shape[:0:-1], betas.shape[0]), grid, betas.dtype, "i2")
    return betas


def _voxel_by_voxel(betas: h5py.Dataset, where: Int[np.ndarray, "voxels axes"]) -> Int[np.ndarray, "trials voxels"]:
    """As the dataset stores them, a block per voxel: taken from the file without the detour of a selection."""
    values = np.empty((len(where), betas.shape[0]), dtype=betas.dtype)
    for row, place in enumerate(where.tolist()):
        values[row] = np.frombuffer(betas.id.read_direct_chunk((0, *place))[1], dtype=betas.dtype)
    return np.ascontiguousarray(values.T.astype(np.int16, copy=False))


def _tile_by_tile(betas: h5py.Dataset, where: Int[np.ndarray, "voxels axes"]) -> Int[np.ndarray, "trials voxels"]:
    """Every block of the file that holds a voxel is read once; a file without blocks is one of them."""
    chunks = betas.chunks or (1, *betas.shape[1:])
    values = np.empty((betas.shape[0], len(where)), dtype=np.int16)
    if not len(where):  # a hemisphere may have none
        return values
    _, tile = np.unique(where // np.array(chunks[1:]), axis=0, return_inverse=True)
    order = np.argsort(tile.ravel(), kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(tile.ravel()[order])) + 1):
        low, high = where[members].min(0), where[members].max(0) + 1
        step = chunks[0] * max(1, BLOCK // (2 * chunks[0] * int(np.prod(high - low))))
        inside, sides = tuple((where[members] - low).T), tuple(map(slice, low, high))
        for start in range(0, betas.shape[0], step):
            values[start : start + step, members] = betas[(slice(start, start + step), *sides)][(slice(None), *inside)]
    return values


def _check(path: Path, shape: tuple[int, ...], grid: tuple[int, ...], dtype: np.dtype, kind: str) -> None:
    """Raises CortexflowError where a session cannot have this shape and type."""
    if shape[:-1] != grid:
        swapped = " (its axes are reversed)" if shape[:-1] == grid[::-1] else ""
        raise CortexflowError(
            f"{path} has volumes of {_by(shape[:-1])}{swapped} where the mask has {_by(grid)}; use both of the same subject and space"
        )
    if shape[-1] != PER_SESSION:
        raise CortexflowError(f"{path} has {shape[-1]} trials where a session has {PER_SESSION}; copy the file again")
    if dtype.kind + str(dtype.itemsize) != kind:
        raise CortexflowError(f"{path} holds {dtype} where the dataset has {np.dtype(kind)}; copy the file again, unchanged")


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
