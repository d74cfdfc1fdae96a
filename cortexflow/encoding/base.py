"""Images to responses: the contract of every encoder, p(responses | features)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cortexflow.catalog import Choices, configure
from cortexflow.data.base import Cortex
from cortexflow.encoding.levels import bands
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.nn.noise import Noise
from cortexflow.storage import load_tensors, save_tensors


class Encoder(nn.Module, ABC):
    """A conditional distribution of responses given features that can be fitted and sampled.

    A new encoder is one file in this folder with one class that derives from this one. Sizes come from the data and are
    arguments; choices are its ``Config``. What the fit decides lives in parameters and buffers, so that saving is complete.

    The trainer knows three things of an encoder and nothing of any model: it calls :meth:`solve` once; if the encoder has
    parameters that require a gradient it minimises :meth:`loss` over batches; it calls :meth:`calibrate` once at the end.

    Arguments:
        features: Size of one feature vector.
        voxels: Size of one response.
        config: The choices; defaults where absent.
        levels: Level names to their sizes, in the order in which they are concatenated; they sum to ``features``.
        cortex: Areas and geometry, for the models that use them.
        sees: The levels that each area may see (:mod:`cortexflow.encoding.levels`); None shows everything to all.
    """

    class Config(Choices):
        """Choices of an encoder."""

    reduces: ClassVar[bool] = False  # whether gradient training sees the numbers of `reduce` instead of all responses

    def __init__(
        self,
        features: int,
        voxels: int,
        config: Choices | None = None,
        *,
        levels: Mapping[str, int] | None = None,
        cortex: Cortex | None = None,
        sees: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__()
        self.config = config if config is not None else self.Config()
        self.features, self.voxels = features, voxels
        self.levels = dict(levels) if levels is not None else {"all": features}
        self.cortex = cortex
        if sum(self.levels.values()) != features:
            raise CortexflowError(f"levels {self.levels} do not sum to {features} features; pass the sizes of the levels that were joined")
        self.sees = {area: list(names) for area, names in sees.items()} if sees is not None else None
        self.bands = bands(self.sees, self.levels, cortex, voxels)  # voxels with the features that they may see

    @property
    def name(self) -> str:
        """The module's name: ``ridge``."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def solve(
        self,
        features: Float[Tensor, "trials features"],
        responses: Float[Tensor, "trials voxels"],
        groups: Int[Tensor, " trials"],
    ) -> None:
        """The closed-form part of the fit, on training trials. ``groups`` (the pictures) are never split between folds."""

    def reduce(
        self,
        features: Float[Tensor, "trials features"],
        responses: Float[Tensor, "trials voxels"],
        groups: Int[Tensor, " trials"],
    ) -> Float[Tensor, "trials coordinates"]:
        """:meth:`solve` on all training trials, and the few numbers of each that :meth:`reduced_loss` needs.

        A model with ``reduces`` is trained on these, as they would be of trials that the closed form was not fitted to, so that
        the number of voxels leaves the training loop. It makes its parameters here, or none where nothing is left to train.
        """
        raise NotImplementedError

    def reduced_loss(self, features: Float[Tensor, "trials features"], coordinates: Float[Tensor, "trials coordinates"]) -> Float[Tensor, ""]:
        """As :meth:`loss`, of reduced trials."""
        raise NotImplementedError

    def sound(self, features: Float[Tensor, "trials features"], coordinates: Float[Tensor, "trials coordinates"]) -> bool:
        """Whether samples are sane on these validation trials; an epoch after which they are not is never kept."""
        return True

    def grow(self, state: Mapping[str, Tensor]) -> None:
        """Make the parts whose presence and sizes the fit decided, before a state is loaded."""

    def notes(self) -> tuple[str, ...]:
        """What the fit decided, in sentences for the report."""
        return ()

    @abstractmethod
    def loss(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"]) -> Float[Tensor, ""]:
        """What gradient training minimises, a mean over trials and voxels."""

    def calibrate(
        self,
        features: Float[Tensor, "trials features"],
        responses: Float[Tensor, "trials voxels"],
        groups: Int[Tensor, " trials"],
    ) -> None:
        """What can only be learned from pictures that were not trained on (noise, temperature), on validation trials."""

    @abstractmethod
    def predict(self, features: Float[Tensor, "trials features"]) -> Float[Tensor, "trials voxels"]:
        """The expected response."""

    @abstractmethod
    def sample(self, features: Float[Tensor, "trials features"], n: int = 1) -> Float[Tensor, "n trials voxels"]:
        """``n`` synthetic trials of each row. Seeded by ``torch.manual_seed``."""

    def save(self, path: Path | str, beside: Mapping[str, str] | None = None) -> None:
        """Write weights, sizes and choices as one safetensors file.

        Arguments:
            path: The file.
            beside: SHA-256 of other files that belong to the model, by their names.
        """
        made_of = {
            "encoder": {"name": self.name, **self.config.model_dump(mode="json")},
            "features": self.features,
            "voxels": self.voxels,
            "levels": list(self.levels.items()),
            "sees": list(self.sees.items()) if self.sees is not None else None,  # a list keeps the order, which counts
            "beside": dict(beside or {}),
        }
        tensors = {f"state.{name}": value for name, value in self.state_dict().items()}
        if self.cortex is not None:
            made_of |= {"subject": self.cortex.subject, "areas": list(self.cortex.areas)}
            tensors |= {f"cortex.{name}": value for name, value in self.cortex.tensors().items()}
        save_tensors(path, tensors, made_of)


class DensityEncoder(Encoder):
    """An encoder whose density can be evaluated exactly."""

    @abstractmethod
    def log_prob(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"]) -> Float[Tensor, " trials"]:
        """Log density of each response, in nats, over all voxels together."""

    def loss(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"]) -> Float[Tensor, ""]:
        """Negative log-likelihood in nats per voxel."""
        return -self.log_prob(features, responses).mean() / self.voxels


class AdditiveEncoder(DensityEncoder):
    """A mean that depends on the image plus noise that does not: ``responses = predict(features) + noise``.

    A model of this kind sets ``self.noise`` and writes ``predict``.
    """

    noise: Noise

    def log_prob(self, features: Float[Tensor, "trials features"], responses: Float[Tensor, "trials voxels"]) -> Float[Tensor, " trials"]:
        """Log density of the residuals under the noise, in nats."""
        return self.noise.log_prob(responses - self.predict(features))

    def sample(self, features: Float[Tensor, "trials features"], n: int = 1) -> Float[Tensor, "n trials voxels"]:
        """The expectation plus ``n`` independent draws of noise for each row."""
        mean = self.predict(features)
        return mean + self.noise.sample(n * len(mean)).reshape(n, *mean.shape)


def load_encoder(path: Path | str, device: str = "cpu") -> Encoder:
    """Read an encoder that :meth:`Encoder.save` wrote.

    Raises:
        CortexflowError: No such file, a model that this version does not have, or one of a newer version.
        DamagedFileError: The file is truncated or altered.
    """
    tensors, made_of = load_tensors(path)
    try:
        entry, config = configure("encoding", made_of["encoder"])
        cortex = None
        if "areas" in made_of:
            parts = {name.removeprefix("cortex."): value for name, value in tensors.items() if name.startswith("cortex.")}
            cortex = Cortex.from_tensors(made_of["subject"], made_of["voxels"], made_of["areas"], parts)
        sees = dict(made_of["sees"]) if made_of.get("sees") is not None else None
        encoder = entry(made_of["features"], made_of["voxels"], config, levels=dict(made_of["levels"]), cortex=cortex, sees=sees)
        state = {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")}
        adopt(encoder, state)
    except (KeyError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedFileError(f"{path} does not hold a whole encoder ({' '.join(str(error).split())}); train it again") from error
    return encoder.to(device).eval()


def adopt(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state whose buffers may have been given their shape by the fit (a rank, a number of factors).

    Raises:
        KeyError, AttributeError, TypeError, ValueError, RuntimeError: The state is not one of this module, or holds NaN.
    """
    if isinstance(module, Encoder):
        module.grow(state)
    for name, value in state.items():
        if value.is_floating_point() and value.isnan().any():
            raise ValueError(f"{name} holds NaN")
        owner_name, _, leaf = name.rpartition(".")
        owner = module.get_submodule(owner_name)
        if leaf in owner._buffers:
            held = owner._buffers[leaf]
            if held is not None and held.dtype != value.dtype:
                raise ValueError(f"{name} is {value.dtype}, expected was {held.dtype}")
            owner._buffers[leaf] = torch.empty_like(value)
    module.load_state_dict(dict(state))
