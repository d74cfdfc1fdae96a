"""What people said and drew of the photographs: COCO's annotations through the crop of each of the dataset's pictures.

The annotations are COCO's, not the bucket's: four files of the folder ``coco/annotations`` in the study's folder (or of
``nsddata_stimuli/coco/annotations``), or the archive ``coco/annotations_trainval2017.zip`` as COCO offers it, not unpacked.
They are read once; what concerns the 73,000 photographs is kept in ``prepared``.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from cortexflow.data.nsd_layout.coco.collected import Collection
from cortexflow.data.nsd_layout.coco.drawn import Drawn
from cortexflow.data.nsd_layout.coco.json_items import Source, items
from cortexflow.data.nsd_layout.design import PICTURES, TABLE, StimulusTable
from cortexflow.data.nsd_layout.files import identity
from cortexflow.data.nsd_layout.prepared import FOLDER, can_keep
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.storage import fingerprint, load_tensors, save_tensors

FOLDERS = ("coco/annotations", "nsddata_stimuli/coco/annotations")  # in the study's folder; the first that has the file
ARCHIVE = "coco/annotations_trainval2017.zip"
ADDRESS = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
SPLITS = ("train2017", "val2017")
KINDS = ("captions", "instances")
REVISION = 1  # of what is kept
Contents = tuple[dict[str, Tensor], dict[str, Any]]


class Said(NamedTuple):
    """The captions of every photograph.

    Arguments:
        text: All of them, one after the other, in UTF-8.
        ends: Where each begins, and where the last ends.
        first: The first of each picture; as many as pictures, and one more.
        origin: Where they were read, for errors.
    """

    text: bytes
    ends: Int[np.ndarray, " sentences_and_one"]
    first: Int[np.ndarray, " pictures_and_one"]
    origin: str

    def of(self, stimuli: Int[Tensor, " stimuli"]) -> list[list[str]]:
        """The captions of each picture.

        Raises:
            CortexflowError: An id that is no picture's, or a picture without captions.
        """
        return [self._sentences(picture) for picture in checked(stimuli)]

    def _sentences(self, picture: int) -> list[str]:
        places = self.ends[self.first[picture] : self.first[picture + 1] + 1].tolist()
        if len(places) < 2:
            raise CortexflowError(f"{self.origin} have no caption of stimulus {picture}'s photograph; copy the whole files again")
        return [self.text[start:end].decode() for start, end in pairwise(places)]


def said(root: Path, table: StimulusTable) -> Said:
    """The captions that people wrote of the whole photographs, of which a picture is the larger part.

    Arguments:
        root: The folder that stands for the bucket.
        table: Which photograph each picture was cut from.

    Raises:
        CortexflowError: A file is not there.
        DamagedFileError: A file is cut short, or not as COCO writes it.
    """
    tensors, _ = _kept(root, "captions", lambda sources: _captions(sources, table))
    return Said(tensors["text"].numpy().tobytes(), tensors["ends"].numpy(), tensors["first"].numpy(), _origin(root, "captions"))


def drawn(root: Path, table: StimulusTable) -> Drawn:
    """The outlines of objects that people drew, and how much of each is in the picture.

    Arguments:
        root: The folder that stands for the bucket.
        table: Which photograph each picture was cut from, and where.

    Raises:
        CortexflowError: A file is not there.
        DamagedFileError: A file is cut short, or not as COCO writes it.
    """
    tensors, metadata = _kept(root, "instances", lambda sources: _instances(sources, table))
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    return Drawn(tuple(metadata["categories"]), arrays, _origin(root, "instances"))


def annotation_files(root: Path, kind: str) -> dict[str, Source]:
    """Where the annotations of each split lie.

    Arguments:
        root: The folder that stands for the bucket.
        kind: ``captions`` or ``instances``.

    Raises:
        CortexflowError: One is not there.
    """
    return {split: _source(root, f"{kind}_{split}.json") for split in SPLITS}


def annotations_there(root: Path) -> dict[str, Path]:
    """The files of annotations that are there, by their names from the study's folder on; none is an error."""
    found = {}
    for kind in KINDS:
        for split in SPLITS:
            try:
                path = _source(root, f"{kind}_{split}.json").path
            except CortexflowError:
                continue
            found[path.relative_to(root).as_posix()] = path
    return found


def checked(stimuli: Int[Tensor, " stimuli"]) -> list[int]:
    """The ids as a list. Raises CortexflowError where one is no picture's."""
    ids: list[int] = stimuli.tolist()
    if ids and (min(ids) < 0 or max(ids) >= PICTURES):
        raise CortexflowError(f"pictures are 0 to {PICTURES - 1}, asked were {min(ids)} to {max(ids)}; ids begin at 0 here")
    return ids


def _source(root: Path, name: str) -> Source:
    for folder in FOLDERS:
        if (root / folder / name).is_file():
            return Source(root / folder / name)
    if (root / ARCHIVE).is_file():
        return Source(root / ARCHIVE, f"annotations/{name}")
    place = root / FOLDERS[0] / name
    raise CortexflowError(
        f"{place} does not exist; read COCO's terms (https://cocodataset.org/#termsofuse) and put {ADDRESS} into {root / 'coco'}, unpacked or not"
    )


def _origin(root: Path, kind: str) -> str:
    return " and ".join(map(str, annotation_files(root, kind).values()))


def _kept(root: Path, kind: str, read: Callable[[dict[str, Source]], Contents]) -> Contents:
    """What was kept of these very files, or what is read from them now, and kept where they can be written."""
    sources = annotation_files(root, kind)
    origins = [[str(source.member), identity(source.path)] for source in sources.values()]
    name = fingerprint({"revision": REVISION, "sources": origins, "table": identity(root / TABLE)})
    path = root / FOLDER / "coco" / f"{kind}-{name}.safetensors"
    if path.is_file():
        try:
            return load_tensors(path)
        except DamagedFileError:  # somebody cut it short: it is made again
            pass
    tensors, metadata = read(sources)
    if can_keep(path):
        save_tensors(path, tensors, metadata)
    return tensors, metadata


def _captions(sources: Mapping[str, Source], table: StimulusTable) -> Contents:
    sentences: list[list[bytes]] = [[] for _ in range(PICTURES)]
    for split, source in sources.items():
        rows = _rows(table, split)
        with _as_coco_writes(source):
            for _, item in _only(source, "annotations"):
                row = rows.get(item["image_id"])
                if row is not None:
                    sentences[row].append(" ".join(item["caption"].split()).encode())
    lengths = [len(sentence) for those in sentences for sentence in those]
    text = b"".join(sentence for those in sentences for sentence in those)
    tensors = {
        "text": torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy()),
        "ends": _from_0(lengths),
        "first": _from_0([len(those) for those in sentences]),
    }
    return tensors, {}


def _instances(sources: Mapping[str, Source], table: StimulusTable) -> Contents:
    collection = Collection()
    for split, source in sources.items():
        rows = _rows(table, split)
        with _as_coco_writes(source):
            for name, item in _only(source, "images", "annotations", "categories"):
                if name == "categories":
                    collection.name(item["id"], item["name"])
                    continue
                row = rows.get(item["id" if name == "images" else "image_id"])
                if row is not None:
                    collection.add(name, row, item)
    categories, arrays = collection.cut(table.crop)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}, {"categories": categories}


def _rows(table: StimulusTable, split: str) -> dict[int, int]:
    """The picture of each photograph of a split."""
    return {int(table.coco[row]): row for row, name in enumerate(table.split) if name == split}


def _only(source: Source, *names: str) -> Iterator[tuple[str, Any]]:
    return (pair for pair in items(source) if pair[0] in names)


@contextmanager
def _as_coco_writes(source: Source) -> Iterator[None]:
    """What is missing or of another type in an item becomes an error that names the file."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError) as error:
        why = " ".join(f"{type(error).__name__} {error}".split())
        raise DamagedFileError(f"{source} is not as COCO writes its annotations ({why}); copy the file again") from error


def _from_0(counts: list[int]) -> Int[Tensor, " places"]:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64))
