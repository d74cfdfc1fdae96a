"""Whether a disk has room, asked before anything is written."""

import shutil
from pathlib import Path

from cortexflow.errors import CortexflowError

SPARE = 256 << 20  # bytes of the disk that are left free


def check_space(root: Path, needed: int, remedy: str) -> None:
    """Raises CortexflowError where the disk of a folder has less free space than ``needed`` bytes and a reserve."""
    place = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if needed and needed + SPARE > free:
        have = f"{size_text(needed)} are needed and {size_text(SPARE)} must stay free, the disk of {root} has {size_text(free)}"
        raise CortexflowError(f"{have}; {remedy}, or name a folder on a larger disk")


def size_text(count: int) -> str:
    """Bytes in words, in powers of ten as disks are sold.

    Example:
        >>> size_text(1_048_788_000)
        '1.05 GB'
    """
    for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count / 1000:.0f} kB" if count else "0 B"
