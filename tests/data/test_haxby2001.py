import shutil

import nibabel
import numpy as np
import pytest
import scipy.signal
import torch
from sklearn.linear_model import LogisticRegression

from cortexflow import catalog
from cortexflow.data.haxby2001 import Haxby2001
from cortexflow.errors import CortexflowError, DamagedFileError


@pytest.fixture(scope="module")
def root(recordings):
    return recordings / "haxby2001"


def configured(root, **choices):
    return Haxby2001(Haxby2001.Config(**choices), root)


@pytest.fixture(scope="module")
def study(root):
    return Haxby2001(root=root)


@pytest.fixture(scope="module")
def trials(study):
    return study.trials("sub001")


@pytest.fixture(scope="module")
def volumes(root):
    return configured(root, form="volumes").trials("sub001")


def leave_one_run_out(trials, labels=None):
    """Share of correct categories, mean over the runs left out."""
    responses, runs = trials.responses.numpy(), trials.sessions.numpy()
    labels = trials.stimuli.numpy() if labels is None else labels
    right = []
    for run in range(1, 13):
        train, test = runs != run, runs == run
        model = LogisticRegression(max_iter=1000).fit(responses[train], labels[train])
        right.append((model.predict(responses[test]) == labels[test]).mean())
    return np.mean(right)


class TestTrials:
    def test_one_block_of_each_category_in_each_run(self, trials):
        assert trials.responses.shape == (96, 530) and torch.isfinite(trials.responses).all()
        for run in range(1, 13):
            assert sorted(trials.stimuli[trials.sessions == run].tolist()) == list(range(8))
        assert torch.equal(trials.groups, trials.sessions)
        assert torch.equal(trials.repeats, trials.sessions - 1)

    def test_order_and_categories_are_those_of_the_events(self, study, trials):
        first = ["scissors", "face", "cat", "shoe", "house", "scrambledpix", "bottle", "chair"]
        assert [study.conditions[stimulus] for stimulus in trials.stimuli[:8]] == first

    def test_blocks_are_means_of_their_volumes(self, trials, volumes):
        assert volumes.responses.shape == (576, 530)
        torch.testing.assert_close(volumes.responses.reshape(96, 6, 530).mean(1), trials.responses)
        assert torch.equal(volumes.stimuli[::6], trials.stimuli) and torch.equal(volumes.sessions[::6], trials.sessions)
        assert volumes.repeats.max() == 71

    def test_equals_a_computation_by_hand(self, root, trials):
        """Run 3 from the file: a straight line removed, z-scored, the mean of volumes 2 to 7 after an onset."""
        folder = root / "sub001" / "BOLD" / "task001_run003"
        mask = nibabel.load(root / "mask_1slice.nii.gz").get_fdata() > 0
        raw = nibabel.load(folder / "bold_1slice.nii.gz").get_fdata()[mask].T
        flat = scipy.signal.detrend(raw, axis=0)
        scored = flat / flat.std(0)
        lines = (folder / "bold_events.tsv").read_text().splitlines()[1:]
        for row, line in zip(np.flatnonzero(trials.sessions == 3), lines, strict=True):
            start = int(float(line.split("\t")[0]) / 2.5) + 2
            np.testing.assert_allclose(trials.responses[row], scored[start : start + 6].mean(0), atol=2e-3)

    def test_resolution_and_drift_matter(self, root, trials):
        assert configured(root, resolution="25mm").trials("sub001").responses.shape == (96, 600)
        assert not torch.allclose(configured(root, detrend="cosine").trials("sub001").responses, trials.responses, atol=0.01)

    def test_a_window_that_leaves_its_run(self, root):
        with pytest.raises(CortexflowError, match="leave its run"):
            configured(root, lag=20, window=30).trials("sub001")


class TestSplit:
    def test_runs_are_held_out(self, root, trials):
        held = configured(root, held_out_runs=(2, 5)).held_out_trials(trials)
        assert trials.sessions[held].unique().tolist() == [2, 5]
        assert int(held.sum()) == 16

    def test_no_category_is_held_out(self, study):
        assert len(study.held_out()) == 0

    def test_a_run_that_does_not_exist(self, root, trials):
        with pytest.raises(CortexflowError, match="runs 1 to 12, 0 was held out"):
            configured(root, held_out_runs=(0,)).held_out_trials(trials)


class TestFigures:
    def test_categories_are_decoded_from_one_slice(self, trials):
        assert leave_one_run_out(trials) == pytest.approx(0.729, abs=0.03)

    def test_categories_are_decoded_from_coarse_voxels(self, root):
        assert leave_one_run_out(configured(root, resolution="25mm").trials("sub001")) == pytest.approx(0.302, abs=0.03)

    def test_shuffled_categories_are_at_chance(self, trials):
        shuffle, scores = np.random.default_rng(0), []
        for _ in range(5):
            labels = trials.stimuli.numpy().reshape(12, 8)
            scores.append(leave_one_run_out(trials, shuffle.permuted(labels, axis=1).ravel()))
        assert max(scores) < 0.25
        assert np.mean(scores) == pytest.approx(0.125, abs=0.06)


class TestCortex:
    def test_masks_and_positions(self, root, study):
        cortex = study.cortex("sub001")
        assert cortex.voxels == 530 and cortex.areas["slice"].all()
        coarse = configured(root, resolution="25mm").cortex("sub001")
        assert {name: int(mask.sum()) for name, mask in coarse.areas.items()} == {"brain": 129, "gray": 28, "white": 34, "vt": 1, "hoc": 45}
        assert coarse.voxels == 600
        distance = torch.cdist(coarse.coordinates, coarse.coordinates).fill_diagonal_(1e3).amin(1)
        torch.testing.assert_close(distance, torch.full((600,), 25.0), atol=1e-2, rtol=0)


@pytest.fixture
def copy(root, tmp_path):
    """The study's files, to be damaged."""
    folder = tmp_path / "haxby2001"
    shutil.copytree(root, folder, copy_function=shutil.copyfile)
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        inner.chmod(0o755)
    return folder


class TestFiles:
    def test_no_pictures(self, study):
        with pytest.raises(CortexflowError, match="published without its pictures"):
            study.images(torch.tensor([0]))

    def test_no_folder_and_no_subject(self, study):
        with pytest.raises(CortexflowError, match="needs the folder of its files; copy mvpa2/data/haxby2001"):
            Haxby2001().trials("sub001")
        with pytest.raises(CortexflowError, match="no subject 'sub002'"):
            study.trials("sub002")

    def test_a_file_that_is_missing_or_cut_short(self, copy):
        bold = copy / "sub001" / "BOLD" / "task001_run007" / "bold_1slice.nii.gz"
        bold.write_bytes(bold.read_bytes()[:50000])
        with pytest.raises(DamagedFileError, match=r"task001_run007/bold_1slice.nii.gz is damaged"):
            Haxby2001(root=copy).trials("sub001")
        bold.unlink()
        with pytest.raises(CortexflowError, match=r"bold_1slice.nii.gz does not exist; copy mvpa2"):
            Haxby2001(root=copy).trials("sub001")

    def test_events_of_another_study(self, copy):
        events = copy / "sub001" / "BOLD" / "task001_run002" / "bold_events.tsv"
        events.write_text(events.read_text().replace("face", "dog"))
        with pytest.raises(DamagedFileError, match=r"task001_run002/bold_events.tsv is damaged"):
            Haxby2001(root=copy).trials("sub001")
        events.write_text("")  # which would be a run without blocks
        with pytest.raises(DamagedFileError, match=r"task001_run002/bold_events.tsv is damaged"):
            Haxby2001(root=copy).trials("sub001")

    def test_checksums_name_what_is_read(self, root, study):
        sums, coarse = study.checksums(), configured(root, resolution="25mm").checksums()
        assert len(sums) == 25 and len(coarse) == 29
        assert not any("25mm" in name for name in sums)

    def test_the_catalogue_finds_it(self):
        assert catalog.find("data", "haxby2001") is Haxby2001
