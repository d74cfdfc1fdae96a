"""Scenes: how fast they are rendered, how far stimuli lie from training pictures, and whether the localiser finds the planted areas.

python benchmarks/scenes.py speed | nearest | localiser | sheet, each with --out DIR for its figure and numbers.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.stats import rankdata

from cortexflow.data.localiser import localise
from cortexflow.data.scenery.compose import CATEGORIES, PARAMETERS, captions, exemplar, render, scene
from cortexflow.data.scenes import Scenes


def speed(out: Path) -> dict[str, float]:
    """Scenes per second of CPU time on one core, deciding and rendering."""
    figures = {}
    for size, count in ((64, 600), (425, 40)):
        render(scene(0, 0), size)
        rates = []
        for part in range(5):
            start = time.process_time()
            for number in range(part * count // 5, (part + 1) * count // 5):
                render(scene(0, number), size)
            rates.append(count / 5 / (time.process_time() - start))
        figures |= {f"{size} px, median": float(np.median(rates)), f"{size} px, slowest fifth": min(rates)}
    start = time.process_time()
    for number in range(200):
        _ = render(scene(0, number), 64).segmentation
    return figures | {"64 px with segmentation": 200 / (time.process_time() - start)}


def nearest(out: Path, test: int = 500, training: int = 10_000) -> dict[str, float]:
    """Each test scene against its nearest of 10,000 training scenes, by pixels and by parameters."""
    stimuli = [scene(0, number) for number in range(test)]
    shown, facts = unit([render(content, 64).image for content in stimuli]), np.stack([content.parameters for content in stimuli])
    best, match, every, known = np.full(test, -1.0), np.zeros(test, dtype=int), [], []
    for start in range(0, training, 500):
        chunk = [scene(0, number, "training") for number in range(start, start + 500)]
        known.append(np.stack([content.parameters for content in chunk]))
        correlation = shown @ unit([render(content, 64).image for content in chunk]).T
        every.append(correlation[:, :5].ravel())
        better = correlation.max(axis=1) > best
        match[better], best[better] = start + correlation.argmax(axis=1)[better], correlation.max(axis=1)[better]
    learned = np.concatenate(known)
    scale = learned.std(axis=0) * np.sqrt(2 * learned.shape[1])
    distances = np.stack([np.linalg.norm((learned - row) / scale, axis=1) for row in facts])
    presence = slice(0, len(CATEGORIES))
    copied = 1 - ((facts - learned[match]) ** 2)[:, presence].sum() / ((facts - learned.mean(axis=0)) ** 2)[:, presence].sum()
    _histogram(out, best, np.concatenate(every), distances)
    same = (facts[:, presence] > 0) == (learned[match][:, presence] > 0)
    return {
        **{f"pixel correlation, {share:.0%}": float(np.quantile(best, share)) for share in (0.05, 0.5, 0.95, 1)},
        "pixel correlation of random pairs, median": float(np.median(np.concatenate(every))),
        **{f"parameter distance, {share:.0%}": float(np.quantile(distances.min(axis=1), share)) for share in (0, 0.05, 0.5, 0.95)},
        "parameter distance of random pairs, median": float(np.median(distances)),
        "R2 of category extents copied from the nearest picture": float(copied),
        "nearest picture has the same categories": float(same.all(axis=1).mean()),
        "parameters": float(len(PARAMETERS)),
    }


def unit(pictures: list[np.ndarray]) -> np.ndarray:
    """Mean 0 and length 1, so that products are correlations."""
    rows = np.stack(pictures).reshape(len(pictures), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _histogram(out: Path, best: np.ndarray, pairs: np.ndarray, distances: np.ndarray) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    bins = np.linspace(-0.5, 1, 61)
    left.hist(pairs, bins, density=True, color="0.75", label="random pairs")
    left.hist(best, bins, density=True, color="C0", alpha=0.8, label="nearest of 10,000")
    left.set(xlabel="pixel correlation", ylabel="density")
    bins = np.linspace(0, np.quantile(distances, 0.999), 61)
    right.hist(distances.ravel(), bins, density=True, color="0.75", label="random pairs")
    right.hist(distances.min(axis=1), bins, density=True, color="C0", alpha=0.8, label="nearest of 10,000")
    right.set(xlabel="distance of parameters (1: independent scenes)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(out / "scenes_nearest.png", dpi=90)


def localiser(out: Path, resamples: int = 500) -> dict[str, list[float]]:
    """AUC of the t map for the planted voxels of each supercategory; 95 % intervals over voxels, 3 subjects."""
    study, rng, figures = Scenes(Scenes.Config(images=200, held_out=50)), np.random.default_rng(0), {}
    for subject in study.subjects:
        blocks = study.localiser(subject)
        maps = localise(blocks.trials.responses, blocks.labels, blocks.trials.sessions)
        for group, planted in study.preferred(subject).items():
            inside, outside = maps[group][planted].numpy(), maps[group][~planted].numpy()
            drawn = [auc(rng.choice(inside, len(inside)), rng.choice(outside, len(outside))) for _ in range(resamples)]
            figures[f"{subject} {group}"] = [auc(inside, outside), *np.quantile(drawn, (0.025, 0.975)).tolist()]
    return figures


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Share of pairs in which the voxel inside has the larger t."""
    ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    return float((ranks.sum() - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside)))


def memory(out: Path) -> dict[str, float]:
    """Peak memory in MB after streaming 1,000 and then 10,000 pictures."""
    study, peaks = Scenes(Scenes.Config(images=10_000, held_out=100)), {}
    for count in (1_000, 10_000):
        for start in range(0, count, 250):
            study.images(torch.arange(start, start + 250))
        peaks[f"{count} pictures"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peaks


def sheet(out: Path) -> dict[str, float]:
    """A contact sheet of all categories with their first captions."""
    figure, rows = plt.subplots(5, 7, figsize=(10.5, 8.6), layout="constrained")
    for category, axes in zip(CATEGORIES, rows.ravel(), strict=True):
        content = exemplar(0, 3, category)
        axes.imshow(render(content, 160).image.transpose(1, 2, 0))
        axes.set_title(captions(content)[0].replace(" in ", "\nin ", 1).replace(" on ", "\non ", 1).replace(" by ", "\nby ", 1), fontsize=6.5)
        axes.axis("off")
    figure.savefig(out / "scenes.png", dpi=72, pil_kwargs={"optimize": True})
    return {"categories": float(len(CATEGORIES))}


PARTS = {"speed": speed, "nearest": nearest, "localiser": localiser, "memory": memory, "sheet": sheet}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, default=Path("runs/scenes"))
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = PARTS[chosen.part](chosen.out)
    (chosen.out / f"{chosen.part}.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))
