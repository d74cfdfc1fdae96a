import functools
import http.server
import shutil
import threading

import numpy as np
import pytest
import torch

from cortexflow import catalog
from cortexflow.data.standardize import usable_voxels
from cortexflow.data.szinte2024 import Szinte2024
from cortexflow.errors import CortexflowError, DamagedFileError


@pytest.fixture(scope="module")
def root(recordings):
    return recordings / "szinte2024"


@pytest.fixture(scope="module")
def study(root):
    return Szinte2024(root=root)


@pytest.fixture(scope="module")
def trials(study):
    return study.trials("subj01")


def configured(root, **choices):
    return Szinte2024(Szinte2024.Config(**choices), root)


class TestTrials:
    def test_facts(self, trials):
        assert trials.responses.shape == (150, 2365)
        assert torch.isfinite(trials.responses).all()
        np.testing.assert_allclose(trials.responses.mean(0), 0, atol=1e-3)
        assert trials.stimuli.tolist() == list(range(150))
        assert trials.groups.unique(return_counts=True)[1].tolist() == [10, 42, 28, 42, 28]

    def test_dead_voxels_are_found(self, trials):
        usable = usable_voxels(trials)
        assert int(usable.sum()) == 2365 - 57
        assert (trials.responses[:, ~usable] == 0).all()

    def test_first_number_of_the_file(self, trials):
        assert trials.responses[0, 0] == pytest.approx(-0.798214, abs=1e-6)

    def test_every_volume_answers_the_frames_before_it(self, trials):
        weights = trials.exposure.weights.toarray()
        assert trials.exposure.stimuli.tolist() == list(range(150))
        assert not np.triu(weights).any()
        assert weights[60].argmax() in (60 - 4, 60 - 3)  # 5 s at 1.3 s a volume
        np.testing.assert_allclose(weights[60:].sum(1), 1, atol=1e-3)

    def test_a_lead_brings_the_answer_forward(self, root):
        ahead = configured(root, lead=2 * Szinte2024.TR).trials("subj01").exposure.weights.toarray()
        assert ahead[60].argmax() in (60 - 2, 60 - 1)

    def test_unknown_subject(self, study):
        with pytest.raises(CortexflowError, match="no subject 'subj02'; choose one of subj01"):
            study.trials("subj02")


class TestMovie:
    def test_shape_and_gray(self, study):
        pictures = study.images(torch.arange(150))
        assert pictures.shape == (150, 3, 45, 80) and pictures.dtype == torch.uint8
        assert torch.equal(pictures[:, 0], pictures[:, 1]) and torch.equal(pictures[:, 0], pictures[:, 2])
        assert pictures.max() == 255

    def test_bars_are_on_screen_in_the_sweeps_only(self, study):
        lit = study.images(torch.arange(150))[:, 0].flatten(1).amax(1) > 0
        expected = torch.zeros(150, dtype=torch.bool)
        for start, stop in Szinte2024.SWEEPS:
            expected[start:stop] = True
        assert torch.equal(lit, expected)

    def test_bars_move_as_the_publication_says(self, study):
        """Right to left, down, left to right, up; positions from the published coordinates."""
        movie, screen = study.images(torch.arange(150))[:, 0].double(), study.screen().double()
        centre = (movie[..., None] * screen).sum((1, 2)) / movie.sum((1, 2))[:, None].clamp(min=1)
        for (start, stop), axis, first in zip(Szinte2024.SWEEPS, (0, 1, 0, 1), (8, 4, -8, -4), strict=True):
            path = centre[start:stop, axis].numpy()
            assert np.sign(path[0]) == np.sign(first) and abs(path[0]) > abs(first)
            assert np.corrcoef(path, np.arange(stop - start))[0, 1] * np.sign(first) < -0.99
            assert centre[start + 2 : stop - 2, 1 - axis].abs().max() < 0.8

    def test_the_screen_stands_upright(self, study):
        screen = study.screen()
        assert screen.shape == (45, 80, 2)
        assert (screen[:, 1:, 0] > screen[:, :-1, 0]).all() and (screen[1:, :, 1] < screen[:-1, :, 1]).all()
        assert screen[0, 0].tolist() == pytest.approx([-8.912435, 5.0342207])

    def test_order_and_repeats_of_ids_are_kept(self, study):
        pictures = study.images(torch.tensor([30, 12, 30]))
        assert torch.equal(pictures[0], pictures[2])
        assert torch.equal(pictures[1], study.images(torch.tensor([12]))[0])
        assert not torch.equal(pictures[0], pictures[1])

    @pytest.mark.parametrize("wrong", [-1, 150])
    def test_an_id_that_is_no_volume(self, study, wrong):
        with pytest.raises(CortexflowError, match=f"stimuli 0 to 149, {wrong} was asked"):
            study.images(torch.tensor([3, wrong]))

    def test_the_cut_is_the_middle(self, root, study):
        square = configured(root, cut_pixels=(45, 45))
        whole = study.images(torch.arange(150))
        assert torch.equal(square.images(torch.arange(150)), whole[..., 17:62])
        assert square.screen()[..., 0].abs().max() < 5.2
        with pytest.raises(CortexflowError, match="45 × 80 pixels, 46 × 80 were asked"):
            configured(root, cut_pixels=(46, 80)).images(torch.tensor([0]))


class TestControls:
    def test_on_off_keeps_the_onset_alone(self, root, study):
        blank = study.images(torch.arange(150)).flatten(1).amax(1) == 0
        control = configured(root, control="on_off").images(torch.arange(150))
        assert (control[blank] == 0).all() and (control[~blank] == 255).all()

    def test_shuffled_keeps_the_frames_of_each_sweep(self, root, study):
        whole = study.images(torch.arange(150))
        shuffled = configured(root, control="shuffled").images(torch.arange(150))
        assert not torch.equal(shuffled, whole)
        for start, stop in Szinte2024.SWEEPS:
            frames, found = (sorted(p.numpy().tobytes() for p in pictures[start:stop]) for pictures in (whole, shuffled))
            assert frames == found
        assert torch.equal(shuffled, configured(root, control="shuffled").images(torch.arange(150)))
        assert not torch.equal(shuffled, configured(root, control="shuffled", seed=1).images(torch.arange(150)))

    def test_the_movie_tells_in_the_checksums(self, root, study):
        assert study.checksums() != configured(root, control="shuffled").checksums()
        assert study.checksums() == configured(root, held_out_sweep=2).checksums()


class TestSplit:
    @pytest.mark.parametrize("sweep", range(4))
    def test_a_sweep_is_held_out_with_its_tail(self, root, trials, sweep):
        held = configured(root, held_out_sweep=sweep).held_out()
        assert torch.equal(held, torch.arange(*Szinte2024.SEGMENTS[sweep]))
        assert trials.of(held).groups.unique().tolist() == [sweep]
        assert sweep not in trials.where(~torch.isin(trials.stimuli, held)).groups

    def test_a_fifth_sweep_is_refused(self):
        with pytest.raises(CortexflowError, match="held_out_sweep"):
            catalog.configure("data", {"name": "szinte2024", "held_out_sweep": 4})


class TestCortex:
    def test_areas(self, study):
        cortex = study.cortex("subj01")
        assert cortex.voxels == 2365
        assert {name: int(mask.sum()) for name, mask in cortex.areas.items()} == {"V1": 2365, "prf r2 > .3": 626}

    def test_receptive_fields(self, study):
        fields = study.receptive_fields()
        assert set(fields) == {"x", "y", "sd", "baseline", "amplitude", "r2"}
        assert int(fields["r2"].isnan().sum()) == 1086


def ridge(features, responses, wanted, penalty):
    """Centred ridge in its dual form, and nothing else."""
    mean, level = features.mean(0), responses.mean(0)
    kernel = (features - mean) @ (features - mean).T + penalty * np.eye(len(features))
    return (wanted - mean) @ (features - mean).T @ np.linalg.solve(kernel, responses - level) + level


def voxel_correlation(left, right):
    """0 for the 57 voxels of the recording that are 0 throughout: the known figures count them so."""
    left, right = left - left.mean(0), right - right.mean(0)
    scale = np.sqrt((left**2).sum(0) * (right**2).sum(0))
    return np.where(scale > 1e-12, (left * right).sum(0) / np.maximum(scale, 1e-12), 0)


def leave_one_sweep_out(study):
    """Median r of all voxels, 95th percentile, median r of the voxels with a good published field."""
    trials = study.trials("subj01")
    frames = study.images(torch.arange(150))[:, 0].float() / 255
    pixels = frames.reshape(150, 9, 5, 16, 5).mean((2, 4)).flatten(1)
    features, responses = trials.exposure.mix(pixels).double().numpy(), trials.responses.double().numpy()
    groups, predicted = trials.groups.numpy(), np.zeros_like(responses)
    for sweep in range(4):
        train, test = groups != sweep, groups == sweep
        predicted[test] = ridge(features[train], responses[train], features[test], 10.0)
    r = voxel_correlation(predicted[groups >= 0], responses[groups >= 0])
    return np.median(r), np.percentile(r, 95), np.median(r[study.cortex("subj01").area("prf r2 > .3").numpy()])


class TestFigures:
    """The figures that are known for this recording, from the dataset's own trials, pictures and exposure."""

    def test_the_movie_predicts_as_published_with_the_recording(self, study):
        assert leave_one_sweep_out(study) == pytest.approx((0.158, 0.634, 0.393), abs=0.003)

    def test_bar_on_off(self, root):
        assert leave_one_sweep_out(configured(root, control="on_off")) == pytest.approx((0.149, 0.516, 0.239), abs=0.003)

    def test_shuffled_frames_do_worse(self, root, study):
        medians = [leave_one_sweep_out(configured(root, control="shuffled", seed=seed))[2] for seed in range(3)]
        assert np.mean(medians) < leave_one_sweep_out(study)[2] - 0.1

    def test_a_lead_of_two_volumes_is_the_better_clock(self, root):
        lead = 2 * Szinte2024.TR
        real, control = (leave_one_sweep_out(configured(root, lead=lead, control=control)) for control in ("none", "on_off"))
        assert real[0] > 0.45 and real[2] > 0.7
        assert control[0] < 0.2


class TestFiles:
    def test_no_folder(self):
        with pytest.raises(CortexflowError, match="cortexflow data fetch szinte2024 --to DIR"):
            Szinte2024().trials("subj01")

    def test_folder_without_the_files(self, tmp_path):
        with pytest.raises(CortexflowError, match=r"mask-v1_bold.tsv.gz does not exist; .*cortexflow data fetch szinte2024 --to DIR"):
            Szinte2024(root=tmp_path).trials("subj01")

    def test_a_truncated_file(self, root, tmp_path):
        whole = (root / "dm_gazecenter.npz").read_bytes()
        (tmp_path / "dm_gazecenter.npz").write_bytes(whole[:-1000])
        with pytest.raises(DamagedFileError, match="checksum does not match"):
            Szinte2024(root=tmp_path).images(torch.tensor([0]))

    def test_the_catalogue_finds_it(self):
        assert catalog.find("data", "szinte2024") is Szinte2024


@pytest.fixture
def served(root, tmp_path):
    """The files of the study on this machine's own web server; the folder can be changed by the test."""
    folder = tmp_path / "served"
    shutil.copytree(root, folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
    thread.join()


class TestFetch:
    def test_what_is_fetched_can_be_read(self, served, tmp_path, trials):
        address, _ = served
        Szinte2024.fetch(tmp_path / "new", [address])
        assert torch.equal(Szinte2024(root=tmp_path / "new").trials("subj01").responses, trials.responses)

    def test_whole_files_are_kept_and_missing_ones_added(self, served, tmp_path):
        address, folder = served
        Szinte2024.fetch(tmp_path / "new", [address])
        (tmp_path / "new" / "grid_coordinates.tsv").unlink()
        for name in Szinte2024.FILES:
            if name != "grid_coordinates.tsv":
                (folder / name).unlink()  # what is kept is not asked for
        Szinte2024.fetch(tmp_path / "new", [address])
        assert Szinte2024(root=tmp_path / "new").screen().shape == (45, 80, 2)

    def test_the_second_source_helps_where_the_first_has_nothing(self, served, tmp_path):
        address, _ = served
        Szinte2024.fetch(tmp_path / "new", [f"{address}/nowhere", address])
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(Szinte2024.FILES)

    def test_an_altered_file_is_refused(self, served, tmp_path):
        address, folder = served
        (folder / "dm_gazecenter.npz").write_bytes(b"something else")
        with pytest.raises(CortexflowError, match=r"dm_gazecenter.npz could not be downloaded .*hash") as caught:
            Szinte2024.fetch(tmp_path / "new", [address])
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "new" / "dm_gazecenter.npz").exists()

    def test_offline_says_what_to_do(self, tmp_path):
        with pytest.raises(CortexflowError, match="check the connection") as caught:
            Szinte2024.fetch(tmp_path, ["http://127.0.0.1:9/closed"])  # the discard port, where nobody listens
        assert "\n" not in str(caught.value)
