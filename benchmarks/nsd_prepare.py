"""Sessions of full size through the loader, against reading them whole as published code does; each arm in a process of its own.

    python benchmarks/nsd_prepare.py make DIR      # once: two sessions in three layouts and their pictures, 5.3 GB, a minute
    python benchmarks/nsd_prepare.py measure DIR   # every arm, and the tables: three minutes, and 7 GB of memory for the published way
    python benchmarks/nsd_prepare.py measure DIR --rounds 3   # the lowest of three of each, for a machine that is not idle

The sessions hold 81 × 104 × 83 voxels × 750 trials of noise within an ellipsoid and zeros around it, as 16-bit integers: ``b1``
is compressed NIfTI, ``b2`` HDF5 in one piece, ``b3`` HDF5 in a block per voxel, as the dataset stores it. Memory is the peak of
a whole process with its imports, which are the same in all arms and a row of their own. Files are read once before an arm that
is called warm, and dropped from the system's cache before a cold one. Sessions 3 and 4 are links to the first two. Where isal is
installed, compressed files are read with and without it.
"""

import argparse
import gzip
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import zlib
from datetime import date
from pathlib import Path

import h5py
import nibabel
import numpy as np
import torch

from cortexflow.data.nsd import NSD
from cortexflow.data.nsd_layout import betas
from cortexflow.data.nsd_layout.betas import PERCENT
from cortexflow.data.nsd_layout.design import PER_SESSION, read_design
from cortexflow.data.nsd_layout.pictures import BRICK, SIDE
from cortexflow.data.nsd_layout.spaces import BETAS

GRID, VOXELS, SESSIONS, SUBJECT, SPACE = (81, 104, 83), 15_724, 2, "subj01", "func1pt8mm"
AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
ENDINGS = {"b1": "nii.gz", "b2": "hdf5", "b3": "hdf5"}
KINDS = {"b1": ".nii.gz", "b2": "HDF5, one piece", "b3": "HDF5, a block per voxel"}
BATCH = 64  # pictures
STAGES = "responses", "trials", "pictures"
PLAIN = {
    "gzip": "`gzip -dc`",
    "module": "Python's `gzip`",
    "zlib": "Python's `zlib`, with its checksum",
    "isal": "isal, with its checksum",
}


def make(root: Path) -> None:
    """Everything that the loader asks for, at full size."""
    from cortexflow.data.nsd_layout.miniature.planning import plan, spread, write_plan  # not at the top: the arms hold what the loader imports

    if root.is_dir() and any(root.iterdir()):
        raise SystemExit(f"{root} is not empty; name a new folder")
    planned = plan(spread(0), 0)
    write_plan(root, planned)
    brain, cortex = head()
    maps = root / "nsddata/ppdata" / SUBJECT / SPACE
    (maps / "roi").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(brain.astype(np.uint8), AFFINE), maps / "brainmask.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.where(brain, cortex, -1).astype(np.int16), AFFINE), maps / "roi/nsdgeneral.nii.gz")
    for number in range(1, SESSIONS + 1):
        make_session(root, number, brain)
    make_pictures(root / BRICK, planned.design.of(SUBJECT)[: SESSIONS * PER_SESSION])


def head():
    """An ellipsoid of 200,000 voxels, and the visual cortex: the backmost voxels of its rind."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in GRID), indexing="ij")
    radius = np.sqrt(sum((axis / 0.82) ** 2 for axis in axes))
    brain = radius <= 1
    rind = np.argwhere(brain & (radius > 0.75))
    cortex = np.zeros(GRID, dtype=np.int16)
    cortex[tuple(rind[np.argsort(rind[:, 1], kind="stable")][:VOXELS].T)] = 1
    return brain, cortex


def make_session(root: Path, number: int, brain) -> None:
    """The same numbers in all three layouts: noise of 1 to 3 percent, as single trials have it."""
    rng = np.random.default_rng(number)
    deviations = (rng.uniform(1, 3, int(brain.sum())) * PERCENT).astype(np.float32)
    values = np.zeros((PER_SESSION, *GRID[::-1]), dtype=np.int16)  # trials, z, y, x: in a NIfTI file x is the fastest
    for trial in values:
        drawn = rng.standard_normal(len(deviations), dtype=np.float32) * deviations
        trial[brain.T] = np.clip(np.rint(drawn), -32767, 32767)
    folder = root / "nsddata_betas/ppdata" / SUBJECT / SPACE
    name = f"betas_session{number:02d}"
    for kind in KINDS:
        (folder / BETAS[kind]).mkdir(parents=True, exist_ok=True)
    write_nifti(folder / BETAS["b1"] / f"{name}.nii.gz", values)
    with h5py.File(folder / BETAS["b2"] / f"{name}.hdf5", "w") as file:
        file.create_dataset("betas", data=values)
    write_blocks(folder / BETAS["b3"] / f"{name}.hdf5", values)


def write_nifti(path: Path, values) -> None:
    header = nibabel.Nifti1Image(np.empty((1, 1, 1, 1), np.int16), AFFINE).header
    header.set_data_shape((*GRID, PER_SESSION))
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = 1, 0
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(header.binaryblock + bytes(4))
        for trial in values:
            file.write(trial.tobytes())


def write_blocks(path: Path, values) -> None:
    with h5py.File(path, "w") as file:
        blocks = file.create_dataset("betas", values.shape, "i2", chunks=(PER_SESSION, 1, 1, 1))
        for z in range(values.shape[1]):
            part = np.ascontiguousarray(values[:, z].transpose(1, 2, 0))
            for y, x in np.ndindex(*part.shape[:2]):
                blocks.id.write_direct_chunk((0, z, y, x), part[y, x].tobytes())


def make_pictures(path: Path, shown) -> None:
    """Those that the sessions show, at their places among 73,000; the others take no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        brick = file.create_dataset("imgBrick", (73_000, SIDE, SIDE, 3), "u1", chunks=(1, SIDE, SIDE, 3))
        for stimulus in np.unique(shown).tolist():
            brick.id.write_direct_chunk((stimulus, 0, 0, 0), rng.bytes(SIDE * SIDE * 3))


class Clock:
    """Seconds of wall and of processor, and the most memory so far, from one stage to the next."""

    def __init__(self) -> None:
        self.report: dict = {}
        self._last = time.perf_counter(), time.process_time()

    def stop(self, stage: str) -> None:
        now = time.perf_counter(), time.process_time()
        self.report[stage] = {"wall": now[0] - self._last[0], "cpu": now[1] - self._last[1], "peak": peak()}
        self._last = now


def published(root: Path) -> dict:
    """Whole sessions through ``get_fdata``, then every picture of theirs in one array of float64, as brain-diffuser prepares them."""
    mask = nibabel.load(root / "nsddata/ppdata" / SUBJECT / SPACE / "roi/nsdgeneral.nii.gz").get_fdata()
    clock = Clock()
    responses = np.zeros((SESSIONS * PER_SESSION, int((mask > 0).sum())), dtype=np.float32)
    for number in range(1, SESSIONS + 1):
        values = nibabel.load(session(root, "b1", number)).get_fdata().astype(np.float32)
        responses[(number - 1) * PER_SESSION : number * PER_SESSION] = values[mask > 0].transpose()
        del values
    clock.stop("responses")
    shown = np.unique(read_design(root).of(SUBJECT)[: SESSIONS * PER_SESSION])
    with h5py.File(root / BRICK) as file:
        pictures = np.zeros((len(shown), SIDE, SIDE, 3))
        for row, stimulus in enumerate(shown.tolist()):
            pictures[row] = file["imgBrick"][stimulus]
    clock.stop("pictures")
    return clock.report | {"count": len(shown), "bits": bits(responses)}


def ours(root: Path, kind: str, sessions: str, library: str = "zlib") -> dict:
    """The loader: sessions prepared, then read as trials, then the pictures of these trials in batches, each let go."""
    if library == "zlib":
        betas.inflate = zlib
    study = NSD(NSD.Config(betas=kind, sessions=int(sessions), atlases=("nsdgeneral",)), root)
    clock = Clock()
    study.prepare(SUBJECT)
    clock.stop("responses")
    trials = study.trials(SUBJECT)
    clock.stop("trials")
    for batch in trials.seen.split(BATCH):
        study.images(batch)
    clock.stop("pictures")
    return clock.report | {"count": len(trials.seen), "bits": bits(trials.responses.numpy() * PERCENT)}


def imports(root: Path) -> dict:
    clock = Clock()
    clock.stop("imports")
    return clock.report


def plain(root: Path, library: str) -> dict:
    """Only decompressed, piece by piece, the checksum compared, nothing kept."""
    clock = Clock()
    for number in range(1, SESSIONS + 1):
        path = session(root, "b1", number)
        if library == "gzip":
            subprocess.run(["gzip", "-dc", path], check=True, stdout=subprocess.DEVNULL)
        elif library == "module":
            with gzip.open(path) as stream:
                while stream.read(1 << 20):
                    pass
        else:
            only_inflate(path, zlib if library == "zlib" else betas.inflate)
    clock.stop("responses")
    if library == "gzip":
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        clock.report["responses"]["cpu"] = used.ru_utime + used.ru_stime
    return clock.report


def only_inflate(path: Path, library) -> None:
    stream = library.decompressobj(31)
    with open(path, "rb", buffering=0) as file:
        while part := file.read(1 << 18):
            while part:
                stream.decompress(part, 1 << 20)
                part = stream.unconsumed_tail
    assert stream.eof


ARMS = {"imports": imports, "published": published, "ours": ours, "plain": plain}


def measure(root: Path, rounds: int) -> None:
    """Every arm, and what they say."""
    for number in range(SESSIONS + 1, 2 * SESSIONS + 1):
        for kind in KINDS:
            if not session(root, kind, number).exists():
                os.link(session(root, kind, number - SESSIONS), session(root, kind, number))
    print(f"{date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {rounds} rounds; {SESSIONS} sessions of ", end="")
    print(f"{' × '.join(map(str, GRID))} × {PER_SESSION}, {VOXELS} voxels")
    arms = {"published": ("published",), **{name: ("ours", kind, str(SESSIONS)) for kind, name in KINDS.items()}}
    if betas.inflate is not zlib:
        arms[".nii.gz, isal"] = ("ours", "b1", str(SESSIONS), "isal")
    base = best(root, "imports")["imports"]["peak"]
    reports = {name: {cold: best(root, *arm, cold=cold, rounds=rounds) for cold in (False, True)} for name, arm in arms.items()}
    assert len({report["bits"] for both in reports.values() for report in both.values()}) == 1
    print(f"{reports['published'][False]['count']} pictures; imports alone hold {base:.3f} GB; every arm reads the same numbers\n")
    print_arms(reports, base)
    print_plain(root, reports, rounds)
    print("\n| peak GB over imports | " + " | ".join(f"{name}, prepared | and trials" for name in KINDS.values()) + " |\n" + "|---" * 7 + "|")
    for sessions in (1, 2, 4):
        flat = [best(root, "ours", kind, str(sessions)) for kind in KINDS]
        peaks = [f"{report[stage]['peak'] - base:.3f}" for report in flat for stage in ("responses", "trials")]
        print(f"| {sessions} sessions | " + " | ".join(peaks) + " |", flush=True)


def print_arms(arms: dict, base: float) -> None:
    heads = "warm: responses s", "trials s", "pictures s", "in all, wall s", "CPU s", "cold: wall s", "peak GB", "over imports"
    print("| | " + " | ".join((*heads, "wall, warm", "CPU", "wall, cold", "peak over imports")) + " |\n" + "|---" * 13 + "|")
    whole = {(cold, clock): total(report, clock) for cold, report in arms["published"].items() for clock in ("wall", "cpu")}
    top = highest(arms["published"][False])
    for name, reports in arms.items():
        warm, high = reports[False], highest(reports[False])
        cells = [f"{warm[stage]['wall']:.2f}" if stage in warm else "" for stage in STAGES]
        sums = {key: total(reports[key[0]], key[1]) for key in whole}
        keys = (False, "wall"), (False, "cpu"), (True, "wall")
        cells += [f"{sums[key]:.2f}" for key in keys] + [f"{high:.3f}", f"{high - base:.3f}"]
        cells += [f"{sums[key] / whole[key]:.3f}" for key in keys] + [f"1/{(top - base) / (high - base):.0f}"]
        print(f"| {name} | " + " | ".join(cells) + " |")


def total(report: dict, clock: str) -> float:
    return sum(report[stage][clock] for stage in STAGES if stage in report)


def highest(report: dict) -> float:
    return max(report[stage]["peak"] for stage in STAGES if stage in report)


def print_plain(root: Path, reports: dict, rounds: int) -> None:
    """What preparing the compressed sessions costs beyond decompressing them."""
    print("\n| two .nii.gz sessions, warm | wall s | CPU s | the loader / it, wall | CPU |\n|---|---|---|---|---|")
    for library, name in PLAIN.items():
        arm = ".nii.gz, isal" if library == "isal" else ".nii.gz"
        if arm in reports:
            loader, alone = reports[arm][False]["responses"], best(root, "plain", library, rounds=rounds)["responses"]
            ratios = [f"{loader[clock] / alone[clock]:.2f}" for clock in ("wall", "cpu")]
            print(f"| {name} | {alone['wall']:.2f} | {alone['cpu']:.2f} | " + " | ".join(ratios) + " |", flush=True)


def best(root: Path, *arm: str, cold: bool = False, rounds: int = 1) -> dict:
    """The lowest seconds and memory of each stage among some runs of an arm."""
    runs = [child(root, *arm, cold=cold) for _ in range(rounds)]
    stages = {stage: {key: min(run[stage][key] for run in runs) for key in runs[0][stage]} for stage in runs[0] if stage not in ("count", "bits")}
    return runs[0] | stages


def child(root: Path, *arm: str, cold: bool = False) -> dict:
    """The report of an arm in a process of its own, with nothing prepared yet."""
    shutil.rmtree(root / "prepared", ignore_errors=True)
    warm_or_drop([session(root, arm[1] if arm[0] == "ours" else "b1", number) for number in range(1, SESSIONS + 1)] + [root / BRICK], cold)
    lines = subprocess.run([sys.executable, __file__, "arm", root, *arm], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(lines.splitlines()[-1])


def warm_or_drop(paths: list[Path], cold: bool) -> None:
    os.sync()
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.read(1 << 24):
                    pass


def session(root: Path, kind: str, number: int) -> Path:
    return root / "nsddata_betas/ppdata" / SUBJECT / SPACE / BETAS[kind] / f"betas_session{number:02d}.{ENDINGS[kind]}"


def bits(values) -> str:
    """A fingerprint of responses in the file's units; arms that read the same numbers have the same."""
    return hashlib.sha256(np.rint(values).astype(np.int16).tobytes()).hexdigest()


def peak() -> float:
    """Gigabytes that this process held at most; ``ru_maxrss`` would begin with those of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e9


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "measure", "arm"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("arm", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder)
    elif options.what == "measure":
        measure(options.folder, options.rounds)
    else:
        torch.set_num_threads(1)
        print(json.dumps(ARMS[options.arm[0]](options.folder, *options.arm[1:])))
