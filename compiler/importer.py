"""QONNX file -> integer network: one walk over the graph that says of every node what it becomes.

`check_model` never raises for what is in a file: it reports every node, and all problems. `import_network` returns the
network or raises one ModelError with the first problem and their number. Nothing unsupported is ever dropped.
"""

from pathlib import Path

import numpy as np
import onnx

from .constant_planes import without_constant_planes
from .elementwise import view_of_quantized
from .graph import NOT_CONSTANT, QONNX_DOMAIN, QONNX_OPS, Graph, ModelError, attributes, evaluate, load_model
from .layers import Layer, Stage, Stream
from .network import Network
from .operators import HOST, OPERATORS, QUANTIZING, REASONS, VIEWS
from .quantizers import Quantizer, input_quantizer
from .report import NodeReport, Report
from .thresholds import ThresholdError
from .values import Blocked, Call, Constant, Host, Unsupported, Value

__all__ = ["check_model", "import_network"]

_AFTER_HOST = HOST | set(VIEWS) | {"Identity", "Cast"}


def import_network(path: str | Path) -> Network:
    """The integer network of a QONNX file; ModelError with the first problem and the count where there are any."""
    report = check_model(path)
    if report.network is None:
        problems = report.all_problems
        count = f" (first of {len(problems)} problems)" if len(problems) > 1 else ""
        raise ModelError(f"{path}: {problems[0]}{count}; 'dipole check {path}' lists every node")
    return report.network


def check_model(path: str | Path) -> Report:
    """Every node of a QONNX file with what it becomes; ModelError only where there is no model in the file."""
    return Importer(Graph(load_model(path)), str(path)).report()


class Importer:
    """One walk over a graph; `report` is its only use."""

    def __init__(self, graph: Graph, path: str) -> None:
        self.graph = graph
        self.path = path
        self.opset = graph.opset
        self.batch: int | None = None
        self.values: dict[str, Value] = {name: Constant(array) for name, array in graph.initializers.items()}
        self.rows = [NodeReport(node.name, node.op_type) for node in graph.nodes]
        self.problems = list(graph.problems)
        self.source: Stage | None = None
        self.source_shape: tuple[int, ...] = ()
        self.result: Stream | None = None
        self.result_name = ""

    # --- what operations see (values.Walk) ---

    def mark(self, node: int, text: str) -> None:
        if not self.rows[node].problem:
            self.rows[node].becomes = text

    def blame(self, node: int, reason: str) -> None:
        self.rows[node].status, self.rows[node].becomes = "unsupported", reason

    # --- the walk ---

    def report(self) -> Report:
        self._input()
        for index, node in enumerate(self.graph.nodes):
            if self.graph.live[index]:
                self._visit(index, node)
            else:
                self.rows[index].status, self.rows[index].becomes = "unused", "no output of the network needs it"
        quantizers = QUANTIZING - {"Trunc"}
        if not any(row.op in quantizers for row in self.rows):
            self.problems.append("no Quant node: a floating-point network; train it quantized and export QONNX")
        report = Report(self.path, self.rows, self.problems)
        last = self._output()
        if not report.all_problems and last is not None:
            report.network = self._network(last)
        return report

    def _input(self) -> None:
        if len(self.graph.inputs) != 1:
            names = ", ".join(repr(value.name) for value in self.graph.inputs)
            self.problems.append(f"the graph has {len(self.graph.inputs)} inputs ({names}), must have 1")
        for value in self.graph.inputs:
            self.values[value.name] = self._source(value)

    def _source(self, value: onnx.ValueInfoProto) -> Value:
        blocked = Blocked(value.name)
        kind = value.type.tensor_type
        if kind.elem_type != onnx.TensorProto.FLOAT:
            name = onnx.TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type else "unknown"
            self.problems.append(
                f"input {value.name!r} has type {name}: only float inputs that go through a Quant are supported"
            )
        dims = list(kind.shape.dim)
        sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims]
        if len(dims) not in (2, 3, 4) or any(size < 1 for size in sizes[1:]):
            shown = [dim.dim_value or dim.dim_param or "?" for dim in dims]
            self.problems.append(
                f"input {value.name!r} has shape {shown}: must be batch, channels, height, width (or batch, features), "
                "all but the batch of fixed size"
            )
            return blocked
        self.batch = sizes[0] or None
        self.source = Stage(name=value.name)
        self.source_shape = tuple(sizes[1:])
        padded = (sizes[1], *([1] * (4 - len(sizes))), *sizes[2:])
        return Stream.canonical(self.source, (padded[0], padded[1], padded[2]), self.source_shape)

    def _visit(self, index: int, node: onnx.NodeProto) -> None:
        row = self.rows[index]
        inputs = [self.values.get(name, Blocked(name)) if name else None for name in node.input]
        try:
            value, row.becomes = self._judge(index, node, inputs)
            if isinstance(value, Host):
                row.status = "host"
            elif isinstance(value, Blocked):
                row.status = "blocked"
        except Unsupported as error:
            row.status, row.becomes = "unsupported", str(error)
            value = self._behind(node, inputs, error.carry)
        except Exception as error:  # a malformed node must end in its report, not in a traceback
            row.status, row.becomes = "unsupported", " ".join(str(error).split())[:200] or type(error).__name__
            value = self._behind(node, inputs, None)
        for name in node.output:
            if name:
                self.values[name] = value

    def _judge(self, index: int, node: onnx.NodeProto, inputs: list[Value | None]) -> tuple[Value, str]:
        for value in inputs:
            if isinstance(value, Blocked):
                return value, f"not judged: node or tensor {value.node!r} before it is unsupported"
        streams = [name for name, value in zip(node.input, inputs, strict=True) if isinstance(value, Stream)]
        known = node.op_type in OPERATORS and node.domain == (QONNX_DOMAIN if node.op_type in QONNX_OPS else "")
        if any(isinstance(value, Host) for value in inputs) or (streams and self._is_host(index)):
            if any(isinstance(value, Stream) for value in inputs):
                self._end(streams[0])
            return Host(), "left to the host, after the output of the network"
        call = Call(index, self._pruned(node), attributes(node), inputs)
        if not streams and not (known and node.op_type in QONNX_OPS):
            return self._constant(node, call, inputs)
        if node.op_type == "Shape" and node.domain == "" and isinstance(inputs[0], Stream):
            shape = inputs[0].index.shape
            two_images = np.zeros((2, *shape[1:]), np.float32)
            return Constant(evaluate(node, [two_images], self.opset)[0]), "constant shape"
        self._branches(index, streams)
        if not known:
            where = f" of domain {node.domain!r}" if node.domain else ""
            raise Unsupported(REASONS.get(node.op_type, f"operation{where} is not supported"))
        return OPERATORS[node.op_type](self, call)

    def _constant(self, node: onnx.NodeProto, call: Call, inputs: list[Value | None]) -> tuple[Value, str]:
        if node.domain or node.op_type in NOT_CONSTANT or any(a.HasField("g") for a in node.attribute):
            raise Unsupported(REASONS.get(node.op_type, "operation is not supported, not even on constants"))
        first = inputs[0] if inputs else None
        quantized = isinstance(first, Constant) and first.quantized is not None
        if quantized and node.op_type in (*VIEWS, "Identity", "Cast", "Mul", "Div"):
            return view_of_quantized(self, call)
        arrays = [value.array if isinstance(value, Constant) else None for value in inputs]
        try:
            results = evaluate(node, arrays, self.opset)
        except Exception as error:
            raise Unsupported(f"constant cannot be computed ({' '.join(str(error).split())[:120]})") from None
        if len(results) > 1:
            for name, array in zip(filter(None, node.output), results, strict=True):
                self.values[name] = Constant(array)
        return Constant(results[0]), "constant"

    def _pruned(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """The node without outputs that nobody reads."""
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        read = set(self.graph.consumers) | {value.name for value in self.graph.outputs}
        outputs = [name if k == 0 or name in read else "" for k, name in enumerate(node.output)]
        del copy.output[:]
        copy.output.extend(outputs)
        return copy

    def _branches(self, index: int, streams: list[str]) -> None:
        """An activation may be read once; a second reader is a branch."""
        outputs = [value.name for value in self.graph.outputs]
        for name in streams:
            readers = sorted(set(self.graph.consumers.get(name, [])))
            if readers[0] != index and len(streams) == 1:
                first = self.graph.nodes[readers[0]].name
                raise Unsupported(
                    f"activation {name!r} is already used by node {first!r}: branches are not supported, "
                    "a network must be a chain of layers"
                )
            if name in outputs:
                raise Unsupported(f"activation {name!r} is an output of the network and read again: split the network")

    def _is_host(self, index: int) -> bool:
        """Whether a node starts what may be left to the host: it and all behind it."""
        if self.graph.nodes[index].op_type not in HOST or self.graph.nodes[index].domain:
            return False
        behind = [index]
        for at in behind:
            node = self.graph.nodes[at]
            if node.op_type not in _AFTER_HOST:
                return False
            behind += [reader for name in node.output for reader in self.graph.consumers.get(name, [])]
        return True

    def _behind(self, node: onnx.NodeProto, inputs: list[Value | None], carry: Stream | None) -> Value:
        """What to go on with behind an unsupported node."""
        streams = [value for value in inputs if isinstance(value, Stream)]
        if carry is None and streams and node.op_type not in VIEWS:
            if node.op_type in QUANTIZING:
                carry = streams[0]
            else:
                carry = self._reshaped(node, inputs, streams[0])
        if carry is None:
            return Blocked(node.name)
        if node.op_type in QUANTIZING:
            carry.stage.broken = True
        return carry

    def _reshaped(self, node: onnx.NodeProto, inputs: list[Value | None], stream: Stream) -> Stream | None:
        """Behind an unknown standard operation: an activation of the shape that the operation gives."""
        if node.domain or sum(isinstance(value, Stream) for value in inputs) > 1:
            return None
        arrays: list[np.ndarray | None] = []
        for value in inputs:
            if isinstance(value, Stream):
                arrays.append(np.ones(value.index.shape, np.float32))
            else:
                arrays.append(value.array if isinstance(value, Constant) else None)
        try:
            dims = evaluate(self._pruned(node), arrays, self.opset)[0].shape[1:]
        except Exception:
            return None
        if dims == stream.index.shape[1:]:
            return stream
        if len(dims) not in (1, 2, 3) or min(dims) < 1:
            return None
        shape = (dims[0], 1 if len(dims) < 3 else dims[1], dims[-1] if len(dims) > 1 else 1)
        stage = Layer(name=node.name, broken=True, weights=np.zeros((shape[0], 1, 1, 1)))
        return Stream.canonical(stage, shape, dims)

    # --- the end ---

    def _end(self, name: str) -> None:
        value = self.values[name]
        if self.result is not None and self.result_name != name:
            self.problems.append(f"the network has two outputs, {self.result_name!r} and {name!r}: must be one")
        elif isinstance(value, Stream):
            self.result, self.result_name = value, name

    def _output(self) -> Layer | None:
        """The last layer, with its problems reported."""
        for output in self.graph.outputs:
            value = self.values.get(output.name)
            if isinstance(value, Stream):
                self._end(output.name)
            elif isinstance(value, Constant):
                self.problems.append(f"output {output.name!r} does not depend on the input")
        if self.result is None:
            return None
        stage = self.result.stage
        if not isinstance(stage, Layer):
            self.problems.append("no Conv, Gemm or MatMul between input and output: there is no layer to run")
            return None
        if not self.result.in_order:
            self.problems.append(f"output {self.result_name!r} is transposed: give it as channels, rows, columns")
        if stage.quantizer is None:
            if not stage.broken and (problem := stage.affine_problem()):
                self.blame(*problem)
        else:
            if stage.pending_factor() is None:
                self.blame(stage.pending[0][0], "changes the values behind their quantizer: put a Quant behind it")
            if problem := stage.pool_problem():
                self.blame(stage.pool_node, problem)
        stage.tensors["output"] = self.result_name
        return stage

    def _network(self, last: Layer) -> Network | None:
        chain: list[Layer] = [last]
        while isinstance(before := chain[-1].before, Layer):
            chain.append(before)
        layers = []
        for layer in reversed(chain):
            try:
                layers.append(layer.build())
            except ThresholdError as error:
                self.blame(layer.node, str(error))
        source = self.source
        assert source is not None and isinstance(source.quantizer, Quantizer) and source.image is not None
        if len(layers) < len(chain):
            return None
        layers = without_constant_planes(layers)
        for stage, layer in zip(reversed(chain), layers, strict=True):
            if stage.quantizer and layer.output_format and (less := stage.quantizer.bits - layer.output_format.bits):
                self.rows[stage.node].becomes += f"; top bit of its codes is constant: {less:g} bit less"
        return Network(
            name=Path(self.path).stem,
            input_shape=source.image,
            input_format=source.quantizer.format,
            input_quantizer=input_quantizer(source.quantizer),
            layers=layers,
            qonnx_input=source.name,
            qonnx_input_shape=self.source_shape,
            qonnx_quantized_input=source.tensors.get("codes", ""),
        )
