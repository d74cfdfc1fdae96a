import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from cortexflow.errors import CortexflowError
from cortexflow.metrics.intervals import (
    Interval,
    bootstrap_correlation,
    bootstrap_images,
    interval_over_seeds,
    paired_difference,
    percentile_interval,
    resampled_images,
    resampling_weights,
    weighted_correlation,
)
from cortexflow.metrics.nulls import shuffled_images
from cortexflow.metrics.voxelwise import correlation


def seed(number=0):
    return torch.Generator().manual_seed(number)


def mean_of(values):
    return values.mean(0)


def pair(images=200, voxels=30, noise=1.0):
    measured = torch.randn(images, voxels, generator=seed(1))
    return measured + noise * torch.randn(images, voxels, generator=seed(2)), measured


def test_the_interval_of_a_mean_agrees_with_scipy():
    values = torch.randn(80, generator=seed()).double() + 1
    ours = bootstrap_images(mean_of, values, generator=seed(), draws=4000)
    theirs = stats.bootstrap((values.numpy(),), np.mean, n_resamples=4000, method="percentile", rng=0).confidence_interval
    assert ours.low.item() == pytest.approx(theirs.low, abs=0.02)
    assert ours.high.item() == pytest.approx(theirs.high, abs=0.02)
    assert ours.value == values.mean()


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says(level):
    experiments = 3 + torch.randn(60, 800, generator=seed())  # every column is an experiment of its own
    interval = bootstrap_images(mean_of, experiments, generator=seed(1), draws=600, level=level)
    covered = ((interval.low < 3) & (interval.high > 3)).double().mean().item()
    assert covered == pytest.approx(level, abs=0.04)


def test_the_interval_of_a_correlation_covers_the_truth():
    predicted, measured = pair(images=150, voxels=800)
    r = bootstrap_correlation(predicted, measured, seed(3), draws=400)
    interval = percentile_interval(correlation(predicted, measured), r)
    truth = 0.5**0.5
    covered = ((interval.low < truth) & (interval.high > truth)).double().mean().item()
    assert covered == pytest.approx(0.95, abs=0.04)


def test_the_fast_correlations_equal_the_plain_ones_on_the_same_images():
    predicted, measured = pair(images=25)
    rows = resampled_images(25, 40, seed(7))
    expected = torch.stack([correlation(predicted[row], measured[row]) for row in rows])
    torch.testing.assert_close(bootstrap_correlation(predicted, measured, seed(7), draws=40), expected, atol=1e-5, rtol=1e-5)
    slow = bootstrap_images(lambda p, m: correlation(p, m).median(), predicted, measured, generator=seed(7), draws=40)
    fast = percentile_interval(correlation(predicted, measured).median(), expected.median(1).values)
    torch.testing.assert_close(torch.stack([slow.low, slow.high]), torch.stack([fast.low, fast.high]))


def test_the_fast_correlations_are_exact_far_from_zero():
    predicted, measured = (values.double() for values in pair(images=30, voxels=4))
    expected = bootstrap_correlation(predicted, measured, seed(), draws=20)
    torch.testing.assert_close(bootstrap_correlation(predicted + 1e5, 1e-3 * measured, seed(), draws=20), expected, atol=1e-8, rtol=0)


def test_a_voxel_that_is_constant_in_a_draw_predicts_nothing_there():
    predicted, _ = pair(images=30, voxels=32)
    sparse = torch.zeros(30, 32)
    sparse[:, :30] = torch.eye(30) * 0.3 + 0.1  # voxel v differs in image v only, and is constant whenever that is not drawn
    sparse[:, 30] = 0.1
    sparse[:, 31] = predicted[:, 31]
    absent = torch.stack([(resampled_images(30, 200, seed()) != image).all(1) for image in range(30)], dim=1)
    assert 0.3 < absent.double().mean() < 0.43
    for r in (bootstrap_correlation(predicted, sparse, seed(), draws=200), bootstrap_correlation(sparse, predicted, seed(), draws=200)):
        assert torch.equal(r[:, :30] == 0, absent)
        assert (r[:, 30] == 0).all()
        torch.testing.assert_close(r[:, 31], torch.ones(200))


def test_a_nan_stays_in_its_voxel():
    predicted, measured = pair(images=12, voxels=3)
    measured[0, 1] = torch.nan
    assert bootstrap_correlation(predicted, measured, seed(), draws=9).isnan().any(0).tolist() == [False, True, False]


def test_weights_count_images_and_keep_clusters_together():
    weights = resampling_weights(12, 50, seed())
    rows = resampled_images(12, 50, seed())
    assert (weights[0] == 1).all()
    assert torch.equal(weights[1:], torch.stack([row.bincount(minlength=12) for row in rows]).double())
    clustered = resampling_weights(12, 50, seed(), torch.arange(12) // 3 * 10)
    assert torch.equal(clustered, clustered[:, ::3].repeat_interleave(3, dim=1))
    assert (clustered.sum(1) == 12).all()
    assert clustered.max() > 1


def test_weighted_correlations_equal_numpys_weighted_covariance():
    predicted, measured = pair(images=20, voxels=5)
    weights = torch.rand(4, 20, generator=seed()).double()
    found = weighted_correlation(predicted, measured, weights)
    for row in range(4):
        for voxel in range(5):
            covariance = np.cov(predicted[:, voxel], measured[:, voxel], aweights=weights[row].numpy())
            expected = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
            assert found[row, voxel].item() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(weighted_correlation(predicted, measured, torch.ones(1, 20).double())[0], correlation(predicted, measured))
    torch.testing.assert_close(weighted_correlation(predicted, measured, 7 * weights), found)


@settings(deadline=None, max_examples=15)
@given(some.integers(0, 10**6))
def test_the_same_seed_gives_the_same_bits(number):
    predicted, measured = pair(images=12, voxels=3)
    first, again = (bootstrap_correlation(predicted, measured, seed(number), draws=5) for _ in range(2))
    assert torch.equal(first, again)
    assert (first.abs() <= 1).all()


def test_shuffled_images_have_an_interval_around_zero():
    predicted, measured = pair(images=300)
    shuffled = shuffled_images(predicted, seed(5))
    chance, real = (
        percentile_interval(correlation(values, measured).median(), bootstrap_correlation(values, measured, seed(), draws=200).median(1).values)
        for values in (shuffled, predicted)
    )
    assert not chance.excludes_zero
    assert real.excludes_zero


def test_a_paired_difference_is_far_narrower_than_two_intervals():
    predicted, measured = pair(noise=1.0)
    better = predicted - 0.15 * (predicted - measured)

    def median_r(p, m):
        return correlation(p, m).median()

    difference = paired_difference(median_r, better, predicted, measured, generator=seed(), draws=200)
    alone = bootstrap_images(median_r, predicted, measured, generator=seed(), draws=200)
    assert difference.excludes_zero and difference.low > 0
    assert difference.high - difference.low < (alone.high - alone.low) / 2
    fast = bootstrap_correlation(better, measured, seed(), draws=200).median(1).values
    fast -= bootstrap_correlation(predicted, measured, seed(), draws=200).median(1).values
    torch.testing.assert_close(percentile_interval(difference.value, fast).low, difference.low)


def test_a_model_does_not_differ_from_itself():
    predicted, measured = pair(images=20)
    same = paired_difference(correlation, predicted, predicted, measured, generator=seed(), draws=20)
    assert (same.low == 0).all() and (same.high == 0).all() and not same.excludes_zero.any()


def test_percentiles_equal_numpy_on_any_shape():
    resampled = torch.randn(101, 4, 3).double()
    interval = percentile_interval(resampled.mean(0), resampled, level=0.9)
    np.testing.assert_allclose(interval.low, np.quantile(resampled, 0.05, axis=0))
    np.testing.assert_allclose(interval.high, np.quantile(resampled, 0.95, axis=0))


def test_zero_is_excluded_on_one_side_only():
    interval = Interval(torch.zeros(4), torch.tensor([0.1, -0.1, -0.3, 0.0]), torch.tensor([0.2, 0.1, -0.1, 0.4]))
    assert interval.excludes_zero.tolist() == [True, False, True, False]


def test_the_interval_over_seeds_is_students():
    scores = torch.randn(5, 3, generator=seed()).double()
    interval = interval_over_seeds(scores, level=0.9)
    low, high = stats.t.interval(0.9, 4, loc=scores.mean(0), scale=stats.sem(scores))
    np.testing.assert_allclose(interval.low, low)
    np.testing.assert_allclose(interval.high, high)
    covered = interval_over_seeds(torch.randn(4, 4000, generator=seed()))
    assert (~covered.excludes_zero).double().mean().item() == pytest.approx(0.95, abs=0.015)


def test_errors_say_what_is_wrong():
    with pytest.raises(CortexflowError, match=r"\[4, 5\] images"):
        bootstrap_images(lambda a, b: a.mean(), torch.zeros(4), torch.zeros(5), generator=seed())
    with pytest.raises(CortexflowError, match="at least 2 images and 1 draw, 1 and 9 came"):
        bootstrap_images(mean_of, torch.zeros(1), generator=seed(), draws=9)
    with pytest.raises(CortexflowError, match=r"95\.0 came"):
        bootstrap_images(mean_of, torch.zeros(4), generator=seed(), level=95.0)
    with pytest.raises(CortexflowError, match="at least 2 images"):
        resampling_weights(0, 9, seed())
    with pytest.raises(CortexflowError, match="another seed"):
        interval_over_seeds(torch.zeros(1))
