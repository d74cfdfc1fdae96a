"""Large JSON files, one item at a time: the lists of COCO have hundreds of thousands of items and are never held whole."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cortexflow.data.on_disk.volumes import readable
from cortexflow.errors import DamagedFileError

BLOCK = 4 << 20  # characters read at a time
LONGEST = 64 << 20  # characters of one item; what is longer is no item but a file with an error in it
AFTER = tuple(",:]} \t\r\n")  # what can follow a value
BLANK = re.compile(r"[ \t\r\n]*")


class Source(NamedTuple):
    """A JSON file, by itself or in an archive.

    Arguments:
        path: The file, or the archive.
        member: Its name in the archive.
    """

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.member} in {self.path}"


def items(source: Source) -> Iterator[tuple[str, Any]]:
    """Every item of every list of the file's one object, with the list's name, in the file's order. What is no list is left out.

    Memory holds a few megabytes, however large the file is.

    Raises:
        DamagedFileError: The file is cut short, or no JSON object.

    Example:
        ``{"info": {}, "images": [1, 2], "annotations": [3]}`` gives ``("images", 1)``, ``("images", 2)``, ``("annotations", 3)``.
    """
    with readable(source.path), _opened(source) as file:
        try:
            yield from _Text(file).members()
        except (json.JSONDecodeError, RecursionError, UnicodeDecodeError) as error:
            raise DamagedFileError(f"{source} is cut short or no JSON ({error}); copy the file again") from error


@contextmanager
def _opened(source: Source) -> Iterator[io.TextIOBase]:
    if source.member is None:
        with open(source.path, encoding="utf-8") as file:
            yield file
    else:
        with zipfile.ZipFile(source.path) as archive, archive.open(source.member) as member:
            yield io.TextIOWrapper(member, encoding="utf-8")


class _Text:
    """The part of a file that was read and not yet used."""

    def __init__(self, file: io.TextIOBase) -> None:
        self.file, self.text, self.at = file, "", 0
        self.decode = json.JSONDecoder().raw_decode

    def members(self) -> Iterator[tuple[str, Any]]:
        for name in self._between("{", "}"):
            self._take(":")
            if self._next() == "[":
                yield from ((name, item) for item in self._between("[", "]"))
            else:
                self._value()

    def _between(self, first: str, last: str) -> Iterator[Any]:
        """The values between two brackets; whoever iterates may read on after each."""
        self._take(first)
        if self._next() == last:
            self.at += 1
            return
        while True:
            yield self._value()
            if self._next() == last:
                self.at += 1
                return
            self._take(",")

    def _next(self) -> str:
        """The next character that is no blank."""
        if self.at < len(self.text) and self.text[self.at] > " ":
            return self.text[self.at]
        while True:
            found = BLANK.match(self.text, self.at)
            assert found is not None  # nothing at all is a match too
            self.at = found.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                raise json.JSONDecodeError("it ends too early", "", 0)

    def _take(self, character: str) -> None:
        if self._next() != character:
            raise json.JSONDecodeError(f"{character} is missing", "", 0)
        self.at += 1

    def _value(self) -> Any:
        self._next()
        while True:
            wrong = json.JSONDecodeError("it ends too early", "", 0)
            try:
                value, end = self.decode(self.text, self.at)
            except json.JSONDecodeError as error:  # perhaps it goes on in the next block
                wrong = error
            else:
                if self.text[end : end + 1] in AFTER:  # else a number could go on
                    self.at = end
                    return value
            if len(self.text) - self.at > LONGEST or not self._more():
                raise wrong

    def _more(self) -> bool:
        """Read another block, and drop what was used."""
        block = self.file.read(BLOCK)
        self.text, self.at = self.text[self.at :] + block, 0
        return bool(block)
