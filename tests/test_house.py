"""Data flow in one direction; the core imports without any extra; the folder is the catalogue."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cortexflow
from cortexflow import catalog
from cortexflow.errors import CortexflowError

PACKAGE = Path(cortexflow.__file__).parent
FOUNDATION = {"catalog", "errors", "storage", "progress", "parallel", "nn"}
LEVEL = {"data": 1, "features": 2, "encoding": 3, "decoding": 3, "training": 4, "synthesis": 4, "metrics": 5, "report": 6, "experiments": 7, "app": 8}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {f"cortexflow.{alias.name}" for alias in node.names} if node.module == "cortexflow" else {node.module}
    return {module for module in modules if module.startswith("cortexflow.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_room_looks_ahead(path):
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    rooms = {room(module) for module in imported(path)} - {"__version__"}
    if here == "nn" or here in FOUNDATION:
        assert rooms <= FOUNDATION, f"{path} imports {rooms - FOUNDATION}"
    elif here != "__init__":
        ahead = {
            other
            for other in rooms - FOUNDATION
            if LEVEL[other] > LEVEL[here] or (LEVEL[other] == LEVEL[here] and {here, other} == {"encoding", "decoding"})
        }
        assert not ahead, f"{path} imports {ahead}, which lie ahead of {here}"


def test_every_room_has_its_level():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} - {"__init__"}
    assert rooms <= set(LEVEL) | FOUNDATION


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_core_imports_without_any_extra():
    """Every module but the leaves that name an extra imports where no extra is installed."""
    out = run(
        "import sys, importlib, pkgutil\n"
        "from cortexflow.catalog import EXTRAS\n"
        "for name in EXTRAS: sys.modules[name] = None\n"
        "import cortexflow\n"
        "for module in pkgutil.walk_packages(cortexflow.__path__, 'cortexflow.'):\n"
        "    try: importlib.import_module(module.name)\n"
        "    except ModuleNotFoundError as error: print(module.name, error.name)\n"
    )
    leaves = {line.split()[0]: line.split()[1].split(".")[0] for line in out.splitlines()}
    assert set(leaves.values()) <= set(catalog.EXTRAS)
    assert set(leaves) <= {"cortexflow.report.surface"}


def test_help_does_not_import_torch():
    out = run("import sys; import cortexflow.app.cli; print('torch' in sys.modules)")
    assert out.strip() == "False"


def test_the_folder_is_the_catalogue():
    for name in ("ridge", "null", "mlp"):
        assert name in catalog.names("encoding")
        assert catalog.find("encoding", name).__module__ == f"cortexflow.encoding.{name}"


def test_a_new_file_is_found_without_registration(monkeypatch, tmp_path):
    (tmp_path / "encoding").mkdir()
    (tmp_path / "encoding" / "yours.py").write_text("class YourEncoder(Encoder):\n    pass\n")
    (tmp_path / "encoding" / "words.py").write_text("class Word:\n    pass\n")
    monkeypatch.setattr(catalog, "__file__", str(tmp_path / "catalog.py"))
    assert catalog.names("encoding") == ["yours"]


@pytest.mark.parametrize(
    ("room", "choice", "message"),
    [
        ("encoding", {"name": "rigde"}, "no encoding entry is called 'rigde'; choose one of"),
        ("encoding", {}, "needs a name"),
        ("encoding", {"name": "ridge", "nosie": "factors"}, "nosie: Extra inputs are not permitted; options are noise"),
        ("encoding", {"name": "ridge", "noise": "pink"}, "noise: Input should be"),
    ],
)
def test_a_misspelt_choice_is_one_clear_line(room, choice, message):
    with pytest.raises(CortexflowError, match=message) as error:
        catalog.configure(room, choice)
    assert "\n" not in str(error.value)


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'nilearn'", name="nilearn.plotting")

    monkeypatch.setattr(catalog.importlib, "import_module", missing)
    with pytest.raises(CortexflowError, match=r'pip install "cortexflow\[cortex\]"'):
        catalog.load("cortexflow.report.surface")
