"""The one interface to every simulator of the RTL: load an image, run a program, read memory back.

`open_simulator` gives a `Simulator` on one of two engines: "verilator" (compiled, for whole networks) and "amaranth"
(Amaranth's own simulator, for units). Both model the main memory outside the RTL under the contract of
`rtl.memory.MemorySignature`, and make `rdata` junk wherever that contract leaves it undefined.

Cycles are counted from the cycle in which `start` is 1, which is cycle 0; a row drained in that count's cycle t has
`drain_valid` = 1 in cycle t.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..rtl.config import Config
from .verilator_env import SimulationError

__all__ = ["MAX_CYCLES", "RunResult", "Simulator", "open_simulator", "run"]

MAX_CYCLES = 1 << 32
"""Cycles after which a run is given up where the caller names no limit."""

Factory = Callable[[Config], Any]
"""Makes the component to simulate from a configuration; it has the ports of `rtl.engine.Engine`."""


@dataclass(frozen=True)
class RunResult:
    """What one run of a program did."""

    cycles: int
    """The engine's own cycle counter at the end."""
    elapsed: int
    """Cycles from `start` to the first cycle in which `busy` is 0 again, as the simulator counts them."""
    error: int
    """Error code at the end; 0 is success."""
    drained_cycles: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64 [rows drained]: the cycle of each drained row; empty where the run was not traced."""
    drained_words: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint32))
    """uint32 [rows drained, columns + 1]: its words, the sum column last."""
    memory: bytes = b""
    """Main memory after the run; only `run` fills it in."""

    @property
    def drained(self) -> list[tuple[int, tuple[int, ...]]]:
        """The drained rows as (cycle, words)."""
        pairs = zip(self.drained_cycles.tolist(), self.drained_words.tolist(), strict=True)
        return [(cycle, tuple(words)) for cycle, words in pairs]


class Simulator(ABC):
    """A simulated engine with its main memory; a context manager, good for any number of images and runs.

    Parameters
    ----------
    config : Config
        Sizes of the engine.
    component : Factory or None
        Makes the component instead of `rtl.engine.Engine`; same ports.
    waves : Path or None
        VCD file to write, from opening to closing.
    seed : int
        Seed of everything that is undefined: state before reset (compiled engine), junk on `rdata`.
    """

    def __init__(
        self, config: Config, *, component: Factory | None = None, waves: Path | None = None, seed: int = 1
    ) -> None:
        if component is None:
            from ..rtl.engine import Engine

            component = Engine
        self.config = config
        self.component = component
        self.waves = waves
        self.seed = seed

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    @property
    @abstractmethod
    def memory(self) -> np.ndarray:
        """uint32 [mem_depth, mem_width / 32]: main memory itself, a view, lowest bits first."""

    @abstractmethod
    def reset(self) -> None:
        """One cycle of reset; memory stays."""

    @abstractmethod
    def run(
        self,
        entry: int,
        *,
        max_cycles: int = MAX_CYCLES,
        trace: bool = False,
        abort_at: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> RunResult:
        """Start at instruction `entry` and run until the engine is idle.

        `trace` records drained rows; `abort_at` raises `abort` in that cycle (1 or later); `progress` is called
        with the cycles done so far every now and then. A run that is busy after `max_cycles` is a SimulationError, and
        the engine is reset.
        """

    def load(self, image: bytes) -> None:
        """Put an image at word 0; the rest of main memory becomes 0."""
        self.memory[:] = 0
        self.write(0, image)

    def write(self, address: int, data: bytes | Sequence[int] | np.ndarray) -> None:
        """Write whole words from word `address`: bytes (little-endian, 0 up to the end of a word) or 32-bit words."""
        if not isinstance(data, bytes | bytearray | memoryview):
            data = np.ascontiguousarray(data, dtype="<u4").tobytes()
        size = self.config.mem_width // 8
        count = -(-len(data) // size)
        self._check(address, count)
        words = np.frombuffer(bytes(data).ljust(count * size, b"\0"), dtype="<u4")
        self.memory[address : address + count] = words.reshape(count, -1)

    def read(self, address: int, count: int) -> np.ndarray:
        """A copy of `count` words from word `address`: uint32 [count * mem_width / 32], lowest bits first."""
        self._check(address, count)
        return self.memory[address : address + count].reshape(-1).copy()

    def _check(self, address: int, count: int) -> None:
        if address < 0 or count < 0 or address + count > self.config.mem_depth:
            raise SimulationError(
                f"words {address}..{address + count - 1} are outside main memory of "
                f"{self.config.mem_depth} words (configuration {self.config.name!r})"
            )

    def _timeout(self, entry: int, max_cycles: int) -> SimulationError:
        return SimulationError(
            f"simulation: still busy after {max_cycles} cycles (entry {entry}, configuration {self.config.name!r}); "
            "raise max_cycles if the program is that long"
        )


def open_simulator(
    config: Config,
    engine: str = "verilator",
    *,
    component: Factory | None = None,
    waves: Path | None = None,
    seed: int = 1,
) -> Simulator:
    """A simulator on the named engine, to be used in a `with` statement."""
    if engine == "verilator":
        from .verilator_sim import VerilatorSimulator

        return VerilatorSimulator(config, component=component, waves=waves, seed=seed)
    if engine == "amaranth":
        from .amaranth_sim import AmaranthSimulator

        return AmaranthSimulator(config, component=component, waves=waves, seed=seed)
    raise SimulationError(f"unknown simulation engine {engine!r}: give verilator or amaranth")


def run(
    config: Config,
    image: bytes,
    entry: int,
    *,
    engine: str = "verilator",
    max_cycles: int = MAX_CYCLES,
    trace: bool = False,
    waves: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> RunResult:
    """One run of one image on a fresh simulator, main memory afterwards included in the result."""
    with open_simulator(config, engine, waves=waves) as simulator:
        simulator.load(image)
        result = simulator.run(entry, max_cycles=max_cycles, trace=trace, progress=progress)
        memory = simulator.memory.astype("<u4").tobytes()
    return RunResult(result.cycles, result.elapsed, result.error, result.drained_cycles, result.drained_words, memory)
