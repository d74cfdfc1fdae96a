"""A study of one's own: pictures, a table of trials and responses in one folder (docs/your_own_study.md says what goes where)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from pydantic import Field, PositiveFloat, ValidationError
from torch import Tensor

from cortexflow.catalog import Choices, explain
from cortexflow.data.base import Check, Cortex, Dataset, FolderName, Trials
from cortexflow.data.on_disk.pictures import ImageSize, Pictures, read_picture
from cortexflow.data.on_disk.responses import Responses, find_responses, open_responses, survey
from cortexflow.data.on_disk.tables import read_table
from cortexflow.data.on_disk.volumes import positions, read_areas, read_mask
from cortexflow.data.presentations import listed, most_repeated, occurrences
from cortexflow.errors import CortexflowError
from cortexflow.storage import checksum, fingerprint, load_json

MASKS = ("mask.nii.gz", "mask.nii")
SHOWN = 5  # flaws of one kind that a check writes out
SOURCES = {"column": "the column held_out of trials.tsv", "file": "held_out.txt", "facts": "held_out of study.json"}


class Share(Choices):
    """How many pictures are held out, and by which seed, where none are named."""

    share: float = Field(0.1, gt=0, lt=1)
    seed: int = Field(0, ge=0)


class Facts(Choices):
    """What ``study.json`` can say.

    Arguments:
        title: For lists and reports.
        units: Of the responses, in words.
        TR: Seconds from one volume to the next, for the record.
        held_out: Names of pictures, or a share and a seed.
    """

    title: str | None = None
    units: str = "units of the files"
    TR: PositiveFloat | None = None
    held_out: list[str] | Share = Share()


@dataclass(frozen=True)
class Rows:
    """A subject's ``trials.tsv``; ``held_out`` where the table has that column."""

    stimuli: Int[Tensor, " trials"]
    sessions: Int[Tensor, " trials"]
    repeats: Int[Tensor, " trials"]
    groups: Int[Tensor, " trials"]
    held_out: Bool[Tensor, " trials"] | None


class Folder(Dataset):
    """Single-trial responses that somebody recorded and estimated, with the pictures that were shown.

    The folder is ``root``: the folder ``config.study`` of the machine's data folder. The stimulus id of a picture is its place
    among the sorted names of all pictures, or what ``stimuli.tsv`` says. Responses are read where they are looked at (``.npy``)
    or a block at a time; pictures are read one by one. A folder of this kind is written by :func:`cortexflow.data.folder_writing.write_folder`.

    Held-out pictures are those of the column ``held_out`` of the trials, of ``held_out.txt``, or of ``study.json``; where none
    of these names any, a tenth of the pictures, those with most trials first, by a seed.
    """

    class Config(Choices):
        """Choices of the study.

        Arguments:
            study: The name of its folder.
            image_size: Height and width of the pictures in pixels: they are cropped around the centre and resized.
        """

        study: FolderName = "folder"
        image_size: ImageSize = (224, 224)

    title = "Your own study: pictures, a table of trials, and responses (docs/your_own_study.md)"
    config: Config

    def __init__(self, config: Choices | None = None, root: Path | str | None = None) -> None:
        super().__init__(config, root)
        self._tables: dict[str, Rows] = {}

    @property
    def subjects(self) -> tuple[str, ...]:
        """The folders in ``subjects``, sorted.

        Raises:
            CortexflowError: There are none.
        """
        folder = self.place / "subjects"
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")) if folder.is_dir() else []
        if not names:
            raise CortexflowError(
                f"{folder} holds no subjects; make a folder for each, such as {folder.name}/subj01, with trials.tsv and responses.npy"
            )
        return tuple(names)

    def trials(self, subject: str) -> Trials:
        """One row for each line of ``trials.tsv``, in its order.

        Raises:
            CortexflowError: A file is missing or disagrees with another one.
        """
        self.check_subject(subject)
        rows, responses = self._rows(subject), self._responses(subject)
        _match(responses, rows)
        return Trials(subject, rows.stimuli, rows.sessions, rows.repeats, responses.read(), self.facts.units, rows.groups)

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """These pictures, read from their files now.

        Raises:
            CortexflowError: No picture has such an id, or its file cannot be read.
        """
        return self.pictures.images(stimuli, self.config.image_size)

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The test pictures, sorted; see the class for where they come from.

        Raises:
            CortexflowError: Two sources at once, a picture that is held out in one row and not in another, or an unknown one.
        """
        return self._held_out[1]

    def cortex(self, subject: str) -> Cortex:
        """Areas and geometry of ``areas.tsv`` or ``areas``, ``coordinates.tsv`` and ``ncsnr.tsv``, or of the mask.

        Raises:
            CortexflowError: A file has another number of voxels than the responses.
        """
        self.check_subject(subject)
        voxels = self._responses(subject).voxels
        coordinates, flat = self._coordinates(subject, voxels)
        return Cortex(subject, voxels, self._areas(subject, voxels), coordinates, flat, self._ncsnr(subject, voxels))

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file of every subject, one fingerprint for all pictures, and the size to which they are brought."""
        return dict(self._sums)

    def check(self) -> list[Check]:
        """One entry for each file, and one more for each thing that is wrong in it."""
        place = Check.of(self.config.study, lambda: str(self.place))
        if place.wrong is not None:
            return [place]
        subjects = Check.of("subjects", lambda: f"{len(self.subjects)}: {', '.join(self.subjects)}")
        checks = [Check.of("study.json", self._look_at_facts), *self._look_at_pictures(), subjects]
        if subjects.wrong is None:
            for subject in self.subjects:
                checks += self._look_at_subject(subject)
            checks.append(Check.of("held out", self._look_at_held_out))
        return _once(checks)

    @cached_property
    def facts(self) -> Facts:
        """What ``study.json`` says, or the defaults.

        Raises:
            CortexflowError: A misspelt key or a value of the wrong type.
            DamagedFileError: The file is no JSON.
        """
        path = self.place / "study.json"
        content = load_json(path) if path.is_file() else {}
        if not isinstance(content, dict):
            raise CortexflowError(f'{path} must hold an object such as {{"units": "percent signal change"}}, it holds {type(content).__name__}')
        try:
            return Facts(**content)
        except ValidationError as error:
            raise CortexflowError(explain(error, str(path), Facts)) from error

    @cached_property
    def pictures(self) -> Pictures:
        """The pictures by name."""
        table = self.place / "stimuli.tsv"
        return Pictures(self.place / "stimuli", table if table.is_file() else None)

    @cached_property
    def _sums(self) -> dict[str, str]:
        """Read once, however often it is asked for: responses can be many gigabytes."""
        files = [path for path in map(self.place.joinpath, ("study.json", "held_out.txt", "stimuli.tsv")) if path.is_file()]
        for subject in self.subjects:
            files += self._files(subject)
        made_of = {path.relative_to(self.place).as_posix(): checksum(path) for path in files}
        return made_of | {"stimuli": self.pictures.checksum(), "image_size": fingerprint(self.config.image_size)}

    def _of(self, subject: str) -> Path:
        return self.place / "subjects" / subject

    def _rows(self, subject: str) -> Rows:
        if subject not in self._tables:
            self._tables[subject] = _read_rows(self._of(subject) / "trials.tsv", self.pictures)
        return self._tables[subject]

    def _mask(self, subject: str) -> tuple[np.ndarray, np.ndarray] | None:
        path = next((self._of(subject) / name for name in MASKS if (self._of(subject) / name).is_file()), None)
        return read_mask(path) if path is not None else None

    def _responses(self, subject: str) -> Responses:
        mask = self._mask(subject)
        responses = open_responses(find_responses(self._of(subject)), mask[0] if mask is not None else None)
        if mask is not None and int(mask[0].sum()) != responses.voxels:
            what = f"{responses.path} has {responses.voxels} voxels and its mask {int(mask[0].sum())}"
            raise CortexflowError(f"{what}; use the mask that the responses were taken with, or remove it")
        return responses

    @cached_property
    def _held_out(self) -> tuple[str, Tensor]:
        """Where the held-out pictures come from, and their ids."""
        file, named = self.place / "held_out.txt", self.facts.held_out
        column = [self._rows(subject) for subject in self.subjects if self._rows(subject).held_out is not None]
        sources = {"column": bool(column), "file": file.is_file(), "facts": isinstance(named, list)}
        given = [words for source, words in SOURCES.items() if sources[source]]
        if len(given) > 1:
            raise CortexflowError(f"{self.place} names held-out pictures in {' and in '.join(given)}; keep one of them")
        if column:
            return given[0], self._marked(column)
        if isinstance(named, list):
            return given[0], self.pictures.find(named, self.place / "study.json").unique()
        if file.is_file():
            return given[0], listed(file, self.pictures)
        shown = torch.cat([self._rows(subject).stimuli for subject in self.subjects])
        return f"the most repeated {named.share:.0%}, seed {named.seed}", most_repeated(shown, named.share, named.seed)

    def _marked(self, tables: Sequence[Rows]) -> Tensor:
        """The pictures that the tables mark; a picture that is marked in one row is marked in all."""
        stimuli = torch.cat([rows.stimuli for rows in tables])
        marks = torch.cat([rows.held_out for rows in tables if rows.held_out is not None])
        held, training = stimuli[marks].unique(), stimuli[~marks]
        both = held[torch.isin(held, training)]
        if len(both):
            name = next(name for name, stimulus in self.pictures.ids.items() if stimulus == both[0])
            what = f"{len(both)} pictures are held out in one row of trials.tsv and not in another, the first is {name}"
            raise CortexflowError(f"{what}; a split is made of pictures: give all rows of a picture the same held_out")
        return held

    def _areas(self, subject: str, voxels: int) -> Mapping[str, Tensor]:
        table, folder = self._of(subject) / "areas.tsv", self._of(subject) / "areas"
        if table.is_file() and folder.is_dir():
            raise CortexflowError(f"{self._of(subject)} has areas.tsv and areas; keep one of them")
        if folder.is_dir():
            mask = self._mask(subject)
            if mask is None:
                raise CortexflowError(f"{folder} needs a mask.nii.gz beside it, which says which voxels are used; write 1 there")
            return read_areas(folder, mask[0])
        if not table.is_file():
            return {}
        columns = read_table(table)
        _of_length(table, len(columns), voxels)
        return {name: columns.flags(name) for name in columns.columns}

    def _coordinates(self, subject: str, voxels: int) -> tuple[Tensor | None, Tensor | None]:
        path = self._of(subject) / "coordinates.tsv"
        if not path.is_file():
            mask = self._mask(subject)
            return (positions(*mask) if mask is not None else None), None
        columns = read_table(path, "x", "y", "z")
        _of_length(path, len(columns), voxels)
        flat = ("flat_x", "flat_y") if "flat_x" in columns or "flat_y" in columns else None
        x, y = (torch.stack([columns.real(name) for name in names], 1).float() if names else None for names in (("x", "y", "z"), flat))
        return x, y

    def _ncsnr(self, subject: str, voxels: int) -> Tensor | None:
        path = self._of(subject) / "ncsnr.tsv"
        if not path.is_file():
            return None
        columns = read_table(path, "ncsnr")
        _of_length(path, len(columns), voxels)
        return columns.real("ncsnr").float()

    def _files(self, subject: str) -> list[Path]:
        """Every file of a subject that is read."""
        folder = self._of(subject)
        names = ("trials.tsv", *MASKS, "areas.tsv", "coordinates.tsv", "ncsnr.tsv")
        areas = sorted(path for path in (folder / "areas").glob("*.nii*") if not path.name.startswith("."))
        return [path for path in (find_responses(folder), *(folder / name for name in names), *areas) if path.is_file()]

    def _look_at_facts(self) -> str:
        there = (self.place / "study.json").is_file()
        return f"{self.facts.title or 'no title'}; responses in {self.facts.units}" if there else "not there, which is fine"

    def _look_at_pictures(self) -> list[Check]:
        checks = [Check.of("stimuli", self._count_pictures)]
        if (self.place / "stimuli.tsv").is_file():
            checks.append(Check.of("stimuli.tsv", lambda: f"{len(self.pictures.ids)} ids"))
        if checks[0].wrong is None:
            looks = (Check.of(f"stimuli/{name}", partial(_look_at_picture, self.pictures.folder / name)) for name in self.pictures.names)
            checks += _first([check for check in looks if check.wrong is not None], "stimuli", "pictures cannot be read either")
        return checks

    def _count_pictures(self) -> str:
        shown: set[int] = set()
        for subject in self.subjects:
            try:
                shown |= set(self._rows(subject).stimuli.tolist())
            except CortexflowError:  # is said where the table is looked at
                continue
        unused = sorted(name for name, stimulus in self.pictures.ids.items() if stimulus not in shown)
        return f"{len(self.pictures.names)} pictures" + (f", {len(unused)} of them unused ({', '.join(unused[:3])} …)" if unused else "")

    def _look_at_held_out(self) -> str:
        source, pictures = self._held_out
        for subject in self.subjects:
            held = torch.isin(self._rows(subject).stimuli, pictures)
            if held.all() or not held.any():
                side = "training" if held.all() else "test"
                raise CortexflowError(f"{subject} has no {side} trials with {len(pictures)} pictures held out by {source}; hold out others")
        return f"{len(pictures)} pictures: {source}"

    def _look_at_subject(self, subject: str) -> list[Check]:
        here = f"subjects/{subject}"
        table = Check.of(f"{here}/trials.tsv", lambda: _in_words(self._rows(subject)))
        opened = Check.of(f"{here}/responses", lambda: f"{here}/{self._responses(subject).path.name}")
        if opened.wrong is not None:
            return [table, opened]
        responses = self._responses(subject)
        checks = [table, *_look_at_responses(opened.found, responses, self._rows(subject) if table.wrong is None else None)]
        if any((self._of(subject) / name).exists() for name in ("areas.tsv", "areas")):
            counts = lambda: ", ".join(f"{name} {int(mask.sum())}" for name, mask in self._areas(subject, responses.voxels).items())  # noqa: E731
            checks.append(Check.of(f"{here}/areas", counts))
        if (self._of(subject) / "coordinates.tsv").is_file():
            flat = lambda: "x, y, z" + (", flat" if self._coordinates(subject, responses.voxels)[1] is not None else "")  # noqa: E731
            checks.append(Check.of(f"{here}/coordinates.tsv", flat))
        if (self._of(subject) / "ncsnr.tsv").is_file():
            checks.append(Check.of(f"{here}/ncsnr.tsv", lambda: f"median {float(self._ncsnr(subject, responses.voxels).median()):.2f}"))  # type: ignore[union-attr]
        return checks


def _read_rows(path: Path, pictures: Pictures) -> Rows:
    table = read_table(path, "stimulus", "session")
    stimuli, sessions = pictures.find(table.text("stimulus"), path), table.whole("session")
    repeats = table.whole("repeat") if "repeat" in table else occurrences(stimuli)
    shown: dict[tuple[int, int], int] = {}
    for row, pair in enumerate(zip(stimuli.tolist(), repeats.tolist(), strict=True)):
        if shown.setdefault(pair, row) != row:
            what = f"{path}, line {row + 2} has the stimulus and the repeat of line {shown[pair] + 2}"
            raise CortexflowError(f"{what}; remove one of them with its response, or remove the column repeat to have it counted")
    groups = table.whole("group") if "group" in table else stimuli
    return Rows(stimuli, sessions, repeats, groups, table.flags("held_out") if "held_out" in table else None)


def _match(responses: Responses, rows: Rows) -> None:
    """Raises CortexflowError where responses have not one row per trial."""
    if responses.trials == len(rows.stimuli):
        return
    what = f"{responses.path} has {responses.trials} trials (of {responses.voxels} voxels) and trials.tsv {len(rows.stimuli)}"
    turned = responses.voxels == len(rows.stimuli)
    raise CortexflowError(
        f"{what}; {'turn it over: trials come first, voxels second' if turned else 'give one row per trial in both, in the same order'}"
    )


def _of_length(path: Path, rows: int, voxels: int) -> None:
    if rows != voxels:
        raise CortexflowError(f"{path} has {rows} rows for {voxels} voxels; give one row per voxel, in the order of the responses")


def _in_words(rows: Rows) -> str:
    pictures, counts = rows.stimuli.unique(return_counts=True)
    repeats = f"{int(counts.min())} to {int(counts.max())}" if counts.min() != counts.max() else f"{int(counts[0])}"
    return f"{len(rows.stimuli)} trials, {len(pictures)} pictures ({repeats} times each), {len(rows.sessions.unique())} sessions"


def _look_at_picture(path: Path) -> str:
    read_picture(path, (8, 8))
    return "a picture"


def _look_at_responses(file: str, responses: Responses, rows: Rows | None) -> list[Check]:
    found = f"{responses.trials} trials × {responses.voxels} voxels, {responses.dtype}"
    if rows is None:
        return [Check(file, found)]
    try:
        _match(responses, rows)
        flaws = survey(responses, rows.sessions)
    except CortexflowError as error:
        return [Check(file, found, str(error))]
    drop = "estimate them again, or leave such voxels out with -s bad_voxels=drop"
    wrong = [f"{flaws.broken} voxels have responses that are not finite; {drop}"] * (flaws.broken > 0)
    wrong += [f"{flaws.constant} voxels are constant within a session; {drop}"] * (flaws.constant > 0)
    twins = [
        f"rows {one + 1} and {other + 1} are the same in every voxel; one of them is a copy: remove it with its trial" for one, other in flaws.twins
    ]
    checks = [Check(file, found, flaw) for flaw in wrong] + _first(
        [Check(file, found, twin) for twin in twins], file, "pairs of rows are the same too"
    )
    return checks or [Check(file, found)]


def _first(checks: list[Check], file: str, what: str) -> list[Check]:
    """The first flaws of one kind, and how many more there are."""
    more = len(checks) - SHOWN
    return checks[:SHOWN] + ([Check(file, wrong=f"{more} {what}")] if more > 0 else [])


def _once(checks: list[Check]) -> list[Check]:
    """The same checks, where an error that has several consequences is written out once."""
    first = {check.wrong: place for place, check in reversed(list(enumerate(checks)))}
    said = [check.wrong is not None and first[check.wrong] < place for place, check in enumerate(checks)]
    return [replace(check, wrong="the same as above") if again else check for check, again in zip(checks, said, strict=True)]
