"""The runs of a subject's sessions: volumes, the picture at each volume, motion, and which runs show pictures at all.

A session has 12 runs with pictures. In sessions with rest there are 14, of which the first and the last are rest. A run lasts
300 seconds, a picture begins every 4 of them, and the series has one volume more than the design, which is left out.
"""

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from cortexflow.data.nsd_layout.betas import picked, places
from cortexflow.data.nsd_layout.design import PER_SESSION, PICTURES
from cortexflow.data.nsd_layout.files import BUCKET
from cortexflow.data.nsd_layout.miniature.planning import RUNS
from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import CortexflowError, CortexflowWarning, DamagedFileError

MANY = dict.fromkeys(("subj01", "subj05"), range(21, 39))
RESTING: Mapping[str, range] = {**{f"subj{number:02d}": range(21, 31) for number in range(1, 9)}, **MANY}  # sessions with rest
COUNTS = [63, 62] * (RUNS // 2)  # pictures of each run
STARTS = np.concatenate([[0], np.cumsum(COUNTS)[:-1]]).tolist()  # trials of the session before it
KINDS = {"timeseries": "nii.gz", "design": "tsv", "motion": "tsv"}  # folders of a run's files, and how they end
PARAMETERS = 6  # of motion
ROUNDING = 0.005  # seconds; headers say 1.3333


class Clock(NamedTuple):
    """How time is sampled in one space.

    Arguments:
        tr: Seconds from one volume to the next. The first volume stands for the start of the run.
        volumes: Of a run, as the design counts them.
    """

    tr: float
    volumes: int


CLOCKS = {"func1pt8mm": Clock(4 / 3, 225), "func1mm": Clock(1.0, 300)}


class Run(NamedTuple):
    """One run with pictures, and where its files lie.

    Arguments:
        session: From 1.
        number: As in the names of its files, from 1; 2 to 13 in sessions with rest.
        place: Among the session's runs with pictures, from 0.
        series: Its volumes.
        design: The picture that begins at each volume.
        motion: Six parameters at each volume.
    """

    session: int
    number: int
    place: int
    series: Path
    design: Path
    motion: Path

    @property
    def label(self) -> int:
        """Session and number in one: 2105 is run 5 of session 21."""
        return 100 * self.session + self.number

    @property
    def trials(self) -> Int[np.ndarray, " trials"]:
        """Which of the subject's 30,000 planned trials it holds."""
        return (self.session - 1) * PER_SESSION + STARTS[self.place] + np.arange(COUNTS[self.place])


class Onsets(NamedTuple):
    """The trials of a run.

    Arguments:
        volumes: At which each picture begins, from 0.
        stimuli: Ids of the pictures, from 0.
    """

    volumes: Int[np.ndarray, " trials"]
    stimuli: Int[np.ndarray, " trials"]


def runs_of(root: Path, subject: str, space: str) -> list[Run]:
    """The runs with pictures that are there, in the order of recording.

    Raises:
        CortexflowError: A run whose number the session cannot have.
    """
    folder = root / "nsddata_timeseries/ppdata" / subject / space
    matches = [re.fullmatch(r"timeseries_(session(\d\d)_run(\d\d))\.nii\.gz", path.name) for path in (folder / "timeseries").glob("*")]
    found = []
    for match in matches:
        if match is not None:
            session, number = int(match[2]), int(match[3])
            place = number - 1 - _rests(subject, session, number, folder / "timeseries" / match[0])
            paths = (folder / f"{kind}/{kind}_{match[1]}.{ending}" for kind, ending in KINDS.items())
            found.append(Run(session, number, place, *paths))
    return sorted(run for run in found if 0 <= run.place < RUNS)


def _rests(subject: str, session: int, number: int, path: Path) -> int:
    """How many runs of rest the session begins with."""
    rests = int(session in RESTING[subject])
    if not 1 <= number <= RUNS + 2 * rests:
        raise CortexflowError(f"{path} is run {number} of a session that has {RUNS + 2 * rests}; move it away or correct its name")
    return rests


def warn_of_gaps(subject: str, runs: list[Run]) -> None:
    """Sessions before the last one of which all or some runs are not there."""
    there = Counter(run.session for run in runs)
    whole = [str(session) for session in range(1, max(there)) if session not in there]
    parts = [f"{RUNS - count} of {RUNS} runs of session {session}" for session, count in there.items() if count < RUNS]
    if whole or parts:
        lacks = ", ".join([f"session {', '.join(whole)}"] * bool(whole) + parts)
        warnings.warn(f"{subject} lacks {lacks}; the others are used", CortexflowWarning, stacklevel=3)


def read_onsets(run: Run, clock: Clock, shown: Int[np.ndarray, " trials"]) -> Onsets:
    """When each picture of a run began, and that it is the one that the plan has.

    Arguments:
        run: Which.
        clock: Of its space.
        shown: The picture of each of the subject's planned trials.

    Raises:
        CortexflowError: No such file, an onset after the run's end, an id that is none, or another picture than planned.
        DamagedFileError: It is no table of integers.
    """
    ids = _column(run.design, clock)
    volumes = np.flatnonzero(ids)
    wrong = volumes[(ids[volumes] < 0) | (ids[volumes] > PICTURES)]
    if len(wrong):
        what = f"{run.design} has {ids[wrong[0]]} in row {wrong[0] + 1}, which is no picture"
        raise CortexflowError(f"{what}: ids are 1 to {PICTURES} there and 0 for none; copy the file again")
    _as_planned(run, ids[volumes] - 1, shown[run.trials])
    return Onsets(volumes, ids[volumes] - 1)


def _column(path: Path, clock: Clock) -> Int[np.ndarray, " volumes"]:
    values = _table(path, 1)[:, 0]
    if len(values) != clock.volumes:
        late = np.flatnonzero(values[clock.volumes :]) + clock.volumes
        past = f"; the onset at {late[0] * clock.tr:g} s is past its end" if len(late) else ""
        raise CortexflowError(f"{path} has {len(values)} rows where a run has {clock.volumes} volumes{past}; copy the file of the same space again")
    if (values != values.round()).any():
        raise DamagedFileError(f"{path} must hold integers, it holds {values[values != values.round()][0]:g}; copy the file again")
    return values.astype(np.int64)


def _as_planned(run: Run, stimuli: Int[np.ndarray, " found"], planned: Int[np.ndarray, " planned"]) -> None:
    where, remedy = f"{run.design} and nsd_expdesign.mat disagree", "copy both again, of the same subject"
    if len(stimuli) != len(planned):
        raise CortexflowError(f"{where}: {len(stimuli)} pictures there, {len(planned)} in the plan; {remedy}")
    other = np.flatnonzero(stimuli != planned)
    if len(other):
        first = f"picture {other[0] + 1} of the run is {stimuli[other[0]] + 1} there and {planned[other[0]] + 1} in the plan (ids from 1)"
        raise CortexflowError(f"{where}: {first}; {remedy}")


def read_motion(run: Run, clock: Clock) -> Float[np.ndarray, "volumes parameters"]:
    """The six parameters at each volume of the design.

    Raises:
        CortexflowError: No such file, or another number of rows or columns.
        DamagedFileError: It is no table of numbers.
    """
    values = _table(run.motion, PARAMETERS)
    if len(values) != clock.volumes + 1:
        have = f"{run.motion} has {len(values)} rows where a run has {clock.volumes + 1} volumes"
        raise CortexflowError(f"{have}; copy the file of the same space again")
    return values[: clock.volumes]


def _table(path: Path, columns: int) -> Float[np.ndarray, "rows columns"]:
    if not path.is_file():
        raise missing(path)
    with readable(path):
        values = np.loadtxt(path, ndmin=2)
    if values.shape[1] != columns or not np.isfinite(values).all():
        have = f"{values.shape[1]} columns" + (", some not finite" if not np.isfinite(values).all() else "")
        raise DamagedFileError(f"{path} must hold {columns} column{'s' * (columns > 1)} of numbers, it holds {have}; copy the file again")
    return values


def read_series(run: Run, clock: Clock, mask: Bool[np.ndarray, "x y z"]) -> Shaped[np.ndarray, "volumes voxels"]:
    """The volumes of a run that the design knows, as stored, for the voxels of a mask; the file is read as a stream.

    Raises:
        CortexflowError: Another grid, number of volumes or repetition time than expected, or a mask that lies outside the brain.
        DamagedFileError: The file is cut short or altered, or holds no numbers.
    """
    image = open_series(run, clock, mask.shape)
    dtype = image.get_data_dtype()
    values = picked(run.series, image.dataobj.offset, dtype, image.shape, places(mask))[: clock.volumes]
    empty = (values == 0).all(0).mean()
    if empty > 0.5:
        what = f"{run.series} is 0 in {empty:.0%} of the mask's voxels"
        raise CortexflowError(f"{what}; the mask is of another space or subject: copy both again from the same")
    if not np.isfinite(values).all():
        broken = int((~np.isfinite(values).all(0)).sum())
        raise DamagedFileError(f"{run.series} is not finite in {broken} of {values.shape[1]} voxels; copy the file again, or use a smaller mask")
    return values


def open_series(run: Run, clock: Clock, grid: tuple[int, ...]) -> Any:
    """A run's image, its volumes not read yet, once its header has been found to fit.

    Raises:
        CortexflowError: As :func:`read_series` for what the header tells.
        DamagedFileError: It is no image.
    """
    path = run.series
    if not path.is_file():
        raise missing(path)
    with readable(path):
        image: Any = nibabel.load(path)
    if image.shape[:3] != grid:
        swapped = " (its axes are reversed)" if image.shape[:3] == grid[::-1] else ""
        have = f"{path} has volumes of {_by(image.shape[:3])}{swapped} where the mask has {_by(grid)}"
        raise CortexflowError(f"{have}; use both of the same subject and space")
    if image.ndim != 4 or image.shape[3] != clock.volumes + 1:
        have = f"{path} has {image.shape[3] if image.ndim > 3 else 1} volumes where a run has {clock.volumes + 1}"
        raise CortexflowError(f"{have}; copy the file of the same space again")
    if image.get_data_dtype().kind not in "iuf":
        raise CortexflowError(f"{path} holds {image.get_data_dtype()} where the dataset has int16; copy the file again, unchanged")
    _check_tr(path, float(image.header.get_zooms()[3]), clock.tr)
    return image


def _check_tr(path: Path, says: float, tr: float) -> None:
    if says != 0 and abs(says - tr) > ROUNDING:  # 0 says nothing
        what = f"{path} says {says:g} s from volume to volume where its space has {tr:.4g} s"
        raise CortexflowError(f"{what}; it is of another space or was resampled: copy the file again")


def missing(path: Path) -> CortexflowError:
    """The error for a file of a run that is not there."""
    name = "/".join(path.parts[path.parts.index("nsddata_timeseries") :])
    return CortexflowError(f"{path} does not exist; copy {BUCKET}/{name} to this place")


def _by(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
