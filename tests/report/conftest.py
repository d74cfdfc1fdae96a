"""An evaluated run that never took place: a cortex of four areas on two flat hemispheres, a model that knows most of its signal."""

import json

import pytest
import torch

from cortexflow.data.base import Cortex
from cortexflow.storage import save_json, save_tensors

IMAGES, REPEATS, VOXELS, SHOWN = 100, 3, 600, 4
NAMES = ("V1", "V2", "V4", "IT")
WHOLE = ("bits", "covariance_r", "two_way", "top_one")  # metrics of all voxels together


@pytest.fixture(scope="session")
def cortex():
    return make_cortex()


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory, cortex):
    """A run folder that no test may change."""
    return make_run(tmp_path_factory.mktemp("whole") / "run", cortex)


@pytest.fixture
def metrics():
    return make_metrics()


@pytest.fixture
def run_folder(tmp_path, cortex):
    return make_run(tmp_path / "run", cortex)


def make_cortex():
    """Each hemisphere is a fan from V1 outwards to IT, 300 voxels on a jittered lattice."""
    random = torch.Generator().manual_seed(1)
    steps, turns = torch.meshgrid(torch.arange(15.0), torch.linspace(-0.75, 0.75, 20), indexing="ij")
    radius, angle = 12 + 3 * steps.flatten(), turns.flatten()
    side = torch.stack([radius * angle.cos(), 0.9 * radius * angle.sin()], 1) + 0.35 * torch.randn(300, 2, generator=random)
    flat = torch.cat([side * torch.tensor([-1.0, 1.0]) - torch.tensor([4.0, 0]), side + torch.tensor([4.0, 0])])
    step = steps.flatten().repeat(2)
    masks = [(step < 4), (step >= 4) & (step < 7), (step >= 7) & (step < 10), (step >= 10) & (step < 14)]
    depth = 8 * torch.sin(flat[:, :1] / 9)
    return Cortex("subj01", VOXELS, dict(zip(NAMES, masks, strict=True)), torch.cat([flat, depth], 1), flat)


def make_tensors(cortex):
    """Signal and noise with known shares: the model predicts 80 % of the signal, the noise has one factor per area."""
    random = torch.Generator().manual_seed(2)

    def draw(*shape):
        return torch.randn(*shape, generator=random)

    smooth = torch.exp(-(torch.cdist(cortex.flat, cortex.flat) ** 2) / 60)
    patches = (smooth / smooth.sum(1, keepdim=True)) @ draw(VOXELS)
    strength = (0.7 + 0.8 * patches + 0.2 * torch.rand(VOXELS, generator=random)).clamp(min=0.1) * (1.1 - 0.02 * cortex.flat.norm(dim=1)).clamp(
        min=0.1
    )
    weights = draw(40, VOXELS) @ smooth
    weights = weights / weights.norm(dim=0)
    known, unknown = draw(IMAGES, 40) @ weights, draw(IMAGES, 40) @ weights
    signal, predicted = strength * (0.8**0.5 * known + 0.2**0.5 * unknown), strength * 0.8**0.5 * known
    factors = torch.stack([mask.float() for mask in cortex.areas.values()]) + 0.25
    loadings = draw(6, VOXELS) @ smooth / 6

    def noise(*shape):
        return 0.75 * draw(*shape, VOXELS) + 0.35 * draw(*shape, 4) @ factors + draw(*shape, 6) @ loadings

    trials = signal[:, None] + noise(IMAGES, REPEATS)
    samples = predicted[:, None] + noise(IMAGES, 8)
    measured = trials.mean(1)
    inside = torch.stack([*cortex.areas.values(), torch.ones(VOXELS, dtype=torch.bool)]).float()
    order = torch.argsort(inside.argmax(0), stable=True)[::2]
    pictures = torch.nn.functional.interpolate(draw(SHOWN, 3, 6, 6), size=(64, 64), mode="bicubic")
    ranks = (samples < trials[:, :1]).sum(1)
    return {
        "stimuli": torch.arange(IMAGES) + 2950,
        "measured": measured,
        "predicted": predicted,
        "r": pearson(predicted, measured),
        "ceiling_r": pearson(signal, measured).clamp(min=0),
        "covariance.measured": torch.corrcoef((trials - trials.mean(1, keepdim=True)).reshape(-1, VOXELS)[:, order].T),
        "covariance.synthetic": torch.corrcoef((samples - predicted[:, None]).reshape(-1, VOXELS)[:, order].T),
        "covariance.voxels": order,
        "patterns.measured": trials[:SHOWN].clone(),
        "patterns.sampled": samples[:SHOWN, :3].clone(),
        "patterns.predicted": predicted[:SHOWN].clone(),
        "patterns.stimuli": torch.arange(SHOWN) + 2950,
        "patterns.images": ((pictures * 60) + 128).clamp(0, 255).to(torch.uint8),
        "calibration.pit": torch.bincount(ranks.flatten(), minlength=9).float(),
        "calibration.levels": torch.linspace(0.1, 0.9, 9),
        "calibration.coverage": torch.linspace(0.1, 0.9, 9) ** 1.15,
        "by_samples.counts": torch.tensor([1, 2, 4, 8]),
        "by_samples.r": torch.stack([pearson(samples[:, :n].mean(1), measured).nanmedian() for n in (1, 2, 4, 8)]),
    }


def make_metrics():
    kinds = {
        "ridge (factors+radius)": "model",
        "ridge": "reference",
        "ridge + factor analysis": "reference",
        "training-mean pattern": "null",
        "shuffled images": "null",
        "repeat against repeats": "ceiling",
    }
    about = {
        "r": ("r per voxel across images, median", "r", "higher", 3, (0.41, 0.40, 0.41, 0.0, 0.002, 0.52)),
        "share": ("r² / noise ceiling, median", "share of ceiling", "higher", 3, (0.71, 0.69, 0.71, 0.0, 0.001, None)),
        "mse": ("mean squared error of the repeat average", "MSE", "lower", 3, (0.62, 0.63, 0.62, 0.98, 1.32, 0.55)),
        "bits": ("bits per voxel of single trials", "bits/voxel", "lower", 3, (1.393, 1.977, 1.585, 2.11, None, None)),
        "variance_ratio": ("sample variance / variance across repeats", "variance ratio", "one", 2, (0.99, 1.12, 1.13, None, None, 1.0)),
        "covariance_r": ("agreement of residual correlations", "covariance r", "higher", 2, (0.97, 0.0, 0.97, None, None, None)),
        "two_way": ("two-way identification (chance .5)", "two-way", "higher", 3, (0.981, 0.979, 0.981, 0.5, 0.498, 0.99)),
        "top_one": ("top-1 from one trial, by correlation", "top-1, r", "higher", 2, (0.72, 0.71, 0.72, 0.01, 0.012, 0.8)),
    }
    voxels = {"all": 600, "reliable voxels": 420, "V1": 160, "V2": 120, "V4": 120, "IT": 160}
    drop = {"all": 0.9, "reliable voxels": 1.0, "V1": 1.05, "V2": 1.0, "V4": 0.93, "IT": 0.7}
    rows = [
        {
            "row": row,
            "kind": kind,
            "group": group,
            "scores": {
                name: _score(values[place], drop[group], digits)
                for name, (*_, digits, values) in about.items()
                if group == "all" or name not in WHOLE
            },
        }
        for group in voxels
        for place, (row, kind) in enumerate(kinds.items())
    ]
    model = "ridge (factors+radius)"
    gains = {"ridge": 0.01, "ridge + factor analysis": 0.0, "training-mean pattern": 0.41}
    differences = [
        {"of": model, "against": against, "group": group, "metric": "r", "value": gain, "low": gain - 0.011, "high": gain + 0.011}
        for group in voxels
        for against, gain in gains.items()
    ]
    return {
        "title": "Ridge with factors and radius on a simulated cortex",
        "study": "simulated",
        "subject": "subj01",
        "model": "ridge",
        "units": "z-scored within session",
        "notes": ["Responses are z-scored within session, with the training trials' statistics.", "Test repeats are averaged, except for trials."],
        "warnings": ["The noise ceiling of 12 voxels is below .05; they are not among the reliable voxels."],
        "counts": {"test images": 100, "test trials": 300, "training images": 1000, "voxels": 600},
        "groups": voxels,
        "metrics": {
            name: {"title": title, "short": short, "better": better, "digits": digits} for name, (title, short, better, digits, _) in about.items()
        },
        "rows": rows,
        "differences": differences,
        "interval": {"level": 0.95, "draws": 1000, "over": "images"},
    }


def make_run(folder, cortex):
    folder.mkdir(parents=True)
    save_json(folder / "metrics.json", make_metrics())
    save_tensors(folder / "evaluation.safetensors", make_tensors(cortex))
    save_json(
        folder / "run.json", {"encoder": {"name": "ridge", "noise": "factors", "alphas": [1.0, 10.0]}, "data": {"name": "simulated"}, "seed": 0}
    )
    provenance = {"versions": {"cortexflow": "0.1.0", "torch": "2.9.0"}, "git": "756bcc8", "command": ["cortexflow", "train", "--model", "ridge"]}
    save_json(folder / "provenance.json", provenance)
    lines = [{"epoch": n, "training": 1.5 + 0.9 / n, "validation": 1.6 + 0.8 / n + 0.004 * n} for n in range(1, 26)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def pearson(left, right):
    left, right = left - left.mean(0), right - right.mean(0)
    return (left * right).sum(0) / (left.norm(dim=0) * right.norm(dim=0))


def _score(value, drop, digits):
    if value is None:
        return None
    value = value * drop if 0.05 < value < 0.9 else value
    width = 0.02 if digits == 3 else 0.03
    return {"value": value, "low": value - width, "high": value + width}
