"""Scenes: the same at any resolution, different from each other, and described by what is in them."""

import numpy as np
import pytest

from cortexflow.data.scenery.backdrops import LAYOUTS
from cortexflow.data.scenery.captions import vocabulary
from cortexflow.data.scenery.compose import (
    CATEGORIES,
    PARAMETERS,
    SUPERCATEGORIES,
    WORLDS,
    boxes,
    captions,
    exemplar,
    masks,
    portrait,
    render,
    scene,
)
from cortexflow.data.scenery.kinds import KINDS
from cortexflow.data.scenery.pen import COLOURS, Look, Pen
from cortexflow.data.scenery.textures import band, noise
from cortexflow.errors import CortexflowError

SCENES = [scene(0, number) for number in range(60)]
MANY = [scene(1, number) for number in range(1500)]


def blocks(image, grid):
    """Means over square blocks, in single precision."""
    side = image.shape[-1] // grid
    return image.reshape(3, grid, side, grid, side).mean(axis=(2, 4))


def test_categories_and_supercategories_are_those_that_were_promised():
    assert len(CATEGORIES) >= 20 and len(set(CATEGORIES)) == len(CATEGORIES)
    assert sorted(name for members in SUPERCATEGORIES.values() for name in members) == sorted(CATEGORIES)
    assert {"faces", "bodies", "words", "places", "food", "animals", "vehicles", "tools"} <= set(SUPERCATEGORIES)


def test_a_picture_follows_from_seed_and_number():
    for number in (0, 7):
        assert np.array_equal(render(scene(3, number), 64).image, render(scene(3, number), 64).image)
    assert not np.array_equal(render(scene(3, 0), 64).image, render(scene(4, 0), 64).image)


@pytest.mark.parametrize("number", range(0, 60, 6))
def test_every_resolution_shows_the_same_scene(number):
    fine, coarse = render(SCENES[number], 256).image, render(SCENES[number], 64).image
    ours, theirs = blocks(fine.astype(np.float32), 32).ravel(), blocks(coarse.astype(np.float32), 32).ravel()
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95
    assert np.abs(ours - theirs).mean() < 8  # of 255


def test_a_large_picture_has_detail_that_a_small_one_lacks():
    for content in SCENES[:5]:
        image = render(content, 256).image.astype(np.float32)
        assert np.abs(image - np.kron(blocks(image, 64), np.ones((4, 4)))).mean() > 1


def test_any_size_has_that_many_pixels():
    for size in (16, 63, 100, 425):
        assert render(SCENES[1], size).image.shape == (3, size, size)


def test_worlds_share_no_scene_and_no_picture():
    looks = {(world, thing.look.dials) for world in WORLDS for number in range(100) for thing in scene(0, number, world).things}
    dials = [of for _, of in looks]
    assert len(set(dials)) == len(dials)
    assert len({render(scene(0, number, world), 16).image.tobytes() for world in WORLDS for number in range(100)}) == 300


def test_every_category_layout_and_count_occurs_about_as_often_as_the_others():
    counts = np.bincount([thing.category for content in MANY for thing in content.things], minlength=len(CATEGORIES))
    assert counts.min() > 0.6 * counts.mean() and counts.max() < 1.5 * counts.mean()
    layouts = [content.backdrop.layout for content in MANY]
    assert min(layouts.count(name) for name in LAYOUTS) > 0.03 * len(MANY)
    assert {len(content.things) for content in MANY} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("category", CATEGORIES)
def test_an_object_fits_its_frame_and_stands_where_it_is_said_to(category):
    kind, rng = KINDS[category], np.random.default_rng(0)
    for _ in range(6):
        pen = Pen()
        kind.draw(pen, Look(COLOURS[kind.colours[0]], COLOURS["blue"], (0.8, 0.6, 0.5), tuple(rng.uniform(size=16))))
        points = np.concatenate([part for part, _ in pen.parts])
        assert np.abs(points).max() < 1.5 and np.isfinite(points).all()
        assert abs(points.imag.max() - kind.foot) < 0.25


def test_masks_are_disjoint_and_agree_with_segmentation_and_boxes():
    for content in SCENES[:25]:
        shown = render(content, 64)
        found = shown.masks
        assert found.sum(axis=0).max() <= 1  # a pixel belongs to the nearest object only
        labels = np.zeros((64, 64), dtype=int)
        for thing, mask in zip(content.things, found, strict=True):
            labels[mask] = thing.category + 1
        assert np.array_equal(labels, shown.segmentation)
        assert np.array_equal(found, masks(content, 64))
        for (left, top, right, bottom), mask in zip(boxes(content, 64), found, strict=True):
            assert mask.sum() == mask[top:bottom, left:right].sum()
            if mask.any():
                assert mask[top:bottom, left:right].any(axis=0)[[0, -1]].all() and mask[top:bottom, left:right].any(axis=1)[[0, -1]].all()


def test_pixels_outside_masks_and_shadows_are_the_backdrop():
    content = next(content for content in SCENES if len(content.things) == 1)
    empty = render(type(content)(content.number, content.world, content.backdrop, content.light, ()), 64).image.astype(int)
    changed = np.abs(render(content, 64).image.astype(int) - empty).max(axis=0) > 0
    assert (changed & ~masks(content, 64).any(axis=0)).mean() < 0.4
    assert changed[masks(content, 64)[0]].mean() > 0.95


def test_visible_area_in_the_parameters_is_about_that_of_the_masks():
    told = np.concatenate([content.visible for content in SCENES])
    measured = np.concatenate([masks(content, 64).mean(axis=(1, 2)) for content in SCENES])
    assert np.corrcoef(told, measured)[0, 1] > 0.9
    assert abs(told.sum() / measured.sum() - 1) < 0.15


def test_parameters_are_named_and_say_what_is_there():
    for content in SCENES[:20]:
        facts = dict(zip(PARAMETERS, content.parameters, strict=True))
        assert {name for name in CATEGORIES if facts[name] > 0} <= {thing.name for thing in content.things}
        assert facts["objects"] == len(content.things) and facts[content.backdrop.layout] == 1
        assert facts["light.warmth"] == content.light.warmth
    assert len(set(PARAMETERS)) == len(PARAMETERS)


def test_an_object_out_of_sight_is_not_seen():
    content = SCENES[1]
    thing = content.things[0]
    away = type(thing)(**{**thing.__dict__, "x": -3.0})
    hidden = type(content)(0, "stimuli", content.backdrop, content.light, (away,))
    assert hidden.visible.tolist() == [0.0] and not masks(hidden, 64).any() and boxes(hidden, 64).tolist() == [[0, 0, 0, 0]]
    assert hidden.parameters[: len(CATEGORIES)].sum() == 0


def test_captions_are_five_or_more_different_sentences_of_known_words():
    words = set(vocabulary())
    for content in MANY:
        sentences = captions(content)
        assert len(sentences) >= 5 and len(set(sentences)) == len(sentences)
        assert {word for sentence in sentences for word in sentence.split()} <= words
    assert len(words) < 200


def test_captions_name_every_object_and_where_it_is():
    for content in MANY[:300]:
        told = " ".join(captions(content))
        for thing in content.things:
            assert {"body": "person"}.get(thing.name, thing.name) in told or thing.name[:4] in told
            assert thing.colour in told
        for first, other in [(a, b) for a in content.things for b in content.things if a.category != b.category]:
            if f"{first.name} to the left of a {other.name}" in told and told.count(first.name) == told.count(other.name):
                assert min(a.x for a in content.things if a.name == first.name) < max(b.x for b in content.things if b.name == other.name)


def test_light_does_what_it_says():
    content = SCENES[4]
    light = content.light

    def under(**changes):
        lit = type(light)(**{**light.__dict__, **changes})
        return render(type(content)(0, "stimuli", content.backdrop, lit, content.things), 64).image.astype(float)

    assert under(brightness=1.1).mean() > under(brightness=0.7).mean() * 1.3
    red, _, blue = (under(warmth=1.0) - under(warmth=-1.0)).mean(axis=(1, 2))
    assert red > 5 and blue < -5
    left, right = (under(side=side, fall=0.6).mean(axis=(0, 1)) for side in (-1.0, 1.0))
    assert left[:20].mean() > right[:20].mean() and left[-20:].mean() < right[-20:].mean()


def test_textures_are_averaged_over_a_pixel_and_not_sampled():
    t = np.linspace(0, 3, 3001)
    sharp = (np.abs(t - np.floor(t) - 0.5) < 0.15).astype(float)  # 30 % of every period
    wide = np.array([((np.arange(-2000, 2001) / 2000 * 0.2 + place) % 1) for place in t[::100]])
    expected = (np.abs(wide - 0.5) < 0.15).mean(axis=1)
    assert np.abs(band(t[::100], 0.4, 0.3) - expected).max() < 2e-3
    assert np.abs(band(t, 1.0, 0.3) - 0.3).max() < 1e-6  # a whole period in a pixel: its mean
    assert abs(sharp.mean() - 0.3) < 1e-2
    u, v = np.random.default_rng(0).uniform(size=(2, 4000))
    assert abs(noise(u, v).std() - 1) < 0.1 and noise(u, v, 1 / 32).std() < noise(u, v).std()


def test_portraits_and_exemplars_show_what_was_asked():
    for group, members in SUPERCATEGORIES.items():
        (thing,) = portrait(0, 2, group).things
        assert thing.name in members and 0.3 < thing.x < 0.7
    assert [exemplar(0, 1, name).things[0].name for name in CATEGORIES] == list(CATEGORIES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scene(0, 1, "test"), "no world 'test'; choose one of stimuli, training, localiser"),
        (lambda: scene(-1, 1), "must be at least 0"),
        (lambda: scene(0, -1), "must be at least 0"),
        (lambda: render(SCENES[0], 8), "16 to 2048 pixels a side, asked were 8"),
        (lambda: masks(SCENES[0], 5000), "asked were 5000"),
        (lambda: portrait(0, 0, "face"), "no supercategory 'face'; choose one of faces, bodies"),
        (lambda: exemplar(0, 0, "unicorn"), "no category 'unicorn'"),
    ],
)
def test_what_cannot_be_drawn_is_one_clear_line(call, message):
    with pytest.raises(CortexflowError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
