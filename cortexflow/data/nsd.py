"""The Natural Scenes Dataset: eight people, up to 40 sessions at 7 tesla, 73,000 photographs, read from the official files.

The folder of the study stands for the bucket: ``nsddata/…``, ``nsddata_betas/…`` and ``nsddata_stimuli/…`` lie in it as they do
there. Nothing is fetched; who uses the data accepts their terms first.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Check, Cortex, FolderName, Trials
from cortexflow.data.nsd_layout import splits
from cortexflow.data.nsd_layout.behaviour import Behaviour, read_behaviour
from cortexflow.data.nsd_layout.cautions import cautions
from cortexflow.data.nsd_layout.ceiling import Agreement, agreement, recomputed
from cortexflow.data.nsd_layout.coco.annotated import AnnotatedDataset
from cortexflow.data.nsd_layout.coco.annotations import annotations_there
from cortexflow.data.nsd_layout.design import DESIGN, PER_SESSION, TABLE, Design, StimulusTable, read_design, read_table
from cortexflow.data.nsd_layout.files import identity, official
from cortexflow.data.nsd_layout.flaws import Flaws
from cortexflow.data.nsd_layout.pictures import BRICK, SIDE, read_pictures
from cortexflow.data.nsd_layout.prepared import place, prepared, ready
from cortexflow.data.nsd_layout.retinotopy import Fields
from cortexflow.data.nsd_layout.spaces import Kept, Space, space
from cortexflow.data.nsd_layout.transforms import DEPTHS, Method, to_fsaverage
from cortexflow.data.nsd_layout.upkeep.checks import check_experiment, check_subject
from cortexflow.data.nsd_layout.upkeep.estimate import SIDE_BY_SIDE, Estimate, estimate
from cortexflow.data.nsd_layout.upkeep.inventory import SUBJECTS
from cortexflow.data.on_disk.pictures import ImageSize
from cortexflow.data.presentations import occurrences
from cortexflow.errors import CortexflowError, CortexflowWarning
from cortexflow.progress import track


class Order(NamedTuple):
    """The trials that a run uses, in the order of recording."""

    stimuli: Int[np.ndarray, " trials"]
    sessions: Int[np.ndarray, " trials"]
    repeats: Int[np.ndarray, " trials"]
    rows: Int[np.ndarray, " trials"]  # within the session


class NSD(AnnotatedDataset):
    """The Natural Scenes Dataset.

    A stimulus id is the picture's place in ``nsd_stimuli.hdf5``, from 0. Responses are single-trial betas in percent signal
    change, not yet z-scored. Which sessions a subject has is what the folder holds. The voxels of a mask are kept in one file
    per session in ``prepared``, made when they are first asked for or by :meth:`prepare`.

    References:
        A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence (Allen et al., 2022).
    """

    class Config(Choices):
        """Choices of the study.

        Arguments:
            study: The name of its folder.
            space: Volumes of 1.8 or 1 mm in the subject's own head, the vertices of the average brain, or those of the subject's own.
            betas: ``b1`` with one response shape for all voxels, ``b2`` with one for each, ``b3`` denoised and regularised as well.
            files: Which files of a volume to read; HDF5 first where both are there.
            mask: The label map whose voxels above 0 are used, or ``brainmask``.
            atlases: Label maps whose areas are read; where None, those that most studies use, as far as they are there.
            split: The held-out pictures: ``nsd_1000``, ``nsd_982`` (which ends with session 37) or ``shared_515``.
            sessions: Read only the first so many sessions, which must all be there.
            training_sessions: Trials of training pictures come from the first so many sessions; test trials from all, which a run then
                has to z-score over all trials (``zscore=all``), as later sessions have no training trials.
            training_images: And show one of the first so many training pictures.
            image_size: Height and width of the pictures in pixels.
        """

        study: FolderName = "nsd"
        space: Literal["func1pt8mm", "func1mm", "fsaverage", "nativesurface"] = "func1pt8mm"
        betas: Literal["b1", "b2", "b3"] = "b3"
        files: Literal["any", "hdf5", "nifti"] = "any"
        mask: str = "nsdgeneral"
        atlases: tuple[str, ...] | None = None
        split: Literal["nsd_1000", "nsd_982", "shared_515"] = "nsd_1000"
        sessions: int | None = Field(None, ge=1, le=40)
        training_sessions: int | None = Field(None, ge=1, le=40)
        training_images: int | None = Field(None, ge=1)
        image_size: ImageSize = (SIDE, SIDE)

    title: ClassVar[str] = "Natural Scenes Dataset: 8 people, 73,000 photographs, 7 T (Allen et al., 2022)"
    SESSIONS: ClassVar[Mapping[str, int]] = {subject: facts.sessions for subject, facts in SUBJECTS.items()}
    config: Config

    def __init__(self, config: Choices | None = None, root: Path | str | None = None) -> None:
        super().__init__(config, root)
        self._masks: dict[str, np.ndarray] = {}
        self._flaws: dict[str, list[str]] = {}

    @property
    def subjects(self) -> tuple[str, ...]:
        """Those of whom a session is there.

        Raises:
            CortexflowError: There is none of anybody.
        """
        found = tuple(subject for subject in self.SESSIONS if self._space(subject).sessions())
        if not found:
            folder = self._space("subj01").kept.folder
            raise CortexflowError(f"{folder} holds no betas_session01, nor do its sisters of other subjects; copy sessions of the dataset there")
        return found

    def trials(self, subject: str) -> Trials:
        """Every trial that the configuration asks for, in the order of recording, percent signal change.

        ``repeats`` counts what the subject had seen, whether or not that session is there. A warning counts voxels that never change
        within a session and those that reach the limit of 16-bit integers.

        Raises:
            CortexflowError: A file is missing or disagrees with another one, or more sessions are asked for than there are.
        """
        found, mask = self._sessions(subject), self._mask(subject)
        order = self._order(subject, tuple(found))
        responses, flaws = torch.empty(len(order.stimuli), int(mask.sum())), Flaws(subject, int(mask.sum()))
        for number, files in track(found.items(), subject, len(found)):
            here = order.sessions == number
            if here.any():
                stored = prepared(self._space(subject), number, files, mask)
                flaws.add(stored)
                shown = stored[order.rows[here]].astype(np.float32) / np.float32(self._space(subject).per_percent)
                responses[torch.from_numpy(here)] = torch.from_numpy(shown)
        self._flaws[subject] = flaws.sentences()
        for sentence in self._flaws[subject]:
            warnings.warn(sentence, CortexflowWarning, stacklevel=2)
        stimuli, sessions, repeats = map(torch.from_numpy, order[:3])
        return Trials(subject, stimuli, sessions, repeats, responses, "percent signal change")

    def prepare(self, subject: str) -> list[Path]:
        """Make the prepared files of all sessions, those that are there already left as they are.

        Memory holds two sessions of the mask's voxels at a time: two are read side by side, as decompressing keeps a core busy.

        Returns:
            The files, in the order of the sessions.
        """
        found, mask, kept = self._sessions(subject), self._mask(subject), self._space(subject)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            work = [pool.submit(prepared, kept, number, files, mask) for number, files in found.items()]
            try:
                for done in track(work, subject):
                    done.result()
            finally:
                pool.shutdown(cancel_futures=True)  # what was not begun when one failed, or somebody stopped it
        return [place(kept, number, files, mask) for number, files in found.items()]

    def estimate(self, subject: str) -> Estimate:
        """What :meth:`prepare` will take of disk and memory, computed without reading a session."""
        return estimate(self._space(subject), self._sessions(subject), self._mask(subject))

    def order(self, subject: str) -> Order:
        """Which picture each trial of :meth:`trials` shows, without reading a response."""
        return self._order(subject, tuple(self._sessions(subject)))

    def cautions(self, subject: str) -> tuple[str, ...]:
        """What the data paper and the data manual warn of, and what is odd in the files at hand."""
        return (*cautions(subject, self.config.space), *(f"{sentence}." for sentence in self.findings(subject)))

    def findings(self, subject: str) -> list[str]:
        """What is odd in a subject's files: vertices without numbers, voxels that never change or are cut off, a ratio of 0.

        Of sessions only what :meth:`trials` has read, or what is prepared, is looked at.
        """
        if subject not in self._flaws and self._prepared(subject):
            flaws = Flaws(subject, int(self._mask(subject).sum()))
            for _, stored in self._stored(subject):
                flaws.add(stored)
            self._flaws[subject] = flaws.sentences()
        return [*self._without(subject), *self._flaws.get(subject, []), *self._ratios(subject)]

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

    def behaviour(self, subject: str) -> Behaviour:
        """What the subject answered in each of :meth:`trials`, in their order.

        Raises:
            CortexflowError: The file is not there, or shows another picture in a trial than the design.
        """
        order = self._order(subject, tuple(self._sessions(subject)))
        return read_behaviour(self.place, subject, self._design.of(subject), order.sessions, order.rows)

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The test pictures of the split, sorted. No subject's training trials show any of them."""
        return torch.from_numpy(self._test)

    def cortex(self, subject: str) -> Cortex:
        """Areas, places in millimetres and the noise ratio that the dataset ships, for the voxels of the mask.

        Where the shipped ratio is no number it is 0 here, since nothing can be explained there.

        Raises:
            CortexflowError: A label map is missing or of another grid, or has a label that its table does not name.
        """
        self.check_subject(subject)
        mask, kept = self._mask(subject), self._space(subject)
        atlases = kept.drawn() if self.config.atlases is None else self.config.atlases
        areas = {name: area for atlas in atlases for name, area in kept.areas(atlas, mask).items()}
        ratio = kept.ncsnr(mask)
        return Cortex(subject, int(mask.sum()), areas, kept.coordinates(mask), None, ratio if ratio is None else ratio.nan_to_num(nan=0.0))

    def map(self, subject: str, name: str) -> Float[Tensor, " voxels"]:
        """Any other map of a subject by the name of its file, for the voxels of the mask.

        Arguments:
            subject: Whose.
            name: ``floc_facestval`` (t of faces against all else), ``prf_angle``, ``prf_eccentricity``, ``prf_size``, ``R2`` …

        Raises:
            CortexflowError: There is no such file.
        """
        self.check_subject(subject)
        return self._space(subject).map(name, self._mask(subject))

    def prf(self, subject: str) -> Fields:
        """Receptive fields as the dataset's mapping experiment found them, in degrees of visual angle from the middle of the picture.

        ``x`` is to the right and ``y`` up: a polar angle of 0 is right and one of 90 is up. Pictures are 8.4 degrees wide.

        Raises:
            CortexflowError: One of the maps ``prf_angle``, ``prf_eccentricity``, ``prf_size`` and ``prf_R2`` is missing.
        """
        return Fields.polar(*(self.map(subject, f"prf_{name}") for name in ("angle", "eccentricity", "size", "R2")))

    def floc(self, subject: str) -> dict[str, Float[Tensor, " voxels"]]:
        """t maps of the dataset's category localiser by category: ``faces``, ``bodies``, ``characters``, ``places``, ``objects`` …

        A domain is compared with all other domains. :func:`cortexflow.data.localiser.masks` makes areas of them.

        Raises:
            CortexflowError: There are none.
        """
        self.check_subject(subject)
        names = self._space(subject).named("floc_*tval")
        maps = {name.removeprefix("floc_").removesuffix("tval"): self.map(subject, name) for name in names}
        return maps or {"faces": self.map(subject, "floc_facestval")}  # which is not there, and says where it comes from

    def to_fsaverage(
        self, subject: str, values: Float[Tensor, "*rows voxels"], method: Method = "linear", depths: Sequence[str] = DEPTHS
    ) -> Float[Tensor, "*rows vertices"]:
        """Values of the mask's voxels on the vertices of the average brain, through the transforms that the dataset ships.

        See :func:`cortexflow.data.nsd_layout.transforms.to_fsaverage`.
        """
        self.check_subject(subject)
        return to_fsaverage(self.place, subject, self.config.space, self._mask(subject), values, method, depths)

    def recomputed_ncsnr(self, subject: str) -> Float[Tensor, " voxels"]:
        """The noise ratio computed from the trials of the sessions at hand, session by session, as the dataset computes it.

        Returns:
            NaN for a voxel that never changes within some session, and where no picture came three times.
        """
        return torch.from_numpy(recomputed(lambda: self._stored(subject), int(self._mask(subject).sum()))).float()

    def compare_ncsnr(self, subject: str) -> Agreement:
        """How alike the ratio that is shipped and that of the trials are.

        Raises:
            CortexflowError: No ratio is shipped.
        """
        return agreement(self._shipped(subject).numpy(), self.recomputed_ncsnr(subject).numpy())

    @cached_property
    def table(self) -> StimulusTable:
        """What the dataset says of each picture: its photograph in COCO, the crop, and when it was planned.

        Raises:
            CortexflowError: The table is not there.
        """
        return read_table(self.place / TABLE)

    def checksums(self) -> dict[str, str]:
        """Of every file of responses, of the plan, of the pictures and of annotations that are there; the size of the pictures.

        The files are too large to be read whole: see :func:`cortexflow.data.nsd_layout.files.identity`.
        """
        plan = next((name for name in (DESIGN, TABLE) if (self.place / name).is_file()), DESIGN)
        files = [official(self.place, plan), official(self.place, BRICK), *annotations_there(self.place).values()]
        files += [path for subject in self.subjects for paths in self._space(subject).sessions().values() for path in paths]
        size = {"image size": "×".join(map(str, self.config.image_size))}
        return {path.relative_to(self.place).as_posix(): identity(path) for path in files} | size

    def check(self) -> list[Check]:
        """Every file that a run would read, by what it says of itself; no session is read whole."""
        place = Check.of(self.config.study, lambda: str(self.place))
        if place.wrong is not None:
            return [place]
        subjects = Check.of("subjects", lambda: ", ".join(self.subjects))
        checks = [*check_experiment(self.place), subjects]
        for subject in () if subjects.wrong else self.subjects:
            kept = self._space(subject)
            checks += check_subject(kept, dict(sorted(kept.sessions().items())), self.SESSIONS[subject], self.config.mask)
            if all(check.wrong is None for check in checks):
                checks.append(Check.of(f"{subject}, ncsnr", partial(self._look_at_ratio, subject)))
        return checks

    @cached_property
    def _design(self) -> Design:
        return read_design(self.place)

    @cached_property
    def _test(self) -> Int[np.ndarray, " stimuli"]:
        return splits.held_out(self._design, self.config.split)

    def _space(self, subject: str) -> Space:
        return space(Kept(self.place, subject, self.config.space, self.config.betas, self.config.files))

    def _mask(self, subject: str) -> np.ndarray:
        if subject not in self._masks:
            self._masks[subject] = self._space(subject).mask(self.config.mask)
            for sentence in self._without(subject):
                warnings.warn(sentence, CortexflowWarning, stacklevel=3)
        return self._masks[subject]

    def _without(self, subject: str) -> list[str]:
        """What is said where the mask lacks some of what its map labels."""
        labelled, used = (int(mask.sum()) for mask in (self._space(subject).labelled(self.config.mask), self._mask(subject)))
        what = f"{subject}: {labelled - used} of {labelled} vertices of {self.config.mask} are NaN in a session and are left out of the mask"
        return [what] if used < labelled else []

    def _shipped(self, subject: str) -> Float[Tensor, " voxels"]:
        """The ratio as the file has it. Raises CortexflowError where there is none."""
        ratio = self._space(subject).ncsnr(self._mask(subject))
        if ratio is None:
            raise CortexflowError(f"{self._space(subject).kept.folder} has no ncsnr; copy it from the dataset to compare it")
        return ratio

    def _ratios(self, subject: str) -> list[str]:
        """What is said of the shipped ratio."""
        ratio = self._space(subject).ncsnr(self._mask(subject))
        zeros, missing = (0, 0) if ratio is None else (int((ratio == 0).sum()), int(ratio.isnan().sum()))
        counts = [f"0 in {zeros}"] * (zeros > 0) + [f"not a number in {missing}"] * (missing > 0)
        of = f"of {self._mask(subject).sum()} voxels, in which no model can explain anything"
        return [f"{subject}: ncsnr is {' and '.join(counts)} {of}"] if counts else []

    def _look_at_ratio(self, subject: str) -> str:
        """The shipped ratio beside the recomputed one, where no session has to be read for it."""
        if self._space(subject).ncsnr(self._mask(subject)) is None:
            return "none is shipped"
        if not self._prepared(subject):
            return "; ".join(["compared with the trials once all sessions are prepared", *self._ratios(subject)])
        return f"recomputed from {len(self._sessions(subject))} sessions: {self.compare_ncsnr(subject)}"

    def _prepared(self, subject: str) -> bool:
        kept, mask = self._space(subject), self._mask(subject)
        return all(ready(kept, number, files, mask) for number, files in self._sessions(subject).items())

    def _stored(self, subject: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The pictures and the stored responses of each session, one after the other."""
        shown, kept, mask = self._design.of(subject), self._space(subject), self._mask(subject)
        for number, files in self._sessions(subject).items():
            yield shown[(number - 1) * PER_SESSION : number * PER_SESSION], prepared(kept, number, files, mask)

    def _sessions(self, subject: str) -> dict[int, tuple[Path, ...]]:
        """The files of the sessions that are asked for and there, in order."""
        self.check_subject(subject)
        found = self._space(subject).sessions()
        last = splits.last_session(self.config.split) or self.SESSIONS[subject]
        wanted = self._wanted(subject)
        used = {number: found[number] for number in sorted(found) if number <= (wanted or last)}
        gaps = sorted(set(range(1, (wanted or max(used, default=1)) + 1)) - set(used))
        if gaps and wanted:
            missing = f"{self._space(subject).kept.folder} has no session {', '.join(map(str, gaps))}"
            raise CortexflowError(f"{missing}, where the first {wanted} were asked for; copy them there or ask for fewer")
        if not used:
            has = f"{subject} has session {', '.join(map(str, sorted(found)))} here and {self.config.split} ends with session {last}"
            raise CortexflowError(f"{has}; copy earlier sessions there, or choose nsd_1000")
        if gaps:
            warnings.warn(f"{subject} lacks session {', '.join(map(str, gaps))} of {max(used)}; the others are used", CortexflowWarning, stacklevel=3)
        return used

    def _wanted(self, subject: str) -> int | None:
        """How many first sessions are asked for; more than the subject has are an error."""
        asked, has = self.config.sessions, self.SESSIONS[subject]
        if asked is not None and asked > has:
            longer = ", ".join(name for name, count in self.SESSIONS.items() if count >= asked)
            raise CortexflowError(f"{subject} has {has} sessions, {asked} were asked; choose at most {has}, or {longer}")
        limit = splits.last_session(self.config.split)
        if asked is not None and limit is not None and asked > limit:
            raise CortexflowError(f"{self.config.split} ends with session {limit}, {asked} were asked; choose at most {limit}, or nsd_1000")
        return asked

    def _order(self, subject: str, numbers: tuple[int, ...]) -> Order:
        shown = self._design.of(subject)
        planned = np.arange(len(shown)) // PER_SESSION + 1
        repeats = occurrences(torch.from_numpy(shown)).numpy()
        there = np.flatnonzero(np.isin(planned, numbers))
        config = self.config
        use = there[splits.kept(shown[there], planned[there], self._test, config.training_sessions, config.training_images)]
        return Order(shown[use], planned[use], repeats[use], use % PER_SESSION)
