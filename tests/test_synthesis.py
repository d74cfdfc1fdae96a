import multiprocessing
import os
import resource
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from cortexflow.data.simulated import Simulated
from cortexflow.errors import CortexflowError
from cortexflow.storage import load_json
from cortexflow.synthesis import list_pictures, read_picture, synthesize
from cortexflow.training import Machine, RunConfig, train

DATA = {"name": "simulated", "images": 220, "held_out": 40, "voxels": 40, "image_size": 32}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    tree = {"data": DATA, "features": ["pixels"], "components": 20, "encoder": {"name": "ridge", "factors": 2}}
    return train(RunConfig.of(tree), tmp_path_factory.mktemp("runs") / "ridge", Machine())


def test_a_picture_that_a_camera_turned_is_read_upright(tmp_path):
    upright = Image.new("RGB", (8, 8), "black")
    upright.paste("white", (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn it clockwise to look at it
    upright.rotate(90).save(tmp_path / "turned.png", exif=exif)
    picture = read_picture(tmp_path / "turned.png", (8, 8))
    assert int(picture[:, :4].min()) == 255 and int(picture[:, 4:].max()) == 0


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(70):
        Image.fromarray(noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number:03d}.png")
    return folder


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_mean_and_samples_of_every_picture(run, pictures, tmp_path, suffix):
    out = synthesize(run, pictures, tmp_path / f"out{suffix}", samples=3)
    with np.load(out) if suffix == ".npz" else h5py.File(out) as file:
        mean, samples, voxels = (np.asarray(file[name]) for name in ("mean", "samples", "voxels"))
    assert mean.shape == (70, 40) and samples.shape == (3, 70, 40) and voxels.tolist() == list(range(40))
    images = torch.stack([read_picture(path, (32, 32)) for path in list_pictures(pictures)])
    with torch.no_grad():
        expected = run.encoder.predict(run.space.of_images(images)).numpy()
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    assert np.ptp(samples, axis=0).min() > 0
    assert abs((samples.mean(0) - mean).mean()) < 0.2


def test_both_formats_and_every_batch_give_the_same_draws(run, pictures, tmp_path, monkeypatch):
    one = np.load(synthesize(run, pictures, tmp_path / "a.npz", samples=2))["samples"]
    monkeypatch.setattr("cortexflow.synthesis.BATCH", 7)
    with h5py.File(synthesize(run, pictures, tmp_path / "b.h5", samples=2)) as file:
        np.testing.assert_allclose(one, file["samples"][()], atol=1e-5)


def test_a_pictures_draws_do_not_depend_on_its_neighbours(run, pictures, tmp_path):
    before = np.load(synthesize(run, pictures, tmp_path / "a.npz"))["samples"][:, 69]
    (pictures / "000.png").unlink()
    after = np.load(synthesize(run, pictures, tmp_path / "b.npz"))["samples"][:, 68]
    np.testing.assert_allclose(before, after, atol=1e-5)
    other = np.load(synthesize(run, pictures, tmp_path / "c.npz", seed=1))["samples"][:, 68]
    assert np.abs(other - after).max() > 0.1


def test_a_mean_of_trials_is_quieter_and_is_the_mean_of_its_draws(run, pictures, tmp_path):
    single = np.load(synthesize(run, pictures, tmp_path / "a.npz", samples=8))
    means = np.load(synthesize(run, pictures, tmp_path / "b.npz", samples=2, average=4))
    np.testing.assert_allclose(means["samples"], single["samples"].reshape(2, 4, 70, 40).mean(1), atol=1e-5)
    assert load_json(tmp_path / "b.npz.manifest.json")["average"] == 4
    noise = [np.square(one["samples"] - one["mean"]).mean() for one in (means, single)]
    assert noise[0] / noise[1] == pytest.approx(1 / 4, rel=0.1)
    with pytest.raises(CortexflowError, match="--average 1 or more"):
        synthesize(run, pictures, tmp_path / "c.npz", average=0)


def test_areas_and_manifest(run, pictures, tmp_path):
    out = synthesize(run, pictures, tmp_path / "out.npz", areas="V1,IT")
    voxels = (run.encoder.cortex.areas["V1"] | run.encoder.cortex.areas["IT"]).nonzero().flatten()
    assert np.load(out)["voxels"].tolist() == voxels.tolist()
    manifest = load_json(str(out) + ".manifest.json")
    assert [one["file"] for one in manifest["pictures"]][:2] == ["000.png", "001.png"]
    assert manifest["voxels"] == len(voxels) and manifest["subject"] == "subj01" and "z-scored" in manifest["units"]


def test_voxels_are_numbered_as_in_the_study(pictures, tmp_path):
    tree = {"data": DATA, "area": "hV4", "features": ["pixels"], "components": 20, "encoder": {"name": "ridge", "factors": 1}}
    run = train(RunConfig.of(tree), tmp_path / "run", Machine())
    whole = Simulated(Simulated.Config(**{name: value for name, value in DATA.items() if name != "name"})).cortex("subj01")
    found = np.load(synthesize(run, pictures, tmp_path / "out.npz"))["voxels"]
    assert found.tolist() == whole.areas["hV4"].nonzero().flatten().tolist()


def test_pictures_of_any_mode_and_shape_are_read_as_a_person_sees_them(tmp_path):
    colour = Image.new("RGB", (64, 32), (200, 30, 10))
    for name, image in {
        "grey.png": colour.convert("L"),
        "palette.png": colour.convert("P"),
        "jpeg.jpg": colour,
        "wide.webp": colour,
    }.items():
        image.save(tmp_path / name)
        assert read_picture(tmp_path / name, (16, 16)).shape == (3, 16, 16)
    Image.fromarray(np.full((8, 8), 40_000, dtype=np.uint16)).save(tmp_path / "sixteen.png")
    assert (read_picture(tmp_path / "sixteen.png", (8, 8)) == 40_000 >> 8).all()
    see_through = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    see_through.save(tmp_path / "alpha.png")
    assert (read_picture(tmp_path / "alpha.png", (8, 8)) == 128).all()
    half = Image.new("RGB", (40, 20), (0, 0, 0))
    half.paste((255, 255, 255), (10, 0, 30, 20))
    half.save(tmp_path / "crop.png")
    assert (read_picture(tmp_path / "crop.png", (20, 20)) == 255).all()  # the middle is kept, nothing is squeezed


def test_bad_input_is_one_clear_line(run, pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, message in {tmp_path / "absent": "is not a folder", tmp_path / "empty": "holds no pictures"}.items():
        with pytest.raises(CortexflowError, match=message):
            synthesize(run, folder, tmp_path / "out.npz")
    with pytest.raises(CortexflowError, match=r"no known type; end it in \.npz"):
        synthesize(run, pictures, tmp_path / "out.mat")
    with pytest.raises(CortexflowError, match="at least 1"):
        synthesize(run, pictures, tmp_path / "out.npz", samples=0)
    with pytest.raises(CortexflowError, match=r"at most 500 samples, 501 were asked; write a \.h5 file"):
        synthesize(run, pictures, tmp_path / "out.npz", samples=501)
    with pytest.raises(CortexflowError, match="has no area 'FFA'; choose from V1"):
        synthesize(run, pictures, tmp_path / "out.npz", areas="FFA")


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_broken_picture_leaves_nothing_half_written(run, pictures, tmp_path, suffix):
    whole = (pictures / "050.png").read_bytes()
    (pictures / "050.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CortexflowError, match=r"050\.png is not a readable picture"):
        synthesize(run, pictures, tmp_path / f"out{suffix}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("size", [100, 3_000, 20_000])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(run, pictures, tmp_path, suffix, size):
    """In a process of its own, because HDF5 ends the process where a write fails."""

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            synthesize(run, pictures, tmp_path / f"out{suffix}")
        except CortexflowError as error:
            os._exit(7 if "File too large" in str(error) else 1)

    process = multiprocessing.get_context("fork").Process(target=fill)
    process.start()
    process.join()
    assert process.exitcode == 7
    assert os.listdir(tmp_path) == ["pictures"]


def test_responses_without_room_for_their_manifest_are_not_left(run, pictures, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cortexflow.synthesis.json", SimpleNamespace(dumps=full))
    with pytest.raises(CortexflowError, match="No space left on device"):
        synthesize(run, pictures, tmp_path / "out.npz")
    assert os.listdir(tmp_path) == ["pictures"]
