"""Tab-separated tables with a header: read whole, or refused with the line that is wrong."""

import csv
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.storage import replacing

EMPTY = ("", "n/a")  # BIDS writes n/a where there is no value


@dataclass(frozen=True)
class Table:
    """The columns of a table as text; a column becomes numbers when it is asked for.

    Arguments:
        path: Where it was read, for errors.
        columns: One list of cells per column, in the order of the file.
    """

    path: Path
    columns: Mapping[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def text(self, name: str) -> list[str]:
        """The cells of a column.

        Raises:
            CortexflowError: No such column, or an empty cell in it.
        """
        self._has(name)
        for row, cell in enumerate(self.columns[name]):
            if cell in EMPTY:
                raise self._error(row, f"{name} is empty", "fill it in, or leave the row out")
        return self.columns[name]

    def whole(self, name: str) -> Int[Tensor, " rows"]:
        """A column of whole numbers.

        Raises:
            CortexflowError: No such column, or a cell that is no whole number.
        """
        return torch.tensor([self._number(name, row, cell) for row, cell in enumerate(self.text(name))], dtype=torch.long)

    def flags(self, name: str) -> Bool[Tensor, " rows"]:
        """A column of 0 and 1.

        Raises:
            CortexflowError: No such column, or a cell that is neither.
        """
        for row, cell in enumerate(self.text(name)):
            if cell not in ("0", "1"):
                raise self._error(row, f"{name} is {cell!r}", "write 0 or 1")
        return torch.tensor([cell == "1" for cell in self.columns[name]], dtype=torch.bool)

    def real(self, name: str, empty: bool = False) -> Float[Tensor, " rows"]:
        """A column of numbers, in double precision.

        Arguments:
            name: The column.
            empty: Whether a cell may be empty; it becomes NaN.

        Raises:
            CortexflowError: No such column, or a cell that is no finite number.
        """
        self._has(name)
        numbers = [self._real(name, row, cell, empty) for row, cell in enumerate(self.columns[name])]
        return torch.tensor(numbers, dtype=torch.float64)

    def _has(self, name: str) -> None:
        if name not in self.columns:
            many = len(self.columns) > 12  # a table of confounds has hundreds
            some = difflib.get_close_matches(name, self.columns, 5, 0) if many else list(self.columns)
            raise CortexflowError(f"{self.path} has no column {name!r}; its columns are {', '.join(some)}{' …' * many}")

    def _number(self, name: str, row: int, cell: str) -> int:
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not number.is_integer():
            raise self._error(row, f"{name} is {cell!r}", "write a whole number")
        return int(number)

    def _real(self, name: str, row: int, cell: str, empty: bool) -> float:
        if empty and cell in EMPTY:
            return math.nan
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise self._error(row, f"{name} is {cell!r}", "write a finite number")
        return number

    def _error(self, row: int, what: str, remedy: str) -> CortexflowError:
        return CortexflowError(f"{self.path}, line {row + 2}: {what}; {remedy}")


def read_table(path: Path, *needed: str) -> Table:
    """Read a table that has at least these columns and one row.

    Raises:
        CortexflowError: No such file, no tabs, a column missing or twice, a row of another length, or no rows.
    """
    header, rows = _lines(path)
    missing = [name for name in needed if name not in header]
    if missing and len(header) == 1 and any(mark in header[0] for mark in ",; "):
        raise CortexflowError(f"{path} has no tabs in its first line {header[0]!r}; save it with tabs between the columns")
    if missing:
        Table(path, {name: [] for name in header})._has(missing[0])
    if len(set(header)) < len(header):
        raise CortexflowError(f"{path} has the column {max(header, key=header.count)!r} twice; give every column its own name")
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise CortexflowError(f"{path}, line {number} has {len(row)} cells for {len(header)} columns; mend the line")
    if not rows:
        raise CortexflowError(f"{path} has a header and no rows; add the rows")
    return Table(path, {name: [row[column].strip() for row in rows] for column, name in enumerate(header)})


def write_table(path: Path, columns: Mapping[str, Iterable[object]]) -> None:
    """Write a table, whole or not at all; numbers as precise as they are.

    Arguments:
        path: The file.
        columns: Cells by the name of their column, all of one length.
    """
    rows = zip(*columns.values(), strict=True)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _lines(path: Path) -> tuple[list[str], Sequence[list[str]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark before the first column
            lines = [row for row in csv.reader(file, delimiter="\t") if row]
    except FileNotFoundError as error:
        raise CortexflowError(f"{path} does not exist; make it") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CortexflowError(f"{path} cannot be read ({error}); save it as a tab-separated table in UTF-8") from error
    if not lines:
        raise CortexflowError(f"{path} is empty; give it a header and rows")
    return [name.strip() for name in lines[0]], lines[1:]
