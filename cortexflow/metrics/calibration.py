r"""Whether samples are distributed as the measured trials are, not only centred on them.

Scores of a whole distribution (CRPS, energy score) are *proper*: no other distribution has a lower expectation than the true
one. They are *fair*: their expectation does not depend on how many samples were drawn, so models with different numbers
can be compared. Coverage and rank histograms show in which way a distribution is wrong: too narrow, too wide, or shifted.

Everywhere ``samples`` are synthetic trials of the picture of each measured trial, row by row: where an image was measured
three times its samples stand three times (``samples[:, image_of_trial]``). Repeats must not be averaged before.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.metrics.blocks import check_samples, over_voxels
from cortexflow.metrics.voxelwise import correlation


def crps(
    samples: Float[Tensor, "n trials voxels"],
    measured: Float[Tensor, "trials voxels"],
) -> Float[Tensor, " voxels"]:
    r"""Continuous ranked probability score of each voxel, mean over trials. Lower is better.

    .. math:: \frac{1}{n} \sum_i |x_i - y| - \frac{1}{2 n (n - 1)} \sum_{i \neq j} |x_i - x_j|

    Arguments:
        samples: At least two synthetic trials for each measured one, in its unit.
        measured: Single trials.

    Returns:
        The score in the unit of the responses; for identical samples the mean absolute error. It may be negative by chance.

    Raises:
        CortexflowError: The two do not match, or there are fewer than two samples.

    References:
        Fair scores for ensemble forecasts (Ferro, 2014).

    Example:
        >>> crps(torch.tensor([[[0.0]], [[2.0]]]), torch.tensor([[3.0]]))  # (3 + 1) / 2 - 2 / 2
        tensor([1.])
    """
    check_samples(samples, measured, least=2)
    return over_voxels(lambda drawn, came: _crps(drawn, came).mean(0), samples, measured)


def crps_by_trial(
    samples: Float[Tensor, "n trials voxels"],
    measured: Float[Tensor, "trials voxels"],
) -> Float[Tensor, "trials voxels"]:
    """:func:`crps` of every trial and voxel, not averaged: what intervals over trials need.

    Raises:
        CortexflowError: The two do not match, or there are fewer than two samples.
    """
    check_samples(samples, measured, least=2)
    return over_voxels(lambda drawn, came: _crps(drawn, came), samples, measured)


def _crps(samples: Tensor, measured: Tensor) -> Tensor:
    n = len(samples)
    ordered = samples.double().sort(0).values
    # the sum over pairs of |x_i - x_j|: the k-th smallest is added k times and subtracted n - 1 - k times
    weights = torch.arange(1 - n, n, 2, dtype=torch.float64, device=samples.device)
    pairs = torch.einsum("n,nrv->rv", weights, ordered)
    return (ordered - measured.double()).abs().mean(0) - pairs / (n * (n - 1))


def energy_score(
    samples: Float[Tensor, "n trials voxels"],
    measured: Float[Tensor, "trials voxels"],
) -> Float[Tensor, " trials"]:
    r"""The CRPS of whole patterns: Euclidean distances over all voxels instead of differences. Lower is better.

    It sees the scale and the mean of every voxel and, more weakly, how voxels go together.

    Arguments:
        samples: At least two synthetic trials for each measured one, in its unit.
        measured: Single trials.

    Returns:
        The fair score of each trial, in the unit of the responses.

    Raises:
        CortexflowError: The two do not match, or there are fewer than two samples.

    References:
        Strictly proper scoring rules, prediction, and estimation (Gneiting & Raftery, 2007).

    Example:
        >>> energy_score(torch.tensor([[[0.0, 0.0]], [[6.0, 8.0]]]), torch.tensor([[3.0, 4.0]]))  # (5 + 5) / 2 - 10 / 2
        tensor([0.])
    """
    check_samples(samples, measured, least=2)
    # one trial at a time: the differences of all samples of all trials would not fit
    scores = [_energy_score(samples[:, row].double(), measured[row].double()) for row in range(len(measured))]
    return torch.stack(scores).to(samples.dtype)


def _energy_score(samples: Tensor, measured: Tensor) -> Tensor:
    return (samples - measured).norm(dim=1).mean() - torch.pdist(samples).mean() / 2


def coverage(
    samples: Float[Tensor, "n trials voxels"],
    measured: Float[Tensor, "trials voxels"],
    levels: Sequence[float],
) -> Float[Tensor, "levels voxels"]:
    r"""How often a measured trial falls inside the central interval of the samples.

    The ends are the quantiles of the samples at plotting position :math:`p (n + 1)`, so that a calibrated model covers a
    level by that level, with any number of samples that reaches it.

    Arguments:
        samples: Synthetic trials for each measured one, in its unit.
        measured: Single trials.
        levels: Nominal coverages, each in (0, 1).

    Returns:
        The share of trials inside (ends included), one row per level. Below the level: the model is too narrow or shifted.

    Raises:
        CortexflowError: The two do not match, a level is not in (0, 1), or there are too few samples to reach it.

    Example:
        >>> coverage(torch.arange(9.0).reshape(9, 1, 1).expand(9, 2, 1), torch.tensor([[4.5], [8.5]]), [0.8])
        tensor([[0.5000]])
    """
    check_samples(samples, measured)
    for level in levels:
        if not 0 < level < 1:
            raise CortexflowError(f"a level of coverage lies between 0 and 1, {level} came; write 0.9 for 90 per cent")
        if (1 - level) / 2 * (len(samples) + 1) < 1 - 1e-9:
            needed = math.ceil((1 + level) / (1 - level) - 1e-9)
            raise CortexflowError(f"{len(samples)} samples have no central {level:g} interval; draw at least {needed} or choose a lower level")
    return over_voxels(lambda s, m: _coverage(s, m, levels), samples, measured)


def _coverage(samples: Tensor, measured: Tensor, levels: Sequence[float]) -> Tensor:
    ordered = samples.sort(0).values
    inside = []
    for level in levels:
        tail = max((1 - level) / 2 * (len(ordered) + 1) - 1, 0.0)
        below, part = int(tail), tail - int(tail)
        low = torch.lerp(ordered[below], ordered[below + 1 if part else below], part)
        high = torch.lerp(ordered[-1 - below], ordered[-2 - below if part else -1 - below], part)
        inside.append(((low <= measured) & (measured <= high)).double().mean(0))
    return torch.stack(inside)


def probability_integral_transform(
    samples: Float[Tensor, "n trials voxels"],
    measured: Float[Tensor, "trials voxels"],
    generator: torch.Generator,
) -> Float[Tensor, "trials voxels"]:
    r"""Where each measured trial ranks among its samples, as a number in [0, 1).

    .. math:: u = \frac{\#\{x_i < y\} + w \, (\#\{x_i = y\} + 1)}{n + 1}, \qquad w \sim \mathrm{U}(0, 1)

    The random part spreads a rank over its bin and breaks ties, so that :math:`u` is exactly uniform for a calibrated model.

    Arguments:
        samples: Synthetic trials for each measured one, in its unit.
        measured: Single trials.
        generator: Draws :math:`w`.

    Returns:
        Uniform across trials if calibrated; heaped at both ends if the samples vary too little, in the middle if too much.

    Raises:
        CortexflowError: The two do not match, or there is no sample.
    """
    check_samples(samples, measured, least=1)
    spread = torch.rand(measured.shape, generator=generator, device=generator.device).to(measured)

    def transform(s: Tensor, m: Tensor, w: Tensor) -> Tensor:
        return ((s < m).sum(0) + w * ((s == m).sum(0) + 1)) / (len(s) + 1)

    return over_voxels(transform, samples, measured, spread)


def rank_histogram(transform: Float[Tensor, "trials voxels"], bins: int) -> Float[Tensor, "bins voxels"]:
    """The share of trials in each of ``bins`` equal parts of [0, 1], per voxel.

    Arguments:
        transform: What :func:`probability_integral_transform` gave.
        bins: How many; with one more than there were samples each bin is one rank.

    Returns:
        Shares that sum to 1 over bins; flat, up to chance, for a calibrated model.

    Raises:
        CortexflowError: There is no bin.

    Example:
        >>> rank_histogram(torch.tensor([[0.1], [0.2], [0.9], [0.3]]), bins=2)
        tensor([[0.7500],
                [0.2500]])
    """
    if bins < 1:
        raise CortexflowError(f"a histogram has at least 1 bin, {bins} were asked; one more than the samples is natural")
    bin_of = (transform.double() * bins).long().clamp(0, bins - 1)
    counts = transform.new_zeros(bins, transform.shape[1])
    return counts.scatter_add_(0, bin_of, torch.ones_like(transform)) / len(transform)


def accuracy_by_samples(
    samples: Float[Tensor, "n images voxels"],
    measured: Float[Tensor, "images voxels"],
    counts: Sequence[int],
) -> Float[Tensor, "counts voxels"]:
    r"""The correlation of each voxel when the first 1, 2, 5 … samples are averaged.

    A model whose samples are as noisy as trials climbs with the count as an average of repeats does; a deterministic one stays.

    Arguments:
        samples: Synthetic trials of each image.
        measured: The same images, repeats averaged.
        counts: How many samples to average, each in 1 … n.

    Returns:
        :math:`r` per voxel across images, one row per count.

    Raises:
        CortexflowError: The two do not match, or a count is out of range.
    """
    check_samples(samples, measured)
    wrong = [count for count in counts if not 1 <= count <= len(samples)]
    if wrong:
        raise CortexflowError(f"{wrong[0]} samples cannot be averaged where {len(samples)} were drawn; choose 1 to {len(samples)}")
    return torch.stack([correlation(over_voxels(lambda s: s.double().mean(0), samples[:count]), measured) for count in counts])
