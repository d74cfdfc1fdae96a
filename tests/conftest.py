"""Shapes in signatures are checked in every test; one thread, so that results repeat."""

import os
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook

PACKAGE = Path(__file__).parents[1] / "cortexflow"
# Drawing makes thousands of small calls a picture; its types are checked at the doors of the study that uses it.
MODULES = [path for path in PACKAGE.rglob("*.py") if path.stem != "__init__" and path.parent.name != "scenery"]
install_import_hook([".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES], "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def recordings():
    """The folder of small real recordings, or a skip that says why."""
    folder = Path(os.environ.get("CORTEXFLOW_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; set CORTEXFLOW_TEST_DATA to a folder that has them")
    return folder
