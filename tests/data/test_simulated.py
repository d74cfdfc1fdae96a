"""The simulated cortex: what was planted is found again, by statistics that know nothing of how it was planted."""

import itertools
from functools import cache

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch
from pydantic import ValidationError

from cortexflow import catalog
from cortexflow.data.simulated import Simulated
from cortexflow.data.simulation.drives import KINDS, Tuning, drives
from cortexflow.data.simulation.pictures import CATEGORIES, render, scene
from cortexflow.errors import CortexflowError, CortexflowWarning
from cortexflow.storage import save_tensors

SMALL = {"images": 120, "held_out": 24, "voxels": 120, "image_size": 32, "repeats": 12, "subjects": 2}
HARD = ("image_covariance", "student", "autoregressive", "area_gain", "drift")


@cache
def simulated(setting="calibrated", **choices):
    return Simulated(Simulated.Config(setting=setting, **(SMALL | choices)))


def noise(study, subject="subj01"):
    """What is left of the trials when the truth is taken away, in double precision."""
    trials = study.trials(subject)
    expected = study.signal(subject, trials.stimuli) + study.session_offsets(subject)[trials.sessions - 1]
    return (trials.responses - expected).double().numpy()


def white(study, values, covariance=None):
    covariance = study.noise_covariance("subj01") if covariance is None else covariance
    return np.linalg.solve(np.linalg.cholesky(covariance.double().numpy()), values.T).T


def leading(study, count=8):
    """Noise along the directions of largest variance, variance 1."""
    values, vectors = np.linalg.eigh(study.noise_covariance("subj01").double().numpy())
    return noise(study) @ vectors[:, -count:] / np.sqrt(values[-count:])


def within_sessions(study, lag):
    """Correlation of the noise with the noise some trials before, within a session, mean over leading directions."""
    values, sessions = leading(study), study.trials("subj01").sessions.numpy()
    same = sessions[lag:] == sessions[:-lag]
    return np.mean([np.corrcoef(column[lag:][same], column[:-lag][same])[0, 1] for column in values.T])


# The contract


def test_every_picture_is_shown_as_often_as_it_says_to_all_subjects():
    study = simulated()
    for subject in study.subjects:
        trials = study.trials(subject)
        assert torch.equal(torch.bincount(trials.stimuli), torch.full((120,), 12))
        assert torch.equal(trials.seen, torch.arange(120))
    assert not torch.equal(study.trials("subj01").stimuli, study.trials("subj02").stimuli)  # each in its own order


def test_repeats_count_up_in_the_order_of_recording():
    trials = simulated().trials("subj01")
    assert torch.all(trials.sessions.diff() >= 0)
    for stimulus in (0, 17, 119):
        assert trials.repeats[trials.stimuli == stimulus].tolist() == list(range(12))


def test_repeats_fall_into_different_sessions_while_there_are_enough():
    trials = Simulated(Simulated.Config(**(SMALL | {"repeats": 3, "sessions": 4}))).trials("subj01")
    assert trials.sessions.unique().tolist() == [1, 2, 3, 4]
    for stimulus in range(120):
        assert len(trials.sessions[trials.stimuli == stimulus].unique()) == 3


def test_areas_follow_the_hierarchy_and_cover_the_cortex_once():
    cortex = simulated().cortex("subj01")
    assert list(cortex.areas) == ["V1", "V2", "hV4", "IT"]
    assert [int(mask.sum()) for mask in cortex.areas.values()] == [40, 32, 24, 24]
    assert torch.equal(torch.stack(list(cortex.areas.values())).sum(dim=0), torch.ones(120, dtype=torch.int64))
    assert cortex.ncsnr is None  # must be estimated, from training trials


def test_same_seed_same_bits_in_another_instance():
    first, second = (Simulated(Simulated.Config(**SMALL)) for _ in range(2))
    assert torch.equal(first.trials("subj02").responses, second.trials("subj02").responses)
    assert torch.equal(first.noise_covariance("subj02"), second.noise_covariance("subj02"))
    assert first.checksums() == second.checksums()


def test_number_of_threads_leaves_the_bits_alone():
    responses = simulated().trials("subj01").responses
    torch.set_num_threads(2)
    try:
        assert torch.equal(Simulated(Simulated.Config(**SMALL)).trials("subj01").responses, responses)
    finally:
        torch.set_num_threads(1)


def test_the_seed_decides_on_everything():
    first, second = simulated(), Simulated(Simulated.Config(**SMALL, seed=1))
    ids = torch.arange(3)
    assert not torch.equal(first.images(ids), second.images(ids))
    assert not torch.equal(first.trials("subj01").stimuli, second.trials("subj01").stimuli)
    assert first.checksums() != second.checksums()


def test_another_noise_leaves_pictures_cortex_and_order_as_they_were():
    first, second = simulated("gaussian"), simulated("student")
    assert torch.equal(first.prf("subj01"), second.prf("subj01"))
    assert torch.equal(first.signal("subj01", torch.arange(9)), second.signal("subj01", torch.arange(9)))
    assert torch.equal(first.trials("subj01").stimuli, second.trials("subj01").stimuli)


# Pictures


def test_a_picture_follows_from_its_id_alone():
    asked = torch.tensor([7, 3, 7])
    fresh = Simulated(Simulated.Config(**SMALL)).images(asked)
    assert torch.equal(fresh, simulated().images(torch.arange(120))[asked])
    simulated().trials("subj01")  # the whole study is rendered now
    assert torch.equal(fresh, simulated().images(asked))
    assert torch.equal(fresh, simulated(images=100).images(asked))


def test_no_held_out_picture_is_a_training_picture():
    study = simulated()
    pictures = study.images(torch.arange(120)).reshape(120, -1).float()
    held_out = torch.isin(torch.arange(120), study.held_out())
    assert held_out.sum() == 24
    distance = torch.cdist(pictures[held_out], pictures[~held_out]) / pictures.shape[1] ** 0.5
    assert distance.min() > 10  # of 255 grey levels, root mean square


def test_pictures_differ_in_everything_that_drives_voxels():
    scenes = [scene(0, stimulus) for stimulus in range(300)]
    things = [thing for content in scenes for thing in content.things]
    assert {thing.category for thing in things} == set(range(len(CATEGORIES)))
    assert {len(content.things) for content in scenes} == {1, 2, 3, 4}
    pictures = np.stack([render(content, 32) for content in scenes[:100]]).reshape(100, -1).astype(float)
    assert pictures.mean(axis=1).std() > 15 and np.quantile(pictures.std(axis=1), 0.1) > 15


@pytest.mark.parametrize("asked", [[-1], [0, 120]])
def test_a_stimulus_of_no_picture_is_an_error(asked):
    with pytest.raises(CortexflowError, match="stimuli are 0 to 119"):
        simulated().images(torch.tensor(asked))


# The signal


def test_ncsnr_has_the_median_that_was_asked_and_a_broad_spread():
    ratios = simulated(voxels=600, repeats=1).true_ncsnr("subj01")
    assert 0.38 < ratios.median() < 0.42
    assert ratios.quantile(0.9) > 3 * ratios.quantile(0.1)
    assert 0.01 < (ratios < 0.1).float().mean() < 0.15


@pytest.mark.parametrize("setting", ["calibrated", "rich", "gaussian", "drift"])
def test_ncsnr_estimated_from_trials_is_the_true_one(setting):
    study = simulated(setting)
    trials = study.trials("subj01")
    responses = trials.responses.clone()
    for session in trials.sessions.unique():
        rows = trials.sessions == session
        responses[rows] = (responses[rows] - responses[rows].mean(dim=0)) / responses[rows].std(dim=0)
    within = torch.stack([responses[trials.stimuli == stimulus].var(dim=0) for stimulus in range(120)]).mean(dim=0)
    estimate = (1 - within).clamp(min=0).sqrt() / within.sqrt()
    truth = study.true_ncsnr("subj01")
    assert abs(estimate.median() - truth.median()) < 0.06
    assert np.corrcoef(estimate, truth)[0, 1] > 0.9


def test_the_share_that_no_picture_shows_is_as_planted():
    for share in (0.25, 0.5):
        study = simulated(unexplained=share)
        ids = torch.arange(120)
        found = study.unseen("subj01", ids).var(dim=0) / study.signal("subj01", ids).var(dim=0)
        assert abs(found.mean() - share) < 0.02 and found.min() > share - 0.1


def test_less_than_a_fifth_unseen_is_refused():
    with pytest.raises(ValidationError, match="unexplained"):
        Simulated.Config(unexplained=0.1)


def test_pixels_predict_what_is_seen_and_nothing_of_what_is_not():
    study = simulated(images=350, held_out=70, repeats=1)
    ids, held = torch.arange(350), study.held_out()
    pixels = study.images(ids).float().reshape(350, 3, 8, 4, 8, 4).mean(dim=(3, 5)).flatten(1)
    contrast = study.images(ids).float().mean(dim=1).reshape(350, 8, 4, 8, 4).std(dim=(2, 4)).flatten(1)
    features = torch.cat([pixels, contrast], dim=1)
    features = (features - features.mean(dim=0)) / features.std(dim=0)
    unseen = study.unseen("subj01", ids)
    gram = features[70:].T @ features[70:] + 300 * torch.eye(features.shape[1])
    for target, low, high in ((study.signal("subj01", ids) - unseen, 0.3, 1), (unseen, -0.2, 0.2)):
        centred = target - target[70:].mean(dim=0)
        predicted = features[held] @ torch.linalg.solve(gram, features[70:].T @ centred[70:])
        score = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, target[held].T, strict=True)])
        assert low < score < high


def test_early_areas_follow_contrast_and_late_ones_categories():
    study = simulated(images=350, held_out=70, repeats=1)
    cortex, ids = study.cortex("subj01"), torch.arange(350)
    seen = (study.signal("subj01", ids) - study.unseen("subj01", ids)).double().numpy()
    amounts = np.array([[sum(t.size for t in scene(0, i).things if t.category == c) for c in range(10)] for i in range(350)])
    fitted = amounts @ np.linalg.lstsq(amounts - amounts.mean(0), seen - seen.mean(0), rcond=None)[0]
    shares = fitted.var(axis=0) / seen.var(axis=0)
    means = [shares[mask.numpy()].mean() for mask in cortex.areas.values()]
    assert means[0] < 0.2 and means[3] > means[2] > means[0] and means[3] > 0.35


def _tuning(orientation, x=0.5, weights=(1, 0, 0, 0, 0, 0, 0)):
    count = len(orientation)
    fields = np.stack([np.full(count, x), np.full(count, 0.5), np.full(count, 0.08)], axis=1)
    ones = np.ones(count)
    mixture = np.tile(np.array(weights, dtype=float), (count, 1))
    return Tuning(fields, np.array(orientation), np.full(count, 1), ones, np.ones((count, len(CATEGORIES))), mixture)


def _gratings(angles, size=64, cycles=6, half=None):
    y, x = np.meshgrid(*2 * [(np.arange(size) + 0.5) / size], indexing="ij")
    waves = [np.sin(2 * np.pi * cycles * (np.cos(a) * x + np.sin(a) * y)) for a in angles]
    if half == "left":
        waves = [wave * (x < 0.45) for wave in waves]
    return np.repeat(np.stack([np.round(127.5 + 100 * wave) for wave in waves])[:, None], 3, axis=1).astype(np.uint8)


def test_a_voxel_prefers_gratings_of_its_own_orientation():
    angles = np.deg2rad(np.arange(0, 180, 15))
    scenes = [scene(0, 0)] * len(angles)
    seen, _ = drives(_gratings(angles), scenes, _tuning(list(angles)))
    assert len(KINDS) == 7
    assert np.array_equal(seen.argmax(axis=0), np.arange(len(angles)))


def test_a_voxel_sees_only_its_receptive_field():
    pictures = np.concatenate([_gratings([0.0]), _gratings([0.0], half="left"), np.full((1, 3, 64, 64), 127, dtype=np.uint8)])
    seen, _ = drives(pictures, [scene(0, 0)] * 3, _tuning([0.0], x=0.15))
    assert abs(seen[0, 0] - seen[1, 0]) < 0.1 * abs(seen[0, 0] - seen[2, 0])
    seen, _ = drives(pictures, [scene(0, 0)] * 3, _tuning([0.0], x=0.85))
    assert abs(seen[2, 0] - seen[1, 0]) < 0.1 * abs(seen[0, 0] - seen[2, 0])


def test_neighbours_on_the_cortex_see_neighbouring_places():
    study = simulated(voxels=600, repeats=1)
    cortex, prf = study.cortex("subj01"), study.prf("subj01").numpy()
    rng = np.random.default_rng(0)
    for mask in cortex.areas.values():
        flat, fields = cortex.flat[mask].numpy(), prf[mask.numpy()]
        nearest = scipy.spatial.cKDTree(flat).query(flat, k=2)[1][:, 1]
        for axis in (0, 1):
            assert np.corrcoef(fields[:, axis], fields[nearest, axis])[0, 1] > 0.7
            assert abs(np.corrcoef(fields[:, axis], fields[rng.permutation(len(fields)), axis])[0, 1]) < 0.35
    left = cortex.flat[:, 0] < 0
    assert np.all(prf[left.numpy(), 0] > 0.47) and np.all(prf[~left.numpy(), 0] < 0.53)  # each side sees the other half


def test_receptive_fields_grow_with_eccentricity_and_along_the_hierarchy():
    study = simulated(voxels=600, repeats=1)
    prf = study.prf("subj01")
    eccentricity, areas = torch.hypot(prf[:, 0] - 0.5, prf[:, 1] - 0.5), study.cortex("subj01").areas
    medians = [prf[mask, 2].median().item() for mask in areas.values()]
    assert medians == sorted(medians)
    for mask in areas.values():
        assert np.corrcoef(eccentricity[mask], prf[mask, 2])[0, 1] > 0.6


def test_the_folded_sheet_is_not_stretched():
    cortex = simulated(voxels=600, repeats=1).cortex("subj01")
    for side in (cortex.flat[:, 0] < 0, cortex.flat[:, 0] > 0):
        pairs = scipy.spatial.cKDTree(cortex.flat[side].numpy()).query_pairs(2.5, output_type="ndarray")
        flat, folded = (torch.linalg.norm(at[side][pairs[:, 0]] - at[side][pairs[:, 1]], dim=1) for at in (cortex.flat, cortex.coordinates))
        assert torch.all(folded <= flat * 1.001) and (folded / flat).min() > 0.93
    assert (cortex.coordinates[:, 0] < 0).sum() == 300


def test_a_constant_pattern_scores_high_across_voxels():
    trials = simulated(voxels=600, repeats=1).trials("subj01")
    pattern = trials.responses.mean(dim=0)
    scores = [np.corrcoef(pattern, row)[0, 1] for row in trials.responses[:50]]
    assert 0.5 < np.mean(scores) < 0.8


# The noise


@pytest.mark.parametrize("setting", ["calibrated", "rich", "gaussian", "image_covariance", "student", "autoregressive", "area_gain"])
def test_noise_over_many_repeats_has_the_covariance_it_says(setting):
    study = simulated(setting, images=60, held_out=10, voxels=60, repeats=160, sessions=8)
    whitened = white(study, noise(study))
    found = whitened.T @ whitened / len(whitened)
    away = found - np.eye(60)
    assert abs(np.diag(away).mean()) < 0.04
    # With n Gaussian trials an entry errs by 1 / sqrt(n); trial-wise scale, gain and memory make it up to twice that.
    assert np.sqrt((away**2).mean()) < 2.2 / np.sqrt(len(whitened))


def test_drift_adds_the_variance_it_says():
    study = simulated("drift", images=60, held_out=10, voxels=60, repeats=160, sessions=80)
    found, truth = np.cov(noise(study).T), study.noise_covariance("subj01").numpy()
    off = ~np.eye(60, dtype=bool)
    assert np.corrcoef(found[off], truth[off])[0, 1] > 0.97 and abs(np.trace(found) / np.trace(truth) - 1) < 0.05


def test_areas_next_to_each_other_share_noise():
    study = simulated("gaussian", voxels=600, repeats=6)
    covariance = study.noise_covariance("subj01").numpy()
    deviation = np.sqrt(covariance.diagonal())
    correlation = covariance / deviation / deviation[:, None]
    areas = [mask.numpy() for mask in study.cortex("subj01").areas.values()]
    near = np.mean([(correlation[np.ix_(a, b)] ** 2).mean() for a, b in itertools.pairwise(areas)])
    far = (correlation[np.ix_(areas[0], areas[3])] ** 2).mean()
    assert near > 1.3 * far and far > 1e-3


@pytest.mark.parametrize(
    ("setting", "low", "high"), [("calibrated", 0.09, 0.12), ("rich", 0.3, 0.4), ("gaussian", 0.027, 0.031)]
)  # .029 is the deviation of the log of a chi variable with 600 degrees of freedom
def test_log_radius_deviates_as_stated(setting, low, high):
    assert low < simulated(setting, voxels=600, repeats=6).log_radius_deviation("subj01") < high


def test_the_oracle_is_the_multivariate_normal():
    study = simulated("gaussian", voxels=30)
    trials = study.trials("subj01")
    mean = (study.signal("subj01", trials.stimuli) + study.session_offsets("subj01")[trials.sessions - 1]).double()
    normal = scipy.stats.multivariate_normal(np.zeros(30), study.noise_covariance("subj01").double().numpy())
    expected = normal.logpdf((trials.responses.double() - mean).numpy())
    found = study.log_prob("subj01", trials.stimuli, trials.responses, trials.sessions)
    assert np.allclose(found, expected, atol=1e-3)
    assert abs(found.mean() + normal.entropy()) < 0.4  # the mean log density is minus the entropy
    assert study.log_prob("subj01", trials.stimuli, trials.responses).mean() < found.mean()


def test_the_oracle_is_refused_where_no_density_is_known():
    with pytest.raises(CortexflowError, match="choose gaussian"):
        simulated("rich").log_prob("subj01", torch.tensor([0]), torch.zeros(1, 120))


# The hard families, each by a statistic that finds it and finds nothing in Gaussian noise


def test_autoregressive_noise_remembers_the_trial_before():
    assert 0.42 < within_sessions(simulated("autoregressive"), 1) < 0.58
    assert abs(within_sessions(simulated("autoregressive"), 8)) < 0.06
    assert abs(within_sessions(simulated("gaussian"), 1)) < 0.04


def test_drift_is_slow():
    assert within_sessions(simulated("drift"), 8) > 0.1
    assert abs(within_sessions(simulated("gaussian"), 8)) < 0.04


def test_student_voxels_have_heavy_tails():
    kurtosis = {
        setting: np.median(scipy.stats.kurtosis(white(study, noise(study)))) for setting in ("student", "gaussian") for study in [simulated(setting)]
    }
    assert kurtosis["student"] > 1 and abs(kurtosis["gaussian"]) < 0.15


def test_noise_covariance_depends_on_the_image():
    def reliability(study):
        """Does the noise energy of an image's first repeats predict that of the others?"""
        trials, energy = study.trials("subj01"), leading(study) ** 2
        halves = [
            np.stack([energy[((trials.stimuli == i) & (trials.repeats % 2 == half)).numpy()].mean(axis=0) for i in range(120)]) for half in (0, 1)
        ]
        return np.mean([scipy.stats.spearmanr(a, b)[0] for a, b in zip(*(half.T for half in halves), strict=True)])

    assert reliability(simulated("image_covariance", repeats=24)) > 0.2
    assert abs(reliability(simulated("gaussian", repeats=24))) < 0.08


def _gains(study):
    """Noise of each area along the signal of its trial, in units that are normal without any gain, and its squared length."""
    reference = simulated("gaussian").noise_covariance("subj01").double().numpy()
    trials, residual = study.trials("subj01"), noise(study)
    everything = study.signal("subj01", torch.arange(120)).double().numpy()
    signal = (everything - everything.mean(axis=0))[trials.stimuli.numpy()]
    along = []
    for mask in study.cortex("subj01").areas.values():
        weights = np.linalg.solve(reference[np.ix_(mask, mask)], signal[:, mask].T).T
        along.append((weights * residual[:, mask]).sum(axis=1) / np.sqrt((weights * signal[:, mask]).sum(axis=1)))
    return np.stack(along)


def test_each_area_has_a_gain_of_its_own():
    own, shared, none = (_gains(simulated(setting)) for setting in ("area_gain", "rich", "gaussian"))
    assert np.all(own.var(axis=1) > 1.3) and np.all(np.abs(none.var(axis=1) - 1) < 0.15)
    excess = [np.corrcoef(gains)[~np.eye(4, dtype=bool)].mean() - np.corrcoef(none)[~np.eye(4, dtype=bool)].mean() for gains in (own, shared)]
    assert abs(excess[0]) < 0.05 < 0.15 < excess[1]


@pytest.mark.parametrize("setting", HARD)
def test_hard_families_keep_the_signal_to_noise_ratio(setting):
    assert 0.36 < simulated(setting).true_ncsnr("subj01").median() < 0.44
    assert torch.isfinite(simulated(setting).trials("subj01").responses).all()


# Residuals of a real recording


def _recording():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(90, 150, generator=generator) @ torch.randn(150, 150, generator=generator) + 3


def test_resampled_noise_is_made_of_recorded_rows():
    study = Simulated(Simulated.Config(setting="resampled", **SMALL), residuals=_recording())
    found = noise(study) / np.sqrt(study.noise_covariance("subj01").double().numpy().diagonal())
    twins = (scipy.spatial.distance.cdist(found, found) < 0.01).sum(axis=1)
    assert round((1 / twins).sum()) == 90  # distinct rows
    centred = ((_recording() - _recording().mean(dim=0)) / _recording().std(dim=0, correction=0)).double().numpy()
    where = np.abs(found[0, 0] - centred).min(axis=0).argmin()
    row = np.abs(found[0, 0] - centred[:, where]).argmin()
    matches = np.abs(found[0][:, None] - centred[row][None]).min(axis=1)
    assert matches.max() < 1e-3  # the first trial is one recorded trial, voxel for voxel


def test_resampled_covariance_is_that_of_the_recording():
    study = Simulated(Simulated.Config(setting="resampled", **(SMALL | {"voxels": 30, "repeats": 60})), residuals=_recording())
    assert np.allclose(np.cov(white(study, noise(study)).T), np.eye(30), atol=0.08)
    assert study.log_radius_deviation("subj01") > 0
    assert np.isnan(Simulated(Simulated.Config(setting="resampled", **SMALL), residuals=_recording()).log_radius_deviation("subj01"))


def test_residuals_come_from_a_tensor_a_file_or_a_folder(tmp_path):
    config = Simulated.Config(setting="resampled", **SMALL)
    np.save(tmp_path / "residuals.npy", _recording().numpy())
    save_tensors(tmp_path / "run.safetensors", {"residuals": _recording()})
    direct = Simulated(config, residuals=_recording())
    for root in (tmp_path, tmp_path / "residuals.npy", tmp_path / "run.safetensors"):
        study = Simulated(config, root)
        assert torch.equal(study.trials("subj01").responses, direct.trials("subj01").responses)
        assert study.checksums() == direct.checksums()
    assert Simulated(config, residuals=_recording() + torch.randn(90, 150)).checksums() != direct.checksums()


def test_damaged_residuals_are_told(tmp_path):
    config = Simulated.Config(setting="resampled", **SMALL)
    values = _recording().numpy()
    for text in (b"", b"no numbers", values.tobytes()[:500]):
        (tmp_path / "residuals.npy").write_bytes(text)
        with pytest.raises(CortexflowError, match="residuals.npy is damaged"):
            Simulated(config, tmp_path)
    np.save(tmp_path / "residuals.npy", values.astype(complex))
    with pytest.raises(CortexflowError, match="holds complex128, residuals are real numbers"):
        Simulated(config, tmp_path)
    values[3, 7] = np.nan
    np.save(tmp_path / "residuals.npy", values)
    with pytest.warns(CortexflowWarning, match="1 of 150 voxels of the residuals are not finite"):
        assert not Simulated(config, tmp_path).trials("subj01").responses.isnan().any()


def test_missing_or_unfit_residuals_are_an_error(tmp_path):
    config = Simulated.Config(setting="resampled", **SMALL)
    for root in (None, tmp_path, tmp_path / "absent.npy"):
        with pytest.raises(CortexflowError, match="give root or residuals"):
            Simulated(config, root)
    with pytest.raises(CortexflowError, match="set voxels to 50 or fewer"):
        Simulated(config, residuals=_recording()[:, :50])
    constant = _recording()
    constant[:, 100:] = 1
    with pytest.raises(CortexflowError, match="set voxels to 100 or fewer"):
        Simulated(config, residuals=constant)
    with pytest.raises(CortexflowError, match="at least 2 trials"):
        Simulated(config, residuals=_recording()[:1])


# The catalogue


def test_the_catalogue_finds_it_and_explains_a_bad_choice():
    assert "simulated" in catalog.names("data")
    entry, config = catalog.configure("data", {"name": "simulated", "setting": "rich", "voxels": 40})
    assert entry is Simulated and config.voxels == 40
    for wrong in ({"setting": "loud"}, {"voxel": 40}, {"held_out": 1149}, {"image_size": 30}):
        with pytest.raises(CortexflowError, match="options are setting"):
            catalog.configure("data", {"name": "simulated", **wrong})


def test_an_unknown_subject_is_an_error():
    with pytest.raises(CortexflowError, match="choose one of subj01, subj02"):
        simulated().trials("subj03")
