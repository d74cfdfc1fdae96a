"""Sessions cut down to the voxels of a mask, one ``.npy`` file each, made when they are first asked for.

A file's name says of which source and mask it was made, so that one of another source is never mistaken for it. It is whole or
absent: where the work was stopped, it goes on with the session at which it stopped.
"""

import hashlib
import os
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from cortexflow.data.nsd_layout.spaces import Space
from cortexflow.storage import fingerprint, replacing

FOLDER = "prepared"
REVISION = 1  # of what the files hold


def prepared(space: Space, number: int, files: tuple[Path, ...], mask: np.ndarray) -> Shaped[np.ndarray, "trials voxels"]:
    """One session as the source stores it, mapped from its prepared file where that is there, made now where it is not.

    Where nothing can be written to its place, the session is read from the source at every time.

    Raises:
        CortexflowError: What reading the source raises, or the disk is full.
    """
    path = place(space, number, files, mask)
    if not ready(space, number, files, mask):
        values = space.read(files, mask)
        if not can_keep(path):
            return values
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.save(file, values, allow_pickle=False)
        del values
    return np.load(path, mmap_mode="r", allow_pickle=False)


def can_keep(path: Path) -> bool:
    """Whether a file can be written here, that is, into the nearest of its folders that is there, which may be somebody else's."""
    return os.access(next(folder for folder in path.absolute().parents if folder.is_dir()), os.W_OK)


def place(space: Space, number: int, files: tuple[Path, ...], mask: np.ndarray) -> Path:
    """Where a session's prepared file lies."""
    kept = space.kept
    sources = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    used = hashlib.sha256(np.packbits(mask).data).hexdigest()
    name = fingerprint({"revision": REVISION, "sources": sources, "mask": [used, mask.shape]})
    return kept.root / FOLDER / kept.subject / kept.name / kept.betas / f"session{number:02d}-{name}.npy"


def ready(space: Space, number: int, files: tuple[Path, ...], mask: np.ndarray) -> bool:
    """Whether a session's prepared file is there and whole."""
    path = place(space, number, files, mask)
    if not path.is_file():
        return False
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).shape[1:] == (int(mask.sum()),)
    except (ValueError, OSError, EOFError):  # somebody cut it short: it is made again
        return False
