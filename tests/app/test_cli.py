import json
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from cortexflow.app import cli
from cortexflow.app.settings import read_tree
from cortexflow.errors import CortexflowError

SMALL = ["-s", "data.name=simulated", "-s", "data.images=220", "-s", "data.held_out=40", "-s", "data.voxels=40", "-s", "data.image_size=32"]
SMALL += ["-s", "features=pixels", "-s", "components=20", "-s", "encoder.name=ridge", "-s", "encoder.factors=2"]


def command(monkeypatch, *words):
    """Run the command line; gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["cortexflow", *map(str, words)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0
    return 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ridge"
    with pytest.MonkeyPatch.context() as patch:
        assert command(patch, "train", "--out", folder, *SMALL) == 0
    return folder


def test_from_training_to_the_page(run, monkeypatch, capsys, tmp_path):
    assert command(monkeypatch, "evaluate", run, "--draws", 20) == 0
    assert "ridge (factors+radius), subj01, simulated" in capsys.readouterr().out
    assert command(monkeypatch, "report", run) == 0
    assert (run / "report.html").stat().st_size > 50_000
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (50, 40), (10, 200, 30)).save(tmp_path / "pictures" / "green.png")
    assert command(monkeypatch, "synthesize", run, tmp_path / "pictures", "--out", tmp_path / "out.npz", "--samples", 2, "--areas", "V1") == 0
    assert np.load(tmp_path / "out.npz")["samples"].shape[:2] == (2, 1)
    capsys.readouterr()


def test_a_configuration_file_and_settings_are_the_same_tree(run, tmp_path, monkeypatch):
    tree = {"data": {"name": "simulated", "images": 220, "held_out": 40, "voxels": 40, "image_size": 32}, "features": ["pixels"]}
    tree |= {"components": 20, "encoder": {"name": "ridge", "factors": 5}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    assert command(monkeypatch, "train", "--config", tmp_path / "run.yaml", "-s", "encoder.factors=2", "--out", tmp_path / "run") == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == json.loads((run / "run.json").read_text())


def test_settings():
    assert read_tree(None, ["a.b=1", "a.c=[1, 2]", "encoder=ridge", "encoder.factors=3"]) == {
        "a": {"b": 1, "c": [1, 2]},
        "encoder": {"name": "ridge", "factors": 3},
    }
    assert read_tree(None, ["features=[{name: gabor}]", "features.0.size=32"]) == {"features": [{"name": "gabor", "size": 32}]}
    for wrong, message in {"a": "not of the form", "seed.x=1": "has no parts", "features.3.size=1": "no item of a list"}.items():
        with pytest.raises(CortexflowError, match=message):
            read_tree(None, ["seed=1", "features=[{name: gabor}]", wrong])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--out", "{tmp}/x", "-s", "encoder=flwo"], "no encoding entry is called 'flwo'"),
        (["train", "--out", "{tmp}/x", "-s", "seeed=1"], "seeed: Extra inputs are not permitted; options are data, subject"),
        (["train", "--out", "{tmp}/x", "-s", "subject=subj77", *SMALL], "no subject 'subj77'; choose one of subj01"),
        (["train", "--out", "{tmp}/x", "--config", "{tmp}/none.yaml"], "cannot be read"),
        (["train", "--out", "{tmp}/x", "--device", "cuda:77", *SMALL], "choose --device cpu"),
        (["train", "--out", "{run}", *SMALL], "already holds a run"),
        (["evaluate", "{tmp}/none"], "is not a run"),
        (["report", "{tmp}/none"], "cortexflow evaluate"),
        (["synthesize", "{run}", "{tmp}/none", "--out", "{tmp}/o.npz"], "is not a folder"),
        (["train", "--out", "{tmp}/x", "-s", "data=szinte2024"], "szinte2024"),
        (["features", "compute", *SMALL], "--cache"),
        (["run", "dmeo", "--out", "{tmp}/x"], "no experiments entry is called 'dmeo'; choose one of "),
    ],
)
def test_mistakes_are_one_line_and_no_traceback(words, message, run, tmp_path, monkeypatch, capsys):
    for variable in ("CORTEXFLOW_DATA", "CORTEXFLOW_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    words = [word.replace("{tmp}", str(tmp_path)).replace("{run}", str(run)) for word in words]
    assert command(monkeypatch, *words) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and message in printed
    assert "Traceback" not in printed and printed.count("\n") == 1


def test_one_run_for_each_subject_and_area(tmp_path, monkeypatch, capsys):
    lists = ["--each", "subject=subj01,subj02", "--each", "area=V1,IT"]
    assert command(monkeypatch, "train", "--out", tmp_path / "runs", *SMALL, *lists) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["subj01-IT", "subj01-V1", "subj02-IT", "subj02-V1"]
    assert capsys.readouterr().out.count("next: cortexflow evaluate") == 4
    assert command(monkeypatch, "train", "--out", tmp_path / "runs", *SMALL, "--each", "subject") == 2
    assert "--each subject=subj01,subj02" in capsys.readouterr().err


def test_an_unknown_subject_of_each_is_told_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "train", "--out", tmp_path / "runs", *SMALL, "--each", "subject=subj01,subj77") == 2
    assert "no subject 'subj77'; choose one of subj01" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("words", "remedy"), [(["train", "--out", "runs"], "continue with --resume"), (["evaluate", "runs"], "run it again")])
def test_an_interrupt_is_one_line(words, remedy, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cortexflow.training.train_all", interrupted)
    monkeypatch.setattr("cortexflow.training.Run.load", interrupted)
    assert command(monkeypatch, *words) == 130
    printed = capsys.readouterr().err
    assert printed.startswith("stopped; ") and remedy in printed and printed.count("\n") == 1


@pytest.mark.parametrize("odd", ["2020-13-45", "0b_", "[" * 3000, "{5: 6}", "&a [*a]", "!!python/object:os.system {}", "? [1]: 2", "2020-01-01"])
def test_odd_yaml_is_one_line(odd, tmp_path):
    (tmp_path / "run.yaml").write_text(f"data: {odd}\n")
    for config, settings in ((tmp_path / "run.yaml", []), (None, [f"data={odd}"])):
        with pytest.raises(CortexflowError) as caught:
            read_tree(config, settings)
        assert "\n" not in str(caught.value)


def test_debug_shows_the_traceback(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "evaluate", tmp_path / "none", "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_damaged_model_is_a_clear_error(run, tmp_path, monkeypatch, capsys):
    import shutil

    shutil.copytree(run, tmp_path / "run")
    encoder = tmp_path / "run" / "encoder.safetensors"
    encoder.write_bytes(encoder.read_bytes()[:-10])
    assert command(monkeypatch, "evaluate", tmp_path / "run") == 2
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["info"], ["data", "list"], ["features", "list"], ["data", "info", "simulated", "-s", "images=220", "-s", "held_out=40", "-s", "voxels=40"]],
)
def test_looking_around(words, monkeypatch, capsys):
    assert command(monkeypatch, *words) == 0
    assert "simulated" in capsys.readouterr().out or words == ["features", "list"]


def test_the_list_of_features_says_which_weights_they_take(monkeypatch, capsys):
    from cortexflow.features.resnet import Resnet

    assert command(monkeypatch, "features", "list") == 0
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["resnet"] == f"(revision {Resnet.revision}, resnet mini {Resnet().weights})"
    assert Resnet().weights in Resnet().key and "," not in lines["pixels"]


def test_features_are_cached(tmp_path, monkeypatch, capsys):
    assert command(monkeypatch, "features", "compute", "--cache", tmp_path, *SMALL) == 0
    assert "pixels: 220 pictures" in capsys.readouterr().out
    assert list(tmp_path.rglob("*.safetensors"))
