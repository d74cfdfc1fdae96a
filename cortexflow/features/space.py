r"""One vector per picture out of several extractors: what an encoder is given, and what belongs to a trained model.

Each level is standardised with the mean and deviation of the *training* pictures, turned to its leading principal components
where there are too many columns, and divided by one number, so that a column has variance 1 on average. Components are not
whitened: within a level, directions that vary more stay larger, as ridge regression needs; across levels, a level weighs by
how many columns it has and not by its unit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from pydantic import PositiveInt, ValidationError
from torch import Tensor, nn

from cortexflow.catalog import Choices, configure, explain
from cortexflow.data.base import Dataset
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.features.base import Features
from cortexflow.features.cache import FeatureCache, Progress
from cortexflow.features.stored import StoredFeatures, StoredLevels
from cortexflow.storage import load_tensors, save_tensors

AT_ONCE = 512  # pictures whose raw features are in memory together


class FeatureSpace(nn.Module):
    """Joins the levels of several extractors into one vector per picture.

    Arguments:
        features: The extractors, in the order in which their levels are joined; no two of the same name.
        config: The choices; defaults where absent.

    Raises:
        CortexflowError: No extractor, or two of the same name.

    Example::

        space = FeatureSpace([Pixels(), Gabor()], FeatureSpace.Config(components={"gabor": 100}))
        space.fit(space.read(cache, dataset, training))
        table = FeatureTable(seen, space.of_dataset(cache, dataset, seen))
    """

    class Config(Choices):
        """Choices of a feature space.

        Arguments:
            components: The most principal components of a level: one number for all levels, or a number by level
                ("gabor.scale4") or by extractor ("gabor"); None, or no entry, keeps every column.
        """

        components: PositiveInt | dict[str, PositiveInt | None] | None = None

    def __init__(self, features: Sequence[Features], config: Config | None = None) -> None:
        super().__init__()
        self.config = config if config is not None else self.Config()
        self.features = tuple(features)  # a tuple, so that a network among them does not become part of the saved state
        names = [entry.name for entry in self.features]
        if not names or len(set(names)) < len(names):
            raise CortexflowError(f"a feature space needs extractors of different names, these are {', '.join(names) or 'none'}")
        self.names: list[str] = []
        self.maps = nn.ModuleList()

    @property
    def keys(self) -> list[str]:
        """Name, revision and choices of each extractor."""
        return [entry.key for entry in self.features]

    @property
    def levels(self) -> dict[str, int]:
        """How many columns each level has in the joined vector, in order.

        Raises:
            CortexflowError: The space is not fitted.
        """
        if not self.names:
            raise CortexflowError("this feature space is not fitted; call fit with the features of the training pictures")
        return {name: level.size for name, level in self._by_name().items()}

    def fit(self, levels: Mapping[str, Float[Tensor, "stimuli _"]]) -> "FeatureSpace":
        """Learn mean, deviation and components from the training pictures, each once; one level after the other.

        Arguments:
            levels: Raw features of the training pictures, as :meth:`read` or :meth:`on_disk` gives them.

        Raises:
            CortexflowError: Levels that are empty, constant, not finite, of different length, or of other extractors; a choice
                of components for a level that does not exist.
        """
        self._check_names(levels)
        limits = self._limits(list(levels))
        rows: dict[int, str] = {}
        maps = nn.ModuleList()
        for name, values in levels.items():  # a level on disk is in memory while it is fitted
            rows[len(values)] = name
            if len(rows) > 1:
                raise CortexflowError(f"levels {' and '.join(rows.values())} have {' and '.join(map(str, rows))} rows; give the same pictures in all")
            maps.append(fit_level(name, values, limits[name]))
        self.names, self.maps = list(levels), maps
        return self

    def forward(self, levels: Mapping[str, Float[Tensor, "stimuli _"]]) -> Float[Tensor, "stimuli features"]:
        """The joined vectors of any pictures.

        Arguments:
            levels: Raw features, as :meth:`read` gives them.

        Raises:
            CortexflowError: Not fitted, or other levels or sizes than the space was fitted with.
        """
        if list(levels) != list(self.levels):
            raise CortexflowError(f"the space was fitted with levels {', '.join(self.levels)}, these are {', '.join(levels)}; give the same")
        for name, level in self._by_name().items():
            if levels[name].shape[1] != len(level.mean):
                raise CortexflowError(f"{name} has {levels[name].shape[1]} columns, {len(level.mean)} were fitted; give the same features")
        return torch.cat([level(levels[name]) for name, level in self._by_name().items()], dim=1)

    def read(
        self,
        cache: FeatureCache,
        dataset: Dataset,
        stimuli: Int[Tensor, " stimuli"],
        *,
        device: str | torch.device = "cpu",
        batch: int = 64,
        progress: Progress | None = None,
    ) -> dict[str, Float[Tensor, "stimuli _"]]:
        """Raw features of these pictures by level, from the cache where it has them; arguments as :meth:`FeatureCache.get`."""
        read = {entry.name: cache.get(entry, dataset, stimuli, device=device, batch=batch, progress=progress) for entry in self.features}
        return _prefixed(read)

    def of_dataset(
        self,
        cache: FeatureCache,
        dataset: Dataset,
        stimuli: Int[Tensor, " stimuli"],
        *,
        device: str | torch.device = "cpu",
        batch: int = 64,
        progress: Progress | None = None,
    ) -> Float[Tensor, "stimuli features"]:
        """The joined vectors of pictures of a study, on the CPU. Raw features are read and let go some pictures at a time."""
        if cache.root is None:
            levels = self.read(cache, dataset, stimuli, device=device, batch=batch, progress=progress)
            parts = ({name: values[rows] for name, values in levels.items()} for rows in torch.arange(len(stimuli)).split(AT_ONCE))
        else:
            stored = self._open(cache, dataset, stimuli, device, batch, progress)
            parts = ({**StoredLevels(stored, ids)} for ids in stimuli.split(AT_ONCE))
        return torch.cat([self({name: values.to(self._device) for name, values in part.items()}).cpu() for part in parts])

    def on_disk(
        self,
        cache: FeatureCache,
        dataset: Dataset,
        stimuli: Int[Tensor, " stimuli"],
        *,
        device: str | torch.device = "cpu",
        batch: int = 64,
        progress: Progress | None = None,
    ) -> Mapping[str, Float[Tensor, "stimuli _"]]:
        """As :meth:`read`, but a level is read from the cache when it is asked for; from a cache without a root all are there at once."""
        if cache.root is None:
            return self.read(cache, dataset, stimuli, device=device, batch=batch, progress=progress)
        return StoredLevels(self._open(cache, dataset, stimuli, device, batch, progress), stimuli)

    def _open(
        self, cache: FeatureCache, dataset: Dataset, stimuli: Tensor, device: str | torch.device, batch: int, progress: Progress | None
    ) -> dict[str, StoredFeatures]:
        return {entry.name: cache.open(entry, dataset, stimuli, device=device, batch=batch, progress=progress) for entry in self.features}

    def of_images(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> Float[Tensor, "stimuli features"]:
        """The joined vectors of any pictures, on the device of the space.

        Raises:
            CortexflowError: These are no tensor of 8-bit RGB pictures, or there are none.
        """
        if not isinstance(images, Tensor) or not len(images):
            what = "none came" if isinstance(images, Tensor) else f"{type(images).__name__} came; convert it with torch.as_tensor"
            raise CortexflowError(f"pictures must be a tensor, stimuli × 3 × height × width, {what}")
        images = images.to(self._device)
        return self(_prefixed({entry.name: entry(images) for entry in self.features}))

    def check(self, keys: Sequence[str]) -> None:
        """Raises CortexflowError where features were made by other extractors, revisions or choices than these."""
        theirs, ours = [key for key in keys if key not in self.keys], [key for key in self.keys if key not in keys]
        if theirs or ours:
            raise CortexflowError(
                f"trained with features {', '.join(theirs) or 'fewer'}, this version has {', '.join(ours) or 'none of them'}; "
                "train again, or install the version it was trained with"
            )

    def save(self, path: Path | str) -> None:
        """Write choices and everything fitted as one safetensors file."""
        made_of = {
            "features": [{"name": entry.name, **entry.config.model_dump(mode="json")} for entry in self.features],
            "keys": self.keys,
            "config": self.config.model_dump(mode="json"),
            "levels": list(self.levels.items()),
        }
        save_tensors(path, self.state_dict(), made_of)

    @property
    def _device(self) -> torch.device:
        return next(self.buffers(), torch.empty(0)).device

    def _by_name(self) -> dict[str, "Level"]:
        return dict(zip(self.names, self.maps, strict=True))  # type: ignore[arg-type]

    def _check_names(self, levels: Mapping[str, Tensor]) -> None:
        expected, came = [entry.name for entry in self.features], list(dict.fromkeys(name.split(".")[0] for name in levels))
        if came != expected:
            raise CortexflowError(f"levels must come from {', '.join(expected)}, these come from {', '.join(came) or 'none'}; use read()")

    def _limits(self, levels: Sequence[str]) -> dict[str, int | None]:
        """The most components of each level: its own entry before its extractor's."""
        chosen = self.config.components
        if not isinstance(chosen, dict):
            return dict.fromkeys(levels, chosen)
        known = {*levels, *(entry.name for entry in self.features)}
        if unknown := set(chosen) - known:
            raise CortexflowError(f"components name {', '.join(sorted(unknown))}; choose from {', '.join(sorted(known))}")
        return {name: chosen.get(name, chosen.get(name.split(".")[0])) for name in levels}


class Level(nn.Module):
    """The way of one level from raw columns to columns of comparable size: standardise, turn, divide.

    Arguments:
        mean: Of each column over the training pictures.
        scale: Deviation of each column, 1 where it is constant.
        axes: Principal axes of the standardised columns, or None to keep the columns.
        spread: Square root of the mean variance that is left.
    """

    mean: Tensor
    scale: Tensor
    axes: Tensor | None
    spread: Tensor

    def __init__(
        self,
        mean: Float[Tensor, " columns"],
        scale: Float[Tensor, " columns"],
        axes: Float[Tensor, "columns components"] | None,
        spread: Float[Tensor, ""],
    ) -> None:
        super().__init__()
        for name, value in {"mean": mean, "scale": scale, "axes": axes, "spread": spread}.items():
            self.register_buffer(name, value.float() if value is not None else None)

    @property
    def size(self) -> int:
        """Columns that come out."""
        return len(self.mean) if self.axes is None else self.axes.shape[1]

    def forward(self, values: Float[Tensor, "stimuli columns"]) -> Float[Tensor, "stimuli components"]:
        """The level's part of the joined vector."""
        standardised = (values - self.mean) / self.scale
        return (standardised if self.axes is None else standardised @ self.axes) / self.spread


def fit_level(name: str, values: Float[Tensor, "stimuli columns"], components: int | None) -> Level:
    """The map of one level, in float64.

    Arguments:
        name: For errors.
        values: Raw features of the training pictures.
        components: The most principal components to keep; as many columns or more keep the columns as they are.

    Raises:
        CortexflowError: No picture, a value that is not finite, or every column constant.
    """
    raw = values.double()
    if not len(raw) or not raw.isfinite().all():
        raise CortexflowError(f"{name} is empty or not finite; look at the extractor and at the pictures")
    mean, deviation = raw.mean(0), raw.std(0, correction=0)
    # Features are float32: a deviation in its last digits is rounding, and dividing by it would make noise a feature.
    constant = (deviation <= 1e-6 * mean.abs()) | (deviation <= 1e-7 * deviation.max())
    if constant.all():
        raise CortexflowError(f"{name} is the same for all {len(raw)} training pictures; leave it out, or give different pictures")
    scale = torch.where(constant, 1.0, deviation)
    standardised = torch.where(constant, 0.0, (raw - mean) / scale)
    if components is None or components >= raw.shape[1]:
        return Level(mean, scale, None, standardised.square().mean().sqrt())
    axes, variances = principal_axes(standardised, components)
    return Level(mean, scale, axes, variances.mean().sqrt())


def principal_axes(
    centred: Float[Tensor, "stimuli columns"], components: int
) -> tuple[Float[Tensor, "columns components"], Float[Tensor, " components"]]:
    """The orthonormal directions of largest variance, from the smaller of the two Gram matrices.

    The largest entry of each direction is positive, so that the same data give the same signs everywhere.

    Arguments:
        centred: Columns with mean 0.
        components: How many directions; fewer come back where the rank is smaller.

    Returns:
        The directions, and the variance along each, descending.

    Example:
        >>> principal_axes(torch.tensor([[3.0, -3.0], [-3.0, 3.0]]), 2)  # one direction is all there is
        (tensor([[ 0.7071],
                [-0.7071]]), tensor([18.]))
    """
    pictures, columns = centred.shape
    wide = columns > pictures
    gram = centred @ centred.T if wide else centred.T @ centred
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(gram))
    # Directions with less than 1e-10 of the largest variance are float32 rounding of the features.
    kept = min(components, int((values > 1e-10 * values[0]).sum()))
    axes = vectors[:, :kept]
    if wide:
        axes = centred.T @ axes / values[:kept].sqrt()
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return axes * largest.sign(), values[:kept] / pictures


def load_space(path: Path | str, device: str | torch.device = "cpu") -> FeatureSpace:
    """Read a space that :meth:`FeatureSpace.save` wrote, with the extractors of this version.

    Raises:
        CortexflowError: No such file, an extractor that this version does not have, or one whose numbers have changed since.
        DamagedFileError: The file is truncated, altered, or no feature space.
    """
    tensors, made_of = load_tensors(path)
    try:
        chosen = [configure("features", choice) for choice in made_of["features"]]
        space = FeatureSpace([entry(config) for entry, config in chosen], FeatureSpace.Config(**made_of["config"]))
        keys, space.names = made_of["keys"], [name for name, _ in made_of["levels"]]
        for index in range(len(space.names)):
            mean, scale, spread = (tensors[f"maps.{index}.{part}"] for part in ("mean", "scale", "spread"))
            space.maps.append(Level(mean, scale, tensors.get(f"maps.{index}.axes"), spread))
    except ValidationError as error:
        raise CortexflowError(f"{path}: {explain(error, 'feature space', FeatureSpace.Config)}") from error
    except (KeyError, TypeError) as error:
        raise DamagedFileError(f"{path} does not hold a whole feature space ({error}); train it again") from error
    try:
        space.check(keys)
    except CortexflowError as error:
        raise CortexflowError(f"{path}: {error}") from error
    return space.to(device)


def _prefixed(read: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Level names with the extractor's before them: ``gabor.scale4``."""
    return {f"{name}.{level}": values for name, levels in read.items() for level, values in levels.items()}
