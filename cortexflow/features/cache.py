"""Features computed once per picture and kept as files.

``root/<study>-<fingerprint of its files>/<features key>/shard-….safetensors``: another picture file, another revision or
another choice is another folder, so that nothing old is ever taken for new. A shard holds the stimulus ids and one tensor
per level. It is whole or absent, carries a checksum, and says to which folder it belongs. Several processes can fill one
folder at the same time; what two of them computed at once is written once.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cortexflow.data.base import Dataset
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.features.base import Features
from cortexflow.features.stored import StoredFeatures
from cortexflow.features.table import rows_of
from cortexflow.storage import fingerprint, load_tensors, save_tensors

SHARD_PICTURES = 512  # what a killed process loses at most
SHARD_BYTES = 128 << 20  # and what memory holds beside the result
PATIENCE = 600.0  # seconds to wait for another writer, who needs about one

Levels = Mapping[str, Tensor]
Progress = Callable[[int, int], None]


class FeatureCache:
    """Features by stimulus id, computed where they are missing.

    Arguments:
        root: The folder of the cache, made when first written; None computes every time and keeps nothing.
    """

    def __init__(self, root: Path | str | None) -> None:
        self.root = Path(root) if root is not None else None
        # The checksums of a study can mean reading all its files: asked for once.
        self._studies: weakref.WeakKeyDictionary[Dataset, str] = weakref.WeakKeyDictionary()

    def get(
        self,
        features: Features,
        dataset: Dataset,
        stimuli: Int[Tensor, " stimuli"],
        *,
        device: str | torch.device = "cpu",
        batch: int = 64,
        progress: Progress | None = None,
    ) -> dict[str, Float[Tensor, "stimuli _"]]:
        """Features of these pictures, in this order. Memory holds the result and about one shard.

        Arguments:
            features: The extractor.
            dataset: Where the pictures come from.
            stimuli: Stimulus ids in any order, repeats allowed.
            device: Where the extractor computes; the result is on the CPU.
            batch: Pictures per call of the extractor.
            progress: Called after every batch with how many pictures are ready and how many are needed.

        Returns:
            One tensor per level, a row per id, in the order in which the extractor names its levels.

        Raises:
            CortexflowError: Nothing was asked for, the extractor's rows do not fit or are not finite, or a file could not be
                written. What :meth:`Dataset.images` raises for an unknown id passes through.
            DamagedFileError: A shard cannot be opened, or one that is needed does not match its checksum.
        """
        asked = stimuli.cpu().long()
        with _working(features, dataset, asked, device, batch, progress) as work:
            if self.root is None:
                return _gathered(asked, work.batches(work.needed))
            held = _fill(self.folder(features, dataset), work)
        return _gathered(asked, _stored(held, work.needed))

    def open(
        self,
        features: Features,
        dataset: Dataset,
        stimuli: Int[Tensor, " stimuli"],
        *,
        device: str | torch.device = "cpu",
        batch: int = 64,
        progress: Progress | None = None,
    ) -> StoredFeatures:
        """As :meth:`get`, but the features stay on disk until their rows are asked for. Memory holds about one shard.

        Arguments and errors are those of :meth:`get`.

        Raises:
            CortexflowError: The cache has no root.
        """
        folder = self.folder(features, dataset)
        with _working(features, dataset, stimuli.cpu().long(), device, batch, progress) as work:
            held = _fill(folder, work)
        used = {path: ids for path, ids in held.items() if torch.isin(ids, work.needed).any()}
        return StoredFeatures(used, _load)

    def folder(self, features: Features, dataset: Dataset) -> Path:
        """Where the shards of these features of this study lie.

        Raises:
            CortexflowError: The cache has no root.
        """
        if self.root is None:
            raise CortexflowError("a cache without a root keeps nothing and has no folder; make it with a root")
        if dataset not in self._studies:
            self._studies[dataset] = f"{type(dataset).__module__.rsplit('.', 1)[-1]}-{fingerprint(dataset.checksums())}"
        return self.root / self._studies[dataset] / features.key


@dataclass(frozen=True)
class _Work:
    """An extractor at work on the pictures of a study."""

    features: Features
    ahead: "_Ahead"
    device: torch.device
    batch: int
    progress: Progress | None
    needed: Int[Tensor, " stimuli"]

    def batches(self, missing: Tensor) -> Iterator[tuple[Tensor, Levels]]:
        """Ids and features of one batch after the other, until nothing is missing."""
        left = len(missing)
        batches = missing.split(self.batch)
        for ids, following in zip(batches, [*batches[1:], None], strict=True):
            levels = self.features(self.ahead.read(ids, following).to(self.device))
            left -= len(ids)
            self.report(left)
            yield ids, {name: self.checked(name, values, len(ids)) for name, values in levels.items()}

    def shard(self, missing: Tensor) -> tuple[Tensor, Levels]:
        """The first of the missing pictures, as many as one shard takes."""
        pieces: list[tuple[Tensor, Levels]] = []
        pictures = size = 0
        for ids, levels in self.batches(missing):
            pieces.append((ids, levels))
            pictures, size = pictures + len(ids), size + sum(values.nbytes for values in levels.values())
            if pictures >= SHARD_PICTURES or size >= SHARD_BYTES:
                break
        return torch.cat([ids for ids, _ in pieces]), {name: torch.cat([levels[name] for _, levels in pieces]) for name in pieces[0][1]}

    def checked(self, name: str, values: Tensor, pictures: int) -> Float[Tensor, "stimuli _"]:
        """The level as it is kept. A row too many or a NaN would poison every run that reads it."""
        where = f"level {name} of {self.features.name}"
        if values.ndim != 2 or len(values) != pictures:
            raise CortexflowError(f"{where} has shape {tuple(values.shape)} for {pictures} pictures; give each picture one row")
        if not values.isfinite().all():
            raise CortexflowError(f"{where} is not finite for some pictures; look at the extractor, or let it compute in float32")
        return values.detach().cpu().float()

    def report(self, left: int) -> None:
        """Say how far it is."""
        if self.progress is not None:
            self.progress(len(self.needed) - left, len(self.needed))


class _Ahead:
    """Reads the pictures of the next batch while the extractor computes this one."""

    def __init__(self, read: Callable[[Tensor], Tensor], thread: ThreadPoolExecutor) -> None:
        self._read, self._thread = read, thread
        self._next: tuple[Tensor, Future[Tensor]] | None = None

    def read(self, ids: Tensor, following: Tensor | None) -> Tensor:
        """What was read of these ids; reading of the following begins."""
        begun = self._next
        came = begun[1] if begun is not None and torch.equal(begun[0], ids) else self._thread.submit(self._read, ids)
        given = came.result()
        self._next = (following, self._thread.submit(self._read, following)) if following is not None else None
        return given


@contextmanager
def _working(
    features: Features, dataset: Dataset, asked: Tensor, device: str | torch.device, batch: int, progress: Progress | None
) -> Iterator[_Work]:
    """An extractor at work, with a thread that reads ahead; the thread ends with the block."""
    if not len(asked) or batch < 1:
        raise CortexflowError(f"{len(asked)} stimuli in batches of {batch} were asked for; ask for one or more, in batches of one or more")
    thread = ThreadPoolExecutor(1, "features")
    try:
        ahead = _Ahead(partial(features.read, dataset), thread)
        yield _Work(features, ahead, torch.device(device), batch, progress, asked.unique())
    finally:
        thread.shutdown(cancel_futures=True)


def _fill(folder: Path, work: _Work) -> dict[Path, Tensor]:
    """Compute what is missing, a shard at a time, and return the ids that each shard holds."""
    held = _scan(folder, {})
    while len(missing := _missing(work.needed, held)):
        ids, levels = work.shard(missing)
        with _alone(folder):
            held = _scan(folder, held)
            # What another process has written meanwhile is not written again.
            new = torch.isin(ids, _missing(ids, held))
            if new.any():
                path = _save(folder, ids[new], {name: values[new] for name, values in levels.items()})
                held[path] = ids[new]
    work.report(0)
    return held


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """The only writer of a folder; what a killed one left half written is removed."""
    lock = FileLock(folder / ".lock", timeout=PATIENCE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise CortexflowError(f"{folder} has been locked by another process for {PATIENCE:.0f} s; end that process, then run again") from error
    except (OSError, NotImplementedError) as error:
        raise CortexflowError(f"{folder} cannot be written ({error}); choose another folder for the cache, then run again") from error
    try:
        for left in folder.glob(".*.part"):
            left.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _scan(folder: Path, known: Mapping[Path, Tensor]) -> dict[Path, Tensor]:
    """The ids of every shard in the folder, reading only the shards that are new."""
    paths = sorted(folder.glob("shard-*.safetensors"))
    return {path: known[path] if path in known else _ids(path) for path in paths}


def _ids(path: Path) -> Int[Tensor, " stimuli"]:
    """The ids in a shard, without its features. They are checked when the features are read."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            ids = file.get_tensor("stimuli")
    except (SafetensorError, OSError) as error:
        raise _unusable(path, f"is damaged or not a shard of features ({error})") from error
    if ids.ndim != 1 or ids.dtype != torch.long:
        raise _unusable(path, f"is not a shard of features (its ids are {ids.dtype} of shape {tuple(ids.shape)})")
    return ids


def _missing(ids: Tensor, held: Mapping[Path, Tensor]) -> Int[Tensor, " missing"]:
    """The ids that no shard holds."""
    for kept in held.values():
        ids = ids[~torch.isin(ids, kept)]
    return ids


def _save(folder: Path, ids: Tensor, levels: Levels) -> Path:
    """Write a shard under a name that follows from its ids."""
    path = folder / _name(ids)
    # Level names stand in the metadata too, because safetensors does not keep their order.
    made_of = {"levels": list(levels), "place": _place_of(path)}
    save_tensors(path, {"stimuli": ids, **{f"level.{name}": values for name, values in levels.items()}}, made_of)
    return path


def _load(path: Path) -> tuple[Tensor, Levels]:
    """Ids and features of a shard, checked."""
    tensors, made_of = load_tensors(path)
    try:
        ids, levels = tensors["stimuli"], {name: tensors[f"level.{name}"] for name in made_of["levels"]}
    except KeyError as error:
        raise _unusable(path, f"is not a shard of features (no {error})") from error
    # Features of another study, extractor or picture look like any others, so that only its own word tells where a shard belongs.
    if made_of.get("place") != _place_of(path) or path.name != _name(ids):
        raise _unusable(path, f"holds features of {made_of.get('place', 'an older version')}, {len(ids)} pictures, not those of its folder and name")
    for name, values in levels.items():
        if values.ndim != 2 or len(values) != len(ids) or values.dtype != torch.float32 or not values.isfinite().all():
            raise _unusable(path, f"holds level {name} as {values.dtype} of shape {tuple(values.shape)} for {len(ids)} pictures, or not finite")
    return ids, levels


def _name(ids: Tensor) -> str:
    """The file that holds these ids."""
    return f"shard-{len(ids)}-{fingerprint(ids.tolist())}.safetensors"


def _place_of(path: Path) -> str:
    """Study and extractor of a shard by the names of its folders."""
    return f"{path.parent.parent.name}/{path.parent.name}"


def _unusable(path: Path, what: str) -> DamagedFileError:
    return DamagedFileError(f"{path} {what}; delete it, it will be computed again")


def _stored(held: Mapping[Path, Tensor], needed: Tensor) -> Iterator[tuple[Tensor, Levels]]:
    """One shard after the other, only those with needed ids. A shard is let go before the next is read."""
    for path, ids in held.items():
        if torch.isin(needed, ids).any():
            needed = needed[~torch.isin(needed, ids)]
            yield _load(path)


def _gathered(asked: Tensor, pieces: Iterable[tuple[Tensor, Levels]]) -> dict[str, Tensor]:
    """The asked rows of all pieces, one level after the other, in the order of the ids."""
    result: dict[str, Tensor] = {}
    for ids, levels in pieces:
        _place(result, asked, ids, levels)
        del ids, levels  # or two shards would be held while the next is read
    return result


def _place(result: dict[str, Tensor], asked: Tensor, ids: Tensor, levels: Levels) -> None:
    """Copy the rows of a piece to where they were asked for."""
    sizes = {name: values.shape[1] for name, values in levels.items()}
    if not result:
        result |= {name: torch.empty(len(asked), size) for name, size in sizes.items()}
    elif sizes != (before := {name: values.shape[1] for name, values in result.items()}):
        raise CortexflowError(f"features of one key have levels {before} and {sizes}; raise the extractor's revision when its numbers change")
    rows = rows_of(asked, ids)
    for name, values in levels.items():
        result[name][rows >= 0] = values[rows[rows >= 0]]
