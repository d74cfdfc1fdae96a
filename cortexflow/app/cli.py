"""The command line. Every command imports what it needs when it runs, so that ``--help`` is immediate."""

import os
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from cortexflow import catalog
from cortexflow.app.nsd import nsd_app
from cortexflow.app.options import Cache, Config, Data, Device, Seed, Settings, screen, show_checks, this_machine
from cortexflow.app.settings import every, read_tree
from cortexflow.errors import CortexflowError, CortexflowWarning

STOPPED = 130  # how a shell counts a command that Ctrl-C ended

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Pictures in, synthetic visual cortex out.")
data_app = typer.Typer(no_args_is_help=True, help="Studies: list them, fetch them, look at them.")
features_app = typer.Typer(no_args_is_help=True, help="What a picture is to a model: list, compute and cache.")
app.add_typer(data_app, name="data")
data_app.add_typer(nsd_app, name="nsd")
app.add_typer(features_app, name="features")


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Options of every command."""


@data_app.command("list")
def data_list() -> None:
    """The studies there are."""
    table = Table("study", "what it is", box=None)
    for name in catalog.names("data"):
        table.add_row(name, catalog.find("data", name).title)
    screen().print(table)


@data_app.command("fetch")
def data_fetch(study: str, to: Annotated[Path, typer.Option("--to", help="Folder of the study's files.")]) -> None:
    """Download a public study, with checksums."""
    entry: Any = catalog.find("data", study)
    if not hasattr(entry, "fetch"):
        remedy = "cortexflow data nsd fetch --help" if study == "nsd" else f"cortexflow data info {study}"
        raise CortexflowError(f"{study} is not downloaded by this command; see: {remedy}")
    entry.fetch(to)
    screen().print(f"{study} is complete in {to}")


@data_app.command("info")
def data_info(
    study: str,
    settings: Settings = None,
    subject: Annotated[str | None, typer.Option(help="One subject only.")] = None,
    data: Data = None,
) -> None:
    """What a study holds: subjects, trials, pictures, areas."""
    from cortexflow.training import open_dataset

    tree = read_tree(None, settings or [])
    dataset = open_dataset({"name": study, **tree}, this_machine("cpu", data, None))
    screen().print(f"[bold]{study}[/bold]: {dataset.title}")
    table = Table("subject", "trials", "pictures", "held out", "sessions", "voxels", "areas", box=None)
    for name in [subject] if subject else dataset.subjects:
        dataset.check_subject(name)
        try:
            trials, cortex, held = dataset.trials(name), dataset.cortex(name), dataset.held_out()
        except CortexflowError as error:
            screen().print(f"{name}: {escape(str(error))}")
            continue
        areas = ", ".join(f"{area} {int(mask.sum())}" for area, mask in cortex.areas.items())
        counts = (len(trials), len(trials.stimuli.unique()), len(held), len(trials.sessions.unique()), trials.voxels)
        table.add_row(name, *map(str, counts), areas)
    if table.row_count:
        screen().print(table)


@data_app.command("check")
def data_check(study: str, settings: Settings = None, data: Data = None) -> None:
    """Go over everything that a study expects, file by file; ends with 1 if anything is wrong."""
    from cortexflow.training import open_dataset

    show_checks(open_dataset({"name": study, **read_tree(None, settings or [])}, this_machine("cpu", data, None)).check())


@data_app.command("simulate")
def data_simulate(
    to: Annotated[Path, typer.Argument(help="A new folder; its name is the study's, nsd unless data.study says otherwise.")],
    layout: Annotated[str, typer.Option(help="Whose layout: nsd.")] = "nsd",
    settings: Settings = None,
) -> None:
    """Write a small simulated study as another study's files lie on disk."""
    from cortexflow.data.nsd_layout.miniature.study import Miniature, write_miniature

    if layout != "nsd":
        raise CortexflowError(f"no layout is called {layout!r}; the one there is: nsd")
    try:
        choices = Miniature(**read_tree(None, settings or []))
    except ValidationError as error:
        raise CortexflowError(catalog.explain(error, "the miniature", Miniature)) from error
    written = write_miniature(to, choices)
    screen().print(
        f"{to}: {choices.subjects} subjects, {choices.sessions} sessions, {len(written.stimuli)} pictures; read it with --data {to.parent}"
    )


def default_weights(extractor: Any) -> str:
    """Which network, and the digits that are in the key of its features; nothing where there is none."""
    if not hasattr(extractor, "network_kind"):
        return ""
    features = extractor()
    return f", {features.network_kind} {features.config.model} {features.weights}"


@features_app.command("list")
def features_list() -> None:
    """The extractors there are, and the weights that each takes if none are named."""
    for name in catalog.names("features"):
        found = catalog.find("features", name)
        screen().print(f"{name}  (revision {found.revision}{default_weights(found)})")


@features_app.command("compute")
def features_compute(config: Config = None, settings: Settings = None, device: Device = "cpu", data: Data = None, cache: Cache = None) -> None:
    """Compute and cache the features of every picture that a subject saw."""
    from cortexflow.features.cache import FeatureCache
    from cortexflow.training import RunConfig, make_features, open_dataset

    if cache is None:
        raise CortexflowError("features need a place to stay; give --cache DIR or set CORTEXFLOW_CACHE")
    machine = this_machine(device, data, cache)
    run = RunConfig.of(read_tree(config, settings or []))
    dataset = open_dataset(run.data, machine)
    dataset.check_subject(run.subject)
    pictures = dataset.trials(run.subject).seen
    for features in make_features(run):
        levels = FeatureCache(cache).get(features, dataset, pictures)
        screen().print(f"{features.name}: {len(pictures)} pictures; " + ", ".join(f"{level} {v.shape[1]}" for level, v in levels.items()))


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", help="The run's folder.")],
    config: Config = None,
    settings: Settings = None,
    seed: Seed = None,
    device: Device = "cpu",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    each: Annotated[list[str] | None, typer.Option("--each", help="One run for each value: subject=subj01,subj02; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes for the runs of --each; -1: one per core.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help="Address of a dask scheduler for the runs of --each.")] = None,
    data: Data = None,
    cache: Cache = None,
) -> None:
    """Fit a model to a subject, or one to each of several subjects, areas, seeds …"""
    from cortexflow.training import RunConfig, train_all

    settings = [*(settings or []), *([f"seed={seed}"] if seed is not None else [])]
    several = {"-".join(values): [*settings, *pairs] for values, pairs in every(each or [])}
    configs = {out / name if name else out: RunConfig.of(read_tree(config, pairs)) for name, pairs in several.items()}
    for folder in train_all(configs, this_machine(device, data, cache), jobs=jobs, scheduler=scheduler, resume=resume):
        print(f"{configs[folder].title} of {configs[folder].subject} is in {folder}; next: cortexflow evaluate {folder}")


@app.command()
def synthesize(
    run: Path,
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures.")],
    out: Annotated[Path, typer.Option("--out", help="A .npz or .h5 file.")],
    samples: Annotated[int, typer.Option(help="Synthetic responses per picture.")] = 1,
    average: Annotated[int, typer.Option(help="Trials that each of them is the mean of.")] = 1,
    areas: Annotated[str | None, typer.Option(help="Only these areas: V1,hV4.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
) -> None:
    """Synthetic responses to a folder of pictures: n single trials and the mean."""
    from cortexflow.synthesis import synthesize as respond
    from cortexflow.training import Run

    respond(Run.load(run), pictures, out, samples=samples, average=average, areas=areas, seed=seed)
    print(f"{out} and {out}.manifest.json")


@app.command()
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="A run, or the folds of one cross-validation.")],
    out: Annotated[Path | None, typer.Option("--out", help="Where to write; by default the first run's folder.")] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.")] = 1000,
    data: Data = None,
    cache: Cache = None,
) -> None:
    """Score held-out pictures beside the nulls, ridge and the noise ceiling."""
    from cortexflow.report.evaluation import evaluate as score
    from cortexflow.report.tables import table_text
    from cortexflow.training import Run

    metrics = score([Run.load(run) for run in runs], this_machine("cpu", data, cache), out or runs[0], draws=draws)
    screen().print(table_text(metrics))
    print(f"next: cortexflow report {out or runs[0]}")


@app.command()
def report(run: Path) -> None:
    """One self-contained page: table, areas, ceiling, patterns, maps, and what made the run."""
    from cortexflow.report.page import write_page

    print(write_page(run))


@app.command()
def run(
    experiment: str,
    out: Annotated[Path, typer.Option("--out", help="The experiment's folder.")],
    settings: Settings = None,
    device: Device = "cpu",
    data: Data = None,
    cache: Cache = None,
) -> None:
    """Run an experiment: one question, from data to page."""
    entry, choices = catalog.configure("experiments", {"name": experiment, **read_tree(None, settings or [])})
    entry(choices).run(out, this_machine(device, data, cache))


@app.command()
def info() -> None:
    """Versions, devices, and what the catalogue holds."""
    import torch

    import cortexflow

    screen().print(f"cortexflow {cortexflow.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    screen().print(f"GPUs: {', '.join(devices) or 'none'}")
    for room in ("data", "features", "encoding", "decoding", "experiments"):
        screen().print(f"{room}: {', '.join(catalog.names(room)) or 'none yet'}")
    for variable in ("CORTEXFLOW_DATA", "CORTEXFLOW_CACHE"):
        screen().print(f"{variable}: {os.environ.get(variable, 'not set')}")


def main() -> None:
    """Entry point: errors of the user are one line, their traceback is shown by ``--debug``."""
    debug = "--debug" in sys.argv
    interrupted = _heed_interrupts()
    warnings.showwarning = _one_line_warning
    warnings.filterwarnings("always", category=CortexflowWarning)
    try:
        app(args=[word for word in sys.argv[1:] if word != "--debug"])
    except CortexflowError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except MemoryError:
        print("error: not enough memory; use fewer voxels (-s area=V1), features (-s components=50) or samples", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # nothing else should come this far: it is ours to mend
        if interrupted:  # an interrupt in the middle of an import can come out as any error
            _stop()
        if debug:
            traceback.print_exc()
        what = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"error: {what}; this is a flaw of cortexflow, please report what --debug shows", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        _stop()
    except SystemExit as end:  # typer has taken the interrupt, and says nothing
        if end.code == STOPPED:
            _stop()
        raise


def _heed_interrupts() -> list[int]:
    """A list that is filled when Ctrl-C is pressed."""
    pressed: list[int] = []

    def heed(number: int, _: object) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, heed)
    return pressed


def _stop() -> NoReturn:
    """One line for Ctrl-C."""
    remedy = "continue with --resume" if sys.argv[1:2] == ["train"] else "what was finished is kept, run it again"
    print(f"stopped; {remedy}", file=sys.stderr)
    sys.exit(STOPPED)


def _one_line_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"warning: {message}" if issubclass(category, CortexflowWarning) else f"{category.__name__}: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
