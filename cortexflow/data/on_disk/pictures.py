"""Picture files: read one at a time as tensors of one size, and found by name or by stimulus id."""

import difflib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BeforeValidator, PositiveInt
from torch import Tensor

from cortexflow.data.on_disk.tables import read_table
from cortexflow.errors import CortexflowError
from cortexflow.storage import checksum, fingerprint

REVISION = "2"  # of how a file becomes pixels: raise it whenever they change
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def _both_sides(size: Any) -> Any:
    return (size, size) if isinstance(size, int) else size


ImageSize = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_both_sides)]  # height and width; one number is both


class Pictures:
    """The pictures of a folder and of the folders in it, by name and by stimulus id.

    A name is the path of the file from the folder on, ``faces/anna.png``; ``faces/anna`` will do where one file alone is
    called so. Ids count the names in alphabetical order (by code point), unless a table says otherwise.

    Arguments:
        folder: The folder.
        ids: A tab-separated table of the columns ``id`` and ``stimulus`` that fixes the id of every picture, so that adding
            pictures changes none.
    """

    def __init__(self, folder: Path, ids: Path | None = None) -> None:
        self.folder, self._table = folder, ids

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every picture, sorted; hidden files are no pictures.

        Raises:
            CortexflowError: No such folder, or no picture in it.
        """
        if not self.folder.is_dir():
            raise CortexflowError(f"{self.folder} does not exist; make this folder and put the pictures there ({', '.join(PICTURES)})")
        files = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file()]
        names = tuple(sorted(path.as_posix() for path in files if not any(part.startswith(".") for part in path.parts)))
        if not names:
            raise CortexflowError(f"{self.folder} holds no pictures; put files ending in {', '.join(PICTURES)} there")
        return names

    @cached_property
    def ids(self) -> dict[str, int]:
        """The stimulus id of each name.

        Raises:
            CortexflowError: The table lacks a picture, names one that is not there, or gives an id twice.
        """
        if self._table is None:
            return {name: row for row, name in enumerate(self.names)}
        table = read_table(self._table, "id", "stimulus")
        ids = dict(zip(table.text("stimulus"), table.whole("id").tolist(), strict=True))
        unknown, missing = sorted(set(ids) - set(self.names)), sorted(set(self.names) - set(ids))
        if unknown or missing:
            what = f"names {unknown[0]}, which is not in {self.folder}" if unknown else f"has no id for {missing[0]}"
            raise CortexflowError(f"{self._table} {what} (one of {len(unknown or missing)}); give every picture one line")
        if len(set(ids.values())) < len(table) or min(ids.values()) < 0:
            raise CortexflowError(f"{self._table} gives an id or a picture twice, or an id below 0; give every picture its own id")
        return ids

    def find(self, words: Sequence[str], where: Path | str) -> Int[Tensor, " words"]:
        """The stimulus id of each word that a table uses for a picture.

        Arguments:
            words: Names, with or without the ending and the folder ``stimuli/``.
            where: The table, for the error.

        Raises:
            CortexflowError: A word is the name of no picture, or of several.
        """
        names = {word: self._name(word) for word in dict.fromkeys(words)}
        unknown = [word for word, name in names.items() if name is None]
        if unknown:
            close = difflib.get_close_matches(unknown[0], self.names, 1) or difflib.get_close_matches(unknown[0], list(self._stems), 1)
            mend = f"mend the name (did you mean {close[0]!r}?)" if close else "mend the name"
            what = f"{where} names {unknown[0]!r}, which is no picture in {self.folder} ({len(unknown)} such names in all)"
            raise CortexflowError(f"{what}; put the picture there, or {mend}")
        ids = {word: self.ids[name] for word, name in names.items() if name is not None}
        return torch.tensor([ids[word] for word in words], dtype=torch.long)

    def images(self, stimuli: Int[Tensor, " stimuli"], size: tuple[int, int]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """The pictures of these stimuli, read from their files now.

        Raises:
            CortexflowError: No picture has this id, or its file cannot be read.
        """
        pictures = torch.empty(len(stimuli), 3, *size, dtype=torch.uint8)
        for row, stimulus in enumerate(stimuli.tolist()):
            if stimulus not in self._by_id:
                raise CortexflowError(f"{self.folder} has no picture of stimulus {stimulus}; ask for ids of the study's trials")
            pictures[row] = read_picture(self.folder / self._by_id[stimulus], size)
        return pictures

    def checksum(self) -> str:
        """A fingerprint of every picture's name, id and bytes."""
        return fingerprint({"read": REVISION, **{name: [stimulus, checksum(self.folder / name)] for name, stimulus in self.ids.items()}})

    @cached_property
    def _by_id(self) -> dict[int, str]:
        return {stimulus: name for name, stimulus in self.ids.items()}

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for name in self.names:
            stems.setdefault(PurePosixPath(name).with_suffix("").as_posix(), []).append(name)
        return stems

    def _name(self, word: str) -> str | None:
        for form in (word, word.removeprefix("stimuli/")):
            if form in self._known:
                return form
            named = self._stems.get(form, [])
            if len(named) > 1:
                raise CortexflowError(f"{form!r} could be {' or '.join(named)} in {self.folder}; write the name with its ending")
            if named:
                return named[0]
        return None

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.names)


def list_pictures(folder: Path | str) -> list[Path]:
    """The picture files of a folder, sorted by name."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CortexflowError(f"{folder} is not a folder; give a folder of pictures ({', '.join(PICTURES)})")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not paths:
        raise CortexflowError(f"{folder} holds no pictures; put files ending in {', '.join(PICTURES)} there")
    return paths


def read_picture(path: Path, size: tuple[int, int]) -> UInt8[Tensor, "3 height width"]:
    """One picture as RGB, cropped around its centre to the shape that is asked for and resized.

    Arguments:
        path: The file.
        size: Height and width in pixels.

    Raises:
        CortexflowError: The file is no picture, or is damaged.
    """
    height, width = size
    try:
        with Image.open(path) as file:
            if file.format == "PNG":
                file.verify()  # the checksums that loading skips; what was verified cannot be loaded any more
        with Image.open(path) as file:
            image = _on_grey(ImageOps.exif_transpose(file))  # cameras store a turned picture as it fell on the sensor
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CortexflowError(f"{path} is not a readable picture ({error}); replace or remove it") from error
    scale = min(image.width / width, image.height / height)
    crop = (round(width * scale), round(height * scale))
    left, top = (image.width - crop[0]) // 2, (image.height - crop[1]) // 2
    image = image.crop((left, top, left + crop[0], top + crop[1])).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _on_grey(file: Image.Image) -> Image.Image:
    """RGB; transparent parts stand on mid-grey, as in a scanner's display."""
    if file.mode.startswith("I;16"):  # Pillow would clip sixteen bits to eight
        return Image.fromarray((np.asarray(file).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if file.mode in ("I", "F"):
        raise ValueError(f"its values are of mode {file.mode}; save it with 8 bits per channel")
    if file.mode in ("RGBA", "LA", "PA") or "transparency" in file.info:
        layered = file.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, (128, 128, 128, 255)), layered).convert("RGB")
    return file.convert("RGB")
