"""Which feature levels each area may see: a hypothesis about the hierarchy, and its controls.

Stages of the cortex are those of :meth:`~cortexflow.data.base.Cortex.chain` (V1, V2, V3, hV4, higher), levels those of the feature
space, in the order in which they were joined: list low-level features first. ``all`` shows every level to every area;
``assigned`` gives low levels to early stages and high levels to late ones; ``shuffled`` gives each stage the levels of another
one (as few keep theirs as can be), so that number and size of the levels stay; ``learned`` shows everything and lets every voxel weigh the levels.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from cortexflow.data.base import Cortex
from cortexflow.errors import CortexflowError

Plan = Literal["all", "assigned", "shuffled", "learned"]
Band = tuple[Bool[Tensor, " voxels"], Bool[Tensor, " features"]]


def assign(plan: Plan, levels: Sequence[str], stages: Sequence[str], seed: int = 0) -> dict[str, list[str]] | None:
    """The levels that each stage may see; None where all see all.

    Arguments:
        plan: The name of the plan.
        levels: From low to high.
        stages: From early to late.
        seed: Of the shuffle.

    Raises:
        CortexflowError: A single stage or level, which nothing can be assigned to.

    Example:
        >>> assign("assigned", ["edges", "parts", "objects"], ["V1", "hV4", "higher"])
        {'V1': ['edges'], 'hV4': ['parts'], 'higher': ['objects']}
    """
    if plan in ("all", "learned"):
        return None
    if min(len(levels), len(stages)) < 2:
        have = f"features have the levels {', '.join(levels)} and the cortex the stages {', '.join(stages) or 'none'}"
        raise CortexflowError(f"levels={plan} needs two of each: {have}; add features, or use levels=all")
    shares = [_share(levels, place, len(stages)) for place in range(len(stages))]
    return dict(zip(stages, shares if plan == "assigned" else _shuffled(shares, seed), strict=True))


def bands(sees: Mapping[str, Sequence[str]] | None, levels: Mapping[str, int], cortex: Cortex | None, voxels: int) -> list[Band]:
    """Voxels that may see the same features, with these features.

    Arguments:
        sees: Levels by area or stage; an extractor's name stands for all of its levels. Where areas overlap the first counts,
            and voxels of none of them see everything.
        levels: Level names and their sizes.
        cortex: Areas of the voxels.
        voxels: How many there are.

    Raises:
        CortexflowError: An area or level that does not exist, an area that would see nothing, or areas without a cortex.
    """
    every = torch.ones(sum(levels.values()), dtype=torch.bool)
    if sees is None:
        return [(torch.ones(voxels, dtype=torch.bool), every)]
    if cortex is None:
        raise CortexflowError("levels by area need the areas of the voxels; give the encoder a cortex")
    left, found = torch.ones(voxels, dtype=torch.bool), []
    for area, names in sees.items():
        mask = _area(cortex, area) & left
        left &= ~mask
        found.append((mask, _columns(area, names, levels)))
    return [band for band in _joined([*found, (left, every)]) if band[0].any()]


def _share(levels: Sequence[str], place: int, places: int) -> list[str]:
    """The levels that lie at a place between the first and the last; every level has one, and neighbours may share one."""
    first, last = place * len(levels) // places, -(-(place + 1) * len(levels) // places)
    return list(levels[first:last])


def _shuffled(shares: Sequence[list[str]], seed: int) -> list[list[str]]:
    """An order in which as few stages as can be keep their levels: none, or some where one share is that of most stages."""
    generator = torch.Generator().manual_seed(seed)
    orders = [[shares[place] for place in torch.randperm(len(shares), generator=generator).tolist()] for _ in range(200)]
    return min(orders, key=lambda order: sum(new == old for new, old in zip(order, shares, strict=True)))


def _area(cortex: Cortex, name: str) -> Bool[Tensor, " voxels"]:
    chain = cortex.chain()
    if name not in cortex.areas and name not in chain:
        raise CortexflowError(f"{cortex.subject} has no area {name!r}; choose from {', '.join(dict.fromkeys([*cortex.areas, *chain]))}")
    return cortex.areas[name] if name in cortex.areas else chain[name]


def _columns(area: str, names: Sequence[str], levels: Mapping[str, int]) -> Bool[Tensor, " features"]:
    unknown = [name for name in names if not any(_of(level, name) for level in levels)]
    if unknown or not names:
        what = f"sees level {unknown[0]!r}, which does not exist" if unknown else "sees no level"
        raise CortexflowError(f"{area} {what}; levels are {', '.join(levels)}")
    shown = torch.tensor([any(_of(level, name) for name in names) for level in levels])
    return shown.repeat_interleave(torch.tensor(list(levels.values())))


def _of(level: str, name: str) -> bool:
    return level == name or level.startswith(f"{name}.")


def _joined(found: Sequence[Band]) -> list[Band]:
    """Bands of equal features as one, so that what they share is fitted once."""
    joined: list[Band] = []
    for voxels, columns in found:
        same = next((place for place, (_, other) in enumerate(joined) if torch.equal(other, columns)), None)
        if same is None:
            joined.append((voxels, columns))
        else:
            joined[same] = (joined[same][0] | voxels, columns)
    return joined
