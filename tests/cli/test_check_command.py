"""`dipole check`: the table, the exit codes, and never a traceback."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from dipole.cli.check import check
from dipole.compiler.graph import ModelError

app = typer.Typer()
app.command()(check)


def model(folder: Path, weights_quantized: bool) -> Path:
    constants = {"s": 0.1, "z": 0.0, "b": 4.0, "w": np.random.default_rng(0).normal(size=(6, 3))}
    quant = {"domain": "qonnx.custom_op.general", "signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    nodes = [helper.make_node("Quant", ["x", "s", "z", "b"], ["xq"], name="in [quant]", **quant)]
    if weights_quantized:
        nodes.append(helper.make_node("Quant", ["w", "s", "z", "b"], ["wq"], name="wq", **quant))
    nodes.append(helper.make_node("MatMul", ["xq", "wq" if weights_quantized else "w"], ["y"], name="fc"))
    nodes.append(helper.make_node("Softmax", ["y"], ["p"], name="soft"))
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("qonnx.custom_op.general", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), folder / "m.onnx")
    return folder / "m.onnx"


def test_supported(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(model(tmp_path, True))])
    assert result.exit_code == 0
    for text in ("in [quant]", "input quantizer (4 bit two's complement, scale 0.1)", "weights of layer fc (4 bit",
                 "layer fc: 6x1x1 -> 3x1x1, dense", "left to the host", "4 nodes become 1 layers",
                 "nothing is unsupported"):  # fmt: skip
        assert text in result.output, text


def test_unsupported(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(model(tmp_path, False))])
    assert result.exit_code == 1
    assert "unsupported: its weights are not quantized" in result.output
    assert "1 problem: Dipole cannot run this model." in " ".join(result.output.split())


@pytest.mark.parametrize("content", [None, b"", b"junk" * 99])
def test_no_model_is_an_error_of_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "j.onnx"
    if content is not None:
        path.write_bytes(content)
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code != 0 and isinstance(result.exception, ModelError)
    assert "\n" not in str(result.exception)
