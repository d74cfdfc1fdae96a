"""Maps, areas and ratios that are read agree with what was planted; odd voxels are named; ways to the average brain end where they should."""

import gzip
import os
import shutil
import warnings

import h5py
import nibabel
import numpy as np
import pytest
import scipy.ndimage
import torch

from cortexflow.data.nsd import NSD
from cortexflow.data.nsd_layout import ceiling
from cortexflow.data.nsd_layout.design import PER_SESSION
from cortexflow.data.nsd_layout.label_tables import LABELS
from cortexflow.data.nsd_layout.miniature import study as miniature
from cortexflow.data.nsd_layout.miniature.heads import head
from cortexflow.data.nsd_layout.miniature.planning import plan, spread
from cortexflow.data.nsd_layout.miniature.recovery import recovery
from cortexflow.data.nsd_layout.miniature.study import Miniature, write_miniature
from cortexflow.data.nsd_layout.orientation import check_orientation
from cortexflow.data.nsd_layout.retinotopy import Fields
from cortexflow.data.nsd_layout.transforms import to_fsaverage
from cortexflow.data.nsd_layout.upkeep.checks import check_subject
from cortexflow.data.standardize import usable_voxels, zscore_sessions
from cortexflow.errors import CortexflowError, CortexflowWarning, DamagedFileError
from cortexflow.metrics.noise_ceiling import ncsnr_nsd

B3 = "nsddata_betas/ppdata/{}/{}/betas_fithrf_GLMdenoise_RR"
SPACES = ("func1pt8mm", "fsaverage", "nativesurface")
SMALL = Miniature(subjects=1, sessions=1, voxels=300, image_size=16, spaces=SPACES, annotations=False)
ODD = pytest.mark.filterwarnings("ignore::cortexflow.errors.CortexflowWarning")


def write(root, choices, pictures=2):
    drawn = miniature._write_pictures
    with pytest.MonkeyPatch.context() as patch:  # pictures are none of this file's business
        patch.setattr(miniature, "_write_pictures", lambda path, study, stimuli: drawn(path, study, stimuli[:pictures]))
        return root, write_miniature(root, choices)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("nsd") / "nsd", SMALL)


@pytest.fixture
def copy(written, tmp_path):
    """The same files under other names: whoever changes one must put a new one in its place."""
    shutil.copytree(written[0], tmp_path / "nsd", copy_function=os.link)
    shutil.rmtree(tmp_path / "nsd/prepared", ignore_errors=True)
    return tmp_path / "nsd"


def study(root, **choices):
    return NSD(NSD.Config(**choices), root)


def refused(message, call, kind=CortexflowError):
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def put(path, image):
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


@ODD
def test_what_is_read_agrees_with_what_was_planted(written):
    root, truth = written
    numbers = recovery(study(root), truth, "subj01")
    least = {"ncsnr r": 0.9, "x r": 0.95, "y r": 0.95, "eccentricity r": 0.95, "size r": 0.9}
    assert all(numbers[name] > value for name, value in least.items()), numbers
    assert all(numbers[f"{name} AUC"] > 0.9 for name in ("faces", "bodies", "places", "characters")), numbers
    assert all(numbers[f"{name} IoU"] > 0.6 for name in ("faces", "bodies", "places", "V1v", "V1d", "ecc0pt5", "ecc2")), numbers


@ODD
def test_category_maps_of_another_subject_would_not_agree(written):
    """The comparison above fails where maps are not those of these voxels."""
    root, truth = written
    shuffled = study(root)
    mixed = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    whole, shuffled.map = shuffled.map, lambda subject, name: whole(subject, name)[mixed]
    numbers = recovery(shuffled, truth, "subj01")
    assert numbers["x r"] < 0.3 and numbers["faces AUC"] < 0.8 and numbers["ecc2 IoU"] < 0.6


def test_angles_turn_counter_clockwise_from_the_right():
    angle, eccentricity, one = torch.tensor([0.0, 90.0, 180.0, 225.0, torch.nan]), torch.tensor([1.0, 2.0, 3.0, 2**0.5, 0.0]), torch.ones(5)
    fields = Fields.polar(angle, eccentricity, one)
    assert torch.allclose(fields.x, torch.tensor([1.0, 0.0, -3.0, -1.0, 0.0]), atol=1e-6)
    assert torch.allclose(fields.y, torch.tensor([0.0, 2.0, 0.0, -1.0, 0.0]), atol=1e-6)
    assert torch.allclose(fields.angle[:4], angle[:4], atol=1e-4) and torch.allclose(fields.eccentricity, eccentricity)
    above = Fields.of_picture(torch.tensor([[0.5, 0.25, 0.1]]))  # a quarter of 8.4 degrees above the middle
    assert torch.allclose(torch.stack([above.x, above.y, above.size]), torch.tensor([[0.0], [2.1], [0.84]]), atol=1e-6)
    assert torch.allclose(above.on_picture(), torch.tensor([[0.5, 0.25, 0.1]]))


def test_odd_voxels_are_named_and_left_out_of_training(written):
    root, truth = written
    odd = truth.odd("subj01")
    opened = study(root)
    with pytest.warns(CortexflowWarning) as said:
        trials = opened.trials("subj01")
    limit = "subj01: 1 of 300 voxels reaches the limit of 16-bit integers, ±109.2 percent signal change"
    sentences = [str(warning.message) for warning in said]
    assert any(sentence == "subj01: 1 of 300 voxels never changes within a session; -s bad_voxels=drop leaves it out" for sentence in sentences)
    assert any(sentence.startswith(limit) for sentence in sentences)
    assert torch.nonzero(~usable_voxels(trials)).ravel().tolist() == [odd["constant"]]
    assert 0.2 < (trials.responses[:, odd["saturated"]] > 109.2).float().mean() < 0.45
    assert (trials.responses - truth.trials("subj01").responses).abs().max() <= 0.5 / 300 + 1e-4
    assert set(sentences) < set(opened.findings("subj01"))
    assert all(f"{sentence}." in opened.cautions("subj01") for sentence in sentences)  # and so they are in reports


def test_a_ratio_of_0_or_none_is_said_and_read_as_0(written):
    root, truth = written
    odd, opened = truth.odd("subj01"), study(root)
    shipped, cortex = opened._shipped("subj01"), opened.cortex("subj01")
    assert shipped[odd["constant"]].isnan() and cortex.ncsnr[odd["constant"]] == 0 == cortex.ncsnr[odd["noise"]]
    zeros = int((shipped == 0).sum())
    assert f"subj01: ncsnr is 0 in {zeros} and not a number in 1 of 300 voxels" in opened.findings("subj01")[-1]


def test_vertices_without_numbers_are_left_out(written):
    root, truth = written
    opened = study(root, space="fsaverage")
    with pytest.warns(CortexflowWarning, match="subj01: 1 of 300 vertices of nsdgeneral are NaN in a session and are left out of the mask"):
        cortex = opened.cortex("subj01")
    with pytest.warns(CortexflowWarning, match="never changes"):
        trials = opened.trials("subj01")
    members = np.concatenate([part for _, part in truth.heads["subj01"].surface])[1:]  # the first one of the left hemisphere is NaN
    assert torch.equal(trials.responses, truth.recorded("subj01").responses[:, torch.from_numpy(members)])
    lines = check_subject(opened._space("subj01"), opened._space("subj01").sessions(), 40, "nsdgeneral")
    assert any(line.found.endswith("; 1 without numbers left out") and line.file == "subj01, mask nsdgeneral" for line in lines)
    assert cortex.voxels == 299 and cortex.area("early").sum() > 50


def test_vertices_that_lose_their_numbers_later_are_refused(copy):
    path = copy / B3.format("subj01", "fsaverage") / "rh.betas_session01.mgh"
    values = np.asarray(nibabel.load(path).dataobj).copy()
    values[np.flatnonzero(np.isfinite(values[:, 0, 0, 0])), 0, 0, 5] = np.nan
    put(path, nibabel.MGHImage(values, np.eye(4)))
    with pytest.warns(CortexflowWarning):
        refused("vertices are NaN in some trials and not in others; copy them again", lambda: study(copy, space="fsaverage").trials("subj01"))


@ODD
def test_the_subjects_own_surface_holds_the_same_truth(written):
    root, truth = written
    opened, place = study(root, space="nativesurface"), truth.heads["subj01"]
    members = np.concatenate([part for _, part in place.own_surface])
    trials, cortex = opened.trials("subj01"), opened.cortex("subj01")
    assert (trials.responses - truth.recorded("subj01").responses[:, torch.from_numpy(members)]).abs().max() <= 0.5 / 300 + 1e-4
    planted = truth.study.cortex("subj01").areas
    assert torch.equal(cortex.area("FFA-1"), planted["FFA"][torch.from_numpy(members)])
    assert torch.equal(cortex.chain()["V1"], planted["V1"][torch.from_numpy(members)])
    volumes, back = study(root), torch.from_numpy(np.argsort(place.order)[members])
    assert torch.equal(opened.prf("subj01").x, volumes.prf("subj01").x[back])
    assert torch.equal(opened.floc("subj01")["faces"], volumes.floc("subj01")["faces"][back])
    assert torch.equal(cortex.ncsnr, volumes.cortex("subj01").ncsnr[back])
    (root / "nsddata/freesurfer/subj01/label/lh.nsdgeneral.mgz").stat()
    refused(
        "lh.prfhemifield.mgz does not exist; copy s3://natural-scenes-dataset/nsddata/freesurfer/subj01/label",
        lambda: opened.map("subj01", "prf_hemifield"),
    )


@ODD
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("freesurfer/fsaverage/label/lh.streams.mgz", lambda opened: opened.cortex("subj01")),
        ("ppdata/subj01/transforms/rh.func1pt8-to-layerB2.mgz", lambda opened: opened.to_fsaverage("subj01", torch.zeros(300))),
    ],
)
def test_a_compressed_map_that_was_altered_is_damaged(copy, name, read):
    """A number in the middle of it, so that only the checksum at its end tells."""
    path = copy / "nsddata" / name
    whole = path.read_bytes()
    content = bytearray(gzip.decompress(whole))
    content[300] ^= 64
    path.unlink()
    path.write_bytes(gzip.compress(bytes(content), 0)[:-8] + whole[-8:])
    refused(f"{path.name} is damaged", lambda: read(study(copy, space="fsaverage" if "label" in name else "func1pt8mm")), DamagedFileError)


@ODD
def test_files_that_systems_hide_are_no_maps(copy):
    """As macOS leaves them on disks of others."""
    folder = copy / "nsddata/ppdata/subj01/func1pt8mm/roi"
    before = study(copy).cortex("subj01")
    for name in ("streams", "lh.streams"):
        (folder / f"._{name}.nii.gz").write_bytes(b"\0\5\x16\7")
    opened = study(copy)
    assert torch.equal(opened.cortex("subj01").coordinates, before.coordinates)
    assert not [name for name in opened._space("subj01").atlases() if name.startswith(".")]
    assert not [line for line in opened.check() if line.wrong and "streams" in line.file]


def test_a_cut_short_file_of_the_own_surface_is_damaged(copy):
    path = copy / B3.format("subj01", "nativesurface") / "lh.betas_session01.hdf5"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    refused("lh.betas_session01.hdf5 is damaged", lambda: study(copy, space="nativesurface").trials("subj01"))


@ODD
@pytest.mark.parametrize("space", ["func1pt8mm", "nativesurface"])
def test_the_ratio_computed_again_is_the_shipped_one(written, space, monkeypatch):
    root, _ = written
    opened = study(root, space=space)
    again, found = opened.recomputed_ncsnr("subj01"), opened.compare_ncsnr("subj01")
    assert found.voxels == 299 and found.r > 0.9999 and found.largest < 0.005 and found.missing == 1
    trials = opened.trials("subj01")
    usable = usable_voxels(trials)
    scale = (749 / 750) ** 0.5  # the dataset divides by the deviation of a sample
    independent = ncsnr_nsd(scale * zscore_sessions(trials.only(usable)).responses, trials.stimuli)
    assert torch.allclose(again[usable], independent, atol=1e-4) and again[~usable].isnan().all()
    monkeypatch.setattr(ceiling, "BLOCK", 4 * 250 * 7)  # seven voxels at a time
    assert torch.equal(opened.recomputed_ncsnr("subj01")[usable], again[usable])


def test_the_ratio_of_a_small_case_by_hand():
    """One picture three times with two others around it: z-scores of 0, 3, 6, 3, 3 in one session."""
    stimuli, responses = np.array([7, 7, 7, 1, 2]), np.array([[0.0], [3.0], [6.0], [3.0], [3.0]])
    within = 9 / 4.5  # the variance of 0, 3, 6 over that of all five
    assert ceiling.recomputed(lambda: [(stimuli, responses)], 1)[0] == 0 and within > 1
    stimuli = np.array([7, 1, 7, 7, 1, 1])
    responses = np.array([[5.0], [0.0], [6.0], [5.0], [1.0], [0.0]])
    v = (1 / 3) / responses.var(ddof=1)
    assert np.isclose(ceiling.recomputed(lambda: [(stimuli, responses)], 1)[0], np.sqrt(1 - v) / np.sqrt(v), rtol=1e-5)
    assert np.isnan(ceiling.recomputed(lambda: [(stimuli[:2], responses[:2])], 1)).all()  # nothing came three times


@ODD
def test_a_check_compares_the_ratio_once_sessions_are_prepared(copy):
    opened = study(copy)
    lines = {check.file: check.found for check in opened.check()}
    assert lines["subj01, ncsnr"].startswith("compared with the trials once all sessions are prepared; subj01: ncsnr is 0 in")
    opened.prepare("subj01")
    lines = {check.file: check.found for check in opened.check()}
    assert lines["subj01, ncsnr"].startswith("recomputed from 1 sessions: r 1.0000 and at most ")
    for path in (copy / B3.format("subj01", "func1pt8mm")).glob("ncsnr.nii.gz"):
        path.unlink()
    assert {check.file: check.found for check in opened.check()}["subj01, ncsnr"] == "none is shipped"
    refused("has no ncsnr; copy it", lambda: opened.compare_ncsnr("subj01"))


def test_known_voxels_reach_known_vertices(written):
    root, truth = written
    place = truth.heads["subj01"]
    values = torch.arange(300, dtype=torch.float32)
    there = study(root).to_fsaverage("subj01", torch.stack([values, values + 1]), "nearest")
    expected = np.full(2 * place.vertices, np.nan)
    for half, (vertices, members) in enumerate(place.surface):
        expected[half * place.vertices + vertices] = np.argsort(place.order)[members]
    assert there.shape == (2, 2 * place.vertices)
    assert np.array_equal(there[0].numpy(), expected, equal_nan=True)
    assert torch.equal(there[1][there[1].isfinite()], there[0][there[0].isfinite()] + 1)
    one = study(root).to_fsaverage("subj01", values, "linear", depths=("layerB2",))  # the middle depth passes through middles of voxels
    inside = ~np.isnan(expected)
    assert np.allclose(one.numpy()[inside], expected[inside])


@pytest.mark.parametrize("method", ["nearest", "linear"])
def test_depths_are_sampled_as_interpolation_says(tmp_path, method):
    rng, shape = np.random.default_rng(0), (6, 7, 5)
    folder = tmp_path / "nsddata/ppdata/subj01/transforms"
    layers, nearest = {}, {}
    for side in ("lh", "rh"):
        nearest[side] = rng.integers(1, 41, 30)
        put(folder / f"{side}.white-to-fsaverage.mgz", nibabel.MGHImage(nearest[side].astype(np.int32)[:, None, None], np.eye(4)))
        for depth in ("layerB1", "layerB3"):
            places = rng.uniform(0.2, 7.8, (40, 3))  # some outside the volume
            places[:3] = 9999
            layers[side, depth] = places
            put(folder / f"{side}.func1pt0-to-{depth}.mgz", nibabel.MGHImage(places.astype(np.float32)[:, None, None], np.eye(4)))
    volume = rng.standard_normal(shape)
    order = {"nearest": 0, "linear": 1}[method]

    def sampled(places):
        values = scipy.ndimage.map_coordinates(volume, (places - 1).T, order=order, mode="nearest")
        values[((places < 1) | (places > shape)).any(axis=1)] = np.nan
        return values

    depths = ("layerB1", "layerB3")
    found = to_fsaverage(tmp_path, "subj01", "func1mm", np.ones(shape, bool), torch.from_numpy(volume.ravel()).float(), method, depths).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN here as well
        expected = np.concatenate(
            [np.nanmean([sampled(layers[side, depth]) for depth in depths], axis=0)[nearest[side] - 1] for side in ("lh", "rh")]
        )
    assert 5 < np.isnan(expected).sum() < 55
    assert np.allclose(found, expected, atol=1e-5, equal_nan=True)
    put(folder / "rh.white-to-fsaverage.mgz", nibabel.MGHImage(np.full((30, 1, 1), 41, np.int32), np.eye(4)))
    values, whole = torch.zeros(volume.size), np.ones(shape, bool)
    message = "names vertices 41 to 41 where the subject has 1 to 40"
    refused(message, lambda: to_fsaverage(tmp_path, "subj01", "func1mm", whole, values, method, depths))
    refused("lh.func1pt0-to-layerB2.mgz does not exist", lambda: to_fsaverage(tmp_path, "subj01", "func1mm", whole, values))
    refused("fsaverage has no way to fsaverage", lambda: to_fsaverage(tmp_path, "subj01", "fsaverage", whole, values))


@pytest.mark.parametrize("ending", ["nii.gz", "hdf5"])
def test_axes_that_are_turned_are_told_by_the_brain(tmp_path, ending):
    grid = np.indices((9, 9, 9)) - np.array([4, 3, 2])[:, None, None, None]
    brain = (grid**2 / np.array([16, 9, 5])[:, None, None, None]).sum(0) < 1  # a shape that tells nothing
    values = np.where(brain[..., None], np.random.default_rng(0).integers(1, 99, (9, 9, 9, 3)), 0).astype(np.int16)
    path = tmp_path / f"betas_session01.{ending}"

    def save(turned):
        if ending == "hdf5":
            with h5py.File(path, "w") as file:
                file.create_dataset("betas", data=turned.T, chunks=(3, 1, 1, 1))
        else:
            nibabel.save(nibabel.Nifti1Image(turned, np.eye(4)), path)

    save(values)
    check_orientation(path, brain)
    for axes, name in (((2, 1, 0), "z y x"), ((0, 2, 1), "x z y")):
        save(values.transpose(*axes, 3))
        refused(f"axes in another order than x y z: .* with axes {name} in 100%", lambda: check_orientation(path, brain))
    save(values[:, :, ::-1])
    refused("with axes x y -z in 100%", lambda: check_orientation(path, brain))


def test_a_session_whose_axes_are_turned_is_not_prepared(copy):
    path = copy / B3.format("subj01", "func1pt8mm") / "betas_session01.hdf5"
    with h5py.File(path) as file:
        values = file["betas"][:]
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=values[:, ::-1], chunks=(750, 1, 1, 1))
    refused("betas_session01.hdf5 has its axes in another order than x y z", lambda: study(copy).trials("subj01"))
    wrong = [check.wrong for check in study(copy).check() if check.wrong]
    assert len(wrong) == 1 and "another order" in wrong[0]


def test_label_maps_have_the_datasets_numbers_and_names(written):
    root, truth = written
    place, folder = truth.heads["subj01"], root / "nsddata/ppdata/subj01/func1pt8mm/roi"
    sizes = {"Kastner2015": 25, "HCP_MMP1": 180, "nsdgeneral": 1, "streams": 7, "prf-visualrois": 7, "prf-eccrois": 5}
    for name, count in {**sizes, "floc-faces": 5, "floc-words": 5, "floc-places": 3, "floc-bodies": 4}.items():
        table = (root / f"nsddata/freesurfer/subj01/label/{name}.mgz.ctab").read_text().splitlines()
        assert [line.split(" ")[0] for line in table] == [str(number) for number in range(count + 1)]
        both, left, right = (np.asarray(nibabel.load(folder / f"{side}{name}.nii.gz").dataobj) for side in ("", "lh.", "rh."))
        assert np.array_equal(both, np.where(left != -1, left, right)) and both.min() == -1
        assert (both[~place.brain] == -1).all() and both.max() <= count
        assert set(LABELS) == {*sizes, "floc-faces", "floc-words", "floc-places", "floc-bodies"}


@ODD
def test_every_map_can_be_asked_for_by_name(written):
    root, _ = written
    cortex = study(root, atlases=tuple(LABELS)).cortex("subj01")
    assert list(cortex.chain()) == ["V1", "V2", "V3", "hV4", "higher"]
    assert {"HCP_MMP1.V1", "HCP_MMP1.FFC", "Kastner2015.V1v", "ecc0pt5", "V1v", "hV4", "OFA", "FFA-1", "VWFA-1", "PPA", "EBA"} < set(cortex.areas)
    assert torch.equal(cortex.area("HCP_MMP1.V1"), cortex.area("V1v,V1d"))
    refused("has no area 'RSC'; choose from nsdgeneral, V1v", lambda: cortex.area("RSC"))
    refused("roi/visualsulc.nii.gz does not exist", lambda: study(root, atlases=("visualsulc",)).cortex("subj01"))
    average = study(root, space="fsaverage", atlases=("HCP_MMP1", "Kastner2015", "streams")).cortex("subj01")
    assert average.area("HCP_MMP1.V1").sum() >= cortex.area("HCP_MMP1.V1").sum() - 1


def test_a_miniature_has_2000_voxels_and_60_in_every_area():
    choices = Miniature(subjects=1, image_size=16)  # how large the pictures are decides on no area
    made, _ = miniature._study(choices, plan(spread(0), 0).design)
    for subject in made.subjects:
        labels = head(made, subject, 0).areas
        assert (labels["nsdgeneral"] > 0).sum() >= 2000
        counts = {LABELS[name][number - 1]: int((labels[name] == number).sum()) for name in labels for number in np.unique(labels[name]) if number}
        assert min(counts.values()) >= 60 or min(counts, key=counts.get).startswith("ecc"), counts
        assert all(mask.sum() >= 60 for mask in made.cortex(subject).areas.values())


def test_subjects_have_the_sessions_they_had():
    made, _ = miniature._study(Miniature(subjects=8, sessions=40, schedule="nsd"), plan(spread(0), 0).design)
    lengths = [len(made._order(subject).stimuli) // PER_SESSION for subject in made.subjects]
    assert lengths == [40, 40, 32, 30, 40, 32, 40, 30] == list(NSD.SESSIONS.values())


def test_eight_subjects_and_a_session_that_nobody_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(miniature, "write_maps", lambda *_: None)  # they take most of the time
    choices = Miniature(subjects=8, sessions=2, missing=(1,), shared=1.0, voxels=60, image_size=16, files=("hdf5",), odd=False, annotations=False)
    root, truth = write(tmp_path / "nsd", choices)
    opened = study(root)
    assert opened.subjects == tuple(NSD.SESSIONS)
    for subject in ("subj04", "subj08"):
        with pytest.warns(CortexflowWarning, match=f"{subject} lacks session 1 of 2"):
            trials = opened.trials(subject)
        simulated = truth.trials(subject)
        assert torch.equal(trials.stimuli, simulated.stimuli) and torch.equal(trials.repeats, simulated.repeats) and len(trials) == 750
        assert (trials.responses - simulated.responses).abs().max() <= 0.5 / 300 + 1e-5
    refused("subj03 has 32 sessions, 33 were asked", lambda: study(root, sessions=33).trials("subj03"))
    refused("floc_facestval.nii.gz does not exist; copy s3://", lambda: opened.floc("subj01"))
