"""The page of a question: what was written before, the verdict, every estimate with its interval, and what made it."""

import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cortexflow.report.canvas import INK, KINDS, MUTED, RULE, axes_of, figure_of, styled, svg
from cortexflow.storage import load_sealed_json, replacing

PLAN = {
    "hypothesis": "Hypothesis",
    "prediction": "Prediction",
    "test": "Test",
    "controls": "Controls",
    "rule": "Decision rule",
}
LABEL = 46  # letters of a name on one line
WIDEST = 8.0  # the largest number of a picture over its smallest: beyond, the small ones have no visible interval
Written = Mapping[str, Any]


def write_finding(folder: Path | str, figure: Figure | None = None) -> Path:
    """Write ``finding.html`` from ``finding.json``.

    Arguments:
        folder: Where ``finding.json`` is.
        figure: A picture of the question's own, shown before the estimates.

    Raises:
        CortexflowError: No finding there.
        DamagedFileError: It was altered.
    """
    finding = load_sealed_json(Path(folder) / "finding.json")
    page = Path(folder) / "finding.html"
    with replacing(page) as temporary:
        temporary.write_text(render(finding, figure), encoding="utf-8")
    return page


def render(finding: Written, figure: Figure | None = None) -> str:
    """The page as text."""
    figures = [figure] if figure is not None else []
    figures += [plot_estimates(panel) for panel in panels(finding["estimates"])]
    pictures = "".join(f"<figure>{svg(one)}</figure>" for one in figures)
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    heading = "The plan" if finding.get("chosen_after") else "Written before any number"
    question, verdict = escape(finding["question"]), escape(finding["verdict"].capitalize())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{question}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}{_STYLE}</style></head><body><main>'
        f"<header><h1>{question}</h1><p class='verdict'><strong>{verdict}.</strong> {escape(finding['why'])}</p></header>"
        f"<section><h2>{heading}</h2>{_facts({title: finding[name] for name, title in PLAN.items()})}</section>{_after(finding)}"
        f"<section><h2>Estimates</h2>{pictures}{_table(finding['estimates'])}</section>"
        f"<section><h2>What made this finding</h2>{_facts({**finding['config'], **finding['made']})}</section></main></body></html>"
    )


def _after(finding: Written) -> str:
    """What the plan owes to numbers that had been seen; nothing where it owes them nothing."""
    sentence = finding.get("chosen_after")
    return f"<section><h2>Chosen after some numbers were seen</h2><p>{escape(sentence)}</p></section>" if sentence else ""


@styled
def plot_estimates(estimates: Sequence[Written], *, ax: Axes | None = None) -> Figure:
    """Every estimate with its interval; the small marks above it are the single seeds (or runs).

    Arguments:
        estimates: ``name``, ``value``, ``low``, ``high`` and ``each`` (value, low, high per seed), of one unit and scale.
        ax: Where to draw; a new figure by default.
    """
    names = [textwrap.wrap(one["name"], LABEL) or [""] for one in estimates]
    places = _places(estimates, [len(lines) for lines in names])
    ax = axes_of(ax, 9.2, 0.75 + 0.3 * (places[-1] + 1))
    for place, one in zip(places, estimates, strict=True):
        ax.axhline(place, color=RULE, linewidth=0.5, zorder=0)
        ax.hlines(place, one["low"], one["high"], color=KINDS["model"], linewidth=2.4)
        ax.plot(one["value"], place, "o", color=KINDS["model"], markersize=4.5)
        ax.plot([value for value, _, _ in one["each"]], [place - 0.32] * len(one["each"]), "|", color=MUTED, markersize=4)
    if _reaches_zero(estimates):
        ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(places, ["\n".join(lines) for lines in names])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(places[-1] + 0.7, -0.7)
    ax.margins(x=0.03)
    ax.set_xlabel(estimates[0]["unit"] or "value")
    return figure_of(ax)


def panels(estimates: Sequence[Written]) -> list[list[Written]]:
    """What shares a picture: numbers of one unit whose sizes do not differ by more than 8 times, in their order.

    A number without an interval (0 by construction, chance) has none to be seen and stands with the first of its unit.

    Example:
        Values of 1.9, 1.5, .12 and .02 bits: the first two together, the others one each.
    """
    found: list[list[Written]] = []
    for unit in dict.fromkeys(one["unit"] for one in estimates):
        rest = [one for one in estimates if one["unit"] == unit]
        while rest:
            widest = max(map(_size, rest))
            together = [one for one in rest if _size(one) * WIDEST >= widest or _size(one) == 0]
            rest = [one for one in rest if not any(one is other for other in together)]
            found.append(together)
    return found


def _size(one: Written) -> float:
    if one["low"] == one["high"]:
        return 0.0
    return max(abs(one[end]) for end in ("value", "low", "high"))


def _reaches_zero(estimates: Sequence[Written]) -> bool:
    """Whether 0 is among the numbers, or not further from them than they are from each other."""
    ends = [one[end] for one in estimates for end in ("low", "high", "value")]
    low, high = min(ends), max(ends)
    return min(abs(low), abs(high)) <= high - low or low <= 0 <= high


def _places(estimates: Sequence[Written], lines: Sequence[int]) -> list[float]:
    """Heights on the page: more between names of several lines, and where the setting before the colon changes."""
    places = [0.0]
    for place in range(1, len(estimates)):
        settings = [estimates[number]["name"].partition(":")[0] for number in (place - 1, place)]
        apart = 0.6 if settings[0] != settings[1] and ":" in estimates[place]["name"] else 0.0
        places.append(places[-1] + max(1.0, 0.3 + 0.28 * (lines[place - 1] + lines[place])) + apart)
    return places


def _facts(facts: Mapping[str, Any]) -> str:
    """Names and values below each other; what is written as a mapping or a list is spelt out."""

    def said(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{name} {said(part)}" for name, part in value.items())
        return ", ".join(map(said, value)) if isinstance(value, (list, tuple)) else str(value)

    rows = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(said(value))}</td></tr>" for name, value in facts.items())
    return f"<table class='plan'><tbody>{rows}</tbody></table>"


def _table(estimates: Sequence[Written]) -> str:
    def row(one: Written) -> str:
        each = ", ".join(f"{value:.4f}" for value, _, _ in one["each"])
        cells = (f"{one['value']:.4f}", f"[{one['low']:.4f}, {one['high']:.4f}]", one["unit"], one["over"], each)
        return f"<tr><th scope='row'>{escape(one['name'])}</th>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>"

    head = "".join(f"<th>{name}</th>" for name in ("estimate", "value", "95 % interval", "unit", "resampled", "each"))
    body = "".join(map(row, estimates))
    return f"<div class='scroll'><table class='estimates'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


_STYLE = """
.plan th, .plan td { text-align: left; white-space: normal; overflow-wrap: anywhere; border: 0; }
.plan tbody th { min-width: 8rem; font-weight: 600; }
.plan td { max-width: 48rem; font-size: .95rem; }
.estimates td { white-space: nowrap; }
.estimates tbody th { text-align: left; min-width: 16rem; }
section figure svg { max-width: 100%; height: auto; }
"""
