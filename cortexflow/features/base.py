"""What an image is to a model: the contract of every feature extractor."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.errors import CortexflowError
from cortexflow.storage import fingerprint


class Features(ABC):
    """Turns pictures into numbers, in one or more named levels.

    A new extractor is one file in this folder with one class that derives from this one. Raise ``revision`` whenever the
    numbers change: caches and trained models are tied to it.

    Arguments:
        config: The choices; defaults where absent.
    """

    class Config(Choices):
        """Choices of an extractor."""

    revision: ClassVar[str]

    def __init__(self, config: Choices | None = None) -> None:
        self.config = config if config is not None else self.Config()

    @property
    def name(self) -> str:
        """The module's name: ``gabor``."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @property
    def key(self) -> str:
        """Name, revision and choices in one word; equal keys give equal numbers."""
        return f"{self.name}-{self.revision}-{fingerprint(self.config.model_dump(mode='json'))}"

    @abstractmethod
    def extract(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """Features by level name; every level has one row per picture."""

    def __call__(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """:meth:`extract`, after checking what came."""
        check_images(images)
        with torch.no_grad():
            return self.extract(images)


def check_images(images: Tensor) -> None:
    """Raises CortexflowError unless these are 8-bit RGB pictures, stimuli × 3 × height × width."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise CortexflowError(f"pictures must have shape (stimuli, 3, height, width), these have {tuple(images.shape)}; convert them to RGB")
    if images.dtype != torch.uint8:
        raise CortexflowError(f"pictures must be uint8 with values 0 to 255, these are {images.dtype}; multiply by 255 and convert")
