import json
import subprocess
import sys
from functools import partial
from operator import add
from pathlib import Path

import pytest
import torch

from cortexflow.encoding.base import load_encoder
from cortexflow.errors import CortexflowError
from cortexflow.parallel import World, run_all
from cortexflow.training import Machine, RunConfig, train, train_all

DATA = {"name": "simulated", "images": 220, "held_out": 40, "voxels": 40, "image_size": 32, "sessions": 2}
TREE = {"data": DATA, "features": ["pixels"], "components": 20, "training": {"epochs": 3, "batch": 63}}
TREE |= {"encoder": {"name": "mlp", "hidden": 16, "factors": 2, "dropout": 0.0}}


def torchrun(folder: Path, processes: int, cache: Path) -> subprocess.CompletedProcess:
    script = folder.parent / "fit.py"
    script.write_text(
        "import sys, json, torch\nfrom pathlib import Path\ntorch.set_num_threads(1)\n"
        "from cortexflow.training import Machine, RunConfig, train\n"
        f"train(RunConfig.of(json.loads({json.dumps(TREE)!r})), {str(folder)!r}, Machine(cache=Path({str(cache)!r})))\n"
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), str(script)]
    return subprocess.run(launch, capture_output=True, text=True, timeout=300)


def test_two_processes_give_the_result_of_one(tmp_path):
    cache = tmp_path / "cache"
    one = train(RunConfig.of(TREE), tmp_path / "one", Machine(cache=cache))
    done = torchrun(tmp_path / "two", 2, cache)
    assert done.returncode == 0, done.stderr[-2000:]
    two = load_encoder(tmp_path / "two" / "encoder.safetensors").state_dict()
    mean = {name: value for name, value in one.encoder.state_dict().items() if name.startswith("mean")}
    assert mean
    for name, value in mean.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-5)
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == 3


def test_shares_of_a_batch_cover_it_once(monkeypatch):
    world = World()
    rows, weight = world.share(torch.arange(10))
    assert rows.tolist() == list(range(10)) and weight == 1
    shares = []
    for rank in range(3):
        world.size, world.rank = 3, rank
        rows, weight = world.share(torch.arange(10))
        assert weight == pytest.approx(len(rows) / 10)
        shares += rows.tolist()
    assert sorted(shares) == list(range(10))
    assert world.share(torch.arange(2))[1] == pytest.approx(1 / 3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_subjects_and_areas_as_jobs_give_what_each_gives_alone(tmp_path, jobs):
    def config(subject, area):
        return RunConfig.of(TREE | {"subject": subject, "area": area, "encoder": {"name": "ridge", "factors": 2}})

    configs = {tmp_path / f"{subject}-{area}": config(subject, area) for subject in ("subj01", "subj02") for area in ("V1", "IT")}
    folders = train_all(configs, Machine(), jobs=jobs)
    assert folders == list(configs)
    alone = train(config("subj02", "IT"), tmp_path / "alone", Machine()).encoder
    together = load_encoder(folders[3] / "encoder.safetensors")
    assert together.voxels == int(alone.voxels) < 40
    torch.testing.assert_close(together.state_dict(), alone.state_dict())


def test_the_dask_backend_on_a_local_cluster():
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        assert run_all([partial(add, number, 1) for number in range(5)], scheduler=cluster.scheduler_address) == [1, 2, 3, 4, 5]


def test_no_jobs_and_no_scheduler_are_clear_errors():
    with pytest.raises(CortexflowError, match="give 1 or more"):
        run_all([partial(add, 1, 1)], jobs=0)
    with pytest.raises(CortexflowError, match="no dask scheduler answers"):
        run_all([partial(add, 1, 1)], scheduler="tcp://127.0.0.1:1")
