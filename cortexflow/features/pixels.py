"""A picture as a handful of luminances: the smallest answer to what an image is, and the floor for every other answer."""

import torch
from jaxtyping import Float, UInt8
from pydantic import PositiveInt
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.features.base import Features

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: red, green and blue as Pillow's mode "L" weighs them


class Pixels(Features):
    """Area-averaged luminance on a coarse grid, one level called ``pixels``.

    Columns run over rows of the grid from top to bottom and within a row from left to right; with colour, red comes before
    green before blue.
    """

    class Config(Choices):
        """Choices of the pixel grid.

        Arguments:
            size: Height and width of the grid.
            gray: Luminance alone, or red, green and blue.
        """

        size: tuple[PositiveInt, PositiveInt] = (16, 16)
        gray: bool = True

    config: Config
    revision = "1"

    def extract(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """Values in [0, 1], from black to white."""
        pictures = luminance(images) if self.config.gray else images.float() / 255
        # Rounding can carry a white picture a last bit above 1.
        return {"pixels": area_average(pictures, self.config.size).flatten(1).clamp(0, 1)}


def luminance(images: UInt8[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli height width"]:
    """Luminance of 8-bit pictures in [0, 1], gamma-encoded as the files are (it is not linear in candela).

    Example:
        >>> luminance(torch.tensor([255, 0, 0], dtype=torch.uint8).reshape(1, 3, 1, 1))
        tensor([[[0.2990]]])
    """
    red, green, blue = (weight / 255 * images[:, channel].float() for channel, weight in enumerate(LUMA))
    return red + green + blue


def area_average(pictures: Float[Tensor, "*batch height width"], size: tuple[int, int]) -> Float[Tensor, "*batch _ _"]:
    """The mean over each cell of a grid, where a pixel that two cells share counts for each by its share.

    Arguments:
        pictures: Any values.
        size: Height and width of the grid; it need not divide the picture's.

    Returns:
        The means, in the unit of ``pictures``. The mean over the grid is the mean over the picture.

    Example:
        >>> area_average(torch.tensor([[0.0, 3.0, 6.0]]), (1, 2))  # half of the middle pixel belongs to either side
        tensor([[1., 5.]])
    """
    rows = _shares(pictures.shape[-2], size[0], pictures.device)
    columns = _shares(pictures.shape[-1], size[1], pictures.device)
    return rows @ pictures @ columns.T


def _shares(pixels: int, cells: int, device: torch.device) -> Float[Tensor, "cells pixels"]:
    """Which share of a cell each pixel covers; every row sums to 1."""
    pixel = torch.arange(pixels, dtype=torch.float64)
    start = torch.arange(cells, dtype=torch.float64)[:, None] * pixels / cells
    overlap = torch.minimum(pixel + 1, start + pixels / cells) - torch.maximum(pixel, start)
    return (overlap.clamp(min=0) * cells / pixels).float().to(device)
