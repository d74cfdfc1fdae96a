"""What the dataset holds: its subjects, and the files of each part by their folders, names and sizes.

Sizes are those that shapes and types give before any compression: no file is larger than its header more than that.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import NamedTuple

from cortexflow.data.nsd_layout.atlases import DRAWN
from cortexflow.data.nsd_layout.design import DESIGN, PER_SESSION, PICTURES, TABLE
from cortexflow.data.nsd_layout.miniature.planning import RUNS
from cortexflow.data.nsd_layout.pictures import BRICK, SIDE
from cortexflow.data.nsd_layout.spaces import BETAS, SIDES
from cortexflow.data.nsd_layout.timeseries.runs import CLOCKS, KINDS, RESTING
from cortexflow.errors import CortexflowError

VOLUMES = {space: clock.volumes + 1 for space, clock in CLOCKS.items()}  # spaces of voxels, and the volumes of a run in each
SURFACES = ("fsaverage", "nativesurface")
SPACES = (*VOLUMES, *SURFACES)
VERTICES = 163_842  # of one hemisphere of the average brain
ATLASES = (*DRAWN, "Kastner2015", "HCP_MMP1", "corticalsulc")
MAPS = ("floc_*tval", "prf_*", "R2", "signaldropout*", "T1_to_func*")
SHEETS = ("white", "pial", "inflated", "sphere", "sphere.reg", "curv", "sulc", "layerB?")
WHAT = {
    "design": "which picture was on in which trial",
    "pictures": "the 73,000 photographs in one file",
    "rois": "label maps of areas, the brain's mask and mean volume",
    "maps": "category, receptive field and quality maps of each subject",
    "betas": "responses of single trials, a file per session",
    "timeseries": "volumes of every run, with onsets and head motion",
    "behaviour": "button presses",
    "transforms": "from each space to the others",
    "surfaces": "the cortical sheets, of the subjects and the average brain",
}

COMMON = ("design", "pictures")  # parts that are not of one subject


class Facts(NamedTuple):
    """One subject of the published dataset.

    Arguments:
        func1mm: The grid of 1 mm.
        func1pt8mm: The grid of 1.8 mm.
        lh: Vertices of the left hemisphere's own surface.
        rh: And of the right one's.
        sessions: How many there are.
        general: Voxels of ``nsdgeneral`` at 1.8 mm.
    """

    func1mm: tuple[int, int, int]
    func1pt8mm: tuple[int, int, int]
    lh: int
    rh: int
    sessions: int
    general: int

    def grid(self, space: str) -> tuple[int, ...]:
        """The shape of a mask: three sides in voxels, or the vertices of both hemispheres."""
        return getattr(self, space) if space in VOLUMES else (sum(self.vertices(space)),)

    def vertices(self, space: str) -> tuple[int, int]:
        """Of the left and the right hemisphere of a surface."""
        return (VERTICES, VERTICES) if space == "fsaverage" else (self.lh, self.rh)


SUBJECTS = {
    "subj01": Facts((145, 186, 148), (81, 104, 83), 227_021, 226_601, 40, 15_724),
    "subj02": Facts((146, 190, 150), (82, 106, 84), 239_633, 239_309, 40, 14_278),
    "subj03": Facts((145, 190, 146), (81, 106, 82), 240_830, 243_023, 32, 15_226),
    "subj04": Facts((152, 177, 143), (85, 99, 80), 228_495, 227_262, 30, 13_153),
    "subj05": Facts((141, 173, 139), (79, 97, 78), 197_594, 198_908, 40, 13_039),
    "subj06": Facts((152, 202, 148), (85, 113, 83), 253_634, 259_406, 32, 17_907),
    "subj07": Facts((139, 170, 145), (78, 95, 81), 198_770, 200_392, 40, 12_682),
    "subj08": Facts((143, 184, 139), (80, 103, 78), 224_364, 224_398, 30, 14_386),
}


class Part(NamedTuple):
    """Files of one folder.

    Arguments:
        what: Which part of the dataset they belong to.
        folder: From the bucket's root on, without a slash at its end.
        patterns: Shell patterns of their names.
        expected: Names that are known beforehand.
        each: Bytes of each file before compression; None where only the bucket knows them.
        more: How many files there are beside the expected ones, where that is known.
    """

    what: str
    folder: str
    patterns: tuple[str, ...]
    expected: tuple[str, ...] = ()
    each: int | None = None
    more: int = 0

    @property
    def known(self) -> int:
        """How many files are known to be there."""
        return len(self.expected) + self.more

    def holds(self, key: str) -> bool:
        """Whether a file, by its name from the bucket's root on, is one of these."""
        folder, _, name = key.rpartition("/")
        return folder == self.folder and any(fnmatchcase(name, pattern) for pattern in self.patterns)

    @property
    def prefix(self) -> str:
        """How all of their names begin, from the bucket's root on: what to list."""
        starts = [re.split(r"[*?\[]", pattern)[0] for pattern in self.patterns]
        common = next(length for length in range(len(min(starts)), -1, -1) if len({start[:length] for start in starts}) == 1)
        return f"{self.folder}/{starts[0][:common]}"


@dataclass(frozen=True)
class Selection:
    """Which part of the dataset is meant.

    Arguments:
        subjects: As the dataset writes them.
        what: Of :data:`WHAT`.
        spaces: Of :data:`SPACES`.
        betas: ``b1``, ``b2`` or ``b3``.
        files: Of sessions in volumes, ``hdf5`` or ``nifti``.
        sessions: Numbers from 1; all that each subject has where None.

    Raises:
        CortexflowError: A name that the dataset has not, or a session that a subject has not.
    """

    subjects: tuple[str, ...]
    what: tuple[str, ...]
    spaces: tuple[str, ...] = ("func1pt8mm",)
    betas: tuple[str, ...] = ("b3",)
    files: str = "hdf5"
    sessions: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        among("part of the dataset", self.what, WHAT)
        among("subject", self.subjects, SUBJECTS, required=bool(set(self.what) - set(COMMON)))
        among("space", self.spaces, SPACES)
        among("kind of betas", self.betas, BETAS)
        among("kind of file", (self.files,), ("hdf5", "nifti"))
        for subject in self.subjects:
            check_sessions(subject, self.sessions or ())
        if "timeseries" in self.what and not self.volumes:
            raise CortexflowError(f"time series come in {' and '.join(VOLUMES)}, {', '.join(self.spaces)} was asked; add one of them to the spaces")
        if "betas" in self.what and "b1" in self.betas and "func1mm" in self.spaces:
            raise CortexflowError("b1 comes in func1pt8mm and not in func1mm; choose b2 or b3, or func1pt8mm")

    @property
    def volumes(self) -> tuple[str, ...]:
        """Those of the spaces that are grids of voxels."""
        return tuple(space for space in self.spaces if space in VOLUMES)

    def of(self, subject: str) -> tuple[int, ...]:
        """A subject's sessions."""
        return self.sessions or tuple(range(1, SUBJECTS[subject].sessions + 1))


def among(what: str, chosen: Sequence[str], known: Collection[str], required: bool = True) -> None:
    """Raises CortexflowError where something that was chosen is not known, or nothing was chosen that is required."""
    for name in chosen:
        if name not in known:
            raise CortexflowError(f"no {what} is called {name!r}; choose from {', '.join(known)}")
    if required and not chosen:
        raise CortexflowError(f"no {what} was chosen; choose from {', '.join(known)}")


def check_sessions(subject: str, sessions: Sequence[int]) -> None:
    """Raises CortexflowError where a subject has no session of such a number."""
    last = SUBJECTS[subject].sessions
    wrong = [number for number in sessions if not 1 <= number <= last]
    if wrong:
        longer = ", ".join(name for name, facts in SUBJECTS.items() if facts.sessions >= max(wrong)) or "fewer"
        raise CortexflowError(f"{subject} has sessions 1 to {last}, {wrong[0]} was asked; choose among them, all, or {longer}")


def parts(selection: Selection) -> list[Part]:
    """The files that a selection means, folder by folder."""
    found = [part for part in _common(selection) if part.what in selection.what]
    for subject in selection.subjects:
        found += [part for part in _of_subject(selection, subject) if part.what in selection.what]
    return found


def _common(selection: Selection) -> Iterator[Part]:
    """What all subjects share."""
    folder, names = DESIGN.rpartition("/")[0], tuple(name.rpartition("/")[2] for name in (DESIGN, TABLE))
    yield Part("design", folder, names, names, 16 << 20)
    yield _one("pictures", BRICK, PICTURES * SIDE * SIDE * 3)
    yield from _labels(selection, "fsaverage", "fsaverage")
    yield Part("surfaces", "nsddata/freesurfer/fsaverage/surf", _sheets())


def _of_subject(selection: Selection, subject: str) -> Iterator[Part]:
    facts, sessions, data = SUBJECTS[subject], selection.of(subject), f"nsddata/ppdata/{subject}"
    yield from _labels(selection, subject, "nativesurface")
    for space in selection.volumes:
        around = ("brainmask.nii.gz", "mean.nii.gz")
        yield Part("rois", f"{data}/{space}/roi", ("*.nii.gz",))
        yield Part("rois", f"{data}/{space}", around, around, 4 * prod(facts.grid(space)))
        yield Part("maps", f"{data}/{space}", tuple(f"{name}.nii.gz" for name in MAPS))
        yield from _runs(subject, space, sessions)
    for space in selection.spaces:
        for betas in selection.betas:
            yield from _sessions(selection, subject, space, betas, sessions)
    yield _one("behaviour", f"{data}/behav/responses.tsv", 200 * PER_SESSION * facts.sessions)
    yield Part("transforms", f"{data}/transforms", ("*",))
    yield Part("surfaces", f"nsddata/freesurfer/{subject}/surf", _sheets())


def _labels(selection: Selection, owner: str, space: str) -> Iterator[Part]:
    """The names of areas, and the areas themselves where they are asked for on this owner's surface."""
    folder = f"nsddata/freesurfer/{owner}/label"
    yield Part("rois", folder, ("*.ctab",))
    if space in selection.spaces:
        yield Part("rois", folder, tuple(f"{side}.{name}.mgz" for side in SIDES for name in ATLASES))


def _sessions(selection: Selection, subject: str, space: str, betas: str, sessions: tuple[int, ...]) -> Iterator[Part]:
    """A file per session, on surfaces one for each hemisphere, and the noise ratio."""
    folder, facts = f"nsddata_betas/ppdata/{subject}/{space}/{BETAS[betas]}", SUBJECTS[subject]
    ending = {"fsaverage": "mgh", "nativesurface": "hdf5"}.get(space, {"hdf5": "hdf5", "nifti": "nii.gz"}[selection.files])
    places = zip(SIDES, facts.vertices(space), strict=True) if space in SURFACES else [("", prod(facts.grid(space)))]
    for side, count in places:
        prefix, ratio = f"{side}." if side else "", "mgh" if side else "nii.gz"
        names = tuple(f"{prefix}betas_session{number:02d}.{ending}" for number in sessions)
        yield Part("betas", folder, names, names, PER_SESSION * count * (4 if space == "fsaverage" else 2))
        yield Part("betas", folder, (f"{prefix}ncsnr.{ratio}",), (), 4 * count, 1)


def _runs(subject: str, space: str, sessions: tuple[int, ...]) -> Iterator[Part]:
    """Volumes, onsets and head motion; a session with rest has two runs more."""
    facts, root = SUBJECTS[subject], f"nsddata_timeseries/ppdata/{subject}/{space}"
    rests = sum(2 for number in sessions if number in RESTING[subject])
    sizes = {"timeseries": 2 * prod(facts.grid(space)) * VOLUMES[space], "design": 8 * VOLUMES[space], "motion": 80 * VOLUMES[space]}
    for kind, each in sizes.items():
        patterns = tuple(f"{kind}_session{number:02d}_run??.{KINDS[kind]}" for number in sessions)
        names = tuple(f"{kind}_session{number:02d}_run{run + 1:02d}.{KINDS[kind]}" for number in sessions for run in range(RUNS))
        # which files a run of rest has is for the bucket to say
        expected, more = (names, rests) if kind == "timeseries" else ((), len(names))
        yield Part("timeseries", f"{root}/{kind}", patterns, expected, each, more)


def _one(what: str, name: str, size: int) -> Part:
    folder, _, file = name.rpartition("/")
    return Part(what, folder, (file,), (file,), size)


def _sheets() -> tuple[str, ...]:
    return tuple(f"{side}.{name}" for side in SIDES for name in SHEETS)


def selected(text: str, known: Collection[str]) -> tuple[str, ...]:
    """Names from ``a,b``, or all of those that are known from ``all``."""
    return tuple(known) if text.strip() == "all" else tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def numbers(text: str) -> tuple[int, ...] | None:
    """Numbers of sessions, sorted, from ``1-10`` or ``1,3,7-9``; None from ``all``.

    Raises:
        CortexflowError: It is neither.

    Example:
        >>> numbers("7-9,1,3")
        (1, 3, 7, 8, 9)
    """
    if text.strip() == "all":
        return None
    found: set[int] = set()
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})\s*(?:-\s*(\d{1,3})\s*)?", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise CortexflowError(f"sessions are written 1-10, 1,3,5 or all, {text!r} was given; write them so")
        found |= set(range(first, last + 1))
    return tuple(sorted(found))


def estimated(part: Part) -> int | None:
    """Bytes of a part before compression, for when the bucket cannot be asked; None where only the bucket knows."""
    return None if part.each is None or not part.known else part.each * part.known
