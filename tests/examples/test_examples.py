"""The examples run and print the known figures."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def printed(monkeypatch, capsys):
    def run(name, *arguments):
        monkeypatch.delenv("CORTEXFLOW_DATA", raising=False)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def number(text, line):
    """The first number after the name of a line."""
    found = next(one for one in text.splitlines() if one.startswith(line))
    return float(found[len(line) :].split()[0].strip(",:"))


def test_categories_of_one_slice(printed, recordings):
    text = printed("haxby2001.py", "--data", recordings, "--shuffles", 50)
    assert number(text, "accuracy, logistic regression") == pytest.approx(0.729, abs=0.03)
    assert number(text, "accuracy, ridge") >= 0.70
    assert number(text, "50 shuffles within runs, ridge   mean") == pytest.approx(0.125, abs=0.02)
    assert number(text, "p =") == pytest.approx(1 / 51, abs=1e-4)


def test_objects_in_cortex_and_models(printed, recordings):
    text = printed("rsa92.py", "--data", recordings, "--draws", 5)
    for model, expected in {"animacy": 0.386, "monkeyIT": 0.296, "HMAX": 0.160, "V1": 0.027}.items():
        assert number(text, model) == pytest.approx(expected, abs=6e-4)
    assert "mean ranks of the others, and of all, Pearson   0.377 to 0.672" in text
    assert "macaque IT with the mean of the people   0.439" in text
    assert "published mean of the people, Pearson   1.000" in text


@pytest.mark.parametrize("name", ["haxby2001.py", "rsa92.py"])
def test_without_data_one_line_says_what_to_do(printed, name):
    with pytest.raises(SystemExit, match=r"needs the folder of its files; copy .* and name the folder above DIR with --data$"):
        printed(name)
