"""Runs of full size through the loader of time series, against reading one whole; each arm in a process of its own.

    python benchmarks/nsd_runs.py make DIR        # once: one run of full size under 480 names, with their designs, 80 MB
    python benchmarks/nsd_runs.py measure DIR     # the table: a few minutes, 2 GB of memory for the published way
    python benchmarks/nsd_runs.py subject DIR     # 480 prepared runs, streamed and averaged: two minutes, 2.5 GB of memory

A run holds 81 × 104 × 83 voxels × 226 volumes of noise about a mean within an ellipsoid and zeros around it, as 16-bit integers in
compressed NIfTI. All runs are links to the same file, and so are the 480 prepared runs, each of which is opened and read all the
same. Memory is the peak of a whole process with its imports, a row of their own.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import nibabel
import numpy as np
import torch

from cortexflow.data.nsd_layout import betas
from cortexflow.data.nsd_layout.timeseries.detrended import place
from cortexflow.data.nsd_layout.timeseries.runs import CLOCKS, RESTING
from cortexflow.data.nsd_timeseries import NSDTimeSeries

GRID, VOXELS, SESSIONS, RUNS, SUBJECT, SPACE = (81, 104, 83), 15_724, 40, 12, "subj01", "func1pt8mm"
AFFINE, CLOCK = np.diag([1.8, 1.8, 1.8, 1.0]), CLOCKS["func1pt8mm"]
FOLDER = f"nsddata_timeseries/ppdata/{SUBJECT}/{SPACE}"


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
    for kind in ("timeseries", "design"):
        (root / FOLDER / kind).mkdir(parents=True)
    shown, pattern = planned.design.of(SUBJECT), planned.arrays["stimpattern"]
    one, trial = root / "run.nii.gz", 0
    make_run(one, brain)
    for session in range(1, SESSIONS + 1):
        for run in range(RUNS):
            name = f"session{session:02d}_run{run + 1 + (session in RESTING[SUBJECT]):02d}"
            rows, slots = np.zeros(CLOCK.volumes, dtype=np.int64), np.flatnonzero(pattern[session - 1, run])
            rows[3 * slots], trial = shown[trial : trial + len(slots)] + 1, trial + len(slots)
            np.savetxt(root / FOLDER / f"design/design_{name}.tsv", rows, fmt="%d")
            os.link(one, root / FOLDER / f"timeseries/timeseries_{name}.nii.gz")


def head():
    """An ellipsoid of 200,000 voxels, and the visual cortex: the backmost voxels of its rind."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in GRID), indexing="ij")
    radius = np.sqrt(sum((axis / 0.82) ** 2 for axis in axes))
    brain = radius <= 1
    rind = np.argwhere(brain & (radius > 0.75))
    cortex = np.zeros(GRID, dtype=np.int16)
    cortex[tuple(rind[np.argsort(rind[:, 1], kind="stable")][:VOXELS].T)] = 1
    return brain, cortex


def make_run(path: Path, brain) -> None:
    """Means of 800 to 1,600, and noise of 2 percent about them."""
    rng = np.random.default_rng(0)
    means = rng.uniform(800, 1600, int(brain.sum())).astype(np.float32)
    header = nibabel.Nifti1Image(np.empty((1, 1, 1, 1), np.int16), AFFINE).header
    header.set_data_shape((*GRID, CLOCK.volumes + 1))
    header.set_zooms((1.8, 1.8, 1.8, 1.3333))
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, 1, 0
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(CLOCK.volumes + 1):
            volume = np.zeros(GRID[::-1], dtype=np.int16)  # in the file x is the fastest
            volume[brain.T] = np.rint(means * (1 + 0.02 * rng.standard_normal(len(means), dtype=np.float32)))
            file.write(volume.tobytes())


def study(root: Path, sessions: int | None = None) -> NSDTimeSeries:
    return NSDTimeSeries(NSDTimeSeries.Config(atlases=("nsdgeneral",), sessions=sessions), root)


def imports(root: Path) -> dict:
    return {}


def whole(root: Path) -> dict:
    """One run through ``get_fdata`` and nilearn, as Dynadiff's release does for every single trial."""
    import nilearn.signal

    mask = nibabel.load(root / f"nsddata/ppdata/{SUBJECT}/{SPACE}/roi/nsdgeneral.nii.gz").get_fdata() > 0
    values = nibabel.load(root / "run.nii.gz").get_fdata()[mask].T[: CLOCK.volumes]
    values = nilearn.signal.clean(values, detrend=True, high_pass=None, t_r=CLOCK.tr, standardize="zscore_sample")
    return {"shape": values.shape}


def prepared(root: Path, runs: str) -> dict:
    """The first runs through the loader, from their files."""
    chosen = only(root, int(runs))
    return {"bytes": sum(path.stat().st_size for path in chosen.prepare(SUBJECT))}


def streamed(root: Path, runs: str) -> dict:
    """The windows of the first runs, from what was prepared before; each let go."""
    chosen = only(root, int(runs))
    return {"trials": sum(len(windows) for _, windows in chosen.windows(SUBJECT))}


def trials(root: Path, runs: str) -> dict:
    """The means of the windows of the first runs, from what was prepared before."""
    responses = only(root, int(runs)).trials(SUBJECT).responses
    return {"trials": len(responses), "held": responses.nbytes}


def only(root: Path, runs: int) -> NSDTimeSeries:
    chosen = study(root)
    every = chosen._runs(SUBJECT)
    chosen._runs = lambda subject: every[:runs]
    return chosen


ARMS = {"imports": imports, "whole": whole, "prepared": prepared, "streamed": streamed, "trials": trials}


def measure(root: Path) -> None:
    print(
        f"{date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; runs of {' × '.join(map(str, GRID))} × 226, {VOXELS} voxels, ",
        end="",
    )
    print(f"{(root / 'run.nii.gz').stat().st_size / 1e6:.0f} MB each, inflated by {betas.inflate.__name__}")
    base = child(root, "imports")["peak"]
    print(f"imports alone hold {base:.3f} GB\n\n| | wall s | CPU s | peak GB over imports | on disk |\n|---|---|---|---|---|")
    row("one run, published way", child(root, "whole"), base)
    shutil.rmtree(root / "prepared", ignore_errors=True)
    for runs in ("1", "2", "6"):
        for arm in ("prepared", "streamed", "trials"):
            row(f"{runs} runs, {arm}", child(root, arm, runs), base)
        shutil.rmtree(root / "prepared", ignore_errors=True)


def subject(root: Path) -> None:
    """All 480 runs, of which the first is prepared and the others are its links."""
    base = child(root, "imports")["peak"]
    print(f"{date.today()}, load {os.getloadavg()[0]:.1f}\n\n| | wall s | CPU s | peak GB over imports | on disk |\n|---|---|---|---|---|")
    chosen = only(root, 1)
    first, kept = chosen.prepare(SUBJECT)[0], chosen._kept(SUBJECT)
    for run in study(root)._runs(SUBJECT):
        if not place(run, kept).exists():
            os.link(first, place(run, kept))
    for arm in ("streamed", "trials"):
        row(f"{SESSIONS * RUNS} runs, {arm}", child(root, arm, str(SESSIONS * RUNS)), base)


def row(name: str, report: dict, base: float) -> None:
    disk = f"{report['bytes'] / 1e6:.1f} MB" if "bytes" in report else f"{report['trials']} trials" if "trials" in report else ""
    print(f"| {name} | {report['wall']:.2f} | {report['cpu']:.2f} | {report['peak'] - base:.3f} | {disk} |", flush=True)


def child(root: Path, *arm: str) -> dict:
    lines = subprocess.run([sys.executable, __file__, "arm", root, *arm], check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(lines.splitlines()[-1])


def report(root: Path, name: str, *options: str) -> dict:
    """What an arm says, its seconds without those of imports, and the most memory of the process."""
    wall, cpu = time.perf_counter(), time.process_time()
    said = ARMS[name](root, *options)
    return said | {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak()}


def peak() -> float:
    """Gigabytes that this process held at most; ``ru_maxrss`` would begin with those of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e9


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "measure", "subject", "arm"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("arm", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "arm":
        torch.set_num_threads(1)
        print(json.dumps(report(options.folder, *options.arm)))
    else:
        {"make": make, "measure": measure, "subject": subject}[options.what](options.folder)
