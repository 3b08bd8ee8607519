"""PLL divisors against the data sheets' limits and the formulas."""

import pytest
from amaranth.lib import io
from amaranth.sim import Simulator

from dipole.boards import BOARDS, load_board
from dipole.rtl.primitives.pll import Ecp5PllSettings, Ice40PllSettings, Pll, PllError


@pytest.mark.parametrize("frequency", [16.5e6, 18e6, 21e6, 24e6, 30e6, 36e6, 48e6, 60e6, 120e6, 264e6])
@pytest.mark.parametrize("reference", [12e6, 24e6, 48e6, 120e6])
def test_ice40(reference: float, frequency: float) -> None:
    settings = Ice40PllSettings.solve(reference, frequency)
    assert 0 <= settings.divr <= 15 and 0 <= settings.divf <= 127 and 1 <= settings.divq <= 6
    pfd = reference / (settings.divr + 1)
    vco = pfd * (settings.divf + 1)
    assert 10e6 <= pfd <= 133e6 and 533e6 <= vco <= 1066e6 and 16e6 <= settings.frequency <= 275e6
    assert settings.frequency == pytest.approx(vco / 2**settings.divq)
    assert settings.frequency == pytest.approx(frequency, rel=0.005)


def test_ice40_known() -> None:
    """What icepll of Project IceStorm finds for 12 -> 24 and 12 -> 30 MHz."""
    assert Ice40PllSettings.solve(12e6, 24e6) == Ice40PllSettings(12e6, divr=0, divf=63, divq=5)
    assert Ice40PllSettings.solve(12e6, 24e6).filter_range == 1
    assert Ice40PllSettings.solve(12e6, 30e6) == Ice40PllSettings(12e6, divr=0, divf=79, divq=5)


@pytest.mark.parametrize("frequency", [3.2e6, 10e6, 25e6, 33.333e6, 40e6, 50e6, 62.5e6, 80e6, 100e6, 200e6, 400e6])
@pytest.mark.parametrize("reference", [10e6, 25e6, 50e6, 100e6])
def test_ecp5(reference: float, frequency: float) -> None:
    settings = Ecp5PllSettings.solve(reference, frequency)
    divisors = (settings.clki_div, settings.clkfb_div, settings.clkop_div, settings.clkos_div)
    assert all(1 <= divisor <= 128 for divisor in divisors)
    pfd = reference / settings.clki_div
    vco = pfd * settings.clkfb_div * settings.clkop_div
    assert 10e6 <= pfd <= 400e6 and 400e6 <= vco <= 800e6 and 3.125e6 <= settings.frequency <= 400e6
    assert settings.frequency == pytest.approx(vco / settings.clkos_div)
    assert settings.frequency == pytest.approx(frequency, rel=0.005)


@pytest.mark.parametrize("frequency", [20e6, 33.333e6, 60e6, 75e6, 200e6])
def test_ecp5_double(frequency: float) -> None:
    """Twice the frequency comes from the same oscillator by half of the divisor."""
    settings = Ecp5PllSettings.solve(25e6, frequency, double=True)
    assert settings.clkos_div % 2 == 0 and settings.frequency == pytest.approx(frequency, rel=0.005)
    with pytest.raises(PllError, match="ECP5 PLL cannot make 250 MHz"):
        Ecp5PllSettings.solve(25e6, 250e6, double=True)


def test_impossible() -> None:
    with pytest.raises(PllError, match=r"iCE40 PLL cannot make 13 MHz from 12 MHz; the nearest is 16\.125 MHz"):
        Ice40PllSettings.solve(12e6, 13e6)
    with pytest.raises(PllError, match=r"cannot make 300 MHz from 12 MHz; the nearest is 27\d"):
        Ice40PllSettings.solve(12e6, 300e6)
    with pytest.raises(PllError, match="iCE40 PLL takes no reference of 5 MHz"):
        Ice40PllSettings.solve(5e6, 24e6)
    with pytest.raises(PllError, match=r"ECP5 PLL cannot make 500 MHz from 25 MHz; the nearest is 400 MHz"):
        Ecp5PllSettings.solve(25e6, 500e6)
    with pytest.raises(PllError, match="ECP5 PLL takes no reference of 4 MHz"):
        Ecp5PllSettings.solve(4e6, 50e6)


def test_exact_frequency_by_platform() -> None:
    assert Pll.exact_frequency(load_board("icebreaker").platform(), 12e6, 12e6) == 12e6
    assert Pll.exact_frequency(load_board("icebreaker").platform(), 12e6, 18.01e6) == 18e6
    assert Pll.exact_frequency(load_board("ulx3s_85f").platform(), 25e6, 49.9e6) == pytest.approx(49.9e6, rel=0.005)
    # With a clock of twice the frequency: iCE40 divides that by two, and no crystal goes through as it is.
    assert Pll.exact_frequency(load_board("icebreaker").platform(), 12e6, 33.74e6, double=True) == 33.75e6
    assert Pll.exact_frequency(load_board("icebreaker").platform(), 12e6, 12e6, double=True) == 12e6
    # No PLL known: whoever drives the clock decides.
    assert Pll.exact_frequency(None, 12e6, 13e6) == 13e6


@pytest.mark.parametrize("name", BOARDS)
def test_boards_default_frequency_is_possible(name: str) -> None:
    board = load_board(name)
    platform = board.platform()
    exact = Pll.exact_frequency(platform, board.reference(platform), board.frequency)
    assert exact == pytest.approx(board.frequency, rel=1e-9)


def test_portable_body_passes_the_clock_through() -> None:
    pin = io.SimulationPort("i", 1)
    pll = Pll(pin, reference=12e6, frequency=24e6)
    simulator = Simulator(pll)

    async def bench(ctx) -> None:
        for value in (0, 1, 0, 1, 1, 0):
            ctx.set(pin.i, value)
            await ctx.delay(1e-9)
            assert ctx.get(pll.clk) == value
            assert ctx.get(pll.locked) == 1

    simulator.add_testbench(bench)
    simulator.run()
