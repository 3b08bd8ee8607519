"""Phase-locked loops: a clock of a wanted frequency from the crystal of a board.

Limits and formulas:

* iCE40, FPGA-TN-02052 and FPGA-DS-02008: f_pfd = f_in / (DIVR + 1) in 10..133 MHz, f_vco = f_pfd * (DIVF + 1) in
  533..1066 MHz, f_out = f_vco / 2^DIVQ in 16..275 MHz;
* ECP5, FPGA-TN-02200 and FPGA-DS-02012, feedback from CLKOP, output CLKOS: f_in in 8..400 MHz, f_pfd = f_in / CLKI_DIV
  in 10..400 MHz, f_vco = f_pfd * CLKFB_DIV * CLKOP_DIV in 400..800 MHz, f_out = f_vco / CLKOS_DIV in 3.125..400 MHz.

A second clock of twice the frequency, whose rising edges meet those of the first, comes from the same oscillator: on
iCE40 the first is half of the second (GENCLK_HALF), on ECP5 CLKOS2 has half of CLKOS' divisor, and no phase shift.
"""

from dataclasses import dataclass
from typing import Any, Self, TypeVar

from amaranth import Const, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import Out

from ...golden.errors import DipoleError
from .family import family_of

__all__ = ["Ecp5PllSettings", "Ice40PllSettings", "Pll", "PllError"]

TOLERANCE = 0.005
"""Largest relative distance between a wanted and the nearest possible frequency."""


class PllError(DipoleError):
    """A frequency that the PLL of the device cannot make; the message names both."""


@dataclass(frozen=True)
class Ice40PllSettings:
    """Divisors of SB_PLL40 in simple feedback mode; frequencies in Hz."""

    reference: float
    divr: int
    divf: int
    divq: int

    @property
    def pfd(self) -> float:
        return self.reference / (self.divr + 1)

    @property
    def vco(self) -> float:
        return self.pfd * (self.divf + 1)

    @property
    def frequency(self) -> float:
        return self.vco / (1 << self.divq)

    @property
    def filter_range(self) -> int:
        """Bandwidth of the loop filter by phase detector frequency."""
        limits = (17e6, 26e6, 44e6, 66e6, 101e6)
        return 1 + sum(self.pfd >= limit for limit in limits)

    @classmethod
    def solve(cls, reference: float, frequency: float, *, double: bool = False) -> Self:
        """The settings nearest to `frequency`, or with `double` to twice that; PllError when none is within the
        tolerance.
        """
        times = 1 + double
        candidates = (
            cls(reference, divr, divf, divq)
            for divr in range(16)
            if 10e6 <= reference / (divr + 1) <= 133e6
            for divf in range(128)
            if 533e6 <= reference / (divr + 1) * (divf + 1) <= 1066e6
            for divq in range(1, 7)
        )
        possible = [settings for settings in candidates if 16e6 <= settings.frequency <= 275e6]
        # Equal frequencies: the faster phase detector, that is the smaller divr, has less jitter; min keeps the first.
        best = min(possible, key=lambda settings: abs(settings.frequency - times * frequency), default=None)
        return _checked("iCE40", reference, frequency, best, times)


@dataclass(frozen=True)
class Ecp5PllSettings:
    """Divisors of EHXPLLL with feedback from CLKOP and output CLKOS; frequencies in Hz."""

    reference: float
    clki_div: int
    clkfb_div: int
    clkop_div: int
    clkos_div: int

    @property
    def pfd(self) -> float:
        return self.reference / self.clki_div

    @property
    def vco(self) -> float:
        return self.pfd * self.clkfb_div * self.clkop_div

    @property
    def frequency(self) -> float:
        return self.vco / self.clkos_div

    @classmethod
    def solve(cls, reference: float, frequency: float, *, double: bool = False) -> Self:
        """The settings nearest to `frequency`, VCO in mid-range; PllError when none is within the tolerance.

        `double`: CLKOS_DIV is even and half of it makes at most 400 MHz, too.
        """
        step = 1 + double
        # Only the product CLKFB_DIV * CLKOP_DIV matters: CLKFB_DIV = 1, CLKOP runs at the phase detector's frequency.
        possible = [
            cls(reference, clki_div, 1, clkop_div, clkos_div)
            for clki_div in range(1, 41)
            if 8e6 <= reference <= 400e6 and 10e6 <= reference / clki_div <= 400e6
            for clkop_div in range(1, 129)
            if 400e6 <= reference / clki_div * clkop_div <= 800e6
            for clkos_div in range(step, 129, step)
            if 3.125e6 <= reference / clki_div * clkop_div / clkos_div <= 400e6 / step
        ]
        best = min(
            possible,
            key=lambda settings: (abs(settings.frequency - frequency), settings.clki_div, abs(settings.vco - 600e6)),
            default=None,
        )
        return _checked("ECP5", reference, frequency, best)


Settings = TypeVar("Settings", Ice40PllSettings, Ecp5PllSettings)


def _checked(family: str, reference: float, frequency: float, best: Settings | None, times: int = 1) -> Settings:
    if best is None:
        raise PllError(f"the {family} PLL takes no reference of {reference / 1e6:g} MHz")
    nearest = best.frequency / times
    if abs(nearest - frequency) > TOLERANCE * frequency:
        raise PllError(
            f"the {family} PLL cannot make {frequency / 1e6:g} MHz from {reference / 1e6:g} MHz; "
            f"the nearest is {nearest / 1e6:g} MHz"
        )
    return best


class Pll(wiring.Component):
    """Clock generator: the board's crystal in, a clock of the wanted frequency out.

    When the wanted frequency is the crystal's own, the clock passes through a plain input buffer. On a platform without
    a known PLL, a simulation for example, it always does: there the testbench sets the frequency.

    Parameters
    ----------
    pin : io.PortLike
        Crystal input, not buffered.
    reference : float
        Frequency of the crystal, Hz.
    frequency : float
        Wanted frequency, Hz.
    double : bool
        With a clock of twice the frequency.
    pad : bool
        iCE40: the pin is the pad of a PLL (SB_PLL40_PAD), or any other input (SB_PLL40_CORE).

    Members
    -------
    clk : Out(1)
        The clock, on a global network.
    fast_clk : Out(1)
        With `double`: the one of twice the frequency, on another.
    locked : Out(1)
        1 while the clock is good; asynchronous. iCE40 and ECP5 lock within 50 us and 15 ms.
    """

    clk: Signal
    fast_clk: Signal
    locked: Signal

    def __init__(
        self, pin: io.PortLike, *, reference: float, frequency: float, double: bool = False, pad: bool = True
    ) -> None:
        self.pin = pin
        self.double = double
        self.pad = pad
        self.reference = reference
        self.frequency = frequency
        super().__init__({"clk": Out(1), "locked": Out(1), **({"fast_clk": Out(1)} if double else {})})

    @staticmethod
    def exact_frequency(platform: object, reference: float, frequency: float, *, double: bool = False) -> float:
        """The frequency, Hz, that the platform's PLL really makes for a wanted one; PllError when there is none."""
        if frequency == reference and not double:
            return frequency
        if family_of(platform) == "ice40":
            return Ice40PllSettings.solve(reference, frequency, double=double).frequency / (1 + double)
        if family_of(platform) == "ecp5":
            return Ecp5PllSettings.solve(reference, frequency, double=double).frequency
        return frequency

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.frequency != self.reference or self.double:
            if family_of(platform) == "ice40":
                self._ice40(m)
                return m
            if family_of(platform) == "ecp5":
                self._ecp5(m)
                return m
            if self.double:
                raise PllError("a clock of twice the frequency needs a PLL, and there is none for this platform")
        m.submodules.buffer = buffer = io.Buffer(io.Direction.Input, self.pin)
        m.d.comb += [self.clk.eq(buffer.i), self.locked.eq(1)]
        return m

    def _ice40(self, m: Module) -> None:
        settings = Ice40PllSettings.solve(self.reference, self.frequency, double=self.double)
        if self.pad:
            assert isinstance(self.pin, io.SingleEndedPort)
            crystal = {"i_PACKAGEPIN": self.pin.io}
        else:
            m.submodules.buffer = buffer = io.Buffer(io.Direction.Input, self.pin)
            crystal = {"i_REFERENCECLK": buffer.i}
        outputs: dict[str, Any] = {"o_PLLOUTGLOBAL": self.clk}
        if self.double:
            outputs = {"p_PLLOUT_SELECT_PORTA": "GENCLK", "o_PLLOUTGLOBALA": self.fast_clk}
            outputs |= {"p_PLLOUT_SELECT_PORTB": "GENCLK_HALF", "o_PLLOUTGLOBALB": self.clk}
        m.submodules.pll = Instance(
            f"SB_PLL40_{'2F_' if self.double else ''}{'PAD' if self.pad else 'CORE'}",
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=Const(settings.divr, 4),
            p_DIVF=Const(settings.divf, 7),
            p_DIVQ=Const(settings.divq, 3),
            p_FILTER_RANGE=Const(settings.filter_range, 3),
            **crystal,
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            **outputs,
            o_LOCK=self.locked,
        )

    def _ecp5(self, m: Module) -> None:
        settings = Ecp5PllSettings.solve(self.reference, self.frequency, double=self.double)
        m.submodules.buffer = buffer = io.Buffer(io.Direction.Input, self.pin)
        feedback = Signal()
        fast: dict[str, Any] = {}
        if self.double:
            divisor = settings.clkos_div // 2
            fast = {"p_CLKOS2_ENABLE": "ENABLED", "p_CLKOS2_DIV": divisor, "p_CLKOS2_CPHASE": divisor - 1}
            fast |= {"p_CLKOS2_FPHASE": 0, "o_CLKOS2": self.fast_clk}
        m.submodules.pll = Instance(
            "EHXPLLL",
            # Charge pump and loop filter, as Diamond sets them for these ranges.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_CLKOP_ENABLE="ENABLED",
            p_CLKI_DIV=settings.clki_div,
            p_CLKFB_DIV=settings.clkfb_div,
            p_CLKOP_DIV=settings.clkop_div,
            p_CLKOP_CPHASE=settings.clkop_div - 1,  # no phase shift
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=settings.clkos_div,
            p_CLKOS_CPHASE=settings.clkos_div - 1,
            p_CLKOS_FPHASE=0,
            p_FEEDBK_PATH="CLKOP",
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_CLKI=buffer.i,
            i_CLKFB=feedback,
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            i_ENCLKOS=Const(0),
            o_CLKOP=feedback,
            o_CLKOS=self.clk,
            **fast,
            o_LOCK=self.locked,
        )
