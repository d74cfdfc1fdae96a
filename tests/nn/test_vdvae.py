import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cortexflow.errors import CortexflowError
from cortexflow.nn import vdvae
from cortexflow.nn.vdvae import IMAGENET64, VDVAE, Config

SMALL = Config(image_size=8, encoder="8d2,4x1,4d4,1x1", decoder="1x1,4m1,4x1,8m4", width=16, latents=2, mixtures=2)


@pytest.fixture
def network():
    torch.manual_seed(1)
    made = VDVAE(SMALL)
    for block in made.decoder.blocks:  # a prior that has learned something
        torch.nn.init.normal_(block.prior.c4.weight, std=0.2)
    return made.eval()


def pictures(count=3, side=8):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


def test_the_published_sizes():
    """75 blocks and 125.0 million parameters; the first 31 blocks hold the 91,168 numbers that Brain-Diffuser decodes."""
    with torch.device("meta"):
        large = VDVAE(IMAGENET64)
    assert len(large.shapes) == 75
    assert sum(math.prod(shape) for shape in large.shapes[:31]) == 91_168
    assert round(sum(values.numel() for values in large.parameters()) / 1e6, 1) == 125.0


def test_names_are_those_of_the_release():
    with torch.device("meta"):
        names = set(VDVAE(IMAGENET64).state_dict())
    for expected in (
        "encoder.in_conv.weight", "encoder.enc_blocks.0.c1.weight", "encoder.enc_blocks.10.c4.bias", "decoder.dec_blocks.74.enc.c1.weight",
        "decoder.dec_blocks.0.prior.c4.weight", "decoder.dec_blocks.3.z_proj.weight", "decoder.dec_blocks.3.resnet.c2.bias",
        "decoder.bias_xs.4", "decoder.gain", "decoder.bias", "decoder.out_net.out_conv.weight",
    ):  # fmt: skip
        assert expected in names


def test_latents_of_every_block_have_their_shape(network):
    latents = network.encode(pictures())
    assert [tuple(block.shape[1:]) for block in latents] == network.shapes == [(2, 1, 1), (2, 4, 4), (2, 4, 4), (2, 8, 8)]


def test_all_latents_give_back_what_the_posterior_saw(network):
    """With every block given nothing is left to the prior: two draws agree, and agree with the forward pass."""
    images = pictures()
    latents = network.encode(images)
    with torch.no_grad():
        _, answer = network.decoder(network.encoder(network._normal(images)), mean=True)
    first, second = (network.decode(latents, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert torch.equal(first, second)
    assert torch.equal(first, vdvae.most_likely(answer, SMALL.mixtures))


def test_the_rest_is_drawn_from_the_prior(network):
    latents = network.encode(pictures())[:2]
    draw = [network.decode(latents, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    still = [network.decode(latents, temperature=0.0, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    assert torch.equal(still[0], still[1])
    assert network.decode([], n=5).shape == (5, 3, 8, 8)


def test_divergence_is_that_of_torch():
    q_mean, q_spread, p_mean, p_spread = torch.randn(4, 50)
    expected = kl_divergence(Normal(q_mean, q_spread.exp()), Normal(p_mean, p_spread.exp()))
    torch.testing.assert_close(vdvae.divergence(q_mean, q_spread, p_mean, p_spread), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mixtures", [1, 3])
def test_the_256_steps_of_a_colour_sum_to_one(mixtures):
    """Blue comes last and hangs on the others: summed over all its values, what is left is free of blue's own parameters."""
    blue = torch.arange(256, dtype=torch.uint8)
    images = torch.stack([torch.full_like(blue, 40), torch.full_like(blue, 200), blue], 1).reshape(256, 3, 1, 1)
    answer = torch.randn(1, 10 * mixtures, 1, 1)
    other = answer.clone()
    other[:, 7 * mixtures :] = torch.randn(1, 3 * mixtures, 1, 1)  # mean, scale and one coefficient of blue
    left = [vdvae.log_likelihood(given.expand(256, -1, -1, -1), images, mixtures).exp().sum() for given in (answer, other)]
    torch.testing.assert_close(left[0], left[1], rtol=1e-3, atol=1e-12)


def test_one_step_is_the_difference_of_the_logistic_at_its_ends():
    answer = torch.zeros(1, 10, 1, 1)
    answer[:, 1] = 0.2  # mean of red; scales are 1, nothing hangs on anything
    images = torch.tensor([150, 0, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    cdf = lambda value, mean: 1 / (1 + math.exp(-(value - mean)))  # noqa: E731
    red = 150 / 127.5 - 1
    expected = math.log(cdf(red + 1 / 255, 0.2) - cdf(red - 1 / 255, 0.2)) + math.log(cdf(-1 + 1 / 255, 0)) + math.log(1 - cdf(1 - 1 / 255, 0))
    assert vdvae.log_likelihood(answer, images, 1).item() == pytest.approx(expected, abs=1e-3)


def test_training_lowers_the_bound_and_reaches_every_parameter():
    network, images = VDVAE(SMALL), (pictures(8) // 8 + 100).to(torch.uint8)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = network.loss(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(values.grad is not None and values.grad.abs().sum() > 0 for values in network.parameters())
    assert losses[-1] < 0.7 * losses[0]


def test_saving_gives_the_same_network(network, tmp_path):
    network.save_pretrained(tmp_path)
    again, images = VDVAE.from_pretrained(tmp_path), pictures()
    assert all(torch.equal(one, other) for one, other in zip(network.encode(images), again.encode(images), strict=True))


def test_what_does_not_fit_is_one_clear_line(network):
    with pytest.raises(CortexflowError, match="takes pictures of 8 × 8, these are 9 × 9; resize them"):
        network.encode(pictures(side=9))
    with pytest.raises(CortexflowError, match="5 blocks of latents were given, the network has 4"):
        network.decode([*network.encode(pictures()), torch.zeros(3, 2, 8, 8)])
    with pytest.raises(CortexflowError, match="latents of block 0 have shape"):
        network.decode([torch.zeros(3, 2, 4, 4)])
    with pytest.raises(CortexflowError, match="say with n how many"):
        network.decode([])
