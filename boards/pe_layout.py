"""Places for the cells of PEs of an ECP5 array within their part of the device, the same for all that are equal.

A PE is a handful of carry chains, which take tiles side by side, twice as many registers, and hardly anything else. The
wires into it are as long as it is large, wherever its cells stand; what counts are those within it:

1. Chains stand in rows of tiles as far apart as they can be. Which stands where is found by annealing.
2. Then registers take the places that are free, all at once: the assignment with the least sum of wires.
3. Registers that hang on each other know their places in the next round only.
"""

import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .fabric import HALVES
from .tiles import ControlSet, Place, Room
from .wiring import Cell, Wiring

__all__ = ["Block", "Local", "lay_out"]

_WAYS = 2
"""To share chains out among rows, tried."""
_STEPS = 5000
"""Of annealing, per chain."""
_WHOLE = 0.1
"""Of these, the part that exchange whole rows."""
_FEW = 4
"""Chains that a register holds together, at most."""
_ROUNDS = 3
"""Of assigning registers."""
_SHORT = 4
"""Tiles; wires that are much longer cost by their square, as the longest one makes the clock."""
_LUTS = ("LUT4", "CCU2C", "TRELLIS_COMB")
_INPUTS = ("A", "B", "C", "D", "DI", "CE", "LSR")

_Numbers = NDArray[np.int_]


Local = tuple[int, int, str]
"""Row and column of a PE in its block, and the name of a cell there."""


class Block:
    """Cells of PEs that share registers, and these registers.

    Parameters
    ----------
    cells : Mapping
        All of the module, by name.
    wiring : Wiring
        Of these.
    members : Mapping
        The cells of the block: row and column of the PE in the block and a name that is the same in all equal PEs ->
        the name of the cell.
    """

    def __init__(self, cells: Mapping[str, Cell], wiring: Wiring, members: Mapping[Local, str]) -> None:
        self._cells = cells
        self._wiring = wiring
        self.members = members
        self._local = {name: local for local, name in members.items()}
        halves = [name for name in sorted(self._local) if cells[name]["type"] == "TRELLIS_COMB"]
        self.guests: dict[str, str] = {}
        """LUT or half of a carry cell -> the flip-flop that takes what it makes, if nobody else does."""
        for name in self.of_type("TRELLIS_FF"):
            lut = self.source(name, "DI")
            if lut and cells[lut]["type"] in _LUTS and wiring.is_only_reader(name, "DI"):
                self.guests[lut] = name
        before = {name: source for name in halves if (source := self.source(name, "FCI"))}
        follower = {source: name for name, source in before.items()}
        self.chains: defaultdict[tuple[int, int], list[list[str]]] = defaultdict(list)
        """Row and column of each PE -> its carry chains."""
        for name in halves:
            if name not in before:
                chain = [name]
                while after := follower.get(chain[-1]):
                    chain.append(after)
                row, column, _ = self._local[name]
                self.chains[row, column].append(chain)
        self.rows = 1 + max((row for row, _, _ in members), default=0)
        self.columns = 1 + max((column for _, column, _ in members), default=0)
        self.flip_flops = sum(1 for _ in self.of_type("TRELLIS_FF"))
        longest = max((len(chain) for chains in self.chains.values() for chain in chains), default=0)
        self.least_width = self.columns * -(-longest // HALVES)
        """Tiles side by side without which chains have no room."""

    def of_type(self, kind: str) -> Iterator[str]:
        return (name for name in self.members.values() if self._cells[name]["type"] == kind)

    def is_flip_flop(self, name: str) -> bool:
        return self._cells[name]["type"] == "TRELLIS_FF"

    def loose(self, places: Mapping[str, Place]) -> Iterator[tuple[str | None, str]]:
        """Each flip-flop without a place that may have one, behind its LUT, in the order of numbers in their names."""
        luts = {guest: lut for lut, guest in self.guests.items()}
        for name in sorted(self.of_type("TRELLIS_FF"), key=_by_numbers):
            # nextpnr joins a flip-flop and the LUT in front of it, wherever that is.
            driver = self._wiring.source(name, "DI")
            joined = driver and self._cells[driver]["type"] in _LUTS and self._wiring.is_only_reader(name, "DI")
            if name not in places and (name in luts or not joined):
                yield luts.get(name), name

    def source(self, name: str, port: str) -> str | None:
        """The cell of the block that drives a port, if one does."""
        driver = self._wiring.source(name, port)
        return driver if driver in self._local else None

    def links(self) -> Iterator[tuple[str, str]]:
        """Who drives and who reads, of cells of the block; carries are not told of."""
        for name in self.members.values():
            for port in _INPUTS:
                if (driver := self.source(name, port)) and driver != name:
                    yield driver, name

    def control(self, flip_flop: str) -> ControlSet:
        return ControlSet.of(flip_flop, self._cells, self._wiring)

    def shape(self) -> Hashable:
        """Equal for blocks with the same cells and wires; they have the same layout."""
        sets: dict[ControlSet, int] = {}
        cells = []
        for local, name in sorted(self.members.items()):
            kind = self._cells[name]["type"]
            sources = [self.source(name, port) for port in (*_INPUTS, "FCI")]
            control = sets.setdefault(self.control(name), len(sets)) if kind == "TRELLIS_FF" else None
            cells.append((local, kind, tuple(source and self._local[source] for source in sources), control))
        return tuple(cells)


def lay_out(block: Block, width: int, height: int) -> dict[Local, Place] | None:
    """Places for cells of a block in `width` x `height` tiles; None if it has no room.

    The rows of PEs in a block go upwards. LUTs that no flip-flop of their own follows get no places: there is room for
    them everywhere.
    """
    chained: dict[str, Place] = {}
    for (row, column), chains in block.chains.items():
        left, right = (k * width // block.columns for k in (column, column + 1))
        above, below = ((block.rows - k) * height // block.rows for k in (row + 1, row))
        places = _place_chains(block, chains, right - left, below - above)
        if places is None:
            return None
        chained |= {name: Place(left + x, above + y, half) for name, (x, y, half) in places.items()}
    places = chained
    for _ in range(_ROUNDS):
        known, places = places, dict(chained)
        if not _assign(block, width, height, known, places):
            return None
    return {local: places[name] for local, name in block.members.items() if name in places}


def _place_chains(block: Block, chains: Sequence[Sequence[str]], width: int, height: int) -> dict[str, Place] | None:
    """Places for the chains of a PE and the flip-flops behind them."""
    tiles = [-(-len(chain) // HALVES) for chain in chains]
    if max(tiles) > width:
        return None

    def shelve(most: int) -> list[list[int]]:
        """Rows of at most so many chains; each takes the first row that has room for it, the longest first."""
        shelves: list[list[int]] = []
        for chain in sorted(range(len(tiles)), key=lambda chain: -tiles[chain]):
            room = (s for s in shelves if len(s) < most and sum(tiles[k] for k in s) + tiles[chain] <= width)
            if (shelf := next(room, None)) is None:
                shelves.append(shelf := [])
            shelf.append(chain)
        return shelves

    # Carry cells want as many wires as a tile has: few to a row, where there is room.
    ways = [shelves for most in range(1, width + 1) if len(shelves := shelve(most)) <= height][:_WAYS]
    if not ways:
        return None

    at: dict[str, tuple[int, int]] = {}
    """Cell of a chain, or flip-flop behind one -> the chain and the number of the half."""
    for chain, halves in enumerate(chains):
        for k, name in enumerate(halves):
            at[name] = chain, k
            if name in block.guests:
                at[block.guests[name]] = chain, k
    pulls = _pulls(block, at)
    found = []
    for shelves in ways:
        x, y = np.zeros(len(tiles), int), np.zeros(len(tiles), int)
        for k, shelf in enumerate(shelves):
            y[shelf] = (2 * k + 1) * height // (2 * len(shelves))
            left = 0 if k % 2 == 0 else width - sum(tiles[chain] for chain in shelf)
            x[shelf] = [left, *(left + end for end in accumulate(tiles[chain] for chain in shelf))][:-1]
        found.append((_anneal(x, y, np.array(tiles), pulls), x, y))
    _, x, y = min(found, key=lambda way: way[0])
    return {name: Place(int(x[chain]) + k // HALVES, int(y[chain]), k % HALVES) for name, (chain, k) in at.items()}


def _pulls(block: Block, at: Mapping[str, tuple[int, int]]) -> _Numbers:
    """Wires between chains: a chain, the tile of it, another chain and the tile of that; a column for each wire.

    What reads the same register is held together as well.
    """
    pulls: list[tuple[int, int, int, int]] = []
    readers: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for driver, name in block.links():
        if name in at:
            chain, half = at[name]
            if driver in at:
                pulls.append((at[driver][0], at[driver][1] // HALVES, chain, half // HALVES))
            else:
                readers[driver].add((chain, half // HALVES))
    for ends in map(sorted, readers.values()):
        if len(ends) <= _FEW:
            pulls += [(*one, *other) for one, other in pairwise(ends)]
    return np.array(pulls, int).reshape(-1, 4).T


def _cost(across: _Numbers, down: _Numbers) -> _Numbers:
    """Of wires of that many tiles."""
    length = np.abs(across) + np.abs(down)
    return length * (_SHORT + length)


def _anneal(x: _Numbers, y: _Numbers, tiles: _Numbers, pulls: _Numbers) -> int:
    """Exchange chains of the same length, and whole rows, such that wires are short; returns what these cost.

    `x`, `y` is where each chain begins.
    """
    random = np.random.default_rng(1)
    from_chain, from_tile, to_chain, to_tile = pulls
    of_chain = [np.flatnonzero((from_chain == chain) | (to_chain == chain)) for chain in range(len(x))]

    def cost(some: _Numbers) -> int:
        one, other = from_chain[some], to_chain[some]
        across = x[one] + from_tile[some] - x[other] - to_tile[some]
        return int(_cost(across, y[one] - y[other]).sum())

    everything = np.arange(len(from_chain))
    now = cost(everything)
    least, best = now, (x.copy(), y.copy())
    hot, steps = now / (4 * max(1, len(x))), _STEPS * len(x)
    for step in range(steps):
        one, other = random.integers(len(x), size=2)
        if random.random() < _WHOLE:
            upper, lower = np.flatnonzero(y == y[one]), np.flatnonzero(y == y[other])
            moved, columns = np.concatenate([upper, lower]), np.concatenate([x[upper], x[lower]])
            rows = np.concatenate([y[upper] * 0 + y[other], y[lower] * 0 + y[one]])
        else:
            if tiles[one] != tiles[other]:
                continue
            moved, columns, rows = np.array([one, other]), x[[other, one]], y[[other, one]]
        touched = np.unique(np.concatenate([of_chain[chain] for chain in moved]))
        before, kept = cost(touched), (x[moved], y[moved])
        x[moved], y[moved] = columns, rows
        change = cost(touched) - before
        if change > 0 and random.random() >= math.exp(-change / (hot * (1 - step / steps) + 1e-3)):
            x[moved], y[moved] = kept
            continue
        now += change
        if now < least:
            least, best = now, (x.copy(), y.copy())
    x[:], y[:] = best
    return least


def _room(block: Block, width: int, height: int, places: Mapping[str, Place]) -> Room:
    """What cells with places leave."""
    room = Room(range(width), range(height))
    for name, place in places.items():
        if block.is_flip_flop(name):
            room.take_flip_flop(place, block.control(name))
        else:
            room.take_lut(place, carry=True)
    return room


def _assign(block: Block, width: int, height: int, known: Mapping[str, Place], places: dict[str, Place]) -> bool:
    """Give places to flip-flops that have none, and to LUTs in front of them; False if there is no room.

    `known` is where their neighbours are thought to stand.
    """
    neighbours: defaultdict[str, list[Place]] = defaultdict(list)
    for driver, name in block.links():
        for one, other in ((driver, name), (name, driver)):
            if other in known:
                neighbours[one].append(known[other])
    groups: defaultdict[tuple[ControlSet, bool], list[tuple[str, ...]]] = defaultdict(list)
    for lut, flip_flop in block.loose(places):
        groups[block.control(flip_flop), lut is not None].append((flip_flop,) if lut is None else (flip_flop, lut))
    room = _room(block, width, height, places)
    # What shares tiles with few others first.
    for (control, with_luts), items in sorted(groups.items(), key=lambda group: _freedom(*group[0])):
        size = control.together
        units = [items[k : k + size] for k in range(0, len(items), size)]
        sites = room.sites(control, size, with_luts=with_luts)
        if len(sites) < len(units):
            return False
        at = np.array([site[0] for site in sites])
        costs = np.zeros((len(units), len(sites)))
        for cost, unit in zip(costs, units, strict=True):
            for place in (place for item in unit for name in item for place in neighbours[name]):
                cost += _cost(at[:, 0] - place.column, at[:, 1] - place.row)
        for unit, site in zip(*linear_sum_assignment(costs), strict=True):
            for item, place in zip(units[unit], sites[site], strict=False):
                flip_flop, *luts = item
                places |= dict.fromkeys(item, place)
                room.take_flip_flop(place, control)
                for _ in luts:
                    room.take_lut(place, carry=False)
    return True


def _freedom(control: ControlSet, with_luts: bool) -> tuple[bool, bool, bool, str]:
    return control.reset is None, control.enable is None, not with_luts, str(control)


def _by_numbers(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]
