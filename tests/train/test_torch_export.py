# pyright: reportMissingImports=false
"""Exported files: standard QONNX that the importer takes whole and that every stage gives the same classes for."""

import numpy as np
import onnx
import pytest
import torch

from dipole.compiler.importer import check_model, import_network
from dipole.compiler.reference import reference_tensors
from dipole.golden.errors import DipoleError
from dipole.train.evaluate import golden_scores
from dipole.train.export import export_qonnx, to_qonnx
from dipole.train.fit import predict
from dipole.train.networks import build
from dipole.train.precision import Precision
from dipole.train.quantizers import codes_of
from dipole.train.spec import make_spec

pytestmark = pytest.mark.train


def _network(architecture, shape, precision, seed=0, hidden=None):
    """Random weights, and BatchNorm with statistics of its own and slopes of both signs."""
    network = build(make_spec(architecture, shape, 5, precision, hidden), seed)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    with torch.no_grad():
        for block in network.hidden:
            norm = block.norm
            norm.weight.normal_(0, 0.6, generator=generator)
            norm.bias.normal_(0.3, 0.3, generator=generator)
        network.last.bias.normal_(0, 1, generator=generator)
        for _ in range(30):
            network(torch.rand(32, *shape, generator=generator))
    return network.eval()


CASES = [
    ("cnn", (1, 8, 8), Precision((2,), (2,), "unsigned")),
    ("cnn", (3, 7, 5), Precision((1,), (1,), "odd")),
    ("cnn", (1, 8, 8), Precision((1,), (1,), "unsigned", 1)),
    ("cnn", (2, 14, 14), Precision((8, 1, 3), (4, 2), "odd")),
    ("cnn", (1, 6, 6), Precision((3,), (3,), "odd-relu")),
    ("mlp", (1, 4, 4), Precision((2,), (4,), "odd", 4)),
    ("mlp", (13,), Precision((4, 1, 8), (1, 5), "unsigned")),
    ("mlp", (9,), Precision((1,), (2,), "odd-relu", 3)),
]


@pytest.mark.parametrize("architecture,shape,precision", CASES)
def test_all_stages_give_the_same_class(architecture, shape, precision, tmp_path):
    network = _network(architecture, shape, precision)
    path = tmp_path / "network.onnx"
    export_qonnx(network, path)
    report = check_model(path)
    assert report.ok, report.all_problems
    imported = import_network(path)
    spread = precision.spread(network.spec.layers)
    assert [layer.weight_format.bits for layer in imported.layers] == list(spread.weights)
    assert all(layer.weight_format.is_odd for layer in imported.layers)
    constant = precision.kind == "odd-relu"  # the top plane, which the importer takes off
    stored = [layer.output_format and layer.output_format.bits + constant for layer in imported.layers[:-1]]
    assert stored == list(spread.activations)

    x = np.random.default_rng(1).random((60, *shape), dtype=np.float32)
    scores = predict(network, x)
    by_qonnx = reference_tensors(path, x)["scores"]
    by_golden = golden_scores(imported, x)
    assert (scores.std(axis=0) > 0).all(), "a network that gives the same for every input shows nothing"
    np.testing.assert_array_equal(by_qonnx.argmax(axis=1), scores.argmax(axis=1))
    np.testing.assert_array_equal(by_golden.argmax(axis=1), scores.argmax(axis=1))
    # One code more or less, from a float32 sum at a threshold, would move a score by far more.
    close = np.isclose(by_golden, scores, rtol=1e-4, atol=1e-4 * np.abs(scores).max()).all(axis=1)
    assert close.mean() > 0.95


@pytest.mark.parametrize("bits", range(1, 9))
def test_imported_weights_are_the_codes(bits, tmp_path):
    network = _network("cnn", (2, 6, 6), Precision((bits,), (2,)), seed=bits)
    export_qonnx(network, tmp_path / "a.onnx")
    layers = import_network(tmp_path / "a.onnx").layers
    modules = [block.layer for block in network.hidden]
    for layer, module in zip(layers, modules, strict=False):
        codes = codes_of(module.quantized_weight().detach(), bits).numpy()
        # A negative slope of BatchNorm may be taken as the complement of the weights.
        np.testing.assert_array_equal(layer.weights, codes)


def test_the_form_of_the_file():
    model = to_qonnx(_network("cnn", (1, 8, 8), Precision((2,), (1,), "odd")), "n", {"dipole.data": "digits"})
    onnx.checker.check_model(model, check_custom_domain=False)
    initializers = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    nodes = {node.output[0]: node for node in model.graph.node}
    ladder = nodes["layer1_weight_codes"]
    assert (ladder.op_type, ladder.domain) == ("Quant", "qonnx.custom_op.general")
    scale, zero_point, bits = (float(initializers[name]) for name in ladder.input[1:])
    assert (scale, zero_point, bits) == (np.float32(2 / 3), 1.5, 2)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in ladder.attribute}
    assert attributes == {"signed": 0, "narrow": 0, "rounding_mode": b"HALF_UP"}
    assert nodes["layer1_codes"].op_type == "BipolarQuant"
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        "license": "Apache-2.0",
        "dipole.data": "digits",
    }


def test_full_precision_is_refused(tmp_path):
    network = build(make_spec("mlp", (4,), 2, Precision((2,), (None,))))
    with pytest.raises(DipoleError, match="layers in full precision has no integer form"):
        export_qonnx(network, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []
