"""Which of eight categories was shown? Decoded from one slice of ventral temporal cortex, one run left out at a time.

    python examples/haxby2001.py --data DIR     # DIR holds haxby2001/; CORTEXFLOW_DATA by default

Two linear decoders: logistic regression, as in the study's known figures, and ridge to the categories, whose penalty is chosen
within the training runs. Ridge is fitted at once to many shuffles of the labels within their runs, in which nothing can be
decoded: what they reach is what chance reaches here.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import one_hot

from cortexflow.data.base import Trials
from cortexflow.data.haxby2001 import Haxby2001
from cortexflow.errors import CortexflowError
from cortexflow.nn.least_squares import ridge_cv

PENALTIES = [1.0, 10.0, 100.0, 1000.0, 10000.0]


def shuffled_within_runs(labels, runs, shuffles, seed):
    """The labels as they are, then as many shuffles: labellings × trials."""
    random, rows = np.random.default_rng(seed), [labels.numpy()]
    for _ in range(shuffles):
        row = labels.numpy().copy()
        for run in np.unique(runs.numpy()):
            inside = runs.numpy() == run
            row[inside] = random.permutation(row[inside])
        rows.append(row)
    return torch.from_numpy(np.stack(rows))


def decode(trials: Trials, labellings: torch.Tensor) -> torch.Tensor:
    """The decoded category of every trial under every labelling; penalties are chosen for each labelling on its training runs."""
    categories = int(labellings.max()) + 1
    targets = one_hot(labellings, categories).float().transpose(0, 1).flatten(1)  # trials × (labellings · categories)
    pool = torch.arange(len(labellings)).repeat_interleave(categories)
    decoded = torch.empty_like(labellings)
    for run in trials.sessions.unique():
        test = trials.sessions == run
        inner = len(trials.sessions[~test].unique())
        fit = ridge_cv(trials.responses[~test], targets[~test], trials.sessions[~test], PENALTIES, folds=inner, pool=pool)
        scores = fit.predict(trials.responses[test]).reshape(-1, len(labellings), categories)
        decoded[:, test] = scores.argmax(2).T
    return decoded


def logistic(trials: Trials) -> float:
    """Accuracy of logistic regression (scikit-learn, C = 1)."""
    responses, labels, runs = trials.responses.numpy(), trials.stimuli.numpy(), trials.sessions.numpy()
    right = np.empty(len(labels), dtype=bool)
    for run in np.unique(runs):
        model = LogisticRegression(max_iter=1000).fit(responses[runs != run], labels[runs != run])
        right[runs == run] = model.predict(responses[runs == run]) == labels[runs == run]
    return float(right.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("CORTEXFLOW_DATA"), help="the folder that holds haxby2001/")
    parser.add_argument("--resolution", choices=("1slice", "25mm"), default="1slice")
    parser.add_argument("--shuffles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    choices = parser.parse_args()
    study = Haxby2001(Haxby2001.Config(resolution=choices.resolution), choices.data and Path(choices.data) / "haxby2001")
    trials = study.trials("sub001")
    labellings = shuffled_within_runs(trials.stimuli, trials.sessions, choices.shuffles, choices.seed)
    right = decode(trials, labellings) == labellings
    accuracy, chance = float(right[0].float().mean()), right[1:].float().mean(1)
    low, middle, high = chance.quantile(torch.tensor([0.025, 0.5, 0.975])).tolist()
    print(f"{len(trials)} blocks, {trials.voxels} voxels ({choices.resolution}), 12 runs left out in turn, {len(study.conditions)} categories")
    print(f"accuracy, ridge                  {accuracy:.3f}")
    print(f"accuracy, logistic regression    {logistic(trials):.3f}")
    print(f"chance                           {1 / len(study.conditions):.3f}")
    print(f"{choices.shuffles} shuffles within runs, ridge   mean {chance.mean():.3f}, median {middle:.3f}, 95 % [{low:.3f}, {high:.3f}]", end="")
    print(f", highest {chance.max():.3f}")
    print(f"p = {(1 + int((chance >= accuracy).sum())) / (1 + choices.shuffles):.4f} (shuffles that reach the accuracy, ridge)")
    for category, name in enumerate(study.conditions):
        print(f"  {name:14s} {float(right[0][trials.stimuli == category].float().mean()):.2f}")


if __name__ == "__main__":
    try:
        main()
    except CortexflowError as error:
        sys.exit(str(error))
