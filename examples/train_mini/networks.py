"""The networks of the mini stack: sizes, losses, plans."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from loop import Plan, fit
from scenes import Scenes
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ResNetConfig, ResNetForImageClassification

from cortexflow.nn import classifier, matcher, segmenter, vdvae
from cortexflow.nn.clip_tokens import condition, text_embedding, text_tokens, tokenize, vision_tokens
from cortexflow.nn.pixels import resize

LENGTH = 28  # tokens of a caption
VOCABULARY = 700
START, END = "<|startoftext|>", "<|endoftext|>"

PLANS = {
    "clip": Plan(steps=1900, batch=64, rate=1e-3, seed=11, half=True),
    "resnet": Plan(steps=1500, batch=64, rate=2e-3, seed=12, half=True, wide=True),
    "autoencoder": Plan(steps=2200, batch=16, rate=2e-3, seed=13, half=True),
    "unet": Plan(steps=1800, batch=32, rate=1e-3, seed=14, half=True, average=0.998),
    "vdvae": Plan(steps=900, batch=32, rate=2e-3, seed=15, half=True, wide=True),
    "segmenter": Plan(steps=900, batch=32, rate=3e-3, seed=16, half=True, wide=True),
    "judge-classifier": Plan(steps=1500, batch=64, rate=1.5e-3, seed=1017, half=True, wide=True),
    "judge-matcher": Plan(steps=1200, batch=96, rate=1.5e-3, seed=1018, half=True, wide=True),
}


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

    trained = fit("clip", network, loss, scenes.training, plan, work)
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

    fit("resnet", network, loss, scenes.training, plan, work).half().save_pretrained(folder)
    write_preprocessing(folder, 64)


def autoencoder(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["autoencoder"]
    torch.manual_seed(plan.seed)
    # 24 channels: eight principal components of each 8 × 8 patch give 22.8 dB, sixteen 25.1, twenty-four 26.5.
    network = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[16, 40, 96, 128],
        layers_per_block=1, latent_channels=24, norm_num_groups=8, sample_size=64, mid_block_add_attention=False,
    )  # fmt: skip

    def loss(numbers, generator):
        images = pixels(scenes.pictures(numbers)).to(network.device)
        posterior = network.encode(images).latent_dist
        latents = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
        back = network.decode(latents).sample.float()
        edges = sum(functional.l1_loss(back.diff(dim=dim), images.diff(dim=dim)) for dim in (-1, -2))
        return functional.mse_loss(back, images) * 4 + functional.l1_loss(back, images) + edges + 1e-5 * posterior.kl().mean()

    trained = fit("autoencoder", network, loss, scenes.training, plan, work)
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


def unet(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["unet"]
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
    network = UNet2DConditionModel(
        sample_size=8, in_channels=coder.config.latent_channels, out_channels=coder.config.latent_channels,
        layers_per_block=1, block_out_channels=[80, 144], norm_num_groups=16,
        attention_head_dim=4, down_block_types=["CrossAttnDownBlock2D"] * 2, up_block_types=["CrossAttnUpBlock2D"] * 2, cross_attention_dim=128,
    )  # fmt: skip
    network.set_attn_processor(AttnProcessor())  # three times as fast as the fused one in bfloat16 on a processor
    latents = encoded(coder, scenes, work)

    def loss(numbers, generator):
        clean = latents[numbers].to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        times = torch.randint(1000, (len(numbers),), generator=generator).to(device)
        vision = known.vision(scenes.pictures(numbers))
        text = known.text(scenes.some_captions(numbers, generator))
        # Text alone 35 %, vision alone 35 %, both 20 %, neither 10 %: guidance needs every one of them.
        lot = torch.rand(len(numbers), generator=generator).to(device)[:, None, None]
        vision = torch.where((lot < 0.35) | (lot > 0.9), known.no_vision, vision)
        text = torch.where((lot > 0.55), known.no_text, text)
        said = network(scheduler.add_noise(clean, noise, times), times, condition(vision, text)).sample
        return functional.mse_loss(said.float(), scheduler.get_velocity(clean, noise, times))

    fit("unet", network, loss, scenes.training, plan, work).half().save_pretrained(folder)
    scheduler.save_pretrained(folder)


@torch.no_grad()
def encoded(coder: AutoencoderKL, scenes: Scenes, work: Path) -> Tensor:
    """Scaled latents of every scene."""
    batches = [scenes.pictures(range(start, min(start + 128, len(scenes)))) for start in range(0, len(scenes), 128)]
    return torch.cat([coder.encode(pixels(batch).to(coder.device)).latent_dist.mean.cpu() for batch in batches]) * coder.config.scaling_factor


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

    fit("vdvae", network, loss, scenes.training, plan, work).save_pretrained(folder, half=True)


def segmentation(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["segmenter"]
    torch.manual_seed(plan.seed)
    network = segmenter.Segmenter(segmenter.Config(classes=scenes.classes, widths=(16, 32, 64, 96)))

    def loss(numbers, generator):
        device = network.score.weight.device
        return functional.cross_entropy(network(scenes.pictures(numbers).to(device)).float(), scenes.segmentations(numbers).to(device))

    fit("segmenter", network, loss, scenes.training, plan, work).save_pretrained(folder, half=True)


def judge_classifier(scenes: Scenes, work: Path, folder: Path) -> None:
    plan = PLANS["judge-classifier"]
    torch.manual_seed(plan.seed)
    network = classifier.Classifier(classifier.Config(classes=scenes.classes[1:], embedding=192))

    def loss(numbers, generator):
        device = network.score.weight.device
        answer = network(scenes.pictures(numbers).to(device)).float()
        return functional.binary_cross_entropy_with_logits(answer, scenes.present[numbers].float().to(device))

    fit("judge-classifier", network, loss, scenes.training, plan, work).save_pretrained(folder, half=True)


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

    fit("judge-matcher", network, loss, scenes.training, plan, work).save_pretrained(folder, half=True)


TRAINERS = {
    "clip": clip,
    "autoencoder": autoencoder,
    "resnet": resnet,
    "segmenter": segmentation,
    "judge-classifier": judge_classifier,
    "judge-matcher": judge_matcher,
    "vdvae": hierarchical,
    "unet": unet,  # last: it needs clip and autoencoder
}
