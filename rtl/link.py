"""Link: byte-stream commands that load programs, access main memory and control the engine."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..golden.link import PROGRAM_VERSION, REPLY_SYNC, REQUEST_SYNC, Command, Result
from .config import Config
from .crc import Crc32
from .delay import delay_line
from .memory import MemorySignature
from .primitives.adders import increment

__all__ = ["GAP_CYCLES", "Link"]

GAP_CYCLES = 1 << 18
"""Default of `Link.gap`: 22 ms at 12 MHz, longer than a host's USB stack pauses within a frame."""


class Link(wiring.Component):
    """Takes the requests of `host/protocol.py` from `i` and answers each on `o`.

    One CRC-32 unit serves requests, replies and the image of a program: LOAD_END reads main memory back instead of
    trusting what passed by, so a frame may be sent twice. Data of WRITE go to memory word by word as they arrive, but
    only behind a good check sum of the header that holds the address: a broken frame spoils no words but its own.
    Whatever goes wrong, `gap` cycles of silence bring the link back to waiting for a request.

    The link accesses memory only while `busy` is 0. It takes and gives up to one byte per cycle; a reply is offered
    LATENCY cycles behind the last byte of its request, and pauses for a cycle in front of check sums and of each byte
    of memory, and for 1 + memory_lag in front of each word. LOAD_END takes two cycles per byte and 1 + memory_lag per
    word of the image. While it answers, the link does not take bytes.

    Parameters
    ----------
    config : Config
        Memory sizes and the hash that programs must match.
    gap : int
        Cycles without a byte, a power of two from 16, after which an unfinished frame counts as broken off, and which
        end the bytes that are dropped after an error.

    Members
    -------
    i : In(stream.Signature(8))
        Bytes from the host.
    o : Out(stream.Signature(8))
        Bytes to the host.
    line_error : In(1)
        A byte was lost or damaged in front of `i` (UART framing or overrun): counted.
    start, entry, abort, busy, error, cycles
        The engine's control port, seen from outside (see `rtl/engine.py`).
    mem : Out(MemorySignature(config))
        Main memory.
    """

    LATENCY = 5

    i: stream.Interface
    o: stream.Interface
    line_error: Signal
    start: Signal
    entry: Signal
    abort: Signal
    busy: Signal
    error: Signal
    cycles: Signal
    mem: Any

    def __init__(self, config: Config, *, gap: int = GAP_CYCLES) -> None:
        if gap < 16 or gap & (gap - 1):
            raise ValueError(f"gap is {gap}, must be a power of two, at least 16 cycles")
        self.config = config
        self.gap = gap
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "line_error": In(1),
                "start": Out(1),
                "entry": Out(20),
                "abort": Out(1),
                "busy": In(1),
                "error": In(4),
                "cycles": In(32),
                "mem": Out(MemorySignature(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        address_bits = exact_log2(config.mem_depth)
        word_bytes = config.mem_width // 8

        # What a header or a word brings has no reset: on iCE40 the enable of a register with one is an OR of both.
        op, tag = Signal(4, reset_less=True), Signal(4, reset_less=True)
        status = Signal(4)
        in_data = Signal()  # the header has been accepted
        step = Signal(max(4, exact_log2(word_bytes)))  # byte of a header, a reply or a word
        next_step = increment(m, platform, step, name="next_step")
        address = Signal(address_bits, reset_less=True)  # of the next word
        # Address of the last word; it is beyond the memory.
        last, last_high = Signal(address_bits, reset_less=True), Signal(reset_less=True)
        # `address` was the last word a cycle ago; the last word has been fetched
        at_last, final = Signal(reset_less=True), Signal()
        accepted, valid = Signal(), Signal()  # LOAD_BEGIN matched; LOAD_END matched
        m.d.sync += at_last.eq(address == last)

        # --- shift register for header, data and reply ----------------------------------------------
        # The argument of a header, or 32 bits of a word of data.
        argument = Signal(32, reset_less=True)
        shift, load = Signal(), Signal()
        with m.If(shift):
            m.d.sync += argument.eq(Cat(argument[8:], self.i.payload))
        with m.If(load):
            m.d.sync += argument.eq(Mux(op[0], self.cycles, config.hash32))

        bad_frame = Signal()
        errors, runs = Signal(4), Signal(4)
        wrong, started = Signal(), Signal()  # counted a cycle later
        m.d.sync += [
            Cat(wrong, started).eq(Cat(bad_frame | self.line_error, self.start)),
            errors.eq(errors + wrong),
            runs.eq(runs + started),
        ]

        # --- check sum -------------------------------------------------------------------------------
        m.submodules.crc = crc = Crc32()
        listening = Signal()  # within a frame, or dropping bytes after an error
        take = self.i.valid  # where it listens, a byte moves in
        give = Signal()  # a byte moves out, or into the check sum only
        checking = Signal()  # the byte to move out is of the check sum itself
        # A register in front of the check sum: it is complete two cycles after its last byte has moved.
        summed, summed_valid = Signal(8, reset_less=True), Signal()
        m.d.sync += [
            summed.eq(Mux(listening, self.i.payload, self.o.payload)),
            summed_valid.eq(Mux(listening, take, give & ~checking)),
        ]
        m.d.comb += [
            crc.data.eq(summed),
            crc.valid.eq(summed_valid | (self.o.ready & checking)),
            crc.feed_back.eq(checking),
        ]
        # The check sum starts anew a cycle later, which is in front of the next byte that it takes.
        restart = Signal()
        m.d.sync += crc.start.eq(restart)

        # --- memory port -----------------------------------------------------------------------------
        parts = config.mem_width // 32
        write, fetch = Signal(parts), Signal()
        on_the_way = delay_line(m, fetch, max(1, config.memory_lag), "fetched")
        fetched = on_the_way[config.memory_lag]
        with m.If(on_the_way[1]):
            m.d.sync += final.eq(at_last)
        m.d.sync += write.eq(0)
        with m.If(write[-1] | fetch):
            m.d.sync += address.eq(increment(m, platform, address, name="address_next"))
        m.d.comb += [
            self.mem.addr.eq(address),
            self.mem.en.eq(fetch | (write.any() if config.mem_ports == 1 else 0)),
            self.mem.we.eq(Cat(part.replicate(config.granules_per_word // parts) for part in write)),
            self.mem.wdata.eq(argument.replicate(parts)),
            self.entry.eq(argument),
        ]
        if config.mem_ports > 1:
            m.d.comb += self.mem.waddr.eq(address)
        byte = Signal(8, reset_less=True)  # of the word fetched
        m.d.sync += byte.eq(self.mem.rdata.word_select(step[: exact_log2(word_bytes)], 8))

        # --- silence ---------------------------------------------------------------------------------
        silence = Signal(range(self.gap + 1))
        silent = silence[-1]
        m.d.sync += silence.eq(Mux(take | ~listening, 0, increment(m, platform, silence, name="silence_next")))

        # --- comparisons, registered because the paths behind them are long ---------------------------
        good, out_of_range, other_version, other_config = Signal(), Signal(), Signal(), Signal()
        memory_command = op.matches(Command.READ, Command.WRITE, Command.LOAD_END)
        argument_high = argument[address_bits:].any() & (op != Command.LOAD_END)
        m.d.sync += [
            good.eq(crc.match),
            out_of_range.eq(memory_command & (last_high | argument_high)),
            other_version.eq(last_high | (last != PROGRAM_VERSION)),
            other_config.eq(argument != config.hash32),
        ]
        # The verdict on a frame, a register behind them; `begins` also counts where the image is refused.
        found, verdict, refused, begins = Signal(Result), Signal(Result), Signal(), Signal()
        with m.If(~good):
            m.d.comb += found.eq(Mux(in_data & (op == Command.LOAD_END), Result.IMAGE_CRC, Result.FRAME_CRC))
        with m.Elif(~in_data):
            with m.If(op[3]):
                m.d.comb += found.eq(Result.COMMAND)
            with m.Elif(self.busy & (op[2] | (op == Command.LOAD_BEGIN))):
                m.d.comb += found.eq(Result.BUSY)
            with m.Elif(out_of_range):
                m.d.comb += found.eq(Result.RANGE)
            with m.Elif((op == Command.LOAD_BEGIN) & other_version):
                m.d.comb += found.eq(Result.VERSION)
            with m.Elif((op == Command.LOAD_BEGIN) & other_config):
                m.d.comb += found.eq(Result.OTHER_CONFIG)
            with m.Elif(((op == Command.LOAD_END) & ~accepted) | ((op == Command.START) & ~valid)):
                m.d.comb += found.eq(Result.NO_PROGRAM)
        m.d.sync += [
            verdict.eq(found),
            refused.eq(found != Result.OK),
            begins.eq(good & ~in_data & ~self.busy & (op == Command.LOAD_BEGIN)),
        ]

        def listen(*, broken: bool) -> None:
            """Take bytes; at silence answer, where a frame is `broken` by it as TRUNCATED."""
            m.d.comb += [listening.eq(1), self.i.ready.eq(1)]
            with m.If(silent & ~take):
                if broken:
                    m.d.comb += bad_frame.eq(1)
                    m.d.sync += status.eq(Result.TRUNCATED)
                m.d.sync += step.eq(0)
                m.next = "REPLY"

        with m.FSM():
            with m.State("HUNT"):
                m.d.comb += [self.i.ready.eq(1), restart.eq(1)]
                m.d.sync += [step.eq(0), in_data.eq(0), final.eq(0), status.eq(Result.OK)]
                with m.If(self.i.valid & (self.i.payload == REQUEST_SYNC)):
                    m.next = "HEADER"

            with m.State("HEADER"):  # 8 bytes and 4 of check sum; behind data only the check sum
                listen(broken=True)
                with m.If(take):
                    m.d.comb += shift.eq(~step[3])
                    m.d.sync += step.eq(next_step)
                    with m.If(step == 4):
                        high = argument[8 + address_bits :].any()
                        m.d.sync += Cat(op, tag, last, last_high).eq(Cat(argument[: 8 + address_bits], high))
                    with m.If(step == 11):
                        m.next = "SETTLE"

            with m.State("SETTLE"):  # the check sum gets its last byte
                m.next = "COMPARE"

            with m.State("COMPARE"):  # the comparisons get the check sum
                m.next = "JUDGE"

            with m.State("JUDGE"):  # the verdict gets the comparisons
                m.next = "CHECK"

            with m.State("CHECK"):
                m.d.comb += [restart.eq(1), bad_frame.eq(verdict == Result.FRAME_CRC)]
                m.d.sync += [step.eq(0), in_data.eq(1), status.eq(verdict)]
                with m.If(~in_data):
                    m.d.sync += address.eq(Mux(op == Command.LOAD_END, 0, argument))
                with m.If(begins):
                    m.d.sync += [valid.eq(0), accepted.eq(~refused)]
                m.next = "REPLY"
                with m.If(refused):
                    m.next = "DROP"
                with m.Elif(in_data):
                    m.d.sync += valid.eq(valid | (op == Command.LOAD_END))
                with m.Else(), m.Switch(op):
                    with m.Case(Command.WRITE):
                        m.next = "DATA"
                    with m.Case(Command.LOAD_END):
                        m.d.sync += valid.eq(0)
                        m.next = "FETCH"
                    with m.Case(Command.START):
                        m.d.comb += self.start.eq(1)
                    with m.Case(Command.ABORT):
                        m.d.comb += self.abort.eq(1)

            with m.State("DATA"):
                listen(broken=True)
                m.d.comb += shift.eq(take)
                with m.If(take):
                    m.d.sync += [
                        step.eq(next_step),
                        write.eq(Cat(step[: exact_log2(word_bytes)] == 4 * part + 3 for part in range(parts))),
                    ]
                    with m.If(step == word_bytes - 1):
                        m.d.sync += step.eq(Mux(at_last, 8, 0))
                        with m.If(at_last):
                            m.next = "HEADER"

            with m.State("DROP"):
                listen(broken=False)

            with m.State("REPLY"):  # 8 bytes and 4 of check sum; behind the data of READ only the check sum
                m.d.comb += [
                    self.o.valid.eq(1),
                    give.eq(self.o.ready),
                    load.eq(step < 4),
                    shift.eq(give),
                    restart.eq(step == 0),  # this byte reaches the check sum in the next cycle
                ]
                with m.Switch(step):
                    with m.Case(0):
                        m.d.comb += self.o.payload.eq(REPLY_SYNC)
                    with m.Case(1):
                        m.d.comb += self.o.payload.eq(Cat(status, tag))
                    with m.Case(2):
                        m.d.comb += self.o.payload.eq(Cat(self.busy, valid, accepted, Const(0, 1), self.error))
                    with m.Case(3):
                        m.d.comb += self.o.payload.eq(Cat(errors, runs))
                    with m.Case(4, 5, 6, 7):
                        m.d.comb += self.o.payload.eq(argument)
                    with m.Default():
                        m.d.comb += self.o.payload.eq(crc.crc)
                with m.If(give):
                    m.d.sync += step.eq(next_step)
                    with m.If(step == 7):
                        m.next = "PAUSE"
                    with m.If(step == 11):
                        m.d.comb += restart.eq(1)
                        m.d.sync += [step.eq(0), checking.eq(0)]
                        m.next = "HUNT"
                        with m.If((op == Command.READ) & (status == Result.OK) & ~final):
                            m.next = "FETCH"

            with m.State("PAUSE"):  # the check sum gets its last byte
                m.d.sync += checking.eq(1)
                m.next = "REPLY"

            with m.State("FETCH"):
                m.d.comb += fetch.eq(1)
                m.next = "WAIT" if config.memory_lag else "BYTE"

            if config.memory_lag:
                with m.State("WAIT"), m.If(fetched):
                    m.next = "BYTE"

            with m.State("BYTE"):  # `byte` gets a byte of the word
                m.next = "WORD"

            with m.State("WORD"):  # to the host, or past the check sum only
                m.d.comb += [
                    self.o.valid.eq(op == Command.READ),
                    self.o.payload.eq(byte),
                    give.eq(self.o.ready | (op == Command.LOAD_END)),
                ]
                with m.If(give):
                    m.d.sync += step.eq(next_step)
                    m.next = "BYTE"
                    with m.If(step == word_bytes - 1):
                        m.d.sync += step.eq(0)
                        m.next = "FETCH"
                        with m.If(final):
                            m.next = "EXPECTED"
                            with m.If(op == Command.READ):
                                m.d.sync += step.eq(8)
                                m.next = "PAUSE"

            with m.State("EXPECTED"):  # the image's check sum, which the argument holds
                m.d.comb += [self.o.payload.eq(argument), give.eq(1), shift.eq(1)]
                m.d.sync += step.eq(next_step)
                with m.If(step == 3):
                    m.next = "SETTLE"

        return m
