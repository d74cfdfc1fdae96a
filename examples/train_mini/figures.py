"""What each network can do on scenes it has never seen: figures, and the model card that holds them.

python figures.py
python figures.py clip unet
"""

import argparse
import json
import math
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from networks import LENGTH, TRAINERS, Conditions
from scenes import HELD_OUT, Scenes
from sklearn.metrics import average_precision_score
from torch import Tensor
from transformers import CLIPTokenizer

from cortexflow.nn import pretrained
from cortexflow.nn.clip_tokens import condition, text_embedding, tokenize, vision_embedding
from cortexflow.nn.guidance import guided
from cortexflow.nn.pixels import resize

ABOUT = {
    "clip": "A small CLIP (transformers CLIPModel): pictures and captions in one space; vision and text tokens condition the UNet. "
    "While it learned, two heads that were thrown away also named the categories of the picture and of every patch.",
    "resnet": "A small layered CNN (transformers ResNetForImageClassification): four stages from edges to objects, several labels a picture.",
    "autoencoder": "An image autoencoder (diffusers AutoencoderKL): 64 × 64 pictures to 16 × 16 × 6 latents and back. Beside the pixels it "
    "learned to keep what the mini ResNet makes of a picture; the judges below had no part in it, but know the same scenes and labels.",
    "unet": "A diffusion model in the autoencoder's latents (diffusers UNet2DConditionModel, v-prediction): cross-attention on CLIP's "
    "vision and text tokens, each left out at times, so that guidance works on either. It has learned for half an hour of one "
    "core: its samples have the place, the layout and the colours that were asked for, but where the object should be there is mostly "
    "a smear of the right colour; few can be named.",
    "vdvae": "A hierarchical VAE in the form of VDVAE for 32 × 32 pictures: ten groups of latents from 1 × 1 to 32 × 32.",
    "segmenter": "A small U-Net: what each pixel belongs to.",
    "judge-classifier": "A plain CNN that scores pictures: which categories are in them. Another seed and architecture than everything it scores; "
    "the scenes and labels it learned from are the same.",
    "judge-matcher": "A convolutional tower and a mean of words in one space: does a caption fit a picture. Another seed and architecture than CLIP.",
}
PROMPTS = ("a {}", "a picture of a {}", "a large {}", "a small {}")


class World:
    """Networks under test and the held-out scenes."""

    def __init__(self, scenes: Scenes, folder: Path) -> None:
        self.scenes, self.folder = scenes, folder
        self.numbers = list(scenes.held_out)
        self.images, self.present = scenes.pictures(self.numbers), scenes.present[self.numbers]
        self.alone = [number for number in self.numbers if self.present[number].sum() == 1]
        self.label = self.present.float().argmax(1)
        self.names = [{"body": "person"}.get(name, name) for name in scenes.classes[1:]]

    def load(self, name: str):
        return pretrained.load(pretrained.SHIPPED[name].kind, str(self.folder / name), architecture=pretrained.SHIPPED[name].architecture)

    def captions(self, which: int) -> list[str]:
        return [self.scenes.captions[number][which] for number in self.numbers]


def batched(function, *inputs, size: int = 100):
    return torch.cat([function(*(given[start : start + size] for given in inputs)) for start in range(0, len(inputs[0]), size)])


def retrieval(images: Tensor, texts: Tensor) -> float:
    """Share of pictures whose own caption is nearest among 100."""
    hits = [(images[at : at + 100] @ texts[at : at + 100].T).argmax(1) == torch.arange(100) for at in range(0, HELD_OUT, 100)]
    return torch.cat(hits).float().mean().item()


def labels(scores: Tensor, world: World) -> dict[str, float]:
    precision = average_precision_score(world.present.numpy(), scores.numpy(), average="macro")
    right = (scores[world.alone].argmax(1) == world.label[world.alone]).float().mean().item()
    return {
        "mean average precision over categories": precision,
        "the same by chance (share of scenes)": world.present.float().mean().item(),
        f"top-1 where one object is visible ({len(world.alone)} scenes)": right,
        "the same by chance": 1 / len(world.names),
    }


def psnr(one: Tensor, other: Tensor) -> float:
    return -10 * ((one.float() - other.float()) / 255).square().mean((1, 2, 3)).log10().mean().item()


def clip(world: World) -> dict[str, float]:
    network = world.load("clip")
    tokenizer = CLIPTokenizer.from_pretrained(world.folder / "clip")
    images = batched(lambda part: vision_embedding(network, part.float() / 127.5 - 1), world.images)

    def said(captions):
        return batched(lambda part: text_embedding(network, part), tokenize(tokenizer, captions, LENGTH))

    prompts = torch.stack([said([prompt.format(name) for name in world.names]) for prompt in PROMPTS]).mean(0)
    zero = ((images[world.alone] @ prompts.T).argmax(1) == world.label[world.alone]).float().mean().item()
    return {
        "own caption nearest among 100 (objects, colours, place)": retrieval(images, said(world.captions(5))),
        "own caption nearest among 100 (main object, size, colour, place)": retrieval(images, said(world.captions(0))),
        "the same by chance": 0.01,
        f"zero-shot top-1 where one object is visible ({len(world.alone)} scenes)": zero,
        "zero-shot by chance": 1 / len(world.names),
    }


def resnet(world: World) -> dict[str, float]:
    network = _classifying(world)
    return labels(batched(lambda part: network(part.float() / 127.5 - 1).logits, world.images), world)


def _classifying(world: World):
    return pretrained.load("resnet", str(world.folder / "resnet"), architecture="transformers.ResNetForImageClassification")


def decode(coder, latents: Tensor) -> Tensor:
    return ((coder.decode(latents / coder.config.scaling_factor).sample + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def there_and_back(coder, images: Tensor) -> Tensor:
    return decode(coder, coder.encode(images.float() / 127.5 - 1).latent_dist.mean * coder.config.scaling_factor)


def autoencoder(world: World) -> dict[str, float]:
    coder = world.load("autoencoder")
    back = batched(lambda part: there_and_back(coder, part), world.images)
    side = math.ceil((coder.encode(world.images[:1].float() / 127.5 - 1).latent_dist.mean.numel() / 3) ** 0.5)
    coarse = resize(resize(world.images, (side, side)), (64, 64))
    judge, alone, wanted = world.load("judge-classifier"), world.alone, world.label[world.alone]

    def named(images):
        return (batched(judge.probabilities, images[alone]).argmax(1) == wanted).float().mean().item()

    return {
        "PSNR, dB": psnr(back, world.images),
        f"PSNR of as many numbers as pixels ({side} × {side} × 3, bicubic), dB": psnr(coarse, world.images),
        "PSNR of one colour per picture (chance), dB": psnr(world.images.float().mean((2, 3), keepdim=True), world.images),
        f"judge-classifier names the one visible object after it ({len(alone)} scenes)": named(back),
        f"the same of pictures of {side} × {side} pixels": named(coarse),
        "the same of the pictures themselves": named(world.images),
        "the same by chance": 1 / len(world.names),
    }


def vdvae(world: World) -> dict[str, float]:
    network, images = world.load("vdvae"), resize(world.images[:200], (32, 32))
    torch.manual_seed(0)
    bits = torch.stack([network.loss(part) for part in images.split(50)]).mean().item() / math.log(2)
    latents, half = network.encode(images), len(network.shapes) // 2
    draw = torch.Generator().manual_seed(0)
    part = network.decode(latents[:half], generator=draw)
    return {
        "evidence bound, bits per colour value": bits,
        "PSNR with all latents, dB": psnr(network.decode(latents), images),
        f"PSNR with the first {half} of {len(latents)} groups, the rest from the prior, dB": psnr(part, images),
        "PSNR of the prior alone (chance), dB": psnr(network.decode([], n=len(images), generator=draw), images),
    }


def segmenter(world: World) -> dict[str, float]:
    network = world.load("segmenter")
    found, truth = batched(network.segment, world.images), world.scenes.segmentations(world.numbers)
    shares = [
        (((found == number) & (truth == number)).sum() / ((found == number) | (truth == number)).sum()).item()
        for number in range(len(world.scenes.classes))
    ]
    return {
        "mean intersection over union, all classes": sum(shares) / len(shares),
        "the same if all were background (chance)": (truth == 0).float().mean().item() / len(shares),
        "pixels right": (found == truth).float().mean().item(),
        "pixels right if all were background": (truth == 0).float().mean().item(),
    }


def judge_classifier(world: World) -> dict[str, float]:
    return labels(batched(world.load("judge-classifier").probabilities, world.images), world)


def judge_matcher(world: World) -> dict[str, float]:
    network = world.load("judge-matcher")
    with torch.no_grad():
        images = batched(network.image_vectors, world.images)
        texts = {which: network.text_vectors(world.captions(which)) for which in (0, 5)}
    return {
        "own caption nearest among 100 (objects, colours, place)": retrieval(images, texts[5]),
        "own caption nearest among 100 (main object, size, colour, place)": retrieval(images, texts[0]),
        "the same by chance": 0.01,
    }


def samples(world: World, numbers: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Pictures of the UNet for these scenes, with nothing asked, text or vision; and what the autoencoder makes of the scenes."""
    network, coder = world.load("unet"), world.load("autoencoder")
    known = Conditions(world.load("clip"), CLIPTokenizer.from_pretrained(world.folder / "clip"))
    scheduler = DDIMScheduler.from_pretrained(world.folder / "unet")
    images, count = world.scenes.pictures(numbers), len(numbers)
    nothing = condition(known.no_vision, known.no_text)
    text = condition(known.no_vision.expand(count, -1, -1), known.text([world.scenes.captions[number][2] for number in numbers]))
    vision = condition(known.vision(images), known.no_text.expand(count, -1, -1))
    start = torch.randn(count, network.config.in_channels, *[network.config.sample_size] * 2, generator=torch.Generator().manual_seed(seed))

    def drawn(*asked):
        return decode(coder, guided(network, scheduler, start, list(asked), nothing, steps=20))

    return {
        "nothing": drawn(),
        "text, guidance 1": drawn((1.0, text)),
        "text, guidance 3": drawn((3.0, text)),
        "vision, guidance 1": drawn((1.0, vision)),
        "vision, guidance 3": drawn((3.0, vision)),
        "text 2 and vision 2": drawn((2.0, text), (2.0, vision)),
        "the scenes through the autoencoder": there_and_back(coder, images),
    }


def unet(world: World) -> dict[str, float]:
    numbers = world.alone[:200]
    judge, wanted = world.load("judge-classifier"), world.label[world.alone[:200]]
    found = {**samples(world, numbers), "the scenes themselves": world.scenes.pictures(numbers)}
    shares = {
        f"category recognised by judge-classifier: {name}": (judge.probabilities(drawn).argmax(1) == wanted).float().mean().item()
        for name, drawn in found.items()
    }
    matcher = world.load("judge-matcher")
    words = matcher.text_vectors([world.scenes.captions[number][2] for number in numbers])
    pairs = {
        f"own caption fits better than another's, judge-matcher: {name}": two_way(matcher.image_vectors(drawn) @ words.T)
        for name, drawn in found.items()
    }
    return {**shares, "category by chance": 1 / len(world.names), **pairs, "caption by chance": 0.5, "scenes": float(len(numbers))}


def two_way(products: Tensor) -> float:
    """How often a picture is nearer to its own words than to another's, over all pairs."""
    own = products.diagonal()[:, None]
    count = len(products)
    return ((own > products).sum() / (count * (count - 1))).item()


FIGURES = {
    "clip": clip, "resnet": resnet, "autoencoder": autoencoder, "unet": unet, "vdvae": vdvae, "segmenter": segmenter,
    "judge-classifier": judge_classifier, "judge-matcher": judge_matcher,
}  # fmt: skip


def card(name: str, figures: dict[str, float], world: World, work: Path) -> str:
    """The model card."""
    made = json.loads((work / f"{name}.json").read_text())
    plan = made["plan"]
    weights = list((world.folder / name).glob("*.safetensors"))
    size = sum(path.stat().st_size for path in weights) / 1e6
    seed = json.loads((work / "scenes.json").read_text())["seed"]
    minutes = f"{made['cpu_minutes']:.1f} minutes of one processor core"
    before = work / f"{name}-rough.json"
    first = json.loads(before.read_text())["plan"] if before.is_file() else None
    rough = f"{first['steps']} batches of {first['batch']} without residual blocks, then " if first else ""
    rows = "\n".join(f"| {what} | {value:.0f} |" if what == "scenes" else f"| {what} | {value:.3g} |" for what, value in figures.items())
    return f"""---
license: mit
library_name: {pretrained.SHIPPED[name].architecture.split(".")[0]}
---

# {name} (cortexflow mini)

{ABOUT[name]}

Made for testing and for demonstrations on cortexflow's own scenes. It knows those scenes and nothing of photographs.

- **Data**: {len(world.scenes.training)} procedural scenes of 64 × 64 pixels, world "training", seed {seed};
  no scene that any subject sees.
- **Training**: `examples/train_mini/train.py {name}`, seed {plan["seed"]}, {rough}{plan["steps"]} batches of {plan["batch"]}, {minutes}.
- **Size**: {size:.1f} MB of float16 safetensors, read as float32.
- **Licence**: MIT.

Figures on {HELD_OUT} scenes of the training world that it was not trained on, or on the first of them where a number of scenes is given:

| | |
|---|---|
{rows}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="names of networks; all that are there by default")
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--out", type=Path, default=pretrained.MINI, help="where the networks are")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    world = World(Scenes(asked.work), asked.out)
    for name in asked.what or [name for name in TRAINERS if (asked.out / name / "config.json").is_file()]:
        with torch.no_grad():
            figures = FIGURES[name](world)
        print(name, json.dumps(figures, indent=2), flush=True)
        (asked.out / name / "README.md").write_text(card(name, figures, world, asked.work))


if __name__ == "__main__":
    main()
