"""Runs are cleaned once and cut where pictures began; what is cut out is what was planted, and a split says what it leaks."""

import os
import shutil
import tracemalloc

import nibabel
import numpy as np
import pytest
import scipy.io
import scipy.stats
import torch

from cortexflow import catalog
from cortexflow.data import nsd_timeseries
from cortexflow.data.nsd_layout.design import DESIGN, read_design
from cortexflow.data.nsd_layout.miniature import runs as miniature_runs
from cortexflow.data.nsd_layout.miniature import study as miniature
from cortexflow.data.nsd_layout.miniature.planning import plan, spread
from cortexflow.data.nsd_layout.miniature.runs import Disturbance, Scan, write_session
from cortexflow.data.nsd_layout.miniature.study import Miniature, write_miniature
from cortexflow.data.nsd_layout.pictures import BRICK
from cortexflow.data.nsd_layout.timeseries import detrended
from cortexflow.data.nsd_layout.timeseries.detrended import Cleaning, cleaned, nuisance
from cortexflow.data.nsd_layout.timeseries.run_splits import Events, drawn_runs, leak
from cortexflow.data.nsd_layout.timeseries.runs import CLOCKS, runs_of
from cortexflow.data.nsd_timeseries import NSDTimeSeries
from cortexflow.data.single_trials import drifts, separate_weights
from cortexflow.data.standardize import detrend
from cortexflow.errors import CortexflowError, CortexflowWarning, DamagedFileError

SPACES = ("func1pt8mm", "func1mm")
SMALL = Miniature(subjects=1, sessions=1, shared=0.4, voxels=60, image_size=16, spaces=SPACES, odd=False, timeseries=True)
RUNS = "nsddata_timeseries/ppdata/subj01/func1pt8mm"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root, write = tmp_path_factory.mktemp("nsd") / "nsd", miniature._write_pictures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(miniature, "_write_pictures", lambda path, study, stimuli: write(path, study, stimuli[:9]))
        for part in ("write_maps", "write_annotations", "_write_sessions"):  # the time series do without
            patch.setattr(miniature, part, lambda *_: None, raising=False)
        truth = write_miniature(root, SMALL)
    return root, truth


@pytest.fixture
def copy(written, tmp_path, monkeypatch):
    """The same files under other names: whoever changes one must put a new one in its place. The plan is read only once."""
    design = read_design(written[0])
    monkeypatch.setattr(nsd_timeseries, "read_design", lambda root: design)
    shutil.copytree(written[0], tmp_path / "nsd", copy_function=os.link)
    shutil.rmtree(tmp_path / "nsd/prepared", ignore_errors=True)
    return tmp_path / "nsd"


@pytest.fixture(scope="module")
def clean(written, tmp_path_factory):
    """The same study without anything but responses."""
    root = tmp_path_factory.mktemp("clean") / "nsd"
    shutil.copytree(written[0], root, copy_function=os.link)
    shutil.rmtree(root / "nsddata_timeseries")
    trials = written[1].study.trials("subj01")
    with pytest.MonkeyPatch.context() as patch:  # bright voxels, so that little is lost to integers
        patch.setattr(miniature_runs, "LEAST", 16_000.0)
        patch.setattr(miniature_runs, "MOST", 24_000.0)
        session(written[1], root, 1, written[1].stimuli[trials.stimuli].numpy(), trials.responses.double().numpy(), Disturbance(0, 0, 0))
    return root


def session(truth, root, number, stimuli, responses, disturbance, space="func1pt8mm"):
    shows = scipy.io.loadmat(root / DESIGN)["stimpattern"][number - 1].astype(int)
    write_session(Scan(root, "subj01", space, number, truth.heads["subj01"], 0), stimuli, responses, shows, disturbance)


def study(root, **choices):
    return NSDTimeSeries(NSDTimeSeries.Config(**choices), root)


def refused(message, call, kind=CortexflowError):
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def renew(path, content):
    path.unlink()
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)


def resave(path, change=lambda values: values, tr=None):
    image = nibabel.load(path)
    values = change(np.asarray(image.dataobj))
    other = nibabel.Nifti1Image(values, image.affine, dtype=values.dtype)
    other.header.set_zooms((*image.header.get_zooms()[:3], image.header.get_zooms()[3] if tr is None else tr)[: values.ndim])
    path.unlink()
    nibabel.save(other, path)


def raw(root, truth, number, session=1, space="func1pt8mm"):
    """A run as nibabel reads it, without the odd volume."""
    image = nibabel.load(root / RUNS.replace("func1pt8mm", space) / f"timeseries/timeseries_session{session:02d}_run{number:02d}.nii.gz")
    return np.asarray(image.dataobj)[truth.heads["subj01"].general].T[: CLOCKS[space].volumes].astype(float)


def answer(seconds):
    """To a picture of three seconds, in closed form: a double gamma, summed up, with a peak of 1."""

    def risen(time):
        return scipy.stats.gamma.cdf(time, 6) - scipy.stats.gamma.cdf(time, 16) / 6

    fine = np.arange(0, 40, 0.01)
    return (risen(seconds) - risen(seconds - 3)) / (risen(fine) - risen(fine - 3)).max()


def regressors(events, number, clock, session=1):
    onsets = events.onsets[events.runs == 100 * session + number].double().numpy()
    return answer(np.arange(clock.volumes)[:, None] * clock.tr - onsets)


def standard(values, columns):
    residual = values - columns @ np.linalg.lstsq(columns, values, rcond=None)[0]
    return residual / residual.std(0)


@pytest.mark.parametrize("space", ["func1pt8mm", "func1mm"])
def test_trials_are_those_that_the_files_say(written, space):
    root, truth = written
    trials, events, true = study(root, space=space).trials("subj01"), study(root, space=space).events("subj01"), truth.trials("subj01")
    for name in ("stimuli", "sessions", "repeats"):
        assert torch.equal(getattr(trials, name), getattr(true, name)) and torch.equal(getattr(events, name), getattr(true, name)), name
    rows = np.loadtxt(root / RUNS.replace("func1pt8mm", space) / "design/design_session01_run02.tsv")
    second = events.where(events.runs == 102)
    assert len(rows) == {"func1pt8mm": 225, "func1mm": 300}[space]
    assert second.stimuli.tolist() == (rows[rows > 0] - 1).tolist()
    assert torch.allclose(second.onsets, torch.from_numpy(np.flatnonzero(rows) * CLOCKS[space].tr).float())
    assert torch.equal(second.onsets / 4, torch.from_numpy(np.flatnonzero(scipy.io.loadmat(root / DESIGN)["stimpattern"][0, 1])).float())
    assert events.runs.unique().tolist() == list(range(101, 113))


@pytest.mark.parametrize("drift", ["cosine", "polynomial"])
def test_windows_without_noise_are_the_planted_responses_convolved(written, clean, drift):
    _, truth = written
    read, planted, clock = study(clean, drifts=drift), truth.trials("subj01"), CLOCKS["func1pt8mm"]
    events, lags = read.events("subj01"), read.lags(offset=-2.0, duration=12.0)
    time = np.arange(clock.volumes)
    slow = [np.cos(np.pi * k * (2 * time + 1) / (2 * len(time))) for k in range(5)] if drift == "cosine" else [time**0, time]
    for rows, windows in read.windows("subj01", offset=-2.0, duration=12.0):
        number = int(events.runs[rows][0]) - 100
        whole = standard(regressors(events, number, clock) @ planted.responses[rows].double().numpy(), np.stack(slow, 1).astype(float))
        starts = np.rint((events.onsets[rows].numpy() + float(lags[0])) / clock.tr).astype(int)
        expected = np.stack([whole[start : start + len(lags)] for start in starts])
        assert windows.shape == expected.shape and len(lags) == 9
        assert np.abs(windows.numpy() - expected).max() < 0.015  # of a deviation; files hold integers


def test_a_regression_on_the_written_runs_finds_the_planted_trials(written, clean):
    root, truth = written
    planted, events, clock = truth.trials("subj01").responses.double().numpy(), study(root).events("subj01"), CLOCKS["func1pt8mm"]
    separate, number_of = [], events.runs.numpy()
    for number in range(1, 13):
        shapes, here = regressors(events, number, clock), number_of == 100 + number
        columns = np.concatenate([shapes, np.ones((clock.volumes, 1))], axis=1)
        found = np.linalg.lstsq(columns, raw(clean, truth, number), rcond=None)[0]
        percent = 100 * found[:-1] / found[-1]  # of the voxel's mean
        assert np.abs(percent - planted[here]).max() < 0.05
        noisy = raw(root, truth, number)
        separate.append(separate_weights(shapes.T, drifts(clock.volumes, clock.tr, 128.0)) @ noisy / noisy.mean(0))
    separate = np.concatenate(separate)
    means = study(root).trials("subj01").responses.numpy()
    agreement = [np.median([np.corrcoef(found[:, v], planted[:, v])[0, 1] for v in range(60)]) for found in (separate, means)]
    assert agreement[0] > 0.6 and agreement[1] > 0.5
    shuffled = np.random.default_rng(0).permutation(planted)
    assert abs(np.median([np.corrcoef(means[:, v], shuffled[:, v])[0, 1] for v in range(60)])) < 0.1


def test_cleaning_agrees_with_nilearn_and_with_the_house(written):
    signal = pytest.importorskip("nilearn.signal")
    root, truth = written
    clock, values = CLOCKS["func1pt8mm"], raw(root, truth, 3)
    motion = np.loadtxt(root / RUNS / "motion/motion_session01_run03.tsv")[:225]
    straight = cleaned(values, nuisance(clock, Cleaning("polynomial", 128.0, 1, True), motion))
    other = signal.clean(values, detrend=True, standardize="zscore_sample", confounds=motion, standardize_confounds=True)
    assert np.allclose(straight, other * np.sqrt(225 / 224), atol=1e-4)
    waves = cleaned(values, nuisance(clock, Cleaning("cosine", 100.0, 1, False), None))
    house = detrend(torch.from_numpy(values), torch.zeros(225, dtype=torch.long), clock.tr, "cosine", 100.0).numpy()
    assert np.allclose(waves, house / house.std(0), atol=1e-4)


def test_motion_is_taken_out_if_it_is_asked_for(written):
    root, _ = written
    motion = cleaned(np.loadtxt(root / RUNS / "motion/motion_session01_run01.tsv")[:225], drifts(225, 4 / 3, 128.0))
    explained = []
    for choice in (False, True):
        chosen = study(root, motion=choice)
        run = chosen._runs("subj01")[0]
        series = detrended.detrended(run, chosen._kept("subj01"))
        explained.append(np.abs(series.T @ motion / 225).max())
        assert np.allclose(series.mean(0), 0, atol=1e-5) and np.allclose(series.std(0), 1, atol=1e-5)
    assert explained[0] > 0.2 and explained[1] < 1e-4


def test_a_voxel_of_which_nothing_is_left_is_0_and_is_told(written, copy):
    mask, path = written[1].heads["subj01"].general, copy / RUNS / "timeseries/timeseries_session01_run04.nii.gz"
    before = study(copy).trials("subj01").responses
    places = np.argwhere(mask)[[7, 11]]

    def change(values):
        values[tuple(places[0])], values[tuple(places[1])] = 1000, 1000 + np.arange(226)
        return values

    resave(path, change)
    chosen = study(copy, drifts="polynomial")
    with pytest.warns(CortexflowWarning, match="subj01: 2 of 60 voxels are constant over at least one run and 0 there"):
        after = chosen.trials("subj01").responses
    fourth = chosen.events("subj01").runs == 104
    assert (after[fourth][:, [7, 11]] == 0).all() and (after[~fourth] != 0).all()
    assert torch.isfinite(after).all() and not torch.equal(before, after)


def test_every_way_to_windows_gives_the_same_numbers(written):
    chosen = study(written[0])
    whole = torch.zeros(750, 6, 60)
    for rows, windows in chosen.windows("subj01"):
        assert len(chosen.events("subj01").runs[rows].unique()) == 1
        whole[rows] = windows
    assert torch.allclose(chosen.trials("subj01").responses, whole.mean(1), atol=1e-6)
    rows = torch.rand(750, generator=torch.Generator().manual_seed(1)) < 0.1
    assert torch.equal(chosen.gather("subj01", rows), whole[rows])
    assert torch.equal(chosen.gather("subj01", rows, offset=5.4, duration=2.6), whole[rows][:, 1:3])  # 4.05 and 1.95 volumes
    assert torch.allclose(chosen.lags(), (3 + torch.arange(6)) * 4 / 3) and chosen.lags(5.4, 2.6).shape == (2,)
    refused("750 trials here and 3 rows were given", lambda: chosen.gather("subj01", rows[:3]))
    refused("window of 0.5 s holds no volume", lambda: chosen.gather("subj01", rows, duration=0.5))


def test_only_the_runs_that_are_needed_are_read(copy, monkeypatch):
    reads, read = [], detrended.read_series
    monkeypatch.setattr(detrended, "read_series", lambda run, *rest: reads.append(run.number) or read(run, *rest))
    chosen = study(copy)
    chosen.gather("subj01", torch.isin(chosen.events("subj01").runs, torch.tensor([103, 107])))
    assert reads == [3, 7]


def test_the_odd_volume_plays_no_part(written, copy):
    before = study(written[0]).trials("subj01").responses

    def change(values):
        values[..., 225] += 9999
        return values

    for path in (copy / RUNS / "timeseries").glob("*run0[12].nii.gz"):
        resave(path, change)
    assert torch.equal(study(copy).trials("subj01").responses, before)


def test_in_sessions_with_rest_the_first_and_the_last_run_show_nothing(written, copy):
    _, truth = written
    stimuli = read_design(copy).of("subj01")[20 * 750 : 21 * 750]
    responses = np.random.default_rng(0).standard_normal((750, 60))
    session(truth, copy, 21, stimuli, responses, Disturbance(0.1, 0, 0))
    assert len(list((copy / RUNS / "timeseries").glob("*session21*"))) == 14
    chosen = study(copy)
    with pytest.warns(CortexflowWarning, match="subj01 lacks session 2, 3, 4, .*, 19, 20; the others are used"):
        trials, events = chosen.trials("subj01"), chosen.events("subj01")
    late = events.sessions == 21
    assert events.runs[late].unique().tolist() == list(range(2102, 2114)) and late.sum() == 750
    assert events.stimuli[late].tolist() == stimuli.tolist() and len(trials) == 1500
    means = trials.responses[late].numpy()
    head = truth.heads["subj01"]
    agreement = [np.corrcoef(means[:, v], responses[:, head.order[v]])[0, 1] for v in range(60)]
    assert np.median(agreement) > 0.6  # neighbours overlap
    (copy / RUNS / "timeseries/timeseries_session01_run13.nii.gz").touch()
    refused("run13.nii.gz is run 13 of a session that has 12", lambda: study(copy).trials("subj01"))


def test_a_run_that_is_missing_shifts_no_trial(written, copy):
    for path in (copy / RUNS).glob("*/*run05*"):
        path.unlink()
    with pytest.warns(CortexflowWarning, match="subj01 lacks 1 of 12 runs of session 1; the others"):
        trials = study(copy).trials("subj01")
    keep = study(written[0]).events("subj01").runs != 105
    assert torch.equal(trials.responses, study(written[0]).trials("subj01").responses[keep])
    assert torch.equal(trials.repeats, written[1].trials("subj01").repeats[keep])


def test_prepared_runs_are_read_once_and_made_again_where_they_must_be(copy, monkeypatch):
    reads, read = [], detrended.read_series
    monkeypatch.setattr(detrended, "read_series", lambda run, *rest: reads.append(run.number) or read(run, *rest))
    files = study(copy).prepare("subj01")
    assert reads == list(range(1, 13)) and all(path.is_file() for path in files)
    before = study(copy).trials("subj01").responses
    list(study(copy).windows("subj01", 0.0, 20.0 / 3))
    assert len(reads) == 12
    files[1].write_bytes(files[1].read_bytes()[:5000])  # somebody cut it short
    assert torch.equal(study(copy).trials("subj01").responses, before) and reads[12:] == [2]
    source = copy / RUNS / "timeseries/timeseries_session01_run03.nii.gz"
    renew(source, source.read_bytes())
    os.utime(source, ns=(1, 1))
    study(copy).trials("subj01")
    assert reads[13:] == [3]
    for choices in ({"cutoff": 100.0}, {"drifts": "polynomial"}, {"drifts": "polynomial", "degree": 2}, {"motion": True}, {"mask": "prf-visualrois"}):
        assert not {path.name for path in study(copy, **choices).prepare("subj01")} & {path.name for path in files}
    study(copy, degree=3, offset=0.0).trials("subj01")  # no polynomials are used, and windows are cut later
    assert len(reads) == 14 + 5 * 12
    small = study(copy, mask="prf-visualrois")
    early = torch.from_numpy(small._mask("subj01")[study(copy)._mask("subj01")])
    assert 0 < early.sum() < 60
    assert torch.allclose(small.trials("subj01").responses, before[:, early], atol=1e-5) and len(reads) == 14 + 5 * 12


def test_work_that_was_stopped_goes_on_where_it_stopped(copy):
    source = copy / RUNS / "timeseries/timeseries_session01_run06.nii.gz"
    content = source.read_bytes()
    renew(source, content[: len(content) * 3 // 4])
    refused("run06.nii.gz is damaged", lambda: study(copy).prepare("subj01"), DamagedFileError)
    made = {path: path.stat().st_mtime_ns for path in (copy / "prepared").rglob("*") if path.is_file()}
    assert sorted(path.name[:15] for path in made) == [f"session01_run{number:02d}" for number in range(1, 6)]
    renew(source, content)
    files = study(copy).prepare("subj01")
    assert len(files) == 12 and all(path.stat().st_mtime_ns == made.get(path, path.stat().st_mtime_ns) for path in files)
    assert set(made) <= set(files)


def test_what_was_half_written_when_it_was_stopped_is_not_taken_for_a_run(copy, monkeypatch):
    saved, save = [], np.save

    def stopped(file, values, **options):
        saved.append(len(values))
        if len(saved) == 4:
            file.write(values.tobytes()[:1000])
            raise KeyboardInterrupt
        save(file, values, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(detrended.np, "save", stopped)
        study(copy).prepare("subj01")
    assert sorted(path.name[:15] for path in (copy / "prepared").rglob("*") if path.is_file()) == [f"session01_run{n:02d}" for n in (1, 2, 3)]
    reads, read = [], detrended.read_series
    monkeypatch.setattr(detrended, "read_series", lambda run, *rest: reads.append(run.number) or read(run, *rest))
    study(copy).prepare("subj01")
    assert reads == list(range(4, 13))


def test_a_folder_that_cannot_be_written_to_is_read_every_time(copy, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    before = study(copy).trials("subj01").responses
    assert not (copy / "prepared").exists() and torch.isfinite(before).all()


def first_onset(root, change):
    path = root / RUNS / "design/design_session01_run02.tsv"
    rows = path.read_text().split()
    place = next(place for place, row in enumerate(rows) if row != "0")
    rows[place] = change(rows[place])
    renew(path, "\n".join(rows))


def lines(kind, change):
    def changed(root):
        path = root / RUNS / f"{kind}/{kind}_session01_run02.tsv"
        renew(path, "\n".join(change(path.read_text().splitlines())))

    return changed


def series(**choices):
    return lambda root: resave(root / RUNS / "timeseries/timeseries_session01_run02.nii.gz", **choices)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lines("design", lambda rows: [*rows, *["0"] * 3, "77"]), "has 229 rows where a run has 225 volumes; the onset at 304 s is past its end"),
        (lines("design", lambda rows: rows[:-1]), "has 224 rows where a run has 225 volumes; copy the file of the same space"),
        (lines("design", lambda rows: ["0", *rows[1:224], "nothing"]), "run02.tsv is damaged or not of its type"),
        (lines("design", lambda rows: ["0.5", *rows[1:]]), "must hold integers, it holds 0.5"),
        (lines("design", lambda rows: [f"{row}\t{row}" for row in rows]), "must hold 1 column of numbers, it holds 2 columns"),
        (lambda root: first_onset(root, lambda row: "73001"), "has 73001 in row [0-9]+, which is no picture: ids are 1 to 73000"),
        (lambda root: first_onset(root, lambda row: "-4"), "has -4 in row [0-9]+, which is no picture"),
        (lambda root: first_onset(root, lambda row: str(int(row) % 73000 + 1)), r"disagree: picture 1 of the run is [0-9]+ there and [0-9]+ in the"),
        (lambda root: first_onset(root, lambda row: "0"), "disagree: 61 pictures there, 62 in the plan; copy both again"),
        (lambda root: (root / RUNS / "design/design_session01_run02.tsv").unlink(), "run02.tsv does not exist; copy s3://natural-scenes-dataset/nsd"),
        (lambda root: (root / RUNS / "motion/motion_session01_run02.tsv").unlink(), "motion_session01_run02.tsv does not exist; copy s3://natural"),
        (lines("motion", lambda rows: rows[:200]), "has 200 rows where a run has 226 volumes"),
        (lines("motion", lambda rows: ["nan" + rows[0][rows[0].index("\t") :], *rows[1:]]), "6 columns, some not finite"),
        (series(tr=1.6), r"says 1.6 s from volume to volume where its space has 1.333 s; it is of another space"),
        (series(change=lambda values: values[..., :200]), "has 200 volumes where a run has 226"),
        (series(change=lambda values: values.transpose(2, 1, 0, 3)), r"\(its axes are reversed\) where the mask has"),
        (series(change=lambda values: values * (np.arange(values.shape[1]) > 6)[:, None, None].astype(np.int16)), "is 0 in .*% of the mask's voxels"),
        (series(change=lambda values: np.where(values > 0, np.nan, 0).astype(np.float32)), "is not finite in 60 of 60 voxels"),
        (lambda root: renew(root / RUNS / "timeseries/timeseries_session01_run02.nii.gz", b"nothing"), "run02.nii.gz is damaged"),
    ],
)
def test_what_does_not_fit_is_named(copy, change, message):
    change(copy)
    refused(message, lambda: study(copy, motion=True).trials("subj01"))


def test_motion_files_are_asked_for_only_where_they_are_used(copy):
    shutil.rmtree(copy / RUNS / "motion")
    assert len(study(copy).trials("subj01")) == 750


def test_windows_that_leave_their_run_are_counted(written):
    chosen = study(written[0], duration=40.0)
    events = chosen.events("subj01")
    late = events.onsets + 4 + 40 > 300 + 1e-3
    what = f"the windows of {int(late.sum())} of 750 trials leave their run of 300 s, the first at {float(events.onsets[late][0]):g} s of run 1"
    refused(what, lambda: chosen.trials("subj01"))
    assert chosen.gather("subj01", ~late).shape == (int((~late).sum()), 30, 60)
    refused("leave their run", lambda: study(written[0], offset=-20.0).trials("subj01"))


def test_no_picture_is_on_two_sides_of_the_first_split(written):
    chosen = study(written[0])
    split, events = chosen.picture_split("subj01"), chosen.events("subj01")
    assert (split.training ^ split.test).all() and split.test.sum() == torch.isin(events.stimuli, chosen.held_out()).sum() > 0
    assert split.leak.seen_trials == split.leak.seen_pictures == 0 and split.leak.trials == split.test.sum()
    used = {side: set() for side in ("training", "test")}
    for side in used:
        for run, onset in zip(events.runs[getattr(split, side)].tolist(), events.onsets[getattr(split, side)].tolist(), strict=True):
            used[side] |= {(run, round(onset * 3 / 4) + 3 + step) for step in range(6)}
    assert split.leak.volumes == len(used["test"]) and split.leak.shared_volumes == len(used["test"] & used["training"]) > 100


def test_a_split_by_run_leaks_pictures_and_says_so_or_none(written):
    chosen, events = study(written[0]), study(written[0]).events("subj01")
    with pytest.warns(CortexflowWarning, match=r"subj01, split by run: [0-9]+ of 1[0-9]+ test trials show a picture that a training trial shows"):
        split = chosen.run_split("subj01", runs=3)
    held = events.runs[split.test].unique()
    assert len(held) == 3 and torch.equal(split.test, torch.isin(events.runs, held)) and torch.equal(split.training, ~split.test)
    seen = [picture in set(events.stimuli[split.training].tolist()) for picture in events.stimuli[split.test].tolist()]
    assert split.leak.seen_trials == sum(seen) > 0.8 * len(seen) and split.leak.shared_volumes == 0
    disjoint = chosen.run_split("subj01", runs=3, pictures="disjoint")
    assert torch.equal(disjoint.test, split.test) and not (disjoint.training & disjoint.test).any()
    assert not set(events.stimuli[disjoint.training].tolist()) & set(events.stimuli[disjoint.test].tolist())
    assert (disjoint.leak.seen_trials, disjoint.leak.seen_pictures, disjoint.leak.shared_volumes) == (0, 0, 0)
    assert not torch.equal(chosen.run_split("subj01", runs=3, pictures="disjoint", seed=1).test, split.test)
    refused("12 runs are to be held out of 12; choose 1 to 11", lambda: chosen.run_split("subj01", runs=12))


def test_of_480_runs_45_are_held_out_and_nearly_all_their_pictures_are_seen():
    shown = torch.from_numpy(plan(spread(0), 0).design.shown[0])
    trial = torch.arange(30_000)
    place = torch.searchsorted(torch.tensor([63, 62] * 6).cumsum(0), trial % 750, right=True)
    events = Events(shown, trial // 750 + 1, 100 * (trial // 750 + 1) + place + 1, torch.zeros(30_000, dtype=torch.long), trial / 1.0, trial)
    held = drawn_runs(events, None, 0)
    test = torch.isin(events.runs, held)
    counted = leak(events, ~test, test, torch.zeros(30_000, dtype=torch.long), 6)
    assert len(held) == 45 and len(events.runs.unique()) == 480
    assert 0.97 < counted.seen_trials / counted.trials < 1  # a picture's other two trials both fall into the test once in 113


def test_a_leak_is_counted_as_by_hand():
    events = Events(
        *(torch.tensor(column) for column in ([5, 7, 5, 9], [1] * 4, [101, 101, 102, 102], [0, 0, 1, 0], [0.0, 4.0, 0.0, 4.0], [0, 1, 63, 64]))
    )
    first = torch.tensor([0, 3, 0, 3])
    by_run = leak(events, torch.tensor([True, True, False, False]), torch.tensor([False, False, True, True]), first, 4)
    assert (by_run.trials, by_run.seen_trials, by_run.pictures, by_run.seen_pictures, by_run.volumes, by_run.shared_volumes) == (2, 1, 2, 1, 7, 0)
    by_picture = leak(events, torch.tensor([True, False, True, False]), torch.tensor([False, True, False, True]), first, 4)
    assert (by_picture.seen_trials, by_picture.volumes, by_picture.shared_volumes) == (0, 8, 2)
    every = torch.ones(4, dtype=torch.bool)
    refused("training has 4 trials, the test 4 and both 4", lambda: leak(events, every, every, first, 4))


def test_memory_holds_one_run_and_not_its_volumes(written, tmp_path):
    clock, grid = CLOCKS["func1pt8mm"], (40, 30, 20)
    values = np.random.default_rng(0).integers(1, 99, (*grid, 226), dtype=np.int16)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.header.set_zooms((1.8, 1.8, 1.8, 1.3333))
    folder = tmp_path / RUNS / "timeseries"
    folder.mkdir(parents=True)
    nibabel.save(image, folder / "timeseries_session01_run01.nii.gz")
    run = runs_of(tmp_path, "subj01", "func1pt8mm")[0]
    mask = np.random.default_rng(1).random(grid) < 0.01
    kept = detrended.Kept(detrended.kept_in(tmp_path, "subj01", "func1pt8mm"), clock, mask, Cleaning("cosine", 128.0, 1, False))
    tracemalloc.start()
    made = detrended.make(run, kept)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made.shape == (225, mask.sum()) and peak < values.nbytes / 4


def test_it_is_a_study_like_any_other(written, copy):
    assert catalog.find("data", "nsd_timeseries") is NSDTimeSeries and NSDTimeSeries.folder(NSDTimeSeries.Config()) == "nsd"
    root, truth = written
    chosen = study(root, image_size=16)
    cortex, trials = chosen.cortex("subj01"), chosen.trials("subj01")
    assert chosen.subjects == ("subj01",) and cortex.voxels == trials.voxels == 60 and cortex.ncsnr is None
    assert torch.equal(cortex.area("FFA-1"), truth.study.cortex("subj01").areas["FFA"][torch.from_numpy(truth.heads["subj01"].order)])
    assert torch.equal(trials.groups, trials.stimuli) and "z-scored within run, mean of 6 volumes from +4 s" in trials.units
    assert torch.equal(study(root, groups="run").trials("subj01").groups, chosen.events("subj01").runs)
    assert chosen.images(truth.stimuli[:2]).shape == (2, 3, 16, 16)
    behaviour = chosen.behaviour("subj01")
    assert torch.equal(behaviour.stimuli, trials.stimuli) and torch.equal(behaviour.is_old, trials.repeats > 0)
    assert "volumes of test windows are in a training window as well" in chosen.cautions("subj01")[-1]
    assert set(chosen.held_out().tolist()) == set(read_design(root).shared.tolist())
    refused("no subject 'subj02'; choose one of subj01", lambda: chosen.trials("subj02"))
    refused("has runs of session 1 here and the first 2 are asked for", lambda: study(root, sessions=2).trials("subj01"))
    refused("nsd_982 ends with session 37, 38 were asked", lambda: study(root, sessions=38, split="nsd_982").trials("subj01"))
    few = study(root, training_images=7)
    shown = few.events("subj01").stimuli
    assert len(shown[~torch.isin(shown, few.held_out())].unique()) == 7
    shutil.rmtree(copy / "nsddata_timeseries")
    refused("timeseries holds no run, nor do its sisters", lambda: study(copy).subjects)


def test_checksums_follow_files_and_choices(copy):
    before = study(copy).checksums()
    assert before == study(copy).checksums() and {DESIGN, BRICK} < set(before) and sum("run" in name for name in before) == 24
    source = copy / RUNS / "timeseries/timeseries_session01_run02.nii.gz"
    content = bytearray(source.read_bytes())
    content[-6] ^= 1  # of the checksum at its end
    renew(source, bytes(content))
    after = study(copy).checksums()
    assert [name for name in before if before[name] != after[name]] == [source.relative_to(copy).as_posix()]
    for choices in ({"offset": 0.0}, {"duration": 4.0}, {"drifts": "polynomial"}, {"cutoff": 60.0}, {"motion": True}):
        other = study(copy, **choices).checksums()
        assert other["windows"] != after["windows"], choices
    refused("run02.nii.gz is damaged", lambda: study(copy).trials("subj01"), DamagedFileError)


def test_a_check_goes_over_every_run_and_reads_none(copy):
    checks = study(copy).check()
    assert all(check.wrong is None for check in checks) and not (copy / "prepared").exists()
    assert any(check.found == "12 runs of 225 volumes, 750 pictures" for check in checks)
    (copy / RUNS / "design/design_session01_run02.tsv").unlink()
    assert [check.file for check in study(copy).check() if check.wrong] == [f"{RUNS}/timeseries, session 1"]
    assert [check.wrong is None for check in study(copy / "nowhere").check()] == [False]
