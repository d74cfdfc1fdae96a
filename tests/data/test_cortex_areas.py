"""Areas by name, by stage, and what is wrong with a folder."""

import pytest
import torch

from cortexflow.data.base import Cortex
from cortexflow.data.nsd import NSD
from cortexflow.errors import CortexflowError


def test_the_halves_of_an_area_are_asked_for_by_its_name():
    places = torch.arange(10)
    cortex = Cortex("subj01", 10, {"V1v": places < 2, "V1d": (places >= 2) & (places < 4), "PPA": places > 7})
    assert cortex.area("V1").nonzero().flatten().tolist() == [0, 1, 2, 3]
    assert cortex.area("V1,PPA").sum() == 6 and cortex.area("V1d").sum() == 2
    with pytest.raises(CortexflowError, match="no area 'V2'; choose from V1v, V1d, PPA, V1, higher"):
        cortex.area("V2")


def test_the_study_given_as_the_data_folder_is_told(tmp_path):
    (tmp_path / "nsd").mkdir()
    with pytest.raises(CortexflowError, match="own folder; name the one above it"):
        _ = NSD(NSD.Config(), tmp_path / "nsd" / "nsd").subjects
