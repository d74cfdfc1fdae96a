"""The maps of a miniature that come from experiments of their own: receptive fields from bars, categories from a localiser.

Both are recovered from simulated measurements of the planted voxels, so that they agree with the truth as well as such experiments do.
"""

from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cortexflow.data.localiser import Blocks, localise
from cortexflow.data.nsd_layout.miniature.heads import Head, save, write_surface_map
from cortexflow.data.nsd_layout.retinotopy import Fields, map_fields
from cortexflow.data.scenes import Scenes
from cortexflow.data.simulation.streams import stream

DOMAINS = {"words": "characters", "bodies": "bodies", "faces": "faces", "places": "places"}  # all else are objects
CATEGORIES = {"words": "word", "vehicles": "car"}  # categories of the dataset's localiser that the simulation has
GAIN = 2.0  # percent signal change of a stimulus that fills the field


def write_maps(root: Path, study: Scenes, subject: str, place: Head, spaces: tuple[str, ...], seed: int) -> None:
    """Write a subject's maps in every space that is written and has them.

    Arguments:
        root: The folder that stands for the bucket.
        study: What is simulated.
        subject: Whose.
        place: Where the voxels lie.
        spaces: Which spaces.
        seed: Decides on the noise of the bars and on what is outside the visual cortex.
    """
    maps = recovered(study, subject, seed)
    for space in spaces:
        if space == "nativesurface":
            for name, values in maps.items():
                folder = root / f"nsddata/freesurfer/{subject}/label"
                write_surface_map(folder, name.replace("_", ""), values, place.own_surface, place.own_vertices, np.nan)
        elif space != "fsaverage":
            _write_volumes(root / "nsddata/ppdata" / subject / space, maps, place, place.affine(space), stream(seed, "maps", subject))


def recovered(study: Scenes, subject: str, seed: int) -> dict[str, Float[np.ndarray, " voxels"]]:
    """Every map by the name of its file, for the simulation's voxels in their own order."""
    found = map_fields(Fields.of_picture(study.prf(subject)), stream(seed, "bars", subject))
    fields = {"angle": found.angle, "eccentricity": found.eccentricity, "size": found.size, "R2": found.r2}
    flat = {"exponent": torch.ones(study.config.voxels), "gain": torch.full((study.config.voxels,), GAIN)}
    maps = {f"prf_{name}": values for name, values in (fields | flat).items() if values is not None}
    maps |= {f"floc_{name}tval": values for name, values in domain_maps(study.localiser(subject)).items()}
    return {name: values.numpy() for name, values in maps.items()}


def domain_maps(blocks: Blocks) -> dict[str, Float[Tensor, " voxels"]]:
    """t maps as the dataset has them: each domain against all others, and single categories against all others."""
    domains = [DOMAINS.get(label, "objects") for label in blocks.labels]
    single = localise(blocks.trials.responses, blocks.labels, blocks.trials.sessions)
    of_domains = localise(blocks.trials.responses, domains, blocks.trials.sessions)
    return of_domains | {name: single[label] for label, name in CATEGORIES.items()}


def _write_volumes(folder: Path, maps: Mapping[str, np.ndarray], place: Head, affine: np.ndarray, noise: np.random.Generator) -> None:
    """NaN outside the brain, where a number has no meaning; around the visual cortex what noise gives."""
    around = np.where(place.brain, 0, np.nan).astype(np.float32)
    for name, values in maps.items():
        volume = around + (noise.standard_normal(around.shape).astype(np.float32) if name.startswith("floc") else 0)
        if name == "prf_angle":
            volume[place.brain] = np.nan  # a field in the very middle has no angle
        volume[tuple(place.voxels.T)] = values
        save(folder / f"{name}.nii.gz", nibabel.Nifti1Image(volume.astype(np.float32), affine))
    mean = np.where(place.brain, noise.uniform(800, 1600, place.brain.shape), 0).astype(np.float32)
    low = place.brain & (np.arange(place.brain.shape[2]) == np.argwhere(place.brain)[:, 2].min())  # the signal is lost at the bottom
    lost = np.where(low, 2.0, 0.5) * place.brain  # above 1 where the anatomy has more signal than the functional volumes
    for name, volume in {"mean": np.where(low, mean / 4, mean), "prf_meanvol": mean, "signaldropout": lost}.items():
        save(folder / f"{name}.nii.gz", nibabel.Nifti1Image(volume.astype(np.float32), affine))
