"""Files of the documented names and keys, written here: pictures, responses and areas are found where they were put.

All but one test use fewer pictures and voxels: the true files have 180 MB.
"""

import functools
import http.server
import shutil
import threading

import numpy as np
import pytest
import torch

from cortexflow import catalog
from cortexflow.data.kay2008 import Kay2008
from cortexflow.data.on_disk.recorded import RECORD
from cortexflow.errors import CortexflowError, DamagedFileError

AREAS = {"Other": 0, "V1": 1294, "V2": 2083, "V3": 1790, "V3A": 484, "V3B": 314, "V4": 1535, "LatOcc": 928}  # as the course prints them
FEWER = {name: count // 10 for name, count in AREAS.items()}
TRUE = {name: getattr(Kay2008, name) for name in ("PICTURES", "VOXELS")}
FIT, TEST, SIDE, VOXELS = 175, 12, 128, sum(FEWER.values())


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kay2008, "PICTURES", {"stimuli": FIT, "stimuli_test": TEST})
        patch.setattr(Kay2008, "VOXELS", VOXELS)
        yield


def arrays():
    """Every picture has grays of its own; black is in a fitting picture and white in a test picture."""
    rng = np.random.default_rng(0)
    pictures = {name: rng.uniform(-0.4, 0.4, (count, SIDE, SIDE)) for name, count in (("stimuli", FIT), ("stimuli_test", TEST))}
    pictures["stimuli"][0, 0, 0], pictures["stimuli_test"][5, 1, 0] = -0.5, 0.5
    responses = {name: rng.standard_normal((count, VOXELS)) for name, count in (("responses", FIT), ("responses_test", TEST))}
    roi = rng.permutation(np.repeat(np.arange(8), list(FEWER.values())))
    single = {name: values.astype(np.float32) for name, values in {**pictures, **responses}.items()}
    return {**single, "roi": roi, "roi_names": np.array(list(FEWER))}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "kay2008"
    root.mkdir()
    content = arrays()
    np.savez(root / "kay_images.npz", **content)
    for name, count in (("kay_labels.npy", FIT), ("kay_labels_val.npy", TEST)):
        np.save(root / name, np.array([[f"level {level} of {name} {number}" for number in range(count)] for level in range(4)]))
    return root, content


@pytest.fixture(scope="module")
def study(written):
    return Kay2008(root=written[0])


def altered(written, folder, **changes):
    """A study of which some arrays are others; the names are the same files."""
    folder.mkdir(exist_ok=True)
    left = {name: value for name, value in {**written[1], **changes}.items() if value is not None}
    np.savez(folder / "kay_images.npz", **left)
    for name in Kay2008.NAMES:
        shutil.copy(written[0] / name, folder / name)
    return Kay2008(root=folder)


class TestTrials:
    def test_one_row_per_picture_fitting_pictures_first(self, study, written):
        trials, content = study.trials("subj01"), written[1]
        assert trials.stimuli.tolist() == list(range(FIT + TEST)) and not trials.repeats.any()
        assert np.array_equal(trials.responses[:FIT], content["responses"])
        assert np.array_equal(trials.responses[FIT:], content["responses_test"])

    def test_the_test_pictures_are_held_out(self, study):
        assert study.held_out().tolist() == list(range(FIT, FIT + TEST))

    def test_areas_cover_all_voxels_once(self, study, written):
        cortex = study.cortex("subj01")
        assert {name: int(mask.sum()) for name, mask in cortex.areas.items()} == {name: count for name, count in FEWER.items() if count}
        assert torch.stack(list(cortex.areas.values())).sum(0).eq(1).all()
        assert np.array_equal(np.flatnonzero(cortex.areas["V3A"]), np.flatnonzero(written[1]["roi"] == 4))
        assert cortex.ncsnr is None and cortex.coordinates is None
        assert list(cortex.chain()) == ["V1", "V2", "V3", "hV4", "higher"]


def test_the_true_sizes_are_those_that_the_course_prints(tmp_path):
    sizes = {"stimuli": (1750, 128, 128), "stimuli_test": (120, 128, 128), "responses": (1750, 8428), "responses_test": (120, 8428)}
    content = {name: np.broadcast_to(np.float32(0), shape).copy() for name, shape in sizes.items()}
    content["stimuli"][3, 5, 7], content["responses_test"][119, 8427] = 1, 2
    np.savez_compressed(tmp_path / "kay_images.npz", **content, roi=np.repeat(np.arange(8), list(AREAS.values())), roi_names=list(AREAS))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TRUE.items():
            patch.setattr(Kay2008, name, value)
        study = Kay2008(root=tmp_path)
        assert study.trials("subj01").responses[1869, 8427] == 2 and len(study.held_out()) == 120
        assert study.images(torch.tensor([3]))[0, 0].nonzero().tolist() == [[5, 7]]
        assert study.cortex("subj01").areas["LatOcc"].sum() == 928


class TestPictures:
    def test_black_and_white_are_those_of_all_pictures(self, study, written):
        ids = torch.tensor([0, 3, FIT + 5, FIT + TEST - 1])
        pictures = study.images(ids)
        assert pictures.shape == (4, 3, SIDE, SIDE) and torch.equal(pictures[:, 0], pictures[:, 2])
        every = np.concatenate([written[1]["stimuli"], written[1]["stimuli_test"]])[ids]
        assert np.abs(pictures[:, 1].numpy() - (every + 0.5) * 255).max() <= 0.5 + 1e-3
        assert pictures[0, 0, 0, 0] == 0 and pictures[2, 0, 1, 0] == 255

    def test_smaller_ones_are_means_of_squares(self, written, study):
        small = Kay2008(Kay2008.Config(size=8), written[0]).images(torch.tensor([7]))
        whole = study.images(torch.tensor([7]))[0, 0].double().reshape(8, 16, 8, 16).mean((1, 3))
        assert (small[0, 0].double() - whole).abs().max() <= 1
        with pytest.raises(CortexflowError, match="size must divide 128, 20 does not"):
            Kay2008(Kay2008.Config(size=20), written[0]).images(torch.tensor([7]))

    def test_names_from_the_widest_on(self, study):
        first, last = study.names(torch.tensor([FIT - 1, FIT]))
        assert first == tuple(f"level {level} of kay_labels.npy {FIT - 1}" for level in range(4))
        assert last[3] == "level 3 of kay_labels_val.npy 0"

    @pytest.mark.parametrize("wrong", [-1, FIT + TEST])
    def test_ids_that_are_none(self, study, wrong):
        with pytest.raises(CortexflowError, match=f"stimuli 0 to {FIT + TEST - 1}, {wrong} was asked"):
            study.images(torch.tensor([0, wrong]))


class TestFiles:
    def test_arrays_that_are_missing_or_of_another_shape(self, written, tmp_path):
        wrong = {"stimuli": np.zeros((FIT, 4, 4)), "responses": np.zeros((3, VOXELS)), "roi": np.zeros(VOXELS) + 8}
        study = altered(written, tmp_path / "kay2008", **wrong)
        with pytest.raises(DamagedFileError, match=r"stimuli of shape \(175, 4, 4\) where the study has \(175, 128, 128\); delete it"):
            study.images(torch.tensor([0]))
        with pytest.raises(DamagedFileError, match=r"has responses of shape \(3, 840\) where the study has \(175, 840\)"):
            study.trials("subj01")
        with pytest.raises(DamagedFileError, match=r"has areas numbered \[8.0\] where it names 8"):
            study.cortex("subj01")
        with pytest.raises(DamagedFileError, match="has no array 'roi_names'"):
            altered(written, tmp_path / "kay2008", roi_names=None).cortex("subj01")

    def test_a_file_that_holds_objects_is_not_opened(self, written, tmp_path):
        study = altered(written, tmp_path / "kay2008")
        np.save(tmp_path / "kay2008/kay_labels.npy", np.array([["a", 1]], dtype=object))
        with pytest.raises(DamagedFileError, match="kay_labels.npy is damaged or not of its type"):
            study.names(torch.tensor([0]))

    def test_responses_that_are_no_numbers_are_told_by_the_check(self, study, written, tmp_path):
        assert not [check for check in study.check() if check.wrong]
        responses = written[1]["responses_test"].copy()
        responses[3, [5, 9]] = np.nan
        wrong = [check.wrong for check in altered(written, tmp_path / "kay2008", responses_test=responses).check() if check.wrong]
        assert len(wrong) == 1 and "2 voxels have responses that are not finite" in wrong[0]

    def test_no_folder_no_file_no_subject(self, study, tmp_path):
        with pytest.raises(CortexflowError, match="needs the folder of its files; fetch the study with: cortexflow data fetch kay2008 --to DIR"):
            Kay2008().trials("subj01")
        with pytest.raises(CortexflowError, match=r"kay_images.npz does not exist; fetch the study with"):
            Kay2008(root=tmp_path).trials("subj01")
        with pytest.raises(CortexflowError, match="no subject 'S1'"):
            study.trials("S1")

    def test_the_catalogue_finds_it(self):
        assert catalog.find("data", "kay2008") is Kay2008


@pytest.fixture
def addresses(written):
    """Where this machine's own web server has the files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=written[0]))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield {name: f"http://127.0.0.1:{server.server_port}/{name}" for name in Kay2008.SOURCES}
    server.shutdown()
    server.server_close()
    thread.join()


class TestFetch:
    def test_what_is_fetched_is_read_and_remembered(self, addresses, study, tmp_path):
        Kay2008.fetch(tmp_path, addresses)
        fetched = Kay2008(root=tmp_path)
        assert torch.equal(fetched.trials("subj01").responses, study.trials("subj01").responses)
        assert fetched.checksums() == study.checksums() and (tmp_path / RECORD).is_file()
        nowhere = dict.fromkeys(addresses, "http://127.0.0.1:9/closed")
        Kay2008.fetch(tmp_path, nowhere)  # what is there is kept
        np.save(tmp_path / "kay_labels_val.npy", np.full((4, TEST), "another"))
        with pytest.raises(DamagedFileError, match=r"kay_labels_val.npy is damaged or of another version .* delete it and fetch the study"):
            Kay2008(root=tmp_path).names(torch.tensor([0]))
        with pytest.raises(DamagedFileError, match="kay_labels_val.npy is damaged"):
            Kay2008.fetch(tmp_path, nowhere)  # and never vouched for after a change

    def test_a_page_in_place_of_the_file(self, addresses, tmp_path):
        with pytest.raises(DamagedFileError, match="kay_labels.npy is damaged or not of its type"):
            Kay2008.fetch(tmp_path, addresses | {"kay_labels.npy": addresses["kay_labels.npy"].rsplit("/", 1)[0] + "/"})
        assert not (tmp_path / RECORD).exists()

    def test_offline_says_what_to_do(self, tmp_path):
        with pytest.raises(CortexflowError, match="kay_images.npz could not be downloaded .*; check the connection") as error:
            Kay2008.fetch(tmp_path, dict.fromkeys(Kay2008.SOURCES, "http://127.0.0.1:9/closed"))
        assert "\n" not in str(error.value)
