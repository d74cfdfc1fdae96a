"""Annotations through the crop are the scenes' own, outlines are what a count of pixels says, and answers belong to their trials."""

import json
import os
import shutil
import tracemalloc
import zipfile
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch

from cortexflow.data.nsd import NSD
from cortexflow.data.nsd_layout.behaviour import COLUMNS, Behaviour, lags
from cortexflow.data.nsd_layout.coco import annotations, json_items
from cortexflow.data.nsd_layout.coco.json_items import Source, items
from cortexflow.data.nsd_layout.coco.outlines import areas_inside, filled, runs, unrolled
from cortexflow.data.nsd_layout.design import TABLE, read_design, read_table
from cortexflow.data.nsd_layout.miniature.planning import dense, plan, write_plan
from cortexflow.data.nsd_layout.miniature.words import compressed, write_annotations, write_behaviour
from cortexflow.data.nsd_layout.pictures import BRICK
from cortexflow.data.presentations import occurrences
from cortexflow.data.scenery import compose
from cortexflow.data.scenes import Scenes
from cortexflow.errors import CortexflowError, CortexflowWarning, DamagedFileError
from cortexflow.features.captions import Captions

INSTANCES, SPOKEN = "coco/annotations/instances_{}.json", "coco/annotations/captions_{}.json"
ANSWERS = "nsddata/ppdata/subj01/behav/responses.tsv"
HAND = 425  # pixels of the picture
SOME = 80  # pictures that are annotated
SESSIONS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"


class Truth(NamedTuple):
    study: Scenes
    stimuli: torch.Tensor  # the dataset's ids of the study's, which count from 0
    shown: torch.Tensor  # trial by trial


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What a miniature holds of words and answers; its responses and pictures are empty files, which nothing here reads."""
    root, planned = tmp_path_factory.mktemp("nsd") / "nsd", plan(dense(0, 1, 0.2), 0)
    write_plan(root, planned)
    shown = torch.from_numpy(planned.design.of("subj01")[:750])
    stimuli = shown.unique()
    write_annotations(root, 0, stimuli[:SOME].numpy())
    write_behaviour(root, "subj01", planned, 1, 0)
    for name in (f"{SESSIONS}/betas_session01.hdf5", BRICK):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    scenes = Scenes(Scenes.Config(images=len(stimuli), held_out=1, image_size=16))
    return root, Truth(scenes, stimuli, shown), read_table(root / TABLE)


@pytest.fixture(autouse=True)
def known(written, monkeypatch):
    """The table of pictures is read once: it has 73,000 rows."""
    monkeypatch.setattr(NSD, "table", written[2])


@pytest.fixture
def copy(written, tmp_path):
    """The same files under other names: whoever changes one must put a new one in its place."""
    shutil.copytree(written[0], tmp_path / "nsd", copy_function=os.link)
    shutil.rmtree(tmp_path / "nsd/prepared", ignore_errors=True)
    return tmp_path / "nsd"


def study(root, **choices):
    return NSD(NSD.Config(**choices), root)


def renew(path, text):
    path.unlink(missing_ok=True)
    path.write_text(text)


def refused(message, call, kind=CortexflowError):
    with pytest.raises(kind, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def test_outlines_through_the_crop_are_those_of_the_scene(written):
    root, truth, _ = written
    nsd, found = study(root), 0
    for row, stimulus in enumerate(truth.stimuli[:8].tolist()):
        scene = compose.scene(0, row)
        own = compose.outlined(scene, 4 * HAND).masks.reshape(-1, HAND, 4, HAND, 4).mean((2, 4)) > 0.5
        masks, names = nsd.masks(stimulus).numpy(), nsd.objects(stimulus)
        assert len(masks) == sum(mask.any() for mask in own)
        for thing, mask in zip(scene.things, own, strict=True):
            if mask.sum() > 50:
                best = max(overlap(mask, masks[place]) for place, name in enumerate(names) if name == thing.name)
                assert best > 0.95
                found += 1
    assert found > 12


def test_what_the_crop_took_away_is_in_the_files_and_not_in_the_picture(written):
    root, truth, _ = written
    content = json.loads((root / INSTANCES.format("train2017")).read_text())
    named = {category["id"]: category["name"] for category in content["categories"]}
    nsd, table = study(root), study(root).table
    stimulus = next(stimulus for stimulus in truth.stimuli.tolist() if table.split[stimulus] == "train2017")
    drawn = [named[item["category_id"]] for item in content["annotations"] if item["image_id"] == table.coco[stimulus]]
    row = int((truth.stimuli == stimulus).nonzero())
    there = {thing.name for thing in compose.scene(0, row).things}
    assert len(set(drawn) - there) == 1 and set(nsd.objects(stimulus)) <= there
    seen = nsd.categories(torch.tensor([stimulus]))[0].tolist()
    assert {name for name, here in zip(nsd.category_names, seen, strict=True) if here} <= there


def test_words_and_categories_are_those_of_the_scenes(written):
    root, truth, _ = written
    nsd, rows, stimuli = study(root), torch.arange(SOME), truth.stimuli[:SOME]
    shuffled = torch.randperm(len(rows))
    assert nsd.captions(stimuli[shuffled]) == truth.study.captions(rows[shuffled])
    assert set(nsd.category_names) == set(truth.study.category_names)
    order = [nsd.category_names.index(name) for name in truth.study.category_names]
    same = nsd.categories(stimuli)[:, order] == truth.study.categories(rows)
    assert same.float().mean() > 0.999  # a quarter of an object's area must be left, in the scenes anything


def test_maps_and_boxes_follow_from_the_outlines(written):
    root, truth, _ = written
    nsd = study(root, image_size=(120, 160))
    for stimulus in truth.stimuli[:12].tolist():
        masks, boxes = nsd.masks(stimulus), nsd.boxes(stimulus)
        shown = torch.zeros(120, 160, dtype=torch.uint8)
        for mask, box, name in zip(masks, boxes, nsd.objects(stimulus), strict=True):
            places = mask.nonzero()
            low, high = places.amin(0).tolist(), (places.amax(0) + 1).tolist()
            assert box.tolist() == [low[1], low[0], high[1], high[0]]
            shown[mask] = nsd.category_names.index(name) + 1
        assert torch.equal(nsd.segmentation(torch.tensor([stimulus]))[0], shown)
        shares = nsd.shares(stimulus)
        assert ((shares > 0) & (shares <= 1)).all() and len(shares) == len(masks)
    assert nsd.segmentation(torch.tensor([], dtype=torch.long)).shape == (0, 120, 160)


def crossed(corners, height, width):
    """Even-odd by counting, for each pixel, the edges to the left of its middle."""
    inside = np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            x, y = column + 0.5, row + 0.5
            for (a, b), (c, d) in pairwise([*corners, corners[0]]):
                if (b <= y) != (d <= y) and a + (y - b) / (d - b) * (c - a) <= x:
                    inside[row, column] ^= True
    return inside


@pytest.mark.parametrize("seed", range(20))
def test_a_polygon_covers_the_pixels_whose_middles_are_in_it(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-6, 20, (rng.integers(3, 9), 2))
    if seed % 2:
        corners = corners.round()  # edges through corners of pixels, level and upright ones
    assert np.array_equal(filled(corners, 13, 11), crossed(corners.tolist(), 13, 11))


@pytest.mark.parametrize("seed", range(20))
def test_the_area_left_of_a_polygon_is_what_a_fine_grid_counts(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, (3, 7)), axis=1)
    stars = np.stack([np.cos(angles), np.sin(angles)], -1) * rng.uniform(0.2, 1.2, (3, 7, 1)) + rng.uniform(-0.4, 1.4, (3, 1, 2))
    exact = areas_inside(stars.reshape(-1, 2), np.array([0, 7, 14]))
    counted = [filled(1500 * star, 1500, 1500).mean() for star in stars]
    assert np.allclose(exact, counted, atol=2e-3)


def test_the_area_of_squares_is_known_by_hand():
    square = np.array([[-0.5, 0.25], [0.5, 0.25], [0.5, 1.25], [-0.5, 1.25]])
    assert np.allclose(areas_inside(np.concatenate([square, square + 5, square[::-1] * 0.5]), np.array([0, 4, 8])), [0.375, 0, 0.125])


@pytest.mark.parametrize("seed", range(10))
def test_runs_in_both_spellings_are_the_mask(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 60), rng.integers(1, 60))) < rng.uniform(0, 1)
    counts, value = [0], False
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if mask[row, column] != value:
                counts.append(0)
                value = not value
            counts[-1] += 1
    for spelling in (counts, compressed(counts)):
        assert np.array_equal(unrolled(runs(spelling), *mask.shape), mask)


def test_a_long_run_takes_several_characters():
    assert compressed([100, 3, 100, 7]) == "T33T34" and runs("T33T34").tolist() == [100, 3, 100, 7]
    refused("ends within a number", lambda: runs("T"))
    refused("must be 0 or more", lambda: runs([3, -1]))
    refused("runs make 6 pixels where the photograph has 2 × 2", lambda: unrolled(np.array([2, 4]), 2, 2))


def by_hand(root, outline, crowd=0, size=(10, 20), **changes):
    """One photograph of 20 × 10 pixels, of which picture 1 is the part from 3 to 17; it has one object."""
    coco = int(study(root).table.coco[1])
    image = {"id": coco, "height": size[0], "width": size[1]}
    item = {"id": 1, "image_id": coco, "category_id": 5, "area": 9.0, "iscrowd": crowd, "segmentation": outline} | changes
    content = {"annotations": [item], "images": [image], "categories": [{"id": 5, "name": "kite", "supercategory": "sports"}]}
    for split in ("train2017", "val2017"):
        empty = content | {"annotations": [], "images": []}
        renew(root / INSTANCES.format(split), json.dumps(content if split == "train2017" else empty))
    return study(root, image_size=(10, 15))


def test_parts_that_overlap_are_one_object_and_the_crop_cuts_it(copy):
    box = lambda left, top, right, bottom: [left, top, right, top, right, bottom, left, bottom]  # noqa: E731
    nsd = by_hand(copy, [box(0, 2, 5, 6), box(4, 4, 12, 8)])  # crop: left .1 and right .15 of 20 pixels
    expected = torch.zeros(1, 10, 15, dtype=torch.bool)
    expected[0, 2:6, 0:3] = expected[0, 4:8, 2:10] = True
    assert torch.equal(nsd.masks(1), expected) and nsd.boxes(1).tolist() == [[0, 2, 10, 8]]
    assert nsd.shares(1).tolist() == pytest.approx([(12 + 32) / (20 + 32)])  # parts count as they were drawn
    assert nsd.objects(1) == ("kite",) and nsd.categories(torch.tensor([1])).tolist() == [[True]]


@pytest.mark.parametrize(("right", "seen"), [(2.5, False), (2.7, True)])
def test_a_quarter_of_an_object_makes_it_seen(copy, right, seen):
    nsd = by_hand(copy, [[0, 0, right, 0, right, 4, 0, 4]])
    assert nsd.shares(1).tolist() == pytest.approx([(right - 2) / right])
    assert nsd.categories(torch.tensor([1])).item() == seen and nsd.masks(1).any() == (right > 2.5)


def test_runs_are_cut_as_polygons_are(copy):
    mask = np.random.default_rng(0).random((10, 20)) < 0.4
    counts = np.diff(np.flatnonzero(np.concatenate([[True], np.diff(mask.T.ravel()), [True]]))).tolist()
    nsd = by_hand(copy, {"counts": [0, *counts] if mask[0, 0] else counts, "size": [10, 20]}, crowd=1)
    assert np.array_equal(nsd.masks(1)[0].numpy(), mask[:, 2:17])
    assert nsd.shares(1).item() == pytest.approx(mask[:, 2:17].sum() / mask.sum())


@pytest.mark.parametrize(
    ("outline", "changes", "message"),
    [
        ([[1, 2, 3]], {}, "an odd number of coordinates"),
        ({"counts": [5], "size": [10, 20]}, {}, "runs make 5 pixels"),
        ("polygon", {}, "is not as COCO writes its annotations"),
        ([[0, 0, 4, 0, 4, 4]], {"category_id": 6}, "category 6, which 'categories' does not name"),
        ([[0, 0, 4, 0, 4, 4]], {"area": None}, "is not as COCO writes its annotations"),
        ([[0, 0, 4, 0, 4, 4]], {"size": (0, 20)}, "an object of stimulus 1's photograph, which 'images' lacks"),
    ],
)
def test_outlines_that_are_none_are_refused(copy, outline, changes, message):
    nsd = by_hand(copy, outline, **changes)
    refused(message, lambda: nsd.masks(1))


def test_what_the_files_do_not_say_is_an_error(written, copy):
    nsd = study(copy)
    other = next(stimulus for stimulus in range(1000) if stimulus not in written[1].stimuli.tolist())
    refused(f"say nothing of stimulus {other}'s photograph", lambda: nsd.masks(other))
    refused(f"no caption of stimulus {other}'s photograph", lambda: nsd.captions(torch.tensor([other])))
    refused("pictures are 0 to 72999, asked were 73000 to 73000", lambda: nsd.captions(torch.tensor([73_000])))
    refused("asked were -1 to 4", lambda: nsd.categories(torch.tensor([-1, 4])))
    shutil.rmtree(copy / "coco")
    message = "captions_train2017.json does not exist; read COCO's terms .*annotations_trainval2017.zip"
    refused(message, lambda: study(copy).captions(torch.tensor([1])))


def test_the_archive_will_do_and_so_will_another_folder(written, copy):
    stimuli = written[1].stimuli[:5]
    expected = study(copy).captions(stimuli), study(copy).segmentation(stimuli)
    before = study(copy).checksums()
    assert SPOKEN.format("val2017") in before and INSTANCES.format("train2017") in before
    files = sorted((copy / "coco/annotations").iterdir())
    with zipfile.ZipFile(copy / annotations.ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, f"annotations/{path.name}")
    shutil.rmtree(copy / "coco/annotations")
    assert study(copy).captions(stimuli) == expected[0] and torch.equal(study(copy).segmentation(stimuli), expected[1])
    with zipfile.ZipFile(copy / annotations.ARCHIVE) as archive:
        archive.extractall(copy / "nsddata_stimuli/coco")
    (copy / annotations.ARCHIVE).unlink()
    assert study(copy).captions(stimuli) == expected[0]
    shutil.rmtree(copy / "nsddata_stimuli/coco")
    assert set(before) - set(study(copy).checksums()) == {form.format(split) for form in (SPOKEN, INSTANCES) for split in annotations.SPLITS}


def test_files_are_read_once_and_again_when_they_change(written, copy, monkeypatch):
    reads, read = [], json_items.items
    monkeypatch.setattr(annotations, "items", lambda source: reads.append(source.path.name) or read(source))
    stimuli = written[1].stimuli[:3]
    first = study(copy).captions(stimuli)
    assert reads == ["captions_train2017.json", "captions_val2017.json"]
    assert study(copy).captions(stimuli) == first and len(reads) == 2
    kept = next((copy / "prepared/coco").glob("captions-*"))
    kept.write_bytes(kept.read_bytes()[:2000])  # somebody cut it short
    assert study(copy).captions(stimuli) == first and len(reads) == 4
    for split in annotations.SPLITS:
        path = copy / SPOKEN.format(split)
        renew(path, path.read_text().replace('"caption": "a', '"caption": "  no\\n'))
    assert study(copy).captions(stimuli)[0][0].startswith("no ") and len(reads) == 6


CONTENT = {
    "info": {"a": [1, {"b": "]}"}]},
    "images": [{"id": n, "é": 'x"\\]'} for n in range(5)],
    "none": [],
    "licenses": 3,
    "numbers": [12, -3.5e2, 7],
}


@pytest.mark.parametrize("block", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("spelling", [{}, {"indent": 2}, {"ensure_ascii": False, "separators": (",", ":")}], ids=str)
def test_any_block_gives_the_same_items(tmp_path, monkeypatch, block, spelling):
    monkeypatch.setattr(json_items, "BLOCK", block)
    (tmp_path / "some.json").write_text(json.dumps(CONTENT, **spelling), encoding="utf-8")
    expected = [(name, item) for name in ("images", "none", "numbers") for item in CONTENT[name]]
    assert list(items(Source(tmp_path / "some.json"))) == expected


def test_a_file_cut_anywhere_is_damaged(tmp_path):
    text = json.dumps(CONTENT)
    for length in range(len(text)):
        (tmp_path / "some.json").write_text(text[:length])
        refused("some.json is cut short or no JSON", lambda: list(items(Source(tmp_path / "some.json"))), DamagedFileError)


def test_a_large_file_is_never_held_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(json_items, "BLOCK", 1 << 11)
    item = {"id": 1, "segmentation": [list(range(100))]}
    (tmp_path / "large.json").write_text(json.dumps({"annotations": [item] * 800}))
    tracemalloc.start()
    count = sum(1 for _ in items(Source(tmp_path / "large.json")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 800 and peak < (tmp_path / "large.json").stat().st_size / 4


def test_features_of_captions_find_them(written, monkeypatch):
    heard = []
    monkeypatch.setattr(Captions, "numbers", lambda self, spoken: heard.extend(spoken) or torch.zeros(len(spoken), 1, 1, dtype=torch.long))
    root, truth, _ = written
    Captions().read(study(root), truth.stimuli[:4])
    assert heard == truth.study.captions(torch.arange(4))


def test_answers_stand_at_their_trials(written):
    root, truth, _ = written
    behaviour = study(root).behaviour("subj01")
    assert torch.equal(behaviour.stimuli, truth.shown) and set(behaviour.sessions.tolist()) == {1}
    assert torch.equal(behaviour.is_old, occurrences(truth.shown) > 0)
    last, first = {}, {}
    for place, picture in enumerate(truth.shown.tolist()):
        told = behaviour.lag[place].item(), behaviour.first_lag[place].item()
        if picture in last:
            assert told == (place - last[picture] - 1, place - first[picture] - 1)
        else:
            assert np.isnan(told).all()
        last[picture] = place
        first.setdefault(picture, place)
    assert torch.equal(behaviour.old_today, behaviour.is_old)  # there is one session


def test_answers_are_those_of_a_memory(written):
    behaviour = study(written[0]).behaviour("subj01")
    answered, old = behaviour.answered, behaviour.is_old
    assert behaviour.missing.sum() == 62 and not answered[behaviour.missing].any()
    assert torch.equal(behaviour.reaction_time.isnan(), ~answered) and torch.equal(behaviour.said_old.isnan(), ~answered)
    assert torch.equal((behaviour.said_old == 1)[answered] == old[answered], (behaviour.correct == 1)[answered])
    assert behaviour.said_old[answered & old].mean() > behaviour.said_old[answered & ~old].mean() + 0.3
    assert all(250 <= time < 4000 for time in behaviour.reaction_time[answered].tolist())


def test_covariates_have_no_gaps_and_say_nothing_without_an_answer(written):
    behaviour = study(written[0]).behaviour("subj01")
    columns = dict(zip(Behaviour.COVARIATES, behaviour.covariates().T, strict=True))
    assert all(column.isfinite().all() for column in columns.values())
    silent, mean = ~behaviour.answered, behaviour.reaction_time.nanmean() / 1000
    assert silent.any() and torch.allclose(columns["reaction_time"][silent], mean)
    assert torch.allclose(columns["log_lag"], torch.log10(1 + behaviour.lag).nan_to_num(0))
    some = behaviour.where(~behaviour.answered)
    assert len(some) == silent.sum() and some.covariates().isfinite().all()


def table_of(path):
    lines = path.read_text().splitlines()
    assert tuple(lines[0].split("\t")) == COLUMNS
    return lines[0], [line.split("\t") for line in lines[1:]]


def rewrite(path, header, rows):
    renew(path, "\n".join([header, *("\t".join(row) for row in rows)]) + "\n")


def test_rows_in_any_order_and_of_other_sessions_change_nothing(written, copy):
    before = study(copy).behaviour("subj01")
    header, rows = table_of(copy / ANSWERS)
    assert len(rows) == 30 * 750
    np.random.default_rng(0).shuffle(rows)
    rewrite(copy / ANSWERS, header, [row for row in rows if row[1] in ("1", "7")])
    after = study(copy).behaviour("subj01")
    assert all(torch.equal(getattr(before, name), getattr(after, name)) for name in ("stimuli", "is_old", "missing"))
    assert torch.equal(before.reaction_time.nan_to_num(), after.reaction_time.nan_to_num())


def test_a_missing_session_shifts_no_answer(copy):
    folder = copy / SESSIONS
    (folder / "betas_session01.hdf5").rename(folder / "betas_session03.hdf5")
    with pytest.warns(CortexflowWarning, match="lacks session 1, 2 of 3"):
        behaviour = study(copy).behaviour("subj01")
    shown = read_design(copy).of("subj01")
    assert behaviour.stimuli.tolist() == shown[1500:2250].tolist() and set(behaviour.sessions.tolist()) == {3}
    assert torch.equal(behaviour.lag.nan_to_num(-1), torch.from_numpy(lags(shown)[1500:2250, 0]).float().nan_to_num(-1))
    assert behaviour.is_old.any()


def swapped(header, rows):
    rows[3][4], rows[4][4] = rows[4][4], rows[3][4]


def other_subject(header, rows):
    for row in rows:
        row[0] = "2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped, r"session 1 run 1 trial 4 and the design \d+ \(both from 1; 2 such trials\)"),
        (other_subject, "is of subject 2, not of subj01"),
        (lambda header, rows: rows.__delitem__(slice(5, 8)), "lacks 3 trials, the first in session 1"),
        (lambda header, rows: rows.append(rows[0]), "has a trial twice"),
        (lambda header, rows: rows[70].__setitem__(3, "63"), "has a trial that its run has not"),
        (lambda header, rows: rows[70].__setitem__(3, "64"), "has 64 in TRIAL, which is 1 to 63"),
        (lambda header, rows: rows[70].__setitem__(1, "inf"), "has inf in SESSION, which is 1 to 40"),
        (lambda header, rows: rows[70].__setitem__(1, "1e11"), r"has 1e\+11 in SESSION, which is 1 to 40"),
        (lambda header, rows: rows[70].__setitem__(2, "NaN"), "has nan in RUN, which is 1 to 12"),
        (lambda header, rows: rows.append(["1"]), "responses.tsv is damaged"),
        (lambda header, rows: rows[9].__setitem__(8, "2"), "has 2 in ISCORRECT, which is 0, 1 or NaN"),
        (lambda header, rows: rows[9].__setitem__(8, "yes"), "responses.tsv is damaged"),
        (lambda header, rows: [row.pop() for row in rows], "responses.tsv is damaged"),
    ],
)
def test_answers_that_disagree_are_refused(copy, change, message):
    header, rows = table_of(copy / ANSWERS)
    change(header, rows)
    rewrite(copy / ANSWERS, header, rows)
    refused(message, lambda: study(copy).behaviour("subj01"))


def test_columns_that_are_missing_and_a_file_that_is_not_there(copy):
    renew(copy / ANSWERS, "SUBJECT\tSESSION\n1\t1\n")
    refused("must have the columns SUBJECT SESSION RUN", lambda: study(copy).behaviour("subj01"), DamagedFileError)
    (copy / ANSWERS).unlink()
    refused(f"{ANSWERS} does not exist; .*s3://natural-scenes-dataset/{ANSWERS}", lambda: study(copy).behaviour("subj01"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("MEMORYRECENT", "3", "other lags than the design in 1 of 750 trials"), ("RT", "90000", "1 reaction times outside 0 to 5000 ms")],
)
def test_answers_that_are_odd_are_given_with_a_warning(copy, column, value, message):
    header, rows = table_of(copy / ANSWERS)
    rows[0][COLUMNS.index(column)] = value
    rewrite(copy / ANSWERS, header, rows)
    with pytest.warns(CortexflowWarning, match=message):
        assert len(study(copy).behaviour("subj01")) == 750


def test_the_miniature_follows_the_table_of_pictures(written):
    root, truth, _ = written
    assert (root / TABLE).is_file()
    table, images = study(root).table, {}
    for split in annotations.SPLITS:
        images[split] = {image["id"]: image for image in json.loads((root / INSTANCES.format(split)).read_text())["images"]}
        assert images[split] == {image["id"]: image for image in json.loads((root / SPOKEN.format(split)).read_text())["images"]}
    for stimulus in truth.stimuli[:SOME].tolist():
        image = images[table.split[stimulus]][int(table.coco[stimulus])]
        top, bottom, left, right = table.crop[stimulus]
        assert (1 - top - bottom) * image["height"] == pytest.approx((1 - left - right) * image["width"])  # pictures are square
