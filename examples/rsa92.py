"""Which models arrange 92 objects as human inferior-temporal cortex does? Representational similarity, beside its ceiling.

    python examples/rsa92.py --data DIR     # DIR holds rsa92/; CORTEXFLOW_DATA by default

A score is Spearman's rank correlation of 4,186 pairs of objects between a model and one person (mean of two sessions), then the
mean over four people. The ceiling says between which scores the best possible model lies. Intervals resample the objects, not
the pairs, which share objects; a pair of an object with itself, which resampling makes, is left out.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch

from cortexflow.data.rsa92 import Rsa92
from cortexflow.errors import CortexflowError
from cortexflow.metrics.intervals import percentile_interval, resampled_images
from cortexflow.metrics.representation import compare_rdms, ranks, rsa_noise_ceiling


def pairs(matrix: torch.Tensor) -> torch.Tensor:
    """The upper triangle, in the order (0, 1), (0, 2), …"""
    first, second = torch.triu_indices(matrix.shape[-1], matrix.shape[-1], offset=1)
    return matrix[..., first, second]


def score(model: torch.Tensor, people: torch.Tensor, objects: torch.Tensor | None = None) -> torch.Tensor:
    """Mean over people of the rank correlation with a model, on all objects or on a resampling of them."""
    if objects is None:
        return torch.stack([compare_rdms(pairs(model), pairs(person)) for person in people]).mean()
    different = pairs(objects[:, None] != objects[None])
    model, people = model[objects][:, objects], people[:, objects][:, :, objects]
    return torch.stack([compare_rdms(pairs(model)[different], pairs(person)[different]) for person in people]).mean()


def ceiling_of_ranks(people: torch.Tensor) -> tuple[float, float]:
    """The bounds as the known figures give them."""
    ranked = torch.stack([ranks(person) for person in people])
    others = (ranked.sum(0) - ranked) / (len(ranked) - 1)
    bounds = [[compare_rdms(one, mean, "pearson") for one, mean in zip(ranked, means, strict=True)] for means in (others, [ranked.mean(0)] * 4)]
    return float(torch.stack(bounds[0]).mean()), float(torch.stack(bounds[1]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("CORTEXFLOW_DATA"), help="the folder that holds rsa92/")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    choices = parser.parse_args()
    study = Rsa92(root=choices.data and Path(choices.data) / "rsa92")
    people = torch.stack([study.rdms(subject).mean(0) for subject in study.subjects])
    draws = resampled_images(study.OBJECTS, choices.draws, torch.Generator().manual_seed(choices.seed))
    print("model                 r with people, 95 % over objects, objects shuffled")
    shuffle = torch.randperm(study.OBJECTS, generator=torch.Generator().manual_seed(choices.seed))
    for name, model in sorted(study.models().items(), key=lambda entry: -score(entry[1], people)):
        interval = percentile_interval(score(model, people), torch.stack([score(model, people, objects) for objects in draws]))
        chance = score(model[shuffle][:, shuffle], people)
        print(f"{name:21s} {interval.value:6.3f}  [{interval.low:.3f}, {interval.high:.3f}]  {chance:6.3f}")
    low, high = ceiling_of_ranks(pairs(people))
    print(f"noise ceiling: a person's ranks with the mean ranks of the others, and of all, Pearson   {low:.3f} to {high:.3f}")
    ceiling = rsa_noise_ceiling(pairs(people))
    print(f"the same with the mean ranks ranked again, as the scores are   {ceiling.lower.mean():.3f} to {ceiling.upper.mean():.3f}")
    print(f"macaque IT with the mean of the people   {compare_rdms(pairs(study.macaque()), pairs(study.human())):.3f}")
    judged = study.judgements().mean(0)
    print(f"people's judgements with the mean of the people   {compare_rdms(pairs(judged), pairs(study.human())):.3f}")
    eight = torch.stack([matrix for subject in study.subjects for matrix in study.rdms(subject)]).mean(0)
    print(f"mean of the eight single matrices with the published mean of the people, Pearson   {published_agreement(study, eight)}")


def published_agreement(study: Rsa92, eight: torch.Tensor) -> str:
    """Against the vector that was published elsewhere, where it is in the folder."""
    path = study.place / "it_rdm_vectors.npz"
    if not path.is_file():
        return f"({path.name} is not there)"
    published = torch.from_numpy(np.load(path)["hITvisStim_316vx"]).float()
    return f"{compare_rdms(pairs(eight), published, 'pearson'):.3f}"


if __name__ == "__main__":
    try:
        main()
    except CortexflowError as error:
        sys.exit(str(error))
