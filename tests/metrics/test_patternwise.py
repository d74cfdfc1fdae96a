import numpy as np
import pytest
import scipy.stats
import torch

from cortexflow.errors import CortexflowError
from cortexflow.metrics.nulls import training_mean_pattern
from cortexflow.metrics.patternwise import pattern_correlation, single_trial_patterns
from cortexflow.metrics.voxelwise import correlation


def test_equals_scipy_row_by_row():
    predicted, measured = torch.randn(7, 40) * 3 + 100, torch.randn(7, 40)
    expected = [scipy.stats.pearsonr(p, m).statistic for p, m in zip(predicted.double().numpy(), measured.double().numpy(), strict=True)]
    np.testing.assert_allclose(pattern_correlation(predicted, measured).numpy(), expected, atol=1e-6)


def test_more_rows_than_fit_at_once_change_nothing(monkeypatch):
    predicted, measured = torch.randn(11, 30), torch.randn(11, 30)
    whole = pattern_correlation(predicted, measured)
    monkeypatch.setattr("cortexflow.metrics.patternwise.ELEMENTS_AT_ONCE", 60)
    torch.testing.assert_close(pattern_correlation(predicted, measured), whole, atol=0, rtol=0)


def test_a_flat_pattern_has_no_correlation_and_nan_stays():
    measured = torch.randn(3, 5)
    flat = torch.full((3, 5), 0.1)
    assert not pattern_correlation(flat, measured).any()
    measured[1, 2] = torch.nan
    assert pattern_correlation(torch.randn(3, 5), measured).isnan().tolist() == [False, True, False]


def test_single_trials_by_brute_force():
    predicted, measured, image = torch.randn(4, 20), torch.randn(9, 20), torch.tensor([3, 0, 0, 1, 2, 3, 3, 1, 0])
    scores = single_trial_patterns(predicted, measured, image)
    for trial, row in enumerate(image.tolist()):
        assert float(scores.error[trial]) == pytest.approx(float(((predicted[row] - measured[trial]) ** 2).mean()), rel=1e-5)
        assert float(scores.r[trial]) == pytest.approx(np.corrcoef(predicted[row], measured[trial])[0, 1], abs=1e-5)


def test_a_constant_is_high_across_voxels_and_zero_across_images():
    """Voxel means vary with deviation 1, trials within a voxel with deviation 1: r across voxels is the root of one half."""
    means = torch.randn(4000)
    training, test = means + torch.randn(300, 4000), means + torch.randn(50, 4000)
    constant = training_mean_pattern(training, 50)
    scores = single_trial_patterns(constant, test, torch.arange(50))
    assert float(scores.r.mean()) == pytest.approx(0.5**0.5, abs=0.02)
    assert float(scores.error.mean()) == pytest.approx(1 + 1 / 300, abs=0.02)
    assert not correlation(constant, test).any()


def test_a_trial_without_an_image_is_an_error():
    for image in ([0, 1, 2], [0, 1, -1]):
        with pytest.raises(CortexflowError, match="3 trials need one of 2 images each"):
            single_trial_patterns(torch.zeros(2, 3), torch.zeros(3, 3), torch.tensor(image))
