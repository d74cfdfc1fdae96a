"""The rows that every table needs: what is scored without looking at the picture, and what cortex itself would score.

A constant pattern has no correlation across images, and a good one across voxels: a score that it reaches says nothing about
the picture. Shuffled images keep everything of a model but the pairing. A repeat against a repeat is what a perfect model with
cortex's own noise would reach; a model that beats it has averaged noise away, which is allowed and should be said.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.metrics.blocks import over_voxels
from cortexflow.metrics.variability import grouping


class Pair(NamedTuple):
    """Two measurements of the same images, to be scored as prediction and measurement.

    Arguments:
        predicted: One trial of each image.
        measured: Another trial of it, or the mean of the others.
        stimuli: The stimulus id of each row, sorted.
    """

    predicted: Float[Tensor, "images voxels"]
    measured: Float[Tensor, "images voxels"]
    stimuli: Int[Tensor, " images"]


def training_mean_pattern(training_responses: Float[Tensor, "trials voxels"], images: int) -> Float[Tensor, "images voxels"]:
    """The mean training response of each voxel, the same row for every image.

    Arguments:
        training_responses: Trials of the training images only.
        images: How many rows to give back.

    Raises:
        CortexflowError: There is no training trial.
    """
    if not len(training_responses):
        raise CortexflowError("a mean needs at least 1 training trial, none came; pass the training responses")
    return over_voxels(lambda block: block.double().mean(0), training_responses).repeat(images, 1)


def zero_pattern(images: int, voxels: int) -> Float[Tensor, "images voxels"]:
    """Zeros: the best guess for z-scored responses that knows nothing at all."""
    return torch.zeros(images, voxels)


def derangement(images: int, generator: torch.Generator) -> Int[Tensor, " images"]:
    """A random order in which no image keeps its place, all such orders with equal chance.

    Raises:
        CortexflowError: There are fewer than two images.
    """
    if images < 2:
        raise CortexflowError(f"{images} images cannot be shuffled without one keeping its place; pass at least 2")
    own = torch.arange(images, device=generator.device)
    while True:  # one permutation in e leaves no image in place, so this ends soon
        order = torch.randperm(images, generator=generator, device=generator.device)
        if not (order == own).any():
            return order


def shuffled_images(predicted: Float[Tensor, "images voxels"], generator: torch.Generator) -> Float[Tensor, "images voxels"]:
    """The same predictions in an order in which no image keeps its own.

    Arguments:
        predicted: One row per image; each image once, or a trial may get the prediction for another trial of its image.
        generator: Chooses the order.

    Raises:
        CortexflowError: There are fewer than two images.
    """
    return predicted[derangement(len(predicted), generator).to(predicted.device)]


def repeat_against_repeat(responses: Float[Tensor, "trials voxels"], stimuli: Int[Tensor, " trials"]) -> Pair:
    """The first trial of each image as the prediction of its second.

    Arguments:
        responses: Single trials in the order they were recorded.
        stimuli: Stimulus id of each trial.

    Returns:
        Two tensors of the images seen at least twice. Across many images their correlation per voxel is the share of a single
        trial's variance that is signal.

    Raises:
        CortexflowError: No image was seen twice.

    Example:
        >>> pair = repeat_against_repeat(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([8, 5, 8, 8]))
        >>> pair.predicted.item(), pair.measured.item(), pair.stimuli.item()
        (1.0, 3.0, 8)
    """
    first, second, images, _ = _first_two(responses, stimuli)
    return Pair(responses[first], responses[second], images)


def repeat_against_others(responses: Float[Tensor, "trials voxels"], stimuli: Int[Tensor, " trials"]) -> Pair:
    """The first trial of each image as the prediction of the mean of its other trials.

    Nearer than :func:`repeat_against_repeat` to the score of a model, which is compared with averaged repeats.

    Arguments:
        responses: Single trials in the order they were recorded.
        stimuli: Stimulus id of each trial.

    Returns:
        Two tensors of the images seen at least twice.

    Raises:
        CortexflowError: No image was seen twice.
    """
    first, _, images, repeats = _first_two(responses, stimuli)
    rest = torch.ones(len(stimuli), dtype=torch.bool, device=responses.device)
    rest[first] = False
    rest &= torch.isin(stimuli, images)
    sums = torch.zeros_like(responses[first]).index_add_(0, torch.searchsorted(images, stimuli[rest]), responses[rest])
    return Pair(responses[first], sums / (repeats[:, None] - 1), images)


def _first_two(responses: Tensor, stimuli: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of the first and the second trial, id and number of trials of each image seen at least twice."""
    groups = grouping(responses, stimuli)
    by_image = torch.argsort(groups.image, stable=True)
    starts = (groups.repeats.cumsum(0) - groups.repeats)[groups.repeats > 1]
    several = groups.repeats > 1
    return by_image[starts], by_image[starts + 1], groups.images[several], groups.repeats[several]
