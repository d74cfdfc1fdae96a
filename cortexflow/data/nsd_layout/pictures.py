"""Pictures by random access from the one file that holds all 73,000."""

from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from cortexflow.data.volumes_on_disk import readable
from cortexflow.errors import CortexflowError, DamagedFileError

BRICK = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
SIDE = 425  # pixels


def read_pictures(path: Path, stimuli: Int[Tensor, " stimuli"], size: tuple[int, int]) -> UInt8[Tensor, "stimuli 3 height width"]:
    """These pictures, each read once from its place in the file and resized where another size is asked for.

    Raises:
        CortexflowError: An id that is none of the file's.
        DamagedFileError: The file is cut short or holds no pictures.
    """
    ids, places = torch.unique(stimuli, return_inverse=True)
    pictures = torch.empty(len(ids), 3, *size, dtype=torch.uint8)
    with readable(path), h5py.File(path, "r") as file:
        brick = file.get("imgBrick")
        if not isinstance(brick, h5py.Dataset) or brick.ndim != 4 or brick.shape[3] != 3:
            raise DamagedFileError(f"{path} must hold 'imgBrick' of pictures × height × width × 3; copy the file again")
        if len(ids) and (ids[0] < 0 or ids[-1] >= len(brick)):
            raise CortexflowError(f"{path} has pictures 0 to {len(brick) - 1}, asked were {int(ids[0])} to {int(ids[-1])}; ids begin at 0 here")
        for row, stimulus in enumerate(ids.tolist()):
            pictures[row] = torch.from_numpy(_resized(brick[stimulus], size)).permute(2, 0, 1)
    return pictures if torch.equal(places, torch.arange(len(pictures))) else pictures[places]


def _resized(pixels: UInt8[np.ndarray, "rows columns 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    if pixels.shape[:2] == size:
        return pixels
    return np.array(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))
