"""Import a model, execute it with QONNX, infer it on integers, and compare every tensor."""

from pathlib import Path

import numpy as np
from onnx_builder import infer

from dipole.compiler.importer import import_network
from dipole.compiler.network import Network
from dipole.compiler.quantizers import quantize_input
from dipole.compiler.reference import layer_integers, reference_tensors


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
