"""The page of a question: what was written before, the verdict, every estimate with its interval, and what made it."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cortexflow.report.canvas import INK, KINDS, MUTED, axes_of, figure_of, styled, svg
from cortexflow.storage import load_json, replacing

PLAN = {
    "hypothesis": "Hypothesis",
    "prediction": "Prediction",
    "test": "Test",
    "controls": "Controls",
    "rule": "Decision rule",
}


def write_finding(folder: Path | str) -> Path:
    """Write ``finding.html`` from ``finding.json``.

    Raises:
        CortexflowError: No finding there, or it cannot be read.
    """
    finding = load_json(Path(folder) / "finding.json")
    page = Path(folder) / "finding.html"
    with replacing(page) as temporary:
        temporary.write_text(render(finding), encoding="utf-8")
    return page


def render(finding: Mapping[str, Any]) -> str:
    """The page as text."""
    plan = "".join(f"<dt>{title}</dt><dd>{escape(finding[name])}</dd>" for name, title in PLAN.items())
    made = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in {**finding["config"], **finding["made"]}.items())
    figures = "".join(svg(plot_estimates(part)) for part in _by_unit(finding["estimates"]))
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(finding["question"])}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head><body><main>'
        f"<header><h1>{escape(finding['question'])}</h1><p class='verdict'><strong>{finding['verdict'].capitalize()}.</strong> "
        f"{escape(finding['why'])}</p></header>"
        f"<section><h2>Written before any number</h2><dl class='facts'>{plan}</dl></section>"
        f"<section><h2>Estimates</h2>{figures}{_table(finding['estimates'])}</section>"
        f"<section><h2>What made this finding</h2><dl class='facts'>{made}</dl></section></main></body></html>"
    )


@styled
def plot_estimates(estimates: Sequence[Mapping[str, Any]], *, ax: Axes | None = None) -> Figure:
    """Every estimate with its interval; the small marks above it are the single seeds.

    Arguments:
        estimates: ``name``, ``value``, ``low``, ``high`` and ``each`` (value, low, high per seed) of one unit.
        ax: Where to draw; a new figure by default.
    """
    ax = axes_of(ax, 7.6, 0.9 + 0.42 * len(estimates))
    for place, one in enumerate(estimates):
        ax.hlines(place, one["low"], one["high"], color=KINDS["model"], linewidth=2)
        ax.plot(one["value"], place, "o", color=KINDS["model"], markersize=5)
        ax.plot([value for value, _, _ in one["each"]], [place - 0.25] * len(one["each"]), "|", color=MUTED, markersize=5)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(range(len(estimates)), [one["name"] for one in estimates])
    ax.invert_yaxis()
    ax.set_xlabel(estimates[0]["unit"] or "value")
    return figure_of(ax)


def _by_unit(estimates: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Numbers of one unit share a picture; levels and differences do not, because their scales differ."""
    kinds: dict[tuple[str, bool], list[Mapping[str, Any]]] = {}
    for one in estimates:
        kinds.setdefault((one["unit"], "saved" in one["name"]), []).append(one)
    return list(kinds.values())


def _table(estimates: Sequence[Mapping[str, Any]]) -> str:
    def row(one: Mapping[str, Any]) -> str:
        each = ", ".join(f"{value:.4f}" for value, _, _ in one["each"])
        cells = (one["name"], f"{one['value']:.4f}", f"[{one['low']:.4f}, {one['high']:.4f}]", one["unit"], one["over"], each)
        return "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>"

    head = "".join(f"<th>{name}</th>" for name in ("estimate", "value", "95 % interval", "unit", "resampled", "each seed"))
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(map(row, estimates))}</tbody></table></div>"
