import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats
from sklearn.metrics import mean_squared_error as sklearn_error
from sklearn.metrics import r2_score

from cortexflow.errors import CortexflowError
from cortexflow.metrics.nulls import shuffled_images
from cortexflow.metrics.voxelwise import (
    bits_per_voxel,
    correlation,
    explained_variance,
    mean_squared_error,
    share_of_ceiling,
)

seeds = some.integers(0, 10**6)


def pair(seed=0, images=50, voxels=8):
    generator = torch.Generator().manual_seed(seed)
    measured = torch.randn(images, voxels, generator=generator)
    return measured + torch.randn(images, voxels, generator=generator), measured


def test_correlation_agrees_with_scipy():
    predicted, measured = pair()
    expected = [stats.pearsonr(predicted[:, v], measured[:, v]).statistic for v in range(8)]
    np.testing.assert_allclose(correlation(predicted, measured), expected, rtol=1e-5)


def test_correlation_is_exact_far_from_zero():
    predicted, measured = pair()
    shifted = correlation(predicted.double() + 1e6, measured.double() * 1e-3 - 1e4)
    torch.testing.assert_close(shifted, correlation(predicted.double(), measured.double()), rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seeds, some.floats(0.01, 100), some.floats(-10, 10))
def test_correlation_ignores_positive_scale_and_shift_and_turns_with_the_sign(seed, scale, shift):
    predicted, measured = (values.double() for values in pair(seed))
    r = correlation(predicted, measured)
    torch.testing.assert_close(correlation(scale * predicted + shift, measured), r)
    torch.testing.assert_close(correlation(-scale * predicted + shift, measured), -r)
    torch.testing.assert_close(correlation(measured, predicted), r)
    assert (r.abs() <= 1).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_predicts_nothing(value):
    _, measured = pair(images=1000)
    constant = torch.full_like(measured, value)
    assert (correlation(constant, measured) == 0).all()
    assert (correlation(measured, constant) == 0).all()


def test_a_nan_stays_in_its_voxel():
    predicted, measured = pair()
    measured[3, 2] = torch.nan
    for metric in (correlation, explained_variance, mean_squared_error):
        assert metric(predicted, measured).isnan().nonzero().tolist() == [[2]]


def test_shuffled_images_score_at_chance():
    predicted, measured = pair(images=1000, voxels=200)
    r = correlation(shuffled_images(predicted, torch.Generator().manual_seed(3)), measured)
    assert abs(r.mean()) < 4 / math.sqrt(1000 * 200)
    assert r.std().item() == pytest.approx(1 / math.sqrt(1000), rel=0.2)


def test_explained_variance_and_error_agree_with_sklearn():
    predicted, measured = pair()
    np.testing.assert_allclose(explained_variance(predicted, measured), r2_score(measured, predicted, multioutput="raw_values"), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean_squared_error(predicted, measured), sklearn_error(measured, predicted, multioutput="raw_values"), rtol=1e-5)


def test_the_mean_explains_nothing_and_worse_is_negative():
    _, measured = pair()
    mean = measured.mean(0).expand_as(measured)
    torch.testing.assert_close(explained_variance(mean, measured), torch.zeros(8), atol=1e-6, rtol=0)
    assert (explained_variance(mean + 1, measured) < 0).all()
    assert (explained_variance(mean, torch.ones_like(measured)) == 0).all()


def test_least_squares_gives_r_squared():
    predicted, measured = (values.double() for values in pair())
    centred = predicted - predicted.mean(0)
    slope = (centred * measured).sum(0) / centred.square().sum(0)
    fitted = slope * centred + measured.mean(0)
    torch.testing.assert_close(explained_variance(fitted, measured), correlation(predicted, measured).square())


def test_share_of_ceiling_leaves_out_hopeless_voxels():
    share = share_of_ceiling(torch.tensor([0.6, -0.6, 0.1, 0.5]), torch.tensor([0.72, 0.72, 0.0, torch.nan]), least=0.1)
    torch.testing.assert_close(share[:2], torch.tensor([0.5, 0.5]))
    assert share[2:].isnan().all()
    with pytest.raises(CortexflowError, match=r"0\.0 came"):
        share_of_ceiling(torch.ones(1), torch.ones(1), least=0.0)


def test_bits_are_the_code_length_of_a_gaussian():
    trials = torch.randn(5, 7).double()
    nats = torch.distributions.Normal(0, 2).log_prob(trials).sum(1)
    expected = -stats.norm(0, 2).logpdf(trials.numpy()).sum(1) / 7 / np.log(2)
    np.testing.assert_allclose(bits_per_voxel(nats, 7), expected, rtol=1e-6)
    with pytest.raises(CortexflowError, match="at least 1 voxel"):
        bits_per_voxel(nats, 0)


def test_one_image_is_no_correlation():
    with pytest.raises(CortexflowError, match="at least 2 images"):
        correlation(torch.zeros(1, 2), torch.zeros(1, 2))
