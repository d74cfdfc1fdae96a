import pytest
import torch
from safetensors.torch import load_file, save_file

from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.nn import classifier, matcher, pretrained, segmenter
from cortexflow.nn.pretrained import PUBLISHED, SHIPPED, locate


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty cache of the hub, and no way out; a machine's own cache is not looked at."""
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot(repository, **options):
        asked.append((repository, options))
        raise OSError("offline")

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    monkeypatch.delenv(pretrained.DOWNLOAD, raising=False)
    return asked


def test_nothing_is_downloaded_unless_asked(offline):
    with pytest.raises(
        CortexflowError, match="335 MB, MIT\\) is not on this machine; set CORTEXFLOW_DOWNLOAD=1 to fetch it, give its folder, or use mini"
    ):
        locate("autoencoder", "sd-vae-ft-mse")
    assert offline[0][1]["local_files_only"] is True


def test_a_download_that_fails_says_so(offline, monkeypatch):
    with pytest.raises(CortexflowError, match=r"could not be fetched \(offline\); check the connection"):
        locate("clip", "clip-vit-large-patch14", download=True)
    monkeypatch.setenv(pretrained.DOWNLOAD, "1")
    with pytest.raises(CortexflowError, match="could not be fetched"):
        locate("resnet", "resnet-50")
    assert [options["local_files_only"] for _, options in offline] == [False, False]


def test_what_is_fetched_is_pinned_and_no_pickle(offline):
    for name, network in PUBLISHED.items():
        with pytest.raises(CortexflowError):
            locate(network.kind, name)
    for (repository, options), network in zip(offline, PUBLISHED.values(), strict=True):
        assert repository == network.repository and options["revision"] == network.revision
        assert len(network.revision) == 40 and int(network.revision, 16)
        assert not any(".bin" in pattern or ".pt" in pattern for pattern in options["allow_patterns"])


def test_a_misspelt_name_lists_the_names():
    with pytest.raises(
        CortexflowError,
        match="no clip network is called 'clpi'; choose one of mini, clip-vit-large-patch14, clip-vit-bigg-14, or give a folder as ./clpi",
    ):
        locate("clip", "clpi")
    with pytest.raises(CortexflowError, match="no resnet network is called 'autoencoder'"):
        locate("resnet", "autoencoder")  # a name of another kind
    with pytest.raises(CortexflowError, match="no dinov2 network is called 'mini'"):
        locate("dinov2", "mini")


def test_a_folder_without_a_network(tmp_path):
    with pytest.raises(CortexflowError, match="is no folder with a config.json"):
        locate("clip", str(tmp_path))


def test_pickles_are_never_read(tmp_path):
    classifier.Classifier().save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CortexflowError, match="holds no safetensors and pickles are never read"):
        pretrained.load("classifier", str(tmp_path))


def test_half_as_large_on_disk_and_float32_in_memory(tmp_path):
    network = classifier.Classifier().eval()
    network.save_pretrained(tmp_path, half=True)
    read, images = pretrained.load("classifier", str(tmp_path)), torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert load_file(tmp_path / "model.safetensors")["embed.weight"].dtype == torch.float16
    assert all(values.dtype == torch.float32 and not values.requires_grad for values in read.parameters())
    torch.testing.assert_close(read.probabilities(images), network.probabilities(images), atol=5e-3, rtol=0)


def test_weights_of_another_architecture(tmp_path):
    classifier.Classifier().save_pretrained(tmp_path)
    save_file({"other": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(DamagedFileError, match="does not hold a whole classifier network"):
        pretrained.load("classifier", str(tmp_path))


def test_the_revision_follows_the_weights(tmp_path):
    classifier.Classifier().save_pretrained(tmp_path)
    first = pretrained.revision("classifier", str(tmp_path))
    assert pretrained.revision("classifier", str(tmp_path)) == first
    torch.manual_seed(1)
    classifier.Classifier().save_pretrained(tmp_path)
    assert pretrained.revision("classifier", str(tmp_path)) != first


def test_the_revision_follows_every_file_that_decides_a_number(tmp_path):
    classifier.Classifier().save_pretrained(tmp_path)
    found = {pretrained.revision("classifier", str(tmp_path))}
    for name in ("preprocessor_config.json", "vocab.json", "merges.txt"):
        (tmp_path / name).write_text('{"image_std": 0.25}')
        found.add(pretrained.revision("classifier", str(tmp_path)))
    (tmp_path / "merges.txt").rename(tmp_path / "other.txt")
    assert len(found | {pretrained.revision("classifier", str(tmp_path))}) == 5


def test_weights_that_are_missing_are_never_random_numbers(tmp_path):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(projection_dim=8, **small)).save_pretrained(tmp_path)
    name = "transformers.CLIPVisionModelWithProjection"
    assert pretrained.load("clip", str(tmp_path), architecture=name).visual_projection.weight.shape == (8, 16)
    weights = load_file(tmp_path / "model.safetensors")
    cut = {name: values for name, values in weights.items() if "layers.1." not in name}
    save_file(cut, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DamagedFileError, match="lacks 16 weights of a CLIPVisionModelWithProjection"):
        pretrained.load("clip", str(tmp_path), architecture=name)


def test_another_kind_of_network_is_not_taken_for_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    transformers.Dinov2Model(transformers.Dinov2Config(**small)).save_pretrained(tmp_path)
    with pytest.raises(DamagedFileError, match="weights of a CLIPVisionModelWithProjection"):
        pretrained.load("clip", str(tmp_path), architecture="transformers.CLIPVisionModelWithProjection")


def test_judges_are_other_networks_than_those_they_judge():
    judges = {name: network for name, network in SHIPPED.items() if name.startswith("judge-")}
    others = {network.architecture for name, network in SHIPPED.items() if name not in judges}
    assert len(judges) >= 2
    assert not {network.architecture for network in judges.values()} & others


def test_the_segmenters_map_has_the_pictures_size(tmp_path):
    network = segmenter.Segmenter(segmenter.Config(classes=("background", "cat", "dog"), widths=(4, 6, 8))).eval()
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    assert network(images).shape == (2, 3, 32, 48)
    assert network.segment(images).unique().max() <= 2
    network.save_pretrained(tmp_path)
    assert torch.equal(segmenter.Segmenter.from_pretrained(tmp_path).eval()(images), network(images))


def test_the_matcher_learns_which_words_belong():
    colours = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "gray": (120, 120, 120)}
    words = list(colours)
    network = matcher.Matcher(matcher.Config(words=tuple(words), widths=(4, 6, 8), embedding=16, image_size=32))
    images = torch.tensor([colours[word] for word in words], dtype=torch.uint8)[:, :, None, None].expand(-1, -1, 32, 32).contiguous()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        network.loss(images, [f"a {word} wall" for word in words]).backward()
        optimizer.step()
    network.eval()
    products = network.image_vectors(images) @ network.text_vectors(["the wall is " + word for word in words]).T
    assert products.argmax(1).tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(network.image_vectors(images).norm(dim=1), torch.ones(4))


def test_words_that_are_not_known_are_passed_over():
    network = matcher.Matcher(matcher.Config(words=("red", "car", "red car")))
    assert network.numbers(["A RED car!", "zebra"]).tolist() == [[1, 2, 3], [0, 0, 0]]
