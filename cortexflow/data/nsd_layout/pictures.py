"""Pictures by random access from the one file that holds all 73,000."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import CortexflowError, DamagedFileError

BRICK = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
SIDE = 425  # pixels
TOGETHER = 32  # pictures that are held as they are in the file, 17 MB


def read_pictures(path: Path, stimuli: Int[Tensor, " stimuli"], size: tuple[int, int]) -> UInt8[Tensor, "stimuli 3 height width"]:
    """These pictures, each read once from its place in the file, in the file's order, and resized where another size is asked for.

    As many threads work on them as torch uses; the bytes of a picture depend neither on these nor on what else is asked for.

    Raises:
        CortexflowError: An id that is none of the file's.
        DamagedFileError: The file is cut short or holds no pictures.
    """
    ids: list[int] = stimuli.tolist()
    pictures = np.empty((len(ids), 3, *size), dtype=np.uint8)
    rows = sorted(range(len(ids)), key=ids.__getitem__)
    again = [(before, row) for before, row in pairwise(rows) if ids[before] == ids[row]]
    repeated = {row for _, row in again}
    fresh = [row for row in rows if row not in repeated]
    with readable(path), h5py.File(path, "r") as file, ThreadPoolExecutor(torch.get_num_threads()) as threads:
        brick = _brick(path, file, ids)
        pixels = np.empty((min(TOGETHER, len(fresh)), *brick.shape[1:]), dtype=np.uint8)
        for start in range(0, len(fresh), TOGETHER):
            block = fresh[start : start + TOGETHER]
            for place, row in enumerate(block):
                brick.read_direct(pixels, np.s_[ids[row]], np.s_[place])
            list(threads.map(_lay, pixels, (pictures[row] for row in block)))
    for before, row in again:
        pictures[row] = pictures[before]
    return torch.from_numpy(pictures)


def _brick(path: Path, file: h5py.File, ids: Sequence[int]) -> h5py.Dataset:
    brick = file.get("imgBrick")
    if not isinstance(brick, h5py.Dataset) or brick.ndim != 4 or brick.shape[3] != 3 or brick.dtype != np.uint8:
        raise DamagedFileError(f"{path} must hold 'imgBrick' of pictures × height × width × 3 bytes; copy the file again")
    if len(ids) and (min(ids) < 0 or max(ids) >= len(brick)):
        raise CortexflowError(f"{path} has pictures 0 to {len(brick) - 1}, asked were {min(ids)} to {max(ids)}; ids begin at 0 here")
    return brick


def _lay(pixels: UInt8[np.ndarray, "rows columns 3"], picture: UInt8[np.ndarray, "3 height width"]) -> None:
    """Write the pixels of the file, whose colours come last, into a picture, whose colours come first."""
    size = picture.shape[1:]
    if pixels.shape[:2] != size:  # Pillow's whole numbers are the same on every processor, which torch's are not
        pixels = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))
    for channel, plane in enumerate(picture):  # one at a time is faster than all by their strides
        plane[...] = pixels[..., channel]
