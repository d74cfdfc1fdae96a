r"""What drives the voxels that look at scenes: energies of the picture early on, the scene's parameters in category areas.

A voxel's seen drive is a sum of seven kinds (:data:`cortexflow.data.simulation.drives.KINDS`), each with variance 1,

.. math:: d_v = \sum_k w_{vk} z_{vk}, \quad \sum_k w_{vk}^2 = 1.

The first five look at the rendered picture through the receptive field. The category drive looks at the scene: the extent of each
object seen through the field, times the voxel's preference for its category, less what low-level energy predicts of it. So a
category area follows low-level energy as far as it is told to, and no further.

Means and deviations are those of a fixed set of scenes that nobody is shown, so a picture's drive depends on no other picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cortexflow.data.scenery.backdrops import LAYOUTS
from cortexflow.data.scenery.compose import CATEGORIES, SUPERCATEGORIES, Scene, render, scene
from cortexflow.data.simulation.drives import BATCH, CYCLES, Tuning, local_drives, mixture, picture_maps, pooling_windows
from cortexflow.data.simulation.sheet import Atlas, Sheet, receptive_fields, sheet, smooth
from cortexflow.data.simulation.streams import stream

AREAS = ("V1", "V2", "hV4", "LOC", "OFA", "FFA", "EBA", "VWFA", "PPA", "food")
PREFERRED = {"OFA": "faces", "FFA": "faces", "EBA": "bodies", "VWFA": "words", "PPA": "places", "food": "food"}
# Faces and words are looked at, places are around: where the fields of an area lie, in picture widths from the middle.
REACH = {
    "V1": (0.02, 0.5),
    "V2": (0.02, 0.5),
    "hV4": (0.02, 0.45),
    "LOC": (0.02, 0.4),
    "OFA": (0.01, 0.2),
    "FFA": (0.01, 0.2),
    "EBA": (0.03, 0.4),
    "VWFA": (0.01, 0.15),
    "PPA": (0.12, 0.5),
    "food": (0.02, 0.25),
}
ATLAS = Atlas(
    AREAS,
    (0.17, 0.13, 0.1, 0.12, 0.06, 0.09, 0.09, 0.07, 0.1, 0.07),
    {
        "V1": (0.025, 0.1),
        "V2": (0.03, 0.16),
        "hV4": (0.05, 0.28),
        "LOC": (0.12, 0.35),
        "OFA": (0.08, 0.35),
        "FFA": (0.12, 0.4),
        "EBA": (0.12, 0.4),
        "VWFA": (0.1, 0.3),
        "PPA": (0.15, 0.45),
        "food": (0.12, 0.4),
    },
    REACH,
)
WITH_V3 = Atlas(  # for studies whose early areas are a chain of four
    (*AREAS[:2], "V3", *AREAS[2:]),
    (0.15, 0.12, 0.09, 0.09, 0.11, 0.05, 0.08, 0.08, 0.07, 0.09, 0.07),
    {**ATLAS.sizes, "V3": (0.04, 0.22)},
    {**REACH, "V3": (0.02, 0.5)},
)
EARLY = {"V1": (0.88, 0.12, 0.0), "V2": (0.62, 0.38, 0.0), "V3": (0.52, 0.46, 0.02), "hV4": (0.42, 0.5, 0.08)}  # low, middle, category
MIDDLE = {"LOC": 0.15, "OFA": 0.1}  # share of middle drives; 0.04 in the other category areas
RELATED = {
    "EBA": {"animals": 0.3, "faces": 0.2},
    "FFA": {"animals": 0.2, "bodies": 0.15},
    "OFA": {"animals": 0.25},
    "PPA": {"furniture": 0.2, "vehicles": 0.2},
}
LAYOUT = {"corridor": 1.0, "street": 0.9, "room": 0.75, "mountains": 0.6, "sea": 0.5, "field": 0.5, "forest": 0.45}  # of places, in PPA
AROUND = 0.25  # extent of a building that a full layout is worth
REFERENCE = 512  # scenes that set means and deviations
SHRINKAGE = 20.0  # ridge penalty of the regression on low-level energy, in scenes
GROUPS = np.array([[name in members for name in CATEGORIES] for members in SUPERCATEGORIES.values()])


@dataclass(frozen=True)
class Seen:
    """A batch of scenes as the eyes see them.

    Arguments:
        scenes: What is in them.
        maps: Energies on a grid, see :func:`cortexflow.data.simulation.drives.picture_maps`.
        energy: Square root of the mean of each map: the low-level summary of the picture.
    """

    scenes: Sequence[Scene]
    maps: Float[np.ndarray, "batch channels pixels"]
    energy: Float[np.ndarray, "batch channels"]


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of each column, to be taken off and divided by."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Scale":
        """Those of the rows; columns that never change become 0."""
        deviation = values.std(axis=0, dtype=np.float64)
        return cls(values.mean(axis=0, dtype=np.float64), np.where(deviation > 1e-9, deviation, np.inf))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """The values, standardised."""
        return (values - self.mean) / self.deviation


def look(scenes: Sequence[Scene], size: int) -> Iterator[Seen]:
    """Render scenes batch by batch; no more than one batch of pictures is ever in memory."""
    for start in range(0, len(scenes), BATCH):
        batch = scenes[start : start + BATCH]
        maps = picture_maps(np.stack([render(content, size).image for content in batch]))
        yield Seen(batch, maps, np.sqrt(np.abs(maps.mean(axis=2))))


def reference(seed: int, size: int) -> Iterator[Seen]:
    """The scenes that set means and deviations, which no subject is shown."""
    return look([scene(seed, number, "localiser") for number in range(REFERENCE)], size)


class SceneCortex:
    """One subject's voxels, from its name.

    Arguments:
        seed: Of the study.
        subject: Its name decides on all that is its own.
        voxels: How many.
        size: Of the pictures.
        low_level: Share of the seen variance that low-level drives have in category areas; it varies between voxels.
        atlas: Its areas.
    """

    def __init__(self, seed: int, subject: str, voxels: int, size: int, low_level: float, atlas: Atlas = ATLAS) -> None:
        own = {purpose: stream(seed, purpose, subject) for purpose in ("sheet", "fields", "tuning")}
        self.place = sheet(voxels, own["sheet"], atlas)
        self.fields = receptive_fields(self.place, own["fields"], atlas)
        self.tuning = _tune(self.place, self.fields, low_level, stream(seed, "tuning"), own["tuning"], atlas.areas)
        self.layouts = _layouts(self.place, own["tuning"], atlas.areas)
        self._windows = pooling_windows(self.fields, size)

    def calibrate(
        self, scenes: Sequence[Scene], energies: Float[np.ndarray, "stimuli channels"], local: Float[np.ndarray, "5 stimuli voxels"]
    ) -> None:
        """Set means, deviations and the regression on low-level energy.

        Arguments:
            scenes: The reference scenes.
            energies: Of each as a whole.
            local: What :meth:`local` gave for them.
        """
        raw, number, category = energies, _numbers(scenes), self.category(scenes)
        self._energy, self._number, self._local = Scale.of(raw), Scale.of(number), [Scale.of(kind) for kind in local]
        energy, low = self._energy.apply(raw), self._standard(local)
        self._mean = category.mean(axis=0)
        self._whole, self._through = _regress(category - self._mean, energy, low)
        self._category = Scale.of(self._residual(category, energy, low))
        self._total = Scale.of(self._sum(low, number, self._residual(category, energy, low)))

    def local(self, batch: Seen) -> Float[np.ndarray, "5 batch voxels"]:
        """The five drives that look at the picture through the receptive field."""
        return local_drives(batch.maps, self._windows, self.tuning)

    def respond(self, batch: Seen) -> Float[np.ndarray, "batch voxels"]:
        """The seen drive, mean 0 and variance about 1."""
        low = self._standard(self.local(batch))
        category = self._residual(self.category(batch.scenes), self._energy.apply(batch.energy), low)
        return self._total.apply(self._sum(low, _numbers(batch.scenes), category)).astype(np.float32)

    def category(self, scenes: Sequence[Scene]) -> Float[np.ndarray, "stimuli voxels"]:
        """Extent times preference, summed over the objects seen through the field, and the layout."""
        total = np.zeros((len(scenes), len(self.fields)))
        x, y, sigma = self.fields.T
        for row, content in enumerate(scenes):
            for thing, extent in zip(content.things, np.sqrt(content.visible), strict=True):
                away = ((thing.x - x) ** 2 + (thing.y - y) ** 2) / (2 * (sigma**2 + thing.size**2))
                total[row] += extent * np.exp(-away) * self.tuning.categories[:, thing.category]
            total[row] += self.layouts[:, list(LAYOUTS).index(content.backdrop.layout)]
        return total

    def selectivity(self) -> Float[np.ndarray, "voxels supercategories"]:
        """How many deviations the seen drive rises per unit of extent of a supercategory, less that of all other categories."""
        slope = self.tuning.mixture[:, 6] / (self._category.deviation * self._total.deviation)
        members = self.tuning.categories @ (GROUPS / GROUPS.sum(axis=1, keepdims=True)).T
        others = self.tuning.categories @ (~GROUPS / (~GROUPS).sum(axis=1, keepdims=True)).T
        return slope[:, None] * (members - others)

    def summaries(self, batch: Seen) -> Float[np.ndarray, "batch summaries"]:
        """The picture as a whole in a few numbers: energies and presence of supercategories."""
        presence = np.array([content.parameters[: len(CATEGORIES)] for content in batch.scenes]) @ GROUPS.T
        return np.concatenate([self._energy.apply(batch.energy), presence], axis=1)

    def _standard(self, local: np.ndarray) -> Float[np.ndarray, "5 stimuli voxels"]:
        return np.stack([scale.apply(kind) for scale, kind in zip(self._local, local, strict=True)])

    def _residual(self, category: np.ndarray, energy: np.ndarray, low: np.ndarray) -> Float[np.ndarray, "stimuli voxels"]:
        """The category drive less what low-level energy, of the whole picture and through the field, predicts of it."""
        return category - self._mean - energy @ self._whole - (low * self._through[:, None]).sum(axis=0)

    def _sum(self, low: np.ndarray, number: np.ndarray, category: np.ndarray) -> Float[np.ndarray, "stimuli voxels"]:
        """The kinds of drive, weighted."""
        weights = self.tuning.mixture.T
        kinds = [*low, self._number.apply(number), self._category.apply(category)]
        return np.asarray(sum(weight * kind for weight, kind in zip(weights, kinds, strict=True)))


def calibrated(cortices: Sequence[SceneCortex], seed: int, size: int) -> None:
    """Calibrate all subjects in one pass over the reference scenes."""
    local: list[list[np.ndarray]] = [[] for _ in cortices]
    scenes: list[Scene] = []
    energies = []
    for batch in reference(seed, size):
        for subject, drives in zip(cortices, local, strict=True):
            drives.append(subject.local(batch))
        scenes.extend(batch.scenes)
        energies.append(batch.energy)
    for subject, drives in zip(cortices, local, strict=True):
        subject.calibrate(scenes, np.concatenate(energies), np.concatenate(drives, axis=1))


def _numbers(scenes: Sequence[Scene]) -> Float[np.ndarray, "stimuli 1"]:
    return np.array([[len(content.things) + 4 * content.visible.sum()] for content in scenes])


def _tune(place: Sheet, fields: np.ndarray, low_level: float, shared: np.random.Generator, own: np.random.Generator, names: Sequence[str]) -> Tuning:
    """Preferences that vary smoothly over the sheet, alike in all subjects up to jitter."""
    maps = smooth(shared, 4, length=5.0)(place.template)
    jitter = own.standard_normal((3, len(fields)))
    cycles = 0.4 / fields[:, 2] * np.exp(0.3 * jitter[1])
    levels = np.array([EARLY.get(name, (low_level, MIDDLE.get(name, 0.04), 1 - low_level - MIDDLE.get(name, 0.04))) for name in names])
    return Tuning(
        fields,
        orientation=np.arctan2(maps[:, 0], maps[:, 1]) / 2 + 0.15 * jitter[0],
        scale=np.abs(np.log(cycles)[:, None] - np.log(CYCLES)).argmin(axis=1),
        polarity=np.sign(maps[:, 2] + 0.5 * jitter[2]),
        categories=_preferences(place, shared, own, names),
        mixture=mixture(levels[place.areas], maps[:, 3], own),
    )


def _preferences(place: Sheet, shared: np.random.Generator, own: np.random.Generator, names: Sequence[str]) -> Float[np.ndarray, "voxels categories"]:
    """Strong and graded for an area's own supercategory, weak for related ones, noise for the rest; patches of anything elsewhere."""
    patches = smooth(shared, len(CATEGORIES), length=4.0)(place.template).clip(0) ** 1.5
    strength = np.exp(0.3 * own.standard_normal(len(place.areas)))
    preferences = patches + 0.3 * own.standard_normal(patches.shape)
    grain = 0.1 * own.standard_normal(patches.shape)
    for index, area in enumerate(names):
        if area in PREFERRED:
            weights = _group_weights({PREFERRED[area]: 1.0, **RELATED.get(area, {})})
            voxels = place.areas == index
            preferences[voxels] = strength[voxels, None] * weights * (1 + 2 * grain[voxels]) + grain[voxels]
    return preferences


def _group_weights(weights: Mapping[str, float]) -> Float[np.ndarray, " categories"]:
    return np.array([weights.get(group, 0.0) for group in SUPERCATEGORIES]) @ GROUPS


def _layouts(place: Sheet, own: np.random.Generator, names: Sequence[str]) -> Float[np.ndarray, "voxels layouts"]:
    """What the layout adds: in PPA only."""
    weights = np.array([LAYOUT.get(name, 0.0) for name in LAYOUTS])
    graded = np.exp(0.3 * own.standard_normal((len(place.areas), len(weights))))
    return AROUND * np.where((place.areas == names.index("PPA"))[:, None], weights * graded, 0.0)


def _regress(category: np.ndarray, energy: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge weights of the category drive on the picture's energies, shared by all voxels, and on each voxel's own five drives."""
    solver = np.linalg.solve(energy.T @ energy + SHRINKAGE * np.eye(energy.shape[1]), energy.T)
    left, beyond = category - energy @ (solver @ category), low - energy @ (solver @ low)
    gram = np.einsum("isv,jsv->vij", beyond, beyond) + SHRINKAGE * np.eye(len(low))
    through = np.linalg.solve(gram, np.einsum("isv,sv->vi", beyond, left)[..., None])[..., 0].T
    return solver @ (category - (low * through[:, None]).sum(axis=0)), through
