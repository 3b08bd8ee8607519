"""Verilog of an engine -> Verilator -> C++ -> one shared library, cached under a hash of all that went into it.

Verilator's generated sources, its run-time library and our harness are compiled directly, without its makefile. A
build happens in a directory of its own and is renamed into the cache at the end, so parallel builds are safe: the
worst is that two processes do the same work.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..rtl.config import Config
from .verilator_env import SimulationError, cache_directory, compiler, verilate, verilator_root, version

__all__ = ["build_library"]

_HARNESS = Path(__file__).with_name("harness.cpp")
_VERILATOR_FLAGS = [
    "--cc", "--prefix", "Vdut", "--Mdir", "obj", "--top-module", "dut", "-O3", "--x-assign", "fast",
    "--x-initial", "unique", "--no-timing", "--assert", "--output-split", "20000", "-Wno-fatal", "-Wno-lint",
]  # fmt: skip
_CXX_FLAGS = [
    "-std=gnu++17",
    "-O2",
    "-fPIC",
    "-DVERILATOR=1",
    "-DVM_COVERAGE=0",
    "-DVM_SC=0",
    "-DVM_TIMING=0",
    "-DVL_USER_STOP",
]
_LINK_FLAGS = ["-shared", "-pthread"]


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:24]


def _compile(sources: list[Path], flags: list[str], directory: Path) -> list[Path]:
    """Compile each source into an object in `directory`, on all processors."""

    def one(source: Path) -> Path:
        target = directory / f"{source.stem}.o"
        command = [compiler(), *flags, "-c", str(source), "-o", str(target)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            first = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr.strip())
            raise SimulationError(f"the C++ compiler stopped on {source.name}: {first}")
        return target

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(one, sources))


def _install(draft: Path, target: Path) -> None:
    """Rename a finished directory into the cache; when another process was first, its result stays."""
    try:
        draft.rename(target)
    except OSError:
        if not target.exists():
            raise


def _runtime(waves: bool) -> list[Path]:
    """Objects of Verilator's own run-time library, compiled once per version and kind."""
    names = ["verilated", "verilated_threads", *(["verilated_vcd_c"] if waves else [])]
    flags = [*_CXX_FLAGS, "-O1", *_trace_flags(waves), *_include_flags()]
    target = cache_directory() / f"runtime-{_digest(version(), compiler(), *flags)}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache_directory(), ignore_cleanup_errors=True) as work:
            draft = Path(work) / "runtime"
            draft.mkdir()
            _compile([verilator_root() / "include" / f"{name}.cpp" for name in names], flags, draft)
            _install(draft, target)
    return [target / f"{name}.o" for name in names]


def _include_flags() -> list[str]:
    include = verilator_root() / "include"
    return [f"-I{include}", f"-I{include / 'vltstd'}"]


def _trace_flags(waves: bool) -> list[str]:
    return [f"-DVM_TRACE={int(waves)}", f"-DVM_TRACE_VCD={int(waves)}", "-DVM_TRACE_FST=0", "-DVM_TRACE_SAIF=0"]


def build_library(config: Config, verilog: str, *, waves: bool = False) -> Path:
    """Path of the shared library that simulates `verilog` (top module `dut`) with the harness, built where needed."""
    harness = _HARNESS.read_text()
    macros = {
        "MEM_WIDTH": config.mem_width,
        "MEM_DEPTH": config.mem_depth,
        "MEM_LAG": config.memory_lag,
        "MEM_PORTS": config.mem_ports,
        "GRANULE": config.granule,
        "SUMS": config.columns + 1,
        "ACC_WIDTH": config.acc_width,
        "PUMP": config.pump,
    }
    flags = [*_CXX_FLAGS, *_trace_flags(waves), *_include_flags()]
    flags += [f"-D{name}={value}" for name, value in macros.items()]
    if waves:
        flags.append("-DDIPOLE_WAVES")
    key = _digest(verilog, harness, version(), compiler(), *flags, *_VERILATOR_FLAGS, *_LINK_FLAGS)
    target = cache_directory() / f"engine-{key}"
    library = target / "dut.so"
    if library.exists():
        return library
    runtime = _runtime(waves)
    with tempfile.TemporaryDirectory(dir=cache_directory(), ignore_cleanup_errors=True) as work:
        directory = Path(work)
        (directory / "dut.v").write_text(verilog)
        (directory / "harness.cpp").write_text(harness)
        verilate([*_VERILATOR_FLAGS, *(["--trace-vcd"] if waves else []), "dut.v"], cwd=directory)
        generated = directory / "obj"
        sources = sorted(generated.glob("*.cpp"))
        objects = _compile([directory / "harness.cpp", *sources], [*flags, f"-I{generated}"], directory)
        draft = directory / "engine"
        draft.mkdir()
        command = [compiler(), *_LINK_FLAGS, *map(str, [*objects, *runtime]), "-o", str(draft / "dut.so")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SimulationError(f"the linker stopped: {result.stderr.strip().splitlines()[-1]}")
        shutil.copy(directory / "dut.v", draft)
        _install(draft, target)
    return library
