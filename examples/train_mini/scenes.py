"""Training scenes, rendered once: pictures and segmentations in memory-mapped files, captions beside them."""

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cortexflow.nn.clip_tokens import tokenize

SIZE = 64
HELD_OUT = 1000  # the first numbers of the training world: rendered first, never trained on
WORLD = "training"


class Scenes:
    """What ``render`` wrote.

    Arguments:
        work: The folder.
    """

    def __init__(self, work: Path) -> None:
        self.images = np.load(work / "images.npy", mmap_mode="r")
        self.segmentation = np.load(work / "segmentation.npy", mmap_mode="r")
        made = json.loads((work / "scenes.json").read_text())
        self.classes, self.captions = tuple(made["classes"]), made["captions"]
        self.present = torch.from_numpy(np.load(work / "present.npy"))

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def training(self) -> range:
        return range(HELD_OUT, len(self))

    @property
    def held_out(self) -> range:
        return range(HELD_OUT)

    @cached_property
    def digest(self) -> str:
        """Of the captions of all and of the pixels of some, so that no checkpoint is continued on other scenes."""
        said = hashlib.sha256(json.dumps([self.classes, self.captions]).encode())
        said.update(np.ascontiguousarray(self.images[:: max(1, len(self) // 100)]).tobytes())
        return f"scenes {said.hexdigest()[:12]}"

    def pictures(self, numbers) -> Tensor:
        return torch.from_numpy(self.images[np.asarray(numbers)])

    def segmentations(self, numbers) -> Tensor:
        return torch.from_numpy(self.segmentation[np.asarray(numbers)]).long()

    def words(self, numbers, tokenizer, length: int, generator: torch.Generator) -> Tensor:
        return tokenize(tokenizer, self.some_captions(numbers, generator), length)

    def some_captions(self, numbers, generator: torch.Generator) -> list[str]:
        """One caption of each scene."""
        picked = torch.rand(len(numbers), generator=generator)
        return [self.captions[number][int(share * len(self.captions[number]))] for number, share in zip(numbers, picked.tolist(), strict=True)]


def render(work: Path, count: int, seed: int) -> None:
    """Write ``HELD_OUT`` + ``count`` scenes; does nothing where they are there."""
    if (work / "scenes.json").is_file():
        return
    from interface import CLASSES, one

    work.mkdir(parents=True, exist_ok=True)
    total = HELD_OUT + count
    images = np.lib.format.open_memmap(work / "images.npy", "w+", np.uint8, (total, 3, SIZE, SIZE))
    segmentation = np.lib.format.open_memmap(work / "segmentation.npy", "w+", np.uint8, (total, SIZE, SIZE))
    present, captions = np.zeros((total, len(CLASSES) - 1), bool), []
    for number in range(total):
        images[number], segmentation[number], present[number], words = one(seed, number, WORLD, SIZE)
        captions.append(words)
    images.flush()
    segmentation.flush()
    np.save(work / "present.npy", present)
    (work / "scenes.json").write_text(json.dumps({"seed": seed, "classes": CLASSES, "captions": captions}))
