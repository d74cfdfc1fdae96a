"""Networks by name: published ones at a pinned revision, the mini ones that come with the package, or a given folder.

Nothing is downloaded unless it is asked for (``download=True``, or ``CORTEXFLOW_DOWNLOAD=1`` in the environment). Only
safetensors are read, never pickles. Which weights they are is a part of every feature's key, so that a model that was trained
with features of one network is never given those of another.

A folder is what ``save_pretrained`` writes: ``config.json``, weights as safetensors, and for words the tokenizer's files.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from cortexflow.catalog import load as load_module
from cortexflow.errors import CortexflowError, DamagedFileError

MINI = Path(__file__).parents[1] / "mini"
DOWNLOAD = "CORTEXFLOW_DOWNLOAD"
PATTERNS = ("*.json", "*.safetensors", "*.txt")  # of a published network; pickles stay where they are


@dataclass(frozen=True)
class Network:
    """One network that can be named.

    Arguments:
        kind: What it is for: clip, dinov2, resnet, autoencoder, unet, vdvae, segmenter, classifier, matcher.
        architecture: Module and class that reads it.
        licence: Of the weights.
        megabytes: Of the weights as they are stored.
        repository: On the Hugging Face hub; None for a network that comes with the package.
        revision: Commit of the repository.
        files: Which files of the repository are needed.
    """

    kind: str
    architecture: str
    licence: str
    megabytes: int
    repository: str | None = None
    revision: str = ""
    files: tuple[str, ...] = PATTERNS


CLIP, DINO, RESNET = "transformers.CLIPModel", "transformers.Dinov2Model", "transformers.ResNetModel"
AUTOENCODER, UNET = "diffusers.AutoencoderKL", "diffusers.UNet2DConditionModel"

PUBLISHED: Mapping[str, Network] = {
    "clip-vit-large-patch14": Network(
        "clip", CLIP, "MIT (code), weights for research", 1710, "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"
    ),
    "clip-vit-bigg-14": Network(
        "clip", CLIP, "MIT", 10160, "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", "743c27bd53dfe508a0ade0f50698f99b39d03bec",
        ("config.json", "preprocessor_config.json", "model*.safetensors*", "tokenizer*", "vocab.json", "merges.txt", "special_tokens_map.json"),
    ),
    "dinov2-base": Network("dinov2", DINO, "Apache-2.0", 346, "facebook/dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415"),
    "resnet-50": Network("resnet", RESNET, "Apache-2.0", 102, "microsoft/resnet-50", "34c2154c194f829b11125337b98c8f5f9965ff19"),
    "sd-vae-ft-mse": Network(
        "autoencoder", AUTOENCODER, "MIT", 335, "stabilityai/sd-vae-ft-mse", "31f26fdeee1355a5c34592e401dd41e45d25a493",
        ("config.json", "diffusion_pytorch_model.safetensors"),
    ),
}  # fmt: skip

# The networks that score pictures (judge-…) are others than those that condition them: other seeds, other architectures.
SHIPPED: Mapping[str, Network] = {
    "clip": Network("clip", CLIP, "MIT", 3),
    "resnet": Network("resnet", RESNET, "MIT", 2),
    "autoencoder": Network("autoencoder", AUTOENCODER, "MIT", 3),
    "unet": Network("unet", UNET, "MIT", 12),
    "vdvae": Network("vdvae", "cortexflow.nn.vdvae.VDVAE", "MIT", 2),
    "segmenter": Network("segmenter", "cortexflow.nn.segmenter.Segmenter", "MIT", 1),
    "judge-classifier": Network("classifier", "cortexflow.nn.classifier.Classifier", "MIT", 2),
    "judge-matcher": Network("matcher", "cortexflow.nn.matcher.Matcher", "MIT", 2),
}
DEFAULT_ARCHITECTURE = {network.kind: network.architecture for network in (*SHIPPED.values(), *PUBLISHED.values())}


@dataclass(frozen=True)
class Source:
    """Where a network lies and which one it is.

    Arguments:
        name: As it was asked for.
        folder: With ``config.json`` and the weights.
        revision: Commit of the repository, or twelve digits of the SHA-256 of its files.
        architecture: Module and class that reads it.
    """

    name: str
    folder: Path
    revision: str
    architecture: str


def choices(kind: str) -> list[str]:
    """The names there are for a kind of network; "mini" stands for the shipped one of that kind."""
    return ["mini"] * (kind in SHIPPED) + [name for name, network in {**SHIPPED, **PUBLISHED}.items() if network.kind == kind and name != kind]


def revision(kind: str, model: str) -> str:
    """Which weights a name stands for, without reading a published network.

    Raises:
        CortexflowError: No such network.
    """
    if model in PUBLISHED and PUBLISHED[model].kind == kind:
        return PUBLISHED[model].revision[:12]
    return locate(kind, model).revision


def locate(kind: str, model: str = "mini", *, download: bool | None = None) -> Source:
    """Where the network of a name lies.

    Arguments:
        kind: What it is for; see :class:`Network`.
        model: "mini", one of :func:`choices`, or the path of a folder that ``save_pretrained`` wrote.
        download: Fetch a published network that is not there yet; by default only if ``CORTEXFLOW_DOWNLOAD`` is 1.

    Raises:
        CortexflowError: No such network, or it is not there and was not asked to be fetched.
    """
    shipped = kind if model == "mini" else model
    if shipped in SHIPPED and SHIPPED[shipped].kind == kind:
        return _shipped(shipped)
    if model in PUBLISHED and PUBLISHED[model].kind == kind:
        network = PUBLISHED[model]
        return Source(model, _snapshot(model, network, download), network.revision[:12], network.architecture)
    if os.sep in model or Path(model).is_dir():
        return _given(kind, model)
    raise CortexflowError(f"no {kind} network is called {model!r}; choose one of {', '.join(choices(kind)) or 'none'}, or give a folder as ./{model}")


def load(kind: str, model: str = "mini", *, download: bool | None = None, architecture: str | None = None) -> nn.Module:
    """The network, in float32, ready to be asked and not to be trained.

    Arguments:
        kind: What it is for.
        model: As for :func:`locate`.
        download: As for :func:`locate`.
        architecture: Module and class where another than the network's own is to read it.

    Raises:
        CortexflowError: It is not there, an optional package is missing, or its weights are no safetensors.
        DamagedFileError: The files are truncated, or not those of this architecture.
    """
    source = locate(kind, model, download=download)
    network = _class(architecture or source.architecture)
    if not list(source.folder.glob("*.safetensors")):
        raise CortexflowError(f"{source.folder} holds no safetensors and pickles are never read; convert them with safetensors.torch.save_file")
    try:
        read, missing = _read(network, source.folder)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedFileError(f"{source.folder} does not hold a whole {kind} network ({_one_line(error)}); restore it or fetch it again") from error
    if missing:  # the libraries would fill them with random numbers
        what = f"lacks {len(missing)} weights of a {network.__name__}, {missing[0]} first"
        raise DamagedFileError(f"{source.folder} {what}; give the folder of such a network, or fetch it again")
    return read.float().eval().requires_grad_(False)


def _read(network: Any, folder: Path) -> tuple[nn.Module, list[str]]:
    """The network, and the names of the weights that its files do not have; what they have beyond it is of no account."""
    if network.__module__.startswith("cortexflow."):
        return network.from_pretrained(folder), []  # reads all or nothing
    read, found = network.from_pretrained(folder, use_safetensors=True, local_files_only=True, output_loading_info=True)
    return read, sorted(map(str, [*found["missing_keys"], *found.get("mismatched_keys", ())]))


def _class(architecture: str) -> Any:
    """The class of a dotted name; a missing package says how to install it."""
    module, _, name = architecture.rpartition(".")
    found = getattr(load_module(module), name)
    _quiet(module)
    return found


def _quiet(package: str) -> None:
    """No bars and no advice on the terminal while weights are read."""
    if package in ("transformers", "diffusers"):
        logging = load_module(f"{package}.utils.logging")
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _shipped(name: str) -> Source:
    folder = MINI / name
    if not (folder / "config.json").is_file():
        raise CortexflowError(f"the package lacks its {name} network ({folder} is missing); install it again, or train it with examples/train_mini")
    return Source(name, folder, _digest(folder), SHIPPED[name].architecture)


def _given(kind: str, model: str) -> Source:
    folder = Path(model)
    if not (folder / "config.json").is_file():
        raise CortexflowError(f"{model} is no folder with a config.json; give one that save_pretrained wrote, or one of {', '.join(choices(kind))}")
    return Source(model, folder, _digest(folder), DEFAULT_ARCHITECTURE[kind])


def _snapshot(name: str, network: Network, download: bool | None) -> Path:
    """The folder of a published network in the hub's own cache."""
    hub = load_module("huggingface_hub")
    wanted = download if download is not None else os.environ.get(DOWNLOAD, "") == "1"
    what = f"{name} ({network.repository}, {network.megabytes} MB, {network.licence})"
    try:
        return Path(
            hub.snapshot_download(network.repository, revision=network.revision, allow_patterns=list(network.files), local_files_only=not wanted)
        )
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        if not wanted:
            raise CortexflowError(f"{what} is not on this machine; set {DOWNLOAD}=1 to fetch it, give its folder, or use mini") from error
        raise CortexflowError(f"{what} could not be fetched ({_one_line(error)}); check the connection, give its folder, or use mini") from error


def _digest(folder: Path) -> str:
    """Twelve digits that follow from everything that decides a number: weights, configuration, preprocessing, words."""
    files = sorted(path for pattern in PATTERNS for path in folder.glob(pattern))
    digest = hashlib.sha256()
    for path in files:
        state = path.stat()
        digest.update(f"{path.name} {_checksum(str(path), state.st_mtime_ns, state.st_size)}\n".encode())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=256)
def _checksum(path: str, changed: int, size: int) -> str:
    """Of a file as it was at that time: gigabytes are read once."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 200 else text[:197] + "…"
