"""Questions: intervals over seeds and subjects, verdicts by rule, the page, and whole runs that continue where they stopped."""

import json
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
import torch

from cortexflow.errors import DamagedFileError
from cortexflow.experiments import data_scaling, encoding_accuracy, noise_models
from cortexflow.experiments.base import REVISION, Estimate, estimate, part
from cortexflow.experiments.data_scaling import DataScaling, fit_law, law, laws
from cortexflow.experiments.encoding_accuracy import EncodingAccuracy
from cortexflow.experiments.noise_models import NoiseModels
from cortexflow.report.canvas import new_figure
from cortexflow.report.finding import LABEL, PLAN, WIDEST, panels, plot_estimates, render
from cortexflow.storage import load_json, save_tensors
from cortexflow.training import Machine


def constant(value, draws=400):
    return torch.full((draws + 1,), float(value))


def made_up(name, value, low=None, high=None, each=None, unit=""):
    value, low, high = (float(value if end is None else end) for end in (value, low, high))
    each = tuple(tuple(map(float, one)) for one in each or ((value, low, high),) * 3)
    return Estimate(name, value, low, high, "images and seeds", each, unit)


class TestIntervals:
    def test_two_seeds_without_spread(self):
        one = estimate("x", [constant(1), constant(3)])
        assert (one.value, one.low, one.high) == (2, 1, 3)
        assert one.each == ((1, 1, 1), (3, 3, 3)) and one.over == "images and seeds"

    def test_a_single_seed_has_the_quantiles_of_its_draws(self):
        draws = torch.randn(1001)
        one = estimate("x", [draws])
        expected = np.quantile(draws[1:].double().numpy(), [0.025, 0.975])
        assert one.value == pytest.approx(float(draws[0])) and one.over == "images"
        assert [one.low, one.high] == pytest.approx(list(expected)) and one.each[0][1:] == (one.low, one.high)

    def test_subjects_of_one_seed_are_resampled_too(self):
        one = estimate("x", [torch.stack([constant(0), constant(2)])])
        assert (one.value, one.low, one.high, one.over) == (1, 0, 2, "images and subjects")

    def test_subjects_share_the_draws_of_pictures(self):
        """What a draw of pictures does to both subjects must not be averaged out."""
        draws = torch.randn(2001)
        alone, both = estimate("x", [draws]), estimate("x", [torch.stack([draws, draws])])
        assert [both.low, both.high] == pytest.approx([alone.low, alone.high])

    def test_against_a_bootstrap_by_loops(self):
        random = np.random.default_rng(0)
        every = random.standard_normal((3, 1, 1)) + 0.5 * random.standard_normal((3, 2, 1)) + 0.3 * random.standard_normal((3, 2, 4001))
        pooled = []
        for draw in range(1, 4001):
            picked = random.integers(3, size=3)
            pooled.append(np.mean([np.mean([every[seed, random.integers(2), draw] for _ in range(2)]) for seed in picked]))
        one = estimate("x", [torch.from_numpy(seed) for seed in every])
        assert one.over == "images, subjects and seeds"
        assert one.value == pytest.approx(every[:, :, 0].mean())
        assert [one.low, one.high] == pytest.approx(list(np.quantile(pooled, [0.025, 0.975])), abs=0.08)

    def test_same_seed_same_interval_and_words_of_ones_own(self):
        draws = [torch.randn(2, 200) for _ in range(3)]
        assert estimate("x", draws, over="runs") == estimate("x", draws, over="runs")
        assert estimate("x", draws, over="runs").over == "runs"

    def test_above_zero_asks_every_seed(self):
        assert made_up("x", 1, 0.5, 1.5).above_zero
        assert not made_up("x", 1, 0.5, 1.5, each=((1, 0.5, 1.5), (0.1, -0.1, 0.3))).above_zero
        assert not made_up("x", 1, -0.1, 2, each=((1, 0.5, 1.5),)).above_zero


class TestParts:
    def test_a_part_is_computed_once(self, tmp_path):
        calls = []

        def compute():
            calls.append(1)
            return {"x": torch.arange(3)}

        first, second = (part(tmp_path / "one.safetensors", compute) for _ in range(2))
        assert len(calls) == 1 and torch.equal(first["x"], second["x"])

    def test_a_part_of_another_revision_is_computed_again(self, tmp_path, monkeypatch):
        path = tmp_path / "one.safetensors"
        part(path, lambda: {"x": torch.zeros(2)})
        monkeypatch.setattr("cortexflow.experiments.base.REVISION", REVISION + 1)
        assert part(path, lambda: {"x": torch.ones(2)})["x"].tolist() == [1, 1]
        assert part(path, dict)["x"].tolist() == [1, 1]

    def test_a_damaged_part_is_never_taken_for_numbers(self, tmp_path):
        path = tmp_path / "one.safetensors"
        part(path, lambda: {"x": torch.arange(100)})
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(DamagedFileError):
            part(path, dict)

    def test_a_part_that_names_no_revision_is_computed_again(self, tmp_path):
        path = tmp_path / "one.safetensors"
        save_tensors(path, {"x": torch.zeros(2)})
        assert part(path, lambda: {"x": torch.ones(2)})["x"].tolist() == [1, 1]


def named(*estimates):
    return {one.name: one for one in estimates}


def noise(factors=0.3, radius=0.1, idle=0.0, ratio=1.0, low=0.05):
    return named(
        made_up("rich: bits saved by factors", factors, factors - low, factors + low),
        made_up("rich: bits saved by radius", radius, radius - low, radius + low),
        made_up("gaussian: bits saved by radius", idle, idle - 0.002, idle + 0.002),
        made_up("rich: sample variance / repeat variance", ratio),
    )


def accuracy(saved=0.3, r=0.0, two_way=0.0, mlp=0.05, low=0.05):
    found = []
    for setting in ("calibrated", "image_covariance"):
        found += [
            made_up(f"{setting}: bits saved over mean alone", saved, saved - low, saved + low),
            made_up(f"{setting}: r gained over mean alone", r),
            made_up(f"{setting}: r gained over mlp", mlp, mlp - 0.02, mlp + 0.02),
            made_up(f"{setting}: two-way gained over mean alone", two_way),
            made_up(f"{setting}: two-way gained over mlp", mlp, mlp - 0.02, mlp + 0.02),
        ]
    return named(*found)


def scaling(step=0.03, miss=0.0, step_low=0.01, miss_low=0.01):
    return named(
        made_up("r gained, 400 to 800 pictures", step, step - step_low, step + step_low),
        made_up("r at 800 pictures minus the law of smaller sizes", miss, miss - miss_low, miss + miss_low),
        made_up("r_inf, the limit", 0.5, 0.4, 0.7),
        made_up("b, the law's exponent", 0.6, 0.4, 0.8),
    )


@pytest.mark.parametrize(
    ("question", "estimates", "verdict"),
    [
        (NoiseModels(), noise(), "yes"),
        (NoiseModels(), noise(radius=-0.1), "no"),
        (NoiseModels(), noise(radius=0.01), "undecided"),  # the interval holds 0
        (NoiseModels(), noise(idle=0.02), "undecided"),  # a radius is found where there is none
        (NoiseModels(), noise(ratio=1.3), "undecided"),  # samples vary too much
        (EncodingAccuracy(), accuracy(), "yes"),
        (EncodingAccuracy(), accuracy(saved=-0.2), "no"),
        (EncodingAccuracy(), accuracy(r=-0.02), "no"),  # bits at the price of accuracy
        (EncodingAccuracy(), accuracy(two_way=-0.02), "no"),
        (EncodingAccuracy(), accuracy(mlp=-0.05), "no"),  # the linear mean predicts worse
        (EncodingAccuracy(), accuracy(mlp=0.0), "undecided"),  # as far as is known it might
        (EncodingAccuracy(), accuracy(saved=0.01), "undecided"),
        (DataScaling(), scaling(), "yes"),
        (DataScaling(), scaling(step=-0.03), "no"),
        (DataScaling(), scaling(miss=0.05), "no"),
        (DataScaling(), scaling(miss=-0.05), "no"),
        (DataScaling(), scaling(miss=0.015), "undecided"),
        (DataScaling(), scaling(step=0.005), "undecided"),
    ],
)
def test_the_rule_decides(question, estimates, verdict):
    said, why = question.decide(estimates)
    assert said == verdict
    assert any(f"{abs(one.value):.3f}" in why for one in estimates.values())


@pytest.mark.parametrize("question", [NoiseModels, EncodingAccuracy, DataScaling])
def test_the_plan_is_whole_and_stands_in_the_class(question):
    plan = question().plan()
    assert list(plan) == list(PLAN) and all(sentence.endswith(".") and len(sentence) > 40 for sentence in plan.values())
    assert question.title.endswith("?")


def finding(estimates, **words):
    plan = dict.fromkeys(PLAN, "A sentence.")
    content = {"question": "Is it so?", **plan, "verdict": "undecided", "why": "nobody knows", "config": {"seeds": 3}, "made": {"commit": None}}
    return json.loads(json.dumps({**content, **words, "estimates": [asdict(one) for one in estimates]}))


class TestPage:
    def test_words_are_escaped_wherever_they_stand(self):
        evil = "<script>alert('&')</script>"
        page = render(
            finding(
                [made_up(evil, 1, 0, 2, unit=evil)],
                question=evil,
                why=evil,
                verdict=evil,
                rule=evil,
                config={evil: [evil]},
                made={evil: {evil: evil}},
            )
        )
        assert "<script" not in page.lower()
        assert page.count("&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;") >= 10

    def test_every_number_and_every_sentence_is_there(self):
        found = [made_up("first", 1.2345, 1.1, 1.3, unit="bits/voxel"), made_up("second", 0.0123, -0.5, 0.5, unit="r")]
        page = render(finding(found, rule="Yes if it is so.", why="because"))
        for word in ("1.2345", "[1.1000, 1.3000]", "0.0123", "bits/voxel", "Yes if it is so.", "Undecided.", "because", "images and seeds"):
            assert word in page
        assert page.count("<svg") == 2

    def test_says_what_was_chosen_after_numbers_were_seen(self):
        made = [made_up("first", 1, 0, 2)]
        assert "after some" not in render(finding(made)) and "Written before any number" in render(finding(made))
        page = render(finding(made, chosen_after="The window was."))
        assert "after some numbers were seen" in page and "The window was." in page
        assert "Written before" not in page

    def test_a_figure_of_its_own_comes_first(self):
        figure = new_figure(3, 2)
        figure.subplots().set_title("my own")
        page = render(finding([made_up("first", 1, 0, 2)]), figure)
        assert page.count("<svg") == 2 and page.index("my own") < page.index(">first<")

    def test_numbers_of_different_size_or_unit_do_not_share_an_axis(self):
        sizes = [("a", 1.9, "bits"), ("b", 0.12, "bits"), ("c", 1.5, "bits"), ("d", 0.02, "bits"), ("e", 0.02, "bits"), ("f", 1.9, "r")]
        found = [asdict(made_up(name, value, value - 0.001, value + 0.001, unit=unit)) for name, value, unit in sizes]
        shared = panels(found)
        assert [[one["name"] for one in panel] for panel in shared] == [["a", "c"], ["b", "d", "e"], ["f"]]
        for panel in shared:
            reach = [one["value"] for one in panel]
            assert max(reach) <= WIDEST * min(reach) + 0.1

    def test_a_number_without_an_interval_stays_with_its_unit(self):
        found = [asdict(made_up("r", 0.5, 0.4, 0.6)), asdict(made_up("null", 0.0)), asdict(made_up("chance", 0.004))]
        assert [len(panel) for panel in panels(found)] == [3]

    def test_long_names_are_whole_legible_and_do_not_overlap(self):
        name = "image_covariance: top-1 by likelihood gained over the training-mean pattern with the same distribution of noise"
        figure = plot_estimates([asdict(made_up(f"{name} {number}", number, number - 1, number + 1)) for number in range(3)])
        axes = figure.axes[0]
        labels = [label.get_text() for label in axes.get_yticklabels()]
        assert [label.replace("\n", " ") for label in labels] == [f"{name} {number}" for number in range(3)]
        assert max(len(line) for label in labels for line in label.split("\n")) <= LABEL
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
        assert all(lower.y1 < upper.y0 for upper, lower in pairwise(boxes))
        assert min(box.x0 for box in boxes) >= 0

    def test_zero_is_drawn_only_where_it_is_near(self):
        far = plot_estimates([asdict(made_up("bits", 1.9, 1.8, 2.0))]).axes[0]
        near = plot_estimates([asdict(made_up("gain", 0.1, -0.1, 0.3))]).axes[0]
        assert far.get_xlim()[0] > 1 and near.get_xlim()[0] < 0


class TestLaw:
    SIZES = (50, 100, 200, 400, 800)

    def test_by_hand(self):
        assert law(100.0, 0.5, 2.0, 0.5) == pytest.approx(0.3)

    @pytest.mark.parametrize("planted", [(0.5, 2.0, 0.6), (0.35, 0.8, 0.3), (0.9, 40.0, 1.5)])
    def test_planted_parameters_are_found(self, planted):
        n = np.array(self.SIZES, dtype=float)
        assert fit_law(n, law(n, *planted)) == pytest.approx(planted, rel=1e-4)

    def test_no_exponent_of_a_grid_fits_better(self):
        n, random = np.array(self.SIZES, dtype=float), np.random.default_rng(0)
        for _ in range(10):
            r = law(n, 0.5, 2.0, 0.6) + 0.01 * random.standard_normal(5)
            ours = np.square(law(n, *fit_law(n, r)) - r).sum()
            errors = []
            for exponent in np.linspace(0.05, 3, 300):  # given the exponent the law is linear
                design = np.stack([np.ones(5), -(n**-exponent)], 1)
                solution = np.linalg.lstsq(design, r, rcond=None)[0]
                if 0 <= solution[0] <= 1 and solution[1] >= 0:
                    errors.append(np.square(design @ solution - r).sum())
            assert ours <= min(errors) * 1.001

    def test_intervals_hold_the_planted_law_and_the_miss_is_nothing(self):
        curves = law(np.array(self.SIZES, dtype=float), 0.5, 2.0, 0.6) + 0.002 * np.random.default_rng(1).standard_normal((101, 5))
        found = {
            name: one.quantile(torch.tensor([0.025, 0.975], dtype=one.dtype)) for name, one in laws(self.SIZES, torch.from_numpy(curves)).items()
        }
        for name, planted in {"law.limit": 0.5, "law.scale": 2.0, "law.exponent": 0.6, "law.miss": 0.0}.items():
            assert found[name][0] < planted < found[name][1]

    def test_a_curve_that_is_no_law_is_missed(self):
        straight = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.9]], dtype=torch.float64)
        assert float(laws(self.SIZES, straight)["law.miss"][0]) > 0.3

    def test_wild_draws_have_a_law_within_its_bounds(self):
        found = laws(self.SIZES, torch.from_numpy(0.3 * np.random.default_rng(2).standard_normal((40, 5))))
        assert all(bool(one.isfinite().all()) for one in found.values())
        assert float(found["law.limit"].min()) >= 0 and float(found["law.limit"].max()) <= 1


TINY = {
    "noise_models": (noise_models, NoiseModels, {"seeds": 1, "images": 200, "voxels": 60, "draws": 100}),
    "encoding_accuracy": (
        encoding_accuracy,
        EncodingAccuracy,
        {"settings": ("gaussian",), "seeds": 1, "subjects": 2, "images": 200, "voxels": 60, "draws": 100},
    ),
    "data_scaling": (data_scaling, DataScaling, {"sizes": (10, 14, 20, 28, 40), "seeds": 1, "subjects": 1, "voxels": 60, "draws": 100}),
}


@pytest.fixture(scope="module", params=TINY)
def answered(request, tmp_path_factory):
    """A question that has been asked once, at a size whose numbers mean nothing."""
    module, question, choices = TINY[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    asked = question(question.Config(**choices))
    asked.run(folder, Machine(cache=folder.parent / "features"))
    return module, asked, folder, {one["name"]: one for one in load_json(folder / "finding.json")["estimates"]}


def written(estimates):
    return {one["name"]: one for one in json.loads(json.dumps([asdict(one) for one in estimates]))}


class TestWholeRuns:
    def test_finding_and_page(self, answered):
        _, asked, folder, found = answered
        said = load_json(folder / "finding.json")
        assert said["verdict"] in ("yes", "no", "undecided") and said["rule"] == asked.rule
        assert len(found) == len(said["estimates"])
        for one in found.values():
            assert all(np.isfinite(one[end]) for end in ("value", "low", "high")) and one["low"] <= one["high"]
        page = (folder / "finding.html").read_text()
        assert page.count("<svg") == len(panels(said["estimates"])) + isinstance(asked, DataScaling)

    def test_what_must_be_so_by_construction(self, answered):
        _, asked, _, found = answered
        value = {name: one["value"] for name, one in found.items()}
        for name, one in value.items():
            if "r, training-mean pattern" in name:
                assert one == 0
        if isinstance(asked, NoiseModels):
            for setting in ("rich", "gaussian"):
                steps = [value[f"{setting}: bits, {noise}"] for noise in ("diagonal", "factors", "factors+radius")]
                assert value[f"{setting}: bits saved by factors"] == pytest.approx(steps[0] - steps[1])
                assert value[f"{setting}: bits saved by radius"] == pytest.approx(steps[1] - steps[2])
        if isinstance(asked, EncodingAccuracy):
            assert found["gaussian: r gained over mean alone"]["high"] == 0  # the same ridge has the same mean
            assert value["gaussian: bits saved over mlp"] == pytest.approx(value["gaussian: bits, mlp"] - value["gaussian: bits, distribution"])
            assert found["gaussian: bits, mlp"]["over"] == "images and subjects"
        if isinstance(asked, DataScaling):
            assert value["r gained, 28 to 40 pictures"] == pytest.approx(value["r, 40 pictures"] - value["r, 28 pictures"])
            assert abs(value["r, features of other pictures"]) < 0.1

    def test_parts_are_not_computed_again(self, answered, monkeypatch):
        module, asked, folder, found = answered

        def never(*_):
            raise AssertionError("a finished part was computed again")

        monkeypatch.setattr(module, "open_study", never)
        assert written(asked.measure(folder, Machine())) == found

    def test_a_lost_part_alone_is_computed_again_to_the_same_numbers(self, answered, monkeypatch):
        module, asked, folder, found = answered
        lost, *others = sorted((folder / "parts").iterdir())
        if not others:
            pytest.skip("it has one part, which the first run computed")
        lost.unlink()
        opened, original = [], module.open_study
        monkeypatch.setattr(module, "open_study", lambda *choices: opened.append(1) or original(*choices))
        again = written(asked.measure(folder, Machine(cache=folder.parent / "features")))
        assert len(opened) == 1 and lost.is_file() and again == found

    def test_other_choices_do_not_take_these_parts(self, answered, monkeypatch):
        module, asked, folder, _ = answered
        other = type(asked)(asked.config.model_copy(update={"voxels": 61}))

        def opened(*_):
            raise InterruptedError

        monkeypatch.setattr(module, "open_study", opened)
        with pytest.raises(InterruptedError):
            other.measure(folder, Machine())


@pytest.mark.parametrize("sizes", [(50, 100, 100, 200, 400), (5, 10, 20, 40, 80), (50, 100, 200, 400)])
def test_sizes_must_rise_and_be_enough(sizes):
    with pytest.raises(ValueError, match="sizes"):
        DataScaling.Config(sizes=sizes)
