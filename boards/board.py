"""What a board file states, and the top level all boards share: clock, reset, UART pins around a core."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from amaranth import ClockDomain, ClockSignal, Elaboratable, Module, ResetSignal, Signal
from amaranth.build import TemplatedPlatform
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer

from ..golden.errors import DipoleError
from ..rtl.primitives.adders import increment
from ..rtl.primitives.pll import Pll
from .fabric import Fabric

__all__ = ["Board", "BoardError", "BoardTop", "SerialCore", "clocks_per_bit"]

SETTLE = 20e-6
"""Seconds of reset after the clock is good: iCE40 block RAM reads zeros for some 3 us after configuration."""


class BoardError(DipoleError):
    """A board, or a wish for one, that cannot be met; the message names the field and its value."""


class SerialCore(Protocol):
    """What a board carries: anything with a UART and two lamps, in clock domain `sync`.

    With `pump` = 2 it has a domain `fast`, of twice that clock and without a reset, too.
    """

    pump: int
    rx: Signal
    tx: Signal
    busy: Signal
    error: Signal

    def elaborate(self, platform: object) -> object: ...


@dataclass(frozen=True, kw_only=True)
class Board:
    """One board: everything that `boards/build.py` and `boards/flash.py` need to know of it."""

    name: str
    title: str
    """Name and device for people."""
    platform: Callable[[], TemplatedPlatform]
    config: str
    """Preset that is built unless the user names another."""
    frequency: float
    """Clock of the design, Hz, unless the user gives another."""
    frequencies: Mapping[str, float] = field(default_factory=dict)
    """The same for other presets, by name, that are made for the board."""
    clock: str
    """Platform resource of the crystal."""
    pll_pad: bool = True
    """iCE40: the crystal is at the pad of a PLL."""
    baud: int
    """Bits per second of the UART; the USB bridge of the board must be able to make it."""
    serial_pins: tuple[str, ...] = ("rx", "tx")
    """Pins of the platform's UART resource."""
    lamps: Mapping[str, int] = field(default_factory=dict)
    """Output of the core ("busy", "error") -> LED of the platform that shows it."""
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Options of the platform's tool flow."""
    preset_overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Those that are others for a preset, by its name."""
    mappings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Presets that are better with other commands of ABC than those of Yosys, see `mapping.py`, by name."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of nextpnr for which it has no option, by name; it reads them from the netlist."""
    placers: tuple[str, ...] = ("static",)
    """Placers of nextpnr: the next one is tried with a seed that does not route with the one before."""
    fabric: Fabric | None = None
    """ECP5: what is where, for a floorplan of the array; without it the placer does all."""
    by_block: bool = False
    """Synthesize each distinct block once and flatten at the end: much faster for large arrays, as small for ECP5."""
    cells: Mapping[str, str] = field(default_factory=dict)
    """Cell types of nextpnr's report that matter, with their names for people."""
    bitstream: str
    """File, among those of the tool flow, that is loaded into the board."""
    loader: tuple[str, ...]
    """Options of openFPGALoader for this board."""

    def frequency_of(self, config_name: str) -> float:
        """Clock of that configuration, Hz, unless the user gives another."""
        return self.frequencies.get(config_name, self.frequency)

    def for_preset(self, config_name: str) -> Self:
        """The board with the options of that configuration."""
        return replace(self, overrides={**self.overrides, **self.preset_overrides.get(config_name, {})})

    def reference(self, platform: TemplatedPlatform) -> float:
        """Frequency of the crystal, Hz."""
        crystal: Any = platform.lookup(self.clock)
        return float(crystal.clock.frequency)


def clocks_per_bit(frequency: float, baud: int) -> int:
    """Clock cycles per UART bit; BoardError when the rate would be more than 2 % off, as a frame then slips."""
    cycles = max(1, round(frequency / baud))
    if cycles < 4 or abs(frequency / cycles - baud) > 0.02 * baud:
        raise BoardError(
            f"{baud} baud cannot be made from {frequency / 1e6:g} MHz: {frequency / baud:.2f} cycles per bit, must be "
            "4 or more and within 2 % of an integer; choose another --frequency"
        )
    return cycles


class BoardTop(Elaboratable):
    """Top level of a board: PLL, reset, and the pins of the UART around a core.

    The reset of `sync` is held until the clock is good and `SETTLE` seconds after.

    Parameters
    ----------
    board : Board
    core : SerialCore
        The design; it synchronizes `rx` itself.
    frequency : float
        Clock of the design, Hz.
    """

    def __init__(self, board: Board, core: SerialCore, *, frequency: float) -> None:
        self.board = board
        self.core = core
        self.frequency = frequency

    def elaborate(self, platform: TemplatedPlatform) -> Module:
        m = Module()
        m.submodules.core = core = self.core  # type: ignore[assignment]

        crystal: Any = platform.request(self.board.clock, dir="-")
        reference = self.board.reference(platform)
        m.submodules.pll = pll = Pll(
            crystal, reference=reference, frequency=self.frequency, double=core.pump > 1, pad=self.board.pll_pad
        )
        # No constraint on pll.clk: nextpnr derives it from the crystal's and the divisors of the PLL.

        # `settle` is the same clock without reset: it counts before anything else runs.
        m.domains.sync = ClockDomain("sync")
        m.domains.settle = ClockDomain("settle", reset_less=True)
        m.d.comb += [ClockSignal("sync").eq(pll.clk), ClockSignal("settle").eq(pll.clk)]
        if core.pump > 1:
            m.domains.fast = ClockDomain("fast", reset_less=True)
            m.d.comb += ClockSignal("fast").eq(pll.fast_clk)
        locked = Signal()
        m.submodules.lock_sync = FFSynchronizer(pll.locked, locked, o_domain="settle", init=0)
        last = int(SETTLE * self.frequency)
        count = Signal(range(last + 1))
        reset = Signal(init=1)
        with m.If(~locked):
            m.d.settle += [count.eq(0), reset.eq(1)]
        with m.Elif(count == last):
            m.d.settle += reset.eq(0)
        with m.Else():
            m.d.settle += count.eq(increment(m, platform, count, name="count_next"))
        # One register more, half way between the counter, near the pins, and what it resets, all over the device.
        spread = Signal(init=1)
        m.d.settle += spread.eq(reset)
        m.d.comb += ResetSignal("sync").eq(spread)

        uart: Any = platform.request("uart", 0, dir=dict.fromkeys(self.board.serial_pins, "-"))
        m.submodules.rx_buffer = rx_buffer = io.Buffer(io.Direction.Input, uart.rx)
        m.submodules.tx_buffer = tx_buffer = io.Buffer(io.Direction.Output, uart.tx)
        m.d.comb += [core.rx.eq(rx_buffer.i), tx_buffer.o.eq(core.tx)]
        for name, led in self.board.lamps.items():
            lamp: Any = platform.request("led", led, dir="-")
            m.submodules[f"{name}_buffer"] = buffer = io.Buffer(io.Direction.Output, lamp)
            m.d.comb += buffer.o.eq(getattr(core, name).any())
        return m
