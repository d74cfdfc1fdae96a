r"""Category areas from a localiser: blocks of pictures of one category each, a t map per category, a threshold.

Per voxel the block responses follow a linear model with one mean per category and one shift per run,

.. math:: y = X \beta + \varepsilon, \quad t_c = \frac{c^\top \hat\beta}{\sqrt{\hat\sigma^2 \, c^\top (X^\top X)^{-1} c}},

where the contrast c weighs one category 1 and every other category :math:`-1 / (k - 1)`. A study that ships such t maps needs only
:func:`masks`.

References:
    Temporal processing capacity in high-level visual cortex is domain specific (Stigliani, Weiner and Grill-Spector, 2015).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cortexflow.data.base import Trials
from cortexflow.errors import CortexflowError

THRESHOLD = 3.0  # t


@dataclass(frozen=True)
class Blocks:
    """What a localiser measured.

    Arguments:
        trials: One row per block; ``sessions`` are the runs, ``stimuli`` number the blocks.
        labels: The category of each block.
    """

    trials: Trials
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        _same_length(self.trials.responses, self.labels)

    def t_maps(self) -> dict[str, Float[Tensor, " voxels"]]:
        """See :func:`localise`."""
        return localise(self.trials.responses, self.labels, self.trials.sessions)


def localise(
    responses: Float[Tensor, "blocks voxels"], labels: Sequence[str], runs: Int[Tensor, " blocks"] | None = None
) -> dict[str, Float[Tensor, " voxels"]]:
    """A t map for each category against all other categories.

    Arguments:
        responses: Of each block, in any unit.
        labels: The category of each block.
        runs: The run of each block; where absent, all are of one run.

    Returns:
        t per category and voxel (no unit), categories in the order in which they come first; NaN for voxels that never change.

    Raises:
        CortexflowError: Fewer than two categories, another number of labels than blocks, responses that are not finite, or too few
            blocks to tell noise from categories and runs.

    Example:
        >>> localise(torch.tensor([[1.0], [3.0], [0.0], [0.0]]), ["face", "face", "house", "house"])["face"]
        tensor([2.])
    """
    _same_length(responses, labels)
    if runs is not None and len(runs) != len(labels):
        raise CortexflowError(f"there are {len(labels)} blocks and {len(runs)} runs; give one run a block")
    if not torch.isfinite(responses).all():
        raise CortexflowError("responses of blocks hold values that are not finite; leave those voxels or blocks out")
    categories = list(dict.fromkeys(labels))
    if len(categories) < 2:
        raise CortexflowError(f"a contrast needs 2 categories, the blocks have {len(categories)}; give blocks of others too")
    design = _design(labels, categories, runs)
    return dict(zip(categories, _contrasts(design, responses.double().numpy(), len(categories)), strict=True))


def masks(t_maps: Mapping[str, Float[Tensor, " voxels"]], threshold: float = THRESHOLD) -> dict[str, Bool[Tensor, " voxels"]]:
    """The voxels of each category: t above a threshold; a voxel may belong to several.

    Arguments:
        t_maps: From :func:`localise`, or as a study ships them.
        threshold: Of t.
    """
    return {category: values > threshold for category, values in t_maps.items()}


def _same_length(responses: Tensor, labels: Sequence[str]) -> None:
    if len(labels) != len(responses):
        raise CortexflowError(f"there are {len(responses)} blocks and {len(labels)} labels; give one label a block")


def _design(labels: Sequence[str], categories: list[str], runs: Tensor | None) -> Float[np.ndarray, "blocks columns"]:
    """One column per category, then one per run but the first, with mean 0 so that the means of categories stay what they are."""
    columns = [np.array([label == category for label in labels], dtype=np.float64) for category in categories]
    for run in [] if runs is None else torch.unique(runs)[1:].tolist():
        column = (runs == run).double().numpy() if runs is not None else np.zeros(len(labels))
        columns.append(column - column.mean())
    return np.stack(columns, axis=1)


def _contrasts(design: np.ndarray, responses: np.ndarray, categories: int) -> list[Float[Tensor, " voxels"]]:
    blocks, columns = design.shape
    if np.linalg.matrix_rank(design) < columns or blocks <= columns:
        need = f"{blocks} blocks cannot tell {categories} categories and {columns - categories + 1} runs from noise"
        raise CortexflowError(f"{need}; give more blocks, and every category in more than one run")
    inverse = np.linalg.inv(design.T @ design)
    betas = inverse @ design.T @ responses
    variance = ((responses - design @ betas) ** 2).sum(axis=0) / (blocks - columns)
    varies = responses.std(axis=0) > 0
    maps = []
    for category in range(categories):
        contrast = np.zeros(columns)
        contrast[:categories] = -1 / (categories - 1)
        contrast[category] = 1
        error = np.sqrt(variance * (contrast @ inverse @ contrast))
        with np.errstate(divide="ignore", invalid="ignore"):
            maps.append(torch.from_numpy(np.where(varies, contrast @ betas / error, np.nan).astype(np.float32)))
    return maps
