"""What every encoder in the folder must do; a new file is tested without being named here."""

import pytest
import torch

from cortexflow.catalog import find, names
from cortexflow.data.base import Cortex
from cortexflow.encoding.base import DensityEncoder, load_encoder
from cortexflow.errors import CortexflowError, DamagedFileError

IMAGES, REPEATS, FEATURES, VOXELS = 120, 3, 8, 20


def cortex():
    early = torch.arange(VOXELS) < 12
    return Cortex("subj01", VOXELS, {"V1": early, "IT": ~early}, coordinates=torch.randn(VOXELS, 3))


def trials():
    """A linear cortex with two noise factors; every picture is seen three times."""
    pictures = torch.randn(IMAGES, FEATURES)
    stimuli = torch.arange(IMAGES).repeat(REPEATS)
    noise = torch.randn(len(stimuli), 2) @ torch.randn(2, VOXELS) + torch.randn(len(stimuli), VOXELS)
    return pictures[stimuli], pictures[stimuli] @ torch.randn(FEATURES, VOXELS) + 0.7 * noise + 1.5, stimuli


def fitted(name):
    features, responses, groups = trials()
    encoder = find("encoding", name)(FEATURES, VOXELS, levels={"low": 3, "high": 5}, cortex=cortex())
    encoder.solve(features, responses, groups)
    encoder.eval()
    with torch.no_grad():
        encoder.calibrate(features, responses, groups)
    return encoder, features, responses


@pytest.fixture(params=names("encoding"))
def name(request):
    return request.param


def test_shapes_are_those_of_the_data(name):
    encoder, features, _ = fitted(name)
    with torch.no_grad():
        assert encoder.predict(features[:7]).shape == (7, VOXELS)
        assert encoder.sample(features[:7], n=4).shape == (4, 7, VOXELS)


def test_samples_scatter_around_the_prediction(name):
    encoder, features, responses = fitted(name)
    with torch.no_grad():
        samples = encoder.sample(features[:3], n=4000)
        spread = samples.std(0)
        assert torch.isfinite(samples).all()
        assert float(((samples.mean(0) - encoder.predict(features[:3])).abs() / spread).max()) < 0.1
        residual = (responses - encoder.predict(features)).std(0)
    assert float((spread.mean(0) / residual).median()) == pytest.approx(1, abs=0.35)


def test_the_same_seed_gives_the_same_samples(name):
    encoder, features, _ = fitted(name)
    with torch.no_grad():
        torch.manual_seed(5)
        first = encoder.sample(features[:5], n=2)
        torch.manual_seed(5)
        assert torch.equal(first, encoder.sample(features[:5], n=2))


def test_saving_keeps_every_bit(name, tmp_path):
    encoder, features, responses = fitted(name)
    encoder.save(tmp_path / "encoder.safetensors")
    loaded = load_encoder(tmp_path / "encoder.safetensors")
    with torch.no_grad():
        assert torch.equal(encoder.predict(features), loaded.predict(features))
        torch.manual_seed(1)
        samples = encoder.sample(features, 2)
        torch.manual_seed(1)
        assert torch.equal(samples, loaded.sample(features, 2))
        if isinstance(encoder, DensityEncoder):
            assert torch.equal(encoder.log_prob(features, responses), loaded.log_prob(features, responses))
    assert loaded.config == encoder.config and loaded.levels == encoder.levels
    assert list(loaded.cortex.areas) == ["V1", "IT"]
    assert torch.equal(loaded.cortex.coordinates, encoder.cortex.coordinates)


def test_the_likelihood_prefers_the_right_pairing(name):
    encoder, features, responses = fitted(name)
    if not isinstance(encoder, DensityEncoder) or name == "null":
        pytest.skip(f"{name} has no density that depends on the image")
    for parameter in encoder.parameters():  # a network is not trained by solve: a few steps do
        assert parameter.requires_grad
    if list(encoder.parameters()):
        optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-2)
        for _ in range(200):
            optimiser.zero_grad()
            encoder.loss(features, responses).backward()
            optimiser.step()
        with torch.no_grad():
            encoder.calibrate(features, responses, torch.arange(len(features)))
    with torch.no_grad():
        right = encoder.log_prob(features, responses).mean()
        wrong = encoder.log_prob(features.roll(1, 0), responses).mean()
    assert right > wrong + 1


def test_a_gradient_reaches_every_parameter(name):
    encoder, features, responses = fitted(name)
    encoder.train()
    encoder.loss(features, responses).backward() if list(encoder.parameters()) else None
    unreached = [name for name, parameter in encoder.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    assert unreached == []


def test_the_loss_is_finite_and_falls_for_better_responses(name):
    encoder, features, responses = fitted(name)
    with torch.no_grad():
        assert torch.isfinite(encoder.loss(features, responses))
        assert encoder.loss(features, responses) < encoder.loss(features, responses + 20)


def test_a_truncated_or_altered_file_is_a_clear_error(name, tmp_path):
    encoder, _, _ = fitted(name)
    path = tmp_path / "encoder.safetensors"
    encoder.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedFileError, match="damaged"):
        load_encoder(path)
    altered = bytearray(whole)
    altered[-5] ^= 16
    path.write_bytes(altered)
    with pytest.raises(DamagedFileError, match="checksum"):
        load_encoder(path)


def test_levels_that_do_not_sum_to_the_features_are_a_clear_error(name):
    with pytest.raises(CortexflowError, match="do not sum"):
        find("encoding", name)(FEATURES, VOXELS, levels={"low": 3})
