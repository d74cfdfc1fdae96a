"""Several processes on one fit (``torchrun``), and several fits on several processes (joblib, dask)."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from joblib import Parallel, delayed, parallel_config
from torch import Tensor

from cortexflow.errors import CortexflowError

T = TypeVar("T")


class World:
    """The processes that fit one model together; a world of one where ``torchrun`` did not start this process.

    Every process reads the same data, takes its share of every batch, and ends with the same weights; only the first one
    writes. With dropout the draws depend on the number of processes; without it the result does not.

    Arguments:
        device: Of this process; chooses the backend.

    Raises:
        CortexflowError: The processes that were started did not all arrive.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        if self.size == 1:
            return
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        arrived = torch.ones(1, device=device)
        dist.all_reduce(arrived)
        if dist.get_world_size() != self.size or int(arrived) != self.size:
            raise CortexflowError(f"torchrun announced {self.size} processes and {int(arrived)} arrived; start it again")

    @property
    def writes(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, batch: Tensor) -> tuple[Tensor, float]:
        """This process's rows of a batch, and their weight in the sum over processes."""
        if len(batch) < self.size:  # too few to divide: all do all
            return batch, 1 / self.size
        rows = batch[self.rank :: self.size]
        return rows, len(rows) / len(batch)

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def wait(self) -> None:
        """Go on when all are here."""
        if self.size > 1:
            dist.barrier()


def run_all(work: Sequence[Callable[[], T]], jobs: int = 1, scheduler: str | None = None) -> list[T]:
    """Do independent pieces of work and give their results in order.

    Arguments:
        work: Calls without arguments; each must be picklable where there are several jobs.
        jobs: Processes; -1 for one per core.
        scheduler: The address of a dask scheduler, to use a cluster instead of this machine's processes.

    Raises:
        CortexflowError: No jobs, or dask is asked for and cannot be reached.
    """
    if jobs == 0:
        raise CortexflowError("0 jobs were asked; give 1 or more, or -1 for one per core")
    if scheduler is None:
        return list(Parallel(n_jobs=jobs)(delayed(one)() for one in work))
    try:
        from distributed import Client  # not at the top: it belongs to the extra "cluster"
    except ModuleNotFoundError as error:
        raise CortexflowError('a dask scheduler needs: pip install "cortexflow[cluster]"') from error
    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError) as error:
        raise CortexflowError(f"no dask scheduler answers at {scheduler} ({error}); start one, or leave --scheduler out") from error
    with client, parallel_config(backend="dask"):
        return list(Parallel()(delayed(one)() for one in work))
