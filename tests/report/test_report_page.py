"""The page is whole, safe and self-contained, and it still stands where parts of a run are absent."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from cortexflow.encoding.base import load_encoder
from cortexflow.encoding.null import NullEncoder
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.report.page import write_page
from cortexflow.report.tables import lines, verdict
from cortexflow.storage import load_tensors, save_json, save_tensors


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def whole(whole_run, cortex):
    return write_page(whole_run, cortex).read_text(encoding="utf-8")


@pytest.fixture
def bare(tmp_path, metrics):
    """A folder with the scores only."""
    metrics["differences"], metrics["rows"] = [], [row for row in metrics["rows"] if row["group"] == "all"]
    save_json(tmp_path / "metrics.json", metrics)
    return tmp_path


def test_every_row_metric_group_and_note_is_in_the_page(whole, metrics):
    reader = Reader(whole)
    assert reader.open == []
    for line in lines(metrics):
        assert line.name in reader.text
        assert all(cell.value in reader.text and cell.interval in reader.text for cell in line.cells)
    for about in metrics["metrics"].values():
        assert about["short"] in reader.text.replace("\u00a0", " ")
        assert about["title"] in reader.text
    for word in [*metrics["groups"], *metrics["notes"], *metrics["warnings"], metrics["title"], "95 % intervals: 1000 bootstrap draws"]:
        assert word in reader.text.replace("All voxels", "all voxels").replace("Reliable", "reliable")
    assert verdict(metrics) in reader.text.replace("\u00a0", " ")
    assert reader.text.count("undecided") >= 12


def test_what_made_the_run_is_in_the_page(whole):
    text = Reader(whole).text
    for word in ("cortexflow train --model ridge", "encoder.noise", "factors", "versions.torch", "2.9.0", "756bcc8", "1.0, 10.0"):
        assert word in text


def test_the_page_asks_nothing_of_the_network(whole):
    reader = Reader(whole)
    policy = next(attributes["content"] for tag, attributes in reader.tags if attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "iframe", "object", "embed", "base"}
    for _, attributes in reader.tags:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    assert "@import" not in whole
    assert "url(" not in whole
    for picture in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", whole):
        drawing = base64.b64decode(picture).decode()
        assert all(link.startswith(("#", "data:")) for link in re.findall(r'(?:href|src)="([^"]*)"', drawing))


def test_every_picture_has_words_and_every_link_a_target(whole):
    reader = Reader(whole)
    pictures = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert len(pictures) == 10
    assert all(len(attributes["alt"]) > 20 for attributes in pictures)
    ids = {attributes["id"] for _, attributes in reader.tags if "id" in attributes}
    assert {attributes["href"][1:] for tag, attributes in reader.tags if tag == "a"} == ids


def test_names_are_text_and_never_markup(bare, metrics):
    bad = '<img src=x onerror="alert(1)">&<script>alert(2)</script>'
    metrics["rows"] = [{**row, "row": bad + row["row"]} for row in metrics["rows"] if row["group"] == "all"]
    metrics["title"] = metrics["study"] = bad
    metrics["warnings"] = metrics["notes"] = [bad]
    metrics["metrics"][bad] = {"title": bad, "better": bad}
    metrics["rows"][0]["kind"] = bad
    metrics["differences"] = [{"of": bad, "against": bad, "group": bad, "metric": bad, "value": 1.0, "low": 0.5, "high": 2.0}]
    save_json(bare / "metrics.json", metrics)
    save_json(bare / "run.json", {bad: bad})
    save_json(bare / "provenance.json", {"command": bad})
    page = write_page(bare).read_text(encoding="utf-8")
    tags = {tag for tag, _ in Reader(page).tags}
    assert "script" not in tags
    assert "img" not in tags
    assert Reader(page).text.count("alert(1)") >= 8


def test_scores_alone_make_a_page_that_says_what_is_missing(bare):
    text = Reader(write_page(bare).read_text(encoding="utf-8")).text
    assert "evaluation.safetensors is not in the folder" in text
    assert "Maps of the cortex" in text
    assert "Not in this report" in text
    assert "Median r .369" in text


def test_the_same_run_gives_the_same_page(bare):
    assert write_page(bare).read_bytes() == write_page(bare).read_bytes()


def test_a_run_without_repeats_ceiling_density_or_flat_map(run_folder, cortex):
    tensors, _ = load_tensors(run_folder / "evaluation.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith(("covariance", "calibration", "by_samples"))}
    kept["ceiling_r"] = torch.full_like(kept["r"], torch.nan)
    kept["r"][5] = torch.nan
    kept["patterns.measured"] = kept["patterns.measured"][:, :1].clone()
    del kept["patterns.images"]
    save_tensors(run_folder / "evaluation.safetensors", kept)
    (run_folder / "metrics.jsonl").write_text('{"epoch": 1, "training": 1.0, "validation": 1.0}\n{"epoch": 2, "trai')
    text = Reader(write_page(run_folder, replace(cortex, flat=None, areas={})).read_text(encoding="utf-8")).text
    for absent in ("the ceiling is unknown", "Residual covariance", "Calibration:", "Training curve"):
        assert absent in text
    assert "two main axes of the voxel coordinates" in text


def test_a_cortex_of_other_voxels_is_not_drawn(run_folder, cortex):
    some = torch.arange(cortex.voxels) < 300
    text = Reader(write_page(run_folder, cortex.only(some)).read_text(encoding="utf-8")).text
    assert "Maps of the cortex" in text


def test_areas_and_places_come_with_the_encoder(bare, cortex):
    NullEncoder(3, cortex.voxels, cortex=cortex).save(bare / "encoder.safetensors")
    assert load_encoder(bare / "encoder.safetensors").cortex.voxels == cortex.voxels
    page = write_page(bare).read_text(encoding="utf-8")
    assert "the areas V1, V2, V4, IT" in next(attributes["alt"] for tag, attributes in Reader(page).tags if tag == "img")


def test_a_run_that_was_not_evaluated_or_is_damaged(tmp_path, bare):
    with pytest.raises(CortexflowError, match="run `cortexflow evaluate"):
        write_page(tmp_path / "nowhere")
    (bare / "evaluation.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(DamagedFileError, match="evaluation.safetensors is damaged"):
        write_page(bare)
    (bare / "metrics.json").write_text(json.dumps({"rows": []}))
    with pytest.raises(DamagedFileError, match="run `cortexflow evaluate"):
        write_page(bare)
    assert not (bare / "report.html").exists()
