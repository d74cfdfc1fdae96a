"""A configuration tree from a YAML file and ``-s a.b=c``: the same tree that recipes are written in."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from cortexflow.errors import CortexflowError

NAMED = ("data", "encoder")  # a name alone stands for {"name": …}
DEEP = 20  # levels of a tree; what is deeper is no configuration
NO_YAML = (yaml.YAMLError, ValueError, RecursionError)  # the last two: a date that is none, brackets in brackets


def read_tree(config: Path | None, settings: Sequence[str]) -> dict[str, Any]:
    """The tree of a YAML file with settings put on top.

    Arguments:
        config: A YAML (or JSON) file, or None for the defaults.
        settings: ``a.b=c`` each; the value is read as YAML, list items are numbered: ``features.0.size=64``.

    Raises:
        CortexflowError: The file cannot be read, or a setting has no ``=`` or no place in the tree.
    """
    tree = _load(config) if config is not None else {}
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise CortexflowError(f"-s {setting!r} is not of the form a.b=c; for example: -s encoder.factors=40")
        _put(tree, path.split("."), _value(value, setting), setting)
    return tree


def every(lists: Sequence[str]) -> list[tuple[tuple[str, ...], list[str]]]:
    """All combinations of ``a.b=x,y``: the values of each, and its settings.

    Raises:
        CortexflowError: An entry has no ``=`` or no value.
    """
    choices = []
    for one in lists:
        name, equals, values = one.partition("=")
        if not equals or not all(values.split(",")):
            raise CortexflowError(f"--each {one!r} is not of the form a.b=x,y; for example: --each subject=subj01,subj02")
        choices.append([(value, f"{name}={value}") for value in values.split(",")])
    return [(tuple(value for value, _ in picked), [setting for _, setting in picked]) for picked in product(*choices)]


def _load(config: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CortexflowError(f"{config} cannot be read ({getattr(error, 'strerror', None) or error}); check --config") from error
    except NO_YAML as error:
        raise CortexflowError(f"{config} is not valid YAML ({_short(error)}); mend it or check --config") from error
    if not isinstance(tree, dict) or not _plain(tree):
        holds = type(tree).__name__ if not isinstance(tree, dict) else "something else"
        raise CortexflowError(f"{config} must map names to choices, such as 'encoder: ridge', it holds {holds}; mend it or check --config")
    return tree


def _value(text: str, setting: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except NO_YAML as error:
        raise CortexflowError(f"-s {setting!r}: the value is not valid YAML; quote it") from error
    if not _plain(value):
        raise CortexflowError(f"-s {setting!r}: the value is no number, text, list or mapping of names; write it plainly")
    return value


def _plain(value: Any, depth: int = 0) -> bool:
    """Whether this is what JSON can hold, names in front of every choice, and neither endless nor very deep."""
    if isinstance(value, (dict, list)):
        names, parts = (value, value.values()) if isinstance(value, dict) else ((), value)
        return depth < DEEP and all(isinstance(name, str) for name in names) and all(_plain(part, depth + 1) for part in parts)
    return value is None or isinstance(value, (bool, int, float, str))


def _short(error: BaseException) -> str:
    """The words of an error in one line, as long as a line may be."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else words[:200] + " …"


def _put(tree: dict[str, Any], path: list[str], value: Any, setting: str) -> None:
    here: Any = tree
    for depth, part in enumerate(path[:-1]):
        if depth == 0 and part in NAMED and isinstance(here.get(part), str):
            here[part] = {"name": here[part]}
        here = _step(here, part, setting)
    last = path[-1]
    if isinstance(here, list):
        here[_index(here, last, setting)] = value
    elif path[0] in NAMED and len(path) == 1 and isinstance(value, str) and isinstance(here.get(last), dict) and here[last].get("name") == value:
        return  # the same entry named again: its options stay
    else:
        here[last] = value


def _step(here: Any, part: str, setting: str) -> Any:
    if isinstance(here, list):
        return here[_index(here, part, setting)]
    below = here.setdefault(part, {})
    if not isinstance(below, (dict, list)):
        raise CortexflowError(f"-s {setting!r}: {part} is {below!r} and has no parts; name an option of it")
    return below


def _index(here: list[Any], part: str, setting: str) -> int:
    if not part.isdigit() or int(part) >= len(here):
        raise CortexflowError(f"-s {setting!r}: {part!r} is no item of a list of {len(here)}; count from 0")
    return int(part)
