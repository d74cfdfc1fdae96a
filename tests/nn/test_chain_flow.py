"""A flow along a chain of areas: a density, invertible, causal, and at rest before it is trained."""

import pytest
import torch

from cortexflow.nn.chain_flow import ChainFlow

FEATURES, WIDTHS = 3, (3, 2)


@pytest.fixture
def flow():
    """With weights that are not at rest."""
    torch.manual_seed(0)
    flow = ChainFlow(FEATURES, WIDTHS, layers=2, width=8, context=4, bound=0.7, squash=3.0, dropout=0.2).eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return flow


def test_before_training_it_is_the_standard_normal():
    flow = ChainFlow(FEATURES, WIDTHS, layers=3, width=8, context=4, bound=0.7, squash=3.0, dropout=0.2).eval()
    values = torch.randn(20, sum(WIDTHS))
    expected = torch.distributions.Normal(0, 1).log_prob(values).sum(1)
    torch.testing.assert_close(flow.log_prob(torch.randn(20, FEATURES), values), expected, atol=1e-5, rtol=1e-5)


def test_there_and_back(flow):
    features, values = torch.randn(20, FEATURES), torch.randn(20, sum(WIDTHS))
    with torch.no_grad():
        normal = flow.to_normal(features, values)
        assert (normal - values).abs().max() > 0.1
        torch.testing.assert_close(flow.from_normal(features, normal), values, atol=1e-5, rtol=1e-5)


def test_the_density_is_the_change_of_variables(flow):
    features, values = torch.randn(6, FEATURES), torch.randn(6, sum(WIDTHS))
    for row in range(6):
        one = features[row : row + 1]
        slope = torch.autograd.functional.jacobian(lambda v, one=one: flow.to_normal(one, v[None])[0], values[row])
        normal = flow.to_normal(one, values[row : row + 1])
        expected = torch.distributions.Normal(0, 1).log_prob(normal).sum() + slope.det().abs().log()
        torch.testing.assert_close(flow.log_prob(one, values[row : row + 1])[0], expected, atol=1e-4, rtol=1e-4)


def test_an_area_depends_on_earlier_ones_alone(flow):
    features, values = torch.randn(1, FEATURES), torch.randn(sum(WIDTHS))
    slope = torch.autograd.functional.jacobian(lambda v: flow.to_normal(features, v[None])[0], values)
    assert not slope[: WIDTHS[0], WIDTHS[0] :].any() and slope[WIDTHS[0] :, : WIDTHS[0]].any()


def test_the_density_depends_on_the_picture(flow):
    values = torch.randn(1, sum(WIDTHS)).expand(20, -1)
    with torch.no_grad():
        assert flow.log_prob(torch.randn(20, FEATURES), values).std() > 0.01


def test_samples_stay_bounded_for_wild_features(flow):
    with torch.no_grad():
        assert flow.sample(1e4 * torch.randn(500, FEATURES)).isfinite().all()


def test_a_gradient_reaches_every_weight(flow):
    flow.train()
    (-flow.log_prob(torch.randn(50, FEATURES), torch.randn(50, sum(WIDTHS))).mean()).backward()
    assert [name for name, parameter in flow.named_parameters() if parameter.grad is None] == []
