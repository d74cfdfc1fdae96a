"""Several models of one subject on the same trials, features and held-out pictures, so that their differences are paired."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cortexflow.encoding.base import DensityEncoder, Encoder
from cortexflow.errors import CortexflowError
from cortexflow.metrics.voxelwise import bits_per_voxel
from cortexflow.report.evaluation import HeldOut, Row, Scorer, held_out_side
from cortexflow.training import Joined, Machine, RunConfig, Study, fit, fit_space, join, tabulate


@dataclass(frozen=True)
class Comparison:
    """A study that is ready for any model.

    Arguments:
        config: Of data, features and seed; its encoder is of no account.
        study: Trials and voxels.
        levels: Sizes of the feature levels, fitted on the pictures of ``study.training``.
        training: What every model is fitted to.
        test: What every model is scored on, with the draws of pictures.
        machine: Where models are fitted.
    """

    config: RunConfig
    study: Study
    levels: Mapping[str, int]
    training: Joined
    test: HeldOut
    machine: Machine

    @classmethod
    def of(cls, config: RunConfig, study: Study, machine: Machine, draws: int) -> "Comparison":
        """Fit the feature space to the training pictures and join it to both sides.

        Arguments:
            config: Of data, features and seed.
            study: From :func:`~cortexflow.training.open_study`; the caller may have left out training trials.
            machine: Device, data and cache.
            draws: Of held-out pictures, for intervals; alike for every subject of the same seed and held-out pictures.
        """
        space = fit_space(config, study, machine)
        table = tabulate(space, study, torch.cat([study.training.seen, study.test.seen]).unique(), machine)
        test = held_out_side(join(study.test, table), study, draws, config.seed)
        return cls(config, study, space.levels, join(study.training, table), test, machine)

    def fitted(self, encoder: Mapping[str, Any]) -> Encoder:
        """A model of this name and these options, fitted to the training side."""
        config = self.config.model_copy(update={"encoder": dict(encoder)})  # name and options are checked where it is built
        return fit(config, self.training, self.levels, self.study.cortex, None, self.machine)

    @torch.no_grad()
    def accuracy(self, encoder: Encoder, features: Float[Tensor, "images features"] | None = None) -> Row:
        """Scores of the expectation of every held-out picture, or of these features in place of theirs."""
        return self.scorer.prediction("model", encoder.predict(self.test.features if features is None else features))

    @torch.no_grad()
    def bits(self, encoder: Encoder) -> Float[Tensor, " draws"]:
        """Bits per voxel of single held-out trials, in the estimate and in every draw of pictures.

        Raises:
            CortexflowError: The model has no density.
        """
        if not isinstance(encoder, DensityEncoder):
            raise CortexflowError(f"bits need a density, which {encoder.name} has not; choose another model, or score its samples")
        log_prob = encoder.log_prob(self.test.features[self.test.row], self.test.trials)
        return self.test.trial_mean(bits_per_voxel(log_prob, encoder.voxels))

    @cached_property
    def scorer(self) -> Scorer:
        """Scores over all voxels together."""
        return Scorer(self.test, {"all": torch.ones(self.study.cortex.voxels, dtype=torch.bool)}, self.config.seed)
