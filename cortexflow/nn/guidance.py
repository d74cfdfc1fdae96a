r"""Latents drawn by a conditional diffusion model, pushed towards what is asked for.

At every step the network says what it would say with each condition, :math:`f_i`, and with none, :math:`f_0`; what is used is

.. math:: f = f_0 + \sum_i w_i (f_i - f_0).

A weight of 1 for one condition alone is the model as it was trained, more than 1 asks more firmly, 0 does not ask.

References:
    Classifier-Free Diffusion Guidance (Ho and Salimans, 2022).
    Denoising Diffusion Implicit Models (Song et al., 2021).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cortexflow.errors import CortexflowError


@torch.no_grad()
def guided(
    network: Any,
    scheduler: Any,
    start: Float[Tensor, "stimuli channels height width"],
    asked: Sequence[tuple[float, Float[Tensor, "stimuli _ width_of_tokens"]]],
    nothing: Float[Tensor, "_ _ width_of_tokens"],
    *,
    steps: int = 20,
    begin: int = 0,
) -> Float[Tensor, "stimuli channels height width"]:
    """Clean latents out of noise, or out of noised latents where ``begin`` is above 0; nothing is drawn on the way.

    Arguments:
        network: diffusers' ``UNet2DConditionModel``.
        scheduler: diffusers' ``DDIMScheduler`` that it was trained with.
        start: Standard normal noise; or latents noised to ``scheduler.timesteps[begin]``.
        asked: Weight and tokens of each condition; may be empty.
        nothing: Tokens of no condition, one row for all or a row each.
        steps: Steps from noise to picture.
        begin: The step to begin with.

    Raises:
        CortexflowError: A beginning that is not one of the steps.
    """
    if not 0 <= begin < steps:
        raise CortexflowError(f"begin must be one of the {steps} steps, 0 to {steps - 1}, it is {begin}; choose one of those")
    scheduler.set_timesteps(steps, device=start.device)
    latents, weights = start, [weight for weight, _ in asked]
    tokens = torch.cat([nothing.expand(len(start), -1, -1), *(given for _, given in asked)])
    for time in scheduler.timesteps[begin:]:
        said = network(latents.repeat(1 + len(asked), 1, 1, 1), time, tokens).sample.chunk(1 + len(asked))
        pushed = said[0] + sum(weight * (one - said[0]) for weight, one in zip(weights, said[1:], strict=True))
        latents = scheduler.step(pushed, time, latents, eta=0.0).prev_sample
    return latents
