r"""From a run of volumes to one response per trial, by least squares separately for every trial.

The model of trial i has its own regressor, the sum of all others (or one sum per condition), and what is no answer to any
trial: the mean, slow drifts, confounds. Since nuisance is the same for all trials it is projected out once, and the response
to trial i becomes a weighted sum of volumes, :math:`\beta_i = w_i \cdot y`, whose weights follow from the inner products of the
regressors alone. Voxels enter only there, so that a run is read once, a block of volumes at a time.

References:
    Deconvolving BOLD activation in event-related designs for multivoxel pattern classification analyses (Mumford et al., 2012).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cortexflow.data.standardize import spm_hrf
from cortexflow.errors import CortexflowError

FINE = 0.05  # seconds; the response is integrated at this resolution
LENGTH = 32.0  # seconds after which the response is over


@dataclass(frozen=True)
class Answers:
    """What each event evokes in a voxel that answers it like the canonical response.

    Arguments:
        regressors: One row per event: its response at every volume of the run, where a lasting stimulus reaches 1.
        peaks: Its highest value, were it sampled without gaps.
        recorded: The share of its energy that falls on volumes of the run, 0 to 1.
    """

    regressors: Float[np.ndarray, "events volumes"]
    peaks: Float[np.ndarray, " events"]
    recorded: Float[np.ndarray, " events"]


def answers(onsets: Float[np.ndarray, " events"], durations: Float[np.ndarray, " events"], volumes: int, tr: float, start: float = 0.0) -> Answers:
    """Each event as a box of its duration, convolved with the canonical haemodynamic response.

    Arguments:
        onsets: Seconds from the start of the run; they need not fall on a volume.
        durations: Seconds; an event shorter than .05 s counts as that long.
        volumes: Length of the run.
        tr: Seconds from one volume to the next.
        start: Seconds from the start of the run to the moment for which its first volume stands.
    """
    durations = np.maximum(durations, FINE)
    before = int(max(0, np.ceil(-onsets.min() / tr)))
    after = int(max(0, np.ceil((onsets + durations).max() + LENGTH - start) / tr) + 1)
    times = (np.arange(-before, max(volumes, after)) * tr + start)[None] - onsets[:, None]
    whole = _risen(times) - _risen(times - durations[:, None])
    regressors = whole[:, before : before + volumes]
    fine = np.arange(0, LENGTH + durations.max(), FINE)
    lengths, event = np.unique(durations, return_inverse=True)
    peaks = np.array([(_risen(fine) - _risen(fine - length)).max() for length in lengths])[event]
    return Answers(regressors, peaks, (regressors**2).sum(1) / (whole**2).sum(1))


def drifts(volumes: int, tr: float, cutoff: float) -> Float[np.ndarray, "volumes drifts"]:
    """The mean and all cosines slower than a period, as in :func:`cortexflow.data.standardize.detrend`.

    Arguments:
        volumes: Length of the run.
        tr: Seconds from one volume to the next.
        cutoff: Shortest period, in seconds.
    """
    order = int(2 * volumes * tr / cutoff + 1e-9)
    return np.cos(np.pi * np.arange(order + 1) * (2 * np.arange(volumes)[:, None] + 1) / (2 * volumes))


def separate_weights(
    regressors: Float[np.ndarray, "trials volumes"],
    nuisance: Float[np.ndarray, "volumes columns"],
    conditions: Int[np.ndarray, " trials"] | None = None,
) -> Float[np.ndarray, "trials volumes"]:
    r"""The weights with which volumes add up to the response of each trial.

    With nuisance projected out, let x be the trial's regressor and s the sum of the others. The normal equations are

    .. math:: \begin{pmatrix} x \cdot x & x \cdot s \\ x \cdot s & s \cdot s \end{pmatrix}
              \begin{pmatrix} \beta \\ \gamma \end{pmatrix} = \begin{pmatrix} x \cdot y \\ s \cdot y \end{pmatrix},

    and one row and column longer for each further condition.

    Arguments:
        regressors: The expected answer to each trial.
        nuisance: What is to explain nothing; columns may depend on each other.
        conditions: The condition of each trial, from 0; its others are then one sum per condition. All together where absent.

    Returns:
        Weights that are orthogonal to the nuisance: of ``weights @ y`` row i is the response to trial i, in the units of y per
        unit of its regressor.

    Raises:
        CortexflowError: Fewer volumes than nuisance, or a trial whose answer the others and the nuisance make up.

    Example:
        Two trials that do not overlap, without nuisance: the weights of each are its regressor over its squared length.
    """
    labels = np.zeros(len(regressors), dtype=int) if conditions is None else conditions
    clean = _without(nuisance, regressors)
    sums = np.zeros((labels.max() + 1, clean.shape[1]))
    np.add.at(sums, labels, clean)
    own, rest = _coefficients(clean, sums, labels)
    weights = own[:, None] * clean + rest @ sums
    told = (weights * clean).sum(1)  # 1 where the trial's own regressor can be told from the rest
    told[(clean**2).sum(1) < 1e-10 * (regressors**2).sum(1)] = 0  # nothing but rounding is left of it
    if not np.allclose(told, 1, atol=1e-6):
        trial = int(np.argmax(np.abs(told - 1)))
        what = f"the answer to trial {trial + 1} of {len(clean)} is made up by the other trials, the drifts and the confounds"
        raise CortexflowError(f"{what}; use fewer confounds or a longer cutoff, or leave the trial out")
    return weights


def _coefficients(clean: np.ndarray, sums: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights as coefficients of the trial's own regressor and of the sums over conditions, its own part included."""
    trial, size = np.arange(len(clean)), 1 + len(sums)
    square, shared, between = (clean**2).sum(1), clean @ sums.T, sums @ sums.T
    # The first regressor is the trial's, then one per condition; that of its own condition lacks the trial.
    gram = np.empty((len(clean), size, size))
    gram[:, 0, 0], gram[:, 1:, 1:] = square, between
    gram[trial, 1 + labels, 1:] -= shared
    gram[trial, 1:, 1 + labels] -= shared
    gram[trial, 1 + labels, 1 + labels] += square
    across = shared.copy()
    across[trial, labels] -= square
    gram[:, 0, 1:] = gram[:, 1:, 0] = across
    solution = np.linalg.pinv(gram, rcond=1e-10, hermitian=True)[:, 0]
    return solution[:, 0] - solution[trial, 1 + labels], solution[:, 1:]


def _without(nuisance: np.ndarray, regressors: np.ndarray) -> np.ndarray:
    """What nuisance does not explain of the regressors."""
    scale = np.linalg.norm(nuisance, axis=0)
    left, values, _ = np.linalg.svd(nuisance / np.where(scale > 0, scale, 1), full_matrices=False)
    basis = left[:, values > 1e-8 * values.max(initial=0)]
    if basis.shape[1] >= len(basis):
        what = f"a run of {len(basis)} volumes has {basis.shape[1]} drifts and confounds"
        raise CortexflowError(f"{what}; leave the run out, or use fewer confounds or a longer cutoff")
    return regressors - regressors @ basis @ basis.T


def _risen(times: np.ndarray) -> np.ndarray:
    """The canonical response summed up to a time: the answer to a stimulus that begins at 0 and stays."""
    response = spm_hrf(FINE, length=LENGTH).double().numpy()
    risen = np.cumsum(response) - response / 2  # trapezoids
    return np.interp(times, np.arange(len(response)) * FINE, risen / risen[-1], left=0.0, right=1.0)
