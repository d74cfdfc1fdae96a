from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats
from scipy.spatial.distance import pdist

from cortexflow.errors import CortexflowError
from cortexflow.metrics.representation import compare_rdms, linear_cka, ranks, rdm, rsa_noise_ceiling


@pytest.mark.parametrize("kind", ["correlation", "euclidean"])
def test_rdm_agrees_with_scipy(kind):
    patterns = torch.randn(12, 30).double() + 5
    np.testing.assert_allclose(rdm(patterns, kind), pdist(patterns.numpy(), kind), atol=1e-10)


def test_a_constant_pattern_is_neither_like_nor_unlike():
    patterns = torch.randn(4, 9)
    patterns[0] = 0.1
    assert (rdm(patterns)[:3] == 1).all()


@pytest.mark.parametrize("levels", [4, 10**6], ids=["many ties", "no ties"])
def test_comparison_agrees_with_scipy(levels):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(levels, (200,), generator=generator).float() for _ in range(2))
    b += a / 2
    assert compare_rdms(a, b).item() == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-6)
    assert compare_rdms(a, b, "pearson").item() == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-6)
    np.testing.assert_allclose(ranks(a), stats.rankdata(a))


@settings(deadline=None, max_examples=20)
@given(some.integers(0, 10**6))
def test_spearman_sees_order_only(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 50, generator=generator).double()
    torch.testing.assert_close(compare_rdms(a.exp(), b), compare_rdms(a, b))
    torch.testing.assert_close(compare_rdms(a, a.exp()), torch.tensor(1.0).double())


def test_shuffled_images_have_no_representation_in_common():
    patterns = torch.randn(60, 200)
    a, b = rdm(patterns), rdm(patterns[torch.randperm(60)])
    assert compare_rdms(a, rdm(patterns + torch.randn(60, 200))) > 0.3
    assert abs(compare_rdms(a, b)) < 0.15


def test_no_rdm_beats_the_upper_bound():
    rdms = torch.rand(4, 6)
    every = np.array(list(permutations(range(6))), dtype=float)  # Spearman sees ranks only, so these are all the RDMs there are
    ranked = np.stack([stats.rankdata(one) for one in rdms])
    agreement = np.corrcoef(every, ranked)[: len(every), len(every) :].mean(1)
    assert rsa_noise_ceiling(rdms).upper.mean().item() == pytest.approx(agreement.max(), abs=1e-6)


def test_ceiling_bounds_equal_scipy():
    rdms = torch.rand(5, 40)
    ranked = np.stack([stats.rankdata(one) for one in rdms])
    lower = [stats.spearmanr(ranked[s], np.delete(ranked, s, 0).mean(0)).statistic for s in range(5)]
    upper = [stats.spearmanr(ranked[s], ranked.mean(0)).statistic for s in range(5)]
    bounds = rsa_noise_ceiling(rdms)
    np.testing.assert_allclose(bounds.lower, lower, atol=1e-6)
    np.testing.assert_allclose(bounds.upper, upper, atol=1e-6)


def test_the_true_rdm_lies_between_the_bounds():
    truth = torch.rand(300)
    rdms = truth + 0.5 * torch.randn(6, 300)
    score = torch.stack([compare_rdms(one, truth) for one in rdms]).mean()
    bounds = rsa_noise_ceiling(rdms)
    assert bounds.lower.mean() < score < bounds.upper.mean()


def textbook_cka(x, y):
    n = len(x)
    centring = np.eye(n) - 1 / n
    k, h = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    return np.trace(k @ h) / np.sqrt(np.trace(k @ k) * np.trace(h @ h))


@pytest.mark.parametrize("features, voxels", [(5, 7), (50, 7), (5, 90), (50, 90)])
def test_cka_equals_the_textbook_in_either_form(features, voxels):
    x = torch.randn(30, features).double() + 3
    y = x @ torch.randn(features, voxels).double() + torch.randn(30, voxels).double()
    assert linear_cka(x, y).item() == pytest.approx(textbook_cka(x.numpy(), y.numpy()), abs=1e-10)


@settings(deadline=None, max_examples=20)
@given(some.integers(0, 10**6), some.floats(0.01, 100))
def test_cka_ignores_rotation_shift_and_scale(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(25, 6, generator=generator).double(), torch.randn(25, 4, generator=generator).double()
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator).double()).Q
    torch.testing.assert_close(linear_cka(scale * x @ rotation + 2, y), linear_cka(x, y))
    torch.testing.assert_close(linear_cka(x @ rotation, x), torch.tensor(1.0).double())
    torch.testing.assert_close(linear_cka(y, x), linear_cka(x, y))


def test_cka_at_chance_is_small_with_many_images_and_large_with_few():
    assert linear_cka(torch.randn(2000, 4), torch.randn(2000, 4)) < 0.02
    assert linear_cka(torch.randn(20, 2000), torch.randn(20, 2000)) > 0.9  # the bias that the docstring warns of
    assert linear_cka(torch.ones(9, 3), torch.randn(9, 3)) == 0


def test_errors_say_what_is_missing():
    with pytest.raises(CortexflowError, match="at least 2 images"):
        rdm(torch.zeros(1, 4))
    with pytest.raises(CortexflowError, match="at least 2 of them"):
        rsa_noise_ceiling(torch.rand(1, 9))
    with pytest.raises(CortexflowError, match="4 and 5 images"):
        linear_cka.__wrapped__(torch.rand(4, 2), torch.rand(5, 2))
