"""`dipole bench regression`: logic cells and cycles as the repository records them, and as they are now."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler.ladder_search import LadderError
from ..compiler.layout import CompileError
from ..compiler.mapping import compile_network
from ..golden.errors import DipoleError
from ..golden.timing import simulate_cycles
from ..rtl.execute import Execute
from ..rtl.fetch import Fetch
from ..rtl.link import Link
from ..rtl.loader import Loader
from ..rtl.pe import PE
from ..rtl.presets import PRESETS
from ..rtl.store import Store
from .flow import DEVICES, cells, versions
from .workloads import WORKLOADS

__all__ = ["BLOCKS", "COLUMNS", "Difference", "RegressionError", "TOLERANCE", "block_cells", "compare_block",
           "compare_cycles", "count_cycles", "load", "record", "save"]  # fmt: skip

COLUMNS = ("what", "recorded", "now", "change")
TOLERANCE = 0.03
"""Part by which a number of cells may change; cycles may not change at all."""


class RegressionError(DipoleError):
    """A table that cannot be read or has no such entry."""


_CONFIG = PRESETS["icebreaker"]
BLOCKS: dict[str, tuple[str, Callable[[], Any]]] = {
    "loader": ("up5k", lambda: Loader(_CONFIG)),
    "execute": ("up5k", lambda: Execute(_CONFIG)),
    "store": ("up5k", lambda: Store(_CONFIG)),
    "fetch": ("up5k", lambda: Fetch(_CONFIG)),
    "link": ("up5k", lambda: Link(_CONFIG)),
    "pe_portable": ("up5k", lambda: PE(_CONFIG)),
    "pe_ice40": ("up5k", lambda: PE(_CONFIG, "ice40")),
    "pe_ecp5": ("ecp5_25", lambda: PE(_CONFIG, "ecp5")),
}
"""Blocks of the icebreaker preset, each synthesized alone: device, component."""


@dataclass(frozen=True)
class Difference:
    """One number of the table."""

    what: str
    recorded: int | None
    now: int | None
    """None: the workload does not fit the configuration."""
    same: bool

    def row(self) -> tuple[str, ...]:
        if self.recorded and self.now is not None:
            change = f"{100 * (self.now / self.recorded - 1):+.2f} %"
        else:
            change = "" if self.recorded == self.now else "new" if self.recorded is None else "gone"
        return self.what, *("-" if n is None else str(n) for n in (self.recorded, self.now)), change


def block_cells(name: str) -> dict[str, int]:
    """Cells of a block of `BLOCKS`."""
    device, make = BLOCKS[name]
    return cells(make(), DEVICES[device])


def count_cycles(preset: str, workload: str) -> int | None:
    """Cycles of a workload on a preset; None where it does not fit."""
    config = PRESETS[preset]
    try:
        program = compile_network(WORKLOADS[workload].build(), config)
    except (CompileError, LadderError):
        return None
    return simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, config).cycles


def compare_block(table: dict[str, Any], name: str) -> list[Difference]:
    """The numbers of a block; those of kinds that the block had none of and still has none of are left out."""
    recorded, now = _entry(table, "cells", name), block_cells(name)
    return [
        Difference(f"{name}: {kind}", recorded.get(kind), count,
                   abs(count - recorded.get(kind, 0)) <= TOLERANCE * recorded.get(kind, 0))
        for kind, count in now.items()
        if count or recorded.get(kind)
    ]  # fmt: skip


def compare_cycles(table: dict[str, Any], preset: str, workload: str) -> Difference:
    recorded = _entry(table, "cycles", preset).get(workload)
    now = count_cycles(preset, workload)
    return Difference(f"{workload} on {preset}: cycles", recorded, now, recorded == now)


def _entry(table: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    entry = table.get(kind, {}).get(name)
    return entry if isinstance(entry, dict) else {}


def load(path: Path) -> dict[str, Any]:
    """The recorded table."""
    try:
        table = json.loads(path.read_text())
    except OSError as error:
        raise RegressionError(
            f"cannot read {path}: {error.strerror}; run in the folder of the repository, or give --table"
        ) from error
    except json.JSONDecodeError as error:
        raise RegressionError(f"{path} is not JSON: {error}; write it anew with --update") from error
    if not isinstance(table, dict):
        raise RegressionError(f"{path} holds no table; write it anew with --update")
    return table


def _jobs(table: dict[str, Any]) -> Iterator[tuple[str, Callable[[], list[Difference]]]]:
    for name in BLOCKS:
        yield name, lambda name=name: compare_block(table, name)
    for preset in PRESETS:
        for workload in WORKLOADS:
            yield f"{workload} on {preset}", lambda p=preset, w=workload: [compare_cycles(table, p, w)]


def record(
    table: dict[str, Any], *, progress: Callable[[str, int, int], None] = lambda stage, done, total: None
) -> tuple[list[Difference], dict[str, Any]]:
    """All numbers against those of a table, and the table as it would be now."""
    jobs = list(_jobs(table))
    differences: list[Difference] = []
    for number, (name, job) in enumerate(jobs):
        progress(name, number, len(jobs))
        differences += job()
    progress("done", len(jobs), len(jobs))
    counts = {difference.what: difference.now for difference in differences}
    now = {
        "versions": versions([DEVICES[device] for device, _ in BLOCKS.values()]),
        "cells": {name: block_cells(name) for name in BLOCKS},
        "cycles": {p: {w: counts[f"{w} on {p}: cycles"] for w in WORKLOADS} for p in PRESETS},
    }
    return differences, now


def save(table: dict[str, Any], path: Path) -> None:
    """Write a table; the file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(table, indent=2) + "\n")
    os.replace(partial, path)
