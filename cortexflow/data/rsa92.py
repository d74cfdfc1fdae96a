"""How similar 92 objects are to inferior-temporal cortex, to models of vision and to people: dissimilarities, no responses."""

from pathlib import Path
from typing import ClassVar, NoReturn

import numpy as np
import scipy.io
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from cortexflow.data.base import Cortex, Dataset, Trials
from cortexflow.data.on_disk.published import published
from cortexflow.errors import CortexflowError
from cortexflow.storage import checksum


class Rsa92(Dataset):
    """Representational dissimilarity matrices (RDMs) of 92 object pictures, each 92 × 92, symmetric, 0 on the diagonal.

    Entries are correlation distances (1 - r) for cortex and models, and judged distances for behaviour; ranks compare them.
    The objects are in the same order everywhere, see :attr:`categories`. The responses and the pictures are not part of the
    publication, so that :meth:`trials`, :meth:`images` and :meth:`cortex` raise.

    Known figures: the Spearman correlation of the 4,186 pairs of a model with those of a subject (mean of the two
    sessions), then the mean over the four subjects, is .386 for animacy, .296 for monkey IT, .160 for HMAX and .027 for V1.
    The noise ceiling is .377 to .672 (Pearson correlation of a subject's ranks with the mean ranks of the other three, and
    of all four). Macaque and human IT correlate .439.

    References:
        Matching categorical object representations in inferior temporal cortex of man and monkey (Kriegeskorte et al., 2008).
        Object category structure in response patterns of neuronal population in monkey inferior temporal cortex (Kiani et
        al., 2007).
        rsagroup/rsatoolbox, commit f1f83cad, ``demos/92imageData`` (MIT licence).
    """

    title = "92 objects in human and monkey IT: dissimilarities of 4 people, 674 neurons and 8 models (Kriegeskorte et al., 2008)"
    SESSIONS: ClassVar[int] = 2
    PEOPLE: ClassVar[int] = 16  # who judged similarity
    OBJECTS: ClassVar[int] = 92
    CATEGORIES: ClassVar[dict[str, tuple[tuple[int, int], ...]]] = {  # first object, and the one after the last
        "animate": ((0, 48),),
        "inanimate": ((48, 92),),
        "human": ((0, 24),),
        "animal": ((24, 48),),
        "body": ((0, 12), (24, 36)),
        "face": ((12, 24), (36, 48)),
        "natural object": ((48, 71),),
        "artificial object": ((71, 92),),
    }
    FILES: ClassVar[dict[str, str]] = {
        "92_brainRDMs.mat": "1743f90a15e895798a94318649e80e1123a7e5943a1703fa1dd7c31ea5780b7c",
        "92_modelRDMs.mat": "e1d2b58bb2f9508bc13da4c81b94d1ab07823b25ed30b9563bd9d6d730c2a00a",
        "92_behavRDMs.mat": "7a8e118c144c3840adeeeef6ea0706a0be2b3e80df719af15fbb56fc62562f5f",
    }

    @property
    def subjects(self) -> tuple[str, ...]:
        """The four people in the scanner, by their initials in the files."""
        return ("BE", "KO", "SN", "TI")

    def rdms(self, subject: str) -> Float[Tensor, "sessions stimuli stimuli"]:
        """Correlation distances of a person's IT, one matrix per session.

        Raises:
            CortexflowError: No such subject, or a file is missing.
        """
        self.check_subject(subject)
        return torch.stack([matrix for name, matrix in self._read("92_brainRDMs.mat", "RDMs") if f"| {subject} |" in name])

    def models(self) -> dict[str, Float[Tensor, "stimuli stimuli"]]:
        """Eight models by the names of the files: two of categories, monkey IT, and five of pictures."""
        return dict(self._read("92_modelRDMs.mat", "Models"))

    def judgements(self) -> Float[Tensor, "people stimuli stimuli"]:
        """What 16 other people judged when they arranged the objects by similarity (arbitrary scale)."""
        return torch.stack([matrix for _, matrix in self._read("92_behavRDMs.mat", "rdms_behav_92")])

    def human(self) -> Float[Tensor, "stimuli stimuli"]:
        """Human IT (316 voxels): the mean of the four people's two sessions."""
        return torch.stack([matrix for _, matrix in self._read("92_brainRDMs.mat", "RDMs")]).mean(0)

    def macaque(self) -> Float[Tensor, "stimuli stimuli"]:
        """Monkey IT, from 674 neurons of two animals."""
        return self.models()["monkeyIT"]

    @property
    def categories(self) -> dict[str, Bool[Tensor, " stimuli"]]:
        """Which objects belong to each category; an object belongs to several."""
        order = torch.arange(self.OBJECTS)
        inside = {name: [(order >= start) & (order < stop) for start, stop in spans] for name, spans in self.CATEGORIES.items()}
        return {name: torch.stack(spans).any(0) for name, spans in inside.items()}

    def trials(self, subject: str) -> Trials:
        """Raises CortexflowError: there are no responses."""
        self._refuse("responses", "rdms(subject)")

    def _look(self, subject: str) -> str:
        """Dissimilarities of a subject; this study has neither responses nor pictures."""
        rdms = self.rdms(subject)
        return f"{len(rdms)} sessions of dissimilarities between {rdms.shape[-1]} objects, no responses, no pictures"

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """Raises CortexflowError: there are no pictures."""
        self._refuse("pictures", "models() and categories")

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """None: nothing is fitted to these objects."""
        return torch.empty(0, dtype=torch.long)

    def cortex(self, subject: str) -> Cortex:
        """Raises CortexflowError: there are no voxels."""
        self._refuse("voxels", "rdms(subject)")

    def checksums(self) -> dict[str, str]:
        """SHA-256 of every file."""
        return {name: checksum(self._file(name)) for name in self.FILES}

    def _read(self, file: str, variable: str) -> list[tuple[str, Tensor]]:
        """Names and matrices of a MATLAB structure array, subject by subject and session by session."""
        entries = scipy.io.loadmat(self._file(file))[variable].ravel()
        return [(str(entry["name"][0]), torch.from_numpy(np.asarray(entry["RDM"], dtype=np.float32))) for entry in entries]

    def _refuse(self, what: str, instead: str) -> NoReturn:
        raise CortexflowError(f"rsa92 has dissimilarity matrices and no {what}; use {instead} of the dataset, or a study with responses")

    def _file(self, name: str) -> Path:
        remedy = "copy demos/92imageData of https://github.com/rsagroup/rsatoolbox (commit f1f83cad) to DIR/rsa92"
        return published("rsa92", self.root, name, remedy, self.FILES[name])
