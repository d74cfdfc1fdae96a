"""Studies whose pictures are crops of COCO's photographs: what is in them and what people said of them."""

from abc import abstractmethod
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from cortexflow.data.base import Dataset
from cortexflow.data.nsd_layout.coco.annotations import Said, checked, drawn, said
from cortexflow.data.nsd_layout.coco.drawn import Drawn
from cortexflow.data.nsd_layout.design import StimulusTable


class AnnotatedDataset(Dataset):
    """Annotations by stimulus id, at the size of the study's pictures, as :class:`cortexflow.data.scenes.Scenes` has them.

    Captions are of the whole photograph, categories and outlines of what the crop left. The files are COCO's own and lie in
    ``coco`` in the study's folder; the first use reads them all, later ones what was kept of them.

    References:
        Microsoft COCO: common objects in context (Lin et al., 2014). Annotations are under CC BY 4.0.
    """

    @property
    @abstractmethod
    def table(self) -> StimulusTable:
        """The photograph and the crop of each picture."""

    @property
    @abstractmethod
    def picture_size(self) -> tuple[int, int]:
        """Height and width of the pictures in pixels."""

    def captions(self, stimuli: Int[Tensor, " stimuli"]) -> list[list[str]]:
        """What five people or more said of each photograph.

        Raises:
            CortexflowError: The annotations are not there, or have no caption of a picture.
        """
        return self._said.of(stimuli)

    @property
    def category_names(self) -> tuple[str, ...]:
        """The columns of :meth:`categories`, by COCO's numbers; label n of :meth:`segmentation` is entry n - 1.

        Raises:
            CortexflowError: The annotations are not there.
        """
        return self._drawn.categories

    def categories(self, stimuli: Int[Tensor, " stimuli"]) -> Bool[Tensor, "stimuli categories"]:
        """Whether each category is to be seen in each picture: the crop left a quarter or more of the area of one of its objects.

        Raises:
            CortexflowError: The annotations are not there, or say nothing of a picture.
        """
        return torch.from_numpy(self._drawn.present(checked(stimuli)))

    def segmentation(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli height width"]:
        """The category of each pixel, from 1, and 0 where no object was drawn; small objects are in front of large ones.

        Raises:
            CortexflowError: The annotations are not there, or say nothing of a picture.
        """
        maps = [self._drawn.segmentation(picture, self.picture_size) for picture in checked(stimuli)]
        return torch.from_numpy(np.stack(maps) if maps else np.empty((0, *self.picture_size), dtype=np.uint8))

    def masks(self, stimulus: int) -> Bool[Tensor, "objects height width"]:
        """What the crop left of each object, the largest first. COCO's outlines may overlap; a crowd is one object.

        Raises:
            CortexflowError: The annotations are not there, or say nothing of the picture.
        """
        return torch.from_numpy(self._drawn.masks(_one(stimulus), self.picture_size))

    def boxes(self, stimulus: int) -> Int[Tensor, "objects 4"]:
        """Left, top, right and bottom of each of :meth:`masks`, in pixels, right and bottom exclusive; zeros where it has no pixel.

        Raises:
            CortexflowError: The annotations are not there, or say nothing of the picture.
        """
        masks = self.masks(stimulus)
        found = torch.zeros(len(masks), 4, dtype=torch.int64)
        for row, mask in enumerate(masks):
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            if len(rows):
                found[row] = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        return found

    def objects(self, stimulus: int) -> tuple[str, ...]:
        """The category of each object, in the order of :meth:`masks` and :meth:`boxes`.

        Raises:
            CortexflowError: The annotations are not there, or say nothing of the picture.
        """
        names = self.category_names
        return tuple(names[label] for label in self._drawn.labels(_one(stimulus)))

    def shares(self, stimulus: int) -> Float[Tensor, " objects"]:
        """The share of each object's area in the photograph that the crop left, above 0 and at most 1, in the order of :meth:`masks`.

        Raises:
            CortexflowError: The annotations are not there, or say nothing of the picture.
        """
        return torch.from_numpy(self._drawn.shares(_one(stimulus)))

    @cached_property
    def _said(self) -> Said:
        return said(self.place, self.table)

    @cached_property
    def _drawn(self) -> Drawn:
        return drawn(self.place, self.table)


def _one(stimulus: int) -> int:
    return checked(torch.tensor([stimulus]))[0]
