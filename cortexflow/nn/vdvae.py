r"""A hierarchical variational autoencoder in the form of the very deep VAE, small enough to train or large enough to load.

The prior is a chain of groups of latents, :math:`p(z) = \prod_i p(z_i \mid z_{<i})`, from one number field of 1 × 1 to one as
large as the picture; the posterior :math:`q(z_i \mid z_{<i}, x)` walks down the same chain and sees the encoder's answers at
its resolution. Both are diagonal Gaussians, so each block's divergence is exact,

.. math:: \mathrm{KL}_i = \log \frac{s_p}{s_q} + \frac{s_q^2 + (m_q - m_p)^2}{2 s_p^2} - \frac{1}{2},

and the pixels are a mixture of logistic distributions cut into 256 steps. The first blocks hold what the picture is like as a
whole, the last ones its grain: a decoder of brain responses gives the first and lets the prior draw the rest.

Names of parameters are those of the authors' release, so that its weights fit once they are stored as safetensors.

References:
    Very Deep VAEs Generalize Autoregressive Models and Can Outperform Them on Images (Child, 2021).
    PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood (Salimans et al., 2017).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from pydantic import PositiveInt
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from cortexflow.catalog import Choices
from cortexflow.errors import CortexflowError
from cortexflow.storage import replacing


class Config(Choices):
    """Sizes of the network.

    Arguments:
        image_size: Height and width of the pictures.
        encoder: Blocks from fine to coarse: ``32x2`` two blocks at 32 × 32, ``32d2`` one that then halves.
        decoder: Blocks from coarse to fine: ``4x2`` two at 4 × 4, ``8m4`` one at 8 × 8 that takes over from 4 × 4.
        width: Channels between blocks.
        bottleneck: Channels within a block, as a share of ``width``.
        latents: Latent channels of each block.
        mixtures: Logistic distributions per pixel.
        bias_up_to: The largest resolution whose start is learned and not zero.
        mean: Subtracted from pixels 0 to 255 before the encoder.
        scale: What is left is multiplied by it.
    """

    image_size: PositiveInt = 32
    encoder: str = "32x1,32d2,16x2,16d2,8x2,8d2,4x1,4d4,1x1"
    decoder: str = "1x1,4m1,4x2,8m4,8x3,16m8,16x3,32m16,32x2"
    width: PositiveInt = 64
    bottleneck: float = 0.5
    latents: PositiveInt = 8
    mixtures: PositiveInt = 5
    bias_up_to: PositiveInt = 64
    mean: float = 127.5
    scale: float = 1 / 64

    @property
    def encoder_blocks(self) -> list[tuple[int, int | None]]:
        """Resolution of each block and by how much it then shrinks."""
        return _parse(self.encoder, "d")

    @property
    def decoder_blocks(self) -> list[tuple[int, int | None]]:
        """Resolution of each block and the resolution it takes over from."""
        return _parse(self.decoder, "m")


# What the authors trained on ImageNet at 64 × 64: 75 blocks, 125 million parameters.
IMAGENET64 = Config(
    image_size=64,
    encoder="64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5",
    decoder="1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12",
    width=512,
    bottleneck=0.25,
    latents=16,
    mixtures=10,
    mean=115.92961967,
    scale=1 / 69.37404,
)


class VDVAE(nn.Module):
    """The whole: pictures to groups of latents and back.

    Arguments:
        config: The sizes.
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else Config()
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Channels, height and width of each block's latents, from coarse to fine."""
        return [(self.config.latents, side, side) for side, _ in self.config.decoder_blocks]

    def loss(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> Float[Tensor, ""]:
        """Negative evidence bound, in nats per colour value of a pixel; a mean over pictures."""
        rate, answer = self.decoder(self.encoder(self._normal(images)))
        bits = -log_likelihood(answer, images, self.config.mixtures)
        return (bits + rate).mean() / images[0].numel()

    @torch.no_grad()
    def encode(
        self, images: UInt8[Tensor, "stimuli 3 height width"], *, generator: torch.Generator | None = None
    ) -> list[Float[Tensor, "stimuli latents _ _"]]:
        """Latents of each block, from coarse to fine: means of the posterior, or a draw where a generator is given.

        Raises:
            CortexflowError: Pictures of another size.
        """
        latents: list[Tensor] = []
        self.decoder(self.encoder(self._normal(images)), drawn=latents, generator=generator, mean=generator is None)
        return latents

    @torch.no_grad()
    def decode(
        self,
        latents: Sequence[Float[Tensor, "stimuli latents _ _"]],
        *,
        n: int | None = None,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> UInt8[Tensor, "stimuli 3 height width"]:
        """Pictures from the latents of the first blocks; the prior gives the rest.

        Arguments:
            latents: Of the first blocks, as :meth:`encode` gives them; may be empty.
            n: How many pictures; needed only where no latents are given.
            temperature: Deviation of the prior, as a share of the learned one; 0 takes its mean.
            generator: For the draws.

        Raises:
            CortexflowError: More latents than blocks, or of other shapes.
        """
        self._check(latents, n)
        answer = self.decoder.generate(latents, len(latents[0]) if latents else n or 1, temperature, generator)
        return most_likely(answer, self.config.mixtures)

    def save_pretrained(self, folder: Path | str, half: bool = False) -> None:
        """Write ``config.json`` and ``model.safetensors``, in float16 where ``half``."""
        save_pretrained(self, self.config, folder, half)

    @classmethod
    def from_pretrained(cls, folder: Path | str, **_: Any) -> "VDVAE":
        """Read what :meth:`save_pretrained` wrote, or the authors' weights stored as safetensors beside a ``config.json``."""
        network = cls(Config(**read_config(folder)))
        network.load_state_dict(read_state(folder))
        return network

    def _normal(self, images: Tensor) -> Tensor:
        size = self.config.image_size
        if images.shape[-2:] != (size, size):
            came = " × ".join(map(str, images.shape[-2:]))
            raise CortexflowError(f"this network takes pictures of {size} × {size}, these are {came}; resize them")
        return (images.float() - self.config.mean) * self.config.scale

    def _check(self, latents: Sequence[Tensor], n: int | None) -> None:
        if len(latents) > len(self.shapes):
            raise CortexflowError(f"{len(latents)} blocks of latents were given, the network has {len(self.shapes)}; give the first ones")
        for index, (given, shape) in enumerate(zip(latents, self.shapes, strict=False)):
            if given.shape[1:] != shape:
                raise CortexflowError(f"latents of block {index} have shape {tuple(given.shape[1:])}, it needs {shape}; give them as encode does")
        if not latents and n is None:
            raise CortexflowError("no latents were given; say with n how many pictures the prior is to draw")


class Block(nn.Module):
    """Four convolutions, narrow in the middle, each behind a GELU.

    Arguments:
        into: Channels that come.
        middle: Channels within.
        out: Channels that leave.
        wide: 3 × 3 in the middle, or 1 × 1 where there is nothing to look around at.
        residual: Add what came.
        shrink: By how much the sides shrink at the end.
    """

    def __init__(self, into: int, middle: int, out: int, *, wide: bool, residual: bool = False, shrink: int | None = None) -> None:
        super().__init__()
        self.residual, self.shrink = residual, shrink
        side = 3 if wide else 1
        self.c1 = nn.Conv2d(into, middle, 1)
        self.c2 = nn.Conv2d(middle, middle, side, padding=side // 2)
        self.c3 = nn.Conv2d(middle, middle, side, padding=side // 2)
        self.c4 = nn.Conv2d(middle, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The block's answer, smaller by ``shrink``."""
        answer = x
        for layer in (self.c1, self.c2, self.c3, self.c4):
            answer = layer(functional.gelu(answer))
        answer = x + answer if self.residual else answer
        return functional.avg_pool2d(answer, self.shrink) if self.shrink else answer


class Encoder(nn.Module):
    """From the picture to an answer at every resolution."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        blocks, middle = config.encoder_blocks, int(config.width * config.bottleneck)
        self.in_conv = nn.Conv2d(3, config.width, 3, padding=1)
        made = [Block(config.width, middle, config.width, wide=side > 2, residual=True, shrink=shrink) for side, shrink in blocks]
        for block in made:
            _calm(block.c4, len(blocks))
        self.enc_blocks = nn.ModuleList(made)

    def forward(self, x: Float[Tensor, "stimuli 3 height width"]) -> dict[int, Tensor]:
        """The last answer at each resolution."""
        x = self.in_conv(x)
        answers = {x.shape[2]: x}
        for block in self.enc_blocks:
            x = block(x)
            answers[x.shape[2]] = x
        return answers


class DecoderBlock(nn.Module):
    """One group of latents: posterior, prior, and what they do to the picture to be."""

    def __init__(self, config: Config, side: int, below: int | None) -> None:
        super().__init__()
        self.side, self.below, self.latents = side, below, config.latents
        width, middle, wide = config.width, int(config.width * config.bottleneck), side > 2
        self.enc = Block(2 * width, middle, 2 * config.latents, wide=wide)
        self.prior = Block(width, middle, 2 * config.latents + width, wide=wide)
        self.z_proj = nn.Conv2d(config.latents, width, 1)
        self.resnet = Block(width, middle, width, wide=wide, residual=True)
        # The prior begins as a standard normal that changes nothing.
        nn.init.zeros_(self.prior.c4.weight)
        nn.init.zeros_(self.prior.c4.bias)  # type: ignore[arg-type]
        for layer in (self.z_proj, self.resnet.c4):
            _calm(layer, len(config.decoder_blocks))

    def start(self, xs: dict[int, Tensor]) -> Tensor:
        """The picture to be at this resolution, with what the coarser one has become."""
        x = xs[self.side]
        return x if self.below is None else x + functional.interpolate(xs[self.below], scale_factor=self.side // self.below)

    def before(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the prior says before anything is seen: mean, log deviation, and the picture it makes of it."""
        mean, spread, push = self.prior(x).split([self.latents, self.latents, x.shape[1]], dim=1)
        return mean, spread, x + push

    def after(self, x: Tensor, z: Tensor) -> Tensor:
        """The picture to be once the latents are known."""
        return self.resnet(x + self.z_proj(z))


class Decoder(nn.Module):
    """From the coarsest latents to the finest, then to pixels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        sides = sorted({side for side, _ in config.decoder_blocks})
        self.config, self.sides = config, sides
        self.dec_blocks = nn.ModuleList(DecoderBlock(config, side, below) for side, below in config.decoder_blocks)
        self.bias_xs = nn.ParameterList(torch.zeros(1, config.width, side, side) for side in sides if side <= config.bias_up_to)
        self.gain = nn.Parameter(torch.ones(1, config.width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, config.width, 1, 1))
        self.out_net = nn.ModuleDict({"out_conv": nn.Conv2d(config.width, 10 * config.mixtures, 1)})

    def forward(
        self,
        answers: Mapping[int, Tensor],
        *,
        drawn: list[Tensor] | None = None,
        generator: torch.Generator | None = None,
        mean: bool = False,
    ) -> tuple[Float[Tensor, " stimuli"], Float[Tensor, "stimuli _ height width"]]:
        """Divergence of posterior from prior, in nats, and the pixels' distribution; latents are put into ``drawn``."""
        first = next(iter(answers.values()))
        xs, rate = self._start(len(first)), first.new_zeros(len(first))
        for block in self.blocks:
            x = block.start(xs)
            q_mean, q_spread = block.enc(torch.cat([x, answers[block.side]], 1)).float().chunk(2, 1)
            p_mean, p_spread, x = block.before(x)
            z = q_mean if mean else q_mean + q_spread.exp() * _noise(q_mean, generator)
            rate = rate + divergence(q_mean, q_spread, p_mean.float(), p_spread.float()).flatten(1).sum(1)
            xs[block.side] = block.after(x, z)
            if drawn is not None:
                drawn.append(z)
        return rate, self._finish(xs)

    def generate(self, latents: Sequence[Tensor], n: int, temperature: float, generator: torch.Generator | None) -> Tensor:
        """The pixels' distribution, with the prior where no latents are given."""
        xs = self._start(n)
        for index, block in enumerate(self.blocks):
            mean, spread, x = block.before(block.start(xs))
            z = latents[index] if index < len(latents) else mean + temperature * spread.exp() * _noise(mean, generator)
            xs[block.side] = block.after(x, z)
        return self._finish(xs)

    @property
    def blocks(self) -> list[DecoderBlock]:
        """From the coarsest to the finest."""
        return list(self.dec_blocks)  # type: ignore[arg-type]

    def _start(self, n: int) -> dict[int, Tensor]:
        known = {bias.shape[2]: bias.expand(n, -1, -1, -1) for bias in self.bias_xs}
        return {side: known[side] if side in known else self.gain.new_zeros(n, self.config.width, side, side) for side in self.sides}

    def _finish(self, xs: dict[int, Tensor]) -> Tensor:
        return self.out_net["out_conv"](xs[self.config.image_size] * self.gain + self.bias).float()


def divergence(q_mean: Tensor, q_spread: Tensor, p_mean: Tensor, p_spread: Tensor) -> Tensor:
    """KL divergence of one diagonal Gaussian from another, number by number, in nats; spreads are log deviations.

    Example:
        >>> zero = torch.zeros(1)
        >>> divergence(zero + 1, zero, zero, zero)  # a mean one deviation away
        tensor([0.5000])
    """
    return p_spread - q_spread + 0.5 * (q_spread.exp().square() + (q_mean - p_mean).square()) * torch.exp(-2 * p_spread) - 0.5


def log_likelihood(
    answer: Float[Tensor, "stimuli _ height width"], images: UInt8[Tensor, "stimuli 3 height width"], mixtures: int
) -> Float[Tensor, " stimuli"]:
    """Log probability of each 8-bit picture under the mixture of logistic distributions, in nats, over all its pixels.

    Arguments:
        answer: Ten channels per mixture: its weight, then for red, green and blue its mean, log scale and the three
            coefficients by which green hangs on red and blue on both.
        images: The pictures.
        mixtures: How many distributions per pixel.
    """
    x = (images.float() / 127.5 - 1)[:, :, None]
    weights, means, scales = _parts(answer, mixtures, x)
    inverse = torch.exp(-scales)
    upper, lower = inverse * (x - means + 1 / 255), inverse * (x - means - 1 / 255)
    # The outermost steps reach to infinity.
    middle = (torch.sigmoid(upper) - torch.sigmoid(lower)).clamp(min=1e-12).log()
    steps = torch.where(x < -0.999, upper - functional.softplus(upper), torch.where(x > 0.999, -functional.softplus(lower), middle))
    return torch.logsumexp(steps.sum(1) + torch.log_softmax(weights, 1), dim=1).flatten(1).sum(1)


def most_likely(answer: Float[Tensor, "stimuli _ height width"], mixtures: int) -> UInt8[Tensor, "stimuli 3 height width"]:
    """The picture of means of each pixel's heaviest distribution."""
    weights = answer[:, :mixtures]
    chosen = weights.argmax(1, keepdim=True)[:, None].expand(-1, 3, -1, -1, -1)
    parts = answer[:, mixtures:].unflatten(1, (3, 3 * mixtures))
    mean = parts[:, :, :mixtures].gather(2, chosen).squeeze(2)
    hang = torch.tanh(parts[:, :, 2 * mixtures :].gather(2, chosen).squeeze(2))
    red = mean[:, 0].clamp(-1, 1)
    green = (mean[:, 1] + hang[:, 0] * red).clamp(-1, 1)
    blue = (mean[:, 2] + hang[:, 1] * red + hang[:, 2] * green).clamp(-1, 1)
    return ((torch.stack([red, green, blue], 1) + 1) * 127.5).round().to(torch.uint8)


def save_pretrained(network: nn.Module, config: Choices, folder: Path | str, half: bool) -> None:
    """Write a network of ours as the libraries write theirs: ``config.json`` and ``model.safetensors``."""
    state = {name: (value.half() if half and value.is_floating_point() else value).cpu().contiguous() for name, value in network.state_dict().items()}
    folder = Path(folder)
    with replacing(folder / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    with replacing(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path | str) -> dict[str, Any]:
    """What ``config.json`` says."""
    return json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))


def read_state(folder: Path | str) -> dict[str, Tensor]:
    """Weights in float32."""
    return {name: value.float() if value.is_floating_point() else value for name, value in load_file(Path(folder) / "model.safetensors").items()}


def _parts(answer: Tensor, mixtures: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means (which hang on the true colours before them) and log scales."""
    parts = answer[:, mixtures:].unflatten(1, (3, 3 * mixtures))
    mean, scale, hang = parts[:, :, :mixtures], parts[:, :, mixtures : 2 * mixtures].clamp(min=-7.0), torch.tanh(parts[:, :, 2 * mixtures :])
    green = mean[:, 1] + hang[:, 0] * x[:, 0]
    blue = mean[:, 2] + hang[:, 1] * x[:, 0] + hang[:, 2] * x[:, 1]
    return answer[:, :mixtures], torch.stack([mean[:, 0], green, blue], 1), scale


def _parse(blocks: str, other: str) -> list[tuple[int, int | None]]:
    """``8x3`` is three plain blocks, ``8m4`` or ``8d2`` one with its number."""
    parsed: list[tuple[int, int | None]] = []
    for word in blocks.split(","):
        if "x" in word:
            side, count = word.split("x")
            parsed += [(int(side), None)] * int(count)
        else:
            side, number = word.split(other)
            parsed.append((int(side), int(number)))
    return parsed


def _calm(layer: nn.Conv2d, blocks: int) -> None:
    """Many residual blocks in a row begin as little more than one."""
    layer.weight.data *= math.sqrt(1 / blocks)


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = generator.device if generator is not None else like.device
    return torch.randn(like.shape, generator=generator, device=device).to(like.device)
