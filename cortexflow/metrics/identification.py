r"""Which image was seen? A score for every trial and every candidate, and how often the true candidate wins.

Scores may be correlations of patterns or log-likelihoods; only their order counts, except for :func:`fit_temperature` and
:func:`identification_log_loss`, which read them as unnormalised log-probabilities. Equal scores share the win. A prediction
that is the same for every image therefore has exactly chance, one half in a pair and :math:`1 / N` among :math:`N`.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.metrics.blocks import ELEMENTS_AT_ONCE, check_matched, unit

TIE = 1e-9  # scores nearer than this (relative above 1) are equal: summation order must not decide


def correlation_scores(
    measured: Float[Tensor, "trials voxels"],
    predicted: Float[Tensor, "candidates voxels"],
) -> Float[Tensor, "trials candidates"]:
    """Pearson's r across voxels between every trial and the prediction for every candidate.

    Standardise each voxel before (z-scored responses): otherwise the pattern that all images share makes all scores high.

    Arguments:
        measured: One row per trial, or per image where repeats are averaged.
        predicted: One row per candidate image.

    Returns:
        Scores in [-1, 1], in double precision; 0 where a pattern is constant across voxels.

    Raises:
        CortexflowError: The voxels do not match.
    """
    if measured.shape[1] != predicted.shape[1]:
        raise CortexflowError(f"measured has {measured.shape[1]} voxels and predicted {predicted.shape[1]}; use the same mask for both")
    candidates = unit(predicted, 1)
    size = max(ELEMENTS_AT_ONCE // max(measured.shape[1], 1), 1)
    return torch.cat([(unit(rows, 1) @ candidates.T).clamp(-1, 1) for rows in measured.split(size)])


def likelihood_scores(
    log_prob: Callable[[Tensor, Tensor], Tensor],
    features: Float[Tensor, "candidates features"],
    responses: Float[Tensor, "trials voxels"],
) -> Float[Tensor, "trials candidates"]:
    """The log density of every trial under every candidate, one candidate at a time.

    Arguments:
        log_prob: A density encoder's ``log_prob``: rows of features and as many rows of responses to nats per row.
        features: One row per candidate image.
        responses: One row per trial.

    Returns:
        Log densities in nats. Their differences within a row are log posterior odds under a uniform prior.
    """
    with torch.no_grad():
        columns = [log_prob(candidate.expand(len(responses), -1), responses) for candidate in features]
    return torch.stack(columns, dim=1)


def share_beaten(scores: Float[Tensor, "trials candidates"], truth: Int[Tensor, " trials"]) -> Float[Tensor, " trials"]:
    """The share of wrong candidates that score below the true one; ties count half. Chance is one half.

    Arguments:
        scores: Higher is better.
        truth: The column of the true candidate of each trial.

    Returns:
        A share in [0, 1] for each trial: the chance to win against one wrong candidate drawn at random.

    Raises:
        CortexflowError: A score is NaN, ``truth`` is no column, or there is one candidate only.

    Example:
        >>> share_beaten(torch.tensor([[0.3, 0.1, 0.3, 0.5, 0.2]]), torch.tensor([0]))  # beats two, ties with one
        tensor([0.6250])
    """
    worse, tied, _ = _compare(scores, truth)
    return ((worse + tied / 2) / (scores.shape[1] - 1)).to(scores.dtype)


def two_way(
    predicted: Float[Tensor, "images voxels"],
    measured: Float[Tensor, "images voxels"],
) -> Float[Tensor, " images"]:
    """Two-way identification: how often a measured pattern is nearer to the prediction for its image than to another's.

    Arguments:
        predicted: One row per image.
        measured: The same images, each voxel standardised.

    Returns:
        For each image the share of wrong images whose prediction correlates less with what was measured, ties counting half.
        Chance is one half, and a constant prediction has exactly that.

    Raises:
        CortexflowError: The two do not match, there are fewer than two images, or a value is NaN.
    """
    check_matched(predicted, measured, least=2)
    truth = torch.arange(len(measured), device=measured.device)
    return share_beaten(correlation_scores(measured, predicted), truth).to(predicted.dtype)


def top_one(scores: Float[Tensor, "trials candidates"], truth: Int[Tensor, " trials"]) -> Float[Tensor, " trials"]:
    """Whether the true candidate scores highest among all. Chance is one over the candidates.

    Arguments:
        scores: Higher is better.
        truth: The column of the true candidate of each trial.

    Returns:
        1 if it wins, 0 if not, and ``1 / k`` if it shares the first place with ``k - 1`` others.

    Raises:
        CortexflowError: A score is NaN, ``truth`` is no column, or there is one candidate only.

    Example:
        >>> top_one(torch.tensor([[0.3, 0.1], [0.2, 0.2], [0.1, 0.4]]), torch.tensor([0, 0, 0]))
        tensor([1.0000, 0.5000, 0.0000])
    """
    _, tied, better = _compare(scores, truth)
    return torch.where(better > 0, 0.0, 1 / (1 + tied)).to(scores.dtype)


def top_one_among(
    scores: Float[Tensor, "trials candidates"],
    truth: Int[Tensor, " trials"],
    candidates: int,
) -> Float[Tensor, " trials"]:
    r"""The chance to win among ``candidates``: the true one and others drawn at random. Makes test sets of any size comparable.

    With :math:`w` wrong candidates beaten and :math:`t` tied out of :math:`M` candidates, the mean over all draws of
    :math:`N - 1` wrong ones, ties shared, is

    .. math:: \left[ \binom{w + t + 1}{N} - \binom{w}{N} \right] \Big/ \left[ (t + 1) \binom{M - 1}{N - 1} \right]

    which is :func:`share_beaten` for :math:`N = 2` and :func:`top_one` for :math:`N = M`.

    Arguments:
        scores: Higher is better.
        truth: The column of the true candidate of each trial.
        candidates: How many to choose among, :math:`N`, the true one included.

    Returns:
        A probability for each trial, without any drawing. Chance is :math:`1 / N`.

    Raises:
        CortexflowError: As for :func:`top_one`, or there are fewer candidates than were asked.
    """
    if not 2 <= candidates <= scores.shape[1]:
        raise CortexflowError(f"there are {scores.shape[1]} candidates, {candidates} were asked; choose 2 to {scores.shape[1]}")
    worse, tied, _ = _compare(scores, truth)
    every = _log_choose(torch.full_like(worse, scores.shape[1] - 1), candidates - 1)
    won = (_log_choose(worse + tied + 1, candidates) - every).exp() - (_log_choose(worse, candidates) - every).exp()
    return (won / (tied + 1)).clamp(0, 1).to(scores.dtype)


def identification_log_loss(
    scores: Float[Tensor, "trials candidates"],
    truth: Int[Tensor, " trials"],
    temperature: float = 1.0,
) -> Float[Tensor, " trials"]:
    r"""The surprise at the true candidate, :math:`-\log \mathrm{softmax}(s / T)_\mathrm{true}`. Lower is better.

    Arguments:
        scores: Unnormalised log-probabilities, once divided by the temperature.
        truth: The column of the true candidate of each trial.
        temperature: Divides the scores; fit it on validation images with :func:`fit_temperature`.

    Returns:
        The loss in nats of each trial. Uniform guessing has the logarithm of the number of candidates.

    Raises:
        CortexflowError: A score is NaN, ``truth`` is no column, or the temperature is not above 0.

    Example:
        >>> identification_log_loss(torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([2]))  # log 4
        tensor([1.3863])
    """
    if not temperature > 0:
        raise CortexflowError(f"a temperature is above 0, {temperature} came; fit it with fit_temperature")
    _check_scores(scores, truth)
    log_shares = (scores.double() / temperature).log_softmax(1)
    return -log_shares.gather(1, truth[:, None].long())[:, 0].to(scores.dtype)


def fit_temperature(scores: Float[Tensor, "trials candidates"], truth: Int[Tensor, " trials"]) -> float:
    """The one temperature under which the true candidates are likeliest. Fit it on validation images, never on test images.

    A model whose likelihood ignores how voxels go together is far too sure of itself; one number mends most of that.

    Arguments:
        scores: Higher is better, any scale.
        truth: The column of the true candidate of each trial.

    Returns:
        The temperature, in the unit of the scores. It is sought between 1e-4 and 1e4 times the spread of the scores within a
        trial: a separation without error ends at the lower bound, scores worse than chance at the upper. 1 if all are
        equal or one is infinite.

    Raises:
        CortexflowError: A score is NaN or ``truth`` is no column.
    """
    _check_scores(scores, truth)
    whole = scores.detach().double()
    spread = whole.std(dim=1, correction=0).mean().item()
    if not 0 < spread < math.inf:
        return 1.0

    def loss(log_temperature: float) -> float:
        return identification_log_loss(whole, truth, spread * math.exp(log_temperature)).mean().item()

    # the loss is convex in the inverse temperature, so it has one valley in its logarithm as well
    found = minimize_scalar(loss, bounds=(math.log(1e-4), math.log(1e4)), method="bounded", options={"xatol": 1e-8})
    return spread * math.exp(found.x)


def _compare(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many wrong candidates are worse than, tied with and better than the true one, in double precision."""
    _check_scores(scores, truth)
    whole = scores.double()
    true = whole.gather(1, truth[:, None].long())
    tolerance = TIE * true.abs().clamp(1, 1e12)
    worse = (whole < true - tolerance).sum(1)
    better = (whole > true + tolerance).sum(1)
    tied = scores.shape[1] - 1 - worse - better
    return worse.double(), tied.double(), better.double()


def _check_scores(scores: Tensor, truth: Tensor) -> None:
    trials, candidates = scores.shape
    if candidates < 2:
        raise CortexflowError(f"identification needs at least 2 candidates, {candidates} came; pass one column per candidate image")
    if len(truth) != trials or (trials and not 0 <= int(truth.min()) <= int(truth.max()) < candidates):
        raise CortexflowError(f"truth must name one of {candidates} columns for each of {trials} trials; pass the index of the true candidate")
    if scores.isnan().any():
        raise CortexflowError(f"scores must be numbers, {int(scores.isnan().sum())} are NaN; leave out voxels that are NaN first")


def _log_choose(n: Tensor, k: int) -> Tensor:
    """Log of the binomial coefficient; minus infinity where n < k."""
    inside = n.clamp(min=k)
    value = torch.lgamma(inside + 1) - math.lgamma(k + 1) - torch.lgamma(inside - k + 1)
    return torch.where(n < k, -math.inf, value)
