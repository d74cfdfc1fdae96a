"""Time, memory and agreement of our ridge with himalaya and scikit-learn; each contender runs alone in a process of its own.

    python benchmarks/ridge.py                # about five minutes on two cores
    python benchmarks/ridge.py --scale small  # a smoke run

Every process makes the same data from a seed. "data" only makes them: its memory is what the others start from. Seconds are
those of the fit, memory is the peak of the whole process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import torch

from cortexflow.nn.least_squares import DualRidge, fold_of, ridge_cv

SIZES = {
    "full": {"trials": 4000, "features": 1500, "targets": 15000},
    "small": {"trials": 400, "features": 150, "targets": 500},
}
DUAL = {
    "full": {"trials": 8859, "features": 15724, "targets": 15000, "test": 982},
    "small": {"trials": 300, "features": 800, "targets": 500, "test": 50},
}
PENALTIES = np.logspace(0, 5, 10).astype(np.float32)


def study(trials, features, targets):
    """Pictures shown twice, features whose variance falls as a power law, targets from all signal to all noise."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(trials) // 2
    x = torch.randn((trials + 1) // 2, features, generator=generator).mul_(torch.arange(1, features + 1) ** -0.5)[groups]
    y = x @ torch.randn(features, targets, generator=generator)
    noise = torch.linspace(0.3, 20, targets)
    for rows in y.split(500):
        rows += torch.randn(rows.shape, generator=generator) * noise
    return x, y, groups


def data(x, y, groups):
    return PENALTIES[:1]


def cortexflow(x, y, groups):
    return ridge_cv(x, y, groups, PENALTIES.tolist()).penalties.numpy()


def himalaya(x, y, groups, backend):
    from himalaya.backend import set_backend
    from himalaya.ridge import RidgeCV
    from sklearn.model_selection import PredefinedSplit

    set_backend(backend)
    if backend == "numpy":
        x, y = x.numpy(), y.numpy()
    model = RidgeCV(alphas=PENALTIES, fit_intercept=True, cv=PredefinedSplit(fold_of(groups, 5).numpy())).fit(x, y)
    return np.asarray(model.best_alphas_)


def scikit_learn(x, y, groups):
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=PENALTIES, alpha_per_target=True).fit(x.numpy(), y.numpy()).alpha_


CONTENDERS = {
    "data": data,
    "cortexflow": cortexflow,
    "himalaya numpy": lambda *study: himalaya(*study, "numpy"),
    "himalaya torch": lambda *study: himalaya(*study, "torch"),
    "scikit-learn": scikit_learn,  # leaves one trial out, so that its penalties differ
}


def dual(trials, features, targets, test):
    """The decoder's size: more outputs than weights could be stored for, read from a memory-mapped file."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(trials + test, features, generator=generator)
    with tempfile.NamedTemporaryFile() as file:
        y = np.memmap(file.name, dtype=np.float32, mode="w+", shape=(trials, targets))
        directions = torch.randn(features, 20, generator=generator) / features**0.5
        latent, loadings = x[:trials] @ directions, torch.randn(20, targets, generator=generator)
        for start in range(0, trials, 500):
            rows = latent[start : start + 500] @ loadings
            y[start : start + 500] = rows + torch.randn(rows.shape, generator=generator)
        start = time.perf_counter(), time.process_time()
        model = DualRidge.fit(x[:trials], torch.from_numpy(y), penalty=5e4)
        fitted = time.perf_counter()
        predicted = model.predict(x[trials:])
        report = {"wall": time.perf_counter() - start[0], "fit": fitted - start[0], "cpu": time.process_time() - start[1]}
        report["memory"] = peak()
        some = slice(0, 16)
        explicit = (x[trials:] - model.mean) @ model.weights(some) + torch.from_numpy(y[:, some]).mean(0)
        return report | {"difference": float((explicit - predicted[:, some]).abs().max() / predicted.std())}


def peak():
    """Gigabytes that the process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def run(name, scale, folder):
    """What a child process does: one contender, its report as the last line."""
    warnings.simplefilter("ignore")
    if name == "dual":
        report = dual(**DUAL[scale])
    else:
        CONTENDERS[name](*study(100, 10, 5))  # imports and threads are no part of the fit
        parts = study(**SIZES[scale])
        start = time.perf_counter(), time.process_time()
        chosen = CONTENDERS[name](*parts)
        report = {"wall": time.perf_counter() - start[0], "cpu": time.process_time() - start[1], "memory": peak()}
        np.save(Path(folder) / f"{name}.npy", chosen)
    print(json.dumps(report))


def child(name, scale, folder):
    command = [sys.executable, __file__, "--run", name, "--scale", scale, "--folder", str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main(scale):
    print(f"ridge_cv, {SIZES[scale]}, {len(PENALTIES)} penalties, 5 folds of pictures, {torch.get_num_threads()} threads, {date.today()}")
    with tempfile.TemporaryDirectory() as folder:
        reports = {name: child(name, scale, folder) for name in CONTENDERS}
        chosen = {name: np.load(Path(folder) / f"{name}.npy") for name in CONTENDERS}
    ours = reports["cortexflow"]
    print(f"{'':16}{'wall s':>9}{'cpu s':>9}{'peak GB':>9}{'wall ratio':>12}{'memory ratio':>14}{'same penalty':>14}")
    for name, report in reports.items():
        line = f"{name:16}{report['wall']:9.1f}{report['cpu']:9.1f}{report['memory']:9.2f}"
        if name != "data":
            same = np.isclose(chosen[name], chosen["cortexflow"], rtol=1e-3).mean()
            line += f"{report['wall'] / ours['wall']:12.2f}{report['memory'] / ours['memory']:14.2f}{same:14.2%}"
        print(line)
    report = child("dual", scale, "")
    print(f"DualRidge, {DUAL[scale]}")
    print(f"wall {report['wall']:.1f} s (fit {report['fit']:.1f}), cpu {report['cpu']:.1f} s, peak {report['memory']:.2f} GB, ", end="")
    print(f"predictions differ from those of explicit weights by {report['difference']:.1e} standard deviations")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SIZES, default="full")
    parser.add_argument("--run", choices=[*CONTENDERS, "dual"], help="one contender, in this process")
    parser.add_argument("--folder", default=".", help="where --run leaves the penalties it chose")
    options = parser.parse_args()
    if options.run:
        run(options.run, options.scale, options.folder)
    else:
        main(options.scale)
