"""What in a picture drives the voxels of the simulated cortex: low, middle and semantic drives.

Low: energy at the voxel's orientation and scale within its receptive field, with inhibition by the orthogonal orientation;
brightness; colour contrast. Middle: variation of the energy within the receptive field, corners (products of
orthogonal energies), number and size of objects. Semantic: which categories stand in the receptive field, and how large.

Energies come from a Riesz transform of log-Gaussian frequency bands, steered to any orientation; deliberately not a bank of
Gabor filters, so that no feature extractor of this package has the very filters of the simulated cortex.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.fft
import scipy.ndimage
from jaxtyping import Complex, Float, Int, UInt8

from cortexflow.data.simulation.pictures import CATEGORIES, Scene
from cortexflow.data.simulation.sheet import Sheet, smooth

CYCLES = (3.0, 6.0, 11.0, 20.0)  # per picture width
BATCH = 64  # pictures at once; fixed, since it may touch the last bits
KINDS = ("oriented", "brightness", "colour", "variation", "corners", "objects", "semantic")
LEVELS = (slice(0, 3), slice(3, 6), slice(6, 7))  # low, middle and semantic among the kinds
# Share of the seen signal's variance from low, middle and semantic drives.
MIXTURES = {"V1": (0.88, 0.12, 0.0), "V2": (0.6, 0.35, 0.05), "hV4": (0.3, 0.45, 0.25), "IT": (0.06, 0.22, 0.72)}
# Animate, alive, large in the world, made by people: the axes along which categories resemble each other.
MEANING = {
    "face": (1, 1, 0, -1),
    "body": (1, 1, 0.3, -1),
    "animal": (1, 1, 0, -1),
    "bird": (0.8, 1, -0.6, -1),
    "house": (-1, -1, 1, 1),
    "car": (-0.5, -1, 0.8, 1),
    "tree": (-0.6, 1, 0.9, -1),
    "cup": (-1, -1, -1, 1),
    "fruit": (-0.8, 0.6, -1, -0.6),
    "letters": (-1, -1, -0.8, 1),
}


@dataclass(frozen=True)
class Tuning:
    """What each voxel prefers; rows are voxels.

    Arguments:
        fields: Receptive fields, x, y and sigma in picture widths.
        orientation: In radians.
        scale: Index into :data:`CYCLES`.
        polarity: 1 for voxels driven by bright places, -1 by dark ones.
        categories: Weight of each category.
        mixture: Weight of each of the :data:`KINDS`, the sum of squares 1.
    """

    fields: Float[np.ndarray, "voxels 3"]
    orientation: Float[np.ndarray, " voxels"]
    scale: Int[np.ndarray, " voxels"]
    polarity: Float[np.ndarray, " voxels"]
    categories: Float[np.ndarray, "voxels categories"]
    mixture: Float[np.ndarray, "voxels kinds"]


def tune(place: Sheet, fields: Float[np.ndarray, "voxels 3"], areas: Sequence[str], shared: np.random.Generator, own: np.random.Generator) -> Tuning:
    """Preferences that vary smoothly over the sheet, alike in all subjects up to jitter.

    Arguments:
        place: The sheet.
        fields: Receptive fields.
        areas: Names of the areas, keys of :data:`MIXTURES`.
        shared: A generator equal for all subjects.
        own: The subject's generator.
    """
    voxels = len(place.areas)
    maps = smooth(shared, 4, length=5.0)(place.template)
    jitter = own.standard_normal((4, voxels))
    cycles = 0.4 / fields[:, 2] * np.exp(0.3 * jitter[1])
    return Tuning(
        fields,
        orientation=np.arctan2(maps[:, 0], maps[:, 1]) / 2 + 0.15 * jitter[0],
        scale=np.abs(np.log(cycles)[:, None] - np.log(CYCLES)).argmin(axis=1),
        polarity=np.sign(maps[:, 2] + 0.5 * jitter[2]),
        categories=_preferences(place, shared, own),
        mixture=mixture(np.array([MIXTURES[name] for name in areas])[place.areas], maps[:, 3], own),
    )


def drives(
    pictures: UInt8[np.ndarray, "stimuli 3 size size"], scenes: Sequence[Scene], tuning: Tuning
) -> tuple[Float[np.ndarray, "stimuli voxels"], Float[np.ndarray, "stimuli summaries"]]:
    """What drives each voxel, and the same in a few numbers for the whole picture.

    Arguments:
        pictures: All pictures; the drives are standardised over them.
        scenes: What is in them.
        tuning: What the voxels prefer.

    Returns:
        The seen drive of each voxel, with mean 0 and variance 1 over the pictures, and summaries of the picture as a whole
        (energies, brightness, colours, objects, categories), equally standardised.
    """
    windows = pooling_windows(tuning.fields, pictures.shape[-1])
    local, broad = [], []
    for start in range(0, len(pictures), BATCH):
        maps = picture_maps(pictures[start : start + BATCH])
        local.append(local_drives(maps, windows, tuning))
        broad.append(maps.mean(axis=2))
    objects, amounts = _objects(scenes)
    semantic = _semantic(scenes, tuning)
    number = np.broadcast_to(standardized(objects).sum(axis=1)[:, None], semantic.shape)
    kinds = [*np.concatenate(local, axis=1), number, semantic]
    seen = sum(weight * standardized(kind) for weight, kind in zip(tuning.mixture.T, kinds, strict=True))
    summaries = np.concatenate([np.sqrt(np.abs(np.concatenate(broad))), objects, amounts, amounts @ np.array(list(MEANING.values()))], axis=1)
    return standardized(seen), standardized(summaries)


def standardized(values: Float[np.ndarray, "stimuli columns"]) -> Float[np.ndarray, "stimuli columns"]:
    """Mean 0 and variance 1 of every column; columns that never change become 0."""
    centred = np.asarray(values, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    deviation = centred.std(axis=0, ddof=1)
    return centred / np.where(deviation > 1e-9, deviation, np.inf)


def _preferences(place: Sheet, shared: np.random.Generator, own: np.random.Generator) -> Float[np.ndarray, "voxels categories"]:
    """Patches of preference for meaning and, sharper, for single categories."""
    meaning = smooth(shared, 4, length=9.0)(place.template) @ np.array(list(MEANING.values())).T
    single = smooth(shared, len(CATEGORIES), length=5.0)(place.template)
    return 0.5 * meaning + single.clip(0) ** 2 + 0.3 * own.standard_normal(single.shape)


def mixture(levels: Float[np.ndarray, "voxels 3"], colour: Float[np.ndarray, " voxels"], own: np.random.Generator) -> np.ndarray:
    """Weights of the kinds of drive, from the area's shares of the levels, jittered per voxel."""
    shares = levels * np.exp(0.4 * own.standard_normal(levels.shape))
    within = np.ones((len(levels), len(KINDS))) * np.array([0.75, 0.12, 0.13, 0.4, 0.4, 0.2, 1])
    within[:, 2] *= np.exp(colour)  # patches that prefer colour
    for level, kinds in enumerate(LEVELS):
        within[:, kinds] *= (shares[:, level] / within[:, kinds].sum(axis=1))[:, None]
    return np.sqrt(within / within.sum(axis=1, keepdims=True))


def _grid(size: int) -> int:
    """The side of the grid on which maps are pooled: about 32, a divisor of the picture's."""
    return size // next(block for block in range(max(1, size // 32), 0, -1) if size % block == 0)


def pooling_windows(fields: Float[np.ndarray, "voxels 3"], size: int) -> Float[np.ndarray, "pixels voxels"]:
    """Gaussian receptive fields on the grid of pictures of this size, the sum over the picture 1."""
    grid = _grid(size)
    centres = (np.arange(grid) + 0.5) / grid
    width = np.hypot(fields[:, 2], 0.5 / grid)  # a field is never finer than the grid
    x, y = (np.exp(-0.5 * ((centres[:, None] - fields[:, axis]) / width) ** 2) for axis in (0, 1))
    windows = (y[:, None] * x[None]).reshape(grid * grid, -1)
    windows[windows < 1e-6] = 0  # the far tails are denormal in single precision, which makes products ten times slower
    return (windows / windows.sum(axis=0)).astype(np.float32)


def picture_maps(pictures: UInt8[np.ndarray, "batch 3 size size"]) -> Float[np.ndarray, "batch channels pixels"]:
    """Maps on the grid: brightness, two colour contrasts, then five per scale. Another size of the batch may touch the last bits."""
    size = pictures.shape[-1]
    margin, bands = size // 4, _bands(size, size + 2 * (size // 4))
    red, green, blue = np.moveaxis(pictures.astype(np.float32) / 255, 1, 0)
    grey = (red + green + blue) / 3
    planes = [grey, (red - green) ** 2, (blue - (red + green) / 2) ** 2]
    maps = [_coarse(plane) for plane in planes]
    # Mirrored margins: without them the left edge would be seen at the right one.
    spectrum = scipy.fft.fft2(np.pad(grey, ((0, 0), (margin, margin), (margin, margin)), mode="symmetric"))
    for band in bands:
        maps.extend(_energies(scipy.fft.ifft2(spectrum * band)[:, margin:-margin, margin:-margin]))
    return np.stack(maps, axis=1).reshape(len(grey), len(maps), -1).astype(np.float32)


@cache
def _bands(size: int, padded: int) -> list[Complex[np.ndarray, "padded padded"]]:
    """Log-Gaussian bands times the Riesz transform, whose two parts are the real and the imaginary part of one filtered picture.

    The gradient's spectrum is i·(fx, fy); divided by the radius it keeps the direction only. One complex number holds both parts.
    """
    fy, fx = np.meshgrid(*2 * [np.fft.fftfreq(padded, 1 / size)], indexing="ij")  # cycles per picture width
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf
    riesz = 1j * (fx + 1j * fy) / radius * (radius < size / 2)
    centres = [min(cycles, 0.35 * size) for cycles in CYCLES]
    return [(riesz * np.exp(-0.5 * (np.log(np.where(riesz == 0, 1, radius) / centre) / 0.45) ** 2)).astype(np.complex64) for centre in centres]


def _energies(filtered: Complex[np.ndarray, "batch size size"]) -> list[np.ndarray]:
    """On the grid: energy along x, along y, their product, the squared energy, and corners."""
    x, y = filtered.real.astype(np.float32), filtered.imag.astype(np.float32)
    xx, yy, xy, squared = (_coarse(plane) for plane in (x * x, y * y, x * y, (x * x + y * y) ** 2))
    near = [scipy.ndimage.gaussian_filter1d(scipy.ndimage.gaussian_filter1d(plane, 1.0, axis=1), 1.0, axis=2) for plane in (xx, yy, xy)]
    return [xx, yy, xy, squared, np.sqrt((near[0] * near[1] - near[2] ** 2).clip(0))]


def _coarse(planes: Float[np.ndarray, "batch size size"]) -> Float[np.ndarray, "batch grid grid"]:
    size = planes.shape[-1]
    grid = _grid(size)
    return planes.reshape(len(planes), grid, size // grid, grid, size // grid).mean(axis=(2, 4))


def local_drives(maps: np.ndarray, windows: np.ndarray, tuning: Tuning) -> Float[np.ndarray, "5 batch voxels"]:
    """The five drives that look through the receptive field."""
    pooled = _pooled(maps[:, :3], windows)
    energies = np.empty((len(maps), 5, windows.shape[1]), dtype=np.float32)
    for scale in range(len(CYCLES)):
        voxels = np.flatnonzero(tuning.scale == scale)
        energies[:, :, voxels] = _pooled(maps[:, 3 + 5 * scale : 8 + 5 * scale], windows[:, voxels])
    xx, yy, xy, squared, corners = np.moveaxis(energies, 1, 0)
    cos, sin = np.cos(tuning.orientation), np.sin(tuning.orientation)
    along = cos**2 * xx + sin**2 * yy + 2 * cos * sin * xy
    oriented = np.sqrt((along - 0.4 * (xx + yy - along)).clip(0))
    # Half-wave rectified, a little below mid-grey so that few pictures leave a voxel silent.
    brightness = (tuning.polarity * (pooled[:, 0] - 0.5)).clip(-0.1)
    colour = np.sqrt(pooled[:, 1] + pooled[:, 2])
    variation = np.sqrt((squared - (xx + yy) ** 2).clip(0))
    return np.stack([oriented, brightness, colour, np.sqrt(variation), np.sqrt(corners)])


def _pooled(maps: Float[np.ndarray, "batch channels pixels"], windows: Float[np.ndarray, "pixels voxels"]) -> np.ndarray:
    """One matrix product for the whole batch."""
    batch, channels, pixels = maps.shape
    return (maps.reshape(batch * channels, pixels) @ np.ascontiguousarray(windows)).reshape(batch, channels, -1)


def _objects(scenes: Sequence[Scene]) -> tuple[Float[np.ndarray, "stimuli 2"], Float[np.ndarray, "stimuli categories"]]:
    """Number of objects and their summed extent, and the summed extent per category."""
    amounts = np.zeros((len(scenes), len(CATEGORIES)))
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            amounts[row, thing.category] += thing.size * thing.contrast
    numbers = np.array([len(scene.things) for scene in scenes])
    return np.stack([numbers, amounts.sum(axis=1)], axis=1), amounts


def _semantic(scenes: Sequence[Scene], tuning: Tuning) -> Float[np.ndarray, "stimuli voxels"]:
    """Categories times extent, seen through a receptive field widened by the object."""
    total = np.zeros((len(scenes), len(tuning.fields)))
    x, y, sigma = tuning.fields.T
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            away = ((thing.x - x) ** 2 + (thing.y - y) ** 2) / (2 * (sigma**2 + thing.size**2))
            total[row] += thing.size * thing.contrast * np.exp(-away) * tuning.categories[:, thing.category]
    return total
