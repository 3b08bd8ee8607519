"""Configuration of one accelerator: every size the generator, the compiler and the cycle model need.

A configuration is a frozen dataclass, validated on creation, JSON in and out. Two configurations with
equal `hash32` run each other's programs; the device checks that number before it accepts a program.
"""

import dataclasses
import json
import zlib
from dataclasses import dataclass
from typing import Any, Self

from ..golden.errors import DipoleError

__all__ = ["Config", "ConfigError"]


class ConfigError(DipoleError):
    """A configuration that no hardware can be built from; the message names the field and its value."""


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of one accelerator.

    The array has `rows` x `columns` processing elements (PEs). Each multiplies `lanes` activations of
    `planes` bit planes with `lanes` weights of one bit plane per cycle.
    """

    name: str
    """Name of the configuration; not part of the hash."""
    rows: int
    """Rows of PEs = output pixels of a tile, 1..32."""
    columns: int
    """Columns of PEs = output channels of a tile, a power of two, 4..64."""
    lanes: int
    """Lanes (bit products) per PE and activation plane, a power of two, 8..256."""
    planes: int = 1
    """Activation planes per cycle (W), 1, 2, 4 or 8."""
    pump: int = 1
    """Clock of the array in multiples of that of the engine around it = words of a run per cycle of the engine, 1 or 2.
    With 2 the array and the read ports of its buffers are in clock domain `fast`."""
    levels: int = 1
    """Levels between two registers in the tree of a PE, 1..3: of adders, and on iCE40 with W > 1 the choice of pairs in
    front of them; with W = 1 on iCE40 always one. With 1 accumulators are cut into parts on iCE40, where the tree
    leaves time for that, and long ones on ECP5: a faster PE of more cells."""
    hop: int = 64
    """PEs between two forwarding registers, 1..64: 1 is purely systolic, 64 broadcasts."""
    stages: int = 0
    """Registers added on each long way (loader to buffers, execute engine to buffers, buffers to array, store engine to
    array and back), 0..3. Where there are any, PEs have registers of their own for control, ladders are longer, and
    with `pump` = 2 there are registers around the block RAMs of row and column buffers."""
    memory_lag: int = 0
    """Registers on the way to main memory and back, 0..4: the first on the way there, the second on the way back, and
    so on. A word comes 1 + memory_lag cycles after its access."""
    chunk: int = 8
    """Bits per plane written at once into a row buffer = the finest packing of channels, a power of two, 8..32, at most
    `lanes`. With several planes per cycle a step of the loader brings one chunk of each, so a main memory word should
    hold just these."""
    mem_width: int = 32
    """Bits of a main memory word, a power of two, 32..256, at least `lanes`, `planes` x `chunk` and `planes` x
    `columns`."""
    mem_depth: int
    """Words of main memory, a power of two, 256..2^20."""
    mem_ports: int = 1
    """Ports of main memory: 1 for reading and writing, or 2, one for each, so that loads do not wait for the store
    engine. Block RAMs have two, the SPRAM of a UP5K one."""
    row_depth: int = 256
    """Words (of `planes` x `lanes` bits) of a row buffer, a power of two, 16..2048."""
    column_depth: int = 256
    """Words (of `lanes` bits) of a column buffer, a power of two, 16..2048."""
    acc_width: int = 24
    """Bits of an accumulator, 12..32. Results are exact modulo 2**acc_width; the compiler proves the range."""
    mul_width: int = 16
    """Bits of the multiplier constant of a ladder, 8..32."""
    sum_column: bool = True
    """The activation-sum column: a PE per row more, for weights that are no sums of {-1,+1} (two's complement, zero
    point). Without it only networks with odd weights run."""
    corrections: bool = False
    """Correction bits of ladders: one per code and channel, for functions that float32 rounding bends off a line."""
    ladder_depth: int = 256
    """Channels whose ladders are held at a time, a power of two, at least `columns`, at most 4096."""
    ladders: int = 1
    """Ladders working side by side = results requantized per cycle, a power of two, 1..columns."""
    queue_depth: int = 4
    """Instructions waiting in front of each engine, a power of two, 1..64."""
    few_rams: bool = False
    """Half as many block RAMs for lines of ladders, of which the array's clock reads a half at a time, and none for
    codes that are pooled: registers instead. Needs `pump` = 2, no `stages`, and lines of 33 to 64 bits with multipliers
    of 16. `dipole build` checks what has half a cycle because of it on a UP5K only."""
    pixel_bits: int = 10
    """Bits of image and kernel coordinates: heights and widths are below 2**pixel_bits, 6..12."""

    def __post_init__(self) -> None:
        for field, low, high, power in (
            ("rows", 1, 32, False),
            ("columns", 4, 64, True),
            ("lanes", 8, 256, True),
            ("planes", 1, 8, True),
            ("pump", 1, 2, True),
            ("levels", 1, 3, False),
            ("hop", 1, 64, False),
            ("stages", 0, 3, False),
            ("memory_lag", 0, 4, False),
            ("chunk", 8, min(self.lanes, 32), True),
            ("mem_width", 32, 256, True),
            ("mem_depth", 256, 1 << 20, True),
            ("mem_ports", 1, 2, True),
            ("row_depth", 16, 2048, True),
            ("column_depth", 16, 2048, True),
            ("acc_width", 12, 32, False),
            ("mul_width", 8, 32, False),
            ("ladder_depth", self.columns, 4096, True),
            ("ladders", 1, self.columns, True),
            ("queue_depth", 1, 64, True),
            ("pixel_bits", 6, 12, False),
        ):
            value = getattr(self, field)
            if type(value) is not int:
                raise ConfigError(f"configuration {self.name!r}: {field} is {value!r}, must be an integer")
            if not low <= value <= high:
                raise ConfigError(f"configuration {self.name!r}: {field} is {value}, must be in {low}..{high}")
            if power and not _is_power_of_two(value):
                raise ConfigError(f"configuration {self.name!r}: {field} is {value}, must be a power of two")
        for field in ("sum_column", "corrections", "few_rams"):
            value = getattr(self, field)
            if type(value) is not bool:
                raise ConfigError(f"configuration {self.name!r}: {field} is {value!r}, must be true or false")
        for what, size in (
            ("lanes", self.lanes),
            ("planes * columns", self.planes * self.columns),
            ("planes * chunk", self.planes * self.chunk),
        ):
            if self.mem_width < size:
                raise ConfigError(
                    f"configuration {self.name!r}: mem_width is {self.mem_width}, must be at least {what} ({size})"
                )
        if self.few_rams and (self.pump, self.stages, self.mul_width, self.line_words) != (2, 0, 16, 2):
            raise ConfigError(
                f"configuration {self.name!r}: few_rams needs pump = 2, stages = 0, mul_width = 16 and ladders of at "
                f"most 64 bits; they are {self.pump}, {self.stages}, {self.mul_width} and {self.ladder_bits}"
            )
        if self.mem_depth * self.granules_per_word > 1 << 21:
            raise ConfigError(
                f"configuration {self.name!r}: mem_depth is {self.mem_depth}, that is "
                f"{self.mem_depth * self.granules_per_word} granules; addresses reach {1 << 21}"
            )

    # --- derived sizes ---------------------------------------------------------------------------

    @property
    def granule(self) -> int:
        """Bits of the finest write into main memory (one write-enable bit)."""
        return min(self.chunk, self.columns)

    @property
    def granules_per_word(self) -> int:
        """Write enables of a main memory word; destination addresses count granules."""
        return self.mem_width // self.granule

    @property
    def chunks_per_word(self) -> int:
        """Chunks in a main memory word; source addresses count chunks."""
        return self.mem_width // self.chunk

    @property
    def chunks_per_lanes(self) -> int:
        """Chunks in one lane word of a row or column buffer."""
        return self.lanes // self.chunk

    @property
    def chunk_address_bits(self) -> int:
        """Bits of a chunk address; one more than memory needs, so that what lies beyond it is seen."""
        return (self.mem_depth * self.chunks_per_word).bit_length()

    @property
    def granule_address_bits(self) -> int:
        """Bits of a granule address; one more than memory needs."""
        return (self.mem_depth * self.granules_per_word).bit_length()

    @property
    def array_bmac(self) -> int:
        """Binary multiply-accumulates per cycle of the array at full use."""
        return self.rows * self.columns * self.lanes * self.planes

    @property
    def peak_bmac(self) -> int:
        """The same per cycle of the engine."""
        return self.array_bmac * self.pump

    @property
    def column_order(self) -> list[int]:
        """Columns as they stand in the array: those whose drain registers follow one another are neighbours. On long
        ways they are folded, as a row is followed by the next one: the first, the last, the second and so on."""
        chains = [[*range(first, self.columns, self.ladders)] for first in range(self.ladders)]
        if self.stages:
            chains = [[chain[-1 - k // 2 if k % 2 else k // 2] for k in range(len(chain))] for chain in chains]
        return [c for chain in chains for c in chain]

    @property
    def array_domain(self) -> str:
        """Clock domain of the array and of reading its buffers."""
        return "fast" if self.pump > 1 else "sync"

    @property
    def ladder_bits(self) -> int:
        """Bits of the line of a ladder: fraction, multiplier, offset, shift (6), negate, double with corrections, and
        valid with several planes per cycle."""
        return 2 * self.mul_width + self.acc_width + 7 + self.corrections + (self.planes > 1)

    @property
    def line_words(self) -> int:
        """32-bit words in main memory that hold the line of a ladder."""
        return -(-self.ladder_bits // 32)

    @property
    def ladder_words(self) -> int:
        """32-bit words in main memory that hold a ladder: the line, then 256 correction bits if there are any."""
        return self.line_words + (8 if self.corrections else 0)

    @property
    def run_width(self) -> int:
        """Bits of the first-level accumulator: the popcounts of one Horner run."""
        depth = min(self.row_depth, self.column_depth)
        return min(self.acc_width, (8 * depth * self.lanes * ((1 << self.planes) - 1)).bit_length())

    @property
    def long_accumulator(self) -> bool:
        """Whether a carry chain of `acc_width` takes more than three tiles of an ECP5."""
        return self.acc_width > 24

    # --- latencies, in cycles of the engine unless they say otherwise --------------------------------

    @property
    def pop_latency(self) -> int:
        """Operands at a PE to their popcount in the slowest family; in others it comes earlier and the array waits.
        In cycles of the array.

        W = 1: a register per level of the tree of full adders on ECP5 (with `levels` = 1: and a long accumulator in two
        parts). W > 1: one per `levels` levels, of adders or, on iCE40, of the choice of pairs of lanes and adders (one:
        and an accumulator in two parts); or groups of 8 lanes, then adders of four operands.
        """
        if self.planes == 1:
            return max(2, (self.lanes - 1).bit_length() - 1) + (self.levels == 1 and self.long_accumulator)
        stages, operands = 1, -(-self.lanes // 8)
        while operands > 1:
            stages, operands = stages + 1, -(-operands // 4)
        apart = 1 if self.pump == 1 or self.stages else 3
        pairs = -(-(self.lanes.bit_length() - 1) // self.levels) + (apart if self.levels == 1 else 0)
        return max(pairs, stages + (2 if self.planes > 4 else 1))

    @property
    def middle(self) -> int:
        """Groups of `hop` columns left of where the operands of rows enter the array; they go to both sides."""
        return self.columns // self.hop // 2

    def column_skew(self, group: int) -> int:
        """Forwarding registers from where the operands of a row enter to a group of `hop` columns."""
        return group - self.middle if group >= self.middle else self.middle - 1 - group

    @property
    def skew(self) -> int:
        """Forwarding registers on the way to the last PE of the last row, that is cycles of the array."""
        last = self.columns if self.sum_column else self.columns - 1
        return (self.rows - 1) // self.hop + self.column_skew(last // self.hop)

    @property
    def registered_buffers(self) -> bool:
        """Whether the block RAMs of row and column buffers have two registers in front of the read port and one at the
        output, and their addresses one where they begin to go from buffer to buffer.
        On ECP5 they are half as wide then: worth it for a faster clock only, as it takes twice as many."""
        return self.pump > 1 and self.stages > 0

    @property
    def read_lag(self) -> int:
        """Registers on the way to a row or column buffer and through it, in cycles of the array."""
        return self.stages + 4 * self.registered_buffers

    @property
    def array_latency(self) -> int:
        """Last word of a tile at the first read port to all its results standing in the drain registers: buffer,
        popcount, run accumulator, Horner register, drain register and the skew. In cycles of the array."""
        return 1 + self.read_lag + self.pop_latency + 3 + self.skew

    @property
    def drain_latency(self) -> int:
        """Last word of a tile issued by the execute engine to all its results standing in the drain registers:
        `stages` and, to a faster array, one cycle; then what the array takes."""
        return self.stages + (self.pump > 1) - (-self.array_latency // self.pump)

    @property
    def free_lag(self) -> int:
        """Last word of a tile issued to all buffers having read it, give or take the cycle in which none is written
        anyway: `stages` and, to a faster array, one cycle; then the skew and what is in front of the memories."""
        return self.stages + (self.pump > 1) - (-(self.skew + 3 * self.registered_buffers) // self.pump)

    @property
    def write_lag(self) -> int:
        """Registers from the loader to the buffers: one for some of them together, the others of `stages` in each."""
        return self.stages

    @property
    def shift_lag(self) -> int:
        """Registers from the store engine to the drain chain: `stages`, and then one in each PE."""
        return self.stages + 1 if self.stages else 0

    @property
    def drain_lag(self) -> int:
        """Cycle in which the store engine moves the drain chain to the one in which it has the result in front."""
        return self.shift_lag + self.stages

    @property
    def parameters_lag(self) -> int:
        """Cycle in which the store engine asks for parameters of ladders to the one in which they come: a register,
        a block RAM and `stages` registers behind it."""
        return 1 + self.stages + (self.stages > 0)

    @property
    def release_lead(self) -> int:
        """Cycles before the end of a tile's draining from which on the next tile's last word may be issued: buffer
        read, the quickest popcount of any family (1), run accumulator, Horner register and drain register follow, and
        `stages` in front of and behind the buffers; but the drain chain moves `shift_lag` later."""
        array = 5 + self.stages
        return self.stages + (array if self.pump == 1 else (array + 2) // self.pump) - self.shift_lag

    @property
    def ladder_latency(self) -> int:
        """Result that comes from the drain chain to its code at the output of the ladder."""
        deep = self.stages > 0  # more for product and clamp, and for the correction bit, which comes later, too
        return 7 + 4 * deep + (2 + self.stages + deep if self.corrections else 0)

    # --- identity and files ----------------------------------------------------------------------

    @property
    def hash32(self) -> int:
        """CRC-32 of all fields but the name and `few_rams`, of which programs see nothing, and but those of registers
        that have their defaults: what a program and a device must agree on."""
        fields = dataclasses.asdict(self)
        del fields["name"], fields["few_rams"]
        for field in ("pump", "levels", "stages", "memory_lag", "mem_ports"):
            if fields[field] == self.__dataclass_fields__[field].default:
                del fields[field]
        return zlib.crc32(json.dumps(fields, sort_keys=True).encode())

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        try:
            fields: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"configuration is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise ConfigError("configuration must be a JSON object of fields")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ConfigError(f"configuration has unknown fields {unknown}; known are {sorted(known)}")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ConfigError(f"configuration is incomplete: {error}") from error
