import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some

from cortexflow.errors import CortexflowError
from cortexflow.metrics.noise_ceiling import noise_ceiling
from cortexflow.metrics.nulls import (
    derangement,
    repeat_against_others,
    repeat_against_repeat,
    shuffled_images,
    training_mean_pattern,
    zero_pattern,
)
from cortexflow.metrics.voxelwise import correlation, explained_variance, mean_squared_error


def test_a_constant_has_no_correlation_across_images_and_a_high_one_across_voxels():
    generator = torch.Generator().manual_seed(0)
    levels = 3 * torch.randn(500, generator=generator)  # some voxels are always more active
    training, test = (levels + torch.randn(rows, 500, generator=generator) for rows in (200, 50))
    pattern = training_mean_pattern(training, 50)
    assert (correlation(pattern, test) == 0).all()
    assert correlation(pattern.T, test.T).mean() > 0.9  # why the published protocol needs the constant beside it
    assert mean_squared_error(pattern, test).mean().item() == pytest.approx(1, rel=0.1)
    torch.testing.assert_close(pattern[7], training.mean(0))


def test_zeros_are_the_mean_of_standardised_responses():
    test = torch.randn(40, 5)
    test -= test.mean(0)
    torch.testing.assert_close(explained_variance(zero_pattern(40, 5), test), torch.zeros(5), atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=50)
@given(some.integers(2, 40), some.integers(0, 10**6))
def test_no_image_keeps_its_place(images, seed):
    order = derangement(images, torch.Generator().manual_seed(seed))
    assert (order != torch.arange(images)).all()
    assert torch.equal(order.sort().values, torch.arange(images))
    assert torch.equal(order, derangement(images, torch.Generator().manual_seed(seed)))


def test_all_derangements_are_equally_likely():
    generator = torch.Generator().manual_seed(0)
    seen = [tuple(derangement(4, generator).tolist()) for _ in range(1800)]
    counts = [seen.count(order) for order in set(seen)]
    assert len(counts) == 9
    assert all(140 < count < 260 for count in counts)


def test_shuffling_moves_whole_rows():
    predicted = torch.arange(12.0).reshape(6, 2)
    shuffled = shuffled_images(predicted, torch.Generator().manual_seed(2))
    assert torch.equal(shuffled[:, 0].sort().values, predicted[:, 0])
    assert torch.equal(shuffled[:, 1], shuffled[:, 0] + 1)
    assert (shuffled != predicted).all()


def cortex():
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([1, 2, 3, 4]).repeat(1000)
    stimuli = torch.repeat_interleave(torch.arange(4000) * 3 + 1, counts)[torch.randperm(10_000, generator=generator)]
    signal = 0.8 * torch.randn(4000, 5, generator=generator)
    return signal[(stimuli - 1) // 3] + torch.randn(10_000, 5, generator=generator), stimuli


def test_repeats_are_matched_by_image_and_in_order():
    responses, stimuli = cortex()
    pair, others = repeat_against_repeat(responses, stimuli), repeat_against_others(responses, stimuli)
    assert len(pair.stimuli) == 3000
    for row in (0, 7, 2999):
        rows = (stimuli == pair.stimuli[row]).nonzero()[:, 0]
        assert torch.equal(pair.predicted[row], responses[rows[0]])
        assert torch.equal(pair.measured[row], responses[rows[1]])
        assert torch.equal(others.predicted[row], responses[rows[0]])
        torch.testing.assert_close(others.measured[row], responses[rows[1:]].mean(0))


def test_repeats_reach_what_the_noise_allows():
    responses, stimuli = cortex()
    pair, others = repeat_against_repeat(responses, stimuli), repeat_against_others(responses, stimuli)
    single = noise_ceiling(torch.tensor([0.8]), 1).item()
    averaged = noise_ceiling(torch.tensor([0.8]), torch.tensor([1, 2, 3])).item()
    assert correlation(pair.predicted, pair.measured).mean().item() == pytest.approx(single, abs=0.03)
    expected = (single * averaged) ** 0.5
    assert correlation(others.predicted, others.measured).mean().item() == pytest.approx(expected, abs=0.03)
    shuffled = shuffled_images(pair.predicted, torch.Generator().manual_seed(0))
    assert (correlation(shuffled, pair.measured).abs() < 4.5 / 3000**0.5).all()


def test_errors_say_what_is_missing():
    with pytest.raises(CortexflowError, match="at least 2 times"):
        repeat_against_repeat(torch.zeros(3, 2), torch.arange(3))
    with pytest.raises(CortexflowError, match="without one keeping its place"):
        shuffled_images(torch.zeros(1, 2), torch.Generator())
    with pytest.raises(CortexflowError, match="at least 1 training trial"):
        training_mean_pattern(torch.zeros(0, 2), 5)
