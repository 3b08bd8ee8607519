# pyright: reportMissingImports=false
"""Quantizers against the NumPy reference: codes, ties, ranges, planes, gradients."""

import numpy as np
import pytest
import torch

from dipole.golden import encoding
from dipole.golden.errors import DipoleError
from dipole.train import quantizers
from dipole.train.layers import InputQuantizer, QuantActivation, QuantConv2d, QuantLinear, clip_weights

pytestmark = pytest.mark.train
BITS = range(1, 9)


def _reals(seed=0):
    """Around and beyond the range, the ends and zero among them."""
    fixed = np.array([-2, -1.001, -1, -0.999, 0, 0.999, 1, 1.001, 2])
    return np.concatenate([fixed, np.random.default_rng(seed).uniform(-1.3, 1.3, 500)]).astype(np.float32)


@pytest.mark.parametrize("bits", BITS)
def test_hard_ladder_is_the_golden_one(bits):
    x = _reals()
    real = quantizers.hard_ladder(torch.from_numpy(x), bits)
    codes = encoding.hard_ladder(x, bits)
    np.testing.assert_array_equal(quantizers.codes_of(real, bits).numpy(), codes)
    levels = (1 << bits) - 1
    np.testing.assert_allclose(real.numpy(), encoding.odd(codes, bits) / levels, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", BITS)
def test_ladder_ties_go_upward(bits):
    levels = (1 << bits) - 1
    ties = torch.tensor([(2 * k - levels - 1) / levels for k in range(1, levels + 1)], dtype=torch.float64)
    codes = quantizers.codes_of(quantizers.hard_ladder(ties + 1e-12, bits), bits)
    np.testing.assert_array_equal(codes.numpy(), np.arange(1, levels + 1))
    codes = quantizers.codes_of(quantizers.hard_ladder(ties - 1e-9, bits), bits)
    np.testing.assert_array_equal(codes.numpy(), np.arange(levels))
    assert quantizers.hard_ladder(torch.zeros(1), bits) > 0, "zero is a tie in the middle of every ladder"


@pytest.mark.parametrize("bits", BITS)
def test_unsigned_ladder(bits):
    x = _reals(1)
    levels = (1 << bits) - 1
    codes = quantizers.codes_of(quantizers.unsigned_ladder(torch.from_numpy(x), bits), bits, "unsigned")
    np.testing.assert_array_equal(codes.numpy(), np.clip(np.floor(levels * x.astype(np.float64) + 0.5), 0, levels))


@pytest.mark.parametrize("bits", BITS)
def test_encoders_agree_for_every_code(bits):
    levels = (1 << bits) - 1
    codes = torch.arange(levels + 1)
    by_bits = quantizers.planes(codes, bits)
    by_sines = quantizers.mbit_encoder((2 * codes - levels) / levels, bits)
    assert torch.equal(by_bits, by_sines)
    np.testing.assert_array_equal(by_bits.numpy(), encoding.mbit_encoder((2 * codes.numpy() - levels) / levels, bits))
    odd = (by_bits * 2 ** torch.arange(bits)).sum(dim=-1)
    np.testing.assert_array_equal(odd.numpy(), encoding.odd(codes.numpy(), bits))


@pytest.mark.parametrize("kind,low,high", [("unsigned", 0, 1), ("odd", -1, 1), ("odd-relu", 0, 1)])
@pytest.mark.parametrize("bits", [None, 2, 8])
def test_gradient_is_that_of_the_clipping(bits, kind, low, high):
    x = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.3, 1.0, 1.5], requires_grad=True)
    quantizers.activation(x, bits, kind).backward(torch.full((7,), 3.0))
    assert x.grad is not None
    # The ends belong to the range, as in PyTorch's own clamp.
    assert x.grad.tolist() == [3.0 if low <= v <= high else 0.0 for v in x.tolist()]


@pytest.mark.parametrize("bits", range(2, 9))
def test_hrelu_on_odd_codes_wastes_the_lower_half(bits):
    x = torch.from_numpy(_reals(2))
    codes = quantizers.codes_of(quantizers.activation(x, bits, "odd-relu"), bits)
    assert set(codes.tolist()) <= set(range(1 << (bits - 1), 1 << bits))
    assert (quantizers.planes(codes, bits)[:, -1] == 1).all()
    unsigned = quantizers.codes_of(quantizers.activation(x, bits, "unsigned"), bits, "unsigned")
    assert unsigned.min() == 0 and unsigned.max() == (1 << bits) - 1


@pytest.mark.parametrize("bits", [0, 9, -3])
def test_bits_outside(bits):
    for make in (
        lambda: quantizers.hard_ladder(torch.zeros(1), bits),
        lambda: quantizers.unsigned_ladder(torch.zeros(1), bits),
        lambda: QuantConv2d(1, 1, 3, bits=bits),
        lambda: QuantLinear(1, 1, bits=bits),
        lambda: QuantActivation(bits, "odd"),
        lambda: InputQuantizer(bits),
    ):
        with pytest.raises(DipoleError, match=rf"{bits} bits, must be 1 to 8"):
            make()


@pytest.mark.parametrize("bits", [1, 2, 5, 8, None])
def test_layers_are_drop_in(bits):
    torch.manual_seed(3)
    x = torch.randn(2, 3, 6, 5)
    conv = QuantConv2d(3, 4, (3, 2), stride=2, padding=1, bits=bits)
    plain = torch.nn.Conv2d(3, 4, (3, 2), stride=2, padding=1)
    plain.weight.data = conv.quantized_weight().detach()
    plain.bias = conv.bias
    torch.testing.assert_close(conv(x), plain(x))
    dense = QuantLinear(5, 7, bits=bits)
    torch.testing.assert_close(dense(x), x @ dense.quantized_weight().T + dense.bias)
    if bits is not None:
        levels = (1 << bits) - 1
        odd = conv.quantized_weight() * levels
        assert torch.allclose(odd, odd.round(), atol=1e-4) and bool(
            (odd.round() % 2 == 1).logical_or(odd.round() % 2 == -1).all()
        )


def test_weights_are_clipped_and_learn():
    torch.manual_seed(0)
    dense = QuantLinear(4, 2, bits=2, gain=True)
    optimizer = torch.optim.SGD(dense.parameters(), lr=5.0)
    before = dense.weight.detach().clone()
    dense(torch.ones(3, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, dense.weight)
    clip_weights(dense)
    assert dense.weight.detach().abs().max().item() <= 1
