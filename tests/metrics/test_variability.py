import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from cortexflow.errors import CortexflowError
from cortexflow.metrics.variability import (
    covariance_agreement,
    covariance_agreement_across,
    repeat_variance,
    variance_ratio,
    within_stimulus_residuals,
)


def cortex(images=200, repeats=3, voxels=6, noise=None, seed=0):
    """Trials with a signal, and noise of a chosen covariance root."""
    generator = torch.Generator().manual_seed(seed)
    stimuli = torch.arange(images).repeat(repeats) * 7 + 3
    signal = torch.randn(images, voxels, generator=generator).repeat(repeats, 1) * 2
    root = torch.eye(voxels) if noise is None else noise
    return signal + torch.randn(len(stimuli), voxels, generator=generator) @ root, stimuli


def fresh():
    return torch.Generator().manual_seed(0)


def test_repeat_variance_is_the_mean_of_numpy_variances_for_equal_repeats():
    responses, stimuli = cortex()
    by_image = [responses[stimuli == image].numpy().var(0, ddof=1) for image in stimuli.unique()]
    np.testing.assert_allclose(repeat_variance(responses, stimuli), np.mean(by_image, axis=0), rtol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_recovers_a_known_noise_with_unequal_repeats(scale):
    generator = torch.Generator().manual_seed(1)
    stimuli = torch.repeat_interleave(torch.arange(300), torch.tensor([1, 2, 5]).repeat(100))
    signal = torch.randn(300, 40, generator=generator) * 4
    responses = signal[stimuli] + scale * torch.randn(len(stimuli), 40, generator=generator)
    freedom = len(stimuli) - 300
    assert repeat_variance(responses, stimuli).mean().item() == pytest.approx(scale**2, rel=4 * (2 / freedom / 40) ** 0.5)


@settings(deadline=None, max_examples=20)
@given(some.integers(0, 10**6))
def test_the_order_of_trials_and_the_images_themselves_do_not_matter(seed):
    responses, stimuli = (values[:60] for values in cortex(images=25, seed=seed))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(seed))
    expected = repeat_variance(responses, stimuli)
    torch.testing.assert_close(repeat_variance(responses[order], stimuli[order]), expected)
    torch.testing.assert_close(repeat_variance(responses + stimuli[:, None], stimuli), expected, rtol=1e-4, atol=1e-4)


def test_residuals_have_the_variance_of_one_trial_and_no_signal():
    noise = torch.tensor([[1.0, 0.8], [0.0, 0.6]])  # unit variances, r = 0.8
    responses, stimuli = cortex(images=2000, voxels=2, noise=noise)
    residuals = within_stimulus_residuals(responses, stimuli)
    covariance = residuals.T @ residuals / len(residuals)
    expected = noise.T @ noise
    torch.testing.assert_close(covariance, expected, atol=0.08, rtol=0)
    torch.testing.assert_close(residuals.square().mean(0), repeat_variance(responses, stimuli))  # equal repeats


def test_residuals_of_an_image_sum_to_zero_and_single_trials_are_dropped():
    responses, stimuli = cortex(images=5)
    residuals = within_stimulus_residuals(responses[:-3], stimuli[:-3])  # two images keep three trials, three keep two
    assert residuals.shape == (12, 6)
    lonely = torch.cat([responses, torch.randn(1, 6)]), torch.cat([stimuli, torch.tensor([999])])
    torch.testing.assert_close(within_stimulus_residuals(*lonely), within_stimulus_residuals(responses, stimuli))
    per_image = torch.zeros(5, 6).index_add_(0, torch.arange(5).repeat(3), within_stimulus_residuals(responses, stimuli))
    torch.testing.assert_close(per_image, torch.zeros(5, 6), atol=1e-5, rtol=0)


def test_a_constant_voxel_has_no_noise():
    responses, stimuli = cortex()
    responses[:, 1] = 0.1
    assert repeat_variance(responses, stimuli)[1] == 0


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0, 2.0])
def test_variance_ratio_reads_the_models_spread(spread):
    responses, stimuli = cortex(images=500)
    samples = torch.randn(1, 500, 6) + spread * torch.randn(20, 500, 6)
    assert variance_ratio(samples, responses, stimuli).mean().item() == pytest.approx(spread**2, rel=0.05, abs=1e-9)


def test_variance_ratio_of_a_dead_voxel_is_not_a_number():
    responses, stimuli = cortex()
    responses[:, 2] = 4.0
    assert variance_ratio(torch.randn(3, 10, 6), responses, stimuli).isnan().tolist() == [False, False, True, False, False, False]


def factors(voxels, seed):
    return torch.randn(3, voxels, generator=torch.Generator().manual_seed(seed))


def trials_of(loadings, trials=4000, seed=5):
    generator = torch.Generator().manual_seed(seed)
    private = torch.randn(trials, loadings.shape[1], generator=generator)
    return torch.randn(trials, 3, generator=generator) @ loadings + private


def test_covariance_agreement_equals_numpy():
    a, b = trials_of(factors(20, 1), seed=1, trials=100), trials_of(factors(20, 1), seed=2, trials=80)
    above = np.triu_indices(20, 1)
    expected = np.corrcoef(np.corrcoef(a.numpy().T)[above], np.corrcoef(b.numpy().T)[above])[0, 1]
    assert covariance_agreement(a, b, fresh()).item() == pytest.approx(expected, abs=1e-5)


def test_the_same_noise_agrees_and_other_noise_is_at_chance():
    same, other = trials_of(factors(60, 1), seed=1), trials_of(factors(60, 2), seed=3)
    assert covariance_agreement(same, trials_of(factors(60, 1), seed=2), fresh()) > 0.98
    assert abs(covariance_agreement(same, other, fresh())) < 0.3
    shuffled = same[:, torch.randperm(60, generator=fresh())]
    assert abs(covariance_agreement(same, shuffled, fresh())) < 0.2


def test_the_scale_of_a_voxel_does_not_matter():
    a, b = trials_of(factors(15, 1), seed=1), trials_of(factors(15, 1), seed=2)
    scaled = a * torch.logspace(-2, 2, 15)
    torch.testing.assert_close(covariance_agreement(scaled, b, fresh()), covariance_agreement(a, b, fresh()), atol=1e-4, rtol=0)


def test_pairs_across_areas_equal_brute_force():
    a, b = trials_of(factors(12, 1), seed=1, trials=50), trials_of(factors(12, 1), seed=2, trials=60)
    areas = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    left, right = np.corrcoef(a.numpy().T), np.corrcoef(b.numpy().T)
    pairs = [(i, j) for i in range(12) for j in range(i) if areas[i] != areas[j]]
    expected = np.corrcoef([left[pair] for pair in pairs], [right[pair] for pair in pairs])[0, 1]
    assert covariance_agreement_across(a, b, areas, fresh()).item() == pytest.approx(expected, abs=1e-5)


def test_above_the_limit_a_seeded_part_of_the_voxels_decides():
    a, b = trials_of(factors(40, 1), seed=1, trials=200), trials_of(factors(40, 1), seed=2, trials=200)
    first = covariance_agreement(a, b, torch.Generator().manual_seed(4), limit=10)
    assert first == covariance_agreement(a, b, torch.Generator().manual_seed(4), limit=10)
    assert first != covariance_agreement(a, b, torch.Generator().manual_seed(5), limit=10)
    assert covariance_agreement(a, b, fresh(), limit=40) == covariance_agreement(a, b, torch.Generator().manual_seed(9), limit=40)


def test_constant_voxels_are_left_out_of_the_pairs():
    a, b = trials_of(factors(9, 1), seed=1, trials=99), trials_of(factors(9, 1), seed=2, trials=99)
    dead = a.clone()
    dead[:, 4] = 0
    kept = torch.arange(9) != 4
    torch.testing.assert_close(covariance_agreement(dead, b, fresh()), covariance_agreement(a[:, kept], b[:, kept], fresh()))


def test_errors_say_what_is_missing():
    with pytest.raises(CortexflowError, match="at least 2 times"):
        repeat_variance(torch.randn(3, 2), torch.arange(3))
    with pytest.raises(CortexflowError, match="at least 2 samples"):
        variance_ratio(torch.randn(1, 3, 2), torch.randn(4, 2), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(CortexflowError, match="5 and 4 voxels"):
        covariance_agreement_across.__wrapped__(torch.randn(9, 5), torch.randn(9, 4), torch.arange(5), fresh())
    with pytest.raises(CortexflowError, match="at least 2 pairs"):
        covariance_agreement_across(torch.randn(9, 3), torch.randn(9, 3), torch.zeros(3, dtype=torch.long), fresh())
