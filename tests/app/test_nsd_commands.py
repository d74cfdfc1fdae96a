"""The commands of the Natural Scenes Dataset, against a server on this machine that lists, cuts and lies as the test wants."""

import gzip
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import tracemalloc
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io

from cortexflow.app import cli
from cortexflow.data.nsd import NSD
from cortexflow.data.nsd_layout import files
from cortexflow.data.nsd_layout.behaviour import behaviour_file
from cortexflow.data.nsd_layout.cautions import cautions
from cortexflow.data.nsd_layout.miniature import study as miniature
from cortexflow.data.nsd_layout.miniature.study import Miniature, write_miniature
from cortexflow.data.nsd_layout.pictures import BRICK
from cortexflow.data.nsd_layout.spaces import Kept, space
from cortexflow.data.nsd_layout.upkeep import checks, disk, download, terms
from cortexflow.data.nsd_layout.upkeep.download import Bucket, Remote, matches, part_sizes
from cortexflow.data.nsd_layout.upkeep.estimate import estimate
from cortexflow.data.nsd_layout.upkeep.inspection import Inspection
from cortexflow.data.nsd_layout.upkeep.inventory import SUBJECTS, Selection, numbers, parts
from cortexflow.data.nsd_layout.upkeep.wholeness import check_length, read_through
from cortexflow.data.nsd_timeseries import NSDTimeSeries
from cortexflow.data.simulated import Simulated
from cortexflow.errors import CortexflowError, DamagedFileError
from cortexflow.report import evaluation
from cortexflow.report.evaluation import Fold, held_out_side
from cortexflow.training import Machine, RunConfig, fit_space, join, open_study, tabulate

DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
B3 = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"


class Store(ThreadingHTTPServer):
    """Objects by key, and how the server behaves."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.objects, self.etags = {}, {}
        self.asked, self.ranges = Counter(), []
        self.page = 3  # objects on a page of the list
        self.cut = {}  # key: bytes after which the connection ends, once for each entry
        self.statuses = {}  # path or key: answers to give first, one for each entry
        self.whole = False  # a server that does not know ranges

    def handle_error(self, *_):
        """A reader that hangs up in the middle is none."""

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def etag(self, key):
        return self.etags.get(key) or hashlib.md5(self.objects[key]).hexdigest()


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urlsplit(self.path)
        key, query = unquote(url.path.lstrip("/")), {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.asked[key or query["prefix"]] += 1
        if self.server.statuses.get(key):
            return self._send(self.server.statuses[key].pop(0), b"")
        if not key:
            return self._send(200, self._list(query))
        if key not in self.server.objects:
            return self._send(404, b"")
        return self._object(key)

    def _list(self, query):
        assert query["list-type"] == "2" and query["delimiter"] == "/"
        keys = sorted(key for key in self.server.objects if key.startswith(query["prefix"]) and "/" not in key[len(query["prefix"]) :])
        first = int(query.get("continuation-token", "token 0").split()[1])
        page, more = keys[first : first + self.server.page], first + self.server.page < len(keys)
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.server.objects[key])}</Size><ETag>&quot;{self.server.etag(key)}&quot;</ETag></Contents>"
            for key in page
        )
        after = f"<NextContinuationToken>token {first + self.server.page}</NextContinuationToken>" if more else ""
        result = f"<IsTruncated>{str(more).lower()}</IsTruncated>{after}{entries}"
        return f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{result}</ListBucketResult>'.encode()

    def _object(self, key):
        content, asked = self.server.objects[key], self.headers.get("Range")
        if self.headers["If-Match"] != f'"{self.server.etag(key)}"':
            return self._send(412, b"")
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and not self.server.whole else 0
        self.server.ranges.append((key, start))
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        return self._send(206 if start else 200, content[start:], headers, self.server.cut[key].pop(0) if self.server.cut.get(key) else None)

    def _send(self, status, content, headers=(), cut=None):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "PAUSE", 0.001)
    server = Store()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def full(store):
    """Part of the dataset by its names, with other content."""
    rng = np.random.default_rng(0)
    names = [DESIGN, TABLE, f"{B3}/ncsnr.nii.gz", *(f"{B3}/betas_session{number:02d}.hdf5" for number in range(1, 8))]
    names += [f"{B3}/R2_session01.nii.gz", f"{B3}/extra/betas_session01.hdf5"]
    store.objects |= {name: rng.bytes(3_000_000 if name.endswith("session02.hdf5") else 5000) for name in names}
    return store


def command(monkeypatch, capsys, *words):
    """Run the command line; gives its exit code, and both outputs."""
    monkeypatch.setattr(sys, "argv", ["cortexflow", "data", "nsd", *map(str, words)])
    try:
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    return code, *capsys.readouterr()


def fetching(store, to, *more):
    return ["fetch", "--endpoint", store.address, "--to", to, "--subjects", "subj01", "--sessions", "1-3", *more]


BETAS = ["--what", "design,betas", "--accept-terms"]


def there(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")} - {terms.FILE}


def test_what_was_chosen_is_fetched_and_nothing_else(full, tmp_path, monkeypatch, capsys):
    code, out, _ = command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", *BETAS))
    wanted = {DESIGN, TABLE, f"{B3}/ncsnr.nii.gz", *(f"{B3}/betas_session{number:02d}.hdf5" for number in (1, 2, 3))}
    assert code == 0 and there(tmp_path / "nsd") == wanted
    assert all((tmp_path / "nsd" / name).read_bytes() == full.objects[name] for name in wanted)
    assert "6 files fetched, 6 verified by checksum; 0 were there" in out and terms.CONDITIONS in out
    full.ranges.clear()
    code, out, _ = command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", *BETAS))
    assert code == 0 and not full.ranges and "0 files fetched, 0 verified by checksum; 6 were there" in out


@pytest.mark.parametrize("whole", [False, True], ids=["ranges", "no ranges"])
def test_a_cut_connection_is_taken_up_where_it_was_cut(full, tmp_path, whole):
    name, full.whole = f"{B3}/betas_session02.hdf5", whole
    full.cut[name] = [2_000_000] if whole else [1_500_000, 1_000_000]
    bucket, seen = Bucket(full.address), []
    plan = bucket.plan(tmp_path, parts(Selection(("subj01",), ("betas",), sessions=(2,))))
    assert bucket.fetch(plan, advance=seen.append) == {remote.key: True for remote in plan.missing}
    assert (tmp_path / name).read_bytes() == full.objects[name]
    starts = [start for key, start in full.ranges if key == name]
    assert starts == ([0, 0] if whole else [0, 1_500_000, 2_500_000])
    assert sum(seen) == sum(remote.size for remote in plan.missing)
    assert there(tmp_path) == {remote.key for remote in plan.missing} and not list(tmp_path.rglob(f"*{files.UNFINISHED}"))


def test_a_network_that_goes_away_leaves_what_it_brought_and_a_second_run_goes_on(full, tmp_path, monkeypatch, capsys):
    name = f"{B3}/betas_session02.hdf5"
    full.cut[name], full.statuses[name] = [2_100_000], []
    first = fetching(full, tmp_path / "nsd", *BETAS, "--jobs", 1)
    answer = Answers._object

    def gone(self, key):
        if full.ranges and full.ranges[-1][0] == name:
            full.statuses[""] = full.statuses[key] = [503] * 99
            return self._send(503, b"")
        return answer(self, key)

    monkeypatch.setattr(Answers, "_object", gone)
    code, _, err = command(monkeypatch, capsys, *first)
    assert code == 2 and err.count("\n") == 1
    assert f"{name}: the connection to {full.address} is lost (the server answers 503); " in err
    assert re.search(r"3 of 6 files and 2\.10 MB of unfinished ones are kept in .*; run the same command again to continue", err)
    assert len(there(tmp_path / "nsd")) == 3
    monkeypatch.setattr(Answers, "_object", answer)
    full.statuses.clear()
    full.ranges.clear()
    code, out, _ = command(monkeypatch, capsys, *first)
    assert code == 0 and "3 were there" in out
    assert full.ranges == [(name, 2_100_000), (f"{B3}/betas_session03.hdf5", 0), (f"{B3}/ncsnr.nii.gz", 0)]
    assert (tmp_path / "nsd" / name).read_bytes() == full.objects[name]


def test_pieces_of_another_version_are_not_joined(full, tmp_path):
    name, bucket = f"{B3}/betas_session02.hdf5", Bucket(full.address)
    folders = parts(Selection(("subj01",), ("betas",), sessions=(2,)))
    old = next(remote for remote in bucket.plan(tmp_path, folders).missing if remote.key == name)
    old.unfinished(tmp_path).parent.mkdir(parents=True)
    old.unfinished(tmp_path).write_bytes(full.objects[name][:1000])
    assert bucket.plan(tmp_path, folders).left == len(full.objects[name]) + 5000 - 1000
    full.objects[name] = bytes(3_000_000)
    bucket.fetch(bucket.plan(tmp_path, folders))
    assert (tmp_path / name).read_bytes() == bytes(3_000_000) and not list(tmp_path.rglob(f"*{files.UNFINISHED}"))


def test_what_changes_after_it_was_listed_is_refused(full, tmp_path):
    bucket = Bucket(full.address)
    plan = bucket.plan(tmp_path, parts(Selection(("subj01",), ("design",))))
    full.objects[DESIGN] = b"another"
    refused("answers 412 for .*nsd_expdesign.mat: it was changed after it was listed", lambda: bucket.fetch(plan))


def test_a_wrong_checksum_is_tried_twice_and_nothing_of_it_is_kept(full, tmp_path, monkeypatch, capsys):
    name = f"{B3}/betas_session02.hdf5"
    full.etags[name] = "0" * 32
    code, _, err = command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", *BETAS))
    assert code == 2 and f"{name} came twice with another checksum" in err and err.count("\n") == 1
    assert full.ranges.count((name, 0)) == 2 and not list(tmp_path.rglob("*session02*"))


def test_bytes_that_were_altered_on_the_way_once_are_fetched_again(full, tmp_path):
    bucket, folders = Bucket(full.address), parts(Selection(("subj01",), ("design",)))
    plan = bucket.plan(tmp_path, folders)
    bad = plan.missing[0]
    bad.unfinished(tmp_path).parent.mkdir(parents=True)
    bad.unfinished(tmp_path).write_bytes(bytes(2000))  # of this version by its name, and not its content
    assert set(bucket.fetch(bucket.plan(tmp_path, folders)).values()) == {True}
    assert all((tmp_path / remote.key).read_bytes() == full.objects[remote.key] for remote in plan.missing)


def in_parts(content, size):
    digests = [hashlib.md5(content[start : start + size]).digest() for start in range(0, len(content), size)]
    return f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"


@pytest.mark.parametrize(("size", "part"), [(20 << 20, 8), (17 << 20, 16), (3 << 20, 8), ((16 << 20) + 1, 8), (16 << 20, 8)])
def test_a_checksum_of_parts_is_found_out_from_their_number(tmp_path, size, part):
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "file").write_bytes(content)
    assert matches(tmp_path / "file", in_parts(content, part << 20)) is True
    assert matches(tmp_path / "file", hashlib.md5(content).hexdigest()) is True
    (tmp_path / "file").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert matches(tmp_path / "file", in_parts(content, part << 20)) is None  # nothing can be said: the parts may have another size
    assert matches(tmp_path / "file", hashlib.md5(content).hexdigest()) is False


def test_usual_parts_by_hand():
    assert part_sizes(20 << 20, 3) == [8 << 20] and part_sizes(20 << 20, 4) == [5 << 20] and part_sizes(100 << 20, 99) == []
    assert (8 << 20) in part_sizes(1, 1)


def test_a_file_whose_parts_cannot_be_guessed_is_said_to_be_verified_by_size(full, tmp_path, monkeypatch, capsys):
    full.etags[DESIGN] = in_parts(full.objects[DESIGN], 1234)
    code, out, _ = command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", *BETAS))
    assert (
        code == 0
        and "6 files fetched, 5 verified by checksum" in out
        and f"verified by size only, as their parts are of an unknown size: {DESIGN}" in out
    )


def refused(message, call):
    with pytest.raises(CortexflowError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda store: store.statuses.update({DESIGN: [403]}), f"answers 403 for {DESIGN}: it is not public there"),
        (lambda store: store.statuses.update({DESIGN: [404]}), f"answers 404 for {DESIGN}: there is no such file"),
        (lambda store: store.statuses.update({"": [403]}), "answers 403 for nsddata/experiments/nsd/nsd_: it is not public"),
        (lambda store: store.statuses.update({"": [503] * 9}), r"does not answer \(the server answers 503\); check the connection"),
        (lambda store: store.objects.pop(TABLE), f"has no {TABLE}; choose other sessions"),
        (
            lambda store: store.objects.update({f"{B3}/betas_session02.hdf5": b""}) or store.objects.pop(f"{B3}/betas_session03.hdf5"),
            "has no .*session03",
        ),
    ],
)
def test_what_the_server_refuses_or_lacks_is_one_line(full, tmp_path, monkeypatch, capsys, change, message):
    change(full)
    code, _, err = command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", *BETAS))
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and re.search(message, err)


def test_an_answer_of_503_passes(full, tmp_path, monkeypatch, capsys):
    full.statuses |= {"": [503, 429, 500], DESIGN: [503, 503], TABLE: [502]}
    assert command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", *BETAS))[0] == 0
    assert len(there(tmp_path / "nsd")) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--subjects", "subj09"], "no subject is called 'subj09'; choose from subj01, subj02"),
        (["--subjects", ""], "no subject was chosen; choose from subj01"),
        (["--what", ""], "no part of the dataset was chosen; choose from design, pictures, rois"),
        (["--spaces", "func2mm"], "no space is called 'func2mm'; choose from func1pt8mm, func1mm, fsaverage, nativesurface"),
        (["--what", "beta"], "no part of the dataset is called 'beta'; choose from design, pictures"),
        (["--betas", "b4"], "no kind of betas is called 'b4'; choose from b1, b2, b3"),
        (["--files", "mat"], "no kind of file is called 'mat'; choose from hdf5, nifti"),
        (["--sessions", "1-"], "sessions are written 1-10, 1,3,5 or all, '1-' was given"),
        (["--sessions", "9-7"], "sessions are written 1-10"),
        (
            ["--subjects", "subj03", "--sessions", "30-36"],
            "subj03 has sessions 1 to 32, 33 was asked; choose among them, all, or subj01, subj02, subj05, subj07",
        ),
        (["--sessions", "0"], "subj01 has sessions 1 to 40, 0 was asked"),
        (["--spaces", "fsaverage", "--what", "timeseries"], "time series come in func1pt8mm and func1mm, fsaverage was asked"),
        (["--spaces", "func1mm", "--betas", "b1"], "b1 comes in func1pt8mm and not in func1mm"),
        (["--endpoint", "natural-scenes-dataset"], "must be an address with https://"),
    ],
)
def test_a_misspelt_choice_is_told_before_anything_else(store, tmp_path, monkeypatch, capsys, words, message):
    code, out, err = command(monkeypatch, capsys, *fetching(store, tmp_path / "nsd", "--what", "betas", *words))
    assert code == 2 and message in err and err.count("\n") == 1 and not out
    assert not store.asked and not (tmp_path / "nsd").exists()


def test_terms_come_first_and_are_remembered(full, tmp_path, monkeypatch, capsys):
    words = fetching(full, tmp_path / "nsd", "--what", "design")
    code, out, err = command(monkeypatch, capsys, *words)
    assert code == 2 and "terms of use are not accepted" in err and "--accept-terms" in err and err.count("\n") == 1
    assert terms.CONDITIONS in out and terms.AGREEMENT in out and not full.asked and not (tmp_path / "nsd").exists()
    assert command(monkeypatch, capsys, *words, "--accept-terms")[0] == 0
    kept = json.loads((tmp_path / "nsd" / terms.FILE).read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", kept["accepted"]) and terms.AGREEMENT in kept["terms"]
    code, out, _ = command(monkeypatch, capsys, *words)
    assert code == 0 and f"terms of use: accepted on {kept['accepted']}" in out and terms.AGREEMENT not in out


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2)])
def test_terms_are_asked_for_on_a_terminal(full, tmp_path, monkeypatch, capsys, answer, code):
    monkeypatch.setattr("typer.confirm", lambda question: answer == "y\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", "--what", "design"))[0] == code
    assert (terms.accepted(tmp_path / "nsd") is None) == bool(code)


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(full, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(1 << 40, 1 << 40, disk.SPARE + 3_024_999))
    code, out, err = command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", *BETAS))
    assert code == 2 and "3.02 MB are needed and 268.44 MB must stay free" in err and err.count("\n") == 1
    assert "3.02 MB to fetch" in out and not full.ranges and not there(tmp_path / "nsd")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(1 << 40, 1 << 40, disk.SPARE + 3_025_000))
    assert command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", *BETAS))[0] == 0


def test_a_dry_run_prints_files_and_sizes_and_fetches_nothing(full, tmp_path, monkeypatch, capsys):
    code, out, _ = command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", "--what", "design,betas", "--dry-run"))
    assert code == 0 and "6 files, 0 of them there; 3.02 MB to fetch" in out and not full.ranges and not (tmp_path / "nsd").exists()
    assert re.search(r"betas +4 +3\.02 MB +0 +3\.02 MB", out)


def test_without_a_network_a_dry_run_computes_from_the_table_and_says_so(tmp_path, monkeypatch, capsys, store):
    store.server_close()
    words = fetching(store, tmp_path / "nsd", "--what", "betas,pictures,transforms")
    store.asked.clear()
    code, out, _ = command(monkeypatch, capsys, *words, "--dry-run")
    assert code == 0 and "does not answer" in out and "sizes before compression" in out
    sessions = 3 * 81 * 104 * 83 * 750 * 2 + 81 * 104 * 83 * 4
    assert f"{sessions / 1e9:.2f} GB" in out and f"{(73_000 * 425 * 425 * 3) / 1e9:.2f} GB" in out and re.search("transforms +unknown +unknown", out)
    code, _, err = command(monkeypatch, capsys, *words, "--accept-terms")
    assert code == 2 and "does not answer" in err and err.count("\n") == 1


def test_a_file_of_the_users_own_is_never_written_over(full, tmp_path, monkeypatch, capsys):
    own = tmp_path / "nsd" / DESIGN
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    code, _, err = command(monkeypatch, capsys, *fetching(full, tmp_path / "nsd", *BETAS))
    assert code == 2 and "has 4 bytes where s3://natural-scenes-dataset/" in err and own.read_bytes() == b"mine" and not full.ranges


@pytest.mark.parametrize(
    "key", ["nsddata/experiments/nsd/../../../../nsd_outside", "/nsddata/experiments/nsd/nsd_x", "nsddata/experiments/nsd/nsd_a\\b"]
)
def test_no_name_leads_out_of_the_folder(store, tmp_path, key, monkeypatch):
    page = f"<a><Contents><Key>{key}</Key><Size>1</Size><ETag>x</ETag></Contents></a>"
    monkeypatch.setattr(Answers, "_list", lambda self, query: page.encode())
    refused("which is no file of the dataset", lambda: Bucket(store.address).plan(tmp_path, parts(Selection(("subj01",), ("design",)))))


def test_a_page_that_is_no_list_is_told(store, tmp_path, monkeypatch):
    monkeypatch.setattr(Answers, "_list", lambda self, query: b"<!DOCTYPE html><html><body>Welcome to the hotel<br></html>")
    refused("something that is no list of files", lambda: Bucket(store.address).plan(tmp_path, parts(Selection(("subj01",), ("design",)))))


def test_two_commands_do_not_fetch_into_one_folder(full, tmp_path):
    bucket = Bucket(full.address)
    plan = bucket.plan(tmp_path, parts(Selection(("subj01",), ("design",))))
    with download._alone(tmp_path):
        refused("another command is fetching into", lambda: bucket.fetch(plan))
    assert len(bucket.fetch(plan)) == 2


def test_an_interrupt_keeps_what_is_there(full, tmp_path):
    bucket, came = Bucket(full.address), []

    def advance(count):
        came.append(count)
        if sum(came) > 2_000_000:
            raise KeyboardInterrupt

    name = f"{B3}/betas_session02.hdf5"
    folders = parts(Selection(("subj01",), ("betas",), sessions=(2,)))
    with pytest.raises(KeyboardInterrupt):
        bucket.fetch(bucket.plan(tmp_path, folders), jobs=1, advance=advance)
    plan = bucket.plan(tmp_path, folders)
    assert plan.left < len(full.objects[name])
    bucket.fetch(plan)
    assert (tmp_path / name).read_bytes() == full.objects[name]


def test_names_of_all_parts():
    everything = parts(Selection(tuple(SUBJECTS), ("betas", "timeseries", "design"), ("func1pt8mm", "fsaverage"), ("b1", "b3")))
    names = Counter()
    for part in everything:
        names[part.what] += part.known
    sessions = 3 * 40 + 2 * 32 + 2 * 30 + 40
    assert sum(facts.sessions for facts in SUBJECTS.values()) == sessions == 284
    assert names["betas"] == 2 * (sessions + 8) + 2 * 2 * (sessions + 8) and names["design"] == 2
    assert names["timeseries"] == 3 * 12 * sessions + 2 * (2 * 18 + 6 * 10)
    keys = [f"{part.folder}/{name}" for part in everything for name in part.expected]
    assert len(keys) == len(set(keys)) and all(part.holds(f"{part.folder}/{name}") for part in everything for name in part.expected)
    prefixes = {part.folder + str(part.patterns): part.prefix for part in everything}
    assert all(f"{part.folder}/{name}".startswith(prefixes[part.folder + str(part.patterns)]) for part in everything for name in part.expected)
    assert "nsddata_betas/ppdata/subj04/fsaverage/betas_assumehrf/rh.betas_session30.mgh" in keys
    assert numbers("2-4, 9,3") == (2, 3, 4, 9) and numbers("all") is None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A miniature of one subject and session in three spaces with its runs; few pictures, and no maps of a localiser."""
    root, write = tmp_path_factory.mktemp("studies") / "nsd", miniature._write_pictures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(miniature, "_write_pictures", lambda path, study, stimuli: write(path, study, stimuli[:11]))
        patch.setattr(miniature, "write_maps", lambda *_: None)
        spaces = ("func1pt8mm", "fsaverage", "nativesurface")
        write_miniature(root, Miniature(subjects=1, sessions=1, voxels=60, image_size=16, spaces=spaces, annotations=False, timeseries=True))
    return root


@pytest.fixture
def copy(written, tmp_path, monkeypatch):
    """The same files under other names: whoever changes one must put a new one in its place."""
    monkeypatch.setattr(checks, "_look_at_table", lambda root: "73000 pictures")  # its second takes as long as all else
    shutil.copytree(written, tmp_path / "nsd", copy_function=os.link)
    return tmp_path / "nsd"


def renew(path, content):
    path.unlink()
    path.write_bytes(content)


def cut(path, share=0.5):
    content = path.read_bytes()
    renew(path, content[: int(len(content) * share)])


def wrong(root, **how):
    return {check.file: check.wrong for check in Inspection(root, **how).checks() if check.wrong is not None}


def test_a_whole_folder_is_as_it_should_be(written, monkeypatch, capsys):
    code, out, _ = command(monkeypatch, capsys, "check", "--data", written.parent, "--deep")
    assert code == 0 and "are as they should be" in out and "wrong" not in out
    for looked_at in (
        "betas_session01.hdf5",
        "betas_session01.nii.gz",
        "lh.betas_session01.mgh",
        "lh.betas_session01.hdf5",
        "12 runs",
        "responses.tsv",
    ):
        assert looked_at in out
    assert not (written / "prepared").exists()


def altered(path):
    """One bit of what is compressed, without another length."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    renew(path, bytes(content))


def other_grid(path):
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)


NATIVE = B3.replace("func1pt8mm", "nativesurface")
AVERAGE = B3.replace("func1pt8mm", "fsaverage")
RUN = "nsddata_timeseries/ppdata/subj01/func1pt8mm/{}/{}_session01_run0"


def altered_picture(path):
    with h5py.File(path) as file:
        brick = file["imgBrick"]
        where = brick.id.get_chunk_info(brick.id.get_num_chunks() // 2)
    content = bytearray(path.read_bytes())
    content[where.byte_offset + where.size // 2] ^= 255
    renew(path, bytes(content))


DAMAGES = {
    f"{B3}/betas_session01.hdf5": (cut, "is damaged"),
    f"{B3}/betas_session01.nii.gz": (cut, "is damaged"),
    f"{AVERAGE}/rh.betas_session01.mgh": (cut, "rh.betas_session01.mgh is cut short"),
    f"{NATIVE}/lh.betas_session01.hdf5": (cut, "is damaged"),
    f"{B3}/ncsnr.nii.gz": (other_grid, "has the grid 4 × 4 × 4 where its mask has"),
    "nsddata/ppdata/subj01/func1pt8mm/roi/rh.streams.nii.gz": (other_grid, "has the grid 4 × 4 × 4 where its mask has"),
    f"{RUN.format('timeseries', 'timeseries')}3.nii.gz": (cut, "is damaged"),
    f"{RUN.format('design', 'design')}4.tsv": (Path.unlink, "design_session01_run04.tsv does not exist"),
    f"{RUN.format('motion', 'motion')}5.tsv": (cut, "motion_session01_run05.tsv"),
    behaviour_file("subj01"): (lambda path: renew(path, path.read_bytes() + b"1"), "is damaged"),
    BRICK: (lambda path: cut(path, 0.9), "is damaged"),
}


def test_every_damaged_file_is_named(copy, monkeypatch, capsys):
    for name, (change, _) in DAMAGES.items():
        change(copy / name)
    code, out, _ = command(monkeypatch, capsys, "check", "--data", copy.parent)
    assert code == 1 and re.search(f"{len(DAMAGES)} of [0-9]+ are wrong", out)
    lines = [line for line in out.splitlines() if line.startswith("wrong: ")]
    assert len(lines) == len(DAMAGES)
    for name, (_, message) in DAMAGES.items():
        assert any(Path(name).name in line and message in line for line in lines), name


def test_what_is_altered_inside_takes_a_deep_look(copy):
    altered(copy / B3 / "betas_session01.nii.gz")
    altered_picture(copy / BRICK)
    assert not wrong(copy)
    assert set(wrong(copy, deep=True)) == {f"{BRICK}, to its end", f"{B3}/betas_session01.nii.gz"}


def test_lengths_are_told_without_reading(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 9, (5, 6, 7, 8), dtype=np.int16)
    path = tmp_path / "values.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    content = gzip.decompress(path.read_bytes())
    assert len(content) == 352 + values.nbytes
    path.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))  # in two pieces, whose last one tells its own length
    check_length(path)
    path.write_bytes(gzip.compress(content[:-1]))
    with pytest.raises(DamagedFileError, match=f"cut short \\(it holds {len(content) - 1} of {len(content)} bytes\\)"):
        check_length(path)
    path.write_bytes(gzip.compress(content))
    monkeypatch.setattr("cortexflow.data.nsd_layout.upkeep.wholeness.read_through", lambda path: pytest.fail("was read"))
    check_length(path)
    assert read_through(path) == len(content)


def test_what_must_be_there_is_asked_for(copy):
    assert not wrong(copy, subjects=("subj01",), sessions=(1,))
    lacking = wrong(copy, sessions=(1, 2, 3))
    assert set(lacking) == {f"{B3}, hdf5", f"{B3}, nifti", AVERAGE, NATIVE}
    assert all("lacks session 2, 3; fetch or copy it" in line for line in lacking.values())
    assert "holds nothing of subj02" in wrong(copy, subjects=("subj01", "subj02"))["subj02"]
    (copy / B3 / "betas_session01.hdf5").rename(copy / B3 / "betas_session03.hdf5")
    assert not wrong(copy)
    assert any(check.found == "1 of 40 sessions; without session 1, 2" for check in Inspection(copy).checks())
    (copy / AVERAGE / "rh.betas_session01.mgh").unlink()
    assert "has no file of the other hemisphere" in wrong(copy)[f"{AVERAGE}/lh.betas_session01.mgh"]


def test_the_beginning_of_a_file_is_told(copy):
    piece = Remote(f"{B3}/betas_session02.hdf5", 5000, "x").unfinished(copy)
    piece.write_bytes(bytes(1234))
    assert "is the beginning of a file (1 kB); fetch it again to continue" in wrong(copy)[piece.relative_to(copy).as_posix()]


def test_an_empty_folder_holds_nobody(tmp_path):
    assert "holds no session of anybody" in wrong(tmp_path)["subjects"]


def general(root, subject, grid, voxels):
    folder = root / f"nsddata/ppdata/{subject}/func1pt8mm/roi"
    folder.mkdir(parents=True)
    labels = (np.arange(np.prod(grid)).reshape(grid) < voxels).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / "nsdgeneral.nii.gz")
    session = root / B3.replace("subj01", subject) / "betas_session01.hdf5"
    session.parent.mkdir(parents=True)
    with h5py.File(session, "w") as file:  # blocks that are not written take no space
        file.create_dataset("betas", (750, *grid[::-1]), "i2", chunks=(750, *grid[::-1]))


def test_published_shapes_are_asked_of_published_grids_and_of_any_if_wanted(copy, tmp_path):
    assert "subj01's grid in func1pt8mm is 6 × 8 × 5 where the published one is 81 × 104 × 83" in str(wrong(copy, official=True))
    one, two = SUBJECTS["subj01"], SUBJECTS["subj02"]
    for name, subject, grid, voxels, message in (
        ("right", "subj01", one.func1pt8mm, 15724, ""),
        ("few", "subj01", one.func1pt8mm, 15723, "nsdgeneral has 15723 voxels where the published one has 15724"),
        ("other", "subj01", two.func1pt8mm, 14278, "is 82 × 106 × 84 (it is subj02's) where the published one is 81 × 104 × 83"),
    ):
        general(tmp_path / name, subject, grid, voxels)
        lines = {file: line for file, line in wrong(tmp_path / name).items() if "subj01" in file}
        assert list(lines) == ["subj01, func1pt8mm, as published"] * bool(message) and message in str(lines)


@pytest.mark.parametrize(("kind", "entry"), [("betas", NSD), ("timeseries", NSDTimeSeries)])
def test_preparing_is_estimated_before_and_goes_on_where_it_stopped(copy, monkeypatch, capsys, kind, entry):
    words = ["prepare", "--data", copy.parent, "--what", kind]
    code, out, _ = command(monkeypatch, capsys, *words, "--dry-run")
    what, count = {"betas": ("session", 1), "timeseries": ("run", 12)}[kind]
    assert code == 0 and f"subj01: {count} {what}s of 60 voxels; " in out and not (copy / "prepared").exists()
    expected = entry(root=copy).estimate("subj01")
    tracemalloc.start()
    code, out, _ = command(monkeypatch, capsys, *words)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    files = sorted(path for path in (copy / "prepared").rglob("*.npy"))
    assert code == 0 and len(files) == count and sum(path.stat().st_size for path in files) - 128 * count == expected.disk
    assert peak < expected.memory
    before = files[-1].stat().st_mtime_ns
    code, out, _ = command(monkeypatch, capsys, *words)
    assert code == 0 and f"0 {what}s of 60 voxels, {count} more are prepared; 0 B of disk" in out and files[-1].stat().st_mtime_ns == before


def test_an_estimate_of_published_sizes(monkeypatch):
    mask = np.zeros(SUBJECTS["subj01"].func1pt8mm, dtype=bool)
    mask.ravel()[:15724] = True
    monkeypatch.setattr("cortexflow.data.nsd_layout.upkeep.estimate.ready", lambda kept, number, files, mask: number == 1)
    one = estimate(space(Kept(Path("nowhere"), "subj01", "func1pt8mm", "b3", "any")), dict.fromkeys(range(1, 41), ()), mask)
    assert one.disk == 39 * 750 * 15724 * 2 == 919_854_000 and (one.left, one.ready, one.voxels) == (39, 1, 15724)
    assert 4 * 750 * 15724 * 2 < one.memory < 300e6  # two sessions side by side


def test_a_disk_that_is_too_small_stops_preparing_before_it_starts(copy, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(1 << 40, 1 << 40, disk.SPARE + 10_000))
    code, out, err = command(monkeypatch, capsys, "prepare", "--data", copy.parent)
    assert code == 2 and "90 kB are needed" in err and "smaller mask" in err and err.count("\n") == 1 and "90 kB of disk" in out
    assert not (copy / "prepared").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "--what", "beta"], "no part to prepare is called 'beta'; choose from betas, timeseries"),
        (["prepare", "--subjects", "subj02"], "no subject 'subj02'; choose one of subj01"),
        (["info", "--subjects", "subj9"], "no subject is called 'subj9'; choose from subj01, subj02"),
        (["check", "--subjects", "subj9"], "no subject is called 'subj9'"),
        (["check", "--sessions", "one"], "sessions are written 1-10"),
        (["info", "-s", "sessions=2"], "has no session 2, where the first 2 were asked for"),
        (["info", "-s", "spaces=func1mm"], "spaces: Extra inputs are not permitted"),
        (["prepare", "-s", "study=none"], "does not exist"),
    ],
)
def test_mistakes_in_other_commands_are_one_line(written, monkeypatch, capsys, words, message):
    code, _, err = command(monkeypatch, capsys, words[0], "--data", written.parent, *words[1:])
    assert code == 2 and err.startswith("error: ") and message in err and err.count("\n") == 1


def test_info_counts_without_reading_a_response(copy, monkeypatch, capsys):
    for path in (copy / "nsddata_betas").rglob("*betas_session*"):
        if path.suffix != ".mgh":
            renew(path, b"nothing that could be read")
    code, out, _ = command(monkeypatch, capsys, "info", "--data", copy.parent)
    raw = scipy.io.loadmat(copy / DESIGN)
    shown = raw["subjectim"][0, raw["masterordering"][0, :750].astype(int) - 1] - 1
    counts, shared = Counter(shown.tolist()), set((raw["sharedix"][0] - 1).tolist())
    times = Counter(counts.values())
    assert code == 0 and re.search(r"sessions +1 of 40: 1\s", out) and re.search(r"trials +750\s", out)
    assert f"{len(counts)}: {times[1]} shown once, {times[2]} shown twice, {times[3]} shown 3 times" in out
    assert f"{len(shared & set(counts))} seen, {sum(counts[picture] == 3 for picture in shared)} of them 3 times" in out
    test = sum(count for picture, count in counts.items() if picture in shared)
    assert f"{len(set(counts) - shared)} pictures, {750 - test} trials" in out and f"{len(shared & set(counts))} pictures, {test} trials" in out
    assert re.search(r"voxels \(nsdgeneral, func1pt8mm\) +60\s", out) and "nsdgeneral 60" in out and "memory task" in out


def test_cautions_are_those_of_the_subject_and_reach_the_report(written):
    own = {subject: [line for line in cautions(subject) if line.startswith(subject)] for subject in SUBJECTS}
    assert {subject for subject, lines in own.items() if "fixated less" in str(lines)} == {"subj05", "subj08"}
    fewer = {subject: re.search(r"(\d+) of 40", str(lines)) for subject, lines in own.items()}
    assert {subject: int(found[1]) for subject, found in fewer.items() if found} == {"subj03": 32, "subj04": 30, "subj06": 32, "subj08": 30}
    assert (
        not own["subj01"]
        and any("drops out" in line for line in cautions("subj01"))
        and any("no number" in line for line in cautions("subj06", "fsaverage"))
    )
    for entry in (NSD, NSDTimeSeries):
        assert entry(root=written).cautions("subj01")[: len(cautions("subj01"))] == cautions("subj01")


def test_cautions_are_notes_of_an_evaluation(monkeypatch):
    data = {"name": "simulated", "images": 60, "held_out": 20, "voxels": 20, "image_size": 16}
    config = RunConfig.of({"data": data, "features": ["pixels"], "components": 5, "encoder": {"name": "ridge", "factors": 1}})
    study = open_study(config, Machine())
    table = tabulate(fit_space(config, study, Machine()), study, study.test.seen, Machine())
    fold = Fold(study, held_out_side(join(study.test, table), study, 2, 0), {}, {}, {}, [])
    plain = evaluation._notes([fold])
    monkeypatch.setattr(Simulated, "cautions", lambda self, subject: (f"{subject}, reported: careful.",))
    assert evaluation._notes([fold]) == [*plain, "subj01, reported: careful."]


@pytest.mark.parametrize("words", [["--help"], ["fetch", "--help"], ["check", "--help"], ["prepare", "--help"], ["info", "--help"]])
def test_help_needs_nothing(words, monkeypatch, capsys):
    code, out, _ = command(monkeypatch, capsys, *words)
    assert code == 0 and "Usage" in out


def test_the_general_fetch_points_here(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["cortexflow", "data", "fetch", "nsd", "--to", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "see: cortexflow data nsd fetch --help" in capsys.readouterr().err
