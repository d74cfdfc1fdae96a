import numpy as np
import pytest
import scipy.stats
import torch

from cortexflow.data.base import Trials
from cortexflow.errors import CortexflowError
from cortexflow.experiments.base import Estimate
from cortexflow.experiments.real_noise import RealNoise, design, leave_runs_out, planted_gaussian, selective
from cortexflow.training import Machine, open_dataset

RUNS, CATEGORIES, VOXELS, KEPT = 6, 6, 60, 30


def recording(strength, seed=0):
    """Categories that the first voxels tell apart, one factor, and trials whose noise is stronger or weaker as a whole."""
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random)

    stimuli = torch.arange(CATEGORIES).repeat(RUNS, 4).flatten()
    sessions = torch.arange(1, RUNS + 1).repeat_interleave(4 * CATEGORIES)
    patterns = draw(CATEGORIES, VOXELS) * torch.where(torch.arange(VOXELS) < KEPT, 2.0, 0.0)
    noise = draw(len(stimuli), VOXELS) + 0.7 * draw(len(stimuli), 1) * draw(VOXELS)
    responses = patterns[stimuli] + noise * (strength * draw(len(stimuli), 1)).exp()
    return Trials("sub001", stimuli, sessions, torch.zeros_like(stimuli), responses, "z", sessions)


def test_a_planted_strength_is_found_and_a_gaussian_has_none():
    strong, plain = (recording(strength) for strength in (0.3, 0.0))
    found, idle = (leave_runs_out(trials, design(trials, 1), KEPT)["bits saved by radius"] for trials in (strong, plain))
    assert found.mean() > 0.03 and (found > 0).all()
    assert idle.mean().abs() < 0.005


def test_the_control_takes_the_strength_away_and_keeps_the_rest():
    trials = recording(0.3)
    features = design(trials, 1)
    control = planted_gaussian(trials, features, seed=0)
    assert torch.equal(control.responses, planted_gaussian(trials, features, seed=0).responses)
    real, planted = leave_runs_out(trials, features, KEPT), leave_runs_out(control, features, KEPT)
    assert planted["bits saved by radius"].mean().abs() < 0.01 < real["bits saved by radius"].mean()
    assert planted["bits saved by factors"].mean() > 0.1
    assert float(planted["deviation of log length"].mean()) == pytest.approx((2 * KEPT) ** -0.5, abs=0.03)  # a Gaussian's
    assert float(real["deviation of log length"].mean()) > 0.25


def test_voxels_are_chosen_by_their_categories_on_training_runs_only():
    trials = recording(0.0)
    assert torch.equal(selective(trials, KEPT), torch.arange(KEPT))
    by_hand = scipy.stats.f_oneway(*(trials.responses[trials.stimuli == one].numpy() for one in range(CATEGORIES))).statistic
    np.testing.assert_array_equal(selective(trials, 5), np.sort(np.argsort(-by_hand)[:5]))
    with pytest.raises(CortexflowError, match="61 voxels were asked of 60"):
        selective(trials, 61)


def test_a_run_changes_no_model_of_its_own():
    """The bits of a run under diagonal noise, by hand, from the other runs; its own trials enter only as what is scored."""
    trials = recording(0.0)
    scores = leave_runs_out(trials, design(trials, 1), KEPT)["bits, diagonal"]
    last = trials.sessions == RUNS
    other = trials.responses.clone()
    other[last] += 5 * torch.randn(VOXELS)
    spoilt = leave_runs_out(Trials("sub001", trials.stimuli, trials.sessions, trials.repeats, other, "z"), design(trials, 1), KEPT)["bits, diagonal"]
    keep = torch.arange(KEPT)
    for responses, bits in ((trials.responses, scores[-1]), (other, spoilt[-1])):
        means = torch.stack([trials.responses[~last & (trials.stimuli == one)].mean(0) for one in range(CATEGORIES)])
        deviation = (trials.responses - means[trials.stimuli])[~last].std(0)[keep]
        error = (responses - means[trials.stimuli])[last][:, keep]
        by_hand = -torch.distributions.Normal(0.0, deviation).log_prob(error).mean() / np.log(2)
        assert float(bits) == pytest.approx(float(by_hand), rel=0.1)  # the package's residuals are cross-fitted, hence larger


def test_volumes_have_a_place_in_their_block():
    trials = recording(0.0)
    features = design(trials, 4)
    assert features.shape == (len(trials), CATEGORIES + 4)
    assert torch.equal(features[:, CATEGORIES:].argmax(1), torch.arange(len(trials)) % 4)
    assert torch.equal(features[:, :CATEGORIES].argmax(1), trials.stimuli)


@pytest.mark.parametrize(
    ("blocks", "volumes", "control", "verdict"),
    [
        ((0.05, 0.02), (0.012, 0.008), (0.003, 0.001), "yes"),
        ((0.03, 0.02), (0.012, 0.008), (0.003, 0.001), "undecided"),  # less than predicted
        ((0.05, -0.01), (0.012, 0.008), (0.003, 0.001), "undecided"),  # not sure
        ((0.05, 0.02), (0.012, 0.008), (0.02, 0.01), "undecided"),  # the control finds a strength where there is none
        ((0.05, 0.02), (-0.012, -0.016), (0.003, 0.001), "no"),
    ],
)
def test_the_rule(blocks, volumes, control, verdict):
    def of(name, value, low):
        return name, Estimate(name, value, low, 2 * value - low, "runs", ())

    saved = [of("blocks: bits saved by radius", *blocks), of("volumes: bits saved by radius", *volumes)]
    planted = [of(f"{form}: Gaussian control, bits saved by radius", *control) for form in ("blocks", "volumes")]
    assert RealNoise().decide(dict(saved + planted))[0] == verdict


def test_blocks_of_the_recording_have_a_strength(recordings):
    trials = open_dataset({"name": "haxby2001", "form": "blocks", "window": 9}, Machine(data=recordings)).trials("sub001")
    scores = leave_runs_out(trials, design(trials, 1), 200)
    assert float(scores["bits saved by radius"].mean()) == pytest.approx(0.022, abs=0.003)
    assert float(scores["bits saved by radius and cross-fitting"].mean()) == pytest.approx(0.050, abs=0.004)
    assert float(scores["bits saved by factors"].mean()) == pytest.approx(0.198, abs=0.01)


def test_without_its_folder_it_says_what_to_copy(tmp_path):
    with pytest.raises(CortexflowError, match="copy mvpa2/data/haxby2001"):
        RealNoise().run(tmp_path, Machine())
    with pytest.raises(CortexflowError, match="mask_1slice.nii.gz does not exist; copy mvpa2"):
        RealNoise().run(tmp_path, Machine(data=tmp_path))
