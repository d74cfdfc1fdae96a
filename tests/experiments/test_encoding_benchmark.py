"""The benchmark of encoders: whole at a tiny size, continued without computing again, and honest about twins and omissions."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cortexflow.experiments.base import Estimate
from cortexflow.storage import load_json
from cortexflow.training import Machine, RunConfig, open_study

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "encoding.py"
TINY = {"images": 60, "held_out": 20, "voxels": 30, "seeds": 2, "draws": 40}
WORDS = ("--quick", "--families", "gaussian", "student", "resampled", "--models", "ridge", "null")


@pytest.fixture(scope="module")
def benchmark():
    """The script as a module, its smoke run made smaller still."""
    if not SCRIPT.is_file():
        pytest.skip(f"no {SCRIPT}: the benchmarks are not part of an installed package")
    spec = importlib.util.spec_from_file_location("encoding_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.QUICK = replace(module.QUICK, **TINY)
    return module


@pytest.fixture(scope="module")
def made(benchmark, tmp_path_factory):
    """The folder of a whole run; there is no recording in it."""
    out = tmp_path_factory.mktemp("benchmark")
    benchmark.main(["--out", str(out), "--recordings", str(out / "nowhere"), *WORDS])
    return out


def test_tables_hold_every_model_and_family(made):
    page, content = (made / "encoding.md").read_text(), load_json(made / "encoding.json")
    assert list(content["families"]) == ["gaussian", "student"]
    models = ["null (factors+radius)", "ridge (diagonal)", "ridge (factors)", "ridge (factors+radius)"]
    for family in content["families"].values():
        assert list(family["scores"])[:4] == models and list(family["calibration"]) == models
    for words in ("30 voxels, 40 training and 20 held-out", "### gaussian", "### student", *models):
        assert words in page
    widths = {line.count("|") for line in page.splitlines() if line.startswith("| model")}
    assert len(widths) == 1 and all(line.count("|") in widths for line in page.split("## Scores")[1].splitlines() if line.startswith("|"))


def test_what_was_left_out_is_said(made):
    assert "`resampled` was left out: no recording" in (made / "encoding.md").read_text()
    assert list(load_json(made / "encoding.json")["skipped"]) == ["resampled"]


def test_differences_are_those_of_the_scores(made):
    for family in load_json(made / "encoding.json")["families"].values():
        bits = {title: scores["bits"]["value"] for title, scores in family["scores"].items() if "bits" in scores}
        saved = {name: one["value"] for name, one in family["differences"].items()}
        assert saved["factors − diagonal"] == pytest.approx(bits["ridge (diagonal)"] - bits["ridge (factors)"])
        assert saved["factors+radius − factors"] == pytest.approx(bits["ridge (factors)"] - bits["ridge (factors+radius)"])
        null = saved["null (factors+radius) − ridge (factors+radius), bits"]
        assert null == pytest.approx(bits["ridge (factors+radius)"] - bits["null (factors+radius)"])


def test_nobody_is_better_than_the_truth(made):
    scores = load_json(made / "encoding.json")["families"]["gaussian"]["scores"]
    assert all(scores["the truth"]["bits"]["value"] < one["bits"]["value"] for title, one in scores.items() if "bits" in one and title != "the truth")
    assert "the truth" not in load_json(made / "encoding.json")["families"]["student"]["scores"]


def test_ranks_and_coverages_are_shares(made):
    for family in load_json(made / "encoding.json")["families"].values():
        for one in family["calibration"].values():
            assert sum(one["pit"]) == pytest.approx(1, abs=1e-5)
            deviation = 20 * np.array(one["pit"]) - 1
            assert one["pit_deviation"] == pytest.approx(np.abs(deviation).max(), abs=1e-5)
            assert one["pit_distance"] == pytest.approx(np.square(deviation).mean(), abs=1e-5)
            for coverage in (one["coverage"], one["joint"]):
                values = [coverage[level]["value"] for level in ("0.5", "0.8", "0.95")]
                assert 0 <= values[0] <= values[1] <= values[2] <= 1


def test_finished_parts_are_not_computed_again(benchmark, made, monkeypatch):
    before = load_json(made / "encoding.json")["families"]

    def never(*_):
        raise AssertionError("a finished part was computed again")

    monkeypatch.setattr(benchmark, "prepare", never)
    benchmark.main(["--out", str(made), "--recordings", str(made / "nowhere"), *WORDS])
    assert load_json(made / "encoding.json")["families"] == before


def test_the_truth_against_the_density_of_standardised_responses(benchmark):
    """The same density in z-scored units: mean, covariance and unit go through each session's line from one to the other."""
    size = benchmark.Size(**TINY)
    comparison = benchmark.prepare("gaussian", 0, size, Machine())
    study, dataset = comparison.study, comparison.study.dataset
    raw = dataset.trials("subj01").of(dataset.held_out())
    covariance, mean = dataset.noise_covariance("subj01").double(), dataset.signal("subj01", raw.stimuli).double()
    mean = mean + dataset.session_offsets("subj01")[raw.sessions - 1]
    bits = torch.empty(len(raw))
    for session in raw.sessions.unique():
        rows = raw.sessions == session
        x, z = raw.responses[rows].double(), study.test.responses[rows].double()
        slope = (z[0] - z[1]) / (x[0] - x[1])
        moved = z[0] + slope * (mean[rows] - x[0])
        density = torch.distributions.MultivariateNormal(torch.zeros(30, dtype=torch.float64), slope[:, None] * covariance * slope)
        bits[rows] = (-density.log_prob(z - moved) / (30 * np.log(2))).float()
    expected = float(comparison.test.trial_mean(bits)[0])
    assert float(benchmark.truth(comparison)["score.bits"][0]) == pytest.approx(expected, abs=2e-3)


def test_joint_coverage_of_the_model_that_made_the_trials(benchmark):
    """Trials drawn from a model lie in its regions of highest density as often as these say; a shifted model's never."""
    comparison = benchmark.prepare("gaussian", 0, replace(benchmark.Size(**TINY), held_out=40, images=80), Machine())
    encoder, test = comparison.fitted({"name": "ridge", "noise": "factors"}), comparison.test
    torch.manual_seed(1)
    drawn = replace(test.single.trials, responses=encoder.sample(test.features[test.row])[0])
    own = replace(test, single=replace(test.single, trials=drawn))
    for level, draws in zip(benchmark.LEVELS, benchmark.joint_coverage(encoder, own, 0).values(), strict=True):
        assert float(draws[0]) == pytest.approx(level, abs=0.12)
    far = replace(test, single=replace(test.single, trials=replace(drawn, responses=drawn.responses + 20)))
    assert all(float(draws[0]) == 0 for draws in benchmark.joint_coverage(encoder, far, 0).values())


def test_no_residual_is_on_both_sides_or_comes_twice(benchmark, tmp_path):
    folder = tmp_path / "simulated"
    folder.mkdir()
    np.save(folder / "residuals.npy", np.random.default_rng(0).standard_normal((60, 40)))
    choice = {"name": "simulated", "setting": "resampled", "images": 60, "held_out": 10, "voxels": 30}
    study = open_study(RunConfig.of({"data": choice}), Machine(data=tmp_path))
    kept = benchmark.without_twins(study)
    dataset = study.dataset
    trials = dataset.trials("subj01")
    noise = trials.responses - dataset.signal("subj01", trials.stimuli) - dataset.session_offsets("subj01")[trials.sessions - 1]
    row = torch.unique((noise[:, :3] * 1e3).round(), dim=0, return_inverse=True)[1]  # which residual each trial has
    held = torch.isin(trials.stimuli, dataset.held_out())
    seen = set(row[held].tolist())
    expected = torch.tensor([not (one in seen or seen.add(one)) for one in row[~held].tolist()])
    assert 0 < int(expected.sum()) < len(expected)
    assert torch.equal(kept.training.responses, study.training.responses[expected]) and torch.equal(kept.test.responses, study.test.responses)


def test_residuals_of_the_recording_have_lost_their_task(benchmark, recordings, tmp_path):
    assert benchmark.record(recordings, tmp_path) is None
    residuals = np.load(tmp_path / "recordings" / "simulated" / "residuals.npy")
    assert residuals.shape == (12 * 8 * 14, 530)
    study = benchmark.Haxby2001(benchmark.Haxby2001.Config(form="volumes", lag=0, window=14), recordings / "haxby2001")
    stimuli = study.trials("sub001").stimuli
    courses = torch.from_numpy(residuals).reshape(96, 14, -1)
    means = torch.stack([courses[stimuli[::14] == category].mean(0) for category in range(8)])
    assert float(means.abs().max()) < 1e-5 and float(courses.std()) > 0.5


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.03, 0.02, 0.04, "better"),
        (-0.03, -0.04, -0.02, "worse"),
        (0.03, -0.01, 0.07, "open"),
        (0.001, 0.0005, 0.002, "same"),
        (0.004, 0.001, 0.009, "open"),
    ],
)
def test_a_small_difference_is_none_however_sure(benchmark, value, low, high, said):
    assert benchmark.outcome(Estimate("x", value, low, high, "", ())) == said


def estimates(*values):
    return {str(level): Estimate("coverage", value, value, value, "seeds", ()) for level, value in zip((0.5, 0.8, 0.95), values, strict=True)}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.51, 0.79, 0.95), "within 2 points"),
        ((0.40, 0.70, 0.88), "samples too narrow"),
        ((0.60, 0.90, 0.99), "samples too wide"),
        ((0.55, 0.81, 0.93), "trials have heavier tails"),
    ],
)
def test_the_shape_of_a_miss_is_named(benchmark, values, said):
    assert benchmark.shape(estimates(*values)) == said


def test_a_win_on_its_own_families_alone_is_marked(benchmark):
    def found(**gains):
        return {
            family: {"differences": {"factors+radius − factors": Estimate("x", gain, gain - 0.1, gain + 0.1, "", ())}}
            for family, gain in gains.items()
        }

    assert "own families alone" in benchmark.wins("factors+radius − factors", found(rich=0.5, calibrated=0.3, student=0.0))
    assert "own families alone" not in benchmark.wins("factors+radius − factors", found(rich=0.5, student=0.3))
    assert "better in student" in benchmark.wins("factors+radius − factors", found(gaussian=-0.5, student=0.3))
