"""Everything of the dataset that a folder holds, looked at: each file opens, is whole, and fits the others of its subject.

Shapes are compared among the files of a subject, whatever they are. They are compared with those that were published as well
where the mask has the shape of any published one, or where that is asked for: then every shape must be the subject's own.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path

import nibabel
import numpy as np

from cortexflow.data.base import Check
from cortexflow.data.nsd_layout.behaviour import answered_sessions, behaviour_file, read_behaviour
from cortexflow.data.nsd_layout.design import PER_SESSION, Design, read_design
from cortexflow.data.nsd_layout.files import UNFINISHED
from cortexflow.data.nsd_layout.pictures import BRICK
from cortexflow.data.nsd_layout.spaces import BETAS, SIDES, Kept, Space, space
from cortexflow.data.nsd_layout.timeseries.runs import CLOCKS, Run, open_series, read_motion, read_onsets, runs_of
from cortexflow.data.nsd_layout.upkeep.checks import by, check_areas, check_experiment, check_sessions
from cortexflow.data.nsd_layout.upkeep.disk import size_text
from cortexflow.data.nsd_layout.upkeep.inventory import SPACES, SUBJECTS, VOLUMES
from cortexflow.data.nsd_layout.upkeep.wholeness import check_length, read_through
from cortexflow.data.on_disk.volumes import open_volumes, readable
from cortexflow.errors import CortexflowError

KINDS = dict.fromkeys(VOLUMES, ("hdf5", "nifti"))  # of the files of a session, where there are several


@dataclass(frozen=True)
class Inspection:
    """What is to be looked at, and how closely.

    Arguments:
        root: The folder that stands for the bucket.
        atlas: The label map that is the mask.
        subjects: Those that must be there; all that are there where None.
        sessions: Those that must be there; whichever are there where None.
        official: Whether every shape must be the published one; where False, only if the mask's is a published one.
        deep: Whether files are read to their ends, gigabytes of them.
    """

    root: Path
    atlas: str = "nsdgeneral"
    subjects: tuple[str, ...] | None = None
    sessions: tuple[int, ...] | None = None
    official: bool = False
    deep: bool = False

    def checks(self) -> Iterator[Check]:
        """Of the experiment, and of every subject what is there of it."""
        yield from check_experiment(self.root)
        if self.deep and (self.root / BRICK).is_file():
            yield Check.of(f"{BRICK}, to its end", partial(_read_through, self.root / BRICK))
        for path in sorted(self.root.glob(f"nsddata*/**/.*{UNFINISHED}")):
            have = f"{path} is the beginning of a file ({size_text(path.stat().st_size)}); fetch it again to continue, or delete it"
            yield Check(path.relative_to(self.root).as_posix(), wrong=have)
        for subject in self.subjects or SUBJECTS:
            found = list(self._subject(subject))
            yield from found
            if not found and self.subjects:
                yield Check(subject, wrong=f"{self.root} holds nothing of {subject}; fetch or copy its files, or leave it out")
        if not self.subjects and not self._anybody:
            yield Check("subjects", wrong=f"{self.root} holds no session of anybody; fetch or copy some")

    @property
    def _anybody(self) -> bool:
        return any(
            (self.root / folder / subject).is_dir() for folder in ("nsddata_betas/ppdata", "nsddata_timeseries/ppdata") for subject in SUBJECTS
        )

    def _subject(self, subject: str) -> Iterator[Check]:
        """All that there is of one subject."""
        for name in SPACES:
            stored = [kept for kept in self._stored(subject, name) if kept.sessions() or _halves(kept)]
            series = runs_of(self.root, subject, name) if name in VOLUMES else []
            if stored or series:
                yield from self._space(space(Kept(self.root, subject, name, "b3", "any")), stored, series)
        path = self.root / behaviour_file(subject)
        if path.is_file():
            yield Check.of(behaviour_file(subject), partial(self._look_at_behaviour, subject))
        folder = f"nsddata/ppdata/{subject}/transforms"
        yield from self._each(folder, sorted((self.root / folder).glob("[!.]*")), self._open)
        yield from self._surfaces(subject)

    def _stored(self, subject: str, name: str) -> list[Space]:
        return [space(Kept(self.root, subject, name, betas, files)) for betas in BETAS for files in KINDS.get(name, ("any",))]

    def _space(self, maps: Space, stored: list[Space], series: list[Run]) -> Iterator[Check]:
        """A subject's mask, maps, sessions and runs in one space."""
        about = f"{maps.kept.subject}, {maps.kept.name}"
        try:
            mask = maps.mask(self.atlas)
        except CortexflowError as error:
            yield Check(f"{about}, mask {self.atlas}", wrong=str(error))
            return
        yield Check(f"{about}, mask {self.atlas}", f"{int(mask.sum())} of {by(mask.shape)}")
        if self.official or any(mask.shape == facts.grid(maps.kept.name) for facts in SUBJECTS.values()):
            yield Check.of(f"{about}, as published", partial(self._look_at_shape, maps.kept, mask))
        yield from check_areas(maps, mask)
        if mask.ndim == 3:
            for folder in (maps.kept.maps / "roi", maps.kept.maps):
                named = folder.relative_to(self.root).as_posix()
                yield from self._each(named, sorted(folder.glob("[!.]*.nii.gz")), partial(_fits, mask))
        for kept in stored:
            yield from self._sessions(kept, mask)
        for number, runs in groupby(series, key=lambda run: run.session):
            yield from self._runs(maps.kept, number, list(runs), mask)

    def _sessions(self, kept: Space, mask: np.ndarray) -> Iterator[Check]:
        found, has = dict(sorted(kept.sessions().items())), SUBJECTS[kept.kept.subject].sessions
        folder = kept.kept.folder.relative_to(self.root).as_posix()
        kind = f", {kept.kept.files}" if kept.kept.files != "any" else ""
        lacking = sorted(set(self.sessions or range(1, max(found, default=0))) - set(found))
        gaps = f"session {', '.join(map(str, lacking))}" if lacking else ""
        wrong = f"{folder} lacks {gaps}; fetch or copy it, or ask for others" if gaps and self.sessions else None
        yield Check(f"{folder}{kind}", f"{len(found)} of {has} sessions" + (f"; without {gaps}" if gaps else ""), wrong)
        for path in _halves(kept):
            yield Check(path.relative_to(self.root).as_posix(), wrong=f"{path} has no file of the other hemisphere beside it; copy that as well")
        yield from check_sessions(kept, found, mask, self.deep)
        ratios = sorted(kept.kept.folder.glob("*ncsnr*")) if kept.kept.files != "nifti" else []
        yield from self._each(f"{folder}, ncsnr", ratios, partial(_fits, mask) if mask.ndim == 3 else self._open)

    def _runs(self, kept: Kept, number: int, runs: list[Run], mask: np.ndarray) -> Iterator[Check]:
        """The runs of one session: volumes against the mask, onsets against the plan, motion against the volumes."""
        folder, clock = runs[0].series.parent.relative_to(self.root).as_posix(), CLOCKS[kept.name]

        def look(path: Path) -> None:
            run = next(run for run in runs if run.series == path)
            open_series(run, clock, mask.shape)
            self._open(path)
            read_onsets(run, clock, self._shown(kept.subject))
            if run.motion.is_file():
                read_motion(run, clock)

        yield from self._each(f"{folder}, session {number}", [run.series for run in runs], look, "runs")

    def _surfaces(self, subject: str) -> Iterator[Check]:
        """The sheets of a subject's own brain, as many vertices on each as were published."""
        facts, folder = SUBJECTS[subject], f"nsddata/freesurfer/{subject}/surf"
        sheets = [path for side in SIDES for path in sorted((self.root / folder).glob(f"{side}.white"))]

        def look(path: Path) -> None:
            with readable(path):
                count = len(nibabel.freesurfer.read_geometry(path)[0])
            published = {(f.lh if path.name.startswith("lh") else f.rh) for f in SUBJECTS.values()}
            own = facts.lh if path.name.startswith("lh") else facts.rh
            if count != own and (self.official or count in published):
                raise CortexflowError(f"{path} has {count} vertices where {subject}'s published surface has {own}; copy the file again")

        yield from self._each(folder, sheets, look)

    def _look_at_shape(self, kept: Kept, mask: np.ndarray) -> str:
        facts = SUBJECTS[kept.subject]
        expected = facts.grid(kept.name)
        if mask.shape != expected:
            whose = next((f" (it is {name}'s)" for name, other in SUBJECTS.items() if other.grid(kept.name) == mask.shape), "")
            have = f"{kept.subject}'s grid in {kept.name} is {by(mask.shape)}{whose} where the published one is {by(expected)}"
            raise CortexflowError(f"{have}; copy the files of {kept.subject} again")
        if self.atlas == "nsdgeneral" and kept.name == "func1pt8mm" and int(mask.sum()) != facts.general:
            have = f"{kept.subject}'s nsdgeneral has {int(mask.sum())} voxels where the published one has {facts.general}"
            raise CortexflowError(f"{have}; copy nsdgeneral.nii.gz again")
        return f"{kept.subject}'s own shape"

    def _look_at_behaviour(self, subject: str) -> str:
        shown, numbers = self._shown(subject), answered_sessions(self.root, subject)
        sessions = np.repeat(numbers, PER_SESSION)
        answers = read_behaviour(self.root, subject, shown, sessions, np.tile(np.arange(PER_SESSION), len(numbers)))
        return f"{len(answers)} trials of {len(numbers)} sessions, {int(answers.answered.sum())} answered"

    def _shown(self, subject: str) -> np.ndarray:
        return self._design.of(subject)

    @cached_property
    def _design(self) -> Design:
        return read_design(self.root)

    def _open(self, path: Path) -> None:
        """It opens and is as long as its header says; with ``deep`` it is read to its end."""
        check_length(path)
        if self.deep:
            read_through(path)

    def _each(self, name: str, paths: Iterable[Path], look: Callable[[Path], None], what: str = "files") -> Iterator[Check]:
        """A line for every file that is wrong, and one for all of the others."""
        right = 0
        for path in paths:
            try:
                look(path)
                right += 1
            except CortexflowError as error:
                yield Check(path.relative_to(self.root).as_posix(), wrong=str(error))
        if right:
            yield Check(name, f"{right} {what}")


def _read_through(path: Path) -> str:
    read_through(path)
    return size_text(path.stat().st_size)


def _fits(mask: np.ndarray, path: Path) -> None:
    """A volume of the mask's grid, its checksum compared."""
    open_volumes(path, mask.shape)
    check_length(path)


def _halves(kept: Space) -> list[Path]:
    """Files of sessions of which one hemisphere is there and the other is not."""
    files = {path for side in SIDES for path in kept.kept.folder.glob(f"{side}.betas_session*.*")}
    other = dict(zip(SIDES, reversed(SIDES), strict=True))
    return sorted(path for path in files if path.with_name(other[path.name[:2]] + path.name[2:]) not in files)
