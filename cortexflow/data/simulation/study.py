"""What studies of a planted cortex share: trials, truth and the density, once something has been planted."""

from abc import abstractmethod
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.data.base import Dataset, Trials
from cortexflow.data.simulation.noise_families import Order, covariance, draw
from cortexflow.data.simulation.planted import Planted
from cortexflow.data.simulation.streams import stream
from cortexflow.errors import CortexflowError


class PlantedDataset(Dataset):
    """A study with known truth. Whoever derives plants subjects and renders pictures."""

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
        def _leaves_training(self) -> "PlantedDataset.Config":
            if self.held_out > self.images - 2:
                raise ValueError(f"held_out must leave 2 of {self.images} images for training, it is {self.held_out}")
            return self

    config: Config

    def __init__(self, config: Choices | None = None, root: Path | str | None = None) -> None:
        super().__init__(config, root)
        self._planted: dict[str, Planted] = {}
        self._trials: dict[str, Trials] = {}

    @abstractmethod
    def _plant(self, subject: str) -> Planted:
        """The truth about a subject, made once."""

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
            self._trials[subject] = Trials(subject, stimuli, sessions, repeats, single(responses), "percent signal change (simulated)")
        return self._trials[subject]

    def held_out(self) -> Int[Tensor, " stimuli"]:
        """The first stimuli, the same for all subjects and however many others there are."""
        return torch.arange(self.config.held_out)

    def signal(self, subject: str, stimuli: Int[Tensor, " stimuli"]) -> Float[Tensor, "stimuli voxels"]:
        """The expected response to each stimulus in the mean session, percent signal change."""
        rows, planted = self._rows(stimuli), self._plant(subject)
        return single(planted.offsets + planted.scale * planted.ground.signal[rows])

    def unseen(self, subject: str, stimuli: Int[Tensor, " stimuli"]) -> Float[Tensor, "stimuli voxels"]:
        """The part of the signal that is in none of the pictures, with mean 0 over all stimuli, percent signal change."""
        rows, planted = self._rows(stimuli), self._plant(subject)
        return single(planted.scale * planted.unseen[rows])

    def session_offsets(self, subject: str) -> Float[Tensor, "sessions voxels"]:
        """What each session adds to every response, with mean 0 over sessions, percent signal change."""
        return single(self._plant(subject).session_offsets)

    def noise_covariance(self, subject: str) -> Float[Tensor, "voxels voxels"]:
        """Covariance of a trial about its expectation, over trials of all stimuli, percent signal change squared.

        In ``gaussian`` it is the covariance given any picture; elsewhere the covariance may depend on picture or trial.
        """
        return single(self._covariance(subject))

    def true_ncsnr(self, subject: str) -> Float[Tensor, " voxels"]:
        """Deviation of the signal over all stimuli divided by that of one trial's noise (no unit)."""
        planted = self._plant(subject)
        return single(planted.ground.signal.std(axis=0, ddof=1) / np.sqrt(covariance(self.config.setting, planted.ground).diagonal()))

    def prf(self, subject: str) -> Float[Tensor, "voxels 3"]:
        """Receptive fields: x from the left, y from the top, and sigma, in fractions of the picture."""
        return single(self._plant(subject).fields)

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


def single(values: np.ndarray) -> Tensor:
    """In single precision, as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
