"""What an image is to a model: the contract of every feature extractor."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Dataset
from cortexflow.errors import CortexflowError
from cortexflow.nn import pretrained
from cortexflow.nn.pixels import Preprocessing
from cortexflow.storage import fingerprint


class Features(ABC):
    """Turns pictures into numbers, in one or more named levels.

    A new extractor is one file in this folder with one class that derives from this one. Raise ``revision`` whenever the
    numbers change: caches and trained models are tied to it. An extractor with a network names its weights in ``weights``.

    Most extractors look at pictures. One that looks at something else of a study overrides :meth:`read`, which fetches it, and
    :meth:`check`, which refuses everything else.

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
        """Name, revision (of the code, then of the weights) and choices in one word; equal keys give equal numbers."""
        revision = ".".join(part for part in (self.revision, self.weights) if part)
        return f"{self.name}-{revision}-{fingerprint(self.config.model_dump(mode='json'))}"

    @property
    def weights(self) -> str:
        """Which weights the extractor's network has; nothing for one that has no network."""
        return ""

    def read(self, dataset: Dataset, stimuli: Int[Tensor, " stimuli"]) -> Tensor:
        """What :meth:`extract` is given of these stimuli, a row each: their pictures. Called in a thread of its own."""
        return dataset.images(stimuli)

    def check(self, given: Tensor) -> None:
        """Raises CortexflowError unless this is what :meth:`extract` takes."""
        check_images(given)

    @abstractmethod
    def extract(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """Features by level name; every level has one row per picture."""

    def __call__(self, given: Tensor) -> dict[str, Float[Tensor, "stimuli _"]]:
        """:meth:`extract`, after checking what came."""
        self.check(given)
        with torch.no_grad():
            return self.extract(given)


def check_images(images: Tensor) -> None:
    """Raises CortexflowError unless these are 8-bit RGB pictures, stimuli × 3 × height × width."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise CortexflowError(f"pictures must have shape (stimuli, 3, height, width), these have {tuple(images.shape)}; convert them to RGB")
    if images.dtype != torch.uint8:
        raise CortexflowError(f"pictures must be uint8 with values 0 to 255, these are {images.dtype}; multiply by 255 and convert")


class NetworkFeatures(Features):
    """A network's answers. Whoever derives from it names the kind of network and reads its layers.

    ``config.model`` names the network: "mini" for the one in the package, a published one, or a folder.
    """

    kind: ClassVar[str]  # as nn/pretrained.py has it
    architecture: ClassVar[str | None] = None  # where the network's own class does more than is needed here

    config: Any

    @property
    def weights(self) -> str:
        """The revision of a published network, or digits of the checksum of the files."""
        return pretrained.revision(self.network_kind, self.config.model)

    @property
    def network_kind(self) -> str:
        """Which kind of network is asked."""
        return self.kind

    @cached_property
    def source(self) -> pretrained.Source:
        """Where the network lies."""
        return pretrained.locate(self.network_kind, self.config.model)

    @cached_property
    def network(self) -> Any:
        """The network itself."""
        return pretrained.load(self.network_kind, self.config.model, architecture=self.architecture)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's pixels."""
        return Preprocessing.read(self.source.folder)

    def on(self, device: torch.device) -> Any:
        """The network on this device."""
        return self.network.to(device)


def gathered(tokens: Float[Tensor, "stimuli tokens width"], which: str) -> Float[Tensor, "stimuli _"]:
    """One row per picture out of its tokens, the picture's own first and then one per patch.

    Arguments:
        tokens: A layer's answer.
        which: ``pooled`` the picture's own token, ``mean`` the mean over patches, ``patches`` every patch, ``all`` every token;
            the last two are flattened token by token.

    Example:
        >>> gathered(torch.tensor([[[9.0], [1.0], [3.0]]]), "mean")
        tensor([[2.]])
    """
    if which == "pooled":
        return tokens[:, 0]
    if which == "mean":
        return tokens[:, 1:].mean(1)
    return (tokens if which == "all" else tokens[:, 1:]).flatten(1)


def check_layers(layers: tuple[int | str, ...], depth: int, where: str) -> None:
    """Raises CortexflowError where a layer is not one of the network's ``depth`` + 1 hidden ones."""
    for layer in layers:
        if isinstance(layer, int) and layer > depth:
            raise CortexflowError(f"{where} has layers 0 to {depth}, layer {layer} was asked; choose one of those")


def check_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """For a ``Config``: at least one, each once."""
    if not values or len(set(values)) < len(values):
        raise ValueError(f"choose one or more, each once, these are {values}")
    return values
