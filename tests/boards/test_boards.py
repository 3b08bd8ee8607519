"""Board files, the arithmetic of the UART, and the prepared files of the flow, without running any tool."""

import re
from pathlib import Path

import pytest
from echo import Echo

from dipole.boards import BOARDS, Board, BoardError, build, load_board
from dipole.boards.board import BoardTop, clocks_per_bit
from dipole.rtl.presets import PRESETS


@pytest.mark.parametrize("name", BOARDS)
def test_board_is_complete(name: str) -> None:
    board = load_board(name)
    assert isinstance(board, Board)
    assert board.name == name and board.config in PRESETS
    assert 1e6 <= board.reference(board.platform()) <= 100e6
    # Whole cycles per bit at the default frequencies: no error at all in the baud rate.
    for config in (board.config, *board.frequencies):
        frequency = board.frequency_of(config)
        assert config in PRESETS and clocks_per_bit(frequency, board.baud) * board.baud == frequency
    assert {*board.mappings} <= {board.config, *board.frequencies}
    assert {*board.preset_overrides} <= {board.config, *board.frequencies}


def test_unknown_board() -> None:
    with pytest.raises(
        BoardError, match="unknown board 'nix': give one of hx8k_evn, icebreaker, ulx3s_25f, ulx3s_45f, ulx3s_85f"
    ):
        load_board("nix")


@pytest.mark.parametrize(
    ("frequency", "baud", "cycles"),
    [(24e6, 1_000_000, 24), (12e6, 115_200, 104), (50.4e6, 1_000_000, 50), (4e6, 1_000_000, 4)],
)
def test_clocks_per_bit(frequency: float, baud: int, cycles: int) -> None:
    assert clocks_per_bit(frequency, baud) == cycles
    assert abs(frequency / cycles / baud - 1) <= 0.02


@pytest.mark.parametrize(("frequency", "baud"), [(12e6, 3_500_000), (3e6, 1_000_000), (0.1e6, 1_000_000)])
def test_baud_rate_that_cannot_be_made(frequency: float, baud: int) -> None:
    with pytest.raises(BoardError, match=rf"{baud} baud cannot be made from {frequency / 1e6:g} MHz"):
        clocks_per_bit(frequency, baud)


@pytest.mark.parametrize("name", BOARDS)
def test_prepared_files(name: str) -> None:
    board = load_board(name)
    platform = board.platform()
    top = BoardTop(board, Echo(), frequency=board.frequency)
    plan = platform.prepare(top, "top", emit_src=False, **board.overrides)
    netlist = str(plan.files["top.il"])
    assert re.search(r"cell (\\SB_PLL40_PAD|\\SB_PLL40_CORE|\\EHXPLLL) ", netlist)
    constraints = str(plan.files.get("top.pcf") or plan.files.get("top.lpf"))
    for pin in ("rx", "tx", "clk"):
        assert pin in constraints
    # The crystal alone is constrained; nextpnr derives the clock behind the PLL.
    assert len(re.findall(r"^(?:set_frequency|FREQUENCY)", constraints, re.MULTILINE)) == 1
    script = str(plan.files["top.ys"])
    assert ("-device u" in script) == (name == "icebreaker")


@pytest.mark.parametrize("name", BOARDS)
def test_no_pll_at_the_frequency_of_the_crystal(name: str) -> None:
    board = load_board(name)
    platform = board.platform()
    top = BoardTop(board, Echo(), frequency=board.reference(platform))
    netlist = str(platform.prepare(top, "top", emit_src=False).files["top.il"])
    assert "PLL" not in netlist


def test_builds_have_the_options_of_their_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In front of those of the board, of which the others stay."""
    built = []

    class Stop(Exception):
        pass

    def build_core(board: Board, *_: object, **__: object) -> None:
        built.append(board)
        raise Stop

    monkeypatch.setattr(build, "build_core", build_core)
    board = load_board("icebreaker")
    for preset in ("up5k", "icebreaker"):
        with pytest.raises(Stop):
            build.build_board("icebreaker", config=preset, output=tmp_path)
    assert built[0].overrides == {**board.overrides, **board.preset_overrides["up5k"]} != board.overrides
    assert built[1] == board
