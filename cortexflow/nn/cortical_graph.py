r"""Neighbours on the cortex answer alike: regression weights drawn towards those of neighbouring voxels of the same area.

With L the Laplacian of the graph that joins every voxel to its nearest neighbours within its area, the weights nearest to given
ones, :math:`W_0`, that are also smooth,

.. math:: \min_W \lVert W - W_0 \rVert^2 + \gamma \operatorname{tr}(W L W^\top), \qquad W = W_0 (I + \gamma L)^{-1},

are found by one sparse solution per area. A prediction is smoothed as its weights are, so that :math:`\gamma` is chosen, area by area,
on predictions of pictures that the weights had not seen.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from torch import Tensor

NEIGHBOURS = 6
STRENGTHS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
TRIALS = 3000  # that a strength is chosen on
SMALLEST = 3  # voxels that make a graph


class Smoother:
    """Smooths values over voxels, each area with its own strength.

    Arguments:
        positions: Of voxels, in millimetres, on the flattened cortex or in the head.
        areas: Masks between which nothing is smoothed.
    """

    def __init__(self, positions: Float[Tensor, "voxels axes"], areas: Sequence[Bool[Tensor, " voxels"]]) -> None:
        self.places = [area.nonzero().squeeze(1) for area in areas if int(area.sum()) >= SMALLEST]
        self.graphs = [laplacian(positions[place]) for place in self.places]
        self.strengths = [0.0] * len(self.places)

    def fit(self, predicted: Float[Tensor, "trials voxels"], responses: Float[Tensor, "trials voxels"]) -> None:
        """Choose the strength of each area by the squared error of cross-fitted predictions, on at most 3,000 trials."""
        rows = torch.arange(len(predicted))[:: -(-len(predicted) // TRIALS)]
        for number, (place, graph) in enumerate(zip(self.places, self.graphs, strict=True)):
            said, told = predicted[rows][:, place], responses[rows][:, place]
            errors = [float((told - _smooth(said, graph, strength)).square().mean()) for strength in STRENGTHS]
            self.strengths[number] = STRENGTHS[int(np.argmin(errors))]

    def __call__(self, values: Float[Tensor, "*rows voxels"]) -> Float[Tensor, "*rows voxels"]:
        """Weights, intercepts or predictions, smoothed alike."""
        rows = values.reshape(-1, values.shape[-1]).clone()
        for place, graph, strength in zip(self.places, self.graphs, self.strengths, strict=True):
            rows[:, place] = _smooth(rows[:, place], graph, strength)
        return rows.reshape(values.shape)


def laplacian(positions: Float[Tensor, "voxels axes"]) -> scipy.sparse.csc_array:
    """Of the graph that joins each voxel to its nearest neighbours: how many it has on the diagonal, -1 for each of them."""
    points = positions.double().numpy()
    count = min(NEIGHBOURS, len(points) - 1)
    near: Int[np.ndarray, "voxels neighbours"] = cKDTree(points).query(points, count + 1)[1][:, 1:]
    rows = np.repeat(np.arange(len(points)), count)
    joined = scipy.sparse.csc_array((np.ones(near.size), (rows, near.ravel())), shape=(len(points),) * 2)
    joined = ((joined + joined.T) > 0).astype(np.float64)
    joined.setdiag(0)  # where two voxels have the same place, a voxel may be its own neighbour
    return scipy.sparse.csc_array(scipy.sparse.diags_array(np.asarray(joined.sum(1)).ravel()) - joined)


def _smooth(values: Tensor, graph: scipy.sparse.csc_array, strength: float) -> Tensor:
    if strength == 0:
        return values
    factor = splu(scipy.sparse.csc_matrix(scipy.sparse.identity(graph.shape[0]) + strength * graph))
    return torch.from_numpy(factor.solve(values.double().T.numpy()).T).to(values.dtype)
