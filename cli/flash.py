"""`dipole flash`: load a bitstream into a board."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["flash"]


def flash(
    board: Annotated[str, typer.Argument(help="Board: hx8k_evn, icebreaker, ulx3s_25f, ulx3s_45f or ulx3s_85f.")],
    bitstream: Annotated[
        Path | None, typer.Option(help="File to load. Default: what `dipole build BOARD` wrote into out/BOARD.")
    ] = None,
) -> None:
    """Load a bitstream into a board over USB."""
    from ..boards import load_board
    from ..boards.flash import flash_board

    known = load_board(board)
    flash_board(known, bitstream or Path("out") / board / f"{board}{Path(known.bitstream).suffix}")
    typer.echo(f"{known.title}: loaded")
