"""Kills commands and resumes them, lets two of them share a folder, and fills the disk; every bit must be that of an undisturbed run.

    python benchmarks/kills.py --kills 50              # all parts, some minutes on one core
    python benchmarks/kills.py --parts kills --kills 5 # a smoke run

Kills are SIGKILL to a process of its own. "kills" fall at random moments of ``cortexflow train``, preparation included; "steps"
fall before every single operation on the file system (open for writing, rename, remove, make a folder) of every command that
writes. "together" runs commands at the same time on one cache and one run. "full" ends the disk at every size of file that a
command writes (RLIMIT_FSIZE), and at every operation (ENOSPC).
"""

import argparse
import errno
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
from forked import Command, command
from PIL import Image

from cortexflow.features import cache as feature_cache
from cortexflow.report import page
from cortexflow.storage import load_json, load_tensors

STUDY = "data.name=simulated data.images=110 data.held_out=20 data.voxels=40 data.image_size=32 data.sessions=2 data.subjects=1"
MODEL = "components=20 encoder.name=mlp encoder.hidden=16 encoder.factors=2 training.batch=64"
LONG = f"{STUDY} {MODEL} features=[pixels,gabor] training.epochs=40"
SHORT = f"{STUDY} {MODEL} features=[pixels] training.epochs=2"
SHARD = 32  # pictures, so that a cache has several shards
TRIVIA = ("seconds", "command", "commit", "made", "checksum", "files")  # what may differ between equal runs
IMPORTS = 6.0  # seconds or so until a fresh interpreter begins to work
SHARDS = f"from cortexflow.features import cache; cache.SHARD_PICTURES = {SHARD}; from cortexflow.app.cli import main; main()"


def settings(text):
    return [word for setting in text.split() for word in ("-s", setting)]


def training(place, text):
    """The words that train in a folder of their own; the same words continue."""
    return ["train", "--resume", "--out", place / "run", "--cache", place / "cache", *settings(text)]


def small_shards():
    feature_cache.SHARD_PICTURES = SHARD


def no_figures():
    """Figures are most of the time of a report, and no part of what is tested here."""
    page.svg = lambda figure: "<svg/>"


def content(path):
    """What a file says, without what may differ between equal runs: seconds, command, order of tensors."""
    if path.suffix == ".safetensors":
        return {name: (str(tensor.dtype), tuple(tensor.shape), tensor.numpy().tobytes()) for name, tensor in load_tensors(path)[0].items()}
    if path.suffix == ".npz":
        with np.load(path) as archive:
            return {name: (archive[name].shape, archive[name].tobytes()) for name in archive.files}
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: (file[name].shape, file[name][:].tobytes()) for name in file}
    if path.suffix == ".json":
        return {name: value for name, value in load_json(path).items() if name not in TRIVIA}
    return path.read_bytes() if path.suffix != ".html" else None


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def difference(place, whole):
    """The first file that differs between two folders, or is in one of them only; None where they are the same."""
    odd = sorted(set(files(place)) ^ set(files(whole)))
    if odd:
        return f"{odd[0]} is in one of them only"
    return next((name for name in files(whole) if content(place / name) != content(whole / name)), None)


def rows(cache):
    """Every cached feature by extractor, level and stimulus: processes at the same time share the work, but not into the same files."""
    found = {}
    for path in cache.rglob("shard-*"):
        tensors = load_tensors(path)[0]
        for name in tensors.keys() - {"stimuli"}:
            for stimulus, values in zip(tensors["stimuli"].tolist(), tensors[name], strict=True):
                place = str(path.parent.relative_to(cache)), name, stimulus
                assert place not in found, "a picture is in two shards"
                found[place] = values.numpy().tobytes()
    return found


def parts_of(folder):
    """Temporary files that nobody will rename any more."""
    return [path for path in folder.rglob(".*") if path.name.endswith(".part")]


def moment(place):
    """What a killed training had reached."""
    run = place / "run"
    if (run / "encoder.safetensors").exists():
        return "finished"
    if (run / "space.safetensors").exists():
        return "final writes"
    if (run / "state.safetensors").exists():
        return "epochs"
    if list(place.rglob("shard-*")):
        return "features"
    return "preparation" if (run / "run.json").exists() or (place / "cache").exists() else "no folder yet"


def undisturbed(place, text):
    ended = command(*training(place, text), prepare=small_shards)
    assert ended.code == 0, ended.err
    return ended.seconds


def kills(count, seed, folder):
    """Kill training at random moments until so many kills have hit; resume each run until it is finished."""
    generator, whole = random.Random(seed), folder / "whole"
    seconds = undisturbed(whole, LONG)
    fell, equal, failures, left = Counter(), 0, [], 0
    for case in itertools.count():
        if fell.total() >= count:
            break
        place, here = folder / f"case{case}", 0
        place.mkdir()
        while fell.total() < count and killed(place, generator, seconds, fresh=fell.total() % 10 == 9):
            fell[moment(place)] += 1
            here += 1
            left += bool(parts_of(place))
        ended = command(*training(place, LONG), prepare=small_shards)
        wrong = ended.err.strip() if ended.code else difference(place, whole)
        equal += here if not wrong else 0
        failures += [f"after {here} kills: {wrong}"] * bool(wrong)
        shutil.rmtree(place)
    print(f"{equal} of {fell.total()} kills resumed bit-equal ({case} runs of {seconds:.1f} s); ", end="")
    print("they fell in " + ", ".join(f"{name} {number}" for name, number in fell.most_common()))
    print(f"{left} kills left a temporary file; files left over after resuming: {sum('is in one' in line for line in failures)}")
    return failures


def killed(place, generator, seconds, fresh):
    """Start training and kill it at a random moment, mostly after it has written something; False where it was done before."""
    if not fresh:
        running = Command(*training(place, LONG), prepare=small_shards)
        if generator.random() < 0.8:
            wait_for_change(place, running.pid)
            seconds *= 0.4
        time.sleep(generator.random() * seconds)
        running.kill()
        return running.end().code == -signal.SIGKILL
    words = [sys.executable, "-c", SHARDS, *map(str, training(place, LONG))]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(generator.random() * (IMPORTS + seconds))
    process.kill()
    return process.wait() == -signal.SIGKILL


def wait_for_change(place, process):
    """Until a process has made or renamed a file in a folder, or has ended."""
    before = {path.name for path in place.rglob("*")}
    while {path.name for path in place.rglob("*")} == before:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.002)


def at_step(folder, number, act):
    """Call ``act`` in front of the operations on files in a folder, from the ``number``-th on."""
    counter = itertools.count(1)

    def watch(event, arguments):
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.truncate") or (event == "open" and writes(*arguments[1:3]))
        if changes and str(arguments[0]).startswith(str(folder)) and next(counter) >= number:
            act(event)

    sys.addaudithook(watch)


def writes(mode, flags):
    return any(letter in (mode or "") for letter in "wax+") or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))


def die(event):
    os.kill(os.getpid(), signal.SIGKILL)


def no_space(event):
    if event != "os.remove":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def commands(place):
    """Every command that writes, in the order of a user's day; ``place`` holds pictures."""
    run, pictures = place / "run", place.parent / "pictures"
    yield ["features", "compute", "--cache", place / "cache", *settings(SHORT)]
    yield training(place, SHORT)
    yield ["evaluate", run, "--cache", place / "cache", "--draws", 2]
    yield ["report", run]
    yield ["synthesize", run, pictures, "--out", place / "out.npz", "--samples", 2]
    yield ["synthesize", run, pictures, "--out", place / "out.h5", "--samples", 2]


def prepared(folder):
    """Pictures, and an undisturbed day; gives what every command's folder was like before it and after it."""
    (folder / "pictures").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (80 * number, 200, 30)).save(folder / "pictures" / f"{number}.png")
    place, states = folder / "place", []
    place.mkdir()
    for number, words in enumerate(commands(place)):
        shutil.copytree(place, folder / f"before{number}")
        ended = command(*words, prepare=lambda: (small_shards(), no_figures()))
        assert ended.code == 0, ended.err
        shutil.copytree(place, folder / f"after{number}")
        states.append((words, folder / f"before{number}", folder / f"after{number}"))
    return place, states


def reset(place, state):
    shutil.rmtree(place)
    shutil.copytree(state, place)


def steps(stride, folder):
    """Kill every command in front of every operation on files, and run the same command again."""
    place, states = prepared(folder)
    failures, counts = [], Counter()
    for words, before, after in states:
        for number in itertools.count(1, stride):
            reset(place, before)
            ended = command(*words, prepare=lambda number=number: (small_shards(), no_figures(), at_step(place, number, die)))
            if ended.code == 0:
                break
            counts[words[0]] += 1
            again = command(*words, prepare=lambda: (small_shards(), no_figures()))
            wrong = again.err.strip() if again.code else difference(place, after)
            failures += [f"{words[0]} killed at step {number} ({place_of(words)}): {wrong}"] * bool(wrong)
    print(f"{counts.total() - len(failures)} of {counts.total()} kills at single steps made good by the same command (", end="")
    print(", ".join(f"{name} {count}" for name, count in counts.items()) + ")")
    return failures


def place_of(words):
    return next((str(word.suffix) for word in words if isinstance(word, Path) and word.suffix), "")


def together(folder):
    """Commands at the same time: two that fill a cache and two that train from it, one of which is killed; two on one run."""
    whole, place, failures = folder / "whole", folder / "place", []
    undisturbed(whole, SHORT)
    cache = ["--cache", place / "cache", *settings(SHORT)]
    words = [["features", "compute", *cache]] * 2 + [["train", "--out", place / name, *cache] for name in ("run", "victim")]
    running = [Command(*one, prepare=small_shards) for one in words]
    time.sleep(0.5)
    running[-1].kill()
    ended = [one.end() for one in running]
    failures += [one.err.strip() for one in ended[:-1] if one.code]
    shutil.rmtree(place / "victim", ignore_errors=True)
    twins = [Command(*training(folder / "twins", SHORT), prepare=small_shards) for _ in range(2)]
    failures += [one.err.strip() for one in [twin.end() for twin in twins] if one.code]
    if not failures:
        pairs = (difference(whole / "run", place / "run"), difference(whole, folder / "twins"))
        failures += [wrong for wrong in pairs if wrong and "shard" not in wrong]
        expected, filled, twins = (rows(one / "cache") for one in (whole, place, folder / "twins"))
        failures += ["the features of one cache differ"] * (not expected.items() <= filled.items() or twins != expected)
    print(f"four processes on one cache at the same time, one of them killed, and two on one run: {'bit-equal' if not failures else 'NOT equal'}")
    return failures


def limit(size):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def full(stride, folder):
    """Let every command run out of space, by the size of a file and by the operation, and then run it again with space."""
    place, states = prepared(folder)
    failures, counts = [], Counter()
    for words, before, after in states:
        sizes = sorted({path.stat().st_size - 1 for path in after.rglob("*") if path.stat().st_size and not path.is_dir()})
        fewer = [lambda size=size: limit(size) for size in sizes]
        for fault in itertools.chain(fewer[::stride], (lambda n=n: at_step(place, n, no_space) for n in itertools.count(1, stride))):
            reset(place, before)
            ended = command(*words, prepare=lambda fault=fault: (small_shards(), no_figures(), fault()))
            if ended.code == 0 and fault in fewer:
                continue  # no file was that large
            if ended.code == 0:
                break
            counts[words[0]] += 1
            wrong = "" if ended.one_line else f"exit {ended.code}, {ended.err.strip()[-300:]}"
            wrong = wrong or half_written(place, before)
            again = command(*words, prepare=lambda: (small_shards(), no_figures()))
            wrong = wrong or (again.err.strip() if again.code else difference(place, after))
            failures += [f"{words[0]} ({place_of(words)}) on a full disk: {wrong}"] * bool(wrong)
    print(f"{counts.total() - len(failures)} of {counts.total()} commands on a full disk ended with one line and were good with space (", end="")
    print(", ".join(f"{name} {count}" for name, count in counts.items()) + ")")
    return failures


def half_written(place, before):
    """A temporary file that is still there, or a new file that cannot be read; empty where there is none."""
    for path in map(place.joinpath, set(files(place)) - set(files(before))):
        if path.name.endswith(".part"):
            return f"{path.name} is left"
        try:
            content(path)
        except Exception as error:
            return f"{path.name} is half written ({error})"
    return ""


def main(options):
    failures = []
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        calls = {
            "kills": lambda here: kills(options.kills, options.seed, here),
            "steps": lambda here: steps(options.stride, here),
            "together": together,
            "full": lambda here: full(options.stride, here),
        }
        for part in options.parts:
            here, start = Path(folder, part).resolve(), (time.perf_counter(), cpu())
            here.mkdir()
            failures += calls[part](here)
            print(f"  {part}: {time.perf_counter() - start[0]:.0f} s, {cpu() - start[1]:.0f} s of processor time", flush=True)
            shutil.rmtree(here)
    for failure, times in Counter(failures).items():
        print(f"FAILED{f' {times} times' * (times > 1)}: {failure}")
    print(f"verdict: {len(failures)} failures")
    return 1 if failures else 0


def cpu():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--stride", type=int, default=1, help="take every so many-th step of 'steps' and 'full'")
    parser.add_argument("--parts", nargs="+", choices=["kills", "steps", "together", "full"], default=["kills", "steps", "together", "full"])
    sys.exit(main(parser.parse_args()))
