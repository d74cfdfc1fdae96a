"""Smoothing over the cortex solves its equation, stays within areas, and is chosen where it helps."""

import torch

from cortexflow.nn.cortical_graph import Smoother, laplacian

VOXELS = 60


def sheet():
    return torch.rand(VOXELS, 2, generator=torch.Generator().manual_seed(0)) * 20


def test_the_laplacian_is_that_of_nearest_neighbours():
    positions = sheet()
    dense = laplacian(positions).toarray()
    distance = torch.cdist(positions.double(), positions.double())
    distance.fill_diagonal_(torch.inf)
    nearest = distance.argsort(1)[:, :6]
    for one in range(VOXELS):
        mine = set(nearest[one].tolist()) | {other for other in range(VOXELS) if one in nearest[other].tolist()}
        assert {int(other) for other in (dense[one] < 0).nonzero()[0]} == mine and dense[one, one] == len(mine)


def test_smoothing_is_the_minimum_of_its_equation():
    positions, first = sheet(), torch.arange(VOXELS) < 30
    smoother = Smoother(positions, [first, ~first])
    smoother.strengths = [0.5, 0.0]
    values = torch.randn(4, VOXELS)
    smooth = smoother(values)
    graph = torch.from_numpy(laplacian(positions[first]).toarray()).float()
    expected = values[:, first] @ torch.linalg.inv(torch.eye(30) + 0.5 * graph)
    torch.testing.assert_close(smooth[:, first], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(smooth[:, ~first], values[:, ~first])  # its strength is 0, and areas do not mix
    assert torch.equal(smoother(values[0]), smooth[0])


def test_a_strength_is_chosen_where_the_signal_is_smooth_and_none_where_it_is_not():
    positions, first = sheet(), torch.arange(VOXELS) < 30
    generator = torch.Generator().manual_seed(1)
    signal = torch.randn(300, VOXELS, generator=generator)
    smooth = Smoother(positions, [first])
    smooth.strengths = [3.0]
    signal = torch.where(first, smooth(signal), signal)
    signal[:, first] *= signal[:, ~first].std() / signal[:, first].std()
    responses = signal + torch.randn(300, VOXELS, generator=generator)
    predicted = signal + 0.5 * torch.randn(300, VOXELS, generator=generator)
    smoother = Smoother(positions, [first, ~first])
    smoother.fit(predicted, responses)
    assert smoother.strengths[0] >= 0.1 and smoother.strengths[1] <= 0.03
    error = (smoother(predicted) - signal)[:, first].square().mean() / (predicted - signal)[:, first].square().mean()
    assert float(error) < 0.8


def test_an_area_of_two_voxels_and_equal_places_are_left_as_they_are():
    smoother = Smoother(torch.zeros(5, 3), [torch.tensor([True, True, False, False, False]), torch.tensor([False, False, True, True, True])])
    smoother.strengths = [1.0]
    values = torch.randn(2, 5)
    assert smoother(values).isfinite().all() and torch.equal(smoother(values)[:, :2], values[:, :2])
