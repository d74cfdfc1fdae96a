"""One run of a moving bar, seen by one person's primary visual cortex at 7 tesla: a time series with its movie."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pooch
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Cortex, Dataset, Trials
from cortexflow.data.on_disk.published import published
from cortexflow.data.standardize import hrf_exposure
from cortexflow.errors import CortexflowError
from cortexflow.storage import checksum, fingerprint


class Szinte2024(Dataset):
    """Bars that sweep the screen four times, and 2,365 voxels of V1.

    The study is a time series, so the picture on screen at each volume is a stimulus of its own, with the volume's number
    (0 to 149) as its id, and a trial is a volume that answers the pictures of the half minute before it. The held-out
    pictures are one sweep and the blank after it. Sweeps 0 and 2 show the same bars in reverse order, and so do 1 and 3:
    leaving one out tests a model at another time and in the other direction, not at positions it has never seen.

    57 voxels are 0 throughout: drop them with :func:`cortexflow.data.standardize.usable_voxels`.

    What V1 owes to the mere presence of a bar is much. Judge a model by its margin over the same model with
    ``control="on_off"`` (any bar is a white screen: only its onset is left) and with ``control="shuffled"`` (the frames of
    a sweep in random order).

    In this recording the signal runs ahead of a canonical response to the frames as they are numbered: for every held-out
    sweep, the training sweeps alone prefer a ``lead`` of 2.6 s (two volumes) to 0 (ridge on 16 × 9 pixels, median r over
    all voxels: .158 with a lead of 0 and .488 with 2.6 s; with ``on_off`` .149 and .171). Opposite directions tell the two
    apart, because a wrong lead displaces the bar forwards in one and backwards in the other.

    References:
        Gilles86/braincoder, commit ed48b10a, ``braincoder/data/szinte2024`` (MIT licence).
    """

    class Config(Choices):
        """Choices of the study.

        Arguments:
            held_out_sweep: Which of the four sweeps is the test.
            control: The movie as it was, or one that lacks the bar's position ("on_off") or its order ("shuffled").
            seed: Seed of the shuffled order.
            cut_pixels: Height and width of the middle of the screen that is kept.
            lead: Seconds by which the signal runs ahead, see :func:`cortexflow.data.standardize.spm_hrf`.
        """

        held_out_sweep: int = Field(0, ge=0, le=3)
        control: Literal["none", "on_off", "shuffled"] = "none"
        seed: int = Field(0, ge=0)
        cut_pixels: tuple[int, int] = (45, 80)
        lead: float = Field(0.0, ge=0, le=10)

    title = "V1 at 7 T during a moving bar, one person, one run (Szinte et al., as published with braincoder)"
    TR: ClassVar[float] = 1.317025  # seconds
    VOLUMES: ClassVar[int] = 150
    SCREEN: ClassVar[tuple[int, int]] = (45, 80)  # height and width in pixels
    SWEEPS: ClassVar[tuple[tuple[int, int], ...]] = ((10, 42), (52, 70), (80, 112), (122, 140))  # volumes with a bar
    SEGMENTS: ClassVar[tuple[tuple[int, int], ...]] = ((10, 52), (52, 80), (80, 122), (122, 150))  # and the blank after it
    AREAS: ClassVar[tuple[str, ...]] = ("V1", "prf r2 > .3")
    FILES: ClassVar[dict[str, str]] = {
        "dm_gazecenter.npz": "39607e4c0b2e44ddf526a695ce6f866395ba6932db4e3a10a673c1c3e09fdab5",
        "gauss_parameters.tsv": "94f099fb3674669929cf68eee5cd1bae82b536d858f263e140feb52834c66fe8",
        "grid_coordinates.tsv": "87fcac24859d8e7efc73847a091d04431016b7f67405c7ab6b0d0f477f4725fc",
        "mask-v1_bold.tsv.gz": "c9cd7df157c1239e1eb8ba274cb1083ca28eb59ce03baa236c5067565a7a658e",
    }
    SOURCES: ClassVar[tuple[str, ...]] = tuple(  # the commit, and whatever the repository holds now: checksums decide
        f"https://raw.githubusercontent.com/Gilles86/braincoder/{version}/braincoder/data/szinte2024" for version in ("ed48b10a", "HEAD")
    )

    config: Config

    @classmethod
    def fetch(cls, root: Path | str, sources: Sequence[str] | None = None) -> Path:
        """Download the study, 1.9 MB. What is there already and whole is kept.

        Arguments:
            root: The folder for its files.
            sources: Addresses of folders to try in turn; where the study was published, where absent.

        Raises:
            CortexflowError: No source could be reached, or none had the files with these checksums.
        """
        for name, sha256 in cls.FILES.items():
            _download(name, sha256, Path(root), cls.SOURCES if sources is None else sources)
        return Path(root)

    @property
    def subjects(self) -> tuple[str, ...]:
        """One person, whom the publication does not name."""
        return ("subj01",)

    def trials(self, subject: str) -> Trials:
        """All 150 volumes in order, demeaned over the run by the publisher; groups are the sweeps, -1 before the first."""
        self.check_subject(subject)
        volumes, zeros = torch.arange(self.VOLUMES), torch.zeros(self.VOLUMES, dtype=torch.long)
        groups = torch.full_like(volumes, -1)
        for sweep, (start, stop) in enumerate(self.SEGMENTS):
            groups[start:stop] = sweep
        exposure = hrf_exposure(volumes, self.TR, zeros, self.config.lead)
        units = "BOLD signal without its mean (scale as published)"
        return Trials(subject, volumes, zeros, zeros, self._responses, units, groups, exposure)

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """Frames of the movie as the person saw the screen, gray: black is empty, white is bar.

        Raises:
            CortexflowError: An id is not a volume, 0 to 149, or the cut is larger than the screen.
        """
        wrong = stimuli[(stimuli < 0) | (stimuli >= self.VOLUMES)]
        if len(wrong):
            raise CortexflowError(f"szinte2024 has stimuli 0 to {self.VOLUMES - 1}, {int(wrong[0])} was asked; ask for ids of its trials")
        return self._cut(self._movie)[stimuli, None].expand(-1, 3, -1, -1).contiguous()

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The frames of one sweep and of the blank after it."""
        return torch.arange(*self.SEGMENTS[self.config.held_out_sweep])

    def cortex(self, subject: str) -> Cortex:
        """V1, and its voxels whose published receptive field explains more than .3 of the variance.

        Those fields were fitted to this same run: the second area favours every model, the held-out sweep included.
        Positions of the voxels were not published.
        """
        self.check_subject(subject)
        r2 = self.receptive_fields()["r2"]  # NaN where none was fitted, which is not above .3
        return Cortex(subject, len(r2), dict(zip(self.AREAS, (torch.ones(len(r2), dtype=torch.bool), r2 > 0.3), strict=True)))

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file, and which movie and which exposure are made of them."""
        choices = self.config.model_dump(mode="json", exclude={"held_out_sweep"})
        return {name: checksum(self._file(name)) for name in self.FILES} | {"choices": fingerprint(choices)}

    def receptive_fields(self) -> dict[str, Float[Tensor, " voxels"]]:
        """The published Gaussian of each voxel: x, y and sd in degrees, baseline, amplitude and r2 (NaN where not fitted).

        They were fitted to this same run with a canonical response, and are never a held-out truth.
        """
        path = self._file("gauss_parameters.tsv")
        names = path.read_text().splitlines()[0].split("\t")
        values = torch.from_numpy(np.genfromtxt(path, delimiter="\t", skip_header=1)).float()
        return {name: values[:, column] for column, name in enumerate(names) if name != "source"}

    def screen(self) -> Float[Tensor, "height width 2"]:
        """Position of every pixel of a picture in degrees: x to the right, y upwards."""
        grid = torch.from_numpy(np.loadtxt(self._file("grid_coordinates.tsv"), skiprows=1)).float()
        height, width = self.SCREEN
        return self._cut(grid.reshape(width, height, 2).movedim(2, 0).mT).movedim(0, 2)

    @cached_property
    def _responses(self) -> Tensor:
        table = np.loadtxt(self._file("mask-v1_bold.tsv.gz"), delimiter="\t", skiprows=1, dtype=np.float32)
        return torch.from_numpy(table[:, 1:]).contiguous()  # the first column counts the volumes

    @cached_property
    def _movie(self) -> Tensor:
        """The whole screen, volume by volume, with the control's changes."""
        frames = np.load(self._file("dm_gazecenter.npz"))["arr_0"]
        # volume 0 shows nothing but the fixation mark, which is always there and drawn brighter than white
        frames = np.clip(frames, 0, 1) * (frames[0] == 0)
        movie = torch.from_numpy(np.round(frames * 255).astype(np.uint8)).mT.contiguous()  # stored as time, x, y
        if self.config.control == "on_off":
            return movie.flatten(1).amax(1).gt(0)[:, None, None].expand_as(movie) * torch.tensor(255, dtype=torch.uint8)
        if self.config.control == "shuffled":
            shuffle = torch.Generator().manual_seed(self.config.seed)
            for start, stop in self.SWEEPS:
                movie[start:stop] = movie[start + torch.randperm(stop - start, generator=shuffle)]
        return movie

    def _cut(self, pictures: Tensor) -> Tensor:
        (height, width), (whole_height, whole_width) = self.config.cut_pixels, self.SCREEN
        if not (0 < height <= whole_height and 0 < width <= whole_width):
            have = f"the screen has {whole_height} × {whole_width} pixels, {height} × {width} were asked"
            raise CortexflowError(f"{have}; choose cut_pixels within the screen")
        top, left = (whole_height - height) // 2, (whole_width - width) // 2
        return pictures[..., top : top + height, left : left + width]

    def _file(self, name: str) -> Path:
        return published("szinte2024", self.root, name, "fetch the study with: cortexflow data fetch szinte2024 --to DIR", self.FILES[name])


def _download(name: str, sha256: str, root: Path, sources: Sequence[str]) -> None:
    """One file from the first source that has it."""
    reason: Exception | None = None
    for source in sources:
        try:
            downloader = pooch.HTTPDownloader(timeout=30)
            pooch.retrieve(f"{source.rstrip('/')}/{name}", f"sha256:{sha256}", fname=name, path=root, downloader=downloader)
            return
        except (OSError, ValueError) as error:
            reason = error
    why = (str(reason).splitlines() or [type(reason).__name__])[0]
    remedy = f"check the connection and that {root} can be written, or copy the file there from {', '.join(sources[:1])}"
    raise CortexflowError(f"{name} could not be downloaded ({why}); {remedy}") from reason
