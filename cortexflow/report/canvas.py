"""The look of every picture: one set of colours and one type size, in notebooks, reports and papers.

Every picture is a :class:`matplotlib.figure.Figure` of its own, without pyplot: no display is needed and nothing stays open.
A figure that goes into a page is drawn in four placeholder colours (ink, muted, rule, paper), and :func:`svg` hands those over to the
reader's light or dark theme.
"""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

INK, MUTED, RULE, PAPER = "#1f2430", "#6d7482", "#d4d8df", "#fefefd"
LINE = "#20242f"  # boundaries drawn on colours, dark in every theme
DARK = {INK: "#e4e7ec", MUTED: "#9aa2b1", RULE: "#3a414d", PAPER: "#15181e"}
LIGHT = {INK: INK, MUTED: MUTED, RULE: RULE, PAPER: "#ffffff"}
SEQUENTIAL = "viridis"  # r and its ceiling, from 0; perceptually uniform, and safe for the colour-blind
DIVERGING = "RdBu_r"  # what has a sign: responses, covariances, differences; red is up, as in the field

# Paul Tol's muted scheme, safe for the colour-blind, in an order that keeps neighbours of the hierarchy apart.
AREAS = ("#cc6677", "#44aa99", "#ddaa33", "#6b5fc7", "#2b8a4b", "#aa4499", "#6bb6e0", "#999933", "#a13b6a")
KINDS = {"model": "#2b7bba", "reference": "#e08214", "null": "#8b93a1", "ceiling": INK}

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in the house style and leave the caller's matplotlib settings as they were."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inner


def new_figure(width: float | int, height: float | int, **spacing: Any) -> Figure:
    """An empty figure that belongs to nobody, sizes in inches; ``spacing`` as for matplotlib's constrained layout."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(**spacing), facecolor="white")


def add_bar(figure: Figure, colours: ScalarMappable, axes: Axes | Sequence[Axes] | None, label: str, **place: Any) -> None:
    """A colour bar without a frame beside some axes; ``place`` as for :meth:`matplotlib.figure.Figure.colorbar`."""
    bar = figure.colorbar(colours, ax=axes, **place)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(length=2, color=MUTED)
    bar.set_label(label)


def axes_of(ax: Axes | None, width: float | int, height: float | int) -> Axes:
    """The axes that were given, or those of a new figure."""
    return ax if ax is not None else new_figure(width, height).subplots()


def figure_of(ax: Axes) -> Figure:
    """The outermost figure of some axes."""
    return ax.figure if isinstance(ax.figure, Figure) else ax.figure.figure


def area_colours(names: Mapping[str, object]) -> dict[str, str]:
    """One colour for each area, by its place in the study's order; they come round again after nine."""
    return {name: AREAS[place % len(AREAS)] for place, name in enumerate(names)}


def area_of(areas: Mapping[str, Bool[Tensor, " voxels"]], voxels: int) -> Int[Tensor, " voxels"]:
    """The place of the first area that holds each voxel, or −1.

    Areas may overlap (hV4 and a category-selective patch); a picture can show one colour only.
    """
    place = torch.full((voxels,), -1, dtype=torch.long)
    for number, mask in reversed(list(enumerate(areas.values()))):
        place[mask] = number
    return place


def told_apart(areas: Mapping[str, Bool[Tensor, " voxels"]]) -> dict[str, Bool[Tensor, " voxels"]]:
    """Areas that a picture can show beside each other, in the study's order.

    Left out is what holds two or more other areas whole (a mask that is also an area), and what lies mostly in areas before it (streams
    and rings of eccentricity, where V1 to hV4 are there).
    """
    shown: dict[str, Tensor] = {}
    for name, mask in areas.items():
        inside = sum(bool(other.any()) and not bool((other & ~mask).any()) for title, other in areas.items() if title != name)
        covered = torch.stack(list(shown.values())).any(0) if shown else torch.zeros_like(mask)
        if mask.any() and inside < 2 and int((mask & covered).sum()) <= 0.5 * int(mask.sum()):
            shown[name] = mask
    return shown


def ceil_to(value: float, step: float = 0.1) -> float:
    """The end of an axis: the next whole step that is not below ``value``, and at least one step."""
    return max(step, float(np.ceil(round(value / step, 6)) * step)) if np.isfinite(value) else step


def symmetric(values: Float[Tensor, "..."] | np.ndarray, share: float = 98.0) -> TwoSlopeNorm:
    """A scale around 0 that the most extreme 2 % leave."""
    finite = np.abs(np.asarray(values, dtype=float))
    finite = finite[np.isfinite(finite)]
    limit = float(np.percentile(finite, share)) if finite.size else 1.0
    limit = limit if limit > 0 else 1.0
    return TwoSlopeNorm(0.0, -limit, limit)


def svg(figure: Figure) -> str:
    """The figure as SVG text whose ink and paper follow the reader's theme. Same figure, same text."""
    out = io.BytesIO()
    # Text stays text: it takes the reader's own typeface, and is sharper and smaller than outlines.
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "cortexflow", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", dpi=170, transparent=True, metadata=nothing)
    text = out.getvalue().decode()
    names = {colour: f"var(--{name})" for name, colour in _placeholders().items()}
    for colour, variable in names.items():
        text = text.replace(f": {colour}", f": {variable}").replace(f'"{colour}"', f'"{variable}"')
    style = f"<style>:root{{{_variables(LIGHT)}}}@media (prefers-color-scheme: dark){{:root{{{_variables(DARK)}}}}}{_TYPE}</style>"
    head, tail = text.split("<defs>", 1)
    return f"{head}{style}<defs>{tail}"


_TYPE = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif!important}"


def _placeholders() -> dict[str, str]:
    return {"ink": INK, "muted": MUTED, "rule": RULE, "paper": PAPER}


def _variables(theme: Mapping[str, str]) -> str:
    return ";".join(f"--{name}:{theme[colour]}" for name, colour in _placeholders().items())
