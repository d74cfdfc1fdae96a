"""The whole way once on a simulated cortex, without a download: train, evaluate, report, synthesize."""

from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from pydantic import Field
from rich.console import Console

from cortexflow.catalog import Choices
from cortexflow.experiments.base import Experiment
from cortexflow.report.evaluation import evaluate
from cortexflow.report.page import write_page
from cortexflow.report.tables import table_text
from cortexflow.storage import replacing
from cortexflow.synthesis import synthesize
from cortexflow.training import Machine, Run, RunConfig, open_dataset, train


class Demo(Experiment):
    """Ridge with factor and radius noise on one simulated subject, and synthetic responses to new pictures."""

    title = "The whole way once, on a simulated cortex"

    class Config(Choices):
        """Choices of the demo: pictures in all, voxels, and how many new pictures get synthetic responses."""

        images: int = Field(1150, ge=200)
        voxels: int = Field(600, ge=60)
        pictures: int = Field(12, ge=1)
        seed: int = Field(0, ge=0)

    config: Config

    def run(self, folder: Path, machine: Machine) -> None:
        """Train, evaluate, report and synthesize; each part says where it left its result."""
        console = Console()
        machine = replace(machine, cache=machine.cache or folder / "features")
        config = self.recipe()
        console.print("[bold]1[/bold] a simulated cortex, Gabor features, ridge with a noise of factors and a radius")
        run = train(config, folder / "run", machine, resume=True)
        console.print("[bold]2[/bold] held-out pictures, beside the nulls and the noise ceiling")
        console.print(table_text(evaluate([run], machine, run.folder)))
        console.print(f"[bold]3[/bold] the report: {write_page(run.folder)}")
        self._synthesize(run, folder, machine)
        console.print(f"[bold]4[/bold] synthetic trials of new pictures: {folder / 'synthetic.npz'}")

    def recipe(self) -> RunConfig:
        """The run of the demo."""
        data = {"name": "simulated", "images": self.config.images, "voxels": self.config.voxels, "seed": self.config.seed}
        return RunConfig.of({"data": data, "features": ["gabor"], "encoder": "ridge", "seed": self.config.seed})

    def _synthesize(self, run: Run, folder: Path, machine: Machine) -> None:
        """Pictures of another seed, which no model has seen, as files; their responses as a file."""
        other = open_dataset({**run.config.data, "seed": self.config.seed + 1}, machine)
        images = other.images(torch.arange(self.config.pictures))
        for number, image in enumerate(images):
            with replacing(folder / "pictures" / f"{number:03d}.png") as temporary:
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(temporary, format="PNG")
        synthesize(run, folder / "pictures", folder / "synthetic.npz", samples=3, seed=self.config.seed)
