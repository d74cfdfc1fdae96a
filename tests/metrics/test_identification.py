import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from cortexflow.errors import CortexflowError
from cortexflow.metrics.identification import (
    correlation_scores,
    fit_temperature,
    identification_log_loss,
    likelihood_scores,
    share_beaten,
    top_one,
    top_one_among,
    two_way,
)
from cortexflow.metrics.nulls import shuffled_images, training_mean_pattern


def pair(images=40, voxels=60, noise=3.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    measured = torch.randn(images, voxels, generator=generator)
    return measured + noise * torch.randn(images, voxels, generator=generator), measured


def tied_scores(trials, candidates, seed=0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(candidates, (trials,), generator=generator)
    return torch.randint(4, (trials, candidates), generator=generator).float(), truth


def test_correlation_scores_agree_with_numpy():
    predicted, measured = pair(images=12)
    scores = correlation_scores(measured[:5], predicted)
    expected = np.corrcoef(measured[:5].double(), predicted.double())[:5, 5:]
    np.testing.assert_allclose(scores, expected, atol=1e-12)


def test_two_way_equals_brute_force():
    predicted, measured = pair()
    r = np.corrcoef(measured, predicted)[:40, 40:]
    expected = [np.mean([r[i, i] > r[i, j] for j in range(40) if j != i]) for i in range(40)]
    np.testing.assert_allclose(two_way(predicted, measured), expected, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(some.integers(0, 10**6), some.floats(0.1, 10), some.floats(-5, 5))
def test_two_way_is_a_share_and_ignores_the_scale_of_patterns(seed, scale, shift):
    predicted, measured = (values.double() for values in pair(images=9, seed=seed))
    shares = two_way(predicted, measured)
    assert shares.min() >= 0 and shares.max() <= 1
    torch.testing.assert_close(two_way(scale * predicted + shift, measured), shares)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(two_way(predicted[order], measured[order]), shares[order])


@pytest.mark.parametrize("images", [7, 513])
def test_a_constant_prediction_has_exactly_chance(images):
    _, measured = pair(images=images)
    pattern = training_mean_pattern(torch.randn(30, 60), images)
    assert (two_way(pattern, measured) == 0.5).all()
    gains = pattern.double() * (1 + torch.rand(images, 1).double())  # equal correlations up to rounding
    assert (two_way(gains, measured.double()) == 0.5).all()
    truth = torch.arange(images)
    torch.testing.assert_close(top_one(correlation_scores(measured, pattern), truth), torch.full((images,), 1 / images).double())


def test_the_truth_wins_and_shuffled_images_score_at_chance():
    predicted, measured = pair(images=300)
    assert (two_way(measured, measured) == 1).all()
    shuffled = shuffled_images(predicted, torch.Generator().manual_seed(1))
    assert two_way(shuffled, measured).mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / 300) ** 0.5)
    hits = top_one(correlation_scores(measured, shuffled), torch.arange(300))
    assert hits.sum() < 8  # one in 300 is expected, in 300 trials
    random = torch.rand(3000, 10), torch.randint(10, (3000,))
    assert top_one(*random).mean().item() == pytest.approx(0.1, abs=4 * (0.09 / 3000) ** 0.5)


def test_top_one_equals_argmax_without_ties():
    scores, truth = torch.randn(50, 8), torch.randint(8, (50,))
    assert torch.equal(top_one(scores, truth), (scores.argmax(1) == truth).float())


def test_ties_share_the_win_as_random_breaking_does():
    scores, truth = tied_scores(30, 5)
    generator = torch.Generator().manual_seed(1)
    broken = torch.stack([top_one(scores + 0.1 * torch.rand(scores.shape, generator=generator), truth) for _ in range(2000)])
    torch.testing.assert_close(top_one(scores, truth), broken.mean(0), atol=0.05, rtol=0)


def test_top_one_among_equals_the_mean_over_all_choices():
    scores, truth = tied_scores(20, 7)
    for candidates in range(2, 8):
        found = top_one_among(scores, truth, candidates)
        for trial in range(20):
            true = int(truth[trial])
            wrong = [column for column in range(7) if column != true]
            chosen = [[true, *others] for others in combinations(wrong, candidates - 1)]
            expected = np.mean([top_one(scores[[trial]][:, columns], torch.tensor([0])).item() for columns in chosen])
            assert found[trial].item() == pytest.approx(expected, abs=1e-5)


def test_two_way_and_top_one_are_the_ends_of_one_scale():
    scores, truth = tied_scores(200, 30)
    scores = scores.double()
    torch.testing.assert_close(top_one_among(scores, truth, 2), share_beaten(scores, truth), atol=1e-9, rtol=0)
    torch.testing.assert_close(top_one_among(scores, truth, 30), top_one(scores, truth), atol=1e-9, rtol=0)
    by_size = torch.stack([top_one_among(scores, truth, n) for n in (2, 5, 10, 30)])
    assert (by_size.diff(dim=0) <= 1e-9).all()


def test_minus_infinity_is_a_score():
    scores = torch.tensor([[-math.inf, -math.inf, 0.0], [0.0, -math.inf, -math.inf]])
    torch.testing.assert_close(share_beaten(scores, torch.tensor([0, 0])), torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(top_one(scores, torch.tensor([0, 0])), torch.tensor([0.0, 1.0]))


def test_likelihood_scores_pair_every_trial_with_every_candidate():
    means, responses = torch.randn(4, 3), torch.randn(6, 3)
    scores = likelihood_scores(lambda features, rows: -(features - rows).square().sum(1), means, responses)
    torch.testing.assert_close(scores, -torch.cdist(responses, means).square(), atol=1e-4, rtol=1e-4)


def test_log_loss_agrees_with_scipy_and_uniform_guessing_has_log_n():
    scores, truth = torch.randn(20, 6).double(), torch.randint(6, (20,))
    expected = -log_softmax(scores.numpy() / 0.7, axis=1)[np.arange(20), truth]
    np.testing.assert_allclose(identification_log_loss(scores, truth, 0.7), expected, rtol=1e-10)
    torch.testing.assert_close(identification_log_loss(scores, truth, 1e9), torch.full((20,), math.log(6)).double())


@pytest.mark.parametrize("planted", [0.02, 1.0, 300.0])
def test_recovers_a_planted_temperature(planted):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 10, generator=generator).double()
    truth = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    scores = planted * logits
    found = fit_temperature(scores, truth)
    assert found == pytest.approx(planted, rel=0.1)
    losses = minimize_scalar(lambda t: identification_log_loss(scores, truth, t).mean().item(), bounds=(planted / 9, planted * 9), method="bounded")
    assert found == pytest.approx(losses.x, rel=1e-2)
    for other in (found * 1.01, found / 1.01):
        assert identification_log_loss(scores, truth, found).mean() <= identification_log_loss(scores, truth, other).mean()


@settings(deadline=None, max_examples=10)
@given(some.floats(1e-3, 1e3))
def test_the_temperature_has_the_unit_of_the_scores(scale):
    generator = torch.Generator().manual_seed(0)
    scores, truth = torch.randn(100, 5, generator=generator).double(), torch.arange(100) % 5
    scores[torch.arange(100), truth] += 1
    assert fit_temperature(scale * scores, truth) == pytest.approx(scale * fit_temperature(scores, truth), rel=1e-4)


def test_the_temperature_of_perfect_useless_and_equal_scores():
    perfect = torch.eye(5).double()
    truth = torch.arange(5)
    assert identification_log_loss(perfect, truth, fit_temperature(perfect, truth)).max() < 1e-6
    worse = identification_log_loss(-perfect, truth, fit_temperature(-perfect, truth))
    torch.testing.assert_close(worse, torch.full((5,), math.log(5)).double(), atol=1e-3, rtol=0)
    assert fit_temperature(torch.ones(5, 5), truth) == 1.0


def test_errors_say_what_is_wrong():
    scores, truth = tied_scores(4, 3)
    with pytest.raises(CortexflowError, match="1 are NaN"):
        top_one(torch.where(torch.arange(12).reshape(4, 3) == 5, torch.nan, scores), truth)
    with pytest.raises(CortexflowError, match="one of 3 columns"):
        share_beaten(scores, truth + 3)
    with pytest.raises(CortexflowError, match="at least 2 candidates"):
        top_one(scores[:, :1], torch.zeros(4, dtype=torch.long))
    with pytest.raises(CortexflowError, match="choose 2 to 3"):
        top_one_among(scores, truth, 4)
    with pytest.raises(CortexflowError, match="above 0"):
        identification_log_loss(scores, truth, 0.0)
    with pytest.raises(CortexflowError, match="3 voxels and predicted 2"):
        correlation_scores.__wrapped__(torch.zeros(4, 3), torch.zeros(4, 2))
