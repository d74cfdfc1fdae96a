"""The files of a published study: read only where they are there and are the ones that were published."""

from pathlib import Path

from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.storage import checksum


def published(study: str, root: Path | None, name: str, remedy: str, sha256: str | None = None) -> Path:
    """The path of a study's file.

    Arguments:
        study: Name of the study, for the error.
        root: The folder of its files.
        name: The file, from that folder on.
        remedy: How the files are obtained, for the error: "fetch the study with: …".
        sha256: What the file is, where that is known.

    Raises:
        CortexflowError: No folder was given, or it lacks the file.
        DamagedFileError: The file is not the published one.
    """
    if root is None:
        raise CortexflowError(f"{study} needs the folder of its files; {remedy}, and name the folder above DIR with --data")
    path = root / name
    if not path.is_file():
        raise CortexflowError(f"{path} does not exist; {remedy}")
    if sha256 is not None and checksum(path) != sha256:
        raise DamagedFileError(f"{path} is damaged or of another version (its checksum does not match); delete it and {remedy}")
    return path
