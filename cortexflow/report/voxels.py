"""One number per voxel: how close each comes to its ceiling, and how far all are from chance."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from cortexflow.metrics.nulls import derangement
from cortexflow.metrics.voxelwise import correlation
from cortexflow.report.canvas import INK, KINDS, MUTED, PAPER, area_colours, area_of, axes_of, ceil_to, figure_of, styled

BINS = 12  # of the ceiling, for the running medians
FEWEST = 8  # voxels in a bin with a median worth drawing


@styled
def plot_r_vs_ceiling(
    r: Float[Tensor, " voxels"],
    ceiling: Float[Tensor, " voxels"],
    areas: Mapping[str, Bool[Tensor, " voxels"]] | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """Each voxel's r against the highest r that any model could reach, with the running median of each area.

    Arguments:
        r: Correlation across images, one per voxel, in [−1, 1].
        ceiling: The noise ceiling in units of r (the square root of a ceiling in explained variance). Voxels with NaN are not drawn.
        areas: Area masks by name; they give the colours.
        ax: Where to draw; a new figure by default.
    """
    ax, areas = axes_of(ax, 5.6, 4.4), dict(areas or {})
    known = torch.isfinite(r) & torch.isfinite(ceiling)
    place, colours = area_of(areas, len(r)), list(area_colours(areas).values())
    # Many voxels become small and faint: what is to be seen is the cloud, not the last voxel drawn.
    dot = {"s": float(np.clip(9000 / max(int(known.sum()), 1), 2, 14)), "alpha": 0.55, "linewidths": 0, "rasterized": True}
    for number, colour in [(-1, MUTED), *enumerate(colours)]:
        here = known & (place == number)
        ax.scatter(ceiling[here].numpy(), r[here].numpy(), color=colour, **dot)  # type: ignore[arg-type]
    top = ceil_to(float(torch.cat([r[known], ceiling[known]]).max())) if known.any() else 1.0
    ax.plot([0, top], [0, top], color=INK, linewidth=1, linestyle=(0, (5, 3)), label="ceiling")
    ax.axhline(0, color=MUTED, linewidth=0.7)
    for name, mask in areas.items():
        _running_median(ax, ceiling[known & mask], r[known & mask], area_colours(areas)[name], name)
    ax.set(xlabel="noise ceiling (r)", ylabel="r across images", xlim=(0, top), ylim=(_floor(r[known]), top))
    ax.legend(loc="upper left", handlelength=1.4, ncols=1 if len(areas) <= 9 else 2)
    return figure_of(ax)


@styled
def plot_r_histogram(
    r: Float[Tensor, " voxels"],
    shuffled: Float[Tensor, " voxels"],
    ceiling: Float[Tensor, " voxels"] | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    """How r is spread over voxels, beside what the same predictions score when they belong to other images.

    Arguments:
        r: Correlation across images, one per voxel.
        shuffled: The same with predictions of other images: chance, with its spread.
        ceiling: The highest r any model could reach; NaN where unknown.
        ax: Where to draw; a new figure by default.
    """
    ax = axes_of(ax, 5.6, 4.4)
    known = [values[torch.isfinite(values)].numpy() for values in (r, shuffled, ceiling if ceiling is not None else r[:0])]
    every = np.concatenate(known) if any(len(values) for values in known) else np.zeros(1)
    bins = np.linspace(min(-0.1, float(every.min())), max(0.1, float(every.max())), 37).tolist()
    looks: list[dict[str, Any]] = [
        {"label": "this model", "histtype": "stepfilled", "color": KINDS["model"], "alpha": 0.85},
        {"label": "shuffled images", "histtype": "stepfilled", "color": KINDS["null"], "alpha": 0.6},
        {"label": "ceiling", "histtype": "step", "color": INK, "linewidth": 1.1, "linestyle": (0, (5, 3))},
    ]
    for values, look in zip(known, looks, strict=True):
        if len(values):
            ax.hist(values, bins=bins, **look)
    if len(known[0]):
        middle = float(np.median(known[0]))
        ax.axvline(middle, color=KINDS["model"], linewidth=1.2)
        ax.annotate(f"median {middle:.2f}", (middle, 1), xycoords=("data", "axes fraction"), xytext=(3, -2), textcoords="offset points", va="top")
    ax.set(xlabel="r across images", ylabel="voxels")
    if ax.patches:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=3, handlelength=1.2, columnspacing=1.2)
    return figure_of(ax)


def shuffled_r(predicted: Float[Tensor, "images voxels"], measured: Float[Tensor, "images voxels"], seed: int = 0) -> Float[Tensor, " voxels"]:
    """The r of each voxel when every prediction is held against another image's response: what chance looks like here.

    Arguments:
        predicted: Predictions, rows in the order of ``measured``.
        measured: Responses, in any unit.
        seed: Of the order of the images.

    Returns:
        One r per voxel.
    """
    order = derangement(len(measured), torch.Generator().manual_seed(seed))
    return correlation(predicted[order], measured)


def _running_median(ax: Axes, ceiling: Tensor, r: Tensor, colour: str, name: str) -> None:
    bin_of = (ceiling.clamp(0, 1) * BINS).long().clamp(max=BINS - 1)
    full = [number for number in range(BINS) if int((bin_of == number).sum()) >= FEWEST]
    x = [float(ceiling[bin_of == number].median()) for number in full]
    y = [float(r[bin_of == number].median()) for number in full]
    ax.plot(x, y, color=colour, linewidth=2.2, label=name, path_effects=[withStroke(linewidth=4, foreground=PAPER)])


def _floor(r: Tensor) -> float:
    return min(-0.1, -ceil_to(-float(r.min()))) if len(r) and float(r.min()) < 0 else -0.1
