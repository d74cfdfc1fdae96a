r"""How alike a predicted and a measured *pattern* are, one number per trial or image, across voxels: for comparison with papers.

Several published encoders are scored this way. Where responses are not z-scored, voxels differ in their mean by more than
any picture moves them, and a constant pattern that never saw the picture scores nearly as high as a model: always print the
score of :func:`~cortexflow.metrics.nulls.training_mean_pattern` beside. What is asked of a model elsewhere in this package is
:func:`~cortexflow.metrics.voxelwise.correlation`, across images within a voxel, at which a constant scores 0.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.metrics.blocks import ELEMENTS_AT_ONCE, check_matched, unit


class PatternScores(NamedTuple):
    """Scores of one prediction per image against every trial of it, one row per trial.

    Arguments:
        error: Mean squared error over voxels, in the squared unit of the responses.
        r: Pearson's r across voxels, in [-1, 1].
    """

    error: Float[Tensor, " trials"]
    r: Float[Tensor, " trials"]


def pattern_correlation(
    predicted: Float[Tensor, "images voxels"],
    measured: Float[Tensor, "images voxels"],
) -> Float[Tensor, " images"]:
    r"""Pearson's :math:`r` of each image across voxels.

    Arguments:
        predicted: One row per image or trial, any unit that is the same for all voxels.
        measured: The same rows.

    Returns:
        :math:`r` in [-1, 1] for each row; 0 where a pattern is the same in all voxels. NaN where a NaN came.

    Raises:
        CortexflowError: The two do not match.

    Example:
        >>> pattern_correlation(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]), torch.tensor([[2.0, 4.0, 6.0], [1.0, 2.0, 4.0]]))
        tensor([1., 0.])
    """
    check_matched(predicted, measured)
    size = max(ELEMENTS_AT_ONCE // max(measured.shape[1], 1), 1)
    pairs = zip(predicted.split(size), measured.split(size), strict=True)
    return torch.cat([(unit(p, 1) * unit(m, 1)).sum(1).clamp(-1, 1) for p, m in pairs]).to(predicted.dtype)


def single_trial_patterns(
    predicted: Float[Tensor, "images voxels"],
    measured: Float[Tensor, "trials voxels"],
    image_of_trial: Int[Tensor, " trials"],
) -> PatternScores:
    """Every prediction against every single trial of its image; the mean over trials is the published score.

    This is how SynBrain is scored, on responses that are neither z-scored nor averaged.

    Arguments:
        predicted: One row per image, in the unit of ``measured``.
        measured: Single trials.
        image_of_trial: The row of ``predicted`` that belongs to each trial.

    Returns:
        Squared error and correlation of each trial.

    Raises:
        CortexflowError: The voxels do not match, or a trial has no image.

    References:
        SynBrain (Mai et al., 2025).

    Example:
        >>> scores = single_trial_patterns(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
        >>> scores.error, scores.r
        (tensor([0., 2.]), tensor([1., 1.]))
    """
    known = (image_of_trial >= 0) & (image_of_trial < len(predicted))
    if len(image_of_trial) != len(measured) or not bool(known.all()):
        what = f"{len(measured)} trials need one of {len(predicted)} images each"
        raise CortexflowError(f"{what}; pass the row of each trial's prediction, as torch.searchsorted(images, stimuli) gives it")
    rows = predicted[image_of_trial]
    check_matched(rows, measured)
    error = (rows.double() - measured.double()).square().mean(1).to(predicted.dtype)
    return PatternScores(error, pattern_correlation(rows, measured))
