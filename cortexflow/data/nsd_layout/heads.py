"""Where the voxels of a miniature lie, on a small grid and on a small surface, and the label maps of its areas."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Bool, Float, Int

from cortexflow.data.nsd_layout.spaces import SIDES
from cortexflow.data.scenes import Scenes
from cortexflow.data.simulation.streams import stream
from cortexflow.storage import replacing

MILLIMETRES = {"func1pt8mm": 1.8, "func1mm": 1.0, "fsaverage": 1.0}
LABELS = {  # label maps of the dataset, in the order of their labels; a subject lacks those that no voxel has
    "nsdgeneral": ("nsdgeneral",),
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
}
CALLED = {"FFA": "FFA-1", "VWFA": "VWFA-1"}  # areas of the simulation that the dataset calls otherwise
COMMON = ("nsdgeneral", "streams")  # maps that the average brain has, since they are the same for all subjects
STREAMS = {
    **dict.fromkeys(("V1", "V2"), "early"),
    **{"hV4": "midventral", "LOC": "lateral", "OFA": "lateral", "EBA": "lateral"},
    **dict.fromkeys(("FFA", "VWFA", "PPA", "food"), "ventral"),
}


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
        """Of one hemisphere."""
        return 2 * max(int((self.sides < 0).sum()), int((self.sides > 0).sum()))

    @cached_property
    def surface(self) -> tuple[tuple[Int[np.ndarray, " members"], Int[np.ndarray, " members"]], ...]:
        """For the left and the right hemisphere: vertices in rising order, and the voxel on each."""
        rng = stream(self.seed, "surface")
        members = [np.flatnonzero(self.sides == side) for side in (-1, 1)]
        return tuple((np.sort(rng.choice(self.vertices, len(part), replace=False)), part) for part in members)

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
    """Every label map, for both hemispheres and for each, and the tables of their labels; the brain's mask."""
    for space in spaces:
        if space == "fsaverage":
            _write_surface_labels(root / "nsddata/freesurfer/fsaverage/label", place)
        else:
            _write_volume_labels(root / "nsddata/ppdata" / subject / space, place, place.affine(space))
    for name, labels in LABELS.items():
        for owner in (subject, "fsaverage") if name in COMMON else (subject,):
            with replacing(root / f"nsddata/freesurfer/{owner}/label/{name}.mgz.ctab") as temporary:
                temporary.write_text("".join(f"{number} {label}\n" for number, label in enumerate(("Unknown", *labels))))


def _write_volume_labels(folder: Path, place: Head, affine: np.ndarray) -> None:
    save(folder / "brainmask.nii.gz", nibabel.Nifti1Image(place.brain.astype(np.uint8), affine))
    right = np.arange(place.brain.shape[0])[:, None, None] >= place.brain.shape[0] // 2
    for name, labels in place.areas.items():
        both = np.where(place.brain, 0, -1).astype(np.int16)
        both[tuple(place.voxels.T)] = labels
        for prefix, there in (("", place.brain), ("lh.", ~right), ("rh.", right)):
            save(folder / "roi" / f"{prefix}{name}.nii.gz", nibabel.Nifti1Image(np.where(there, both, -1).astype(np.int16), affine))


def _write_surface_labels(folder: Path, place: Head) -> None:
    for name in COMMON:
        for side, (vertices, members) in zip(SIDES, place.surface, strict=True):
            values = np.zeros((place.vertices, 1, 1), dtype=np.int32)
            values[vertices, 0, 0] = place.areas[name][members]
            save(folder / f"{side}.{name}.mgz", nibabel.MGHImage(values, np.eye(4)))


def _labels(study: Scenes, subject: str) -> dict[str, Int[np.ndarray, " voxels"]]:
    """Labels of the dataset for the simulation's areas; early ones are ventral where they see what is above the gaze."""
    areas = {name: mask.numpy() for name, mask in study.cortex(subject).areas.items()}
    above = study.prf(subject)[:, 1].numpy() < 0.5
    early = {f"{name}{part}": areas[name] & (above == (part == "v")) for name in ("V1", "V2") for part in "vd"}
    streams = {label: np.any([areas[name] for name, its in STREAMS.items() if its == label], axis=0) for label in set(STREAMS.values())}
    everything = np.ones_like(above)
    known = {"nsdgeneral": everything, **{CALLED.get(name, name): mask for name, mask in areas.items()}, **early, **streams}
    nothing = ~everything
    return {
        name: np.select([known.get(label, nothing) for label in labels], range(1, len(labels) + 1), 0).astype(np.int64)
        for name, labels in LABELS.items()
    }


def _ellipsoid(voxels: int) -> Bool[np.ndarray, "x y z"]:
    """A brain of about twice as many voxels, on a grid of three different sides."""
    width = 2 * int(np.ceil((3.6 * voxels) ** (1 / 3) / 2))
    shape = np.array([width, width + 2, width - 1])
    centred = (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) - (shape - 1) / 2) / (shape / 2)
    return (centred**2).sum(-1) <= 1


def save(path: Path, image: nibabel.spatialimages.SpatialImage) -> None:
    """Write an image of nibabel's, whole or not at all; the ending of its name says how."""
    ending = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    with replacing(path) as temporary:
        named = temporary.with_name(temporary.name + ending)
        nibabel.save(image, named)
        named.replace(temporary)
