"""Response patterns to single images: trials beside synthetic trials, on the flat map or as strips sorted by area."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from cortexflow.data.base import Cortex
from cortexflow.errors import CortexflowError
from cortexflow.report.canvas import DIVERGING, LINE, PAPER, add_bar, area_of, figure_of, new_figure, styled, symmetric
from cortexflow.report.cortex_maps import UNKNOWN, flat_grid

SHOWN = 3  # trials, and samples, beside each other


@dataclass(frozen=True)
class Patterns:
    """What there is to show of a few images.

    Arguments:
        measured: Single trials. A repeat that was not measured is NaN.
        sampled: Synthetic trials, images × samples × voxels.
        predicted: The expectation, images × voxels.
        images: The images themselves, if they may be shown.
        names: A name for each, such as its stimulus id.
        units: Of the responses, in words.
    """

    measured: Float[Tensor, "images repeats voxels"]
    sampled: Float[Tensor, "_ samples _"]
    predicted: Float[Tensor, "_ _"]
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
    """One drawing area with a map at each place: forty small axes would take ten times as long."""
    rows, grid, norms = [patterns.columns(row) for row in range(len(patterns.predicted))], flat_grid(cortex, pixels=190), patterns.norms()
    (height, width), first = grid.voxel.shape, 0.7 if patterns.images is not None else 0.0
    down = -max(height, first * width) * 1.12
    lefts = [width * (first + place * 1.06) for place in _stations(max(rows, key=len))]
    across, total = lefts[-1] + width, len(rows) * -down
    figure = new_figure(12, 12 * total / across + 1.2)
    ax = figure.subplots()
    for row, columns in enumerate(rows):
        middle = (row + 0.5) * down
        if patterns.images is not None:
            _place(ax, patterns.images[row].permute(1, 2, 0).numpy(), 0.0, middle, first * width * 0.84, upside="upper")
        if row < len(patterns.names):
            ax.text(0, middle - down * 0.47, patterns.names[row], fontsize=8, va="bottom")
        for left, (kind, title, values) in zip(lefts, columns, strict=False):
            _place(ax, grid.paint(_colours(values, norms[kind])), left, middle, float(width), upside="lower")
            if row == 0 or len(columns) < len(lefts):
                ax.text(left + width / 2, middle - down * 0.47, title, fontsize=8.5, ha="center", va="bottom")
    ax.set(xlim=(0, across), ylim=(len(rows) * down, 0), aspect="equal", anchor="N")
    ax.set_axis_off()
    _scales(ax, norms, patterns.units, inch=across / 12 / total)
    return figure


def _stations(columns: Sequence[tuple[str, str, Tensor]]) -> list[float]:
    """Where each map stands, in map widths: trials, samples and averages a fifth of a width apart."""
    kinds = [kind for kind, *_ in columns]
    return [place + 0.2 * sum(kinds[one] != kinds[one - 1] for one in range(1, place + 1)) for place in range(len(kinds))]


def _place(ax: Axes, picture: np.ndarray, left: float, middle: float, width: float, upside: Literal["upper", "lower"]) -> None:
    half = width * picture.shape[0] / picture.shape[1] / 2
    ax.imshow(picture, extent=(left, left + width, middle - half, middle + half), origin=upside, interpolation="antialiased")


def _colours(values: Tensor, norm: Normalize) -> np.ndarray:
    shown = values.double().numpy()
    return np.where(np.isfinite(shown)[:, None], matplotlib.colormaps[DIVERGING](norm(np.nan_to_num(shown))), to_rgba(UNKNOWN))


def _strips(patterns: Patterns, cortex: Cortex | None) -> Figure:
    place = area_of(cortex.areas, cortex.voxels) if cortex is not None else torch.zeros(patterns.predicted.shape[1], dtype=torch.long)
    order = torch.argsort(torch.where(place < 0, place.max() + 1, place), stable=True)
    count, first, norms = len(patterns.predicted), int(patterns.images is not None), patterns.norms()
    figure = new_figure(12, 1.8 * count + 0.9)
    axes = figure.subplots(count, 1 + first, squeeze=False, width_ratios=[0.12] * first + [1])
    for row in range(count):
        columns, ax = patterns.columns(row), axes[row, first]
        _picture(axes[row, 0], patterns, row)
        colours = [_colours(values[order], norms[kind]) for kind, _, values in columns]
        # Rows are drawn thick, so that only voxels, of which there may be more than pixels, are smoothed.
        thick, ends = np.repeat(np.stack(colours), 12, axis=0), (-0.5, len(order) - 0.5, len(columns) - 0.5, -0.5)
        ax.imshow(thick, extent=ends, aspect="auto", interpolation="antialiased", interpolation_stage="rgba")
        ax.set_yticks(range(len(columns)), [title for _, title, _ in columns])
        for line in range(1, len(columns)):
            ax.axhline(line - 0.5, color=PAPER, linewidth=4 if columns[line][0] != columns[line - 1][0] else 1)
        _areas_below(ax, place[order], list(cortex.areas) if cortex is not None else [], named=row == count - 1)
    _scales(axes[-1, first], norms, patterns.units, inch=1 / 1.6)
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
        ax.axvline(end - 0.5, color=LINE, linewidth=0.7)
    words = [names[number] if 0 <= number < len(names) else "other" * bool(names) for number in numbers.tolist()]
    ax.set_xticks((ends - counts / 2 - 0.5).tolist() if named else [], words if named else [])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _scales(ax: Axes, norms: Mapping[str, Normalize], units: str, inch: float) -> None:
    """Two colour bars below; ``inch`` is the share of the height of the axes that an inch has."""
    for left, kind, title in ((0.1, "trial", "trials and samples"), (0.6, "average", "averages")):
        colours, place = ScalarMappable(norms[kind], matplotlib.colormaps[DIVERGING]), ax.inset_axes((left, -0.4 * inch, 0.3, 0.1 * inch))
        add_bar(figure_of(ax), colours, None, f"{title} ({units})" if units else title, cax=place, location="bottom", extend="both")
