"""What a constant scores: the training-mean pattern, blind to the picture, under published protocols and under an honest one.

    python examples/constant_pattern.py --out DIR

Three simulated studies of three subjects each (seeds from --seed on), under a minute. In the folder: constant_pattern.json with
every number, constant_pattern.png with the figure of docs/constant_pattern.md.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cortexflow.data.base import Trials
from cortexflow.data.simulated import Simulated
from cortexflow.data.standardize import average_repeats, zscore_sessions
from cortexflow.encoding.ridge import RidgeEncoder
from cortexflow.errors import CortexflowError
from cortexflow.experiments.base import Estimate, estimate
from cortexflow.features.cache import FeatureCache
from cortexflow.features.gabor import Gabor
from cortexflow.features.space import FeatureSpace
from cortexflow.features.table import FeatureTable
from cortexflow.metrics.intervals import resampling_weights, weighted_correlation
from cortexflow.metrics.nulls import training_mean_pattern
from cortexflow.metrics.patternwise import pattern_correlation, single_trial_patterns
from cortexflow.metrics.voxelwise import median_over_voxels
from cortexflow.report.canvas import INK, KINDS, new_figure, styled
from cortexflow.storage import replacing, save_json

SEEDS, DRAWS = 3, 1000
STUDY = {"images": 400, "held_out": 100, "voxels": 240, "image_size": 32}
SYNBRAIN_UNIT = 300 / 2000  # their responses are int16, 300 per percent signal change, divided by 2000
ROWS = ("constant", "ridge", "true mean")

# Natural Scenes Dataset. Constant: computed from the per-voxel training means and deviations in SynBrain's repository, the noise
# taken as independent. Model: as printed in the paper (Mai et al., 2025).
PUBLISHED = {
    "1": {"constant": (0.0794, 0.697), "SynBrain": (0.079, 0.715)},
    "2": {"constant": (0.1385, 0.640), "SynBrain": (0.134, 0.667)},
    "5": {"constant": (0.1901, 0.709), "SynBrain": (0.190, 0.739)},
    "7": {"constant": (0.1341, 0.645), "SynBrain": (0.151, 0.626)},
}
PROTOCOLS = {
    "r across voxels": "single trials, not z-scored, r across voxels (as SynBrain)",
    "MSE": "single trials, not z-scored, mean squared error (as SynBrain)",
    "r across voxels, z-scored": "repeats averaged, z-scored, r across voxels (as MindSimulator)",
    "r per voxel": "repeats averaged, z-scored, r per voxel across pictures, median",
}


def one_study(seed: int) -> dict[tuple[str, str], Tensor]:
    """Every score by protocol and row: subjects × (the estimate, then its bootstrap draws over pictures)."""
    study = Simulated(Simulated.Config(**STUDY, seed=seed))
    held, every = study.held_out(), torch.arange(study.config.images)
    space = FeatureSpace([Gabor()], FeatureSpace.Config(components=100))
    levels = space.read(FeatureCache(None), study, every)
    space.fit({name: values[~torch.isin(every, held)] for name, values in levels.items()})  # statistics of training pictures
    table = FeatureTable(every, space(levels))
    weights = resampling_weights(len(held), DRAWS, torch.Generator().manual_seed(seed))  # the same pictures for all subjects
    found = [one_subject(study, subject, table, weights) for subject in study.subjects]
    return {name: torch.stack([one[name] for one in found]) for name in found[0]}


def one_subject(study: Simulated, subject: str, table: FeatureTable, weights: Tensor) -> dict[tuple[str, str], Tensor]:
    """Scores of the constant, of ridge, and of the true expected response, which is the best there is."""
    trials = study.trials(subject)
    raw = replace(trials, responses=trials.responses * SYNBRAIN_UNIT, units="SynBrain's")
    truth = study.signal(subject, study.held_out())
    return published(raw, truth * SYNBRAIN_UNIT, table, weights) | honest(trials, truth, table, weights)


def published(trials: Trials, truth: Tensor, table: FeatureTable, weights: Tensor) -> dict[tuple[str, str], Tensor]:
    """Each test picture against each of its single trials; the mean over all."""
    training, test = split(trials, len(truth))
    found = {}
    for row, predicted in predictions(training, truth, table).items():
        scores = single_trial_patterns(predicted, test.responses, test.stimuli)
        found["r across voxels", row] = over_trials(scores.r, test, weights)
        found["MSE", row] = over_trials(scores.error, test, weights)
    return found


def honest(trials: Trials, truth: Tensor, table: FeatureTable, weights: Tensor) -> dict[tuple[str, str], Tensor]:
    """Z-scored within session with statistics of training trials, repeats averaged: across pictures, and across voxels."""
    images = len(truth)
    scored = zscore_sessions(trials, trials.stimuli >= images)
    deviation = split(trials, images)[0].responses.std(0)
    training, test = split(scored, images)
    measured = average_repeats(test).responses
    # a z-scored response has a training mean of zero: of a truth in percent, what exceeds the voxel's mean, in its deviations
    relative = (truth - split(trials, images)[0].responses.mean(0)) / deviation
    found = {}
    for row, predicted in (predictions(training, relative, table) | {"constant": torch.zeros_like(measured)}).items():
        found["r per voxel", row] = median_over_voxels(weighted_correlation(predicted, measured, weights)).double()
        r = pattern_correlation(predicted, measured).double()
        found["r across voxels, z-scored", row] = weights @ r / weights.sum(1)
    return found


def split(trials: Trials, held_out: int) -> tuple[Trials, Trials]:
    """Training and test trials; the first pictures are the held-out ones."""
    return trials.where(trials.stimuli >= held_out), trials.where(trials.stimuli < held_out)


def predictions(training: Trials, truth: Tensor, table: FeatureTable) -> dict[str, Tensor]:
    """One row per test picture."""
    features = table[training.stimuli]
    ridge = RidgeEncoder(features.shape[1], training.voxels, RidgeEncoder.Config(noise="diagonal"))
    ridge.solve(features, training.responses, training.groups)
    constant = training_mean_pattern(training.responses, len(truth))
    return {"constant": constant, "ridge": ridge.predict(table[torch.arange(len(truth))]), "true mean": truth}


def over_trials(values: Tensor, test: Trials, weights: Tensor) -> Tensor:
    """The mean over trials, in the estimate and in every draw of pictures."""
    drawn = weights[:, test.stimuli]
    return drawn @ values.double() / drawn.sum(1)


@styled
def draw(estimates: dict[tuple[str, str], Estimate]) -> Figure:
    """What was published beside its constant, then the same and the honest protocol where the truth is known."""
    figure = new_figure(8.6, 2.9, wspace=0.06)
    real, same, across = figure.subplots(1, 3, sharey=True, width_ratios=(1.4, 1, 1))
    for place, rows in enumerate(PUBLISHED.values()):
        for side, row, kind in ((-0.2, "constant", "null"), (0.2, "SynBrain", "model")):
            real.bar(place + side, rows[row][1], 0.36, color=KINDS[kind], label=row if place == 0 else None)
            real.text(place + side, rows[row][1] + 0.012, short(rows[row][1], 3), ha="center", fontsize=6.5)
    real.set_xticks(range(len(PUBLISHED)), [f"subject {name}" for name in PUBLISHED])
    real.legend(loc="upper right", ncols=2)
    real.set_title("Published, Natural Scenes Dataset:\nsingle trials, across voxels")
    real.set_ylabel("correlation")
    real.set_ylim(0, 0.9)
    bars(same, "Simulated: single trials,\nacross voxels", {row: estimates["r across voxels", row] for row in ROWS})
    bars(across, "Simulated: each voxel,\nacross pictures", {row: estimates["r per voxel", row] for row in ROWS})
    return figure


def bars(axes: Axes, title: str, rows: dict[str, Estimate]) -> None:
    """One bar per row with its interval, and a dot for each seed."""
    looks = ({"color": KINDS["null"]}, {"color": KINDS["reference"]}, {"facecolor": "white", "edgecolor": INK, "linewidth": 0.8})
    for place, (one, look) in enumerate(zip(rows.values(), looks, strict=True)):
        axes.bar(place, one.value, 0.6, **look)
        axes.vlines(place, one.low, one.high, color=INK, linewidth=1.2)
        axes.plot([place + 0.16] * len(one.each), [value for value, _, _ in one.each], ".", color=INK, markersize=3)
        axes.text(place, one.high + 0.012, short(one.value, 2), ha="center", fontsize=8)
    axes.set_xticks(range(len(rows)), list(rows))
    axes.set_title(title)


def short(value: float, digits: int) -> str:
    """As the field writes correlations: .645."""
    return f"{value:.{digits}f}".lstrip("0") if value else "0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="the first of three seeds")
    parser.add_argument("--out", type=Path, default=Path("runs/constant_pattern"), help="the folder for the figure and the numbers")
    choices = parser.parse_args()
    torch.set_num_threads(1)
    studies = [one_study(seed) for seed in range(choices.seed, choices.seed + SEEDS)]
    estimates = {name: estimate(", ".join(name), [one[name] for one in studies]) for name in studies[0]}
    for protocol, words in PROTOCOLS.items():
        print(words)
        for row in ROWS:
            one, single = estimates[protocol, row], torch.cat([study[protocol, row][:, 0] for study in studies])
            print(f"  {row:16s} {one.value:7.4f}  [{one.low:.4f}, {one.high:.4f}]  subjects {single.min():.4f} to {single.max():.4f}")
        paired = estimate("", [one[protocol, "ridge"] - one[protocol, "constant"] for one in studies])
        print(f"  ridge - constant {paired.value:7.4f}  [{paired.low:.4f}, {paired.high:.4f}]")
    content = {", ".join(name): {"value": one.value, "low": one.low, "high": one.high, "seeds": one.each} for name, one in estimates.items()}
    save_json(choices.out / "constant_pattern.json", {"seeds": [choices.seed, choices.seed + SEEDS - 1], "over": one.over, "scores": content})
    with replacing(choices.out / "constant_pattern.png") as temporary:
        draw(estimates).savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    print(f"{choices.out / 'constant_pattern.png'}")


if __name__ == "__main__":
    try:
        main()
    except CortexflowError as error:
        sys.exit(str(error))
