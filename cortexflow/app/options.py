"""What several commands share: their options, the screen, the machine, and the table of a check."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cortexflow.errors import CortexflowError

if TYPE_CHECKING:
    from cortexflow.data.base import Check
    from cortexflow.training import Machine

Config = Annotated[Path | None, typer.Option("--config", help="A YAML file with the run's configuration.")]
Settings = Annotated[list[str] | None, typer.Option("--set", "-s", help="One choice, a.b=c; may be repeated.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")]
Data = Annotated[Path | None, typer.Option(envvar="CORTEXFLOW_DATA", help="The folder with one folder per study.")]
Cache = Annotated[Path | None, typer.Option(envvar="CORTEXFLOW_CACHE", help="The folder that keeps features between runs.")]


def screen() -> Console:
    """As wide as the terminal; files and pipes are wide enough that no cell is cut."""
    console = Console()
    return console if console.is_terminal else Console(width=300)


def this_machine(device: str, data: Path | None, cache: Path | None) -> "Machine":
    """The machine of a run.

    Raises:
        CortexflowError: It has no such device.
    """
    import torch

    from cortexflow.training import Machine

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CortexflowError(f"device {device!r} cannot be used ({str(error).splitlines()[0]}); choose --device cpu") from error
    return Machine(device, data, cache)


def show_checks(checks: Sequence["Check"]) -> None:
    """The table of a check; the command ends with 1 if anything is wrong."""
    table = Table("file", "what", "", box=None)
    for check in checks:
        table.add_row(escape(check.file), escape(check.found), "ok" if check.wrong is None else "[red]wrong[/red]")
    screen().print(table)
    for check in checks:
        if check.wrong is not None:  # a line of its own, which no column breaks
            screen().print(f"[red]wrong[/red]: {escape(check.wrong)}", soft_wrap=True, highlight=False)
    wrong = sum(check.wrong is not None for check in checks)
    screen().print(f"{wrong} of {len(checks)} are wrong" if wrong else f"all {len(checks)} are as they should be")
    if wrong:
        raise typer.Exit(1)
