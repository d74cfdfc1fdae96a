"""Scores by area with their intervals, paired differences, and the course of training."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cortexflow.errors import CortexflowError
from cortexflow.report.canvas import INK, KINDS, MUTED, axes_of, figure_of, new_figure, styled
from cortexflow.report.tables import groups, headline, score, short

MARKERS = "osD^vP*X"
REFERENCES = ("#e08214", "#b35806", "#f0b35c", "#8c5109")


@styled
def plot_areas(metrics: Mapping[str, Any], names: Sequence[str] | None = None) -> Figure:
    """Metrics by group of voxels, one panel each; a point is a score, a line its interval, a bar across the ceiling.

    Points and not bars: a bar has to begin at 0, and most of these scores have no 0 worth showing.

    Arguments:
        metrics: The content of ``metrics.json``.
        names: Which metrics; by default those that are taken in more than one group.

    Raises:
        CortexflowError: No metric has a score to draw.
    """
    names = names if names is not None else by_group(metrics)
    if not any(_scored(metrics, name) for name in names):
        raise CortexflowError("no metric has scores in several groups of voxels; name the metrics to draw")
    widest = max(len(_scored(metrics, name)) for name in names)
    across = min((4 if len(names) == 4 else 3) if widest <= 8 else 2 if widest <= 16 else 1, len(names))
    down = -(-len(names) // across)
    figure = new_figure(12 if across == len(names) or len(names) > 2 else 8, 2.7 * down + 0.5)
    axes = figure.subplots(down, across, squeeze=False)
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    looks = row_looks(metrics)
    for ax, name in zip(axes.flat, names, strict=False):
        _panel(ax, metrics, name, looks)
    handles = [Line2D([], [], label=row, linestyle="", markersize=5, **look) for row, look in looks.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)), handletextpad=0.2, columnspacing=1.2)
    return figure


@styled
def plot_differences(metrics: Mapping[str, Any], metric: str | None = None, *, ax: Axes | None = None) -> Figure:
    """Paired differences of one metric with their intervals, by group of voxels; what crosses 0 is undecided.

    Arguments:
        metrics: The content of ``metrics.json``.
        metric: Which metric; by default that of the verdict.
        ax: Where to draw; a new figure by default.
    """
    metric = metric if metric is not None else headline(metrics)[0]
    shown = [one for one in metrics.get("differences") or [] if one["metric"] == metric and _number(one.get("value"))]
    kinds = {row["row"]: row["kind"] for row in metrics["rows"]}
    # A null is far away as a rule, and would squeeze the comparison that is open; the table has it.
    shown = [one for one in shown if kinds.get(one["against"]) != "null"] or shown
    if not shown:
        raise CortexflowError(f"there are no paired differences of {metric}; evaluate with a reference or a null")
    against, looks = list(dict.fromkeys(one["against"] for one in shown)), row_looks(metrics)
    order = [group for group in groups(metrics) if any(one["group"] == group for one in shown)]
    ax = axes_of(ax, 7.4, 1.1 + 0.17 * len(order) * (len(against) + 0.8))
    ax.axvline(0, color=INK, linewidth=1)
    for one in shown:
        y = order.index(one["group"]) + _dodge(against.index(one["against"]), len(against))
        _whisker(ax, y, one, looks.get(one["against"], _look("reference", 0)), one["against"], upright=False)
    ax.set_yticks(range(len(order)), order)
    ax.invert_yaxis()
    ax.set(xlabel=f"difference in {short(metrics, metric)}")
    handles = [Line2D([], [], label=f"against {row}", linestyle="", markersize=5, **looks.get(row, _look("reference", 0))) for row in against]
    figure_of(ax).legend(handles=handles, loc="outside upper left", ncols=3, handletextpad=0.2, columnspacing=1.2)
    return figure_of(ax)


@styled
def plot_training(epochs: Sequence[Mapping[str, Any]], *, label: str = "loss", ax: Axes | None = None) -> Figure:
    """Training and validation loss by epoch; the ring is the epoch with the lowest validation loss.

    Arguments:
        epochs: The lines of ``metrics.jsonl``: ``epoch``, ``training``, ``validation``. Other lines are left out.
        label: The loss, with its unit.
        ax: Where to draw; a new figure by default.
    """
    ax = axes_of(ax, 7.4, 3.2)
    for name, colour in (("training", KINDS["null"]), ("validation", KINDS["model"])):
        points = [(one["epoch"], one[name]) for one in epochs if _number(one.get("epoch")) and _number(one.get(name))]
        if not points:
            continue
        ax.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=3, label=name)
        if name == "validation":
            lowest = min(points, key=lambda point: point[1])
            ax.plot(*lowest, marker="o", markersize=10, markerfacecolor="none", markeredgecolor=INK, linestyle="")
            ax.annotate(f"epoch {lowest[0]}", lowest, xytext=(0, 9), textcoords="offset points", ha="center")
    ax.set(xlabel="epoch", ylabel=label)
    ax.grid(axis="y")
    if ax.lines:
        ax.legend(loc="upper right")
    return figure_of(ax)


def row_looks(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each row, by its kind and its place among that kind; the same in every picture."""
    kinds = {row["row"]: row["kind"] for row in metrics["rows"]}
    of_kind: dict[str, list[str]] = {}
    for row, kind in kinds.items():
        of_kind.setdefault(kind, []).append(row)
    return {row: _look(kind, of_kind[kind].index(row)) for row, kind in kinds.items()}


def by_group(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics that have scores in more than one group of voxels."""
    return [name for name in metrics["metrics"] if len(_scored(metrics, name)) > 1]


def _scored(metrics: Mapping[str, Any], name: str) -> list[str]:
    found = {row["group"] for row in metrics["rows"] if score(row, name)}
    return [group for group in groups(metrics) if group in found]


def _look(kind: str, place: int) -> dict[str, Any]:
    if kind == "ceiling":
        return {"marker": "_", "color": INK}
    colour = REFERENCES[place % len(REFERENCES)] if kind == "reference" else KINDS.get(kind, MUTED)
    return {"marker": MARKERS[place % len(MARKERS)], "color": colour}


def _panel(ax: Axes, metrics: Mapping[str, Any], name: str, looks: Mapping[str, dict[str, Any]]) -> None:
    order, about = _scored(metrics, name), metrics["metrics"][name]
    dodged = [row for row in looks if looks[row]["marker"] != "_"]
    for row in metrics["rows"]:
        own = score(row, name)
        if own is None:
            continue
        x = order.index(row["group"])
        if row["kind"] == "ceiling":
            ax.hlines(own["value"], x - 0.42, x + 0.42, color=INK, linewidth=1.3)
            continue
        _whisker(ax, x + _dodge(dodged.index(row["row"]), len(dodged)), own, looks[row["row"]], row["row"], upright=True)
    if about.get("better") == "one":
        ax.axhline(1, color=INK, linewidth=0.9, linestyle=(0, (5, 3)))
    elif ax.get_ylim()[0] < 0 < ax.get_ylim()[1]:
        ax.axhline(0, color=MUTED, linewidth=0.7, zorder=0)
    for border in range(1, len(order)):
        ax.axvline(border - 0.5, color="#d4d8df", linewidth=0.6, zorder=0)
    ax.set_title(short(metrics, name))
    crowded = sum(max(map(len, word.split())) for word in order) > 42
    ax.set_xticks(range(len(order)), [word.replace(" ", "\n") for word in order], rotation=40 if crowded else 0)
    ax.set_xlim(-0.5, len(order) - 0.5)
    ax.tick_params(axis="x", length=0)


def _whisker(ax: Axes, at: float, own: Mapping[str, Any], look: Mapping[str, Any], label: str, upright: bool) -> None:
    value, low, high = own["value"], own.get("low"), own.get("high")
    x, y = (at, value) if upright else (value, at)
    if low is not None and high is not None:
        (ax.vlines if upright else ax.hlines)(at, low, high, color=look["color"], linewidth=1.3)
    ax.plot([x], [y], linestyle="", markersize=4.6, label=label, **look)


def _dodge(place: int, count: int) -> float:
    return (place - (count - 1) / 2) * min(0.8 / max(count, 1), 0.18)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == value
