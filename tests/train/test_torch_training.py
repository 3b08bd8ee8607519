# pyright: reportMissingImports=false
"""Training: it learns, it is repeatable, resumes exactly, stops early, and refuses what does not belong together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dipole.golden.errors import DipoleError
from dipole.train.cascade import best_scale, cascade, cascade_specs, lower, rescale
from dipole.train.data import Data
from dipole.train.fit import Options, accuracy, fit, predict
from dipole.train.networks import build
from dipole.train.precision import Precision
from dipole.train.quantizers import hard_ladder
from dipole.train.spec import make_spec

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def bars():
    """6x6 images of a bright row (class 0) or column (class 1) in noise."""
    rng = np.random.default_rng(5)
    x = rng.uniform(0, 0.6, (240, 1, 6, 6)).astype(np.float32)
    y = rng.integers(0, 2, 240)
    for k, at in enumerate(rng.integers(0, 6, 240)):
        x[k, 0, at, :] = x[k, 0, at, :] if y[k] else 1
        x[k, 0, :, at] = 1 if y[k] else x[k, 0, :, at]
    return Data("bars", x[:180], y[:180], x[180:], y[180:], ("row", "column"))


def _spec(data, **precision):
    return make_spec("cnn", data.shape, len(data.classes), Precision(**precision), (8, 8))


OPTIONS = Options(epochs=8, batch=32)


@pytest.mark.parametrize("kind", ["unsigned", "odd", "odd-relu"])
def test_learns(bars, kind):
    network = build(_spec(bars, kind=kind), 0)
    outcome = fit(network, bars, replace(OPTIONS, epochs=16))
    assert outcome.losses[-1] < outcome.losses[0] / 2
    assert accuracy(network, bars.x_test, bars.y_test) > 0.9


def test_seed_fixes_everything(bars):
    scores = []
    for seed in (1, 1, 2):
        torch.manual_seed(99 + len(scores))
        network = build(_spec(bars), seed)
        fit(network, bars, replace(OPTIONS, seed=seed, epochs=2))
        scores.append(predict(network, bars.x_test))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])


class _Stop(Exception):
    pass


@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_resume_ends_with_the_very_weights(bars, tmp_path, validation):
    options = replace(OPTIONS, epochs=5, validation=validation)
    whole = build(_spec(bars), 0)
    fit(whole, bars, options)

    def interrupt(label, done, total):
        if done == 2:
            raise _Stop

    broken = build(_spec(bars), 0)
    with pytest.raises(_Stop):
        fit(broken, bars, options, checkpoint=tmp_path / "a.ckpt", progress=interrupt)
    resumed = build(_spec(bars), 77)
    outcome = fit(resumed, bars, options, checkpoint=tmp_path / "a.ckpt", resume=True)
    assert outcome.epochs == 5
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_early_stop(bars):
    # Labels by chance: the loss on samples kept aside soon gets no better.
    chance = replace(bars, y=np.random.default_rng(0).integers(0, 2, len(bars.y)))
    outcome = fit(build(_spec(bars), 0), chance, replace(OPTIONS, epochs=60, validation=0.3, patience=3))
    assert outcome.stopped_early and outcome.epochs < 60
    best = int(np.argmin(outcome.losses)) + 1
    assert outcome.epochs == best + 3


def test_checkpoint_of_another_network(bars, tmp_path):
    path = tmp_path / "a.ckpt"
    fit(build(_spec(bars)), bars, replace(OPTIONS, epochs=1), checkpoint=path)
    other = build(_spec(bars, weights=(3,)))
    with pytest.raises(
        DipoleError, match=r"a\.ckpt: a checkpoint of another network \(cnn 1x6x6 .* w2a2, unsigned; this one"
    ):
        fit(other, bars, replace(OPTIONS, epochs=1), checkpoint=path, resume=True)
    with pytest.raises(DipoleError, match=r"a checkpoint of another run \(epochs is 1, asked for is 2\)"):
        fit(build(_spec(bars)), bars, replace(OPTIONS, epochs=2), checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DipoleError, match=r"a\.ckpt: not a checkpoint of dipole train, or a damaged one"):
        fit(build(_spec(bars)), bars, replace(OPTIONS, epochs=1), checkpoint=path, resume=True)
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(DipoleError, match=r"a\.ckpt: not a checkpoint of dipole train"):
        fit(build(_spec(bars)), bars, replace(OPTIONS, epochs=1), checkpoint=path, resume=True)
    with pytest.raises(DipoleError, match="no such checkpoint"):
        fit(build(_spec(bars)), bars, OPTIONS, checkpoint=tmp_path / "absent.ckpt", resume=True)


def test_data_of_another_shape(bars):
    network = build(make_spec("cnn", (1, 8, 8), 2, Precision()))
    with pytest.raises(
        DipoleError, match=r"data 'bars': inputs have the shape \(1, 6, 6\), the network takes \(1, 8, 8\)"
    ):
        fit(network, bars, OPTIONS)
    network = build(make_spec("cnn", (1, 6, 6), 10, Precision()))
    with pytest.raises(DipoleError, match="data 'bars': 2 classes, but the network gives 10 scores"):
        fit(network, bars, OPTIONS)


@pytest.mark.parametrize(
    "field,value,message",
    [
        ("epochs", 0, "epochs: 0"),
        ("batch", 1, "batch: 1"),
        ("rate", 0, "rate: 0"),
        ("validation", 0.9, "validation: 0.9"),
        ("patience", -1, "patience: -1"),
        ("smoothing", 1, "smoothing: 1, must be 0"),
    ],
)
def test_bad_options(field, value, message):
    with pytest.raises(DipoleError, match=message):
        replace(OPTIONS, **{field: value})


# --- cascade ---


def test_cascade_specs_respect_the_lowest_bits(bars):
    specs = cascade_specs(_spec(bars, weights=(1,), activations=(2,)), [4, 3, 2, 1])
    labels = [spec.precision.label for spec in specs]
    assert labels == ["wfloatafloat", "w4a4", "w3a3", "w2a2", "w1a2"]


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_best_scale(bits):
    weight = torch.randn(2000, generator=torch.Generator().manual_seed(bits)) * 0.05

    def error(scale):
        return float(((weight - scale * hard_ladder(weight / scale, bits)) ** 2).mean())

    scale = best_scale(weight, bits)
    assert error(scale) < error(1.0)
    assert all(error(scale) <= error(scale * f) + 1e-9 for f in (0.8, 1.25))
    assert best_scale(torch.zeros(3), bits) == 1


def test_rescaling_keeps_the_function(bars):
    """With ladders left out, weights / c with BatchNorm statistics and gain adapted compute the same."""
    network = build(_spec(bars, weights=(8,), activations=(None,)), 4)
    fit(network, bars, replace(OPTIONS, epochs=1))
    with torch.no_grad():
        for module in (*(block.layer for block in network.hidden), network.last):
            module.weight.mul_(0.3)
    rescaled = lower(network, network.spec, rescaled=False)
    rescale(rescaled)
    for net in (network, rescaled):
        for module in (*(block.layer for block in net.hidden), net.last):
            module.bits = None
    before, after = predict(network, bars.x_test), predict(rescaled, bars.x_test)
    # BatchNorm's epsilon and the few clipped weights are all that differs.
    assert np.abs(before - after).max() < 0.1 * before.std()
    assert rescaled.last.weight.abs().max().item() > 2 * network.last.weight.abs().max().item()


def test_cascade(bars, tmp_path):
    spec = _spec(bars, weights=(1,), activations=(1,))
    options = replace(OPTIONS, epochs=3)
    family = list(cascade(spec, bars, options, [3, 2, 1], checkpoints=tmp_path, name="bars"))
    assert [network.spec.precision.label for network, _ in family] == ["wfloatafloat", "w3a3", "w2a2", "w1a1"]
    assert accuracy(family[2][0], bars.x_test, bars.y_test) > 0.9
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"bars_{label}_unsigned.ckpt" for label in ("w1a1", "w2a2", "w3a3", "wfloatafloat")]
    (tmp_path / "bars_w1a1_unsigned.ckpt").unlink()
    again = list(cascade(spec, bars, options, [3, 2, 1], checkpoints=tmp_path, name="bars", resume=True))
    np.testing.assert_array_equal(predict(again[3][0], bars.x_test), predict(family[3][0], bars.x_test))
