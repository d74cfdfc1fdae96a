"""Areas from label maps: -1 outside the cortex that a map is drawn on, 0 in no area, 1 and more by the names of its ``.ctab``."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import CortexflowError

# Areas of these are called as they are; those of other maps carry the map's name, because HCP_MMP1 has a V1 of its own.
DRAWN = ("nsdgeneral", "prf-visualrois", "prf-eccrois", "floc-faces", "floc-words", "floc-places", "floc-bodies", "streams")


def areas_of(atlas: str, labels: np.ndarray, names: Mapping[int, str], mask: np.ndarray) -> dict[str, Bool[Tensor, " voxels"]]:
    """The areas of one map that have a voxel in the mask, by label. A subject lacks those labels that its map lacks.

    Arguments:
        atlas: The name of the map.
        labels: The map.
        names: What its ``.ctab`` calls each label; where empty, a map of one label is an area of the map's name.
        mask: Which voxels are used, of the map's shape.

    Raises:
        CortexflowError: A label without a name.
    """
    inside = labels[mask].round().astype(np.int64)
    names = names or {1: atlas}
    found = [label for label in np.unique(inside).tolist() if label > 0]
    unnamed = [label for label in found if label not in names]
    if unnamed:
        raise CortexflowError(
            f"{atlas} has the label {unnamed[0]}, which its table of labels does not name; copy {atlas}.mgz.ctab from the dataset again"
        )
    called = {label: names[label] if atlas in DRAWN else f"{atlas}.{names[label]}" for label in found}
    return {called[label]: torch.from_numpy(inside == label) for label in found}


def read_ctab(path: Path) -> dict[int, str]:
    """The names of labels: a number and a name on each line, and sometimes a colour of four numbers.

    Raises:
        DamagedFileError: A line does not begin with a number.
    """
    with readable(path):
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("#")]
        return {int(label): " ".join(rest[:-4] if len(rest) > 4 and all(map(_number, rest[-4:])) else rest) for label, *rest in lines}


def _number(word: str) -> bool:
    return word.lstrip("-").replace(".", "", 1).isdigit()
