"""A miniature in the layout that nilearn downloads: every pattern, volume and area is found where it was put."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import scipy.signal
import torch

from cortexflow import catalog
from cortexflow.data.miyawaki2008 import Miyawaki2008
from cortexflow.errors import CortexflowError, DamagedFileError

GRID, FIGURES, LEAD = (5, 6, 4), 3, 4
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])
AREAS = ["V1d", "V1v", "V2d", "V2v", "V3", "V3A", "V4v", "VP"]


def layout(kind, run, patterns):
    """Patterns of a run's blocks and its label rows: rest, then blocks with rest after each."""
    chosen = [patterns[kind][2 * (run - 1) + block if kind == "random" else (run + block) % FIGURES] for block in range(2)]
    length = 3 if kind == "random" else 6
    blocks = [np.repeat([pattern, np.full(100, -1)], length, axis=0) for pattern in chosen]
    return np.concatenate([np.full((LEAD, 100), -1), *blocks])


def write(root):
    """Answers two volumes late, weights of the patches per voxel, on a drift and a mean."""
    rng = np.random.default_rng(0)
    patterns = {"random": rng.integers(0, 2, (40, 100)), "figure": rng.integers(0, 2, (FIGURES, 100))}
    weights = rng.standard_normal((100, np.prod(GRID)))
    for folder in ("func", "label", "mask"):
        (root / folder).mkdir(parents=True)
    for kind, count in (("random", 20), ("figure", 12)):
        for run in range(1, count + 1):
            rows = layout(kind, run, patterns)
            np.savetxt(root / "label" / f"data_{kind}_run{run:02d}_label.csv", rows, fmt="%d", delimiter=",")
            signal = np.zeros((len(rows), weights.shape[1]))
            signal[2:] = np.where(rows[:-2] >= 0, rows[:-2], 0) @ weights
            signal += 500 + 0.7 * np.arange(len(rows))[:, None] + 0.1 * rng.standard_normal(signal.shape)
            volumes = nibabel.Nifti1Image(signal.T.reshape(*GRID, -1).astype(np.float32), AFFINE)
            nibabel.save(volumes, root / "func" / f"data_{kind}_run{run:02d}.nii.gz")
    mask = np.zeros(GRID, dtype=np.uint8)
    mask[1:] = 1
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), root / "mask/mask.nii.gz")
    names = AREAS + [f"lag{step}to{step + 1}" for step in range(11)]
    for number, name in enumerate(names):
        for side, columns in (("LH", slice(0, 3)), ("RH", slice(3, 6))):
            area = np.zeros(GRID, dtype=np.uint8)
            area[number % 5, columns] = 1
            nibabel.save(nibabel.Nifti1Image(area, AFFINE), root / "mask" / f"{side}{name}.nii.gz")
    return patterns


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "miyawaki2008"
    return root, write(root)


@pytest.fixture
def copy(written, tmp_path):
    shutil.copytree(written[0], tmp_path / "miyawaki2008")
    return tmp_path / "miyawaki2008"


def study(root, **choices):
    return Miyawaki2008(Miyawaki2008.Config(**choices), root)


def by_hand(root, kind, run):
    """Label rows, and the run with a straight line removed and z-scored, by another library."""
    rows = np.loadtxt(root / "label" / f"data_{kind}_run{run:02d}_label.csv", delimiter=",")
    raw = nibabel.load(root / "func" / f"data_{kind}_run{run:02d}.nii.gz").get_fdata()
    flat = scipy.signal.detrend(raw[nibabel.load(root / "mask/mask.nii.gz").get_fdata() > 0].T, axis=0)
    return rows, flat / flat.std(0)


class TestTrials:
    def test_a_block_is_the_mean_of_its_volumes_two_later(self, written):
        root, _ = written
        trials = study(root).trials("subj01")
        for session, kind, run, length in ((7, "random", 7, 3), (20, "random", 20, 3), (21, "figure", 1, 6), (32, "figure", 12, 6)):
            rows, scored = by_hand(root, kind, run)
            onsets = [LEAD, LEAD + 2 * length]
            assert all((rows[onset] >= 0).all() and (rows[onset - 1] == -1).all() for onset in onsets)
            expected = np.stack([scored[onset + 2 : onset + 2 + length].mean(0) for onset in onsets])
            np.testing.assert_allclose(trials.responses[trials.sessions == session], expected, atol=1e-4)

    def test_volumes_are_those_of_the_blocks(self, written):
        root, _ = written
        volumes, blocks = (study(root, form=form).trials("subj01") for form in ("volumes", "blocks"))
        assert len(blocks) == 2 * 32 and len(volumes) == 2 * (20 * 3 + 12 * 6)
        means = [volumes.responses[part].mean(0) for part in torch.arange(len(volumes)).split([3] * 40 + [6] * 24)]
        torch.testing.assert_close(torch.stack(means), blocks.responses)

    def test_another_lag_reads_other_volumes(self, written):
        root, _ = written
        _, scored = by_hand(root, "random", 3)
        trials = study(root, lag=3, form="volumes").trials("subj01")
        np.testing.assert_allclose(trials.responses[trials.sessions == 3][0], scored[LEAD + 3], atol=1e-4)

    def test_the_right_lag_is_the_one_that_was_planted(self, written):
        """Patches explain the answers two volumes later, and less at any other lag."""
        explained = []
        for lag in (0, 1, 2, 3):
            dataset = study(written[0], lag=lag, split="random")
            trials = dataset.trials("subj01")
            patches = dataset.images(trials.stimuli)[:, 0, ::10, ::10].flatten(1).float() / 255
            similar = torch.corrcoef(patches)[*torch.triu_indices(40, 40, 1)], torch.corrcoef(trials.responses)[*torch.triu_indices(40, 40, 1)]
            explained.append(float(torch.corrcoef(torch.stack(similar))[0, 1]))
        assert np.argmax(explained) == 2 and explained[2] > explained[0] + 0.2

    def test_runs_are_sessions_and_groups_and_figures_come_again(self, written):
        trials = study(written[0]).trials("subj01")
        assert trials.sessions.tolist() == [session for session in range(1, 33) for _ in range(2)]
        assert torch.equal(trials.groups, trials.sessions)
        figures = trials.sessions > 20
        assert (trials.repeats[~figures] == 0).all()
        assert trials.stimuli[figures].bincount().tolist()[-FIGURES:] == [8, 8, 8]
        assert sorted(trials.repeats[figures].tolist()) == sorted(list(range(8)) * 3)

    def test_a_voxel_that_never_changes_is_0(self, copy):
        path = copy / "func/data_random_run02.nii.gz"
        values = nibabel.load(path).get_fdata()
        values[1, 0, 0] = 500
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), AFFINE), path)
        trials = study(copy).trials("subj01")
        assert (trials.responses[trials.sessions == 2, 0] == 0).all()
        assert torch.isfinite(trials.responses).all() and trials.responses[trials.sessions != 2, 0].std() > 0.1


class TestPatterns:
    def test_are_those_of_the_files_column_by_column(self, written):
        root, patterns = written
        every = np.concatenate([patterns["random"], patterns["figure"][[1, 2, 0]]])  # figures in the order of their first block
        expected = every.reshape(-1, 10, 10).transpose(0, 2, 1) * 255
        assert np.array_equal(study(root, image_size=10).images(torch.arange(43))[:, 1], expected)

    def test_the_second_number_of_a_row_is_below_the_first(self, copy):
        for path in (copy / "label").glob("*random_run01*"):
            rows = np.loadtxt(path, delimiter=",")
            rows[rows[:, 0] >= 0] = np.eye(100)[1]
            np.savetxt(path, rows, fmt="%d", delimiter=",")
        picture = study(copy, image_size=10).images(torch.tensor([0]))[0, 0]
        assert picture.nonzero().tolist() == [[1, 0]]

    def test_enlarged_patches_are_whole(self, written):
        small, large = (study(written[0], image_size=size).images(torch.arange(5)) for size in (10, 100))
        assert torch.equal(large, small.repeat_interleave(10, 2).repeat_interleave(10, 3))
        assert study(written[0], image_size=(30, 25)).images(torch.arange(2)).shape == (2, 3, 30, 25)

    def test_sizes_and_ids_that_cannot_be(self, written):
        with pytest.raises(CortexflowError, match="image_size must be 10 at least, 9 × 100 was asked"):
            study(written[0], image_size=(9, 100)).images(torch.tensor([0]))
        with pytest.raises(CortexflowError, match="stimuli 0 to 42, 43 was asked"):
            study(written[0]).images(torch.tensor([43]))


class TestSplit:
    def test_figures_are_held_out(self, written):
        dataset = study(written[0])
        trials, held = dataset.trials("subj01"), dataset.held_out()
        assert held.tolist() == [40, 41, 42]
        assert torch.equal(torch.isin(trials.stimuli, held), trials.sessions > 20)

    def test_or_random_runs_and_then_no_figure_is_read(self, copy):
        for path in [*copy.glob("*/data_figure*")]:
            path.unlink()
        dataset = study(copy, split="random", held_out_runs=(3, 20))
        trials, held = dataset.trials("subj01"), dataset.held_out()
        assert len(trials) == 40 and held.tolist() == [4, 5, 38, 39]
        assert set(trials.of(held).sessions.tolist()) == {3, 20}
        assert not any("figure" in name for name in dataset.checksums())

    def test_a_run_that_does_not_exist(self, written):
        with pytest.raises(CortexflowError, match="random runs 1 to 20, 21 was held out"):
            study(written[0], split="random", held_out_runs=(21,)).held_out()


class TestCortex:
    def test_areas_of_both_sides_and_positions(self, written):
        cortex = study(written[0]).cortex("subj01")
        assert cortex.voxels == 96
        assert int(cortex.areas["V1v"].sum()) == 24 and cortex.coordinates[cortex.areas["V1v"]][:, 0].unique().tolist() == [3.0]
        assert not cortex.areas["V1d"].any()  # outside the mask
        assert (cortex.coordinates[cortex.areas["LH"], 1] < 9).all() and (cortex.areas["LH"] ^ cortex.areas["RH"]).all()
        assert set(AREAS) <= set(cortex.areas) and list(cortex.chain())[:2] == ["V1", "V2"]


class TestFiles:
    def test_names_are_those_of_the_fetcher(self, monkeypatch):
        func = pytest.importorskip("nilearn.datasets.func")
        asked = []
        monkeypatch.setattr(func, "fetch_files", lambda _, files, **__: asked.extend(str(file[0]) for file in files) or [""] * len(files))
        monkeypatch.setattr(func, "get_dataset_dir", lambda name, **_: name)
        func.fetch_miyawaki2008(verbose=0)
        assert sorted(asked) == sorted([*Miyawaki2008.files(), "bg.nii.gz"])

    def test_fetched_files_lie_in_the_folder_and_are_recognised(self, written, tmp_path, monkeypatch):
        datasets = pytest.importorskip("nilearn.datasets")

        def fetched(data_dir, verbose):
            shutil.copytree(written[0], Path(data_dir) / "miyawaki2008")
            return SimpleNamespace(mask=str(Path(data_dir) / "miyawaki2008/mask/mask.nii.gz"))

        monkeypatch.setattr(datasets, "fetch_miyawaki2008", fetched)
        Miyawaki2008.fetch(tmp_path)
        assert not (tmp_path / "miyawaki2008").exists()
        assert torch.equal(study(tmp_path).trials("subj01").responses, study(written[0]).trials("subj01").responses)
        monkeypatch.setattr(datasets, "fetch_miyawaki2008", None)  # what is whole is not asked for again
        Miyawaki2008.fetch(tmp_path)
        shutil.copy(tmp_path / "func/data_random_run01.nii.gz", tmp_path / "func/data_random_run02.nii.gz")
        with pytest.raises(DamagedFileError, match=r"data_random_run02.nii.gz is damaged .* cortexflow data fetch miyawaki2008"):
            study(tmp_path).trials("subj01")

    def test_no_network(self, tmp_path, monkeypatch):
        datasets = pytest.importorskip("nilearn.datasets")

        def failing(**_):
            raise ConnectionError("nobody there\nat all")

        monkeypatch.setattr(datasets, "fetch_miyawaki2008", failing)
        with pytest.raises(CortexflowError, match=r"could not be downloaded \(nobody there\); check the connection") as error:
            Miyawaki2008.fetch(tmp_path)
        assert "\n" not in str(error.value)

    def test_missing_and_unfit_files(self, copy):
        path = copy / "label/data_figure_run03_label.csv"
        rows = np.loadtxt(path, delimiter=",")
        np.savetxt(path, rows[:-1], fmt="%d", delimiter=",")
        with pytest.raises(DamagedFileError, match=r"data_figure_run03.nii.gz has shape .* where mask and labels have"):
            study(copy).trials("subj01")
        np.savetxt(path, rows[:, :99], fmt="%d", delimiter=",")
        with pytest.raises(DamagedFileError, match="rows of 99 numbers between -1 and 1 where each has 100"):
            study(copy).trials("subj01")
        path.unlink()
        with pytest.raises(CortexflowError, match=r"run03_label.csv does not exist; fetch the study with: cortexflow data fetch miyawaki2008"):
            study(copy).trials("subj01")

    def test_a_file_cut_short(self, copy):
        path = copy / "func/data_random_run05.nii.gz"
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(DamagedFileError, match="data_random_run05.nii.gz is damaged"):
            study(copy).trials("subj01")

    def test_a_lag_that_leaves_the_run(self, written):
        with pytest.raises(CortexflowError, match="a lag of 4 volumes leads out of a run"):
            study(written[0], lag=4).trials("subj01")
        with pytest.raises(CortexflowError, match="no subject 'S1'"):
            study(written[0]).trials("S1")

    def test_every_check_is_good_and_the_catalogue_finds_it(self, written):
        assert not [check for check in study(written[0]).check() if check.wrong]
        assert catalog.find("data", "miyawaki2008") is Miyawaki2008
