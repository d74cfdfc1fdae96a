"""Receptive fields, as the dataset's maps give them and as a mapping experiment with bars recovers them.

The dataset writes polar angles counter-clockwise from the right, in degrees, and eccentricities in degrees of visual angle.
Pictures are 8.4 degrees wide and high, and their middle is looked at.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

WIDTH = 8.4  # degrees of visual angle that a picture has
SIDE = 42  # points of an aperture along each side
STEPS, BREADTH, DIRECTIONS = 14, 1.5, 8  # bars: places on their way, degrees, ways that they move
PLACES = np.linspace(-0.6, 0.6, 41) * WIDTH  # of the fields that are tried out, degrees
SIZES = np.geomspace(0.1, 5.0, 14)  # degrees
NOISE = 0.4  # deviation, in those of the response to bars


@dataclass(frozen=True)
class Fields:
    """Receptive fields of voxels, all in degrees of visual angle from where the eyes rest.

    Arguments:
        x: To the right.
        y: Up.
        size: Deviation of the Gaussian.
        r2: Share of the mapping experiment's variance that the field explains, in percent, where the study says it.
    """

    x: Float[Tensor, " voxels"]
    y: Float[Tensor, " voxels"]
    size: Float[Tensor, " voxels"]
    r2: Float[Tensor, " voxels"] | None = None

    @classmethod
    def polar(
        cls,
        angle: Float[Tensor, " voxels"],
        eccentricity: Float[Tensor, " voxels"],
        size: Float[Tensor, " voxels"],
        r2: Float[Tensor, " voxels"] | None = None,
    ) -> "Fields":
        """From degrees counter-clockwise from the right, and degrees from the middle.

        A field in the very middle has no angle, NaN in the dataset's maps, and is at 0, 0.

        Example:
            An angle of 90 and an eccentricity of 2 are x = 0 and y = 2: two degrees above.
        """
        turned = torch.deg2rad(torch.where((eccentricity == 0) & angle.isnan(), 0.0, angle))
        return cls(eccentricity * torch.cos(turned), eccentricity * torch.sin(turned), size, r2)

    @classmethod
    def of_picture(cls, fields: Float[Tensor, "voxels 3"]) -> "Fields":
        """From x from the left, y from the top, and sigma, in picture widths."""
        x, y, sigma = (WIDTH * fields).T
        return cls(x - WIDTH / 2, WIDTH / 2 - y, sigma)

    @cached_property
    def eccentricity(self) -> Float[Tensor, " voxels"]:
        """Degrees from the middle."""
        return torch.hypot(self.x, self.y)

    @cached_property
    def angle(self) -> Float[Tensor, " voxels"]:
        """Degrees counter-clockwise from the right, at least 0 and below 360."""
        return torch.rad2deg(torch.atan2(self.y, self.x)).remainder(360)

    def on_picture(self) -> Float[Tensor, "voxels 3"]:
        """The inverse of :meth:`of_picture`."""
        return torch.stack([self.x / WIDTH + 0.5, 0.5 - self.y / WIDTH, self.size / WIDTH], dim=1)


def map_fields(planted: Fields, noise: np.random.Generator) -> Fields:
    """What an experiment finds in which bars cross the picture: for each voxel the Gaussian whose answer is most alike the measured one.

    Arguments:
        planted: The fields that answer, without exponent: the overlap of the Gaussian with the bar.
        noise: Of the measurement.

    Returns:
        Places to a few tenths of a degree and sizes to about a third, with R² in percent.
    """
    tried, answers = _candidates()
    true = _standard(_overlap(np.stack([part.double().numpy() for part in (planted.x, planted.y, planted.size)], axis=1), _bars()))
    measured = _standard(true + NOISE * noise.standard_normal(true.shape))
    agreement = measured @ answers.T / answers.shape[1]
    best = agreement.argmax(axis=1)
    x, y, size = torch.from_numpy(tried[best].astype(np.float32)).T
    return Fields(x, y, size, torch.from_numpy((100 * agreement.max(axis=1) ** 2).astype(np.float32)))


@lru_cache(maxsize=1)
def _candidates() -> tuple[Float[np.ndarray, "fields 3"], Float[np.ndarray, "fields times"]]:
    """Every field that is tried out, and its answer to the bars, with mean 0 and deviation 1."""
    x, y, size = (grid.ravel() for grid in np.meshgrid(PLACES, PLACES, SIZES, indexing="ij"))
    tried = np.stack([x, y, size], axis=1)
    return tried, _standard(_overlap(tried, _bars()))


def _bars() -> Float[np.ndarray, "points times"]:
    """Where the bar is at each time, on a grid of points."""
    points = (np.arange(SIDE) + 0.5) / SIDE * WIDTH - WIDTH / 2
    x, y = (part.ravel() for part in np.meshgrid(points, points, indexing="ij"))
    ways = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    along = x[:, None] * np.cos(ways) + y[:, None] * np.sin(ways)
    stops = np.linspace(-WIDTH / 2, WIDTH / 2, STEPS)
    return (np.abs(along[:, :, None] - stops) < BREADTH / 2).reshape(len(x), -1).astype(np.float64)


def _overlap(fields: Float[np.ndarray, "fields 3"], bars: Float[np.ndarray, "points times"]) -> Float[np.ndarray, "fields times"]:
    """How much of each Gaussian the bar covers."""
    points = (np.arange(SIDE) + 0.5) / SIDE * WIDTH - WIDTH / 2
    places, size = fields[:, :2, None], fields[:, 2, None, None]
    across, up = np.moveaxis(np.exp(-((points - places) ** 2) / (2 * size**2)) / size, 1, 0)
    answers = np.empty((len(fields), bars.shape[1]))
    for start in range(0, len(fields), 1024):  # in parts: a Gaussian has a number for every point
        block = slice(start, start + 1024)
        answers[block] = (across[block, :, None] * up[block, None, :]).reshape(-1, SIDE * SIDE) @ bars
    return answers


def _standard(answers: Float[np.ndarray, "fields times"]) -> Float[np.ndarray, "fields times"]:
    centred = answers - answers.mean(axis=1, keepdims=True)
    return centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-12)
