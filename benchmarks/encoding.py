"""Every encoder of the catalogue on every family of simulated noise: accuracy, density, variability and calibration.

    python benchmarks/encoding.py --out runs/encoding           # about ten CPU minutes; ends in encoding.md and encoding.json
    python benchmarks/encoding.py --out runs/quick --quick      # a smoke run

What is finished in the folder is not computed again. The family "resampled" needs the recordings that CORTEXFLOW_TEST_DATA
points to (a folder with haxby2001) and is left out, with a line that says so, where there are none.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from cortexflow import catalog
from cortexflow.data.haxby2001 import Haxby2001
from cortexflow.data.simulated import Simulated
from cortexflow.encoding.base import DensityEncoder
from cortexflow.experiments.base import Estimate, estimate, finished, part
from cortexflow.experiments.comparison import Comparison
from cortexflow.metrics.calibration import probability_integral_transform
from cortexflow.metrics.variability import within_stimulus_residuals
from cortexflow.metrics.voxelwise import bits_per_voxel
from cortexflow.nn.noise import Kind
from cortexflow.parallel import run_all
from cortexflow.report.evaluation import LEVELS, METRICS, SAMPLES, HeldOut
from cortexflow.storage import fingerprint, replacing, save_json
from cortexflow.training import Machine, RunConfig, Study, made_of, open_study

FAMILIES = {
    "gaussian": "few factors plus independent noise, nothing else",
    "calibrated": "each trial's noise scaled by a log-normal number (deviation .1), a shared gain on the signal (.1)",
    "rich": "the same with deviations of .35 and .4",
    "image_covariance": "every picture raises some factors and lowers others",
    "student": "the independent noise of every voxel has Student's tails with 5 degrees of freedom",
    "autoregressive": "each trial's noise keeps half of the trial before",
    "area_gain": "a gain per trial and area on the signal (.4)",
    "drift": "three patterns come and go slowly within a session",
    "resampled": "residuals of a recording (Haxby et al., 2001), whole volumes drawn with replacement; training trials whose volume "
    "another training trial or a held-out one also drew are left out, so that fewer than half of them remain",
}
assert set(FAMILIES) == set(get_args(Simulated.Config.model_fields["setting"].annotation))
RECORDED = "resampled"
MATCHED = {"gaussian": "ridge (factors)", "calibrated": "ridge (factors+radius)", "rich": "ridge (factors+radius)"}
RIDGES = {noise: f"ridge ({noise})" for noise in get_args(Kind)}
FLOWS = {  # the flow and what it is without one of its parts
    "flow": {},
    "flow, no couplings": {"couplings": 0},
    "flow, no couplings, no gain": {"couplings": 0, "gain": False},
    "flow, no couplings, not smoothed": {"couplings": 0, "smooth": False},
    "flow, no couplings, one block": {"couplings": 0, "stages": "one"},
}
STEPS = {  # name: what it is against, what is new
    "factors − diagonal": (RIDGES["diagonal"], RIDGES["factors"]),
    "factors+radius − factors": (RIDGES["factors"], RIDGES["factors+radius"]),
}
SHOWN = ("bits", "r", "share", "crps", "energy", "variance_ratio", "covariance_r", "top_one", "top_one_likelihood")
REFERENCES = ("a real repeat", "noise ceiling", "the truth")
COURSE = 14  # volumes from a block's onset to the next one's
NEAR = 0.02  # of coverage
LEAST = {"bits": 0.005, "r": 0.01}  # smaller differences are none, however narrow their interval


@dataclass(frozen=True)
class Size:
    """How much of a family is simulated."""

    images: int = 650
    held_out: int = 150
    repeats: int = 3
    voxels: int = 300
    seeds: int = 3
    draws: int = 1000


QUICK = Size(images=100, held_out=30, voxels=40, seeds=2, draws=50)


def contenders(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Every encoder by its title: ridge with each noise, the null with ridge's best, the flow and its ablations, others as they come."""
    choices: list[dict[str, str]] = []
    for name in sorted(names, key=lambda name: (name != "null", name != "ridge", name)):
        if name == "flow":
            continue
        if name == "ridge":
            choices += [{"name": name, "noise": noise} for noise in RIDGES]
        else:
            choices.append({"name": name, "noise": "factors+radius"} if name == "null" else {"name": name})
    configs = [RunConfig.of({"encoder": choice}) for choice in choices]
    flows = FLOWS if "flow" in names else {}
    return {config.title: config.encoder for config in configs} | {
        title: RunConfig.of({"encoder": {"name": "flow", **choice}}).encoder for title, choice in flows.items()
    }


def record(recordings: Path | None, out: Path) -> str | None:
    """Leave residuals of a recording where the family "resampled" looks for them; the reason where this cannot be."""
    if recordings is None or not (recordings / "haxby2001").is_dir():
        return f"no recording: {recordings / 'haxby2001' if recordings else 'CORTEXFLOW_TEST_DATA'} is not there"
    study = Haxby2001(Haxby2001.Config(form="volumes", lag=0, window=COURSE), recordings / "haxby2001")
    trials = study.trials("sub001")  # detrended and z-scored within each run
    moment = trials.stimuli * COURSE + torch.arange(len(trials)) % COURSE
    with replacing(out / "recordings" / "simulated" / "residuals.npy") as temporary, open(temporary, "wb") as file:
        np.save(file, within_stimulus_residuals(trials.responses, moment).numpy())  # without the mean course of its category
    return None


def places(family: str, seed: int, size: Size, models: Mapping[str, Any], out: Path) -> dict[str, Path]:
    """The file of each model's scores, and of the references."""
    which = {title: fingerprint([asdict(size), encoder]) for title, encoder in models.items()}
    which |= dict.fromkeys(REFERENCES, fingerprint(asdict(size)))
    return {title: out / "parts" / f"{family}-{seed}-{title.replace(' ', '_')}-{key}.safetensors" for title, key in which.items()}


def measure(family: str, seed: int, size: Size, models: Mapping[str, Any], out: Path) -> None:
    """Fit and score every model on one simulated subject, unless that has been done."""
    torch.set_num_threads(1)
    paths = places(family, seed, size, models, out)
    if all(finished(path) for path in paths.values()):
        return
    began = time.process_time()
    comparison = prepare(family, seed, size, Machine(data=out / "recordings", cache=out / "features"))
    for title, encoder in models.items():
        part(paths[title], partial(scored, comparison, encoder))
    part(paths["a real repeat"], lambda: named(comparison.scorer.real_repeat().scores))
    part(paths["noise ceiling"], lambda: named(comparison.scorer.ceiling().scores))
    part(paths["the truth"], lambda: truth(comparison))
    print(f"{family}, seed {seed}: {len(comparison.training.trials)} training trials, {time.process_time() - began:.0f} CPU s", flush=True)


def prepare(family: str, seed: int, size: Size, machine: Machine) -> Comparison:
    choice = {"name": "simulated", "setting": family, "seed": seed}
    choice |= {"images": size.images, "held_out": size.held_out, "repeats": size.repeats, "voxels": size.voxels}
    config = RunConfig.of({"data": choice, "seed": seed})
    study = open_study(config, machine)
    return Comparison.of(config, without_twins(study) if family == RECORDED else study, machine, size.draws)


def without_twins(study: Study) -> Study:
    """Every residual in one training trial at most, and in none where a held-out trial has it.

    A noise could learn it by heart, and twins in different folds would let the number of factors grow.
    """
    dataset, subject = study.dataset, study.training.subject
    assert isinstance(dataset, Simulated)
    trials = dataset.trials(subject)
    noise = trials.responses - dataset.signal(subject, trials.stimuli) - dataset.session_offsets(subject)[trials.sessions - 1]
    held = torch.isin(trials.stimuli, dataset.held_out())
    alike = 1e-3 * noise.norm(dim=1).mean()  # far above rounding, far below the distance of two residuals
    earlier = torch.cdist(noise[~held], noise[~held]).lt(alike).tril(-1).any(1)
    return replace(study, training=study.training.where(~earlier & (torch.cdist(noise[~held], noise[held]) > alike).all(1)))


def truth(comparison: Comparison) -> dict[str, Tensor]:
    """Bits under the true density, of one who knows the signal and the offset of the session; known for "gaussian" only."""
    study, test = comparison.study, comparison.test
    dataset, subject = study.dataset, study.test.subject
    assert isinstance(dataset, Simulated)
    if dataset.config.setting != "gaussian":
        return {}
    raw = dataset.trials(subject).of(dataset.held_out())
    log_prob = dataset.log_prob(subject, raw.stimuli, raw.responses, raw.sessions)
    for session in torch.unique(raw.sessions):
        rows = raw.sessions == session  # z-scoring divided by these deviations, and densities have the inverse unit
        log_prob[rows] += (raw.responses[rows].double().std(0) / study.test.responses[rows].double().std(0)).log().sum()
    return {"score.bits": test.trial_mean(bits_per_voxel(log_prob, raw.voxels))}


def named(scores: Mapping[tuple[str, str], Tensor]) -> dict[str, Tensor]:
    return {f"score.{metric}": draws for (metric, _), draws in scores.items()}


def scored(comparison: Comparison, choice: Mapping[str, Any]) -> dict[str, Tensor]:
    began = time.process_time()
    encoder = comparison.fitted(choice)
    seconds = time.process_time() - began
    row = comparison.scorer.model("model", encoder)
    found = named(row.scores) | {"coverage": row.voxels["coverage"], "pit": row.voxels["pit"], "fit": torch.tensor([seconds])}
    return found | (joint_coverage(encoder, comparison.test, comparison.config.seed) if isinstance(encoder, DensityEncoder) else {})


@torch.no_grad()
def joint_coverage(encoder: DensityEncoder, test: HeldOut, seed: int) -> dict[str, Tensor]:
    """How many trials lie in the region of highest density, over all voxels together, that holds a share of the samples."""
    torch.manual_seed(seed)
    of_samples = torch.stack([encoder.log_prob(test.features, one) for one in encoder.sample(test.features, SAMPLES)])
    of_trials = encoder.log_prob(test.features[test.row], test.trials)
    rank = probability_integral_transform(of_samples[:, test.row, None], of_trials[:, None], torch.Generator().manual_seed(seed))[:, 0]
    return {f"joint.{level}": test.trial_mean((rank >= 1 - level).double()) for level in LEVELS}


def gather(families: Sequence[str], size: Size, models: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """Everything that the tables show, from the parts."""
    found: dict[str, Any] = {}
    for family in families:
        seeds = [{title: part(path, dict) for title, path in places(family, seed, size, models, out).items()} for seed in range(size.seeds)]
        titles = [*models, *(name for name in REFERENCES if any(seed[name] for seed in seeds))]
        found[family] = {
            "scores": {title: scores_of(title, seeds) for title in titles},
            "calibration": {title: calibration_of(title, seeds) for title in models},
            "differences": differences_of(models, seeds),
            "fit": {title: float(np.mean([float(seed[title]["fit"]) for seed in seeds])) for title in models},
        }
    return found


def scores_of(title: str, seeds: Sequence[Mapping[str, Mapping[str, Tensor]]]) -> dict[str, Estimate]:
    """A score without draws over pictures has an interval over seeds alone."""
    found = {}
    for metric in SHOWN:
        draws = [seed[title][f"score.{metric}"] for seed in seeds if f"score.{metric}" in seed[title]]
        if draws and len(draws[0]) > 1:
            found[metric] = estimate(metric, draws)
        elif draws:
            found[metric] = over_seeds(metric, [float(one) for one in draws])
    return found


def over_seeds(name: str, values: Sequence[float]) -> Estimate:
    """The mean, and the range: all that a few seeds can say."""
    return Estimate(name, float(np.mean(values)), min(values), max(values), "seeds (their range)", tuple((one, one, one) for one in values))


def differences_of(models: Mapping[str, Any], seeds: Sequence[Mapping[str, Mapping[str, Tensor]]]) -> dict[str, Estimate]:
    """Bits saved by each step of the noise, and of every other model over the best closed form; also r gained."""
    best = RIDGES["factors+radius"]
    pairs = {name: ("bits", old, new) for name, (old, new) in STEPS.items()}
    others = [title for title in models if title not in RIDGES.values()]
    pairs |= {f"{title} − {best}, {metric}": (metric, best, title) for title in others for metric in ("bits", "r")}
    found = {}
    for name, (metric, old, new) in pairs.items():
        key = f"score.{metric}"
        if all({old, new} <= set(seed) and key in seed[old] and key in seed[new] for seed in seeds):
            sign = -1 if METRICS[metric]["better"] == "lower" else 1
            found[name] = estimate(name, [sign * (seed[new][key] - seed[old][key]) for seed in seeds])
    return found


def calibration_of(title: str, seeds: Sequence[Mapping[str, Mapping[str, Tensor]]]) -> dict[str, Any]:
    """Coverage of single voxels and of all together, and how far the histogram of ranks is from flat."""
    parts = [seed[title] for seed in seeds]
    pit = torch.stack([one["pit"] for one in parts]).double().mean(0)
    joint = {f"joint.{level}": estimate("joint", [one[f"joint.{level}"] for one in parts]) for level in LEVELS if "joint.0.5" in parts[0]}
    return {
        "coverage": {str(level): over_seeds("coverage", [float(one["coverage"][place]) for one in parts]) for place, level in enumerate(LEVELS)},
        "joint": {name.removeprefix("joint."): one for name, one in joint.items()},
        "pit": pit.tolist(),
        "pit_deviation": float((len(pit) * pit - 1).abs().max()),
        "pit_distance": float((len(pit) * pit - 1).square().mean()),
    }


def outcome(one: Estimate, least: float = LEAST["bits"]) -> str:
    """A difference counts if its interval excludes 0 and it is not small; whether it is small may also be open."""
    if one.within(least):
        return "same"
    if abs(one.value) < least:
        return "open"
    return "better" if one.low > 0 else "worse" if one.high < 0 else "open"


def shape(coverage: Mapping[str, Estimate]) -> str:
    """In which way the samples of single voxels are wrong, where they are by more than two points."""
    off = [one.value - float(level) for level, one in coverage.items()]
    if max(map(abs, off)) <= NEAR:
        return "within 2 points"
    if all(one < 0 for one in off):
        return "samples too narrow"
    if off[0] > 0 and off[-1] < off[0] / 5:  # a Gaussian that is too wide gains about .4 as much at 95 % as at 50 %
        return "trials have heavier tails"
    return "samples too wide" if all(one > 0 for one in off) else "mixed"


def write(found: Mapping[str, Any], skipped: Mapping[str, str], size: Size, out: Path, seconds: float) -> Path:
    """``encoding.json`` with every interval, and ``encoding.md`` with the tables."""
    made = made_of(Machine(), seconds)
    sizes = asdict(size)
    plain = {family: spelt(content) for family, content in found.items()}
    save_json(
        out / "encoding.json",
        {"about": "value, low and high (95 %), each seed", "size": sizes, "matched": MATCHED, "families": plain, "skipped": skipped, "made": made},
    )
    with replacing(out / "encoding.md") as temporary:
        temporary.write_text(page(found, skipped, size, made), encoding="utf-8")
    return out / "encoding.md"


def spelt(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: spelt(value) for name, value in content.items()}
    return spelt(asdict(content)) if isinstance(content, Estimate) else content


def page(found: Mapping[str, Any], skipped: Mapping[str, str], size: Size, made: Mapping[str, Any]) -> str:
    lines = [*intro(size), *differences_table(found), "", *calibration_table(found), "", "## Scores", ""]
    for family, content in found.items():
        lines += [f"### {family}", "", f"{FAMILIES[family][0].upper()}{FAMILIES[family][1:]}.", "", *scores_table(family, content), ""]
    lines += [f"`{family}` was left out: {reason}.\n" for family, reason in skipped.items()]
    lines += [f"Made by `{made['command']}`, commit {made['commit']}, torch {made['libraries']['torch']}."]
    return "\n".join(lines) + "\n"


def intro(size: Size) -> list[str]:
    return [
        "# Encoders on nine families of noise",
        "",
        f"Simulated cortex, {size.voxels} voxels, {size.images - size.held_out} training and {size.held_out} held-out pictures × {size.repeats} "
        f"trials, Gabor features, {size.seeds} seeds (each its own cortex, pictures and split). Responses are z-scored within session with "
        "training statistics. Every score is of held-out pictures; bits, CRPS and energy are of their single trials. Means over seeds; ± is "
        f"half of the 95 % interval, which resamples pictures and seeds ({size.draws} draws), and for covariance r and coverage half "
        "of the range over seeds: these have no draws over pictures. `encoding.json`, beside this file where it is made, has the ends "
        "of every interval and every seed.",
        "",
        "\\* marks the model whose own form the family has (of `rich` in part: there a trial's strength scales the factors too). `−` of "
        "two models is what the first saves or gains over the second, paired by picture: above 0 is better, and less than "
        f"{LEAST['bits']} bits or {LEAST['r']} of r is *same*, however narrow its interval. A model and a simulation by the same hands prove "
        "little: look at the rows without a mark. All families but `resampled` share one ground of few factors plus independent noise, "
        "so that factors against diagonal is foreign ground only there.",
        "",
    ]


def differences_table(found: Mapping[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name for content in found.values() for name in content["differences"]))
    steps, others = [name for name in names if name in STEPS], [name for name in names if name not in STEPS]
    lines = ["## Differences", "", "Bits per voxel saved by each step of the noise, the mean being the same ridge.", ""]
    lines += [*_differences(found, steps), "", *(f"- {wins(name, found)}" for name in steps), ""]
    if others:
        lines += [
            "Other models against the closed form: bits saved, r gained. The mlp learns its noise from the validation tenth of the "
            "pictures, which its mean has not seen; ridge learns it from all of them, cross-fitted.",
            "",
            *_differences(found, others),
        ]
    return lines


def _differences(found: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    def said(family: str, name: str, one: Estimate) -> str:
        return f"{cell(one, '+.3f')} {outcome(one, LEAST['r' if name.endswith(', r') else 'bits'])}{mark(family, name)}"

    differences = {family: content["differences"] for family, content in found.items()}
    rows = [[family, *(said(family, name, of[name]) if name in of else "" for name in names)] for family, of in differences.items()]
    return table(["family", *names], rows)


def mark(family: str, name: str) -> str:
    return "\\*" if name in STEPS and MATCHED.get(family) == STEPS[name][1] else ""


def wins(name: str, found: Mapping[str, Any]) -> str:
    by = {word: [family for family in found if outcome(found[family]["differences"][name]) == word] for word in ("better", "worse", "same", "open")}
    own = [family for family in by["better"] if mark(family, name)]
    said = "; ".join(f"{word} in {', '.join(f'{family}{mark(family, name)}' for family in families)}" for word, families in by.items() if families)
    alone = " **A win on its own families alone.**" if by["better"] and own == by["better"] else ""
    return f"{name}: {said}.{alone}"


def calibration_table(found: Mapping[str, Any]) -> list[str]:
    levels = [f"{level:.0%}".replace("%", " %") for level in LEVELS]
    lines = [
        "## Calibration",
        "",
        "Share of single held-out trials inside the central interval of the samples, voxel by voxel, mean over voxels; and, under "
        "*joint*, inside the region of highest density of all voxels together. *Flatness* is of the histogram of ranks (20 bins, over trials "
        "and voxels): the largest deviation of a bin from its share, and the mean squared one (chi-square over the number of ranks). What is "
        "wrong in opposite directions in different voxels or pictures averages out in all but the joint columns.",
        "",
    ]
    rows = []
    for family, content in found.items():
        for title, one in content["calibration"].items():
            star = "\\*" if MATCHED.get(family) == title else ""
            coverage = [cell(one["coverage"][str(level)], ".3f") for level in LEVELS]
            joint = [f"{one['joint'][str(level)].value:.2f}" if one["joint"] else "" for level in LEVELS]
            flat = [f"{one['pit_deviation']:.2f}", f"{one['pit_distance']:.4f}"]
            rows.append([family, title + star, *coverage, *flat, shape(one["coverage"]), *joint])
    head = ["family", "model", *levels, "flatness, largest", "flatness, mean square", "single voxels", *(f"joint {level}" for level in levels)]
    own = {
        family: found[family]["calibration"][title]["coverage"] for family, title in MATCHED.items() if title in found.get(family, {}).get("fit", {})
    }
    worst = {family: max(abs(one.value - float(level)) for level, one in coverage.items()) for family, coverage in own.items()}
    said = "; ".join(f"{family} {100 * off:.1f} points ({'within' if off <= NEAR else 'more than'} 2)" for family, off in worst.items())
    holds = {family: [f"{100 * found[family]['calibration'][MATCHED[family]]['joint'][str(level)].value:.0f}" for level in LEVELS] for family in own}
    together = "; ".join(f"{family} {' / '.join(shares)}" for family, shares in holds.items())
    if said:
        said += f". Jointly, where {' / '.join(f'{level:.0%}'.rstrip('%') for level in LEVELS)} % are due: {together}"
    return [*lines, f"Largest error of coverage where the model has the family's form: {said}." if said else "", "", *table(head, rows)]


def scores_table(family: str, content: Mapping[str, Any]) -> list[str]:
    rows = []
    for title, scores in content["scores"].items():
        star = "\\*" if MATCHED.get(family) == title else ""
        fit = f"{content['fit'][title]:.1f}" if title in content["fit"] else ""
        rows.append([title + star, *(cell(scores[metric], f".{METRICS[metric]['digits']}f") if metric in scores else "" for metric in SHOWN), fit])
    return table(["model", *(str(METRICS[metric]["short"]) for metric in SHOWN), "fit, CPU s"], rows)


def cell(one: Estimate, digits: str) -> str:
    half = (one.high - one.low) / 2
    return f"{one.value:{digits}} ± {half:{digits.removeprefix('+')}}" if half > 0 else f"{one.value:{digits}}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def main(arguments: Sequence[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder of parts and tables")
    parser.add_argument("--quick", action="store_true", help="small sizes: a smoke run whose numbers mean nothing")
    parser.add_argument("--families", nargs="*", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--models", nargs="*", default=catalog.names("encoding"), help="entries of the room encoding; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="processes; -1: one per core")
    parser.add_argument("--recordings", type=Path, default=os.environ.get("CORTEXFLOW_TEST_DATA"), help="folder with haxby2001")
    options = parser.parse_args(arguments)
    size, models, families = QUICK if options.quick else Size(), contenders(options.models), list(options.families)
    skipped = {}
    if RECORDED in families and (reason := record(options.recordings, options.out)):
        families.remove(RECORDED)
        skipped[RECORDED] = reason
        print(f"{RECORDED} is left out: {reason}")
    began = time.perf_counter()
    run_all([partial(measure, family, seed, size, models, options.out) for family in families for seed in range(size.seeds)], options.jobs)
    path = write(gather(families, size, models, options.out), skipped, size, options.out, time.perf_counter() - began)
    print(path)
    return path


if __name__ == "__main__":
    main()
