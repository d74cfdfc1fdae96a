"""Maps of the flattened cortex: one value per voxel, drawn where the voxel is.

Every pixel takes the colour of the nearest voxel, and pixels far from any voxel stay empty. Nothing is interpolated: each colour on the
map is the value of one voxel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.ndimage import distance_transform_edt
from scipy.ndimage import label as label_parts
from scipy.spatial import KDTree
from torch import Tensor

from cortexflow.data.base import Cortex
from cortexflow.errors import CortexflowError
from cortexflow.report.canvas import (
    DIVERGING,
    INK,
    LINE,
    PAPER,
    SEQUENTIAL,
    add_bar,
    area_colours,
    area_of,
    axes_of,
    ceil_to,
    figure_of,
    styled,
    symmetric,
)

UNKNOWN = "#b9bfc9"  # a voxel that has no value
MOST_PARTS = 12  # of an area that is outlined


@dataclass(frozen=True)
class Grid:
    """Which voxel each pixel of a map shows.

    Arguments:
        voxel: Voxel number of each pixel, height × width, −1 where there is no cortex.
        extent: Left, right, bottom and top of the picture, in the units of the positions.
    """

    voxel: np.ndarray
    extent: tuple[float, float, float, float]

    def paint(self, colours: np.ndarray) -> np.ndarray:
        """A picture (height × width × 4) from one RGBA colour per voxel; empty where there is no cortex."""
        return np.concatenate([colours, np.zeros((1, 4))])[self.voxel]


def has_map(cortex: Cortex | None) -> bool:
    """Whether there is anything to draw a map from."""
    return cortex is not None and (cortex.flat is not None or cortex.coordinates is not None)


def positions(cortex: Cortex) -> Float[Tensor, "voxels 2"]:
    """Where each voxel is drawn: its place on the flat map, or on the two main axes of the coordinates.

    Raises:
        CortexflowError: The cortex has neither.
    """
    if cortex.flat is not None:
        return cortex.flat
    if cortex.coordinates is None:
        raise CortexflowError(f"{cortex.subject} has neither a flat map nor coordinates; give the cortex one, or plot by area")
    centred = cortex.coordinates - cortex.coordinates.mean(0)
    axes = torch.linalg.svd(centred, full_matrices=False).Vh[:2]
    # The sign of a principal axis is arbitrary; fixing it keeps two pictures of one cortex alike.
    signs = torch.sign(axes[torch.arange(len(axes)), axes.abs().argmax(1)])
    return centred @ (axes * signs[:, None]).T


def flat_grid(cortex: Cortex, pixels: int = 420) -> Grid:
    """The pixels of a cortex map, to be made once and shared by many maps.

    Arguments:
        cortex: Places of the voxels; voxels whose place is not finite are not drawn.
        pixels: Length of the longer side.
    """
    places = positions(cortex).double().numpy()
    drawn = np.flatnonzero(np.isfinite(places).all(1))
    if len(drawn) == 0:
        raise CortexflowError(f"{cortex.subject} has no voxel with a finite place; check the flat map")
    tree = KDTree(places[drawn])
    # Voxels of a volume, seen from one side, lie in rows far apart: it is their distance in space that fills the rows.
    solid = places[drawn] if cortex.flat is not None or cortex.coordinates is None else cortex.coordinates.double().numpy()[drawn]
    spacing = _spacing(KDTree(solid), solid)
    low, high = places[drawn].min(0) - 1.5 * spacing, places[drawn].max(0) + 1.5 * spacing
    step = float((high - low).max()) / pixels
    x, y = (np.arange(low[axis], high[axis] + step, step) for axis in (0, 1))
    distance, nearest = tree.query(np.stack(np.meshgrid(x, y), -1))
    # Closing: small holes between voxels fill, while the outline stays within one voxel of the data.
    near = np.pad(distance < 3.5 * spacing, 1)
    inside = (distance_transform_edt(near)[1:-1, 1:-1] * step > 2.7 * spacing) | (distance < 0.8 * spacing)
    return Grid(np.where(inside, drawn[nearest], -1), (x[0], x[-1], y[0], y[-1]))


@styled
def plot_flatmap(
    values: Float[Tensor, " voxels"],
    cortex: Cortex,
    *,
    title: str = "",
    label: str = "",
    signed: bool = False,
    limit: float | None = None,
    outlines: bool = True,
    colorbar: bool = True,
    grid: Grid | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A value per voxel on the flattened cortex.

    Arguments:
        values: One number per voxel, in any unit. NaN is grey.
        cortex: Where the voxels are, and the areas to outline.
        title: Above the map.
        label: Beside the colour bar, with the unit.
        signed: Blue below 0 and red above (responses, differences). Otherwise the scale begins at 0, and less than 0 looks like 0.
        limit: The end of the scale; by default the 99th percentile.
        outlines: Draw and name the areas.
        colorbar: Draw a colour bar.
        grid: The pixels from :func:`flat_grid`, where many maps of one cortex are drawn.
        ax: Where to draw; a new figure by default.

    Returns:
        The figure.

    Raises:
        CortexflowError: There is not one value per voxel, or the cortex has no positions.
    """
    if len(values) != cortex.voxels:
        raise CortexflowError(f"there are {len(values)} values for {cortex.voxels} voxels; give one value per voxel")
    ax, grid = axes_of(ax, 4.6, 3.6), grid if grid is not None else flat_grid(cortex)
    norm, cmap = scale(values, signed, limit)
    shown = values.double().numpy()
    colours = np.where(np.isfinite(shown)[:, None], cmap(norm(np.nan_to_num(shown))), to_rgba(UNKNOWN))
    _draw(ax, grid, colours, title)
    if outlines:
        _outline(ax, grid, cortex)
    if colorbar:
        add_bar(figure_of(ax), ScalarMappable(norm, cmap), ax, label, shrink=0.7, aspect=18, pad=0.02, extend="both" if signed else "max")
    return figure_of(ax)


@styled
def plot_area_map(cortex: Cortex, *, title: str = "", grid: Grid | None = None, ax: Axes | None = None) -> Figure:
    """The areas on the flattened cortex, in the colours they have in every other picture; voxels of no area are grey."""
    ax, grid = axes_of(ax, 4.6, 3.6), grid if grid is not None else flat_grid(cortex)
    palette = [to_rgba(colour) for colour in area_colours(cortex.areas).values()]
    colours = np.array([*palette, to_rgba(UNKNOWN)])[area_of(cortex.areas, cortex.voxels).numpy()]
    _draw(ax, grid, colours, title)
    _outline(ax, grid, cortex)
    return figure_of(ax)


def scale(values: Float[Tensor, "..."], signed: bool, limit: float | None = None) -> tuple[Normalize, Colormap]:
    """The limits and the colours of a map: see ``signed`` and ``limit`` of :func:`plot_flatmap`."""
    finite = values[torch.isfinite(values)].double().numpy()
    if signed:
        norm: Normalize = symmetric(finite, 99.0) if limit is None else Normalize(-limit, limit)
        return norm, matplotlib.colormaps[DIVERGING]
    top = limit if limit is not None else ceil_to(float(np.percentile(finite, 99)) if finite.size else 1.0, 0.05)
    return Normalize(0.0, top, clip=True), matplotlib.colormaps[SEQUENTIAL]


def _spacing(tree: KDTree, places: np.ndarray) -> float:
    if len(places) < 2:
        return 1.0
    distance = tree.query(places, 2)[0][:, 1]
    spread = float(np.ptp(places, axis=0).max()) or 1.0
    # Voxels that share a place have distance 0; a hundredth of the map keeps them visible.
    return float(np.median(distance)) or spread / 100


def _draw(ax: Axes, grid: Grid, colours: np.ndarray, title: str) -> None:
    ax.imshow(grid.paint(colours), extent=grid.extent, origin="lower", interpolation="nearest", aspect="equal")
    ax.set_axis_off()
    if title:
        ax.set_title(title)


def _outline(ax: Axes, grid: Grid, cortex: Cortex) -> None:
    left, right, bottom, top = grid.extent
    height, width = grid.voxel.shape
    x, y = np.linspace(left, right, width), np.linspace(bottom, top, height)
    size = 8 if len(cortex.areas) <= 8 else 6.5
    halo: list[AbstractPathEffect] = [withStroke(linewidth=2.4, foreground=PAPER)]
    texts: list[Text] = []
    for name, mask in cortex.areas.items():
        inside = np.append(mask.numpy(), False)[grid.voxel]
        if not inside.any():
            continue
        if label_parts(inside)[1] <= MOST_PARTS:  # an area of a volume, seen from one side, can be hundreds of islands
            ax.contour(x, y, inside.astype(float), levels=[0.5], colors=[LINE], linewidths=0.7)
        for row, column in _hearts(inside):
            texts.append(ax.text(x[column], y[row], name, ha="center", va="center", fontsize=size, color=INK))
            texts[-1].set_path_effects(halo)
    _keep_apart(texts)


def _keep_apart(texts: Sequence[Text]) -> None:
    """Moves names of narrow neighbours up or down by whole lines, as little as will do."""
    placed: list[Bbox] = []
    for text in texts:
        box = text.get_window_extent().expanded(1.3, 1)
        ways = [_moved(box, turn) for turn in range(7)]
        placed.append(next((way for way in ways if not any(way.overlaps(other) for other in placed)), box))
        to_data = text.get_transform().inverted()
        lift = to_data.transform((0, placed[-1].y0))[1] - to_data.transform((0, box.y0))[1]
        text.set_y(text.get_position()[1] + lift)


def _moved(box: Bbox, turn: int) -> Bbox:
    """Where it is, one line up, one down, two up …"""
    return box.translated(0, (turn + 1) // 2 * (1 if turn % 2 else -1) * 1.6 * box.height)  # the layout may shrink the map afterwards


def _hearts(inside: np.ndarray) -> list[tuple[int, int]]:
    """Where to name a shape: once in each of its two largest parts (hemispheres), deep inside and near the middle.

    A centroid alone could fall outside a crescent, and the deepest pixel alone into one of its ends.
    """
    parts, count = label_parts(inside)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    hearts = []
    large = np.argsort(-sizes, kind="stable")[:2]
    for part in np.sort(large[sizes[large] >= max(0.4 * sizes.max(), 20)]) + 1:
        depth = distance_transform_edt(np.pad(parts == part, 1))[1:-1, 1:-1]
        deep = np.argwhere(depth >= 0.7 * depth.max())
        middle = np.argwhere(parts == part).mean(0)
        row, column = deep[((deep - middle) ** 2).sum(1).argmin()]
        hearts.append((int(row), int(column)))
    return hearts
