"""A picture as DINOv2 sees it, which has learned from pictures alone and never from words."""

from typing import Annotated, Literal

from jaxtyping import Float, UInt8
from pydantic import AfterValidator, NonNegativeInt
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.features.base import NetworkFeatures, check_layers, check_once, gathered
from cortexflow.features.clip import level_name


class Dinov2(NetworkFeatures):
    """Hidden layers of DINOv2, a level each (``layer3``), and the last behind its normalisation (``normed``)."""

    class Config(Choices):
        """Choices of DINOv2 features.

        Arguments:
            model: "dinov2-base", or a folder. The package comes with none.
            layers: Hidden layers by number (0 is what enters the first), or "normed" for the last behind its normalisation.
            tokens: What is kept of a layer: "pooled" the picture's own token, "mean" over patches, "patches", or "all".
        """

        model: str = "dinov2-base"
        layers: Annotated[tuple[NonNegativeInt | Literal["normed"], ...], AfterValidator(check_once)] = ("normed",)
        tokens: Literal["pooled", "mean", "patches", "all"] = "pooled"

    config: Config
    revision = "1"
    kind = "dinov2"

    def extract(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """The chosen levels, in their order.

        Raises:
            CortexflowError: A layer that the network does not have.
        """
        network = self.on(images.device)
        check_layers(self.config.layers, network.config.num_hidden_layers, self.config.model)
        answer = network(pixel_values=self.preprocessing(images), output_hidden_states=True)
        tokens = {level_name(layer): answer.hidden_states[layer] if layer != "normed" else answer.last_hidden_state for layer in self.config.layers}
        return {name: gathered(values, self.config.tokens) for name, values in tokens.items()}
