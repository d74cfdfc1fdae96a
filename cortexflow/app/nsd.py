"""The commands of the Natural Scenes Dataset. What reads or fetches is imported when a command runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cortexflow.app.options import screen

if TYPE_CHECKING:
    from cortexflow.data.nsd_layout.download import Bucket, Plan, Remote
    from cortexflow.data.nsd_layout.inventory import Part

nsd_app = typer.Typer(no_args_is_help=True, help="The Natural Scenes Dataset: fetch it, check it, prepare it, look at it.")

Subjects = Annotated[str | None, typer.Option(help="subj01,subj02 … or all; those that are there unless given.")]


@nsd_app.command("fetch")
def fetch(
    to: Annotated[Path, typer.Option("--to", help="The study's folder, such as DATA/nsd; read it with --data DATA.")],
    subjects: Annotated[str, typer.Option(help="subj01,subj02 … or all.")],
    what: Annotated[str, typer.Option(help="design, pictures, rois, maps, betas, timeseries, behaviour, transforms, surfaces; or all.")],
    sessions: Annotated[str, typer.Option(help="1-10, 1,3,5 … or all.")] = "all",
    spaces: Annotated[str, typer.Option(help="func1pt8mm, func1mm, fsaverage.")] = "func1pt8mm",
    betas: Annotated[str, typer.Option(help="b1, b2, b3.")] = "b3",
    files: Annotated[str, typer.Option(help="Of sessions in volumes: hdf5 (larger, read faster) or nifti.")] = "hdf5",
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Files at a time.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print files and gigabytes, fetch nothing.")] = False,
    accept_terms: Annotated[bool, typer.Option("--accept-terms", help="You have read and accepted the dataset's terms of use.")] = False,
    endpoint: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Fetch parts of the dataset from its public bucket, terms of use first; run again to continue."""
    from cortexflow.data.nsd_layout.download import Bucket, UnreachableError
    from cortexflow.data.nsd_layout.inventory import BETAS, SPACES, SUBJECTS, WHAT, Selection, numbers, parts, selected

    chosen = (selected(subjects, SUBJECTS), selected(what, WHAT), selected(spaces, SPACES), selected(betas, BETAS))
    folders = parts(Selection(*chosen, files=files, sessions=numbers(sessions)))
    bucket = Bucket(endpoint)
    if not dry_run:
        _terms(to, accept_terms)
    try:
        plan = bucket.plan(to, folders)
    except UnreachableError as error:
        if not dry_run:
            raise
        _show_estimate(folders, str(error))
        return
    _show_plan(plan, folders)
    if not dry_run:
        _fetch(bucket, plan, jobs)


def _terms(root: Path, accepts: bool) -> None:
    """Print where the terms are, and go on only where they were or are accepted."""
    from cortexflow.data.nsd_layout.terms import TERMS, accept, accepted, check_terms

    date = accepted(root)
    if date is not None:
        screen().print(f"terms of use: accepted on {date} for {root}")
        return
    for line in TERMS:
        screen().print(line, highlight=False)
    if accepts or (sys.stdin.isatty() and typer.confirm("Have you read and signed both, and do you accept them?")):
        accept(root)
    check_terms(root)


def _fetch(bucket: "Bucket", plan: "Plan", jobs: int) -> None:
    from cortexflow.progress import transferring

    with transferring("fetching", plan.left) as advance:
        verified = bucket.fetch(plan, jobs, advance)
    by_size = sorted(key for key, compared in verified.items() if not compared)
    screen().print(f"{len(verified)} files fetched, {len(verified) - len(by_size)} verified by checksum; {len(plan.there)} were there")
    if by_size:
        screen().print(f"verified by size only, as their parts are of an unknown size: {', '.join(by_size)}")
    screen().print(f"next: cortexflow data nsd check --data {plan.root.parent}")


def _show_plan(plan: "Plan", folders: "list[Part]") -> None:
    """What is there and what is missing, by part of the dataset."""
    from cortexflow.data.nsd_layout.download import size_text

    table = Table("part", "files", "size", "there", "to fetch", box=None)
    for what in dict.fromkeys(part.what for part in folders):
        ours = [part for part in folders if part.what == what]
        there, missing = (_those(remotes, ours) for remotes in (plan.there, plan.missing))
        size = size_text(sum(remote.size for remote in there + missing))
        table.add_row(what, str(len(there) + len(missing)), size, str(len(there)), size_text(sum(r.size - r.kept(plan.root) for r in missing)))
    screen().print(table)
    count = len(plan.there) + len(plan.missing)
    screen().print(f"{count} files, {len(plan.there)} of them there; {size_text(plan.left)} to fetch into {plan.root}")


def _those(remotes: "tuple[Remote, ...]", folders: "list[Part]") -> "list[Remote]":
    return [remote for remote in remotes if any(part.holds(remote.key) for part in folders)]


def _show_estimate(folders: "list[Part]", why: str) -> None:
    """Without the bucket: what shapes say."""
    from cortexflow.data.nsd_layout.download import size_text
    from cortexflow.data.nsd_layout.inventory import estimated

    screen().print(f"{why}. Without it, from what is known of the dataset: sizes before compression, so at most these", highlight=False)
    table, total = Table("part", "files", "at most", box=None), 0
    for what in dict.fromkeys(part.what for part in folders):
        sizes = [(part, estimated(part)) for part in folders if part.what == what]
        known = [(part, size) for part, size in sizes if size is not None]
        total += sum(size for _, size in known)
        more = " and some small ones" if len(known) < len(sizes) else ""
        count = sum(len(part.expected) for part, _ in known)
        table.add_row(what, f"{count}{more}" if count else "unknown", size_text(sum(size for _, size in known)) if known else "unknown")
    screen().print(table)
    screen().print(f"at most {size_text(total)}, without what is unknown")
