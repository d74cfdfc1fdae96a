"""The same picture has the same bytes, whatever it is asked for with, and in whatever layout the file has it."""

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from cortexflow.data.nsd_layout import pictures
from cortexflow.data.nsd_layout.pictures import read_pictures
from cortexflow.errors import CortexflowError, DamagedFileError

LAYOUTS = {"one piece": {}, "blocks": {"chunks": (1, 30, 20, 3), "compression": "gzip"}, "other blocks": {"chunks": (4, 7, 20, 2)}}
COUNT = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, values = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0).integers(0, 256, (COUNT, 30, 20, 3), dtype=np.uint8)
    for name, layout in LAYOUTS.items():
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("imgBrick", data=values, **layout)
    return folder, values


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("together", [1, 3, 32])
@pytest.mark.parametrize("threads", [1, 3])
def test_any_order_with_repeats_gives_the_pictures_of_the_file(files, layout, together, threads, monkeypatch):
    folder, values = files
    monkeypatch.setattr(pictures, "TOGETHER", together)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    stimuli = torch.tensor([7, 39, 0, 7, 7, 21, 0, 38, 5])
    read = read_pictures(folder / layout, stimuli, (30, 20))
    assert read.is_contiguous() and np.array_equal(read.numpy(), values[stimuli].transpose(0, 3, 1, 2))
    small = read_pictures(folder / layout, stimuli, (9, 16))
    for stimulus, picture in zip(stimuli.tolist(), small, strict=True):
        expected = np.asarray(Image.fromarray(values[stimulus]).resize((16, 9), Image.Resampling.BICUBIC))
        assert np.array_equal(picture.permute(1, 2, 0).numpy(), expected)


def test_a_picture_is_read_once_and_in_the_order_of_the_file(files, monkeypatch):
    places, read = [], h5py.Dataset.read_direct
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda self, to, source, into: places.append(source) or read(self, to, source, into))
    read_pictures(files[0] / "one piece", torch.tensor([9, 3, 9, 3, 1]), (30, 20))
    assert places == [1, 3, 9]


def test_no_pictures_are_none(files):
    assert read_pictures(files[0] / "blocks", torch.tensor([], dtype=torch.long), (30, 20)).shape == (0, 3, 30, 20)


@pytest.mark.parametrize("ids", [[-1, 3], [2, COUNT]])
def test_ids_that_are_none_of_the_file_are_refused(files, ids):
    with pytest.raises(CortexflowError, match=f"has pictures 0 to 39, asked were {ids[0]} to {ids[1]}"):
        read_pictures(files[0] / "blocks", torch.tensor(ids), (30, 20))


def test_files_of_something_else_are_damaged(files, tmp_path):
    with h5py.File(tmp_path / "grey.hdf5", "w") as file:
        file["imgBrick"] = np.zeros((4, 30, 20), dtype=np.uint8)
    with h5py.File(tmp_path / "real.hdf5", "w") as file:
        file["imgBrick"] = np.zeros((4, 30, 20, 3), dtype=np.float32)
    content = (files[0] / "one piece").read_bytes()
    (tmp_path / "short.hdf5").write_bytes(content[: len(content) // 2])
    for name in ("grey", "real", "short"):
        with pytest.raises(DamagedFileError, match=f"{name}.hdf5") as error:
            read_pictures(tmp_path / f"{name}.hdf5", torch.tensor([1]), (30, 20))
        assert "\n" not in str(error.value)
