"""Tables and the verdict say what the numbers say, whatever metrics are declared."""

import json
import math

import pytest
from rich.console import Console

from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.report.tables import (
    AS_NULL,
    BELOW_NULL,
    columns,
    headline,
    interval,
    lines,
    load_metrics,
    mark,
    number,
    outcome,
    table_markdown,
    table_text,
    verdict,
)

MODEL = "ridge (factors+radius)"


def row_of(metrics, name, group="reliable voxels"):
    return next(row for row in metrics["rows"] if row["row"] == name and row["group"] == group)


def printed(table, width=80):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def without_spaces(text):
    return "".join(text.split())


@pytest.mark.parametrize(
    ("value", "digits", "sign", "expected"),
    [
        (0.41, 3, False, ".410"),
        (-0.003, 2, False, "−.00"),
        (1.376, 3, False, "1.376"),
        (0.01, 2, True, "+.01"),
        (0.0, 0, False, "0"),
        (0.6, 0, False, "1"),
        (-12.5, 1, True, "−12.5"),
        (None, 3, False, "–"),
        (math.nan, 3, False, "–"),
    ],
)
def test_numbers_are_printed_as_in_the_field(value, digits, sign, expected):
    assert number(value, digits, sign) == expected


def test_an_interval_needs_both_ends():
    assert interval({"value": 0.4, "low": 0.39, "high": 0.43}) == "[.390, .430]"
    assert interval({"value": 0.4, "low": None, "high": 0.43}) == ""
    assert interval(None) == ""


def test_verdict_of_an_undecided_model(metrics):
    assert verdict(metrics) == (
        "Median r .410 [.390, .430] over 420 reliable voxels, 71 % of the explainable variance; "
        "the best row that sees no image (shuffled images) scores .002; "
        "against ridge +.010 [−.001, +.021]: undecided; against ridge + factor analysis .000 [−.011, +.011]: undecided."
    )


def test_verdict_admits_a_model_that_sees_nothing(metrics):
    row_of(metrics, MODEL)["scores"]["r"] = {"value": 0.01, "low": -0.01, "high": 0.03}
    metrics["differences"] = []
    assert "scores .002, from which it cannot be told apart." in verdict(metrics)
    row_of(metrics, MODEL)["scores"]["r"] = {"value": -0.2, "low": -0.3, "high": -0.1}
    assert "scores .002, which is better." in verdict(metrics)


def test_verdict_without_a_ceiling_or_any_score(metrics):
    row_of(metrics, MODEL)["scores"]["share"] = None
    assert "where the noise ceiling is unknown" in verdict(metrics)
    for row in metrics["rows"]:
        row["scores"] = dict.fromkeys(row["scores"])
    assert verdict(metrics) == "No model in this run has a score; see the warnings."


def test_verdict_falls_back_to_all_voxels_and_to_the_first_metric(metrics):
    metrics["rows"] = [row for row in metrics["rows"] if row["group"] == "all"]
    assert headline(metrics) == ("r", "all")
    del metrics["metrics"]["r"]
    assert headline(metrics) == ("share", "all")
    assert verdict(metrics).startswith("R² / noise ceiling, median .639")


@pytest.mark.parametrize(
    ("better", "low", "high", "expected"),
    [
        ("higher", 0.01, 0.02, "better"),
        ("higher", -0.02, -0.01, "worse"),
        ("lower", 0.01, 0.02, "worse"),
        ("lower", -0.02, -0.01, "better"),
        ("one", 0.01, 0.02, "higher"),
        ("one", -0.02, -0.01, "lower"),
        ("higher", -0.01, 0.02, "undecided"),
        ("higher", None, None, "undecided"),
    ],
)
def test_a_difference_is_decided_by_its_interval(better, low, high, expected):
    metrics = {"metrics": {"m": {"better": better}}}
    assert outcome(metrics, {"metric": "m", "value": 0.0, "low": low, "high": high}) == expected


@pytest.mark.parametrize(
    ("better", "model", "null", "expected"),
    [
        ("higher", (0.2, 0.1, 0.3), (0.0, -0.1, 0.05), ""),
        ("higher", (0.2, 0.1, 0.3), (0.1, 0.0, 0.15), AS_NULL),
        ("higher", (-0.2, -0.3, -0.1), (0.0, -0.05, 0.05), BELOW_NULL),
        ("lower", (0.5, 0.4, 0.6), (1.0, 0.9, 1.1), ""),
        ("lower", (1.5, 1.4, 1.6), (1.0, 0.9, 1.1), BELOW_NULL),
        ("one", (1.05, 1.0, 1.1), (0.0, 0.0, 0.0), ""),
        ("one", (3.0, 2.9, 3.1), (1.1, 1.0, 1.2), BELOW_NULL),
        ("higher", (0.2, None, None), (0.2, None, None), ""),  # nothing says how sure either is
    ],
)
def test_a_mark_says_how_a_cell_stands_to_the_null(better, model, null, expected):
    rows = [
        {"row": kind, "kind": kind, "group": "all", "scores": {"m": dict(zip(("value", "low", "high"), values, strict=True))}}
        for kind, values in (("model", model), ("null", null))
    ]
    metrics = {"metrics": {"m": {"better": better}}, "rows": rows}
    assert mark(metrics, rows[0], "m") == expected
    assert mark(metrics, rows[1], "m") == ""


def test_a_paired_difference_goes_before_overlapping_intervals():
    scores = {"model": {"value": 1.61, "low": 1.6, "high": 1.63}, "null": {"value": 1.62, "low": 1.61, "high": 1.64}}
    rows = [{"row": kind, "kind": kind, "group": "all", "scores": {"bits": value}} for kind, value in scores.items()]
    metrics = {"metrics": {"bits": {"better": "lower"}}, "rows": rows}
    assert mark(metrics, rows[0], "bits") == AS_NULL
    paired = {"of": "model", "against": "null", "group": "all", "metric": "bits", "value": -0.01, "low": -0.012, "high": -0.008}
    assert mark({**metrics, "differences": [paired]}, rows[0], "bits") == ""


def test_the_mark_compares_with_the_best_null(metrics):
    row = row_of(metrics, MODEL)
    row["scores"]["mse"] = {"value": 1.2, "low": 1.15, "high": 1.25}
    assert mark(metrics, row, "mse") == BELOW_NULL  # between the two nulls, .98 and 1.32


def test_the_main_table_takes_whole_brain_metrics_from_all_voxels(metrics):
    about = columns(metrics)
    assert about["r"] == "reliable voxels"
    assert about["bits"] == "all"
    assert list(about) == list(metrics["metrics"])
    assert list(columns(metrics, "V1")) == ["r", "share", "mse", "variance_ratio"]
    line = next(line for line in lines(metrics) if line.name == MODEL)
    assert str(line.cells[0]) == ".410 [.390, .430]"
    assert line.cells[list(about).index("bits")].value == "1.393"


@pytest.mark.parametrize("group", [None, "all", "V1"])
def test_every_row_and_metric_is_in_the_terminal_and_in_markdown(metrics, group):
    text, markdown = without_spaces(printed(table_text(metrics, group), width=200)), table_markdown(metrics, group)
    for line in lines(metrics, group):
        for cell in line.cells:
            assert cell.value in text
            assert str(cell) in markdown
        assert line.name in markdown
    for name in columns(metrics, group):
        assert without_spaces(metrics["metrics"][name]["short"]) in text
        assert metrics["metrics"][name]["short"] in markdown


def test_the_terminal_table_fits_80_columns_without_breaking_words(metrics):
    text = printed(table_text(metrics), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "[.390, .430]" in text
    for word in ("training-", "pattern", "shuffled", "analysis", "radius)"):
        assert word in text


def test_markup_and_bars_in_names_stay_text(metrics):
    for row in metrics["rows"]:
        row["row"] = row["row"].replace(MODEL, "[bold]a|b[/bold]")
    assert r"| [bold]a\|b[/bold] |" in table_markdown(metrics)
    assert "[bold]a|b[/bold]" in without_spaces(printed(table_text(metrics), width=200))


def test_a_metric_nobody_knew_is_shown(metrics):
    metrics["metrics"]["novelty"] = {"title": "a score of next year", "better": "higher", "digits": 1}
    row_of(metrics, MODEL)["scores"]["novelty"] = {"value": 42.25, "low": None, "high": None}
    assert "42.2" in table_markdown(metrics)
    assert "a score of next year" in table_markdown(metrics)


def test_values_that_are_no_numbers_are_dashes(metrics):
    row_of(metrics, MODEL)["scores"]["r"] = {"value": math.nan, "low": math.nan, "high": math.nan}
    row_of(metrics, MODEL)["scores"]["mse"] = None
    cells = next(line for line in lines(metrics, "reliable voxels") if line.name == MODEL).cells
    assert [str(cell) for cell in cells[:3]] == ["–", ".710 [.690, .730]", "–"]


def test_a_run_without_an_evaluation_says_what_to_do(tmp_path):
    with pytest.raises(CortexflowError, match=r"no metrics.json; run `cortexflow evaluate .*` first") as error:
        load_metrics(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"metrics": {}, "rows": []}', '{"metrics": {"r": {}}, "rows": [{"row": "a"}]}', '{"metrics": {"r": 1}, "rows": [{}]}'],
)
def test_a_damaged_evaluation_says_what_to_do(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(DamagedFileError, match="is damaged .*run `cortexflow evaluate .*` first") as error:
        load_metrics(tmp_path)
    assert "\n" not in str(error.value)


def test_a_whole_evaluation_is_read_as_it_is(tmp_path, metrics):
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert load_metrics(tmp_path) == metrics
