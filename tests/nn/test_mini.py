"""The networks that come with the package, on scenes that they were not trained on."""

import re

import numpy as np
import pytest
import torch

from cortexflow.data.scenery.compose import CATEGORIES, captions, render, scene
from cortexflow.features.captions import Captions
from cortexflow.features.clip import Clip
from cortexflow.features.latents import Latents
from cortexflow.features.resnet import Resnet
from cortexflow.nn import pretrained
from cortexflow.nn.clip_tokens import condition, text_tokens, tokenize, vision_tokens
from cortexflow.nn.guidance import guided
from cortexflow.nn.pretrained import MINI, SHIPPED

pytest.importorskip("transformers")
pytest.importorskip("diffusers")

SEED, COUNT = 7, 50  # the training world's first thousand scenes are held out


@pytest.fixture(scope="module")
def shown():
    """Scenes with one object, so that a category is the whole answer."""
    contents = [content for content in (scene(SEED, number, "training") for number in range(400)) if len(content.things) == 1][:COUNT]
    return contents, torch.from_numpy(np.stack([render(content, 64).image for content in contents]))


def label(contents):
    return torch.tensor([content.things[0].category for content in contents])


def test_weights_are_small_and_each_has_its_card():
    files = [path for name in SHIPPED for path in (MINI / name).glob("*.safetensors")]
    assert sum(path.stat().st_size for path in files) <= 30e6
    for name in SHIPPED:
        card = (MINI / name / "README.md").read_text()
        assert "license: mit" in card and "**Training**" in card and "chance" in card


def test_every_network_has_a_seed_of_its_own():
    seeds = [re.search(r"train.py [\w-]+`, seed (\d+)", (MINI / name / "README.md").read_text()).group(1) for name in SHIPPED]
    assert len(set(seeds)) == len(SHIPPED)


def test_no_pickle_is_shipped():
    assert not [path for path in MINI.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")]


def test_clip_finds_the_caption_of_a_scene(shown):
    """Of 50 captions the right one is nearest in more than 20 % of scenes, where chance is 2 %."""
    contents, images = shown
    words = Captions()
    said = words(words.numbers([[captions(content)[0]] for content in contents]))["embedding"]
    found = (Clip()(images)["embedding"] @ said.T).argmax(1)
    assert (found == torch.arange(len(images))).float().mean() > 0.2


def test_clip_names_the_category(shown):
    contents, images = shown
    words = Captions()
    names = [[f"a {'person' if name == 'body' else name}", f"a picture of a {'person' if name == 'body' else name}"] for name in CATEGORIES]
    found = (Clip()(images)["embedding"] @ words(words.numbers(names))["embedding"].T).argmax(1)
    assert (found == label(contents)).float().mean() > 0.25  # chance is 3 %


def test_the_judge_names_the_category(shown):
    contents, images = shown
    found = pretrained.load("classifier", "judge-classifier").probabilities(images).argmax(1)
    assert (found == label(contents)).float().mean() > 0.5


def test_the_autoencoder_gives_the_picture_back(shown):
    """Nearer than the picture's mean colour by 9 dB, an eighth of the error."""
    coder, images = pretrained.load("autoencoder"), shown[1].float() / 127.5 - 1
    back = coder.decode(coder.encode(images).latent_dist.mean).sample
    error, plain = (back - images).square().mean(), (images - images.mean((2, 3), keepdim=True)).square().mean()
    assert error < plain / 8


def test_what_the_autoencoder_gives_back_can_be_named(shown):
    """The judge names more than half as many objects as in the pictures themselves; chance is 3 %."""
    contents, images = shown
    coder, judge = pretrained.load("autoencoder"), pretrained.load("classifier", "judge-classifier")
    back = coder.decode(coder.encode(images.float() / 127.5 - 1).latent_dist.mean).sample
    back = ((back + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    before, after = ((judge.probabilities(given).argmax(1) == label(contents)).float().mean() for given in (images, back))
    assert after > before / 2


def test_guidance_asks_for_what_it_is_given(shown):
    """Pictures drawn from one and the same noise with a scene's vision tokens each: the judge finds the scene's own caption nearer."""
    from diffusers import DDIMScheduler
    from transformers import CLIPTokenizer

    contents, images = shown
    contents, images = contents[:12], images[:12]
    unet, coder, seer = pretrained.load("unet"), pretrained.load("autoencoder"), pretrained.load("clip")
    tokens = vision_tokens(seer, torch.cat([images, torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)]).float() / 127.5 - 1)
    words = text_tokens(seer, tokenize(CLIPTokenizer.from_pretrained(MINI / "clip"), [""], 28))
    given = condition(tokens, words.expand(13, -1, -1))
    side = unet.config.sample_size
    start = torch.randn(1, unet.config.in_channels, side, side, generator=torch.Generator().manual_seed(0)).expand(12, -1, -1, -1)
    latents = guided(unet, DDIMScheduler.from_pretrained(MINI / "unet"), start, [(3.0, given[:12])], given[12:], steps=10)
    drawn = ((coder.decode(latents / coder.config.scaling_factor).sample + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    judge = pretrained.load("matcher", "judge-matcher")
    products = judge.image_vectors(drawn) @ judge.text_vectors([captions(content)[2] for content in contents]).T
    own = products.diagonal()[:, None]
    assert (own > products).sum() / (12 * 11) > 0.65  # chance is one half


def test_the_segmenter_finds_objects(shown):
    contents, images = shown
    truth = torch.from_numpy(np.stack([render(content, 64).segmentation for content in contents])).long()
    found = pretrained.load("segmenter").segment(images)
    here = truth > 0
    assert (found[here] == truth[here]).float().mean() > 0.3
    assert (found == truth).float().mean() > (truth == 0).float().mean()


def test_every_extractor_has_its_levels(shown):
    images = shown[1][:2]
    assert list(Resnet()(images)) == ["stage1", "stage2", "stage3", "stage4"]
    assert Latents()(images)["latents"].shape == (2, 1536)
    assert list(Latents(Latents.Config(network="vdvae"))(images)) == ["side1", "side4", "side8", "side16", "side32"]
    assert Clip(Clip.Config(layers=("projected",), tokens="all"))(images)["projected"].shape == (2, 65 * 128)
