"""Files of the public bucket, by its anonymous interface: listed, fetched in pieces that a later run continues, and verified.

A file has its name only once it is whole and verified. Until then its bytes lie beside it under a hidden name that says of
which version they are, so that pieces of two versions are never joined.
"""

import glob
import hashlib
import os
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import requests
from filelock import FileLock, Timeout
from urllib3.exceptions import HTTPError

from cortexflow.data.nsd_layout.files import BUCKET, UNFINISHED
from cortexflow.data.nsd_layout.upkeep.disk import check_space, size_text
from cortexflow.data.nsd_layout.upkeep.inventory import Part
from cortexflow.errors import CortexflowError
from cortexflow.storage import fingerprint

ENDPOINT = "https://natural-scenes-dataset.s3.amazonaws.com"
VARIABLE = "CORTEXFLOW_NSD_ENDPOINT"  # another server with the same files, such as an institute's mirror
ATTEMPTS = 6  # in a row without a single new byte
PAUSE = 1.0  # seconds before the second attempt, twice as long before each further one
LONGEST = 30.0
WAIT = (15, 30)  # seconds for a connection, and for its next bytes
PIECE = 1 << 17  # bytes that are written at a time: what is lost where a fetch is killed
PASSING = (408, 429, 500, 502, 503, 504)  # answers that another attempt may change
USUAL = (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 200, 256, 512)  # MiB of the parts in which programs upload
LOST = (requests.RequestException, HTTPError)


class UnreachableError(CortexflowError):
    """The bucket does not answer."""


class ChangedError(CortexflowError):
    """What came is not what the bucket's list says."""


class Remote(NamedTuple):
    """A file in the bucket.

    Arguments:
        key: Its name from the bucket's root on.
        size: In bytes.
        etag: The MD5 of its content, or of the MD5s of its parts with their number behind a hyphen.
    """

    key: str
    size: int
    etag: str

    def local(self, root: Path) -> Path:
        """Where it lies in the folder that stands for the bucket."""
        return root / self.key

    def unfinished(self, root: Path) -> Path:
        """Where its first bytes lie until it is whole."""
        path = self.local(root)
        return path.with_name(f".{path.name}.{fingerprint([self.size, self.etag])}{UNFINISHED}")

    def kept(self, root: Path) -> int:
        """Bytes that an earlier run has fetched of it."""
        path = self.unfinished(root)
        return path.stat().st_size if path.is_file() else 0


@dataclass(frozen=True)
class Plan:
    """What is to be fetched.

    Arguments:
        root: The folder that stands for the bucket.
        there: Files that are there with the right size.
        missing: Files that are not.
    """

    root: Path
    there: tuple[Remote, ...]
    missing: tuple[Remote, ...]

    @property
    def left(self) -> int:
        """Bytes to be fetched."""
        return sum(remote.size - remote.kept(self.root) for remote in self.missing)

    def check_disk(self) -> None:
        """Raises CortexflowError where the disk is too small for what is missing."""
        check_space(self.root, self.left, "choose fewer sessions, subjects or parts")


class Bucket:
    """The server of the dataset.

    Arguments:
        endpoint: Its address; that of the variable :data:`VARIABLE` or the public one where None.
        pause: Seconds before the second attempt; :data:`PAUSE` where None.
    """

    def __init__(self, endpoint: str | None = None, pause: float | None = None) -> None:
        self.endpoint = (endpoint or os.environ.get(VARIABLE) or ENDPOINT).rstrip("/")
        if not self.endpoint.startswith(("https://", "http://")):
            raise CortexflowError(f"the server of the dataset must be an address with https://, {self.endpoint!r} was given; mend {VARIABLE}")
        self.pause = PAUSE if pause is None else pause
        self._own = threading.local()  # connections are not shared between threads
        self._stop = threading.Event()

    def listing(self, prefix: str) -> list[Remote]:
        """The files of one folder whose names begin so, sorted; folders below it are left out.

        Raises:
            UnreachableError: There is no answer.
            CortexflowError: The server refuses, or answers something that is no list.
        """
        found, more = [], ""
        while True:
            page = self._page({"list-type": "2", "prefix": prefix, "delimiter": "/", **({"continuation-token": more} if more else {})})
            found += [_remote(entry) for entry in page.iterfind("{*}Contents") if not (entry.findtext("{*}Key") or "").endswith("/")]
            more = page.findtext("{*}NextContinuationToken") or ""
            if not more or page.findtext("{*}IsTruncated") != "true":
                return sorted(found)

    def plan(self, root: Path, parts: Sequence[Part]) -> Plan:
        """Compare the bucket with a folder.

        Raises:
            CortexflowError: What :meth:`listing` raises, a file is not in the bucket, or another file lies in its place.
        """
        remotes = {remote.key: remote for part in parts for remote in self._of(part)}
        for what in dict.fromkeys(part.what for part in parts):
            ours = [part for part in parts if part.what == what]
            if not any(part.holds(key) for part in ours for key in remotes):
                raise self._lacks(ours[0], ours[0].patterns[0])
        own = [remote for remote in remotes.values() if remote.local(root).exists()]
        for remote in own:
            _check_own(remote, remote.local(root))
        return Plan(root, tuple(own), tuple(remote for key, remote in remotes.items() if not (root / key).exists()))

    def _of(self, part: Part) -> list[Remote]:
        """The files of a part. Raises CortexflowError where one that is known by name is not among them."""
        there = {remote.key: remote for remote in self.listing(part.prefix) if part.holds(remote.key)}
        for name in part.expected:
            if f"{part.folder}/{name}" not in there:
                raise self._lacks(part, name)
        return list(there.values())

    def _lacks(self, part: Part, name: str) -> CortexflowError:
        where = f"{self.endpoint} has no {part.folder}/{name}"
        return CortexflowError(f"{where}; choose other sessions, spaces or betas, or leave out {part.what}")

    def fetch(self, plan: Plan, jobs: int = 4, advance: Callable[[int], object] = lambda count: None) -> dict[str, bool]:
        """Fetch what is missing, several files at a time.

        Arguments:
            plan: From :meth:`plan`.
            jobs: Files at a time.
            advance: Is told how many bytes more are there.

        Returns:
            For each file by its key whether its checksum was compared; where not, its size was.

        Raises:
            CortexflowError: The disk is too small, the connection is lost for good, the server refuses, or a file came twice with
                another checksum than its list says. What was fetched is kept, and another call continues.
        """
        plan.check_disk()
        self._stop.clear()
        verified: dict[str, bool] = {}
        with _alone(plan.root), ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(self._complete, remote, plan.root, advance): remote for remote in plan.missing}
            try:
                for future in as_completed(futures):
                    verified[futures[future].key] = future.result()
            except BaseException as error:
                self._stop.set()  # the others end with the piece they are at
                pool.shutdown(cancel_futures=True)
                if isinstance(error, UnreachableError):
                    raise UnreachableError(f"{error}; {self._state(plan)}; run the same command again to continue") from error
                raise
        return verified

    def _state(self, plan: Plan) -> str:
        """What is there of a plan now."""
        whole = [remote for remote in plan.missing if remote.local(plan.root).exists()]
        pieces = sum(remote.kept(plan.root) for remote in plan.missing)
        return f"{len(whole)} of {len(plan.missing)} files and {size_text(pieces)} of unfinished ones are kept in {plan.root}"

    def _complete(self, remote: Remote, root: Path, advance: Callable[[int], object]) -> bool:
        """One file, whole and verified, under its name; whether its checksum could be compared."""
        path, unfinished = remote.local(root), remote.unfinished(root)
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_other_versions(path, unfinished)
            for last in (False, True):
                self._pieces(remote, unfinished, advance)
                same = matches(unfinished, remote.etag)
                if same is not False:
                    break
                unfinished.unlink()
                advance(-remote.size)
                if last:
                    what = f"{remote.key} came twice with another checksum than the server's list says"
                    raise ChangedError(f"{what}; nothing of it is kept: run the command again later, or from another network")
            with open(unfinished, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        return same is True

    def _pieces(self, remote: Remote, path: Path, advance: Callable[[int], object]) -> None:
        """All bytes of a file, after those that are there; attempts count anew with every byte that comes."""
        failures = 0
        while not path.is_file() or path.stat().st_size != remote.size:
            before = path.stat().st_size if path.is_file() else 0
            try:
                self._rest(remote, path, advance)
                why = f"it ended after {path.stat().st_size} of {remote.size} bytes"
            except LOST as error:
                why = _short(error)
            progressed = path.is_file() and path.stat().st_size > before
            failures = 0 if progressed else failures + 1
            if failures >= ATTEMPTS:
                raise UnreachableError(f"{remote.key}: the connection to {self.endpoint} is lost ({why})")
            if path.is_file() and path.stat().st_size == remote.size:
                return
            self._rest_a_while(failures)

    def _rest(self, remote: Remote, path: Path, advance: Callable[[int], object]) -> None:
        """What one connection gives of a file, from where the file on disk ends."""
        start = path.stat().st_size if path.is_file() else 0
        if start > remote.size:
            path.unlink()
            start = 0
        headers = {"If-Match": f'"{remote.etag}"', "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with self._get(f"/{quote(remote.key)}", headers=headers) as answer:
            if answer.status_code != 206 and start:  # a server that does not know ranges sends everything
                advance(-start)
                start = 0
            if answer.status_code == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise ChangedError(f"{remote.key}: bytes from {start} were asked, {answer.headers.get('Content-Range')} came; run the command again")
            with open(path, "ab" if start else "wb", buffering=0) as file:
                for piece in answer.raw.stream(PIECE, decode_content=False):
                    if self._stop.is_set():
                        raise UnreachableError(f"{remote.key}: stopped")
                    file.write(piece)
                    advance(len(piece))

    def _page(self, query: dict[str, str]) -> ElementTree.Element:
        failures = 0
        while True:
            try:
                with self._get("/", params=query) as answer:
                    return ElementTree.fromstring(answer.content)
            except ElementTree.ParseError as error:
                raise CortexflowError(f"{self.endpoint} answers something that is no list of files ({error}); check {VARIABLE}") from error
            except LOST as error:
                failures += 1
                if failures >= ATTEMPTS:
                    raise UnreachableError(f"{self.endpoint} does not answer ({_short(error)}); check the connection") from error
                self._rest_a_while(failures)

    def _get(self, path: str, **options: Any) -> requests.Response:
        """An answer whose body is not read yet. Raises what :data:`LOST` has where another attempt may help."""
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
        answer = self._own.session.get(self.endpoint + path, stream=True, timeout=WAIT, **options)
        if answer.status_code in (200, 206):
            return answer
        answer.close()
        if answer.status_code in PASSING:
            raise requests.HTTPError(f"the server answers {answer.status_code}")
        name = path.lstrip("/") or str(options["params"]["prefix"])
        raise _refused(answer.status_code, name, self.endpoint)

    def _rest_a_while(self, failures: int) -> None:
        if self._stop.wait(min(LONGEST, self.pause * 2 ** max(0, failures - 1))):
            raise UnreachableError("stopped")


def matches(path: Path, etag: str) -> bool | None:
    """Whether a file has this ETag; None where its parts have a size that cannot be guessed, so that nothing can be said.

    Arguments:
        path: The file.
        etag: The MD5 of the file, or ``…-N`` of one that was uploaded in N parts: the MD5 of the N parts' MD5s.
    """
    digest, _, count = etag.partition("-")
    if not count and len(digest) == 32:
        with open(path, "rb") as file:
            return _md5(file, path.stat().st_size).hexdigest() == digest
    sizes = part_sizes(path.stat().st_size, int(count)) if count.isdigit() else []
    return True if any(_in_parts(path, size) == digest for size in sizes) else None


def part_sizes(size: int, count: int) -> list[int]:
    """Usual sizes of parts, in bytes, of which a file of ``size`` bytes has ``count``.

    Example:
        >>> part_sizes(20 << 20, 3)
        [8388608]
    """
    return [part << 20 for part in USUAL if max(1, -(-size // (part << 20))) == count]


def _remote(entry: ElementTree.Element) -> Remote:
    key, size, etag = (entry.findtext(f"{{*}}{name}") or "" for name in ("Key", "Size", "ETag"))
    if not size.isdigit() or any(part in ("", ".", "..") for part in key.split("/")) or "\\" in key:
        raise CortexflowError(f"the server lists {key!r} of size {size!r}, which is no file of the dataset; check {VARIABLE}")
    return Remote(key, int(size), etag.strip('"'))


def _check_own(remote: Remote, path: Path) -> None:
    """What lies there is never written over."""
    size = path.stat().st_size
    if size != remote.size:
        raise CortexflowError(
            f"{path} has {size} bytes where {BUCKET}/{remote.key} has {remote.size}; move it away, or name another folder with --to"
        )


def _refused(status: int, name: str, endpoint: str) -> CortexflowError:
    why = {
        403: "it is not public there; check the name, or ask the dataset's authors",
        404: "there is no such file; check the name, or run the command again for a new list",
        412: "it was changed after it was listed; run the command again for a new list",
    }
    return CortexflowError(f"{endpoint} answers {status} for {name}: {why.get(status, 'that is no answer to a reader; check the address')}")


def _in_parts(path: Path, size: int) -> str:
    """The ETag, without the number of parts, of a file that is uploaded in parts of so many bytes."""
    count, whole = max(1, -(-path.stat().st_size // size)), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        for _ in range(count):
            whole.update(_md5(file, size).digest())
    return whole.hexdigest()


def _md5(file: BinaryIO, size: int) -> Any:
    """Of the next so many bytes of a file, or of those that are left."""
    digest = hashlib.md5(usedforsecurity=False)
    while size and (piece := file.read(min(PIECE, size))):
        digest.update(piece)
        size -= len(piece)
    return digest


def _remove_other_versions(path: Path, keep: Path) -> None:
    """Pieces of a version that is in the bucket no more."""
    for old in path.parent.glob(f".{glob.escape(path.name)}.*{UNFINISHED}"):
        if old != keep:
            old.unlink(missing_ok=True)


def _short(error: BaseException) -> str:
    """The innermost reason in a few words."""
    while error.__context__ is not None or (error.args and isinstance(error.args[0], BaseException)):
        error = error.__context__ or error.args[0]
    words = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return words if len(words) < 100 else words[:100] + " …"


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One fetch at a time in a folder: two would write into the same pieces."""
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".fetching", timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise CortexflowError(f"another command is fetching into {root}; wait for it, or stop it first") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the disk refuses becomes one clear error."""
    try:
        yield
    except OSError as error:
        why = f"{path} could not be written ({error.strerror or error})"
        raise CortexflowError(f"{why}; free space or choose another folder, then run the command again: what was fetched is kept") from error
