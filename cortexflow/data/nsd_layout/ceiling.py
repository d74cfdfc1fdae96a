r"""The noise ratio that the dataset ships, computed again from the trials.

Responses are z-scored per voxel within each session. Over the pictures seen three times, :math:`v` is the mean of the unbiased
variance of their three responses, and

.. math:: \mathrm{ncsnr} = \frac{\sqrt{\max(0, 1 - v)}}{\sqrt{v}}.

Sessions are read one after the other, and no more is kept of them than a sum for each picture, voxels block by block.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from cortexflow.data.nsd_layout.design import REPEATS

BLOCK = 64 << 20  # bytes of sums that are held at a time
Sessions = Callable[[], Iterable[tuple[Int[np.ndarray, " trials"], Shaped[np.ndarray, "trials voxels"]]]]


class Agreement(NamedTuple):
    """How alike two maps of the ratio are.

    Arguments:
        voxels: That are finite in both.
        r: Correlation over them; NaN where one of the maps is the same everywhere.
        largest: Difference of any voxel.
        zeros: Voxels in which the shipped ratio is 0.
        missing: Voxels in which the shipped ratio is no number.
    """

    voxels: int
    r: float
    largest: float
    zeros: int
    missing: int

    def __str__(self) -> str:
        said = f"r {self.r:.4f} and at most {self.largest:.3g} apart in {self.voxels} voxels"
        return said + f"; 0 in {self.zeros}" * (self.zeros > 0) + f"; not a number in {self.missing}" * (self.missing > 0)


def recomputed(sessions: Sessions, voxels: int) -> Float[np.ndarray, " voxels"]:
    """The ratio of one trial (no unit), from pictures that were shown three times in these sessions.

    Arguments:
        sessions: Gives the pictures and the responses of each session, in any unit; it is called once for each block of voxels.
        voxels: How many.

    Returns:
        0 for a voxel of noise, NaN for one that is constant or not finite in some session, or where no picture came three times.
    """
    shown = np.concatenate([stimuli for stimuli, _ in sessions()])
    ids, counts = np.unique(shown, return_counts=True)
    ids = ids[counts == REPEATS]
    if not len(ids):
        return np.full(voxels, np.nan)
    step = max(1, BLOCK // (4 * len(ids)))
    return np.concatenate([_block(sessions, ids, slice(start, min(start + step, voxels))) for start in range(0, voxels, step)])


def agreement(shipped: Float[np.ndarray, " voxels"], again: Float[np.ndarray, " voxels"]) -> Agreement:
    """Compare two maps of the ratio over the voxels in which both are finite."""
    both = np.isfinite(shipped) & np.isfinite(again)
    one, other = shipped[both].astype(np.float64), again[both].astype(np.float64)
    varied = len(one) > 1 and one.std() > 0 and other.std() > 0
    r = float(np.corrcoef(one, other)[0, 1]) if varied else float("nan")
    largest = float(np.abs(one - other).max()) if len(one) else float("nan")
    return Agreement(int(both.sum()), r, largest, int((shipped == 0).sum()), int(np.isnan(shipped).sum()))


def _block(sessions: Sessions, ids: Int[np.ndarray, " pictures"], block: slice) -> Float[np.ndarray, " voxels"]:
    """Variance within pictures from the sum of squares and the sum of each picture: (Σx² - (Σx)² / 3) / 2."""
    sums = np.zeros((len(ids), block.stop - block.start), dtype=np.float32)
    squares = np.zeros(block.stop - block.start)
    for stimuli, responses in sessions():
        used = np.isin(stimuli, ids)
        standard = _standard(responses[:, block])[used]
        squares += np.square(standard, dtype=np.float64).sum(axis=0)
        _add(sums, np.searchsorted(ids, stimuli[used]), standard)
    within = (squares - np.square(sums, dtype=np.float64).sum(axis=0) / REPEATS) / ((REPEATS - 1) * len(ids))
    return np.sqrt(np.maximum(0, 1 - within)) / np.sqrt(within)


def _add(sums: Float[np.ndarray, "pictures voxels"], rows: Int[np.ndarray, " trials"], values: Float[np.ndarray, "trials voxels"]) -> None:
    """Add each trial to its picture's sum; a picture may come several times."""
    if len(rows):
        order = np.argsort(rows, kind="stable")
        once, starts = np.unique(rows[order], return_index=True)
        sums[once] += np.add.reduceat(values[order], starts, axis=0)


def _standard(responses: Shaped[np.ndarray, "trials voxels"]) -> Float[np.ndarray, "trials voxels"]:
    values = responses.astype(np.float32)
    deviation = values.std(axis=0, ddof=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return ((values - values.mean(axis=0, dtype=np.float64)) / np.where(deviation > 0, deviation, np.nan)).astype(np.float32)
