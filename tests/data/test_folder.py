import json
import re
import shlex
import shutil
import warnings
from functools import partial
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cortexflow import catalog
from cortexflow.app.cli import app
from cortexflow.data.folder import Folder
from cortexflow.data.folder_writing import write_folder
from cortexflow.data.on_disk import responses as stored_responses
from cortexflow.data.on_disk import volumes as stored_volumes
from cortexflow.data.on_disk.responses import open_responses
from cortexflow.data.presentations import most_repeated, occurrences
from cortexflow.data.simulated import Simulated
from cortexflow.data.szinte2024 import Szinte2024
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.report.evaluation import evaluate
from cortexflow.training import Machine, RunConfig, open_dataset, train

TRIALS, VOXELS = 12, 5
NAMES = ("cat.png", "faces/anna.png", "faces/ben.png", "zebra.png")


def table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n")


def picture(path, number, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def responses():
    return np.random.default_rng(0).standard_normal((TRIALS, VOXELS)).astype(np.float32)


@pytest.fixture
def root(tmp_path, responses):
    """A study of four pictures, three of them for each of twelve trials in two sessions, and two more than two times each."""
    root = tmp_path / "mine"
    for number, name in enumerate(NAMES):
        picture(root / "stimuli" / name, number)
    shown = ["zebra.png", "cat", "faces/anna", "stimuli/faces/ben.png"] * 3
    table(root / "subjects/subj01/trials.tsv", ["stimulus", "session", "mood"], [(name, 1 + row // 6, "fine") for row, name in enumerate(shown)])
    np.save(root / "subjects/subj01/responses.npy", responses)
    return root


def study(root, **choices):
    return Folder(Folder.Config(image_size=(20, 16), **choices), root)


def refused(root, message, what=lambda study: study.trials("subj01")):
    with pytest.raises(CortexflowError, match=message) as error:
        what(study(root))
    assert "\n" not in str(error.value)


def wrong(root):
    return {check.file: check.wrong for check in study(root).check() if check.wrong is not None}


def retell(root, change):
    """Change the cells of ``trials.tsv``, header and all."""
    path = root / "subjects/subj01/trials.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    table(path, *(lambda rows: (rows[0], rows[1:]))(change(rows)))


class TestReading:
    def test_names_become_ids_in_alphabetical_order(self, root, responses):
        trials = study(root).trials("subj01")
        assert trials.stimuli.tolist() == [3, 0, 1, 2] * 3
        assert trials.repeats.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert trials.sessions.tolist() == [1] * 6 + [2] * 6
        assert torch.equal(trials.groups, trials.stimuli)
        np.testing.assert_array_equal(trials.responses.numpy(), responses)

    def test_pictures_are_those_of_the_names(self, root):
        for stimulus, name in enumerate(NAMES):
            np.testing.assert_array_equal(
                study(root).images(torch.tensor([stimulus]))[0].permute(1, 2, 0).numpy(), np.asarray(Image.open(root / "stimuli" / name))
            )
        assert study(root, study="other").config.image_size == (20, 16)
        assert Folder(Folder.Config(image_size=8), root).images(torch.tensor([2, 0])).shape == (2, 3, 8, 8)

    def test_ids_stay_when_a_table_fixes_them(self, root):
        table(root / "stimuli.tsv", ["id", "stimulus"], zip((40, 10, 30, 20), NAMES, strict=True))
        before = study(root)
        assert before.trials("subj01").stimuli[:4].tolist() == [20, 40, 10, 30]
        assert torch.equal(before.images(torch.tensor([20])), study(root).images(torch.tensor([20])))
        picture(root / "stimuli" / "aardvark.png", 9)
        refused(root, "has no id for aardvark.png")
        table(root / "stimuli.tsv", ["id", "stimulus"], zip((40, 10, 30, 20, 5), (*NAMES, "aardvark.png"), strict=True))
        assert study(root).trials("subj01").stimuli[:4].tolist() == [20, 40, 10, 30]

    def test_sessions_groups_and_repeats_are_those_of_the_table(self, root):
        retell(root, lambda rows: [[*rows[0], "repeat", "group"]] + [[*row, i // 4 + 5, i % 2] for i, row in enumerate(rows[1:])])
        trials = study(root).trials("subj01")
        assert trials.repeats.tolist() == [5] * 4 + [6] * 4 + [7] * 4
        assert trials.groups.tolist() == [0, 1] * 6

    def test_areas_and_places_of_tables(self, root):
        folder = root / "subjects/subj01"
        table(folder / "areas.tsv", ["V1", "FFA-1"], [(1, 0), (1, 0), (0, 0), (0, 1), (1, 1)])
        table(folder / "coordinates.tsv", ["x", "y", "z", "flat_x", "flat_y"], np.arange(25).reshape(5, 5))
        table(folder / "ncsnr.tsv", ["ncsnr"], [[0.1], [0.2], [0.3], [0.4], [0.5]])
        cortex = study(root).cortex("subj01")
        assert list(cortex.areas) == ["V1", "FFA-1"] and cortex.areas["FFA-1"].tolist() == [False, False, False, True, True]
        assert cortex.coordinates[1].tolist() == [5, 6, 7] and cortex.flat[2].tolist() == [13, 14]
        torch.testing.assert_close(cortex.ncsnr, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))

    def test_the_machine_says_where_and_the_recipe_which(self, root):
        choice = {"name": "folder", "study": "mine", "image_size": 20}
        dataset = open_dataset(choice, Machine(data=root.parent))
        assert dataset.root == root and dataset.config.image_size == (20, 20)
        for path in ("../mine", "/data/mine", "..", ""):
            with pytest.raises(CortexflowError, match="not the name of one folder"):
                catalog.configure("data", choice | {"study": path})
        with pytest.raises(CortexflowError, match="name the folder above it with --data, and theirs with study=NAME"):
            open_dataset(choice, Machine()).trials("subj01")

    def test_study_json(self, root):
        (root / "study.json").write_text(json.dumps({"units": "percent signal change", "TR": 1.6, "held_out": ["cat", "zebra"]}))
        assert study(root).trials("subj01").units == "percent signal change"
        assert study(root).held_out().tolist() == [0, 3]
        (root / "study.json").write_text('{"unit": "percent"}')
        refused(root, "unit: Extra inputs are not permitted; options are title, units, TR, held_out")
        (root / "study.json").write_text("{")
        refused(root, "is not valid JSON")
        (root / "study.json").write_text("[1]")
        refused(root, "must hold an object")

    def test_what_is_read_is_what_the_checksums_name(self, root, responses):
        before = study(root).checksums()
        np.save(root / "subjects/subj01/responses.npy", responses + 1)
        changed = study(root).checksums()
        assert [name for name in before if before[name] != changed[name]] == ["subjects/subj01/responses.npy"]
        picture(root / "stimuli/cat.png", 7)
        assert study(root).checksums()["stimuli"] != before["stimuli"]
        assert Folder(Folder.Config(image_size=8), root).checksums()["image_size"] != before["image_size"]


@pytest.fixture(params=[1 << 26, 64], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(stored_responses, "BLOCK", request.param)
    monkeypatch.setattr(stored_volumes, "BLOCK", request.param)


class TestFormats:
    """Every form holds the same numbers, whatever the blocks in which it is read."""

    MASK = np.zeros((3, 2, 4), dtype=np.uint8)
    MASK.flat[[1, 7, 8, 20, 23]] = 1
    AFFINE = np.diag([2.0, 3, 4, 1])

    def volumes(self, responses):
        volumes = np.full((*self.MASK.shape, TRIALS), np.nan, dtype=np.float32)
        volumes[self.MASK > 0] = responses.T
        return volumes

    def read(self, root, responses, name):
        folder = root / "subjects/subj01"
        (folder / "responses.npy").unlink()
        path = folder / name
        if path.suffix == ".npy":
            np.save(path, responses)
        elif path.suffix == ".h5":
            with h5py.File(path, "w") as file:
                file.create_dataset("responses", data=responses.astype(np.float64), chunks=(2, 3), compression="gzip")
        elif path.suffix == ".npz":
            np.savez(path, betasmd=responses.T)
        elif path.suffix == ".hdf5":
            with h5py.File(path, "w") as file:
                file["betasmd"], file["R2"] = self.volumes(responses), np.zeros(3)
        else:
            nibabel.save(nibabel.Nifti1Image(self.volumes(responses), self.AFFINE), path)
        if path.suffix in (".hdf5", ".gz", ".nii"):
            nibabel.save(nibabel.Nifti1Image(self.MASK, self.AFFINE), folder / "mask.nii.gz")
        return study(root)

    @pytest.mark.parametrize(
        "name",
        ["responses.npy", "responses.h5", "responses.npz", "TYPED_FITHRF_GLMDENOISE_RR.hdf5", "responses.nii.gz", "responses.nii"],
    )
    def test_every_form_holds_the_same_numbers(self, root, responses, blocks, name):
        dataset = self.read(root, responses, name)
        np.testing.assert_array_equal(dataset.trials("subj01").responses.numpy(), responses)
        assert wrong(root) == {}

    @pytest.mark.parametrize("dtype", [">f4", "f8", "f2", "i2"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_other_numbers_become_single_precision(self, root, responses, blocks, dtype, order):
        values = np.asarray(100 * responses, dtype=dtype, order=order)
        np.save(root / "subjects/subj01/responses.npy", values)
        np.testing.assert_array_equal(study(root).trials("subj01").responses.numpy(), values.astype(np.float32))

    def test_glmsingle_without_a_grid(self, root, responses):
        self.read(root, responses, "responses.npz")
        (root / "subjects/subj01/responses.npz").unlink()
        with h5py.File(root / "subjects/subj01/TYPED_FITHRF_GLMDENOISE_RR.hdf5", "w") as file:
            file["betasmd"] = responses.T[:, None, None]
        np.testing.assert_array_equal(study(root).trials("subj01").responses.numpy(), responses)

    def test_a_volume_says_where_its_voxels_are(self, root, responses):
        dataset = self.read(root, responses, "responses.nii.gz")
        areas = np.zeros_like(self.MASK)
        areas.flat[[7, 2, 23]] = 1
        (root / "subjects/subj01/areas").mkdir()
        nibabel.save(nibabel.Nifti1Image(areas, self.AFFINE), root / "subjects/subj01/areas/V1.nii.gz")
        cortex = dataset.cortex("subj01")
        assert cortex.areas["V1"].tolist() == [False, True, False, False, True]
        assert cortex.coordinates[1].tolist() == [0, 3, 12]  # index 7 is (0, 1, 3)
        assert {"subjects/subj01/areas/V1.nii.gz", "subjects/subj01/mask.nii.gz"} <= set(dataset.checksums())

    def test_a_mapped_file_is_not_copied_and_not_written(self, root, responses):
        read = open_responses(root / "subjects/subj01/responses.npy").read()
        read += 1
        np.testing.assert_array_equal(np.load(root / "subjects/subj01/responses.npy"), responses)
        assert open_responses(root / "subjects/subj01/responses.npy").mapped

    def test_pickles_are_refused(self, root):
        folder = root / "subjects/subj01"
        (folder / "responses.npy").unlink()
        np.save(folder / "TYPED_FITHRF_GLMDENOISE_RR.npy", {"betasmd": np.zeros(3)}, allow_pickle=True)
        refused(root, r"is a pickle \(as GLMsingle's .npy is\).*opt\['wanthdf5'\] = 1")


class TestSplit:
    def test_a_column_says_it(self, root):
        retell(root, lambda rows: [[*rows[0], "held_out"]] + [[*row, int("anna" in row[0])] for row in rows[1:]])
        assert study(root).held_out().tolist() == [1]

    def test_a_file_says_it(self, root):
        (root / "held_out.txt").write_text("faces/ben\n\ncat.png\n")
        assert study(root).held_out().tolist() == [0, 2]

    def test_two_of_them_are_refused(self, root):
        (root / "held_out.txt").write_text("cat\n")
        (root / "study.json").write_text('{"held_out": ["zebra"]}')
        refused(root, "in held_out.txt and in held_out of study.json; keep one", lambda study: study.held_out())

    def test_a_split_is_made_of_pictures(self, root):
        retell(root, lambda rows: [[*rows[0], "held_out"]] + [[*row, int(i == 2)] for i, row in enumerate(rows[1:])])
        refused(root, "1 pictures are held out in one row .* is faces/anna.png; a split is made of pictures", lambda study: study.held_out())

    def test_unknown_and_empty_lists_are_refused(self, root):
        (root / "held_out.txt").write_text("cta\n")
        refused(root, r"held_out.txt names 'cta', which is no picture .*did you mean 'cat'\?", lambda study: study.held_out())
        (root / "held_out.txt").write_text("\n")
        refused(root, "is empty", lambda study: study.held_out())

    def test_by_default_the_most_repeated_pictures(self):
        shown = torch.tensor([4] * 5 + [2] * 5 + [9] * 5 + [0, 1, 3, 5, 6, 7, 8] * 2)
        assert most_repeated(shown, 0.3, 0).tolist() == [2, 4, 9]
        chosen = {tuple(most_repeated(shown, 0.1, seed).tolist()) for seed in range(20)}
        assert chosen == {(2,), (4,), (9,)}
        shuffled = shown[torch.randperm(len(shown), generator=torch.Generator().manual_seed(1))]
        assert torch.equal(most_repeated(shuffled, 0.2, 3), most_repeated(shown, 0.2, 3))
        assert set(most_repeated(shown, 0.6, 0).tolist()) > {2, 4, 9}

    def test_share_and_seed_of_study_json(self, root):
        assert len(study(root).held_out()) == 1
        (root / "study.json").write_text('{"held_out": {"share": 0.5, "seed": 4}}')
        assert torch.equal(study(root).held_out(), most_repeated(study(root).trials("subj01").stimuli, 0.5, 4))
        assert len(study(root).held_out()) == 2


def test_occurrences_count_what_came_before():
    shown = torch.randint(0, 7, (60,), generator=torch.Generator().manual_seed(0))
    by_hand = [int((shown[:place] == stimulus).sum()) for place, stimulus in enumerate(shown)]
    assert occurrences(shown).tolist() == by_hand


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda rows: [[rows[0][0], "sitting", "mood"], *rows[1:]], "no column 'session'; its columns are stimulus, sitting, mood"),
            (lambda rows: [rows[0], ["dog", "1", ""], *rows[2:]], "names 'dog', which is no picture in .*stimuli"),
            (lambda rows: [rows[0], ["faces/ana.png", "1", ""], *rows[2:]], r"did you mean 'faces/anna.png'\?"),
            (lambda rows: [rows[0], ["cat", "one", ""], *rows[2:]], "line 2: session is 'one'; write a whole number"),
            (lambda rows: [rows[0], ["cat", "1.5", ""], *rows[2:]], "line 2: session is '1.5'; write a whole number"),
            (lambda rows: [rows[0], ["n/a", "1", ""], *rows[2:]], "line 2: stimulus is empty"),
            (lambda rows: [rows[0], rows[1], ["cat", "1"], *rows[3:]], "line 3 has 2 cells for 3 columns"),
            (lambda rows: rows[:1], "has a header and no rows"),
            (lambda rows: [["stimulus", "session", "session"], *rows[1:]], "has the column 'session' twice"),
            (lambda rows: rows[:-1], "has 12 trials .of 5 voxels. and trials.tsv 11; give one row per trial"),
            (lambda rows: rows[:6], "turn it over: trials come first"),
            (lambda rows: [[*rows[0], "repeat"]] + [[*row, 0] for row in rows[1:]], "line 6 has the stimulus and the repeat of line 2"),
            (lambda rows: [[",".join(row)] for row in rows], "has no tabs in its first line"),
        ],
    )
    def test_trials(self, root, change, message):
        retell(root, change)
        refused(root, message)
        assert re.search(message, "\n".join(wrong(root).values()))

    def test_a_name_for_two_pictures(self, root):
        picture(root / "stimuli" / "cat.jpg", 8)
        refused(root, "'cat' could be cat.jpg or cat.png")

    def test_an_empty_or_binary_table(self, root):
        path = root / "subjects/subj01/trials.tsv"
        path.write_bytes(b"")
        refused(root, "is empty; give it a header")
        path.write_bytes(b"\xff\xfe\x00s\x00t")
        refused(root, "save it as a tab-separated table in UTF-8")
        path.unlink()
        refused(root, "trials.tsv does not exist")

    def test_subjects(self, root, tmp_path):
        refused(root, "no subject 'subj07'; choose one of subj01", lambda study: study.trials("subj07"))
        shutil.rmtree(root / "subjects")
        refused(root, "holds no subjects; make a folder for each")
        refused(tmp_path / "nowhere", "does not exist; name the folder above")

    def test_responses_that_are_missing_double_damaged_or_odd(self, root, responses):
        folder = root / "subjects/subj01"
        np.savez(folder / "responses.npz", responses=responses)
        refused(root, "has responses in responses.npy and responses.npz; keep one")
        (folder / "responses.npz").unlink()
        (folder / "responses.npy").write_bytes((folder / "responses.npy").read_bytes()[:-9])
        refused(root, "responses.npy is damaged or not of its type")
        np.save(folder / "responses.npy", responses.astype(complex))
        refused(root, "holds complex128, which are not real numbers; save it as float32")
        np.save(folder / "responses.npy", responses.ravel())
        refused(root, r"has the shape \(60,\) where trials × voxels is expected")
        (folder / "responses.npy").unlink()
        refused(root, "has no responses; put one of responses.npy")
        (folder / "responses.h5").write_bytes(b"no HDF5")
        refused(root, "responses.h5 is damaged")
        with h5py.File(folder / "responses.h5", "w") as file:
            file["betas"] = responses
        refused(root, "must hold 'responses' or 'betasmd', it holds betas; name the numbers so")

    def test_volumes_need_their_mask(self, root, responses):
        folder, formats = root / "subjects/subj01", TestFormats()
        (folder / "responses.npy").unlink()
        nibabel.save(nibabel.Nifti1Image(formats.volumes(responses), np.eye(4)), folder / "responses.nii.gz")
        refused(root, "needs a mask.nii.gz beside it")
        nibabel.save(nibabel.Nifti1Image(np.ones((3, 2, 5), dtype=np.uint8), np.eye(4)), folder / "mask.nii.gz")
        refused(root, "has the grid 3 × 2 × 4 where its mask has 3 × 2 × 5")
        nibabel.save(nibabel.Nifti1Image(0 * formats.MASK, np.eye(4)), folder / "mask.nii.gz")
        refused(root, "is 0 everywhere")
        nibabel.save(nibabel.Nifti1Image(formats.MASK, np.eye(4)), folder / "mask.nii.gz")
        path = folder / "responses.nii.gz"
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(DamagedFileError, match="responses.nii.gz is damaged"):
            study(root).trials("subj01")
        path.unlink()
        np.save(folder / "responses.npy", responses[:, :4])
        refused(root, "has 4 voxels and its mask 5; use the mask that the responses were taken with")

    def test_areas_and_coordinates_of_another_length(self, root):
        folder = root / "subjects/subj01"
        table(folder / "areas.tsv", ["V1"], [[1]] * 4)
        refused(root, "areas.tsv has 4 rows for 5 voxels", lambda study: study.cortex("subj01"))
        table(folder / "areas.tsv", ["V1"], [[1]] * 4 + [["yes"]])
        refused(root, "line 6: V1 is 'yes'; write 0 or 1", lambda study: study.cortex("subj01"))
        (folder / "areas").mkdir()
        refused(root, "has areas.tsv and areas; keep one", lambda study: study.cortex("subj01"))
        (folder / "areas.tsv").unlink()
        refused(root, "areas needs a mask.nii.gz", lambda study: study.cortex("subj01"))
        (folder / "areas").rmdir()
        table(folder / "coordinates.tsv", ["x", "y", "z"], [[1, 2, 3]] * 4 + [[1, 2, "nan"]])
        refused(root, "line 6: z is 'nan'; write a finite number", lambda study: study.cortex("subj01"))
        table(folder / "coordinates.tsv", ["x", "y", "z", "flat_x"], [[1, 2, 3, 4]] * 5)
        refused(root, "has no column 'flat_y'", lambda study: study.cortex("subj01"))

    def test_pictures(self, root):
        refused(root, "has no picture of stimulus 4; ask for ids", lambda study: study.images(torch.tensor([4])))
        (root / "stimuli/cat.png").write_bytes((root / "stimuli/cat.png").read_bytes()[:300])
        refused(root, "cat.png is not a readable picture", lambda study: study.images(torch.tensor([0])))
        shutil.rmtree(root / "stimuli")
        refused(root, "stimuli does not exist; make this folder and put the pictures there")
        (root / "stimuli").mkdir()
        refused(root, "holds no pictures")


def everything(dataset):
    one = [partial(read, "subj01") for read in (dataset.trials, dataset.cortex)]
    return *one, partial(dataset.images, torch.arange(4)), dataset.held_out, dataset.check


@pytest.mark.parametrize("form", ["responses.npy", "TYPED_FITHRF_GLMDENOISE_RR.hdf5", "responses.nii.gz"])
def test_any_damage_is_a_clear_error_or_harmless(root, responses, form):
    """Every file in turn is cut, emptied, altered or replaced: nothing but an error of one line may come of it."""
    TestFormats().read(root, responses, form)
    table(root / "subjects/subj01/areas.tsv", ["V1"], [[1]] * VOXELS)
    table(root / "stimuli.tsv", ["id", "stimulus"], enumerate(NAMES))
    (root / "study.json").write_text('{"title": "Mine"}')
    random, refusals = np.random.default_rng(0), 0
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        flipped = bytearray(whole)
        for place in random.integers(0, len(whole), 9):
            flipped[place] = random.integers(256)
        for content in (b"", whole[: len(whole) // 2], bytes(flipped), random.bytes(200)):
            path.write_bytes(content)
            for read in everything(study(root)):
                try:
                    read()
                except CortexflowError as error:
                    assert "\n" not in str(error)
                    refusals += 1
        path.write_bytes(whole)
    assert refusals > 50 and wrong(root) == {}


class TestCheck:
    def test_a_sound_study(self, root):
        picture(root / "stimuli" / "unused.png", 5)
        checks = {check.file: check for check in study(root).check()}
        assert wrong(root) == {}
        assert checks["stimuli"].found == "5 pictures, 1 of them unused (unused.png …)"
        assert checks["subjects/subj01/trials.tsv"].found == "12 trials, 4 pictures (3 times each), 2 sessions"
        assert checks["subjects/subj01/responses.npy"].found == "12 trials × 5 voxels, float32"

    def test_every_flaw_is_named(self, root, responses, blocks):
        """Several files are wrong at once, and all of them are said."""
        responses[3, 1] = np.nan
        responses[:6, 2] = 4
        responses[8] = responses[7]
        np.save(root / "subjects/subj01/responses.npy", responses)
        (root / "stimuli/cat.png").write_bytes(b"no picture")
        table(root / "subjects/subj01/areas.tsv", ["V1"], [[1]] * 4)
        (root / "study.json").write_text('{"tr": 2}')
        flaws = [(check.file, check.wrong) for check in study(root).check() if check.wrong is not None]
        expected = [
            ("study.json", "tr: Extra inputs"),
            ("stimuli/cat.png", "not a readable picture"),
            ("subjects/subj01/responses.npy", "1 voxels have responses that are not finite"),
            ("subjects/subj01/responses.npy", "1 voxels are constant within a session"),
            ("subjects/subj01/responses.npy", "rows 8 and 9 are the same in every voxel"),
            ("subjects/subj01/areas", "has 4 rows for 5 voxels"),
            ("held out", "the same as above"),
        ]
        assert [file for file, _ in flaws] == [file for file, _ in expected]
        for (_, flaw), (_, message) in zip(flaws, expected, strict=True):
            assert message in flaw

    def test_an_empty_side_of_the_split(self, root):
        (root / "held_out.txt").write_text("\n".join(NAMES))
        assert "subj01 has no training trials with 4 pictures held out by held_out.txt" in wrong(root)["held out"]

    def test_the_command_ends_with_1_where_something_is_wrong(self, root):
        arguments = ["data", "check", "folder", "-s", "study=mine", "--data", str(root.parent)]
        sound = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
        assert sound.exit_code == 0 and "all 6 are as they should be" in sound.output
        (root / "subjects/subj01/responses.npy").unlink()
        broken = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
        assert broken.exit_code == 1 and "has no responses; put one of" in broken.output and "1 of 6 are wrong" in broken.output

    def test_it_works_for_every_study(self, root):
        simulated = Simulated(Simulated.Config(images=12, held_out=2, voxels=20, image_size=16, subjects=1))
        assert [check.found for check in simulated.check()][-1] == "36 trials, 12 pictures of 16 × 16, 20 voxels, 4 areas"
        assert all(check.wrong is None for check in simulated.check())
        missing = Szinte2024(root=root).check()
        assert any("fetch the study" in str(check.wrong) for check in missing)


DATA = {"name": "simulated", "images": 80, "held_out": 20, "voxels": 20, "image_size": 32, "sessions": 2, "subjects": 2}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A simulated study, and the folder that was written of it."""
    simulated, folder = open_dataset(DATA, Machine()), tmp_path_factory.mktemp("data")
    write_folder(folder / "copy", simulated)
    return simulated, open_dataset({"name": "folder", "study": "copy", "image_size": 32}, Machine(data=folder))


class TestWriting:
    def test_trials_pictures_and_cortex_come_back_to_the_bit(self, copy):
        simulated, folder = copy
        assert folder.subjects == simulated.subjects
        for subject in simulated.subjects:
            before, after = simulated.trials(subject), folder.trials(subject)
            for name in ("stimuli", "sessions", "repeats", "groups", "responses"):
                assert torch.equal(getattr(before, name), getattr(after, name))
            assert after.units == before.units
            here, there = simulated.cortex(subject), folder.cortex(subject)
            assert list(here.areas) == list(there.areas)
            tensors = there.tensors()
            assert all(torch.equal(values, tensors[name]) for name, values in here.tensors().items())
        assert torch.equal(simulated.images(torch.arange(80)), folder.images(torch.arange(80)))
        assert torch.equal(simulated.held_out(), folder.held_out())
        assert all(check.wrong is None for check in folder.check())

    def test_training_and_scores_are_the_same(self, copy, tmp_path):
        machine = Machine(data=copy[1].root.parent)
        scores = []
        for data in (DATA, {"name": "folder", "study": "copy", "image_size": 32}):
            config = RunConfig.of({"data": data, "features": ["pixels"], "components": 20, "encoder": "ridge"})
            run = train(config, tmp_path / data["name"], machine)
            scores.append(evaluate([run], machine, run.folder, draws=5)["rows"])
        assert json.dumps(scores[0], default=str) == json.dumps(scores[1], default=str)
        assert len(json.dumps(scores[0], default=str)) > 1000

    def test_ids_with_gaps_groups_and_ceilings_stay(self, root, tmp_path, responses):
        table(root / "stimuli.tsv", ["id", "stimulus"], zip((40, 10, 30, 2000000), NAMES, strict=True))
        table(root / "subjects/subj01/ncsnr.tsv", ["ncsnr"], [[0.1], [0.2], [0.3], [0.4], [1 / 3]])
        retell(root, lambda rows: [[*rows[0], "group"]] + [[*row, i % 2] for i, row in enumerate(rows[1:])])
        before, after = study(root), study(write_folder(tmp_path / "again", study(root)))
        assert torch.equal(before.trials("subj01").stimuli, after.trials("subj01").stimuli)
        assert torch.equal(before.trials("subj01").groups, after.trials("subj01").groups)
        assert torch.equal(before.cortex("subj01").ncsnr, after.cortex("subj01").ncsnr)
        assert torch.equal(before.images(torch.tensor([2000000, 10])), after.images(torch.tensor([2000000, 10])))

    def test_what_cannot_be_written(self, root, recordings, tmp_path):
        with pytest.raises(CortexflowError, match="is there already and not empty"):
            write_folder(root, study(root))
        with pytest.raises(CortexflowError, match="volumes of a time series"):
            write_folder(tmp_path / "bars", Szinte2024(root=recordings / "szinte2024"))

    def test_a_writer_that_fails_leaves_no_half_file(self, root, tmp_path, monkeypatch):
        broken = study(root)
        monkeypatch.setattr(Image.Image, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(CortexflowError, match="No space left on device"):
            write_folder(tmp_path / "full", broken)
        assert not list((tmp_path / "full/stimuli").glob("*")) and not (tmp_path / "full/study.json").exists()


def test_reading_warns_of_nothing(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study(root).trials("subj01")


def test_the_example_of_the_page_works_as_it_is_pasted(tmp_path, monkeypatch):
    """Every command after the tiny study, as the page gives it, on the files that the page makes."""
    page = (Path(__file__).parents[2] / "docs" / "your_own_study.md").read_text().split("## A tiny one to paste")[1]
    code, commands = re.findall(r"```(?:python)?\n(.*?)```", page, re.DOTALL)[:2]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "your_own_study.md", "exec"), {})
    for command in commands.strip().splitlines():
        words = shlex.split(command)
        assert words[0] == "cortexflow"
        result = CliRunner().invoke(app, words[1:], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
    rows = json.loads(Path("runs/tiny/metrics.json").read_text())["rows"]
    rows = {row["kind"]: row["scores"]["r"]["value"] for row in rows if row["group"] == "all"}
    assert rows["model"] > 0.3 > rows["null"]
