"""Loads a bitstream into a board over USB with openFPGALoader."""

import subprocess
from pathlib import Path

from ..golden.errors import DipoleError
from .board import Board
from .toolchain import find_tool

__all__ = ["FlashError", "flash_board"]


class FlashError(DipoleError):
    """The bitstream is missing, no board answers, or the loader fails; the message says what to do."""


def flash_board(board: Board, bitstream: Path) -> None:
    """Load `bitstream`; returns when the loader has reported success. Its progress goes to the terminal."""
    if not bitstream.is_file():
        raise FlashError(
            f"no bitstream {bitstream}: make it with `dipole build {board.name}` or name one with --bitstream"
        )
    if bitstream.suffix != Path(board.bitstream).suffix:
        raise FlashError(
            f"{bitstream} is no bitstream for {board.title}, which takes {Path(board.bitstream).suffix} files"
        )
    command = [*find_tool("openFPGALoader"), *board.loader, str(bitstream)]
    process = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    if process.returncode == 0:
        return
    text = process.stderr.strip()
    if "error while loading shared libraries" in text:
        library = text.split("libraries:")[1].split(":")[0].strip()
        raise FlashError(
            f"openFPGALoader cannot start, {library} is missing: install libftdi1 and libusb 1.0 (Debian: apt install "
            "libftdi1-2 libusb-1.0-0) or set OPENFPGALOADER to another build"
        )
    if "device not found" in text or "unable to open" in text:
        raise FlashError(
            f"no {board.title} found on USB: connect it, check its cable and your right to open USB devices"
        )
    reason = text.splitlines()[-1] if text else "no message"
    raise FlashError(f"openFPGALoader failed with exit code {process.returncode}: {reason}")
