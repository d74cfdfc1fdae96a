"""Response patterns to single images: trials beside synthetic trials, on the flat map or as strips sorted by area."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from cortexflow.data.base import Cortex
from cortexflow.errors import CortexflowError
from cortexflow.report.canvas import DIVERGING, INK, PAPER, add_bar, area_of, new_figure, styled, symmetric
from cortexflow.report.cortex_maps import flat_grid, plot_flatmap

SHOWN = 3  # trials, and samples, beside each other


@dataclass(frozen=True)
class Patterns:
    """What there is to show of a few images.

    Arguments:
        measured: Single trials. A repeat that was not measured is NaN.
        sampled: Synthetic trials.
        predicted: The expectation.
        images: The images themselves, if they may be shown.
        names: A name for each, such as its stimulus id.
        units: Of the responses, in words.
    """

    measured: Float[Tensor, "images repeats voxels"]
    sampled: Float[Tensor, "images samples voxels"]
    predicted: Float[Tensor, "images voxels"]
    images: UInt8[Tensor, "images 3 height width"] | None = None
    names: Sequence[str] = ()
    units: str = ""

    def __post_init__(self) -> None:
        sizes = {(len(part), part.shape[-1]) for part in (self.measured, self.sampled, self.predicted)}
        if len(sizes) > 1:
            raise CortexflowError(f"patterns have different images × voxels: {sorted(sizes)}; take the same images and voxels for all")

    def columns(self, row: int) -> list[tuple[str, str, Float[Tensor, " voxels"]]]:
        """What to show of one image, from left to right: kind (trial, sample or average), title, responses.

        The mean of the trials stands beside the expectation: both have less noise than a trial, and a sample has as much.
        """
        trials = [trial for trial in self.measured[row] if torch.isfinite(trial).any()]
        shown = [("trial", f"trial {place + 1}", trial) for place, trial in enumerate(trials[:SHOWN])]
        shown += [("sample", f"sample {place + 1}", sample) for place, sample in enumerate(self.sampled[row][:SHOWN])]
        if len(trials) > 1:
            shown.append(("average", f"mean of {len(trials)}", torch.stack(trials).nanmean(0)))
        return [*shown, ("average", "expectation", self.predicted[row])]

    def norms(self) -> dict[str, Normalize]:
        """One scale for trials and samples, one for averages, which would look empty on the first."""
        one = symmetric(self.measured)
        return {"trial": one, "sample": one, "average": symmetric(self.measured.nanmean(1))}


@styled
def plot_samples(patterns: Patterns, cortex: Cortex | None = None) -> Figure:
    """Each image with its measured trials, synthetic trials, the mean of its trials and the expectation.

    Arguments:
        patterns: The responses.
        cortex: Areas, and the flat map where there is one; without a flat map the patterns are strips sorted by area.

    Returns:
        One row per image. Trials and samples should be equally rough; the expectation is as smooth as the mean of many.
    """
    return _maps(patterns, cortex) if cortex is not None and cortex.flat is not None else _strips(patterns, cortex)


def _maps(patterns: Patterns, cortex: Cortex) -> Figure:
    rows = [patterns.columns(row) for row in range(len(patterns.predicted))]
    kinds = [kind for kind, *_ in max(rows, key=len)]
    first, grid, norms = int(patterns.images is not None), flat_grid(cortex, pixels=190), patterns.norms()
    # A narrow empty column stands between trials, samples and averages.
    starts = [place + sum(1 for one in range(1, place + 1) if kinds[one] != kinds[one - 1]) for place in range(len(kinds))]
    widths = [0.6] * first + [1.0 if place in starts else 0.16 for place in range(starts[-1] + 1)]
    shape = grid.voxel.shape[0] / grid.voxel.shape[1]
    figure = new_figure(12, 12 / sum(widths) * max(shape, 0.62 * first) * len(rows) * 1.08 + 0.85, w_pad=0.015, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, columns in enumerate(rows):
        _picture(axes[row, 0], patterns, row)
        for place, (kind, title, values) in enumerate(columns):
            ax, limit = axes[row, first + starts[place]], float(norms[kind].vmax or 1)
            plot_flatmap(values, cortex, signed=True, limit=limit, outlines=False, colorbar=False, grid=grid, ax=ax)
            ax.set_title(title if row == 0 or len(columns) != len(kinds) else "", loc="center", fontsize=8.5)
    _scales(figure, axes, norms, patterns.units)
    return figure


def _strips(patterns: Patterns, cortex: Cortex | None) -> Figure:
    place = area_of(cortex.areas, cortex.voxels) if cortex is not None else torch.zeros(patterns.predicted.shape[1], dtype=torch.long)
    order = torch.argsort(torch.where(place < 0, place.max() + 1, place), stable=True)
    count, first, norms = len(patterns.predicted), int(patterns.images is not None), patterns.norms()
    figure = new_figure(12, 1.8 * count + 0.9)
    axes = figure.subplots(count, 1 + first, squeeze=False, width_ratios=[0.12] * first + [1])
    for row in range(count):
        columns, ax = patterns.columns(row), axes[row, first]
        _picture(axes[row, 0], patterns, row)
        cmap = matplotlib.colormaps[DIVERGING]
        colours = [cmap(norms[kind](values[order].double().numpy())) for kind, _, values in columns]
        ax.imshow(np.stack(colours), aspect="auto", interpolation="antialiased", interpolation_stage="rgba")
        ax.set_yticks(range(len(columns)), [title for _, title, _ in columns])
        for line in range(1, len(columns)):
            ax.axhline(line - 0.5, color=PAPER, linewidth=4 if columns[line][0] != columns[line - 1][0] else 1)
        _areas_below(ax, place[order], list(cortex.areas) if cortex is not None else [], named=row == count - 1)
    _scales(figure, axes, norms, patterns.units)
    return figure


def _picture(ax: Axes, patterns: Patterns, row: int) -> None:
    if patterns.images is None:
        return
    ax.imshow(patterns.images[row].permute(1, 2, 0).numpy(), interpolation="antialiased")
    ax.set_axis_off()
    if row < len(patterns.names):
        ax.set_title(patterns.names[row], loc="center", fontsize=8.5)


def _areas_below(ax: Axes, place: Tensor, names: list[str], named: bool) -> None:
    numbers, counts = torch.unique_consecutive(place, return_counts=True)
    ends = counts.cumsum(0)
    for end in ends[:-1].tolist():
        ax.axvline(end - 0.5, color=INK, linewidth=0.7)
    words = [names[number] if 0 <= number < len(names) else "other" * bool(names) for number in numbers.tolist()]
    ax.set_xticks((ends - counts / 2 - 0.5).tolist() if named else [], words if named else [])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _scales(figure: Figure, axes: np.ndarray, norms: Mapping[str, Normalize], units: str) -> None:
    middle = axes.shape[1] // 2
    halves = [("trial", "trials and samples", axes[:, :middle]), ("average", "averages", axes[:, middle:])]
    if axes.shape[1] < 3:
        halves = [(kind, title, axes) for kind, title, _ in halves]
    for kind, title, part in halves:
        colours = ScalarMappable(norms[kind], matplotlib.colormaps[DIVERGING])
        label = f"{title} ({units})" if units else title
        add_bar(figure, colours, list(part.flat), label, location="bottom", shrink=0.45, aspect=32, pad=0.02, extend="both")
