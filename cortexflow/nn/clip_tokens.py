"""What CLIP says of a picture or of a caption, token by token, in the space that both share.

The tokens are those that Brain-Diffuser decodes from brain responses and that a diffusion model is conditioned on. All of
them take transformers' classes: ``CLIPModel``, or its halves with projection.

References:
    Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021).
    Natural scene reconstruction from fMRI signals using generative latent diffusion (Ozcelik and VanRullen, 2023).
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


def vision_tokens(network: Any, pixels: Float[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli tokens projection"]:
    """Every token of the last layer, behind the last normalisation and the projection, over the length of the first.

    Arguments:
        network: CLIP with its vision tower.
        pixels: Resized and standardised as the network wants them.

    Returns:
        The picture's token, of length 1, then one token per patch, row by row.
    """
    vision = network.vision_model
    projected = network.visual_projection(vision.post_layernorm(vision(pixel_values=pixels).last_hidden_state))
    return projected / projected[:, :1].norm(dim=-1, keepdim=True)


def vision_embedding(network: Any, pixels: Float[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli projection"]:
    """One vector of length 1 per picture."""
    projected = network.visual_projection(network.vision_model(pixel_values=pixels).pooler_output)
    return projected / projected.norm(dim=-1, keepdim=True)


def text_tokens(network: Any, words: Int[Tensor, "captions tokens"]) -> Float[Tensor, "captions tokens projection"]:
    """Every token of a caption behind the projection, over the length of the one that ends it (where CLIP reads the caption).

    Arguments:
        network: CLIP with its text tower.
        words: Token ids, each row with its end.
    """
    answer = network.text_model(input_ids=words)
    projected = network.text_projection(answer.last_hidden_state)
    return projected / network.text_projection(answer.pooler_output).norm(dim=-1)[:, None, None]


def text_embedding(network: Any, words: Int[Tensor, "captions tokens"]) -> Float[Tensor, "captions projection"]:
    """One vector of length 1 per caption."""
    projected = network.text_projection(network.text_model(input_ids=words).pooler_output)
    return projected / projected.norm(dim=-1, keepdim=True)


def tokenize(tokenizer: Any, captions: list[str], length: int) -> Int[Tensor, "captions tokens"]:
    """Token ids, padded or cut to ``length``, as CLIP was trained with."""
    return tokenizer(captions, padding="max_length", truncation=True, max_length=length, return_tensors="pt")["input_ids"]


def condition(
    vision: Float[Tensor, "stimuli _ projection"] | None, text: Float[Tensor, "stimuli _ projection"] | None
) -> Float[Tensor, "stimuli tokens projection"]:
    """What the mini UNet's cross-attention is given: vision tokens, then text tokens, each number about 1 in size."""
    parts = [part for part in (vision, text) if part is not None]
    return torch.cat(parts, 1) * parts[0].shape[-1] ** 0.5
