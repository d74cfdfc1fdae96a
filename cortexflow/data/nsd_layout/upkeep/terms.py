"""The dataset's terms of use: where they are, and that they were accepted."""

from datetime import UTC, datetime
from pathlib import Path

from cortexflow.errors import CortexflowError
from cortexflow.storage import load_json, save_json

AGREEMENT = "https://forms.gle/xue2bCdM9LaFNMeb7"
CONDITIONS = "https://cvnlab.slite.page/p/IB6BSeW_7o/Terms-and-Conditions"
TERMS = (
    "The Natural Scenes Dataset belongs to its authors, who ask everybody to accept their terms before using it:",
    f"  1. read the NSD Terms and Conditions:     {CONDITIONS}",
    f"  2. fill out the NSD Data Access Agreement: {AGREEMENT}",
    "Both are linked from http://naturalscenesdataset.org, which holds where these addresses differ.",
)
FILE = "terms_accepted.json"


def accepted(root: Path) -> str | None:
    """The date on which the terms were accepted for this folder, if they were."""
    content = load_json(root / FILE) if (root / FILE).is_file() else {}
    return content.get("accepted") if isinstance(content, dict) else None


def accept(root: Path) -> None:
    """Remember in the study's folder that its user accepted the terms today."""
    save_json(root / FILE, {"accepted": datetime.now(UTC).date().isoformat(), "terms": [CONDITIONS, AGREEMENT]})


def check_terms(root: Path) -> None:
    """Raises CortexflowError where the terms were not accepted for this folder."""
    if accepted(root) is None:
        where = f"{CONDITIONS} and {AGREEMENT}"
        raise CortexflowError(f"the dataset's terms of use are not accepted for {root}; read and sign them ({where}), then give --accept-terms")
