"""The folder is the catalogue: ``encoding/flow.py`` is found by the name "flow", without any registration.

A module belongs to the catalogue of its room if it defines a class that derives from the room's contract. Listing reads
the source only, so that the command line can print names without importing torch.
"""

import ast
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cortexflow.errors import CortexflowError

CONTRACTS = {"data": "Dataset", "features": "Features", "encoding": "Encoder", "decoding": "Decoder", "experiments": "Experiment"}
KINDS = {"experiments": ("Experiment", "Question")}  # base classes of a room whose names do not end in its contract's
EXTRAS = {
    "transformers": "features",
    "diffusers": "diffusion",
    "peft": "diffusion",
    "accelerate": "diffusion",
    "torchvision": "image-metrics",
    "skimage": "image-metrics",
    "nilearn": "cortex",
    "dask": "cluster",
    "distributed": "cluster",
    "huggingface_hub": "hub",
    "fastapi": "app",
}


class Choices(BaseModel):
    """The base of every ``Config``: frozen, and a misspelt key fails."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def names(room: str) -> list[str]:
    """The entries of a room, sorted: ``names("encoding")`` gives ``["mlp", "null", "ridge", …]``."""
    folder = Path(__file__).parent / room
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "base" and _is_entry(path, KINDS.get(room, (CONTRACTS[room],))))


def find(room: str, name: str) -> Any:
    """The class that the module ``cortexflow.<room>.<name>`` adds to its room.

    Raises:
        CortexflowError: No such entry, or an optional package is missing.
    """
    if name not in names(room):
        raise CortexflowError(f"no {room} entry is called {name!r}; choose one of {', '.join(names(room))}")
    module = load(f"cortexflow.{room}.{name}")
    contract = getattr(load(f"cortexflow.{room}.base"), CONTRACTS[room])
    found = [
        entry
        for entry in vars(module).values()
        if inspect.isclass(entry) and issubclass(entry, contract) and entry.__module__ == module.__name__ and not inspect.isabstract(entry)
    ]
    if len(found) != 1:
        raise CortexflowError(f"cortexflow/{room}/{name}.py must define one {CONTRACTS[room]}, it defines {len(found)}")
    return found[0]


def load(module: str) -> Any:
    """Import a module, or say which extra is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in EXTRAS:
            raise
        raise CortexflowError(f'{module} needs {package}: pip install "cortexflow[{EXTRAS[package]}]"') from error


def configure(room: str, choice: Mapping[str, Any]) -> tuple[Any, BaseModel]:
    """A class and its checked ``Config`` from ``{"name": …, **options}``.

    Raises:
        CortexflowError: Unknown name, misspelt option, or a value out of range.
    """
    options = dict(choice)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise CortexflowError(f"{room} needs a name; choose one of {', '.join(names(room))}")
    entry = find(room, name)
    try:
        return entry, entry.Config(**options)
    except ValidationError as error:
        raise CortexflowError(explain(error, f"{room} {name}", entry.Config)) from error


def explain(error: ValidationError, where: str, config: type[BaseModel]) -> str:
    """One line for a pydantic error: the option, what is wrong, and the options there are."""
    first = error.errors()[0]
    option = ".".join(str(part) for part in first["loc"])
    known = ", ".join(config.model_fields)
    return f"{where}: {option or 'options'}: {first['msg']}; options are {known or 'none'}"


def _is_entry(path: Path, endings: tuple[str, ...]) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bases = [base for node in tree.body if isinstance(node, ast.ClassDef) for base in node.bases]
    return any(ast.unparse(base).split(".")[-1].endswith(endings) for base in bases)
