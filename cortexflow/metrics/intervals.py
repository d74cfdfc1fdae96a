r"""How sure a number is. The images are a sample of all images, so they are what is resampled, never trials or voxels.

Voxels of one subject share their images, hence their errors: a standard error over voxels is no interval. A difference
between two models is resampled as a difference, on the same images, which is far narrower than two intervals side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import t as student
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.metrics.blocks import check_matched, over_voxels, unit


@dataclass(frozen=True)
class Interval:
    """A number, or one per voxel, and the ends of its interval.

    Arguments:
        value: The statistic of all images.
        low: The lower end.
        high: The upper end.
    """

    value: Float[Tensor, "*shape"]
    low: Float[Tensor, "*shape"]
    high: Float[Tensor, "*shape"]

    @property
    def excludes_zero(self) -> Bool[Tensor, "*shape"]:
        """Where the interval lies on one side of zero."""
        return (self.low > 0) | (self.high < 0)


def resampled_images(images: int, draws: int, generator: torch.Generator) -> Int[Tensor, "draws images"]:
    """Row numbers of images drawn with replacement, as many as there are, ``draws`` times.

    Every bootstrap here calls this once: equal seeds resample equal images.

    Raises:
        CortexflowError: There are fewer than two images, or no draw.
    """
    if images < 2 or draws < 1:
        raise CortexflowError(f"a bootstrap needs at least 2 images and 1 draw, {images} and {draws} came; 1000 draws are usual")
    return torch.randint(images, (draws, images), generator=generator, device=generator.device)


def percentile_interval(
    value: Float[Tensor, "*shape"],
    resampled: Float[Tensor, "draws *shape"],
    level: float = 0.95,
) -> Interval:
    """The central part of what a statistic was on resampled images.

    Arguments:
        value: The statistic of all images.
        resampled: The statistic of each draw.
        level: The share of draws inside, in (0, 1).

    Raises:
        CortexflowError: The level is not between 0 and 1.

    Example:
        >>> interval = percentile_interval(torch.tensor(5.0), torch.arange(11.0), level=0.8)
        >>> interval.low.item(), interval.high.item()
        (1.0, 9.0)
    """
    _check_level(level)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64, device=resampled.device)
    # torch.quantile takes no more than 16 million numbers, which 1,000 draws of a subject's voxels exceed
    low, high = over_voxels(lambda block: torch.quantile(block.double(), ends, dim=0), resampled.reshape(len(resampled), -1))
    return Interval(value, low.reshape(value.shape).to(value.dtype), high.reshape(value.shape).to(value.dtype))


def bootstrap_images(
    statistic: Callable[..., Tensor],
    *arrays: Tensor,
    generator: torch.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The interval of any statistic over images, by resampling them with replacement.

    Arguments:
        statistic: Maps arrays with resampled rows to a number or to one per voxel, ``lambda p, m: correlation(p, m).median()``.
        arrays: Tensors with one row per image, all in the same order.
        generator: Chooses the images.
        draws: How often.
        level: Nominal coverage, in (0, 1).

    Returns:
        The percentile interval around the statistic of all images.

    Raises:
        CortexflowError: The arrays differ in images, or there are fewer than two.
    """
    _check_level(level)
    counts = sorted({len(array) for array in arrays})
    if len(counts) != 1:
        raise CortexflowError(f"the arrays have {counts} images; give tensors with one row for each of the same images")
    resampled = [statistic(*(array[rows.to(array.device)] for array in arrays)) for rows in resampled_images(counts[0], draws, generator)]
    return percentile_interval(statistic(*arrays), torch.stack(resampled), level)


def paired_difference(
    statistic: Callable[..., Tensor],
    first: Tensor,
    second: Tensor,
    *shared: Tensor,
    generator: torch.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The interval of how much more one model scores than another, both on the same resampled images.

    Arguments:
        statistic: Maps ``(first, *shared)`` with resampled rows to a number or to one per voxel.
        first: What belongs to one model, one row per image.
        second: The same of the other model.
        shared: What belongs to both, such as the measured responses.
        generator: Chooses the images.
        draws: How often.
        level: Nominal coverage, in (0, 1).

    Returns:
        The interval of ``statistic(first, *shared) - statistic(second, *shared)``.

    Raises:
        CortexflowError: The arrays differ in images, or there are fewer than two.
    """

    def difference(a: Tensor, b: Tensor, *both: Tensor) -> Tensor:
        return statistic(a, *both) - statistic(b, *both)

    return bootstrap_images(difference, first, second, *shared, generator=generator, draws=draws, level=level)


def bootstrap_correlation(
    predicted: Float[Tensor, "images voxels"],
    measured: Float[Tensor, "images voxels"],
    generator: torch.Generator,
    draws: int = 1000,
) -> Float[Tensor, "draws voxels"]:
    """The correlation of every voxel on every draw of images, by matrix products instead of a thousand correlations.

    Take any statistic over voxels of the result, then :func:`percentile_interval`. Two models whose generators have the same
    seed are resampled alike, so the difference of their results is paired.

    Arguments:
        predicted: One row per image.
        measured: The same images.
        generator: Chooses the images, as :func:`bootstrap_images` does with the same seed.
        draws: How often; draws × voxels numbers are returned.

    Returns:
        r per draw and voxel; 0 where a voxel is constant in the draw.

    Raises:
        CortexflowError: The two do not match, or there are fewer than two images.

    Example:
        >>> r = bootstrap_correlation(torch.randn(50, 8), torch.randn(50, 8), torch.Generator().manual_seed(0), draws=100)
        >>> tuple(r.median(dim=1).values.shape)
        (100,)
    """
    weights = resampling_weights(len(measured), draws, generator)[1:]
    return weighted_correlation(predicted, measured, weights.to(measured.device))


def resampling_weights(
    images: int, draws: int, generator: torch.Generator, clusters: Int[Tensor, " images"] | None = None
) -> Float[Tensor, "draws_and_one images"]:
    """How often each image counts: once in the first row, as often as it was drawn in each further row.

    Arguments:
        images: How many there are.
        draws: Further rows.
        generator: Chooses the images.
        clusters: Images with the same number (neighbours in a time series) are drawn together.

    Raises:
        CortexflowError: There are fewer than two images or clusters, or no draw.
    """
    clusters = torch.arange(images) if clusters is None else torch.unique(clusters, return_inverse=True)[1]
    rows = resampled_images(len(clusters.unique()), draws, generator)
    counts = torch.zeros(rows.shape, dtype=torch.float64, device=rows.device)
    counts.scatter_add_(1, rows, torch.ones_like(counts))
    return torch.cat([torch.ones(1, images, dtype=torch.float64), counts.cpu()[:, clusters]])


def weighted_correlation(
    predicted: Float[Tensor, "images voxels"],
    measured: Float[Tensor, "images voxels"],
    weights: Float[Tensor, "draws images"],
) -> Float[Tensor, "draws voxels"]:
    """The correlation of every voxel where images count as often as each row of ``weights`` says.

    Arguments:
        predicted: One row per image.
        measured: The same images.
        weights: Not negative; a row may sum to anything above 0.

    Returns:
        r per row of weights and voxel; 0 where a voxel is constant in it.

    Raises:
        CortexflowError: The two do not match, or there are fewer than two images.
    """
    check_matched(predicted, measured, least=2)
    shares = weights / weights.sum(1, keepdim=True)
    return over_voxels(lambda p, m: _weighted_correlation(p, m, shares), predicted, measured)


def _weighted_correlation(predicted: Tensor, measured: Tensor, weights: Tensor) -> Tensor:
    scale = len(measured) ** 0.5
    p, m = unit(predicted, 0) * scale, unit(measured, 0) * scale  # near 0 and 1, so that the differences below stay exact
    mean_p, mean_m = weights @ p, weights @ m
    square_p, square_m = weights @ p.square(), weights @ m.square()
    var_p, var_m = square_p - mean_p.square(), square_m - mean_m.square()
    constant = (var_p <= 1e-12 * square_p) | (var_m <= 1e-12 * square_m)
    r = (weights @ (p * m) - mean_p * mean_m) / (var_p * var_m).sqrt()
    return torch.where(constant, 0.0, r.clamp(-1, 1))


def interval_over_seeds(values: Float[Tensor, "seeds *shape"], level: float = 0.95) -> Interval:
    """The mean over training seeds and its interval by Student's t.

    It says how much training varies, not how the model would do on other images or subjects.

    Arguments:
        values: The score of each seed, a number or one per voxel.
        level: Nominal coverage, in (0, 1).

    Raises:
        CortexflowError: There is a single seed, or the level is not between 0 and 1.

    Example:
        >>> interval = interval_over_seeds(torch.tensor([0.3, 0.4, 0.5]))  # 0.4 ± 4.303 × 0.1 / √3
        >>> round(interval.low.item(), 4), round(interval.high.item(), 4)
        (0.1516, 0.6484)
    """
    _check_level(level)
    seeds = len(values)
    if seeds < 2:
        raise CortexflowError(f"an interval over seeds needs at least 2 of them, {seeds} came; train again with another seed")
    half = float(student.ppf((1 + level) / 2, seeds - 1)) * values.std(0) / seeds**0.5
    mean = values.mean(0)
    return Interval(mean, mean - half, mean + half)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise CortexflowError(f"a level lies between 0 and 1, {level} came; write 0.95 for 95 per cent")
