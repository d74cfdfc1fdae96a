"""Damages every kind of file that the package reads, and looks whether anybody notices.

    python benchmarks/mutations.py --count 500

After a seeded mutation of one file, the command that reads it must give the same numbers, or say in one line what is wrong (exit
code 2; ``data check`` lists it), or warn. A traceback, a crash, a hang, or other numbers without a word is a failure.

Where nothing vouches for a file (a user's own responses before any run has seen them, a picture, a YAML file) and it still is a
well-formed file that says something else (a flipped bit in a response, a changed cell), nobody can notice. Such cases are
counted by themselves, with their reason, and are not among the ``--count``: that many are judged. Whether a file is well-formed
is decided here, by its format alone (checksums of gzip, zip and PNG included), and not by what the package made of it. The same
files are also read by an evaluation of a run that knew them, where every change is to be noticed.

Real recordings are read from CORTEXFLOW_TEST_DATA where it is set.
"""

import argparse
import csv
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import h5py
import nibabel
import numpy as np
import torch
import yaml
from forked import command
from kills import at_step, content, cpu, die, rows, settings
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from cortexflow.data.folder_writing import write_folder
from cortexflow.data.haxby2001 import Haxby2001
from cortexflow.data.rsa92 import Rsa92
from cortexflow.data.simulated import Simulated
from cortexflow.errors import CortexflowError
from cortexflow.experiments.base import Estimate, part
from cortexflow.report.finding import write_finding
from cortexflow.storage import save_sealed_json, save_tensors

FEATURES, MEMORY, PATIENCE = "features=[pixels] components=5", 8 << 30, 300.0
SIMULATED = f"data.name=simulated data.images=60 data.held_out=12 data.voxels=20 data.image_size=16 data.sessions=2 data.subjects=1 {FEATURES}"
MLP = "encoder.name=mlp encoder.hidden=8 encoder.factors=1 training.epochs=4 training.batch=64"
RIDGE = "encoder.name=ridge encoder.factors=1"
STUDIES = ("arrays", "hdf5", "archive", "glmsingle", "volumes")
BIDS = f"subject=sub-01 data.name=bids data.study=bids data.image_size=16 data.confounds=[rot_z] data.share=0.2 {FEATURES} {RIDGE}"
OUTCOMES = ("same result", "one line", "warned", "FAILED", "not detectable")


# What reads the files: words for the command line, and what to take for its result.


def reading(room):
    """By name: the words of a command and a function that gives its result."""
    out, cache, data = room / "out", ["--cache", room / "cache"], ["--data", room / "data"]
    evaluated = lambda: [content(out / name) for name in ("metrics.json", "evaluation.safetensors")]  # noqa: E731
    trained = lambda: content(out / "encoder.safetensors")  # noqa: E731
    ways = {
        "evaluate": (["evaluate", room / "run", *cache, "--out", out, "--draws", 2], evaluated),
        "report": (["report", room / "run"], lambda: (room / "run" / "report.html").read_bytes()),
        "synthesize": (["synthesize", room / "run", room / "pictures", "--out", room / "out.npz"], lambda: content(room / "out.npz")),
        "resume": (["train", "--resume", "--out", room / "half", *cache, *settings(f"{SIMULATED} {MLP}")], lambda: finished(room / "half")),
        "train": (["train", "--out", out, *cache, *settings(f"{SIMULATED} {RIDGE}")], trained),
        "features": (["features", "compute", *cache, *settings(SIMULATED)], lambda: rows(room / "cache")),
        "config": (["train", "--out", out, *cache, "--config", room / "run.yaml"], trained),
        "resampled": (["train", "--out", out, *data, *settings(f"{SIMULATED} {RIDGE} data.setting=resampled")], trained),
        "szinte2024": (["data", "check", "szinte2024", *data], lambda: None),
    }
    ways["bids train"] = (["train", "--out", out, *data, *settings(BIDS)], trained)
    ways["bids check"] = (["data", "check", "bids", *data, *settings("study=bids image_size=16 confounds=[rot_z] share=0.2")], lambda: None)
    ways["bids evaluate"] = (["evaluate", room / "run-bids", *data, "--out", out, "--draws", 2], evaluated)
    for study in STUDIES:
        own = [*data, *settings(f"data.name=folder data.study={study} data.image_size=16 {FEATURES} {RIDGE}")]
        ways[f"{study} train"] = (["train", "--out", out, *own], trained)
        ways[f"{study} check"] = (["data", "check", "folder", *data, *settings(f"study={study}")], lambda: None)
        ways[f"{study} evaluate"] = (["evaluate", room / f"run-{study}", *data, "--out", out, "--draws", 2], evaluated)
    return ways


def finished(run):
    return [content(run / name) for name in ("encoder.safetensors", "metrics.jsonl", "run.json")]


def through_python(read):
    """What no command reads: print a digest of it, with the errors of the command line."""
    try:
        print(hashlib.sha256(repr([(value.shape, value.numpy().tobytes()) for value in read()]).encode()).hexdigest())
        sys.exit(0)
    except CortexflowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def of_haxby(room):
    study = Haxby2001(Haxby2001.Config(resolution="25mm"), room / "data" / "haxby2001")
    trials, cortex = study.trials("sub001"), study.cortex("sub001")
    return [trials.responses, trials.stimuli, trials.sessions, cortex.coordinates, *cortex.areas.values()]


def of_rsa92(room):
    study = Rsa92(root=room / "data" / "rsa92")
    return [study.human(), study.judgements(), *study.models().values()]


def of_part(room):
    return part(room / "experiment" / "one.safetensors", dict).values()


def of_finding(room):
    return [torch.tensor(list(write_finding(room / "experiment").read_bytes()))]


PYTHON = {"haxby2001": of_haxby, "rsa92": of_rsa92, "part": of_part, "finding": of_finding}


def read(room, way):
    """Run one command in a child; gives how it ended, and its result where it ended well."""
    if way in PYTHON:
        ended = command(prepare=lambda: (frugal(), through_python(partial(PYTHON[way], room))), seconds=PATIENCE)
        return ended, ended.out
    words, result = reading(room)[way]
    ended = command(*words, prepare=frugal, seconds=PATIENCE)
    return ended, result() if ended.code == 0 else None


def frugal():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


# The files, and the ways to damage them.


@dataclass(frozen=True)
class Target:
    """A file, what reads it, and how it can be damaged.

    ``vouched``: something else says what it must hold (a checksum), so that every change is to be noticed. ``optional``: it may
    be absent, which then is another study.
    """

    kind: str
    file: str
    ways: tuple[str, ...]
    damages: tuple
    vouched: bool = True
    optional: bool = False


def overwrite(path, text):
    path.unlink()  # the file is linked to the pristine one
    path.write_bytes(text)


def truncated(random, path, room):
    whole = path.read_bytes()
    overwrite(path, whole[: random.choice([len(whole) - 1, len(whole) - 2, random.randrange(len(whole)), min(len(whole) - 1, 100)])])


def bit_flipped(random, path, room):
    whole = bytearray(path.read_bytes())
    whole[random.randrange(random.choice([len(whole), min(len(whole), 200)]))] ^= 1 << random.randrange(8)
    overwrite(path, bytes(whole))


def emptied(random, path, room):
    overwrite(path, b"")


def removed(random, path, room):
    path.unlink()


def replaced(random, path, room):
    """By a file of another kind."""
    path.unlink()
    shutil.copy(random.choice([one for one in sorted((room / "spare").iterdir()) if one.suffix != path.suffix]), path)


def a_folder(random, path, room):
    path.unlink()
    path.mkdir()


def with_mark(random, path, room):
    overwrite(path, b"\xef\xbb\xbf" + path.read_bytes())


def with_returns(random, path, room):
    overwrite(path, path.read_bytes().replace(b"\n", b"\r\n"))


def as_utf16(random, path, room):
    overwrite(path, path.read_text().encode("utf-16"))


def line_removed(random, path, room):
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[random.randrange(len(lines))]
    overwrite(path, b"".join(lines))


def line_twice(random, path, room):
    lines = path.read_bytes().splitlines(keepends=True)
    place = random.randrange(len(lines))
    overwrite(path, b"".join([*lines[:place], lines[place], *lines[place:]]))


def number_changed(random, path, room):
    whole = bytearray(path.read_bytes())
    digits = [place for place, letter in enumerate(whole) if 48 <= letter <= 57]
    if digits:
        place = random.choice(digits)
        whole[place] = random.choice([digit for digit in range(48, 58) if digit != whole[place]])
    overwrite(path, bytes(whole))


def word_replaced(word):
    """A number or a word of a text becomes this one."""

    def change(random, path, room):
        text = path.read_text()
        words = [part for part in text.replace(",", " ").replace("]", " ").split() if part.strip('"{}[]:')]
        old = random.choice(words)
        place = random.choice([at for at in range(len(text)) if text.startswith(old, at)])
        overwrite(path, (text[:place] + word + text[place + len(old) :]).encode())

    change.__name__ = f"a word is {word or 'absent'}"
    return change


def safe(path):
    """Tensors and header of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def tensor_damage(name, change, sealed):
    """Change one tensor of a safetensors file; sealed: with a valid checksum, as if we had written it."""

    def damage(random, path, room):
        tensors, header = safe(path)
        names = sorted(one for one, value in tensors.items() if value.numel())
        chosen = random.choice([one for one in names if tensors[one].is_floating_point()] or names)
        altered = change(tensors[chosen])
        tensors = {one: value for one, value in tensors.items() if one != chosen} | ({} if altered is None else {chosen: altered.contiguous()})
        path.unlink()
        if sealed:
            save_tensors(path, tensors, json.loads(json.loads(header["cortexflow"])[0]))
        else:
            save_file(tensors, path, metadata=header)

    damage.__name__ = f"{name}{', sealed' * sealed}"
    return damage


def spoilt(values):
    values = values.clone()
    values.reshape(-1)[0] = torch.nan if values.is_floating_point() else not values.reshape(-1)[0]
    return values


CHANGES = {
    "wrong dtype": lambda values: values.double() if values.is_floating_point() else values.float(),
    "wrong shape": lambda values: values.reshape(1, -1)[:, 1:] if values.ndim < 2 else values[1:],
    "NaN": spoilt,
    "a tensor is absent": lambda values: None,
}
SEALED = tuple(tensor_damage(name, change, True) for name, change in CHANGES.items())
STALE = tuple(tensor_damage(name, change, False) for name, change in CHANGES.items())


def swapped(other):
    """By the same file of another run, whole and valid."""

    def damage(random, path, room):
        path.unlink()
        shutil.copy(other(room), path)

    damage.__name__ = "swapped"
    return damage


def array_damage(name, change):
    """Change the array of a .npy or .h5 file or of an image."""

    def damage(random, path, room):
        if path.suffix == ".npy":
            altered = change(np.load(path))
            path.unlink()
            np.save(path, altered)
        elif path.suffix == ".npz":
            with np.load(path) as archive:
                altered = change(archive["responses"])
            path.unlink()
            np.savez(path, responses=altered)
        elif path.suffix in (".h5", ".hdf5"):
            with h5py.File(path) as file:
                name, altered = next((name, change(values[:])) for name, values in file.items())
            path.unlink()
            with h5py.File(path, "w") as file:
                file[name] = altered
        else:
            image = nibabel.load(path)
            altered = change(np.asarray(image.dataobj))
            path.unlink()
            nibabel.save(nibabel.Nifti1Image(altered, image.affine), path)

    damage.__name__ = name
    return damage


def with_nan(values):
    values = values.astype(float)
    values.reshape(-1)[-1] = np.nan
    return values


ARRAYS = tuple(
    array_damage(name, change)
    for name, change in {
        "double precision": lambda values: values.astype(np.float64),
        "big-endian": lambda values: values.astype(">f4"),
        "whole numbers": lambda values: values.astype(np.int16),
        "complex": lambda values: values.astype(np.complex64),
        "turned over": lambda values: np.ascontiguousarray(values.T),
        "fewer rows": lambda values: values[..., :-1] if values.ndim == 4 else values[:-1],
        "one axis more": lambda values: values[..., None],
        "NaN": with_nan,
        "row twice": lambda values: np.concatenate([values[:1], values]),
        "constant": np.zeros_like,
    }.items()
)


def picture_damage(name, change):
    def damage(random, path, room):
        with Image.open(path) as image:
            changed, form = change(image.copy()), image.format
        path.unlink()
        changed.save(path, format=form)

    damage.__name__ = name
    return damage


def bomb(random, path, room):
    """A PNG that says it has 10 gigapixels."""
    text = io.BytesIO()
    Image.new("L", (8, 8)).save(text, format="PNG")
    whole = bytearray(text.getvalue())
    whole[16:24] = (100_000).to_bytes(4, "big") * 2
    overwrite(path, bytes(whole[:29]) + zlib.crc32(bytes(whole[12:29])).to_bytes(4, "big") + bytes(whole[33:]))


PICTURES = (picture_damage("one pixel", lambda image: image.resize((1, 1))), picture_damage("gray", lambda image: image.convert("L")), bomb)
BYTES = (truncated, bit_flipped, emptied, removed, replaced, a_folder)
TEXT = (*BYTES, with_mark, with_returns, as_utf16, line_removed, line_twice, number_changed, *map(word_replaced, ("NaN", "-1", '"x"', "")))
ODD = {"{5: 6}", "2020-13-45", "0b_", "[" * 3000, "!!python/object:os.system {}", "&a [*a]", "? [1]: 2", "null", "[1, 2]", "text"}


def odd_yaml(random, path, room):
    overwrite(path, random.choice([f"{one}\n" for one in sorted(ODD)] + [f"{path.read_text()}seed: {one}\n" for one in sorted(ODD)]).encode())


# Where nothing vouches for a file, these may leave a well-formed file that says something else; why nobody can know.
MEANING = {
    "bit_flipped": "a bit of a number, a pixel or a word, in a format without checksum",
    "number_changed": "another digit in a table or a setting",
    "a word is -1": "another number in a table or a setting",
    "a word is absent": "an empty cell, where one is allowed",
    "truncated": "a text that ends early, and still is whole by its format",
    "line_removed": "a line less, where any number of lines is right",
    "line_twice": "a line more, where any number of lines is right",
    "gray": "another picture",
    "one pixel": "another picture",
    "whole numbers": "responses rounded to whole numbers",
    "row twice": "residuals with a trial more",
    "fewer rows": "residuals with a trial less",
    "turned over": "residuals with trials and voxels exchanged, both of which are enough",
    "constant": "an area, a mask or a picture of one value",
    "removed": "an optional file that is not there",
}
PROSE = (".tsv", ".txt", ".json", ".yaml")


def well_formed(path):
    """Whether the file is whole by its format alone: what anybody could check who does not know what it said."""
    try:
        FORMATS[next(ending for ending in FORMATS if path.name.endswith(ending))](path)
    except Exception:
        return False
    return True


def whole_table(path):
    header, *rows = csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t")
    assert rows and all(len(row) == len(header) for row in rows) and len(set(header)) == len(header)


def whole_mapping(path, load):
    assert isinstance(load(path.read_text(encoding="utf-8-sig")), dict)


def whole_hdf5(path):
    with h5py.File(path) as file:
        file.visititems(lambda name, entry: entry[()] if isinstance(entry, h5py.Dataset) else None)


def whole_archive(path):
    with np.load(path) as archive:
        assert all(np.isfinite(archive[name]).all() for name in archive.files)


def whole_picture(path):
    with Image.open(path) as image:
        image.verify()
    with Image.open(path) as image:
        image.load()


def whole_volumes(path):
    gzip.decompress(path.read_bytes())
    assert np.isfinite(nibabel.load(path).get_fdata()).all()


def whole_array(path):
    values = np.load(path)
    assert values.dtype.kind in "fiu" and values.ndim == 2


FORMATS = {
    ".nii.gz": whole_volumes,
    ".npy": whole_array,
    ".npz": whole_archive,
    ".h5": whole_hdf5,
    ".hdf5": whole_hdf5,
    ".tsv": whole_table,
    ".txt": lambda path: path.read_text(encoding="utf-8-sig").splitlines()[0],
    ".json": partial(whole_mapping, load=json.loads),
    ".yaml": partial(whole_mapping, load=yaml.safe_load),
    **dict.fromkeys((".png", ".jpg", ".bmp", ".tiff", ".webp"), whole_picture),
}


def targets(room):
    """Every kind of file that is there."""
    run, other = "run/", lambda name: swapped(lambda room: room / "other" / name)
    another = swapped(lambda room: room / "experiment" / "two.safetensors")
    both, all_three = ("evaluate", "synthesize"), ("evaluate", "report", "synthesize")
    found = [
        Target("run.json", run + "run.json", all_three, (*TEXT, other("run.json"))),
        Target("provenance.json", run + "provenance.json", all_three, (*TEXT, other("provenance.json"))),
        Target("metrics.jsonl", run + "metrics.jsonl", ("report", "evaluate"), (*TEXT, other("metrics.jsonl")), optional=True),
        Target("metrics.json", run + "metrics.json", ("report",), (*TEXT, other("metrics.json"))),
        Target("encoder.safetensors", run + "encoder.safetensors", all_three, (*BYTES, *STALE, *SEALED, other("encoder.safetensors"))),
        Target("voxels.safetensors", run + "voxels.safetensors", all_three, (*BYTES, *STALE, *SEALED, other("voxels.safetensors"))),
        Target("space.safetensors", run + "space.safetensors", both, (*BYTES, *STALE, *SEALED, other("space.safetensors"))),
        Target("evaluation.safetensors", run + "evaluation.safetensors", ("report",), (*BYTES, *STALE, *SEALED, other("evaluation.safetensors"))),
        Target("state.safetensors", "half/state.safetensors", ("resume",), (*BYTES, *STALE, *SEALED, swapped(lambda room: room / "other-state"))),
        Target("unfinished run", "half/run.json", ("resume",), TEXT),
        Target("unfinished run", "half/metrics.jsonl", ("resume",), TEXT),
        Target("YAML", "run.yaml", ("config",), (*TEXT, odd_yaml, odd_yaml, odd_yaml, odd_yaml), vouched=False),
        Target("residuals", "data/simulated/residuals.npy", ("resampled",), (*BYTES, *ARRAYS), vouched=False),
        Target(
            "part of an experiment",
            "experiment/one.safetensors",
            ("part",),
            (truncated, bit_flipped, emptied, replaced, a_folder, *STALE, another),
        ),
        Target("finding.json", "experiment/finding.json", ("finding",), TEXT),
    ]
    for shard in sorted((room / "cache").rglob("shard-*")):
        name, swap = str(shard.relative_to(room)), swapped(lambda room, name=shard.name: next((room / "foreign").rglob(name)))
        found.append(Target("cached features", name, ("train", "features", "evaluate"), (*BYTES, *STALE, *SEALED, swap)))
    for picture in sorted((room / "pictures").iterdir()):
        found.append(
            Target(f"picture {picture.suffix}", f"pictures/{picture.name}", ("synthesize",), (*BYTES, *PICTURES), vouched=False, optional=True)
        )
    for study in STUDIES:
        found += own_study(study, room / "data" / study)
    found += bids_study(room / "data" / "bids")
    for study in ("szinte2024", "haxby2001", "rsa92"):
        for path in sorted((room / "data" / study).rglob("*")):
            if path.is_file() and path.stat().st_size:
                found.append(Target(study, str(path.relative_to(room)), (study,), BYTES))
    return found


def own_study(study, folder):
    """The files of a user's folder: read by a check and by training, which cannot know what they were, and by an evaluation, which can."""
    blind, knowing, subject = (f"{study} train", f"{study} check"), (f"{study} evaluate",), folder / "subjects" / "subj01"
    optional = ("areas.tsv", "coordinates.tsv", "ncsnr.tsv", "stimuli.tsv", "held_out.txt", "study.json")
    tables = [path for path in sorted([*folder.glob("*.*"), *subject.glob("*.tsv")]) if study == "arrays"]
    numbers = sorted([*subject.glob("responses.*"), *subject.glob("TYPE*"), *subject.glob("*.nii.gz"), *subject.glob("areas/*")])
    files = [(path, TEXT, "own table") for path in tables] + [(path, (*BYTES, *ARRAYS), f"own {study}") for path in numbers]
    files += [(path, (*BYTES, *PICTURES), "own picture") for path in sorted((folder / "stimuli").iterdir())[:3] if study == "arrays"]
    for path, damages, kind in files:
        name = str(path.relative_to(folder.parents[1]))
        yield Target(kind, name, blind, damages, vouched=False, optional=path.name in optional)
        yield Target(f"{kind}, trained on", name, knowing, damages, optional=path.name in optional)


def bids_study(folder):
    """Volumes, masks, events, confounds and sidecars, in the same two ways."""
    blind, knowing = ("bids train", "bids check"), ("bids evaluate",)
    damages = {".gz": (*BYTES, *ARRAYS), ".tsv": TEXT, ".json": TEXT}
    kinds = {"bold.nii.gz": "BIDS volumes", "events.tsv": "BIDS events", "timeseries.tsv": "BIDS confounds", ".json": "BIDS sidecar"}
    for path in sorted(path for path in folder.rglob("*") if path.suffix in damages):
        name, kind = str(path.relative_to(folder.parents[1])), next((kinds[end] for end in kinds if path.name.endswith(end)), "BIDS mask")
        optional = kind == "BIDS sidecar" or path.parts[-3] == "areas"  # the header of the volumes has the time, too
        yield Target(kind, name, blind, damages[path.suffix], vouched=False, optional=optional)
        yield Target(f"{kind}, trained on", name, knowing, damages[path.suffix], optional=optional)


# The rooms in which it happens.


def furnish(room):
    """Everything that will be damaged, whole."""
    (room / "data").mkdir(parents=True)
    with_cache = ["--cache", room / "cache"]
    furnish_cache(room)
    for name, cache, other in (("run", "cache", ""), ("other", "foreign", "seed=1 data.seed=1")):
        must(["train", "--out", room / name, "--cache", room / cache, *settings(f"{SIMULATED} {MLP} {other}")])
        must(["evaluate", room / name, "--cache", room / cache, "--draws", 2])
    for name, seed in {"half": 0, "other-half": 1}.items():
        words = ["train", "--resume", "--out", room / name, *with_cache, *settings(f"{SIMULATED} {MLP} seed={seed}")]
        command(*words, prepare=lambda name=name: at_step(room / name, 45, die))
        assert (room / name / "metrics.jsonl").read_text() and (room / name / "state.safetensors").exists(), "killed too early or too late"
    (room / "other-half" / "state.safetensors").rename(room / "other-state")
    (room / "run.yaml").write_text(yaml.safe_dump(tree_of(f"{SIMULATED} {RIDGE}")))
    furnish_pictures(room / "pictures")
    furnish_studies(room)
    furnish_bids(room / "data" / "bids")
    must(["train", "--out", room / "run-bids", "--data", room / "data", *settings(BIDS)])
    furnish_experiment(room / "experiment")
    furnish_spare(room)


def furnish_cache(room):
    """A cache of the training and the test pictures, and the same shards with the pictures of another study."""
    for name, other in {"cache": "", "foreign": "data.seed=1"}.items():
        must(["train", "--out", room / "warm", "--cache", room / name, *settings(f"{SIMULATED} {RIDGE} {other}")])
        must(["evaluate", room / "warm", "--cache", room / name, "--draws", 2])
        shutil.rmtree(room / "warm")


def tree_of(text):
    tree = {}
    for setting in text.split():
        path, value = setting.split("=")
        *parents, leaf = path.split(".")
        here = tree
        for parent in parents:
            here = here.setdefault(parent, {})
        here[leaf] = yaml.safe_load(value)
    return tree


def furnish_pictures(folder):
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number, ending in enumerate(("png", "jpg", "bmp", "tiff", "webp")):
        smooth = Image.fromarray(noise.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((40, 30))
        smooth.save(folder / f"{number}.{ending}")


def furnish_studies(room):
    study = Simulated(Simulated.Config(images=40, held_out=8, voxels=20, image_size=16, sessions=2, subjects=1))
    for name in STUDIES:
        folder = write_folder(room / "data" / name, study)
        subject = folder / "subjects" / "subj01"
        responses = np.load(subject / "responses.npy")
        if name == "hdf5":
            with h5py.File(subject / "responses.h5", "w") as file:
                file["responses"] = responses
        if name == "archive":
            np.savez(subject / "responses.npz", responses=responses)
        if name == "glmsingle":
            with h5py.File(subject / "TYPED_FITHRF_GLMDENOISE_RR.hdf5", "w") as file:
                file["betasmd"] = responses.T
        if name == "volumes":
            volumes(subject, responses)
        if name != "arrays":
            (subject / "responses.npy").unlink()
        own = settings(f"data.name=folder data.study={name} data.image_size=16 {FEATURES} {RIDGE}")
        must(["train", "--out", room / f"run-{name}", "--data", room / "data", *own])
    (room / "data" / "simulated").mkdir()
    np.save(room / "data" / "simulated" / "residuals.npy", np.random.default_rng(0).normal(size=(50, 25)).astype(np.float32))
    real = Path(os.environ.get("CORTEXFLOW_TEST_DATA", "none"))
    for name in ("szinte2024", "haxby2001", "rsa92"):
        if (real / name).is_dir():
            kept = lambda folder, names: [one for one in names if "1slice" in one or "cond0" in one or one.endswith((".txt", "LICENSE"))]  # noqa: E731
            shutil.copytree(real / name, room / "data" / name, ignore=kept, copy_function=shutil.copyfile)


def volumes(subject, responses):
    grid = np.zeros((4, 3, 3), dtype=np.uint8)
    grid.reshape(-1)[: responses.shape[1]] = 1
    values = np.zeros((*grid.shape, len(responses)), dtype=np.float32)
    values[grid > 0] = responses.T
    area = grid.copy()
    area[2:] = 0
    (subject / "areas").mkdir()
    for name, image in {"responses": values, "mask": grid, "areas/V1": area}.items():
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), subject / f"{name}.nii.gz")
    for name in ("areas.tsv", "coordinates.tsv"):
        (subject / name).unlink()


def furnish_bids(folder):
    """Two preprocessed runs of noise, each with its events, mask and confounds."""
    noise, volumes = np.random.default_rng(0), 150
    inside = np.ones((3, 3, 2), dtype=np.uint8)
    inside[0, 0] = 0
    (folder / "stimuli").mkdir(parents=True)
    (folder / "areas" / "sub-01").mkdir(parents=True)
    area = inside.copy()
    area[2:] = 0
    nibabel.save(nibabel.Nifti1Image(area, np.eye(4)), folder / "areas" / "sub-01" / "V1.nii.gz")
    for number in range(12):
        Image.fromarray(noise.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((24, 24)).save(folder / "stimuli" / f"{number:02}.png")
    (folder / "task-see_bold.json").write_text(json.dumps({"RepetitionTime": 2.0, "TaskName": "see"}, indent=2))
    for session in ("01", "02"):
        stem = f"sub-01_ses-{session}_task-see_run-1"
        raw, made = folder / f"sub-01/ses-{session}/func", folder / f"derivatives/fmriprep/sub-01/ses-{session}/func"
        raw.mkdir(parents=True)
        made.mkdir(parents=True)
        image = nibabel.Nifti1Image((1000 + 10 * noise.normal(size=(*inside.shape, volumes))).astype(np.float32), np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((1, 1, 1, 2.0))
        nibabel.save(image, made / f"{stem}_space-T1w_desc-preproc_bold.nii.gz")
        nibabel.save(nibabel.Nifti1Image(inside, np.eye(4)), made / f"{stem}_space-T1w_desc-brain_mask.nii.gz")
        motion = [f"{x:.4f}\t{y:.4f}" for x, y in np.cumsum(noise.normal(0, 0.1, (volumes, 2)), 0)]
        (made / f"{stem}_desc-confounds_timeseries.tsv").write_text("\n".join(["trans_x\trot_z", *motion]) + "\n")
        shown = [f"{6 + 10 * trial}\t2\t{picture:02}.png" for trial, picture in enumerate(noise.permutation(np.arange(24) % 12))]
        (raw / f"{stem}_events.tsv").write_text("\n".join(["onset\tduration\tstim_file", *shown]) + "\n")


def furnish_experiment(folder):
    """Parts and a finding, as a question leaves them."""
    for name, seed in {"one": 0, "two": 1}.items():
        part(folder / f"{name}.safetensors", lambda seed=seed: {"draws": torch.randn(3, 20, generator=torch.Generator().manual_seed(seed))})
    estimates = [asdict(Estimate(name, 0.5, 0.4, 0.6, "images", ((0.5, 0.4, 0.6),), "bits")) for name in ("one", "two")]
    words = dict.fromkeys(("question", "hypothesis", "prediction", "test", "controls", "rule", "why"), "Words.")
    save_sealed_json(folder / "finding.json", {**words, "verdict": "yes", "estimates": estimates, "config": {"seed": 0}, "made": {"python": "3"}})


def furnish_spare(room):
    """One file of every other kind."""
    spare = room / "spare"
    spare.mkdir()
    noise = np.random.default_rng(0)
    (spare / "text.txt").write_text("Nothing of interest.\n")
    (spare / "noise.bin").write_bytes(noise.bytes(5000))
    (spare / "list.json").write_text("[1, 2, 3]\n")
    (spare / "zipped.gz").write_bytes(gzip.compress(b"one\ttwo\n1\t2\n"))
    (spare / "table.tsv").write_text("one\ttwo\n1\t2\n")
    Image.new("RGB", (8, 8)).save(spare / "picture.png")
    Image.new("RGB", (8, 8)).save(spare / "picture.jpg")
    np.save(spare / "array.npy", np.zeros(3))
    np.savez(spare / "arrays.npz", a=np.zeros(3))
    with h5py.File(spare / "data.h5", "w") as file:
        file["a"] = 1
    save_file({"a": torch.zeros(3)}, spare / "foreign.safetensors")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), spare / "image.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), spare / "image.nii")


def must(words):
    ended = command(*words)
    assert ended.code == 0, f"{words}: {ended.err}"


# What came of it.


def outcome(target, damage, way, ended, result, right, path):
    """One of OUTCOMES, and for a failure what happened, for what nobody can notice why."""
    if ended.code is None:
        return "FAILED", f"still running after {PATIENCE:.0f} s"
    if "Traceback" in ended.err or ended.code not in (0, 1, 2):
        return "FAILED", f"exit {ended.code}: {(ended.err.strip().splitlines() or ['nothing said'])[-1][:200]}"
    if ended.code == 2:
        return ("one line", "") if ended.one_line else ("FAILED", f"not one line: {ended.err[:300]!r}")
    if ended.code == 1:
        checked = "check" in way or way == "szinte2024"
        return ("one line", "") if checked and "wrong" in ended.out else ("FAILED", f"exit 1: {ended.err[-200:]}")
    if result == right:
        return "same result", ""
    if "warning: " in ended.err:
        return "warned", ""
    if (reason := beyond_notice(target, damage.__name__, path)) is not None:
        return "not detectable", reason
    return "FAILED", "other numbers, and not a word"


def beyond_notice(target, name, path):
    """Why nobody can notice what was done to a file; None where somebody can."""
    if name == "removed":
        return MEANING[name] if target.optional and not target.vouched else None
    if target.vouched or not well_formed(path) or (name == "truncated" and path.suffix not in PROSE):
        return None
    if name in ("turned over", "row twice", "fewer rows") and target.kind != "residuals":
        return None
    return MEANING.get(name)


def plan(found, seed):
    """Files and damages without end: every kind of file in turn, and every damage of a kind before any comes again."""
    kinds = {}
    for target in found:
        kinds.setdefault(target.kind, []).extend((target, damage) for damage in target.damages)
    for pairs in kinds.values():
        random.Random(seed).shuffle(pairs)
    turns = itertools.cycle([itertools.cycle(pairs) for pairs in kinds.values()])
    return ((*next(turn), random.Random(f"{seed} {number}")) for number, turn in enumerate(turns))


def main(options):
    start, table, failures, beyond = (time.perf_counter(), cpu()), {}, [], Counter()
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        whole, room = Path(folder).resolve() / "whole", Path(folder).resolve() / "room"
        furnish(room)
        room.rename(whole)  # the damaged room must have the name of the whole one: the report shows names
        found = [target for target in targets(whole) if not options.only or any(word in target.kind for word in options.only)]
        right = {}
        for target, damage, generator in plan(found, options.seed):
            if sum(table.values(), Counter()).total() - beyond.total() >= options.count:
                break
            way = generator.choice(target.ways)
            if way not in right:
                right[way] = read(fresh(whole, room), way)
                assert right[way][0].code == 0, f"{way}: {right[way][0].err}"
            damage(generator, fresh(whole, room) / target.file, room)
            kind, why = outcome(target, damage, way, *read(room, way), right[way][1], room / target.file)
            beyond[why] += kind == "not detectable"
            table.setdefault(target.kind, Counter())[kind] += 1
            if options.list:
                print(f"{kind}: {target.file}, {damage.__name__}, read by {way}", flush=True)
            failures += [f"{target.file}, {damage.__name__}, read by {way}: {why}"] * (kind == "FAILED")
    report(table, failures, +beyond, options, start)
    return 1 if failures else 0


def fresh(whole, room):
    shutil.rmtree(room, ignore_errors=True)
    shutil.copytree(whole, room, copy_function=os.link)
    return room


def report(table, failures, beyond, options, start):
    print(f"{'file':32}" + "".join(f"{name:>16}" for name in OUTCOMES))
    for kind, counts in table.items():
        print(f"{kind:32}" + "".join(f"{counts[name] or '·':>16}" for name in OUTCOMES))
    sums = sum(table.values(), Counter())
    print(f"{'all':32}" + "".join(f"{sums[name]:>16}" for name in OUTCOMES))
    for failure in failures:
        print(f"FAILED: {failure}")
    for reason, count in beyond.most_common():
        print(f"not detectable, {count} times: {reason}")
    judged = sums.total() - beyond.total()
    print(
        f"verdict: {judged - sums['FAILED']} of {judged} mutations right (seed {options.seed}): {sums['one line']} told in one line, "
        f"{sums['warned']} with a warning, {sums['same result']} with the right result, {sums['FAILED']} failures; {beyond.total()} more were "
        f"left out because nobody can notice them; {time.perf_counter() - start[0]:.0f} s, {cpu() - start[1]:.0f} s of processor time"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="only kinds of files with one of these words")
    parser.add_argument("--list", action="store_true", help="print every mutation as it is made")
    sys.exit(main(parser.parse_args()))
