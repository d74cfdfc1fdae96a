"""A small study in the dataset's own layout, with known truth: the cortex that looks at scenes, recorded as if by the scanner.

Names, types, axes, offsets of ids and numbers of trials are the dataset's; only the heads are small and the sessions few. What
reads the dataset reads a miniature and cannot tell, and no number of the real recordings is in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import h5py
import nibabel
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Trials
from cortexflow.data.nsd_layout.betas import PERCENT
from cortexflow.data.nsd_layout.design import PER_SESSION, REPEATS, SESSIONS, Design
from cortexflow.data.nsd_layout.flaws import LIMIT
from cortexflow.data.nsd_layout.miniature.heads import Head, head, save, write_labels, write_surface_map
from cortexflow.data.nsd_layout.miniature.maps import write_maps
from cortexflow.data.nsd_layout.miniature.planning import dense, plan, spread, write_plan
from cortexflow.data.nsd_layout.miniature.runs import write_runs
from cortexflow.data.nsd_layout.miniature.words import write_annotations, write_behaviour
from cortexflow.data.nsd_layout.pictures import BRICK, SIDE
from cortexflow.data.nsd_layout.retinotopy import Fields
from cortexflow.data.nsd_layout.spaces import BETAS, SIDES
from cortexflow.data.nsd_layout.timeseries.runs import CLOCKS
from cortexflow.data.nsd_layout.transforms import GRIDS
from cortexflow.data.nsd_layout.upkeep.inventory import SUBJECTS
from cortexflow.data.scenery.cortex import WITH_V3
from cortexflow.data.scenes import Scenes
from cortexflow.data.simulation.noise_families import Order
from cortexflow.data.simulation.streams import stream
from cortexflow.errors import CortexflowError
from cortexflow.progress import track
from cortexflow.storage import replacing

TRIES = 16  # draws of noise, of which one has a ratio of 0


class Miniature(Choices):
    """Choices of a miniature.

    Arguments:
        subjects: How many, from ``subj01`` on.
        sessions: Per subject, from the first on; of subjects who had fewer, those that they had.
        missing: Sessions that are not written, as if nobody had copied them.
        schedule: ``dense`` shows each picture three times within the sessions written; ``nsd`` anywhere in 40 sessions.
        shared: With ``dense``, the share of pictures that all subjects see.
        voxels: Of ``nsdgeneral``, per subject.
        image_size: Side of the pictures that the cortex looks at; the file has them enlarged to 425.
        spaces: Which of the four to write.
        files: Of volumes.
        betas: Which estimates to write; all hold the same numbers.
        odd: Whether some voxels of the visual cortex are what real ones may be: one that never changes, one of noise whose ratio is 0,
            one that is cut off at the limit of 16-bit integers, and on the average brain a vertex that is NaN.
        annotations: Whether to write COCO's captions and outlines, of the scenes.
        timeseries: Whether to write the runs as well, of which the betas' responses are the answers to each picture.
        seed: Decides on every number.
    """

    subjects: int = Field(2, ge=1, le=8)
    sessions: int = Field(2, ge=1, le=SESSIONS)
    missing: tuple[Annotated[int, Field(ge=1, le=SESSIONS)], ...] = ()
    schedule: Literal["dense", "nsd"] = "dense"
    shared: float = Field(0.2, ge=0, le=1)
    voxels: int = Field(2000, ge=60)
    image_size: int = Field(64, ge=16, le=400, multiple_of=8)
    spaces: tuple[Literal["func1pt8mm", "func1mm", "fsaverage", "nativesurface"], ...] = ("func1pt8mm",)
    files: tuple[Literal["nifti", "hdf5"], ...] = ("nifti", "hdf5")
    betas: tuple[Literal["b1", "b2", "b3"], ...] = ("b3",)
    odd: bool = True
    annotations: bool = True
    timeseries: bool = False
    seed: int = Field(0, ge=0)


class Scheduled(Scenes):
    """Scenes in the order of a design, for a cortex with the early areas of the dataset's label maps."""

    atlas = WITH_V3

    def __init__(self, config: Scenes.Config, orders: Mapping[str, Order]) -> None:
        super().__init__(config)
        self._orders = orders

    def _order(self, subject: str) -> Order:
        return self._orders[subject]


@dataclass(frozen=True)
class Odd:
    """Voxels of the visual cortex that differ from what is planted, by their number in the simulation.

    Arguments:
        constant: Never changes.
        noise: Answers no picture; its ratio is 0.
        saturated: Reaches the limit of 16-bit integers in about a third of its trials.
    """

    constant: int
    noise: int
    saturated: int

    @classmethod
    def of(cls, study: Scenes, subject: str) -> "Odd":
        """Three voxels of LOC, which belongs to no area of the dataset's that is named."""
        return cls(*torch.nonzero(study.cortex(subject).areas["LOC"])[:3, 0].tolist())

    def spoil(self, trials: Trials, seed: int) -> Trials:
        """The same trials with these voxels as they are."""
        responses, draws = trials.responses.clone(), stream(seed, "odd", trials.subject)
        responses[:, self.constant] = 1.0
        tried = replace(trials, responses=torch.from_numpy(draws.standard_normal((len(trials), TRIES)).astype(np.float32)))
        responses[:, self.noise] = tried.responses[:, int(within_pictures(tried).argmax())]
        shape = responses[:, self.saturated]
        responses[:, self.saturated] = (80 + 60 * (shape - shape.mean()) / shape.std()).clamp(-LIMIT / PERCENT, LIMIT / PERCENT)
        return replace(trials, responses=responses)


class Written:
    """The truth behind a miniature, in the order in which its files are read.

    Arguments:
        study: The simulated study; its stimuli are counted from 0 as they are there.
        stimuli: The dataset's id of each of the study's stimuli.
        heads: Where each subject's voxels lie.
        choices: What was chosen.
    """

    def __init__(self, study: Scheduled, stimuli: Int[Tensor, " stimuli"], heads: Mapping[str, Head], choices: Miniature) -> None:
        self.study, self.stimuli, self.heads, self.choices = study, stimuli, heads, choices

    def recorded(self, subject: str) -> Trials:
        """What was simulated of the sessions that are written, before it was rounded: the simulation's stimuli and order of voxels."""
        trials = self.study.trials(subject)
        trials = trials.where(~torch.isin(trials.sessions, torch.tensor(self.choices.missing, dtype=torch.int64)))
        return Odd.of(self.study, subject).spoil(trials, self.choices.seed) if self.choices.odd else trials

    def trials(self, subject: str) -> Trials:
        """What was simulated, before it was rounded: voxels in the order of a mask's axes, the last one fastest."""
        trials, order = self.recorded(subject), torch.from_numpy(self.heads[subject].order)
        return Trials(subject, self.stimuli[trials.stimuli], trials.sessions, trials.repeats, trials.responses[:, order], trials.units)

    def odd(self, subject: str) -> dict[str, int]:
        """The place of each odd voxel in the mask's order; empty where there are none."""
        places = np.argsort(self.heads[subject].order)
        return {name: int(places[voxel]) for name, voxel in vars(Odd.of(self.study, subject)).items()} if self.choices.odd else {}

    def signal(self, subject: str, stimuli: Int[Tensor, " stimuli"]) -> Float[Tensor, "stimuli voxels"]:
        """The expected response to pictures by the dataset's ids, percent signal change."""
        return self.study.signal(subject, torch.searchsorted(self.stimuli, stimuli))[:, torch.from_numpy(self.heads[subject].order)]

    def ncsnr(self, subject: str) -> Float[Tensor, " voxels"]:
        """The planted ratio of deviations of signal and noise; that of odd voxels too, as if they were like the others."""
        return self.study.true_ncsnr(subject)[torch.from_numpy(self.heads[subject].order)]

    def fields(self, subject: str) -> Fields:
        """The planted receptive fields."""
        return Fields.of_picture(self.study.prf(subject)[torch.from_numpy(self.heads[subject].order)])

    def preferred(self, subject: str) -> dict[str, Bool[Tensor, " voxels"]]:
        """The planted voxels of each supercategory that has an area."""
        order = torch.from_numpy(self.heads[subject].order)
        return {name: voxels[order] for name, voxels in self.study.preferred(subject).items()}


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
    truth = Written(study, torch.from_numpy(stimuli), heads, choices)
    _write_pictures(root / BRICK, study, stimuli)
    if choices.annotations:
        write_annotations(root, choices.seed, stimuli)
    for subject, place in heads.items():
        write_labels(root, subject, place, choices.spaces)
        write_behaviour(root, subject, planned, choices.sessions, choices.seed)
        write_maps(root, study, subject, place, choices.spaces, choices.seed)
        for space in choices.spaces:
            _write_sessions(root / "nsddata_betas/ppdata" / subject / space, truth.recorded(subject), place, choices)
            if choices.timeseries and space in CLOCKS:
                trials = replace(study.trials(subject), stimuli=torch.from_numpy(stimuli)[study.trials(subject).stimuli])
                write_runs(root, space, trials, place, planned.arrays["stimpattern"], choices.seed)
    return truth


def _study(choices: Miniature, design: Design) -> tuple[Scheduled, Int[np.ndarray, " stimuli"]]:
    """Scenes in the design's order, one for each id that a written session shows."""
    names = [f"subj{number + 1:02d}" for number in range(choices.subjects)]
    shown = {name: design.of(name)[: min(choices.sessions, SUBJECTS[name].sessions) * PER_SESSION] for name in names}
    stimuli = np.unique(np.concatenate(list(shown.values())))
    orders = {name: Order(np.searchsorted(stimuli, ids), np.arange(len(ids)) // PER_SESSION + 1) for name, ids in shown.items()}
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
    for betas in choices.betas:
        target = folder / BETAS[betas]
        for number in torch.unique(trials.sessions).tolist():
            responses = trials.responses[trials.sessions == number].numpy()
            noise = stream(choices.seed, "elsewhere", trials.subject, number)
            if folder.name == "fsaverage":
                _write_average(target, number, responses, place, noise, choices.odd)
            elif folder.name == "nativesurface":
                _write_native(target, number, responses, place, noise)
            else:
                _write_volumes(target, number, _volumes(responses, place, noise), place.affine(folder.name), choices.files)
        _write_ratios(target, trials, place, folder.name)


def _volumes(responses: Float[np.ndarray, "trials voxels"], place: Head, noise: np.random.Generator) -> Int[np.ndarray, "x y z trials"]:
    """Integers, 0 outside the brain; around the visual cortex noise, a voxel that never changes and one that is cut off."""
    values = np.zeros((*place.brain.shape, len(responses)), dtype=np.float32)
    around = np.argwhere(place.brain & ~place.general)
    values[tuple(around.T)] = noise.standard_normal((len(around), len(responses)))
    values[tuple(around[0])], values[tuple(around[1])] = 1.0, 200.0
    values[tuple(place.voxels.T)] = responses.T
    return _integers(values)


def _integers(values: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    return np.clip(np.rint(PERCENT * values), -LIMIT, LIMIT).astype(np.int16)


def _write_volumes(folder: Path, number: int, values: np.ndarray, affine: np.ndarray, files: tuple[str, ...]) -> None:
    if "nifti" in files:
        save(folder / f"betas_session{number:02d}.nii.gz", nibabel.Nifti1Image(values, affine))
    if "hdf5" in files:
        with replacing(folder / f"betas_session{number:02d}.hdf5") as temporary, h5py.File(temporary, "w") as file:
            file.create_dataset("betas", data=values.T, chunks=(values.shape[-1], 1, 1, 1))


def _write_average(folder: Path, number: int, responses: np.ndarray, place: Head, noise: np.random.Generator, odd: bool) -> None:
    """Percent signal change on vertices, of which some are NaN as in some subjects: outside the visual cortex, and one inside if odd."""
    for side, (vertices, members) in zip(SIDES, place.surface, strict=True):
        values = noise.standard_normal((place.vertices, len(responses))).astype(np.float32)
        values[vertices] = responses.T[members]
        values[np.setdiff1d(np.arange(place.vertices), vertices)[0]] = np.nan
        if odd and side == "lh":
            values[vertices[0]] = np.nan
        save(folder / f"{side}.betas_session{number:02d}.mgh", nibabel.MGHImage(values[:, None, None], np.eye(4)))


def _write_native(folder: Path, number: int, responses: np.ndarray, place: Head, noise: np.random.Generator) -> None:
    """Integers on the vertices of the subject's own surface, a block of the file for each."""
    for side, count, (vertices, members) in zip(SIDES, place.own_vertices, place.own_surface, strict=True):
        values = noise.standard_normal((len(responses), count)).astype(np.float32)
        values[:, vertices] = responses[:, members]
        with replacing(folder / f"{side}.betas_session{number:02d}.hdf5") as temporary, h5py.File(temporary, "w") as file:
            file.create_dataset("betas", data=_integers(values), chunks=(len(responses), 1))


def _write_ratios(folder: Path, trials: Trials, place: Head, space: str) -> None:
    """The noise ratio, of all pictures and of the odd and the even ones; in volumes also the mean response and what is explained."""
    ids = torch.unique(trials.stimuli, return_inverse=True)[1].numpy()
    ratios = {f"ncsnr{part}": _ratio(trials, which) for part, which in {"": ids >= 0, "_split1": ids % 2 == 0, "_split2": ids % 2 == 1}.items()}
    if space in GRIDS:
        ratio = np.nan_to_num(ratios["ncsnr"])
        mean = PERCENT * trials.responses.mean(0).numpy()  # in single precision, but 300 per percent all the same
        for name, values in (ratios | {"R2": 100 * ratio**2 / (1 + ratio**2), "meanbeta": mean}).items():
            volume = np.where(place.brain, 0, np.nan).astype(np.float32)
            volume[tuple(place.voxels.T)] = values
            save(folder / f"{name}.nii.gz", nibabel.Nifti1Image(volume, place.affine(space)))
    else:
        own = space == "nativesurface"
        sides, vertices = (place.own_surface, place.own_vertices) if own else (place.surface, (place.vertices,) * 2)
        for name, values in ratios.items():
            write_surface_map(folder, name, values, sides, vertices, ending="mgh")


def _ratio(trials: Trials, which: Bool[np.ndarray, " trials"]) -> Float[np.ndarray, " voxels"]:
    """The ratio as the dataset computes it, from those pictures that were seen three times; NaN for a voxel that never changes."""
    noise = within_pictures(trials, which)
    return (np.sqrt(np.maximum(0, 1 - noise)) / np.sqrt(noise)).astype(np.float32)


def within_pictures(trials: Trials, which: Bool[np.ndarray, " trials"] | None = None) -> Float[np.ndarray, " voxels"]:
    """Mean over pictures seen three times of the variance of their responses, z-scored within session; 1 where there are none.

    Arguments:
        trials: Of one subject.
        which: Trials whose pictures take part; all where absent. Sessions are z-scored over all trials all the same.
    """
    responses, ids = trials.responses.double().numpy().copy(), trials.stimuli.numpy()
    for number in np.unique(trials.sessions.numpy()):
        rows = trials.sessions.numpy() == number
        deviation = responses[rows].std(0, ddof=1)
        responses[rows] = (responses[rows] - responses[rows].mean(0)) / np.where(deviation > 0, deviation, np.nan)
    if which is not None:
        responses, ids = responses[which], ids[which]
    counts = np.bincount(ids)
    three = responses[np.argsort(ids, kind="stable")][np.repeat(counts[counts > 0], counts[counts > 0]) == REPEATS]
    if not len(three):
        return np.ones(trials.voxels)
    return np.asarray(three.reshape(-1, REPEATS, trials.voxels).var(1, ddof=1).mean(0))
