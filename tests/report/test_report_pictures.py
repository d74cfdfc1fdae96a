"""Pictures show the numbers they were given: where, in which colour, and on which scale."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from cortexflow.data.base import Cortex
from cortexflow.errors import CortexflowError
from cortexflow.report.calibration import plot_by_samples, plot_calibration
from cortexflow.report.canvas import AREAS, DARK, INK, area_of, ceil_to, new_figure, svg
from cortexflow.report.cortex_maps import UNKNOWN, flat_grid, plot_area_map, plot_flatmap, positions
from cortexflow.report.matrices import plot_covariance, plot_rdm
from cortexflow.report.patterns import Patterns, plot_samples
from cortexflow.report.scores import by_group, plot_areas, plot_differences, plot_training, row_looks
from cortexflow.report.voxels import plot_r_histogram, plot_r_vs_ceiling, shuffled_r

LATTICE = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(4.0), indexing="ij"), -1).reshape(-1, 2)


@pytest.fixture
def sheet():
    """24 voxels, 1 mm apart, the left half V1 and the right half V2."""
    return Cortex("s", 24, {"V1": LATTICE[:, 0] < 3, "V2": LATTICE[:, 0] >= 3}, flat=LATTICE)


def colour_at(figure, place):
    """The colour of the map of a figure at a place in millimetres."""
    image = figure.axes[0].images[0]
    left, right, bottom, top = image.get_extent()
    picture = np.asarray(image.get_array())
    picture = picture if image.origin == "lower" else picture[::-1]
    height, width = picture.shape[:2]
    column = round((float(place[0]) - left) / (right - left) * (width - 1))
    row = round((float(place[1]) - bottom) / (top - bottom) * (height - 1))
    return tuple(picture[row, column])


def texts(figure):
    return {text.get_text() for ax in figure.axes for text in [*ax.texts, ax.title, ax._left_title, ax._right_title]}


class TestMaps:
    def test_each_place_has_the_colour_of_its_voxel(self, sheet):
        values = torch.linspace(0, 1, 24)
        figure = plot_flatmap(values, sheet, limit=1.0)
        for voxel in range(24):
            assert colour_at(figure, LATTICE[voxel]) == pytest.approx(matplotlib.colormaps["viridis"](float(values[voxel])), abs=0.01)

    def test_a_pixel_belongs_to_the_nearest_voxel(self, cortex):
        grid = flat_grid(cortex, pixels=90)
        left, right, bottom, top = grid.extent
        rows, columns = np.nonzero(grid.voxel >= 0)
        x = left + columns / (grid.voxel.shape[1] - 1) * (right - left)
        y = bottom + rows / (grid.voxel.shape[0] - 1) * (top - bottom)
        distance = torch.cdist(torch.tensor(np.stack([x, y], 1)), cortex.flat.double())
        own = distance[torch.arange(len(rows)), torch.tensor(grid.voxel[rows, columns])]
        # Extents are rounded to whole pixels: near a border the second voxel may be closer by less than a pixel.
        assert (own - distance.min(1).values).max() < 1.0

    def test_every_voxel_is_drawn_and_nothing_far_away(self, cortex):
        grid = flat_grid(cortex)
        assert set(np.unique(grid.voxel)) == {-1, *range(cortex.voxels)}
        corner = plot_flatmap(torch.ones(cortex.voxels), cortex).axes[0].images[0].get_array()[0, 0]
        assert corner[3] == 0

    def test_what_is_unknown_is_grey_and_below_zero_looks_like_zero(self, sheet):
        values = torch.full((24,), 0.5)
        values[0], values[1], values[2] = torch.nan, -0.3, 0.0
        figure = plot_flatmap(values, sheet, limit=1.0)
        assert colour_at(figure, LATTICE[0]) == pytest.approx(to_rgba(UNKNOWN))
        assert colour_at(figure, LATTICE[1]) == colour_at(figure, LATTICE[2])

    def test_a_signed_scale_is_symmetric_around_zero(self, sheet):
        values = torch.zeros(24)
        values[0], values[1] = 2.0, -1.0
        figure = plot_flatmap(values, sheet, signed=True, limit=2.0)
        red, _, blue, _ = colour_at(figure, LATTICE[0])
        assert red > blue
        red, _, blue, _ = colour_at(figure, LATTICE[1])
        assert blue > red
        assert min(colour_at(figure, LATTICE[10])) > 0.95  # 0 is nearly white

    def test_areas_have_their_names_and_their_colours(self, sheet):
        figure = plot_area_map(sheet, title="areas")
        assert {"V1", "V2", "areas"} <= texts(figure)
        assert colour_at(figure, LATTICE[0]) == pytest.approx(to_rgba(AREAS[0]))
        assert colour_at(figure, LATTICE[-1]) == pytest.approx(to_rgba(AREAS[1]))

    def test_without_a_flat_map_the_two_main_axes_are_drawn(self):
        turn = torch.linalg.qr(torch.randn(3, 3)).Q
        flat = torch.cat([LATTICE - LATTICE.mean(0), torch.zeros(24, 1)], 1)
        seen = positions(Cortex("s", 24, coordinates=flat @ turn + 7))
        assert torch.allclose(torch.cdist(seen, seen), torch.cdist(flat, flat), atol=1e-4)
        assert torch.allclose(seen[:, 0].abs(), flat[:, 0].abs(), atol=1e-4)

    def test_a_cortex_without_places_and_values_of_another_size_are_errors(self, sheet):
        with pytest.raises(CortexflowError, match="neither a flat map nor coordinates"):
            plot_flatmap(torch.zeros(2), Cortex("s", 2))
        with pytest.raises(CortexflowError, match="5 values for 24 voxels"):
            plot_flatmap(torch.zeros(5), sheet)
        with pytest.raises(CortexflowError, match="no voxel with a finite place"):
            flat_grid(replace(sheet, flat=torch.full((24, 2), torch.nan)))

    @pytest.mark.parametrize("flat", [torch.zeros(1, 2), torch.zeros(3, 2), torch.tensor([[0.0, 0], [5, 0], [torch.nan, 1]])])
    def test_few_coinciding_or_unplaced_voxels_are_drawn(self, flat):
        grid = flat_grid(Cortex("s", len(flat), flat=flat), pixels=40)
        assert grid.voxel.max() >= 0
        assert not np.isin(grid.voxel, np.flatnonzero(~torch.isfinite(flat).all(1).numpy())).any()

    def test_a_voxel_of_two_areas_belongs_to_the_first(self):
        masks = {"V1": torch.tensor([True, False, False]), "FFA-1": torch.tensor([True, True, False])}
        assert area_of(masks, 3).tolist() == [0, 1, -1]


class TestVoxels:
    def test_only_voxels_with_a_ceiling_are_drawn(self):
        r, ceiling = torch.rand(50), torch.rand(50)
        ceiling[:7] = torch.nan
        figure = plot_r_vs_ceiling(r, ceiling, {"V1": torch.arange(50) < 30})
        drawn = np.concatenate([np.asarray(dots.get_offsets()) for dots in figure.axes[0].collections])
        assert sorted(map(tuple, drawn.round(5).tolist())) == sorted(
            (round(float(x), 5), round(float(y), 5)) for x, y in zip(ceiling[7:], r[7:], strict=True)
        )
        assert {"ceiling", "V1"} == {text.get_text() for text in figure.axes[0].get_legend().get_texts()}

    def test_nothing_known_is_an_empty_picture(self):
        nothing = torch.full((5,), torch.nan)
        assert plot_r_vs_ceiling(torch.rand(5), nothing).axes
        assert plot_r_histogram(nothing, nothing).axes

    def test_the_histogram_holds_every_voxel(self):
        figure = plot_r_histogram(torch.linspace(-0.4, 0.8, 30), torch.zeros(30))
        corners = figure.axes[0].patches[0].get_path().vertices[:, 1]  # each bar has a left and a right corner
        assert corners[1:73:2].sum() == 30
        assert {"median 0.20"} <= texts(figure)

    def test_shuffled_r_is_chance_and_repeats(self):
        signal = torch.randn(400, 60)
        chance = shuffled_r(signal, signal)
        assert abs(float(chance.mean())) < 0.03
        assert float(chance.abs().max()) < 0.25
        assert torch.equal(chance, shuffled_r(signal, signal))
        assert not torch.equal(chance, shuffled_r(signal, signal, seed=1))


class TestMatrices:
    def test_the_third_panel_says_how_the_entries_agree(self):
        measured, synthetic = torch.corrcoef(torch.randn(12, 40)), torch.corrcoef(torch.randn(12, 40))
        above = np.triu_indices(12, 1)
        expected = np.corrcoef(measured.numpy()[above], synthetic.numpy()[above])[0, 1]
        figure = plot_covariance(measured, synthetic, torch.tensor([0] * 5 + [1] * 4 + [-1] * 3), ["V1", "V2"])
        assert f"every pair of voxels, r = {expected:.2f}" in texts(figure)
        assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["V1", "V2", ""]
        assert np.array_equal(figure.axes[0].images[0].get_array(), measured.numpy())
        assert figure.axes[0].images[0].norm is figure.axes[1].images[0].norm

    def test_a_model_without_shared_noise_has_no_agreement(self):
        figure = plot_covariance(torch.corrcoef(torch.randn(6, 40)), torch.eye(6))
        assert "every pair of voxels, r undefined" in texts(figure)

    def test_two_sizes_are_an_error(self):
        with pytest.raises(CortexflowError, match="3 and 4 voxels"):
            plot_covariance(torch.eye(3), torch.eye(4))

    def test_the_diagonal_of_a_dissimilarity_matrix_is_left_out(self):
        figure = plot_rdm(torch.rand(5, 5), ["a", "b", "c", "d", "e"], title="RDM of V1")
        shown = figure.axes[0].images[0].get_array()
        assert np.ma.getmaskarray(shown).diagonal().all()
        assert np.ma.getmaskarray(shown).sum() == 5
        assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "b", "c", "d", "e"]
        assert "RDM of V1" in texts(figure)


class TestPatterns:
    def make(self, voxels, images=2, pictures=True):
        shown = torch.randint(0, 255, (images, 3, 8, 8), dtype=torch.uint8) if pictures else None
        sizes = ((images, 3, voxels), (images, 5, voxels), (images, voxels))
        return Patterns(*(torch.randn(size) for size in sizes), shown, ["one", "two"][:images], "z")

    @pytest.mark.parametrize("pictures", [True, False])
    def test_every_trial_sample_and_average_has_a_map(self, sheet, pictures):
        figure = plot_samples(self.make(24, pictures=pictures), sheet)
        assert len(figure.axes[0].images) == 2 * (3 + 3 + 2 + pictures)
        assert {"trial 3", "sample 3", "mean of 3", "expectation", "two"} <= texts(figure)

    def test_maps_show_the_responses(self, sheet):
        patterns = self.make(24, images=1, pictures=False)
        figure = plot_samples(patterns, sheet)
        norm = patterns.norms()["trial"]
        image = np.asarray(figure.axes[0].images[0].get_array())
        expected = matplotlib.colormaps["RdBu_r"](norm(patterns.measured[0, 0].double().numpy()))
        found = {tuple(colour) for colour in image[image[..., 3] > 0].round(4)}
        assert found == {tuple(colour) for colour in expected.round(4)}

    def test_averages_have_a_scale_of_their_own(self):
        patterns = self.make(500)
        norms = patterns.norms()
        assert norms["trial"] is norms["sample"]
        assert norms["trial"].vmax == pytest.approx(np.percentile(patterns.measured.abs().numpy(), 98), rel=1e-5)
        assert norms["average"].vmax == pytest.approx(np.percentile(patterns.measured.mean(1).abs().numpy(), 98), rel=1e-5)

    def test_without_a_flat_map_strips_are_sorted_by_area(self, sheet):
        mixed = replace(sheet, flat=None, areas={"V2": sheet.areas["V2"], "V1": sheet.areas["V1"]})
        patterns = self.make(24, images=1)
        patterns.measured[0, 0] = torch.where(mixed.areas["V2"], 3.0, -3.0)
        strip = np.asarray(plot_samples(patterns, mixed).axes[1].images[0].get_array())[0]
        assert (strip[:12, 0] > strip[:12, 2]).all()  # V2 comes first, and is red
        assert (strip[12:, 0] < strip[12:, 2]).all()

    def test_without_a_cortex_the_voxels_keep_their_order(self):
        assert len(plot_samples(self.make(10), None).axes) >= 4

    def test_repeats_that_were_not_measured_are_left_out(self):
        patterns = self.make(6)
        patterns.measured[0, 1:] = torch.nan
        assert [title for _, title, _ in patterns.columns(0)] == ["trial 1", "sample 1", "sample 2", "sample 3", "expectation"]
        patterns.measured[0, 1] = 1.0
        mean = next(values for _, title, values in patterns.columns(0) if title == "mean of 2")
        assert torch.allclose(mean, (patterns.measured[0, 0] + 1) / 2)

    def test_patterns_of_different_sizes_are_an_error(self):
        with pytest.raises(CortexflowError, match="different images × voxels"):
            Patterns(torch.zeros(2, 3, 5), torch.zeros(2, 3, 4), torch.zeros(2, 5))


class TestCalibration:
    def test_ranks_are_a_density(self):
        figure = plot_calibration(torch.tensor([10.0, 30.0, 20.0, 20.0]))
        heights = [bar.get_height() for bar in figure.axes[0].patches]
        assert heights == pytest.approx([0.5, 1.5, 1.0, 1.0])

    def test_coverage_is_drawn_where_it_is(self):
        figure = plot_calibration(levels=torch.tensor([0.5, 0.9]), coverage=torch.tensor([0.4, 0.8]))
        assert len(figure.axes) == 1
        assert np.allclose(figure.axes[0].lines[1].get_xydata(), [[0.5, 0.4], [0.9, 0.8]])

    def test_nothing_to_draw_is_an_error(self):
        with pytest.raises(CortexflowError, match="no calibration to draw"):
            plot_calibration(levels=torch.tensor([0.5]))

    def test_by_samples(self):
        figure = plot_by_samples(torch.tensor([1, 4]), torch.tensor([0.1, 0.2]))
        assert np.allclose(figure.axes[0].lines[0].get_xydata(), [[1, 0.1], [4, 0.2]])


class TestScores:
    def test_every_score_of_an_area_metric_is_a_point_or_a_ceiling(self, metrics):
        assert by_group(metrics) == ["r", "share", "mse", "variance_ratio"]
        figure = plot_areas(metrics)
        for ax, name in zip(figure.axes, by_group(metrics), strict=True):
            points = {round(float(line.get_ydata()[0]), 6) for line in ax.lines if line.get_linestyle() == "None"}
            expected = {round(row["scores"][name]["value"], 6) for row in metrics["rows"] if row["kind"] != "ceiling" and row["scores"][name]}
            assert points == expected
            assert ax.get_title(loc="left").startswith(metrics["metrics"][name]["short"])

    def test_rows_of_one_kind_differ_and_models_keep_their_colour(self, metrics):
        looks = row_looks(metrics)
        assert len({(look["marker"], look["color"]) for look in looks.values()}) == len(looks)

    def test_metrics_by_name_and_none_to_draw(self, metrics):
        assert len(plot_areas(metrics, ["bits"]).axes) == 1
        metrics["rows"] = [row for row in metrics["rows"] if row["group"] == "all"]
        with pytest.raises(CortexflowError, match="several groups"):
            plot_areas(metrics)

    def test_differences_from_nulls_are_left_to_the_table(self, metrics):
        figure = plot_differences(metrics)
        shown = [line.get_xdata()[0] for line in figure.axes[0].lines[1:]]
        assert max(shown) == pytest.approx(0.01)
        metrics["differences"] = [one for one in metrics["differences"] if one["against"] == "training-mean pattern"]
        assert max(line.get_xdata()[0] for line in plot_differences(metrics).axes[0].lines[1:]) == pytest.approx(0.41)
        with pytest.raises(CortexflowError, match="no paired differences of bits"):
            plot_differences(metrics, "bits")

    def test_the_ring_is_at_the_lowest_validation_loss(self):
        epochs = [{"epoch": n, "training": 1 / n, "validation": (n - 4) ** 2} for n in range(1, 9)]
        figure = plot_training([*epochs, {"epoch": 9, "training": None, "validation": None}, {"event": "resumed"}])
        rings = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
        assert [tuple(ring.get_xydata()[0]) for ring in rings] == [(4, 0)]
        assert "epoch 4" in texts(figure)


class TestCanvas:
    def test_one_figure_gives_one_text_that_follows_the_theme(self):
        figures = [plot_by_samples(torch.tensor([1, 4]), torch.tensor([0.1, 0.2])) for _ in range(2)]
        text = svg(figures[0])
        assert text == svg(figures[1])
        assert "fill: var(--ink)" in text
        assert f"--ink:{INK}" in text
        assert f"--ink:{DARK[INK]}" in text
        assert "samples averaged" in text  # text stays text

    def test_nothing_global_is_touched(self):
        before = dict(matplotlib.rcParams)
        plot_by_samples(torch.tensor([1, 4]), torch.tensor([0.1, 0.2]))
        assert dict(matplotlib.rcParams) == before
        import matplotlib.pyplot as plt

        assert plt.get_fignums() == []

    def test_pictures_can_share_a_figure(self, sheet):
        figure = new_figure(8, 4)
        left, right = figure.subplots(1, 2)
        assert plot_flatmap(torch.rand(24), sheet, ax=left) is figure
        assert plot_by_samples(torch.tensor([1, 4]), torch.tensor([0.1, 0.2]), ax=right) is figure

    @pytest.mark.parametrize(("value", "expected"), [(0.31, 0.4), (0.4, 0.4), (-1.0, 0.1), (float("nan"), 0.1)])
    def test_axes_end_on_a_whole_step(self, value, expected):
        assert ceil_to(value) == pytest.approx(expected)
