import numpy as np
import pytest
import torch
from jaxtyping import config
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit

from cortexflow.errors import CortexflowError
from cortexflow.nn.least_squares import DualRidge, _Factorised, _Pairs, banded_ridge_cv, fold_of, ridge_cv

PENALTIES = [0.1, 1.0, 10.0, 100.0, 1000.0]


def study(trials=120, features=30, targets=7, noise=5.0, seed=0, offset=0.0):
    """Features, noisy linear targets, and pictures shown three times each."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.arange(trials) // 3
    x = torch.randn(trials // 3, features, generator=generator)[groups]
    x = x * torch.linspace(0.3, 2, features)
    y = x @ torch.randn(features, targets, generator=generator) + noise * torch.randn(trials, targets, generator=generator)
    return x + offset, y + offset / 10, groups


def brute_force(x, y, groups, penalties, folds=5, seed=0):
    """Mean over folds of the squared error and the held-out predictions, by one scikit-learn fit per fold and penalty."""
    x, y, fold = x.double().numpy(), y.double().numpy(), fold_of(groups, folds, seed).numpy()
    errors, predicted = np.zeros((len(penalties), folds, y.shape[1])), np.zeros((len(penalties), *y.shape))
    for i, penalty in enumerate(penalties):
        for k in range(folds):
            model = Ridge(alpha=penalty).fit(x[fold != k], y[fold != k])
            predicted[i][fold == k] = model.predict(x[fold == k])
            errors[i, k] = ((predicted[i] - y)[fold == k] ** 2).mean(0)
    return errors.mean(1), predicted


SHAPES = pytest.mark.parametrize("features", [30, 90, 200], ids=["primal", "rank deficient", "dual"])


@SHAPES
def test_equals_scikit_learn_for_a_given_penalty(features):
    x, y, groups = study(features=features)
    fit, reference = ridge_cv(x, y, groups, [3.0]), Ridge(alpha=3.0).fit(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(fit.weights.T, reference.coef_, rtol=1e-4, atol=1e-4 * abs(reference.coef_).max())
    np.testing.assert_allclose(fit.predict(x), reference.predict(x.numpy()), rtol=1e-4, atol=1e-3)


@SHAPES
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_choice_and_held_out_predictions_equal_brute_force(features, offset):
    x, y, groups = study(features=features, offset=offset)
    fit = ridge_cv(x, y, groups, PENALTIES, held_out=True)
    errors, predicted = brute_force(x, y, groups, PENALTIES)
    best = errors.argmin(0)
    assert fit.penalties.tolist() == pytest.approx([PENALTIES[i] for i in best])
    np.testing.assert_allclose(fit.held_out, predicted[best, :, np.arange(7)].T, atol=2e-4 * float(y.std()))


def spectrum(kind, trials=150, features=40):
    """Features whose eigenvalues lie far apart, in tight clusters, all together, or over nine decades."""
    generator = torch.Generator().manual_seed(1)
    groups = torch.arange(trials) // 3
    x = torch.randn(trials, features, generator=generator)
    if kind == "clusters":
        x = torch.linalg.qr(x - x.mean(0)).Q * torch.tensor([10.0, 10.0, 3.0, 1.0]).repeat(features // 4)
    if kind == "equal":
        x = torch.eye(features).repeat_interleave(6, 0) * 3.0
        groups = torch.arange(len(x)) // 3
    if kind == "steep":
        x = x * torch.logspace(0, -4.5, features)
    return x, groups


@pytest.mark.parametrize("kind", ["apart", "clusters", "equal", "steep"])
@pytest.mark.parametrize("noise", [0.0, 0.01, 5.0])
def test_choice_equals_brute_force_for_any_spectrum_and_noise(kind, noise):
    x, groups = spectrum(kind)
    y = x @ torch.randn(x.shape[1], 60) + noise * torch.randn(len(x), 60)
    penalties = torch.logspace(-3, 4, 12).tolist()
    fit = ridge_cv(x, y, groups, penalties)
    errors = brute_force(x, y, groups, penalties)[0]
    chosen = abs(np.log(np.array(penalties)[:, None]) - np.log(fit.penalties.numpy())).argmin(0)
    excess = errors[chosen, range(60)] / errors.min(0) - 1  # a tie may be called either way
    assert excess.max() < 1e-4
    assert (chosen == errors.argmin(0)).mean() > 0.9


@SHAPES
def test_errors_summed_over_pairs_equal_those_of_predictions(features):
    x, y, groups = study(features=features, targets=50)
    penalties = torch.logspace(-1, 4, 12, dtype=torch.float64)
    data = _Factorised(x, fold_of(groups, 5), penalties)
    part = data.project(y)
    assert any(fold.pairs is not None for fold in data.folds)
    cheap, plain = (data._errors(part, penalties, cheap) for cheap in (True, False))
    torch.testing.assert_close(cheap / y.var(0), plain / y.var(0), rtol=0, atol=1e-5)


def test_close_pairs_are_summed_as_they_are():
    generator = torch.Generator().manual_seed(0)
    values = torch.cat([torch.linspace(1, 50, 20), torch.tensor([7.0, 7.0001, 7.0002])]).double().sort().values
    test, seen = torch.randn(9, 23, generator=generator), torch.randn(23, 4, generator=generator)
    truth, penalties = torch.randn(9, 4, generator=generator), torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64)
    pairs, kept = _Pairs.of(values, test, rows=6), (values[:, None] / (values[:, None] + penalties)).float()
    assert len(pairs.first) == 3
    norms = pairs.norms(seen, kept, test.T @ truth)
    for row, some in zip(norms, kept.T, strict=True):
        predicted = (test * some) @ seen
        torch.testing.assert_close(row, predicted.square().sum(0) - 2 * (predicted * truth).sum(0), rtol=1e-4, atol=1e-3)


def test_scores_are_correlations_within_held_out_folds():
    x, y, groups = study()
    fit, fold = ridge_cv(x, y, groups, PENALTIES, held_out=True), fold_of(groups, 5)
    for target in range(7):
        r = [np.corrcoef(fit.held_out[fold == k, target], y[fold == k, target])[0, 1] for k in range(5)]
        assert float(fit.scores[target]) == pytest.approx(np.mean(r), abs=1e-4)


def test_dual_form_without_weights_equals_primal():
    x, y, groups = study(offset=10.0)
    fit, dual = ridge_cv(x, y, groups, [7.0]), DualRidge.fit(x, y, 7.0)
    new = x[:11] + 0.3
    torch.testing.assert_close(dual.predict(new, block=3), fit.predict(new), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(dual.weights(slice(2, 5)), fit.weights[:, 2:5], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(dual.mixture(new).sum(1), torch.ones(11))


@pytest.mark.parametrize("trials, folds", [(99, 5), (30, 2), (30, 10)])
def test_groups_are_never_split_and_folds_are_balanced(trials, folds):
    groups = torch.arange(trials) // 3
    groups = groups[torch.randperm(trials)] * 17 - 5
    fold = fold_of(groups, folds, seed=3)
    assert all(len(fold[groups == group].unique()) == 1 for group in groups.unique())
    sizes = torch.bincount(fold, minlength=folds)
    assert sizes.max() - sizes.min() <= 3
    assert torch.equal(fold, fold_of(groups, folds, seed=3))
    assert not torch.equal(fold, fold_of(groups, folds, seed=4))


@SHAPES
def test_the_size_of_a_block_changes_nothing(features, tmp_path):
    x, y, groups = study(features=features)
    mapped = np.memmap(tmp_path / "y", dtype=np.float32, mode="w+", shape=tuple(y.shape))
    mapped[:] = y
    whole = ridge_cv(x, y, groups, PENALTIES, held_out=True)
    parts = ridge_cv(x, torch.from_numpy(mapped), groups, PENALTIES, held_out=True, block=2)
    for name in ("weights", "intercept", "penalties", "scores", "held_out"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=1e-4)


@SHAPES
@pytest.mark.filterwarnings("ignore:Solving ridge is slower")
def test_agrees_with_himalaya(features):
    himalaya = pytest.importorskip("himalaya.ridge")
    x, y, groups = study(features=features, targets=300, trials=150, noise=8.0)
    fit = ridge_cv(x, y, groups, PENALTIES)
    reference = himalaya.RidgeCV(alphas=PENALTIES, fit_intercept=True, cv=PredefinedSplit(fold_of(groups, 5).numpy()))
    reference.fit(x.double().numpy(), y.double().numpy())  # its float32 is not exact where features have a null space
    np.testing.assert_allclose(fit.penalties, reference.best_alphas_, rtol=1e-4)
    np.testing.assert_allclose(fit.weights, reference.coef_, atol=1e-4 * abs(reference.coef_).max())
    np.testing.assert_allclose(fit.intercept, reference.intercept_, atol=1e-3)


def test_targets_of_one_pool_share_the_penalty_of_the_smallest_normalised_error():
    x, y, groups = study(noise=9.0)
    y[:, 3] *= 100
    pool = torch.tensor([5, 5, 2, 2, 2, 5, 2])
    fit = ridge_cv(x, y, groups, PENALTIES, pool=pool, block=3)
    errors = brute_force(x, y, groups, PENALTIES)[0] / y.var(0, correction=0).numpy()
    for label in (2, 5):
        best = errors[:, pool == label].sum(1).argmin()
        assert fit.penalties[pool == label].tolist() == pytest.approx([PENALTIES[best]] * int((pool == label).sum()))


def test_banded_equals_scaled_features():
    x, y, groups = study()
    shares = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.01, 0.99]])
    fit = banded_ridge_cv(x, y, groups, [10, 20], PENALTIES, candidates=shares, held_out=True, block=3)
    scales = shares.double().sqrt().repeat_interleave(torch.tensor([10, 20]), dim=1)
    trials = [brute_force(x * scale, y, groups, PENALTIES) for scale in scales]
    errors = np.stack([errors for errors, _ in trials])
    for target in range(7):
        candidate, i = np.unravel_index(errors[:, :, target].argmin(), (3, 5))
        expected = PENALTIES[i] / shares[candidate]
        torch.testing.assert_close(fit.penalties[:, target], expected)
        np.testing.assert_allclose(fit.held_out[:, target], trials[candidate][1][i][:, target], atol=2e-3)
        reference = Ridge(alpha=PENALTIES[i]).fit((x * scales[candidate]).numpy(), y[:, target].double().numpy())
        np.testing.assert_allclose(fit.weights[:, target], reference.coef_ * scales[candidate].numpy(), atol=1e-4)


def test_banded_agrees_with_himalaya():
    himalaya = pytest.importorskip("himalaya.ridge")
    x, y, groups = study(targets=100)
    shares = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.01, 0.99]])
    fit = banded_ridge_cv(x, y, groups, [10, 20], PENALTIES, candidates=shares)
    options = {"n_iter": shares.numpy(), "alphas": np.float32(PENALTIES), "progress_bar": False, "warn": False}
    reference = himalaya.GroupRidgeCV(groups="input", fit_intercept=True, cv=PredefinedSplit(fold_of(groups, 5).numpy()), solver_params=options)
    reference.fit([x[:, :10].numpy(), x[:, 10:].numpy()], y.numpy())
    np.testing.assert_allclose(fit.penalties, np.exp(-reference.deltas_), rtol=1e-3)


def test_banded_finds_the_level_that_a_target_depends_on():
    generator = torch.Generator().manual_seed(0)
    x, groups = torch.randn(200, 60, generator=generator), torch.arange(200) // 2
    weights = torch.zeros(60, 8)
    weights[:10, :4], weights[10:, 4:] = 1.0, 0.5
    y = x @ weights + 2 * torch.randn(200, 8, generator=generator)
    banded = banded_ridge_cv(x, y, groups, [10, 50], torch.logspace(-1, 4, 8))
    single = ridge_cv(x, y, groups, torch.logspace(-1, 4, 8))
    small, large = banded.penalties
    assert (small[:4] < large[:4]).all() and (small[4:] > large[4:]).all()
    assert (banded.weights - weights)[:, :4].norm() < 0.8 * (single.weights - weights)[:, :4].norm()


def test_a_constant_feature_and_a_constant_target_do_no_harm():
    x, y, groups = study()
    x[:, 3], y[:, 2] = 4.0, 9.0
    fit = ridge_cv(x, y, groups, PENALTIES, pool=torch.zeros(7, dtype=torch.long))
    assert fit.weights[3].abs().max() < 1e-5 and fit.scores[2] == 0
    assert fit.weights.isfinite().all()
    torch.testing.assert_close(fit.predict(x)[:, 2], y[:, 2], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("type", [torch.float16, torch.float64])
def test_other_floats_are_read_as_they_are(type):
    x, y, groups = study(offset=100.0)
    x, y = x.half().float(), y.half().float()
    fit, other = ridge_cv(x, y, groups, PENALTIES), ridge_cv(x, y.to(type), groups, PENALTIES)
    torch.testing.assert_close(other.weights, fit.weights, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(DualRidge.fit(x, y.to(type), 3.0).predict(x), DualRidge.fit(x, y, 3.0).predict(x), rtol=1e-4, atol=1e-3)


def test_constant_features_predict_the_mean():
    x, y, groups = study()
    fit = ridge_cv(torch.ones_like(x), y, groups, PENALTIES)
    assert not fit.weights.any() and fit.scores.abs().max() < 1e-6
    torch.testing.assert_close(fit.intercept, y.mean(0))


def test_threads_change_nothing_and_are_given_back():
    x, y, groups = study()
    before, one = torch.get_num_threads(), ridge_cv(x, y, groups, PENALTIES)
    torch.set_num_threads(3)
    try:
        several = ridge_cv(x, y, groups, PENALTIES)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one.penalties, several.penalties)
    torch.testing.assert_close(one.weights, several.weights, rtol=1e-5, atol=1e-6)


def test_dual_form_refuses_what_it_cannot_solve():
    x, y, _ = study()
    with pytest.raises(CortexflowError, match="too small"):
        DualRidge.fit(x * 1e6, y, 1e-9)
    with pytest.raises(CortexflowError, match="1 targets hold NaN"):
        DualRidge.fit(x, y.index_fill(1, torch.tensor([3]), torch.nan), 1.0).predict(x)


def test_progress_reaches_the_number_of_targets():
    x, y, groups = study()
    seen = []
    ridge_cv(x, y, groups, PENALTIES, block=3, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(3, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda a: a | {"groups": torch.arange(120) // 60}, "5 folds need 5 groups"),
        (lambda a: a | {"penalties": []}, "no penalty"),
        (lambda a: a | {"penalties": [1.0, 0.0]}, "must be positive"),
        (lambda a: a | {"features": a["features"].index_fill(1, torch.tensor([4]), torch.nan)}, "features hold NaN"),
        (lambda a: a | {"targets": a["targets"].index_fill(1, torch.tensor([1, 2]), torch.inf)}, "2 targets hold NaN"),
        (lambda a: a | {"folds": 1}, "at least 2 folds"),
        (lambda a: a | {"block": 0}, "block must be"),
    ],
)
def test_errors_say_what_to_do(change, words):
    x, y, groups = study()
    with pytest.raises(CortexflowError, match=words) as caught:
        ridge_cv(**change({"features": x, "targets": y, "groups": groups, "penalties": PENALTIES}))
    assert "\n" not in str(caught.value) and ";" in str(caught.value)


def test_levels_must_sum_to_the_features():
    x, y, groups = study()
    with pytest.raises(CortexflowError, match="sum to 29"):
        banded_ridge_cv(x, y, groups, [10, 19], PENALTIES)


def test_rows_must_agree():
    x, y, groups = study()
    config.update("jaxtyping_disable", True)  # users run without the checks of the tests
    try:
        for call in (lambda: ridge_cv(x[:-1], y, groups, PENALTIES), lambda: DualRidge.fit(x, y[:-1], 1.0)):
            with pytest.raises(CortexflowError, match="120.*one row per trial"):
                call()
        with pytest.raises(CortexflowError, match="119 labels for 7 targets"):
            ridge_cv(x, y, groups, PENALTIES, pool=groups[:-1])
    finally:
        config.update("jaxtyping_disable", False)
