"""Values on the fsaverage5 surface: inflated, flattened, and as an interactive page. Needs nilearn, whose package holds the meshes."""

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from nilearn.datasets import load_fsaverage, load_fsaverage_data
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.report.canvas import add_bar, new_figure, styled
from cortexflow.report.cortex_maps import scale
from cortexflow.storage import replacing

VERTICES = 10242  # of one hemisphere of fsaverage5
SIDES = ("left", "right")
GYRUS, SULCUS = "#dfe1e5", "#aeb3bb"

# Where the eye looks and what is up, in FreeSurfer's axes: x to the right, y to the front, z to the top. Given for the left hemisphere;
# what is lateral there is medial on the right.
VIEWS = {
    "lateral": ((1, 0, 0), (0, 0, 1)),
    "medial": ((-1, 0, 0), (0, 0, 1)),
    "ventral": ((0, 0, 1), (0, 1, 0)),
    "dorsal": ((0, 0, -1), (0, 1, 0)),
    "posterior": ((0, 1, 0), (0, 0, 1)),
}
WIDTHS = {"lateral": 1.0, "medial": 1.0, "ventral": 0.45, "dorsal": 0.45, "posterior": 0.6}  # a brain is longer than wide


@styled
def plot_surface(
    values: Float[Tensor, "vertices 2"],
    *,
    views: Sequence[str] = ("lateral", "medial", "ventral"),
    mesh: str = "inflated",
    title: str = "",
    label: str = "",
    signed: bool = False,
    limit: float | None = None,
) -> Figure:
    """A value per vertex on the surface, the left hemisphere above the right.

    Arguments:
        values: One number per fsaverage5 vertex (10,242), left and right hemisphere as columns. NaN shows the folding.
        views: Any of lateral, medial, ventral, dorsal, posterior.
        mesh: ``inflated``, ``pial`` or ``white_matter``.
        title: Above the figure.
        label: Beside the colour bar, with the unit.
        signed: Blue below 0 and red above. Otherwise the scale begins at 0, and less than 0 looks like 0.
        limit: The end of the scale; by default the 99th percentile.

    Raises:
        CortexflowError: The values are not those of fsaverage5, or a view is unknown.
    """
    _check(values)
    if unknown := [view for view in views if view not in VIEWS]:
        raise CortexflowError(f"no view is called {unknown[0]!r}; choose from {', '.join(VIEWS)}")
    widths = [WIDTHS[view] for view in views]
    figure = new_figure(2.9 * sum(widths) + 0.8, 4.4)
    axes = figure.subplots(2, len(views), squeeze=False, width_ratios=widths)
    parts = load_fsaverage("fsaverage5")[mesh].parts
    for row, side in enumerate(SIDES):
        colours = _colours(values, row, signed, limit)
        for ax, view in zip(axes[row], views, strict=True):
            _draw(ax, *_seen(parts[side].coordinates, parts[side].faces, view, side), colours)
            ax.set_title(f"{side} {view}", loc="center")
    return _finish(figure, axes, values, title, label, signed, limit)


@styled
def plot_surface_flat(
    values: Float[Tensor, "vertices 2"], *, title: str = "", label: str = "", signed: bool = False, limit: float | None = None
) -> Figure:
    """A value per vertex on the flattened hemispheres, left and right; arguments as for :func:`plot_surface`."""
    _check(values)
    figure = new_figure(9.2, 4.0)
    axes = figure.subplots(1, 2, squeeze=False)
    parts = load_fsaverage("fsaverage5")["flat"].parts
    for column, side in enumerate(SIDES):
        faces = parts[side].faces
        _draw(axes[0, column], parts[side].coordinates[:, :2], faces, np.ones(len(faces)), _colours(values, column, signed, limit))
        axes[0, column].set_title(f"{side} hemisphere", loc="center")
    return _finish(figure, axes, values, title, label, signed, limit)


def write_surface_view(
    values: Float[Tensor, "vertices 2"],
    path: Path | str,
    *,
    title: str = "",
    label: str = "",
    signed: bool = False,
    limit: float | None = None,
) -> Path:
    """Write both inflated hemispheres as one HTML file that can be turned with the mouse and asks nothing of the network.

    nilearn's own interactive view is not used: its page fetches an icon, and without a further package its scale cannot begin at 0.

    Arguments:
        values: One number per fsaverage5 vertex (10,242), left and right hemisphere as columns. NaN shows the folding.
        path: The file to write.
        title: Above the surface.
        label: Below the colour bar, with the unit.
        signed: Blue below 0 and red above. Otherwise the scale begins at 0.
        limit: The end of the scale; by default the 99th percentile.

    Returns:
        The path.
    """
    _check(values)
    norm, cmap = scale(values, signed, limit)
    sides = [load_fsaverage("fsaverage5")["inflated"].parts[side] for side in SIDES]
    places = [_apart(side.coordinates, column) for column, side in enumerate(sides)]
    colours = np.concatenate([_colours(values, column, signed, limit)[:, :3] for column in (0, 1)])
    data = {
        "places": _packed(np.concatenate(places), np.float32),
        "faces": _packed(np.concatenate([sides[0].faces, sides[1].faces + VERTICES]), np.uint16),
        "colours": _packed(np.round(255 * colours), np.uint8),
        "values": _packed(values.T.numpy(), np.float32),
        "middles": [_middle(one) for one in (*places, np.concatenate(places))],
        "span": float(np.ptp(np.concatenate(places), axis=0).max()),
        "ramp": [to_hex(cmap(step)) for step in np.linspace(0, 1, 17)],
        "ends": [f"{norm.vmin:.3g}", f"{norm.vmax:.3g}"],
        "label": label,
    }
    page = Path(__file__).with_name("surface.html").read_text(encoding="utf-8")
    # "<" inside a script element could end it.
    page = page.replace("{title}", escape(title or "Cortical surface")).replace("{data}", json.dumps(data).replace("<", "\\u003c"))
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


def _apart(places: np.ndarray, column: int) -> np.ndarray:
    """The hemispheres side by side with a gap of 4 mm; inflated, they would run into each other."""
    edge = places[:, 0].max() + 2 if column == 0 else places[:, 0].min() - 2
    return places - np.array([edge, 0, 0])


def _middle(places: np.ndarray) -> list[float]:
    return ((places.min(0) + places.max(0)) / 2).tolist()


def _packed(array: np.ndarray, kind: type) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode()


def _check(values: Tensor) -> None:
    if tuple(values.shape) != (VERTICES, 2):
        raise CortexflowError(f"values have shape {tuple(values.shape)}; give one per fsaverage5 vertex and hemisphere, ({VERTICES}, 2)")


def _colours(values: Tensor, column: int, signed: bool, limit: float | None) -> np.ndarray:
    """One RGBA colour per vertex; both hemispheres share the scale, and the folding shows where there is no value."""
    norm, cmap = scale(values, signed, limit)
    own = values[:, column].double().numpy()
    depth = load_fsaverage_data(mesh="fsaverage5", data_type="sulcal").data.parts[SIDES[column]]
    folding = np.where((depth > 0)[:, None], to_rgba(SULCUS), to_rgba(GYRUS))
    return np.where(np.isfinite(own)[:, None], cmap(norm(np.nan_to_num(own))), folding)


def _seen(corners: np.ndarray, faces: np.ndarray, view: str, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The surface as the eye sees it: positions on the picture, the faces turned to the eye from far to near, and how much light each gets."""
    ahead, up = (np.asarray(axis, dtype=float) for axis in VIEWS[view])
    ahead = -ahead if side == "right" and view in ("lateral", "medial") else ahead
    triangles = corners[faces]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    towards = -(normals @ ahead) / np.linalg.norm(normals, axis=1).clip(1e-12)
    far_first = np.argsort(-(triangles.mean(1) @ ahead))
    kept = far_first[towards[far_first] > 0]
    return corners @ np.stack([np.cross(ahead, up), up], 1), faces[kept], 0.62 + 0.38 * towards[kept]


def _draw(ax: Axes, flat: np.ndarray, faces: np.ndarray, light: np.ndarray, colours: np.ndarray) -> None:
    shown = colours[faces].mean(1)
    shown[:, :3] *= light[:, None]
    # Edges in the colour of the face close the hairlines between neighbours.
    ax.add_collection(PolyCollection(list(flat[faces]), facecolors=shown, edgecolors=shown, linewidths=0.25, rasterized=True))
    ax.set_aspect("equal")
    ax.autoscale_view()
    ax.set_axis_off()


def _finish(figure: Figure, axes: np.ndarray, values: Tensor, title: str, label: str, signed: bool, limit: float | None) -> Figure:
    norm, cmap = scale(values, signed, limit)
    extend = "both" if signed else "max"
    add_bar(figure, ScalarMappable(norm, cmap), list(axes.flat), label, shrink=0.6, aspect=22, extend=extend)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure
