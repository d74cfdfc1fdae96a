"""How well what is read of a miniature agrees with what was planted in it: the noise ratio, receptive fields, areas and categories."""

import numpy as np
import scipy.stats
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cortexflow.data.base import Cortex
from cortexflow.data.localiser import masks
from cortexflow.data.nsd import NSD
from cortexflow.data.nsd_layout.label_tables import ECCENTRICITIES, LABELS
from cortexflow.data.nsd_layout.miniature.maps import DOMAINS
from cortexflow.data.nsd_layout.miniature.study import Written
from cortexflow.data.nsd_layout.retinotopy import Fields

LEAST = 5  # voxels that an area must have to be compared


def recovery(study: NSD, truth: Written, subject: str) -> dict[str, float]:
    """Agreement of each part, without the miniature's odd voxels.

    Arguments:
        study: Opened on the miniature's folder, in a space of volumes, with ``nsdgeneral`` as the mask.
        truth: From :func:`cortexflow.data.nsd_layout.miniature.study.write_miniature`.
        subject: Whose.

    Returns:
        Correlations (r), shares of the union that two areas share (IoU), and chances that a voxel of an area has a higher t than one
        outside (AUC); 1 is the best of all.
    """
    used = torch.ones(truth.choices.voxels, dtype=torch.bool)
    used[list(truth.odd(subject).values())] = False
    cortex = study.cortex(subject)
    assert cortex.ncsnr is not None  # miniatures ship it
    numbers = {"ncsnr r": _r(truth.ncsnr(subject)[used], cortex.ncsnr[used])}
    numbers |= _fields(truth.fields(subject), study.prf(subject), cortex)
    return numbers | _categories(truth.preferred(subject), study.floc(subject))


def _fields(planted: Fields, found: Fields, cortex: Cortex) -> dict[str, float]:
    """Places and sizes, and the areas that a person would draw from them: upper and lower halves, and rings."""
    pairs = {name: (getattr(planted, name), getattr(found, name)) for name in ("x", "y", "eccentricity", "size")}
    numbers = {f"{name} r": _r(*pair) for name, pair in pairs.items()}
    halves = [(f"{area}{half}", half) for area in ("V1", "V2", "V3") for half in "vd" if f"{area}{half}" in cortex.areas]
    for name, half in halves:
        whole = cortex.area(f"{name[:-1]}v") | cortex.area(f"{name[:-1]}d")
        numbers[f"{name} IoU"] = _iou(cortex.area(name), whole & ((found.y > 0) == (half == "v")))
    rings = [name for name in LABELS["prf-eccrois"] if name in cortex.areas and cortex.area(name).sum() >= LEAST]
    drawn = torch.stack([cortex.area(name) for name in LABELS["prf-eccrois"] if name in cortex.areas]).any(0)
    band = np.digitize(found.eccentricity.numpy(), ECCENTRICITIES, right=True)
    for name in rings:
        here = torch.from_numpy(band == LABELS["prf-eccrois"].index(name))
        numbers[f"{name} IoU"] = _iou(cortex.area(name), drawn & here)
    return numbers


def _categories(planted: dict[str, Bool[Tensor, " voxels"]], found: dict[str, Float[Tensor, " voxels"]]) -> dict[str, float]:
    numbers = {}
    for group, domain in DOMAINS.items():
        inside, t = planted[group], found[domain]
        statistic = scipy.stats.mannwhitneyu(t[inside].numpy(), t[~inside].numpy()).statistic
        numbers[f"{domain} AUC"] = float(statistic / (int(inside.sum()) * int((~inside).sum())))
        numbers[f"{domain} IoU"] = _iou(inside, masks(found)[domain])
    return numbers


def _r(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def _iou(one: Bool[Tensor, " voxels"], other: Bool[Tensor, " voxels"]) -> float:
    return int((one & other).sum()) / max(1, int((one | other).sum()))
