"""Gray photographs and one person's early visual cortex at 4 tesla, in the form in which they are handed out for teaching."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Check, Cortex, Dataset, Trials
from cortexflow.data.on_disk.published import published
from cortexflow.data.on_disk.recorded import download, record, recorded
from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.storage import checksum


class Kay2008(Dataset):
    """1,750 photographs to fit a model and 120 to test it, 8,428 voxels of V1, V2, V3, V3A, V3B, V4 and lateral occipital cortex.

    Stimuli 0 to 1749 are the fitting pictures and 1750 to 1869 the test pictures, in the order of the files. The publication
    has one estimated amplitude per picture and voxel, so that every stimulus is one trial: the two showings of a fitting
    picture and the thirteen of a test picture are averaged away. There is therefore **no noise ceiling from repeats**, test
    responses are far less noisy than those a model is fitted to, and sessions are not told apart. Positions of voxels were not
    published either. Responses come z-scored, per voxel, by the publisher; over which trials is not said.

    Grays are numbers of an unnamed unit. Black is the smallest of all the file's pictures and white the largest, so that
    brightness can be compared between pictures.

    Names of files, keys, shapes, addresses and the number of voxels per area are those of the course's notebook, which prints
    them; that the files still are the same could not be seen, and no checksum of them is published. :meth:`fetch` writes down
    what it got, and later reading is compared with that.

    **Terms.** The course's page names none for these files. They are a part of *vim-1* of CRCNS.org, which asks for an account.
    Its terms, where a page of a data set gives no others (that of vim-1 was not seen): scientific use only, no redistribution
    except to direct collaborators and to students in one's classroom, publications name the contributors and the source and
    cite the original paper, and nothing is downloaded that is not needed soon.

    References:
        Identifying natural images from human brain activity (Kay, Naselaris, Prenger & Gallant, 2008).
        fMRI of human visual areas in response to natural images (Kay, Naselaris & Gallant, 2011), CRCNS.org, vim-1.
        Neuromatch Academy, ``projects/fMRI/load_kay_images.ipynb``; terms: https://crcns.org/terms.
    """

    class Config(Choices):
        """Choices of the study.

        Arguments:
            size: Height and width of the pictures in pixels, a divisor of 128; smaller ones are means of squares.
        """

        size: int = Field(128, ge=1, le=128)

    title = "1,870 gray photographs and early visual cortex, one person, 4 T (Kay et al., 2008, as handed out for teaching)"
    PICTURES: ClassVar[Mapping[str, int]] = {"stimuli": 1750, "stimuli_test": 120}
    RESPONSES: ClassVar[tuple[str, ...]] = ("responses", "responses_test")
    SIDE: ClassVar[int] = 128
    VOXELS: ClassVar[int] = 8428
    LEVELS: ClassVar[int] = 4  # of names for what a picture shows
    ARRAYS: ClassVar[str] = "kay_images.npz"
    NAMES: ClassVar[tuple[str, ...]] = ("kay_labels.npy", "kay_labels_val.npy")
    SOURCES: ClassVar[Mapping[str, str]] = {
        "kay_images.npz": "https://osf.io/ymnjv/download",
        "kay_labels.npy": "https://osf.io/r638s/download",
        "kay_labels_val.npy": "https://osf.io/yqb3e/download",
    }

    config: Config

    @classmethod
    def fetch(cls, root: Path | str, sources: Mapping[str, str] | None = None) -> Path:
        """Download the files that are not there yet, and write down the checksums of all.

        Arguments:
            root: The folder for them.
            sources: Address of each file; where the course hands them out, where absent.

        Raises:
            CortexflowError: An address could not be reached.
            DamagedFileError: A file that is there already is not the one that was downloaded, or lacks what it should have.
        """
        root = Path(root)
        for name, address in (cls.SOURCES if sources is None else sources).items():
            download(address, name, root)
        study = cls(root=root)
        study.names(torch.arange(1))  # a page that says sorry is no array
        study.trials("subj01")
        record(root, cls.SOURCES)
        return root

    @property
    def subjects(self) -> tuple[str, ...]:
        """One person of the two in the study; the course does not say which."""
        return ("subj01",)

    def trials(self, subject: str) -> Trials:
        """One row per picture, the fitting pictures first; z-scored amplitudes.

        Raises:
            CortexflowError: No such subject, or a file is missing.
            DamagedFileError: A file is not the one that was downloaded, or has not the documented arrays.
        """
        self.check_subject(subject)
        responses = torch.from_numpy(np.concatenate([self._responses(name) for name in self.RESPONSES]))
        stimuli = torch.arange(len(responses))
        once = torch.zeros_like(stimuli)
        return Trials(subject, stimuli, once, once, responses, "BOLD amplitude, mean over showings, z-scored by the publisher")

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """These photographs, gray.

        Raises:
            CortexflowError: An id is none of the study's, or the size does not divide 128.
        """
        return self._pictures[self._ids(stimuli), None].expand(-1, 3, -1, -1).contiguous()

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The study's own 120 test pictures."""
        first, more = self.PICTURES.values()
        return torch.arange(first, first + more)

    def cortex(self, subject: str) -> Cortex:
        """Seven areas, which do not overlap and cover all voxels: the others were left out by the publisher."""
        self.check_subject(subject)
        labels, names = self._array("roi", (self.VOXELS,)), self._array("roi_names", None)
        if labels.dtype.kind not in "iuf" or not set(np.unique(labels)) <= set(range(len(names))):
            raise self._damaged(f"has areas numbered {np.unique(labels)[:9].tolist()} where it names {len(names)}")
        areas = {str(name): torch.from_numpy(labels == number) for number, name in enumerate(names)}
        return Cortex(subject, self.VOXELS, {name: mask for name, mask in areas.items() if mask.any()})

    def names(self, stimuli: Int[Tensor, " stimuli"]) -> list[tuple[str, ...]]:
        """What a network took each picture for: three levels of WordNet from the widest on, and the network's own class.

        Nobody looked at these names; a network trained on ImageNet gave them, and many are wrong.
        """
        parts = [self._names(file, count) for file, count in zip(self.NAMES, self.PICTURES.values(), strict=True)]
        every = np.concatenate(parts, axis=1)
        return [tuple(str(name) for name in every[:, number]) for number in self._ids(stimuli).tolist()]

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file, and the size of the pictures."""
        return {name: checksum(self._file(name)) for name in self.SOURCES} | {"image size": str(self.config.size)}

    def check(self) -> list[Check]:
        """The files, what a run asks of them, and whether every response is a number."""
        return [*super().check(), Check.of("responses", self._finite)]

    def _finite(self) -> str:
        broken = int((~torch.isfinite(self.trials("subj01").responses)).any(0).sum())
        if broken:
            raise CortexflowError(f"{broken} voxels have responses that are not finite; drop them with usable_voxels before a fit")
        return "all finite"

    @cached_property
    def _pictures(self) -> UInt8[Tensor, "stimuli height width"]:
        if self.SIDE % self.config.size:
            raise CortexflowError(
                f"size must divide {self.SIDE}, {self.config.size} does not; choose {self.SIDE}, {self.SIDE // 2}, {self.SIDE // 4} …"
            )
        parts = [self._array(name, (count, self.SIDE, self.SIDE)) for name, count in self.PICTURES.items()]
        grays = np.concatenate(parts).astype(np.float32)
        low, high = grays.min(), grays.max()
        if not np.isfinite(low + high) or low == high:
            raise self._damaged("has pictures without any contrast, or with pixels that are not numbers")
        step = self.SIDE // self.config.size
        squares = grays.reshape(len(grays), self.config.size, step, self.config.size, step).mean((2, 4))
        return torch.from_numpy(np.rint((squares - low) * (255 / (high - low))).astype(np.uint8))

    def _responses(self, name: str) -> Shaped[np.ndarray, "trials voxels"]:
        count = self.PICTURES[name.replace("responses", "stimuli")]
        return self._array(name, (count, self.VOXELS)).astype(np.float32, copy=False)

    def _names(self, file: str, count: int) -> Shaped[np.ndarray, "levels stimuli"]:
        path = self._file(file)
        with readable(path):
            names = np.load(path, allow_pickle=False)
        if names.shape != (self.LEVELS, count):
            raise DamagedFileError(f"{path} has shape {names.shape} where the study has {(self.LEVELS, count)}; delete it and fetch the study again")
        return names

    def _array(self, key: str, shape: tuple[int, ...] | None) -> np.ndarray:
        """One array of the file that has them all; the others are not read."""
        path = self._file(self.ARRAYS)
        with readable(path), np.load(path, allow_pickle=False) as arrays:
            found = [arrays[name] for name in arrays.files if name == key]
        if not found:
            raise self._damaged(f"has no array {key!r}")
        if shape is not None and found[0].shape != shape:
            raise self._damaged(f"has {key} of shape {found[0].shape} where the study has {shape}")
        return found[0]

    def _ids(self, stimuli: Int[Tensor, " stimuli"]) -> Int[Tensor, " stimuli"]:
        count = sum(self.PICTURES.values())
        wrong = stimuli[(stimuli < 0) | (stimuli >= count)]
        if len(wrong):
            raise CortexflowError(f"kay2008 has stimuli 0 to {count - 1}, {int(wrong[0])} was asked; ask for ids of its trials")
        return stimuli

    def _damaged(self, what: str) -> DamagedFileError:
        return DamagedFileError(f"{self._file(self.ARRAYS)} {what}; delete it and fetch the study again")

    @cached_property
    def _found(self) -> dict[str, Path]:
        """Files whose checksum was compared already: it takes longer than reading them."""
        return {}

    def _file(self, name: str) -> Path:
        if name not in self._found:
            remedy = "fetch the study with: cortexflow data fetch kay2008 --to DIR"
            self._found[name] = published("kay2008", self.root, name, remedy, recorded(self.root).get(name))
        return self._found[name]
