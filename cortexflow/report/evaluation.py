"""Scores a run on held-out pictures, always beside its nulls, ridge, a real repeat, and the noise ceiling.

One pass per model: the expectation of every test picture, the density of every test trial, and some samples, picture by
picture. Intervals resample the pictures, the same ones for every row, so that differences between rows are paired. Several
runs are the folds of one cross-validation: a score is the mean over folds, and voxels are chosen within each fold.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cortexflow.data.standardize import average_repeats, repeat_counts
from cortexflow.encoding.base import DensityEncoder, Encoder
from cortexflow.errors import CortexflowError
from cortexflow.metrics.calibration import accuracy_by_samples, coverage, crps_by_trial, energy_score, probability_integral_transform, rank_histogram
from cortexflow.metrics.identification import (
    correlation_scores,
    fit_temperature,
    identification_log_loss,
    likelihood_scores,
    share_beaten,
    top_one,
)
from cortexflow.metrics.intervals import percentile_interval, resampling_weights, weighted_correlation
from cortexflow.metrics.noise_ceiling import ncsnr, noise_ceiling
from cortexflow.metrics.nulls import derangement, repeat_against_others
from cortexflow.metrics.variability import covariance_agreement, within_stimulus_residuals
from cortexflow.metrics.voxelwise import bits_per_voxel, median_over_voxels
from cortexflow.progress import track
from cortexflow.storage import checksum, load_sealed_json, save_sealed_json, save_tensors
from cortexflow.training import Joined, Machine, Run, RunConfig, Study, fit, identity, join, open_study, tabulate

SAMPLES = 50  # synthetic trials per test picture, for variability and calibration
CANDIDATES = 150  # pictures among which one trial is identified
SHOWN_VOXELS, SHOWN_PICTURES = 300, 4
LEAST_CEILING = 0.1  # share of variance; below, "share of the ceiling" divides by noise
CHOSEN_R = 0.2
LEVELS = (0.5, 0.8, 0.95)
AVERAGED = (1, 2, 5, 10, 20, 50)  # numbers of samples averaged, for accuracy against their number
NEIGHBOURS = 5  # volumes of a time series that are resampled together, the width of a haemodynamic response
SHUFFLES, DENSITY_SHUFFLES = 50, 20
AT_ONCE = 30_000_000  # numbers in a batch of samples

METRICS = {
    "r": {"title": "r per voxel across images, median", "short": "r", "better": "higher", "digits": 3},
    "share": {"title": "r² / noise ceiling, median", "short": "share of ceiling", "better": "higher", "digits": 3},
    "r_joined": {"title": "r per voxel across the test rows of all folds together, median", "short": "r, joined", "better": "higher", "digits": 3},
    "mse": {"title": "mean squared error of the repeat average", "short": "MSE", "better": "lower", "digits": 3},
    "bits": {"title": "bits per voxel of single trials (negative log-likelihood)", "short": "bits/voxel", "better": "lower", "digits": 3},
    "crps": {"title": "CRPS of single trials, mean", "short": "CRPS", "better": "lower", "digits": 3},
    "energy": {"title": "energy score of single trials, per √voxel", "short": "energy", "better": "lower", "digits": 3},
    "variance_ratio": {"title": "sample variance / variance across repeats, median", "short": "variance ratio", "better": "one", "digits": 2},
    "covariance_r": {"title": "agreement of residual correlations between voxels", "short": "covariance r", "better": "higher", "digits": 2},
    "two_way": {"title": "two-way identification of repeat averages (chance .5)", "short": "two-way", "better": "higher", "digits": 3},
    "top_one": {"title": "top-1 from one trial, by correlation", "short": "top-1, r", "better": "higher", "digits": 3},
    "top_one_likelihood": {"title": "top-1 from one trial, by likelihood", "short": "top-1, likelihood", "better": "higher", "digits": 3},
    "log_loss": {"title": "identification log loss at a fitted temperature, nats", "short": "log loss", "better": "lower", "digits": 3},
}

Groups = Mapping[str, Bool[Tensor, " voxels"]]


@dataclass(frozen=True)
class HeldOut:
    """The held-out side of a study, in the forms that scores need.

    Arguments:
        single: Single trials with their features.
        measured: One row per picture: the mean over its repeats (of a time series: one row per volume).
        features: The features of each row of ``measured``.
        row: For each single trial, its row in ``measured``.
        weights: How often each row counts, in the estimate (first) and in each bootstrap draw.
        ceiling: The largest share of variance of ``measured`` that any model can explain; NaN where it is not known.
    """

    single: Joined
    measured: Float[Tensor, "images voxels"]
    features: Float[Tensor, "images features"]
    row: Tensor
    weights: Float[Tensor, "draws images"]
    ceiling: Float[Tensor, " voxels"]

    @property
    def trials(self) -> Float[Tensor, "trials voxels"]:
        """Responses of single trials."""
        return self.single.trials.responses

    @property
    def stimuli(self) -> Tensor:
        """The row of each single trial, as an id of what was repeated."""
        return self.row

    @property
    def repeated(self) -> bool:
        """Whether any picture was seen twice."""
        return len(self.trials) > len(self.measured)

    def image_mean(self, values: Float[Tensor, "images *rest"]) -> Tensor:
        """The mean over pictures, in the estimate and in every draw."""
        flat = values.reshape(len(values), -1).double()
        return (self.weights @ flat / self.weights.sum(1, keepdim=True)).reshape(-1, *values.shape[1:])

    def trial_mean(self, values: Float[Tensor, " trials"]) -> Tensor:
        """The mean over trials, in the estimate and in every draw."""
        weights = self.weights[:, self.row]
        return weights @ values.double() / weights.sum(1)


@dataclass
class Row:
    """One line of the table: per metric and group of voxels, the estimate followed by the bootstrap draws."""

    kind: str
    scores: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    voxels: dict[str, Tensor] = field(default_factory=dict)
    predicted: Tensor | None = None

    def put(self, metric: str, group: str, draws: Tensor) -> None:
        """Keep a score and its draws."""
        self.scores[metric, group] = draws.double()


def evaluate(runs: Sequence[Run], machine: Machine, out: Path | str, *, draws: int = 1000) -> dict[str, Any]:
    """Score runs of one study and model and write ``metrics.json`` and ``evaluation.safetensors``.

    Arguments:
        runs: One run, or the folds of one cross-validation.
        machine: Where data and caches are.
        out: The folder to write to.
        draws: Bootstrap draws, at least 1.

    Returns:
        The content of ``metrics.json``: every row × group × metric with its interval, and the model's paired differences
        from every other row.

    Raises:
        CortexflowError: The runs are of different models or subjects, or their data cannot be read.
    """
    _check_folds(runs)
    folds = [score_run(run, machine, draws, number) for number, run in enumerate(track(runs, "evaluating"))]
    if len(folds) > 1:
        _check_disjoint(runs, folds)
        _join_folds(folds)
    metrics = _summary(runs, folds)
    cortex = folds[0].study.cortex
    about = {"subject": cortex.subject, "voxels": cortex.voxels, "areas": list(cortex.areas)}
    save_tensors(Path(out) / "evaluation.safetensors", _arrays(folds) | {f"cortex.{name}": v for name, v in cortex.tensors().items()}, about)
    metrics["files"] = {"evaluation.safetensors": checksum(Path(out) / "evaluation.safetensors")}
    save_sealed_json(Path(out) / "metrics.json", metrics)
    return metrics


@dataclass
class Fold:
    """The scores of one run, and what pictures of them need."""

    study: Study
    test: HeldOut
    groups: Groups
    rows: dict[str, Row]
    arrays: dict[str, Tensor]
    warnings: list[str]
    fit: tuple[str, ...] = ()  # what the model says of its fit


def score_run(run: Run, machine: Machine, draws: int, fold: int = 0) -> Fold:
    """Score one run and its references on its own held-out pictures; each fold resamples its own."""
    study = open_study(run.config, machine)
    if study.cortex.voxels != run.encoder.voxels:
        raise CortexflowError(f"{run.folder} was trained on {run.encoder.voxels} voxels, the data now have {study.cortex.voxels}; train it again")
    if load_sealed_json(run.folder / "provenance.json").get("split") != identity(study):
        raise CortexflowError(f"{run.folder} was trained on other data or another split than its run.json now opens; train it again")
    table = tabulate(run.space, study, torch.cat([study.training.seen, study.test.seen]).unique(), machine)
    training = join(study.training, table)
    own = run.config.title == "ridge (factors+radius)"
    ridge = run.encoder if own else _reference(run, {"name": "ridge"}, training, study, machine)
    blind = _reference(run, {"name": "null", "noise": run.config.encoder.get("noise", "factors+radius")}, training, study, machine)
    test = held_out_side(join(study.test, table), study, draws, run.config.seed + 1_000_003 * fold)
    groups = _groups(study, test, getattr(ridge, "training_r", None))
    scorer = Scorer(test, groups, run.config.seed)
    rows = {run.config.title: scorer.model("model", run.encoder)}
    if not own:
        rows["ridge (factors+radius)"] = scorer.model("reference", ridge)
    rows["training-mean pattern"] = scorer.model("null", blind)
    rows["zero"] = scorer.prediction("null", torch.zeros_like(test.measured))
    rows["shuffled images"] = scorer.shuffled(run.encoder)
    if test.repeated:
        rows["a real repeat"] = scorer.real_repeat()
        rows["noise ceiling"] = scorer.ceiling()
    return Fold(study, test, groups, rows, _pictures(run, study, test, rows[run.config.title]), _warnings(study, test, run), run.encoder.notes())


class Scorer:
    """Fills rows of the table for one test side and its groups of voxels."""

    def __init__(self, test: HeldOut, groups: Groups, seed: int) -> None:
        self.test, self.groups, self.seed = test, groups, seed
        self.few = _subset(test, CANDIDATES, seed)

    def generator(self) -> torch.Generator:
        """The same random numbers for every row."""
        return torch.Generator().manual_seed(self.seed)

    @torch.no_grad()
    def model(self, kind: str, encoder: Encoder) -> Row:
        """Everything that can be asked of an encoder."""
        row = self.prediction(kind, encoder.predict(self.test.features))
        if isinstance(encoder, DensityEncoder):
            self._density(row, encoder, self.test.features)
            self._likelihood_identification(row, self._likelihoods(encoder))
        self._variability(row, encoder)
        return row

    @torch.no_grad()
    def shuffled(self, encoder: Encoder) -> Row:
        """The same model given the features of another test picture: the mean over shuffles, and the range they span."""
        generator, rows = self.generator(), []
        estimate = replace(self.test, weights=self.test.weights[:1])
        scorer = Scorer(estimate, self.groups, self.seed)
        likelihoods, order = self._likelihoods(encoder) if isinstance(encoder, DensityEncoder) else torch.empty(0), self.generator()
        for number in range(SHUFFLES):
            features = self.test.features[derangement(len(self.test.features), generator)]
            rows.append(scorer.prediction("null", encoder.predict(features)))
            if isinstance(encoder, DensityEncoder) and number < DENSITY_SHUFFLES:
                scorer._density(rows[-1], encoder, features)
                scorer._likelihood_identification(rows[-1], likelihoods[:, derangement(len(likelihoods), order)])
        every = {name: torch.cat([row.scores[name] for row in rows if name in row.scores]) for name in rows[0].scores}
        mean = {name: torch.cat([draws.mean()[None], draws]) for name, draws in every.items()}
        return Row("null", mean, rows[0].voxels)

    def prediction(self, kind: str, predicted: Tensor) -> Row:
        """Scores of an expectation."""
        row = Row(kind, predicted=predicted)
        self._accuracy(row, predicted, self.test.measured)
        self._identification(row, predicted)
        return row

    def real_repeat(self) -> Row:
        """What a first trial predicts of the others."""
        row, test = Row("reference"), self.test
        order = test.single.trials.repeats.argsort(stable=True)
        first, others = repeat_against_others(test.trials[order], test.stimuli[order])[:2]
        if len(first) == len(test.measured):
            self._accuracy(row, first, others)
            scores = correlation_scores(others, first)
            row.put("two_way", "all", test.image_mean(share_beaten(scores, torch.arange(len(first)))))
        for metric in ("share", "mse"):  # its target is the mean of the other repeats: another scale than that of the other rows
            for group in self.groups:
                row.scores.pop((metric, group), None)
        return row

    def ceiling(self) -> Row:
        """The best that any model can reach, from the variance across repeats."""
        row = Row("ceiling")
        for group, mask in self.groups.items():
            if mask.any():
                row.put("r", group, median_over_voxels(self.test.ceiling[None, mask].clamp(min=0).sqrt()))
                row.put("share", group, torch.ones(1))
        return row

    def _accuracy(self, row: Row, predicted: Tensor, measured: Tensor) -> None:
        r = weighted_correlation(predicted, measured, self.test.weights)
        row.voxels["r"] = r[0].float()
        share = r.clamp(min=0).square() / torch.where(self.test.ceiling >= LEAST_CEILING, self.test.ceiling, torch.nan)
        error = self.test.image_mean((predicted - measured).square())
        for group, mask in self.groups.items():
            if mask.any():
                row.put("r", group, median_over_voxels(r[:, mask]))
                row.put("share", group, median_over_voxels(share[:, mask]))
                row.put("mse", group, error[:, mask].mean(1))

    def _identification(self, row: Row, predicted: Tensor) -> None:
        test = self.test
        row.put("two_way", "all", test.image_mean(share_beaten(correlation_scores(test.measured, predicted), torch.arange(len(predicted)))))
        images, trials = self.few
        scores = correlation_scores(test.trials[trials], predicted[images])
        row.put("top_one", "all", self._few_mean(top_one(scores, torch.arange(len(images)))))

    def _likelihoods(self, encoder: DensityEncoder) -> Tensor:
        images, trials = self.few
        return likelihood_scores(encoder.log_prob, self.test.features[images], self.test.trials[trials])

    def _likelihood_identification(self, row: Row, scores: Tensor) -> None:
        row.put("top_one_likelihood", "all", self._few_mean(top_one(scores, torch.arange(len(scores)))))
        row.put("log_loss", "all", self._few_mean(tempered_log_loss(scores)))

    def _few_mean(self, values: Tensor) -> Tensor:
        weights = self.test.weights[:, self.few[0]]
        return weights @ values.double() / weights.sum(1)

    def _density(self, row: Row, encoder: DensityEncoder, features: Tensor) -> None:
        log_prob = encoder.log_prob(features[self.test.row], self.test.trials)
        row.put("bits", "all", self.test.trial_mean(bits_per_voxel(log_prob, encoder.voxels)))

    def _variability(self, row: Row, encoder: Encoder) -> None:
        """Samples of every test picture, some pictures at a time: their spread, calibration and correlations."""
        test = self.test
        torch.manual_seed(self.seed)
        names = ("variance", "trial", "crps", "energy", "pit", "coverage", "residual", "samples")
        parts: dict[str, list[Tensor]] = {name: [] for name in names}
        shown = _shown(self.groups, test.measured.shape[1])
        for rows in torch.arange(len(test.measured)).split(max(1, AT_ONCE // (SAMPLES * encoder.voxels))):
            samples = encoder.sample(test.features[rows], SAMPLES)
            trials = torch.isin(test.row, rows).nonzero().flatten()
            of_trial, measured = samples[:, test.row[trials] - rows[0]], test.trials[trials]
            parts["variance"].append(samples.var(0))
            parts["trial"].append(trials)
            parts["crps"].append(self._by_group(crps_by_trial(of_trial, measured)))
            parts["energy"].append(energy_score(of_trial, measured))
            parts["pit"].append(probability_integral_transform(of_trial, measured, self.generator())[:, shown])
            parts["coverage"].append(coverage(of_trial, measured, LEVELS) * len(trials))
            parts["samples"].append(samples[..., shown])
            parts["residual"].append((samples[:4, :, shown] - samples[..., shown].mean(0)).flatten(0, 1))
        self._spread(row, torch.cat(parts["variance"]), torch.cat(parts["residual"]), shown)
        self._calibration(row, parts)

    def _by_group(self, values: Float[Tensor, "trials voxels"]) -> Float[Tensor, "trials groups"]:
        """The mean over the voxels of each group."""
        masks = torch.stack(list(self.groups.values()), 1).to(values)
        return values @ masks / masks.sum(0)

    def _spread(self, row: Row, variance: Tensor, residuals: Tensor, shown: Tensor) -> None:
        test = self.test
        if not test.repeated:
            return
        row.voxels["variance"] = variance.mean(0)
        squares = within_stimulus_residuals(test.trials, test.stimuli).double().square()
        several = torch.bincount(test.row)[test.row] > 1
        weights = test.weights[:, test.row[several]]
        ratio = test.image_mean(variance) / (weights @ squares / weights.sum(1, keepdim=True))
        for group, mask in self.groups.items():
            if mask.any():
                row.put("variance_ratio", group, median_over_voxels(ratio[:, mask]))
        measured = within_stimulus_residuals(test.trials, test.stimuli)[:, shown]
        if bool((residuals.std(0) > 0).all()):
            row.put("covariance_r", "all", covariance_agreement(residuals, measured, self.generator())[None])
            row.voxels["correlations"] = torch.corrcoef(residuals.T)

    def _calibration(self, row: Row, parts: Mapping[str, list[Tensor]]) -> None:
        test, trials = self.test, len(self.test.trials)
        order = torch.cat(parts["trial"]).argsort()
        by_group = torch.cat(parts["crps"])[order]
        for place, (group, mask) in enumerate(self.groups.items()):
            if mask.any():
                row.put("crps", group, test.trial_mean(by_group[:, place]))
        row.put("energy", "all", test.trial_mean(torch.cat(parts["energy"])[order] / test.trials.shape[1] ** 0.5))
        row.voxels["by_samples"] = accuracy_by_samples(
            torch.cat(parts["samples"], 1), test.measured[:, _shown(self.groups, test.measured.shape[1])], AVERAGED
        )
        row.voxels["pit"] = rank_histogram(torch.cat(parts["pit"]), 20).mean(1)
        row.voxels["coverage"] = (torch.stack(parts["coverage"]).sum(0) / trials).mean(1)


def tempered_log_loss(scores: Float[Tensor, "trials candidates"]) -> Float[Tensor, " trials"]:
    """The surprise in nats at each trial's own column, at a temperature that the other half of the trials fits."""
    truth, loss = torch.arange(len(scores)), torch.empty(len(scores))
    first = truth < len(scores) // 2
    for fitted in (first, ~first):
        loss[~fitted] = identification_log_loss(scores[~fitted], truth[~fitted], fit_temperature(scores[fitted], truth[fitted])).to(loss)
    return loss


def _reference(run: Run, encoder: Mapping[str, Any], training: Joined, study: Study, machine: Machine) -> Encoder:
    config = RunConfig.of({**run.config.model_dump(), "encoder": dict(encoder), "levels": "all"})
    return fit(config, training, run.space.levels, study.cortex, None, machine)


def held_out_side(single: Joined, study: Study, draws: int, seed: int) -> HeldOut:
    """What models are scored on.

    Arguments:
        single: Held-out trials with their features.
        study: Where they come from.
        draws: Bootstrap draws.
        seed: Of the draws.
    """
    trials, generator = single.trials, torch.Generator().manual_seed(seed)
    if trials.exposure is not None:  # volumes answer many pictures and each other: neighbours are resampled together
        rows, blocks = torch.arange(len(trials)), torch.arange(len(trials)) // NEIGHBOURS
        weights = resampling_weights(len(trials), draws, generator, blocks)
        return HeldOut(single, trials.responses, single.features, rows, weights, torch.full((trials.voxels,), torch.nan))
    average = average_repeats(trials)
    row = torch.searchsorted(average.stimuli, trials.stimuli)
    first = torch.full((len(average),), len(trials)).scatter_reduce(0, row, torch.arange(len(trials)), "amin")
    weights = resampling_weights(len(average), draws, generator)
    ceiling = _ceiling(study, trials.responses, row, repeat_counts(trials))
    return HeldOut(single, average.responses, single.features[first], row, weights, ceiling)


def _ceiling(study: Study, responses: Tensor, row: Tensor, counts: Tensor) -> Tensor:
    """From the ratio that the study ships, else from training repeats, else from the test repeats themselves."""
    if study.cortex.ncsnr is not None:
        return noise_ceiling(study.cortex.ncsnr, counts)
    if not _from_test(study):
        return noise_ceiling(ncsnr(study.training.responses, study.training.stimuli), counts)
    if bool((counts > 1).any()):
        return noise_ceiling(ncsnr(responses, row), counts)
    return torch.full((responses.shape[1],), torch.nan)


def _from_test(study: Study) -> bool:
    """Whether only test repeats can say what the ceiling is."""
    return study.cortex.ncsnr is None and len(torch.unique(study.training.stimuli)) == len(study.training)


def _groups(study: Study, test: HeldOut, training_r: Tensor | None) -> Groups:
    """All voxels, those with a signal, those that ridge predicts within the training pictures, and the areas."""
    groups = {"all": torch.ones(study.cortex.voxels, dtype=torch.bool)}
    if bool(test.ceiling.isfinite().any()) and not _from_test(study):  # voxels are never chosen on test trials
        groups["reliable voxels"] = test.ceiling >= LEAST_CEILING
    if training_r is not None:
        groups["predicted in training"] = training_r > CHOSEN_R
    return groups | dict(study.cortex.areas)


def _subset(test: HeldOut, most: int, seed: int) -> tuple[Tensor, Tensor]:
    """At most so many pictures, chosen by the seed, and the first trial of each."""
    images = torch.randperm(len(test.measured), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    order = test.single.trials.repeats.argsort(stable=True)
    return images, torch.stack([order[test.row[order] == image][0] for image in images])


def _shown(groups: Groups, voxels: int) -> Tensor:
    """Voxels for correlation matrices: evenly from all, in the order of their areas."""
    areas = [mask for name, mask in groups.items() if name not in ("all", "reliable voxels", "predicted in training")]
    label = torch.full((voxels,), len(areas))
    for number in reversed(range(len(areas))):
        label[areas[number]] = number
    order = torch.argsort(label, stable=True)
    return order[torch.linspace(0, voxels - 1, min(voxels, SHOWN_VOXELS)).long()]


@torch.no_grad()
def _pictures(run: Run, study: Study, test: HeldOut, row: Row) -> dict[str, Tensor]:
    """What the report draws."""
    arrays = {
        "stimuli": torch.unique(test.single.trials.stimuli),
        "measured": test.measured,
        "predicted": run.encoder.predict(test.features),
        "r": row.voxels["r"],
        "ceiling_r": test.ceiling.clamp(min=0).sqrt(),
        "by_samples.counts": torch.tensor(AVERAGED),
        "by_samples.r": median_over_voxels(row.voxels["by_samples"]),
        "calibration.levels": torch.tensor(LEVELS),
        "calibration.coverage": row.voxels["coverage"],
        "calibration.pit": row.voxels["pit"],
    }
    if test.repeated and "correlations" in row.voxels:
        shown = _shown(dict(study.cortex.areas), study.cortex.voxels)
        measured = within_stimulus_residuals(test.trials, test.stimuli)[:, shown]
        arrays |= {"covariance.voxels": shown, "covariance.measured": torch.corrcoef(measured.T), "covariance.synthetic": row.voxels["correlations"]}
    return arrays | _patterns(run, study, test)


def _patterns(run: Run, study: Study, test: HeldOut) -> dict[str, Tensor]:
    """Some pictures with their measured trials, as many samples, and the expectation."""
    images = torch.linspace(0, len(test.measured) - 1, SHOWN_PICTURES).long()
    repeats = int(torch.stack([(test.row == image).sum() for image in images]).min())
    trials = torch.stack([(test.row == image).nonzero().flatten()[:repeats] for image in images])
    torch.manual_seed(run.config.seed)
    stimuli = test.single.trials.stimuli[trials[:, 0]]
    return {
        "patterns.stimuli": stimuli,
        "patterns.images": study.dataset.images(stimuli),
        "patterns.measured": test.trials[trials],
        "patterns.sampled": run.encoder.sample(test.features[images], repeats).transpose(0, 1),
        "patterns.predicted": run.encoder.predict(test.features[images]),
    }


def _join_folds(folds: Sequence[Fold]) -> None:
    """Correlate the rows of all folds together, as one-run studies do; the groups must be the same in every fold."""
    weights = torch.cat([fold.test.weights for fold in folds], 1)
    measured = torch.cat([fold.test.measured for fold in folds])
    for name in folds[0].rows:
        predicted = [fold.rows[name].predicted for fold in folds if name in fold.rows]
        if any(one is None for one in predicted) or len(predicted) < len(folds):
            continue
        r = weighted_correlation(torch.cat([one for one in predicted if one is not None]), measured, weights)
        for group, mask in folds[0].groups.items():
            if mask.any() and all(torch.equal(mask, fold.groups[group]) for fold in folds):
                for fold in folds:
                    fold.rows[name].put("r_joined", group, median_over_voxels(r[:, mask]))


def _check_folds(runs: Sequence[Run]) -> None:
    if not runs:
        raise CortexflowError("no run was given; name at least one run folder")
    first = {**runs[0].config.model_dump(), "data": runs[0].config.data["name"]}
    for run in runs[1:]:
        if {**run.config.model_dump(), "data": run.config.data["name"]} != first:
            raise CortexflowError(f"{run.folder} is another model, subject or study than {runs[0].folder}; evaluate them one by one")


def _check_disjoint(runs: Sequence[Run], folds: Sequence[Fold]) -> None:
    """Folds of a cross-validation hold out different pictures."""
    seen: dict[int, Run] = {}
    for run, fold in zip(runs, folds, strict=True):
        for stimulus in torch.unique(fold.study.test.stimuli).tolist():
            if stimulus in seen:
                what = f"{run.folder} and {seen[stimulus].folder} hold out the same pictures"
                raise CortexflowError(f"{what}; give folds with different held-out pictures, or evaluate them one by one")
        seen |= dict.fromkeys(torch.unique(fold.study.test.stimuli).tolist(), run)


def _summary(runs: Sequence[Run], folds: Sequence[Fold]) -> dict[str, Any]:
    config, first = runs[0].config, folds[0]
    names = list(first.rows)
    rows = [_line(name, group, folds) for group in first.groups for name in names]
    used = {metric for row in rows for metric, score in row["scores"].items() if score is not None}
    return {
        "title": f"{config.title}, {config.subject}, {config.data.get('study', config.data['name'])}",
        "study": config.data.get("study", config.data["name"]),
        "subject": config.subject,
        "model": config.title,
        "units": first.test.single.trials.units,
        "notes": _notes(folds),
        "warnings": sorted({warning for fold in folds for warning in fold.warnings}),
        "counts": _counts(folds),
        "groups": {group: round(sum(int(fold.groups[group].sum()) for fold in folds) / len(folds)) for group in first.groups},
        "metrics": {name: about for name, about in METRICS.items() if name in used},
        "rows": [row for row in rows if any(score is not None for score in row["scores"].values())],
        "differences": [line for other in names[1:] for line in _differences(names[0], other, folds)],
        "made": {
            "runs": [run.folder.name for run in runs],
            "config": config.model_dump(mode="json"),
            "provenance": load_sealed_json(runs[0].folder / "provenance.json"),
        },
        "interval": {"level": 0.95, "draws": len(first.test.weights) - 1, "over": "images"},
    }


def _counts(folds: Sequence[Fold]) -> dict[str, int]:
    studies = [fold.study for fold in folds]
    return {
        "folds": len(folds),
        "training images": sum(len(torch.unique(study.training.stimuli)) for study in studies) // len(folds),
        "training trials": sum(len(study.training) for study in studies) // len(folds),
        "test images": sum(len(fold.test.measured) for fold in folds),
        "test trials": sum(len(study.test) for study in studies),
        "voxels": studies[0].cortex.voxels,
        "voxels dropped": studies[0].dropped,
    }


def _notes(folds: Sequence[Fold]) -> list[str]:
    test = folds[0].test
    averaged = "averaged over the repeats of each picture" if test.repeated else "one trial each"
    among = len(_subset(test, CANDIDATES, 0)[0])
    notes = [
        f"Responses are {test.single.trials.units}; test responses are {averaged}; r is taken per voxel across test images.",
        "Bits, CRPS and energy are of single test trials. All intervals resample the test images, alike in every row.",
        f"Top-1 is among {among} test images from one trial of each; two-way is among all test images.",
        f"Log loss is of the same trials, at a temperature fitted on half of them and scored on the other, both ways; chance {math.log(among):.3f}.",
        f"The row of shuffled images is the mean over {SHUFFLES} ways to shuffle them ({DENSITY_SHUFFLES} for densities), its interval their range.",
        "Ridge and the training-mean pattern are fitted to the same training trials and features as the model.",
    ]
    if "reliable voxels" in folds[0].groups:
        source = "as the study ships it" if folds[0].study.cortex.ncsnr is not None else "estimated on training repeats"
        notes.append(f"Reliable voxels have a noise ceiling of at least {LEAST_CEILING:.0%} of the variance, {source}.")
    if len(folds) > 1:
        notes.append(f"Scores are means over {len(folds)} folds; voxels are chosen and medians taken within each fold.")
    study = folds[0].study
    return [*notes, *folds[0].fit, *study.dataset.cautions(study.cortex.subject)]


def _warnings(study: Study, test: HeldOut, run: Run) -> list[str]:
    warnings = []
    if study.dropped:
        warnings.append(f"{study.dropped} voxels were constant or not finite and were left out.")
    if test.repeated and _from_test(study):
        warnings.append(
            "No training picture was repeated: the noise ceiling is estimated on the test repeats themselves, and no voxels are chosen by it."
        )
    if run.config.zscore == "all":
        warnings.append("Responses were z-scored with statistics that include test trials.")
    if run.config.zscore == "none":
        warnings.append("Responses are not z-scored: scores across voxels are then reached by a constant pattern.")
    if test.single.trials.exposure is not None:
        warnings.append(f"Test rows are volumes of a time series, whose neighbours are correlated: {NEIGHBOURS} are resampled together.")
    elif not test.repeated:
        warnings.append("No test picture was repeated: there is no noise ceiling and no measured variability.")
    return warnings


def _line(name: str, group: str, folds: Sequence[Fold]) -> dict[str, Any]:
    scores = {metric: _interval(_pooled(name, metric, group, folds)) for metric in METRICS}
    return {"row": name, "kind": folds[0].rows[name].kind, "group": group, "scores": scores}


def _pooled(name: str, metric: str, group: str, folds: Sequence[Fold]) -> Tensor | None:
    """The mean over folds, of the estimate and of every draw; None where a fold has no such score."""
    parts = [fold.rows[name].scores.get((metric, group)) if name in fold.rows else None for fold in folds]
    if any(part is None for part in parts):
        return None
    return torch.stack([part for part in parts if part is not None]).mean(0)


def _interval(draws: Tensor | None) -> dict[str, float | None] | None:
    if draws is None or not bool(draws[0].isfinite()):
        return None
    if len(draws) == 1:  # no resampling: a ceiling, or a score whose interval is not computed
        return {"value": float(draws[0]), "low": None, "high": None}
    interval = percentile_interval(draws[0], draws[1:])
    return {"value": float(interval.value), "low": float(interval.low), "high": float(interval.high)}


def _differences(model: str, other: str, folds: Sequence[Fold]) -> list[dict[str, Any]]:
    lines = []
    for group in folds[0].groups:
        for metric in METRICS:
            a, b = _pooled(model, metric, group, folds), _pooled(other, metric, group, folds)
            if a is None or b is None or len(a) != len(b) or len(a) == 1 or other == "shuffled images":
                continue
            interval = _interval(a - b)
            if interval is not None:
                lines.append({"of": model, "against": other, "group": group, "metric": metric, **interval})
    return lines


def _arrays(folds: Sequence[Fold]) -> dict[str, Tensor]:
    """The first fold's pictures, with r per voxel averaged over folds."""
    mean: Callable[[str], Tensor] = lambda name: torch.stack([fold.arrays[name] for fold in folds]).mean(0)  # noqa: E731
    return folds[0].arrays | {"r": mean("r")}
