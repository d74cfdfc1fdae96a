import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from cortexflow.data.base import Cortex, Dataset
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.features.cache import FeatureCache
from cortexflow.features.gabor import Gabor
from cortexflow.features.pixels import Pixels
from cortexflow.features.space import FeatureSpace, fit_level, load_space, principal_axes
from cortexflow.storage import load_tensors, save_tensors


class Study(Dataset):
    """Ids 0 to 99; the pictures from 50 on depend on ``other``."""

    title = "made for the tests"
    subjects = ("subj01",)
    other = 0

    def images(self, stimuli):
        seeds = [number + (self.other if number >= 50 else 0) for number in stimuli.tolist()]
        drawn = [torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        smooth = torch.nn.functional.interpolate(torch.stack(drawn), size=(32, 32), mode="bilinear")
        return (smooth * 255).round().to(torch.uint8)

    def checksums(self):
        return {"other": str(self.other)}

    def trials(self, subject):
        raise NotImplementedError

    def held_out(self):
        return torch.arange(50, 100)

    def cortex(self, subject):
        return Cortex(subject, 0)


def extractors():
    return [Gabor(Gabor.Config(size=32, scales=(2, 4), grids=(2, 4), orientations=4)), Pixels(Pixels.Config(size=(6, 8)))]


def fitted(components=None):
    space = FeatureSpace(extractors(), FeatureSpace.Config(components=components))
    return space.fit(space.read(FeatureCache(None), Study(), torch.arange(50)))


def pixels_only(values, components=None):
    """A space of one level of any numbers."""
    space = FeatureSpace([Pixels()], FeatureSpace.Config(components=components))
    return space.fit({"pixels.pixels": values})


@pytest.mark.parametrize(("pictures", "columns"), [(40, 12), (12, 40), (20, 20)])
@pytest.mark.parametrize("components", [1, 5, 11])
def test_components_are_those_of_sklearn(pictures, columns, components):
    raw = torch.randn(pictures, columns) * torch.linspace(0.1, 30, columns) + 5
    standardised = ((raw.double() - raw.double().mean(0)) / raw.double().std(0, correction=0)).numpy()
    reference = PCA(components, svd_solver="full").fit(standardised)
    scores = reference.transform(standardised)
    ours = pixels_only(raw, components)({"pixels.pixels": raw}).numpy()
    signs = np.sign((ours * scores).sum(0))
    assert np.allclose(ours * signs, scores / np.sqrt(scores.var(0).mean()), atol=1e-4)


def test_axes_have_one_sign_and_are_orthonormal():
    for shape in ((30, 9), (9, 30)):
        centred = torch.randn(shape, dtype=torch.float64)
        centred -= centred.mean(0)
        axes, variances = principal_axes(centred, 5)
        flipped, _ = principal_axes(-centred.flip(0), 5)
        assert torch.allclose(axes, flipped, atol=1e-9)
        assert torch.allclose(axes.T @ axes, torch.eye(5, dtype=torch.float64), atol=1e-9)
        assert torch.allclose((centred @ axes).var(0, correction=0), variances) and (variances.diff() < 0).all()


def test_components_stop_at_the_rank():
    raw = torch.randn(30, 3) @ torch.randn(3, 20)
    assert pixels_only(raw, 10).levels == {"pixels.pixels": 3}
    assert pixels_only(raw, 20).levels == {"pixels.pixels": 20}
    assert pixels_only(torch.randn(6, 20), 10).levels == {"pixels.pixels": 5}


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 20), st.integers(1, 20), st.one_of(st.none(), st.integers(1, 25)), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_training_columns_have_mean_0_and_variance_1_on_average(pictures, columns, components, unit, offset):
    raw = torch.randn(pictures, columns, generator=torch.Generator().manual_seed(pictures * 31 + columns)) * unit + offset * unit
    out = pixels_only(raw, components)({"pixels.pixels": raw}).double()
    assert out.mean(0).abs().max() < 1e-3
    assert out.var(0, correction=0).mean().item() == pytest.approx(1, abs=1e-3)


def test_variance_within_a_level_is_kept_and_not_whitened():
    shared = torch.randn(200, 1)
    raw = torch.cat([shared + 0.1 * torch.randn(200, 9), torch.randn(200, 1)], 1)
    variances = pixels_only(raw, 3)({"pixels.pixels": raw}).var(0)
    assert variances[0] > 5 * variances[1]


def test_distances_between_pictures_survive_when_every_component_is_kept():
    raw = torch.randn(10, 30)
    plain, turned = (pixels_only(raw, components)({"pixels.pixels": raw}) for components in (None, 29))
    ratio = torch.pdist(turned) / torch.pdist(plain)
    assert turned.shape[1] == 9 and torch.allclose(ratio, ratio[0].expand_as(ratio), rtol=1e-4)


@pytest.mark.parametrize("components", [None, 2])
def test_constant_columns_stay_finite_and_silent(components):
    raw = torch.randn(40, 5)
    raw[:, 1], raw[:, 3] = 0, 0.1
    raw[::2, 3] += 1e-8  # rounding, not a feature
    space = pixels_only(raw, components)
    assert space.maps[0].scale[[1, 3]].tolist() == [1, 1]
    out = space({"pixels.pixels": raw + torch.tensor([0, 0, 0, 0.5, 0])})
    assert out.isfinite().all()
    if components:  # a new picture is not moved by columns of which nothing was learned
        assert torch.allclose(out, space({"pixels.pixels": raw}), atol=1e-5)
    else:
        assert out[:, 1].abs().max() == 0


def test_a_level_that_says_nothing_is_an_error():
    with pytest.raises(CortexflowError, match="x is the same for all 7 training pictures"):
        fit_level("x", torch.full((7, 3), 0.3), 2)
    for bad in (torch.full((7, 3), torch.nan), torch.zeros(0, 3)):
        with pytest.raises(CortexflowError, match="x is empty or not finite"):
            fit_level("x", bad, None)


def test_statistics_come_from_training_pictures_alone():
    """Another test set, with everything cached and read together, changes no bit of what was fitted."""
    spaces = []
    for other in (0, 1000):
        study, cache = Study(), FeatureCache(None)
        study.other = other
        space = FeatureSpace(extractors(), FeatureSpace.Config(components=10))
        everything = space.read(cache, study, torch.arange(100))
        spaces.append(space.fit({name: values[:50] for name, values in everything.items()}))
        assert not torch.equal(everything["pixels.pixels"].mean(0), everything["pixels.pixels"][:50].mean(0))
    one, two = (space.state_dict() for space in spaces)
    assert all(torch.equal(one[name], two[name]) for name in one) and len(one) == 12


def test_levels_are_named_joined_in_order_and_limited_one_by_one():
    assert fitted().levels == {"gabor.scale2": 16, "gabor.scale4": 64, "pixels.pixels": 48}
    assert fitted(7).levels == {"gabor.scale2": 7, "gabor.scale4": 7, "pixels.pixels": 7}
    space = fitted({"gabor": 9, "gabor.scale2": None})
    assert space.levels == {"gabor.scale2": 16, "gabor.scale4": 9, "pixels.pixels": 48}
    raw = space.read(FeatureCache(None), Study(), torch.arange(5))
    parts = space(raw).split(list(space.levels.values()), dim=1)
    alone = pixels_only(space.read(FeatureCache(None), Study(), torch.arange(50))["pixels.pixels"])
    assert torch.equal(parts[2], alone({"pixels.pixels": raw["pixels.pixels"]}))


def test_a_study_and_its_pictures_give_the_same_vectors(tmp_path):
    space, ids = fitted(10), torch.tensor([70, 3, 3, 99])
    vectors = space.of_dataset(FeatureCache(tmp_path), Study(), ids, batch=2)
    assert vectors.shape == (4, sum(space.levels.values())) and torch.equal(vectors[1], vectors[2])
    assert torch.allclose(vectors, space.of_images(Study().images(ids)), atol=1e-5)
    assert torch.equal(vectors, space.of_dataset(FeatureCache(tmp_path), Study(), ids))


@pytest.mark.parametrize("components", [None, 10, {"pixels": 4}])
def test_saving_keeps_every_bit(components, tmp_path):
    space = fitted(components)
    space.save(tmp_path / "space.safetensors")
    back = load_space(tmp_path / "space.safetensors")
    images = Study().images(torch.arange(60, 70))
    assert torch.equal(back.of_images(images), space.of_images(images))
    assert (back.levels, back.keys, back.config) == (space.levels, space.keys, space.config)
    assert [entry.config for entry in back.features] == [entry.config for entry in space.features]


def test_features_of_another_revision_are_refused(tmp_path, monkeypatch):
    space = fitted()
    keys = list(space.keys)
    space.save(tmp_path / "space.safetensors")
    monkeypatch.setattr(Gabor, "revision", "2-next")
    with pytest.raises(
        CortexflowError, match=r"space.safetensors: trained with features gabor-1-.*this version has gabor-2-next.*train again"
    ) as caught:
        load_space(tmp_path / "space.safetensors")
    assert "\n" not in str(caught.value) and "pixels" not in str(caught.value)
    with pytest.raises(CortexflowError, match="train again"):
        space.check(keys)
    space.check(space.keys)


def test_files_that_are_no_space_are_refused(tmp_path):
    fitted(5).save(tmp_path / "whole")
    tensors, made_of = load_tensors(tmp_path / "whole")
    save_tensors(tmp_path / "part", {name: value for name, value in tensors.items() if "mean" not in name}, made_of)
    save_tensors(tmp_path / "other", tensors, {"encoder": {"name": "ridge"}})
    for name in ("part", "other"):
        with pytest.raises(DamagedFileError, match="whole feature space"):
            load_space(tmp_path / name)
    save_tensors(tmp_path / "gone", tensors, made_of | {"features": [{"name": "gone"}]})
    with pytest.raises(CortexflowError, match="'gone'; choose one of"):
        load_space(tmp_path / "gone")
    save_tensors(tmp_path / "newer", tensors, made_of | {"config": {"whiten": True}})
    with pytest.raises(CortexflowError, match=r"newer: feature space: whiten.*options are components") as caught:
        load_space(tmp_path / "newer")
    assert "\n" not in str(caught.value)


def test_wrong_use_says_what_to_do():
    raw = FeatureSpace(extractors()).read(FeatureCache(None), Study(), torch.arange(10))
    for wrong in ([], [Pixels(), Pixels()]):
        with pytest.raises(CortexflowError, match="different names"):
            FeatureSpace(wrong)
    with pytest.raises(CortexflowError, match="call fit"):
        FeatureSpace(extractors()).of_images(Study().images(torch.arange(2)))
    with pytest.raises(CortexflowError, match=r"components name gabor.scale9; choose from gabor, gabor.scale2"):
        fitted({"gabor.scale9": 3})
    with pytest.raises(CortexflowError, match="must come from gabor, pixels"):
        FeatureSpace(extractors()).fit({"pixels.pixels": raw["pixels.pixels"]})
    with pytest.raises(CortexflowError, match="same pictures"):
        FeatureSpace(extractors()).fit({name: values[:rows] for rows, (name, values) in zip((4, 4, 5), raw.items(), strict=True)})
    with pytest.raises(CortexflowError, match=r"fitted with levels gabor.scale2"):
        fitted()({"pixels.pixels": raw["pixels.pixels"]})
    with pytest.raises(CortexflowError, match=r"pixels.pixels has 5 columns, 48 were fitted"):
        fitted()(raw | {"pixels.pixels": raw["pixels.pixels"][:, :5]})


def test_no_pictures_are_a_clear_error():
    with pytest.raises(CortexflowError, match="none came"):
        FeatureSpace([Pixels()]).of_images(torch.zeros(0, 3, 16, 16, dtype=torch.uint8))
