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
from .onehot import OneHot
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

    The link accesses memory only while `busy` is 0. It takes and gives a byte in two cycles; a reply is offered LATENCY
    cycles behind the last byte of its request, and pauses for a cycle in front of check sums (for two behind words) and
    for 3 + memory_lag in front of each word. LOAD_END takes two cycles per byte and 3 + memory_lag per word of the
    image. While it answers, the link does not take bytes.

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

    LATENCY = 6

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
        # What comes over a stream leads to a state that sees to what follows, so that no way leads through both.
        at = OneHot(
            "hunt", "take", "took", "compare", "judge", "check", "drop", "fetch", "prepare", "give", prefix="at_"
        )  # fmt: skip
        address_bits = exact_log2(config.mem_depth)
        word_bytes = config.mem_width // 8

        # What a header or a word brings has no reset: on iCE40 the enable of a register with one is an OR of both.
        op, tag = Signal(4, reset_less=True), Signal(4, reset_less=True)
        status = Signal(4)
        in_data = Signal()  # the header has been accepted
        word_bit = exact_log2(word_bytes)
        step = Signal(max(4, word_bit + 1))  # byte of a header, a reply or a word
        next_step = increment(m, platform, step, name="next_step")
        address = Signal(address_bits, reset_less=True)  # of the next word
        # Address of the last word; it is beyond the memory.
        last, last_high = Signal(address_bits, reset_less=True), Signal(reset_less=True)
        # `address` was the last word a cycle ago; the last word has been fetched
        at_last, final = Signal(reset_less=True), Signal()
        accepted, valid = Signal(), Signal()  # LOAD_BEGIN matched; LOAD_END matched
        words, passing = Signal(), Signal()  # bytes are those of words; they move past the check sum only
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
        byte = Signal(8, reset_less=True)  # to move out
        listening = at["take"] | at["drop"]  # within a frame, or dropping bytes after an error
        take, gave = Signal(), Signal()  # a byte of a frame moves in; one moves out, or into the check sum only
        checking = Signal()  # the byte to move out is of the check sum itself
        # A register in front of the check sum: it is complete two cycles after its last byte has moved.
        summed, summed_valid = Signal(8, reset_less=True), Signal()
        m.d.sync += [
            summed.eq(Mux(listening, self.i.payload, byte)),
            summed_valid.eq(take | (gave & ~checking)),
        ]
        m.d.comb += [
            crc.data.eq(summed),
            crc.valid.eq(summed_valid | (at["prepare"] & checking)),
            crc.feed_back.eq(checking),
        ]
        # The check sum starts anew a cycle later, which is in front of the next byte that it takes.
        restart = Signal()
        m.d.sync += crc.start.eq(restart)

        # --- memory port -----------------------------------------------------------------------------
        parts = config.mem_width // 32
        write = Signal(parts)
        on_the_way = delay_line(m, at["fetch"], config.memory_lag + 1, "fetched")
        with m.If(on_the_way[1]):
            m.d.sync += final.eq(at_last)
        with m.If(write[-1] | at["fetch"]):
            m.d.sync += address.eq(increment(m, platform, address, name="address_next"))
        m.d.comb += [
            self.mem.addr.eq(address),
            self.mem.en.eq(at["fetch"] | (write.any() if config.mem_ports == 1 else 0)),
            self.mem.we.eq(Cat(part.replicate(config.granules_per_word // parts) for part in write)),
            self.mem.wdata.eq(argument.replicate(parts)),
            self.entry.eq(argument),
        ]
        if config.mem_ports > 1:
            m.d.comb += self.mem.waddr.eq(address)

        # --- the next byte to move out ---------------------------------------------------------------
        # That of a word is chosen a cycle before.
        of_word = Signal(8, reset_less=True)
        m.d.sync += of_word.eq(self.mem.rdata.word_select((step + at["give"])[:word_bit], 8))
        with m.If(at["prepare"]), m.Switch(Cat(step[:4], words)):
            with m.Case("1----"):
                m.d.sync += byte.eq(of_word)
            with m.Case(0):
                m.d.sync += byte.eq(REPLY_SYNC)
            with m.Case(1):
                m.d.sync += byte.eq(Cat(status, tag))
            with m.Case(2):
                m.d.sync += byte.eq(Cat(self.busy, valid, accepted, Const(0, 1), self.error))
            with m.Case(3):
                m.d.sync += byte.eq(Cat(errors, runs))
            with m.Case("001--"):
                m.d.sync += byte.eq(argument)
            with m.Default():
                m.d.sync += byte.eq(crc.crc)
        m.d.comb += self.o.payload.eq(byte)

        # --- silence ---------------------------------------------------------------------------------
        silence = Signal(range(self.gap + 1))
        silent = silence[-1] & ~self.i.valid
        m.d.sync += silence.eq(Mux(self.i.valid | ~listening, 0, increment(m, platform, silence, name="silence_next")))

        # --- comparisons, registered because the paths behind them are long ---------------------------
        good, out_of_range, other_version, other_config = Signal(), Signal(), Signal(), Signal()
        is_ = {command: Signal(name=f"is_{command.name.lower()}", reset_less=True) for command in Command}
        memory_command = is_[Command.READ] | is_[Command.WRITE] | is_[Command.LOAD_END]
        argument_high = argument[address_bits:].any() & ~is_[Command.LOAD_END]
        m.d.sync += [
            *(found.eq(op == command) for command, found in is_.items()),
            good.eq(crc.match),
            out_of_range.eq(memory_command & (last_high | argument_high)),
            other_version.eq(last_high | (last != PROGRAM_VERSION)),
            other_config.eq(argument != config.hash32),
        ]
        # The verdict on a frame, a register behind them; `begins` also counts where the image is refused.
        found, verdict, refused, begins = Signal(Result), Signal(Result), Signal(), Signal()
        again = Signal(reset_less=True)  # words follow this reply
        with m.If(~good):
            m.d.comb += found.eq(Mux(in_data & is_[Command.LOAD_END], Result.IMAGE_CRC, Result.FRAME_CRC))
        with m.Elif(~in_data):
            with m.If(op[3]):
                m.d.comb += found.eq(Result.COMMAND)
            with m.Elif(self.busy & (op[2] | is_[Command.LOAD_BEGIN])):
                m.d.comb += found.eq(Result.BUSY)
            with m.Elif(out_of_range):
                m.d.comb += found.eq(Result.RANGE)
            with m.Elif(is_[Command.LOAD_BEGIN] & other_version):
                m.d.comb += found.eq(Result.VERSION)
            with m.Elif(is_[Command.LOAD_BEGIN] & other_config):
                m.d.comb += found.eq(Result.OTHER_CONFIG)
            with m.Elif((is_[Command.LOAD_END] & ~accepted) | (is_[Command.START] & ~valid)):
                m.d.comb += found.eq(Result.NO_PROGRAM)
        m.d.sync += [
            verdict.eq(found),
            refused.eq(found != Result.OK),
            begins.eq(good & ~in_data & ~self.busy & is_[Command.LOAD_BEGIN]),
            again.eq(is_[Command.READ] & (status == Result.OK) & ~final),
        ]

        # --- hunt: the first byte of a request -----------------------------------------------------------
        m.d.comb += self.i.ready.eq(at["hunt"] | listening)
        with m.If(at["hunt"]):
            m.d.sync += [in_data.eq(0), final.eq(0), status.eq(Result.OK)]
        at.leave("hunt", (self.i.valid & (self.i.payload == REQUEST_SYNC), "take"))

        # --- take, took: 8 bytes and 4 of check sum; words of data, and behind them only the check sum ---
        last_byte = step[2] & step[3]  # of the check sum has moved
        last_of_word = words & step[word_bit]
        m.d.comb += take.eq(at["take"] & self.i.valid)
        m.d.sync += write.eq(Cat(take & words & (step[:word_bit] == 4 * part + 3) for part in range(parts)))
        with m.If(at["take"] & silent):
            m.d.sync += status.eq(Result.TRUNCATED)
        at.leave("take", (self.i.valid, "took"), (silent, "drop"))

        with m.If(at["took"]):
            with m.If(last_of_word):
                m.d.sync += [step.eq(Mux(at_last, 8, 0)), words.eq(~at_last)]
            with m.If(~words & (step == 4)):
                high = argument[8 + address_bits :].any()
                m.d.sync += Cat(op, tag, last, last_high).eq(Cat(argument[: 8 + address_bits], high))
        at.leave("took", (~words & last_byte, "compare"), (1, "take"))

        # --- the comparisons get the check sum, the verdict the comparisons, and it is carried out ---------
        at.leave("compare", (1, "judge"))
        at.leave("judge", (1, "check"))
        accept = at["check"] & ~refused & ~in_data  # a header
        m.d.comb += [self.start.eq(accept & is_[Command.START]), self.abort.eq(accept & is_[Command.ABORT])]
        with m.If(at["check"]):
            m.d.sync += [in_data.eq(1), status.eq(verdict)]
            with m.If(~in_data):
                m.d.sync += address.eq(Mux(is_[Command.LOAD_END], 0, argument))
            with m.If(begins):
                m.d.sync += [valid.eq(0), accepted.eq(~refused)]
            with m.If(~refused & is_[Command.LOAD_END]):
                m.d.sync += valid.eq(in_data)
            with m.If(~refused & ~in_data):
                m.d.sync += [words.eq(is_[Command.WRITE] | is_[Command.LOAD_END]), passing.eq(is_[Command.LOAD_END])]
        at.leave(
            "check",
            (refused, "drop"), (in_data, "prepare"), (is_[Command.WRITE], "take"), (is_[Command.LOAD_END], "fetch"),
            (1, "prepare"),
        )  # fmt: skip

        # --- drop: bytes up to a silence --------------------------------------------------------------------
        with m.If(at["drop"]):
            m.d.sync += words.eq(0)
        at.leave("drop", (silent, "prepare"))

        # --- fetch: a word is under way -------------------------------------------------------------------
        at.leave("fetch", (1, None))
        at.enter("prepare", on_the_way[-1])

        # --- prepare, give: the bytes of a word, or of a reply, 8 and 4 of check sum, behind words only those. The
        # image goes past the check sum only, and behind it the argument, which is what its check sum must be.
        with m.If(at["prepare"]):
            with m.If(last_of_word):
                m.d.sync += [step.eq(Mux(passing, 4, 8)), words.eq(~final)]
            with m.If(~words & last_byte):
                m.d.sync += words.eq(again)
            with m.If(~words & step[3]):
                m.d.sync += [passing.eq(0), checking.eq(~passing & ~step[2])]
        at.leave(
            "prepare",
            (last_of_word & ~final, "fetch"), (last_of_word, "prepare"), (words, "give"),
            (last_byte & again, "fetch"), (last_byte, "hunt"),
            (step[3] & passing, "compare"), (step[3] & ~checking, "prepare"), (1, "give"),
        )  # fmt: skip
        m.d.comb += [self.o.valid.eq(at["give"] & ~passing), gave.eq(at["give"] & (self.o.ready | passing))]
        at.leave("give", (self.o.ready | passing, "prepare"))

        # --- what several states do -----------------------------------------------------------------------
        replies = at["prepare"] & ~words
        m.d.comb += [
            bad_frame.eq((at["take"] & silent) | (at["check"] & (verdict == Result.FRAME_CRC))),
            shift.eq((take & (words | ~step[3])) | (replies & ~step[3])),
            load.eq(replies & ~step[3] & ~step[2]),
            # A reply's check sum starts behind its first byte.
            restart.eq(at["hunt"] | at["check"] | (replies & ((step[1:4] == 0) | last_byte))),
        ]
        with m.If(take | gave):
            m.d.sync += step.eq(next_step)
        with m.If(at["hunt"] | at["check"] | at["drop"] | at["fetch"]):
            m.d.sync += step.eq(0)
        at.done(m)

        return m
