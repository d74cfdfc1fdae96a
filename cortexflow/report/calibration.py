"""Whether samples spread as much as trials do, and how scores grow with the number of samples averaged."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.report.canvas import INK, KINDS, MUTED, axes_of, figure_of, new_figure, styled


@styled
def plot_calibration(
    pit: Float[Tensor, " bins"] | Int[Tensor, " bins"] | None = None,
    levels: Float[Tensor, " levels"] | None = None,
    coverage: Float[Tensor, " levels"] | None = None,
) -> Figure:
    """Two views of one question: does the measured trial fall where the model says it falls?

    Arguments:
        pit: Counts of the rank of each measured response among samples (probability integral transform), in equal bins from 0 to 1.
            Flat: calibrated. A hump: samples vary too much. A valley: too little.
        levels: The share of trials that an interval promises to hold, in [0, 1].
        coverage: The share that it holds.

    Raises:
        CortexflowError: Neither the ranks nor the coverage were given.
    """
    views: list[Callable[[Axes], None]] = []
    if pit is not None:
        views.append(partial(_ranks, pit=pit))
    if levels is not None and coverage is not None:
        views.append(partial(_coverage, levels=levels, coverage=coverage))
    if not views:
        raise CortexflowError("there is no calibration to draw; give `pit`, or `levels` and `coverage`")
    figure = new_figure(3.8 * len(views), 3.3)
    for ax, view in zip(figure.subplots(1, len(views), squeeze=False)[0], views, strict=True):
        view(ax)
    return figure


@styled
def plot_by_samples(counts: Float[Tensor, " counts"] | Int[Tensor, " counts"], r: Float[Tensor, " counts"], *, ax: Axes | None = None) -> Figure:
    """Median r against how many samples were averaged: one sample is a trial, many are the expectation.

    Arguments:
        counts: Samples averaged.
        r: The score of that average.
        ax: Where to draw; a new figure by default.
    """
    ax = axes_of(ax, 3.8, 3.3)
    ax.plot(counts.numpy(), r.numpy(), color=KINDS["model"], marker="o", markersize=4)
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts.tolist(), [f"{int(count)}" for count in counts.tolist()])
    ax.minorticks_off()
    ax.set(xlabel="samples averaged", ylabel="r across images (median)", ylim=(min(0.0, 1.1 * float(r.min())), None), title="averaging samples")
    ax.grid(axis="y")
    return figure_of(ax)


def _ranks(ax: Axes, pit: Tensor) -> None:
    total, bins = float(pit.sum()), len(pit)
    height = (pit.double() / total * bins).numpy() if total > 0 else pit.double().numpy()
    edges = [(place + 0.5) / bins for place in range(bins)]
    ax.bar(edges, height, width=0.92 / bins, color=KINDS["model"])
    ax.axhline(1, color=INK, linewidth=1, linestyle=(0, (5, 3)))
    ax.set(
        xlabel="rank of the measured trial among samples",
        ylabel="density",
        xlim=(0, 1),
        ylim=(0, max(1.6, 1.08 * float(height.max()))),
        title="ranks (dashed: calibrated)",
    )


def _coverage(ax: Axes, levels: Tensor, coverage: Tensor) -> None:
    ax.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (5, 3)))
    ax.plot(levels.numpy(), coverage.numpy(), color=KINDS["model"], marker="o", markersize=4)
    ax.text(0.04, 0.96, "too wide", transform=ax.transAxes, va="top", color=MUTED)
    ax.text(0.96, 0.04, "too narrow", transform=ax.transAxes, ha="right", color=MUTED)
    ax.set(
        xlabel="share the interval promises",
        ylabel="share of trials it holds",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
        title="coverage of intervals",
    )
