"""One loop for every network: seeded batches, a warm start and a slow end, checkpoints, and a mean of the weights at the end."""

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from norms import quicken
from torch import Tensor, nn

from cortexflow.storage import load_tensors, save_json, save_tensors

EVERY = 200  # steps between checkpoints


@dataclass(frozen=True)
class Plan:
    """How long and how fast.

    Arguments:
        steps: Batches.
        batch: Scenes in each.
        rate: Learning rate at its highest.
        seed: For weights, batches and noise.
        half: Compute in bfloat16.
        wide: Keep channels last in memory, which suits wide convolutions.
        average: How much of the running mean of weights stays at each step.
        slow: Share of the rate for parameters that are to learn more slowly.
    """

    steps: int
    batch: int = 64
    rate: float = 1e-3
    seed: int = 0
    half: bool = False
    wide: bool = False
    average: float = 0.995
    slow: float = 1.0


def fit(
    name: str,
    network: nn.Module,
    loss: Callable[[list[int], torch.Generator], Tensor],
    numbers: range,
    plan: Plan,
    work: Path,
    *,
    origin: str = "",
    slower: Sequence[nn.Parameter] = (),
) -> nn.Module:
    """Train, or go on where the last checkpoint ended. Returns the network with averaged weights.

    Arguments:
        loss: Of a batch, from the numbers of its scenes.
        numbers: The scenes to learn from.
        origin: What it is made from, scenes and other networks; a checkpoint of another origin is refused.
        slower: Parameters that learn at a fraction ``plan.slow`` of the rate.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device).train()
    if plan.wide:
        network.to(memory_format=torch.channels_last)
    quicken(network)
    mean = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(_groups(network, slower, plan), weight_decay=0.01, betas=(0.9, 0.99))
    step, spent = _resume(work / f"{name}.checkpoint", network, mean, optimizer, plan, origin)
    recent: list[float] = []
    while step < plan.steps:
        started = time.process_time()
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
        torch.manual_seed(plan.seed * 1_000_003 + step)  # dropout and the noise of latents
        batch = (torch.randint(len(numbers), (plan.batch,), generator=generator) + numbers.start).tolist()
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * _pace(step / plan.steps)
        with torch.autocast(device, torch.bfloat16, enabled=plan.half):
            value = loss(batch, generator)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        _average(mean, network, min(plan.average, step / (step + 10)))
        recent, spent = [*recent[-99:], value.item()], spent + time.process_time() - started
        if step % 100 == 0:
            print(f"{name} step {step}/{plan.steps} loss {sum(recent) / len(recent):.4f} cpu {spent / 60:.1f} min", flush=True)
        if step % EVERY == 0 or step == plan.steps:
            _keep(work / f"{name}.checkpoint", network, mean, optimizer, plan, step, spent, origin)
    save_json(work / f"{name}.json", {"plan": asdict(plan), "cpu_minutes": spent / 60, "device": device})
    return mean.to("cpu").to(memory_format=torch.contiguous_format).eval()


def _groups(network: nn.Module, slower: Sequence[nn.Parameter], plan: Plan) -> list[dict]:
    chosen = {id(parameter) for parameter in slower}
    fast = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
    rates = [(fast, plan.rate), (list(slower), plan.rate * plan.slow)]
    return [{"params": parameters, "highest": rate, "lr": rate} for parameters, rate in rates if parameters]


def _pace(share: float) -> float:
    """Up over the first twentieth, then down along a cosine."""
    return min(1.0, share / 0.05 + 0.01) * (0.5 + 0.5 * math.cos(math.pi * share) + 0.01)


@torch.no_grad()
def _average(mean: nn.Module, network: nn.Module, keep: float) -> None:
    for ours, theirs in zip(mean.parameters(), network.parameters(), strict=True):
        ours.lerp_(theirs, 1 - keep)
    for ours, theirs in zip(mean.buffers(), network.buffers(), strict=True):
        ours.copy_(theirs)


def _keep(
    path: Path, network: nn.Module, mean: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, step: int, spent: float, origin: str
) -> None:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"mean.{name}": value for name, value in mean.state_dict().items()}
    state = optimizer.state_dict()["state"]
    tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for index, entry in state.items() for name, value in entry.items()}
    save_tensors(path, tensors, {"step": step, "spent": spent, "plan": asdict(plan), "origin": origin})


def _resume(path: Path, network: nn.Module, mean: nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, origin: str) -> tuple[int, float]:
    if not path.is_file():
        return 0, 0.0
    tensors, made = load_tensors(path)
    if made["plan"] != json.loads(json.dumps(asdict(plan))):
        raise SystemExit(f"{path} was made with another plan; delete it or restore the plan")
    if made.get("origin", "") != origin:
        raise SystemExit(
            f"{path} was made from other scenes or networks ({made.get('origin') or 'unknown'}, now {origin}); delete it or restore them"
        )
    parts = {
        kind: {name.removeprefix(f"{kind}."): value for name, value in tensors.items() if name.startswith(f"{kind}.")} for kind in ("network", "mean")
    }
    network.load_state_dict(parts["network"])
    mean.load_state_dict(parts["mean"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = name.split(".", 2)
            state.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return made["step"], made["spent"]
