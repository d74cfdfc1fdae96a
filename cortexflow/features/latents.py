"""A picture as an autoencoder writes it down: what a low-level decoder gives back."""

from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from pydantic import PositiveInt, model_validator
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.errors import CortexflowError
from cortexflow.features.base import NetworkFeatures
from cortexflow.nn.pixels import resize


class Latents(NetworkFeatures):
    """Means of an autoencoder's latents, one level ``latents``; or of the first blocks of a VDVAE, a level per resolution.

    The levels of a VDVAE are called ``side1``, ``side4`` … from the coarsest; blocks of one side follow each other within a
    level. Columns run over channels, and within a channel over the picture from top left to bottom right.
    """

    class Config(Choices):
        """Choices of latents.

        Arguments:
            network: "autoencoder" (diffusers' AutoencoderKL) or "vdvae".
            model: "mini", "sd-vae-ft-mse" (autoencoder), or a folder.
            size: Height and width to which pictures are brought for the autoencoder; None for those it was trained with.
            blocks: Of a VDVAE, how many from the coarsest; None for all. Brain-Diffuser takes 31 of 75.
        """

        network: Literal["autoencoder", "vdvae"] = "autoencoder"
        model: str = "mini"
        size: PositiveInt | None = None
        blocks: PositiveInt | None = None

        @model_validator(mode="after")
        def _fits(self) -> "Latents.Config":
            if self.network == "vdvae" and self.size is not None:
                raise ValueError("a VDVAE takes pictures of one size alone; leave size out")
            if self.network == "autoencoder" and self.blocks is not None:
                raise ValueError("an autoencoder has no blocks; leave blocks out")
            return self

    config: Config
    revision = "1"
    kind = "autoencoder"

    @property
    def network_kind(self) -> str:
        """Which of the two is asked."""
        return self.config.network

    def extract(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """The chosen levels, in their order.

        Raises:
            CortexflowError: More blocks than the VDVAE has.
        """
        network = self.on(images.device)
        if self.config.network == "autoencoder":
            size = self.config.size or network.config.sample_size
            return {"latents": network.encode(resize(images, (size, size)).float() / 127.5 - 1).latent_dist.mean.flatten(1)}
        return self._hierarchical(network, images)

    def _hierarchical(self, network: Any, images: Tensor) -> dict[str, Tensor]:
        size, count = network.config.image_size, self.config.blocks or len(network.shapes)
        if count > len(network.shapes):
            raise CortexflowError(f"{self.config.model} has {len(network.shapes)} blocks, {count} were asked; choose at most that")
        latents = network.encode(resize(images, (size, size)))[:count]
        sides = dict.fromkeys(block.shape[-1] for block in latents)
        return {f"side{side}": _joined([block for block in latents if block.shape[-1] == side]) for side in sides}


def _joined(blocks: list[Float[Tensor, "stimuli channels side side"]]) -> Float[Tensor, "stimuli _"]:
    return torch.cat([block.flatten(1) for block in blocks], 1)
