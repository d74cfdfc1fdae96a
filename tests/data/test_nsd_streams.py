"""Compressed files are read as gzip reads them, with either decompressor, and never read further than they are whole."""

import gzip
import zlib

import numpy as np
import pytest

from cortexflow.data.nsd_layout import betas
from cortexflow.data.nsd_layout.betas import Inflating


@pytest.fixture(params=["zlib", "isal"], autouse=True)
def inflate(request, monkeypatch):
    library = zlib if request.param == "zlib" else pytest.importorskip("isal").isal_zlib
    monkeypatch.setattr(betas, "inflate", library)


@pytest.fixture(scope="module")
def content():
    """A megabyte that compresses to about half, and zeros that compress to nearly nothing."""
    return np.random.default_rng(0).integers(-9, 9, 500_000, dtype=np.int16).tobytes() + bytes(2_000_000)


def read(path, pieces):
    """Everything, in pieces of these sizes in turn; the last of them again and again."""
    found = b""
    with Inflating(path) as stream:
        while True:
            buffer = bytearray(pieces.pop(0) if len(pieces) > 1 else pieces[0])
            count = stream.readinto(buffer)
            if not count:
                return found
            found += buffer[:count]


@pytest.mark.parametrize("pieces", [[352, 1_400_000], [1, 7, 65_536], [10_000_000]], ids=str)
def test_pieces_of_any_size(tmp_path, content, pieces):
    (tmp_path / "a.gz").write_bytes(gzip.compress(content, 1))
    assert read(tmp_path / "a.gz", list(pieces)) == content


@pytest.mark.parametrize("between, after", [(b"", b""), (bytes(512), bytes(4096))], ids=["in a row", "with zeros after each"])
def test_several_files_in_one(tmp_path, content, between, after):
    parts = content[:1_000_001], b"", content[1_000_001:]
    (tmp_path / "a.gz").write_bytes(between.join(gzip.compress(part, 1) for part in parts) + after)
    assert read(tmp_path / "a.gz", [300_000]) == content == gzip.decompress((tmp_path / "a.gz").read_bytes())


@pytest.mark.parametrize("lost", [1, 8, 9, 1000])
def test_cut_short(tmp_path, content, lost):
    (tmp_path / "a.gz").write_bytes(gzip.compress(content, 1)[:-lost])
    with pytest.raises(EOFError):
        read(tmp_path / "a.gz", [300_000])


@pytest.mark.parametrize("where", [0, 5000, -6, -2], ids=["no gzip", "a byte within", "checksum", "length"])
def test_altered(tmp_path, content, where):
    whole = bytearray(gzip.compress(content, 1))
    whole[where] ^= 0x55
    (tmp_path / "a.gz").write_bytes(whole)
    with pytest.raises(OSError):
        read(tmp_path / "a.gz", [300_000])


def test_an_empty_file_ends_at_once(tmp_path):
    (tmp_path / "a.gz").write_bytes(b"")
    assert read(tmp_path / "a.gz", [100]) == b"" == gzip.decompress((tmp_path / "a.gz").read_bytes())
