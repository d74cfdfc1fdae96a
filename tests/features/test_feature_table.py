import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cortexflow.errors import CortexflowError
from cortexflow.features.table import FeatureTable, rows_of

ids = st.integers(-5, 40)


@given(st.lists(ids, max_size=30, unique=True), st.lists(ids, max_size=30))
def test_rows_are_those_a_dictionary_gives(held, asked):
    where = {number: row for row, number in enumerate(held)}
    found = rows_of(torch.tensor(asked, dtype=torch.long), torch.tensor(held, dtype=torch.long))
    assert found.tolist() == [where.get(number, -1) for number in asked]


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), min_size=1))
def test_every_row_is_its_pictures_own(order, asked):
    stimuli = torch.tensor(order) * 7
    table = FeatureTable(stimuli, torch.stack([stimuli.float(), -stimuli.float()], 1))
    wanted = torch.tensor(asked) * 7
    assert torch.equal(table[wanted], torch.stack([wanted.float(), -wanted.float()], 1))
    assert len(table) == 12 and table.features == 2


def test_unknown_pictures_are_named():
    table = FeatureTable(torch.tensor([1, 2]), torch.zeros(2, 3))
    with pytest.raises(CortexflowError, match=r"stimulus 8, 9 \(2 of 3 asked\)"):
        table[torch.tensor([9, 1, 8, 8])]
    with pytest.raises(CortexflowError, match="10, 11, 12, 13, 14 …"):
        table[torch.arange(10, 30)]


def test_a_picture_has_one_row():
    with pytest.raises(CortexflowError, match="stimulus 4 has more than one row"):
        FeatureTable(torch.tensor([4, 1, 4]), torch.zeros(3, 2))
    with pytest.raises(CortexflowError, match="3 stimuli for 2 rows"):
        FeatureTable(torch.tensor([4, 1, 2]), torch.zeros(2, 2))
