"""Tokens: every program of the compiler passes the check, and no token can be left out."""

import dataclasses

import numpy as np
import pytest
from running import conv, network

from dipole.compiler.mapping import compile_network
from dipole.compiler.network import Format, Pool
from dipole.compiler.tokens import TokenError, check_tokens
from dipole.golden.isa import Engine, Instruction, Op, StoreReg, encode
from dipole.rtl.presets import PRESETS

TINY = PRESETS["test_tiny"]
LOADS = (Op.LOADA, Op.LOADW, Op.LOADP)
NOTHING = encode(Instruction(op=Op.SET, engine=Engine.STORE, reg=31, value=0))


def programs():
    rng = np.random.default_rng(0)
    two = Format.unsigned(2)
    layers = [conv(rng, 12, 5, padding=(1, 1, 1, 1), codes=two, pool=Pool((2, 2), (2, 2))),
              conv(rng, 9, 12, act=two, padding=(1, 1, 1, 1), codes=two), conv(rng, 3, 9, (4, 4), act=two)]  # fmt: skip
    net = network(layers, 8, 8)
    small = dataclasses.replace(TINY, row_depth=16, column_depth=32, ladder_depth=16)
    return [compile_network(net, TINY), compile_network(net, small)]


PROGRAMS = programs()


def changed(program, change):
    """The program with `change` applied to every instruction word."""
    code = [int(word) for word in program.instructions]
    words = np.array([change(n, word) for n, word in enumerate(code)], "<u4")
    return dataclasses.replace(program, image=program.image[: 4 * program.entry] + words.tobytes())


@pytest.mark.parametrize("program", PROGRAMS, ids=["whole", "split"])
def test_no_token_is_idle(program):
    """Leaving out a single `wait` or `signal` is noticed, and so is leaving out a kind of token altogether."""
    check_tokens(program)
    ops = [int(word) >> 28 for word in program.instructions]
    assert PROGRAMS.index(program) == any(layer.split for layer in program.layers)
    places = [
        (at, bit)
        for bit in (26, 27)
        for at, op in enumerate(ops)
        if op in (*LOADS, Op.EXEC) and int(program.instructions[at]) >> bit & 1
    ]
    assert len(places) > 30
    for at, bit in [places[n] for n in np.random.default_rng(0).permutation(len(places))[:30]]:
        with pytest.raises(TokenError, match=r"^instruction \d+: .*; the tokens of this program are wrong"):
            check_tokens(changed(program, lambda n, w, at=at, bit=bit: w & ~(1 << bit) if n == at else w))

    def without(load_bit, exec_bit):
        def change(_, word):
            if word >> 28 in LOADS:
                return word & ~(1 << load_bit)
            return word & ~(1 << exec_bit) if word >> 28 == Op.EXEC else word

        return changed(program, change)

    with pytest.raises(TokenError, match="may not be loaded yet"):
        check_tokens(without(26, 27))  # no filled tokens
    with pytest.raises(TokenError, match="an EXEC may still read"):
        check_tokens(without(27, 26))  # no freed tokens
    with pytest.raises(TokenError, match="a STORE may"):
        check_tokens(changed(program, lambda _, w: NOTHING if w >> 28 in (Op.DONE, Op.AWAIT) else w))
    with pytest.raises(TokenError, match="done tokens are left over"):
        last = len(ops) - 2
        check_tokens(changed(program, lambda n, w: NOTHING if n == last else w))


@pytest.mark.parametrize("program", PROGRAMS, ids=["whole", "split"])
def test_wrong_addresses_are_noticed(program):
    """Buffers that nothing has filled, ladders that are not there, outputs over inputs."""
    ops = [int(word) >> 28 for word in program.instructions]
    first = ops.index(Op.EXEC)
    with pytest.raises(TokenError, match=r"nothing has loaded|may not be loaded"):
        check_tokens(changed(program, lambda n, w: w + 40 if n == first else w))
    load = ops.index(Op.LOADP)
    with pytest.raises(TokenError, match="its ladders may not be loaded yet"):
        check_tokens(changed(program, lambda n, w: NOTHING if n == load else w))
    source = program.input.layout.address * program.config.granules_per_word
    target = encode(Instruction(op=Op.SET, engine=Engine.STORE, reg=StoreReg.DST, value=source))
    where = next(n for n, w in enumerate(program.instructions) if int(w) >> 21 == target >> 21)
    with pytest.raises(TokenError, match=r"memory that a (load may still read|STORE may not have written)"):
        check_tokens(changed(program, lambda n, w: target if n == where else w))


def test_store_without_tile():
    program = PROGRAMS[0]
    store = [int(word) >> 28 for word in program.instructions].index(Op.STORE)
    with pytest.raises(TokenError, match=r"it drains a tile before the one before has a STORE|left over"):
        check_tokens(changed(program, lambda n, w: NOTHING if n == store else w))
