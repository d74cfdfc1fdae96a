"""The examples run and print the known figures."""

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

from cortexflow.storage import load_json

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


def test_a_constant_scores_as_a_model_does_across_voxels_and_nothing_across_pictures(tmp_path, monkeypatch):
    """Small studies of two seeds; the bounds hold for any."""
    spec = importlib.util.spec_from_file_location("constant_pattern", EXAMPLES / "constant_pattern.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "SEEDS", 2)
    monkeypatch.setattr(example, "STUDY", {"images": 160, "held_out": 40, "voxels": 80, "image_size": 32, "subjects": 2})
    monkeypatch.setattr(sys, "argv", ["constant_pattern.py", "--seed", "5", "--out", str(tmp_path)])
    example.main()
    scores = {name: one["value"] for name, one in load_json(tmp_path / "constant_pattern.json")["scores"].items()}
    assert scores["r across voxels, constant"] > 0.8 * scores["r across voxels, true mean"] > 0.4
    assert abs(scores["r across voxels, ridge"] - scores["r across voxels, constant"]) < 0.06
    assert scores["r per voxel, constant"] == scores["r across voxels, z-scored, constant"] == 0
    assert 0.1 < scores["r per voxel, ridge"] < scores["r per voxel, true mean"]
    assert scores["MSE, true mean"] < scores["MSE, constant"]
    assert (tmp_path / "constant_pattern.png").read_bytes()[:4] == b"\x89PNG"


def test_the_published_means_are_those_of_the_page():
    page = (EXAMPLES.parent / "docs" / "constant_pattern.md").read_text()
    published = runpy.run_path(str(EXAMPLES / "constant_pattern.py"))["PUBLISHED"]
    means = [sum(rows[row][place] for rows in published.values()) / 4 for row in ("constant", "SynBrain") for place in (0, 1)]
    assert means == pytest.approx([0.1355, 0.673, 0.1385, 0.687], abs=6e-4)
    for subject, rows in published.items():
        error, r = rows["constant"]
        assert f"| {subject} | {error:.4f} / {r:.3f}".replace(" 0.", " .") in page
