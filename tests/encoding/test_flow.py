"""CortexFlow: an exact density over all voxels, closed before it is trained, invertible, causal along the chain."""

import math

import pytest
import torch

from cortexflow.data.base import Cortex
from cortexflow.encoding.base import load_encoder
from cortexflow.encoding.flow import FlowEncoder
from cortexflow.encoding.ridge import RidgeEncoder
from cortexflow.errors import CortexflowError

IMAGES, REPEATS, FEATURES, VOXELS = 150, 3, 5, 48


def cortex(voxels=VOXELS):
    places = torch.arange(voxels)
    third = voxels // 3
    return Cortex("subj01", voxels, {"V1": places < third, "V2": (places >= third) & (places < 2 * third), "IT": places >= 2 * third})


def trials(strength=0.4, seed=0, images=IMAGES, voxels=VOXELS):
    """A linear cortex; noise of a shared factor and of voxels, all scaled by one number per trial."""
    generator = torch.Generator().manual_seed(seed)
    pictures, weights = (
        torch.randn(images, FEATURES, generator=generator),
        0.5 * torch.randn(FEATURES, voxels, generator=torch.Generator().manual_seed(9)),
    )
    stimuli = torch.arange(images).repeat(REPEATS)
    loadings = torch.randn(2, voxels, generator=torch.Generator().manual_seed(8))
    noise = torch.randn(len(stimuli), 2, generator=generator) @ loadings + torch.randn(len(stimuli), voxels, generator=generator)
    scale = (strength * torch.randn(len(stimuli), 1, generator=generator)).exp()
    return pictures[stimuli], pictures[stimuli] @ weights + scale * noise, stimuli


@pytest.fixture(scope="module")
def closed():
    encoder = FlowEncoder(FEATURES, VOXELS, FlowEncoder.Config(stages="areas"), cortex=cortex())
    encoder.solve(*trials())
    return encoder.eval()


@pytest.fixture(scope="module")
def bent():
    """With a flow whose weights are not at rest."""
    torch.manual_seed(0)
    encoder = FlowEncoder(FEATURES, VOXELS, FlowEncoder.Config(stages="areas", couplings=2, width=8, context=4), cortex=cortex())
    encoder.reduce(*trials())
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.eval()


@pytest.mark.parametrize("which", ["closed", "bent"])
def test_the_density_integrates_to_one(which):
    """Importance sampling in four voxels, from a broad Gaussian around the mean."""
    torch.manual_seed(1)
    choices = FlowEncoder.Config(per_area=1, factors=1, stages="one", couplings=2 if which == "bent" else 0, width=8, context=4)
    encoder = FlowEncoder(FEATURES, 4, choices).eval()
    features, responses, groups = trials(voxels=4)
    encoder.reduce(features, responses, groups)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        encoder.eval()
        one = features[:1].expand(400_000, -1)
        proposal = torch.distributions.MultivariateNormal(encoder.predict(features[:1])[0], 4 * torch.cov(responses.T))
        drawn = proposal.sample((400_000,))
        ratio = (encoder.log_prob(one, drawn) - proposal.log_prob(drawn)).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * float(ratio.std()) / math.sqrt(len(ratio)))
    assert float(ratio.std()) / math.sqrt(len(ratio)) < 0.02


@pytest.mark.parametrize("which", ["closed", "bent"])
def test_there_and_back(which, request):
    encoder = request.getfixturevalue(which)
    features, responses, _ = trials(seed=3)
    with torch.no_grad():
        normal, directions = encoder.to_noise(features, responses)
        torch.testing.assert_close(encoder.from_noise(features, normal, directions), responses, atol=1e-4, rtol=1e-4)


def test_an_untrained_flow_is_its_closed_form():
    choices = {"stages": "areas", "width": 8, "context": 4}
    encoder = FlowEncoder(FEATURES, VOXELS, FlowEncoder.Config(couplings=3, **choices), cortex=cortex())
    encoder.reduce(*trials())
    features, responses, _ = trials(seed=3)
    with torch.no_grad():
        trained, encoder.flow = encoder.eval().log_prob(features, responses), None
        torch.testing.assert_close(trained, encoder.log_prob(features, responses), atol=1e-3, rtol=1e-5)


def test_noise_coordinates_of_new_trials_are_standard_normal(closed):
    features, responses, _ = trials(seed=5, images=1500)
    with torch.no_grad():
        normal, _ = closed.to_noise(features, responses)
    assert float(normal.var(0).mean()) == pytest.approx(1, abs=0.12)
    assert float((torch.corrcoef(normal.T) - torch.eye(normal.shape[1])).abs().mean()) < 0.05


def test_samples_have_the_covariance_of_trials(closed):
    features, responses, _ = trials(seed=5, images=1500)
    with torch.no_grad():
        torch.manual_seed(0)
        noise = closed.sample(features)[0] - closed.predict(features)
    measured, drawn = torch.cov((responses - closed.predict(features)).T), torch.cov(noise.T)
    off = ~torch.eye(VOXELS, dtype=torch.bool)
    assert float(torch.corrcoef(torch.stack([measured[off], drawn[off]]))[0, 1]) > 0.95
    assert float(drawn.diagonal().mean() / measured.diagonal().mean()) == pytest.approx(1, abs=0.1)


def test_it_is_better_than_factors_where_trials_have_a_strength():
    features, responses, groups = trials()
    new, answers, _ = trials(seed=5)
    bits = {}
    for name, encoder in {
        "factors": RidgeEncoder(FEATURES, VOXELS, RidgeEncoder.Config(noise="factors"), cortex=cortex()),
        "flow": FlowEncoder(FEATURES, VOXELS, FlowEncoder.Config(stages="areas"), cortex=cortex()),
    }.items():
        encoder.solve(features, responses, groups)
        bits[name] = -encoder.log_prob(new, answers).mean() / VOXELS / math.log(2)
    assert bits["factors"] - bits["flow"] > 0.1


def test_the_chain_is_causal(bent):
    features, responses, _ = trials(seed=3)
    early = bent.stages["V1"]
    with torch.no_grad():
        before, _ = bent.to_noise(features, responses)
        after, _ = bent.to_noise(features, torch.where(early, responses, responses + torch.randn_like(responses)))
    own = bent.coordinates.widths[0]
    torch.testing.assert_close(before[:, :own], after[:, :own], atol=1e-5, rtol=1e-5)
    assert (before[:, own:] - after[:, own:]).abs().max() > 0.1


@pytest.mark.parametrize("which", ["closed", "bent"])
def test_later_areas_follow_what_earlier_ones_answered(which, request):
    encoder = request.getfixturevalue(which)
    features, responses, _ = trials(seed=5)
    known = encoder.stages["V1"] | encoder.stages["V2"]
    with torch.no_grad():
        torch.manual_seed(0)
        drawn = encoder.sample_given(features, responses, "V2", n=40)
        mean = encoder.predict(features)
    torch.testing.assert_close(drawn[0][:, known], responses[:, known], atol=1e-3, rtol=1e-3)
    expected, measured = (drawn.mean(0) - mean)[:, ~known], (responses - mean)[:, ~known]
    r = torch.corrcoef(torch.stack([expected.flatten(), measured.flatten()]))[0, 1]
    assert float(r) > 0.5  # two factors run through all areas
    with pytest.raises(CortexflowError, match="V1, V2, higher"):
        encoder.sample_given(features, responses, "V3")


def test_later_answers_do_not_count_as_known(closed):
    features, responses, _ = trials(seed=5)
    other = torch.where(closed.stages["V1"], responses, 100 * torch.ones_like(responses))
    with torch.no_grad():
        torch.manual_seed(0)
        first = closed.sample_given(features, responses, "V1")
        torch.manual_seed(0)
        torch.testing.assert_close(first, closed.sample_given(features, other, "V1"), atol=1e-3, rtol=1e-3)


def test_few_trials_make_one_block_without_couplings():
    features, responses, groups = trials(images=60)
    encoder = FlowEncoder(FEATURES, VOXELS, cortex=cortex())
    encoder.reduce(features, responses, groups)
    assert list(encoder.stages) == ["all"] and encoder.flow is None and not list(encoder.parameters())


def test_areas_that_are_too_small_are_joined():
    places = torch.arange(VOXELS)
    areas = {"V1": places < 3, "V2": (places >= 3) & (places < 20), "IT": places >= 20}
    encoder = FlowEncoder(FEATURES, VOXELS, FlowEncoder.Config(stages="areas"), cortex=Cortex("subj01", VOXELS, areas))
    encoder.solve(*trials())
    assert {name: int(mask.sum()) for name, mask in encoder.stages.items()} == {"V1+V2": 20, "higher": 28}


def test_exploding_samples_are_not_sound(bent):
    features, responses, groups = trials()
    coordinates = bent.reduce(features, responses, groups)
    with torch.no_grad():
        for parameter in bent.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        assert bent.eval().sound(features, coordinates)
        bent.loudest = bent.loudest / 100
        assert not bent.sound(features, coordinates)
        bent.loudest = bent.loudest * 100
        assert not bent.sound(features, 2 * coordinates)


def test_a_trained_flow_is_saved_whole(bent, tmp_path):
    features, responses, _ = trials(seed=3)
    bent.save(tmp_path / "encoder.safetensors")
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    with torch.no_grad():
        assert torch.equal(bent.log_prob(features, responses), loaded.log_prob(features, responses))
    assert list(loaded.stages) == ["V1", "V2", "higher"]


def test_it_says_what_its_fit_decided(closed, bent):
    few = FlowEncoder(FEATURES, VOXELS, cortex=cortex())
    features, responses, groups = trials(images=60)
    few.reduce(features, responses, groups)
    assert "180 training trials are fewer than 1000" in few.notes()[2] and few.notes()[1].startswith("Noise: factors per stage of the chain: all ")
    assert "was trained over the closed form" in bent.notes()[2]
    rest = FlowEncoder(FEATURES, VOXELS, FlowEncoder.Config(couplings=1, stages="areas"), cortex=cortex())
    rest.reduce(*trials())
    assert "the closed form, which stands" in rest.eval().notes()[2]


def test_smoothing_shows_no_level_to_voxels_that_may_not_see_it():
    areas = {**cortex().areas, "left": torch.arange(VOXELS) % 2 == 0}
    flat = torch.stack([torch.arange(VOXELS).float(), torch.zeros(VOXELS)], 1)
    around = Cortex("subj01", VOXELS, areas, flat=flat)
    levels = {"low": 2, "high": 3}
    encoder = FlowEncoder(FEATURES, VOXELS, levels=levels, cortex=around, sees={"left": ["low"]})
    encoder.solve(*trials())
    assert not encoder.weights[2:, areas["left"]].any() and encoder.weights[2:, ~areas["left"]].any()
