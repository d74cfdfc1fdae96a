from typing import ClassVar

import pytest
import torch

from cortexflow.catalog import find, names
from cortexflow.data.base import Cortex
from cortexflow.encoding.base import load_encoder
from cortexflow.encoding.levels import assign, bands
from cortexflow.errors import CortexflowError
from cortexflow.nn.least_squares import ridge_cv
from cortexflow.training import Machine, RunConfig, train

LEVELS = {"gabor.scale4": 2, "gabor.scale8": 3, "resnet.stage4": 4}
STAGES = ["V1", "V2", "V3", "hV4", "higher"]


def mask(*places, voxels=10):
    found = torch.zeros(voxels, dtype=torch.bool)
    found[list(places)] = True
    return found


@pytest.fixture
def cortex():
    return Cortex("subj01", 10, {"V1v": mask(0, 1), "V1d": mask(1, 2), "hV4": mask(3, 4), "FFA": mask(4, 5, 6)})


def trials(voxels=10, features=9, pictures=90):
    torch.manual_seed(0)
    seen = torch.randn(pictures, features)
    stimuli = torch.arange(pictures).repeat(2)
    return seen[stimuli], seen[stimuli] @ torch.randn(features, voxels) + torch.randn(2 * pictures, voxels), stimuli


class TestChain:
    def test_each_voxel_is_in_one_stage_and_the_rest_is_higher(self, cortex):
        chain = cortex.chain()
        assert list(chain) == ["V1", "hV4", "higher"]
        assert torch.stack(list(chain.values())).sum(0).tolist() == [1] * 10
        assert chain["V1"].tolist() == mask(0, 1, 2).tolist() and chain["hV4"].tolist() == mask(3, 4).tolist()

    def test_names_that_only_begin_like_a_stage_are_not_of_it(self):
        assert list(Cortex("subj01", 2, {"V3A": mask(0, voxels=2), "V10": mask(1, voxels=2)}).chain()) == ["higher"]


class TestAssign:
    def test_low_levels_to_early_stages(self):
        assert assign("assigned", ["a", "b", "c", "d"], ["V1", "higher"]) == {"V1": ["a", "b"], "higher": ["c", "d"]}
        assert assign("assigned", ["a", "b"], STAGES) == {"V1": ["a"], "V2": ["a"], "V3": ["a", "b"], "hV4": ["b"], "higher": ["b"]}

    @pytest.mark.parametrize("levels", [2, 3, 5, 7])
    def test_every_level_is_seen_and_order_is_kept(self, levels):
        plan = assign("assigned", list("abcdefg"[:levels]), STAGES)
        assert "".join(sorted({level for seen in plan.values() for level in seen})) == "abcdefg"[:levels]
        assert [seen[0] for seen in plan.values()] == sorted(seen[0] for seen in plan.values())

    @pytest.mark.parametrize("levels, stages", [(2, 4), (3, 4), (3, 5), (5, 5), (4, 2)])
    def test_shuffled_moves_the_levels_of_every_stage(self, levels, stages):
        for seed in (0, 1, 44, 52):
            right, wrong = (assign(plan, list("abcde"[:levels]), STAGES[:stages], seed) for plan in ("assigned", "shuffled"))
            assert all(right[stage] != wrong[stage] for stage in STAGES[:stages])
            assert sorted(map(tuple, right.values())) == sorted(map(tuple, wrong.values()))

    def test_shuffles_differ_by_seed(self):
        assert len({str(assign("shuffled", list("abcde"), STAGES, seed)) for seed in range(8)}) > 4

    def test_nothing_to_assign_is_a_clear_error(self):
        with pytest.raises(CortexflowError, match="needs two of each"):
            assign("assigned", ["a"], STAGES)


class TestBands:
    def test_an_extractor_stands_for_its_levels_and_the_first_area_counts(self, cortex):
        found = bands({"hV4": ["gabor"], "FFA": ["resnet.stage4"]}, LEVELS, cortex, 10)
        assert [(area.nonzero().flatten().tolist(), columns.nonzero().flatten().tolist()) for area, columns in found] == [
            ([3, 4], [0, 1, 2, 3, 4]),
            ([5, 6], [5, 6, 7, 8]),
            ([0, 1, 2, 7, 8, 9], list(range(9))),
        ]

    def test_stages_are_areas_too_and_equal_features_are_one_band(self, cortex):
        found = bands({"V1": ["gabor"], "hV4": ["gabor"], "higher": ["gabor", "resnet"]}, LEVELS, cortex, 10)
        assert [int(area.sum()) for area, _ in found] == [5, 5]

    @pytest.mark.parametrize(
        "sees, message",
        [
            ({"V9": ["gabor"]}, "no area 'V9'; choose from V1v, V1d, hV4, FFA, V1, higher"),
            ({"V1": ["gabor.scale5"]}, "level 'gabor.scale5', which does not exist; levels are gabor.scale4"),
            ({"V1": ["gab"]}, "level 'gab', which does not exist"),
            ({"V1": []}, "V1 sees no level"),
        ],
    )
    def test_what_does_not_exist_is_a_clear_error(self, cortex, sees, message):
        with pytest.raises(CortexflowError, match=message):
            bands(sees, LEVELS, cortex, 10)
        with pytest.raises(CortexflowError, match="need the areas"):
            bands(sees, LEVELS, None, 10)


@pytest.mark.parametrize("name", names("encoding"))
def test_an_area_answers_to_nothing_that_it_may_not_see(name, cortex, tmp_path):
    features, responses, groups = trials()
    encoder = find("encoding", name)(9, 10, levels=LEVELS, cortex=cortex, sees={"V1": ["gabor"], "FFA": ["resnet"]})
    encoder.solve(features, responses, groups)
    with torch.no_grad():
        encoder.calibrate(features, responses, groups)
    encoder.eval().save(tmp_path / "encoder.safetensors")
    other = features[:8].clone()
    other[:, 5:] += 3  # resnet.stage4
    for one in (encoder, load_encoder(tmp_path / "encoder.safetensors")):
        changed = (one.predict(features[:8]) - one.predict(other)).abs().amax(0) > 0
        assert not changed[:3].any()
        assert name == "null" or changed[3:].all()


@pytest.mark.parametrize("bands_by", ["one", "level"])
def test_ridge_of_a_band_is_ridge_on_what_it_sees(cortex, bands_by):
    features, responses, groups = trials()
    entry = find("encoding", "ridge")
    config = entry.Config(penalty_per="voxel", factors=1, bands=bands_by)
    whole = entry(9, 10, config, levels=LEVELS, cortex=cortex, sees={"V1": ["gabor.scale8"]})
    whole.solve(features, responses, groups)
    alone = ridge_cv(features[:, 2:5], responses[:, :3], groups, config.penalties)
    torch.testing.assert_close(whole.weights[2:5, :3], alone.weights)
    assert not whole.weights[:2, :3].any() and not whole.weights[5:, :3].any()
    free = entry(9, 10, config, levels=LEVELS, cortex=cortex)
    free.solve(features, responses, groups)
    torch.testing.assert_close(whole.weights[:, 3:], free.weights[:, 3:], rtol=1e-4, atol=1e-5)
    if bands_by == "level":
        assert whole.penalties.shape == (3, 10) and whole.penalties[0, :3].isinf().all() and whole.penalties[:, 3:].isfinite().all()


class TestRuns:
    DATA: ClassVar = {"name": "simulated", "images": 120, "held_out": 20, "voxels": 40, "image_size": 32, "sessions": 2}

    def config(self, **choices):
        return RunConfig.of({"data": self.DATA, "features": ["pixels", "gabor"], "components": 10, **choices})

    @pytest.mark.parametrize("plan", ["assigned", "shuffled", "learned"])
    def test_a_plan_is_a_setting(self, plan, tmp_path):
        run = train(self.config(levels=plan, encoder={"name": "ridge", "factors": 1}), tmp_path / "run", Machine())
        assert run.config.title == f"ridge (factors+radius, levels {plan})"
        assert len(run.encoder.bands) == (1 if plan == "learned" else 4)
        assert run.encoder.penalties.ndim == (2 if plan == "learned" else 1)

    def test_a_plan_that_does_not_fit_is_a_clear_error(self, tmp_path):
        with pytest.raises(CortexflowError, match="mlp cannot weigh levels"):
            train(self.config(levels="learned", encoder="mlp"), tmp_path / "run", Machine())
        assert not (tmp_path / "run" / "run.json").exists()
        with pytest.raises(CortexflowError, match="level 'clip', which does not exist"):
            train(self.config(levels={"V1": ["clip"]}), tmp_path / "other", Machine())
        assert not (tmp_path / "other" / "run.json").exists()  # the command can be given again, corrected
        with pytest.raises(CortexflowError, match="levels"):
            RunConfig.of({"levels": "sorted"})
