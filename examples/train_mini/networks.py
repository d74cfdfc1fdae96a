"""The networks of the mini stack: sizes, losses, plans."""

import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from loop import Plan, fit
from scenes import Scenes
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ResNetConfig, ResNetForImageClassification

from cortexflow.nn import classifier, matcher, pretrained, segmenter, vdvae
from cortexflow.nn.clip_tokens import condition, text_embedding, text_tokens, tokenize, vision_tokens
from cortexflow.nn.pixels import resize
from cortexflow.storage import save_json

BRANCHES = (ResnetBlock2D, Transformer2DModel)
LENGTH = 28  # tokens of a caption
VOCABULARY = 700
START, END = "<|startoftext|>", "<|endoftext|>"

PLANS = {
    "clip": Plan(steps=1900, batch=64, rate=1e-3, seed=11, half=True),
    "resnet": Plan(steps=1500, batch=64, rate=2e-3, seed=12, half=True, wide=True),
    "autoencoder-rough": Plan(steps=900, batch=12, rate=4e-3, seed=13, half=True, wide=True),
    "autoencoder": Plan(steps=2600, batch=12, rate=1e-3, seed=13, half=True, wide=True, average=0.997, slow=0.4),
    "unet": Plan(steps=3700, batch=16, rate=1.2e-3, seed=14, half=True, wide=True, average=0.998),
    "vdvae": Plan(steps=900, batch=32, rate=2e-3, seed=15, half=True, wide=True),
    "segmenter": Plan(steps=900, batch=32, rate=3e-3, seed=16, half=True, wide=True),
    "judge-classifier": Plan(steps=1500, batch=64, rate=1.5e-3, seed=1017, half=True, wide=True),
    "judge-matcher": Plan(steps=1200, batch=96, rate=1.5e-3, seed=1018, half=True, wide=True),
}


def _digest(folder: Path) -> str:
    """Of a network that another one is made with; the kind matters for names alone."""
    return pretrained.locate("clip", str(folder.resolve())).revision


def _add_minutes(work: Path, name: str, minutes: float) -> None:
    """Count what was computed before the last training too."""
    made = json.loads((work / f"{name}.json").read_text())
    save_json(work / f"{name}.json", {**made, "cpu_minutes": made["cpu_minutes"] + minutes})


def pixels(images: Tensor) -> Tensor:
    """What the mini CLIP, ResNet and autoencoder see: from -1 to 1."""
    return images.float() / 127.5 - 1


def write_preprocessing(folder: Path, size: int) -> None:
    """In the form of transformers' image processors."""
    said = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True, "size": {"shortest_edge": size}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": size, "width": size},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        "do_convert_rgb": True,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(said, indent=2) + "\n")


def make_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """Byte pairs as CLIP's, learned from the training captions."""
    learned = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    learned.normalizer = normalizers.Lowercase()
    learned.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    learned.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[START, END], end_of_word_suffix="</w>",
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )  # fmt: skip
    learned.train_from_iterator(captions, trainer)
    model = json.loads(learned.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    return CLIPTokenizer(vocab=model["vocab"], merges=merges, bos_token=START, eos_token=END, pad_token=END, unk_token=END, model_max_length=LENGTH)


class _WithHelp(nn.Module):
    """CLIP with two heads that are thrown away: what is in the picture, and what is in each patch. They speed up learning."""

    def __init__(self, model: CLIPModel, classes: int) -> None:
        super().__init__()
        self.model = model
        width = model.config.vision_config.hidden_size
        self.whole, self.patch = nn.Linear(model.config.projection_dim, classes - 1), nn.Linear(width, classes)


def clip(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["clip"]
    torch.manual_seed(plan.seed)
    tokenizer = make_tokenizer([caption for number in scenes.training for caption in scenes.captions[number]])
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": LENGTH, "projection_dim": 128, **special,
    }  # fmt: skip
    vision = {
        "hidden_size": 144, "intermediate_size": 432, "num_hidden_layers": 5, "num_attention_heads": 4, "image_size": 64, "patch_size": 8,
        "projection_dim": 128,
    }  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=128, attn_implementation="eager", **special)
    network = _WithHelp(CLIPModel(config), len(scenes.classes))
    side = 8

    def loss(numbers, generator):
        model = network.model
        device = next(model.parameters()).device
        words = scenes.words(numbers, tokenizer, LENGTH, generator).to(device)
        seen = model.vision_model(pixel_values=pixels(scenes.pictures(numbers)).to(device))
        image = functional.normalize(model.visual_projection(seen.pooler_output), dim=-1)
        products = model.logit_scale.exp().clamp(max=100) * image @ text_embedding(model, words).T
        right = torch.arange(len(numbers), device=device)
        contrast = (functional.cross_entropy(products, right) + functional.cross_entropy(products.T, right)) / 2
        whole = functional.binary_cross_entropy_with_logits(network.whole(image * 8), scenes.present[numbers].float().to(device))
        shares = patch_shares(scenes.segmentations(numbers).to(device), len(scenes.classes), side)
        patch = functional.cross_entropy(network.patch(seen.last_hidden_state[:, 1:]).flatten(0, 1), shares.flatten(0, 1))
        return contrast + 2 * whole + 0.5 * patch

    trained = fit("clip", network, loss, scenes.training, plan, work, origin=scenes.digest)
    trained.model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_preprocessing(folder, 64)


def patch_shares(segmentation: Tensor, classes: int, side: int) -> Tensor:
    """Which share of each patch each class covers."""
    hot = functional.one_hot(segmentation, classes).permute(0, 3, 1, 2).float()
    return functional.adaptive_avg_pool2d(hot, side).flatten(2).transpose(1, 2)


def resnet(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["resnet"]
    torch.manual_seed(plan.seed)
    names = dict(enumerate(scenes.classes[1:]))
    config = ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128, 192], depths=[1, 1, 2, 1], layer_type="basic", id2label=names,
        label2id={name: number for number, name in names.items()}, problem_type="multi_label_classification",
    )  # fmt: skip
    network = ResNetForImageClassification(config)

    def loss(numbers, generator):
        device = network.device
        answer = network(pixels(scenes.pictures(numbers)).to(device)).logits.float()
        return functional.binary_cross_entropy_with_logits(answer, scenes.present[numbers].float().to(device))

    fit("resnet", network, loss, scenes.training, plan, work, origin=scenes.digest).half().save_pretrained(folder)
    write_preprocessing(folder, 64)


class _Straight(ResnetBlock2D):
    """A residual block of which only the shortcut is walked."""

    def forward(self, input_tensor, temb=None, *args, **kwargs):
        return input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)


def _walk(network: nn.Module, kind: type) -> None:
    for part in network.modules():
        if isinstance(part, ResnetBlock2D):
            part.__class__ = kind


def plain_autoencoder() -> AutoencoderKL:
    """16 × 16 × 6 latents. At the start its residual blocks add nothing and its latents are nearly without noise."""
    network = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3, block_out_channels=[16, 32, 96],
        layers_per_block=1, latent_channels=6, norm_num_groups=2, sample_size=64, mid_block_add_attention=False,
    )  # fmt: skip
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, ResnetBlock2D):
                part.conv2.weight.zero_()
                part.conv2.bias.zero_()
        network.quant_conv.weight[6:] = 0
        network.quant_conv.bias[6:] = -6
    return network


def autoencoder(scenes: Scenes, work: Path, folder: Path) -> None:
    """First without the residual blocks, which is nearly linear and learned in a minute (21.5 dB); then with them, at a tenth of the rate.

    All at once, a minute of learning gave 19 dB. What is compared with the picture, beside the pixels and their differences, is what
    the mini ResNet makes of them: it asks for edges where the pixels alone would have a blur.
    """
    rough, plan = PLANS["autoencoder-rough"], PLANS["autoencoder"]
    torch.manual_seed(rough.seed)
    network = plain_autoencoder()
    watcher = ResNetForImageClassification.from_pretrained(folder.parent / "resnet").float().eval().requires_grad_(False).resnet
    watcher.to(memory_format=torch.channels_last)

    def stages(images):
        return [stage.float() for stage in watcher(images, output_hidden_states=True).hidden_states]

    def pixelwise(numbers, watched=0.0):
        device = network.device
        images = pixels(scenes.pictures(numbers)).to(device, memory_format=torch.channels_last)
        posterior = network.encode(images).latent_dist
        latents = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
        back = network.decode(latents).sample
        seen = 0.0
        if watched:
            with torch.no_grad():
                right = stages(images)
            seen = sum(functional.mse_loss(one, other) / other.square().mean() for one, other in zip(stages(back), right, strict=True))
        back = back.float()
        edges = sum(functional.l1_loss(back.diff(dim=dim), images.diff(dim=dim)) for dim in (-1, -2))
        return functional.mse_loss(back, images) * 4 + functional.l1_loss(back, images) + edges + 1e-5 * posterior.kl().mean() + watched * seen

    _walk(network, _Straight)
    origin = scenes.digest
    begun = fit("autoencoder-rough", network, lambda numbers, generator: pixelwise(numbers), scenes.training, rough, work, origin=origin)
    network.load_state_dict(begun.state_dict())
    _walk(network, ResnetBlock2D)
    watcher.to(network.device)
    branches = [
        parameter
        for part in network.modules()
        if isinstance(part, ResnetBlock2D)
        for name, parameter in part.named_parameters()
        if "shortcut" not in name
    ]
    origin = f"{origin} resnet {_digest(folder.parent / 'resnet')} rough {rough.steps} × {rough.batch}"
    trained = fit(
        "autoencoder", network, lambda numbers, generator: pixelwise(numbers, 0.05), scenes.training, plan, work, origin=origin, slower=branches
    )
    _add_minutes(work, "autoencoder", json.loads((work / "autoencoder-rough.json").read_text())["cpu_minutes"])
    with torch.no_grad():
        latents = trained.encode(pixels(scenes.pictures(scenes.training[:512]))).latent_dist.mean
    trained.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    trained.half().save_pretrained(folder)


class Conditions:
    """What a UNet may know of its picture: CLIP's tokens of another picture or of a caption, or of nothing."""

    def __init__(self, model: CLIPModel, tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        with torch.no_grad():
            self.no_vision = self.vision(torch.full((1, 3, 64, 64), 128, dtype=torch.uint8))
            self.no_text = self.text([""])

    @torch.no_grad()
    def vision(self, images: Tensor) -> Tensor:
        return vision_tokens(self.model, pixels(images).to(self.model.device))

    @torch.no_grad()
    def text(self, captions: list[str]) -> Tensor:
        return text_tokens(self.model, tokenize(self.tokenizer, captions, LENGTH).to(self.model.device))


def plain_unet(channels: int, side: int) -> UNet2DConditionModel:
    """A first level without attention, a second with it. At the start its blocks add nothing."""
    network = UNet2DConditionModel(
        sample_size=side, in_channels=channels, out_channels=channels, layers_per_block=1, block_out_channels=[64, 160], norm_num_groups=16,
        attention_head_dim=4, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"], up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
        cross_attention_dim=128,
    )  # fmt: skip
    network.set_attn_processor(AttnProcessor())  # three times as fast as the fused one in bfloat16 on a processor
    last = [part.conv2 if isinstance(part, ResnetBlock2D) else part.proj_out for part in network.modules() if isinstance(part, BRANCHES)]
    with torch.no_grad():
        for part in [*last, network.conv_out]:
            part.weight.zero_()
            part.bias.zero_()
    return network


def unet(scenes: Scenes, work: Path, folder: Path) -> None:
    started, plan = time.process_time(), PLANS["unet"]
    torch.manual_seed(plan.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    coder = AutoencoderKL.from_pretrained(folder.parent / "autoencoder").float().to(device).eval()
    known = Conditions(
        CLIPModel.from_pretrained(folder.parent / "clip", attn_implementation="eager").float().to(device).eval(),
        CLIPTokenizer.from_pretrained(folder.parent / "clip"),
    )
    scheduler = DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=True
    )
    origin = f"{scenes.digest} clip {_digest(folder.parent / 'clip')} autoencoder {_digest(folder.parent / 'autoencoder')}"
    latents, seen = prepared(coder, known, scenes, work / "tokens.npy")
    network = plain_unet(latents.shape[1], latents.shape[2])
    preparing = (time.process_time() - started) / 60
    shares = scheduler.alphas_cumprod.to(device)
    # Min-SNR, on a floor: else most is learned of times at which hardly any noise, or hardly any picture, is left; but what the picture
    # is to be is decided at the noisy ones.
    weights = (shares / (1 - shares)).clamp(max=5) * (1 - shares) + 0.2

    def loss(numbers, generator):
        clean = latents[numbers].to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        times = torch.randint(1000, (len(numbers),), generator=generator).to(device)
        vision = torch.from_numpy(seen[numbers]).float().to(device)
        text = known.text(scenes.some_captions(numbers, generator))
        # Text alone 35 %, vision alone 35 %, both 20 %, neither 10 %: guidance needs every one of them.
        lot = torch.rand(len(numbers), generator=generator).to(device)[:, None, None]
        vision = torch.where((lot < 0.35) | (lot > 0.9), known.no_vision, vision)
        text = torch.where((lot > 0.55), known.no_text, text)
        noisy = scheduler.add_noise(clean, noise, times).contiguous(memory_format=torch.channels_last)
        said = network(noisy, times, condition(vision, text)).sample.float()
        errors = (said - scheduler.get_velocity(clean, noise, times)).square().mean((1, 2, 3))
        return (errors * weights[times]).mean() / weights.mean()

    fit("unet", network, loss, scenes.training, plan, work, origin=origin).half().save_pretrained(folder)
    _add_minutes(work, "unet", preparing)
    scheduler.save_pretrained(folder)


@torch.no_grad()
def prepared(coder: AutoencoderKL, known: Conditions, scenes: Scenes, file: Path) -> tuple[Tensor, np.ndarray]:
    """Scaled latents of every scene; and its vision tokens, in a file, since they are too many for a small memory."""
    tokens = np.lib.format.open_memmap(file, "w+", np.float16, (len(scenes), *known.no_vision.shape[1:]))
    latents = []
    for start in range(0, len(scenes), 100):
        batch = scenes.pictures(range(start, min(start + 100, len(scenes))))
        with torch.autocast(coder.device.type, torch.bfloat16):
            latents.append(coder.encode(pixels(batch).to(coder.device)).latent_dist.mean.float().cpu())
            tokens[start : start + 100] = known.vision(batch).float().cpu().numpy()
    return torch.cat(latents) * coder.config.scaling_factor, tokens


def hierarchical(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["vdvae"]
    torch.manual_seed(plan.seed)
    network = vdvae.VDVAE(
        vdvae.Config(
            image_size=32,
            encoder="32d2,16x1,16d2,8x1,8d2,4d4,1x1",
            decoder="1x1,4m1,4x1,8m4,8x2,16m8,16x2,32m16",
            width=64,
            bottleneck=0.5,
            latents=8,
            mixtures=3,
        )
    )

    def loss(numbers, generator):
        return network.loss(resize(scenes.pictures(numbers), (32, 32)).to(network.decoder.gain.device))

    fit("vdvae", network, loss, scenes.training, plan, work, origin=scenes.digest).save_pretrained(folder, half=True)


def segmentation(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["segmenter"]
    torch.manual_seed(plan.seed)
    network = segmenter.Segmenter(segmenter.Config(classes=scenes.classes, widths=(16, 32, 64, 96)))

    def loss(numbers, generator):
        device = network.score.weight.device
        return functional.cross_entropy(network(scenes.pictures(numbers).to(device)).float(), scenes.segmentations(numbers).to(device))

    fit("segmenter", network, loss, scenes.training, plan, work, origin=scenes.digest).save_pretrained(folder, half=True)


def judge_classifier(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["judge-classifier"]
    torch.manual_seed(plan.seed)
    network = classifier.Classifier(classifier.Config(classes=scenes.classes[1:], embedding=192))

    def loss(numbers, generator):
        device = network.score.weight.device
        answer = network(scenes.pictures(numbers).to(device)).float()
        return functional.binary_cross_entropy_with_logits(answer, scenes.present[numbers].float().to(device))

    fit("judge-classifier", network, loss, scenes.training, plan, work, origin=scenes.digest).save_pretrained(folder, half=True)


def judge_matcher(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["judge-matcher"]
    torch.manual_seed(plan.seed)
    counts: dict[str, int] = {}
    for number in scenes.training:
        for caption in scenes.captions[number]:
            for term in matcher.terms(caption):
                counts[term] = counts.get(term, 0) + 1
    known = tuple(term for term, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])) if count > 100)[:1500]
    network = matcher.Matcher(matcher.Config(words=known))

    def loss(numbers, generator):
        return network.loss(scenes.pictures(numbers).to(network.sharpness.device), scenes.some_captions(numbers, generator))

    fit("judge-matcher", network, loss, scenes.training, plan, work, origin=scenes.digest).save_pretrained(folder, half=True)


TRAINERS = {
    "clip": clip,
    "resnet": resnet,
    "autoencoder": autoencoder,  # resnet watches it
    "segmenter": segmentation,
    "judge-classifier": judge_classifier,
    "judge-matcher": judge_matcher,
    "vdvae": hierarchical,
    "unet": unet,  # last: it needs clip and autoencoder
}
