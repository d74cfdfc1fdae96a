"""A picture at each stage of a layered convolutional network, from edges to objects."""

from typing import Annotated

from jaxtyping import Float, UInt8
from pydantic import AfterValidator, Field, PositiveInt
from torch import Tensor
from torch.nn import functional

from cortexflow.catalog import Choices
from cortexflow.errors import CortexflowError
from cortexflow.features.base import NetworkFeatures, check_once


class Resnet(NetworkFeatures):
    """The answer of each stage as a level, ``stage1`` to ``stage4``, averaged over the cells of a small grid.

    Columns run over channels, and within a channel over the grid from top left to bottom right.
    """

    class Config(Choices):
        """Choices of ResNet features.

        Arguments:
            model: "mini", "resnet-50", or a folder.
            stages: Which stages; 0 is what enters the first.
            grid: Cells along each side; a stage with fewer places keeps them all.
        """

        model: str = "mini"
        stages: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(check_once)] = (1, 2, 3, 4)
        grid: PositiveInt = 4

    config: Config
    revision = "1"
    kind = "resnet"

    def extract(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """The chosen stages, in their order.

        Raises:
            CortexflowError: A stage that the network does not have.
        """
        maps = self.on(images.device)(self.preprocessing(images), output_hidden_states=True).hidden_states
        if max(self.config.stages) >= len(maps):
            raise CortexflowError(f"{self.config.model} has stages 0 to {len(maps) - 1}, stage {max(self.config.stages)} was asked; choose of those")
        return {f"stage{stage}": self._pooled(maps[stage]) for stage in self.config.stages}

    def _pooled(self, maps: Float[Tensor, "stimuli channels rows columns"]) -> Float[Tensor, "stimuli _"]:
        rows, columns = (min(self.config.grid, side) for side in maps.shape[-2:])
        return functional.adaptive_avg_pool2d(maps, (rows, columns)).flatten(1)
