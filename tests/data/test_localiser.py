"""The localiser's statistics, against scipy, explicit least squares and hand computation."""

import numpy as np
import pytest
import scipy.stats
import torch

from cortexflow.data.base import Trials
from cortexflow.data.localiser import Blocks, localise, masks
from cortexflow.errors import CortexflowError

RNG = np.random.default_rng(0)
RESPONSES = torch.from_numpy(RNG.standard_normal((36, 5)))
THREE = ["face", "house", "word"] * 12


def test_two_categories_are_students_t_test():
    labels = ["face"] * 20 + ["house"] * 16
    expected = scipy.stats.ttest_ind(RESPONSES[:20], RESPONSES[20:]).statistic
    found = localise(RESPONSES, labels)
    assert np.allclose(found["face"].numpy(), expected, atol=1e-5) and np.allclose(found["house"].numpy(), -expected, atol=1e-5)


def test_three_categories_and_runs_are_least_squares():
    runs = torch.from_numpy(np.repeat([3, 5, 9], 12))
    X = np.stack(
        [np.array([label == name for label in THREE]) for name in ("face", "house", "word")] + [runs.numpy() == 5, runs.numpy() == 9], axis=1
    )
    betas, squares, *_ = np.linalg.lstsq(X.astype(float), RESPONSES.numpy(), rcond=None)
    contrast = np.array([-0.5, 1, -0.5, 0, 0])
    error = np.sqrt(squares / (36 - 5) * (contrast @ np.linalg.inv(X.T.astype(float) @ X.astype(float)) @ contrast))
    assert np.allclose(localise(RESPONSES, THREE, runs)["house"].numpy(), contrast @ betas / error, atol=1e-5)


def test_shifts_of_whole_runs_change_nothing_where_runs_are_known():
    runs = torch.from_numpy(np.repeat([1, 2, 3], 12))
    shifted = RESPONSES + 100.0 * runs[:, None]
    for name, values in localise(RESPONSES, THREE, runs).items():
        assert torch.allclose(localise(shifted, THREE, runs)[name], values, atol=1e-3)
    assert localise(shifted, THREE)["face"].abs().max() < 0.1  # unknown, they drown everything


def test_noise_alone_passes_as_often_as_chance_says():
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((36, 20_000)))
    passed = masks(localise(noise, THREE), threshold=2.0)
    expected = scipy.stats.t.sf(2.0, df=33)
    for found in passed.values():
        assert abs(found.double().mean().item() - expected) < 4 * np.sqrt(expected / 20_000)


def test_a_voxel_that_never_changes_has_no_t_and_is_in_no_area():
    responses = RESPONSES.clone()
    responses[:, 2] = 7.0
    found = localise(responses, THREE)
    assert torch.isnan(found["face"][2]) and not masks(found, -100.0)["face"][2]
    assert torch.isfinite(found["face"][[0, 1, 3, 4]]).all()


def test_units_do_not_matter():
    assert torch.allclose(localise(RESPONSES * 300 + 4, THREE)["word"], localise(RESPONSES, THREE)["word"], atol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: localise(RESPONSES, THREE[:-1]), "36 blocks and 35 labels"),
        (lambda: localise(RESPONSES, ["face"] * 36), "a contrast needs 2 categories, the blocks have 1"),
        (lambda: localise(RESPONSES[:3], THREE[:3]), "3 blocks cannot tell 3 categories and 1 runs from noise"),
        (lambda: localise(RESPONSES * torch.nan, THREE), "not finite"),
        (lambda: localise(RESPONSES, ["a"] * 18 + ["b"] * 18, torch.tensor([1] * 18 + [2] * 18)), "every category in more than one run"),
    ],
)
def test_blocks_that_tell_nothing_are_one_clear_line(call, message):
    with pytest.raises(CortexflowError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_blocks_need_one_label_each():
    ids = torch.arange(36)
    trials = Trials("subj01", ids, ids % 4, ids, RESPONSES, "percent signal change")
    assert torch.equal(Blocks(trials, tuple(THREE)).t_maps()["word"], localise(RESPONSES, THREE, ids % 4)["word"])
    with pytest.raises(CortexflowError, match="36 blocks and 2 labels"):
        Blocks(trials, ("face", "house"))
