"""The program of a network for one configuration: memory image, entry, metadata; and its file.

File, little-endian: header of eight 32-bit fields, memory image, metadata as JSON (UTF-8).

| field | holds |
|---|---|
| magic | "DPOL" |
| version | of this format |
| config_hash | `Config.hash32` of the configuration that the program is for |
| image_length | bytes of the image |
| image_crc | CRC-32 of the image |
| entry | instruction index (32-bit words) at which the device starts |
| metadata_length | bytes of the metadata |
| file_crc | CRC-32 of all other bytes of the file |

A device gets the first five fields and the image (`device_header`, `image`) and checks them.
"""

import dataclasses
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..golden.errors import DipoleError
from ..golden.isa import Engine, Instruction, LoadReg, Op, decode
from ..golden.link import PROGRAM_VERSION
from ..rtl.config import Config
from .layout import PatchSpec, RawLayout, TensorLayout

__all__ = ["MAGIC", "VERSION", "InputInfo", "LayerInfo", "OutputInfo", "Program", "ProgramError", "trace"]

T = TypeVar("T")

MAGIC = b"DPOL"
VERSION = PROGRAM_VERSION
_HEADER = struct.Struct("<4s7I")
_DEVICE_HEADER = struct.Struct("<4s4I")


class ProgramError(DipoleError):
    """A program file that is damaged, or that does not fit the configuration at hand."""


@dataclass(frozen=True, kw_only=True)
class InputInfo:
    """What the host needs to bring an image: codes of its first quantizer, and their place."""

    shape: tuple[int, int, int]
    """Channels, height, width of one image."""
    bits: int
    alpha: int
    delta: int
    """Format of the codes: value = alpha * u + delta."""
    quantizer: dict[str, Any]
    """Fields of `network.InputQuantizer`."""
    layout: TensorLayout
    patch: PatchSpec | None
    """Set where the host writes patches instead of pixels."""


@dataclass(frozen=True, kw_only=True)
class OutputInfo:
    """What the host needs to read the result: T = (scale * y + offset) / divisor, `golden.encoding.AccumulatorMap`."""

    scale: int = 1
    divisor: int = 1
    offset: list[int] = dataclasses.field(default_factory=list)
    low: list[int] = dataclasses.field(default_factory=list)
    """Lowest reachable y of each channel: unwraps T modulo 2^acc_width."""
    real_scale: list[float] | None = None
    real_bias: list[float] | None = None
    """Real output = y * real_scale + real_bias in float32."""


@dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """One layer, for reports and for comparing what it leaves in memory."""

    name: str
    in_shape: tuple[int, int, int]
    """Channels, height, width."""
    out_shape: tuple[int, int, int]
    """After the pool."""
    kernel: tuple[int, int]
    stride: tuple[int, int]
    act_bits: int
    weight_bits: int
    zero_padding: str
    """"none", "pad code" or "validity plane"."""
    patches: bool
    """The host brings patches (im2col)."""
    split: bool
    """Plane pairs and segments one by one, because patches or filters exceed the buffers."""
    rolling: bool
    """Tiles go down the image, and each kernel row of a patch is loaded once for all tiles that need it."""
    tiles: int
    """Tiles that the array computes."""
    bmacs: int
    """Useful binary multiply-accumulates: taps inside or outside the image x real channels x plane pairs."""
    memory_words: int
    """Main memory words of filters, ladders and output tensor."""
    cycles_estimate: int
    done_index: int
    """Number of the DONE instruction after which the output tensor is complete."""
    kept: bool
    """The output tensor is still in memory at the end of the program."""
    layout: TensorLayout | RawLayout


def _plain(value: Any) -> Any:
    """Dataclasses as JSON; a layout says which it is."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _tuples(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: tuple(value) if name in names else value for name, value in fields.items()}


def _layout(fields: dict[str, Any]) -> dict[str, Any]:
    return {"layout": RawLayout(**fields) if "stride" in fields else TensorLayout(**fields)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Program:
    name: str
    config: Config
    image: bytes
    """Main memory from word 0 on: filters, ladders, instructions."""
    entry: int
    """Instruction index at which the device starts."""
    input: InputInfo
    output: OutputInfo
    layers: list[LayerInfo]

    @property
    def instructions(self) -> np.ndarray:
        """Instruction words uint32 from `entry` to the last HALT."""
        return np.frombuffer(self.image, "<u4")[self.entry :]

    @property
    def device_header(self) -> bytes:
        """Magic, version, configuration hash, image length and image CRC: what a device checks before it accepts."""
        return _DEVICE_HEADER.pack(MAGIC, VERSION, self.config.hash32, len(self.image), zlib.crc32(self.image))

    def layer_ends(self, at_done: Sequence[T]) -> list[T]:
        """Of values taken at every DONE (`golden.timing.Timing.markers`), those at the end of each layer: a layer with
        more ladders than the ladder memory holds has a DONE for each load of them."""
        return [at_done[layer.done_index] for layer in self.layers]

    def require_config(self, config: Config) -> None:
        """Refuse a configuration that the program was not compiled for."""
        if config.hash32 != self.config.hash32:
            raise ProgramError(
                f"program {self.name!r} is for configuration {self.config.name!r} (hash {self.config.hash32:08x}), not "
                f"for {config.name!r} (hash {config.hash32:08x}); compile the network for {config.name!r}"
            )

    # --- files -----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        metadata = json.dumps(
            {
                "name": self.name, "config": dataclasses.asdict(self.config), "input": _plain(self.input),
                "output": _plain(self.output), "layers": _plain(self.layers),
            }
        ).encode()  # fmt: skip
        sizes = (len(self.image), zlib.crc32(self.image), self.entry, len(metadata))
        head = _HEADER.pack(MAGIC, VERSION, self.config.hash32, *sizes, 0)[:-4]
        return head + struct.pack("<I", zlib.crc32(head + self.image + metadata)) + self.image + metadata

    def save(self, path: str | Path) -> None:
        """Write the file in one step: whoever reads `path` finds a whole program or none."""
        path = Path(path)
        temporary: str | None = None
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(self.to_bytes())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, path)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise ProgramError(f"cannot write program {str(path)!r}: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | Path) -> "Program":
        """Read a file; ProgramError where it is no program, damaged, or of another version."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ProgramError(f"cannot read program {str(path)!r}: {error.strerror}") from error
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "program") -> "Program":
        if data[:4] != MAGIC:
            raise ProgramError(f"{where!r} is not a Dipole program: it begins with {data[:4]!r}, must be {MAGIC!r}")
        if len(data) < _HEADER.size:
            raise ProgramError(f"program {where!r} is truncated: {len(data)} bytes of {_HEADER.size} at least")
        _, version, config_hash, length, image_crc, entry, metadata_length, file_crc = _HEADER.unpack_from(data)
        if version != VERSION:
            raise ProgramError(
                f"program {where!r} has format version {version}, this Dipole reads {VERSION}; "
                "compile the network again"
            )
        whole = _HEADER.size + length + metadata_length
        if len(data) < whole:
            raise ProgramError(
                f"program {where!r} is truncated: {len(data)} bytes of {whole}; compile the network again"
            )
        body = data[_HEADER.size :]
        found = zlib.crc32(data[: _HEADER.size - 4] + body)
        image = body[:length]
        if found != file_crc or len(data) > whole or zlib.crc32(image) != image_crc:
            raise ProgramError(
                f"program {where!r} is damaged: CRC-32 is {found:08x}, must be {file_crc:08x}; "
                "compile the network again"
            )
        fields = json.loads(body[length:])
        try:
            config = Config(**fields["config"])
        except (TypeError, DipoleError) as error:
            raise ProgramError(
                f"program {where!r} is for a configuration that this Dipole does not have ({error}); "
                "compile the network again"
            ) from error
        if config.hash32 != config_hash:
            raise ProgramError(
                f"program {where!r} is for configuration hash {config_hash:08x}, this Dipole computes "
                f"{config.hash32:08x} for the same sizes; compile the network again"
            )
        patch = fields["input"]["patch"]
        source = _tuples(fields["input"], "shape") | {
            "layout": TensorLayout(**fields["input"]["layout"]),
            "patch": patch and PatchSpec(**_tuples(patch, "kernel", "stride", "padding")),
        }
        layers = [
            LayerInfo(**_tuples(layer, "in_shape", "out_shape", "kernel", "stride") | _layout(layer["layout"]))
            for layer in fields["layers"]
        ]
        return cls(
            name=fields["name"], config=config, image=image, entry=entry, input=InputInfo(**source),
            output=OutputInfo(**fields["output"]), layers=layers,
        )  # fmt: skip


def trace(program: Program) -> Iterator[tuple[int, Instruction, dict[Engine, list[int]]]]:
    """Instructions in the order of execution, loops unrolled: (instruction index, instruction, registers when it runs).

    The registers are one live object, by engine; SET, ADD and REPEAT are worked in and not listed.
    """
    registers = {engine: [0] * 32 for engine in Engine}
    load, config = registers[Engine.LOAD], program.config
    decoded: dict[int, Instruction] = {}
    code = program.instructions
    loops: list[int | None] = [None, None]
    mask = (1 << 21) - 1
    pc = 0
    while True:
        word = int(code[pc])
        i = decoded.get(word)
        if i is None:
            i = decoded[word] = decode(word)
        pc += 1
        if i.op is Op.SET:
            registers[i.engine][i.reg] = i.value
        elif i.op is Op.ADD:
            value = (registers[i.engine][i.reg] + i.value) & mask
            signed = i.engine is Engine.LOAD and i.reg in (LoadReg.IY, LoadReg.IX) and value >> 20
            registers[i.engine][i.reg] = value - (mask + 1) if signed else value
        elif i.op is Op.REPEAT:
            left = loops[i.slot]
            left = i.count - 1 if left is None else left
            loops[i.slot] = left - 1 if left else None
            if left:
                pc -= i.back + 1
        else:
            yield program.entry + pc - 1, i, registers
            if i.op is Op.LOADW:
                load[LoadReg.WGT] += config.columns * load[LoadReg.WWORDS] * config.chunks_per_lanes
            elif i.op is Op.LOADP:
                load[LoadReg.WGT] += i.count * config.ladder_words * 32 // config.chunk
            elif i.op is Op.HALT:
                return
