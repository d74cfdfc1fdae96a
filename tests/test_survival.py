"""Kills, full disks and damaged files, a few of each; benchmarks/kills.py and benchmarks/mutations.py make many."""

import errno
import itertools
import os
import random
import shutil
import signal
import sys
import time

import numpy as np
import pytest
import torch
import torch._dynamo  # what every optimiser imports, seconds that no child should spend
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from cortexflow import catalog
from cortexflow.app import cli
from cortexflow.storage import load_json, load_tensors, save_tensors

TREE = "data.name=simulated data.images=60 data.held_out=12 data.voxels=20 data.image_size=16 data.sessions=2 data.subjects=1"
TREE += " features=[pixels] components=5 encoder.name=mlp encoder.hidden=8 encoder.factors=1 training.epochs=4 training.batch=64"
EQUAL = ("encoder.safetensors", "space.safetensors", "voxels.safetensors", "metrics.jsonl", "run.json")

for module in (
    "report.evaluation",
    "report.page",
    "synthesis",
    "data.simulated",
    "features.pixels",
    "encoding.mlp",
    "encoding.ridge",
    "encoding.null",
):
    catalog.load(f"cortexflow.{module}")  # children are forks


def training(place, *more):
    """The words that train in a folder of their own; the same words continue."""
    settings = [word for setting in [*TREE.split(), *more] for word in ("-s", setting)]
    return ["train", "--resume", "--out", place / "run", "--cache", place / "cache", *settings]


class Child:
    """A command in a child of this process, which can be killed without harm to it; ``prepare`` is called before the command."""

    def __init__(self, words, log, prepare=lambda: None):
        self.log = log
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                for number in (1, 2):
                    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                sys.argv = ["cortexflow", *map(str, words)]
                prepare()
                cli.main()
                code = 0
            except SystemExit as end:
                code = end.code
            finally:
                sys.stderr.flush()
                os._exit(code)

    def end(self):
        """Its exit code (minus the signal that ended it) and the last line that it wrote."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        lines = self.log.read_text().splitlines()
        self.log.unlink()
        return code, [line for line in lines if "Traceback" in line] or lines[-1:]


def at_step(folder, number, act):
    """Call ``act`` in front of the operations on files in a folder, from the ``number``-th on; in a child, as a hook stays."""
    counter = itertools.count(1)

    def watch(event, arguments):
        changes = event in ("os.rename", "os.remove", "os.mkdir") or (event == "open" and any(letter in (arguments[1] or "") for letter in "wax+"))
        if changes and str(arguments[0]).startswith(str(folder)) and next(counter) >= number:
            act(event)

    sys.addaudithook(watch)


def die(event):
    os.kill(os.getpid(), signal.SIGKILL)


def no_space(event):
    if event != "os.remove":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def content(path):
    """What a file says, without what may differ between equal runs."""
    if path.suffix == ".safetensors":
        return {name: (value.dtype, value.shape, value.numpy().tobytes()) for name, value in load_tensors(path)[0].items()}
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return {name: archive[name].tobytes() for name in archive.files}
    return path.read_bytes() if path.name != "metrics.json" else {k: v for k, v in load_json(path).items() if k not in ("made", "files", "checksum")}


def same(place, whole):
    assert not [path for path in place.rglob(".*") if path.name.endswith(".part")], "a temporary file is left"
    assert not (place / "run" / "state.safetensors").exists()
    for name in EQUAL:
        assert content(place / "run" / name) == content(whole / "run" / name), name
    for shard in (whole / "cache").rglob("shard-*"):
        assert content(place / shard.relative_to(whole)) == content(shard)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run with its cache, and how long it took."""
    folder = tmp_path_factory.mktemp("whole")
    started = time.perf_counter()
    assert Child(training(folder), folder / "log").end()[0] == 0
    return folder, time.perf_counter() - started


@pytest.mark.parametrize("step", [1, 4, 9, 16, 25, 33])
def test_a_kill_in_front_of_any_step_is_made_good_by_the_same_command(step, whole, tmp_path):
    assert Child(training(tmp_path), tmp_path / "log", lambda: at_step(tmp_path, step, die)).end()[0] == -signal.SIGKILL
    assert Child(training(tmp_path), tmp_path / "log").end()[0] == 0
    same(tmp_path, whole[0])


def test_kills_at_random_moments_are_made_good(whole, tmp_path):
    generator, kills = random.Random(0), 0
    while kills < 3:
        child = Child(training(tmp_path), tmp_path / "log")
        time.sleep(generator.random() * whole[1])
        os.kill(child.pid, signal.SIGKILL)
        kills += 1
        if child.end()[0] == 0:
            break
    assert Child(training(tmp_path), tmp_path / "log").end()[0] == 0
    same(tmp_path, whole[0])


@pytest.mark.parametrize("step", [1, 8, 22])
def test_a_full_disk_is_one_line_and_is_made_good_with_space(step, whole, tmp_path):
    code, said = Child(training(tmp_path), tmp_path / "log", lambda: at_step(tmp_path / "run", step, no_space)).end()
    assert code == 2 and said[0].startswith("error: ") and "No space left" in said[0]
    assert Child(training(tmp_path), tmp_path / "log").end()[0] == 0
    same(tmp_path, whole[0])


# Damaged files.


def truncated(generator, path, spare):
    path.write_bytes(path.read_bytes()[: generator.randrange(path.stat().st_size)])


def bit_flipped(generator, path, spare):
    text = bytearray(path.read_bytes())
    text[generator.randrange(len(text))] ^= 1 << generator.randrange(8)
    path.write_bytes(bytes(text))


def removed(generator, path, spare):
    path.unlink()


def swapped(generator, path, spare):
    """By the same file of another run, whole and valid."""
    shutil.copy(next(spare.rglob("shard-*" if path.name.startswith("shard-") else path.name)), path)


def sealed(change):
    """A tensor of another kind under a valid checksum; a text becomes another text."""

    def damage(generator, path, spare):
        if path.suffix != ".safetensors":
            path.write_text(path.read_text().replace("1", "2"))
            return
        tensors, about = load_tensors(path)
        name = generator.choice(sorted(name for name, value in tensors.items() if value.numel()))
        save_tensors(path, tensors | {name: change(tensors[name])}, about)

    return damage


def stale(generator, path, spare):
    """Other numbers under the old checksum."""
    if path.suffix != ".safetensors":
        return truncated(generator, path, spare)
    with safe_open(path, framework="pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    name = generator.choice(sorted(name for name, value in tensors.items() if value.numel()))
    save_file(tensors | {name: tensors[name] == 0}, path, metadata=about)


DAMAGES = (truncated, bit_flipped, removed, swapped, stale, sealed(lambda value: value[None]), sealed(lambda value: value.to(torch.float64)))


@pytest.fixture(scope="module")
def damaged_of(whole, tmp_path_factory):
    """Makes a room with one damaged file: an evaluated run, its cache and two pictures; and a room of another run."""
    room, other = tmp_path_factory.mktemp("room"), tmp_path_factory.mktemp("other")
    shutil.copytree(whole[0] / "run", room / "run")
    shutil.copytree(whole[0] / "cache", room / "cache")
    assert Child(training(other, "seed=1", "data.seed=1"), room / "log").end()[0] == 0
    for place in (room, other):
        assert Child(["evaluate", place / "run", "--cache", place / "cache", "--draws", 2], room / "log").end()[0] == 0
    (room / "pictures").mkdir()
    for number in range(2):
        Image.new("RGB", (20, 16), (90 * number, 200, 30)).save(room / "pictures" / f"{number}.png")

    def damaged(place, file, damage, generator):
        shutil.copytree(room, place, dirs_exist_ok=True)
        if damage is not None:
            damage(generator, next(place.glob(file)), other)

    return damaged


def reading(place):
    """By name: the words of a command, and what it leaves."""
    return {
        "evaluate": (["evaluate", place / "run", "--cache", place / "cache", "--draws", 2, "--out", place / "out"], "out/metrics.json"),
        "synthesize": (["synthesize", place / "run", place / "pictures", "--out", place / "out.npz"], "out.npz"),
        "report": (["report", place / "run"], "run/report.html"),
        "train": ([*training(place)[:3], place / "new", *training(place)[4:]], "new/encoder.safetensors"),
    }


READ = {  # every file of ours, and a command that reads it
    "run/run.json": "synthesize",
    "run/provenance.json": "synthesize",
    "run/metrics.json": "report",
    "run/evaluation.safetensors": "report",
    "run/encoder.safetensors": "synthesize",
    "run/space.safetensors": "evaluate",
    "run/voxels.safetensors": "synthesize",
    "cache/*/*/shard-*": "train",
}
RIGHT = {}


@pytest.mark.parametrize("file", READ)
@pytest.mark.parametrize("number", range(3))
def test_a_damaged_file_is_told_in_one_line_or_does_no_harm(file, number, damaged_of, tmp_path, monkeypatch):
    monkeypatch.setattr("cortexflow.report.page.svg", lambda figure: "<svg/>")  # figures are most of the time of a page
    generator, way = random.Random(f"{file} {number}"), READ[file]
    place = tmp_path / "place"  # of one name, as a page shows it
    if way not in RIGHT:
        damaged_of(tmp_path / "first" / "place", "", None, generator)
        words, result = reading(tmp_path / "first" / "place")[way]
        assert Child(words, tmp_path / "log").end()[0] == 0
        RIGHT[way] = content(tmp_path / "first" / "place" / result)
    damage = DAMAGES[(number + 2 * list(READ).index(file)) % len(DAMAGES)]
    damaged_of(place, file, damage, generator)
    words, result = reading(place)[way]
    code, said = Child(words, tmp_path / "log").end()
    assert code in (0, 2), said
    if code == 2:
        assert said[0].startswith("error: ")
    else:
        assert content(place / result) == RIGHT[way], f"other numbers, and not a word, after {getattr(damage, '__name__', damage)}"
