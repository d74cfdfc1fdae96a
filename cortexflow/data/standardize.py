"""From recorded responses to comparable ones: z-scores, repeats, drifts, haemodynamic lags and windows.

Statistics are taken within a session (or run), because gain and offset change between them, and from training trials only,
if the caller names them: whatever is learned from test trials leaks. Trials are joined by stimulus id and never by
position; what is not finite or never changes is an error, and never silently a zero.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import scipy.sparse
import scipy.stats
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cortexflow.data.base import Exposure, Trials
from cortexflow.errors import CortexflowError

BLOCK = 2048  # voxels held in double precision at a time


def zscore_sessions(trials: Trials, statistics_from: Bool[Tensor, " trials"] | None = None) -> Trials:
    """Every voxel with mean 0 and standard deviation 1 within each session.

    Arguments:
        trials: Responses in any unit.
        statistics_from: The trials whose mean and (population) standard deviation are used, usually the training trials;
            all trials where absent, as most published scores do.

    Returns:
        The same trials; only the statistics' own trials have exactly mean 0 and standard deviation 1.

    Raises:
        CortexflowError: A session has fewer than two such trials, or a voxel is constant or not finite.

    Example:
        Responses 1, 3 and 9 with statistics from the first two become -1, 1 and 7.
    """
    rows = _statistics_rows(trials, statistics_from)
    for session in torch.unique(trials.sessions).tolist():
        count = int((rows & (trials.sessions == session)).sum())
        if count < 2:
            what = f"session {session} has {count} trial{'s' * (count != 1)} to take statistics from, 2 are needed"
            raise CortexflowError(
                f"{trials.subject}: {what}; use all trials (-s zscore=all), or leave it out: trials.where(trials.sessions != {session})"
            )
    check_responses(trials, statistics_from)
    responses = torch.empty_like(trials.responses)
    for session in torch.unique(trials.sessions).tolist():
        inside = trials.sessions == session
        for block in _blocks(trials.voxels):
            values = trials.responses[inside, block].double()
            known = values[rows[inside]]
            responses[inside, block] = ((values - known.mean(0)) / known.std(0, correction=0)).to(responses.dtype)
    whose = "all" if statistics_from is None else "training"
    return replace(trials, responses=responses, units=f"z-scored within session, statistics of {whose} trials")


def usable_voxels(trials: Trials, statistics_from: Bool[Tensor, " trials"] | None = None) -> Bool[Tensor, " voxels"]:
    """The voxels that are finite in every trial and not constant within any session.

    Arguments:
        trials: Responses in any unit.
        statistics_from: The trials among which a voxel must vary; all where absent. A session with a single such trial
            cannot show whether a voxel varies and is not asked.

    Example:
        ``trials = trials.only(usable_voxels(trials))`` before :func:`zscore_sessions`.
    """
    finite, varying = _flaws(trials, statistics_from)
    return finite & varying


def check_responses(trials: Trials, statistics_from: Bool[Tensor, " trials"] | None = None) -> None:
    """Raises CortexflowError where a voxel is not finite, or constant within a session; see :func:`usable_voxels`."""
    finite, varying = _flaws(trials, statistics_from)
    broken, constant = int((~finite).sum()), int((finite & ~varying).sum())
    if not broken and not constant:
        return
    flaws = [f"{broken} have responses that are not finite"] * (broken > 0) + [f"{constant} are constant within a session"] * (constant > 0)
    arguments = "trials" if statistics_from is None else "trials, statistics_from"
    what = f"{trials.subject}: of {trials.voxels} voxels {' and '.join(flaws)}"
    raise CortexflowError(f"{what}; drop them with trials.only(usable_voxels({arguments})), and the same voxels of the cortex")


def average_repeats(trials: Trials) -> Trials:
    """The mean response over all presentations of each stimulus, in the order of the stimulus ids.

    Arguments:
        trials: Single trials, standardized before: a mean over sessions of unequal gain favours the loudest session.

    Returns:
        One row per stimulus with ``repeats`` 0 and ``sessions`` -1 (it may come from several). A stimulus keeps its group
        where each stimulus has just one; otherwise the stimuli themselves are the groups.

    Raises:
        CortexflowError: The trials are volumes of a time series, whose rows answer several stimuli at once.

    Example:
        Stimulus 7 answered by 1 and 3, stimulus 5 by 4: the rows are 5 → 4 and 7 → 2.
    """
    _no_time_series(trials)
    stimuli, row = torch.unique(trials.stimuli, return_inverse=True)
    counts = torch.bincount(row, minlength=len(stimuli)).double()[:, None]
    responses = torch.empty(len(stimuli), trials.voxels, dtype=trials.responses.dtype)
    for block in _blocks(trials.voxels):
        values = trials.responses[:, block].double()
        sums = torch.zeros(len(stimuli), values.shape[1], dtype=torch.float64).index_add_(0, row, values)
        responses[:, block] = (sums / counts).to(responses.dtype)
    groups = torch.empty_like(stimuli).index_put_((row,), trials.groups)
    return replace(
        trials,
        stimuli=stimuli,
        sessions=torch.full_like(stimuli, -1),
        repeats=torch.zeros_like(stimuli),
        responses=responses,
        units=f"{trials.units}, mean over repeats",
        groups=groups if torch.equal(groups[row], trials.groups) else stimuli,
    )


def repeat_counts(trials: Trials) -> Int[Tensor, " stimuli"]:
    """How many presentations each row of :func:`average_repeats` is the mean of.

    Raises:
        CortexflowError: The trials are volumes of a time series.
    """
    _no_time_series(trials)
    return torch.unique(trials.stimuli, return_counts=True)[1]


def detrend(
    timeseries: Float[Tensor, "time voxels"],
    runs: Int[Tensor, " time"],
    tr: float,
    kind: Literal["cosine", "linear"] = "cosine",
    cutoff: float = 128.0,
) -> Float[Tensor, "time voxels"]:
    r"""What the slow drifts of each run do not explain; the mean of the run is a drift too, and is removed.

    The cosines of a run of :math:`n` volumes are :math:`\cos(\pi k (2t + 1) / 2n)` for
    :math:`k = 0 \dots \lfloor 2 n\,\mathrm{TR} / \mathrm{cutoff} \rfloor`.

    Arguments:
        timeseries: Signal in any unit.
        runs: The run of each volume; within a run, volumes are in the order of acquisition.
        tr: Seconds from one volume to the next.
        kind: ``"cosine"``, everything slower than the cutoff, or ``"linear"``, a straight line.
        cutoff: Shortest period that counts as drift, in seconds. It must exceed the slowest rhythm of the task.

    Raises:
        CortexflowError: The signal is not finite, or a run has no more volumes than drifts.

    References:
        Statistical Parametric Mapping, high-pass filter (Friston et al., 2007).
    """
    _check_timeseries(timeseries, runs, tr)
    residual = torch.empty_like(timeseries)
    for run in torch.unique(runs).tolist():
        inside = runs == run
        drifts = _drifts(int(inside.sum()), tr, kind, cutoff)
        if drifts.shape[1] >= len(drifts):
            what = f"run {run} has {len(drifts)} volumes for {drifts.shape[1]} drifts"
            raise CortexflowError(f'{what}; leave the run out, or use kind="linear" or a longer cutoff than {cutoff:g} s')
        drifts = torch.linalg.qr(drifts)[0]
        for block in _blocks(timeseries.shape[1]):
            values = timeseries[inside, block].double()
            residual[inside, block] = (values - drifts @ (drifts.T @ values)).to(residual.dtype)
    return residual


def spm_hrf(tr: float, oversampling: int = 1, length: float = 32.0, lead: float = 0.0) -> Float[Tensor, " time"]:
    r"""The canonical haemodynamic response: a peak at 5 s and an undershoot of a sixth of its weight.

    .. math:: h(t) \propto \frac{t^5 e^{-t}}{5!} - \frac{1}{6} \frac{t^{15} e^{-t}}{15!}

    Arguments:
        tr: Seconds from one volume to the next.
        oversampling: Samples per volume.
        length: Seconds that are sampled, from the first sample on.
        lead: Seconds from the onset of a stimulus to the first sample: ``tr / 2`` where a volume stands for its middle,
            more where the signal runs ahead of the record of what was shown, 0 where neither is known.

    Returns:
        The response at the times ``lead``, ``lead + tr / oversampling``, …; it sums to 1.

    Raises:
        CortexflowError: ``tr``, ``oversampling`` or ``length`` leave a single sample.

    References:
        Event-related fMRI: characterizing differential responses (Friston et al., 1998).

    Example:
        >>> spm_hrf(2.0)[:4]
        tensor([0.0000, 0.0866, 0.3749, 0.3849])
    """
    if not (tr > 0 and oversampling >= 1 and length * oversampling >= tr):
        asked = f"a response of {length:g} s cannot be sampled {oversampling} times per {tr:g} s"
        raise CortexflowError(f"{asked}; give positive numbers, tr in seconds and below the length")
    times = np.arange(int(length * oversampling / tr + 1e-6) + 1) * tr / oversampling + lead
    response = scipy.stats.gamma.pdf(times, 6) - scipy.stats.gamma.pdf(times, 16) / 6
    return torch.from_numpy(response / response.sum()).float()


def convolve_hrf(
    design: Float[Tensor, "time features"], tr: float, runs: Int[Tensor, " time"] | None = None, lead: float = 0.0
) -> Float[Tensor, "time features"]:
    """What a design, volume by volume, becomes in the blood; nothing of one run reaches the next.

    Arguments:
        design: Value of each feature while each volume was acquired.
        tr: Seconds from one volume to the next.
        runs: The run of each volume; all in one where absent.
        lead: As in :func:`spm_hrf`.

    Returns:
        Row :math:`i` is the sum of ``spm_hrf(tr, lead=lead)[i - j] * design[j]`` over the volumes :math:`j` of its run.
    """
    weights = _lags(torch.zeros(len(design), dtype=torch.long) if runs is None else runs, tr, lead)
    return torch.from_numpy(np.asarray(weights @ design.double().numpy())).to(design.dtype)


def hrf_exposure(stimuli_per_volume: Int[Tensor, " time"], tr: float, runs: Int[Tensor, " time"], lead: float = 0.0) -> Exposure:
    """How much of each stimulus each volume answers.

    A split by stimulus does not stop the blood: volumes of training pictures that follow a held-out picture within half a
    minute still answer some of it.

    Arguments:
        stimuli_per_volume: Stimulus id on screen at each volume, -1 where there was none. A stimulus shown for several
            volumes stands at each of them.
        tr: Seconds from one volume to the next.
        runs: The run of each volume.
        lead: As in :func:`spm_hrf`.

    Returns:
        Weights such that volume :math:`i` answers the sum of ``spm_hrf(tr, lead=lead)[i - j]`` times the stimulus at volume
        :math:`j` of the same run. Its stimuli are sorted.

    Raises:
        CortexflowError: The two arguments differ in length, or no volume has a stimulus.
    """
    if len(stimuli_per_volume) != len(runs):
        have = f"there are {len(stimuli_per_volume)} volumes with a stimulus or -1 and {len(runs)} with a run"
        raise CortexflowError(f"{have}; give both one entry per volume")
    shown = stimuli_per_volume >= 0
    if not shown.any():
        raise CortexflowError("no volume shows a stimulus (all are -1); give the stimulus id on screen at each volume")
    stimuli, column = torch.unique(stimuli_per_volume[shown], return_inverse=True)
    volume = np.flatnonzero(shown.numpy())
    on_screen = scipy.sparse.csr_array((np.ones(len(volume)), (volume, column.numpy())), shape=(len(runs), len(stimuli)))
    return Exposure(stimuli, scipy.sparse.csr_array(_lags(runs, tr, lead) @ on_screen))


def lagged_windows(
    timeseries: Float[Tensor, "time voxels"],
    onsets_s: Float[Tensor, " events"],
    tr: float,
    offset_volumes: int,
    volumes: int,
    runs: Int[Tensor, " time"] | None = None,
    event_runs: Int[Tensor, " events"] | None = None,
) -> Float[Tensor, "events window voxels"]:
    """The volumes that answer each event.

    Arguments:
        timeseries: Signal in any unit.
        onsets_s: Onset of each event, in seconds, from the start of its run if ``event_runs`` says which that is, else from
            the start of the whole series.
        tr: Seconds from one volume to the next.
        offset_volumes: Volumes from the one being acquired at the onset to the first of the window.
        volumes: Length of the window.
        runs: The run of each volume; all in one where absent.
        event_runs: The run of each event.

    Raises:
        CortexflowError: A window leaves its run, or an event's run does not exist.

    Example:
        At a TR of 2.5 s, an onset at 15 s with an offset of 2 starts its window at volume 6 + 2 = 8.
    """
    runs = torch.zeros(len(timeseries), dtype=torch.long) if runs is None else runs
    _check_timeseries(timeseries, runs, tr)
    # an onset that falls on a volume's start must not be rounded into the volume before it
    onset = torch.floor(onsets_s.double() / tr + 1e-4).long()
    rows = []
    for event, start in enumerate(onset.tolist()):
        run = int(event_runs[event]) if event_runs is not None else _run_at(runs, start)
        clock = torch.nonzero(runs == run)[:, 0] if event_runs is not None else torch.arange(len(runs))
        first, last = start + offset_volumes, start + offset_volumes + volumes
        inside = clock[first:last] if first >= 0 else clock[:0]
        if volumes < 1 or len(inside) < volumes or (runs[inside] != run).any():
            when = f"event {event} at {float(onsets_s[event]):g} s of run {run} needs {volumes} volumes from {offset_volumes:+d} after its onset"
            raise CortexflowError(f"{when}, which leave its run; drop the event, or use a shorter window or another offset")
        rows.append(inside)
    if not rows:
        return timeseries.new_empty(0, volumes, timeseries.shape[1])
    return timeseries[torch.stack(rows)]


def _statistics_rows(trials: Trials, statistics_from: Tensor | None) -> Tensor:
    if statistics_from is None:
        return torch.ones(len(trials), dtype=torch.bool)
    if len(statistics_from) != len(trials):
        have = f"{trials.subject}: statistics_from has {len(statistics_from)} entries for {len(trials)} trials"
        raise CortexflowError(f"{have}; give True or False for each trial")
    return statistics_from


def _flaws(trials: Trials, statistics_from: Tensor | None) -> tuple[Tensor, Tensor]:
    """Masks of voxels: finite in every trial, and varying within every session."""
    rows = _statistics_rows(trials, statistics_from)
    finite, varying = (torch.ones(trials.voxels, dtype=torch.bool) for _ in range(2))
    for session in torch.unique(trials.sessions).tolist():
        inside = trials.sessions == session
        values = trials.responses[inside]
        finite &= torch.isfinite(values).all(0)
        if int(rows[inside].sum()) > 1:
            low, high = torch.aminmax(values[rows[inside]], dim=0)
            varying &= low != high
    return finite, varying


def _no_time_series(trials: Trials) -> None:
    if trials.exposure is not None:
        what = f"{trials.subject}: volumes of a time series answer several stimuli at once and have no repeats to average"
        raise CortexflowError(f"{what}; use them as they are, or single-trial responses")


def _check_timeseries(timeseries: Tensor, runs: Tensor, tr: float) -> None:
    if len(runs) != len(timeseries):
        raise CortexflowError(f"the time series has {len(timeseries)} volumes and runs {len(runs)}; give the run of each volume")
    if not tr > 0:
        raise CortexflowError(f"the repetition time is {tr:g} s; give the positive seconds from one volume to the next")
    broken = int((~torch.isfinite(timeseries).all(0)).sum())
    if broken:
        what = f"{broken} of {timeseries.shape[1]} voxels of the time series are not finite"
        raise CortexflowError(f"{what}; keep the finite ones with timeseries[:, torch.isfinite(timeseries).all(0)]")


def _drifts(volumes: int, tr: float, kind: str, cutoff: float) -> Tensor:
    """The drifts of one run, time × drifts."""
    time = torch.arange(volumes, dtype=torch.float64)
    if kind == "linear":
        columns = [torch.ones_like(time), time]
    else:
        order = int(2 * volumes * tr / cutoff + 1e-9)
        columns = [torch.cos(torch.pi * k * (2 * time + 1) / (2 * volumes)) for k in range(order + 1)]
    return torch.stack(columns, 1)


def _lags(runs: Tensor, tr: float, lead: float) -> scipy.sparse.csr_array:
    """The matrix that convolves each run with the haemodynamic response, volumes × volumes."""
    response = spm_hrf(tr, lead=lead).double().numpy()
    later, earlier, weight = [np.zeros(0, int)], [np.zeros(0, int)], [np.zeros(0)]  # a series can be empty
    for run in torch.unique(runs).tolist():
        rows = np.flatnonzero((runs == run).numpy())
        for lag in np.flatnonzero(response[: len(rows)]):
            later.append(rows[lag:])
            earlier.append(rows[: len(rows) - lag])
            weight.append(np.full(len(rows) - lag, response[lag]))
    entries = (np.concatenate(weight), (np.concatenate(later), np.concatenate(earlier)))
    return scipy.sparse.csr_array(entries, shape=(len(runs), len(runs)))


def _run_at(runs: Tensor, volume: int) -> int:
    if not 0 <= volume < len(runs):
        raise CortexflowError(f"an event starts at volume {volume} of a series of {len(runs)}; give onsets in seconds from its first volume")
    return int(runs[volume])


def _blocks(voxels: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, voxels, BLOCK)]
