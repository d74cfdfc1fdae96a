"""Where a file of the Natural Scenes Dataset lies, and what to do where it does not."""

import hashlib
from pathlib import Path

from cortexflow.data.on_disk.published import published

BUCKET = "s3://natural-scenes-dataset"
UNFINISHED = ".download"  # how the names of pieces end that are still being fetched
BLOCKS, LENGTH = 8, 4096  # how many blocks of a large file stand for it, and their bytes


def official(root: Path, name: str) -> Path:
    """The path of a file that the dataset has under the same name.

    Arguments:
        root: The folder that stands for the bucket.
        name: From there on, such as ``nsddata/experiments/nsd/nsd_expdesign.mat``.

    Raises:
        CortexflowError: It is not there.
    """
    return published("nsd", root, name, f"accept the dataset's terms and copy {BUCKET}/{name} to this place")


def identity(path: Path) -> str:
    """A fingerprint of a file's size and of some blocks of it, the first and the last among them.

    Sessions have a gigabyte each and the pictures forty, too much to read whole at every run. A compressed file ends with the
    checksum of all that is in it, so that there the last block stands for everything.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for block in range(BLOCKS):
            file.seek(max(0, size - LENGTH) * block // (BLOCKS - 1))
            digest.update(file.read(LENGTH))
    return digest.hexdigest()
