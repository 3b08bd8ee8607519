"""Images into main memory, results out of it: all that a host or a simulator needs besides the program itself."""

from typing import Any

import numpy as np

from ..golden.encoding import AccumulatorMap
from ..golden.errors import DipoleError
from .layout import RawLayout, patches
from .program import Program

__all__ = ["layer_report", "pack_input", "unpack_layer", "unpack_output"]


def _words(data: bytes, width: int) -> list[int]:
    size = width // 8
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]


def pack_input(program: Program, codes: np.ndarray) -> list[tuple[int, list[int]]]:
    """What to write before a run, for input codes [channels, height, width]: (word address, main memory words)."""
    source = program.input
    codes = np.asarray(codes)
    if codes.shape != source.shape:
        raise DipoleError(f"program {program.name!r}: input has shape {codes.shape}, must be {source.shape}")
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < 1 << source.bits:
        raise DipoleError(
            f"program {program.name!r}: input codes are {codes.min()}..{codes.max()}, "
            f"must be 0..{(1 << source.bits) - 1}"
        )
    if source.patch is not None:
        codes = patches(source.patch, codes)
    data = source.layout.pack(codes)
    return [(source.layout.address, _words(data, program.config.mem_width))]


def unpack_layer(program: Program, index: int, memory: np.ndarray | bytes) -> np.ndarray:
    """Output of layer `index` from the bytes of main memory (from word 0 on): codes int64 [channels, height, width], or
    y in the layer without thresholds. The memory must be as it was after the layer's DONE, or, where
    `LayerInfo.kept`, at the end."""
    layout = program.layers[index].layout
    size = program.config.mem_width // 8
    data = bytes(memory[layout.address * size : (layout.address + layout.words) * size])
    return _unpack(program, layout, data)


def unpack_output(program: Program, words: list[int]) -> np.ndarray:
    """Output of the network, int64 [channels, height, width]: y, or codes where the last layer has thresholds, from the
    main memory words at `program.layers[-1].layout.address` (`.words` of them)."""
    layout = program.layers[-1].layout
    size = program.config.mem_width // 8
    if len(words) != layout.words:
        raise DipoleError(f"program {program.name!r}: output has {len(words)} words, must be {layout.words}")
    return _unpack(program, layout, b"".join(int(word).to_bytes(size, "little") for word in words))


def _unpack(program: Program, layout: Any, data: bytes) -> np.ndarray:
    codes = layout.unpack(data)
    if not isinstance(layout, RawLayout):
        return codes
    out = program.output
    amap = AccumulatorMap(out.scale, out.divisor, np.array(out.offset, np.int64), 0, False)
    return amap.value_of_raw(codes, program.config.acc_width, np.array(out.low, np.int64))


def layer_report(program: Program) -> list[dict[str, Any]]:
    """One row of plain values per layer: shapes, precision, tiles, useful work, memory, zero padding."""
    rows: list[dict[str, Any]] = []
    for layer in program.layers:
        rows.append(
            {
                "layer": layer.name,
                "input": "x".join(map(str, layer.in_shape)),
                "output": "x".join(map(str, layer.out_shape)),
                "kernel": "x".join(map(str, layer.kernel)),
                "act_bits": layer.act_bits,
                "weight_bits": layer.weight_bits,
                "zero_padding": layer.zero_padding,
                "patches": layer.patches,
                "split": layer.split,
                "rolling": layer.rolling,
                "tiles": layer.tiles,
                "bmacs": layer.bmacs,
                "memory_words": layer.memory_words,
                "estimate_layer_cycles": layer.cycles_estimate,
            }
        )
    return rows
