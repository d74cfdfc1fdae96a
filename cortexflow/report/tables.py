"""The scores as tables and as one sentence, for the terminal, for Markdown and for the page.

Everything here reads the ``metrics.json`` of a run, and shows whatever metrics it declares. Nothing is put in bold: a cell says
instead whether it can be told apart from the best null, a prediction that looks at no image.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.storage import load_sealed_json

HEADLINE, RELIABLE, ALL = "r", "reliable voxels", "all"
NO_BREAK = "\u00a0"  # a space at which no line ends
ARROWS = {"higher": "↑", "lower": "↓", "one": f"→{NO_BREAK}1"}
AS_NULL, BELOW_NULL = "†", "‡"
LEGEND = f"{AS_NULL} cannot be told apart from the best row that sees no image; {BELOW_NULL} worse than that row."
UNKNOWN = "–"

Metrics = Mapping[str, Any]  # the content of metrics.json
Row = Mapping[str, Any]  # one of its rows
Score = Mapping[str, Any]  # value, low, high


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table: the value, a mark beside it, the interval below it."""

    value: str
    mark: str = ""
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.value}{self.mark} {self.interval}".strip()


@dataclass(frozen=True)
class Line:
    """One line of a table: the name of a row, its kind, and a cell for each column."""

    name: str
    kind: str
    cells: list[Cell]


def load_metrics(folder: Path | str) -> dict[str, Any]:
    """The ``metrics.json`` of a run folder.

    Raises:
        CortexflowError: The run has not been evaluated.
        DamagedFileError: The file is no JSON, or lacks what every report needs.
    """
    path = Path(folder) / "metrics.json"
    if not path.is_file():
        raise CortexflowError(f"{folder} has no metrics.json; run `cortexflow evaluate {folder}` first")
    try:
        metrics = load_sealed_json(path)
        problem = damage(metrics)
    except DamagedFileError as error:
        problem = str(error.__cause__) if error.__cause__ else "it was altered, or holds no object"
    if problem:
        raise DamagedFileError(f"{path} is damaged ({problem}); delete it and run `cortexflow evaluate {folder}` first")
    return metrics


def damage(metrics: Any) -> str:
    """What is missing or malformed in the content of a ``metrics.json``; empty if nothing."""
    if not isinstance(metrics, dict):
        return "it holds no object"
    for name, kind in (("metrics", dict), ("rows", list)):
        if not isinstance(metrics.get(name), kind) or not metrics[name]:
            return f"no {name}"
    if not all(isinstance(about, dict) for about in metrics["metrics"].values()):
        return "metrics are not objects"
    whole = all(isinstance(row, dict) and {"row", "kind", "group", "scores"} <= row.keys() for row in metrics["rows"])
    return "" if whole and all(isinstance(row["scores"], dict) for row in metrics["rows"]) else "rows are incomplete"


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number as the field prints it: ``.410``, ``−.003``, ``1.376``, with a dash where there is none.

    Example:
        >>> number(0.41), number(-0.003, 2), number(1.376), number(0.01, 2, sign=True), number(None)
        ('.410', '−.00', '1.376', '+.01', '–')
    """
    if value is None or value != value:
        return UNKNOWN
    text = f"{abs(value):.{digits}f}"
    text = text.removeprefix("0") if digits else text
    return ("−" if value < 0 else "+" if sign and value > 0 else "") + text


def interval(own: Score | None, digits: int = 3, sign: bool = False) -> str:
    """``[.390, .430]``, or nothing where there is none."""
    if not own or not _has(own, "low") or not _has(own, "high"):
        return ""
    return f"[{number(own['low'], digits, sign)}, {number(own['high'], digits, sign)}]"


def score(row: Row, metric: str) -> Score | None:
    """A row's score by one metric, or None where it has none or it is not a number."""
    found = row["scores"].get(metric)
    return found if found and _has(found, "value") else None


def short(metrics: Metrics, metric: str) -> str:
    """The short name of a metric, with an arrow to its better side."""
    about = metrics["metrics"][metric]
    arrow = ARROWS.get(about.get("better", ""), "")
    return f"{about.get('short') or about.get('title') or metric}{NO_BREAK if arrow else ''}{arrow}"


def digits_of(metrics: Metrics, metric: str) -> int:
    """Digits behind the point, as the metric declares them."""
    return int(metrics["metrics"].get(metric, {}).get("digits", 3))


def groups(metrics: Metrics) -> list[str]:
    """The groups of voxels that have rows, in the order in which they were declared."""
    scored = list(dict.fromkeys(row["group"] for row in metrics["rows"]))
    declared = [name for name in metrics.get("groups") or {} if name in scored]
    return declared + [name for name in scored if name not in declared]


def group_title(metrics: Metrics, group: str) -> str:
    """``Reliable voxels (420)``."""
    voxels = (metrics.get("groups") or {}).get(group)
    # Areas keep the atlas's own spelling (hV4).
    name = "All voxels" if group == ALL else group[:1].upper() + group[1:] if " " in group else group
    return f"{name} ({voxels:,})" if voxels is not None else name


def rows_of(metrics: Metrics, group: str) -> list[Row]:
    """The rows of one group of voxels, in the order of the file."""
    return [row for row in metrics["rows"] if row["group"] == group]


def headline(metrics: Metrics) -> tuple[str, str]:
    """The metric and the group of voxels that the verdict is about: r over the reliable voxels, where there are any."""
    metric = HEADLINE if HEADLINE in metrics["metrics"] else next(iter(metrics["metrics"]))
    scored = [row["group"] for row in metrics["rows"] if row["kind"] == "model" and score(row, metric)]
    return metric, next((group for group in (RELIABLE, ALL, *groups(metrics)) if group in scored), groups(metrics)[0])


def columns(metrics: Metrics, group: str | None = None) -> dict[str, str]:
    """The metrics of a table, each with the group of voxels that its column is about.

    Arguments:
        metrics: The content of ``metrics.json``.
        group: The columns of one group only. By default the main table: the verdict's group, and for the metrics that are taken
            over all voxels together (a likelihood, an identification) all voxels.
    """
    wanted = [group] if group is not None else list(dict.fromkeys([headline(metrics)[1], ALL, *groups(metrics)]))
    scored = {(row["group"], name) for row in metrics["rows"] for name in row["scores"] if score(row, name)}
    found = {name: next((one for one in wanted if (one, name) in scored), None) for name in metrics["metrics"]}
    # A metric that nobody scored stays in the main table: its empty column says that it was asked for.
    return {name: one or wanted[0] for name, one in found.items() if one or group is None}


def lines(metrics: Metrics, group: str | None = None) -> list[Line]:
    """The lines of the table of :func:`columns`: every row that has a score in one of them."""
    about = columns(metrics, group)
    by_place = {(row["row"], row["group"]): row for row in metrics["rows"]}
    kinds = {row["row"]: row["kind"] for row in metrics["rows"] if row["group"] in about.values()}
    return [Line(name, kind, [cell(metrics, by_place.get((name, of)), metric) for metric, of in about.items()]) for name, kind in kinds.items()]


def cell(metrics: Metrics, row: Row | None, metric: str) -> Cell:
    """The cell of a row and a metric; a dash where there is no score."""
    digits, own = digits_of(metrics, metric), score(row, metric) if row is not None else None
    return Cell(number(own["value"], digits), mark(metrics, row, metric), interval(own, digits)) if own and row else Cell(UNKNOWN)


def best(metrics: Metrics, group: str, metric: str, kind: str) -> Row | None:
    """The row of a kind that scores best on a metric, or None where none has a score."""
    rows = [row for row in rows_of(metrics, group) if row["kind"] == kind and score(row, metric)]
    better = metrics["metrics"][metric].get("better", "higher")
    return max(rows, key=lambda row: _merit(row["scores"][metric]["value"], better), default=None)


def mark(metrics: Metrics, row: Row, metric: str) -> str:
    """``†`` if a model or reference cannot be told apart from the best null, ``‡`` if it is worse, else nothing.

    Told apart by the interval of their paired difference; where the file has none, by whether their intervals overlap.
    """
    own, null = score(row, metric), best(metrics, row["group"], metric, "null")
    if own is None or null is None or row["kind"] not in ("model", "reference") or not interval(own):
        return ""  # without an interval nothing can be told apart
    other, better = null["scores"][metric], metrics["metrics"][metric].get("better", "higher")
    paired = _difference(metrics, row, null["row"], metric)
    if paired is not None and _has(paired, "low") and _has(paired, "high"):
        apart = not paired["low"] <= 0 <= paired["high"]
    else:
        apart = _high(own) < _low(other) or _high(other) < _low(own)
    worse = _merit(own["value"], better) < _merit(other["value"], better)
    return AS_NULL if not apart else BELOW_NULL if worse else ""


def outcome(metrics: Metrics, difference: Mapping[str, Any]) -> str:
    """What a paired difference says: "better", "worse", or "undecided" where its interval holds 0 or there is none.

    A metric whose best value is 1 has no better side, so its differences say "higher" or "lower".
    """
    if not _has(difference, "low") or not _has(difference, "high") or difference["low"] <= 0 <= difference["high"]:
        return "undecided"
    better = metrics["metrics"].get(difference["metric"], {}).get("better", "higher")
    up = difference["low"] > 0
    if better == "one":
        return "higher" if up else "lower"
    return "better" if up == (better == "higher") else "worse"


def verdict(metrics: Metrics) -> str:
    """One sentence that says what the numbers say, and no more.

    Example:
        "Median r .410 [.390, .430] over 420 reliable voxels, 71 % of the explainable variance; the best row that sees no image
        (training-mean pattern) scores .000; against ridge +.010 [−.001, .021]: undecided."
    """
    metric, group = headline(metrics)
    model = next((row for row in rows_of(metrics, group) if row["kind"] == "model"), None)
    own = score(model, metric) if model else None
    if model is None or own is None:
        return "No model in this run has a score; see the warnings."
    title = str(metrics["metrics"][metric].get("title", metric))
    title = "Median r" if metric == HEADLINE and "median" in title else title[:1].upper() + title[1:]
    first = f"{title} {_shown(own, digits_of(metrics, metric))} over {_where(group, (metrics.get('groups') or {}).get(group))}"
    parts = [first + _share(metrics, model), *_against_null(metrics, model, metric), *_against_references(metrics, model, metric)]
    return "; ".join(parts) + "."


def table_text(metrics: Metrics, group: str | None = None) -> Table:
    """The scores for the terminal, which is narrow: one line per metric, one column per model, reference, null and ceiling.

    Arguments:
        metrics: The content of ``metrics.json``.
        group: Which voxels; by default the main table, see :func:`columns`.

    Returns:
        A table; intervals stand below the values of the model, and the page has those of the other rows.
    """
    about, body = columns(metrics, group), lines(metrics, group)
    title, caption = escape(_title(metrics, group)), escape(_caption(metrics, about))
    style: dict[str, Any] = {"title_justify": "left", "caption_justify": "left", "box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False}
    table = Table("", title=title, caption=caption, **style)
    cells = [[_two_lines(cell, line.kind == "model") for cell in line.cells] for line in body]
    for line, column in zip(body, cells, strict=True):
        # Left alone, rich shares out a narrow terminal without regard for words; it also breaks lines at spaces only.
        name = re.sub(r"(?<=[-+])(?=\w{4})", "\n", line.name)
        widest = max(map(len, [*name.split(), *"\n".join(column).split("\n")]))
        table.add_column(escape(name), justify="right", overflow="fold", max_width=widest)
    for place, metric in enumerate(about):
        table.add_row(short(metrics, metric), *(escape(column[place]) for column in cells))
    return table


def table_markdown(metrics: Metrics, group: str | None = None) -> str:
    """The same table in Markdown, with the intervals in the cells and the legend below."""
    about = columns(metrics, group)
    body = [_bar([line.name, *map(str, line.cells)]) for line in lines(metrics, group)]
    head = [_bar(["", *(short(metrics, name) for name in about)]), "|---|" + "---:|" * len(about)]
    return f"{_title(metrics, group)}\n\n" + "\n".join([*head, *body]) + f"\n\n{_caption(metrics, about)}\n"


def _two_lines(cell: Cell, whole: bool) -> str:
    return f"{cell.value}{cell.mark}\n{cell.interval if whole else ''}".strip()


def _where(group: str, voxels: int | None) -> str:
    count = f"{voxels:,} " if voxels is not None else ""
    if group.endswith("voxels"):
        return count + group
    return f"{count}voxels" if group == ALL else f"{count}voxels of {group}"


def _shown(own: Score, digits: int, sign: bool = False) -> str:
    return f"{number(own['value'], digits, sign)} {interval(own, digits, sign)}".strip()


def _share(metrics: Metrics, model: Row) -> str:
    if "share" not in metrics["metrics"]:
        return ""
    own = score(model, "share")
    return f", {100 * own['value']:.0f} % of the explainable variance" if own else ", where the noise ceiling is unknown"


def _against_null(metrics: Metrics, model: Row, metric: str) -> list[str]:
    null = best(metrics, model["group"], metric, "null")
    if null is None:
        return []
    value = number(null["scores"][metric]["value"], digits_of(metrics, metric))
    beaten = {AS_NULL: ", from which it cannot be told apart", BELOW_NULL: ", which is better"}.get(mark(metrics, model, metric), "")
    return [f"the best row that sees no image ({null['row']}) scores {value}{beaten}"]


def _against_references(metrics: Metrics, model: Row, metric: str) -> list[str]:
    references = [row["row"] for row in rows_of(metrics, model["group"]) if row["kind"] == "reference"]
    found = [_difference(metrics, model, reference, metric) for reference in references]
    return [
        f"against {one['against']} {_shown(one, digits_of(metrics, metric), sign=True)}: {outcome(metrics, one)}"
        for one in found
        if one is not None and _has(one, "value")
    ]


def _difference(metrics: Metrics, row: Row, against: str, metric: str) -> Mapping[str, Any] | None:
    """The paired difference of a row from another, where the file has it."""
    wanted = (row["row"], against, row["group"], metric)
    found = (one for one in metrics.get("differences") or [] if (one["of"], one["against"], one["group"], one["metric"]) == wanted)
    return next(found, None)


def _title(metrics: Metrics, group: str | None) -> str:
    name = metrics.get("title") or metrics.get("model") or "Scores"
    return f"{name}. {group_title(metrics, group if group is not None else headline(metrics)[1])}"


def _caption(metrics: Metrics, about: Mapping[str, str]) -> str:
    main = headline(metrics)[1] if len(set(about.values())) > 1 else next(iter(about.values()), ALL)
    others = [short(metrics, name) for name, group in about.items() if group != main]
    return LEGEND + (f" Over all voxels: {', '.join(others)}." if others else "")


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", r"\|").replace("\n", " ") for text in cells) + " |"


def _has(values: Mapping[str, Any], name: str) -> bool:
    found = values.get(name)
    return isinstance(found, (int, float)) and found == found


def _low(own: Score) -> float:
    return own["low"] if _has(own, "low") else own["value"]


def _high(own: Score) -> float:
    return own["high"] if _has(own, "high") else own["value"]


def _merit(value: float, better: str) -> float:
    return {"higher": value, "lower": -value, "one": -abs(value - 1)}.get(better, value)
