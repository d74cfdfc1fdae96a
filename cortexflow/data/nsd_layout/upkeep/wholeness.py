"""Whether files are whole: by their length, which costs nothing, or by reading them to the end."""

import gzip
from math import prod
from pathlib import Path
from typing import Any

import h5py
import nibabel

from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import DamagedFileError

BLOCK = 8 << 20  # bytes read at a time
VOLUMES = (".nii.gz", ".nii", ".mgh", ".mgz")


def check_length(path: Path) -> None:
    """Compare the length of a volume's file with its header, without reading what lies between.

    A compressed file ends with the length of its content, up to multiples of 4 GiB. Where that disagrees, which one that was
    compressed in several pieces may do, the file is read to its end. HDF5 compares its length when it is opened.

    Raises:
        DamagedFileError: It is cut short.
    """
    if not path.name.endswith(VOLUMES):
        return
    with readable(path):
        image: Any = nibabel.load(path)
        needed = int(image.dataobj.offset) + prod(map(int, image.shape)) * image.get_data_dtype().itemsize
    if path.suffix in (".gz", ".mgz"):
        if _says(path) != needed % (1 << 32):
            _check_enough(path, read_through(path), needed)
    else:
        _check_enough(path, path.stat().st_size, needed)


def read_through(path: Path) -> int:
    """Read a file to its end, and what is compressed in it with its checksums.

    Returns:
        Bytes of its content.

    Raises:
        DamagedFileError: It is cut short or altered.
    """
    with readable(path):
        if path.suffix in (".hdf5", ".h5"):
            _decompress(path)
        with gzip.open(path) if path.suffix in (".gz", ".mgz") else open(path, "rb") as file:
            length = 0
            while block := file.read(BLOCK):
                length += len(block)
    return length


def _says(path: Path) -> int:
    """The length that the last four bytes of a compressed file give for its content."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 4))
        return int.from_bytes(file.read(), "little")


def _check_enough(path: Path, found: int, needed: int) -> None:
    if found < needed:
        raise DamagedFileError(f"{path} is cut short (it holds {found} of {needed} bytes); fetch or copy the file again")


def _decompress(path: Path) -> None:
    """The blocks of every dataset that are stored through a filter; those without one have nothing to be compared with."""
    with h5py.File(path, "r") as file:
        stored = [entry for entry in file.values() if isinstance(entry, h5py.Dataset) and entry.chunks]
        for dataset in (entry for entry in stored if entry.id.get_create_plist().get_nfilters()):
            for index in range(dataset.id.get_num_chunks()):
                start = dataset.id.get_chunk_info(index).chunk_offset
                dataset[tuple(slice(low, low + side) for low, side in zip(start, dataset.chunks, strict=True))]
