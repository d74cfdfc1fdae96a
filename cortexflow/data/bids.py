"""BIDS derivatives: preprocessed runs and their events become one response per trial (docs/your_own_study.md)."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Check, Cortex, Dataset, FolderName, Trials
from cortexflow.data.on_disk.pictures import ImageSize, Pictures
from cortexflow.data.on_disk.tables import EMPTY, Table, read_table
from cortexflow.data.on_disk.volumes import open_volumes, positions, read_areas, read_mask, volume_blocks
from cortexflow.data.presentations import listed, most_repeated, occurrences
from cortexflow.data.single_trials import Answers, answers, drifts, separate_weights
from cortexflow.errors import CortexflowError, CortexflowWarning
from cortexflow.progress import track
from cortexflow.storage import checksum, fingerprint, load_json

BOLD = "_desc-preproc_bold"
COLUMNS = ("stim_file", "stimulus", "trial_type")  # where the stimulus is looked for, in this order
LEAST, WHOLE = 0.05, 0.9  # shares of a response: less cannot be estimated, less than the whole is worth a word


@dataclass(frozen=True)
class Run:
    """The files of one run.

    Arguments:
        name: What the raw file is called, without its ending: ``sub-01_ses-01_task-faces_run-1``.
        session: The number of its session.
        bold: Preprocessed volumes.
        events: The table of what was shown when.
        sidecars: JSON files that describe it, the nearest first.
    """

    name: str
    session: int
    bold: Path
    events: Path
    sidecars: tuple[Path, ...]

    @property
    def mask(self) -> Path:
        """Where there is brain."""
        return self.bold.with_name(self.bold.name.replace(BOLD, "_desc-brain_mask"))

    @property
    def confounds(self) -> Path:
        """The table of confounds, by its present name or its former one."""
        names = [f"{self.name}_desc-confounds_{word}.tsv" for word in ("timeseries", "regressors")]
        return next((self.bold.with_name(name) for name in names if self.bold.with_name(name).is_file()), self.bold.with_name(names[0]))


@dataclass(frozen=True)
class Events:
    """The trials of one run: seconds from its start, words for stimuli, and the condition of each."""

    onsets: Float[np.ndarray, " trials"]
    durations: Float[np.ndarray, " trials"]
    stimuli: tuple[str, ...]
    conditions: Int[np.ndarray, " trials"]


class Bids(Dataset):
    """Preprocessed volumes (fMRIPrep and its kin), and one response per trial estimated by least squares, separately for each.

    ``root``, the folder ``config.study`` of the machine's data folder, is the raw BIDS folder with ``derivatives/fmriprep`` in
    it, or a folder of derivatives with the events beside the volumes. ``stimuli/`` holds the pictures by the names that the
    events use; ``held_out.txt`` may name the held-out ones; ``areas/sub-01/`` may hold masks in the space of the volumes, of
    which ``mask.nii.gz`` says which voxels are used at all.

    A response is the percent signal change at the peak of the canonical response: the trial's regressor is a box of its
    duration, convolved, beside the sum of all other trials, the drifts of the run and the chosen confounds. The mean of a run
    is that of its volumes, which must not have been demeaned.

    Estimating takes one pass through all runs of a subject. To do it once, write the result with
    :func:`cortexflow.data.folder_writing.write_folder`.

    References:
        Deconvolving BOLD activation in event-related designs for multivoxel pattern classification analyses (Mumford et al., 2012).
        fMRIPrep: a robust preprocessing pipeline for functional MRI (Esteban et al., 2019).
    """

    class Config(Choices):
        """Choices of the study.

        Arguments:
            study: The name of its folder.
            derivatives: The folder in ``derivatives`` that holds the preprocessed volumes.
            task: Which task, where there are several.
            space: Which space, where there are several: ``T1w``, ``MNI152NLin2009cAsym`` …
            stimulus: The column of the events that names the picture; the first of stim_file, stimulus and trial_type where None.
            ignore: Words in that column that are no trials, such as ``rest``; empty cells never are.
            others: The other trials as one regressor, or one for each trial_type.
            confounds: Columns of the table of confounds that are to explain nothing.
            cutoff: Shortest period that counts as drift, in seconds.
            image_size: Height and width of the pictures in pixels.
            share: How much of the pictures is held out where ``held_out.txt`` is absent: those with most trials first.
            seed: Decides among pictures of the same number of trials.
        """

        study: FolderName = "bids"
        derivatives: FolderName = "fmriprep"
        task: str | None = None
        space: str | None = None
        stimulus: str | None = None
        ignore: tuple[str, ...] = ()
        others: Literal["together", "by condition"] = "together"
        confounds: tuple[str, ...] = ()
        cutoff: float = Field(128.0, gt=0)
        image_size: ImageSize = (224, 224)
        share: float = Field(0.1, gt=0, lt=1)
        seed: int = Field(0, ge=0)

    title = "BIDS derivatives with events and pictures: single trials by least squares (docs/your_own_study.md)"
    config: Config

    def __init__(self, config: Choices | None = None, root: Path | str | None = None) -> None:
        super().__init__(config, root)
        self._runs: dict[str, list[Run]] = {}
        self._estimated: Trials | None = None  # of the subject asked for last

    @property
    def subjects(self) -> tuple[str, ...]:
        """The folders ``sub-…`` that have preprocessed volumes.

        Raises:
            CortexflowError: There are none.
        """
        folders = sorted(path for path in self._derivatives.glob("sub-*") if path.is_dir())
        names = tuple(folder.name for folder in folders if _volumes(folder))
        if not names:
            what = f"{self._derivatives} has no sub-*/func/*{BOLD}.nii.gz"
            raise CortexflowError(f"{what}; check --data, and study and derivatives, which name the folders")
        return names

    def trials(self, subject: str) -> Trials:
        """One row for each event that shows a picture, run after run.

        Raises:
            CortexflowError: A file is missing or disagrees with another one, or an event lies beyond its run.
            DamagedFileError: A file is cut short.
        """
        self.check_subject(subject)
        if self._estimated is None or self._estimated.subject != subject:
            self._estimated = self._estimate(subject)
        return self._estimated

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """These pictures, read from their files now.

        Raises:
            CortexflowError: No picture has such an id, or its file cannot be read.
        """
        return self.pictures.images(stimuli, self.config.image_size)

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The pictures of ``held_out.txt``, or a share of those with most trials, the same for all subjects."""
        if (self.place / "held_out.txt").is_file():
            return listed(self.place / "held_out.txt", self.pictures)
        shown = [self._stimuli(run) for subject in self.subjects for run in self.runs(subject)]
        return most_repeated(torch.cat(shown), self.config.share, self.config.seed)

    def cortex(self, subject: str) -> Cortex:
        """The voxels that are brain in every run, where they are, and the areas that ``areas/<subject>`` has masks of."""
        self.check_subject(subject)
        mask, affine = self._mask(subject)
        return Cortex(subject, int(mask.sum()), read_areas(self._areas(subject), mask), positions(mask, affine))

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file that is read, one fingerprint for all pictures, and the choices that make responses of them."""
        return dict(self._sums)

    def check(self) -> list[Check]:
        """One entry for every run, with all that it takes to estimate its trials."""
        pictures = Check.of("stimuli", lambda: f"{len(self.pictures.names)} pictures")
        subjects = Check.of("subjects", lambda: f"{len(self.subjects)}: {', '.join(self.subjects)}")
        checks = [pictures, subjects]
        for subject in () if subjects.wrong is not None else self.subjects:
            runs = Check.of(f"{subject}, runs", partial(self._count_runs, subject))
            checks += [Check.of(f"{subject}, voxels", partial(self._look_at_cortex, subject)), runs]
            checks += [Check.of(run.name, partial(self._look_at_run, run)) for run in (() if runs.wrong is not None else self.runs(subject))]
        return [*checks, Check.of("held out", lambda: f"{len(self.held_out())} pictures")]

    @cached_property
    def pictures(self) -> Pictures:
        """The pictures by name."""
        table = self.place / "stimuli.tsv"
        return Pictures(self.place / "stimuli", table if table.is_file() else None)

    def runs(self, subject: str) -> Sequence[Run]:
        """The runs of a subject, by session and by number.

        Raises:
            CortexflowError: Several tasks or spaces and none is chosen, none of the chosen one, or two files for one run.
        """
        if subject not in self._runs:
            files = _volumes(self._derivatives / subject)
            for what in ("task", "space"):
                files = self._chosen(what, files, subject)
            labels = sorted({_parts(path.name).get("ses", "") for path in files}, key=_natural)
            found = [self._run(path, labels) for path in files]
            names = [run.name for run in found]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                several = " and ".join(run.bold.name for run in found if run.name == twice)
                raise CortexflowError(f"{subject}: {several} are of one run; keep one of them")
            self._warn_of_lost(subject, found)
            self._runs[subject] = found
        return self._runs[subject]

    def tr(self, run: Run) -> float:
        """Seconds from one volume of a run to the next.

        Raises:
            CortexflowError: Neither the header nor a JSON file has it, or they disagree.
        """
        header = open_volumes(run.bold).header
        unit = {"msec": 1e-3, "usec": 1e-6}.get(header.get_xyzt_units()[1], 1.0)
        given = {run.bold.name: float(header.get_zooms()[3]) * unit} if len(header.get_zooms()) > 3 else {}
        given |= {path.name: float(_fact(path, "RepetitionTime")) for path in run.sidecars if _fact(path, "RepetitionTime") is not None}
        given = {name: seconds for name, seconds in given.items() if seconds > 0}
        if not given:
            raise CortexflowError(f"{run.bold} says no repetition time, nor does a JSON file; write RepetitionTime into {run.name}_bold.json")
        if max(given.values()) - min(given.values()) > 1e-3:
            what = ", ".join(f"{name} says {seconds:g} s" for name, seconds in given.items())
            raise CortexflowError(f"{run.name}: repetition times disagree: {what}; correct the wrong one")
        return next(reversed(given.values()))

    @cached_property
    def _sums(self) -> dict[str, str]:
        """Read once, however often it is asked for: responses can be many gigabytes."""
        files = [path for path in (self.place / "held_out.txt", self.place / "stimuli.tsv") if path.is_file()]
        for subject in self.subjects:
            files += sorted(self._areas(subject).glob("*.nii*"))
            for run in self.runs(subject):
                confounds = [run.confounds] if self.config.confounds else []
                files += [run.bold, run.mask, run.events, *confounds, *run.sidecars]
        made_of = {path.relative_to(self.place).as_posix(): checksum(path) for path in files if path.is_file()}
        choices = self.config.model_dump(mode="json", exclude={"study", "share", "seed"})
        return made_of | {"stimuli": self.pictures.checksum(), "choices": fingerprint(choices)}

    @property
    def _derivatives(self) -> Path:
        inside = self.place / "derivatives" / self.config.derivatives
        return inside if inside.is_dir() else self.place

    def _areas(self, subject: str) -> Path:
        return self.place / "areas" / subject

    def _chosen(self, what: str, files: list[Path], subject: str) -> list[Path]:
        """The files of the chosen task or space; of the only one, where none is chosen."""
        choice, there = getattr(self.config, what), sorted({_parts(path.name).get(what, "") for path in files})
        if choice is None and len(there) > 1:
            listed_ = ", ".join(name or f"(no {what})" for name in there)
            raise CortexflowError(f"{subject} has volumes of several {what}s, {listed_}; choose one with {what}=NAME")
        if choice is not None and choice not in there:
            raise CortexflowError(f"{subject} has no volumes of the {what} {choice!r}; choose one of {', '.join(there)}")
        return [path for path in files if choice is None or _parts(path.name).get(what, "") == choice]

    def _warn_of_lost(self, subject: str, found: Sequence[Run]) -> None:
        """Say which runs of the chosen task have events and no volumes."""
        tasks, names = {_parts(run.name).get("task") for run in found}, {run.name for run in found}
        events = [path.name.removesuffix("_events.tsv") for path in sorted((self.place / subject).rglob("*_events.tsv"))]
        lost = [name for name in events if name not in names and _parts(name).get("task") in tasks]
        if lost:
            what = f"{subject}: {len(lost)} runs have events and no preprocessed volumes, the first {lost[0]}"
            warnings.warn(CortexflowWarning(f"{what}; they are left out"), stacklevel=4)

    def _run(self, bold: Path, sessions: Sequence[str]) -> Run:
        parts = _parts(bold.name)
        name = "_".join(f"{key}-{value}" for key, value in parts.items() if key not in ("space", "res", "den", "cohort", "desc"))
        label, task = parts.get("ses", ""), f"task-{parts.get('task', '')}"
        raw = self.place / bold.parent.relative_to(self._derivatives)
        events = [bold.with_name(f"{name}_events.tsv"), raw / f"{name}_events.tsv", self.place / f"{task}_events.tsv"]
        sidecars = [bold.with_name(re.sub(r"\.nii(\.gz)?$", ".json", bold.name)), raw / f"{name}_bold.json", self.place / f"{task}_bold.json"]
        return Run(
            name,
            int(label) if all(other.isdigit() for other in sessions) else sessions.index(label) + 1,
            bold,
            next((path for path in events if path.is_file()), events[1]),
            tuple(path for path in sidecars if path.is_file()),
        )

    def _events(self, run: Run) -> Events:
        """The rows of the events that are trials."""
        table = read_table(run.events, "onset", "duration")
        column = self.config.stimulus or next((name for name in COLUMNS if name in table), None)
        if column is None or column not in table:
            have = f"{run.events} has no column {column or ' or '.join(COLUMNS)}; its columns are {', '.join(table.columns)}"
            raise CortexflowError(f"{have}; name the one that holds the picture with stimulus=NAME")
        shown = [word not in EMPTY and word not in self.config.ignore for word in table.columns[column]]
        if not any(shown):
            raise CortexflowError(f"{run.events} shows no picture in its column {column}; fill it in, or name another with stimulus=NAME")
        rows = Table(table.path, {name: [cell for cell, keep in zip(cells, shown, strict=True) if keep] for name, cells in table.columns.items()})
        onsets, durations = (rows.real(name).numpy() for name in ("onset", "duration"))
        if durations.min() < 0:
            raise CortexflowError(f"{run.events} has a duration of {durations.min():g} s; write the seconds for which the picture was shown")
        names = rows.columns["trial_type"] if "trial_type" in rows else [""] * len(rows)
        by_condition = self.config.others == "by condition"
        conditions = np.unique(names, return_inverse=True)[1] if by_condition else np.zeros(len(rows), dtype=int)
        return Events(onsets, durations, tuple(rows.columns[column]), conditions)

    def _stimuli(self, run: Run) -> Int[Tensor, " trials"]:
        return self.pictures.find(self._events(run).stimuli, run.events)

    def _nuisance(self, run: Run, volumes: int, tr: float) -> Float[np.ndarray, "volumes columns"]:
        """Drifts, and the chosen confounds without their means; a confound is at its mean where it has no value."""
        slow = drifts(volumes, tr, self.config.cutoff)
        if not self.config.confounds:
            return slow
        table = read_table(run.confounds)
        if len(table) != volumes:
            raise CortexflowError(f"{run.confounds} has {len(table)} rows for {volumes} volumes; use the table of this run")
        columns = np.stack([table.real(name, empty=True).numpy() for name in self.config.confounds], 1)
        empty = np.isnan(columns).all(0)
        if empty.any():
            raise CortexflowError(f"{run.confounds} has no values of {self.config.confounds[int(empty.argmax())]}; choose other confounds")
        return np.hstack([slow, np.nan_to_num(columns - np.nanmean(columns, 0))])

    def _design(self, run: Run) -> tuple[Events, Answers, Float[np.ndarray, "trials volumes"]]:
        """The trials of a run, what they evoke, and the weights of its volumes."""
        image, tr, events = open_volumes(run.bold), self.tr(run), self._events(run)
        if image.ndim != 4:
            raise CortexflowError(f"{run.bold} has {image.ndim} dimensions where volumes over time have 4; use the preprocessed run")
        start = next((float(_fact(path, "StartTime") or 0) for path in run.sidecars), 0.0)
        evoked = answers(events.onsets, events.durations, image.shape[3], tr, start)
        lost = np.flatnonzero(evoked.recorded < LEAST)
        if len(lost):
            first = f"the one at {events.onsets[lost[0]]:g} s" + f" and {len(lost) - 1} more" * (len(lost) > 1)
            what = f"{run.events} has trials whose response lies outside the {image.shape[3] * tr:g} s of the run, {first}"
            raise CortexflowError(f"{what}; check that onsets are in seconds from the first volume, or remove these rows")
        try:
            return events, evoked, separate_weights(evoked.regressors, self._nuisance(run, image.shape[3], tr), events.conditions)
        except CortexflowError as error:
            raise CortexflowError(f"{run.name}: {error}") from error

    def _estimate(self, subject: str) -> Trials:
        runs, (mask, _) = self.runs(subject), self._mask(subject)
        stimuli = [self._stimuli(run) for run in runs]
        responses = torch.empty(sum(map(len, stimuli)), int(mask.sum()))
        cut: list[str] = []
        parts = torch.split(responses, [len(shown) for shown in stimuli])
        for run, part in zip(track(runs, f"single trials of {subject}"), parts, strict=True):
            events, evoked, weights = self._design(run)
            part[:] = torch.from_numpy(_percent(run.bold, weights * evoked.peaks[:, None], mask))
            cut += [f"{run.name} at {onset:g} s" for onset in events.onsets[evoked.recorded < WHOLE]]
        if cut:
            what = f"{subject}: the response to {len(cut)} of {len(responses)} trials is cut off by the end (or start) of its run, the first {cut[0]}"
            warnings.warn(CortexflowWarning(f"{what}; they are estimated from what there is"), stacklevel=3)
        sessions = torch.cat([torch.full_like(shown, run.session) for run, shown in zip(runs, stimuli, strict=True)])
        shown = torch.cat(stimuli)
        return Trials(subject, shown, sessions, occurrences(shown), responses, "percent signal change at the peak, single trials by least squares")

    def _mask(self, subject: str) -> tuple[Bool[np.ndarray, "x y z"], np.ndarray]:
        """The voxels that are brain in every run (and in ``areas/<subject>/mask.nii.gz``), and their affine."""
        chosen = next(iter(sorted(self._areas(subject).glob("mask.nii*"))), None)
        paths = [run.mask for run in self.runs(subject)] + ([chosen] if chosen is not None else [])
        masks = [read_mask(path) for path in paths]
        mask, affine = masks[0]
        for path, (other, place) in zip(paths, masks, strict=True):
            if other.shape != mask.shape or not np.allclose(place, affine, atol=1e-3):
                raise CortexflowError(f"{path} lies in another space than {paths[0].name}; resample it, or choose one space")
            mask = mask & other
        if not mask.any():
            raise CortexflowError(f"{subject}: no voxel is in all of its {len(masks)} masks; check that they are of one subject and space")
        return mask, affine

    def _look_at_cortex(self, subject: str) -> str:
        cortex = self.cortex(subject)
        return f"{cortex.voxels} in all runs; areas: " + (", ".join(f"{name} {int(area.sum())}" for name, area in cortex.areas.items()) or "none")

    def _count_runs(self, subject: str) -> str:
        return str(len(self.runs(subject)))

    def _look_at_run(self, run: Run) -> str:
        stimuli, (_, evoked, weights), mask = self._stimuli(run), self._design(run), read_mask(run.mask)[0]
        finite, low, high = np.ones(int(mask.sum()), dtype=bool), np.inf, -np.inf
        for _, values in volume_blocks(run.bold, open_volumes(run.bold, mask.shape), mask):
            finite &= np.isfinite(values).all(0)
            low, high = np.fmin(low, values.min(0)), np.fmax(high, values.max(0))
        dead = int((~finite | (low == high)).sum())
        if dead:
            what = f"{dead} of {len(finite)} voxels of the mask are constant or not finite"
            raise CortexflowError(f"{run.bold}: {what}; mask them out in areas/{run.bold.name.split('_')[0]}/mask.nii.gz, or use -s bad_voxels=drop")
        cut = int((evoked.recorded < WHOLE).sum())
        found = f"{weights.shape[1]} volumes of {self.tr(run):g} s, {len(stimuli)} trials, {len(stimuli.unique())} pictures"
        return found + f", {cut} trials cut off by the end" * (cut > 0)


def _volumes(subject: Path) -> list[Path]:
    """The preprocessed runs of a subject, in the order of their numbers."""
    found = [path for folder in ("func", "ses-*/func") for path in subject.glob(f"{folder}/*{BOLD}.nii*")]
    return sorted(found, key=lambda path: _natural(path.name))


def _percent(path: Path, weights: Float[np.ndarray, "trials volumes"], mask: Bool[np.ndarray, "x y z"]) -> Float[np.ndarray, "trials voxels"]:
    """Weighted sums of the volumes of a run, in percent of its mean volume; memory holds a block of volumes."""
    image = open_volumes(path, mask.shape)
    sums, total, first = np.zeros((len(weights), int(mask.sum())), dtype=np.float32), np.zeros(int(mask.sum())), None
    for volumes, values in volume_blocks(path, image, mask):
        total += values.sum(0, dtype=np.float64)
        first = values[0].copy() if first is None else first
        values -= first  # weights do not see a constant, single precision would
        sums += weights[:, volumes].astype(np.float32) @ values
    mean = total / image.shape[3]
    if (mean <= 0).mean() > 0.5:
        raise CortexflowError(f"{path} has a mean of 0 or less in most voxels; use volumes that were not demeaned, filtered or z-scored")
    with np.errstate(divide="ignore", invalid="ignore"):  # empty voxels become NaN, which is refused where trials are used
        return sums * (100 / mean).astype(np.float32)


def _parts(name: str) -> dict[str, str]:
    """``sub-01_task-faces_bold`` is made of sub 01 and task faces."""
    return dict(re.findall(r"(?:^|_)([a-zA-Z0-9]+)-([a-zA-Z0-9+]+)", name))


def _natural(name: str) -> tuple[Any, ...]:
    """A key by which run-10 comes after run-2."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))


def _fact(path: Path, key: str) -> Any:
    content = load_json(path)
    return content.get(key) if isinstance(content, dict) else None
