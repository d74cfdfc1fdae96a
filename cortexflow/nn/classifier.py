"""A plain convolutional classifier with several labels per picture, and the vector before its last layer.

It has no shortcut, no attention and large first filters: as unlike the networks that condition pictures as a small network
can be, because it scores them.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from cortexflow.catalog import Choices
from cortexflow.nn.vdvae import read_config, read_state, save_pretrained


class Config(Choices):
    """Sizes of the network.

    Arguments:
        classes: Names of the labels, in the order of the output.
        widths: Channels of each convolution; sides are halved after each but the last two.
        embedding: Size of the vector before the last layer.
        image_size: Height and width to which pictures are brought.
    """

    classes: tuple[str, ...] = ("object",)
    widths: tuple[PositiveInt, ...] = (32, 64, 128, 128, 128)
    embedding: PositiveInt = 256
    image_size: PositiveInt = 64


class Classifier(nn.Module):
    """Pictures to label scores, to an embedding, or to the maps of each layer.

    Arguments:
        config: The sizes.

    References:
        ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., 2012): the order of layers.
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else Config()
        widths = self.config.widths
        sides = (7, 5, *([3] * len(widths)))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(into, out, side, padding=side // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU())
            for into, out, side in zip((3, *widths[:-1]), widths, sides, strict=False)
        )
        self.embed = nn.Linear(16 * widths[-1], self.config.embedding)
        self.score = nn.Linear(self.config.embedding, len(self.config.classes))
        self.drop = nn.Dropout(0.3)

    def forward(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli classes"]:
        """Logits of each label by itself; a picture may have none or several."""
        return self.score(functional.relu(self.drop(self.embedding(images))))

    def embedding(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli embedding"]:
        """The vector before the last layer."""
        return self.embed(self.drop(functional.adaptive_avg_pool2d(self.maps(images)[-1], 4).flatten(1)))

    def maps(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> list[Tensor]:
        """The answer of every convolution, from the first to the last."""
        x, size, maps = images.float() / 127.5 - 1, self.config.image_size, []
        if x.shape[-2:] != (size, size):
            x = functional.interpolate(x, (size, size), mode="bicubic", antialias=True)
        for index, layer in enumerate(self.layers):
            maps.append(layer(x))
            x = functional.max_pool2d(maps[-1], 2) if index < len(self.layers) - 2 else maps[-1]
        return maps

    @torch.no_grad()
    def probabilities(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli classes"]:
        """Of each label by itself, in [0, 1]."""
        return torch.sigmoid(self(images))

    def save_pretrained(self, folder: Path | str, half: bool = False) -> None:
        """Write ``config.json`` and ``model.safetensors``, in float16 where ``half``."""
        save_pretrained(self, self.config, folder, half)

    @classmethod
    def from_pretrained(cls, folder: Path | str, **_: Any) -> "Classifier":
        """Read what :meth:`save_pretrained` wrote."""
        network = cls(Config(**read_config(folder)))
        network.load_state_dict(read_state(folder))
        return network
