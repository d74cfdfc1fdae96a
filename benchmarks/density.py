"""Seconds per trial of ``log_prob`` and ``sample`` at the size of a subject of the Natural Scenes Dataset (15,724 voxels).

The named alternative is ``torch.distributions.LowRankMultivariateNormal`` with the same loadings, in the same run.
"""

import argparse
import time
from collections.abc import Callable

import torch

from cortexflow.nn.noise import FactorNoise, RadialFactorNoise, make_noise


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """The median of some calls after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return sorted(times)[repeats // 2]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--voxels", type=int, default=15_724)
    arguments.add_argument("--factors", type=int, default=64)
    arguments.add_argument("--trials", type=int, default=256)
    choices = arguments.parse_args()
    torch.manual_seed(0)
    loadings, uniquenesses = torch.randn(choices.voxels, choices.factors) / choices.factors**0.5, torch.rand(choices.voxels) + 0.5
    noises = {kind: make_noise(kind, choices.voxels, choices.factors) for kind in ("diagonal", "factors", "factors+radius")}
    for noise in noises.values():  # speed does not depend on the values: they are set, not fitted
        if isinstance(noise, FactorNoise):
            noise.loadings, noise.uniquenesses = loadings, uniquenesses
        if isinstance(noise, RadialFactorNoise):
            noise.basis, noise.spread = torch.linalg.qr(loadings / uniquenesses.sqrt()[:, None])[0], torch.ones(choices.factors)
    radial = noises["factors+radius"]
    assert isinstance(radial, RadialFactorNoise)
    other = torch.distributions.LowRankMultivariateNormal(torch.zeros(choices.voxels), radial.loadings, radial.uniquenesses)
    trials = radial.sample(choices.trials)
    print(f"{choices.voxels} voxels, {choices.factors} factors, batches of {choices.trials} trials, {torch.get_num_threads()} threads, ms per trial")
    rows = {name: (lambda noise=noise: noise.log_prob(trials), lambda noise=noise: noise.sample(choices.trials)) for name, noise in noises.items()}
    rows["torch LowRankMultivariateNormal"] = (lambda: other.log_prob(trials), lambda: other.sample((choices.trials,)))
    for name, (density, draw) in rows.items():
        print(f"{name:34} log_prob {1000 * seconds(density) / choices.trials:.4f}   sample {1000 * seconds(draw) / choices.trials:.4f}")
    exact = other.log_prob(trials[:8].double() if other.loc.dtype == torch.float64 else trials[:8])
    difference = (noises["factors"].log_prob(trials[:8]) - exact).abs().max() / exact.abs().max()
    print(f"factors against torch: relative difference of log_prob {float(difference):.1e}")


if __name__ == "__main__":
    main()
