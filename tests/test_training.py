import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from cortexflow.data.base import Trials
from cortexflow.data.simulated import Simulated
from cortexflow.encoding.base import load_encoder
from cortexflow.encoding.flow import FlowEncoder
from cortexflow.encoding.mlp import MLPEncoder
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.storage import load_json, load_tensors
from cortexflow.training import (
    Descent,
    Joined,
    Machine,
    Run,
    RunConfig,
    check_split,
    fit,
    fit_space,
    join,
    one_cycle,
    open_study,
    split_validation,
    tabulate,
    train,
)

DATA = {"name": "simulated", "images": 220, "held_out": 40, "voxels": 40, "image_size": 32, "sessions": 2}


def config(**changes):
    tree = {"data": DATA, "features": ["pixels"], "components": 20, "encoder": {"name": "mlp", "hidden": 16, "factors": 2}}
    return RunConfig.of(tree | {"training": {"epochs": 6, "batch": 64}} | changes)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return Machine(cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def study(machine):
    return open_study(config(), machine)


@pytest.fixture(scope="module")
def joined(machine, study):
    space = fit_space(config(), study, machine)
    return join(study.training, tabulate(space, study, study.training.seen, machine)), space.levels


@pytest.fixture(scope="module")
def finished(machine, tmp_path_factory):
    return train(config(), tmp_path_factory.mktemp("runs") / "whole", machine)


def weights(folder):
    return load_encoder(folder / "encoder.safetensors").state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_no_image_is_in_two_splits(study, joined):
    training, validation = split_validation(joined[0], 0.1, 0)
    sides = [set(side.tolist()) for side in (training.trials.stimuli, validation.trials.stimuli, study.test.stimuli)]
    assert all(sides)
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert len(training.trials) + len(validation.trials) == len(study.training)


def test_features_are_joined_by_stimulus_and_not_by_row(joined, machine, study):
    training = joined[0]
    order = torch.randperm(len(training.trials))
    mask = torch.zeros(len(order), dtype=torch.bool)
    mask[order[:50]] = True
    some = training.where(mask)
    for stimulus, row in zip(some.trials.stimuli, some.features, strict=True):
        assert torch.equal(row, training.features[(training.trials.stimuli == stimulus).nonzero()[0, 0]])


def test_test_trials_never_touch_standardisation(machine, study, monkeypatch):
    """Changing every held-out response changes nothing that training sees."""
    true = Simulated.trials

    def altered(self, subject):
        trials = true(self, subject)
        held = torch.isin(trials.stimuli, self.held_out())
        return replace(trials, responses=torch.where(held[:, None], trials.responses * 7 + 100, trials.responses))

    monkeypatch.setattr(Simulated, "trials", altered)
    assert torch.equal(open_study(config(), machine).training.responses, study.training.responses)
    assert not torch.equal(open_study(config(zscore="all"), machine).training.responses, study.training.responses)


def test_the_same_seed_gives_the_same_bits(finished, machine, tmp_path):
    assert same(weights(train(config(), tmp_path / "again", machine).folder), weights(finished.folder))
    assert not same(weights(train(config(seed=1), tmp_path / "other", machine).folder), weights(finished.folder))


class KilledError(Exception):
    pass


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_an_interrupted_run_resumes_to_the_same_bits(finished, machine, tmp_path, monkeypatch, epoch):
    run_epoch = Descent._epoch

    def interrupted(self, number):
        if number == epoch:
            self._step(torch.arange(20), 0.1)  # half an epoch is lost
            raise KilledError
        run_epoch(self, number)

    monkeypatch.setattr(Descent, "_epoch", interrupted)
    with pytest.raises(KilledError):
        train(config(), tmp_path / "run", machine)
    monkeypatch.undo()
    with pytest.raises(CortexflowError, match="not finished; continue it with"):
        Run.load(tmp_path / "run")
    with pytest.raises(CortexflowError, match="already holds a run"):
        train(config(), tmp_path / "run", machine)
    with pytest.raises(CortexflowError, match="another configuration"):
        train(config(seed=3), tmp_path / "run", machine, resume=True)
    torch.manual_seed(99)
    resumed = train(config(), tmp_path / "run", machine, resume=True)
    assert same(weights(resumed.folder), weights(finished.folder))
    assert (resumed.folder / "metrics.jsonl").read_text() == (finished.folder / "metrics.jsonl").read_text()


def test_a_flow_is_trained_on_few_numbers_and_resumes_to_the_same_bits(machine, tmp_path, monkeypatch):
    choices = config(
        encoder={"name": "flow", "couplings": 1, "width": 8, "context": 4, "factors": 2, "per_area": 3},
        training={"epochs": 6, "batch": 64, "learning_rate": 0.02},
    )
    whole = train(choices, tmp_path / "whole", machine)
    rows = [json.loads(row) for row in (whole.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and rows[-1]["training"] < rows[0]["training"]
    run_epoch = Descent._epoch

    def interrupted(self, number):
        assert self.training.trials.voxels == sum(self.encoder.coordinates.widths) < 40
        if number == 3:
            raise KilledError
        run_epoch(self, number)

    monkeypatch.setattr(Descent, "_epoch", interrupted)
    with pytest.raises(KilledError):
        train(choices, tmp_path / "run", machine)
    monkeypatch.undo()
    resumed = train(choices, tmp_path / "run", machine, resume=True)
    assert same(weights(resumed.folder), weights(whole.folder))
    assert (resumed.folder / "metrics.jsonl").read_text() == (whole.folder / "metrics.jsonl").read_text()


def test_an_epoch_with_unsound_samples_is_never_kept(joined, machine, monkeypatch):
    choices = config(encoder={"name": "flow", "couplings": 1, "width": 8, "context": 4, "factors": 2, "per_area": 3})
    monkeypatch.setattr(FlowEncoder, "sound", lambda self, features, coordinates: False)
    monkeypatch.setattr(Descent, "_validate", lambda self: -float(len(self.rows)))  # every epoch looks better than the last
    encoder = fit(choices, joined[0], joined[1], open_study(choices, machine).cortex, None, machine)
    features, responses = joined[0].features, joined[0].trials.responses
    with torch.no_grad():
        kept = encoder.log_prob(features, responses)
        encoder.flow = None
        torch.testing.assert_close(kept, encoder.log_prob(features, responses), atol=1e-3, rtol=1e-5)  # the closed form


def test_a_process_killed_by_the_system_resumes_to_the_same_bits(finished, machine, tmp_path):
    out = tmp_path / "run"
    tree = str(config().model_dump(mode="json"))
    code = (
        "import torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from cortexflow.training import Machine, RunConfig, train\n"
        f"train(RunConfig.of({tree}), {str(out)!r}, Machine(cache=Path({str(machine.cache)!r})), resume=True)\n"
    )
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
        while process.poll() is None and not (out / "state.safetensors").exists():
            time.sleep(0.01)
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    train(config(), out, machine, resume=True)
    assert same(weights(out), weights(finished.folder))
    assert not list(out.glob("state*"))


@pytest.mark.parametrize("last", ["state.safetensors", "encoder.safetensors"])
def test_a_run_killed_right_after_a_file_is_written_resumes_whole(finished, machine, tmp_path, monkeypatch, last):
    replace_file = os.replace

    def killing(source, target):
        replace_file(source, target)
        if str(target).endswith(last) and (last != "state.safetensors" or len(load_tensors(target)[1]["rows"]) == 6):
            raise KilledError

    monkeypatch.setattr(os, "replace", killing)
    with pytest.raises(KilledError):
        train(config(), tmp_path / "run", machine)
    monkeypatch.undo()
    assert (tmp_path / "run" / "state.safetensors").exists()
    resumed = train(config(), tmp_path / "run", machine, resume=True).folder
    assert same(weights(resumed), weights(finished.folder))
    assert (resumed / "metrics.jsonl").read_text() == (finished.folder / "metrics.jsonl").read_text()
    assert sorted(os.listdir(resumed)) == sorted(os.listdir(finished.folder))


def test_a_mistake_takes_no_folder(machine, tmp_path):
    with pytest.raises(CortexflowError, match="no subject"):
        train(config(subject="subj99"), tmp_path / "run", machine)
    train(config(training={"epochs": 1}), tmp_path / "run", machine)


def test_a_folder_that_cannot_be_written_is_said_before_any_work(machine, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("cortexflow.training.open_study", None)
    with pytest.raises(CortexflowError, match="cannot be written"):
        train(config(), tmp_path / "file" / "run", machine)


def test_a_damaged_checkpoint_is_a_clear_error(machine, tmp_path, monkeypatch):
    run_epoch = Descent._epoch

    def interrupted(self, number):
        if number == 1:
            raise KilledError
        run_epoch(self, number)

    monkeypatch.setattr(Descent, "_epoch", interrupted)
    with pytest.raises(KilledError):
        train(config(), tmp_path / "run", machine)
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(DamagedFileError, match="delete it"):
        train(config(), tmp_path / "run", machine, resume=True)
    state.unlink()
    monkeypatch.undo()
    train(config(), tmp_path / "run", machine, resume=True)


def test_a_run_says_what_made_it(finished):
    made = load_json(finished.folder / "provenance.json")
    assert made["seed"] == 0 and made["trials"]["test"] > 0 and made["libraries"]["torch"]
    assert made["data"] == Simulated(Simulated.Config(**{k: v for k, v in DATA.items() if k != "name"})).checksums()
    assert load_json(finished.folder / "run.json")["encoder"] == {**MLPEncoder.Config(hidden=16, factors=2).model_dump(), "name": "mlp"}
    assert not (finished.folder / "state.safetensors").exists()
    assert {path.suffix for path in finished.folder.iterdir()} <= {".json", ".jsonl", ".safetensors"}


def test_gradient_training_learns(finished):
    rows = [row["validation"] for row in map(eval, (finished.folder / "metrics.jsonl").read_text().splitlines())]
    assert len(rows) == 6 and min(rows) < rows[0]


def test_the_learning_rate_rises_and_falls():
    rates = [one_cycle(step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.04) and max(rates) == rates[30] == pytest.approx(1) and rates[-1] < 1e-9


def trials(stimuli):
    ids = torch.tensor(stimuli, dtype=torch.int64)
    return Trials("subj01", ids, torch.zeros_like(ids), torch.zeros_like(ids), torch.randn(len(ids), 3), "z")


def test_overlap_and_empty_sides_are_clear_errors():
    with pytest.raises(CortexflowError, match="1 stimuli are on both sides of the split \\(the first is 3\\)"):
        check_split(trials([1, 2, 3]), trials([3, 4]))
    with pytest.raises(CortexflowError, match="no test trials"):
        check_split(trials([1, 2, 3]), trials([]))


def test_responses_with_the_wrong_number_of_rows_are_a_clear_error():
    ids = torch.arange(4)
    with pytest.raises(CortexflowError, match="responses have 5 rows and stimuli 4"):
        Trials("subj01", ids, ids, ids, torch.randn(5, 3), "z")


@pytest.mark.parametrize("value", [float("nan"), 3.0])
def test_bad_voxels_are_refused_or_dropped(machine, monkeypatch, value):
    true = Simulated.trials

    def flawed(self, subject):
        found = true(self, subject)
        responses = found.responses.clone()
        responses[:, 5] = value
        return replace(found, responses=responses)

    monkeypatch.setattr(Simulated, "trials", flawed)
    with pytest.raises(CortexflowError, match="1 of 40 voxels are constant .* -s bad_voxels=drop"):
        open_study(config(), machine)
    left = open_study(config(bad_voxels="drop"), machine)
    assert left.dropped == 1 and left.cortex.voxels == left.training.voxels == 39
    assert not left.kept[5]


def test_too_few_pictures_to_validate_are_a_clear_error(joined):
    one = joined[0].where(joined[0].trials.stimuli == joined[0].trials.stimuli[0])
    with pytest.raises(CortexflowError, match="too few to hold out"):
        split_validation(one, 0.1, 0)


def test_unknown_subject_and_settings_are_clear_errors(machine):
    with pytest.raises(CortexflowError, match="no subject 'subj99'; choose one of subj01"):
        open_study(config(subject="subj99"), machine)
    with pytest.raises(CortexflowError, match="configuration: sede"):
        config(sede=1)
    with pytest.raises(CortexflowError, match="training.epochs"):
        config(training={"epochs": 0})


def test_a_run_from_another_feature_revision_is_refused(finished, tmp_path, monkeypatch):
    from cortexflow.features.pixels import Pixels

    shutil.copytree(finished.folder, tmp_path / "run")
    monkeypatch.setattr(Pixels, "revision", "other")
    with pytest.raises(CortexflowError, match="pixels"):
        _ = Run.load(tmp_path / "run").space


def test_exposure_weights_features_by_what_each_volume_answers(joined):
    import numpy as np
    import scipy.sparse

    from cortexflow.data.base import Exposure
    from cortexflow.features.table import FeatureTable

    exposure = Exposure(torch.tensor([7, 3]), scipy.sparse.csr_array(np.array([[1.0, 0.0], [0.25, 0.75]])))
    volumes = replace(trials([7, 3]), exposure=exposure)
    table = FeatureTable(torch.tensor([3, 7]), torch.tensor([[4.0], [8.0]]))
    assert join(volumes, table).features.tolist() == [[8.0], [5.0]]


def test_joined_rows_stay_together(joined):
    whole = joined[0]
    half = whole.where(whole.trials.repeats == 0)
    assert isinstance(half, Joined) and len(half.features) == len(half.trials)
