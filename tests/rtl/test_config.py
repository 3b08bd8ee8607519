"""Figures that a configuration derives."""

import dataclasses

import pytest

from dipole.rtl.presets import PRESETS


@pytest.mark.parametrize("columns", [4, 8, 16, 64])
@pytest.mark.parametrize("ladders", [1, 2, 4])
@pytest.mark.parametrize("stages", [0, 1])
def test_columns_of_a_drain_chain_stand_together(columns: int, ladders: int, stages: int) -> None:
    order = dataclasses.replace(PRESETS["ulx3s_85f"], columns=columns, ladders=ladders, stages=stages).column_order
    assert sorted(order) == list(range(columns))
    for first in range(ladders):
        places = [order.index(column) for column in range(first, columns, ladders)]
        steps = [abs(place - before) for before, place in zip(places, [*places[1:], places[0]], strict=True)]
        # A chain goes on with the next row where it began: with long ways no step is longer than two columns.
        assert steps[:-1] == [1] * (len(places) - 1) if not stages else max(steps) <= 2
