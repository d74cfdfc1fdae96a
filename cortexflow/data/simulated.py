"""A visual cortex with known truth: no download, every number follows from ``Config.seed``.

Procedural pictures drive voxels of V1, V2, hV4 and IT through receptive fields; at least a fifth of the signal comes from drives
that no picture shows; the noise is one of several families, from the flow's own to ones made without regard to any model. A
model and a simulation by the same hands prove little: print every family.
"""

import hashlib
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Cortex
from cortexflow.data.on_disk.volumes import readable
from cortexflow.data.simulation.pictures import Scene, render, scene
from cortexflow.data.simulation.planted import Planted, plant
from cortexflow.data.simulation.sheet import AREAS
from cortexflow.data.simulation.study import PlantedDataset, single
from cortexflow.errors import CortexflowError, CortexflowWarning
from cortexflow.storage import fingerprint, load_tensors

REVISION = "2"  # raise it whenever any number changes: checksums are made of it


class Simulated(PlantedDataset):
    r"""A simulated study with known truth.

    A trial of stimulus x in session s is

    .. math:: y = \mathrm{signal}(x) + \mathrm{offset}_s + \mathrm{noise},

    in percent signal change. ``signal``, ``unseen``, ``session_offsets``, ``noise_covariance``, ``true_ncsnr`` and ``prf`` are
    the truth, never to be shown to a model.

    Arguments:
        config: The choices; defaults where absent.
        root: For the setting ``resampled`` only: a ``.npy`` or ``.safetensors`` file of residuals (trials × voxels), or a folder
            that holds ``residuals.npy``.
        residuals: For ``resampled``, the same as a tensor.

    Raises:
        CortexflowError: ``resampled`` without residuals, or with too few voxels.
    """

    title: ClassVar[str] = "Simulated visual cortex with known truth"

    def __init__(self, config: Choices | None = None, root: Path | str | None = None, residuals: Float[Tensor, "rows columns"] | None = None) -> None:
        super().__init__(config, root)
        self._recording = np.empty((0, 0))
        if self.config.setting == "resampled":
            self._recording = _usable(residuals if residuals is not None else _residuals(self.root), self.config.voxels)
        self._all: tuple[np.ndarray, list[Scene]] | None = None

    def images(self, stimuli: Int[Tensor, " stimuli"]) -> UInt8[Tensor, "stimuli 3 height width"]:
        """The pictures of these stimuli; any subset gives the same bits.

        Raises:
            CortexflowError: A stimulus that is none of this study's.
        """
        rows, size = self._rows(stimuli), self.config.image_size
        if self._all is not None:
            return torch.from_numpy(self._all[0][rows])
        pictures = np.empty((len(rows), 3, size, size), dtype=np.uint8)
        for place, row in enumerate(rows):
            pictures[place] = render(scene(self.config.seed, int(row)), size)
        return torch.from_numpy(pictures)

    def cortex(self, subject: str) -> Cortex:
        """Areas and geometry. The noise ceiling is left to be estimated; :meth:`true_ncsnr` is the truth."""
        place = self._plant(subject).sheet
        areas = {name: torch.from_numpy(place.areas == index) for index, name in enumerate(AREAS)}
        return Cortex(subject, self.config.voxels, areas, single(place.coordinates), single(place.flat))

    def checksums(self) -> dict[str, str]:
        """The configuration and the revision of this code, and the residuals where there are any."""
        made_of = {"simulated": fingerprint({"revision": REVISION, **self.config.model_dump(mode="json")})}
        return made_of | ({"residuals": hashlib.sha256(self._recording.tobytes()).hexdigest()} if len(self._recording) else {})

    def log_radius_deviation(self, subject: str) -> float:
        r"""Deviation over trials of the log length of the noise, whitened by its true covariance.

        Gaussian noise in V dimensions has about :math:`1 / \sqrt{2 V}` (.029 for 600 voxels). It is .10 for ``calibrated``
        (.11 to .12 within one area of 120 to 200), as in Haxby's data, and about .35 for ``rich``. Not a number for ``resampled`` with
        fewer than twice as many residuals as voxels, whose covariance cannot whiten.
        """
        if self.config.setting == "resampled" and len(self._recording) < 2 * self.config.voxels:
            return float("nan")
        trials = self.trials(subject)
        radius = self._distance(subject, trials.stimuli, trials.responses, trials.sessions)
        return float(radius.sqrt().log().std())

    def _plant(self, subject: str) -> Planted:
        self.check_subject(subject)
        if subject not in self._planted:
            config, (pictures, scenes) = self.config, self._world()
            self._planted[subject] = plant(
                config.seed,
                subject,
                pictures,
                scenes,
                voxels=config.voxels,
                sessions=config.sessions,
                family=config.setting,
                ncsnr=config.ncsnr,
                unexplained=config.unexplained,
                recording=self._recording,
            )
        return self._planted[subject]

    def _world(self) -> tuple[UInt8[np.ndarray, "stimuli 3 height width"], list[Scene]]:
        """All pictures and what is in them, rendered once for all subjects."""
        if self._all is None:
            scenes = [scene(self.config.seed, stimulus) for stimulus in range(self.config.images)]
            self._all = np.stack([render(content, self.config.image_size) for content in scenes]), scenes
        return self._all


def _residuals(root: Path | None) -> Tensor:
    """Residuals of a recording from a file, or from ``residuals.npy`` in a folder."""
    path = root / "residuals.npy" if root is not None and root.is_dir() else root
    if path is None or not path.is_file():
        raise CortexflowError(f"setting 'resampled' needs residuals, trials × voxels, and {path or 'no root'} is no file; give root or residuals")
    if path.suffix == ".safetensors":
        tensors = load_tensors(path)[0]
        if len(tensors) != 1:
            raise CortexflowError(f"{path} holds {len(tensors)} tensors, residuals are one; save them alone")
        return next(iter(tensors.values()))
    with readable(path):
        values = np.load(path, allow_pickle=False)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        holds = values.dtype if isinstance(values, np.ndarray) else "an archive"
        raise CortexflowError(f"{path} holds {holds}, residuals are real numbers in one array; save it with numpy.save as float32")
    return torch.from_numpy(values.astype(np.float64))  # also turns the order of bytes to this machine's


def _usable(residuals: Tensor, voxels: int) -> Float[np.ndarray, "rows columns"]:
    """The columns that vary, or an error where they are too few."""
    if residuals.is_complex() or residuals.dtype == torch.bool:
        raise CortexflowError(f"residuals must be real numbers, these are {residuals.dtype}; convert them to float32")
    values = residuals.double().numpy()
    if values.ndim != 2 or len(values) < 2:
        raise CortexflowError(f"residuals must be trials × voxels with at least 2 trials, these have shape {values.shape}; reshape them")
    finite = np.isfinite(values).all(axis=0)
    if not finite.all():
        what = f"{int((~finite).sum())} of {len(finite)} voxels of the residuals are not finite in some trial and are left out"
        warnings.warn(CortexflowWarning(f"{what}; look at the recording"), stacklevel=3)
    usable = values[:, finite & (np.where(finite, values, 0).std(axis=0) > 0)]
    if usable.shape[1] < voxels:
        raise CortexflowError(f"residuals have {usable.shape[1]} voxels that vary, {voxels} were asked; set voxels to {usable.shape[1]} or fewer")
    return usable
