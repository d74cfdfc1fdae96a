import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from cortexflow.errors import CortexflowError
from cortexflow.metrics.noise_ceiling import ncsnr, ncsnr_nsd, noise_ceiling, variance_parts
from cortexflow.metrics.voxelwise import correlation


def cortex(counts, signal, noise, voxels=300, seed=0):
    """Trials with a known signal and noise deviation; images seen ``counts`` times, in shuffled order."""
    generator = torch.Generator().manual_seed(seed)
    stimuli = torch.repeat_interleave(torch.arange(len(counts)) * 11 + 5, torch.tensor(counts))
    means = signal * torch.randn(len(counts), voxels, generator=generator)
    responses = means[(stimuli - 5) // 11] + noise * torch.randn(len(stimuli), voxels, generator=generator)
    order = torch.randperm(len(stimuli), generator=generator)
    return responses[order], stimuli[order], means


EQUAL, UNEQUAL, LONELY = [3] * 120, [2, 3, 4, 9] * 30, [1, 1, 2, 5] * 30


@pytest.mark.parametrize("counts", [EQUAL, UNEQUAL, LONELY], ids=["equal", "unequal", "some seen once"])
@pytest.mark.parametrize("signal, noise", [(1.0, 1.0), (0.5, 3.0), (0.0, 2.0)])
def test_variance_parts_are_unbiased(counts, signal, noise):
    responses, stimuli, _ = cortex(counts, signal, noise)
    parts = variance_parts(responses, stimuli)
    for part, planted in zip(parts, (signal**2, noise**2), strict=True):
        error = part.std() / len(part) ** 0.5  # voxels are independent here
        assert abs(part.mean() - planted) < 4 * error


@pytest.mark.parametrize("counts", [EQUAL, UNEQUAL, LONELY], ids=["equal", "unequal", "some seen once"])
@pytest.mark.parametrize("planted", [0.3, 1.0, 2.0])
def test_recovers_a_planted_ncsnr_in_any_unit(counts, planted):
    responses, stimuli, _ = cortex(counts * 4, planted, 1.0, voxels=100)
    found = ncsnr(50 + 7 * responses, stimuli)
    assert found.square().mean().item() == pytest.approx(planted**2, rel=0.05, abs=0.02)


@settings(deadline=None, max_examples=20)
@given(some.floats(0.1, 50), some.floats(-20, 20), some.integers(0, 10**6))
def test_ncsnr_ignores_scale_shift_and_the_order_of_trials(scale, shift, seed):
    responses, stimuli, _ = cortex([2, 3, 5, 2, 4], 1.0, 1.0, voxels=9, seed=seed)
    order = torch.randperm(len(stimuli), generator=torch.Generator().manual_seed(seed))
    expected = ncsnr(responses.double(), stimuli)
    found = ncsnr(scale * responses.double()[order] + shift, stimuli[order])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


def test_nsd_formula_equals_its_definition_in_numpy():
    responses, stimuli, _ = cortex([3] * 80 + [2] * 30 + [1] * 10, 0.6, 0.8)
    responses[:, 0] = torch.randn(len(responses))  # no signal: the clamp may act
    z = (responses - responses.mean(0)) / responses.std(0, correction=0)
    three = [image for image in stimuli.unique() if (stimuli == image).sum() == 3]
    v = np.mean([z[stimuli == image].numpy().var(0, ddof=1) for image in three], axis=0)
    np.testing.assert_allclose(ncsnr_nsd(z, stimuli), np.sqrt(np.maximum(0, 1 - v)) / np.sqrt(v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("images, n", [(40, 3), (100, 3), (60, 5)])
def test_both_formulas_agree_on_z_scored_equal_repeats_up_to_the_documented_difference(images, n):
    responses, stimuli, _ = cortex([n] * images, 1.2, 1.0)
    z = ((responses - responses.mean(0)) / responses.std(0, correction=0)).double()
    nsd, ours = ncsnr_nsd(z, stimuli, repeats=n), ncsnr(z, stimuli)
    v = 1 / (1 + nsd.square())
    difference = (1 - v * (n - 1) / n) / (v * (images - 1))
    torch.testing.assert_close(ours.square(), nsd.square() + difference, rtol=1e-5, atol=1e-5)
    if images >= 100:
        assert (ours / nsd - 1).abs().max() < 0.02


def test_nsd_formula_refuses_responses_that_are_not_z_scored():
    responses, stimuli, _ = cortex(EQUAL, 5.0, 5.0)
    with pytest.raises(CortexflowError, match=r"must be z-scored.*variance [45]\d"):
        ncsnr_nsd(responses, stimuli)
    with pytest.raises(CortexflowError, match=r"no image was seen 4 times, only \[3\]"):
        ncsnr_nsd(responses / responses.std(0), stimuli, repeats=4)


def test_nsd_formula_leaves_out_images_with_a_nan():
    responses, stimuli, _ = cortex(EQUAL, 0.7, 0.7)
    whole = ncsnr_nsd(responses[stimuli != 5], stimuli[stimuli != 5])
    responses[(stimuli == 5).nonzero()[0], :] = torch.nan
    responses[:, 0] = torch.nan_to_num(responses[:, 0])
    torch.testing.assert_close(ncsnr_nsd(responses, stimuli)[1:], whole[1:])


def test_constant_noiseless_and_damaged_voxels():
    responses, stimuli, means = cortex(EQUAL, 1.0, 1.0, voxels=4)
    responses[:, 0] = 0.1
    responses[:, 1] = means[(stimuli - 5) // 11, 1]
    responses[7, 2] = torch.nan
    found = ncsnr(responses, stimuli)
    assert found[0] == 0
    assert found[1] > 1e4
    assert found[2].isnan()
    ceiling = noise_ceiling(found, 3)
    assert ceiling[0] == 0
    assert ceiling[1] == pytest.approx(1)
    assert noise_ceiling(torch.tensor([torch.inf]), 1) == 1


def test_shuffled_stimuli_leave_no_signal():
    responses, stimuli, _ = cortex(EQUAL, 1.0, 1.0)
    shuffled = stimuli[torch.randperm(len(stimuli), generator=torch.Generator().manual_seed(0))]
    signal, noise = variance_parts(responses, shuffled)
    assert abs(signal.mean()) < 4 * signal.std() / len(signal) ** 0.5
    assert noise.mean().item() == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("counts", [[3] * 2000, [1, 2, 3, 6] * 500], ids=["equal", "mixed"])
def test_the_true_signal_reaches_the_ceiling_on_averaged_repeats(counts):
    responses, stimuli, means = cortex(counts, 0.8, 1.0, voxels=40)
    images, image = stimuli.unique(return_inverse=True)
    averaged = torch.zeros(len(images), 40).index_add_(0, image, responses) / torch.tensor(counts)[:, None]
    ceiling = noise_ceiling(torch.full((40,), 0.8), torch.tensor(counts))
    assert correlation(means, averaged).square().mean().item() == pytest.approx(ceiling[0].item(), rel=0.02)


@settings(deadline=None, max_examples=30)
@given(some.floats(0, 10), some.integers(1, 20))
def test_the_ceiling_rises_with_signal_and_repeats(signal, repeats):
    low = noise_ceiling(torch.tensor([signal]), repeats)
    assert 0 <= low <= 1
    assert low <= noise_ceiling(torch.tensor([signal]), repeats + 1)
    assert low <= noise_ceiling(torch.tensor([signal + 0.1]), repeats)
    torch.testing.assert_close(noise_ceiling(torch.tensor([signal]), torch.full((5,), repeats)), low)


def test_mixed_counts_follow_the_nsd_manual():
    a, b, c = 5, 3, 2  # images seen 3, 2 and 1 times
    counts = torch.tensor([3] * a + [2] * b + [1] * c)
    noise = (a / 3 + b / 2 + c) / (a + b + c)
    assert noise_ceiling(torch.tensor([0.7]), counts).item() == pytest.approx(0.49 / (0.49 + noise))


def test_errors_say_what_is_missing():
    with pytest.raises(CortexflowError, match="at least 2 times"):
        ncsnr(torch.randn(4, 2), torch.arange(4))
    with pytest.raises(CortexflowError, match="1 image came"):
        ncsnr(torch.randn(4, 2), torch.zeros(4, dtype=torch.long))
    with pytest.raises(CortexflowError, match="counts were 0"):
        noise_ceiling(torch.ones(2), 0)
    with pytest.raises(CortexflowError, match="at least 1 trial"):
        noise_ceiling(torch.ones(2), torch.tensor([3, 0]))
