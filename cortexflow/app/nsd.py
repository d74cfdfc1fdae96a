"""The commands of the Natural Scenes Dataset. What reads or fetches is imported when a command runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cortexflow.app.options import Data, Settings, screen, show_checks, this_machine
from cortexflow.app.settings import read_tree
from cortexflow.progress import track, transferring

if TYPE_CHECKING:
    from cortexflow.data.nsd_layout.upkeep.download import Bucket, Plan, Remote
    from cortexflow.data.nsd_layout.upkeep.inventory import Part

nsd_app = typer.Typer(no_args_is_help=True, help="The Natural Scenes Dataset: fetch it, check it, prepare it, look at it.")

Subjects = Annotated[str | None, typer.Option(help="subj01,subj02 … or all; those that are there unless given.")]


@nsd_app.command("fetch")
def fetch(
    to: Annotated[Path, typer.Option("--to", help="The study's folder, such as DATA/nsd; read it with --data DATA.")],
    what: Annotated[str, typer.Option(help="design, pictures, rois, maps, betas, timeseries, behaviour, transforms, surfaces; or all.")] = "",
    subjects: Annotated[str, typer.Option(help="subj01,subj02 … or all.")] = "",
    sessions: Annotated[str, typer.Option(help="1-10, 1,3,5 … or all.")] = "all",
    spaces: Annotated[str, typer.Option(help="func1pt8mm, func1mm, fsaverage, nativesurface.")] = "func1pt8mm",
    betas: Annotated[str, typer.Option(help="b1, b2, b3.")] = "b3",
    files: Annotated[str, typer.Option(help="Of sessions in volumes: hdf5 (larger, read faster) or nifti.")] = "hdf5",
    jobs: Annotated[int, typer.Option(min=1, max=16, help="Files at a time.")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print files and gigabytes, fetch nothing.")] = False,
    accept_terms: Annotated[bool, typer.Option("--accept-terms", help="You have read and accepted the dataset's terms of use.")] = False,
    endpoint: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Fetch parts of the dataset from its public bucket, terms of use first; run again to continue."""
    from cortexflow.data.nsd_layout.upkeep.download import Bucket, UnreachableError
    from cortexflow.data.nsd_layout.upkeep.inventory import BETAS, SPACES, SUBJECTS, WHAT, Selection, numbers, parts, selected

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
    from cortexflow.data.nsd_layout.upkeep.terms import TERMS, accept, accepted, check_terms

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
    with transferring("fetching", plan.left) as advance:
        verified = bucket.fetch(plan, jobs, advance)
    by_size = sorted(key for key, compared in verified.items() if not compared)
    screen().print(f"{len(verified)} files fetched, {len(verified) - len(by_size)} verified by checksum; {len(plan.there)} were there")
    if by_size:
        screen().print(f"verified by size only, as their parts are of an unknown size: {', '.join(by_size)}")
    screen().print(f"next: cortexflow data nsd check --data {plan.root.parent}")


def _show_plan(plan: "Plan", folders: "list[Part]") -> None:
    """What is there and what is missing, by part of the dataset."""
    from cortexflow.data.nsd_layout.upkeep.disk import size_text

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
    from cortexflow.data.nsd_layout.upkeep.disk import size_text
    from cortexflow.data.nsd_layout.upkeep.inventory import estimated

    screen().print(f"{why}. Without it, from what is known of the dataset: sizes before compression, so at most these", highlight=False)
    table, total = Table("part", "files", "at most", box=None), 0
    for what in dict.fromkeys(part.what for part in folders):
        sizes = [(part, estimated(part)) for part in folders if part.what == what]
        known = [(part, size) for part, size in sizes if size is not None]
        total += sum(size for _, size in known)
        more = " and some small ones" if len(known) < len(sizes) else ""
        count = sum(part.known for part, _ in known)
        table.add_row(what, f"{count}{more}" if count else "unknown", size_text(sum(size for _, size in known)) if known else "unknown")
    screen().print(table)
    screen().print(f"at most {size_text(total)}, without what is unknown")


@nsd_app.command("check")
def check(
    settings: Settings = None,
    data: Data = None,
    subjects: Subjects = None,
    sessions: Annotated[str | None, typer.Option(help="1-10 …: these must be there. Gaps are only named unless given.")] = None,
    official: Annotated[bool, typer.Option("--official", help="Every shape must be the published one, as for full-size data anyway.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read every file to its end, with its checksums.")] = False,
) -> None:
    """Go over every file of the dataset that is there: it opens, is whole, fits the others; ends with 1 if anything is wrong."""
    from cortexflow.data.nsd_layout.upkeep.inspection import Inspection
    from cortexflow.data.nsd_layout.upkeep.inventory import numbers

    dataset = _dataset(settings, data)
    names = _named(subjects)
    wanted = numbers(sessions) if sessions is not None else None
    look = Inspection(dataset.place, dataset.config.mask, names, wanted, official, deep)
    show_checks(list(track(look.checks(), "checking")))


@nsd_app.command("prepare")
def prepare(
    settings: Settings = None,
    data: Data = None,
    subjects: Subjects = None,
    what: Annotated[str, typer.Option(help="betas, timeseries, or both.")] = "betas",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would take, and prepare nothing.")] = False,
) -> None:
    """Keep the voxels of the mask in a file per session (or run); run again to continue."""
    from cortexflow.data.nsd_layout.upkeep.estimate import check_room
    from cortexflow.data.nsd_layout.upkeep.inventory import among, selected

    kinds = {"betas": "nsd", "timeseries": "nsd_timeseries"}
    chosen = selected(what, kinds)
    among("part to prepare", chosen, kinds)
    plans = []
    for kind in chosen:
        dataset = _dataset(settings, data, kinds[kind])
        plans += [(dataset, dataset.estimate(subject)) for subject in _those_there(dataset, subjects)]
    for _, one in plans:
        screen().print(str(one), highlight=False)
    check_room(plans[0][0].place, [one for _, one in plans])
    for dataset, one in () if dry_run else plans:
        files = dataset.prepare(one.subject)
        screen().print(f"{one.subject}: {len(files)} files are in {files[0].parent}")


@nsd_app.command("info")
def info(settings: Settings = None, data: Data = None, subjects: Subjects = None) -> None:
    """Sessions, trials, repeats, pictures, areas, the split and cautions of each subject; no session is read."""
    from cortexflow.data.nsd_layout.upkeep.summary import summary

    dataset = _dataset(settings, data)
    screen().print(f"[bold]nsd[/bold]: {dataset.title}")
    chosen = _those_there(dataset, subjects)
    for subject in chosen:
        screen().print(f"\n[bold]{subject}[/bold]")
        table = Table(box=None, show_header=False)
        for name, value in summary(dataset, subject).items():
            table.add_row(name, escape(value))
        screen().print(table)
    screen().print("\n[bold]cautions[/bold]")
    for sentence in dict.fromkeys(sentence for subject in chosen for sentence in dataset.cautions(subject)):
        screen().print(f"- {sentence}", highlight=False)


def _dataset(settings: list[str] | None, data: Path | None, entry: str = "nsd") -> Any:
    """The study with a command's settings, its folder there."""
    from cortexflow.training import open_dataset

    dataset = open_dataset({"name": entry, **read_tree(None, settings or [])}, this_machine("cpu", data, None))
    assert dataset.place is not None  # asked for: its error is the first one
    return dataset


def _named(subjects: str | None) -> tuple[str, ...] | None:
    from cortexflow.data.nsd_layout.upkeep.inventory import SUBJECTS, among, selected

    if subjects is None:
        return None
    names = selected(subjects, SUBJECTS)
    among("subject", names, SUBJECTS)
    return names


def _those_there(dataset: Any, subjects: str | None) -> tuple[str, ...]:
    """The subjects that are asked for, or all of whom there is something."""
    names = _named(subjects) or dataset.subjects
    for name in names:
        dataset.check_subject(name)
    return names
