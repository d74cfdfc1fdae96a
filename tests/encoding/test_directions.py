"""The direction that raises an area is the best of its length, and finds what was planted."""

import pytest
import torch

from cortexflow.data.base import Cortex
from cortexflow.encoding.directions import direction_for, noise_direction_for
from cortexflow.encoding.flow import FlowEncoder
from cortexflow.encoding.mlp import MLPEncoder
from cortexflow.encoding.ridge import RidgeEncoder
from cortexflow.errors import CortexflowError

IMAGES, REPEATS, FEATURES, VOXELS = 200, 2, 6, 40
FACES = torch.arange(VOXELS) < 15


def trials():
    """Feature 2 drives the face area alone, feature 4 drives everything; a noise factor runs through the face area."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(IMAGES, FEATURES, generator=generator) * torch.tensor([1.0, 1, 2, 1, 3, 1])
    weights = torch.zeros(FEATURES, VOXELS)
    weights[2, FACES], weights[4] = 0.5, 1.0
    stimuli = torch.arange(IMAGES).repeat(REPEATS)
    noise = 0.5 * torch.randn(len(stimuli), VOXELS, generator=generator)
    noise += torch.randn(len(stimuli), 1, generator=generator) * FACES
    return pictures, pictures[stimuli] @ weights + noise, stimuli


def fitted(entry):
    pictures, responses, stimuli = trials()
    encoder = entry(FEATURES, VOXELS, cortex=Cortex("subj01", VOXELS, {"FFA": FACES, "all": torch.ones(VOXELS, dtype=torch.bool)}))
    encoder.solve(pictures[stimuli], responses, stimuli)
    return encoder.eval(), pictures


@pytest.mark.parametrize("entry", [RidgeEncoder, FlowEncoder])
def test_the_planted_feature_is_found(entry):
    encoder, pictures = fitted(entry)
    found = direction_for(encoder, "FFA", pictures)
    assert int(found.direction.abs().argmax()) == 2 and float(found.direction[2]) == pytest.approx(2, abs=0.3)  # one deviation
    assert float(found.map[FACES].mean() - found.map[~FACES].mean()) == pytest.approx(found.contrast, abs=1e-4)
    assert found.contrast > 2 * float(found.random.std()) and abs(float(found.random.mean())) < 0.1 * found.contrast
    best = pictures[found.rank(pictures).argsort()[-10:]]
    assert float(best[:, 2].mean()) > 2.5


def test_no_direction_of_the_same_length_is_better():
    encoder, pictures = fitted(RidgeEncoder)
    found = direction_for(encoder, "FFA", pictures)
    root = torch.linalg.cholesky(torch.cov(pictures.T))
    torch.testing.assert_close(torch.linalg.solve_triangular(root, found.direction[:, None], upper=False).norm(), torch.tensor(1.0))
    others = torch.randn(5000, FEATURES)
    others = (others / others.norm(dim=1, keepdim=True)) @ root.T
    maps = others @ encoder.weights
    assert float((maps[:, FACES].mean(1) - maps[:, ~FACES].mean(1)).max()) <= found.contrast + 1e-4


def test_the_noise_of_an_area_is_its_factor():
    encoder, pictures = fitted(FlowEncoder)
    found = noise_direction_for(encoder, "FFA", pictures)
    assert float(found.map[FACES].mean()) == pytest.approx(1, abs=0.2)  # a deviation of the planted factor
    assert float(found.map[~FACES].abs().mean()) < 0.2
    assert found.contrast > 2 * float(found.random.std())


def test_a_network_has_a_direction_too():
    torch.manual_seed(0)
    encoder, pictures = fitted(MLPEncoder)
    assert direction_for(encoder, "FFA", pictures).contrast > 0


def test_an_area_without_others_is_a_clear_error():
    encoder, pictures = fitted(RidgeEncoder)
    with pytest.raises(CortexflowError, match="all has 40 of 40 voxels"):
        direction_for(encoder, "all", pictures)
    with pytest.raises(CortexflowError, match="no area 'PPA'"):
        direction_for(encoder, "PPA", pictures)
