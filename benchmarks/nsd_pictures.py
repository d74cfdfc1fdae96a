"""A batch of pictures from the dataset's file of 73,000 by random access, against reading it in other ways.

    python benchmarks/nsd_pictures.py DIR   # makes DIR/*.hdf5 where they are not yet (1.6 GB), then measures: some minutes

Two files hold the same 1,500 pictures of noise at the same random places: one in one piece, as the dataset's file is, and one in
compressed blocks of a picture, as a miniature's is (noise does not compress; unpacking takes as long as for photographs). A batch is
64 pictures drawn at random. Ways are measured in turns and the median over turns is shown, in milliseconds a picture, wall and
processor; every way gives the same numbers, which is checked. Whole sessions take 7 GB of memory. "cold": what the system keeps of
the file was dropped before.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from cortexflow.data.nsd_layout.design import PICTURES
from cortexflow.data.nsd_layout.pictures import SIDE, read_pictures

BATCH, SESSION, HELD, TURNS = 64, 750, 1_500, 5
FILES = {"one piece": {}, "compressed blocks": {"chunks": (1, SIDE, SIDE, 3), "compression": "gzip", "compression_opts": 1}}


def make(folder: Path) -> np.ndarray:
    """Both files, unless they are there; the ids of the pictures that they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    held = np.sort(rng.choice(PICTURES, HELD, replace=False))
    for name, layout in FILES.items():
        if not place(folder, name).is_file():
            with h5py.File(place(folder, name), "w") as file:
                brick = file.create_dataset("imgBrick", (PICTURES, SIDE, SIDE, 3), "u1", **layout)
                for stimulus in held:
                    brick[stimulus] = np.random.default_rng(stimulus).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return held


def place(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '_')}.hdf5"


def ours(path: Path, batch: np.ndarray) -> np.ndarray:
    return read_pictures(path, torch.from_numpy(batch), (SIDE, SIDE)).numpy()


def resized(path: Path, batch: np.ndarray) -> np.ndarray:
    return read_pictures(path, torch.from_numpy(batch), (224, 224)).numpy()


def listed(path: Path, batch: np.ndarray) -> np.ndarray:
    """h5py with a list of ids, which it wants sorted and each once."""
    ids, back = np.unique(batch, return_inverse=True)
    with h5py.File(path) as file:
        return file["imgBrick"][ids][back].transpose(0, 3, 1, 2)


def whole_session(path: Path, batch: np.ndarray, held: np.ndarray) -> np.ndarray:
    """All pictures of a session at once, as floats of eight bytes, of which the batch is a part: what published code does."""
    others = np.setdiff1d(held, batch)[: SESSION - len(np.unique(batch))]
    ids = np.union1d(batch, others)
    with h5py.File(path) as file:
        session = np.stack([file["imgBrick"][stimulus] for stimulus in ids]).astype(np.float64)
    return session[np.searchsorted(ids, batch)].transpose(0, 3, 1, 2)


def forget(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(path: Path, held: np.ndarray, cold: bool, turns: int) -> dict[str, tuple[float, float]]:
    ways = {
        "`read_pictures`": ours,
        "`read_pictures`, at 224": resized,
        "`imgBrick[ids]`": listed,
        "a session's pictures, the batch from it": lambda path, batch: whole_session(path, batch, held),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    rng = np.random.default_rng(1)
    for _ in range(turns):
        batch = rng.choice(held, BATCH)
        expected = listed(path, batch)
        for name, way in ways.items():
            if cold:
                forget(path)
            wall, processor = time.perf_counter(), time.process_time()
            pictures = way(path, batch)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
            assert pictures.shape[-1] != SIDE or np.array_equal(pictures, expected), name
    return {name: tuple(1000 * statistics.median(part) / BATCH for part in zip(*times, strict=True)) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=TURNS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    held = make(options.folder)
    print(f"milliseconds a picture, wall (processor); {options.threads} threads, load {os.getloadavg()[0]:.1f}\n")
    kinds = [(name, cold) for name in FILES for cold in (False, True)]
    tables = [measure(place(options.folder, name), held, cold, options.turns) for name, cold in kinds]
    print("| | " + " | ".join(f"{name}, {'cold' if cold else 'warm'}" for name, cold in kinds) + " |")
    print("|---" * (1 + len(kinds)) + "|")
    for way in tables[0]:
        print(f"| {way} | " + " | ".join("{:.2f} ({:.2f})".format(*table[way]) for table in tables) + " |")


if __name__ == "__main__":
    main()
