from types import SimpleNamespace

import pytest
import torch

from cortexflow.errors import CortexflowError
from cortexflow.nn.guidance import guided

diffusers = pytest.importorskip("diffusers")


class Says:
    """A network that believes the clean latents are its condition's first token."""

    def __init__(self, scheduler):
        self.scheduler = scheduler

    def __call__(self, noisy, time, tokens):
        share = self.scheduler.alphas_cumprod[time]
        clean = tokens[:, 0, :1, None, None].expand_as(noisy)
        return SimpleNamespace(sample=(noisy - share.sqrt() * clean) / (1 - share).sqrt())


@pytest.fixture
def scheduler():
    return diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True, steps_offset=0)


def tokens(value, count=2):
    return torch.full((count, 3, 4), float(value))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [([], 1.0), ([(1.0, 5)], 5.0), ([(3.0, 5)], 13.0), ([(0.0, 5)], 1.0), ([(0.5, 5), (2.0, -1)], -1.0)],
)
def test_the_answer_is_nothing_plus_weighted_differences(scheduler, asked, expected):
    """What is believed is linear in the answers: 1 + w (5 − 1), and for two conditions 1 + .5 × 4 + 2 × (−2)."""
    given = [(weight, tokens(value)) for weight, value in asked]
    found = guided(Says(scheduler), scheduler, torch.randn(2, 1, 4, 4), given, tokens(1, 1), steps=20)
    torch.testing.assert_close(found, torch.full((2, 1, 4, 4), expected), atol=1e-3, rtol=1e-3)


def test_nothing_is_drawn_on_the_way(scheduler):
    start = torch.randn(2, 1, 4, 4)
    first, second = (guided(Says(scheduler), scheduler, start, [(2.0, tokens(3))], tokens(0, 1)) for _ in range(2))
    assert torch.equal(first, second)


def test_a_step_that_is_none(scheduler):
    with pytest.raises(CortexflowError, match="begin must be one of the 20 steps"):
        guided(Says(scheduler), scheduler, torch.randn(2, 1, 4, 4), [], tokens(0, 1), steps=20, begin=20)
