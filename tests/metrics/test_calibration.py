import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from cortexflow.errors import CortexflowError
from cortexflow.metrics.calibration import (
    accuracy_by_samples,
    coverage,
    crps,
    energy_score,
    probability_integral_transform,
    rank_histogram,
)
from cortexflow.metrics.voxelwise import correlation


def draw(n=9, trials=2000, voxels=4, spread=1.0, shift=0.0, seed=0):
    """Measured trials from N(mean, 1) and samples from N(mean + shift, spread²), mean known per trial and voxel."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(trials, voxels, generator=generator) * 2
    samples = mean + shift + spread * torch.randn(n, trials, voxels, generator=generator)
    return samples, mean + torch.randn(trials, voxels, generator=generator)


def fresh():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_crps_equals_its_definition(n):
    samples, measured = draw(n=n, trials=5)
    x, y = samples.double().numpy(), measured.double().numpy()
    first = np.abs(x - y).mean(0)
    second = np.abs(x[:, None] - x[None]).sum((0, 1)) / (2 * n * (n - 1))
    np.testing.assert_allclose(crps(samples, measured), (first - second).mean(0), rtol=1e-5)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_crps_does_not_depend_on_the_number_of_samples_and_has_the_gaussian_value(n):
    samples, measured = draw(n=n, trials=20_000, voxels=1)
    # for a calibrated unit Gaussian the expectation is half the mean distance of two draws, 1 / sqrt(pi)
    assert crps(samples, measured).item() == pytest.approx(1 / np.pi**0.5, rel=0.03)


@pytest.mark.parametrize("spread, shift", [(0.3, 0.0), (3.0, 0.0), (1.0, 1.0), (0.0, 0.0)])
def test_proper_scores_prefer_the_truth(spread, shift):
    truth, wrong = draw(trials=3000), draw(trials=3000, spread=spread, shift=shift)
    assert (crps(*truth) < crps(*wrong)).all()
    assert energy_score(*truth).mean() < energy_score(*wrong).mean()


def test_energy_score_punishes_a_shuffled_pairing():
    samples, measured = draw()
    shuffled = samples.roll(1, dims=1)
    assert energy_score(samples, measured).mean() < energy_score(shuffled, measured).mean()
    assert (crps(samples, measured) < crps(shuffled, measured)).all()


def test_energy_score_equals_its_definition_and_crps_in_one_voxel():
    samples, measured = draw(n=5, trials=6, voxels=3)
    x, y = samples.double().numpy(), measured.double().numpy()
    for trial in range(6):
        near = np.mean([np.linalg.norm(x[i, trial] - y[trial]) for i in range(5)])
        apart = np.mean([np.linalg.norm(x[i, trial] - x[j, trial]) for i in range(5) for j in range(5) if i != j])
        assert energy_score(samples, measured)[trial].item() == pytest.approx(near - apart / 2, rel=1e-5)
    torch.testing.assert_close(energy_score(samples[..., :1], measured[:, :1]).mean(), crps(samples, measured)[0])


@settings(deadline=None, max_examples=20)
@given(some.floats(0.1, 10), some.floats(-10, 10), some.integers(0, 10**6))
def test_scores_move_with_the_unit(scale, shift, seed):
    samples, measured = (values.double() for values in draw(n=4, trials=7, seed=seed))
    for score in (crps, energy_score):
        expected = scale * score(samples, measured)
        torch.testing.assert_close(score(scale * samples + shift, scale * measured + shift), expected, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(score(samples.flip(0), measured), score(samples, measured))


def test_identical_samples_score_their_absolute_error():
    _, measured = draw(trials=50)
    point = torch.zeros(3, *measured.shape)
    torch.testing.assert_close(crps(point, measured), measured.abs().mean(0))
    torch.testing.assert_close(energy_score(point, measured), measured.norm(dim=1))


def test_coverage_uses_numpys_weibull_quantiles():
    samples, measured = (values.double() for values in draw(n=33, trials=40))
    levels = [0.5, 0.8, 0.9]
    ends = np.quantile(samples.numpy(), [[(1 - level) / 2 for level in levels], [(1 + level) / 2 for level in levels]], axis=0, method="weibull")
    inside = (ends[0] <= measured.numpy()) & (measured.numpy() <= ends[1])
    np.testing.assert_allclose(coverage(samples, measured, levels), inside.mean(1))


@pytest.mark.parametrize("n", [9, 10, 40])
def test_a_calibrated_model_covers_its_levels(n):
    samples, measured = draw(n=n, trials=5000)
    for level, share in zip([0.5, 0.8], coverage(samples, measured, [0.5, 0.8]), strict=True):
        assert share.mean().item() == pytest.approx(level, abs=0.015)


@pytest.mark.parametrize("spread, shift", [(0.5, 0.0), (1.0, 2.0), (0.0, 0.0)])
def test_an_overconfident_or_shifted_model_covers_less(spread, shift):
    assert (coverage(*draw(spread=spread, shift=shift), levels=[0.5, 0.8]) < torch.tensor([[0.45], [0.75]])).all()
    assert (coverage(*draw(spread=3.0), levels=[0.5]) > 0.8).all()


def test_the_error_names_the_number_of_samples_that_a_level_needs():
    samples, measured = draw(n=38, trials=3)
    with pytest.raises(CortexflowError, match=r"38 samples have no central 0\.95 interval; draw at least 39"):
        coverage(samples, measured, [0.95])
    assert coverage(torch.cat([samples, samples[:1]]), measured, [0.95]).shape == (1, 4)
    with pytest.raises(CortexflowError, match=r"95\.0 came"):
        coverage(samples, measured, [95.0])


@pytest.mark.parametrize("n", [1, 4, 19])
def test_the_transform_of_a_calibrated_model_is_uniform(n):
    u = probability_integral_transform(*draw(n=n), fresh())
    assert u.min() >= 0 and u.max() <= 1
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 0.001


def test_the_transform_is_uniform_with_ties():
    generator = fresh()
    samples, measured = (torch.randint(3, shape, generator=generator).float() for shape in [(5, 4000, 2), (4000, 2)])
    u = probability_integral_transform(samples, measured, generator)
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 0.001


def test_the_transform_counts_samples_below():
    samples, measured = draw(n=6, trials=50)
    u = probability_integral_transform(samples, measured, fresh())
    assert torch.equal((u * 7).floor().long(), (samples < measured).sum(0))
    assert torch.equal(u, probability_integral_transform(samples, measured, fresh()))


def test_the_rank_histogram_shows_the_failure():
    def histogram(**options):
        return rank_histogram(probability_integral_transform(*draw(**options), fresh()), bins=10)

    torch.testing.assert_close(histogram(), torch.full((10, 4), 0.1), atol=0.035, rtol=0)
    narrow, wide, shifted = histogram(spread=0.3), histogram(spread=3.0), histogram(shift=1.0)
    assert (narrow[0] > 0.25).all() and (narrow[-1] > 0.25).all()
    assert (wide[0] < 0.05).all() and (wide[-1] < 0.05).all()
    assert (shifted[0] > 0.2).all() and (shifted[-1] < 0.05).all()
    torch.testing.assert_close(narrow.sum(0), torch.ones(4))


def test_the_rank_histogram_equals_numpy():
    u = torch.rand(200, 3)
    expected = np.stack([np.histogram(u[:, v], bins=7, range=(0, 1))[0] / 200 for v in range(3)], axis=1)
    np.testing.assert_allclose(rank_histogram(u, 7), expected, rtol=1e-6)
    assert rank_histogram(torch.ones(3, 1), 4)[-1] == 1
    with pytest.raises(CortexflowError, match="at least 1 bin"):
        rank_histogram(u, 0)


def test_accuracy_climbs_with_the_samples_as_theory_says():
    generator = fresh()
    signal = torch.randn(5000, 6, generator=generator)
    samples = signal + 2 * torch.randn(16, 5000, 6, generator=generator)
    found = accuracy_by_samples(samples, signal, [1, 4, 16]).mean(1)
    expected = torch.tensor([(1 + 4 / count) ** -0.5 for count in (1, 4, 16)])
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


def test_accuracy_of_the_first_samples_is_the_correlation_of_their_mean():
    samples, measured = draw(trials=30)
    found = accuracy_by_samples(samples, measured, [9, 1])
    torch.testing.assert_close(found, torch.stack([correlation(samples.mean(0), measured), correlation(samples[0], measured)]))
    shuffled = accuracy_by_samples(draw(trials=3000)[0].roll(1, dims=1), draw(trials=3000)[1], [1, 9])
    assert (shuffled.abs() < 5 / 3000**0.5).all()


@pytest.mark.parametrize("count", [0, 10])
def test_more_samples_than_were_drawn_cannot_be_averaged(count):
    with pytest.raises(CortexflowError, match=f"{count} samples cannot"):
        accuracy_by_samples(*draw(trials=5), counts=[1, count])


def test_one_sample_has_no_spread():
    for score in (crps, energy_score):
        with pytest.raises(CortexflowError, match="at least 2 samples"):
            score(torch.zeros(1, 3, 2), torch.zeros(3, 2))
