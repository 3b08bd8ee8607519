"""Fixtures for all tests: seeded randomness, and where the shared files are."""

import zlib
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=0, help="base of the seeds of all random tests")


def pytest_report_header(config: pytest.Config) -> str:
    return f"base seed: {config.getoption('--seed')}"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of this test alone; the seed is printed, so a failure shows it."""
    base = request.config.getoption("--seed")
    seed = zlib.crc32(f"{base} {request.node.nodeid}".encode())
    print(f"seed {seed} (--seed {base})")
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of the QONNX models."""
    return ROOT / "models"


@pytest.fixture(scope="session")
def liberty() -> Path | None:
    """The standard-cell library, where the shared files stand beside the project; None elsewhere."""
    path = ROOT.parent / "shared" / "liberty" / "sg13g2_stdcell_typ_1p20V_25C.lib"
    return path if path.exists() else None
