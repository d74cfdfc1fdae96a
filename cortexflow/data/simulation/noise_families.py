r"""How single trials of the simulated cortex depart from their expectation, family by family.

Every family starts from the same ground, in units of the voxel's own noise: few factors plus independent noise,

.. math:: n = \Lambda f + u \odot \varepsilon, \quad \mathrm{Var}(n_v) = 1,

and changes one thing. ``gaussian`` changes nothing. ``rich`` and ``calibrated`` scale each trial's noise by a log-normal number
and the signal by a shared gain. The others are the hard families, made without regard to what any model can represent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cortexflow.data.simulation.drives import standardized
from cortexflow.data.simulation.sheet import Sheet, smooth

GLOBAL, SPATIAL = 3, 14  # additive factors: shared by all areas, and per area
PASSED_ON = 0.6  # correlation of an area's spatial factors with those of the area before
SCALE = {"rich": 0.35, "calibrated": 0.1}  # deviation of the log of a trial's noise scale
GAIN = {"rich": 0.4, "calibrated": 0.1, "area_gain": 0.4}  # deviation of the multiplicative gain on the signal
FREEDOM = 5  # degrees of freedom of Student's t: excess kurtosis 6
PERSISTENCE = 0.5  # correlation of successive trials' noise
MODULATION = 1.0  # deviation of the log variance that an image gives to a factor
MIXTURES = 8  # properties of the image that modulate; each factor follows one of them
DRIFTS = 3  # spatial patterns that drift
DRIFT = 0.5  # deviation of the drift, in units of the voxel's noise


@dataclass(frozen=True)
class Ground:
    """What the noise of one subject is made of; all of it in units of each voxel's own noise.

    Arguments:
        loadings: Of the additive factors.
        unique: Deviation of the independent noise.
        signal: Noise-free responses to all stimuli, mean 0.
        areas: Index of each voxel's area.
        modulators: How strongly each stimulus drives each factor's variance, mean 1 over the stimuli.
        drifts: Spatial patterns of the drift.
        recorded: Residuals of a real recording, standardised; no rows where there is none.
    """

    loadings: Float[np.ndarray, "voxels factors"]
    unique: Float[np.ndarray, " voxels"]
    signal: Float[np.ndarray, "stimuli voxels"]
    areas: Int[np.ndarray, " voxels"]
    modulators: Float[np.ndarray, "stimuli factors"]
    drifts: Float[np.ndarray, "voxels drifts"]
    recorded: Float[np.ndarray, "rows voxels"]


@dataclass(frozen=True)
class Order:
    """What was shown when: one row per trial."""

    stimuli: Int[np.ndarray, " trials"]
    sessions: Int[np.ndarray, " trials"]


def factors(place: Sheet, rng: np.random.Generator) -> tuple[Float[np.ndarray, "voxels factors"], Float[np.ndarray, " voxels"]]:
    """Loadings of the additive factors and the deviation of the independent noise; together the variance of each voxel is 1.

    Three factors reach everywhere. Each area has 14 factors, smooth on its sheet, which it receives in part from the area before.
    """
    areas = int(place.areas.max()) + 1
    everywhere = smooth(rng, GLOBAL, length=60.0)(place.template) + 0.4 * rng.standard_normal((len(place.areas), GLOBAL))
    fields = [smooth(rng, SPATIAL, length=7.0)(place.template) for _ in range(areas)]
    local = [np.where((place.areas == area)[:, None], fields[area], 0) for area in range(areas)]
    local = np.concatenate(local, axis=1) @ _propagation(areas, rng)
    shares = np.exp(0.25 * rng.standard_normal((len(place.areas), 3))) * np.array([0.12, 0.38, 0.5])
    shares = np.sqrt(shares / shares.sum(axis=1, keepdims=True))
    loadings = [_unit(part) * shares[:, [column]] for column, part in enumerate((everywhere, local))]
    return np.concatenate(loadings, axis=1), shares[:, 2]


def modulators(summaries: Float[np.ndarray, "stimuli summaries"], count: int, rng: np.random.Generator) -> Float[np.ndarray, "stimuli factors"]:
    """Variance that each picture gives to each factor: log-normal in random mixtures of what is seen in it, mean 1."""
    variance = np.exp(MODULATION * standardized(summaries @ rng.standard_normal((summaries.shape[1], MIXTURES))))
    return (variance / variance.mean(axis=0))[:, rng.integers(MIXTURES, size=count)]


def drift_patterns(place: Sheet, rng: np.random.Generator) -> Float[np.ndarray, "voxels drifts"]:
    """Smooth patterns whose drift together adds a variance of ``DRIFT ** 2`` to each voxel."""
    return DRIFT * _unit(smooth(rng, DRIFTS, length=15.0)(place.template))


def draw(family: str, ground: Ground, order: Order, rng: np.random.Generator) -> Float[np.ndarray, "trials voxels"]:
    """The noise of every trial, in units of each voxel's own noise.

    Arguments:
        family: A key of :data:`FAMILIES`.
        ground: What the noise is made of.
        order: What was shown when.
        rng: Where the numbers come from.
    """
    return FAMILIES[family][0](family, ground, order, rng)


def covariance(family: str, ground: Ground) -> Float[np.ndarray, "voxels voxels"]:
    """The covariance of a trial's noise over trials of all stimuli, shown equally often."""
    return FAMILIES[family][1](family, ground)


def amplitude(family: str, ncsnr: Float[np.ndarray, " voxels"]) -> Float[np.ndarray, " voxels"]:
    """Deviation of the signal that gives a signal-to-noise ratio, gain and drift being noise too.

    With gain g and drift d the noise has variance 1 + d² + g² a² for a signal of deviation a.
    """
    drift = DRIFT**2 if family == "drift" else 0.0
    return ncsnr * np.sqrt((1 + drift) / (1 - (GAIN.get(family, 0.0) * ncsnr) ** 2))


def _gaussian(family: str, ground: Ground, order: Order, rng: np.random.Generator) -> np.ndarray:
    return _common(ground, len(order.stimuli), rng) + _independent(ground, len(order.stimuli), rng)


def _scaled(family: str, ground: Ground, order: Order, rng: np.random.Generator) -> np.ndarray:
    """A log-normal scale with mean square 1 on the noise, and one gain per trial on the signal of all areas."""
    trials, deviation = len(order.stimuli), SCALE[family]
    scale = np.exp(deviation * rng.standard_normal((trials, 1)) - deviation**2)
    gain = GAIN[family] * rng.standard_normal((trials, 1))
    return scale * _gaussian(family, ground, order, rng) + gain * ground.signal[order.stimuli]


def _image_covariance(family: str, ground: Ground, order: Order, rng: np.random.Generator) -> np.ndarray:
    """Every picture has its own covariance: it raises some factors and lowers others."""
    trials = len(order.stimuli)
    drawn = rng.standard_normal((trials, ground.loadings.shape[1])) * np.sqrt(ground.modulators[order.stimuli])
    return drawn @ ground.loadings.T + _independent(ground, trials, rng)


def _student(family: str, ground: Ground, order: Order, rng: np.random.Generator) -> np.ndarray:
    """Independent noise with heavy tails in every voxel, its variance as before."""
    trials = len(order.stimuli)
    tails = rng.standard_t(FREEDOM, (trials, len(ground.unique))) * np.sqrt((FREEDOM - 2) / FREEDOM)
    return _common(ground, trials, rng) + ground.unique * tails


def _autoregressive(family: str, ground: Ground, order: Order, rng: np.random.Generator) -> np.ndarray:
    """Each trial's noise keeps half of the trial before; every session starts afresh."""
    noise = _gaussian(family, ground, order, rng)
    for trial in range(1, len(noise)):
        if order.sessions[trial] == order.sessions[trial - 1]:
            noise[trial] = PERSISTENCE * noise[trial - 1] + np.sqrt(1 - PERSISTENCE**2) * noise[trial]
    return noise


def _area_gain(family: str, ground: Ground, order: Order, rng: np.random.Generator) -> np.ndarray:
    """A gain per trial and area on the signal, the areas independent of each other."""
    gains = GAIN[family] * rng.standard_normal((len(order.stimuli), ground.areas.max() + 1))
    return _gaussian(family, ground, order, rng) + gains[:, ground.areas] * ground.signal[order.stimuli]


def _drift(family: str, ground: Ground, order: Order, rng: np.random.Generator) -> np.ndarray:
    """Few patterns come and go slowly within a session: sums of cosines of half to two turns a session, variance 1 at any time."""
    curves = np.zeros((len(order.stimuli), ground.drifts.shape[1]))
    for session in np.unique(order.sessions):
        rows = order.sessions == session
        turns, phases = rng.uniform(0.5, 2, (4, curves.shape[1])), rng.uniform(0, 2 * np.pi, (4, curves.shape[1]))
        time = np.arange(rows.sum())[:, None, None] / rows.sum()
        curves[rows] = np.cos(2 * np.pi * turns * time + phases).sum(axis=1) / np.sqrt(2)
    return _gaussian(family, ground, order, rng) + curves @ ground.drifts.T


def _resampled(family: str, ground: Ground, order: Order, rng: np.random.Generator) -> np.ndarray:
    """Whole rows of a recording, drawn with replacement: real covariance across voxels, real tails."""
    return ground.recorded[rng.integers(len(ground.recorded), size=len(order.stimuli))]


def _common(ground: Ground, trials: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((trials, ground.loadings.shape[1])) @ ground.loadings.T


def _independent(ground: Ground, trials: int, rng: np.random.Generator) -> np.ndarray:
    return ground.unique * rng.standard_normal((trials, len(ground.unique)))


def _additive(family: str, ground: Ground) -> np.ndarray:
    return ground.loadings @ ground.loadings.T + np.diag(ground.unique**2)


def _gained(family: str, ground: Ground) -> np.ndarray:
    return _additive(family, ground) + _of_gain(family, ground)


def _gained_by_area(family: str, ground: Ground) -> np.ndarray:
    return _additive(family, ground) + _of_gain(family, ground) * (ground.areas[:, None] == ground.areas)


def _of_gain(family: str, ground: Ground) -> np.ndarray:
    return GAIN[family] ** 2 * ground.signal.T @ ground.signal / len(ground.signal)


def _drifted(family: str, ground: Ground) -> np.ndarray:
    return _additive(family, ground) + ground.drifts @ ground.drifts.T


def _recorded(family: str, ground: Ground) -> np.ndarray:
    return ground.recorded.T @ ground.recorded / len(ground.recorded)


def _propagation(areas: int, rng: np.random.Generator) -> Float[np.ndarray, "to from"]:
    """How the factors of each area mix the innovations of all areas before it."""
    mixing = np.zeros((areas * SPATIAL, areas * SPATIAL))
    for area in range(areas):
        rows = slice(area * SPATIAL, (area + 1) * SPATIAL)
        mixing[rows, rows] = np.eye(SPATIAL) * (np.sqrt(1 - PASSED_ON**2) if area else 1)
        if area:
            before = slice((area - 1) * SPATIAL, area * SPATIAL)
            rotation = np.linalg.qr(rng.standard_normal((SPATIAL, SPATIAL)))[0]
            mixing[rows] += PASSED_ON * rotation @ mixing[before]
    return mixing


def _unit(rows: Float[np.ndarray, "voxels factors"]) -> Float[np.ndarray, "voxels factors"]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


Drawing = Callable[[str, Ground, Order, np.random.Generator], np.ndarray]
FAMILIES: dict[str, tuple[Drawing, Callable[[str, Ground], np.ndarray]]] = {
    "gaussian": (_gaussian, _additive),
    "calibrated": (_scaled, _gained),
    "rich": (_scaled, _gained),
    "image_covariance": (_image_covariance, _additive),
    "student": (_student, _additive),
    "autoregressive": (_autoregressive, _additive),
    "area_gain": (_area_gain, _gained_by_area),
    "drift": (_drift, _drifted),
    "resampled": (_resampled, _recorded),
}
