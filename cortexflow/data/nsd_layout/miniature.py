"""A small study in the dataset's own layout, with known truth: the cortex that looks at scenes, recorded as if by the scanner.

Names, types, axes, offsets of ids and numbers of trials are the dataset's; only the heads are small and the sessions few. What
reads the dataset reads a miniature and cannot tell, and no number of the real recordings is in it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import h5py
import nibabel
import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Trials
from cortexflow.data.nsd_layout.betas import PERCENT
from cortexflow.data.nsd_layout.design import PER_SESSION, REPEATS, SESSIONS, Design
from cortexflow.data.nsd_layout.heads import Head, head, save, write_labels
from cortexflow.data.nsd_layout.miniature_runs import write_runs
from cortexflow.data.nsd_layout.miniature_words import write_annotations, write_behaviour
from cortexflow.data.nsd_layout.pictures import BRICK, SIDE
from cortexflow.data.nsd_layout.planning import dense, plan, spread, write_plan
from cortexflow.data.nsd_layout.runs import CLOCKS
from cortexflow.data.nsd_layout.spaces import BETAS, SIDES
from cortexflow.data.scenes import Scenes
from cortexflow.data.simulation.noise_families import Order
from cortexflow.data.simulation.streams import stream
from cortexflow.errors import CortexflowError
from cortexflow.progress import track
from cortexflow.storage import replacing

LIMIT = 32767  # of a 16-bit integer: responses beyond it are cut off there, as in the dataset


class Miniature(Choices):
    """Choices of a miniature.

    Arguments:
        subjects: How many, from ``subj01`` on.
        sessions: Written per subject, from the first on.
        schedule: ``dense`` shows each picture three times within the sessions written; ``nsd`` anywhere in 40 sessions.
        shared: With ``dense``, the share of pictures that all subjects see.
        voxels: Of ``nsdgeneral``, per subject.
        image_size: Side of the pictures that the cortex looks at; the file has them enlarged to 425.
        spaces: Which of the three to write.
        files: Of volumes.
        betas: Which estimates to write; all hold the same numbers.
        annotations: Whether to write COCO's captions and outlines, of the scenes.
        timeseries: Whether to write the runs as well, of which the betas' responses are the answers to each picture.
        seed: Decides on every number.
    """

    subjects: int = Field(2, ge=1, le=8)
    sessions: int = Field(2, ge=1, le=SESSIONS)
    schedule: Literal["dense", "nsd"] = "dense"
    shared: float = Field(0.2, ge=0, le=1)
    voxels: int = Field(2000, ge=60)
    image_size: int = Field(64, ge=16, le=400, multiple_of=8)
    spaces: tuple[Literal["func1pt8mm", "func1mm", "fsaverage"], ...] = ("func1pt8mm",)
    files: tuple[Literal["nifti", "hdf5"], ...] = ("nifti", "hdf5")
    betas: tuple[Literal["b1", "b2", "b3"], ...] = ("b3",)
    annotations: bool = True
    timeseries: bool = False
    seed: int = Field(0, ge=0)


class Scheduled(Scenes):
    """Scenes in the order of a design."""

    def __init__(self, config: Scenes.Config, orders: Mapping[str, Order]) -> None:
        super().__init__(config)
        self._orders = orders

    def _order(self, subject: str) -> Order:
        return self._orders[subject]


class Written:
    """The truth behind a miniature, in the order in which its files are read.

    Arguments:
        study: The simulated study; its stimuli are counted from 0 as they are there.
        stimuli: The dataset's id of each of the study's stimuli.
        heads: Where each subject's voxels lie.
    """

    def __init__(self, study: Scheduled, stimuli: Int[Tensor, " stimuli"], heads: Mapping[str, Head]) -> None:
        self.study, self.stimuli, self.heads = study, stimuli, heads

    def trials(self, subject: str) -> Trials:
        """What was simulated, before it was rounded: voxels in the order of a mask's axes, the last one fastest."""
        trials, order = self.study.trials(subject), torch.from_numpy(self.heads[subject].order)
        return Trials(subject, self.stimuli[trials.stimuli], trials.sessions, trials.repeats, trials.responses[:, order], trials.units)

    def signal(self, subject: str, stimuli: Int[Tensor, " stimuli"]) -> Float[Tensor, "stimuli voxels"]:
        """The expected response to pictures by the dataset's ids, percent signal change."""
        return self.study.signal(subject, torch.searchsorted(self.stimuli, stimuli))[:, torch.from_numpy(self.heads[subject].order)]

    def ncsnr(self, subject: str) -> Float[Tensor, " voxels"]:
        """The planted ratio of deviations of signal and noise."""
        return self.study.true_ncsnr(subject)[torch.from_numpy(self.heads[subject].order)]


def write_miniature(folder: Path | str, choices: Miniature | None = None) -> Written:
    """Write a miniature, whose folder is then read as ``nsd``.

    Arguments:
        folder: The folder that stands for the bucket; it must be new or empty.
        choices: Sizes and seed; defaults where absent.

    Returns:
        The truth.

    Raises:
        CortexflowError: The folder holds something, or a file could not be written.
    """
    root, choices = Path(folder), choices or Miniature()
    if root.is_dir() and any(root.iterdir()):
        raise CortexflowError(f"{root} is not empty; name a new folder, so that nothing of another study is mixed in or lost")
    order = spread(choices.seed) if choices.schedule == "nsd" else dense(choices.seed, choices.sessions, choices.shared)
    planned = plan(order, choices.seed)
    write_plan(root, planned)
    study, stimuli = _study(choices, planned.design)
    heads = {subject: head(study, subject, choices.seed) for subject in study.subjects}
    _write_pictures(root / BRICK, study, stimuli)
    if choices.annotations:
        write_annotations(root, choices.seed, stimuli)
    for subject, place in heads.items():
        write_labels(root, subject, place, choices.spaces)
        write_behaviour(root, subject, planned, choices.sessions, choices.seed)
        for space in choices.spaces:
            _write_sessions(root / "nsddata_betas/ppdata" / subject / space, study.trials(subject), place, choices)
            if choices.timeseries and space in CLOCKS:
                trials = replace(study.trials(subject), stimuli=torch.from_numpy(stimuli)[study.trials(subject).stimuli])
                write_runs(root, space, trials, place, planned.arrays["stimpattern"], choices.seed)
    return Written(study, torch.from_numpy(stimuli), heads)


def _study(choices: Miniature, design: Design) -> tuple[Scheduled, Int[np.ndarray, " stimuli"]]:
    """Scenes in the design's order, one for each id that a written session shows."""
    names = [f"subj{number + 1:02d}" for number in range(choices.subjects)]
    shown = {name: design.of(name)[: choices.sessions * PER_SESSION] for name in names}
    stimuli = np.unique(np.concatenate(list(shown.values())))
    numbers = np.arange(choices.sessions * PER_SESSION) // PER_SESSION + 1
    orders = {name: Order(np.searchsorted(stimuli, ids), numbers) for name, ids in shown.items()}
    config = Scenes.Config(
        images=len(stimuli),
        held_out=1,  # what is held out is for the reader to say
        voxels=choices.voxels,
        subjects=choices.subjects,
        sessions=choices.sessions,
        image_size=choices.image_size,
        seed=choices.seed,
    )
    return Scheduled(config, orders), stimuli


def _write_pictures(path: Path, study: Scheduled, stimuli: Int[np.ndarray, " stimuli"]) -> None:
    """The file of all 73,000, in which only the pictures that were shown take space."""
    near = (np.arange(SIDE) * study.config.image_size) // SIDE  # enlarged without new colours: what the cortex saw stays to be seen
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        shape = (73_000, SIDE, SIDE, 3)
        brick = file.create_dataset("imgBrick", shape, "u1", chunks=(1, *shape[1:]), compression="gzip", compression_opts=1)
        for row, stimulus in enumerate(track(stimuli.tolist(), "pictures")):
            picture = study.images(torch.tensor([row]))[0].permute(1, 2, 0).numpy()
            brick[stimulus] = picture[near][:, near]


def _write_sessions(folder: Path, trials: Trials, place: Head, choices: Miniature) -> None:
    surface = folder.name == "fsaverage"
    for betas in choices.betas:
        target = folder / BETAS[betas]
        for number in range(1, choices.sessions + 1):
            responses = trials.responses[trials.sessions == number].numpy()
            noise = stream(choices.seed, "elsewhere", trials.subject, number)
            if surface:
                _write_surface(target, number, responses, place, noise)
            else:
                _write_volumes(target, number, _volumes(responses, place, noise), place.affine(folder.name), choices.files)
        _write_ratio(target, _ratio(trials), place, surface, place.affine(folder.name))


def _volumes(responses: Float[np.ndarray, "trials voxels"], place: Head, noise: np.random.Generator) -> Int[np.ndarray, "x y z trials"]:
    """Integers, 0 outside the brain; around the visual cortex noise, a voxel that never changes and one that is cut off."""
    values = np.zeros((*place.brain.shape, len(responses)), dtype=np.float32)
    around = np.argwhere(place.brain & ~place.general)
    values[tuple(around.T)] = noise.standard_normal((len(around), len(responses)))
    values[tuple(around[0])], values[tuple(around[1])] = 1.0, 200.0
    values[tuple(place.voxels.T)] = responses.T
    return np.clip(np.rint(PERCENT * values), -LIMIT, LIMIT).astype(np.int16)


def _write_volumes(folder: Path, number: int, values: np.ndarray, affine: np.ndarray, files: tuple[str, ...]) -> None:
    if "nifti" in files:
        save(folder / f"betas_session{number:02d}.nii.gz", nibabel.Nifti1Image(values, affine))
    if "hdf5" in files:
        with replacing(folder / f"betas_session{number:02d}.hdf5") as temporary, h5py.File(temporary, "w") as file:
            file.create_dataset("betas", data=values.T, chunks=(values.shape[-1], 1, 1, 1))


def _write_surface(folder: Path, number: int, responses: np.ndarray, place: Head, noise: np.random.Generator) -> None:
    """Percent signal change on vertices, one of which is NaN as in some subjects."""
    for side, (vertices, members) in zip(SIDES, place.surface, strict=True):
        values = noise.standard_normal((place.vertices, len(responses))).astype(np.float32)
        values[vertices] = responses.T[members]
        values[np.setdiff1d(np.arange(place.vertices), vertices)[0]] = np.nan
        save(folder / f"{side}.betas_session{number:02d}.mgh", nibabel.MGHImage(values[:, None, None], np.eye(4)))


def _write_ratio(folder: Path, ratio: Float[np.ndarray, " voxels"], place: Head, surface: bool, affine: np.ndarray) -> None:
    if surface:
        for side, (vertices, members) in zip(SIDES, place.surface, strict=True):
            values = np.zeros(place.vertices, dtype=np.float32)
            values[vertices] = ratio[members]
            save(folder / f"{side}.ncsnr.mgh", nibabel.MGHImage(values[:, None, None], np.eye(4)))
        return
    volume = np.where(place.brain, 0, np.nan).astype(np.float32)
    volume[tuple(place.voxels.T)] = ratio
    save(folder / "ncsnr.nii.gz", nibabel.Nifti1Image(volume, affine))


def _ratio(trials: Trials) -> Float[np.ndarray, " voxels"]:
    """The noise ratio as the dataset computes it, from pictures seen three times; zeros where there are none."""
    responses, ids = trials.responses.double().numpy(), trials.stimuli.numpy()
    for number in np.unique(trials.sessions.numpy()):
        rows = trials.sessions.numpy() == number
        responses[rows] = (responses[rows] - responses[rows].mean(0)) / responses[rows].std(0, ddof=1)
    counts = np.bincount(ids)
    three = responses[np.argsort(ids, kind="stable")][np.repeat(counts[counts > 0], counts[counts > 0]) == REPEATS]
    if not len(three):
        return np.zeros(trials.voxels, dtype=np.float32)
    noise = three.reshape(-1, REPEATS, trials.voxels).var(1, ddof=1).mean(0)
    return (np.sqrt(np.maximum(0, 1 - noise)) / np.sqrt(noise)).astype(np.float32)
