import numpy as np
import pytest
import scipy.signal
import scipy.sparse
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cortexflow.data import standardize
from cortexflow.data.base import Exposure, Trials
from cortexflow.data.standardize import (
    average_repeats,
    check_responses,
    convolve_hrf,
    detrend,
    hrf_exposure,
    lagged_windows,
    repeat_counts,
    spm_hrf,
    usable_voxels,
    zscore_sessions,
)
from cortexflow.errors import CortexflowError


def make_trials(count=40, voxels=7, sessions=3, seed=0, stimuli=None, **parts):
    draw = np.random.default_rng(seed)
    session = torch.arange(count) % sessions
    gain = 1 + session[:, None].numpy()
    responses = torch.from_numpy(draw.normal(size=(count, voxels)) * gain + 10 * gain).float()
    stimuli = torch.from_numpy(draw.integers(0, 12, count)) if stimuli is None else stimuli
    return Trials("subj01", stimuli, session, torch.zeros_like(stimuli), responses, "percent signal change", **parts)


def with_responses(trials, responses):
    return Trials(trials.subject, trials.stimuli, trials.sessions, trials.repeats, responses, trials.units)


class TestZscoreSessions:
    def test_equals_scipy_within_every_session(self):
        trials = make_trials()
        scored = zscore_sessions(trials)
        for session in range(3):
            rows = trials.sessions == session
            expected = scipy.stats.zscore(trials.responses[rows].double().numpy())
            np.testing.assert_allclose(scored.responses[rows].numpy(), expected, atol=1e-5)
        assert scored.units == "z-scored within session, statistics of all trials"

    def test_training_statistics_do_not_depend_on_test_trials(self):
        trials = make_trials()
        train = torch.arange(40) < 30
        changed = trials.responses.clone()
        changed[~train] = changed[~train] * 5 + 100
        first = zscore_sessions(trials, train)
        second = zscore_sessions(with_responses(trials, changed), train)
        assert torch.equal(first.responses[train], second.responses[train])
        assert first.units == "z-scored within session, statistics of training trials"
        for session in range(3):
            rows = train & (trials.sessions == session)
            np.testing.assert_allclose(first.responses[rows].mean(0), 0, atol=1e-5)
            np.testing.assert_allclose(first.responses[rows].std(0, correction=0), 1, atol=1e-5)

    def test_number_by_hand(self):
        trials = Trials("s", torch.arange(3), torch.zeros(3).long(), torch.zeros(3).long(), torch.tensor([[1.0], [3.0], [9.0]]), "a")
        scored = zscore_sessions(trials, torch.tensor([True, True, False]))
        assert scored.responses[:, 0].tolist() == [-1, 1, 7]

    def test_a_gain_or_offset_of_a_session_changes_nothing(self):
        trials = make_trials()
        scale = torch.tensor([2.0, 0.5, 30.0])[trials.sessions][:, None]
        louder = with_responses(trials, trials.responses * scale + scale)
        torch.testing.assert_close(zscore_sessions(louder).responses, zscore_sessions(trials).responses, atol=1e-4, rtol=1e-4)

    def test_blocks_of_voxels_do_not_show(self, monkeypatch):
        trials = make_trials()
        whole = zscore_sessions(trials).responses
        monkeypatch.setattr(standardize, "BLOCK", 3)
        assert torch.equal(zscore_sessions(trials).responses, whole)

    def test_a_large_offset_costs_no_precision(self):
        trials = make_trials()
        raised = with_responses(trials, (trials.responses * 4).round() + 16384)
        plain = with_responses(trials, (trials.responses * 4).round())
        torch.testing.assert_close(zscore_sessions(raised).responses, zscore_sessions(plain).responses)

    def test_the_given_trials_stay_as_they_were(self):
        trials = make_trials()
        before = trials.responses.clone()
        zscore_sessions(trials)
        assert torch.equal(trials.responses, before)

    def test_session_without_statistics_is_named(self):
        trials = make_trials()
        train = (trials.sessions != 2) | (torch.arange(40) == 2)
        with pytest.raises(CortexflowError, match=r"session 2 has 1 trial .*trials.sessions != 2"):
            zscore_sessions(trials, train)

    def test_statistics_of_another_length(self):
        with pytest.raises(CortexflowError, match="39 entries for 40 trials"):
            zscore_sessions(make_trials(), torch.ones(39, dtype=torch.bool))

    def test_constant_voxel_is_counted_and_the_remedy_works(self):
        trials = make_trials()
        trials.responses[trials.sessions == 1, 3] = 4.0
        trials.responses[0, 5] = float("nan")
        trials.responses[7, 6] = float("inf")
        with pytest.raises(CortexflowError, match=r"of 7 voxels 2 have responses that are not finite and 1 are constant .*usable_voxels\(trials\)"):
            zscore_sessions(trials)
        usable = usable_voxels(trials)
        assert usable.tolist() == [True, True, True, False, True, False, False]
        assert torch.isfinite(zscore_sessions(trials.only(usable)).responses).all()

    def test_voxel_constant_in_training_trials_only(self):
        trials = make_trials()
        train = torch.arange(40) < 30
        trials.responses[train, 2] = 1.0
        check_responses(trials)
        with pytest.raises(CortexflowError, match="1 are constant within a session; drop them"):
            zscore_sessions(trials, train)
        assert usable_voxels(trials, train).tolist() == [True, True, False, True, True, True, True]

    def test_check_accepts_good_responses(self):
        assert check_responses(make_trials()) is None


class TestAverageRepeats:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 5))
    def test_equals_a_loop_over_stimuli(self, stimuli, seed):
        trials = make_trials(len(stimuli), 5, 2, seed, torch.tensor(stimuli))
        averaged = average_repeats(trials)
        assert averaged.stimuli.tolist() == sorted(set(stimuli))
        for row, stimulus in enumerate(averaged.stimuli.tolist()):
            expected = trials.responses[trials.stimuli == stimulus].double().mean(0)
            np.testing.assert_allclose(averaged.responses[row], expected, rtol=1e-6)
        assert repeat_counts(trials).tolist() == [stimuli.count(stimulus) for stimulus in sorted(set(stimuli))]
        assert averaged.sessions.eq(-1).all() and averaged.repeats.eq(0).all()

    def test_order_of_trials_does_not_matter(self):
        trials = make_trials()
        order = torch.randperm(40)
        shuffled = Trials("subj01", trials.stimuli[order], trials.sessions[order], trials.repeats[order], trials.responses[order], "a")
        torch.testing.assert_close(average_repeats(shuffled).responses, average_repeats(trials).responses)

    def test_blocks_of_voxels_do_not_show(self, monkeypatch):
        whole = average_repeats(make_trials()).responses
        monkeypatch.setattr(standardize, "BLOCK", 2)
        assert torch.equal(average_repeats(make_trials()).responses, whole)

    def test_groups_survive_where_a_stimulus_has_one(self):
        stimuli = torch.tensor([4, 2, 4, 2, 9])
        grouped = make_trials(5, stimuli=stimuli, groups=torch.tensor([1, 0, 1, 0, 1]))
        assert average_repeats(grouped).groups.tolist() == [0, 1, 1]
        mixed = make_trials(5, stimuli=stimuli, groups=torch.arange(5))
        assert average_repeats(mixed).groups.tolist() == [2, 4, 9]

    def test_units_say_so(self):
        assert average_repeats(make_trials()).units == "percent signal change, mean over repeats"

    @pytest.mark.parametrize("function", [average_repeats, repeat_counts])
    def test_a_time_series_is_refused(self, function):
        exposure = Exposure(torch.arange(3), scipy.sparse.csr_array(np.ones((40, 3))))
        with pytest.raises(CortexflowError, match="no repeats to average"):
            function(make_trials(exposure=exposure))


def drifting(volumes=120, voxels=6, seed=0):
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.normal(size=(volumes, voxels)).cumsum(0) + 500).float()


class TestDetrend:
    def test_linear_equals_scipy_in_every_run(self):
        series, runs = drifting(), torch.arange(120) // 40
        ours = detrend(series, runs, 2.0, "linear")
        for run in range(3):
            expected = scipy.signal.detrend(series[runs == run].double().numpy(), axis=0)
            np.testing.assert_allclose(ours[runs == run], expected, atol=1e-3)

    @pytest.mark.parametrize("tr", [1.317025, 2.5])
    def test_cosines_are_those_of_nilearn(self, tr):
        nilearn = pytest.importorskip("nilearn.glm.first_level")
        series = drifting()
        design = nilearn.make_first_level_design_matrix(np.arange(120) * tr, drift_model="cosine", high_pass=1 / 100)
        drifts = design.to_numpy()
        expected = series.double().numpy() - drifts @ np.linalg.lstsq(drifts, series.double().numpy(), rcond=None)[0]
        ours = detrend(series, torch.zeros(120).long(), tr, "cosine", 100.0)
        np.testing.assert_allclose(ours, expected, atol=1e-3)

    @pytest.mark.parametrize("kind", ["cosine", "linear"])
    def test_detrending_twice_changes_nothing(self, kind):
        runs = torch.arange(120) // 60
        once = detrend(drifting(), runs, 2.0, kind)
        torch.testing.assert_close(detrend(once, runs, 2.0, kind), once, atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(once[runs == 1].mean(0), 0, atol=1e-4)

    def test_slow_goes_and_fast_stays(self):
        seconds = torch.arange(200) * 2.0
        slow, fast = torch.cos(2 * torch.pi * seconds / 400), torch.cos(2 * torch.pi * seconds / 20)
        ours = detrend(torch.stack([slow, fast], 1), torch.zeros(200).long(), 2.0)
        assert ours[:, 0].std() < 0.02 * slow.std()
        assert ours[:, 1].std() > 0.98 * fast.std()

    def test_runs_do_not_know_each_other(self):
        series, runs = drifting(), torch.arange(120) // 60
        changed = series.clone()
        changed[runs == 1] *= -3
        assert torch.equal(detrend(series, runs, 2.0)[runs == 0], detrend(changed, runs, 2.0)[runs == 0])

    def test_short_run_says_what_to_do(self):
        with pytest.raises(CortexflowError, match=r"run 0 has 4 volumes for 5 drifts.*longer cutoff"):
            detrend(drifting(4), torch.zeros(4).long(), 2.0, "cosine", 4.0)

    def test_broken_voxels_are_counted(self):
        series = drifting()
        series[3, 2] = float("nan")
        with pytest.raises(CortexflowError, match="1 of 6 voxels"):
            detrend(series, torch.zeros(120).long(), 2.0)


class TestHaemodynamics:
    def test_sums_to_one_and_peaks_at_five_seconds(self):
        response = spm_hrf(2.0, oversampling=20)
        assert response.sum() == pytest.approx(1, abs=1e-5)
        assert response.argmax() * 0.1 == pytest.approx(5, abs=0.11)
        assert response.argmin() * 0.1 == pytest.approx(15.5, abs=1.0) and response.min() < 0
        assert len(response) == 321

    def test_shape_is_that_of_nilearn(self):
        nilearn = pytest.importorskip("nilearn.glm.first_level")
        theirs = nilearn.spm_hrf(2.0, oversampling=50)
        ours = spm_hrf(2.0, oversampling=50)[: len(theirs)]
        # nilearn starts its gamma densities one sample late
        assert np.corrcoef(ours[:-1], theirs[1:])[0, 1] > 0.9999
        np.testing.assert_allclose(ours[:-1], theirs[1:], atol=2e-4)

    def test_values_by_hand(self):
        seconds = np.arange(0, 32.1, 2)
        density = seconds**5 * np.exp(-seconds) / 120 - seconds**15 * np.exp(-seconds) / 1307674368000 / 6
        np.testing.assert_allclose(spm_hrf(2.0), density / density.sum(), atol=1e-6)

    def test_a_lead_of_one_volume_is_the_next_sample(self):
        ahead, plain = spm_hrf(2.0, lead=2.0), spm_hrf(2.0)
        np.testing.assert_allclose(ahead[:-1] / ahead[0], plain[1:] / plain[1], rtol=1e-5, atol=1e-7)
        exposure = hrf_exposure(torch.tensor([3, -1, -1]), 2.0, torch.zeros(3).long(), lead=2.0)
        np.testing.assert_allclose(exposure.weights.toarray()[:, 0], ahead[:3], atol=1e-7)

    def test_nothing_to_sample(self):
        with pytest.raises(CortexflowError, match="give positive numbers"):
            spm_hrf(40.0)

    def test_convolution_equals_numpy_within_runs(self):
        design, runs = torch.rand(50, 3), torch.arange(50) // 30
        ours = convolve_hrf(design, 1.5, runs)
        for run in range(2):
            block = design[runs == run].double().numpy()
            expected = np.stack([np.convolve(column, spm_hrf(1.5).double().numpy())[: len(block)] for column in block.T], 1)
            np.testing.assert_allclose(ours[runs == run], expected, atol=1e-6)

    def test_exposure_mixes_what_convolution_does(self):
        stimuli = torch.randint(-1, 6, (60,))
        runs = torch.arange(60) // 25
        exposure = hrf_exposure(stimuli, 2.0, runs)
        features = torch.randn(len(exposure.stimuli), 4)
        shown = torch.zeros(60, 4)
        for column, stimulus in enumerate(exposure.stimuli.tolist()):
            shown[stimuli == stimulus] = features[column]
        torch.testing.assert_close(exposure.mix(features), convolve_hrf(shown, 2.0, runs), atol=1e-5, rtol=1e-5)

    def test_one_picture_is_answered_by_the_response_itself(self):
        stimuli = torch.full((30,), -1)
        stimuli[4] = 77
        exposure = hrf_exposure(stimuli, 2.0, torch.zeros(30).long())
        assert exposure.stimuli.tolist() == [77]
        answer = exposure.weights.toarray()[:, 0]
        np.testing.assert_allclose(answer[4:21], spm_hrf(2.0), atol=1e-7)
        assert not answer[:5].any() and not answer[21:].any()

    def test_no_run_answers_the_pictures_of_another(self):
        stimuli, runs = torch.arange(40), torch.arange(40) // 20
        weights = hrf_exposure(stimuli, 2.0, runs).weights.toarray()
        assert not weights[20:, :20].any() and not weights[:20, 20:].any()
        assert weights[20:, 20:].any()

    def test_no_stimulus_at_all(self):
        with pytest.raises(CortexflowError, match="no volume shows a stimulus"):
            hrf_exposure(torch.full((5,), -1), 2.0, torch.zeros(5).long())


class TestLaggedWindows:
    series = torch.arange(20.0)[:, None] * torch.tensor([1.0, 100.0])

    def test_number_by_hand(self):
        windows = lagged_windows(self.series, torch.tensor([15.0, 22.5]), 2.5, 2, 3)
        assert windows.shape == (2, 3, 2)
        assert windows[0, :, 0].tolist() == [8, 9, 10] and windows[1, :, 1].tolist() == [1100, 1200, 1300]

    def test_onsets_that_are_no_binary_fraction(self):
        tr = 4 / 3
        onsets = torch.tensor([k * 4.0 for k in range(6)])
        assert lagged_windows(self.series, onsets, tr, 0, 1)[:, 0, 0].tolist() == [0, 3, 6, 9, 12, 15]

    def test_clock_of_the_run_and_of_the_series_agree(self):
        runs = torch.arange(20) // 10
        by_run = lagged_windows(self.series, torch.tensor([4.0, 4.0]), 2.0, 1, 2, runs, torch.tensor([0, 1]))
        whole = lagged_windows(self.series, torch.tensor([4.0, 24.0]), 2.0, 1, 2, runs)
        assert torch.equal(by_run, whole)
        assert by_run[1, :, 0].tolist() == [13, 14]

    @pytest.mark.parametrize("onset, offset, volumes", [(16.0, 0, 3), (4.0, 7, 2), (2.0, -3, 2), (0.0, 0, 0)])
    def test_windows_that_leave_their_run(self, onset, offset, volumes):
        runs = torch.arange(20) // 10
        with pytest.raises(CortexflowError, match=r"event 0 .*leave its run"):
            lagged_windows(self.series, torch.tensor([onset]), 2.0, offset, volumes, runs)
        with pytest.raises(CortexflowError, match=r"event 0 .*leave its run"):
            lagged_windows(self.series, torch.tensor([onset]), 2.0, offset, volumes, runs, torch.tensor([0]))

    def test_an_onset_after_the_end(self):
        with pytest.raises(CortexflowError, match="volume 50 of a series of 20"):
            lagged_windows(self.series, torch.tensor([100.0]), 2.0, 0, 1)

    def test_no_event(self):
        assert lagged_windows(self.series, torch.empty(0), 2.0, 0, 3).shape == (0, 3, 2)
