import threading

import pytest
import torch

from cortexflow.catalog import Choices
from cortexflow.data.base import Cortex, Dataset
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.features import cache as cache_module
from cortexflow.features.base import Features
from cortexflow.features.cache import FeatureCache


class Study(Dataset):
    """Pictures of one colour: the picture's id modulo 256. Notes who read what."""

    title = "made for the tests"
    subjects = ("subj01",)

    def __init__(self):
        super().__init__()
        self.readers, self.read = set(), []

    def images(self, stimuli):
        self.readers.add(threading.current_thread().name)
        self.read += stimuli.tolist()
        if (stimuli > 10_000).any():
            raise CortexflowError("no such picture")
        return (stimuli % 256).to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()

    def checksums(self):
        return {"pictures": "a"}

    def trials(self, subject):
        raise NotImplementedError

    def held_out(self):
        return torch.arange(0)

    def cortex(self, subject):
        return Cortex(subject, 0)


class Tokens(Features):
    """Two levels, not in alphabetical order."""

    class Config(Choices):
        pass

    revision = "1"

    def extract(self, images):
        colour = images[:, 0, 0, :1].float()
        return {"tokens": colour * torch.arange(1, 7), "class": colour}


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_PICTURES", 8)
    return FeatureCache(tmp_path).open(Tokens(), Study(), torch.arange(30, 80), batch=4)


def test_rows_are_those_of_the_asked_stimuli_in_their_order(stored):
    asked = torch.tensor([79, 31, 55, 31, 30])
    assert stored[asked]["tokens"].tolist() == [[number * column for column in range(1, 7)] for number in asked.tolist()]
    assert stored[asked]["class"].flatten().tolist() == asked.tolist()


def test_levels_keep_their_order_and_sizes(stored):
    assert list(stored.levels.items()) == [("tokens", 6), ("class", 1)]
    assert list(stored.read(torch.tensor([40]), "class")) == ["class"]
    assert len(stored) == 50


def test_batches_hold_every_picture_once(stored):
    seen = [(ids, rows) for ids, rows in stored.batches(7)]
    assert torch.cat([ids for ids, _ in seen]).sort().values.tolist() == list(range(30, 80))
    assert all(torch.equal(rows["class"].flatten(), ids.float()) for ids, rows in seen)


def test_the_same_numbers_as_in_memory(stored, tmp_path):
    asked = torch.tensor([33, 70, 41])
    whole = FeatureCache(tmp_path).get(Tokens(), Study(), asked)
    assert all(torch.equal(whole[name], stored[asked][name]) for name in whole)


def test_what_is_not_there_is_one_clear_line(stored):
    with pytest.raises(CortexflowError, match="no features for stimulus 81 "):
        stored[torch.tensor([40, 81])]
    with pytest.raises(CortexflowError, match="no level 'layer9'; choose one of tokens, class"):
        stored.read(torch.tensor([40]), "layer9")
    with pytest.raises(CortexflowError, match="without a root"):
        FeatureCache(None).open(Tokens(), Study(), torch.arange(3))


def test_a_damaged_shard_is_found_before_its_rows_are_used(tmp_path):
    cache, study = FeatureCache(tmp_path), Study()
    stored = cache.open(Tokens(), study, torch.arange(20))
    (shard,) = cache.folder(Tokens(), study).glob("shard-*")
    whole = bytearray(shard.read_bytes())
    whole[-1] ^= 1
    shard.write_bytes(bytes(whole))
    with pytest.raises(DamagedFileError):
        stored[torch.tensor([3])]


def test_pictures_are_read_once_each_in_another_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "SHARD_PICTURES", 8)
    study = Study()
    FeatureCache(tmp_path).get(Tokens(), study, torch.arange(50), batch=4)
    assert study.read == list(range(50))
    assert threading.current_thread().name not in study.readers


def test_the_next_batch_is_read_while_this_one_is_computed():
    """The extractor does not answer before the study was asked for the batch after its own."""
    begun = threading.Semaphore(0)

    class Watched(Study):
        def images(self, stimuli):
            begun.release()
            return super().images(stimuli)

    class Waiting(Tokens):
        def extract(self, images):
            first, last = images[0, 0, 0, 0] == 0, images[0, 0, 0, 0] == 12
            for _ in range(0 if last else 2 if first else 1):  # the first waits for its own batch and for the next
                assert begun.acquire(timeout=10), "nothing was read ahead"
            return super().extract(images)

    found = FeatureCache(None).get(Waiting(), Watched(), torch.arange(16), batch=4)
    assert found["class"].flatten().tolist() == list(range(16))


def test_an_error_of_the_study_passes_through(tmp_path):
    with pytest.raises(CortexflowError, match="no such picture"):
        FeatureCache(tmp_path).get(Tokens(), Study(), torch.tensor([1, 2, 20_000]), batch=2)
