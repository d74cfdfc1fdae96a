"""What is read of a miniature of the Natural Scenes Dataset beside what was planted in it: ratio, receptive fields, areas, categories.

python benchmarks/nsd_recovery.py --voxels 2000 --sessions 2
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import torch

from cortexflow.data.nsd import NSD
from cortexflow.data.nsd_layout.miniature.recovery import recovery
from cortexflow.data.nsd_layout.miniature.study import Miniature, write_miniature
from cortexflow.errors import CortexflowWarning


def main() -> None:
    """Write, read, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("subjects", 1), ("sessions", 2), ("voxels", 2000), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", CortexflowWarning)  # the miniature has odd voxels, which are counted below
    with tempfile.TemporaryDirectory() as folder:
        truth = write_miniature(Path(folder) / "nsd", Miniature(files=("hdf5",), annotations=False, **vars(chosen)))
        study = NSD(NSD.Config(), Path(folder) / "nsd")
        for subject in study.subjects:
            for name, value in recovery(study, truth, subject).items():
                print(f"{subject}  {name:<18}{value:.3f}")
            print(f"{subject}  ncsnr, shipped and computed again: {study.compare_ncsnr(subject)}")
            print("\n".join(study.findings(subject)))


if __name__ == "__main__":
    main()
