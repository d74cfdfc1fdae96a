"""Writes a study as a folder that ``data=folder`` reads: to keep what took long to compute, or as a pattern for one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor

from cortexflow.data.base import Cortex, Dataset, Trials
from cortexflow.data.on_disk.responses import save_responses
from cortexflow.data.on_disk.tables import write_table
from cortexflow.errors import CortexflowError
from cortexflow.storage import replacing, save_json


def write_folder(folder: Path | str, dataset: Dataset, subjects: Sequence[str] | None = None) -> Path:
    """Write any study of single trials as a folder that :class:`Folder` reads: the same ids, split, areas and numbers.

    Pictures are written as PNG, a few at a time, and every file is whole or absent. To read them back unchanged, set
    ``image_size`` to theirs.

    Arguments:
        folder: A folder that does not exist yet, or is empty.
        dataset: The study.
        subjects: Some of its subjects; all where absent.

    Raises:
        CortexflowError: The folder is not empty, the trials are volumes of a time series, or a file cannot be written.
    """
    folder, held_out = Path(folder), dataset.held_out()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CortexflowError(f"{folder} is there already and not empty; choose a new folder, or delete this one")
    seen, units = [held_out], set()
    for subject in subjects or dataset.subjects:
        trials = dataset.trials(subject)
        write_subject(folder / "subjects" / subject, trials, dataset.cortex(subject))
        seen.append(trials.seen)
        units.add(trials.units)
    stimuli = torch.cat(seen).unique()
    if len(held_out):
        with replacing(folder / "held_out.txt") as temporary:
            temporary.write_text("".join(f"{_picture_name(stimulus)}\n" for stimulus in held_out.tolist()), encoding="utf-8")
    write_table(folder / "stimuli.tsv", {"id": stimuli.tolist(), "stimulus": map(_picture_name, stimuli.tolist())})
    write_pictures(folder / "stimuli", dataset, stimuli)
    save_json(folder / "study.json", {"title": dataset.title, "units": ", ".join(sorted(units))})
    return folder


def write_subject(folder: Path | str, trials: Trials, cortex: Cortex) -> None:
    """Write one subject's trials, responses, areas and geometry; its pictures are called by their ids, ``000123.png``.

    Raises:
        CortexflowError: The trials are volumes of a time series, or a file cannot be written.
    """
    folder = Path(folder)
    if trials.exposure is not None:
        what = f"{trials.subject}: the trials are volumes of a time series, and a folder holds responses to single pictures"
        raise CortexflowError(f"{what}; estimate single-trial responses first")
    save_responses(folder / "responses.npy", trials.responses)
    if cortex.areas:
        write_table(folder / "areas.tsv", {name: mask.int().tolist() for name, mask in cortex.areas.items()})
    if cortex.coordinates is not None:
        flat = {} if cortex.flat is None else dict(zip(("flat_x", "flat_y"), cortex.flat.T.numpy(), strict=True))
        write_table(folder / "coordinates.tsv", dict(zip("xyz", cortex.coordinates.T.numpy(), strict=True)) | flat)
    if cortex.ncsnr is not None:
        write_table(folder / "ncsnr.tsv", {"ncsnr": cortex.ncsnr.numpy()})
    columns: dict[str, Any] = {"stimulus": map(_picture_name, trials.stimuli.tolist())}
    columns |= {"session": trials.sessions.tolist(), "repeat": trials.repeats.tolist()}
    if not torch.equal(trials.groups, trials.stimuli):
        columns["group"] = trials.groups.tolist()
    write_table(folder / "trials.tsv", columns)


def write_pictures(folder: Path, dataset: Dataset, stimuli: Int[Tensor, " stimuli"]) -> None:
    """Write these pictures of a study as PNG, called by their ids, ``000123.png``."""
    for some in stimuli.split(64):
        for stimulus, picture in zip(some.tolist(), dataset.images(some), strict=True):
            with replacing(folder / _picture_name(stimulus)) as temporary:
                Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(temporary, format="PNG")


def _picture_name(stimulus: int) -> str:
    return f"{stimulus:06d}.png"
