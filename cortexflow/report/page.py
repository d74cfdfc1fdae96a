"""One evaluated run as one HTML file: numbers, pictures and what made them, without a single request to anywhere.

The page shows what the run folder holds. A part that is absent (no flat map, no repeats, no density) leaves its section out, and the end
of the page says what was left out and why.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from cortexflow.data.base import Cortex
from cortexflow.encoding.base import load_encoder
from cortexflow.errors import DamagedFileError
from cortexflow.report.calibration import plot_by_samples, plot_calibration
from cortexflow.report.canvas import area_of, ceil_to, new_figure, styled, svg, told_apart
from cortexflow.report.cortex_maps import flat_grid, has_map, plot_area_map, plot_flatmap
from cortexflow.report.matrices import plot_covariance
from cortexflow.report.patterns import Patterns, plot_samples
from cortexflow.report.scores import by_group, plot_areas, plot_differences, plot_training
from cortexflow.report.tables import (
    AS_NULL,
    BELOW_NULL,
    NO_BREAK,
    UNKNOWN,
    Cell,
    columns,
    digits_of,
    group_title,
    groups,
    headline,
    interval,
    lines,
    load_metrics,
    number,
    outcome,
    score,
    short,
    verdict,
)
from cortexflow.report.voxels import plot_r_histogram, plot_r_vs_ceiling, shuffled_r
from cortexflow.storage import checksum, load_json, load_sealed_json, load_tensors, replacing
from cortexflow.training import check_files

KINDS = {"model": "", "reference": "reference", "null": "sees no image", "ceiling": "ceiling"}


@dataclass
class Evaluated:
    """All that a run folder holds for its report.

    Arguments:
        metrics: The content of ``metrics.json``.
        tensors: The content of ``evaluation.safetensors``; empty if absent.
        cortex: Areas and geometry, where known.
        config: The resolved configuration.
        provenance: Versions, checksums, seed and command.
        epochs: The lines of the training log.
        absent: Sentences on what is not in the page; sections add theirs.
    """

    metrics: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    cortex: Cortex | None = None
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def has(self, *names: str) -> bool:
        """Whether all of these tensors are here."""
        return all(name in self.tensors for name in names)

    @classmethod
    def read(cls, folder: Path, cortex: Cortex | None = None) -> "Evaluated":
        """Read a run folder.

        Raises:
            CortexflowError: The run has not been evaluated.
            DamagedFileError: One of its files is damaged.
        """
        run = cls(load_metrics(folder), cortex=cortex)
        if (folder / "encoder.safetensors").is_file():
            check_files(folder)
        path = folder / "evaluation.safetensors"
        if path.exists() or path.name in (run.metrics.get("files") or {}):
            _check_evaluation(path, run.metrics)
            run.tensors, about = load_tensors(path)
            if run.cortex is None and "areas" in about:
                parts = {name.removeprefix("cortex."): value for name, value in run.tensors.items() if name.startswith("cortex.")}
                run.cortex = Cortex.from_tensors(about["subject"], about["voxels"], about["areas"], parts)
        else:
            run.absent.append("Voxel and pattern figures: evaluation.safetensors is not in the folder.")
        if run.cortex is None and (path := folder / "encoder.safetensors").is_file():
            run.cortex = load_encoder(path).cortex
        if run.cortex is not None:
            run.cortex = replace(run.cortex, areas=told_apart(run.cortex.areas))
        made = run.metrics.get("made") or {}  # the folds of a cross-validation are evaluated into a folder of their own
        run.config = load_json(path) if (path := folder / "run.json").is_file() else made.get("config", {})
        run.provenance = load_sealed_json(path) if (path := folder / "provenance.json").is_file() else made.get("provenance", {})
        if run.provenance != made.get("provenance", run.provenance):
            raise DamagedFileError(f"{folder} holds the scores of another run (metrics.json); run `cortexflow evaluate {folder}` again")
        run.epochs = _read_lines(folder / "metrics.jsonl")
        return run


def write_page(folder: Path | str, cortex: Cortex | None = None) -> Path:
    """Write ``report.html`` into the folder of an evaluated run.

    Arguments:
        folder: A run folder after ``cortexflow evaluate``.
        cortex: Areas and geometry; by default those stored with the encoder.

    Returns:
        The path of the page.

    Raises:
        CortexflowError: The run has not been evaluated, or the page cannot be written.
        DamagedFileError: A file of the run is damaged.
    """
    folder = Path(folder)
    page = render(Evaluated.read(folder, cortex))
    with replacing(folder / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return folder / "report.html"


def render(run: Evaluated) -> str:
    """The page as text."""
    parts = {
        "scores": ("Scores", _scores(run)),
        "areas": ("By area", _areas(run)),
        "voxels": ("Voxel by voxel", _voxels(run)),
        "cortex": ("On the cortex", _maps(run)),
        "variability": ("Trial to trial", _variability(run)),
        "patterns": ("Single images", _patterns(run)),
        "training": ("Training", _training(run)),
        "made": ("What made this run", _made(run)),
    }
    shown = {name: part for name, part in parts.items() if part[1]}
    links = "".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in shown.items())
    body = "".join(f'<section id="{name}"><h2>{title}</h2>{content}</section>' for name, (title, content) in shown.items())
    title = escape(str(run.metrics.get("title") or "cortexflow run"))
    # The policy is a promise that the browser keeps: pictures inside the page only, and no request to anywhere.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}</style></head><body>"
        f'{_head(run)}<nav aria-label="Sections">{links}</nav><main>{body}</main>'
        "<footer>Written by cortexflow report. The numbers are in metrics.json, the arrays in evaluation.safetensors.</footer></body></html>\n"
    )


def _head(run: Evaluated) -> str:
    metrics = run.metrics
    kicker = " · ".join(str(metrics[name]) for name in ("study", "subject", "model") if metrics.get(name))
    facts = {**(metrics.get("counts") or {}), "responses": metrics.get("units")}
    warnings = "".join(f"<li>{escape(str(one))}</li>" for one in metrics.get("warnings") or [])
    box = f'<div class="warnings" role="alert"><h2>Before you trust this</h2><ul>{warnings}</ul></div>' if warnings else ""
    return (
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(str(metrics.get("title") or "cortexflow run"))}</h1>'
        f'<p class="verdict">{_unbroken(escape(verdict(metrics)))}</p>{_facts(facts)}{box}</header>'
    )


def _scores(run: Evaluated) -> str:
    metrics, (_, group) = run.metrics, headline(run.metrics)
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in [*(metrics.get("notes") or []), *_interval_note(metrics)])
    return f"<p>{escape(group_title(metrics, group))}. {_legend()}</p>{_table(metrics)}" + (
        f'<h3>How this was measured</h3><ul class="notes">{notes}</ul>' if notes else ""
    )


def _areas(run: Evaluated) -> str:
    metrics = run.metrics
    parts = []
    if by_group(metrics):
        caption = (
            "Each panel is one metric, each point one row of the table, with its interval. The dark bar is the ceiling: what repeats "
            "of the same image allow. Arrows say which side is better."
        )
        parts.append(_figure(plot_areas(metrics), _areas_alt(metrics), caption))
    parts.append(_differences(metrics))
    others = [group for group in groups(metrics) if group != headline(metrics)[1]]
    parts += ["<h3>The same table for other voxels</h3>"] if others else []
    parts += [f"<details><summary>{escape(group_title(metrics, group))}</summary>{_table(metrics, group)}</details>" for group in others]
    return "".join(parts)


def _voxels(run: Evaluated) -> str:
    if not run.has("r"):
        return ""
    r, figures = run.tensors["r"], []
    ceiling = run.tensors.get("ceiling_r", torch.full_like(r, torch.nan))
    cortex = _fitting(run, len(r))
    if torch.isfinite(ceiling).any():
        left = int((~torch.isfinite(ceiling)).sum())
        caption = "Each dot is a voxel; lines are running medians. A perfect model lies on the dashed line." + (
            f" {left} voxels without a ceiling are not drawn." if left else ""
        )
        alt = f"Scatter of r against noise ceiling for {len(r) - left} voxels; median r {_median(r)}, median ceiling {_median(ceiling)}."
        figures.append(_figure(plot_r_vs_ceiling(r, ceiling, cortex.areas if cortex is not None else None), alt, caption))
    else:
        run.absent.append("r against the noise ceiling: the ceiling is unknown (no repeats, and the study ships none).")
    if run.has("predicted", "measured"):
        chance = shuffled_r(run.tensors["predicted"], run.tensors["measured"])
        caption = "Grey is chance: the same predictions, each held against the response to another image."
        alt = f"Histogram of r over {len(r)} voxels, median {_median(r)}; with shuffled images the median is {_median(chance)}."
        figures.append(_figure(plot_r_histogram(r, chance, ceiling), alt, caption))
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""


def _maps(run: Evaluated) -> str:
    r = run.tensors.get("r")
    cortex = _fitting(run, len(r)) if r is not None else run.cortex
    if cortex is None or not has_map(cortex):
        run.absent.append("Maps of the cortex: this run knows neither a flat map nor coordinates of its voxels.")
        return ""
    ceiling = run.tensors.get("ceiling_r")
    view = "the flattened cortex" if cortex.flat is not None else "the two main axes of the voxel coordinates (the study has no flat map)"
    caption = f"Seen on {view}. r and its ceiling share one scale that begins at 0; less than 0 looks like 0, grey is unknown."
    alt = (
        f"Maps on {view}: "
        + (f"r per voxel (median {_median(r)}), " if r is not None else "")
        + f"and the areas {', '.join(cortex.areas) or 'none'}."
    )
    return _figure(_draw_maps(cortex, r, ceiling), alt, caption)


@styled
def _draw_maps(cortex: Cortex, r: Tensor | None, ceiling: Tensor | None) -> Figure:
    shown = {title: values for title, values in (("r across images", r), ("noise ceiling (r)", ceiling)) if values is not None}
    shown = {title: values for title, values in shown.items() if torch.isfinite(values).any()}
    every = torch.cat([values[torch.isfinite(values)] for values in shown.values()]) if shown else torch.ones(1)
    top, grid = ceil_to(float(torch.quantile(every[:: max(1, len(every) // 100_000)], 0.99)), 0.05), flat_grid(cortex)
    height, width = grid.voxel.shape
    figure = new_figure(4.2 * (len(shown) + 1), max(2.0, 3.35 * height / width) + 0.4)
    axes = figure.subplots(1, len(shown) + 1, squeeze=False)[0]
    for ax, (title, values) in zip(axes, shown.items(), strict=False):
        plot_flatmap(values, cortex, title=title, limit=top, grid=grid, ax=ax)
    plot_area_map(cortex, title="areas", grid=grid, ax=axes[-1])
    return figure


def _variability(run: Evaluated) -> str:
    parts = []
    if run.has("covariance.measured", "covariance.synthetic"):
        parts.append(_covariance(run))
    else:
        run.absent.append("Residual covariance: it needs repeats of the test images, and a model that can be sampled.")
    tensors = run.tensors
    pair = []
    if run.has("calibration.pit") or run.has("calibration.levels", "calibration.coverage"):
        figure = plot_calibration(*(tensors.get(f"calibration.{name}") for name in ("pit", "levels", "coverage")))
        caption = "Flat ranks, and points on the dashed line, mean that samples spread as trials do."
        pair.append(_figure(figure, "Calibration: rank histogram and interval coverage of single trials.", caption))
    else:
        run.absent.append("Calibration: the run has neither ranks nor coverage.")
    if run.has("by_samples.counts", "by_samples.r"):
        counts, r = tensors["by_samples.counts"], tensors["by_samples.r"]
        alt = f"Median r by samples averaged: {float(r[0]):.2f} for {int(counts[0])}, {float(r[-1]):.2f} for {int(counts[-1])}."
        caption = "One sample is a trial and carries its noise; the average of many comes near the expectation."
        pair.append(_figure(plot_by_samples(counts, r), alt, caption))
    return "".join(parts) + (f'<div class="pair">{"".join(pair)}</div>' if pair else "")


def _covariance(run: Evaluated) -> str:
    measured, synthetic = run.tensors["covariance.measured"], run.tensors["covariance.synthetic"]
    voxels = run.tensors.get("covariance.voxels")
    place, names = None, []
    if voxels is not None and run.cortex is not None and int(voxels.max()) < run.cortex.voxels:
        place, names = area_of(run.cortex.areas, run.cortex.voxels)[voxels], list(run.cortex.areas)
        order = torch.where(place < 0, len(names), place).argsort(stable=True)
        place, measured, synthetic = place[order], measured[order][:, order], synthetic[order][:, order]
    caption = (
        "What repeats of one image do not share: correlations of the residuals between voxels, by area. Without shared noise a model's "
        "matrix is blank beside its diagonal."
    )
    alt = f"Residual correlation matrices of {len(measured)} voxels, measured and synthetic, with a density plot of their entries."
    return _figure(plot_covariance(measured, synthetic, place, names), alt, caption)


def _patterns(run: Evaluated) -> str:
    if not run.has("patterns.measured", "patterns.sampled", "patterns.predicted"):
        run.absent.append("Response patterns: the run kept none.")
        return ""
    tensors = run.tensors
    names = [f"image {stimulus}" for stimulus in tensors["patterns.stimuli"].tolist()] if run.has("patterns.stimuli") else []
    patterns = Patterns(
        tensors["patterns.measured"],
        tensors["patterns.sampled"],
        tensors["patterns.predicted"],
        tensors.get("patterns.images"),
        names,
        str(run.metrics.get("units") or ""),
    )
    cortex = _fitting(run, patterns.predicted.shape[1])
    where = "as flat maps" if cortex is not None and cortex.flat is not None else "as strips of voxels sorted by area"
    caption = (
        "Trials and samples share one scale, averages another. A sample should look as rough as a trial, and never repeat its noise; "
        "the expectation is to be compared with the mean of the trials."
    )
    return _figure(plot_samples(patterns, cortex), f"Responses to {len(patterns.predicted)} images {where}: trials, samples, expectation.", caption)


def _training(run: Evaluated) -> str:
    epochs = [one for one in run.epochs if "epoch" in one]
    if len(epochs) < 2:
        run.absent.append("Training curve: this model was solved in closed form, or its log is not here.")
        return ""
    figure = plot_training(epochs)
    return _figure(figure, f"Training and validation loss over {len(epochs)} epochs.", "The ring marks the lowest validation loss.")


def _made(run: Evaluated) -> str:
    provenance = dict(run.provenance)
    command = provenance.pop("command", None)
    line = " ".join(map(str, command)) if isinstance(command, (list, tuple)) else str(command or "")
    parts = [f"<h3>Command</h3><pre>{escape(line)}</pre>"] if line else []
    tables = (("Versions, checksums and machine", provenance), ("Configuration", run.config))
    parts += [f"<details open><summary>{title}</summary>{_tree(content)}</details>" for title, content in tables if content]
    if run.absent:
        items = "".join(f"<li>{escape(one)}</li>" for one in run.absent)
        parts.append(f'<h3>Not in this report</h3><ul class="notes">{items}</ul>')
    return "".join(parts)


def _table(metrics: Mapping[str, Any], group: str | None = None) -> str:
    about, before, body = columns(metrics, group), "", []
    heads = "".join(_head_cell(metrics, name, of if group is None and of != headline(metrics)[1] else "") for name, of in about.items())
    for line in lines(metrics, group):
        first, before = line.kind != before, line.kind
        note = KINDS.get(line.kind, line.kind)
        name = escape(line.name) + (f"<small>{escape(note)}</small>" if note and note not in line.name else "")
        cells = "".join(f"<td>{_cell(one)}</td>" for one in line.cells)
        body.append(f'<tr class="{escape(line.kind)}{" first" * first}"><th scope="row">{name}</th>{cells}</tr>')
    return f'<div class="scroll"><table><thead><tr><td></td>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _head_cell(metrics: Mapping[str, Any], name: str, group: str) -> str:
    """The short name, with the long one below, and the voxels where they are not those of the table."""
    title = str(metrics["metrics"][name].get("title", name))
    words = [title] * (not short(metrics, name).startswith(title)) + [f"over {group} voxels"] * bool(group)
    small = "".join(f"<small>{escape(word)}</small>" for word in words)
    return f'<th scope="col" title="{escape(name)}">{escape(short(metrics, name))}{small}</th>'


def _cell(one: Cell) -> str:
    return one.value + (f"<sup>{one.mark}</sup>" if one.mark else "") + (f"<small>{one.interval}</small>" if one.interval else "")


def _differences(metrics: Mapping[str, Any]) -> str:
    differences = metrics.get("differences") or []
    if not differences:
        return ""
    metric, figure = headline(metrics)[0], ""
    if any(one["metric"] == metric and one.get("value") is not None for one in differences):
        alt = f"Paired differences of {metric} by group of voxels, with intervals."
        figure = _figure(plot_differences(metrics), alt, "Differences on the same resampled images. What crosses 0 is undecided.")
    pairs = dict.fromkeys((str(one["of"]), str(one["against"])) for one in differences)
    tables = [_difference_table(metrics, [one for one in differences if (one["of"], one["against"]) == pair], pair) for pair in pairs]
    return f"<h3>Paired differences</h3>{figure}{''.join(tables)}"


def _difference_table(metrics: Mapping[str, Any], differences: list[dict[str, Any]], pair: tuple[str, str]) -> str:
    """Groups of voxels down, metrics across, for one pair of rows."""
    names = [name for name in metrics["metrics"] if any(one["metric"] == name for one in differences)]
    found = {(one["group"], one["metric"]): one for one in differences}
    heads = "".join(f'<th scope="col">{escape(short(metrics, name))}</th>' for name in names)
    body = ""
    for group in dict.fromkeys(one["group"] for one in differences):
        cells = "".join(f"<td>{_difference(metrics, found.get((group, name)))}</td>" for name in names)
        body += f'<tr><th scope="row">{escape(str(group))}</th>{cells}</tr>'
    table = f'<div class="scroll"><table><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    return f"<details><summary>{escape(pair[0])} − {escape(pair[1])}</summary>{table}</details>"


def _difference(metrics: Mapping[str, Any], one: Mapping[str, Any] | None) -> str:
    if one is None:
        return UNKNOWN
    digits, word = digits_of(metrics, one["metric"]), outcome(metrics, one)
    return f"{number(one.get('value'), digits, sign=True)}<small>{interval(one, digits, sign=True)}</small><small>{word}</small>"


def _figure(figure: Figure, alt: str, caption: str) -> str:
    data = base64.b64encode(svg(figure).encode()).decode()
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    wide = ' class="wide"' if width > 900 else ""  # a small screen scrolls it instead of shrinking it
    return (
        f'<figure{wide} style="flex:0 1 {width}px"><img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _facts(facts: Mapping[str, Any]) -> str:
    shown = [(name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in facts.items() if value is not None]
    items = "".join(f"<div><dt>{escape(str(name))}</dt><dd>{escape(value)}</dd></div>" for name, value in shown)
    return f'<dl class="facts">{items}</dl>' if items else ""


def _tree(content: Mapping[str, Any]) -> str:
    lines = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in _leaves(content))
    return f'<div class="scroll"><table class="text"><tbody>{lines}</tbody></table></div>'


def _leaves(content: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Nested names joined by dots, with their values as text."""
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, list) and all(not isinstance(one, (Mapping, list)) for one in content):
        yield name, ", ".join(map(str, content)) or "none"
    else:
        yield name, "none" if content is None or content == {} else content if isinstance(content, str) else json.dumps(content)


def _unbroken(sentence: str) -> str:
    """The sentence with intervals that stay on one line."""
    return re.sub(r"\[[^\]]*\]", lambda found: found[0].replace(" ", NO_BREAK), sentence)


def _legend() -> str:
    return (
        f"Arrows say which side is better. <sup>{AS_NULL}</sup> Cannot be told apart from the best row that sees no image. "
        f"<sup>{BELOW_NULL}</sup> Worse than that row."
    )


def _interval_note(metrics: Mapping[str, Any]) -> Sequence[str]:
    about = metrics.get("interval") or {}
    if "level" not in about:
        return []
    return [f"Brackets are {100 * about['level']:.0f} % intervals: {about.get('draws', '?')} bootstrap draws over {about.get('over', 'images')}."]


def _areas_alt(metrics: Mapping[str, Any]) -> str:
    metric = headline(metrics)[0]
    found = [(row["group"], score(row, metric)) for row in metrics["rows"] if row["kind"] == "model"]
    return (
        f"Scores by group of voxels. {metric} of the model: " + ", ".join(f"{group} {number(own['value'], 2)}" for group, own in found if own) + "."
    )


def _median(values: Tensor) -> str:
    finite = values[torch.isfinite(values)]
    return f"{float(finite.median()):.2f}" if len(finite) else "unknown"


def _fitting(run: Evaluated, voxels: int) -> Cortex | None:
    """The cortex, if it has as many voxels as the arrays."""
    return run.cortex if run.cortex is not None and run.cortex.voxels == voxels else None


def _check_evaluation(path: Path, metrics: Mapping[str, Any]) -> None:
    """Raises DamagedFileError where the arrays are not those of the scores."""
    expected = (metrics.get("files") or {}).get(path.name)
    if not path.is_file() or (expected is not None and checksum(path) != expected):
        what = "is not of the evaluation that wrote metrics.json" if path.is_file() else "is missing"
        raise DamagedFileError(f"{path} {what}; run `cortexflow evaluate {path.parent}` again")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """A training log; a last line that was cut short is left out, as a run may have been stopped while writing."""
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in lines if isinstance(line, dict)]
