"""The whole way once, without a download: scenes, areas, features, models, scores, a report, and synthetic responses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from pydantic import Field
from rich.console import Console
from rich.table import Table

from cortexflow.catalog import Choices
from cortexflow.data.scenes import Scenes
from cortexflow.experiments.base import Experiment
from cortexflow.report.cortex_maps import plot_flatmap
from cortexflow.report.evaluation import evaluate
from cortexflow.report.page import write_page
from cortexflow.report.pictures import plot_pictures
from cortexflow.report.tables import score, table_text
from cortexflow.storage import replacing
from cortexflow.synthesis import synthesize
from cortexflow.training import Machine, Run, RunConfig, open_dataset, train

SPACES = {"gabor": "local energies", "networks": "what networks see in it"}
FEATURES = {
    "gabor": [{"name": "gabor"}],
    "networks": [{"name": "clip", "layers": ["normed", "embedding"], "tokens": "patches"}, {"name": "resnet", "stages": [4]}],
}
SHOWN = 10  # pictures in the gallery


class Demo(Experiment):
    """Two feature spaces on one subject who looks at scenes, and synthetic responses to new pictures."""

    title = "The whole way once, on a simulated cortex that looks at scenes"

    class Config(Choices):
        """Choices of the demo: pictures in all, voxels, and how many new pictures get synthetic responses."""

        images: int = Field(850, ge=250)
        voxels: int = Field(500, ge=60)
        pictures: int = Field(12, ge=1)
        seed: int = Field(0, ge=0)

    config: Config

    def run(self, folder: Path, machine: Machine) -> None:
        """Show the study, train, evaluate, report and synthesize; each part says where it left its result."""
        console = Console()
        machine = replace(machine, cache=machine.cache or folder / "features")
        recipes = {name: self.recipe(name) for name in SPACES}
        dataset = open_dataset(recipes["networks"].data, machine)
        assert isinstance(dataset, Scenes)
        console.print(f"[bold]1[/bold] scenes and what people say of them: {_save(self._gallery(dataset), folder / 'scenes.png')}")
        console.print(f"[bold]2[/bold] areas of a subject, found by a localiser: {_save(_localiser(dataset), folder / 'localiser.png')}")
        console.print("[bold]3[/bold] ridge with a noise of factors and a radius, from Gabor energies and from small networks")
        runs = {name: train(config, folder / name, machine, resume=True) for name, config in recipes.items()}
        metrics = {name: evaluate([run], machine, run.folder) for name, run in runs.items()}
        console.print(_by_area(metrics))
        console.print(table_text(metrics["networks"]))
        for name, run in runs.items():
            console.print(f"[bold]4[/bold] the report, {SPACES[name]}: {write_page(run.folder)}")
        self._synthesize(runs["networks"], folder, machine)
        console.print(f"[bold]5[/bold] synthetic trials of new pictures: {folder / 'synthetic.npz'}")

    def recipe(self, space: str) -> RunConfig:
        """The run with one feature space."""
        data = {"name": "scenes", "images": self.config.images, "voxels": self.config.voxels, "subjects": 1, "seed": self.config.seed}
        return RunConfig.of({"data": data, "features": FEATURES[space], "encoder": "ridge", "seed": self.config.seed})

    def _gallery(self, dataset: Scenes) -> Figure:
        first = torch.arange(min(SHOWN, self.config.images))
        return plot_pictures(dataset.images(first), [captions[0] for captions in dataset.captions(first)])

    def _synthesize(self, run: Run, folder: Path, machine: Machine) -> None:
        """Pictures of another seed, which no model has seen, as files; their responses as a file."""
        other = open_dataset({**run.config.data, "seed": self.config.seed + 1}, machine)
        images = other.images(torch.arange(self.config.pictures))
        for number, image in enumerate(images):
            with replacing(folder / "pictures" / f"{number:03d}.png") as temporary:
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(temporary, format="PNG")
        synthesize(run, folder / "pictures", folder / "synthetic.npz", samples=3, seed=self.config.seed)


def _localiser(dataset: Scenes) -> Figure:
    """The t map of faces over the areas as they were planted."""
    subject = dataset.subjects[0]
    faces = dataset.localiser(subject).t_maps()["faces"]
    return plot_flatmap(faces, dataset.cortex(subject), title="Localiser: faces against all others", label="t", signed=True)


def _by_area(metrics: dict[str, dict[str, Any]]) -> Table:
    """Median r of every area under each feature space."""
    table = Table("area", *(f"{name}: {about}" for name, about in SPACES.items()), box=None, title="r across held-out pictures", title_justify="left")
    rows = {name: {row["group"]: row for row in of["rows"] if row["kind"] == "model"} for name, of in metrics.items()}
    for area in rows["networks"]:
        found = [score(rows[name][area], "r") for name in SPACES]
        table.add_row(area, *(f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" if one else "–" for one in found))
    return table


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return path
