"""The scripts that train the mini stack: the quick gradient is the right one, and no checkpoint goes on with what it was not made from."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

SCRIPTS = Path(__file__).parents[2] / "examples" / "train_mini"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module
    for name in ("norms", "loop"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (6, 6), (4, 1)])
def test_the_quick_gradient_is_that_of_torch(scripts, channels, groups):
    draw = torch.Generator().manual_seed(channels)
    given = (torch.randn(3, channels, 5, 7, generator=draw) * 2 + 1).requires_grad_()
    slope = torch.randn(3, channels, 5, 7, generator=draw)
    answers = []
    for quick in (False, True):
        norm = nn.GroupNorm(groups, channels)
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(-1, 2, channels))
            norm.bias.copy_(torch.linspace(0, 3, channels))
        if quick:
            scripts("norms").quicken(norm)
            assert type(norm) is not nn.GroupNorm
        answer = norm(given)
        answers.append([answer, *torch.autograd.grad(answer, [given, norm.weight, norm.bias], slope)])
    for expected, found in zip(*answers, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def train(scripts, work, steps=3, origin="scenes a", slow=1.0):
    loop = scripts("loop")
    torch.manual_seed(0)
    network = nn.Linear(2, 1)

    def loss(numbers, generator):
        return (network(torch.tensor(numbers, dtype=torch.float32)[:, None].expand(-1, 2)) - 1).square().mean()

    plan = loop.Plan(steps=steps, batch=4, rate=0.1, slow=slow)
    return loop.fit("line", network, loss, range(3, 9), plan, work, origin=origin, slower=[network.bias]), network


def test_a_checkpoint_of_the_same_origin_is_taken(scripts, tmp_path):
    first, _ = train(scripts, tmp_path)
    second, _ = train(scripts, tmp_path)
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize(("change", "told"), [({"origin": "scenes b"}, "other scenes or networks"), ({"steps": 4}, "another plan")])
def test_a_checkpoint_of_something_else_is_refused(scripts, tmp_path, change, told):
    train(scripts, tmp_path)
    with pytest.raises(SystemExit, match=told):
        train(scripts, tmp_path, **change)


def test_slower_parameters_are_slower(scripts, tmp_path):
    """Adam's first step is as long as the rate, whatever the gradient: none at all for a share of nothing."""
    (tmp_path / "still").mkdir()
    (tmp_path / "moved").mkdir()
    torch.manual_seed(0)
    before = nn.Linear(2, 1).bias.detach()
    _, still = train(scripts, tmp_path / "still", slow=0.0)
    _, moved = train(scripts, tmp_path / "moved", slow=1.0)
    assert torch.equal(still.bias, before) and not torch.equal(moved.bias, before)
