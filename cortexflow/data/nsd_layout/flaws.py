"""What is odd in the voxels of a mask, counted session by session and said in words."""

import numpy as np
from jaxtyping import Shaped

from cortexflow.data.nsd_layout.betas import PERCENT

LIMIT = 32767  # of a 16-bit integer: responses beyond it are cut off there


class Flaws:
    """Counts over the sessions that were read.

    Arguments:
        subject: Whose.
        voxels: Of the mask.
    """

    def __init__(self, subject: str, voxels: int) -> None:
        self.subject, self.trials = subject, 0
        self.constant = np.zeros(voxels, dtype=bool)
        self.saturated = np.zeros(voxels, dtype=np.int64)

    def add(self, values: Shaped[np.ndarray, "trials voxels"]) -> None:
        """One more session, as it is stored."""
        self.trials += len(values)
        self.constant |= (values == values[:1]).all(axis=0)
        if values.dtype == np.int16:
            self.saturated += ((values >= LIMIT) | (values <= -LIMIT)).sum(axis=0)

    def sentences(self) -> list[str]:
        """One for each kind that there is."""
        return [sentence for sentence in (self._constant(), self._saturated()) if sentence]

    def _constant(self) -> str:
        count = int(self.constant.sum())
        if not count:
            return ""
        verb, them = ("changes", "it") if count == 1 else ("change", "them")
        return f"{self.subject}: {count} of {len(self.constant)} voxels never {verb} within a session; -s bad_voxels=drop leaves {them} out"

    def _saturated(self) -> str:
        count, numbers = int((self.saturated > 0).sum()), self.trials * len(self.saturated)
        if not count:
            return ""
        share = f"in {self.saturated.sum() / numbers:.2g} of all numbers, up to {self.saturated.max() / self.trials:.0%} of a voxel's trials"
        limit = f"the limit of 16-bit integers, ±{LIMIT / PERCENT:.1f} percent signal change"
        verb = "reaches" if count == 1 else "reach"
        return f"{self.subject}: {count} of {len(self.saturated)} voxels {verb} {limit}, {share}; responses beyond it are cut off"
