"""Layout of blocks of PEs: what nextpnr allows, within the block, with short wires."""

import random
from itertools import combinations, count
from typing import Any

import pytest
from ecp5_tiles import a_cell, check_tiles, places_of

from dipole.boards.pe_layout import Block, Local, lay_out
from dipole.boards.wiring import Wiring

CLOCK = 2


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever annealing finds has to be right."""
    if "together" not in request.node.name:
        monkeypatch.setattr("dipole.boards.pe_layout._STEPS", 300)


def flip_flop(data: int | str, out: int, enable: int | None = None, reset: int | None = None) -> dict[str, Any]:
    enables = {} if enable is None else {"CE": enable}
    return a_cell("TRELLIS_FF", CLK=CLOCK, DI=data, Q=out, LSR="0" if reset is None else reset, **enables)


def random_block(generator: random.Random, prefix: str = "") -> tuple[dict[str, Any], dict[Local, str]]:
    """Chains whose halves read registers and each other's flip-flops, and flip-flops of several control sets."""
    cells: dict[str, Any] = {}
    bits = count(100)
    sums: list[int] = []
    controls = [(None, None), (10, None), (11, None), (None, 12), (10, 13)]
    for chain in range(generator.randint(2, 6)):
        carry = None
        enable = generator.choice((None, 14))
        for half in range(generator.randint(1, 24)):
            operand, total, after = next(bits), next(bits), next(bits)
            ports = {"A": operand, "F": total, "FCO": after} | ({} if carry is None else {"FCI": carry})
            if sums:
                ports["B"] = generator.choice(sums)
            cells[f"register{chain}_{half}"] = flip_flop("0", operand)
            cells[f"half{chain}_{half}"] = a_cell("TRELLIS_COMB", **ports)
            cells[f"sum{chain}_{half}"] = flip_flop(total, next(bits), enable)
            sums.append(cells[f"sum{chain}_{half}"]["connections"]["Q"][0])
            carry = after
    for k in range(generator.randint(0, 30)):
        enable, reset = generator.choice(controls)
        source = generator.choice(sums)
        if generator.random() < 0.5:
            cells[f"lut{k}"] = a_cell("LUT4", A=source, Z=(source := next(bits)))
        cells[f"other{k}"] = flip_flop(source, next(bits), enable, reset)
    return {prefix + name: cell for name, cell in cells.items()}, {(0, 0, name): prefix + name for name in cells}


def placed(cells: dict[str, Any], members: dict[Local, str], width: int, height: int) -> dict[str, Any] | None:
    """The cells with the places of their layout."""
    layout = lay_out(Block(cells, Wiring(cells), members), width, height)
    if layout is None:
        return None
    for local, (x, y, half) in layout.items():
        cell = cells[members[local]]
        kind = "FF" if cell["type"] == "TRELLIS_FF" else "K"
        assert 0 <= x < width and 0 <= y < height
        cell["attributes"]["BEL"] = f"X{x}/Y{y}/SLICE{'ABCD'[half // 2]}.{kind}{half % 2}"
    return cells


@pytest.mark.parametrize("seed", range(12))
def test_nextpnr_allows_it(seed: int) -> None:
    cells, members = random_block(random.Random(seed))
    result = placed(cells, members, 6, 14)
    assert result is not None, f"seed {seed}"
    check_tiles(result)
    # All have places: each LUT has a flip-flop.
    assert all("BEL" in cell["attributes"] for cell in result.values())


@pytest.mark.parametrize("seed", range(12))
def test_as_small_as_it_gets(seed: int) -> None:
    """With less and less room the layout is right, or there is none."""
    results = [placed(*random_block(random.Random(seed)), 4, height) for height in range(14, -1, -1)]
    assert results[0] is not None and results[-1] is None, f"seed {seed}"
    for result in results:
        if result is not None:
            check_tiles(result)


def test_equal_blocks_have_equal_shapes() -> None:
    seed = 3
    (cells, members), (twin, others) = random_block(random.Random(seed)), random_block(random.Random(seed), "twin.")
    shift = 10_000
    for cell in twin.values():
        for bits in cell["connections"].values():
            bits[:] = [bit + shift if isinstance(bit, int) else bit for bit in bits]
    both = cells | twin
    wiring = Wiring(both)
    one, other = Block(both, wiring, members), Block(both, wiring, others)
    assert one.shape() == other.shape()
    assert lay_out(one, 6, 14) == lay_out(other, 6, 14)
    reset = next(cell for cell in twin.values() if cell["type"] == "TRELLIS_FF")
    reset["connections"]["LSR"] = [20_001]
    assert one.shape() != Block(both, Wiring(both), others).shape()


@pytest.mark.parametrize("seed", range(6))
def test_no_two_registers_stand_better_the_other_way_round(seed: int) -> None:
    cells, members = random_block(random.Random(seed))
    assert placed(cells, members, 8, 16)
    places, wiring = places_of(cells), Wiring(cells)

    def wire(register: str, at: str) -> int:
        (x, y, _), ends = places[at], wiring.readers[cells[register]["connections"]["Q"][0]]
        return sum(abs(x - places[end][0]) + abs(y - places[end][1]) for end, _ in ends)

    for one, other in combinations([name for name in cells if name.startswith("register")], 2):
        assert wire(one, one) + wire(other, other) <= wire(one, other) + wire(other, one), f"seed {seed}"


def test_chains_that_belong_together_stand_together() -> None:
    """Twelve chains in six rows, each of which reads the sums of one other: these are in the next row, side by side."""
    cells: dict[str, Any] = {}
    pairs = [*range(6), *random.Random(1).sample(range(6), 6)]
    for chain, pair in enumerate(pairs):
        own, read = (1000 * pair + 500 * (k == chain // 6) for k in (0, 1))
        for half in range(24):
            first = own + 3 * half
            ports = {"A": read + 3 * half + 2, "F": first, "FCO": first + 1} | ({"FCI": first - 2} if half else {})
            cells[f"half{chain:02}_{half:02}"] = a_cell("TRELLIS_COMB", **ports)
            cells[f"sum{chain:02}_{half:02}"] = flip_flop(first, first + 2)
    assert placed(cells, {(0, 0, name): name for name in cells}, 6, 12)
    places = places_of(cells)
    for chain in range(6):
        (x, y, _), (other_x, other_y, _) = (places[f"half{k:02}_00"] for k in (chain, 6 + pairs[6:].index(chain)))
        assert abs(x - other_x) + abs(y - other_y) <= 3
