"""Extractors with networks: tiny ones with random weights, real widths where shapes are published."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from cortexflow import catalog
from cortexflow.data.base import Dataset
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.features.captions import Captions
from cortexflow.features.clip import Clip
from cortexflow.features.dinov2 import Dinov2
from cortexflow.features.latents import Latents
from cortexflow.features.resnet import Resnet
from cortexflow.features.space import FeatureSpace
from cortexflow.nn.pixels import Preprocessing, centre, resize
from cortexflow.nn.vdvae import VDVAE, Config

transformers = pytest.importorskip("transformers")
diffusers = pytest.importorskip("diffusers")

VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 8,
}
TEXT = {
    "vocab_size": 60, "hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 10,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "projection_dim": 8,
}  # fmt: skip
WORDS = ("a", "red", "cat", "dog", "on", "mat", "the")


def preprocessing(folder, size, **others):
    said = {"size": {"shortest_edge": size}, "resample": 3, "do_center_crop": True, "crop_size": {"height": size, "width": size}}
    (folder / "preprocessor_config.json").write_text(json.dumps({**said, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, **others}))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)).save_pretrained(folder)
    letters = sorted({letter for word in WORDS for letter in word})
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    transformers.CLIPTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=[], model_max_length=10).save_pretrained(folder)
    preprocessing(folder, 32)
    return folder


def pictures(count=3, height=32, width=32):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def with_network(entry, network):
    """The extractor with this network in place of files."""
    entry.__dict__["network"] = network.eval().requires_grad_(False)
    return entry


# Pixels


@pytest.mark.parametrize(("height", "width"), [(64, 64), (425, 425), (240, 320), (100, 37)])
def test_pixels_are_those_of_transformers_processor(height, width, tmp_path):
    """The processor of CLIP, fed 8-bit pictures; two steps of 256 apart at most, and on average far less than one."""
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 9, 9), (height, width), mode="bilinear")
    images = (smooth * 255).to(torch.uint8)
    images[1] = pictures(1, height, width)[0]
    preprocessing(tmp_path, 224)
    ours = Preprocessing.read(tmp_path)(images)
    processor = transformers.CLIPImageProcessor.from_pretrained(tmp_path)
    assert processor.backend == "pil"
    theirs = processor([Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images], return_tensors="pt")["pixel_values"]
    step = 1 / 255 / 0.25
    assert ours.shape == theirs.shape == (2, 3, 224, 224)
    assert (ours - theirs).abs().max() < 2.1 * step
    assert (ours - theirs).abs().mean() < 0.2 * step
    assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=0.05 * step)


def test_the_mean_of_pixels_is_that_of_the_picture(tmp_path):
    """The trap: a processor that is fed floats in [0, 1] divides by 255 once more, and every picture is nearly black."""
    preprocessing(tmp_path, 224)
    images = torch.full((1, 3, 50, 50), 191, dtype=torch.uint8)
    assert Preprocessing.read(tmp_path)(images).mean().item() == pytest.approx((191 / 255 - 0.5) / 0.25, abs=1e-5)
    trapped = transformers.CLIPImageProcessor.from_pretrained(tmp_path)(np.full((50, 50, 3), 191 / 255), return_tensors="np")
    assert np.mean(trapped["pixel_values"]) < -1.9  # what would have come of it


def test_float_pictures_are_refused(clip_folder):
    with pytest.raises(CortexflowError, match="pictures must be uint8 with values 0 to 255, these are torch.float32"):
        Clip(Clip.Config(model=str(clip_folder)))(torch.rand(2, 3, 32, 32))
    with pytest.raises(CortexflowError, match="convert them to RGB"):
        Clip(Clip.Config(model=str(clip_folder)))(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))


def test_the_middle_of_a_picture():
    images = torch.arange(5).expand(1, 1, 5, 5)
    assert centre(images, (3, 3))[0, 0, 0].tolist() == [1, 2, 3]
    assert centre(images, (5, 7))[0, 0, 0].tolist() == [0, 0, 1, 2, 3, 4, 0]


def test_a_picture_of_the_right_size_is_left_alone():
    images = pictures()
    assert resize(images, (32, 32)) is images


# CLIP


def test_layers_are_levels_with_their_names(clip_folder):
    entry = Clip(Clip.Config(model=str(clip_folder), layers=(0, 3, "normed", "projected", "embedding"), tokens="all"))
    levels = entry(pictures())
    assert {name: values.shape[1] for name, values in levels.items()} == {
        "layer0": 17 * 16, "layer3": 17 * 16, "normed": 17 * 16, "projected": 17 * 8, "embedding": 8,
    }  # fmt: skip


@pytest.mark.parametrize(("tokens", "columns"), [("pooled", 16), ("mean", 16), ("patches", 256), ("all", 272)])
def test_tokens_are_those_of_transformers(clip_folder, tokens, columns):
    images = pictures()
    found = Clip(Clip.Config(model=str(clip_folder), layers=(2,), tokens=tokens))(images)["layer2"]
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    pixels = (images.float() / 255 - 0.5) / 0.25
    hidden = model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[2].detach()
    expected = {"pooled": hidden[:, 0], "mean": hidden[:, 1:].mean(1), "patches": hidden[:, 1:].flatten(1), "all": hidden.flatten(1)}[tokens]
    assert found.shape == (3, columns)
    torch.testing.assert_close(found, expected)


def test_the_embedding_is_transformers_own(clip_folder):
    images = pictures()
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    answer = model(pixel_values=(images.float() / 255 - 0.5) / 0.25, input_ids=torch.tensor([[0, 5, 1]]))
    found = Clip(Clip.Config(model=str(clip_folder)))(images)["embedding"]
    torch.testing.assert_close(found, answer.image_embeds.detach())
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_the_first_projected_token_has_length_one(clip_folder):
    projected = Clip(Clip.Config(model=str(clip_folder), layers=("projected",), tokens="all"))(pictures())["projected"].reshape(3, 17, 8)
    torch.testing.assert_close(projected[:, 0].norm(dim=1), torch.ones(3))
    pooled = Clip(Clip.Config(model=str(clip_folder)))(pictures())
    assert pooled["embedding"].shape == (3, 8)


def test_brain_diffusers_vision_tokens_are_257_by_768():
    vision = transformers.CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=1, num_attention_heads=16, patch_size=14, image_size=224, projection_dim=768
    )
    with torch.device("meta"):
        network = transformers.CLIPVisionModelWithProjection(vision)
    entry = with_network(Clip(Clip.Config(model="clip-vit-large-patch14", layers=("projected",), tokens="all")), network)
    assert entry.levels(torch.empty(2, 3, 224, 224, device="meta"))["projected"].shape == (2, 257 * 768)


def test_mindeye2s_tokens_are_256_by_1664():
    vision = transformers.CLIPVisionConfig(
        hidden_size=1664, intermediate_size=8192, num_hidden_layers=1, num_attention_heads=16, patch_size=14, image_size=224, projection_dim=1280
    )
    with torch.device("meta"):
        network = transformers.CLIPVisionModelWithProjection(vision)
    entry = with_network(Clip(Clip.Config(model="clip-vit-bigg-14", layers=("normed",), tokens="patches")), network)
    assert entry.levels(torch.empty(2, 3, 224, 224, device="meta"))["normed"].shape == (2, 256 * 1664)


def test_a_layer_that_does_not_exist(clip_folder):
    with pytest.raises(CortexflowError, match="has layers 0 to 3, layer 4 was asked"):
        Clip(Clip.Config(model=str(clip_folder), layers=(4,)))(pictures())
    with pytest.raises(CortexflowError, match="features clip: layers: .* choose one or more, each once"):
        catalog.configure("features", {"name": "clip", "layers": [2, 2]})


# Words


class Silent(Dataset):
    """A study without captions."""

    title = "made for the tests"
    subjects = ()
    trials = images = held_out = cortex = checksums = None


class Speaking(Silent):
    """A study with captions."""

    def captions(self, stimuli):
        return [["a red cat", "the cat on the mat"], ["a dog"]][: len(stimuli)]


def test_captions_are_the_mean_over_what_was_said(clip_folder):
    entry = Captions(Captions.Config(model=str(clip_folder), layers=("embedding", "projected", "hidden", 1)))
    given = entry.read(Speaking(), torch.tensor([4, 9]))
    levels = entry(given)
    assert given.shape == (2, 2, 10) and (given[1, 1] == -1).all()
    assert {name: values.shape[1] for name, values in levels.items()} == {"embedding": 8, "projected": 80, "hidden": 120, "layer1": 120}
    model = transformers.CLIPModel.from_pretrained(clip_folder).eval()
    words = entry.tokenizer(["a red cat", "the cat on the mat", "a dog"], padding="max_length", max_length=10, return_tensors="pt", truncation=True)
    said = model(pixel_values=torch.zeros(1, 3, 32, 32), input_ids=words["input_ids"]).text_embeds.detach()
    torch.testing.assert_close(levels["embedding"], torch.stack([said[:2].mean(0), said[2]]))


def test_published_text_tokens_are_77_by_768():
    text = transformers.CLIPTextConfig(
        vocab_size=100, hidden_size=768, intermediate_size=64, num_hidden_layers=1, num_attention_heads=12, max_position_embeddings=77,
        projection_dim=768, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    entry = with_network(Captions(Captions.Config(layers=("projected",))), transformers.CLIPTextModelWithProjection(text))
    words = torch.randint(2, 100, (2, 3, 77))
    words[..., 40:] = 1
    projected = entry(words)["projected"]
    assert projected.shape == (2, 77 * 768)
    one = entry(words[:, :1])["projected"].reshape(2, 77, 768)
    torch.testing.assert_close(one[:, 40].norm(dim=1), torch.ones(2))  # where CLIP reads the caption


def test_captions_of_a_study_without_and_of_pictures(clip_folder):
    entry = Captions(Captions.Config(model=str(clip_folder)))
    with pytest.raises(CortexflowError, match="has no captions; leave features captions out"):
        entry.read(Silent(), torch.tensor([1]))
    with pytest.raises(CortexflowError, match="captions are features of words"):
        entry(pictures())
    with pytest.raises(CortexflowError, match="captions are features of words"):
        FeatureSpace([entry]).of_images(pictures())


# Others


def test_dinov2s_layers(tmp_path):
    config = transformers.Dinov2Config(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=28, patch_size=14)
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    preprocessing(tmp_path, 32, crop_size={"height": 28, "width": 28})
    levels = Dinov2(Dinov2.Config(model=str(tmp_path), layers=(1, "normed"), tokens="all"))(pictures(height=40, width=60))
    assert {name: tuple(values.shape) for name, values in levels.items()} == {"layer1": (3, 60), "normed": (3, 60)}


def test_resnets_stages_are_averaged_over_a_grid(tmp_path):
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 6, 8, 10], depths=[1, 1, 1, 1], layer_type="basic")
    model = transformers.ResNetModel(config).eval()
    model.save_pretrained(tmp_path)
    preprocessing(tmp_path, 64)
    images = pictures(height=64, width=64)
    levels = Resnet(Resnet.Config(model=str(tmp_path), grid=4))(images)
    assert {name: values.shape[1] for name, values in levels.items()} == {"stage1": 64, "stage2": 96, "stage3": 128, "stage4": 40}
    maps = model((images.float() / 255 - 0.5) / 0.25, output_hidden_states=True).hidden_states[1].detach()
    torch.testing.assert_close(levels["stage1"].reshape(3, 4, 4, 4), maps.reshape(3, 4, 4, 4, 4, 4).mean((3, 5)))
    with pytest.raises(CortexflowError, match="has stages 0 to 4, stage 7 was asked"):
        Resnet(Resnet.Config(model=str(tmp_path), stages=(7,)))(images)


def test_latents_are_the_posteriors_means(tmp_path):
    model = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, block_out_channels=[4, 8], norm_num_groups=2,
        latent_channels=3, sample_size=16,
    ).eval()  # fmt: skip
    model.save_pretrained(tmp_path)
    images = pictures(height=16, width=16)
    found = Latents(Latents.Config(model=str(tmp_path)))(images)["latents"]
    torch.testing.assert_close(found, model.encode(images.float() / 127.5 - 1).latent_dist.mean.detach().flatten(1))
    assert Latents(Latents.Config(model=str(tmp_path), size=32))(images)["latents"].shape == (3, 3 * 16 * 16)


def test_the_first_blocks_of_a_vdvae_are_levels_by_side(tmp_path):
    model = VDVAE(Config(image_size=8, encoder="8d2,4x1,4d4,1x1", decoder="1x1,4m1,4x1,8m4", width=16, latents=2, mixtures=2))
    model.save_pretrained(tmp_path)
    levels = Latents(Latents.Config(network="vdvae", model=str(tmp_path), blocks=3))(pictures(height=20, width=20))
    assert {name: values.shape[1] for name, values in levels.items()} == {"side1": 2, "side4": 64}
    with pytest.raises(CortexflowError, match="has 4 blocks, 5 were asked"):
        Latents(Latents.Config(network="vdvae", model=str(tmp_path), blocks=5))(pictures())
    with pytest.raises(CortexflowError, match="an autoencoder has no blocks"):
        catalog.configure("features", {"name": "latents", "blocks": 3})


# Which weights


def test_other_weights_are_another_key(clip_folder, tmp_path):
    other = tmp_path / "clip"
    other.mkdir()
    for path in clip_folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    config = Clip.Config(model=str(other))
    torch.manual_seed(5)
    before = Clip(config).key
    transformers.CLIPModel(transformers.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=8)).save_pretrained(other)
    after = Clip(config).key
    assert before != after and before.startswith("clip-1.") and len(Clip(config).weights) == 12
    with pytest.raises(CortexflowError, match="trained with features clip-1"):
        FeatureSpace([Clip(config)]).check([before])


def test_a_published_networks_key_needs_no_files():
    assert Clip(Clip.Config(model="clip-vit-large-patch14")).key.startswith("clip-1.32bd64288804-")


def test_weights_that_are_cut_short(clip_folder, tmp_path):
    for path in clip_folder.iterdir():
        whole = path.read_bytes()
        (tmp_path / path.name).write_bytes(whole[: len(whole) // 2] if path.suffix == ".safetensors" else whole)
    with pytest.raises(DamagedFileError, match="does not hold a whole clip network"):
        Clip(Clip.Config(model=str(tmp_path)))(pictures())
