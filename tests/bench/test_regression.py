"""Logic cells and cycles against the recorded table; if a change is meant: `dipole bench regression --update`."""

import json
import re
from pathlib import Path

import pytest

from dipole.bench import regression
from dipole.bench.regression import BLOCKS, compare_block, compare_cycles, load
from dipole.bench.workloads import WORKLOADS
from dipole.cli.main import main
from dipole.rtl.presets import PRESETS

TABLE = Path(__file__).parent / "regression.json"
SLOW_BLOCKS = {"link", "pe_portable"}
SLOW_WORKLOADS = {"resnet8"}


def slow(names, chosen: set[str]) -> list:
    return [pytest.param(name, marks=pytest.mark.slow) if name in chosen else name for name in names]


@pytest.mark.parametrize("name", slow(BLOCKS, SLOW_BLOCKS))
def test_cells(name: str) -> None:
    differences = compare_block(load(TABLE), name)
    assert differences and not [d.row() for d in differences if not d.same], "dipole bench regression --update"


@pytest.mark.parametrize("workload", slow(WORKLOADS, SLOW_WORKLOADS))
@pytest.mark.parametrize("preset", PRESETS)
def test_cycles(preset: str, workload: str) -> None:
    difference = compare_cycles(load(TABLE), preset, workload)
    assert difference.same, f"{difference.row()}; dipole bench regression --update"


def test_table_is_complete() -> None:
    table = load(TABLE)
    assert set(table["cells"]) == set(BLOCKS) and set(table["cycles"]) == set(PRESETS)
    assert all(set(cycles) == set(WORKLOADS) for cycles in table["cycles"].values())
    # Each workload says something: it fits somewhere.
    assert all(any(cycles[workload] for cycles in table["cycles"].values()) for workload in WORKLOADS)


@pytest.mark.parametrize(("now", "same"), [(100, True), (103, True), (97, True), (104, False), (96, False)])
def test_cells_may_change_by_three_per_cent(now: int, same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regression, "block_cells", lambda name: {"luts": now, "flip_flops": 0})
    (difference,) = compare_block({"cells": {"loader": {"luts": 100, "flip_flops": 0}}}, "loader")
    assert difference.same is same


def test_cycles_may_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regression, "count_cycles", lambda preset, workload: 1001)
    table = {"cycles": {"test_tiny": {"dense": 1000}}}
    assert not compare_cycles(table, "test_tiny", "dense").same
    assert not compare_cycles({}, "test_tiny", "dense").same
    monkeypatch.setattr(regression, "count_cycles", lambda preset, workload: 1000)
    assert compare_cycles(table, "test_tiny", "dense").same


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(regression, "block_cells", lambda name: {"luts": 10})
    monkeypatch.setattr(regression, "count_cycles", lambda preset, workload: 20)
    table = tmp_path / "table.json"

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["bench", "regression", "--table", str(table), *arguments])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    code, _, err = run()
    assert code == 2 and re.fullmatch(r"error: cannot read .*table\.json.*\n", err)
    assert run("--update")[0] == 0 and run()[0] == 0
    assert json.loads(table.read_text())["cycles"]["test_tiny"]["dense"] == 20
    monkeypatch.setattr(regression, "count_cycles", lambda preset, workload: 21)
    code, out, _ = run()
    assert code == 1 and "dense on test_tiny" in out and "--update" in out
    table.write_text("{")
    code, _, err = run()
    assert code == 2 and "is not JSON" in err
