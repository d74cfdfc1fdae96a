import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

import cortexflow.metrics
from cortexflow.errors import CortexflowError
from cortexflow.metrics import blocks, calibration, intervals, noise_ceiling, variability, voxelwise
from cortexflow.metrics.blocks import check_matched, check_samples, constant, over_voxels, unit

MODULES = sorted(module.name for module in pkgutil.iter_modules(cortexflow.metrics.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_the_numbers_in_the_docstrings_are_right(name):
    module = importlib.import_module(f"cortexflow.metrics.{name}")
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for entry in vars(module).values():
        if inspect.isfunction(entry) and entry.__module__ == module.__name__:
            for example in finder.find(inspect.unwrap(entry), entry.__name__, module=False, globs={**vars(module), "torch": torch}):
                runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0 or name in {"blocks", "images"}


@pytest.mark.parametrize("name", MODULES)
def test_metrics_import_nothing_of_the_package_but_errors_and_each_other(name):
    source = inspect.getsource(importlib.import_module(f"cortexflow.metrics.{name}"))
    ours = [line.split()[1] for line in source.splitlines() if line.startswith(("from cortexflow", "import cortexflow"))]
    assert all(module == "cortexflow.errors" or module.startswith("cortexflow.metrics.") for module in ours)


@pytest.mark.parametrize("elements", [1, 50, 10**9])
def test_results_do_not_depend_on_the_block_size(monkeypatch, elements):
    samples, trials, stimuli = torch.randn(7, 12, 5), torch.randn(12, 5), torch.arange(4).repeat(3)

    def everything():
        generator = torch.Generator().manual_seed(1)
        return [
            voxelwise.correlation(samples[0], trials),
            noise_ceiling.ncsnr(trials, stimuli),
            variability.within_stimulus_residuals(trials, stimuli),
            calibration.crps(samples, trials),
            calibration.coverage(samples, trials, [0.5]),
            calibration.probability_integral_transform(samples, trials, generator),
            intervals.bootstrap_correlation(samples[0], trials, generator, draws=9),
        ]

    whole = everything()
    monkeypatch.setattr(blocks, "ELEMENTS_AT_ONCE", elements)
    for before, after in zip(whole, everything(), strict=True):
        torch.testing.assert_close(after, before)


def test_blocks_keep_the_order_of_voxels_and_the_precision():
    values = torch.randn(3, 11)
    doubled = over_voxels(lambda block: 2 * block.double(), values)
    assert doubled.dtype == torch.float32
    torch.testing.assert_close(doubled, 2 * values)


def test_constant_sees_through_rounding_and_not_through_a_real_change():
    values = torch.full((100, 3), 0.1)
    values[:, 1] = values[:, 1] * 3 - values[:, 1] * 2  # 0.1 up to rounding
    values[0, 2] += 1e-5
    assert constant(values, 0).tolist() == [True, True, False]
    assert not constant(torch.tensor([[1.0], [float("nan")]]), 0)


def test_unit_vectors_are_centred_and_of_length_one():
    vectors = unit(torch.randn(40, 6) * 100 + 1000, 0)
    torch.testing.assert_close(vectors.sum(0), torch.zeros(6).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(vectors.norm(dim=0), torch.ones(6).double())


def test_errors_name_both_shapes():
    with pytest.raises(CortexflowError, match=r"\(4, 1\) and \(4, 3\)"):
        check_matched(torch.zeros(4, 1), torch.zeros(4, 3))
    with pytest.raises(CortexflowError, match="at least 2 images are needed, 1 came"):
        check_matched(torch.zeros(1, 3), torch.zeros(1, 3), least=2)
    with pytest.raises(CortexflowError, match=r"\(2, 4, 1\) and \(4, 3\)"):
        check_samples(torch.zeros(2, 4, 1), torch.zeros(4, 3))
    with pytest.raises(CortexflowError, match="at least 2 samples"):
        check_samples(torch.zeros(1, 4, 3), torch.zeros(4, 3), least=2)
