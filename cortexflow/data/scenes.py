"""A visual cortex that looks at scenes: faces, bodies, words, places, food and more, with captions, masks and known truth.

Early areas answer energies of the rendered pictures through receptive fields, category areas answer what is in the scene, with
low-level energy regressed out; no network drives any voxel. At least a fifth of the signal is in no picture. A localiser defines the
category areas as in an experiment.
"""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Cortex, Trials
from cortexflow.data.localiser import Blocks
from cortexflow.data.scenery import compose
from cortexflow.data.scenery.compose import CATEGORIES, PARAMETERS, SUPERCATEGORIES, Rendered, portrait, render, scene
from cortexflow.data.scenery.cortex import ATLAS, PREFERRED, SceneCortex, calibrated, look
from cortexflow.data.simulation.noise_families import Ground, Order, amplitude, draw
from cortexflow.data.simulation.planted import LATENTS, Planted, assemble, ratios
from cortexflow.data.simulation.sheet import Atlas, Sheet, smooth
from cortexflow.data.simulation.streams import stream
from cortexflow.data.simulation.study import PlantedDataset, single
from cortexflow.storage import fingerprint

REVISION = "1"  # raise it whenever any number changes: checksums are made of it
RUNS, BLOCKS, PICTURES = 6, 6, 8  # of the localiser: runs, blocks of a category in a run, pictures in a block
POOL = 40  # pictures of each supercategory that blocks draw from
_LAST: dict[str, dict[str, Planted]] = {}


class Scenes(PlantedDataset):
    r"""A study of scenes with known truth.

    A trial of stimulus x in session s is, in percent signal change,

    .. math:: y = \mathrm{signal}(x) + \mathrm{offset}_s + \mathrm{noise}.

    ``signal``, ``unseen``, ``session_offsets``, ``noise_covariance``, ``true_ncsnr``, ``prf``, ``selectivity`` and ``parameters`` are
    the truth, never to be shown to a model. ``captions``, ``categories``, ``segmentation``, ``masks`` and ``boxes`` annotate
    pictures, as people annotate photographs. Pictures are rendered when asked for and never kept.

    Arguments:
        config: The choices; defaults where absent.
        root: Not used; there are no files.
    """

    class Config(PlantedDataset.Config):
        """Choices of the study; those of every planted study, and its own.

        Arguments:
            setting: Family of the noise, see :class:`cortexflow.data.simulated.Simulated`.
            voxels: Per subject, at least 60 so that every area has some.
            low_level: Share of squared weights that low-level drives have in category areas, about; those drives are correlated, so what
                they explain is more where fields are wide.
        """

        setting: Literal["calibrated", "rich", "gaussian", "image_covariance", "student", "autoregressive", "area_gain", "drift"] = "calibrated"
        voxels: int = Field(600, ge=60)
        image_size: int = Field(64, ge=16, le=1024, multiple_of=8)
        low_level: float = Field(0.1, ge=0, le=0.8)

    title: ClassVar[str] = "Simulated visual cortex that looks at scenes, with captions, masks and a localiser"
    atlas: ClassVar[Atlas] = ATLAS
    config: Config

    def __init__(self, config: Choices | None = None, root: Path | str | None = None) -> None:
        super().__init__(config, root)
        self._cortices: dict[str, SceneCortex] = {}
        self._last: Rendered | None = None

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """The pictures of these stimuli; any subset gives the same bits.

        Raises:
            CortexflowError: A stimulus that is none of this study's.
        """
        rows, size = self._rows(stimuli), self.config.image_size
        pictures = np.empty((len(rows), 3, size, size), dtype=np.uint8)
        for place, row in enumerate(rows):
            pictures[place] = render(self._scene(int(row)), size).image
        return torch.from_numpy(pictures)

    def captions(self, stimuli: Int[Tensor, " stimuli"]) -> list[list[str]]:
        """Five sentences or more for each picture, in plain lower-case words."""
        return [compose.captions(self._scene(int(row))) for row in self._rows(stimuli)]

    @property
    def category_names(self) -> tuple[str, ...]:
        """The columns of :meth:`categories`; label n of :meth:`segmentation` is entry n - 1."""
        return CATEGORIES

    def categories(self, stimuli: Int[Tensor, " stimuli"]) -> Bool[Tensor, "stimuli categories"]:
        """Whether each category is to be seen in each picture."""
        return self.parameters(stimuli)[:, : len(CATEGORIES)] > 0

    def parameters(self, stimuli: Int[Tensor, " stimuli"]) -> Float[Tensor, "stimuli parameters"]:
        """The scene in numbers, named by ``parameter_names``; in no file of a real study."""
        rows = [self._scene(int(row)).parameters for row in self._rows(stimuli)]
        return single(np.stack(rows) if rows else np.empty((0, len(PARAMETERS))))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The columns of :meth:`parameters`."""
        return PARAMETERS

    def segmentation(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli height width"]:
        """The category of each pixel, from 1, and 0 for the backdrop."""
        size = self.config.image_size
        maps = [self._outlined(int(row)).segmentation for row in self._rows(stimuli)]
        return torch.from_numpy(np.stack(maps) if maps else np.empty((0, size, size), dtype=np.uint8))

    def masks(self, stimulus: int) -> Bool[Tensor, "objects height width"]:
        """The visible part of each object, the farthest first."""
        return torch.from_numpy(self._outlined(stimulus).masks)

    def boxes(self, stimulus: int) -> Int[Tensor, "objects 4"]:
        """Left, top, right and bottom of the visible part of each object, in pixels; zeros where it is hidden."""
        return torch.from_numpy(self._outlined(stimulus).boxes)

    def objects(self, stimulus: int) -> tuple[str, ...]:
        """The category of each object, in the order of :meth:`masks` and :meth:`boxes`."""
        return tuple(thing.name for thing in self._checked(stimulus).things)

    def cortex(self, subject: str) -> Cortex:
        """Areas and geometry. The noise ceiling is left to be estimated; :meth:`true_ncsnr` is the truth."""
        place = self._cortex(subject).place
        areas = {name: torch.from_numpy(place.areas == index) for index, name in enumerate(self.atlas.areas)}
        return Cortex(subject, self.config.voxels, areas, single(place.coordinates), single(place.flat))

    def prf(self, subject: str) -> Float[Tensor, "voxels 3"]:
        """Receptive fields: x from the left, y from the top, and sigma, in fractions of the picture."""
        return single(self._cortex(subject).fields)

    def selectivity(self, subject: str) -> Float[Tensor, "voxels supercategories"]:
        """How much more a voxel's seen signal rises for a supercategory than for all others.

        In deviations of the seen signal per unit of extent, the square root of the visible area in picture areas, for an object
        in the middle of the receptive field. Columns are ``SUPERCATEGORIES`` of :mod:`cortexflow.data.scenery.compose` in their
        order: faces, bodies, words, places, food …
        """
        return single(self._cortex(subject).selectivity())

    def preferred(self, subject: str) -> dict[str, Bool[Tensor, " voxels"]]:
        """The planted voxels of each supercategory that has an area: what the localiser should find."""
        areas = self.cortex(subject).areas
        groups = dict.fromkeys(PREFERRED.values())
        return {group: torch.stack([areas[area] for area, its in PREFERRED.items() if its == group]).any(dim=0) for group in groups}

    def localiser(self, subject: str) -> Blocks:
        """Blocks of eight large pictures of one supercategory, six a run, six runs; noise as in one trial.

        The pictures are of a world of their own: none is a stimulus. Use :func:`cortexflow.data.localiser.localise` on it.
        """
        planted, rng = self._plant(subject), stream(self.config.seed, "localiser", subject)
        groups = np.array(list(SUPERCATEGORIES))
        labels = np.concatenate([rng.permutation(np.repeat(np.arange(len(groups)), BLOCKS)) for _ in range(RUNS)])
        shown = np.stack([label * POOL + rng.choice(POOL, PICTURES, replace=False) for label in labels])
        signal = self._portraits(subject)[shown].mean(axis=1)
        blocks, runs = np.arange(len(labels)), np.repeat(np.arange(1, RUNS + 1), len(groups) * BLOCKS)
        noise = _plain_noise(planted.ground, len(labels), rng)
        shifts = 0.2 * rng.standard_normal((RUNS, self.config.voxels))
        responses = planted.offsets + planted.scale * (signal + noise + shifts[runs - 1])
        ids, sessions, repeats = torch.from_numpy(blocks), torch.from_numpy(runs), torch.zeros(len(labels), dtype=torch.int64)
        trials = Trials(subject, ids, sessions, repeats, single(responses), "percent signal change (simulated)")
        return Blocks(trials, tuple(groups[labels].tolist()))

    def checksums(self) -> dict[str, str]:
        """The configuration and the revision of this code."""
        return {"scenes": fingerprint({"revision": REVISION, **self.config.model_dump(mode="json")})}

    def _scene(self, stimulus: int) -> compose.Scene:
        return scene(self.config.seed, stimulus)

    def _checked(self, stimulus: int) -> compose.Scene:
        return self._scene(int(self._rows(torch.tensor([stimulus]))[0]))

    def _outlined(self, stimulus: int) -> Rendered:
        """What each object covers; the last answer is kept, since masks and boxes are asked for together."""
        if self._last is None or self._last.scene.number != stimulus:
            self._last = compose.outlined(self._checked(stimulus), self.config.image_size)
        return self._last

    def _cortex(self, subject: str) -> SceneCortex:
        self.check_subject(subject)
        if not self._cortices:
            config = self.config
            sizes = (config.voxels, config.image_size, config.low_level)
            made = {name: SceneCortex(config.seed, name, *sizes, self.atlas) for name in self.subjects}
            calibrated(tuple(made.values()), config.seed, config.image_size)
            self._cortices = made
        return self._cortices[subject]

    def _plant(self, subject: str) -> Planted:
        self.check_subject(subject)
        if not self._planted:
            self._plant_all()
        return self._planted[subject]

    def _plant_all(self) -> None:
        """One pass over the pictures for all subjects; the study that was planted last is kept for whoever opens it again."""
        made_of = " ".join([self.checksums()["scenes"], *self.atlas.areas])
        if made_of not in _LAST:
            planted = self._plants()
            _LAST.clear()
            _LAST[made_of] = planted
        self._planted = _LAST[made_of]

    def _plants(self) -> dict[str, Planted]:
        cortices = {name: self._cortex(name) for name in self.subjects}
        seen: dict[str, list[np.ndarray]] = {name: [] for name in cortices}
        summaries: list[np.ndarray] = []
        for batch in look([self._scene(number) for number in range(self.config.images)], self.config.image_size):
            summaries.append(next(iter(cortices.values())).summaries(batch))
            for name, cortex in cortices.items():
                seen[name].append(cortex.respond(batch))
        together = np.concatenate(summaries)
        return {name: self._assembled(name, cortex, np.concatenate(seen[name]), together) for name, cortex in cortices.items()}

    def _assembled(self, subject: str, cortex: SceneCortex, seen: np.ndarray, summaries: np.ndarray) -> Planted:
        config, place = self.config, cortex.place
        strength = self._strength(subject, place)
        hidden = _unseen(len(seen), place, stream(config.seed, "latents"), stream(config.seed, "unseen", subject))
        unseen = strength * np.sqrt(config.unexplained) * hidden
        signal = strength * np.sqrt(1 - config.unexplained) * seen + unseen
        nothing = np.empty((0, 0))
        return assemble(config.seed, subject, place, cortex.fields, signal, unseen, summaries, config.sessions, nothing)

    def _strength(self, subject: str, place: Sheet) -> Float[np.ndarray, " voxels"]:
        """Deviation of the signal in units of each voxel's noise."""
        return amplitude(self.config.setting, ratios(self.config.ncsnr, place, stream(self.config.seed, "ncsnr", subject)))

    def _portraits(self, subject: str) -> Float[np.ndarray, "pictures voxels"]:
        """Signal of the localiser's pictures, supercategory by supercategory, in units of each voxel's noise."""
        config, cortex = self.config, self._cortex(subject)
        shown = [portrait(config.seed, number, group) for group in SUPERCATEGORIES for number in range(POOL)]
        seen = np.concatenate([cortex.respond(batch) for batch in look(shown, config.image_size)])
        own = stream(config.seed, "unseen", subject)
        hidden = _unseen(len(seen), cortex.place, stream(config.seed, "latents", "localiser"), own)
        mixed = np.sqrt(1 - config.unexplained) * seen + np.sqrt(config.unexplained) * hidden
        return self._strength(subject, cortex.place) * mixed


def _unseen(stimuli: int, place: Sheet, shared: np.random.Generator, own: np.random.Generator) -> Float[np.ndarray, "stimuli voxels"]:
    """Numbers tied to the picture, as memories of it might be, that are in none of its pixels; variance 1."""
    loadings = smooth(own, LATENTS, length=10.0)(place.template) + 0.5 * own.standard_normal((len(place.areas), LATENTS))
    return shared.standard_normal((stimuli, LATENTS)) @ (loadings / np.linalg.norm(loadings, axis=1, keepdims=True)).T


def _plain_noise(ground: Ground, rows: int, rng: np.random.Generator) -> Float[np.ndarray, "rows voxels"]:
    """The subject's Gaussian noise, whatever the family of its trials."""
    nowhere = np.zeros(rows, dtype=np.int64)
    return draw("gaussian", ground, Order(nowhere, nowhere), rng)
