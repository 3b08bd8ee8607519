"""Loading of ONNX files and a normal form of their graphs, whatever exporter wrote them.

`load_model` reads a file or says in one line why it cannot. `Graph` is the normal form: local functions inlined,
parameters taken out of the graph inputs, the domains of QONNX operations unified, nodes named and in topological order,
nodes that no output needs marked. `evaluate` runs one standard node on arrays with onnxruntime, as QONNX does.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..golden.errors import DipoleError

__all__ = ["Graph", "ModelError", "QONNX_DOMAIN", "attributes", "evaluate", "load_model", "set_batch"]

QONNX_DOMAIN = "qonnx.custom_op.general"
QONNX_DOMAINS = {"", QONNX_DOMAIN, "onnx.brevitas", "finn.custom_op.general", "qonnx", "finn"}
"""Domains under which exporters have written QONNX operations."""
QONNX_OPS = {"Quant", "IntQuant", "BipolarQuant", "FloatQuant", "MultiThreshold", "Trunc"}
OPSETS = range(9, 22)
"""Versions of the standard operations whose meaning the importer knows."""
NOT_CONSTANT = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
"""Standard operations whose result is not a function of their inputs."""


class ModelError(DipoleError):
    """A model file that cannot be used; the message names the file and, where there is one, the node."""


def load_model(path: str | Path) -> onnx.ModelProto:
    """The model in an ONNX file, with external data; raises ModelError in one line where there is none."""
    path = Path(path)
    if not path.exists():
        raise ModelError(f"{path}: no such file: give the path of a QONNX model (.onnx)")
    if not path.is_file():
        raise ModelError(f"{path}: not a file: give the path of a QONNX model (.onnx)")
    try:
        if path.stat().st_size == 0:
            raise ModelError(f"{path}: the file is empty: export the model again")
        model = onnx.load(path)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or _line(error)}") from None
    except Exception as error:  # protobuf, external data and codecs raise many kinds
        raise ModelError(f"{path}: not an ONNX model, or a damaged one ({_line(error)}): export it again") from None
    if not model.graph.node:
        raise ModelError(f"{path}: not an ONNX model, or one without nodes: export it again")
    if not model.graph.output:
        raise ModelError(f"{path}: the graph has no output; the file is damaged or truncated: export it again")
    return model


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:120]


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node as Python values, byte strings decoded."""
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode(errors="replace") if isinstance(v, bytes) else v for k, v in values.items()}


class Graph:
    """Normal form of a model.

    Members: `model` (the normalised copy), `nodes` in topological order with unique names, `live` (one flag per node),
    `initializers` (name -> array), `inputs` (real inputs, without parameters), `outputs`, `opset` of the standard
    operations, `consumers` (tensor -> live nodes that read it, graph outputs not counted), `problems` of the graph
    as a whole.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.problems: list[str] = []
        self.model = _copy(model)
        graph = self.model.graph
        self.initializers = self._initializers(graph)
        parameters = [value for value in graph.input if value.name in self.initializers]
        for value in parameters:
            graph.input.remove(value)
        self.inputs = list(graph.input)
        self.outputs = list(graph.output)
        self.opset = self._opset()
        self._unify_domains(graph)
        self._sort(graph)
        self._name(graph)
        self.nodes = list(graph.node)
        self.live = self._liveness()
        self.consumers: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            if self.live[index] and node.op_type != "Shape":
                for name in node.input:
                    self.consumers.setdefault(name, []).append(index)

    def _initializers(self, graph: onnx.GraphProto) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for tensor in graph.initializer:
            try:
                arrays[tensor.name] = numpy_helper.to_array(tensor)
            except Exception as error:
                self.problems.append(f"initializer {tensor.name!r} cannot be read ({_line(error)}): export it again")
        for tensor in graph.sparse_initializer:
            self.problems.append(f"initializer {tensor.values.name!r} is sparse: export it as a dense tensor")
        return arrays

    def _opset(self) -> int:
        versions = [entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")]
        if not versions:
            self.problems.append(f"the file names no opset of standard operations: {OPSETS[0]}..{OPSETS[-1]} are read")
            return OPSETS[-1]
        if max(versions) not in OPSETS:
            self.problems.append(
                f"opset {max(versions)} is not supported: export with an opset in {OPSETS[0]}..{OPSETS[-1]}"
            )
        return max(versions)

    def _unify_domains(self, graph: onnx.GraphProto) -> None:
        used = False
        for node in graph.node:
            if node.op_type in QONNX_OPS and node.domain in QONNX_DOMAINS:
                node.domain = QONNX_DOMAIN
                used = True
            elif node.domain == "ai.onnx":
                node.domain = ""
        for entry in self.model.opset_import:
            if entry.domain == "ai.onnx":
                entry.domain = ""
        known = [entry for entry in self.model.opset_import if entry.domain == QONNX_DOMAIN]
        for entry in known:
            entry.version = 1
        if used and not known:
            self.model.opset_import.append(helper.make_opsetid(QONNX_DOMAIN, 1))

    def _sort(self, graph: onnx.GraphProto) -> None:
        known = {value.name for value in graph.input} | set(self.initializers) | {""}
        made: dict[str, int] = {}
        for node in graph.node:
            for name in node.output:
                if name and (name in made or name in known):
                    self.problems.append(f"tensor {name!r} is defined twice: the file is damaged")
                made[name] = 1
        waiting, ordered = list(graph.node), []
        while waiting:
            rest = []
            for node in waiting:
                if all(name in known or name not in made for name in node.input):
                    ordered.append(node)
                    known.update(node.output)
                else:
                    rest.append(node)
            if len(rest) == len(waiting):
                self.problems.append(f"the graph has a cycle through node {rest[0].name or rest[0].op_type!r}")
                ordered += rest
                break
            waiting = rest
        for name in sorted({name for node in ordered for name in node.input} - known - set(made)):
            self.problems.append(f"tensor {name!r} is used but defined nowhere; the file is damaged or truncated")
        for value in self.outputs:
            if value.name not in known | set(made):
                self.problems.append(f"output {value.name!r} is defined nowhere; the file is damaged or truncated")
        copies = [_copy(node) for node in ordered]
        del graph.node[:]
        graph.node.extend(copies)

    @staticmethod
    def _name(graph: onnx.GraphProto) -> None:
        taken = [node.name for node in graph.node]
        count: dict[str, int] = {}
        for node in graph.node:
            number = count.get(node.op_type, 0)
            count[node.op_type] = number + 1
            if not node.name or taken.count(node.name) > 1:
                base = node.name or node.op_type
                name = f"{base}_{number}"
                while name in taken:
                    name += "_"
                taken.append(name)
                node.name = name

    def _liveness(self) -> list[bool]:
        needed = {value.name for value in self.outputs}
        live = [False] * len(self.nodes)
        for index in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[index]
            if any(name in needed for name in node.output if name):
                live[index] = True
                needed.update(name for name in node.input if name)
        return live


def _copy(message: Any) -> Any:
    """A copy of a protobuf message; of a model also with its local functions inlined."""
    copy = type(message)()
    copy.CopyFrom(message)
    if isinstance(copy, onnx.ModelProto) and copy.functions:
        from onnx import inliner

        copy = inliner.inline_local_functions(copy)
    return copy


def evaluate(node: onnx.NodeProto, arrays: list[np.ndarray | None], opset: int) -> list[np.ndarray]:
    """Outputs of one standard node on arrays (None where an optional input is absent), by onnxruntime on the CPU."""
    import onnxruntime

    feeds = {f"i{k}": np.asarray(array) for k, array in enumerate(arrays) if array is not None}
    single = _copy(node)
    del single.input[:], single.output[:]
    single.input.extend(f"i{k}" if array is not None else "" for k, array in enumerate(arrays))
    single.output.extend(f"o{k}" if name else "" for k, name in enumerate(node.output))
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in single.output if name]
    graph = helper.make_graph([single], "single", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(result) for result in session.run(None, feeds)]


def set_batch(graph: Graph, batch: int) -> onnx.ModelProto:
    """A copy of a graph's model for another batch size: in the input, and in constant shapes of Reshape."""
    model = _copy(graph.model)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    old = dims[0].dim_value if dims[0].HasField("dim_value") else 1
    dims[0].Clear()
    dims[0].dim_value = batch
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    constants = dict(graph.initializers)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.domain == "":
            constants[node.output[0]] = evaluate(node, [], graph.opset)[0]
    moving = {model.graph.input[0].name}
    for node in model.graph.node:
        if not moving.intersection(node.input):
            continue
        if node.op_type == "Reshape" and node.input[0] in moving and node.input[1] in constants:
            shape = constants[node.input[1]].copy()
            if shape.size and shape[0] == old:
                shape[0] = batch
                name = f"{node.name}_shape_for_batch_{batch}"
                model.graph.initializer.append(numpy_helper.from_array(shape, name))
                node.input[1] = name
        if node.op_type != "Shape":
            moving.update(node.output)
    return model
