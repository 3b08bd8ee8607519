"""The engine with the array of each family: same values, same cycles, same memory as the golden machine."""

import pytest
from test_engine import FEW_RAMS, PUMP, PUMP_DEEP, PUMP_PAIRS, SYSTOLIC, SYSTOLIC_PLANES, check

from dipole.rtl.config import Config
from dipole.rtl.engine import Engine
from dipole.rtl.presets import PRESETS
from dipole.sim.engine import open_simulator


def ice40(config: Config) -> Engine:
    return Engine(config, family="ice40")


def ecp5(config: Config) -> Engine:
    return Engine(config, family="ecp5")


@pytest.mark.parametrize(
    "config",
    [PRESETS["test_tiny"], PRESETS["test_wide"], PUMP, PUMP_PAIRS, PUMP_DEEP, FEW_RAMS, SYSTOLIC],
    ids=lambda config: config.name,
)
@pytest.mark.parametrize("component", [ice40, ecp5])
def test_random_programs(config: Config, component) -> None:
    with open_simulator(config, engine="verilator", component=component) as simulator:
        for seed in range(2000, 2020):
            check(config, simulator, seed)


@pytest.mark.slow
def test_systolic_planes() -> None:
    test_random_programs(SYSTOLIC_PLANES, ecp5)
