r"""How well each voxel is predicted, one number per voxel across images.

Correlating across images asks whether a voxel's answer follows the picture. Correlating across voxels within an image
mostly asks whether some voxels are always more active than others, which a constant pattern answers perfectly; that is why
no function here does it.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.metrics.blocks import check_matched, constant, over_voxels, unit


def correlation(
    predicted: Float[Tensor, "images voxels"],
    measured: Float[Tensor, "images voxels"],
) -> Float[Tensor, " voxels"]:
    r"""Pearson's :math:`r` of each voxel across images.

    Arguments:
        predicted: One row per image, any unit.
        measured: The same images, repeats averaged or one trial each, any unit.

    Returns:
        :math:`r` in [-1, 1]. A voxel that is constant in either has 0: a constant predicts nothing. NaN where a NaN came.

    Raises:
        CortexflowError: The two do not match, or there are fewer than two images.

    Example:
        >>> correlation(torch.tensor([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]]), torch.tensor([[2.0, 1.0], [4.0, 2.0], [6.0, 5.0]]))
        tensor([1., 0.])
    """
    check_matched(predicted, measured, least=2)
    return over_voxels(lambda p, m: (unit(p, 0) * unit(m, 0)).sum(0).clamp(-1, 1), predicted, measured)


def explained_variance(
    predicted: Float[Tensor, "images voxels"],
    measured: Float[Tensor, "images voxels"],
) -> Float[Tensor, " voxels"]:
    r"""The share of a voxel's variance across images that the prediction removes, :math:`R^2`.

    .. math:: R^2 = 1 - \frac{\sum_i (y_i - \hat y_i)^2}{\sum_i (y_i - \bar y)^2}

    Unlike :math:`r^2` it punishes a wrong scale and a wrong mean.

    Arguments:
        predicted: One row per image, in the unit of ``measured``.
        measured: The same images.

    Returns:
        At most 1; negative where the mean over these images would have done better. 0 where the measured voxel is constant.

    Raises:
        CortexflowError: The two do not match, or there are fewer than two images.

    Example:
        >>> explained_variance(torch.tensor([[1.0], [2.0], [2.0]]), torch.tensor([[1.0], [2.0], [3.0]]))
        tensor([0.5000])
    """
    check_matched(predicted, measured, least=2)
    return over_voxels(_explained_variance, predicted, measured)


def _explained_variance(predicted: Tensor, measured: Tensor) -> Tensor:
    p, m = predicted.double(), measured.double()
    share = 1 - (m - p).square().sum(0) / (m - m.mean(0)).square().sum(0)
    return torch.where(constant(measured, 0), 0.0, share)


def mean_squared_error(
    predicted: Float[Tensor, "images voxels"],
    measured: Float[Tensor, "images voxels"],
) -> Float[Tensor, " voxels"]:
    """The mean over images of the squared error of each voxel, in the squared unit of the responses.

    It cannot be compared between differently scaled responses: report it beside the error of the training-mean pattern.

    Raises:
        CortexflowError: The two do not match, or there is no image.
    """
    check_matched(predicted, measured)
    return over_voxels(lambda p, m: (p.double() - m.double()).square().mean(0), predicted, measured)


def share_of_ceiling(
    r: Float[Tensor, " voxels"],
    ceiling: Float[Tensor, " voxels"],
    least: float = 0.05,
) -> Float[Tensor, " voxels"]:
    r"""The share of the explainable variance that was explained, :math:`r^2 / \mathrm{NC}`.

    Sampling noise alone gives :math:`r^2` about one over the number of images, and a small ceiling magnifies it; hence
    ``least``. A negative :math:`r` counts as much as a positive one: pass ``r.clamp(min=0)`` to give it nothing.

    Arguments:
        r: Correlation per voxel across images, in [-1, 1].
        ceiling: Noise ceiling in shares of variance, in [0, 1], for as many repeats as were averaged in ``r``.
        least: The smallest ceiling that a voxel may have, a share of variance above 0. Say in the report how many were left out.

    Returns:
        The share, at least 0; above 1 where the ceiling was underestimated or by luck. NaN where the ceiling is below ``least``.

    Raises:
        CortexflowError: ``least`` is not in (0, 1].

    Example:
        >>> share_of_ceiling(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.01]))
        tensor([0.5000,    nan])
    """
    if not 0 < least <= 1:
        raise CortexflowError(f"the least ceiling must be a share of variance in (0, 1], {least} came; 0.05 leaves out hopeless voxels")
    return torch.where(ceiling >= least, r.square() / ceiling, torch.nan)


def bits_per_voxel(log_prob_nats: Float[Tensor, " trials"], voxels: int) -> Float[Tensor, " trials"]:
    r"""The code length of a trial, :math:`-\log_2 p / V`. Lower is better.

    A density has the inverse unit of the responses: scaling them by :math:`c` adds :math:`\log_2 c`, and the number may be
    negative. Compare only models of the same responses in the same unit.

    Arguments:
        log_prob_nats: Log density of each trial over all voxels together, natural logarithm.
        voxels: How many voxels there are, :math:`V`.

    Returns:
        Bits per voxel of each trial.

    Raises:
        CortexflowError: There is no voxel.

    Example:
        >>> bits_per_voxel(torch.tensor([-math.log(2.0) * 6]), voxels=3)
        tensor([2.])
    """
    if voxels < 1:
        raise CortexflowError(f"a response has at least 1 voxel, {voxels} came; pass responses.shape[1]")
    return -log_prob_nats / (voxels * math.log(2))


def median_over_voxels(values: Float[Tensor, "*rows voxels"]) -> Float[Tensor, "*rows"]:
    """The median of each row, voxels without a value (NaN) left out; of an even number, the mean of the middle two.

    Example:
        >>> median_over_voxels(torch.tensor([[4.0, 1.0, float("nan"), 2.0, 3.0]]))
        tensor([2.5000])
    """
    return (values.nanmedian(-1).values - (-values).nanmedian(-1).values) / 2  # torch gives the lower of the middle two
