"""Whether the axes of a session are those of the brain's mask, told by what is 0: outside the brain the dataset has zeros.

A file whose axes were reversed or flipped on its way may have the right shape by chance. Then its zeros lie in other places.
"""

from collections.abc import Iterator
from itertools import permutations, product
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
from jaxtyping import Bool, Int

from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import CortexflowError

PROBES = 512  # voxels that are looked at
MARGIN = 0.1  # by how much another order of axes must fit better, as a share of them


def check_orientation(path: Path, brain: Bool[np.ndarray, "x y z"]) -> None:
    """Compare where the first trial is 0 with where the brain is not.

    Arguments:
        path: A session in a volume of the same grid.
        brain: The subject's brain in the same space.

    Raises:
        CortexflowError: The zeros agree clearly better with the brain's mask when its axes are permuted or flipped.
        DamagedFileError: The file cannot be read.
    """
    probes = np.random.default_rng(0).choice(brain.size, min(PROBES, brain.size), replace=False)
    places = np.stack(np.unravel_index(np.sort(probes), brain.shape), axis=1)
    there = _first(path, places) != 0
    agreement = {name: float((turned[tuple(places.T)] == there).mean()) for name, turned in _turned(brain)}
    best, given = max(agreement, key=agreement.__getitem__), agreement["x y z"]
    if agreement[best] > given + MARGIN:
        fits = f"its zeros agree with the brain's mask in {given:.0%} of voxels, with axes {best} in {agreement[best]:.0%}"
        raise CortexflowError(f"{path} has its axes in another order than x y z: {fits}; copy the file again, unchanged")


def _turned(brain: Bool[np.ndarray, "x y z"]) -> Iterator[tuple[str, Bool[np.ndarray, "x y z"]]]:
    """Every order and direction of axes that keeps the shape, as it is first."""
    for order in permutations(range(3)):
        turned = brain.transpose(order)
        for flips in product((False, True), repeat=3):
            if turned.shape == brain.shape:
                name = " ".join(("-" if flip else "") + "xyz"[axis] for axis, flip in zip(order, flips, strict=True))
                yield name, np.flip(turned, tuple(axis for axis, flip in enumerate(flips) if flip))


def _first(path: Path, places: Int[np.ndarray, "probes 3"]) -> np.ndarray:
    """Values of the first trial."""
    with readable(path):
        if path.suffix != ".hdf5":
            image: Any = nibabel.load(path)
            return np.asarray(image.dataobj[..., 0])[tuple(places.T)]
        with h5py.File(path, "r") as file:
            betas = file["betas"]
            if betas.chunks is None or betas.chunks[0] == 1:  # a volume is cheap
                return betas[0].T[tuple(places.T)]
            return np.array([betas[0, z, y, x] for x, y, z in places.tolist()])
