import json
import shutil

import nibabel
import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image

from cortexflow.data.bids import Bids
from cortexflow.data.folder import Folder
from cortexflow.data.folder_writing import write_folder
from cortexflow.data.on_disk import volumes
from cortexflow.data.single_trials import answers, drifts, separate_weights
from cortexflow.data.standardize import detrend, spm_hrf
from cortexflow.errors import CortexflowError, CortexflowWarning, DamagedFileError
from cortexflow.training import Machine, open_dataset

TR, VOLUMES, GRID = 1.5, 200, (4, 3, 5)
AFFINE = np.diag([2.0, 2, 3, 1])
NAMES = tuple(f"{animal}.png" for animal in ("ant", "bee", "cat", "dog", "elk", "fox"))
INSIDE = np.zeros(GRID, dtype=np.uint8)
INSIDE[1:3, 1:] = 1
VOXELS = int(INSIDE.sum())


def convolved(onsets, durations, times):
    """Boxes convolved with the canonical response, as a plain sum over a fine grid."""
    step = 0.01
    response = np.asarray(spm_hrf(step, length=32.0), dtype=float)
    rows = []
    for onset, duration in zip(onsets, durations, strict=True):
        answer = np.convolve(np.ones(round(duration / step)), response)
        rows.append(np.interp(times - onset, np.arange(len(answer)) * step, answer, left=0, right=0))
    return np.stack(rows)


def risen(times):
    """The integral of the canonical response, in closed form."""
    integral = [scipy.stats.gamma.cdf(t, 6) - scipy.stats.gamma.cdf(t, 16) / 6 for t in (times, 32.0)]
    return integral[0] / integral[1]


def table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n")


def save(path, values, tr=TR, unit="sec"):
    image = nibabel.Nifti1Image(values, AFFINE)
    image.header.set_xyzt_units("mm", unit)
    if values.ndim == 4:
        image.header.set_zooms((2, 2, 3, tr))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


class Study:
    """A BIDS folder whose responses are known.

    Volumes are a mean per voxel, to which trials add a percentage of it, with slow drifts and head motion on top.
    """

    def __init__(self, root, spacing, sessions=("01", "02"), planted=None, noise=0.0):
        self.root, self.sessions, self.rng = root, sessions, np.random.default_rng(3)
        self.prep = root / "derivatives" / "fmriprep" / "sub-01"
        self.onsets, self.words, self.planted, self.signal = [], [], [], []
        for number, name in enumerate(NAMES):
            (root / "stimuli").mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), 40 * number, dtype=np.uint8)).save(root / "stimuli" / name)
        for run, session in enumerate(sessions):
            self.add(run, session, spacing, planted, noise)

    def add(self, run, session, spacing, planted, noise):
        onsets = np.arange(6.25, VOLUMES * TR - 32, spacing)
        durations = np.full(len(onsets), 2.0)
        words = [NAMES[i % len(NAMES)] for i in self.rng.permutation(len(onsets))]
        fine = convolved([0.0], [2.0], np.arange(0, 40, 0.01))
        percent = self.rng.normal(1, 0.5, (len(onsets), VOXELS)) if planted is None else np.tile(planted, (len(onsets), 1))
        times = np.arange(VOLUMES) * TR
        motion = np.cumsum(self.rng.normal(0, 0.1, (VOLUMES, 2)), 0)
        mean = self.rng.uniform(800, 1200, VOXELS)
        evoked = (convolved(onsets, durations, times) / fine.max()).T @ percent
        evoked -= evoked.mean(0)  # so that the mean of the run is the mean
        slow = np.cos(np.pi * np.arange(1, 4)[None] * (2 * np.arange(VOLUMES)[:, None] + 1) / (2 * VOLUMES))
        nuisance = slow @ self.rng.normal(0, 1, (3, VOXELS)) + (motion - motion.mean(0)) @ self.rng.normal(0, 1, (2, VOXELS))
        signal = mean * (1 + (evoked + nuisance + noise * self.rng.standard_normal(evoked.shape)) / 100)
        volumes = np.zeros((*GRID, VOLUMES), dtype=np.float32)
        volumes[INSIDE > 0] = signal.T
        save(self.bold(session), volumes)
        save(self.path(session, "desc-brain_mask.nii.gz"), INSIDE)
        rows = [[*row, change] for row, change in zip(motion.tolist(), ["n/a", *(3 + np.diff(motion[:, 0]))], strict=True)]
        table(self.path(session, "desc-confounds_timeseries.tsv", space=""), ["trans_x", "rot_z", "trans_x_derivative1"], rows)
        shown = [(f"{onset:.3f}", 2, word, "animal" if i % 2 else "beast") for i, (onset, word) in enumerate(zip(onsets, words, strict=True))]
        table(self.events(session), ["onset", "duration", "stim_file", "trial_type"], [*shown, (1, 3, "n/a", "fixation")])
        (self.root / "task-zoo_bold.json").write_text(json.dumps({"RepetitionTime": TR}))
        self.onsets.append(onsets)
        self.words.append(words)
        self.planted.append(percent)
        self.signal.append((signal, motion))

    def path(self, session, ending, space="space-T1w_"):
        return self.prep / f"ses-{session}/func/sub-01_ses-{session}_task-zoo_run-1_{space}{ending}"

    def bold(self, session):
        return self.path(session, "desc-preproc_bold.nii.gz")

    def events(self, session):
        return self.root / f"sub-01/ses-{session}/func/sub-01_ses-{session}_task-zoo_run-1_events.tsv"

    def open(self, **choices):
        return Bids(Bids.Config(image_size=8, confounds=("rot_z", "trans_x"), **choices), self.root)


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """Trials whose responses do not overlap."""
    return Study(tmp_path_factory.mktemp("bids") / "zoo", spacing=34)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A trial every four seconds, in noise."""
    return Study(tmp_path_factory.mktemp("bids") / "zoo", spacing=4, noise=0.5)


@pytest.fixture
def copy(apart, tmp_path):
    """The study of trials that do not overlap, to be damaged."""
    study = Study.__new__(Study)
    study.__dict__ |= apart.__dict__
    study.root = shutil.copytree(apart.root, tmp_path / "zoo")
    study.prep = study.root / "derivatives" / "fmriprep" / "sub-01"
    return study


def refused(study, message, what=lambda study: study.trials("sub-01"), **choices):
    with pytest.raises(CortexflowError, match=message) as error:
        what(study.open(**choices))
    assert "\n" not in str(error.value)


class TestEstimates:
    def test_planted_responses_are_recovered(self, apart):
        """Not to the last digit: projecting drifts out lets trials of different size touch each other."""
        responses, planted = apart.open().trials("sub-01").responses.numpy(), np.concatenate(apart.planted)
        assert np.corrcoef(responses.ravel(), planted.ravel())[0, 1] > 0.99
        assert np.polyfit(planted.ravel(), responses.ravel(), 1) == pytest.approx([1, 0], abs=0.06)
        assert np.corrcoef(responses.ravel(), planted[::-1].ravel())[0, 1] < 0.3

    def test_confounds_are_what_explains_the_rest(self, apart):
        without = Bids(Bids.Config(image_size=8), apart.root).trials("sub-01")
        assert np.abs(without.responses.numpy() - np.concatenate(apart.planted)).mean() > 0.1

    def test_the_same_response_to_every_trial_is_recovered_where_trials_overlap(self, tmp_path):
        planted = np.linspace(-1, 2, VOXELS)
        trials = Study(tmp_path / "zoo", 3, planted=planted).open().trials("sub-01")
        np.testing.assert_allclose(trials.responses.numpy(), np.tile(planted, (len(trials), 1)), atol=0.03)

    @pytest.mark.parametrize("others", ["together", "by condition"])
    def test_equals_one_regression_per_trial(self, crowded, others):
        """The definition: for each trial a design of its own, fitted by ordinary least squares."""
        names = ("rot_z", "trans_x", "trans_x_derivative1")
        responses = Bids(Bids.Config(confounds=names, others=others), crowded.root).trials("sub-01").responses.numpy()
        row = 0
        for onsets, (signal, motion) in zip(crowded.onsets, crowded.signal, strict=True):
            regressors = convolved(onsets, np.full(len(onsets), 2.0), np.arange(VOLUMES) * TR)
            peak = convolved([0.0], [2.0], np.arange(0, 40, 0.01)).max()
            change = 3 + np.diff(motion[:, 0])
            motion = np.c_[motion, np.r_[change.mean(), change]]  # the table has no change of the first volume
            slow = np.stack([np.cos(np.pi * k * (2 * np.arange(VOLUMES) + 1) / (2 * VOLUMES)) for k in range(int(2 * VOLUMES * TR / 128) + 1)], 1)
            kinds = np.arange(len(onsets)) % 2 if others == "by condition" else np.zeros(len(onsets))
            for trial in range(len(onsets)):
                rest = [regressors[(kinds == kind) & (np.arange(len(onsets)) != trial)].sum(0) for kind in np.unique(kinds)]
                design = np.c_[regressors[trial], np.stack(rest, 1), slow, motion]
                beta = np.linalg.lstsq(design, signal, rcond=None)[0][0]
                np.testing.assert_allclose(responses[row], 100 * beta / signal.mean(0) * peak, atol=0.02)
                row += 1
        assert row == len(responses)

    def test_agrees_with_nilearn(self, crowded):
        """Another's haemodynamic response is nearly this one, so that responses correlate and do not coincide."""
        first_level, pandas = pytest.importorskip("nilearn.glm.first_level"), pytest.importorskip("pandas")
        responses = crowded.open().trials("sub-01").responses.numpy()[: len(crowded.onsets[0])]
        signal, motion = crowded.signal[0]
        for trial in range(0, len(responses), 9):
            kinds = ["this" if place == trial else "others" for place in range(len(responses))]
            events = pandas.DataFrame({"onset": crowded.onsets[0], "duration": 2.0, "trial_type": kinds})
            design = first_level.make_first_level_design_matrix(
                np.arange(VOLUMES) * TR, events, hrf_model="spm", drift_model="cosine", high_pass=1 / 128, add_regs=motion, add_reg_names=["x", "z"]
            )
            labels, results = first_level.run_glm(signal, design.to_numpy(), noise_model="ols")
            theta = results[labels[0]].theta[list(design.columns).index("this")]
            assert np.corrcoef(theta / signal.mean(0), responses[trial])[0, 1] > 0.999

    def test_blocks_of_volumes_change_nothing(self, crowded, monkeypatch):
        whole = crowded.open().trials("sub-01").responses
        monkeypatch.setattr(volumes, "BLOCK", 8 * INSIDE.size * 7)
        torch.testing.assert_close(crowded.open().trials("sub-01").responses, whole, rtol=1e-4, atol=1e-5)

    def test_noise_has_the_size_that_least_squares_gives_it(self, crowded):
        """The deviation of an estimate is that of the noise times the length of its weights."""
        weights = []
        for onsets, (_, motion) in zip(crowded.onsets, crowded.signal, strict=True):
            evoked = answers(onsets, np.full(len(onsets), 2.0), VOLUMES, TR)
            nuisance = np.hstack([drifts(VOLUMES, TR, 128.0), motion])
            weights.append(np.linalg.norm(separate_weights(evoked.regressors, nuisance), axis=1) * evoked.peaks)
        rng, norm = np.random.default_rng(0), np.concatenate(weights)
        onsets = crowded.onsets[0]
        evoked = answers(onsets, np.full(len(onsets), 2.0), VOLUMES, TR)
        estimates = separate_weights(evoked.regressors, drifts(VOLUMES, TR, 128.0)) @ rng.standard_normal((VOLUMES, 4000)) * evoked.peaks[:, None]
        expected = np.linalg.norm(separate_weights(evoked.regressors, drifts(VOLUMES, TR, 128.0)), axis=1) * evoked.peaks
        np.testing.assert_allclose(estimates.std(1), expected, rtol=0.06)
        assert norm.min() > 0


class TestSingleTrials:
    def test_answers_are_boxes_convolved(self):
        onsets, durations = np.array([3.3, 10.0, 41.7]), np.array([0.5, 3.0, 20.0])
        evoked = answers(onsets, durations, 100, 1.2)
        times = np.arange(100) * 1.2 - onsets[:, None]
        np.testing.assert_allclose(evoked.regressors, risen(times) - risen(times - durations[:, None]), atol=3e-4)
        assert evoked.regressors[2].max() > 1  # a lasting stimulus overshoots its plateau of 1
        np.testing.assert_allclose(evoked.recorded, 1, atol=1e-6)

    def test_a_later_reference_moves_the_answer(self):
        onset, duration = np.array([4.0]), np.array([2.0])
        middle = answers(onset, duration, 60, 1.0, start=0.5).regressors
        np.testing.assert_allclose(middle, answers(onset - 0.5, duration, 60, 1.0).regressors, atol=1e-12)

    def test_the_share_that_was_recorded(self):
        recorded = answers(np.array([-40.0, -2.0, 50.0, 95.0, 99.9, 130.0]), np.full(6, 1.0), 100, 1.0).recorded
        assert recorded[0] == 0 and recorded[5] == 0 and recorded[2] > 0.999
        assert 0.5 < recorded[1] <= 1 and recorded[3] < 0.5 and recorded[4] < 1e-6

    def test_drifts_are_those_of_detrend(self):
        """What the drifts explain, detrend removes."""
        slow = drifts(150, 2.0, 128.0)
        series = torch.from_numpy(slow @ np.random.default_rng(0).standard_normal((slow.shape[1], 3)))
        assert float(detrend(series, torch.zeros(150, dtype=torch.long), 2.0).abs().max()) < 1e-12
        assert slow.shape[1] == 1 + int(2 * 150 * 2.0 / 128)

    def test_weights_do_not_see_nuisance(self):
        rng = np.random.default_rng(0)
        nuisance = np.hstack([drifts(120, 1.5, 128.0), rng.standard_normal((120, 5))])
        nuisance = np.hstack([nuisance, nuisance[:, -2:]])  # columns that depend on others do no harm
        evoked = answers(np.sort(rng.uniform(0, 150, 25)), np.full(25, 2.0), 120, 1.5)
        weights = separate_weights(evoked.regressors, nuisance, rng.integers(0, 3, 25))
        assert np.abs(weights @ nuisance).max() < 1e-9
        np.testing.assert_allclose((weights * evoked.regressors).sum(1), 1)

    def test_a_single_trial_is_a_regression_on_its_own(self):
        evoked = answers(np.array([10.0]), np.array([2.0]), 50, 1.5)
        weights = separate_weights(evoked.regressors, np.ones((50, 1)))
        centred = evoked.regressors - evoked.regressors.mean()
        np.testing.assert_allclose(weights, centred / (centred**2).sum())

    def test_what_cannot_be_told_apart_is_refused(self):
        twice = answers(np.array([10.0, 10.0, 40.0]), np.full(3, 2.0), 50, 1.5)
        separate_weights(twice.regressors, np.ones((50, 1)))  # twins differ from their sum with the third
        with pytest.raises(CortexflowError, match="trial 1 of 2 is made up by the other trials"):
            separate_weights(twice.regressors[:2], np.ones((50, 1)))
        with pytest.raises(CortexflowError, match="trial 1 of 1 is made up"):
            separate_weights(twice.regressors[:1], np.c_[np.ones(50), twice.regressors[0]])
        with pytest.raises(CortexflowError, match="a run of 50 volumes has 50 drifts and confounds"):
            separate_weights(twice.regressors, np.random.default_rng(0).standard_normal((50, 80)))


class TestFacts:
    def test_who_saw_what_when(self, apart):
        trials = apart.open().trials("sub-01")
        words = [word for run in apart.words for word in run]
        assert [NAMES[stimulus] for stimulus in trials.stimuli] == words
        assert trials.sessions.tolist() == [1] * len(apart.words[0]) + [2] * len(apart.words[1])
        earlier = [words[:place].count(word) for place, word in enumerate(words)]
        assert trials.repeats.tolist() == earlier
        assert torch.equal(trials.groups, trials.stimuli)
        assert "percent signal change" in trials.units

    def test_pictures_and_split(self, apart, copy):
        dataset = apart.open(share=0.34)
        assert (dataset.images(torch.tensor([3]))[0] == 120).all()
        assert len(dataset.held_out()) == 2
        (copy.root / "held_out.txt").write_text("ant\nfox.png\n")
        assert copy.open().held_out().tolist() == [0, 5]

    def test_voxels_are_brain_in_every_run(self, apart, copy):
        cortex = apart.open().cortex("sub-01")
        np.testing.assert_allclose(cortex.coordinates.numpy(), np.argwhere(INSIDE) * [2, 2, 3])
        smaller = INSIDE.copy()
        smaller[1] = 0
        save(copy.path("02", "desc-brain_mask.nii.gz"), smaller)
        assert copy.open().cortex("sub-01").voxels == smaller.sum() == copy.open().trials("sub-01").voxels

    def test_areas_and_a_mask_of_ones_own(self, copy):
        chosen, area = INSIDE.copy(), 0 * INSIDE
        chosen[:, :, 0], area[1, 1:, 1:] = 0, 1
        for name, values in (("mask", chosen), ("V1", area)):
            save(copy.root / f"areas/sub-01/{name}.nii.gz", values)
        before, cortex = Bids(root=copy.root), copy.open().cortex("sub-01")
        assert cortex.voxels == chosen.sum() and list(cortex.areas) == ["V1"]
        assert int(cortex.areas["V1"].sum()) == (chosen * area).sum()
        assert "areas/sub-01/V1.nii.gz" in before.checksums()

    def test_derivatives_alone_with_their_events(self, copy):
        """Without a raw folder: events and JSON stand beside the volumes."""
        for session in copy.sessions:
            shutil.copy(copy.events(session), copy.path(session, "events.tsv", space=""))
            copy.path(session, "desc-preproc_bold.json").write_text(json.dumps({"RepetitionTime": TR}))
        shutil.move(copy.root / "derivatives/fmriprep/sub-01", copy.root.parent / "flat/sub-01")
        shutil.move(copy.root / "stimuli", copy.root.parent / "flat/stimuli")
        flat = open_dataset({"name": "bids", "study": "flat", "image_size": 8, "confounds": ["rot_z", "trans_x"]}, Machine(data=copy.root.parent))
        assert torch.equal(flat.trials("sub-01").responses, copy_of(copy).trials("sub-01").responses)

    def test_the_middle_of_a_volume_is_taken_from_its_json(self, copy):
        before = copy.open().trials("sub-01").responses
        for session in copy.sessions:
            copy.path(session, "desc-preproc_bold.json").write_text(json.dumps({"RepetitionTime": TR, "StartTime": TR / 2}))
        assert not torch.allclose(copy.open().trials("sub-01").responses, before, atol=0.01)

    def test_words_can_be_ignored_and_columns_chosen(self, copy):
        one = copy.open(ignore=("ant.png", "bee.png")).trials("sub-01")
        assert sorted(one.stimuli.unique().tolist()) == [2, 3, 4, 5]
        refused(copy, "names 'animal', which is no picture|names 'beast', which is no picture", stimulus="trial_type")
        refused(copy, "has no column 'what'|has no column what", stimulus="what")

    def test_milliseconds_and_former_names(self, copy):
        responses = copy.open().trials("sub-01").responses
        for session in copy.sessions:
            values = np.asarray(nibabel.load(copy.bold(session)).dataobj)
            save(copy.bold(session), values, 1000 * TR, "msec")
            table_ = copy.path(session, "desc-confounds_timeseries.tsv", space="")
            table_.rename(table_.with_name(table_.name.replace("timeseries", "regressors")))
        assert torch.equal(copy.open().trials("sub-01").responses, responses)

    def test_checksums_follow_files_and_choices(self, copy):
        before = copy.open().checksums()
        assert len([name for name in before if name.endswith("bold.nii.gz")]) == 2 and "task-zoo_bold.json" in before
        assert copy.open(cutoff=90).checksums()["choices"] != before["choices"]
        assert copy.open(share=0.4).checksums() == before
        copy.events("01").write_text(copy.events("01").read_text().replace("6.250", "6.300"))
        after = copy.open().checksums()
        assert [name for name in before if before[name] != after[name]] == [copy.events("01").relative_to(copy.root).as_posix()]

    def test_estimated_once_and_kept_as_a_folder(self, apart, tmp_path):
        kept = Folder(Folder.Config(image_size=8), write_folder(tmp_path / "kept", apart.open()))
        before, after = apart.open().trials("sub-01"), kept.trials("sub-01")
        assert torch.equal(before.responses, after.responses) and torch.equal(before.stimuli, after.stimuli)
        assert torch.equal(kept.held_out(), apart.open().held_out())

    def test_check_names_every_run(self, apart):
        found = {check.file: check for check in apart.open().check()}
        assert all(check.wrong is None for check in found.values())
        assert found["sub-01_ses-02_task-zoo_run-1"].found == f"200 volumes of 1.5 s, {len(apart.onsets[1])} trials, 6 pictures"
        assert found["sub-01, voxels"].found == f"{VOXELS} in all runs; areas: none"


def copy_of(study):
    """The same files put back where they were."""
    shutil.move(study.root.parent / "flat/sub-01", study.root / "derivatives/fmriprep/sub-01")
    shutil.move(study.root.parent / "flat/stimuli", study.root / "stimuli")
    return study.open()


def rewrite(path, change):
    path.write_text(change(path.read_text()))


class TestBadInput:
    def test_repetition_times_that_disagree(self, copy):
        (copy.root / "task-zoo_bold.json").write_text(json.dumps({"RepetitionTime": 2.0}))
        refused(copy, "repetition times disagree: .*nii.gz says 1.5 s, task-zoo_bold.json says 2 s; correct the wrong one")
        assert any("disagree" in str(check.wrong) for check in copy.open().check())
        (copy.root / "task-zoo_bold.json").unlink()
        save(copy.bold("01"), np.asarray(nibabel.load(copy.bold("01")).dataobj), 0)
        refused(copy, "says no repetition time, nor does a JSON file; write RepetitionTime")

    def test_events_beyond_the_run(self, copy):
        rewrite(copy.events("01"), lambda text: text + "299\t2\tant.png\tanimal\n400\t2\tant.png\tanimal\n")
        refused(copy, "response lies outside the 300 s of the run, the one at 299 s and 1 more; check that onsets are in seconds")

    def test_events_whose_tail_is_cut_are_a_warning(self, copy):
        rewrite(copy.events("01"), lambda text: text + "292\t2\tant.png\tanimal\n")
        with pytest.warns(CortexflowWarning, match="sub-01: the response to 1 of 17 trials is cut off .*run-1 at 292 s"):
            trials = copy.open().trials("sub-01")
        assert len(trials) == len(np.concatenate(copy.onsets)) + 1
        assert any("1 trials cut off" in check.found for check in copy.open().check())

    def test_events_without_sense(self, copy):
        rewrite(copy.events("01"), lambda text: text.replace("6.250", "soon"))
        refused(copy, "line 2: onset is 'soon'; write a finite number")
        table(copy.events("01"), ["onset", "duration", "stim_file"], [(5, -1, "ant.png")])
        refused(copy, "has a duration of -1 s")
        table(copy.events("01"), ["onset", "duration", "stim_file"], [(5, 1, "n/a")])
        refused(copy, "shows no picture in its column stim_file")
        table(copy.events("01"), ["onset", "duration", "kind"], [(5, 1, "ant.png")])
        refused(copy, "has no column stim_file or stimulus or trial_type; its columns are onset, duration, kind")
        table(copy.events("01"), ["onset", "duration", "stim_file"], [(5, 1, "gnu.png")])
        refused(copy, "names 'gnu.png', which is no picture in .*stimuli")
        copy.events("01").unlink()
        refused(copy, "run-1_events.tsv does not exist")

    def test_confounds(self, copy):
        path = copy.path("01", "desc-confounds_timeseries.tsv", space="")
        with pytest.raises(CortexflowError, match="no column 'trans_y'; its columns are trans_x, rot_z, trans_x_derivative1"):
            Bids(Bids.Config(confounds=("trans_y",)), copy.root).trials("sub-01")
        rewrite(path, lambda text: "\n".join(text.splitlines()[:-1]) + "\n")
        refused(copy, "has 199 rows for 200 volumes")
        table(path, ["trans_x", "rot_z"], [("n/a", 1)] * VOLUMES)
        refused(copy, "has no values of trans_x; choose other confounds")
        path.unlink()
        refused(copy, "desc-confounds_timeseries.tsv does not exist")

    def test_several_tasks_and_spaces(self, copy):
        bold = copy.bold("01")
        shutil.copy(bold, bold.with_name(bold.name.replace("T1w", "MNI152NLin2009cAsym")))
        refused(copy, "volumes of several spaces, MNI152NLin2009cAsym, T1w; choose one with space=NAME")
        refused(copy, "no volumes of the space 'fsnative'; choose one of MNI152NLin2009cAsym, T1w", space="fsnative")
        assert len(copy.open(space="T1w").trials("sub-01")) == len(np.concatenate(copy.onsets))
        shutil.copy(bold, bold.with_name(bold.name.replace("space-T1w", "space-T1w_res-2")))
        refused(copy, "are of one run; keep one of them", space="T1w")
        shutil.copy(bold, bold.with_name(bold.name.replace("zoo", "rest")))
        refused(copy, "several tasks, rest, zoo; choose one with task=NAME", space="T1w")

    def test_files_that_are_missing_damaged_or_elsewhere(self, copy):
        mask = copy.path("02", "desc-brain_mask.nii.gz")
        image = nibabel.Nifti1Image(INSIDE, 2 * AFFINE)
        nibabel.save(image, mask)
        refused(copy, "desc-brain_mask.nii.gz lies in another space than sub-01_ses-01")
        save(mask, 1 - INSIDE)
        refused(copy, "no voxel is in all of its 2 masks")
        mask.unlink()
        refused(copy, "desc-brain_mask.nii.gz does not exist")
        save(mask, INSIDE)
        save(copy.bold("01"), np.ones((4, 3, 6, VOLUMES), dtype=np.float32))
        refused(copy, "has the grid 4 × 3 × 6 where its mask has 4 × 3 × 5")
        save(copy.bold("01"), np.ones(GRID, dtype=np.float32))
        refused(copy, "has 3 dimensions where volumes over time have 4")

    def test_a_run_that_was_cut_short_in_copying(self, copy):
        copy.bold("02").write_bytes(copy.bold("02").read_bytes()[:-2000])
        with pytest.raises(DamagedFileError, match="ses-02_task-zoo_run-1_space-T1w_desc-preproc_bold.nii.gz is damaged"):
            copy.open().trials("sub-01")
        assert [check.file for check in copy.open().check() if check.wrong is not None] == ["sub-01_ses-02_task-zoo_run-1"]

    def test_demeaned_volumes(self, copy):
        values = np.asarray(nibabel.load(copy.bold("01")).dataobj)
        save(copy.bold("01"), values - values.mean(-1, keepdims=True) - 0.1)
        refused(copy, "has a mean of 0 or less in most voxels; use volumes that were not demeaned")

    def test_dead_voxels_are_told(self, copy):
        values = np.asarray(nibabel.load(copy.bold("01")).dataobj).copy()
        values[1, 1, 1], values[2, 2, 2] = 0, np.nan
        save(copy.bold("01"), values)
        flaw = next(check.wrong for check in copy.open().check() if check.wrong is not None)
        assert f"2 of {VOXELS} voxels of the mask are constant or not finite" in flaw
        assert int((~torch.isfinite(copy.open().trials("sub-01").responses).all(0)).sum()) == 2

    def test_a_run_without_volumes_is_not_left_out_in_silence(self, copy):
        copy.bold("02").unlink()
        with pytest.warns(CortexflowWarning, match="sub-01: 1 runs have events and no preprocessed volumes, the first sub-01_ses-02_task-zoo_run-1"):
            assert len(copy.open().trials("sub-01")) == len(copy.onsets[0])

    def test_a_changed_bit_of_compressed_volumes(self, copy):
        text = bytearray(copy.bold("01").read_bytes())
        text[-7] ^= 1  # of the checksum, which the values do not reach
        copy.bold("01").write_bytes(bytes(text))
        refused(copy, "desc-preproc_bold.nii.gz is damaged or not of its type")

    def test_too_many_drifts(self, copy):
        refused(copy, "sub-01_ses-01_task-zoo_run-1: a run of 200 volumes has .* drifts and confounds", cutoff=2.0)

    def test_no_study(self, tmp_path):
        with pytest.raises(CortexflowError, match="bids needs the folder of its files; name .* with --data, and theirs with study=NAME"):
            Bids().trials("sub-01")
        with pytest.raises(CortexflowError, match=r"has no sub-\*/func/\*_desc-preproc_bold.nii.gz; check --data"):
            Bids(root=tmp_path).trials("sub-01")
