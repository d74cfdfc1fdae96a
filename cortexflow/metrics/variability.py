r"""What changes when the same picture is shown again, in cortex and in a model.

A trial is a signal, the same whenever the image is shown, plus noise. The trials of one image around their mean show the
noise alone: its variance per voxel, and its correlation between voxels. A model that is sampled should show the same.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.metrics.blocks import constant, over_voxels, unit
from cortexflow.metrics.voxelwise import correlation


class Grouping(NamedTuple):
    """Which trials show the same image.

    Arguments:
        images: The stimulus ids, sorted, each once.
        image: For each trial the row of its image in ``images``.
        repeats: How many trials each image has.
    """

    images: Int[Tensor, " images"]
    image: Int[Tensor, " trials"]
    repeats: Int[Tensor, " images"]

    def means(self, responses: Float[Tensor, "trials voxels"]) -> Float[Tensor, "images voxels"]:
        """The mean response to each image, in double precision."""
        sums = responses.new_zeros(len(self.images), responses.shape[1], dtype=torch.float64)
        return sums.index_add_(0, self.image, responses.double()) / self.repeats[:, None]

    def deviations(self, responses: Float[Tensor, "trials voxels"]) -> Float[Tensor, "trials voxels"]:
        """Each trial minus the mean of its image, in double precision."""
        return responses.double() - self.means(responses)[self.image]


def grouping(responses: Float[Tensor, "trials voxels"], stimuli: Int[Tensor, " trials"]) -> Grouping:
    """Group trials by stimulus.

    Raises:
        CortexflowError: The two do not match, or no image was seen twice.
    """
    if len(responses) != len(stimuli):
        raise CortexflowError(f"{len(responses)} trials have {len(stimuli)} stimulus ids; give one id per trial")
    images, image, repeats = torch.unique(stimuli, return_inverse=True, return_counts=True)
    if not (repeats > 1).any():
        raise CortexflowError(f"some image must be seen at least 2 times, {len(images)} images were seen once each; pass single trials with repeats")
    return Grouping(images, image, repeats)


def repeat_variance(
    responses: Float[Tensor, "trials voxels"],
    stimuli: Int[Tensor, " trials"],
) -> Float[Tensor, " voxels"]:
    r"""The variance of a voxel across repeats of the same image: the noise of one trial.

    .. math:: \hat\sigma^2 = \frac{\sum_i \sum_j (x_{ij} - \bar x_i)^2}{\sum_i (n_i - 1)}

    Unbiased for any numbers of repeats :math:`n_i`; images seen once add nothing.

    Arguments:
        responses: Single trials, any unit.
        stimuli: Stimulus id of each trial.

    Returns:
        The variance, in the squared unit of the responses; exactly 0 for a constant voxel.

    Raises:
        CortexflowError: No image was seen twice.

    Example:
        >>> repeat_variance(torch.tensor([[1.0], [3.0], [5.0], [5.0], [9.0]]), torch.tensor([7, 7, 8, 8, 9]))
        tensor([1.])
    """
    groups = grouping(responses, stimuli)
    freedom = len(stimuli) - len(groups.images)

    def variance(block: Tensor) -> Tensor:
        return torch.where(constant(block, 0), 0.0, groups.deviations(block).square().sum(0) / freedom)

    return over_voxels(variance, responses)


def within_stimulus_residuals(
    responses: Float[Tensor, "trials voxels"],
    stimuli: Int[Tensor, " trials"],
) -> Float[Tensor, "kept voxels"]:
    r"""Each trial minus the mean of its image, scaled by :math:`\sqrt{n / (n - 1)}` so that its variance is that of one trial.

    Residuals of the same image sum to zero, so they are not independent; covariances across trials are unbiased nevertheless.

    Arguments:
        responses: Single trials, any unit.
        stimuli: Stimulus id of each trial.

    Returns:
        The residuals in the order of the trials. Trials of images seen once are dropped.

    Raises:
        CortexflowError: No image was seen twice.

    Example:
        >>> within_stimulus_residuals(torch.tensor([[1.0], [3.0], [9.0]]), torch.tensor([7, 7, 8]))
        tensor([[-1.4142],
                [ 1.4142]])
    """
    groups = grouping(responses, stimuli)
    repeats = groups.repeats[groups.image].double()
    kept = repeats > 1
    scale = (repeats / (repeats - 1))[kept].sqrt()[:, None]
    return over_voxels(lambda block: groups.deviations(block)[kept] * scale, responses)


def variance_ratio(
    samples: Float[Tensor, "n images voxels"],
    responses: Float[Tensor, "trials voxels"],
    stimuli: Int[Tensor, " trials"],
) -> Float[Tensor, " voxels"]:
    """How much a model varies across samples of an image, over how much cortex varies across repeats of it.

    Arguments:
        samples: Synthetic trials of each image, in the unit of ``responses``; best of the images that were repeated.
        responses: Single measured trials.
        stimuli: Stimulus id of each measured trial.

    Returns:
        The unbiased variance across samples, mean over images, over :func:`repeat_variance`. 1 is as variable as cortex, 0 a
        deterministic model. NaN where the measured voxel does not vary.

    Raises:
        CortexflowError: There is one sample only, or no image was seen twice.
    """
    if len(samples) < 2:
        raise CortexflowError(f"a variance needs at least 2 samples of each image, {len(samples)} came; draw more")
    noise = repeat_variance(responses, stimuli)
    model = over_voxels(lambda block: block.double().var(0).mean(0), samples)
    return torch.where(noise > 0, model / noise, torch.nan)


def covariance_agreement(
    residuals_a: Float[Tensor, "trials_a voxels"],
    residuals_b: Float[Tensor, "trials_b voxels"],
    generator: torch.Generator,
    limit: int = 2000,
) -> Float[Tensor, ""]:
    r"""Whether two sets of trials share the same noise correlations: Pearson's :math:`r` over all pairs of different voxels.

    Each set has its voxels × voxels correlation matrix; this is the correlation of their entries off the diagonal. A finite
    number of trials blurs both, so the highest value in reach is below 1: report beside it the agreement of one half of the
    measured residuals with the other.

    Arguments:
        residuals_a: Residuals of one set, as :func:`within_stimulus_residuals` gives them, any unit.
        residuals_b: Residuals of the other, the same voxels, any number of trials.
        generator: Chooses the voxels where there are more than ``limit``; give equal seeds to the rows of one table.
        limit: The most voxels that are compared. 2,000 voxels make 1,999,000 pairs; time and memory grow with its square.

    Returns:
        The agreement, in [-1, 1]. Voxels that are constant in either set are left out.

    Raises:
        CortexflowError: The voxels do not match, or fewer than two pairs are left.
    """
    each_its_own = torch.arange(residuals_a.shape[1], device=residuals_a.device)
    return covariance_agreement_across(residuals_a, residuals_b, each_its_own, generator, limit)


def covariance_agreement_across(
    residuals_a: Float[Tensor, "trials_a voxels"],
    residuals_b: Float[Tensor, "trials_b voxels"],
    areas: Int[Tensor, " voxels"],
    generator: torch.Generator,
    limit: int = 2000,
) -> Float[Tensor, ""]:
    """:func:`covariance_agreement` over the pairs of voxels in different areas only.

    Neighbours share vasculature and scanner noise; pairs across areas are nearer to what passes between them.

    Arguments:
        residuals_a: Residuals of one set, any unit.
        residuals_b: Residuals of the other, the same voxels.
        areas: A label for each voxel; pairs with equal labels are left out. Drop beforehand the voxels without an area.
        generator: Chooses the voxels where there are more than ``limit``, all with equal chance.
        limit: The most voxels that are compared.

    Returns:
        The agreement, in [-1, 1].

    Raises:
        CortexflowError: The voxels do not match, or fewer than two pairs are left.
    """
    if residuals_a.shape[1] != residuals_b.shape[1]:
        raise CortexflowError(f"the residuals have {residuals_a.shape[1]} and {residuals_b.shape[1]} voxels; use the same mask for both")
    varying = torch.nonzero(~constant(residuals_a, 0) & ~constant(residuals_b, 0)).flatten()
    shuffled = torch.randperm(len(varying), generator=generator, device=generator.device).to(varying.device)
    chosen = varying[shuffled[:limit].sort().values]
    above = areas[chosen, None] != areas[chosen]
    above = above.triu(diagonal=1)
    if above.sum() < 2:
        raise CortexflowError(f"at least 2 pairs of varying voxels are needed, {int(above.sum())} came; give more voxels or areas")
    a, b = (_correlations(residuals[:, chosen])[above] for residuals in (residuals_a, residuals_b))
    return correlation(a[:, None], b[:, None])[0]


def _correlations(residuals: Tensor) -> Tensor:
    standard = unit(residuals, 0).to(residuals.dtype)
    return standard.T @ standard
