"""Square matrices: how voxels vary together, and how images differ from each other."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.report.canvas import DIVERGING, INK, LINE, MUTED, SEQUENTIAL, add_bar, area_of, axes_of, figure_of, new_figure, styled, symmetric

_COUNTS = LinearSegmentedColormap.from_list("counts", ["#b7d3ea", "#2b7bba", "#0d3557"])


@styled
def plot_covariance(
    measured: Float[Tensor, "voxels voxels"],
    synthetic: Float[Tensor, "others others"],
    place: Int[Tensor, " voxels"] | None = None,
    names: Sequence[str] = (),
) -> Figure:
    """Residual correlations between voxels, measured and synthetic, and entry against entry.

    Arguments:
        measured: Correlations of what repeats of one image do not share, in [−1, 1], voxels sorted by area.
        synthetic: The same of sampled trials.
        place: The number of the area of each voxel, or −1; draws the boundaries.
        names: Area names, by that number.

    Returns:
        A figure of three panels; the third leaves the diagonal out.

    Raises:
        CortexflowError: The two matrices have different sizes.
    """
    if measured.shape != synthetic.shape:
        raise CortexflowError(f"the matrices have {len(measured)} and {len(synthetic)} voxels; take the same voxels for both")
    figure = new_figure(12, 3.9, wspace=0.03)
    axes = figure.subplots(1, 3, width_ratios=[1, 1, 0.95])
    apart = ~torch.eye(len(measured), dtype=torch.bool)
    norm = symmetric(torch.cat([measured[apart], synthetic[apart]]))
    for ax, matrix, title in zip(axes, (measured, synthetic), ("measured trials", "synthetic trials"), strict=False):
        image = ax.imshow(matrix.numpy(), cmap=DIVERGING, norm=norm, interpolation="nearest")
        ax.set_title(title)
        _boundaries(ax, place, names)
    add_bar(figure, image, list(axes[:2]), "residual correlation", shrink=0.85, aspect=22, pad=0.01, extend="both")
    above = torch.ones_like(apart).triu(1)
    _entries(axes[2], measured[above].numpy(), synthetic[above].numpy())
    return figure


@styled
def plot_rdm(
    rdm: Float[Tensor, "stimuli stimuli"],
    labels: Sequence[str] = (),
    *,
    title: str = "",
    label: str = "dissimilarity",
    ax: Axes | None = None,
) -> Figure:
    """A representational dissimilarity matrix; the diagonal, which is 0 by definition, is left white.

    Arguments:
        rdm: Dissimilarities, 1 − r as a rule.
        labels: One name for each stimulus, drawn if there are at most 40.
        title: Above the matrix.
        label: Beside the colour bar.
        ax: Where to draw; a new figure by default.
    """
    ax = axes_of(ax, 4.6, 4.0)
    shown = rdm.double().numpy().copy()
    np.fill_diagonal(shown, np.nan)
    image = ax.imshow(np.ma.masked_invalid(shown), cmap=SEQUENTIAL, interpolation="nearest")
    named = list(labels) if len(labels) == len(shown) <= 40 else []
    ax.set_xticks(range(len(named)), named, rotation=90)
    ax.set_yticks(range(len(named)), named)
    ax.set_title(title)
    ax.spines[:].set_visible(False)
    add_bar(figure_of(ax), image, ax, label, shrink=0.8, aspect=20)
    return figure_of(ax)


def places(areas: Mapping[str, Bool[Tensor, " all"]], total: int, voxels: Int[Tensor, " voxels"]) -> Int[Tensor, " voxels"]:
    """The number of the area of some of the voxels, as :func:`plot_covariance` wants it."""
    return area_of(areas, total)[voxels]


def _boundaries(ax: Axes, place: Int[Tensor, " voxels"] | None, names: Sequence[str]) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    if place is None:
        return
    numbers, counts = torch.unique_consecutive(place, return_counts=True)
    ends = counts.cumsum(0)
    for end in ends[:-1].tolist():
        ax.axhline(end - 0.5, color=LINE, linewidth=0.6)
        ax.axvline(end - 0.5, color=LINE, linewidth=0.6)
    middles = (ends - counts / 2 - 0.5).tolist()
    words = [names[number] if 0 <= number < len(names) else "" for number in numbers.tolist()]
    ax.set_xticks(middles, words)
    ax.set_yticks(middles, words)
    ax.tick_params(length=0)


def _entries(ax: Axes, measured: np.ndarray, synthetic: np.ndarray) -> None:
    both = np.isfinite(measured) & np.isfinite(synthetic)
    x, y = measured[both], synthetic[both]
    limit = float(np.percentile(np.abs(np.concatenate([x, y])), 99.9)) if both.any() else 1.0
    limit = limit or 1.0
    if both.any():
        ends = [[-limit, limit], [-limit, limit]]
        ax.hist2d(x, y, bins=90, range=ends, cmap=_COUNTS, norm=LogNorm(), rasterized=True)
    ax.plot([-limit, limit], [-limit, limit], color=INK, linewidth=1, linestyle=(0, (5, 3)))
    varied = both.any() and x.std() > 0 and y.std() > 0
    score = f"r = {np.corrcoef(x, y)[0, 1]:.2f}" if varied else "r undefined"
    ax.axhline(0, color=MUTED, linewidth=0.6)
    ax.axvline(0, color=MUTED, linewidth=0.6)
    ax.set(xlabel="measured", ylabel="synthetic", title=f"every pair of voxels, {score}", aspect="equal", xlim=(-limit, limit), ylim=(-limit, limit))
