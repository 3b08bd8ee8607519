"""Import a model, execute it with QONNX, infer it on integers, and compare every tensor; and what such models begin and
end with."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx_builder import Build, infer

from dipole.compiler.importer import check_model, import_network
from dipole.compiler.network import Network
from dipole.compiler.quantizers import quantize_input
from dipole.compiler.reference import layer_integers, reference_tensors

IMAGE = (3, 6, 6)


def images(*shape: int, seed: int = 0, n: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def start(b: Build, *dims: int, batch: Any = 1) -> str:
    return b.quant(b.input(*(dims or IMAGE), batch=batch), 0.05, 6)


def finish(b: Build, x: str, features: int, outputs: int = 4) -> str:
    """Flatten and a last layer."""
    w, zeros = b.weights(rng(9).normal(size=(outputs, features)) * 0.3), b.const(np.zeros(outputs))
    return b.op("Gemm", b.op("Flatten", x), w, *([zeros] if b.opset < 11 else []), transB=1)


def conv(b: Build, x: str, outputs: int = 5, inputs: int = 3, kernel: int = 3, **kwargs: Any) -> str:
    kwargs.setdefault("kernel_shape", [kernel, kernel])
    return b.op("Conv", x, b.weights(rng(1).normal(size=(outputs, inputs, kernel, kernel)) * 0.3), **kwargs)


def becomes(path: Path) -> dict[str, str]:
    return {row.op: row.becomes for row in check_model(path).nodes}


def agree(path: Path, images: np.ndarray, *, exact: bool = True) -> Network:
    """Assert that QONNX and integers agree on all tensors there are; `exact`: with exact sums in QONNX."""
    network = import_network(path)
    codes = quantize_input(network.input_quantizer, network.input_format, images.reshape(-1, *network.input_shape))
    tensors = reference_tensors(path, images, exact=network if exact else None)
    form, name = network.input_format, network.qonnx_quantized_input
    halved = form.is_odd and not network.input_quantizer.bipolar and network.input_quantizer.lowest != -1
    unit = network.input_quantizer.scale / (2 if halved else 1)
    real = (form.alpha * codes.astype(float) + form.delta) * unit
    np.testing.assert_allclose(tensors[name].reshape(real.shape), real, rtol=1e-5, atol=1e-5 * unit)
    for layer, mine, theirs in zip(
        network.layers, infer(network, codes), layer_integers(network, tensors), strict=True
    ):
        y, made, pooled = mine
        assert theirs.accumulators is not None
        np.testing.assert_array_equal(theirs.accumulators, y, err_msg=f"accumulators of {layer.name}")
        for kind, got, expected in (("codes", theirs.codes, made), ("pool", theirs.pooled, pooled)):
            if got is not None:
                np.testing.assert_array_equal(got, expected, err_msg=f"{kind} of {layer.name}")
        assert layer.thresholds is None or theirs.codes is not None or theirs.pooled is not None
    last, output = network.layers[-1], tensors[network.layers[-1].qonnx_tensors["output"]]
    y, made, pooled = infer(network, codes)[-1]
    if last.thresholds is None:
        assert last.output_scale is not None and last.output_bias is not None
        real = y * last.output_scale[:, None, None].astype(float) + last.output_bias[:, None, None]
        largest = np.abs(last.output_scale).max() * max(1, np.abs(y).max()) + np.abs(last.output_bias).max()
    else:
        assert pooled is not None and last.output_format is not None
        real = (last.output_format.alpha * pooled.astype(float) + last.output_format.delta) * last.output_code_scale
        largest = last.output_code_scale * 256
    np.testing.assert_allclose(output.reshape(real.shape), real, rtol=1e-5, atol=1e-5 * largest)
    return network
