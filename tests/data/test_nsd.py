"""The official files are read as what was simulated, ids and axes as the files have them, and nothing is on two sides of a split."""

import os
import shutil
import tracemalloc
from collections import Counter

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
import torch
from typer.testing import CliRunner

from cortexflow import catalog
from cortexflow.app.cli import app
from cortexflow.data.nsd import NSD
from cortexflow.data.nsd_layout import betas, splits
from cortexflow.data.nsd_layout.design import DESIGN, TABLE, read_design, read_table
from cortexflow.data.nsd_layout.miniature import study as miniature
from cortexflow.data.nsd_layout.miniature.planning import dense, plan, spread
from cortexflow.data.nsd_layout.miniature.study import Miniature, write_miniature
from cortexflow.data.nsd_layout.pictures import BRICK
from cortexflow.data.nsd_layout.spaces import Volumes
from cortexflow.data.nsd_layout.upkeep.estimate import check_room
from cortexflow.data.standardize import zscore_sessions
from cortexflow.errors import CortexflowError, CortexflowWarning, DamagedFileError
from cortexflow.metrics.noise_ceiling import ncsnr_nsd

B3 = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
ROI = "nsddata/ppdata/{}/func1pt8mm/roi"
SPACES = ("func1pt8mm", "func1mm", "fsaverage", "nativesurface")
SMALL = Miniature(sessions=2, shared=0.9, voxels=90, image_size=16, spaces=SPACES, odd=False, annotations=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root, write = tmp_path_factory.mktemp("nsd") / "nsd", miniature._write_pictures
    with pytest.MonkeyPatch.context() as patch:  # a fifth of the pictures is enough to read, and takes a fifth of the time
        patch.setattr(miniature, "_write_pictures", lambda path, study, stimuli: write(path, study, stimuli[:101]))
        return root, write_miniature(root, SMALL)


@pytest.fixture
def copy(written, tmp_path):
    """The same files under other names: whoever changes one must put a new one in its place."""
    shutil.copytree(written[0], tmp_path / "nsd", copy_function=os.link)
    shutil.rmtree(tmp_path / "nsd/prepared", ignore_errors=True)
    return tmp_path / "nsd"


def study(root, **choices):
    return NSD(NSD.Config(**choices), root)


def renew(path, content=b""):
    path.unlink()
    path.write_bytes(content)


def refused(message, call, kind=CortexflowError):
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("choices", [{"files": "nifti"}, {"files": "hdf5"}, {"space": "func1mm", "files": "nifti"}, {"space": "func1mm"}], ids=str)
def test_volumes_are_read_as_they_were_simulated(written, choices):
    root, truth = written
    for subject in ("subj01", "subj02"):
        read, simulated = study(root, **choices).trials(subject), truth.trials(subject)
        for name in ("stimuli", "sessions", "repeats"):
            assert torch.equal(getattr(read, name), getattr(simulated, name)), name
        assert (read.responses - simulated.responses).abs().max() <= 0.5 / 300 + 1e-5
        assert simulated.responses.std() > 10 / 300  # otherwise the line above says little


def test_surfaces_are_percent_already(written):
    root, truth = written
    raw = truth.study.trials("subj01").responses
    members = np.concatenate([part for _, part in truth.heads["subj01"].surface])
    assert torch.equal(study(root, space="fsaverage").trials("subj01").responses, raw[:, torch.from_numpy(members)])


@pytest.mark.parametrize(
    "layout",
    [{}, {"chunks": (1, 7, 10, 8)}, {"chunks": (100, 2, 3, 5), "compression": "gzip"}, {"chunks": (750, 1, 1, 1), "compression": "lzf"}],
    ids=str,
)
@pytest.mark.parametrize("block", [1 << 12, 64 << 20])
def test_any_layout_of_blocks_gives_the_same_numbers(written, tmp_path, layout, block, monkeypatch):
    monkeypatch.setattr(betas, "BLOCK", block)
    root, truth = written
    mask = truth.heads["subj01"].general
    source = root / B3.format("subj01") / "betas_session01.hdf5"
    with h5py.File(source) as file, h5py.File(tmp_path / "other.hdf5", "w") as other:
        whole = file["betas"][:]
        other.create_dataset("betas", data=whole, **{"chunks": tuple(map(min, layout["chunks"], whole.shape)), **layout} if layout else {})
    values = betas.read_volumes(tmp_path / "other.hdf5", mask)
    assert np.array_equal(values, whole.transpose(0, 3, 2, 1)[:, mask])
    assert np.array_equal(values, betas.read_volumes(source.with_name("betas_session01.nii.gz"), mask))


@pytest.mark.parametrize("ending", ["nii", "hdf5"])
def test_memory_holds_a_fraction_of_a_session(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(betas, "BLOCK", 1 << 18)
    values = np.random.default_rng(0).integers(-99, 99, (20, 16, 12, 750), dtype=np.int16)
    path = tmp_path / f"betas_session01.{ending}"
    if ending == "nii":
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    else:
        with h5py.File(path, "w") as file:
            file["betas"] = values.T
    mask = np.random.default_rng(1).random(values.shape[:3]) < 0.03
    tracemalloc.start()
    read = betas.read_volumes(path, mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(read, values[mask].T)
    assert peak < values.nbytes / 4


def test_ids_are_those_of_the_design_file_which_counts_from_1(written):
    root, _ = written
    raw = scipy.io.loadmat(root / DESIGN)
    for number, subject in enumerate(("subj01", "subj02")):
        expected = [int(raw["subjectim"][number, int(place) - 1]) - 1 for place in raw["masterordering"][0, :1500]]
        assert study(root).trials(subject).stimuli.tolist() == expected
    assert study(root).held_out().tolist() == (raw["sharedix"][0] - 1).tolist()


def test_the_table_of_pictures_tells_the_same_plan(written, copy):
    before = read_design(copy)
    (copy / DESIGN).unlink()
    after = read_design(copy)
    assert np.array_equal(before.shown, after.shown) and np.array_equal(before.shared, after.shared)
    table = read_table(copy / TABLE)
    trial = table.trials[before.shown[3, 5], 3]
    assert 6 in trial  # trials count from 1 there
    assert len(table.coco) == len(set(table.coco.tolist())) == 73_000 and table.crop.shape == (73_000, 4)
    (copy / TABLE).unlink()
    refused("nsd_expdesign.mat does not exist; copy it from s3://", lambda: read_design(copy))


@pytest.mark.parametrize("share", [0, 1e-4, 0.3, 0.9])
def test_a_plan_that_is_cut_short_anywhere_is_damaged(copy, share):
    for name, read in ((DESIGN, lambda: read_design(copy)), (TABLE, lambda: read_table(copy / TABLE))):
        whole = (copy / name).read_bytes()
        renew(copy / name, whole[: round(share * len(whole))])
        refused(f"{name} is damaged", read, DamagedFileError)


def test_a_table_that_is_cut_within_its_last_row_is_damaged(copy):
    lines = (copy / TABLE).read_bytes().splitlines(keepends=True)
    renew(copy / TABLE, b"".join(lines[:-1]) + b"72999,")
    refused(f"{TABLE} is damaged", lambda: read_table(copy / TABLE), DamagedFileError)


@pytest.mark.parametrize(("name", "value"), [("sharedix", 73_001), ("subjectim", 0), ("masterordering", 10_001)])
def test_ids_that_are_none_are_damage(copy, name, value):
    arrays = {key: array for key, array in scipy.io.loadmat(copy / DESIGN).items() if not key.startswith("_")}
    arrays[name][0, -1] = value
    (copy / DESIGN).unlink()
    scipy.io.savemat(copy / DESIGN, arrays)
    refused(f"{name} must lie in 1 to", lambda: read_design(copy), DamagedFileError)


def test_pictures_come_by_id_in_any_order(written):
    root, truth = written
    rows = torch.tensor([5, 2, 5, 100])
    pictures = study(root).images(truth.stimuli[rows])
    places = (torch.arange(16) * 425 + 212) // 16  # the middle of each enlarged pixel
    assert pictures.shape == (4, 3, 425, 425)
    assert torch.equal(pictures[:, :, places][:, :, :, places], truth.study.images(rows))
    assert study(root, image_size=64).images(truth.stimuli[:1]).shape == (1, 3, 64, 64)
    refused("pictures 0 to 72999, asked were 73000 to 73000", lambda: study(root).images(torch.tensor([73_000])))


def test_a_missing_session_shifts_no_id(written, copy):
    _, truth = written
    for path in (copy / B3.format("subj02")).glob("betas_session01.*"):
        path.unlink()
    with pytest.warns(CortexflowWarning, match="subj02 lacks session 1 of 2"):
        trials = study(copy).trials("subj02")
    simulated = truth.trials("subj02").where(truth.trials("subj02").sessions == 2)
    assert torch.equal(trials.stimuli, simulated.stimuli) and torch.equal(trials.repeats, simulated.repeats)
    assert (trials.responses - simulated.responses).abs().max() <= 0.5 / 300 + 1e-5
    assert set(Counter(trials.stimuli.tolist()).values()) == {1, 2, 3}  # pictures with one or two repeats stay
    refused("has no session 1, where the first 2 were asked for; copy", lambda: study(copy, sessions=2).trials("subj02"))
    assert set(study(copy, sessions=1).trials("subj01").sessions.tolist()) == {1}


def test_more_sessions_than_a_subject_has_name_who_has_them(copy):
    os.rename(copy / "nsddata_betas/ppdata/subj02", copy / "nsddata_betas/ppdata/subj03")
    refused("subj03 has 32 sessions, 36 were asked; choose at most 32, or subj01, subj02, subj05", lambda: study(copy, sessions=36).trials("subj03"))
    refused("nsd_982 ends with session 37, 38 were asked", lambda: study(copy, sessions=38, split="nsd_982").trials("subj01"))


def test_sessions_that_are_all_too_late_for_a_split_are_refused(copy):
    folder = copy / B3.format("subj01")
    for path in folder.glob("betas_session0*"):
        path.rename(path.with_name(path.name.replace("session0", "session3").replace("session31", "session38").replace("session32", "session39")))
    refused("subj01 has session 38, 39 here and nsd_982 ends with session 37", lambda: study(copy, split="nsd_982").trials("subj01"))
    with pytest.warns(CortexflowWarning, match="subj01 lacks session 1, 2"):
        late = study(copy).trials("subj01")
    design = read_design(copy)
    assert torch.equal(late.stimuli, torch.from_numpy(design.shown[0, 37 * 750 : 39 * 750]))


def test_areas_form_the_chain_and_keep_their_places(written):
    root, truth = written
    cortex, head = study(root).cortex("subj01"), truth.heads["subj01"]
    planted = truth.study.cortex("subj01").only(torch.ones(90, dtype=torch.bool))
    for stage in ("V1", "V2", "V3", "hV4"):
        assert torch.equal(cortex.chain()[stage], planted.areas[stage][torch.from_numpy(head.order)]), stage
    assert torch.equal(cortex.area("FFA-1"), planted.areas["FFA"][torch.from_numpy(head.order)])
    assert not (cortex.area("V1v") & cortex.area("V1d")).any()
    assert torch.equal(torch.sign(cortex.coordinates[:, 0]), torch.from_numpy(head.sides[head.order]).float())
    refused("has no area 'aTL-faces'; choose from nsdgeneral", lambda: cortex.area("aTL-faces"))


def test_a_label_below_1_is_no_area(written, copy):
    for path in (copy / ROI.format("subj01")).glob("*.nii.gz"):
        if not path.name.startswith(("lh.", "rh.")):
            path.unlink()
    assert torch.equal(study(copy).trials("subj01").responses, study(written[0]).trials("subj01").responses)
    before, after = study(written[0]).cortex("subj01"), study(copy).cortex("subj01")
    assert list(before.areas) == list(after.areas) and all(torch.equal(before.areas[name], after.areas[name]) for name in before.areas)
    with pytest.warns(CortexflowWarning, match="voxels? (never changes?|reach(es)? the limit)"):  # there are such outside the visual cortex
        assert study(copy, mask="brainmask").trials("subj01").voxels == written[1].heads["subj01"].brain.sum()
    assert study(copy, mask="prf-visualrois").trials("subj01").voxels == sum(
        before.area(name).sum() for name in ("V1v,V1d", "V2v,V2d", "V3v,V3d", "hV4")
    )


def test_an_atlas_with_a_v1_of_its_own_stays_out_of_the_chain(copy):
    shape = study(copy)._mask("subj01").shape
    folder = copy / "nsddata/freesurfer/fsaverage/label"
    atlas = copy / ROI.format("subj01") / "HCP_MMP1.nii.gz"
    for path in (atlas, *(copy / "nsddata/freesurfer").glob("*/label/HCP_MMP1.mgz.ctab")):
        path.unlink()
    nibabel.save(nibabel.Nifti1Image(np.full(shape, 2, np.int16), np.eye(4)), atlas)
    chosen = study(copy, atlases=("prf-visualrois", "HCP_MMP1"))
    refused("HCP_MMP1.mgz.ctab does not exist; copy s3://", lambda: chosen.cortex("subj01"))
    (folder / "HCP_MMP1.mgz.ctab").write_text("0 Unknown\n1 V1 0 0 0 255\n")
    refused("HCP_MMP1 has the label 2, which its table", lambda: chosen.cortex("subj01"))
    (folder / "HCP_MMP1.mgz.ctab").write_text("0 Unknown 1 1 1 0\n2 V1 0 0 0 255\n")
    cortex = chosen.cortex("subj01")
    assert cortex.area("HCP_MMP1.V1").all() and 0 < cortex.chain()["V1"].sum() < 90


def test_the_ratio_that_is_shipped_is_that_of_the_trials(written):
    root, truth = written
    read = study(root).cortex("subj01").ncsnr
    trials = zscore_sessions(study(root).trials("subj01"))
    again = ncsnr_nsd(trials.responses, trials.stimuli)
    assert torch.allclose(read, again, atol=0.02)
    assert np.corrcoef(read, truth.ncsnr("subj01"))[0, 1] > 0.9
    members = np.concatenate([part for _, part in truth.heads["subj01"].surface])
    surface = study(root, space="fsaverage").cortex("subj01").ncsnr.numpy()
    assert np.allclose(surface, read.numpy()[np.argsort(truth.heads["subj01"].order)][members])


def test_splits_hold_what_their_names_say():
    design = plan(spread(0), 0).design
    shared, shown = set(design.shared.tolist()), design.shown
    early = {int(ids) for ids in shown[4, : 37 * 750] if int(ids) in shared}
    counts = [Counter(row[: 30 * 750].tolist()) for row in shown]
    thrice = [ids for ids in sorted(shared) if all(count[ids] == 3 for count in counts)]
    assert splits.held_out(design, "nsd_1000").tolist() == sorted(shared) and len(shared) == 1000
    assert splits.held_out(design, "nsd_982").tolist() == sorted(early)
    assert splits.held_out(design, "shared_515").tolist() == thrice and 0 < len(thrice) < 1000


@pytest.mark.parametrize("order", [spread(3), dense(3, 2, 0.5), dense(3, 3, 0.1)], ids=["nsd", "two", "three"])
def test_a_generated_plan_keeps_the_constraints(order):
    design, arrays = plan(order, 3)
    assert np.array_equal(np.bincount(order), np.full(10_000, 3))
    own = [set(row.tolist()) for row in design.shown]
    assert all(one & other == set(design.shared.tolist()) for number, one in enumerate(own) for other in own[:number])
    shows = arrays["stimpattern"]
    assert shows.shape == (40, 12, 75) and (shows.sum(2) == np.tile([63, 62], 6)).all()


def test_a_dense_plan_shows_pictures_three_times_in_what_is_written():
    first = dense(0, 2, 0.5)[:1500]
    assert set(Counter(first.tolist()).values()) == {3} and (np.unique(first) < 1000).sum() == 250


@pytest.mark.parametrize("choices", [{}, {"split": "nsd_982"}, {"split": "shared_515"}, {"training_sessions": 1}, {"training_images": 7}], ids=str)
def test_no_picture_is_on_two_sides(written, choices):
    root, truth = written
    chosen = study(root, **choices)
    held, whole = chosen.held_out(), truth.trials("subj01")
    trials = chosen.trials("subj01")
    training, test = trials.where(~torch.isin(trials.stimuli, held)), trials.of(held)
    assert not set(training.stimuli.tolist()) & set(test.stimuli.tolist())
    assert len(training) and torch.equal(test.stimuli, whole.of(held).stimuli)  # shorter training leaves the test as it is
    others = whole.where(~torch.isin(whole.stimuli, held))
    if "training_sessions" in choices:
        assert torch.equal(training.stimuli, others.stimuli[others.sessions == 1])
    elif "training_images" in choices:
        first = list(dict.fromkeys(others.stimuli.tolist()))[:7]
        assert training.stimuli.tolist() == [ids for ids in others.stimuli.tolist() if ids in first]
    else:
        assert len(trials) == 1500


def test_prepared_sessions_are_read_once_and_made_again_where_they_must_be(copy, monkeypatch):
    reads, read = [], Volumes.read
    monkeypatch.setattr(Volumes, "read", lambda self, files, mask: reads.append(files[0].name) or read(self, files, mask))
    files = study(copy).prepare("subj01")
    assert reads == ["betas_session01.hdf5", "betas_session02.hdf5"] and all(path.is_file() for path in files)
    before = study(copy).trials("subj01").responses
    assert len(reads) == 2
    files[1].write_bytes(files[1].read_bytes()[:5000])  # somebody cut it short
    assert torch.equal(study(copy).trials("subj01").responses, before) and reads[2:] == ["betas_session02.hdf5"]
    source = copy / B3.format("subj01") / "betas_session01.hdf5"
    content = source.read_bytes()
    renew(source, content)
    os.utime(source, ns=(1, 1))
    study(copy).trials("subj01")
    assert reads[3:] == ["betas_session01.hdf5"]
    study(copy, mask="prf-visualrois").trials("subj01")
    assert len(reads) == 6  # another mask is another file


@pytest.mark.parametrize(("locked", "kept"), [("nsd/prepared", 0), ("nsd", 2)], ids=["prepared", "study"])
def test_sessions_are_kept_where_their_own_folder_can_be_written_to(copy, monkeypatch, locked, kept):
    """Of a folder that several people share, ``prepared`` may be somebody else's, or the only part that is not locked."""
    (copy / "prepared").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != copy.parent / locked)
    opened = study(copy)
    assert len(opened.trials("subj01")) == 1500
    assert len(list((copy / "prepared").rglob("*.npy"))) == kept
    if not kept:
        refused("prepared, where it is kept, cannot be written to", lambda: check_room(copy, [opened.estimate("subj01")]))
    else:
        check_room(copy, [opened.estimate("subj01")])


def test_work_that_was_stopped_goes_on_where_it_stopped(copy, monkeypatch):
    source = copy / B3.format("subj01") / "betas_session02.hdf5"
    content = source.read_bytes()
    renew(source, content[: len(content) // 2])
    refused("betas_session02.hdf5 is damaged", lambda: study(copy).prepare("subj01"), DamagedFileError)
    made = sorted((copy / "prepared").rglob("*"))
    assert [path.name[:9] for path in made if path.is_file()] == ["session01"]
    changed = next(path for path in made if path.is_file()).stat().st_mtime_ns
    renew(source, content)
    files = study(copy).prepare("subj01")
    assert files[0].stat().st_mtime_ns == changed and files[1].is_file()


def test_a_compressed_session_that_is_cut_short_or_altered_is_damaged(copy):
    source = copy / B3.format("subj01") / "betas_session01.nii.gz"
    content = bytearray(source.read_bytes())
    renew(source, bytes(content[: len(content) * 3 // 4]))
    refused("betas_session01.nii.gz is damaged", lambda: study(copy, files="nifti").trials("subj01"), DamagedFileError)
    content[-6] ^= 1  # of the checksum at its end
    renew(source, bytes(content))
    refused("betas_session01.nii.gz is damaged", lambda: study(copy, files="nifti").trials("subj01"), DamagedFileError)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.transpose(0, 3, 2, 1), r"volumes of 7 × 10 × 8 \(its axes are reversed\) where the mask has 8 × 10 × 7"),
        (lambda values: values[:-1], "has 749 trials where a session has 750"),
        (lambda values: values.astype(np.float32), "holds float32 where the dataset has int16"),
        (lambda values: values * (np.arange(10) > 6)[:, None], "is 0 in .*% of the mask's voxels; its axes"),
    ],
)
def test_a_session_of_another_shape_or_space_is_refused(copy, change, message):
    source = copy / B3.format("subj01") / "betas_session01.hdf5"
    with h5py.File(source) as file:
        values = change(file["betas"][:])
    source.unlink()
    with h5py.File(source, "w") as file:
        file["betas"] = values
    refused(message, lambda: study(copy).trials("subj01"))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        (BRICK, lambda study: study.images(torch.tensor([0]))),
        (f"{ROI.format('subj01')}/nsdgeneral.nii.gz", lambda study: study.trials("subj01")),
        (DESIGN, lambda study: study.checksums()),
    ],
)
def test_what_is_missing_is_named_with_the_place_it_comes_from(copy, name, call):
    (copy / name).unlink()
    if name == DESIGN:
        (copy / TABLE).unlink()
    else:
        for side in ("lh", "rh"):
            (copy / name).with_name(f"{side}.nsdgeneral.nii.gz").unlink(missing_ok=True)
    refused(f"{name} does not exist; .*s3://natural-scenes-dataset/{name}", lambda: call(study(copy)))


def test_no_sessions_at_all_say_where_they_go(tmp_path):
    refused("func1pt8mm/betas_assumehrf holds no betas_session01", lambda: study(tmp_path, betas="b1").subjects)


def test_a_change_of_any_session_changes_the_checksums(copy):
    before = study(copy).checksums()
    assert before == study(copy).checksums() and {DESIGN, BRICK} < set(before)
    source = copy / B3.format("subj02") / "betas_session02.hdf5"
    content = bytearray(source.read_bytes())
    content[-1] ^= 1
    renew(source, bytes(content))
    after = study(copy).checksums()
    assert [name for name in before if before[name] != after[name]] == [source.relative_to(copy).as_posix()]


def test_the_catalogue_has_it_and_a_full_folder_is_left_alone(written):
    assert catalog.find("data", "nsd") is NSD and NSD.folder(NSD.Config()) == "nsd"
    refused("is not empty; name a new folder", lambda: write_miniature(written[0], SMALL))


def test_a_check_names_every_file_and_what_is_wrong_with_it(written, copy):
    for choices in ({}, {"files": "nifti"}, {"space": "fsaverage"}):
        checks = study(copy, **choices).check()
        assert all(check.wrong is None for check in checks)
        assert sum("session0" in check.file for check in checks) == 4
        assert any(check.found == "2 of 40 sessions" for check in checks)
    assert not (copy / "prepared").exists()  # nothing was read whole
    session = copy / B3.format("subj01") / "betas_session01.hdf5"
    content, table = session.read_bytes(), (copy / TABLE).read_text()
    renew(session, content[: len(content) // 2])
    renew(copy / BRICK)
    renew(copy / TABLE, table.replace("True,", "False,", 1).encode())
    (copy / B3.format("subj02") / "betas_session01.hdf5").unlink()
    checks = study(copy, files="hdf5").check()
    wrong = {check.file: check.wrong for check in checks if check.wrong is not None}
    assert set(wrong) == {session.relative_to(copy).as_posix(), BRICK, TABLE}
    assert "tells another plan" in wrong[TABLE] and all("\n" not in line for line in wrong.values())
    assert any(check.found == "1 of 40 sessions; without session 1" for check in checks)
    assert [check.wrong is None for check in study(copy / "nowhere").check()] == [False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layout", "bids"], "no layout is called 'bids'; the one there is: nsd"),
        (["-s", "sesions=3"], "the miniature: sesions: Extra inputs are not permitted; options are subjects, sessions"),
        ([], "is not empty; name a new folder"),
    ],
)
def test_the_command_that_writes_a_miniature_says_what_is_wrong(tmp_path, options, message):
    (tmp_path / "something").touch()
    refused(message, lambda: CliRunner().invoke(app, ["data", "simulate", str(tmp_path), *options], catch_exceptions=False, standalone_mode=False))


def test_other_maps_of_a_subject_come_by_name(copy):
    mask = study(copy)._mask("subj01")
    values = np.random.default_rng(0).standard_normal(mask.shape).astype(np.float32)
    path = copy / "nsddata/ppdata/subj01/func1pt8mm/curvature.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    assert torch.equal(study(copy).map("subj01", "curvature"), torch.from_numpy(values[mask]))
    path.unlink()
    refused("curvature.nii.gz does not exist; copy s3://", lambda: study(copy).map("subj01", "curvature"))
