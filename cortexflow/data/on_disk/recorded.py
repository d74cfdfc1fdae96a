"""Files whose publisher gives no checksum: what was downloaded is written down, so that a later change of it is noticed."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pooch

from cortexflow.errors import CortexflowError
from cortexflow.storage import checksum, load_sealed_json, save_sealed_json

RECORD = "downloaded.json"


def record(root: Path, names: Iterable[str]) -> None:
    """Write down the SHA-256 of each of these files, beside them. Says what they were then, not that they are the published ones."""
    save_sealed_json(root / RECORD, {"sha256": {name: checksum(root / name) for name in names}})


def recorded(root: Path | None) -> Mapping[str, str]:
    """The checksums that were written down when the files were downloaded; none where somebody copied them to their place.

    Raises:
        DamagedFileError: The record was altered.
    """
    if root is None or not (root / RECORD).is_file():
        return {}
    return load_sealed_json(root / RECORD).get("sha256", {})


def download(address: str, name: str, root: Path) -> None:
    """Get one file, whole or not at all; one that is there already is kept.

    Raises:
        CortexflowError: The address could not be reached, or the file not written.
    """
    if (root / name).is_file():
        return
    try:
        pooch.retrieve(address, None, fname=name, path=root, downloader=pooch.HTTPDownloader(timeout=30))
    except (OSError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = f"check the connection and that {root} can be written, or copy the file there from {address}"
        raise CortexflowError(f"{name} could not be downloaded ({why}); {remedy}") from error
