import errno
import multiprocessing
import os
import signal
import time
import weakref

import pytest
import torch

from cortexflow import storage
from cortexflow.catalog import Choices
from cortexflow.data.base import Cortex, Dataset
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.features import cache as cache_module
from cortexflow.features.base import Features
from cortexflow.features.cache import FeatureCache


class Study(Dataset):
    """Pictures whose pixels are made from their id; ids 0 to 999."""

    title = "made for the tests"
    version = "a"
    subjects = ("subj01",)

    def images(self, stimuli):
        if (stimuli >= 1000).any() or (stimuli < 0).any():
            raise CortexflowError(f"no picture {stimuli.tolist()}; ids run from 0 to 999")
        seeds = [torch.Generator().manual_seed(number) for number in stimuli.tolist()]
        return torch.stack([torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8, generator=seed) for seed in seeds])

    def checksums(self):
        return {"pictures": self.version}

    def trials(self, subject):
        raise NotImplementedError

    def held_out(self):
        return torch.arange(0)

    def cortex(self, subject):
        return Cortex(subject, 0)


class Counting(Features):
    """Two levels, not in alphabetical order, and a note of every picture that was computed."""

    class Config(Choices):
        gain: float = 1.0
        pause: float = 0.0

    revision = "1"

    def __init__(self, config=None):
        super().__init__(config)
        self.computed = 0

    def extract(self, images):
        self.computed += len(images)
        time.sleep(self.config.pause)
        flat = images.flatten(1).float() * self.config.gain
        return {"whole": flat, "mean": flat.mean(1, keepdim=True)}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_PICTURES", 8)


def expected(ids):
    flat = Study().images(ids).flatten(1).float()
    return {"whole": flat, "mean": flat.mean(1, keepdim=True)}


def same(one, other):
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def shards(root):
    return sorted(root.rglob("shard-*"))


def ids_in(root):
    return sorted(number for path in shards(root) for number in storage.load_tensors(path)[0]["stimuli"].tolist())


@pytest.mark.parametrize("kept", [True, False])
def test_rows_come_in_the_order_asked_with_repeats(kept, tmp_path, small_shards):
    asked = torch.tensor([30, 2, 999, 2, 11, 30, 0, 5, 6, 7, 8, 9, 10])
    cache = FeatureCache(tmp_path if kept else None)
    assert same(cache.get(Counting(), Study(), asked, batch=3), expected(asked))
    assert same(cache.get(Counting(), Study(), asked.flip(0), batch=5), expected(asked.flip(0)))
    assert bool(shards(tmp_path)) == kept


def test_nothing_is_computed_twice(tmp_path, small_shards):
    features = Counting()
    FeatureCache(tmp_path).get(features, Study(), torch.arange(20), batch=4)
    assert features.computed == 20
    FeatureCache(tmp_path).get(features, Study(), torch.arange(20).repeat(2), batch=4)
    assert features.computed == 20
    FeatureCache(tmp_path).get(features, Study(), torch.arange(15, 25), batch=4)
    assert features.computed == 25
    assert ids_in(tmp_path) == list(range(25))


def test_without_a_root_every_picture_is_computed_once_a_call():
    features = Counting()
    FeatureCache(None).get(features, Study(), torch.tensor([3, 3, 4]))
    assert features.computed == 2
    with pytest.raises(CortexflowError, match="make it with a root"):
        FeatureCache(None).folder(features, Study())


def test_other_choices_revisions_and_pictures_are_other_folders(tmp_path, monkeypatch):
    cache, study = FeatureCache(tmp_path), Study()
    folders = {cache.folder(Counting(), study), cache.folder(Counting(Counting.Config(gain=2)), study)}
    monkeypatch.setattr(Counting, "revision", "2")
    folders.add(cache.folder(Counting(), study))
    monkeypatch.setattr(Study, "version", "b")
    folders.add(cache.folder(Counting(), Study()))
    assert len(folders) == 4
    assert all(folder.parent.name.startswith("test_feature_cache-") and folder.parent.parent == tmp_path for folder in folders)


def test_checksums_of_a_study_are_asked_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Study, "checksums", lambda self: asked.append(1) or {"pictures": "a"})
    cache, study = FeatureCache(tmp_path), Study()
    for _ in range(3):
        cache.get(Counting(), study, torch.arange(3))
    assert len(asked) == 1


def test_progress_ends_with_everything_ready(tmp_path):
    steps = []
    FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(4), batch=4)
    FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(10), batch=4, progress=lambda *step: steps.append(step))
    assert steps == [(8, 10), (10, 10), (10, 10)]


def test_unknown_pictures_are_the_studys_error_and_what_was_written_stays(tmp_path, small_shards):
    with pytest.raises(CortexflowError, match="ids run from 0 to 999"):
        FeatureCache(tmp_path).get(Counting(), Study(), torch.cat([torch.arange(16), torch.tensor([5000])]), batch=4)
    assert ids_in(tmp_path) == list(range(16))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda images: {"x": torch.zeros(1, 3)}, "one row"),
        (lambda images: {"x": torch.full((len(images), 3), torch.nan)}, "not finite"),
    ],
)
def test_bad_features_never_reach_the_cache(bad, says, tmp_path, monkeypatch):
    monkeypatch.setattr(Counting, "__call__", lambda self, images: bad(images))  # in tests the shapes of extract are checked before
    with pytest.raises(CortexflowError, match=f"level x of test_feature_cache.*{says}"):
        FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(5))
    assert not shards(tmp_path)


def test_nothing_asked_is_an_error(tmp_path):
    with pytest.raises(CortexflowError, match="one or more"):
        FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(0))


def flip_a_byte(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_changed_shard_is_named_and_can_be_deleted(tmp_path, small_shards):
    cache = FeatureCache(tmp_path)
    cache.get(Counting(), Study(), torch.arange(16), batch=4)
    damaged = shards(tmp_path)[0]
    ids = storage.load_tensors(damaged)[0]["stimuli"]
    flip_a_byte(damaged, -20)
    with pytest.raises(DamagedFileError, match="delete it") as caught:
        cache.get(Counting(), Study(), torch.arange(16))
    assert str(damaged) in str(caught.value) and "\n" not in str(caught.value)
    # A shard without asked ids is not read, so that one bad shard does not stop everybody.
    others = torch.arange(16)[~torch.isin(torch.arange(16), ids)]
    assert same(cache.get(Counting(), Study(), others), expected(others))
    damaged.unlink()
    features = Counting()
    assert same(cache.get(features, Study(), torch.arange(16)), expected(torch.arange(16)))
    assert features.computed == 8


@pytest.mark.parametrize("left", [0, 5, 200])
def test_a_truncated_shard_is_named(left, tmp_path):
    cache = FeatureCache(tmp_path)
    cache.get(Counting(), Study(), torch.arange(5))
    path = shards(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(DamagedFileError, match="delete it") as caught:
        cache.get(Counting(), Study(), torch.arange(5))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_features_that_changed_without_a_revision_are_noticed(tmp_path, monkeypatch):
    FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(5))
    monkeypatch.setattr(Counting, "extract", lambda self, images: {"whole": images.flatten(1).float()})
    with pytest.raises(CortexflowError, match="raise the extractor's revision"):
        FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(10))


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["os.replace", "cortexflow.storage.save_file", "os.fsync"])
def test_a_full_disk_leaves_nothing_half_written(place, tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(place, full)
        with pytest.raises(CortexflowError, match=r"No space left.*free space") as caught:
            cache.get(Counting(), Study(), torch.arange(5))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in ([], [".lock"])
    assert same(cache.get(Counting(), Study(), torch.arange(5)), expected(torch.arange(5)))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CortexflowError, match="choose another folder"):
        FeatureCache(tmp_path / "file").get(Counting(), Study(), torch.arange(5))


def test_a_lock_that_is_never_released_is_one_line(tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)
    folder = cache.folder(Counting(), Study())
    folder.mkdir(parents=True)
    monkeypatch.setattr(cache_module, "PATIENCE", 0.05)
    with cache_module.FileLock(folder / ".lock"), pytest.raises(CortexflowError, match="end that process"):
        cache.get(Counting(), Study(), torch.arange(5))


def test_an_interrupted_writer_loses_one_shard(tmp_path, monkeypatch, small_shards):
    written = []

    def interrupted(*arguments):
        if written:
            raise KeyboardInterrupt
        written.append(storage.save_tensors(*arguments))

    with monkeypatch.context() as patched:
        patched.setattr(cache_module, "save_tensors", interrupted)
        with pytest.raises(KeyboardInterrupt):
            FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(20), batch=4)
    features = Counting()
    assert same(FeatureCache(tmp_path).get(features, Study(), torch.arange(20), batch=4), expected(torch.arange(20)))
    assert features.computed == 12


def test_the_result_and_one_shard_are_held(tmp_path, monkeypatch, small_shards):
    FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(40), batch=4)
    alive = []

    def watched(path):
        assert not any(reference() is not None for reference in alive), "a shard is still held when the next is read"
        tensors, made_of = storage.load_tensors(path)
        alive.append(weakref.ref(tensors["level.whole"]))
        return tensors, made_of

    monkeypatch.setattr(cache_module, "load_tensors", watched)
    FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(40).flip(0))
    assert len(alive) == 5


def test_big_features_make_shards_of_fewer_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_BYTES", 10 * 49 * 4)
    FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(20), batch=5)
    assert [len(storage.load_tensors(path)[0]["stimuli"]) for path in shards(tmp_path)] == [10, 10]


def fill(root, together, ids, answers):
    """What a process of its own does: wait for the other, then ask for everything."""
    torch.set_num_threads(1)
    cache_module.SHARD_PICTURES = 8
    features = Counting(Counting.Config(pause=0.005))
    together.wait(300)
    levels = FeatureCache(root).get(features, Study(), ids, batch=4)
    answers.put((ids.tolist(), {name: values.numpy() for name, values in levels.items()}))


def hang_while_writing(root, writing):
    """Never get to the renaming: the temporary file is on the disk and the lock in hand."""

    def forever(*_):
        writing.set()
        time.sleep(600)

    os.replace = forever
    FeatureCache(root).get(Counting(), Study(), torch.arange(5))


def test_two_processes_fill_one_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    together, answers = context.Barrier(2), context.Queue()
    asked = [torch.arange(60), torch.arange(80).flip(0)[:60]]
    processes = [context.Process(target=fill, args=(tmp_path, together, ids, answers), daemon=True) for ids in asked]
    for process in processes:
        process.start()
    found = [answers.get(timeout=300) for _ in processes]
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    for ids, levels in found:
        assert same({name: torch.from_numpy(values) for name, values in levels.items()}, expected(torch.tensor(ids)))
    assert ids_in(tmp_path) == list(range(80))  # every picture once
    assert not list(tmp_path.rglob("*.part"))


def test_a_writer_killed_while_it_writes_leaves_a_working_cache(tmp_path):
    context = multiprocessing.get_context("spawn")
    writing = context.Event()
    process = context.Process(target=hang_while_writing, args=(tmp_path, writing), daemon=True)
    process.start()
    assert writing.wait(300)
    os.kill(process.pid, signal.SIGKILL)
    process.join(300)
    assert len(list(tmp_path.rglob("*.part"))) == 1 and not shards(tmp_path)
    assert same(FeatureCache(tmp_path).get(Counting(), Study(), torch.arange(5)), expected(torch.arange(5)))
    assert not list(tmp_path.rglob("*.part")) and ids_in(tmp_path) == list(range(5))
