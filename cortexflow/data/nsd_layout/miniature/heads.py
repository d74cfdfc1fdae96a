"""Where the voxels of a miniature lie, on a small grid and on small surfaces, and the label maps of its areas."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Bool, Float, Int

from cortexflow.data.nsd_layout.label_tables import CALLED, COMMON, ECCENTRICITIES, LABELS
from cortexflow.data.nsd_layout.retinotopy import Fields
from cortexflow.data.nsd_layout.spaces import SIDES
from cortexflow.data.nsd_layout.transforms import GRIDS, OUTSIDE
from cortexflow.data.scenes import Scenes
from cortexflow.data.simulation.streams import stream
from cortexflow.storage import replacing

MILLIMETRES = {"func1pt8mm": 1.8, "func1mm": 1.0, "fsaverage": 1.0, "nativesurface": 1.0}


Sides = tuple[tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]], ...]  # vertices in rising order and the voxel on each, by hemisphere


@dataclass(frozen=True)
class Head:
    """A subject's grid, and the simulation's voxels in it.

    Arguments:
        brain: An ellipsoid.
        voxels: Place of each of the simulation's voxels.
        sides: -1 in the left hemisphere, 1 in the right.
        areas: Label of each voxel in each map, 0 for none.
        seed: Decides on which vertices of the surface the voxels lie.
    """

    brain: Bool[np.ndarray, "x y z"]
    voxels: Int[np.ndarray, "voxels 3"]
    sides: Int[np.ndarray, " voxels"]
    areas: Mapping[str, Int[np.ndarray, " voxels"]]
    seed: int

    @cached_property
    def general(self) -> Bool[np.ndarray, "x y z"]:
        """The grid's visual cortex."""
        mask = np.zeros_like(self.brain)
        mask[tuple(self.voxels.T)] = True
        return mask

    @cached_property
    def order(self) -> Int[np.ndarray, " voxels"]:
        """Which of the simulation's voxels comes at each place of the mask, axes in order and the last one fastest."""
        return np.argsort(np.ravel_multi_index(tuple(self.voxels.T), self.brain.shape))

    @property
    def vertices(self) -> int:
        """Of one hemisphere of the average brain."""
        return 2 * max(int((self.sides < 0).sum()), int((self.sides > 0).sum()))

    @property
    def own_vertices(self) -> tuple[int, int]:
        """Of the left and the right hemisphere of the subject's own surface, which are not alike."""
        return self.vertices + 7, self.vertices + 3

    @cached_property
    def surface(self) -> Sides:
        """On the average brain, for the left and the right hemisphere: vertices in rising order, and the voxel on each."""
        return self._spread((self.vertices, self.vertices), stream(self.seed, "surface"))

    @cached_property
    def own_surface(self) -> Sides:
        """On the subject's own surface; other vertices for the same voxels."""
        return self._spread(self.own_vertices, stream(self.seed, "own surface"))

    def _spread(self, vertices: tuple[int, int], rng: np.random.Generator) -> Sides:
        members = [np.flatnonzero(self.sides == side) for side in (-1, 1)]
        return tuple((np.sort(rng.choice(count, len(part), replace=False)), part) for count, part in zip(vertices, members, strict=True))

    def affine(self, space: str) -> Float[np.ndarray, "4 4"]:
        """From the grid to millimetres: the first voxel is left, posterior and inferior, the middle of the grid at the origin."""
        affine = np.diag([MILLIMETRES[space]] * 3 + [1.0])
        affine[:3, 3] = -MILLIMETRES[space] * (np.array(self.brain.shape) - 1) / 2
        return affine


def head(study: Scenes, subject: str, seed: int) -> Head:
    """Put a subject's voxels into the back of an ellipsoid, neighbours of the sheet near each other."""
    cortex = study.cortex(subject)
    assert cortex.flat is not None  # simulated cortices are flat
    flat = cortex.flat.numpy()
    sides = np.where(flat[:, 0] < 0, -1, 1)
    brain = _ellipsoid(len(sides))
    voxels = np.empty((len(sides), 3), dtype=np.int64)
    middle = brain.shape[0] // 2
    inside = np.argwhere(brain)
    for side in (-1, 1):
        members = np.flatnonzero(sides == side)
        half = inside[(inside[:, 0] >= middle) == (side > 0)]
        back = half[np.lexsort((half[:, 2], half[:, 0], half[:, 1]))][: len(members)]  # from the back to the front
        voxels[members[np.argsort(np.abs(flat[members, 0]), kind="stable")]] = back
    return Head(brain, voxels, sides, _labels(study, subject), seed)


def write_labels(root: Path, subject: str, place: Head, spaces: tuple[str, ...]) -> None:
    """Every label map, for both hemispheres and for each, and the tables of their labels; the brain's mask; ways between spaces."""
    labels = root / "nsddata/freesurfer"
    for space in spaces:
        if space == "fsaverage":
            for name in COMMON:
                write_surface_map(labels / "fsaverage/label", name, place.areas[name].astype(np.int32), place.surface, (place.vertices,) * 2)
        elif space == "nativesurface":
            for name in LABELS:
                write_surface_map(labels / subject / "label", name, place.areas[name].astype(np.int32), place.own_surface, place.own_vertices)
        else:
            _write_volume_labels(root / "nsddata/ppdata" / subject / space, place, place.affine(space))
            _write_transforms(root / f"nsddata/ppdata/{subject}/transforms", GRIDS[space], place)
    _write_tables(labels, subject)


def _write_tables(folder: Path, subject: str) -> None:
    """A number and a name on each line."""
    for name, labels in LABELS.items():
        for owner in (subject, "fsaverage") if name in COMMON else (subject,):
            with replacing(folder / owner / "label" / f"{name}.mgz.ctab") as temporary:
                temporary.write_text("".join(f"{number} {label}\n" for number, label in enumerate(("Unknown", *labels))))


def write_surface_map(
    folder: Path, name: str, values: np.ndarray, sides: Sides, vertices: tuple[int, int], rest: float = 0, ending: str = "mgz"
) -> None:
    """A map of the voxels on the vertices that they lie on, one file for each hemisphere."""
    for side, count, (where, members) in zip(SIDES, vertices, sides, strict=True):
        whole = np.full((count, 1, 1), rest, dtype=values.dtype)
        whole[where, 0, 0] = values[members]
        save(folder / f"{side}.{name}.{ending}", nibabel.MGHImage(whole, np.eye(4)))


def _write_volume_labels(folder: Path, place: Head, affine: np.ndarray) -> None:
    save(folder / "brainmask.nii.gz", nibabel.Nifti1Image(place.brain.astype(np.uint8), affine))
    right = np.arange(place.brain.shape[0])[:, None, None] >= place.brain.shape[0] // 2
    for name, labels in place.areas.items():
        both = np.where(place.brain, 0, -1).astype(np.int16)
        both[tuple(place.voxels.T)] = labels
        for prefix, there in (("", place.brain), ("lh.", ~right), ("rh.", right)):
            save(folder / "roi" / f"{prefix}{name}.nii.gz", nibabel.Nifti1Image(np.where(there, both, -1).astype(np.int16), affine))


def _write_transforms(folder: Path, grid: str, place: Head) -> None:
    """Where each vertex of the subject's surface lies in the volume, at three depths, and which of them the average brain's take."""
    rng = stream(place.seed, "depths")
    elsewhere = np.argwhere(place.brain & ~place.general)
    for side, count, (own, members), (common, _) in zip(SIDES, place.own_vertices, place.own_surface, place.surface, strict=True):
        middle = elsewhere[rng.integers(len(elsewhere), size=count)].astype(np.float64)
        middle[own] = place.voxels[members]
        outward = rng.uniform(-0.3, 0.3, (count, 3))
        for depth, step in (("layerB1", -1), ("layerB2", 0), ("layerB3", 1)):
            places = middle + step * outward + 1  # the files count from 1
            places[np.setdiff1d(np.arange(count), own)[:2]] = OUTSIDE
            save(folder / f"{side}.{grid}-to-{depth}.mgz", nibabel.MGHImage(places[:, None, None].astype(np.float32), np.eye(4)))
        nearest = np.setdiff1d(np.arange(count), own)[np.arange(place.vertices) % (count - len(own))]
        nearest[common] = own
        save(folder / f"{side}.white-to-fsaverage.mgz", nibabel.MGHImage((nearest + 1)[:, None, None].astype(np.int32), np.eye(4)))


def _labels(study: Scenes, subject: str) -> dict[str, Int[np.ndarray, " voxels"]]:
    """Labels of the dataset for the simulation's areas."""
    areas = {name: mask.numpy() for name, mask in study.cortex(subject).areas.items()}
    fields = Fields.of_picture(study.prf(subject))
    early = [name for name in ("V1", "V2", "V3") if name in areas]
    above = fields.y.numpy() > 0  # seen by the ventral parts
    halves = {f"{name}{part}": areas[name] & (above == (part == "v")) for name in early for part in "vd"}
    drawn = np.any([areas[name] for name in (*early, "hV4")], axis=0)
    band = np.digitize(fields.eccentricity.numpy(), ECCENTRICITIES, right=True)
    rings = {ring: drawn & (band == number) for number, ring in enumerate(LABELS["prf-eccrois"])}
    general = {"nsdgeneral": np.ones_like(above)}
    return {name: _numbered(labels, _known(areas, CALLED.get(name, {})) | halves | rings | general) for name, labels in LABELS.items()}


def _known(areas: Mapping[str, np.ndarray], called: Mapping[str, str]) -> dict[str, Bool[np.ndarray, " voxels"]]:
    """The simulation's areas by the names that a map gives them."""
    names = {area: called.get(area, area) for area in areas}
    return {name: np.any([areas[area] for area, its in names.items() if its == name], axis=0) for name in set(names.values())}


def _numbered(labels: tuple[str, ...], known: Mapping[str, np.ndarray]) -> Int[np.ndarray, " voxels"]:
    """The number of each voxel's label, 0 where it has none; a subject lacks those labels that no voxel has."""
    nothing = np.zeros_like(next(iter(known.values())))
    return np.select([known.get(label, nothing) for label in labels], range(1, len(labels) + 1), 0).astype(np.int64)


def _ellipsoid(voxels: int) -> Bool[np.ndarray, "x y z"]:
    """A brain of about twice as many voxels, on a grid of three different sides; flat below its front, so that its ends can be told apart."""
    width = 2 * int(np.ceil((3.6 * voxels) ** (1 / 3) / 2))
    shape = np.array([width, width + 2, width - 1])
    centred = (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) - (shape - 1) / 2) / (shape / 2)
    return ((centred**2).sum(-1) <= 1) & ~((centred[..., 1] > 0.1) & (centred[..., 2] < -0.35))


def save(path: Path, image: nibabel.spatialimages.SpatialImage) -> None:
    """Write an image of nibabel's, whole or not at all; the ending of its name says how."""
    ending = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    with replacing(path) as temporary:
        named = temporary.with_name(temporary.name + ending)
        nibabel.save(image, named)
        named.replace(temporary)
