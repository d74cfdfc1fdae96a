"""The runs of a miniature: each trial's response through the haemodynamic response, overlapping with its neighbours.

The responses are those that the miniature's betas hold, in percent of the voxel's mean at the peak of the answer to one picture. To
them come drifts, motion and noise of the scanner, in percent of the mean as well.
"""

from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import torch
from jaxtyping import Float, Int

from cortexflow.data.base import Trials
from cortexflow.data.nsd_layout.design import PER_SESSION
from cortexflow.data.nsd_layout.miniature.heads import MILLIMETRES, Head, save
from cortexflow.data.nsd_layout.timeseries.runs import CLOCKS, PARAMETERS, RESTING, STARTS, Clock
from cortexflow.data.simulation.streams import stream
from cortexflow.data.single_trials import answers
from cortexflow.storage import replacing

SLOT, SHOWN = 4.0, 3.0  # seconds of a slot, and of the picture in it
LEAST, MOST = 800.0, 1600.0  # mean of a voxel, in the scanner's units
LIMIT = 32767


class Disturbance(NamedTuple):
    """What runs hold besides responses, as deviations in percent of a voxel's mean.

    Arguments:
        noise: Of every volume, independent of all others.
        drift: Of a straight line and a slow wave together.
        motion: Of what follows the motion parameters.
    """

    noise: float = 1.0
    drift: float = 1.0
    motion: float = 1.0


class Scan(NamedTuple):
    """One session of one subject that is to be written in one space.

    Arguments:
        root: The folder that stands for the bucket.
        subject: As the dataset writes it.
        space: ``func1pt8mm`` or ``func1mm``.
        session: From 1.
        place: Where the voxels lie.
        seed: Decides on all that is no response.
    """

    root: Path
    subject: str
    space: str
    session: int
    place: Head
    seed: int

    @property
    def clock(self) -> Clock:
        """How time is sampled."""
        return CLOCKS[self.space]

    def path(self, kind: str, number: int, ending: str) -> Path:
        """Where a file of a run lies."""
        folder = self.root / "nsddata_timeseries/ppdata" / self.subject / self.space / kind
        return folder / f"{kind}_session{self.session:02d}_run{number:02d}.{ending}"

    def draw(self, *purpose: str | int) -> np.random.Generator:
        """A generator for one purpose."""
        return stream(self.seed, "runs", self.subject, self.space, self.session, *purpose)


def write_runs(root: Path, space: str, trials: Trials, place: Head, pattern: Int[np.ndarray, "sessions runs slots"], seed: int) -> None:
    """Write the runs of all sessions of a subject.

    Arguments:
        root: The folder that stands for the bucket.
        space: ``func1pt8mm`` or ``func1mm``.
        trials: By the dataset's ids, in percent, in the order of the head's voxels.
        place: Where the voxels lie.
        pattern: Which slots show a picture, ``stimpattern`` of the plan.
        seed: Decides on all that is no response.
    """
    for session in torch.unique(trials.sessions).tolist():
        part = trials.where(trials.sessions == session)
        scan = Scan(root, trials.subject, space, session, place, seed)
        write_session(scan, part.stimuli.numpy(), part.responses.double().numpy(), pattern[session - 1])


def write_session(
    scan: Scan,
    stimuli: Int[np.ndarray, " trials"],
    responses: Float[np.ndarray, "trials voxels"],
    shows: Int[np.ndarray, "runs slots"],
    disturbance: Disturbance | None = None,
) -> None:
    """Write the runs of one session with their designs and motion; in sessions with rest, two runs of rest as well.

    Arguments:
        scan: Which session.
        stimuli: The picture of each of its 750 trials, from 0.
        responses: To each of them, percent at the peak, in the order of the head's voxels.
        shows: 1 where a slot shows a picture, as the plan's ``stimpattern`` has it.
        disturbance: What else is in the runs; the defaults where absent.
    """
    assert len(stimuli) == len(responses) == PER_SESSION == shows.sum()
    disturbance, rests = disturbance or Disturbance(), int(scan.session in RESTING[scan.subject])
    for run, slots in enumerate(shows):
        onsets, trials = np.flatnonzero(slots) * SLOT, STARTS[run] + np.arange(slots.sum())
        _write_design(scan, 1 + run + rests, onsets, stimuli[trials])
        _write_series(scan, 1 + run + rests, evoked(onsets, responses[trials], scan.clock), disturbance)
    for number in (1, len(shows) + 2) if rests else ():
        _write_series(scan, number, np.zeros((scan.clock.volumes + 1, responses.shape[1])), disturbance)


def evoked(onsets: Float[np.ndarray, " trials"], responses: Float[np.ndarray, "trials voxels"], clock: Clock) -> Float[np.ndarray, "volumes voxels"]:
    """The sum of all answers at every volume of a run, the odd one included; percent.

    Arguments:
        onsets: Seconds from the start of the run.
        responses: Percent at the peak of the answer to a single picture.
        clock: Of the space.
    """
    shape = answers(onsets, np.full(len(onsets), SHOWN), clock.volumes + 1, clock.tr)
    return (shape.regressors / shape.peaks[:, None]).T @ responses


def _write_design(scan: Scan, number: int, onsets: Float[np.ndarray, " trials"], stimuli: Int[np.ndarray, " trials"]) -> None:
    """The id, from 1, at the volume at which a picture begins; one row fewer than volumes."""
    rows = np.zeros(scan.clock.volumes, dtype=np.int64)
    rows[np.rint(onsets / scan.clock.tr).astype(np.int64)] = stimuli + 1
    with replacing(scan.path("design", number, "tsv")) as temporary:
        np.savetxt(temporary, rows, fmt="%d")


def _write_series(scan: Scan, number: int, response: Float[np.ndarray, "volumes voxels"], disturbance: Disturbance) -> None:
    motion = scan.draw("motion", number).standard_normal((len(response), PARAMETERS)).cumsum(0) / 20
    with replacing(scan.path("motion", number, "tsv")) as temporary:
        np.savetxt(temporary, motion, fmt="%.6f", delimiter="\t")
    place, rng = scan.place, scan.draw("series", number)
    values = np.zeros((*place.brain.shape, len(response)), dtype=np.float32)
    around = np.argwhere(place.brain & ~place.general)
    values[tuple(around.T)] = MOST * (1 + 0.01 * rng.standard_normal((len(around), len(response))))
    values[tuple(around[0])] = MOST
    means = stream(scan.seed, "means", scan.subject).uniform(LEAST, MOST, response.shape[1])
    values[tuple(place.voxels.T)] = (means * (1 + (response + _disturbed(motion, response.shape, rng, disturbance)) / 100)).T
    image = nibabel.Nifti1Image(np.clip(np.rint(values), -LIMIT, LIMIT).astype(np.int16), place.affine(scan.space))
    image.header.set_zooms((*[MILLIMETRES[scan.space]] * 3, round(scan.clock.tr, 4)))  # rounded as in the dataset
    save(scan.path("timeseries", number, "nii.gz"), image)


def _disturbed(
    motion: Float[np.ndarray, "volumes parameters"], shape: tuple[int, int], rng: np.random.Generator, disturbance: Disturbance
) -> Float[np.ndarray, "volumes voxels"]:
    """Percent of the mean."""
    time = np.linspace(-1, 1, shape[0])[:, None]
    weights = rng.standard_normal((2 + PARAMETERS, shape[1]))
    drift = time * weights[0] + np.sin(np.pi * time) * weights[1]
    return disturbance.drift * drift + disturbance.motion * motion @ weights[2:] + disturbance.noise * rng.standard_normal(shape)
