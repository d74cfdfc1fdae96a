"""Pictures and captions in one space, by a convolutional tower and the mean of words: a judge of whether they belong together.

It shares neither architecture nor seed with the CLIP that conditions pictures, and reads words of its own vocabulary.
"""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from cortexflow.catalog import Choices
from cortexflow.nn import classifier
from cortexflow.nn.vdvae import read_config, read_state, save_pretrained


class Config(Choices):
    """Sizes of the network.

    Arguments:
        words: The vocabulary; others are passed over.
        widths: Channels of each convolution.
        embedding: Size of the shared space.
        image_size: Height and width to which pictures are brought.
    """

    words: tuple[str, ...] = ("a",)
    widths: tuple[PositiveInt, ...] = (24, 48, 96, 160)
    embedding: PositiveInt = 192
    image_size: PositiveInt = 64


class Matcher(nn.Module):
    """Vectors of length 1 whose product says how well a picture and a caption fit.

    Arguments:
        config: The sizes.
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else Config()
        size = self.config.embedding
        self.tower = classifier.Classifier(classifier.Config(widths=self.config.widths, embedding=size, image_size=self.config.image_size))
        self.words = nn.EmbeddingBag(len(self.config.words) + 1, size, mode="mean", padding_idx=0)
        self.text = nn.Sequential(nn.Linear(size, 2 * size), nn.ReLU(), nn.Linear(2 * size, size))
        self.sharpness = nn.Parameter(torch.tensor(2.6))
        self._numbers = {word: number for number, word in enumerate(self.config.words, 1)}

    def image_vectors(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli embedding"]:
        """One vector per picture."""
        return functional.normalize(self.tower.embedding(images).float(), dim=-1)

    def text_vectors(self, captions: Sequence[str]) -> Float[Tensor, "captions embedding"]:
        """One vector per caption."""
        mean = self.words(self.numbers(captions).to(self.sharpness.device))
        return functional.normalize((mean + self.text(mean)).float(), dim=-1)

    def numbers(self, captions: Sequence[str]) -> Int[Tensor, "captions words"]:
        """Numbers of the known words, and of pairs of neighbours, 0 at the end."""
        rows = [[self._numbers[word] for word in terms(caption) if word in self._numbers] for caption in captions]
        longest = max(1, *map(len, rows)) if rows else 1
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    def loss(self, images: UInt8[Tensor, "stimuli 3 height width"], captions: Sequence[str]) -> Float[Tensor, ""]:
        """Cross-entropy of finding the caption of each picture in the batch, and the picture of each caption, in nats."""
        products = self.sharpness.exp() * self.image_vectors(images) @ self.text_vectors(captions).T
        right = torch.arange(len(images), device=products.device)
        return (functional.cross_entropy(products, right) + functional.cross_entropy(products.T, right)) / 2

    def save_pretrained(self, folder: Path | str, half: bool = False) -> None:
        """Write ``config.json`` and ``model.safetensors``, in float16 where ``half``."""
        save_pretrained(self, self.config, folder, half)

    @classmethod
    def from_pretrained(cls, folder: Path | str, **_: Any) -> "Matcher":
        """Read what :meth:`save_pretrained` wrote."""
        network = cls(Config(**read_config(folder)))
        network.load_state_dict(read_state(folder))
        return network


def terms(caption: str) -> list[str]:
    """Words in lower case, and each word with the next: the order of words counts only as far as that.

    Example:
        >>> terms("A red car.")
        ['a', 'red', 'car', 'a red', 'red car']
    """
    words = re.findall(r"[a-z0-9]+", caption.lower())
    return words + [f"{first} {second}" for first, second in itertools.pairwise(words)]
