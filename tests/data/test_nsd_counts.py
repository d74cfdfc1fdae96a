"""Every split and every repeat of a plan equals an independent count from the table of pictures, for all eight subjects."""

import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cortexflow.data.nsd import NSD
from cortexflow.data.nsd_layout import splits
from cortexflow.data.nsd_layout.design import DESIGN, PER_SESSION, TABLE, read_design
from cortexflow.data.nsd_layout.miniature.planning import plan, spread, write_plan


def study(root, **choices):
    return NSD(NSD.Config(**choices), root)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A plan of 40 sessions, and files of sessions without content: order and splits need no response."""
    root = tmp_path_factory.mktemp("plan")
    write_plan(root, plan(spread(5), 5))
    for subject, sessions in NSD.SESSIONS.items():
        folder = root / f"nsddata_betas/ppdata/{subject}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
        folder.mkdir(parents=True)
        for number in range(1, sessions + 1):
            (folder / f"betas_session{number:02d}.hdf5").touch()
    with open(root / TABLE, newline="") as file:
        rows = list(csv.DictReader(file))
    return root, {int(row["nsdId"]) for row in rows if row["shared1000"] == "True"}, {subject: shown(rows, subject) for subject in NSD.SESSIONS}


def shown(rows, subject):
    """Picture of each trial that was planned for a subject, from the table alone, where trials count from 1."""
    names = [f"subject{subject[-1]}_rep{repeat}" for repeat in range(3)]
    trials = {int(row[name]): int(row["nsdId"]) for row in rows if row[f"subject{subject[-1]}"] == "1" for name in names}
    return [trials[trial] for trial in range(1, 30_001)]


@pytest.mark.parametrize("split", ["nsd_1000", "nsd_982", "shared_515"])
def test_splits_and_repeats_equal_a_count_from_the_table(planned, split):
    root, shared, own = planned
    thrice = [Counter(trials[: 30 * 750]) for trials in own.values()]
    expected = {
        "nsd_1000": shared,
        "nsd_982": shared & set(own["subj01"][: 37 * 750]),
        "shared_515": {one for one in shared if all(count[one] == 3 for count in thrice)},
    }[split]
    opened = study(root, split=split)
    assert opened.held_out().tolist() == sorted(expected)
    for subject, sessions in NSD.SESSIONS.items():
        there = own[subject][: min(sessions, 37 if split == "nsd_982" else 40) * 750]
        order, seen = opened.order(subject), Counter()
        assert order.stimuli.tolist() == there
        for stimulus, repeat in zip(there, order.repeats.tolist(), strict=True):
            assert repeat == seen[stimulus]
            seen[stimulus] += 1
        test = {one for one in there if one in expected}
        training = order.stimuli[~np.isin(order.stimuli, opened.held_out().numpy())]
        assert len(set(training.tolist())) == len(seen) - len(test) and len(training) == len(there) - sum(seen[one] for one in test)


@pytest.mark.parametrize("sessions", [1, 10])
def test_shorter_training_equals_a_count_from_the_table(planned, sessions):
    root, shared, own = planned
    order = study(root, training_sessions=sessions).order("subj02")
    expected = [one for trial, one in enumerate(own["subj02"]) if one in shared or trial < sessions * 750]
    assert order.stimuli.tolist() == expected


def official_design():
    """The folder that holds the dataset's own design file, or None."""
    named, data = os.environ.get("CORTEXFLOW_NSD_DESIGN"), os.environ.get("CORTEXFLOW_DATA")
    path = Path(named) if named else Path(data) / "nsd" / DESIGN if data else None
    return path if path is not None and path.is_file() else None


@pytest.mark.skipif(official_design() is None, reason="no official nsd_expdesign.mat; name it with CORTEXFLOW_NSD_DESIGN")
def test_the_official_design_has_the_published_numbers(tmp_path):
    (tmp_path / DESIGN).parent.mkdir(parents=True)
    shutil.copy(official_design(), tmp_path / DESIGN)
    design = read_design(tmp_path)
    test, there = splits.held_out(design, "nsd_982"), design.of("subj01")[: 37 * PER_SESSION]
    testing = np.isin(there, test)
    assert (len(test), len(set(there[~testing].tolist()))) == (982, 8859)
    assert (int(testing.sum()), int((~testing).sum())) == (2770, 24980)
    assert len(splits.held_out(design, "nsd_1000")) == 1000 and len(splits.held_out(design, "shared_515")) == 515
