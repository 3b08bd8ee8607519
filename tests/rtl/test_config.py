"""Figures that a configuration derives."""

import dataclasses

import pytest

from dipole.rtl.config import ConfigError
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


@pytest.mark.parametrize("columns", [4, 8, 16, 64])
@pytest.mark.parametrize("hop", [1, 2, 3, 7, 16, 64])
def test_operands_go_from_the_middle_to_both_sides(columns: int, hop: int) -> None:
    config = dataclasses.replace(PRESETS["test_wide"], planes=1, columns=columns, hop=hop)
    skews = [config.column_skew(group) for group in range(columns // hop + 1)]
    # Neighbours are a register apart, but for the two in the middle, where operands enter.
    left, right = skews[: config.middle], skews[config.middle :]
    assert left == list(range(len(left)))[::-1] and right == list(range(len(right)))
    assert 0 <= len(right) - len(left) <= 2
    assert max(skews) == config.skew - (config.rows - 1) // hop
    # Without the sum column the last PE is that of the last column.
    config = dataclasses.replace(config, sum_column=False)
    last = max(config.column_skew(column // hop) for column in range(columns))
    assert config.skew == last + (config.rows - 1) // hop


@pytest.mark.parametrize(
    "change", [{"pump": 1}, {"stages": 1}, {"mul_width": 15}, {"acc_width": 26}, {"corrections": True, "acc_width": 25}]
)
def test_few_rams_need_lines_that_halve(change: dict) -> None:
    with pytest.raises(
        ConfigError, match=r"'up5k_w1': few_rams needs pump = 2, stages = 0, mul_width = 16 and ladders"
    ):
        dataclasses.replace(PRESETS["up5k_w1"], **change)


def test_few_rams_run_the_same_programs() -> None:
    config = PRESETS["up5k_w1"]
    assert dataclasses.replace(config, few_rams=False).hash32 == config.hash32
