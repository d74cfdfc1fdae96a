"""Feature extraction: pictures a second, what reading ahead saves, and the most memory held for 1,000 and for 10,000 pictures.

python benchmarks/features.py                     # the mini CLIP, tokens of the last layer, streamed from disk
python benchmarks/features.py --pictures 500 2000 # smaller
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cortexflow.catalog import configure
from cortexflow.data.base import Cortex, Dataset
from cortexflow.features.cache import FeatureCache

SIZE = 64


class Noise(Dataset):
    """Pictures from their id; ``pause`` stands for a slow disk."""

    title = "made for the benchmark"
    subjects = ("subj01",)
    pause = 0.0

    def images(self, stimuli):
        time.sleep(self.pause * len(stimuli))
        made = [np.random.default_rng(number).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8) for number in stimuli.tolist()]
        return torch.from_numpy(np.stack(made))

    def checksums(self):
        return {"size": str(SIZE)}

    def trials(self, subject):
        raise NotImplementedError

    def held_out(self):
        return torch.arange(0)

    def cortex(self, subject):
        return Cortex(subject, 0)


def measure(choice: dict, pictures: int, pause: float) -> dict:
    """Fill a cache and go through it in batches, in this process."""
    torch.set_num_threads(1)
    entry, config = configure("features", choice)
    features, study = entry(config), Noise()
    study.pause = pause
    features(study.images(torch.arange(64)))  # the network is loaded and warm
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        stored = FeatureCache(folder).open(features, study, torch.arange(pictures))
        filled = time.perf_counter()
        total = sum(float(values.sum()) for _, rows in stored.batches(64) for values in rows.values())
        streamed = time.perf_counter()
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert np.isfinite(total)
    return {
        "pictures": pictures,
        "features, MB on disk": size / 1e6,
        "extracted a second": pictures / (filled - start),
        "streamed a second": pictures / (streamed - filled),
        "peak memory, MB": peak,
    }


def apart(choice: dict, pictures: int, pause: float) -> dict:
    """The same in a process of its own, so that its peak is its own."""
    code = [sys.executable, __file__, "--alone", json.dumps([choice, pictures, pause])]
    return json.loads(subprocess.run(code, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def overlap(choice: dict, pictures: int = 640) -> dict:
    """Seconds with a disk as slow as the network is, against reading and computing one after the other."""
    entry, config = configure("features", choice)
    features, study = entry(config), Noise()
    images = study.images(torch.arange(64))
    features(images)
    start = time.perf_counter()
    features(images)
    study.pause = (time.perf_counter() - start) / 64
    start = time.perf_counter()
    for ids in torch.arange(pictures).split(64):
        features(study.images(ids))
    apart = time.perf_counter() - start
    start = time.perf_counter()
    FeatureCache(None).get(features, study, torch.arange(pictures))
    return {"one after the other, s": apart, "reading ahead, s": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", default='{"name": "clip", "layers": ["projected"], "tokens": "all"}')
    parser.add_argument("--pictures", type=int, nargs=2, default=(1000, 10000))
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(measure(*json.loads(asked.alone))))
        return
    torch.set_num_threads(1)
    choice = json.loads(asked.features)
    for pictures in asked.pictures:
        print(json.dumps(apart(choice, pictures, 0.0), indent=2))
    print(json.dumps(overlap(choice), indent=2))


if __name__ == "__main__":
    main()
