"""Files that are either whole or absent: written beside their name, then renamed, with checksums inside.

Tensors are stored as safetensors, never as pickles. Every file of ours carries a checksum of its tensors and its metadata,
so that a truncated or altered file is an error and never a silent wrong number.
"""

import glob
import hashlib
import json
import os
import platform
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cortexflow.errors import CortexflowError, DamagedFileError

FORMAT = 1  # raised when a file of ours can no longer be read by older code
MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # in the names of temporary files


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path in the same folder that takes the name ``path`` only if the block ends well.

    Arguments:
        path: The file to write; its folder is made. What a killed process left of the same file is removed.

    Raises:
        CortexflowError: The file could not be written (disk full, no permission). The old file, if any, is untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.{MACHINE}-{os.getpid()}-", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CortexflowError(f"{path} could not be written ({reason}); free space or choose another folder, then run again") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def save_json(path: Path | str, content: Any) -> None:
    """Write JSON, whole or not at all. NaN and infinities are written as null, so that any reader can open it."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(finite(content), indent=2) + "\n", encoding="utf-8")


def load_json(path: Path | str) -> Any:
    """Read JSON.

    Raises:
        CortexflowError: The file is absent.
        DamagedFileError: The file is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CortexflowError(f"{path} cannot be read ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is not valid JSON ({error}); restore it or make it again") from error


def save_sealed_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write a JSON object with a checksum of itself, ``checksum``, that :func:`load_sealed_json` compares."""
    save_json(path, {**content, "checksum": _seal(content)})


def load_sealed_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object, without its checksum; one that has none is taken as it is.

    Raises:
        CortexflowError: The file is absent.
        DamagedFileError: The file is no JSON object, or was altered.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path} must hold a JSON object, it holds {type(content).__name__}; restore it or make it again")
    checksum = content.pop("checksum", None)
    if checksum is not None and checksum != _seal(content):
        raise DamagedFileError(f"{path} was altered (its checksum does not match); restore it or make it again")
    return content


def save_tensors(path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Write named tensors and JSON metadata as one safetensors file with a checksum.

    Arguments:
        path: The file to write.
        tensors: Names to tensors of any shape and type.
        metadata: Anything that JSON can hold.
    """
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = json.dumps({"format": FORMAT, **(metadata or {})}, sort_keys=True)
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata={"cortexflow": json.dumps([content, _crc(whole, content)])})


def load_tensors(path: Path | str, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote, and check it.

    Returns:
        The tensors by name, and the metadata.

    Raises:
        CortexflowError: The file is absent, or was written by a newer version.
        DamagedFileError: The file is truncated, altered, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise CortexflowError(f"{path} does not exist; check the path")
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        content, crc = _header(file)
        metadata = json.loads(content)
    if metadata.get("format", 0) > FORMAT:
        raise CortexflowError(f"{path} was written by a newer cortexflow (format {metadata['format']}, this one reads {FORMAT}); upgrade")
    if _crc(tensors, content) != crc:
        raise DamagedFileError(f"{path} is damaged (its checksum does not match); delete it and make it again")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


def load_metadata(path: Path | str) -> dict[str, Any]:
    """What a file of :func:`save_tensors` says of itself; cheap, and unchecked until :func:`load_tensors` reads the whole file.

    Raises:
        CortexflowError: The file is absent.
        DamagedFileError: The file is truncated or not one of ours.
    """
    if not Path(path).is_file():
        raise CortexflowError(f"{path} does not exist; check the path")
    with _opened(path) as file:
        return json.loads(_header(file)[0])


def checksum(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fingerprint(content: Any) -> str:
    """Twelve hexadecimal digits that name a JSON-like content; equal content, equal name."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def finite(content: Any) -> Any:
    """The same JSON-like content with non-finite numbers as None."""
    if isinstance(content, Mapping):
        return {str(key): finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [finite(value) for value in content]
    if isinstance(content, (Tensor, np.ndarray, np.generic)):
        return finite(content.tolist())
    if isinstance(content, float) and not np.isfinite(content):
        return None
    return str(content) if isinstance(content, Path) else content


def _remove_orphans(path: Path) -> None:
    """Remove temporary files of the same name whose writer, a process of this machine, is gone: it was killed."""
    for orphan in path.parent.glob(f".{glob.escape(path.name)}.{MACHINE}-*.part"):
        process = orphan.name.rsplit("-", 2)[1]
        if process.isdigit() and not _runs(int(process)):
            orphan.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name != "posix":  # elsewhere the question below would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


@contextmanager
def _opened(path: Path | str) -> Iterator[Any]:
    """A safetensors file; what goes wrong in reading it becomes one clear error."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError, OSError) as error:
        raise DamagedFileError(f"{path} is damaged or not a cortexflow file ({error}); delete it and make it again") from error


def _header(file: Any) -> tuple[str, int]:
    """Metadata as they were written, and the checksum of the whole."""
    content, crc = json.loads((file.metadata() or {})["cortexflow"])  # one key: several are written in random order
    return content, crc


def _seal(content: Mapping[str, Any]) -> str:
    """What the content's checksum is after it has been written and read."""
    return fingerprint(json.loads(json.dumps(finite(content))))


def _crc(tensors: Mapping[str, Tensor], content: str) -> int:
    crc = zlib.crc32(content.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode(), crc)
        if tensor.numel():
            crc = zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


_UMASK = threading.Lock()


def _umask() -> int:
    with _UMASK:  # it can only be read by setting it, which is the whole process's
        current = os.umask(0o077)
        os.umask(current)
    return current
