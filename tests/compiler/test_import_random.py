"""Random networks: any kernel, stride, padding, format and slope; QONNX's execution against the imported integers."""

from pathlib import Path

import numpy as np
import pytest
from importing import agree
from onnx_builder import Build

ROUNDINGS = ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"]


class Random:
    """Random parts of a network that QONNX can execute and Dipole supports."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        domain = str(self.rng.choice(["qonnx.custom_op.general", "onnx.brevitas"]))
        self.b = Build(int(self.rng.integers(11, 22)), domain)

    def pick(self, *values: int) -> int:
        return int(self.rng.choice(values))

    def quantize(self, x: str, spread: float, *, weight: int | None = None) -> str:
        """A quantizer of random format; `spread`: standard deviation of what it quantizes; `weight`: out channels."""
        rng, b = self.rng, self.b
        bits = self.pick(1, 2, 3, 4, 5, 6, 7, 8)
        kind = str(rng.choice(["signed", "narrow", "unsigned", "odd", "zero point", "bipolar"]))
        scale = spread * 4 / 2**bits * rng.uniform(0.7, 1.5)
        if rng.random() < 0.3:
            scale = 2.0 ** np.round(np.log2(scale))
        if weight is not None and rng.random() < 0.6:
            scale = scale * rng.uniform(0.5, 1.5, weight).reshape(self.along)
        if kind == "bipolar" or (bits == 1 and kind in ("signed", "narrow")):
            return b.bipolar(x, scale) if rng.random() < 0.5 else b.quant(x, scale, 1)
        signed, zero = int(kind in ("signed", "narrow")), 0.0
        if kind == "odd":
            signed = self.pick(0, 1)
            zero = (2**bits - 1) / 2 - signed * 2 ** (bits - 1)
            if bits == 1:
                signed, zero = 0, 0.5
        elif kind == "zero point":
            zero = float(rng.integers(0, 2**bits))
        rounding = str(rng.choice(ROUNDINGS)) if rng.random() < 0.5 else "ROUND"
        return b.quant(x, scale, bits, zero=zero, signed=signed, narrow=int(kind == "narrow"), rounding=rounding)

    def weights(self, shape: tuple[int, ...], out_axis: int) -> str:
        self.along = [-1 if axis == out_axis else 1 for axis in range(len(shape))]
        return self.quantize(self.b.const(self.rng.normal(size=shape)), 1.0, weight=shape[out_axis])

    def activation(self, y: str, channels: int, spread: float, image: bool) -> str:
        """Random steps and a quantizer behind a layer whose accumulators have this spread."""
        rng, b = self.rng, self.b
        shape = (channels, 1, 1) if image else (channels,)
        x = b.op("Div", y, b.const(spread))
        for _ in range(self.pick(0, 1, 2, 3)):
            step = self.pick(0, 1, 2, 3, 4)
            if step == 0:
                x = b.batch_norm(x, rng, channels)
            elif step == 1:
                x = b.op("Relu", x)
            elif step == 2:
                x = b.op("Clip", x, b.const(-1.0), b.const(1.5))
            elif step == 3:
                x = b.op("Mul", x, b.const(rng.uniform(-1.5, 1.5, shape)))
            else:
                x = b.op("Add", b.const(rng.normal(size=shape) * 0.3), x)
        return self.quantize(x, 1.0)

    def network(self) -> tuple[str, tuple[int, int, int]]:
        rng, b = self.rng, self.b
        channels, height, width = self.pick(1, 2, 3, 5), self.pick(5, 6, 9), self.pick(5, 7, 8)
        image = (channels, height, width)
        x = self.quantize(b.input(*image, batch=self.pick(1, 3, 540)), 1.0)
        for _ in range(self.pick(1, 2)):
            kernel = (self.pick(1, 2, 3, 4, 5), self.pick(1, 2, 3, 4, 5))
            pads = [self.pick(0, 1, 2) for _ in range(4)]
            stride = (self.pick(1, 2, 3), self.pick(1, 2, 3))
            room = (height + pads[0] + pads[2] - kernel[0], width + pads[1] + pads[3] - kernel[1])
            if min(room) < 0:
                continue
            outputs = self.pick(1, 3, 6)
            w = self.weights((outputs, channels, *kernel), 0)
            bias = [b.const(rng.normal(size=outputs))] if rng.random() < 0.5 else []
            y = b.op("Conv", x, w, *bias, pads=pads, strides=list(stride), kernel_shape=list(kernel))
            spread = float(np.sqrt(channels * kernel[0] * kernel[1]))
            x = self.activation(y, outputs, spread, image=True)
            channels, height, width = outputs, room[0] // stride[0] + 1, room[1] // stride[1] + 1
            if min(height, width) >= 3 and rng.random() < 0.5:
                pool, step = (self.pick(1, 2, 3), self.pick(2, 3)), self.pick(1, 2)
                x = b.op("MaxPool", x, kernel_shape=list(pool), strides=[step, step])
                height, width = (height - pool[0]) // step + 1, (width - pool[1]) // step + 1
        features = channels * height * width
        x = b.op("Flatten", x)
        for outputs in [4, 3][: self.pick(1, 2)]:
            if rng.random() < 0.5:
                y = b.op("Gemm", x, self.weights((outputs, features), 0), b.const(rng.normal(size=outputs)), transB=1)
            else:
                y = b.op("MatMul", x, self.weights((features, outputs), 1))
            x, features = y, outputs
            if outputs == 4 and rng.random() < 0.7:
                x = self.activation(y, outputs, float(np.sqrt(features)), image=False)
            else:
                break
        return x, image


def run(seed: int, folder: Path) -> None:
    made = Random(seed)
    output, image = made.network()
    path = made.b.save(folder, output, static_inputs=bool(seed % 2))
    agree(path, made.rng.normal(size=(3, *image)).astype(np.float32))


@pytest.mark.parametrize("seed", range(40))
def test_random_network(seed: int, tmp_path: Path) -> None:
    run(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_many_random_networks(seed: int, tmp_path: Path) -> None:
    run(seed, tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_powers_of_two_are_equal_without_exact_sums(seed: int, tmp_path: Path) -> None:
    """Where all scales are powers of two, QONNX's own float32 sums are exact, ties included."""
    rng = np.random.default_rng(seed)
    b = Build()
    bits = int(rng.integers(1, 9))
    x = b.quant(b.input(3, 6, 6), 0.0625, 6)
    w = b.weights(rng.normal(size=(5, 3, 3, 3)), 2.0 ** rng.integers(-4, -1, (5, 1, 1, 1)), int(rng.integers(2, 9)))
    y = b.op("Add", b.op("Conv", x, w), b.const(rng.integers(-8, 8, (5, 1, 1)) / 16))
    y = b.op("Mul", y, b.const(rng.choice([-1, 1, 0.5], (5, 1, 1))))
    x = b.quant(y, 8 / 2**bits, bits, signed=0, rounding=ROUNDINGS[seed % 8])
    y = b.op("Gemm", b.op("Flatten", x), b.weights(rng.normal(size=(4, 80)), 0.25), transB=1)
    agree(b.save(tmp_path, y), rng.normal(size=(4, 3, 6, 6)).astype(np.float32), exact=False)
