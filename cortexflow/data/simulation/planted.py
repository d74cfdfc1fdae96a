"""One subject of the simulation: all that is planted, before any trial is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from cortexflow.data.simulation.drives import drives, standardized, tune
from cortexflow.data.simulation.noise_families import Ground, amplitude, drift_patterns, factors, modulators
from cortexflow.data.simulation.pictures import Scene
from cortexflow.data.simulation.sheet import AREAS, Sheet, receptive_fields, sheet, smooth
from cortexflow.data.simulation.streams import stream

PRIVATE, RANK = 0.15, 4  # share of the seen signal that is the subject's own, and the rank of it
LATENTS = 6  # rank of what no picture shows
SPREAD = 0.5  # deviation of log ncsnr over the voxels
SILENT = 0.05  # share of voxels with next to no signal
HIGHEST = 1.2  # ncsnr of one trial


@dataclass(frozen=True)
class Planted:
    """The truth about one subject.

    Arguments:
        sheet: Where the voxels lie.
        fields: Receptive fields, x, y and sigma in picture widths.
        unseen: The part of the signal that no picture shows, in units of the voxel's noise.
        ground: Signal and structure of the noise, in units of the voxel's noise.
        scale: Deviation of the noise, percent signal change.
        offsets: Mean response of each voxel, percent signal change.
        session_offsets: What each session adds, percent signal change.
    """

    sheet: Sheet
    fields: Float[np.ndarray, "voxels 3"]
    unseen: Float[np.ndarray, "stimuli voxels"]
    ground: Ground
    scale: Float[np.ndarray, " voxels"]
    offsets: Float[np.ndarray, " voxels"]
    session_offsets: Float[np.ndarray, "sessions voxels"]


def plant(
    seed: int,
    subject: str,
    pictures: UInt8[np.ndarray, "stimuli 3 size size"],
    scenes: Sequence[Scene],
    voxels: int,
    sessions: int,
    family: str,
    ncsnr: float,
    unexplained: float,
    recording: Float[np.ndarray, "rows columns"],
) -> Planted:
    """Build a subject from its name.

    Arguments:
        seed: Of the whole simulation.
        subject: Its name decides on all that is its own.
        pictures: All pictures of the study.
        scenes: What is in them.
        voxels: How many.
        sessions: How many.
        family: Of the noise.
        ncsnr: Median over voxels of the signal-to-noise ratio of one trial.
        unexplained: Share of the signal's variance that no picture shows.
        recording: Residuals to draw noise from; no rows where there are none.
    """

    def own(purpose: str) -> np.random.Generator:
        return stream(seed, purpose, subject)

    place = sheet(voxels, own("sheet"))
    fields = receptive_fields(place, own("fields"))
    seen, summaries = drives(pictures, scenes, tune(place, fields, AREAS, stream(seed, "tuning"), own("tuning")))
    seen = standardized(np.sqrt(1 - PRIVATE) * seen + np.sqrt(PRIVATE) * _private(summaries, place, own("private")))
    unseen = _unseen(len(pictures), place, stream(seed, "latents"), own("unseen"))
    strength = amplitude(family, ratios(ncsnr, place, own("ncsnr")))
    signal, unseen = (strength * part for part in _mixed(seen, unseen, unexplained))
    return assemble(seed, subject, place, fields, signal, unseen, summaries, sessions, recording)


def assemble(
    seed: int,
    subject: str,
    place: Sheet,
    fields: Float[np.ndarray, "voxels 3"],
    signal: Float[np.ndarray, "stimuli voxels"],
    unseen: Float[np.ndarray, "stimuli voxels"],
    summaries: Float[np.ndarray, "stimuli summaries"],
    sessions: int,
    recording: Float[np.ndarray, "rows columns"],
) -> Planted:
    """The truth about a subject from its signal: noise, units and sessions come from its name.

    Arguments:
        seed: Of the whole simulation.
        subject: Its name decides on all that is its own.
        place: Where the voxels lie.
        fields: Receptive fields.
        signal: Noise-free responses in units of each voxel's noise.
        unseen: The part of them that no picture shows.
        summaries: Of each picture as a whole; they modulate the noise in one of its families.
        sessions: How many.
        recording: Residuals to draw noise from; no rows where there are none.
    """

    def own(purpose: str) -> np.random.Generator:
        return stream(seed, purpose, subject)

    loadings, unique = factors(place, own("factors"))
    ground = Ground(
        loadings,
        unique,
        signal,
        place.areas,
        modulators(summaries, loadings.shape[1], own("modulators")),
        drift_patterns(place, own("drifts")),
        _columns(recording, len(fields), own("recording")),
    )
    return Planted(place, fields, unseen, ground, *_units(sessions, place, own("units")))


def _private(summaries: np.ndarray, place: Sheet, rng: np.random.Generator) -> Float[np.ndarray, "stimuli voxels"]:
    """The subject's own mix, of low rank, of what is seen in the picture as a whole."""
    mixed = standardized(summaries @ rng.standard_normal((summaries.shape[1], RANK)))
    return standardized(mixed @ smooth(rng, RANK, length=10.0)(place.template).T)


def _unseen(stimuli: int, place: Sheet, shared: np.random.Generator, own: np.random.Generator) -> Float[np.ndarray, "stimuli voxels"]:
    """Numbers tied to the picture, as memories of it might be, that are in none of its pixels."""
    latents = shared.standard_normal((stimuli, LATENTS))
    loadings = smooth(own, LATENTS, length=10.0)(place.template) + 0.5 * own.standard_normal((len(place.areas), LATENTS))
    return standardized(latents @ loadings.T)


def _mixed(seen: np.ndarray, unseen: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """The signal with variance 1, and the unseen part of it."""
    signal = np.sqrt(1 - share) * seen + np.sqrt(share) * unseen
    deviation = signal.std(axis=0, ddof=1)
    return signal / deviation, np.sqrt(share) * unseen / deviation


def ratios(median: float, place: Sheet, rng: np.random.Generator) -> Float[np.ndarray, " voxels"]:
    """Signal-to-noise ratios: log-normal, alike among neighbours, one voxel in twenty with next to none."""
    patches = smooth(rng, 1, length=8.0)(place.template)[:, 0]
    drawn = np.exp(SPREAD * np.sqrt(0.5) * (patches + rng.standard_normal(len(patches))))
    drawn[rng.uniform(size=len(drawn)) < SILENT] *= 0.1
    return (drawn * median / np.median(drawn)).clip(max=HIGHEST)


def _units(sessions: int, place: Sheet, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale, mean and session offsets of each voxel, percent signal change."""
    patches = smooth(rng, 2, length=10.0)(place.template)
    jitter = rng.standard_normal((2, len(patches)))
    scale = 0.8 * np.exp(0.3 * patches[:, 0] + 0.2 * jitter[0])
    # Means differ between voxels by more than responses do within one: a constant pattern correlates highly across voxels.
    offsets = 1 + 0.5 * patches[:, 1] + 0.5 * jitter[1]
    shifts = 0.2 * scale * rng.standard_normal((sessions, len(patches)))
    return scale, offsets, shifts - shifts.mean(axis=0)


def _columns(recording: Float[np.ndarray, "rows columns"], voxels: int, rng: np.random.Generator) -> Float[np.ndarray, "rows voxels"]:
    """As many columns of a recording as there are voxels, in its own order, each with mean 0 and variance 1."""
    if not len(recording):
        return np.empty((0, voxels))
    chosen = np.sort(rng.choice(recording.shape[1], voxels, replace=False))
    centred = recording[:, chosen] - recording[:, chosen].mean(axis=0)
    return centred / centred.std(axis=0)
