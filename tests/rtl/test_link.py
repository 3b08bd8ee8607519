"""The link in RTL against the device model, reply by reply: every command, every error, damaged and random frames."""

import itertools
import random
import zlib
from typing import Any

import pytest
from amaranth.sim import Simulator
from link_bench import LinkBench, StubMachine, stub_config

from dipole.golden.link import PROGRAM_VERSION, Command, Result
from dipole.host.device_model import DeviceModel
from dipole.host.protocol import REPLY_BYTES, Reply, Request, check_data
from dipole.rtl.config import Config
from dipole.rtl.link import Link

CONFIG = stub_config()
DEPTH = CONFIG.mem_depth


def unchecked(command: int, *, tag: int = 0, last: int = 0, argument: int = 0, data: bytes = b"") -> bytes:
    """The frame of a request that a host would not make."""
    request = object.__new__(Request)
    fields = {"command": command, "tag": tag, "last": last, "argument": argument, "data": data}
    for name, value in fields.items():
        object.__setattr__(request, name, value)
    return request.encode()


class Pair:
    """The RTL and the model; whatever one answers, the other must."""

    def __init__(self, config: Config = CONFIG, seed: int = 1) -> None:
        self.config = config
        self.random = random.Random(seed)
        self.bench = LinkBench(config, seed)
        self.machine = StubMachine(config)
        self.model = DeviceModel(config, self.machine, cycles=self.machine.cycles, deferred=True)

    def feed(self, data: bytes, note: object = "") -> bytes:
        expected = self.model.feed(data) + self.model.silence()
        found = self.bench.feed(data, len(expected))
        assert found == expected, f"{note} {data.hex()}: {found.hex()}, must be {expected.hex()}"
        return found

    def ask(self, command: int, *, last: int = 0, argument: int = 0, data: bytes = b"") -> tuple[Reply, bytes]:
        tag = self.random.randrange(16)
        frame = unchecked(command, tag=tag, last=last, argument=argument, data=data)
        answer = self.feed(frame)
        reply = Reply.decode(answer[:REPLY_BYTES])
        assert reply is not None and reply.tag == tag
        body = check_data(answer[REPLY_BYTES:]) if len(answer) > REPLY_BYTES else b""
        assert body is not None
        return reply, body

    def result(self, command: int, *, last: int = 0, argument: int = 0) -> Result:
        return self.ask(command, last=last, argument=argument)[0].result

    def words(self, count: int) -> bytes:
        return self.random.randbytes(count * self.config.mem_width // 8)

    def finish(self) -> None:
        self.bench.finish()
        self.model.finish()

    def load(self, words: int = 5) -> bytes:
        """A random image as a valid program."""
        image = self.words(words)
        assert self.result(Command.LOAD_BEGIN, last=PROGRAM_VERSION, argument=self.config.hash32) == Result.OK
        assert self.ask(Command.WRITE, last=words - 1, data=image)[0].result == Result.OK
        reply, _ = self.ask(Command.LOAD_END, last=words - 1, argument=zlib.crc32(image))
        assert reply.result == Result.OK and reply.program and reply.accepted
        return image


@pytest.mark.parametrize(("mem_width", "memory_lag"), [(32, 0), (64, 0), (256, 0), (32, 1), (64, 4)])
def test_memory(mem_width: int, memory_lag: int) -> None:
    pair = Pair(stub_config(mem_width, memory_lag=memory_lag), seed=mem_width)
    data = pair.words(4)
    assert pair.ask(Command.WRITE, argument=3, last=6, data=data)[0].result == Result.OK
    assert pair.ask(Command.READ, argument=3, last=6)[1] == data
    around = pair.ask(Command.READ, argument=1, last=8)[1]
    size = mem_width // 8
    assert around == bytes(2 * size) + data + bytes(2 * size)
    last = pair.words(1)
    pair.ask(Command.WRITE, argument=DEPTH - 1, last=DEPTH - 1, data=last)
    assert pair.ask(Command.READ, argument=DEPTH - 1, last=DEPTH - 1)[1] == last


def test_addresses_go_around() -> None:
    pair = Pair()
    pair.ask(Command.WRITE, argument=DEPTH - 2, last=1, data=pair.words(4))
    data = pair.ask(Command.READ, argument=DEPTH - 3, last=2)[1]
    assert len(data) == 6 * 4
    assert data[12:] == pair.ask(Command.READ, last=2)[1]


@pytest.mark.parametrize(("mem_width", "memory_lag"), [(32, 0), (64, 0), (128, 0), (32, 3), (64, 1)])
def test_program(mem_width: int, memory_lag: int) -> None:
    pair = Pair(stub_config(mem_width, memory_lag=memory_lag), seed=mem_width)
    identity = pair.ask(Command.IDENTIFY)[0]
    assert identity.value == pair.config.hash32
    assert not (identity.busy or identity.program or identity.accepted or identity.runs or identity.link_errors)
    image = pair.load()
    size = mem_width // 8
    for entry in (0, 3):
        reply = pair.ask(Command.START, argument=entry)[0]
        assert reply.result == Result.OK and reply.busy
        assert pair.result(Command.START) == Result.BUSY
        pair.finish()
        status = pair.ask(Command.STATUS)[0]
        assert not status.busy and status.value == (image[entry * size] & 15) + 3
        assert status.error == image[entry * size] >> 4
        out = pair.ask(Command.READ, argument=DEPTH - 1, last=DEPTH - 1)[1]
        assert out == bytes(byte ^ 0xFF for byte in image[entry * size : (entry + 1) * size])
    assert status.runs == 2


def test_refusals() -> None:
    pair = Pair()
    begin = {"last": PROGRAM_VERSION, "argument": CONFIG.hash32}
    assert pair.result(Command.START) == Result.NO_PROGRAM
    assert pair.result(Command.LOAD_END, last=0, argument=zlib.crc32(bytes(4))) == Result.NO_PROGRAM
    for command in range(8, 16):
        assert pair.result(command) == Result.COMMAND
    for last, argument in (
        (DEPTH, 0),
        (DEPTH, DEPTH),
        (1 << 23, 1),
        ((1 << 24) - 1, (1 << 32) - 1),
        (1 << 20, 1 << 20),
    ):
        assert pair.result(Command.READ, last=last, argument=argument) == Result.RANGE
        assert pair.ask(Command.WRITE, last=last, argument=argument, data=pair.words(2))[0].result == Result.RANGE
    for bit in range(32):
        assert pair.result(Command.LOAD_BEGIN, last=PROGRAM_VERSION, argument=CONFIG.hash32 ^ 1 << bit) == 7
    for bit in range(24):
        assert (
            pair.result(Command.LOAD_BEGIN, last=PROGRAM_VERSION ^ 1 << bit, argument=CONFIG.hash32) == Result.VERSION
        )
    assert not pair.ask(Command.STATUS)[0].accepted
    assert pair.result(Command.LOAD_BEGIN, **begin) == Result.OK
    assert pair.result(Command.START) == Result.NO_PROGRAM
    assert pair.result(Command.LOAD_END, last=DEPTH) == Result.RANGE
    assert pair.result(Command.LOAD_END, last=DEPTH - 1, argument=0) == Result.IMAGE_CRC
    image = pair.load()
    # A damaged image, the wrong length, and a new LOAD_BEGIN make it invalid; the right one again valid.
    crc = zlib.crc32(image)
    for last, argument in ((4, crc ^ 1), (4, crc ^ 1 << 31), (3, crc), (5, crc)):
        assert pair.result(Command.LOAD_END, last=last, argument=argument) == Result.IMAGE_CRC
        assert pair.result(Command.START) == Result.NO_PROGRAM
        assert pair.result(Command.LOAD_END, last=4, argument=crc) == Result.OK
        assert pair.ask(Command.STATUS)[0].program
    assert pair.result(Command.LOAD_BEGIN, **begin) == Result.OK
    assert pair.result(Command.START) == Result.NO_PROGRAM
    assert pair.result(Command.LOAD_END, last=4, argument=crc) == Result.OK
    assert pair.result(Command.LOAD_BEGIN, last=PROGRAM_VERSION, argument=0) == Result.OTHER_CONFIG
    assert pair.result(Command.LOAD_END, last=4, argument=crc) == Result.NO_PROGRAM


def test_flipped_bit_in_memory_is_found() -> None:
    pair = Pair(seed=3)
    image = bytearray(pair.load(2))
    for bit in range(0, 64, 7):
        image[bit // 8] ^= 1 << bit % 8
        pair.ask(Command.WRITE, last=1, data=bytes(image))
        image[bit // 8] ^= 1 << bit % 8
        assert pair.result(Command.LOAD_END, last=1, argument=zlib.crc32(image)) == Result.IMAGE_CRC
        assert pair.result(Command.START) == Result.NO_PROGRAM


def test_busy_and_abort() -> None:
    pair = Pair(seed=4)
    pair.load()
    assert pair.ask(Command.START)[0].busy
    for command in (Command.START, Command.LOAD_BEGIN, Command.LOAD_END, Command.READ):
        assert pair.result(command, last=1) == Result.BUSY
    assert pair.ask(Command.WRITE, last=0, data=bytes(4))[0].result == Result.BUSY
    assert pair.result(Command.IDENTIFY) == Result.OK
    assert pair.ask(Command.STATUS)[0].busy
    aborted = pair.ask(Command.ABORT)[0]
    assert aborted.result == Result.OK and not aborted.busy and aborted.program
    assert pair.result(Command.ABORT) == Result.OK
    # The last word was not written, memory is as before, and the next run is right.
    assert pair.ask(Command.READ, argument=DEPTH - 1, last=DEPTH - 1)[1] == bytes(4)
    image = pair.ask(Command.READ, last=4)[1]
    assert pair.ask(Command.START, argument=2)[0].result == Result.OK
    pair.finish()
    out = pair.ask(Command.READ, argument=DEPTH - 1, last=DEPTH - 1)[1]
    assert out == bytes(byte ^ 0xFF for byte in image[8:12])


def flips(frame: bytes) -> list[bytes]:
    whole = int.from_bytes(frame, "little")
    return [(whole ^ 1 << bit).to_bytes(len(frame), "little") for bit in range(8 * len(frame))]


def test_flipped_bit_in_a_request() -> None:
    """No single flipped bit of a WRITE is carried out; a good one follows each time now and then."""
    pair = Pair(seed=5)
    before = pair.words(3)
    pair.ask(Command.WRITE, argument=7, last=9, data=before)
    good = Request(command=Command.WRITE, argument=8, last=8, data=pair.words(1)).encode()
    for bit, frame in enumerate(flips(good)):
        answer = pair.feed(frame, bit)
        if bit < 8:  # no sync, or rather bytes that look like nothing
            continue
        assert answer[1] & 15 in (Result.FRAME_CRC, Result.TRUNCATED), bit
        if bit % 16 == 15:
            data = pair.ask(Command.READ, argument=7, last=9)[1]
            assert data[:4] == before[:4] and data[8:] == before[8:], bit
            if bit < 8 * 13:
                assert data == before, bit
    assert pair.feed(good)[1] & 15 == Result.OK


def test_truncated_requests() -> None:
    pair = Pair(seed=6)
    good = Request(command=Command.WRITE, tag=9, argument=8, last=9, data=pair.words(2)).encode()
    for length in range(1, len(good)):
        answer = pair.feed(good[:length], length)
        assert Reply.decode(answer).result == Result.TRUNCATED, length  # type: ignore[union-attr]
    assert pair.feed(good)[1] == 9 << 4 | Result.OK
    assert pair.ask(Command.STATUS)[0].link_errors == (len(good) - 1) % 16


@pytest.mark.parametrize("seed", range(3))
def test_noise_in_front(seed: int) -> None:
    """Noise, then silence, then a request: answered at once, however much the noise looks like a frame."""
    pair = Pair(seed=seed)
    for _ in range(6):
        noise = pair.random.randbytes(pair.random.randrange(1, 30))
        pair.feed(noise)
        pair.feed(bytes([0xD1]) + noise)
        assert pair.result(Command.STATUS) == Result.OK
        # Without silence between them the request may be lost, but then the answer says so.
        frame = Request(command=Command.IDENTIFY).encode()
        answers = pair.feed(bytes([0xD1]) + noise + frame)
        assert len(answers) >= REPLY_BYTES
        assert pair.result(Command.STATUS) == Result.OK


def test_line_errors_are_counted() -> None:
    pair = Pair()
    for count in range(1, 18):
        pair.bench.line_error()
        pair.model.line_error()
        if count > 14:
            assert pair.ask(Command.STATUS)[0].link_errors == count % 16


def test_requests_back_to_back() -> None:
    """A stream that holds back, unlike a UART, may bring requests without a pause."""
    pair = Pair(seed=7)
    data = pair.words(2)
    frames = [
        Request(command=Command.WRITE, argument=1, last=2, data=data),
        Request(command=Command.READ, argument=1, last=2),
        Request(command=Command.STATUS),
        Request(command=Command.IDENTIFY, tag=5),
    ]
    answer = pair.feed(b"".join(frame.encode() for frame in frames))
    assert len(answer) == 4 * REPLY_BYTES + 12 and data in answer


@pytest.mark.parametrize("cut", [1, 5, 9, 13, 15, 20, 25])
def test_reset_within_a_request(cut: int) -> None:
    bench = LinkBench(CONFIG, seed=cut, pauses=0)
    write = Request(command=Command.WRITE, argument=0, last=2, data=bytes(range(12))).encode()
    bench._in += write[:cut]
    bench.run(cut + 2)
    bench.reset()
    answer = bench.feed(Request(command=Command.STATUS, tag=3).encode())
    assert answer == Reply(result=Result.OK, tag=3).encode()
    assert bench.feed(write) == Reply(result=Result.OK, value=CONFIG.hash32).encode()


def random_frame(pair: Pair) -> bytes:
    pick = pair.random
    first = pick.choice([0, 1, 5, DEPTH - 2, DEPTH - 1, pick.randrange(DEPTH)])
    last = min(DEPTH - 1, first + pick.randrange(4))
    image = bytes(pair.machine.memory)
    length = pick.randrange(1, 5)
    command = pick.choice([*Command, Command.START, Command.LOAD_END, pick.randrange(16)])
    fields: dict[str, int] = {"last": last, "argument": first}
    if command == Command.LOAD_BEGIN:
        fields = {"last": PROGRAM_VERSION, "argument": CONFIG.hash32}
    elif command == Command.LOAD_END:
        fields = {"last": length - 1, "argument": zlib.crc32(image[: length * 4])}
    elif command == Command.START:
        fields = {"argument": pick.randrange(8)}
    if pick.random() < 0.1:
        fields = {"last": pick.getrandbits(24), "argument": (1 << 24) + pick.getrandbits(24)}
    data = pair.words(last - first + 1)
    fields = {name: value & (0xFFFFFF if name == "last" else 0xFFFFFFFF) for name, value in fields.items()}
    return unchecked(command, tag=pick.randrange(16), data=data, **fields)


def check_random(seed: int, steps: int) -> None:
    pair = Pair(seed=seed)
    pick = pair.random
    for step in range(steps):
        frame = bytearray(random_frame(pair))
        damage = pick.random()
        if damage < 0.1:
            frame[pick.randrange(len(frame))] ^= 1 << pick.randrange(8)
        elif damage < 0.15:
            del frame[pick.randrange(len(frame)) :]
        elif damage < 0.2:
            frame = bytearray(pick.randbytes(pick.randrange(5))) + frame
        elif damage < 0.25:
            frame = frame + pick.randbytes(pick.randrange(5))
        elif damage < 0.3:
            frame.insert(pick.randrange(len(frame)), pick.choice([0xD1, 0x1D, pick.randrange(256)]))
        pair.feed(bytes(frame), f"seed {seed} step {step}")
        if pick.random() < 0.5:
            pair.finish()
    pair.finish()
    assert pair.result(Command.STATUS) == Result.OK
    assert pair.ask(Command.READ, last=DEPTH - 1)[1] == bytes(pair.machine.memory)


@pytest.mark.parametrize("seed", range(3))
def test_random(seed: int) -> None:
    check_random(seed, 40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_random_long(seed: int) -> None:
    check_random(seed, 250)


def unhindered(frame: bytes, cycles: int) -> tuple[list[int], list[int]]:
    """Cycles, counted from the last byte of a request, in which bytes are taken and offered, without gaps."""
    dut: Any = Link(CONFIG, gap=16)
    taken: list[int] = []
    given: list[int] = []

    async def bench(ctx) -> None:
        ctx.set(dut.o.ready, 1)
        for cycle in range(cycles):
            at = len(taken)
            ctx.set(dut.i.valid, at < len(frame))
            ctx.set(dut.i.payload, frame[at] if at < len(frame) else 0)
            _, _, takes, offers = await ctx.tick().sample(dut.i.ready, dut.o.valid)
            if takes and at < len(frame):
                taken.append(cycle)
            if offers:
                given.append(cycle)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return [cycle - taken[-1] for cycle in taken], [cycle - taken[-1] for cycle in given]


def test_latency() -> None:
    frame = Request(command=Command.STATUS).encode()
    taken = [-23, *range(-22, 1, 2)]  # a byte in every second cycle, but the first
    head = [Link.LATENCY + 2 * i for i in range(8)]
    check = [head[-1] + 3 + 2 * i for i in range(4)]
    assert unhindered(frame, 60) == (taken, head + check)
    read = Request(command=Command.READ, last=1).encode()
    # Three cycles in front of each word besides those of its first byte.
    data = [check[-1] + 5 + 11 * k + 2 * i for k in range(2) for i in range(4)]
    assert unhindered(read, 90)[1] == head + check + data + [data[-1] + 4 + 2 * i for i in range(4)]
    write = Request(command=Command.WRITE, last=1, data=bytes(8)).encode()
    taken, given = unhindered(write, 100)
    assert given == head + check
    # Five cycles between header and data, while the header is checked; nothing is lost, the stream waits.
    assert [after - before for before, after in itertools.pairwise(taken)] == [1] + [2] * 11 + [5] + [2] * 11


@pytest.mark.parametrize("gap", [0, 8, 15, 17, 100])
def test_gap_is_checked(gap: int) -> None:
    with pytest.raises(ValueError, match=rf"gap is {gap}, must be a power of two, at least 16"):
        Link(CONFIG, gap=gap)
