from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch

from cortexflow.data.standardize import average_repeats
from cortexflow.errors import CortexflowError
from cortexflow.metrics.identification import fit_temperature, identification_log_loss, likelihood_scores
from cortexflow.metrics.noise_ceiling import ncsnr, noise_ceiling
from cortexflow.report.evaluation import METRICS, Scorer, evaluate, held_out_side, tempered_log_loss
from cortexflow.report.page import write_page
from cortexflow.report.tables import table_text
from cortexflow.storage import load_json, load_tensors
from cortexflow.training import Machine, Run, RunConfig, join, open_study, tabulate, train

DATA = {"name": "simulated", "images": 260, "held_out": 60, "voxels": 60, "image_size": 32, "setting": "rich"}
TITLE = "ridge (factors)"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return Machine(cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def run(machine, tmp_path_factory):
    tree = {"data": DATA, "features": ["gabor"], "components": 30, "encoder": {"name": "ridge", "noise": "factors", "factors": 3}}
    return train(RunConfig.of(tree), tmp_path_factory.mktemp("runs") / "ridge", machine)


@pytest.fixture(scope="module")
def metrics(run, machine):
    return evaluate([run], machine, run.folder, draws=200)


def line(metrics, row, group="all"):
    return next(one["scores"] for one in metrics["rows"] if one["row"] == row and one["group"] == group)


def test_the_headline_is_r_per_voxel_across_images_by_hand(run, metrics, machine):
    study = open_study(run.config, machine)
    average = average_repeats(study.test)
    predicted = run.encoder.predict(run.space.of_images(study.dataset.images(average.stimuli)))
    pairs = zip(predicted.T.numpy(), average.responses.T.numpy(), strict=True)
    by_hand = np.median([scipy.stats.pearsonr(a, b).statistic for a, b in pairs])
    score = line(metrics, TITLE)["r"]
    assert score["value"] == pytest.approx(by_hand, abs=2e-4)
    assert score["low"] < score["value"] < score["high"]


def test_bits_are_of_single_trials(run, metrics, machine):
    test = open_study(run.config, machine).test
    features = run.space.of_images(open_study(run.config, machine).dataset.images(test.stimuli))
    by_hand = float(-run.encoder.log_prob(features, test.responses).mean() / 60 / np.log(2))
    assert line(metrics, TITLE)["bits"]["value"] == pytest.approx(by_hand, abs=1e-4)


def test_the_ceiling_comes_from_training_repeats(run, metrics, machine):
    study = open_study(run.config, machine)
    ceiling = noise_ceiling(ncsnr(study.training.responses, study.training.stimuli), 3).sqrt()
    assert line(metrics, "noise ceiling")["r"]["value"] == pytest.approx(np.nanmedian(ceiling.numpy()), abs=1e-4)
    assert line(metrics, TITLE)["r"]["value"] < float(ceiling.median())


def test_every_table_carries_nulls_ridge_a_real_repeat_and_the_ceiling(metrics):
    kinds = {row["row"]: row["kind"] for row in metrics["rows"]}
    assert kinds == {
        TITLE: "model",
        "ridge (factors+radius)": "reference",
        "training-mean pattern": "null",
        "zero": "null",
        "shuffled images": "null",
        "a real repeat": "reference",
        "noise ceiling": "ceiling",
    }


def test_nulls_score_as_nulls(metrics):
    for null in ("training-mean pattern", "zero"):
        scores = line(metrics, null)
        assert scores["r"]["value"] == 0 and scores["two_way"]["value"] == pytest.approx(0.5) and scores["top_one"]["value"] == pytest.approx(1 / 60)
    assert abs(line(metrics, "shuffled images")["r"]["value"]) < 0.08
    assert abs(line(metrics, "shuffled images")["two_way"]["value"] - 0.5) < 0.08
    assert line(metrics, "shuffled images")["bits"]["value"] > line(metrics, TITLE)["bits"]["value"]


def test_the_model_beats_its_nulls_and_samples_vary_as_repeats_do(metrics):
    scores = line(metrics, TITLE)
    assert scores["r"]["low"] > 0.1 and scores["two_way"]["low"] > 0.6
    assert 0.85 < scores["variance_ratio"]["value"] < 1.4
    assert scores["top_one_likelihood"]["value"] > scores["top_one"]["value"]


def first_trials(run, machine):
    """Log densities of the first trial of each of the 60 test pictures under every one of them."""
    study = open_study(run.config, machine)
    stimuli = study.test.stimuli.unique()
    first = torch.stack([(study.test.stimuli == stimulus).nonzero()[0, 0] for stimulus in stimuli])
    return likelihood_scores(run.encoder.log_prob, run.space.of_images(study.dataset.images(stimuli)), study.test.responses[first])


def test_log_loss_beats_guessing_and_shuffled_pictures_do_not(metrics):
    assert line(metrics, TITLE)["log_loss"]["high"] < np.log(60)
    assert line(metrics, "training-mean pattern")["log_loss"]["value"] == pytest.approx(np.log(60), abs=1e-4)
    assert line(metrics, "shuffled images")["log_loss"]["value"] > np.log(60) - 0.02
    assert line(metrics, "shuffled images")["top_one_likelihood"]["value"] == pytest.approx(1 / 60, abs=0.03)


def test_the_likelihood_is_too_sure_of_itself_and_a_temperature_mends_it(run, metrics, machine):
    scores, truth = first_trials(run, machine), torch.arange(60)
    halves = (truth < 30, truth >= 30)
    temperatures = [fit_temperature(scores[half], truth[half]) for half in halves]
    assert min(temperatures) > 1
    by_hand = [identification_log_loss(scores[half], truth[half], t).mean() for half, t in zip(halves[::-1], temperatures, strict=True)]
    assert line(metrics, TITLE)["log_loss"]["value"] == pytest.approx(float(sum(by_hand) / 2), abs=1e-4)
    assert line(metrics, TITLE)["log_loss"]["value"] < float(identification_log_loss(scores, truth).mean())


def test_no_trial_fits_its_own_temperature():
    """Half of the trials are identified without error, half are guessed: either half is scored at the other's temperature."""
    scores = torch.randn(40, 40)
    scores[:20] += 50 * torch.eye(40)[:20]
    loss = tempered_log_loss(scores)
    assert float(loss[:20].mean()) > 3 and float(loss[20:].mean()) > 20  # at their own: 0 and log 40


def test_crps_is_that_of_the_samples_and_has_an_interval(metrics):
    ours, blind = line(metrics, TITLE)["crps"], line(metrics, "training-mean pattern")["crps"]
    assert ours["low"] < ours["value"] < ours["high"] and ours["value"] < blind["value"]
    everywhere = sum(line(metrics, TITLE, area)["crps"]["value"] * metrics["groups"][area] for area in ("V1", "V2", "hV4", "IT"))
    assert everywhere / metrics["groups"]["all"] == pytest.approx(ours["value"], abs=1e-5)


def test_first_trials_are_those_of_the_first_repeat_whatever_the_order(run, machine):
    study = open_study(run.config, machine)
    table = tabulate(run.space, study, study.test.seen, machine)
    single = join(study.test, table)
    back = torch.arange(len(study.test)).flip(0)
    turned = replace(
        single,
        features=single.features[back],
        trials=replace(study.test, **{name: getattr(study.test, name)[back] for name in ("stimuli", "sessions", "repeats", "responses", "groups")}),
    )
    everywhere = {"all": torch.ones(60, dtype=torch.bool)}
    found = [Scorer(held_out_side(one, study, 5, 0), everywhere, 0) for one in (single, turned)]
    for metric in ("r", "two_way"):
        a, b = (scorer.real_repeat().scores[metric, "all"] for scorer in found)
        torch.testing.assert_close(a, b)
    (_, here), (_, there) = (scorer.few for scorer in found)
    assert torch.equal(found[0].test.trials[here], found[1].test.trials[there])


def test_differences_are_paired(metrics):
    """The same mean with another noise: r differs by exactly nothing, bits differ."""
    found = {one["metric"]: one for one in metrics["differences"] if one["against"] == "ridge (factors+radius)" and one["group"] == "all"}
    assert found["r"]["value"] == found["r"]["low"] == found["r"]["high"] == 0
    assert found["bits"]["low"] > 0  # in `rich` the radius saves bits


def test_groups_hold_the_areas_and_every_metric_is_declared(metrics):
    assert {"all", "reliable voxels", "V1", "V2", "hV4", "IT"} <= set(metrics["groups"])
    used = {name for row in metrics["rows"] for name, score in row["scores"].items() if score}
    assert used == set(metrics["metrics"]) <= set(METRICS)


def test_pictures_of_the_report_are_there(run, metrics):
    arrays, _ = load_tensors(run.folder / "evaluation.safetensors")
    assert arrays["patterns.measured"].shape == arrays["patterns.sampled"].shape == (4, 3, 60)
    assert arrays["measured"].shape == arrays["predicted"].shape == (60, 60)
    assert float(arrays["calibration.pit"].sum()) == pytest.approx(1, abs=0.02) or float(arrays["calibration.pit"].sum()) > 1
    page = write_page(run.folder).read_text()
    assert all(row["row"] in page for row in metrics["rows"])
    assert table_text(metrics).row_count >= 6


def test_accuracy_grows_with_the_number_of_samples_averaged(run, metrics):
    arrays, _ = load_tensors(run.folder / "evaluation.safetensors")
    by_samples = arrays["by_samples.r"]
    assert by_samples[0] < by_samples[-1] < line(metrics, TITLE)["r"]["value"] + 0.05


def test_the_same_run_evaluates_to_the_same_numbers(run, metrics, machine, tmp_path):
    assert evaluate([run], machine, tmp_path, draws=200) == metrics
    assert load_json(tmp_path / "metrics.json") == load_json(run.folder / "metrics.json")


def test_folds_that_hold_out_the_same_pictures_are_refused(run, machine, tmp_path):
    with pytest.raises(CortexflowError, match="hold out the same pictures"):
        evaluate([run, run], machine, tmp_path, draws=20)


def test_folds_are_averaged(run, metrics, machine, tmp_path, monkeypatch):
    monkeypatch.setattr("cortexflow.report.evaluation._check_disjoint", lambda runs, folds: None)
    twice = evaluate([run, run], machine, tmp_path, draws=50)
    assert twice["counts"]["folds"] == 2
    assert line(twice, TITLE)["r"]["value"] == pytest.approx(line(metrics, TITLE)["r"]["value"], abs=1e-6)
    assert line(twice, TITLE)["r_joined"]["value"] == pytest.approx(line(metrics, TITLE)["r"]["value"], abs=1e-4)


def test_runs_of_different_models_are_not_folds(run, machine, tmp_path):
    other = Run(run.folder, run.config.model_copy(update={"subject": "subj02"}))
    with pytest.raises(CortexflowError, match="another model, subject or study"):
        evaluate([run, other], machine, tmp_path)


def test_data_that_changed_since_training_are_refused(run, machine, tmp_path):
    data = {**run.config.data, "voxels": 72}
    with pytest.raises(CortexflowError, match="trained on 60 voxels, the data now have 72"):
        evaluate([Run(run.folder, run.config.model_copy(update={"data": data}))], machine, tmp_path)
    for change in ({"seed": 5}, {"held_out": 90}):
        other = run.config.model_copy(update={"data": {**run.config.data, **change}})
        with pytest.raises(CortexflowError, match="trained on other data or another split"):
            evaluate([Run(run.folder, other)], machine, tmp_path)
