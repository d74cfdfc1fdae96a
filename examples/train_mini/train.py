"""Render the training scenes and train the networks of the mini stack, all or by name.

python train.py scenes
python train.py clip autoencoder
python train.py all
"""

import argparse
from pathlib import Path

import torch
from scenes import Scenes, render

import cortexflow

MINI = Path(cortexflow.__file__).parent / "mini"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", help="scenes, all, or names of networks")
    parser.add_argument("--work", type=Path, default=Path("work"), help="scenes and checkpoints (1 GB)")
    parser.add_argument("--out", type=Path, default=MINI, help="where the networks go; the package by default")
    parser.add_argument("--count", type=int, default=20000, help="training scenes")
    parser.add_argument("--seed", type=int, default=7, help="of the scenes")
    parser.add_argument("--steps", type=int, help="fewer batches, for a trial")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    render(asked.work, asked.count, asked.seed)
    if asked.what == ["scenes"]:
        return
    import networks

    if asked.steps is not None:
        from dataclasses import replace

        networks.PLANS = {name: replace(plan, steps=asked.steps) for name, plan in networks.PLANS.items()}
    scenes = Scenes(asked.work)
    for name in networks.TRAINERS if asked.what == ["all"] else asked.what:
        (asked.out / name).mkdir(parents=True, exist_ok=True)
        networks.TRAINERS[name](scenes, asked.work, asked.out / name)


if __name__ == "__main__":
    main()
