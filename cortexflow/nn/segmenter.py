"""A small U-Net that says for every pixel what it belongs to."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from cortexflow.catalog import Choices
from cortexflow.nn.vdvae import read_config, read_state, save_pretrained


class Config(Choices):
    """Sizes of the network.

    Arguments:
        classes: Their names, in the order of the output's channels; the first is the background.
        widths: Channels at each resolution, halved from one to the next.
    """

    classes: tuple[str, ...] = ("background", "object")
    widths: tuple[PositiveInt, ...] = (24, 48, 72, 96)


class Segmenter(nn.Module):
    """Pictures to one score per class and pixel.

    Arguments:
        config: The sizes.

    References:
        U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger et al., 2015).
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else Config()
        widths = self.config.widths
        self.down = nn.ModuleList(_twice(into, out) for into, out in zip((3, *widths[:-1]), widths, strict=True))
        self.up = nn.ModuleList(_twice(coarse + fine, fine) for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.score = nn.Conv2d(widths[0], len(self.config.classes), 1)

    def forward(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli classes height width"]:
        """Logits; sides must be multiples of the coarsest step (8 for four widths)."""
        x, kept = images.float() / 127.5 - 1, []
        for index, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if index else x)
            kept.append(x)
        for block, fine in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2), fine], 1))
        return self.score(x)

    @torch.no_grad()
    def segment(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> Int[Tensor, "stimuli height width"]:
        """The likeliest class of each pixel."""
        return self(images).argmax(1)

    def save_pretrained(self, folder: Path | str, half: bool = False) -> None:
        """Write ``config.json`` and ``model.safetensors``, in float16 where ``half``."""
        save_pretrained(self, self.config, folder, half)

    @classmethod
    def from_pretrained(cls, folder: Path | str, **_: Any) -> "Segmenter":
        """Read what :meth:`save_pretrained` wrote."""
        network = cls(Config(**read_config(folder)))
        network.load_state_dict(read_state(folder))
        return network


def _twice(into: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (into, out):
        layers += [nn.Conv2d(before, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)
