"""A visual cortex with known truth: no download, every number follows from ``Config.seed``.

Procedural pictures drive voxels of V1, V2, hV4 and IT through receptive fields; at least a fifth of the signal comes from drives
that no picture shows; the noise is one of several families, from the flow's own to ones made without regard to any model. A
model and a simulation by the same hands prove little: print every family.
"""

import hashlib
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from pydantic import Field, model_validator
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Cortex, Dataset, Trials
from cortexflow.data.simulation.noise_families import Order, covariance, draw
from cortexflow.data.simulation.pictures import Scene, render, scene
from cortexflow.data.simulation.planted import Planted, plant
from cortexflow.data.simulation.sheet import AREAS
from cortexflow.data.simulation.streams import stream
from cortexflow.data.volumes_on_disk import readable
from cortexflow.errors import CortexflowError
from cortexflow.storage import fingerprint, load_tensors

REVISION = "2"  # raise it whenever any number changes: checksums are made of it


class Simulated(Dataset):
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

    class Config(Choices):
        """Choices of the simulation.

        Arguments:
            setting: Family of the noise. ``calibrated``: trial-wise scale and gain as in real data. ``rich``: both much larger.
                ``gaussian``: neither. The others are hard families: ``image_covariance``, ``student`` (heavy tails per voxel),
                ``autoregressive`` (over trials), ``area_gain``, ``drift`` (within sessions), ``resampled`` (real residuals).
            images: Distinct pictures, the held-out ones among them.
            held_out: How many of them are for testing.
            repeats: Trials per picture.
            voxels: Per subject.
            subjects: How many.
            sessions: Per subject; repeats of a picture fall into different sessions while there are enough.
            image_size: Width and height in pixels, a multiple of 8.
            ncsnr: Median over voxels of the signal-to-noise ratio of one trial.
            unexplained: Share of the signal's variance that no picture shows, at least .2.
            seed: Decides on every number.
        """

        setting: Literal["calibrated", "rich", "gaussian", "image_covariance", "student", "autoregressive", "area_gain", "drift", "resampled"] = (
            "calibrated"
        )
        images: int = Field(1150, ge=4)
        held_out: int = Field(150, ge=1)
        repeats: int = Field(3, ge=1)
        voxels: int = Field(600, ge=20)
        subjects: int = Field(3, ge=1)
        sessions: int = Field(4, ge=1)
        image_size: int = Field(64, ge=16, multiple_of=8)
        ncsnr: float = Field(0.4, gt=0, le=1)
        unexplained: float = Field(0.25, ge=0.2, lt=1)
        seed: int = Field(0, ge=0)

        @model_validator(mode="after")
        def _leaves_training(self) -> "Simulated.Config":
            if self.held_out > self.images - 2:
                raise ValueError(f"held_out must leave 2 of {self.images} images for training, it is {self.held_out}")
            return self

    title: ClassVar[str] = "Simulated visual cortex with known truth"
    config: Config

    def __init__(self, config: Choices | None = None, root: Path | str | None = None, residuals: Float[Tensor, "rows columns"] | None = None) -> None:
        super().__init__(config, root)
        self._recording = np.empty((0, 0))
        if self.config.setting == "resampled":
            self._recording = _usable(residuals if residuals is not None else _residuals(self.root), self.config.voxels)
        self._planted: dict[str, Planted] = {}
        self._trials: dict[str, Trials] = {}
        self._all: tuple[np.ndarray, list[Scene]] | None = None

    @property
    def subjects(self) -> tuple[str, ...]:
        """``subj01`` and so on."""
        return tuple(f"subj{number:02d}" for number in range(1, self.config.subjects + 1))

    def trials(self, subject: str) -> Trials:
        """Every trial of a subject: all pictures, each ``repeats`` times, in random order."""
        if subject not in self._trials:
            planted, order = self._plant(subject), self._order(subject)
            noise = draw(self.config.setting, planted.ground, order, stream(self.config.seed, "noise", subject))
            responses = planted.offsets + planted.scale * (planted.ground.signal[order.stimuli] + noise)
            responses += planted.session_offsets[order.sessions - 1]
            stimuli, sessions, repeats = map(torch.from_numpy, (order.stimuli, order.sessions, _occurrence(order.stimuli)))
            self._trials[subject] = Trials(subject, stimuli, sessions, repeats, _single(responses), "percent signal change (simulated)")
        return self._trials[subject]

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

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The first stimuli, the same for all subjects and however many others there are."""
        return torch.arange(self.config.held_out)

    def cortex(self, subject: str) -> Cortex:
        """Areas and geometry. The noise ceiling is left to be estimated; :meth:`true_ncsnr` is the truth."""
        place = self._plant(subject).sheet
        areas = {name: torch.from_numpy(place.areas == index) for index, name in enumerate(AREAS)}
        return Cortex(subject, self.config.voxels, areas, _single(place.coordinates), _single(place.flat))

    def checksums(self) -> dict[str, str]:
        """The configuration and the revision of this code, and the residuals where there are any."""
        made_of = {"simulated": fingerprint({"revision": REVISION, **self.config.model_dump(mode="json")})}
        return made_of | ({"residuals": hashlib.sha256(self._recording.tobytes()).hexdigest()} if len(self._recording) else {})

    def signal(self, subject: str, stimuli: Int[Tensor, " stimuli"]) -> Float[Tensor, "stimuli voxels"]:
        """The expected response to each stimulus in the mean session, percent signal change."""
        rows, planted = self._rows(stimuli), self._plant(subject)
        return _single(planted.offsets + planted.scale * planted.ground.signal[rows])

    def unseen(self, subject: str, stimuli: Int[Tensor, " stimuli"]) -> Float[Tensor, "stimuli voxels"]:
        """The part of the signal that is in none of the pictures, with mean 0 over all stimuli, percent signal change."""
        rows, planted = self._rows(stimuli), self._plant(subject)
        return _single(planted.scale * planted.unseen[rows])

    def session_offsets(self, subject: str) -> Float[Tensor, "sessions voxels"]:
        """What each session adds to every response, with mean 0 over sessions, percent signal change."""
        return _single(self._plant(subject).session_offsets)

    def noise_covariance(self, subject: str) -> Float[Tensor, "voxels voxels"]:
        """Covariance of a trial about its expectation, over trials of all stimuli, percent signal change squared.

        In ``gaussian`` it is the covariance given any picture; elsewhere the covariance may depend on picture or trial.
        """
        return _single(self._covariance(subject))

    def true_ncsnr(self, subject: str) -> Float[Tensor, " voxels"]:
        """Deviation of the signal over all stimuli divided by that of one trial's noise (no unit)."""
        planted = self._plant(subject)
        return _single(planted.ground.signal.std(axis=0, ddof=1) / np.sqrt(covariance(self.config.setting, planted.ground).diagonal()))

    def prf(self, subject: str) -> Float[Tensor, "voxels 3"]:
        """Receptive fields: x from the left, y from the top, and sigma, in fractions of the picture."""
        return _single(self._plant(subject).fields)

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

    def log_prob(
        self,
        subject: str,
        stimuli: Int[Tensor, " trials"],
        responses: Float[Tensor, "trials voxels"],
        sessions: Int[Tensor, " trials"] | None = None,
    ) -> Float[Tensor, " trials"]:
        """The true log density of responses, in nats, per percent signal change to the power of the number of voxels.

        The best that any model can reach that knows signal and unseen drives. For z-scored responses add the sum over
        voxels of the log of the deviation they were divided by.

        Arguments:
            subject: Whose cortex.
            stimuli: What was shown.
            responses: Percent signal change, as in :meth:`trials`.
            sessions: From 1; where absent, sessions are taken to have no offset.

        Raises:
            CortexflowError: The setting is not ``gaussian``.
        """
        if self.config.setting != "gaussian":
            raise CortexflowError(f"the density is known in closed form for setting 'gaussian', this is {self.config.setting!r}; choose gaussian")
        logdet = np.linalg.slogdet(self._covariance(subject))[1]
        squared = self._distance(subject, stimuli, responses, sessions)
        return -0.5 * (squared + logdet + self.config.voxels * np.log(2 * np.pi))

    def _distance(
        self, subject: str, stimuli: Int[Tensor, " trials"], responses: Float[Tensor, "trials voxels"], sessions: Int[Tensor, " trials"] | None
    ) -> Float[Tensor, " trials"]:
        """Squared Mahalanobis distance of responses from their expectation, in double precision."""
        planted = self._plant(subject)
        noise = responses.double().numpy() - planted.offsets - planted.scale * planted.ground.signal[self._rows(stimuli)]
        if sessions is not None:
            noise -= planted.session_offsets[sessions.numpy() - 1]
        white = np.linalg.solve(np.linalg.cholesky(self._covariance(subject)), noise.T)
        return torch.from_numpy((white**2).sum(axis=0))

    def _covariance(self, subject: str) -> Float[np.ndarray, "voxels voxels"]:
        planted = self._plant(subject)
        return planted.scale[:, None] * planted.scale * covariance(self.config.setting, planted.ground)

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

    def _order(self, subject: str) -> Order:
        """Repeats of a picture in different sessions while there are enough, the order within a session random."""
        config, rng = self.config, stream(self.config.seed, "order", subject)
        rounds = -(-config.repeats // config.sessions)
        sessions = rng.permuted(np.tile(np.arange(config.sessions), (config.images, rounds)), axis=1)[:, : config.repeats].ravel() + 1
        stimuli = np.repeat(np.arange(config.images), config.repeats)
        shuffled = np.lexsort((rng.uniform(size=len(stimuli)), sessions))
        return Order(stimuli[shuffled], sessions[shuffled])

    def _rows(self, stimuli: Int[Tensor, " stimuli"]) -> Int[np.ndarray, " stimuli"]:
        if len(stimuli) and (int(stimuli.min()) < 0 or int(stimuli.max()) >= self.config.images):
            have = f"stimuli are 0 to {self.config.images - 1}"
            raise CortexflowError(f"{have}, asked were {int(stimuli.min())} to {int(stimuli.max())}; choose among them or raise images")
        return stimuli.numpy()


def _occurrence(stimuli: Int[np.ndarray, " trials"]) -> Int[np.ndarray, " trials"]:
    """0 where a stimulus comes for the first time, 1 for the second …"""
    order = np.argsort(stimuli, kind="stable")
    _, starts, counts = np.unique(stimuli[order], return_index=True, return_counts=True)
    occurrence = np.empty_like(stimuli)
    occurrence[order] = np.arange(len(stimuli)) - np.repeat(starts, counts)
    return occurrence


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
    usable = values[:, np.isfinite(values).all(axis=0) & (values.std(axis=0) > 0)]
    if usable.shape[1] < voxels:
        raise CortexflowError(f"residuals have {usable.shape[1]} voxels that vary, {voxels} were asked; set voxels to {usable.shape[1]} or fewer")
    return usable


def _single(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
