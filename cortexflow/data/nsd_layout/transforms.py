"""From voxels to the average brain, through the coordinates that the dataset ships for every subject.

``transforms/lh.func1pt8-to-layerB2.mgz`` holds for each vertex of the subject's own surface, at one of three depths of the
cortex, its place in the volume: three coordinates that count voxels from 1, and 9999 where the vertex lies outside.
``transforms/lh.white-to-fsaverage.mgz`` holds for each vertex of the average brain the vertex of the subject's surface that is
nearest to it, from 1. The dataset's own tool samples each depth, takes the mean, and then picks the nearest vertex; so does this.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cortexflow.data.nsd_layout.files import official
from cortexflow.data.nsd_layout.spaces import SIDES
from cortexflow.data.nsd_layout.upkeep.wholeness import read_through
from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import CortexflowError, DamagedFileError

GRIDS = {"func1pt8mm": "func1pt8", "func1mm": "func1pt0"}  # spaces, in the names of these files
DEPTHS = ("layerB1", "layerB2", "layerB3")  # a quarter, half and three quarters of the way from the surface to the white matter
OUTSIDE = 9999
LEAST = 0.5  # share of a vertex's weights that voxels of the mask must have
Method = Literal["nearest", "linear"]


def to_fsaverage(
    root: Path,
    subject: str,
    space: str,
    mask: Bool[np.ndarray, "x y z"],
    values: Float[Tensor, "*rows voxels"],
    method: Method = "linear",
    depths: Sequence[str] = DEPTHS,
) -> Float[Tensor, "*rows vertices"]:
    """Values of voxels on the vertices of the average brain, the left hemisphere first.

    Arguments:
        root: The folder that stands for the bucket.
        subject: Whose voxels.
        space: ``func1pt8mm`` or ``func1mm``.
        mask: Which voxels the values are of, in the order of the mask's axes.
        values: One number per voxel, or rows of them. A NaN reaches every vertex that it touches.
        method: ``nearest`` takes the voxel that a vertex lies in, ``linear`` weighs the eight around it.
        depths: Of the cortex; the mean of them is taken. Labels have no mean: give one depth and ``nearest``.

    Returns:
        NaN where less than half of a vertex's weight lies in the mask; elsewhere the weights in the mask make up for those outside.

    Raises:
        CortexflowError: A transform is missing, or the space has none.
        DamagedFileError: A transform is cut short or altered.
    """
    weights = projection(root, subject, space, mask, method, depths)
    rows = values.reshape(-1, values.shape[-1]).double().numpy()
    mapped = (weights @ rows.T).T
    mapped[:, np.diff(weights.indptr) == 0] = np.nan
    return torch.from_numpy(mapped.astype(np.float32)).reshape(*values.shape[:-1], -1)


def projection(
    root: Path,
    subject: str,
    space: str,
    mask: Bool[np.ndarray, "x y z"],
    method: Method = "linear",
    depths: Sequence[str] = DEPTHS,
) -> scipy.sparse.csr_array:
    """What each vertex of the average brain takes of each voxel of the mask: rows have the sum 1, or are empty.

    Arguments and errors are those of :func:`to_fsaverage`.
    """
    if space not in GRIDS:
        raise CortexflowError(f"{space} has no way to fsaverage, volumes have; choose one of {', '.join(GRIDS)}")
    folder = f"nsddata/ppdata/{subject}/transforms"
    sides = []
    for side in SIDES:
        layers = [_read(official(root, f"{folder}/{side}.{GRIDS[space]}-to-{depth}.mgz"), 3) for depth in depths]
        own = sum(_weights(coordinates, mask, method) for coordinates in layers) / len(layers)
        sides.append(_whole(scipy.sparse.csr_array(own))[_nearest(root, folder, side, own.shape[0])])
    return scipy.sparse.csr_array(scipy.sparse.vstack(sides, format="csr"))


def _nearest(root: Path, folder: str, side: str, vertices: int) -> Int[np.ndarray, " vertices"]:
    """The subject's vertex for each of the average brain's, from 0."""
    path = official(root, f"{folder}/{side}.white-to-fsaverage.mgz")
    nearest = np.rint(_read(path, 1)[:, 0]).astype(np.int64) - 1
    if nearest.min() < 0 or nearest.max() >= vertices:
        found = f"{nearest.min() + 1} to {nearest.max() + 1}"
        raise CortexflowError(f"{path} names vertices {found} where the subject has 1 to {vertices}; copy it again, from the same subject")
    return nearest


def _weights(coordinates: Float[np.ndarray, "vertices 3"], mask: Bool[np.ndarray, "x y z"], method: Method) -> scipy.sparse.csr_array:
    """Weights of one depth, in which voxels outside the mask are left out."""
    inside = (coordinates != OUTSIDE).all(axis=1) & np.isfinite(coordinates).all(axis=1)
    places = np.where(inside[:, None], coordinates - 1, 0.0)  # the files count from 1
    inside &= ((places >= 0) & (places <= np.array(mask.shape) - 1)).all(axis=1)
    column = np.where(mask, np.cumsum(mask.ravel()).reshape(mask.shape) - 1, -1)
    total = scipy.sparse.csr_array((len(places), int(mask.sum())))
    for corners, share in _corners(places[inside], method):
        voxel = column[tuple(np.minimum(corners, np.array(mask.shape) - 1).T)]
        used = (voxel >= 0) & (share > 0)
        total += scipy.sparse.csr_array((share[used], (np.flatnonzero(inside)[used], voxel[used])), shape=total.shape)
    return total


def _corners(places: Float[np.ndarray, "vertices 3"], method: Method) -> list[tuple[np.ndarray, np.ndarray]]:
    """Voxels around each place, and the share of each."""
    if method == "nearest":
        return [(np.floor(places + 0.5).astype(np.int64), np.ones(len(places)))]
    low = np.floor(places).astype(np.int64)
    beyond = places - low
    steps = np.stack(np.meshgrid(*[(0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return [(low + step, np.where(step == 1, beyond, 1 - beyond).prod(axis=1)) for step in steps]


def _whole(weights: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Rows of the sum 1 where enough of the weight is there, empty ones elsewhere."""
    sums = np.asarray(weights.sum(axis=1))
    scale = np.where(sums >= LEAST, 1 / np.maximum(sums, LEAST), 0.0)
    whole = scipy.sparse.csr_array(scipy.sparse.diags_array(scale) @ weights)
    whole.eliminate_zeros()
    return whole


def _read(path: Path, columns: int) -> Float[np.ndarray, "vertices columns"]:
    read_through(path)  # its checksum
    with readable(path):
        image: Any = nibabel.load(path)
        values = np.asarray(image.dataobj, dtype=np.float64).reshape(image.shape[0], -1, order="F")
    if values.shape[1] != columns:
        raise DamagedFileError(f"{path} has {values.shape[1]} numbers for each vertex where {columns} are expected; copy the file again")
    return values
