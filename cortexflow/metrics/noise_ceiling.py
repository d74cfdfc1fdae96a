r"""How much of a voxel any model can explain, known before the first model.

A single trial is a signal of variance :math:`\sigma_s^2` across images plus noise of variance :math:`\sigma_n^2`. The noise
shows in repeats of one image. The image means vary by :math:`\sigma_s^2 + \sigma_n^2 \, \overline{1 / n_i}`, and what is left
after taking the noise away is signal. The ratio :math:`\sigma_s / \sigma_n` belongs to one trial; averaging :math:`n` of them
divides the noise variance by :math:`n`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.metrics.blocks import constant, over_voxels
from cortexflow.metrics.variability import grouping, repeat_variance


class VarianceParts(NamedTuple):
    """The two parts of a single trial's variance, in the squared unit of the responses. Their sum is the total.

    Arguments:
        signal: Variance across images of the response that repeats; unbiased, hence below 0 by chance where there is none.
        noise: Variance across repeats of one image.
    """

    signal: Float[Tensor, " voxels"]
    noise: Float[Tensor, " voxels"]


def variance_parts(responses: Float[Tensor, "trials voxels"], stimuli: Int[Tensor, " trials"]) -> VarianceParts:
    r"""Split the variance of single trials into signal and noise, without bias and for unequal repeats.

    .. math:: \hat\sigma_s^2 = \mathrm{Var}_i(\bar x_i) - \hat\sigma_n^2 \, \overline{1 / n_i}

    The noise is :func:`~cortexflow.metrics.variability.repeat_variance`, pooled by degrees of freedom. In the variance of the
    image means every image weighs the same, however often it was seen; images seen once take part in it.

    Arguments:
        responses: Single trials, any unit; best z-scored within session, or slow drifts count as noise.
        stimuli: Stimulus id of each trial.

    Returns:
        Signal and noise variance; both 0 for a constant voxel, NaN for a voxel with a NaN.

    Raises:
        CortexflowError: There is a single image, or no image was seen twice.

    Example:
        >>> variance_parts(torch.tensor([[1.0], [3.0], [5.0], [7.0]]), torch.tensor([1, 1, 2, 2]))
        VarianceParts(signal=tensor([7.]), noise=tensor([2.]))
    """
    groups = grouping(responses, stimuli)
    if len(groups.images) < 2:
        raise CortexflowError("a signal varies across images, and 1 image came; pass the trials of at least 2")
    noise = repeat_variance(responses, stimuli)
    means = over_voxels(lambda block: torch.where(constant(block, 0), 0.0, groups.means(block).var(0)), responses)
    return VarianceParts(means - noise * (1 / groups.repeats).mean(), noise)


def ncsnr(responses: Float[Tensor, "trials voxels"], stimuli: Int[Tensor, " trials"]) -> Float[Tensor, " voxels"]:
    r"""Standard deviation of the signal over that of the noise, for one trial.

    .. math:: \mathrm{ncsnr} = \sqrt{\max(0, \hat\sigma_s^2)} \, / \, \hat\sigma_n

    Both are estimated from these trials (:func:`variance_parts`): nothing is assumed about scale or number of repeats. The
    Natural Scenes Dataset takes the total variance to be 1 instead; see :func:`ncsnr_nsd`.

    Arguments:
        responses: Single trials, any unit.
        stimuli: Stimulus id of each trial.

    Returns:
        The ratio, at least 0 and without unit; 0 for a constant voxel, without bound where repeats never differ.

    Raises:
        CortexflowError: There is a single image, or no image was seen twice.

    Example:
        >>> ncsnr(torch.tensor([[1.0], [3.0], [5.0], [7.0]]), torch.tensor([1, 1, 2, 2]))  # the root of 7 / 2
        tensor([1.8708])
    """
    signal, noise = variance_parts(responses, stimuli)
    return torch.where(signal <= 0, 0.0, (signal.clamp(min=0) / noise).sqrt())


def ncsnr_nsd(
    responses: Float[Tensor, "trials voxels"],
    stimuli: Int[Tensor, " trials"],
    repeats: int = 3,
) -> Float[Tensor, " voxels"]:
    r"""The ratio as the Natural Scenes Dataset computes it, for comparison with the maps it ships.

    .. math:: \mathrm{ncsnr} = \sqrt{\max(0, 1 - v)} \, / \sqrt v

    where :math:`v` is the mean, over images seen exactly ``repeats`` times, of the unbiased variance across repeats. The total
    variance is taken to be 1: pass responses that were z-scored. On :math:`k` images of :math:`n` trials, z-scored over these
    very trials, the square of :func:`ncsnr` is larger by :math:`(1 - v (n - 1) / n) / (v (k - 1))`: two per cent of it or less
    with 100 images or more and an ncsnr of 1 or more.

    Arguments:
        responses: Single trials, z-scored per voxel within session.
        stimuli: Stimulus id of each trial.
        repeats: How often an image must have been seen.

    Returns:
        The ratio, at least 0 and without unit; 0 for a constant voxel. Images with a NaN in a voxel are left out there.

    Raises:
        CortexflowError: The responses are plainly not z-scored, or no image was seen that often.

    References:
        A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence (Allen et al., 2022).
    """
    _check_standard(responses)
    groups = grouping(responses, stimuli)
    full = groups.repeats == repeats
    if repeats < 2 or not full.any():
        seen = sorted(set(groups.repeats.tolist()))
        raise CortexflowError(f"no image was seen {repeats} times, only {seen}; choose one of these above 1, or ncsnr for any numbers")

    def ratio(block: Tensor) -> Tensor:
        squares = block.new_zeros(len(full), block.shape[1], dtype=torch.float64)
        squares.index_add_(0, groups.image, groups.deviations(block).square())
        v = (squares[full] / (repeats - 1)).nanmean(0)
        return torch.where(constant(block, 0), 0.0, ((1 - v).clamp(min=0) / v).sqrt())

    return over_voxels(ratio, responses)


def _check_standard(responses: Tensor) -> None:
    # the median voxel decides: an area's trials are a part of the session that was z-scored, and some voxels are constant
    total = over_voxels(lambda block: block.double().var(0), responses)
    typical = total[total > 0].median().item() if (total > 0).any() else 1.0
    if not 0.5 < typical < 2:
        raise CortexflowError(f"responses must be z-scored, the typical voxel has variance {typical:.3g}; z-score them within session, or use ncsnr")


def noise_ceiling(
    ncsnr: Float[Tensor, " voxels"],
    repeats: int | Int[Tensor, " images"],
) -> Float[Tensor, " voxels"]:
    r"""The largest share of variance that any model can explain.

    .. math:: \mathrm{NC} = \frac{\mathrm{ncsnr}^2}{\mathrm{ncsnr}^2 + 1 / n}

    Arguments:
        ncsnr: Standard deviation of the signal over that of the noise, for one trial (no unit).
        repeats: Trials averaged per image, :math:`n`; where images differ one count each, and :math:`1 / n` is their mean.

    Returns:
        The ceiling, in [0, 1] of explained variance. Compare with :math:`r^2`, not with :math:`r`.

    Raises:
        CortexflowError: A count is below 1.

    References:
        A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence (Allen et al., 2022).

    Example:
        >>> noise_ceiling(torch.tensor([0.0, 0.5, 1.0]), repeats=3)
        tensor([0.0000, 0.4286, 0.7500])
        >>> noise_ceiling(torch.tensor([1.0]), repeats=torch.tensor([3, 2, 2, 1]))  # the mean of 1/n is 7/12
        tensor([0.6316])
    """
    counts = torch.as_tensor(repeats, dtype=torch.float64, device=ncsnr.device)
    if counts.numel() == 0 or counts.min() < 1:
        raise CortexflowError(f"every image has at least 1 trial, counts were {repeats}; leave out the images that were not seen")
    # written so that an ncsnr of 0 gives 0 and an infinite one 1
    return 1 / (1 + (1 / counts).mean().to(ncsnr.dtype) / ncsnr.square())
