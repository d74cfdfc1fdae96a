"""Progress bars with the time left, on a terminal only: logs and pipes stay quiet."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int | None = None, done: int = 0) -> Iterator[T]:
    """The same items, with a bar on standard error while they are worked through.

    Arguments:
        items: What to go through.
        what: A few words beside the bar.
        total: How many items in all, where ``len`` does not say it.
        done: How many were done before (a resumed run).
    """
    if total is None:
        total = len(items) + done if hasattr(items, "__len__") else None  # type: ignore[arg-type]
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=total, completed=done)
        for item in items:
            yield item
            bar.advance(task)


@contextmanager
def transferring(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of bytes while the block works.

    Arguments:
        what: A few words beside the bar.
        total: Bytes in all.

    Returns:
        What is to be called with each number of bytes that were transferred.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        yield partial(bar.advance, bar.add_task(what, total=total))
