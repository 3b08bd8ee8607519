"""Boards: one file each, found by name through `BOARDS` and `load_board`."""

from importlib import import_module

from .board import Board, BoardError

__all__ = ["BOARDS", "Board", "BoardError", "load_board"]

BOARDS: tuple[str, ...] = ("hx8k_evn", "icebreaker", "ulx3s_25f", "ulx3s_45f", "ulx3s_85f")
"""Names of the boards; the file of the same name in this folder defines `BOARD`."""


def load_board(name: str) -> Board:
    """The board of that name; BoardError that lists the known ones otherwise."""
    if name not in BOARDS:
        raise BoardError(f"unknown board {name!r}: give one of {', '.join(BOARDS)}")
    return import_module(f".{name}", __name__).BOARD
