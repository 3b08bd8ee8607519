"""UART: both directions, speeds that differ, noise, break, overrun."""

import random
from collections.abc import Callable, Iterator

import pytest
from amaranth.sim import Simulator

from dipole.rtl.uart import Uart, UartReceiver, UartTransmitter


def wave(data: list[int], bit: float, *, rest: float = 1.0, stop: int = 1) -> list[int]:
    """The line, one level per cycle, for bytes with `bit` cycles per bit and `rest` stop bits more between them."""
    levels: list[int] = []
    end = 0.0
    for byte in data:
        for level, length in [(0, bit), *((byte >> k & 1, bit) for k in range(8)), (stop, bit), (1, rest * bit)]:
            end += length
            levels += [level] * (round(end) - len(levels))
    return levels


def receive(divisor: int, line: list[int], ready: Callable[[], bool] = lambda: True) -> tuple[list[int], int]:
    """Bytes that the receiver gives for a line, and how often it reports an error."""
    dut = UartReceiver(divisor)
    bytes_: list[int] = []
    errors = 0

    async def bench(ctx) -> None:
        nonlocal errors
        for level in [1] * 8 + line + [1] * 12 * divisor:
            takes = ready()
            ctx.set(dut.rx, level)
            ctx.set(dut.o.ready, takes)
            _, _, valid, payload, error = await ctx.tick().sample(dut.o.valid, dut.o.payload, dut.line_error)
            errors += error
            if valid and takes:
                bytes_.append(payload)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return bytes_, errors


def edges(seed: int, count: int) -> list[int]:
    return [0x00, 0xFF, 0x55, 0xAA, 0x80, 0x01, *random.Random(seed).randbytes(count)]


@pytest.mark.parametrize("divisor", [4, 5, 12, 16, 33])
def test_receiver(divisor: int) -> None:
    data = edges(divisor, 12)
    assert receive(divisor, wave(data, divisor, rest=0)) == (data, 0)


@pytest.mark.parametrize("error", [-0.03, -0.02, 0.02, 0.03])
@pytest.mark.parametrize("divisor", [16, 25, 52])
def test_receiver_with_other_speed(divisor: int, error: float) -> None:
    data = edges(divisor, 4)
    assert receive(divisor, wave(data, divisor * (1 + error), rest=0.2)) == (data, 0)


def test_receiver_at_wrong_speed_reports_errors() -> None:
    data, errors = receive(16, wave([0x00] * 10, 16 * 1.3, rest=0))
    assert errors > 0 and data != [0x00] * 10


def test_receiver_ignores_short_pulses() -> None:
    """Pulses shorter than half a bit are no start bit, wherever they come while the line rests."""
    pick = random.Random(1)
    line: list[int] = []
    for byte in (0xA5, 0x3C):
        for _ in range(4):
            line += [0] * pick.randrange(1, 8) + [1] * pick.randrange(2, 20)
        line += wave([byte], 16)
    assert receive(16, line) == ([0xA5, 0x3C], 0)


def test_noise_within_bits_costs_at_most_bytes() -> None:
    """Random levels give bytes or errors, and the receiver understands what comes after a rest."""
    pick = random.Random(2)
    noise = [level for _ in range(60) for level in [pick.randrange(2)] * pick.randrange(1, 40)]
    data, errors = receive(16, noise + [1] * 16 * 10 + wave([0x12, 0x34], 16))
    assert data[-2:] == [0x12, 0x34] and errors > 0


def test_break_is_one_error() -> None:
    line = [0] * 16 * 50 + [1] * 20 + wave([0x77], 16)
    assert receive(16, line) == ([0x77], 1)


def test_missing_stop_bit() -> None:
    line = wave([0x0F], 16, stop=0, rest=2) + wave([0x99], 16)
    assert receive(16, line) == ([0x99], 1)


@pytest.mark.parametrize("seed", range(3))
def test_slow_taker(seed: int) -> None:
    """What is taken within the next start bit is not lost."""
    pick = random.Random(seed)
    data = edges(seed, 10)
    wait = iter(lambda: pick.randrange(16), -1)

    def ready(pauses: Iterator[int] = wait) -> bool:
        return next(pauses) == 0

    got, errors = receive(16, wave(data, 16, rest=4), ready)
    assert got == data and errors == 0


def test_overrun_is_one_error_per_byte() -> None:
    got, errors = receive(8, wave([1, 2, 3, 4], 8), lambda: False)
    assert (got, errors) == ([], 3)  # the last one still waits


@pytest.mark.parametrize("divisor", [4, 7, 16])
def test_transmitter(divisor: int) -> None:
    """The line, cycle by cycle, with random gaps between the bytes."""
    dut = UartTransmitter(divisor)
    pick = random.Random(divisor)
    data = edges(divisor, 6)
    line: list[int] = []

    async def send(ctx) -> None:
        for byte in data:
            for _ in range(pick.choice([0, 0, 1, 30])):
                await ctx.tick()
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload, byte)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
        for _ in range(12 * divisor):
            await ctx.tick()

    async def watch(ctx) -> None:
        async for _, _, level in ctx.tick().sample(dut.tx):
            line.append(level)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(send)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    got, at = [], 0
    while at < len(line):
        if line[at]:
            at += 1
            continue
        bits = [set(line[at + k * divisor : at + (k + 1) * divisor]) for k in range(10)]
        assert all(len(bit) == 1 for bit in bits), "a bit has the wrong length"
        assert bits[0] == {0} and bits[9] == {1}
        got.append(sum(bits[k + 1].pop() << k for k in range(8)))
        at += 10 * divisor
    assert got == data


def test_loop_back() -> None:
    dut = Uart(5)
    data = edges(5, 10)
    got: list[int] = []

    async def send(ctx) -> None:
        for byte in data:
            ctx.set(dut.i.valid, 1)
            ctx.set(dut.i.payload, byte)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        for _ in range(70):
            await ctx.tick()

    async def wire(ctx) -> None:
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.rx, 1)
        async for _, _, level, valid, payload, error in ctx.tick().sample(
            dut.tx, dut.o.valid, dut.o.payload, dut.line_error
        ):
            assert not error
            ctx.set(dut.rx, level)
            if valid:
                got.append(payload)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(send)
    simulator.add_testbench(wire, background=True)
    simulator.run()
    assert got == data


@pytest.mark.parametrize("component", [Uart, UartReceiver, UartTransmitter])
def test_divisor_is_checked(component: type) -> None:
    with pytest.raises(ValueError, match="divisor is 3, must be at least 4 cycles per bit"):
        component(3)
