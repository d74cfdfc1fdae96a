import shutil

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, spearmanr

from cortexflow import catalog
from cortexflow.data.rsa92 import Rsa92
from cortexflow.errors import CortexflowError, DamagedFileError


@pytest.fixture(scope="module")
def study(recordings):
    return Rsa92(root=recordings / "rsa92")


@pytest.fixture(scope="module")
def vectors(recordings):
    """Upper triangles published elsewhere: an independent copy of the two group matrices, and the categories."""
    return np.load(recordings / "rsa92" / "it_rdm_vectors.npz")


def pairs(matrix):
    return matrix.numpy()[..., *np.triu_indices(92, 1)]


@pytest.fixture(scope="module")
def people(study):
    """The mean of a person's two sessions, four people by 4,186 pairs."""
    return np.stack([pairs(study.rdms(subject)).mean(0) for subject in study.subjects])


class TestMatrices:
    def test_are_distance_matrices(self, study):
        for matrix in [*study.models().values(), *study.judgements(), *(m for s in study.subjects for m in study.rdms(s))]:
            assert matrix.shape == (92, 92) and torch.isfinite(matrix).all()
            assert torch.equal(matrix, matrix.T) and not matrix.diagonal().any()
            assert matrix.min() >= 0

    def test_how_many_of_each(self, study):
        assert [study.rdms(subject).shape[0] for subject in study.subjects] == [2, 2, 2, 2]
        assert len(study.models()) == 8 and study.judgements().shape[0] == 16

    def test_people_differ(self, people):
        between = np.corrcoef(people)[np.triu_indices(4, 1)]
        assert (between > 0.1).all() and (between < 0.9).all()

    def test_the_animacy_model_is_the_category(self, study):
        animate = study.categories["animate"]
        assert torch.equal(study.models()["animacy"] > 0, animate[:, None] != animate[None])

    def test_categories_are_those_published(self, study, vectors):
        labels = dict(zip(vectors["category_labels"].tolist(), vectors["category_vectors"].T.astype(bool), strict=True))
        theirs = ["animate", "inanim", "human", "nonhumani", "body", "face", "natObj", "artiObj"]
        for label, mask in zip(theirs, study.categories.values(), strict=True):
            np.testing.assert_array_equal(mask, labels[label])


class TestFigures:
    @pytest.mark.parametrize("model, expected", [("animacy", 0.386), ("monkeyIT", 0.296), ("HMAX", 0.160), ("V1", 0.027)])
    def test_models_against_people(self, study, people, model, expected):
        scores = [spearmanr(person, pairs(study.models()[model]))[0] for person in people]
        assert np.mean(scores) == pytest.approx(expected, abs=0.0006)

    def test_noise_ceiling(self, people):
        ranks = np.stack([rankdata(person) for person in people])
        upper = np.mean([np.corrcoef(person, ranks.mean(0))[0, 1] for person in ranks])
        lower = np.mean([np.corrcoef(ranks[i], np.delete(ranks, i, 0).mean(0))[0, 1] for i in range(4)])
        assert (lower, upper) == pytest.approx((0.377, 0.672), abs=0.0006)

    def test_macaque_against_human(self, study):
        assert spearmanr(pairs(study.macaque()), pairs(study.human()))[0] == pytest.approx(0.439, abs=0.0006)

    def test_group_matrices_are_those_published(self, study, vectors):
        np.testing.assert_allclose(pairs(study.human()), vectors["hITvisStim_316vx"], atol=1e-6)
        np.testing.assert_allclose(pairs(study.macaque()), vectors["mIT_674neurons"], atol=1e-6)

    def test_objects_in_another_order_lose_the_agreement(self, study, people):
        shuffle = torch.randperm(92, generator=torch.Generator().manual_seed(0))
        shuffled = pairs(study.models()["animacy"][shuffle][:, shuffle])
        assert abs(np.mean([spearmanr(person, shuffled)[0] for person in people])) < 0.05


class TestWhatThereIsNot:
    def test_responses_pictures_and_voxels(self, study):
        with pytest.raises(CortexflowError, match=r"no responses; use rdms\(subject\)"):
            study.trials("BE")
        with pytest.raises(CortexflowError, match="no pictures; use models"):
            study.images(torch.tensor([0]))
        with pytest.raises(CortexflowError, match="no voxels"):
            study.cortex("BE")
        assert len(study.held_out()) == 0

    def test_unknown_subject(self, study):
        with pytest.raises(CortexflowError, match="no subject 'XX'; choose one of BE, KO, SN, TI"):
            study.rdms("XX")

    def test_no_folder_no_file_wrong_file(self, recordings, tmp_path):
        with pytest.raises(CortexflowError, match="needs the folder of its files; copy demos/92imageData"):
            Rsa92().models()
        with pytest.raises(CortexflowError, match=r"92_modelRDMs\.mat does not exist"):
            Rsa92(root=tmp_path).models()
        shutil.copyfile(recordings / "rsa92" / "92_brainRDMs.mat", tmp_path / "92_modelRDMs.mat")
        with pytest.raises(DamagedFileError, match="checksum does not match"):
            Rsa92(root=tmp_path).models()

    def test_the_catalogue_finds_it(self, study):
        assert catalog.find("data", "rsa92") is Rsa92
        assert set(study.checksums()) == {"92_brainRDMs.mat", "92_modelRDMs.mat", "92_behavRDMs.mat"}
