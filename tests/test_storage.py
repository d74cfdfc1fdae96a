import errno
import json
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.storage import FORMAT, checksum, fingerprint, load_json, load_tensors, replacing, save_json, save_tensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "empty": torch.zeros(0, 4), "mask": torch.tensor([True, False]), "scalar": torch.tensor(3)}


def test_tensors_and_metadata_round_trip(tmp_path):
    save_tensors(tmp_path / "x.safetensors", TENSORS, {"name": "ridge", "sizes": [1, 2]})
    tensors, metadata = load_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(tensors[name], value) and tensors[name].dtype == value.dtype for name, value in TENSORS.items())
    assert metadata == {"format": FORMAT, "name": "ridge", "sizes": [1, 2]}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "x.safetensors"
    save_tensors(path, TENSORS, {"name": "ridge"})
    return path


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed_or_harmless(stored, position, bit):
    whole = bytearray(stored.read_bytes())
    whole[position % len(whole)] ^= 1 << bit
    altered = stored.with_name("altered.safetensors")
    altered.write_bytes(whole)
    try:
        tensors, metadata = load_tensors(altered)
    except CortexflowError:
        return
    assert metadata["name"] == "ridge"
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


@given(st.integers(0, 1_000))
def test_every_truncation_is_noticed(stored, length):
    whole = stored.read_bytes()
    short = stored.with_name("short.safetensors")
    short.write_bytes(whole[: length % len(whole)])
    with pytest.raises(DamagedFileError, match="delete it and make it again"):
        load_tensors(short)


def test_a_newer_format_is_not_guessed_at(tmp_path, monkeypatch):
    monkeypatch.setattr("cortexflow.storage.FORMAT", FORMAT + 1)
    save_tensors(tmp_path / "x.safetensors", TENSORS)
    monkeypatch.undo()
    with pytest.raises(CortexflowError, match="newer cortexflow"):
        load_tensors(tmp_path / "x.safetensors")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.json"
    save_json(path, {"old": 1})
    with pytest.raises(CortexflowError, match="No space left"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert load_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["x.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which is always out of space")
def test_a_full_disk_is_one_clear_line(tmp_path):
    with pytest.raises(CortexflowError, match="No space left on device"), replacing(tmp_path / "x.json"), open("/dev/full", "w") as full:
        full.write("x" * 100_000)
        full.flush()
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "x.json") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    def begin(path):
        with replacing(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("x.json", "y.json"):
        process = multiprocessing.get_context("fork").Process(target=begin, args=(tmp_path / name,))
        process.start()
        process.join()
    assert len(os.listdir(tmp_path)) == 2
    with replacing(tmp_path / "x.json") as mine:
        mine.write_text("1")
        save_json(tmp_path / "x.json", 2)  # another writer of the same file, who must not take ours for an orphan
        assert mine.exists()
    assert load_json(tmp_path / "x.json") == 1
    assert [name for name in os.listdir(tmp_path) if name != "x.json" and not name.startswith(".y.json.")] == []


def test_json_holds_no_nan(tmp_path):
    save_json(tmp_path / "x.json", {"r": float("nan"), "all": [1.0, float("inf"), torch.tensor(2.0)]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"r": None, "all": [1.0, None, 2.0]}


def test_damaged_and_absent_json_are_clear_errors(tmp_path):
    (tmp_path / "x.json").write_text('{"a": 1')
    with pytest.raises(DamagedFileError, match="not valid JSON"):
        load_json(tmp_path / "x.json")
    with pytest.raises(CortexflowError, match="cannot be read"):
        load_json(tmp_path / "absent.json")


def test_checksums_and_fingerprints(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert checksum(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def test_threads_that_write_leave_the_permissions_of_later_files_alone(tmp_path):
    before = os.umask(0o022)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: save_json(tmp_path / f"{number % 16}.json", number), range(800)))
        assert os.umask(0o022) == 0o022
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
    finally:
        os.umask(before)
