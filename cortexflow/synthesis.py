"""Pictures in, synthetic responses out: one batch at a time, so that memory does not grow with the number of pictures."""

import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import torch
from jaxtyping import Float, Int
from numpy.lib import format as npy
from torch import Tensor

import cortexflow
from cortexflow.data.on_disk.pictures import list_pictures, read_picture
from cortexflow.errors import CortexflowError
from cortexflow.progress import track
from cortexflow.storage import checksum, load_sealed_json, replacing
from cortexflow.training import Run

BATCH = 32
AT_ONCE = 50_000_000  # numbers of a batch that are held in memory
MOST_NPZ = 500  # samples of an npz: each is spooled to a file of its own


class Writer(Protocol):
    """Takes the rows of the responses in order, batch after batch."""

    def append(self, mean: Float[Tensor, "batch voxels"], samples: Float[Tensor, "n batch voxels"]) -> None:
        """Write the next rows."""


def synthesize(run: Run, folder: Path | str, out: Path | str, *, samples: int = 1, average: int = 1, areas: str | None = None, seed: int = 0) -> Path:
    """Responses to every picture of a folder, as a model believes the subject's cortex would give them.

    Arguments:
        run: A finished run of an encoder.
        folder: Pictures, in any common format; they are sorted by name.
        out: A ``.npz`` or ``.h5`` file with ``mean`` (pictures × voxels), ``samples`` (n × pictures × voxels) and
            ``voxels`` (their index in the study), in the units of the training responses. A manifest stands beside it:
            ``<out>.manifest.json``.
        samples: Synthetic responses per picture, at least 1.
        average: Trials that each of them is the mean of, at least 1: noise falls as it does where a picture is repeated.
        areas: Keep only these areas, joined by commas.
        seed: Of the noise; the draws of a picture do not depend on which others are in the folder.

    Raises:
        CortexflowError: No pictures, one that cannot be read, another file type, or an unknown area.
    """
    out, paths = Path(out), list_pictures(folder)
    if samples < 1:
        raise CortexflowError(f"{samples} samples were asked; ask for at least 1 (the mean is always written)")
    if average < 1:
        raise CortexflowError(f"a mean of {average} trials was asked; ask for --average 1 or more")
    if out.suffix == ".npz" and samples > MOST_NPZ:
        raise CortexflowError(f"an npz takes at most {MOST_NPZ} samples, {samples} were asked; write a .h5 file")
    voxels = _voxels(run, areas)
    rows = min(BATCH, max(1, AT_ONCE // (samples * average * run.encoder.voxels)))
    made_by = load_sealed_json(run.folder / "provenance.json")
    size = tuple(made_by["pictures"])
    # The responses take their name inside the manifest's block, so that a full disk leaves both or neither.
    with replacing(out.with_name(out.name + ".manifest.json")) as temporary, open_writer(out, len(paths), samples, run.voxels[voxels]) as writer:
        for batch in track(list(_batches(paths, rows)), "synthesizing"):
            images = torch.stack([read_picture(path, size) for path in batch])
            writer.append(*_respond(run, images, [_seed(seed, path) for path in batch], (samples, average), voxels))
        manifest = {
            "pictures": [{"row": row, "file": path.name, "sha256": checksum(path)} for row, path in enumerate(paths)],
            "picture_size": list(size),
            "samples": samples,
            "average": average,
            "seed": seed,
            "voxels": int(voxels.sum()),
            "areas": areas,
            "units": made_by["units"],
            "subject": run.config.subject,
            "model": run.config.title,
            "run": run.config.model_dump(mode="json"),
            "cortexflow": cortexflow.__version__,
        }
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return out


def open_writer(out: Path, pictures: int, samples: int, voxels: Int[Tensor, " voxels"]) -> AbstractContextManager[Writer]:
    """A streaming writer for the file type that ``out`` asks for."""
    writers = {".npz": _npz, ".h5": _hdf5, ".hdf5": _hdf5}
    if out.suffix not in writers:
        raise CortexflowError(f"{out} has no known type; end it in {' or '.join(writers)}")
    return writers[out.suffix](out, pictures, samples, voxels)


class _HDF5Writer:
    def __init__(self, file: h5py.File, disk: "_Disk", pictures: int, samples: int, voxels: int) -> None:
        self.disk = disk
        self.mean = file.create_dataset("mean", (pictures, voxels), "float32")
        self.samples = file.create_dataset("samples", (samples, pictures, voxels), "float32", chunks=(1, 1, voxels))
        self.row = 0

    def append(self, mean: Tensor, samples: Tensor) -> None:
        rows = slice(self.row, self.row + len(mean))
        self.mean[rows] = mean.numpy()
        self.samples[:, rows] = samples.numpy()
        self.row += len(mean)
        self.disk.check()


class _Disk:
    """A file that keeps its first error until it is asked: the HDF5 library ends the process where the disk is full."""

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.error: OSError | None = None
        self.seek, self.tell, self.read, self.readinto = file.seek, file.tell, file.read, file.readinto

    def write(self, data: Any) -> int:
        left = whole = memoryview(data).cast("B")
        try:
            while len(left) and self.error is None:
                left = left[self.file.write(left) :]
        except OSError as error:
            self.error = error
        return len(whole)

    def truncate(self, size: int) -> int:
        try:
            self.file.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def check(self) -> None:
        """Raises the first error, an OSError."""
        if self.error is not None:
            raise self.error


@contextmanager
def _hdf5(out: Path, pictures: int, samples: int, voxels: Tensor) -> Iterator[Writer]:
    with replacing(out) as temporary, open(temporary, "rb+", buffering=0) as raw:
        disk = _Disk(raw)
        with h5py.File(disk, "w") as file:
            file["voxels"] = voxels.numpy()
            yield _HDF5Writer(file, disk, pictures, samples, len(voxels))
        disk.check()


class _SpooledWriter:
    """Rows go to two scratch files, because the members of an npz cannot be written side by side."""

    def __init__(self, mean: io.BufferedRandom, samples: list[io.BufferedRandom]) -> None:
        self.mean, self.samples = mean, samples

    def append(self, mean: Tensor, samples: Tensor) -> None:
        self.mean.write(mean.contiguous().numpy().data)
        for file, sample in zip(self.samples, samples, strict=True):
            file.write(sample.contiguous().numpy().data)


@contextmanager
def _npz(out: Path, pictures: int, samples: int, voxels: Tensor) -> Iterator[Writer]:
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as archive, _scratch(out, samples + 1) as files:
        yield _SpooledWriter(files[0], files[1:])
        _member(archive, "mean", (pictures, len(voxels)), files[:1])
        _member(archive, "samples", (samples, pictures, len(voxels)), files[1:])
        with archive.open("voxels.npy", "w") as member:
            npy.write_array(member, voxels.numpy())


@contextmanager
def _scratch(out: Path, count: int) -> Iterator[list[io.BufferedRandom]]:
    """Unnamed files in the folder of the result, where there must be room for it anyway; gone when closed."""
    with ExitStack() as stack:
        yield [stack.enter_context(tempfile.TemporaryFile(dir=out.parent)) for _ in range(count)]  # type: ignore[misc]


def _member(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], files: list[io.BufferedRandom]) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        npy.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": shape})
        for file in files:
            file.seek(0)
            while block := file.read(1 << 22):
                member.write(block)


@torch.no_grad()
def _respond(run: Run, images: Tensor, seeds: list[int], trials: tuple[int, int], voxels: Tensor) -> tuple[Tensor, Tensor]:
    features = run.space.of_images(images)
    drawn = []
    for row, seed in zip(features, seeds, strict=True):
        torch.manual_seed(seed)
        each = run.encoder.sample(row[None], trials[0] * trials[1])[..., voxels]
        drawn.append(each.unflatten(0, trials).mean(1))
    return run.encoder.predict(features)[:, voxels], torch.cat(drawn, dim=1)


def _voxels(run: Run, areas: str | None) -> Tensor:
    if areas is None:
        return torch.ones(run.encoder.voxels, dtype=torch.bool)
    if run.encoder.cortex is None:
        raise CortexflowError(f"{run.folder} knows no areas; leave --areas out")
    return run.encoder.cortex.area(areas)


def _seed(seed: int, path: Path) -> int:
    """A picture's own seed: its bytes and the run's seed, so that neighbours in the folder do not matter."""
    return int(checksum(path)[:12], 16) ^ seed


def _batches(paths: list[Path], size: int) -> Iterator[list[Path]]:
    for start in range(0, len(paths), size):
        yield paths[start : start + size]
