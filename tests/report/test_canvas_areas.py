"""Which areas one picture can show beside each other."""

import torch

from cortexflow.report.canvas import told_apart


def mask(*places):
    return torch.isin(torch.arange(12), torch.tensor(places))


def test_masks_of_all_streams_and_rings_give_way_to_areas():
    areas = {
        "nsdgeneral": mask(*range(12)), "V1v": mask(0, 1), "V1d": mask(2, 3), "ecc1": mask(1, 2, 3), "early": mask(0, 1, 2, 3), "PPA": mask(8, 9),
        "ventral": mask(6, 7, 8, 9, 10), "empty": mask(),
    }  # fmt: skip
    assert list(told_apart(areas)) == ["V1v", "V1d", "PPA", "ventral"]


def test_areas_that_do_not_hold_each_other_are_all_shown():
    areas = {"V1": mask(*range(9)), "IT": mask(9, 10, 11)}
    assert list(told_apart(areas)) == ["V1", "IT"]
    assert list(told_apart({"V1": mask(*range(12))})) == ["V1"]
