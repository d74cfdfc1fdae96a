"""A picture as CLIP sees it: any hidden layer, or the space that pictures share with words."""

from typing import Annotated, Literal

from jaxtyping import Float, UInt8
from pydantic import AfterValidator, NonNegativeInt
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.features.base import NetworkFeatures, check_layers, check_once, gathered
from cortexflow.nn.clip_tokens import vision_embedding, vision_tokens

Layer = NonNegativeInt | Literal["normed", "projected", "embedding"]


class Clip(NetworkFeatures):
    """Hidden layers of CLIP's vision tower, a level each (``layer3``), and its ends (``normed``, ``projected``, ``embedding``).

    Two cases have names in the literature. ``layers=("projected",), tokens="all"`` of clip-vit-large-patch14 are the 257 × 768
    tokens of Brain-Diffuser; ``layers=("normed",), tokens="patches"`` of clip-vit-bigg-14 are the 256 × 1664 of MindEye2.
    """

    class Config(Choices):
        """Choices of CLIP features.

        Arguments:
            model: "mini", "clip-vit-large-patch14", "clip-vit-bigg-14", or a folder.
            layers: Hidden layers by number (0 is what enters the first), "normed" for the last behind its normalisation,
                "projected" for that in the shared space over the length of its first token, "embedding" for one vector of
                length 1 in the shared space.
            tokens: What is kept of a layer: "pooled" the picture's own token, "mean" over patches, "patches", or "all".
        """

        model: str = "mini"
        layers: Annotated[tuple[Layer, ...], AfterValidator(check_once)] = ("embedding",)
        tokens: Literal["pooled", "mean", "patches", "all"] = "pooled"

    config: Config
    revision = "1"
    kind = "clip"
    architecture = "transformers.CLIPVisionModelWithProjection"

    def extract(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """The chosen levels, in their order. Pictures are resized and standardised as the network was trained."""
        return self.levels(self.preprocessing(images))

    def levels(self, pixels: Float[Tensor, "stimuli 3 _ _"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """The chosen levels of pictures that are the network's pixels already.

        Raises:
            CortexflowError: A layer that the network does not have.
        """
        network = self.on(pixels.device)
        check_layers(self.config.layers, network.config.num_hidden_layers, self.config.model)
        hidden = network.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
        ends = {"normed": lambda: network.vision_model.post_layernorm(hidden[-1]), "projected": lambda: vision_tokens(network, pixels)}
        found: dict[str, Tensor] = {}
        for layer in self.config.layers:
            if layer == "embedding":
                found["embedding"] = vision_embedding(network, pixels)
            else:
                tokens = hidden[layer] if isinstance(layer, int) else ends[layer]()
                found[level_name(layer)] = gathered(tokens, self.config.tokens)
        return found


def level_name(layer: int | str) -> str:
    """``layer3``, or the name of an end."""
    return f"layer{layer}" if isinstance(layer, int) else layer
