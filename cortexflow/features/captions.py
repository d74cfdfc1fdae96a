"""What people say of a picture, as CLIP reads it: the mean over its captions."""

from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import AfterValidator, NonNegativeInt
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.catalog import load as load_module
from cortexflow.data.base import Dataset
from cortexflow.errors import CortexflowError
from cortexflow.features.base import NetworkFeatures, check_layers, check_once
from cortexflow.features.clip import level_name
from cortexflow.nn.clip_tokens import text_embedding, text_tokens, tokenize

ABSENT = -1  # fills the rows of pictures with fewer captions than others


class Captions(NetworkFeatures):
    """Words of a study that has ``captions(stimuli) -> list[list[str]]``; pictures are never looked at.

    ``layers=("projected",)`` of clip-vit-large-patch14 are the 77 × 768 tokens of Brain-Diffuser.
    """

    class Config(Choices):
        """Choices of caption features.

        Arguments:
            model: "mini", "clip-vit-large-patch14", or a folder, with a tokenizer.
            layers: "embedding" for one vector in the space shared with pictures; "projected" for all tokens in that space over
                the length of the one that ends the caption; "hidden" for all tokens before the projection, as Stable Diffusion
                is conditioned on; hidden layers by number. Tokens are flattened one after the other.
        """

        model: str = "mini"
        layers: Annotated[tuple[NonNegativeInt | Literal["hidden", "projected", "embedding"], ...], AfterValidator(check_once)] = ("embedding",)

    config: Config
    revision = "1"
    kind = "clip"
    architecture = "transformers.CLIPTextModelWithProjection"

    @cached_property
    def tokenizer(self) -> Any:
        """From words to numbers."""
        return load_module("transformers").CLIPTokenizer.from_pretrained(self.source.folder, local_files_only=True)

    @property
    def length(self) -> int:
        """Tokens of a caption, with its start and its end."""
        return self.network.config.max_position_embeddings

    def read(self, dataset: Dataset, stimuli: Int[Tensor, " stimuli"]) -> Int[Tensor, "stimuli captions tokens"]:
        """Token ids of every caption; a picture with fewer captions than another has rows of -1.

        Raises:
            CortexflowError: The study has no captions, or a picture has none.
        """
        if not hasattr(dataset, "captions"):
            raise CortexflowError(
                f"{type(dataset).__module__.rsplit('.', 1)[-1]} has no captions; leave features captions out, or choose a study with some"
            )
        spoken = dataset.captions(stimuli)
        if silent := [number for number, said in zip(stimuli.tolist(), spoken, strict=True) if not said]:
            raise CortexflowError(f"stimulus {silent[0]} has no caption ({len(silent)} such); give each picture one or more")
        return self.numbers(spoken)

    def numbers(self, spoken: list[list[str]]) -> Int[Tensor, "stimuli captions tokens"]:
        """Token ids of the captions of each picture."""
        ids = tokenize(self.tokenizer, [caption for said in spoken for caption in said], self.length)
        filled = torch.full((len(spoken), max(map(len, spoken)), self.length), ABSENT)
        for row, part in zip(filled, ids.split([len(said) for said in spoken]), strict=True):
            row[: len(part)] = part
        return filled

    def check(self, given: Tensor) -> None:
        """Raises CortexflowError where pictures are given."""
        if given.ndim != 3 or given.is_floating_point() or given.dtype == torch.uint8:
            raise CortexflowError(
                f"captions are features of words, these have shape {tuple(given.shape)} and are {given.dtype}; "
                "use them with a study that has captions, or ask for clip of pictures"
            )

    def extract(self, given: Int[Tensor, "stimuli captions tokens"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """The chosen levels, in their order: means over the captions of each picture.

        Raises:
            CortexflowError: A layer that the network does not have.
        """
        network = self.on(given.device)
        check_layers(self.config.layers, network.config.num_hidden_layers, self.config.model)
        spoken = (given != ABSENT).any(-1)
        words = given[spoken]
        return {level_name(layer): over_captions(self._layer(network, layer, words).flatten(1), spoken) for layer in self.config.layers}

    def _layer(self, network: Any, layer: int | str, words: Int[Tensor, "captions tokens"]) -> Tensor:
        if layer in ("embedding", "projected"):
            return (text_embedding if layer == "embedding" else text_tokens)(network, words)
        answer = network.text_model(input_ids=words, output_hidden_states=True)
        return answer.last_hidden_state if layer == "hidden" else answer.hidden_states[layer]


def over_captions(values: Float[Tensor, "captions columns"], spoken: Bool[Tensor, "stimuli most"]) -> Float[Tensor, "stimuli columns"]:
    """The mean over the captions of each picture.

    Example:
        >>> over_captions(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([[True, True], [True, False]]))
        tensor([[2.],
                [7.]])
    """
    picture = torch.arange(len(spoken), device=spoken.device)[:, None].expand_as(spoken)[spoken]
    total = values.new_zeros(len(spoken), values.shape[1]).index_add(0, picture, values)
    return total / spoken.sum(1, keepdim=True)
