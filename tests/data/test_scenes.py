"""The cortex that looks at scenes: what was planted is found again, by statistics that know nothing of how it was planted."""

from functools import cache

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.metrics import roc_auc_score

from cortexflow import catalog
from cortexflow.data.localiser import localise, masks
from cortexflow.data.scenery.compose import CATEGORIES, SUPERCATEGORIES, render, scene
from cortexflow.data.scenery.cortex import AREAS, PREFERRED, SceneCortex, look
from cortexflow.data.scenes import Scenes
from cortexflow.errors import CortexflowError

SMALL = {"images": 200, "held_out": 40, "voxels": 240, "image_size": 32, "subjects": 1}
ALL = torch.arange(200)


FEWER = {"images": 50, "repeats": 40, "setting": "gaussian", "sessions": 2, "subjects": 1}


@cache
def study(**choices):
    return Scenes(Scenes.Config(**(SMALL | choices)))


@cache
def seen(**choices):
    """The part of the signal that pictures show, standardised, and the whole picture's energies."""
    found = study(**choices)
    values = (found.signal("subj01", ALL) - found.unseen("subj01", ALL)).double().numpy()
    energy = np.concatenate([batch.energy for batch in look([scene(0, number) for number in range(200)], 32)])
    return (values - values.mean(axis=0)) / values.std(axis=0), energy


def area(name, **choices):
    return study(**choices).cortex("subj01").areas[name].numpy()


@cache
def extent(group):
    """Summed extent of a supercategory in each picture."""
    columns = [CATEGORIES.index(name) for name in SUPERCATEGORIES[group]]
    return study().parameters(ALL)[:, columns].sum(dim=1).numpy()


def test_it_is_in_the_catalogue_and_every_part_checks():
    found, config = catalog.configure("data", {"name": "scenes", **SMALL})
    assert found is Scenes and config.images == 200
    assert not [check.wrong for check in study().check() if check.wrong]


def test_a_picture_follows_from_its_id_alone_and_nothing_is_kept():
    asked = torch.tensor([7, 3, 7])
    assert torch.equal(study().images(asked), study(**FEWER).images(torch.arange(10))[asked])
    assert not torch.equal(study().images(asked), study(seed=1).images(asked))
    assert study().images(torch.arange(0)).shape == (0, 3, 32, 32)


def test_same_seed_same_bits_and_more_pictures_leave_the_signal_as_it_was():
    fewer = study(**FEWER)
    assert Scenes(Scenes.Config(**SMALL)).checksums() == study().checksums() != fewer.checksums()
    shown, offsets = torch.arange(50), fewer.signal("subj01", torch.arange(50)) - study().signal("subj01", torch.arange(50))
    assert torch.equal(fewer.images(shown), study().images(shown))
    assert torch.corrcoef(torch.stack([fewer.signal("subj01", shown).flatten(), study().signal("subj01", shown).flatten()]))[0, 1] > 0.99
    assert offsets.abs().median() < 0.05


def test_trials_average_to_the_signal():
    quiet = study(**FEWER)
    trials = quiet.trials("subj01")
    left = trials.responses - quiet.signal("subj01", trials.stimuli) - quiet.session_offsets("subj01")[trials.sessions - 1]
    noise = left.var(dim=0) / quiet.noise_covariance("subj01").diagonal()
    assert abs(noise.mean() - 1) < 0.05 and left.mean(dim=0).abs().max() < 0.2


def test_areas_cover_the_cortex_once_and_faces_are_foveal_where_places_are_not():
    cortex = study().cortex("subj01")
    assert list(cortex.areas) == list(AREAS)
    assert torch.equal(torch.stack(list(cortex.areas.values())).sum(dim=0), torch.ones(240, dtype=torch.int64))
    x, y, sigma = study().prf("subj01").T
    away = torch.hypot(x - 0.5, y - 0.5)
    middle = {name: away[mask].median() for name, mask in cortex.areas.items()}
    assert middle["FFA"] < middle["V1"] < middle["PPA"] and middle["VWFA"] < middle["EBA"]
    assert sigma[cortex.areas["V1"]].median() < sigma[cortex.areas["hV4"]].median() < sigma[cortex.areas["FFA"]].median() * 2


def test_at_least_a_fifth_of_the_signal_is_unseen():
    share = study().unseen("subj01", ALL).var(dim=0) / study().signal("subj01", ALL).var(dim=0)
    assert 0.2 < share.median() < 0.3


def test_the_ratio_of_signal_to_noise_is_what_was_asked():
    assert abs(study().true_ncsnr("subj01").median() - 0.4) < 0.06


@pytest.mark.parametrize("name", PREFERRED)
def test_an_area_answers_its_own_supercategory_more_than_any_other(name):
    values = seen()[0][:, area(name)].mean(axis=1)
    answers = {group: np.corrcoef(values, extent(group))[0, 1] for group in SUPERCATEGORIES}
    assert max(answers, key=answers.get) == PREFERRED[name]
    assert answers[PREFERRED[name]] > 0.35


def test_early_areas_answer_energy_and_category_areas_do_not():
    values, energy = seen()
    half = np.arange(200) % 2 == 0
    model = RidgeCV(np.logspace(-2, 3, 6)).fit((energy[half] - energy.mean(0)) / energy.std(0), values[half])
    left = values[~half] - model.predict((energy[~half] - energy.mean(0)) / energy.std(0))
    explained = 1 - left.var(axis=0) / values[~half].var(axis=0)
    assert explained[area("V1")].mean() > 0.25
    # Low-level drives are weighted 0.1 of the variance, but they are correlated, so that together they explain more where fields are wide.
    means = {name: explained[area(name)].mean() for name in PREFERRED}
    assert max(means.values()) < 0.35 and np.median(list(means.values())) < 0.15


def test_selectivity_is_the_slope_with_which_the_seen_signal_rises():
    """Least squares of the seen signal on the extents of all supercategories orders voxels as the planted numbers do."""
    extents = np.stack([extent(group) for group in SUPERCATEGORIES], axis=1)
    slopes = LinearRegression().fit(extents, seen()[0]).coef_
    planted = study().selectivity("subj01").numpy()
    assert planted.shape == slopes.shape == (240, len(SUPERCATEGORIES))
    assert np.abs(planted[area("V1")]).max() < 1e-6
    for index, group in enumerate(SUPERCATEGORIES):
        if group in PREFERRED.values():
            assert np.corrcoef(slopes[:, index], planted[:, index])[0, 1] > 0.8


def test_subjects_differ_in_place_and_preference():
    first, second = (SceneCortex(0, subject, 240, 32, 0.1) for subject in ("subj01", "subj02"))
    assert not np.array_equal(first.fields, second.fields)
    assert not np.array_equal(first.place.coordinates, second.place.coordinates)
    for subject in (first, second):
        inside = subject.place.areas == AREAS.index("FFA")
        faces = subject.tuning.categories[:, 0]
        assert faces[inside].mean() > 3 * np.abs(faces[~inside & (subject.place.areas != AREAS.index("OFA"))]).mean() / 2
        assert faces[inside].std() > 0.1  # by different amounts


def test_the_localiser_finds_the_planted_areas():
    for subject in study().subjects:
        blocks = study().localiser(subject)
        maps = localise(blocks.trials.responses, blocks.labels, blocks.trials.sessions)
        assert set(maps) == set(SUPERCATEGORIES)
        aucs = {group: roc_auc_score(planted.numpy(), maps[group].numpy()) for group, planted in study().preferred(subject).items()}
        assert np.mean(list(aucs.values())) > 0.95 and min(aucs.values()) > 0.9  # single areas have 15 voxels here
        found = masks(maps)["faces"]
        assert found[study().preferred(subject)["faces"]].double().mean() > 0.6 and found[study().cortex(subject).areas["V1"]].double().mean() < 0.15


def test_annotations_agree_with_each_other():
    stimuli = torch.arange(12)
    segmentation, present = study().segmentation(stimuli), study().categories(stimuli)
    assert segmentation.shape == (12, 32, 32) and present.shape == (12, len(CATEGORIES))
    for stimulus in range(12):
        names, found, boxes = study().objects(stimulus), study().masks(stimulus), study().boxes(stimulus)
        assert len(names) == len(found) == len(boxes)
        labels = {study().category_names.index(name) + 1 for name, mask in zip(names, found, strict=True) if mask.any()}
        assert set(segmentation[stimulus].unique().tolist()) - {0} == labels
        assert {study().category_names[column] for column in present[stimulus].nonzero().flatten().tolist()} <= set(names)
    captions = study().captions(stimuli)
    assert len(captions) == 12 and min(map(len, captions)) >= 5
    assert study().parameters(stimuli).shape == (12, len(study().parameter_names))


@pytest.mark.parametrize("seed", [0, 7])  # 7 is that of the scenes that the mini networks learned from
def test_no_stimulus_is_a_training_picture_or_near_one(seed):
    shown = study().images(torch.arange(100)).reshape(100, -1).double()
    training = torch.from_numpy(np.stack([render_small(seed, number) for number in range(1000, 1400)])).double()
    assert torch.cdist(shown, training).min() / shown.shape[1] ** 0.5 > 10  # grey levels of 255, root mean square
    facts = study().parameters(torch.arange(100))
    learned = torch.from_numpy(np.stack([scene(seed, number, "training").parameters for number in range(1000, 1400)])).float()
    assert torch.cdist(facts, learned).min() > 0.1


def render_small(seed, number):
    return render(scene(seed, number, "training"), 32).image.ravel()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: study().images(torch.tensor([200])), "stimuli are 0 to 199, asked were 200 to 200"),
        (lambda: study().captions(torch.tensor([-1])), "asked were -1"),
        (lambda: study().masks(999), "asked were 999"),
        (lambda: study().localiser("subj03"), "no subject 'subj03'; choose one of subj01"),
        (lambda: catalog.configure("data", {"name": "scenes", "setting": "resampled"}), "scenes: setting"),
        (lambda: catalog.configure("data", {"name": "scenes", "voxels": 10}), "voxels"),
        (lambda: catalog.configure("data", {"name": "scenes", "low_level": 1.0}), "low_level"),
    ],
)
def test_what_is_not_there_is_one_clear_line(call, message):
    with pytest.raises(CortexflowError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_held_out_pictures_must_leave_training_pictures():
    with pytest.raises(ValidationError, match="held_out"):
        Scenes.Config(images=50, held_out=49)
