"""One question, one file: what is believed, what would count, and what decides is written down before any number."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from cortexflow.catalog import Choices
from cortexflow.training import Machine


class Experiment(ABC):
    """Something that runs from data to a page by one command, ``cortexflow run NAME --out DIR``.

    Arguments:
        config: The choices; defaults where absent.
    """

    class Config(Choices):
        """Choices of an experiment."""

    title: ClassVar[str]

    def __init__(self, config: Choices | None = None) -> None:
        self.config = config if config is not None else self.Config()

    @abstractmethod
    def run(self, folder: Path, machine: Machine) -> None:
        """Do everything and leave the results in ``folder``; a second call continues where the first one stopped."""
