"""Integer network -> program for one configuration: memory map, tiles, ladders, instructions; all proofs on the way.

Main memory from word 0 on holds filters, ladder parameters, constants and instructions (the image); activation tensors
stand at its end. Each tensor has a place of its own if all fit; else two places take turns.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..golden.encoding import AccumulatorMap, EncodingError, dummy_column
from ..golden.errors import DipoleError
from ..golden.ladder import Ladders
from ..golden.layers import reach
from ..rtl.config import Config
from .assemble import assemble
from .ladder import check_accumulators, constant_ladders, find_ladders, pack_ladder
from .layout import CompileError, RawLayout, TensorLayout, filter_words
from .lowering import Lowered, lower, lower_patches
from .network import Conv, Network
from .order import order
from .program import InputInfo, LayerInfo, OutputInfo, Program
from .schedule import LayerJob, Schedule
from .tiling import Tiling, check_fields, choose_tiling
from .tokens import place_tokens

__all__ = ["compile_network"]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Mapped:
    """A layer with its tiling and its constants."""

    low: Lowered
    tiling: Tiling
    amap: AccumulatorMap
    filters: list[bytes]
    """Of each column tile."""
    blocks: list[int]
    """Chunks from the start of a tile's filters to each block that a LOADW brings."""
    ladders: bytes


class _Image:
    """Constants of a program, each at the start of a main memory word."""

    def __init__(self, config: Config):
        self.config = config
        self.data = bytearray()

    def add(self, data: bytes) -> int:
        """Append; returns the byte address."""
        at = len(self.data)
        size = self.config.mem_width // 8
        self.data += data.ljust(-(-len(data) // size) * size, b"\0")
        return at

    @property
    def words(self) -> int:
        return len(self.data) * 8 // self.config.mem_width


def _filters(low: Lowered, tiling: Tiling) -> tuple[list[bytes], list[int]]:
    """Filter bytes of each column tile, and where its blocks begin."""
    config, planes = low.config, low.weight_format.bits
    flat = low.weights.reshape(low.out_channels, -1).astype(np.int64)
    flat = np.c_[flat, np.full((low.out_channels, 2), low.weight_format.levels)]  # index -2 filler, -1 dummy channel
    lanes = flat[:, tiling.lanes]
    total = tiling.column_tiles * config.columns
    code, _, _ = dummy_column(low.weight_format, tiling.lanes.size, low.groups * config.planes)
    dummies = np.full((total - low.out_channels, *lanes.shape[1:]), code)
    tiles = np.concatenate([lanes, dummies]).reshape(tiling.column_tiles, config.columns, *lanes.shape[1:])
    if not tiling.split:
        return [filter_words(tile, planes) for tile in tiles], [0]
    filters, blocks, size = [], [], 0
    bounds = np.cumsum([0, *tiling.words])
    for words in tiling.words:
        for _ in range(planes):
            blocks.append(size * config.chunks_per_lanes)
            size += config.columns * words
    for tile in tiles:
        parts = [
            filter_words(tile[:, bounds[s] : bounds[s + 1]] >> j & 1, 1)
            for s in range(len(tiling.words))
            for j in range(planes)
        ]
        filters.append(b"".join(parts))
    return filters, blocks


def _map_layer(low: Lowered, pad_code: int, rolling: bool) -> _Mapped:
    """Tiling, filters, ladders and the proofs; `pad_code` is what dummy channels of the output hold."""
    layer, config = low.layer, low.config
    check_fields(low)
    tiling = choose_tiling(low, rolling=rolling)
    try:
        amap = low.accumulator_map(tiling.lanes)
        filters, blocks = _filters(low, tiling)
    except EncodingError as error:
        raise CompileError(f"layer {layer.name!r}: {error}") from None
    if amap.sum_enable and not config.sum_column:
        raise CompileError(
            f"layer {layer.name!r}: its weights are no sums of -1 and +1 and need the activation-sum column, which "
            f"configuration {config.name!r} lacks (sum_column); use a configuration that has it, or odd weights"
        )
    check_accumulators(layer, amap, config)
    ladders = b""
    if layer.thresholds is not None:
        _, lowest, highest = dummy_column(low.weight_format, tiling.lanes.size, low.groups * config.planes)
        dummies = tiling.column_tiles * config.columns - low.out_channels
        parts = [find_ladders(layer, amap, config)]
        if dummies:
            parts.append(constant_ladders(pad_code, dummies, lowest, highest, config))
        ladders = pack_ladder(Ladders.concatenate(parts), config).astype("<u4").tobytes()
    return _Mapped(low=low, tiling=tiling, amap=amap, filters=filters, blocks=blocks, ladders=ladders)


def _check_network(network: Network) -> None:
    if not network.layers:
        raise CompileError(f"network {network.name!r} has no layers; export one with a convolution or a dense layer")
    form, channels = network.input_format, network.input_shape[0]
    for number, layer in enumerate(network.layers):
        last = number == len(network.layers) - 1
        if layer.input_format != form:
            raise CompileError(f"layer {layer.name!r}: its input format is {layer.input_format}, it gets {form}")
        if layer.weights.shape[1] != channels:
            raise CompileError(
                f"layer {layer.name!r}: it has {layer.weights.shape[1]} input channels, it gets {channels}"
            )
        if layer.output_format is None and (not last or layer.pool is not None):
            what = "it is not the last layer" if not last else "it has a pool"
            raise CompileError(f"layer {layer.name!r}: {what} and needs a quantizer behind it")
        if layer.pool is not None and any(p >= layer.pool.kernel[n % 2] for n, p in enumerate(layer.pool.padding)):
            raise CompileError(
                f"layer {layer.name!r}: pool padding {layer.pool.padding} must be smaller than its window "
                f"{layer.pool.kernel}"
            )
        form = layer.output_format or form
        channels = layer.weights.shape[0]


def _lower_network(network: Network, config: Config, *, with_patches: bool, rolling: bool) -> list[_Mapped]:
    _, height, width = network.input_shape
    lowered: list[Lowered] = []
    for number, layer in enumerate(network.layers):
        low = (lower_patches if with_patches and number == 0 else lower)(layer, config, height, width)
        height, width = low.pooled_shape
        if height < 1 or width < 1:
            raise CompileError(f"layer {layer.name!r}: its pool window is larger than its padded input")
        lowered.append(low)
    pads = [low.act.stored_pad for low in lowered[1:]] + [_output_pad(network.layers[-1])]
    return [_map_layer(low, pad, rolling) for low, pad in zip(lowered, pads, strict=True)]


def _output_pad(layer: Conv) -> int:
    """Dummy channels of the last tensor hold code 0: nobody reads them."""
    return 0


def _tensors(mapped: Sequence[_Mapped], network: Network) -> list[TensorLayout | RawLayout]:
    """Layouts of the input and of every layer's output, without addresses."""
    config = mapped[0].low.config
    layouts: list[TensorLayout | RawLayout] = []
    for m in mapped:
        low = m.low
        layouts.append(
            TensorLayout.of(
                config, low.channels, low.height, low.width, low.stored_bits, low.act.stored_pad, low.act.validity
            )
        )
    last = mapped[-1]
    channels, (height, width) = last.low.out_channels, last.low.pooled_shape
    form = network.layers[-1].output_format
    if form is None:
        stride = last.tiling.column_tiles * config.columns
        raw = RawLayout(channels=channels, height=height, width=width, stride=stride, mem_width=config.mem_width)
        return [*layouts, raw]
    return [*layouts, TensorLayout.of(config, channels, height, width, form.bits, _output_pad(network.layers[-1]))]


def _place_tensors(
    layouts: Sequence[TensorLayout | RawLayout], config: Config, apart: bool
) -> tuple[list[TensorLayout | RawLayout], int]:
    """Addresses at the end of main memory, and the first word of them; two places take turns unless `apart`."""
    sizes = [layout.words for layout in layouts]
    if apart:
        start = config.mem_depth - sum(sizes)
        addresses = [start + sum(sizes[:n]) for n in range(len(sizes))]
    else:
        start = config.mem_depth - max(a + b for a, b in pairwise(sizes))
        addresses = [start if n % 2 == 0 else config.mem_depth - size for n, size in enumerate(sizes)]
    return [replace(layout, address=at) for layout, at in zip(layouts, addresses, strict=True)], start


def _kept(layouts: Sequence[TensorLayout | RawLayout]) -> list[bool]:
    """Which tensors no later one overwrites."""
    spans = [(layout.address, layout.address + layout.words) for layout in layouts]
    return [all(b[1] <= a[0] or a[1] <= b[0] for b in spans[n + 1 :]) for n, a in enumerate(spans)]


def _assemble(
    network: Network, mapped: Sequence[_Mapped], layouts: Sequence[TensorLayout | RawLayout]
) -> tuple[_Image, int, list[int]]:
    """Image, entry, and for each layer the number of its last DONE."""
    config = mapped[0].low.config
    image = _Image(config)
    schedule = Schedule()
    done: list[int] = []
    null_filter = 0
    if any(m.tiling.gaps for m in mapped):
        null_filter = image.add(b"\xff" * (config.columns * config.lanes // 8)) * 8 // config.chunk
    for m, source, target in zip(mapped, layouts[:-1], layouts[1:], strict=True):
        low = m.low
        assert isinstance(source, TensorLayout)
        filters = []
        for data in m.filters:
            at = image.add(data) * 8 // config.chunk
            filters.append([at + block for block in m.blocks])
        valid = 0
        if low.act.validity and config.planes == 1:
            pixel = replace(source, height=1, width=1, bits=1, shift=0, pad_code=0)
            valid = image.add(pixel.pack(np.ones((low.channels, 1, 1), np.int64))) * 8 // config.chunk
        ladders = image.add(m.ladders) // 4
        schedule.add(
            LayerJob(
                low=low, tiling=m.tiling, source=source, target=target, filters=filters, null_filter=null_filter,
                valid_address=valid, ladders=ladders, sum_code=m.amap.sum_code if m.amap.sum_enable else None,
            )
        )  # fmt: skip
        done.append(schedule.done - 1)
    schedule.close()
    tasks = order(schedule.tasks, config)
    place_tokens(tasks, config)
    entry = image.add(np.array(assemble(tasks, config), "<u4").tobytes()) // 4
    return image, entry, done


def _choices(network: Network, config: Config, *, rolling: bool) -> list[list[_Mapped]]:
    """The network with and, where that is much faster, before it with the first layer's patches made by the host."""
    plain = _lower_network(network, config, with_patches=False, rolling=rolling)
    if plain[0].low.kernel != (1, 1):
        try:
            by_patches = _lower_network(network, config, with_patches=True, rolling=rolling)
            # They cost the host time and link, so a small gain is not worth it.
            if 10 * by_patches[0].tiling.cycles < 9 * plain[0].tiling.cycles:
                return [by_patches, plain]
        except DipoleError:
            pass  # patches with stored padding may exceed a limit that the plain layer meets
    return [plain]


def compile_network(network: Network, config: Config) -> Program:
    """The program of a network. Raises CompileError or LadderError, naming the layer, for what cannot run exactly."""
    _check_network(network)
    excess = 0
    for rolling in (True, False):  # as it is faster, and as it is smaller
        choices = _choices(network, config, rolling=rolling)
        for mapped in choices:
            for apart in (True, False):
                layouts, start = _place_tensors(_tensors(mapped, network), config, apart)
                if start < 0:
                    excess = -start
                    continue
                image, entry, done = _assemble(network, mapped, layouts)
                excess = image.words - start
                if excess <= 0:
                    return _program(network, mapped, layouts, image, entry, done)
        if not any(m.tiling.rolling for mapped in choices for m in mapped):
            break
    raise CompileError(
        f"network {network.name!r} needs {excess} main memory words more than the {config.mem_depth} of configuration "
        f"{config.name!r} ({excess * config.mem_width} bits); use a larger mem_depth"
    )


def _program(
    network: Network,
    mapped: Sequence[_Mapped],
    layouts: Sequence[TensorLayout | RawLayout],
    image: _Image,
    entry: int,
    done: Sequence[int],
) -> Program:
    kept = _kept(layouts)
    first = layouts[0]
    assert isinstance(first, TensorLayout)
    form = network.input_format
    source = InputInfo(
        shape=network.input_shape, bits=form.bits, alpha=form.alpha, delta=form.delta,
        quantizer=dataclasses.asdict(network.input_quantizer), layout=first, patch=mapped[0].low.patch,
    )  # fmt: skip
    last, amap = network.layers[-1], mapped[-1].amap

    def numbers(values: np.ndarray | None) -> list[float] | None:
        return None if values is None else [float(v) for v in np.atleast_1d(values)]

    output = OutputInfo(
        scale=amap.scale, divisor=amap.divisor, offset=amap.offset.tolist(), low=reach(last).low.tolist(),
        real_scale=numbers(last.output_scale), real_bias=numbers(last.output_bias),
    )  # fmt: skip
    layers: list[LayerInfo] = []
    shape = network.input_shape
    for n, m in enumerate(mapped):
        low, layer = m.low, m.low.layer
        out = (low.out_channels, *low.pooled_shape)
        _, in_channels, kh, kw = layer.weights.shape
        bits = layer.input_format.bits * layer.weight_format.bits
        across = -(-low.pooled_shape[1] // low.config.rows)
        positions = layer.pool.kernel[0] * layer.pool.kernel[1] if layer.pool else 1
        constants = sum(len(data) for data in m.filters) + len(m.ladders)
        layers.append(
            LayerInfo(
                name=layer.name, in_shape=shape, out_shape=out, kernel=(kh, kw), stride=layer.stride,
                act_bits=layer.input_format.bits, weight_bits=layer.weight_format.bits, zero_padding=low.zero_padding,
                patches=low.patch is not None, split=m.tiling.split, rolling=m.tiling.rolling,
                tiles=low.pooled_shape[0] * across * positions * m.tiling.column_tiles,
                bmacs=low.out_height * low.out_width * low.out_channels * in_channels * kh * kw * bits,
                memory_words=constants * 8 // low.config.mem_width + layouts[n + 1].words,
                cycles_estimate=m.tiling.cycles, done_index=done[n], kept=kept[n + 1], layout=layouts[n + 1],
            )
        )  # fmt: skip
        shape = out
    return Program(
        name=network.name, config=mapped[0].low.config, image=bytes(image.data), entry=entry, input=source,
        output=output, layers=layers,
    )  # fmt: skip
