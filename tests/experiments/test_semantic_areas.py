import pytest
import scipy.stats
import torch

from cortexflow.data.base import Cortex
from cortexflow.experiments.base import Estimate
from cortexflow.experiments.semantic_areas import CHAIN, SHUFFLED, STAGES, SemanticAreas, areas_of, depth, plot_stages, rank_order


def one(name, value, low, high):
    return name, Estimate(name, value, low, high, "images and subjects", ((value, low, high),))


def test_depth_is_a_weighted_mean_of_stages():
    assert depth(torch.tensor([[0.0], [0.3], [0.3], [-0.2]])).item() == pytest.approx(2.5, abs=1e-3)
    assert depth(torch.tensor([[0.1, 0.0], [0.2, 0.0], [0.0, 0.0], [0.0, 0.5]])).tolist() == pytest.approx([9 / 5, 4], abs=1e-3)


def test_rank_order_is_spearmans():
    values = torch.rand(5, 20, generator=torch.Generator().manual_seed(0))
    expected = [scipy.stats.spearmanr(column, range(5)).statistic for column in values.T.numpy()]
    torch.testing.assert_close(rank_order(values), torch.tensor(expected, dtype=torch.float32))


def test_category_areas_are_what_is_not_in_the_stream():
    masks = torch.eye(5, dtype=torch.bool)
    areas = areas_of(Cortex("subj01", 5, dict(zip(("V1", "hV4", "FFA", "PPA", "LOC"), masks, strict=True))))
    assert list(areas) == ["V1", "hV4", "LOC", "category areas", "FFA", "PPA"]
    assert areas["category areas"].tolist() == [False, False, True, True, False]


@pytest.mark.parametrize(
    "semantic, early, order, control, verdict",
    [
        (0.1, 0.1, 0.8, 0.01, "yes"),
        (-0.2, 0.1, 0.8, 0.01, "no"),
        (0.1, -0.2, 0.8, 0.01, "no"),
        (0.03, 0.1, 0.8, 0.01, "undecided"),  # not sure
        (0.1, 0.1, 0.52, 0.01, "undecided"),  # hardly ordered
        (0.1, 0.1, 0.8, 0.2, "undecided"),  # other pictures predict
    ],
)
def test_the_rule(semantic, early, order, control, verdict):
    around = [("captions minus Gabor, category areas", semantic), ("Gabor minus captions, V1", early)]
    around += [("order of depth along the stream", order), *((f"r, {area}, {SHUFFLED}", control) for area in CHAIN)]
    assert SemanticAreas().decide(dict(one(name, value, value - 0.05, value + 0.05) for name, value in around))[0] == verdict


def test_the_figure_has_a_curve_for_every_area_of_the_stream():
    estimates = dict(one(f"r, {area}, stage {stage}", 0.1, 0.0, 0.2) for area in CHAIN for stage in STAGES)
    estimates |= dict(one(f"depth, {area}", 2.0, 1.5, 2.5) for area in CHAIN)
    curves, depths = plot_stages(estimates).axes
    assert [line.get_label() for line in curves.get_lines()] == list(CHAIN)
    assert len(depths.get_xticks()) == len(CHAIN)
