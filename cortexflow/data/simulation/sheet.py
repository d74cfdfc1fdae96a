"""The cortical sheet of a simulated subject: four areas as neighbouring bands, folded, with a map of the visual field.

Each hemisphere is a sheet of 48 × 40 mm. V1, V2, hV4 and IT follow each other along its first axis, with widths in proportion
to their voxels. The polar angle runs along the first axis and turns round at each border between areas; the eccentricity
grows exponentially along the second axis (cortical magnification), so that neighbours see neighbouring places.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

AREAS = ("V1", "V2", "hV4", "IT")
SHARES = (5 / 15, 4 / 15, 3 / 15, 3 / 15)  # of the voxels: 200, 160, 120, 120 of 600
LENGTH, HEIGHT = 48.0, 40.0  # millimetres
GAP = 12.0  # millimetres from the midline
ECCENTRICITIES = 0.02, 0.5  # of the picture's width, from the middle of the gaze to its border
SIZES = {"V1": (0.025, 0.1), "V2": (0.03, 0.16), "hV4": (0.05, 0.28), "IT": (0.1, 0.45)}  # sigma at the centre, and growth


@dataclass(frozen=True)
class Atlas:
    """The areas of a sheet, in their order along it.

    Arguments:
        areas: Names.
        shares: Of the voxels, the sum 1.
        sizes: Sigma of the receptive fields at the centre of gaze, and its growth with eccentricity, by area.
        eccentricities: From the middle of the gaze to its border, in picture widths: one pair, or one by area.
    """

    areas: tuple[str, ...] = AREAS
    shares: tuple[float, ...] = SHARES
    sizes: Mapping[str, tuple[float, float]] = field(default_factory=lambda: SIZES)
    eccentricities: tuple[float, float] | Mapping[str, tuple[float, float]] = ECCENTRICITIES

    def reach(self, areas: Int[np.ndarray, " voxels"]) -> tuple[float | np.ndarray, float | np.ndarray]:
        """The lowest and the highest eccentricity, of all voxels or of each."""
        if isinstance(self.eccentricities, tuple):
            return self.eccentricities
        first, last = np.array([self.eccentricities[name] for name in self.areas])[areas].T
        return first, last


VISUAL = Atlas()


@dataclass(frozen=True)
class Sheet:
    """Where the voxels lie; rows are voxels, area by area.

    Arguments:
        areas: Index into the atlas's areas.
        sides: -1 in the left hemisphere, 1 in the right.
        template: Position on the sheet of the own hemisphere that all subjects share, in millimetres. What a voxel prefers
            follows from it.
        flat: Position on this subject's flattened cortex, the left hemisphere at negative x, in millimetres.
        coordinates: Position on this subject's folded cortex (right, anterior, up), in millimetres.
    """

    areas: Int[np.ndarray, " voxels"]
    sides: Int[np.ndarray, " voxels"]
    template: Float[np.ndarray, "voxels 2"]
    flat: Float[np.ndarray, "voxels 2"]
    coordinates: Float[np.ndarray, "voxels 3"]


def sheet(voxels: int, own: np.random.Generator, atlas: Atlas = VISUAL) -> Sheet:
    """Spread voxels evenly over the areas of both hemispheres.

    Arguments:
        voxels: How many.
        own: The subject's generator: it decides on the grid's offset and on the warp from the template to the subject.
        atlas: The areas and their shares.
    """
    edges = np.round(voxels * np.cumsum((0, *atlas.shares))).astype(int)
    areas = np.repeat(np.arange(len(atlas.areas)), np.diff(edges))
    order = np.arange(voxels) - edges[areas]
    sides = np.where(order < np.diff(edges)[areas] / 2, -1, 1)
    # A low-discrepancy sequence covers each area evenly, whatever the number of voxels.
    unit = (own.uniform(size=(len(atlas.areas), 2, 1, 2))[areas, (sides + 1) // 2, 0] + order[:, None] / np.array([1.32471796, 1.75487767])) % 1
    starts = LENGTH * np.cumsum((0, *atlas.shares))
    template = np.stack([starts[areas] + unit[:, 0] * LENGTH * np.array(atlas.shares)[areas], HEIGHT * unit[:, 1]], axis=1)
    warped = template + 1.2 * smooth(own, 2, length=20.0)(template)
    return Sheet(areas, sides, template, _flat(warped, sides), _folded(warped, sides))


def receptive_fields(place: Sheet, own: np.random.Generator, atlas: Atlas = VISUAL) -> Float[np.ndarray, "voxels 3"]:
    """Centre (x from the left, y from the top) and sigma of each voxel's receptive field, in picture widths.

    The left hemisphere sees the right half of the picture. The sigma grows with eccentricity and from area to area.
    """
    jitter = own.standard_normal((3, len(place.areas)))
    along = (place.template[:, 0] / LENGTH - np.cumsum((0, *atlas.shares))[place.areas]) / np.array(atlas.shares)[place.areas]
    turned = np.where(place.areas % 2 == 0, along, 1 - along)
    angle = np.pi * (turned - 0.5) + 0.1 * jitter[0]
    first, last = atlas.reach(place.areas)
    eccentricity = first * (last / first) ** (place.template[:, 1] / HEIGHT) * np.exp(0.08 * jitter[1])
    start, growth = np.array([atlas.sizes[name] for name in atlas.areas])[place.areas].T
    sigma = (start + growth * eccentricity) * np.exp(0.12 * jitter[2])
    x = 0.5 - place.sides * eccentricity * np.cos(angle)
    return np.stack([x, 0.5 + eccentricity * np.sin(angle), sigma], axis=1)


def smooth(rng: np.random.Generator, count: int, length: float) -> Callable[[Float[np.ndarray, "voxels 2"]], Float[np.ndarray, "voxels _"]]:
    """Random functions of the place that vary over ``length`` millimetres, with mean about 0 and deviation about 1.

    Sums of 64 cosines whose frequencies are normal (random Fourier features of a Gaussian kernel). Both hemispheres read the
    same function: a place and its mirror image prefer the same.
    """
    frequencies = rng.standard_normal((count, 64, 2)) / length
    phases = rng.uniform(0, 2 * np.pi, (count, 64))
    return lambda places: np.cos(np.einsum("vd,cfd->vcf", places, frequencies) + phases).sum(axis=2) / np.sqrt(32)


def _flat(places: np.ndarray, sides: np.ndarray) -> Float[np.ndarray, "voxels 2"]:
    return np.stack([sides * (GAP + places[:, 0]), places[:, 1]], axis=1)


def _folded(places: np.ndarray, sides: np.ndarray) -> Float[np.ndarray, "voxels 3"]:
    """Roll the sheet along its first axis into gyri and sulci without stretching it: lengths along the sheet stay as they are."""
    arc = np.linspace(-10, LENGTH + 10, 1361)
    turn = 1.1 * np.sin(2 * np.pi * arc / 24)
    forth, out = (np.cumsum(part(turn)) * (arc[1] - arc[0]) for part in (np.cos, np.sin))
    anterior, lateral = (np.interp(places[:, 0], arc, path) for path in (forth, out))
    return np.stack([sides * (GAP + 8 + lateral), anterior - 100, places[:, 1] - 20], axis=1)
