"""The time series of the Natural Scenes Dataset: a trial is a window of a run, cut out after the run was detrended and z-scored.

Files lie as in :mod:`cortexflow.data.nsd`, in the same folder; responses are read from ``nsddata_timeseries`` and the betas are not
needed. Nothing is fetched; who uses the data accepts their terms first.
"""

import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Check, Cortex, FolderName, Trials
from cortexflow.data.nsd_layout import splits
from cortexflow.data.nsd_layout.behaviour import Behaviour, read_behaviour
from cortexflow.data.nsd_layout.cautions import cautions
from cortexflow.data.nsd_layout.coco.annotated import AnnotatedDataset
from cortexflow.data.nsd_layout.coco.annotations import annotations_there
from cortexflow.data.nsd_layout.design import DESIGN, PER_SESSION, TABLE, Design, StimulusTable, read_design, read_table
from cortexflow.data.nsd_layout.files import identity, official
from cortexflow.data.nsd_layout.pictures import BRICK, SIDE, read_pictures
from cortexflow.data.nsd_layout.spaces import Kept as KeptMaps
from cortexflow.data.nsd_layout.spaces import Space, space
from cortexflow.data.nsd_layout.timeseries.detrended import Cleaning, Kept, detrended, kept_in, place
from cortexflow.data.nsd_layout.timeseries.run_splits import Events, Leak, Split, drawn_runs, leak
from cortexflow.data.nsd_layout.timeseries.runs import CLOCKS, Clock, Run, open_series, read_onsets, runs_of, warn_of_gaps
from cortexflow.data.nsd_layout.upkeep.checks import check_experiment
from cortexflow.data.nsd_layout.upkeep.estimate import Estimate, estimate_runs
from cortexflow.data.nsd_layout.upkeep.inventory import SUBJECTS
from cortexflow.data.on_disk.pictures import ImageSize
from cortexflow.data.presentations import occurrences
from cortexflow.data.standardize import lagged_windows
from cortexflow.errors import CortexflowError, CortexflowWarning
from cortexflow.progress import track
from cortexflow.storage import fingerprint


class Window(NamedTuple):
    """Which volumes answer a picture.

    Arguments:
        first: Volumes from the one at the onset to the first of the window.
        length: How many.
    """

    first: int
    length: int


class NSDTimeSeries(AnnotatedDataset):
    """Windows of the Natural Scenes Dataset's runs.

    Each run is read once: drifts (and motion, if asked for) are taken out of the whole run, each voxel is z-scored over it, and
    the result is kept in ``prepared``. A window is then a few volumes of it. Volumes are taken as they are and never interpolated
    between: in this dataset every picture begins on a volume, which stands for that moment, so that the volumes of all windows
    lie at the same times after their onsets. Offset and duration are rounded to whole volumes; :meth:`lags` gives the times. The
    default is a window of six volumes, 4 to 10.7 seconds after the onset at 1.8 mm.

    The mean and deviation of a run are those of all its volumes, test windows among them: a scale is learned from them, and
    nothing of any picture.

    :meth:`trials` is the mean over each window. For decoders that use time, :meth:`windows` streams the volumes of one run after
    the other and :meth:`gather` collects those of some trials. A voxel that is constant over a run is 0 there.

    A window answers more than its own picture: with one every four seconds, about three pictures share each volume.
    ``held_out()`` is a split by picture, whose test windows overlap with training windows of the same run. :meth:`run_split`
    holds out whole runs, whose pictures are then mostly seen in training. Each says in numbers what it leaks.

    There is no noise ceiling of windows: the one that the dataset ships is that of its betas.

    References:
        A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence (Allen et al., 2022).
        Dynadiff: Single-stage Decoding of Images from Continuously Evolving fMRI (Careil et al., 2025).
    """

    class Config(Choices):
        """Choices of the study.

        Arguments:
            study: The name of its folder.
            space: Volumes of 1.8 mm every 4/3 s, or of 1 mm every second.
            mask: The label map whose voxels above 0 are used, or ``brainmask``.
            atlases: Label maps whose areas are read; where None, those that most studies use, as far as they are there.
            offset: Seconds from the onset of a picture to the first volume of its window.
            duration: Seconds from there to the end of the window; the volumes are as many as fit, rounded.
            drifts: What is taken out of each run: slow ``cosine`` waves, or a ``polynomial``.
            cutoff: For cosines: those of this many seconds and slower are taken out.
            degree: For polynomials: up to this one; 1 is a straight line.
            motion: Also take out the six motion parameters, whose files must then be there.
            split: The held-out pictures: ``nsd_1000``, ``nsd_982`` (which ends with session 37) or ``shared_515``.
            sessions: Use only the first so many sessions.
            training_sessions: Trials of training pictures come from the first so many sessions; test trials from all, which a run then
                has to leave as they are (``zscore=none``) or z-score over all trials, as later sessions have no training trials.
            training_images: And show one of the first so many training pictures.
            groups: What folds keep together: trials of one ``stimulus``, or of one ``run``.
            image_size: Height and width of the pictures in pixels.
        """

        study: FolderName = "nsd"
        space: Literal["func1pt8mm", "func1mm"] = "func1pt8mm"
        mask: str = "nsdgeneral"
        atlases: tuple[str, ...] | None = None
        offset: float = Field(4.6, ge=-300, le=300)
        duration: float = Field(8.0, gt=0, le=300)
        drifts: Literal["cosine", "polynomial"] = "cosine"
        cutoff: float = Field(128.0, ge=20)
        degree: int = Field(1, ge=0, le=10)
        motion: bool = False
        split: Literal["nsd_1000", "nsd_982", "shared_515"] = "nsd_1000"
        sessions: int | None = Field(None, ge=1, le=40)
        training_sessions: int | None = Field(None, ge=1, le=40)
        training_images: int | None = Field(None, ge=1)
        groups: Literal["stimulus", "run"] = "stimulus"
        image_size: ImageSize = (SIDE, SIDE)

    title: ClassVar[str] = "Natural Scenes Dataset as time series: windows of runs at 7 T (Allen et al., 2022)"
    SESSIONS: ClassVar[Mapping[str, int]] = {subject: facts.sessions for subject, facts in SUBJECTS.items()}
    config: Config

    def __init__(self, config: Choices | None = None, root: Path | str | None = None) -> None:
        super().__init__(config, root)
        self._masks: dict[str, np.ndarray] = {}
        self._events: dict[str, Events] = {}

    @property
    def subjects(self) -> tuple[str, ...]:
        """Those of whom a run is there.

        Raises:
            CortexflowError: There is none of anybody.
        """
        found = tuple(subject for subject in self.SESSIONS if runs_of(self.place, subject, self.config.space))
        if not found:
            folder = self.place / "nsddata_timeseries/ppdata/subj01" / self.config.space / "timeseries"
            raise CortexflowError(f"{folder} holds no run, nor do its sisters of other subjects; copy runs of the dataset there")
        return found

    def trials(self, subject: str) -> Trials:
        """Every trial that the configuration asks for, in the order of recording: the mean over its window.

        Memory holds the result, trials × voxels in single precision (1.9 GB for 30,000 trials of 15,724 voxels), and one run.

        Raises:
            CortexflowError: A file is missing or disagrees with another one, or a window leaves its run.
        """
        events, mask = self.events(subject), self._mask(subject)
        responses = torch.empty(len(events), int(mask.sum()))
        for rows, windows in self._streamed(subject, torch.ones(len(events), dtype=torch.bool), self._window()):
            responses[rows] = windows.mean(1)
        units = f"z-scored within run, mean of {self._window().length} volumes from {float(self.lags()[0]):+.3g} s"
        groups = events.stimuli if self.config.groups == "stimulus" else events.runs
        return Trials(subject, events.stimuli, events.sessions, events.repeats, responses, units, groups)

    def windows(
        self, subject: str, offset: float | None = None, duration: float | None = None
    ) -> Iterator[tuple[Bool[Tensor, " trials"], Float[Tensor, "window_trials time voxels"]]]:
        """The volumes that answer each trial, one run after the other.

        Memory holds one run: of 62 trials, 6 volumes and 15,724 voxels, 23 MB.

        Arguments:
            subject: Whose.
            offset: Seconds from the onset to the first volume; the configuration's where None.
            duration: Seconds from there to the end; the configuration's where None.

        Returns:
            Pairs of which rows of :meth:`events` a run holds, and their windows; z-scored within run.

        Raises:
            CortexflowError: A file is missing or disagrees with another one, or a window leaves its run.
        """
        return self._streamed(subject, torch.ones(len(self.events(subject)), dtype=torch.bool), self._window(offset, duration))

    def gather(
        self, subject: str, rows: Bool[Tensor, " trials"], offset: float | None = None, duration: float | None = None
    ) -> Float[Tensor, "window_trials time voxels"]:
        """The volumes that answer some of the trials, in the order of :meth:`events`.

        Memory holds the result: of 1,000 trials, 6 volumes and 15,724 voxels, .38 GB. Runs without such a trial are not read.

        Arguments:
            subject: Whose.
            rows: Which rows of :meth:`events`.
            offset: As in :meth:`windows`.
            duration: As in :meth:`windows`.

        Raises:
            CortexflowError: As :meth:`windows`, or ``rows`` are not as many as the trials.
        """
        window, voxels = self._window(offset, duration), int(self._mask(subject).sum())
        result, place_of = torch.empty(int(rows.sum()), window.length, voxels), rows.long().cumsum(0) - 1
        for used, windows in self._streamed(subject, rows, window):
            result[place_of[used]] = windows
        return result

    def events(self, subject: str) -> Events:
        """Every trial that the configuration asks for, and when it began. ``repeats`` counts runs that are not there as well.

        Raises:
            CortexflowError: A design file is missing, or disagrees with the plan of the experiment.
        """
        if subject not in self._events:
            self._events[subject] = self._read_events(subject)
        return self._events[subject]

    def lags(self, offset: float | None = None, duration: float | None = None) -> Float[Tensor, " time"]:
        """Seconds from the onset of a picture to each volume of its window.

        Example:
            >>> NSDTimeSeries().lags(offset=4.6, duration=4.0)
            tensor([4.0000, 5.3333, 6.6667])
        """
        window = self._window(offset, duration)
        return (window.first + torch.arange(window.length)) * self._clock.tr

    def prepare(self, subject: str) -> list[Path]:
        """Make the prepared files of all runs, those that are there already left as they are.

        Memory holds one run of the mask's voxels.

        Returns:
            The files, in the order of recording.
        """
        runs, kept = self._runs(subject), self._kept(subject)
        silent = np.zeros(int(kept.mask.sum()), dtype=bool)
        for run in track(runs, subject):
            silent |= ~detrended(run, kept).any(0)
        _tell_of_silence(subject, torch.from_numpy(silent))
        return [place(run, kept) for run in runs]

    def estimate(self, subject: str) -> Estimate:
        """What :meth:`prepare` will take of disk and memory, computed without reading a run."""
        return estimate_runs(subject, self._runs(subject), self._kept(subject))

    def cautions(self, subject: str) -> tuple[str, ...]:
        """What the data paper and the data manual warn of, and how much the test windows of the split by picture overlap with training."""
        return (*cautions(subject, self.config.space), *self._overlap(subject))

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """These pictures, read from their place in the file now.

        Raises:
            CortexflowError: The file is not there, or has no picture of this id.
        """
        return read_pictures(official(self.place, BRICK), stimuli, self.config.image_size)

    @property
    def picture_size(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""
        return self.config.image_size

    @cached_property
    def table(self) -> StimulusTable:
        """What the dataset says of each picture: its photograph in COCO, the crop, and when it was planned.

        Raises:
            CortexflowError: The table is not there.
        """
        return read_table(self.place / TABLE)

    def behaviour(self, subject: str) -> Behaviour:
        """What the subject answered in each of :meth:`trials`, in their order.

        Raises:
            CortexflowError: The file is not there, or shows another picture in a trial than the design.
        """
        events = self.events(subject)
        rows = (events.planned % PER_SESSION).numpy()
        return read_behaviour(self.place, subject, self._design.of(subject), events.sessions.numpy(), rows)

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The test pictures of the split, sorted. No subject's training trials show any of them."""
        return torch.from_numpy(splits.held_out(self._design, self.config.split))

    def picture_split(self, subject: str) -> Split:
        """The trials of :meth:`held_out` and the others: no picture on both sides, and windows that overlap."""
        test = torch.isin(self.events(subject).stimuli, self.held_out())
        return self._split(subject, ~test, test)

    def run_split(self, subject: str, runs: int | None = None, pictures: Literal["any", "disjoint"] = "any", seed: int = 0) -> Split:
        """The published time-resolved split: whole runs are the test, 45 of a subject's 480.

        Which runs these were is not published, nor whether their pictures were kept out of training; here they are drawn by the
        seed. No volume is on both sides. With ``any``, most test trials show a picture that training has shown, which a decoder
        may have learned by heart: that is warned of. With ``disjoint``, training trials of test pictures are in neither mask.

        Arguments:
            subject: Whose.
            runs: How many are held out; where None, 45 in 480 of those that are there.
            pictures: Whether training may show a picture of the test.
            seed: Decides on which runs.

        Raises:
            CortexflowError: No run is left to train on.
        """
        events = self.events(subject)
        test = torch.isin(events.runs, drawn_runs(events, runs, seed))
        training = ~test if pictures == "any" else ~test & ~torch.isin(events.stimuli, events.stimuli[test])
        split = self._split(subject, training, test)
        if split.leak.seen_trials:
            told = f'{subject}, split by run: {split.leak}; with pictures="disjoint" they are left out of training'
            warnings.warn(told, CortexflowWarning, stacklevel=2)
        return split

    def leak(self, subject: str, training: Bool[Tensor, " trials"], test: Bool[Tensor, " trials"]) -> Leak:
        """What the test shares with training, for any two masks over :meth:`events` and the configuration's window.

        Raises:
            CortexflowError: One of them is empty, or they have a trial in common.
        """
        return self._split(subject, training, test).leak

    def cortex(self, subject: str) -> Cortex:
        """Areas and places in millimetres, for the voxels of the mask.

        Raises:
            CortexflowError: A label map is missing or of another grid, or has a label that its table does not name.
        """
        self.check_subject(subject)
        mask, maps = self._mask(subject), self._maps(subject)
        atlases = maps.drawn() if self.config.atlases is None else self.config.atlases
        areas = {name: area for atlas in atlases for name, area in maps.areas(atlas, mask).items()}
        return Cortex(subject, int(mask.sum()), areas, maps.coordinates(mask))

    def checksums(self) -> dict[str, str]:
        """Of every run and its design, of the plan, the pictures and annotations that are there; what is done to runs, and picture size.

        The files are too large to be read whole: see :func:`cortexflow.data.nsd_layout.files.identity`.
        """
        plan = next((name for name in (DESIGN, TABLE) if (self.place / name).is_file()), DESIGN)
        files = [official(self.place, plan), official(self.place, BRICK), *annotations_there(self.place).values()]
        for subject in self.subjects:
            files += [path for run in self._runs(subject) for path in (run.series, run.design, run.motion)[: 2 + self.config.motion]]
        chosen = {"window": self._window(), "cleaning": self._cleaning.choices, "motion": self.config.motion}
        made = {"image size": "×".join(map(str, self.config.image_size)), "windows": fingerprint(chosen)}
        return {path.relative_to(self.place).as_posix(): identity(path) for path in files} | made

    def check(self) -> list[Check]:
        """Every file that a run would read, by its header, and every design against the plan; no series is read whole."""
        there = Check.of(self.config.study, lambda: str(self.place))
        if there.wrong is not None:
            return [there]
        subjects = Check.of("subjects", lambda: ", ".join(self.subjects))
        checks = [*check_experiment(self.place), subjects]
        for subject in () if subjects.wrong else self.subjects:
            mask = Check.of(f"{subject}, mask {self.config.mask}", partial(self._look_at_mask, subject))
            checks.append(mask)
            for _, runs in groupby(() if mask.wrong else runs_of(self.place, subject, self.config.space), key=lambda run: run.session):
                members = list(runs)
                folder = members[0].series.parent.relative_to(self.place).as_posix()
                checks.append(Check.of(f"{folder}, session {members[0].session}", partial(self._look_at_session, subject, members)))
        return checks

    @cached_property
    def _design(self) -> Design:
        return read_design(self.place)

    @property
    def _clock(self) -> Clock:
        return CLOCKS[self.config.space]

    @property
    def _cleaning(self) -> Cleaning:
        config = self.config
        return Cleaning(config.drifts, config.cutoff, config.degree, config.motion)

    def _kept(self, subject: str) -> Kept:
        folder = kept_in(self.place, subject, self.config.space)
        return Kept(folder, self._clock, self._mask(subject), self._cleaning)

    def _maps(self, subject: str) -> Space:
        return space(KeptMaps(self.place, subject, self.config.space, "b3", "any"))

    def _mask(self, subject: str) -> np.ndarray:
        if subject not in self._masks:
            self._masks[subject] = self._maps(subject).mask(self.config.mask)
        return self._masks[subject]

    def _window(self, offset: float | None = None, duration: float | None = None) -> Window:
        """Whole volumes, halves rounded up."""
        offset, duration = self.config.offset if offset is None else offset, self.config.duration if duration is None else duration
        first, length = (int(np.floor(seconds / self._clock.tr + 0.5)) for seconds in (offset, duration))
        if length < 1:
            raise CortexflowError(f"a window of {duration:g} s holds no volume, they come every {self._clock.tr:.4g} s; choose a longer duration")
        return Window(first, length)

    def _runs(self, subject: str) -> list[Run]:
        """The runs of the sessions that are asked for."""
        self.check_subject(subject)
        has, limit = self.SESSIONS[subject], splits.last_session(self.config.split)
        last = has if limit is None else min(has, limit)
        wanted = self.config.sessions or last
        if wanted > last:
            ends = f"{self.config.split} ends with session {limit}" if limit is not None and limit < has else f"{subject} has {has} sessions"
            raise CortexflowError(f"{ends}, {wanted} were asked; choose at most {last}, or another split or subject")
        found = runs_of(self.place, subject, self.config.space)
        used = [run for run in found if run.session <= wanted]
        lacking = sorted(set(range(1, (self.config.sessions or 0) + 1)) - {run.session for run in used})
        if lacking or not used:
            have = f"{subject} has runs of session {', '.join(map(str, sorted({run.session for run in found})))} here"
            raise CortexflowError(f"{have} and the first {wanted} are asked for; copy the others there, or ask for fewer")
        return used

    def _read_events(self, subject: str) -> Events:
        runs, shown, config = self._runs(subject), self._design.of(subject), self.config
        warn_of_gaps(subject, runs)
        onsets = np.concatenate([read_onsets(run, self._clock, shown).volumes for run in runs]) * self._clock.tr
        trials = np.concatenate([run.trials for run in runs])
        labels = np.concatenate([np.full(len(run.trials), run.label) for run in runs])
        repeats = occurrences(torch.from_numpy(shown))[trials]
        use = splits.kept(shown[trials], labels // 100, self.held_out().numpy(), config.training_sessions, config.training_images)
        stimuli, sessions, names, planned = map(torch.from_numpy, (shown[trials], labels // 100, labels, trials))
        return Events(stimuli, sessions, names, repeats, torch.from_numpy(onsets).float(), planned).where(torch.from_numpy(use))

    def _first(self, events: Events, window: Window) -> Int[Tensor, " trials"]:
        """The volume of its run at which each trial's window begins."""
        return (events.onsets / self._clock.tr).round().long() + window.first

    def _split(self, subject: str, training: Bool[Tensor, " trials"], test: Bool[Tensor, " trials"]) -> Split:
        events, window = self.events(subject), self._window()
        return Split(training, test, leak(events, training, test, self._first(events, window), window.length))

    def _overlap(self, subject: str) -> tuple[str, ...]:
        test = torch.isin(self.events(subject).stimuli, self.held_out())
        if not test.any() or test.all():
            return ()
        found = self._split(subject, ~test, test).leak
        shared = f"{found.shared_volumes} of {found.volumes} volumes of test windows are in a training window as well"
        return (f"{subject}, split by picture: {shared}, because a picture begins every four seconds.",)

    def _streamed(self, subject: str, rows: Bool[Tensor, " trials"], window: Window) -> Iterator[tuple[Tensor, Tensor]]:
        """Run by run, which of the rows it holds and their windows."""
        events, kept = self.events(subject), self._kept(subject)
        if len(rows) != len(events):
            raise CortexflowError(f"{subject} has {len(events)} trials here and {len(rows)} rows were given; give True or False for each trial")
        self._check_fit(subject, events.where(rows), window)
        runs = self._runs(subject)
        members = {run.label: rows & (events.runs == run.label) for run in runs}
        used = [run for run in runs if members[run.label].any()]
        silent = torch.zeros(int(kept.mask.sum()), dtype=torch.bool)
        for run in track(used, subject):
            inside = members[run.label]
            series = torch.from_numpy(detrended(run, kept))
            silent |= ~series.any(0)
            yield inside, lagged_windows(series, events.onsets[inside], self._clock.tr, window.first, window.length)
        _tell_of_silence(subject, silent)

    def _check_fit(self, subject: str, events: Events, window: Window) -> None:
        first = self._first(events, window)
        out = torch.nonzero((first < 0) | (first + window.length > self._clock.volumes))[:, 0]
        if len(out):
            trial = f"the first at {float(events.onsets[out[0]]):g} s of run {int(events.runs[out[0]])}"
            length = self._clock.volumes * self._clock.tr
            what = f"{subject}: the windows of {len(out)} of {len(events)} trials leave their run of {length:g} s, {trial}"
            raise CortexflowError(f"{what}; choose another offset or a shorter duration, or leave these trials out with gather")

    def _look_at_mask(self, subject: str) -> str:
        mask = self._mask(subject)
        return f"{int(mask.sum())} of {' × '.join(map(str, mask.shape))}"

    def _look_at_session(self, subject: str, runs: list[Run]) -> str:
        pictures = 0
        for run in runs:
            open_series(run, self._clock, self._mask(subject).shape)
            pictures += len(read_onsets(run, self._clock, self._design.of(subject)).volumes)
        return f"{len(runs)} runs of {self._clock.volumes} volumes, {pictures} pictures"


def _tell_of_silence(subject: str, silent: Bool[Tensor, " voxels"]) -> None:
    if silent.any():
        what = f"{subject}: {int(silent.sum())} of {len(silent)} voxels are constant over at least one run and 0 there"
        warnings.warn(f"{what}; usable_voxels finds those that never change", CortexflowWarning, stacklevel=2)
