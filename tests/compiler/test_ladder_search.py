"""The ladder search against brute force over all parameters, and against every reachable tile result."""

import numpy as np
import pytest
from ladder_cases import Widths

from dipole.compiler.ladder_search import StepFunctions, search
from dipole.golden.ladder import ladder_codes


def step_functions(rng: np.random.Generator, count: int, levels: int, longest: int, spread: int) -> StepFunctions:
    """Random step functions: about uniform ones and wild ones, with coinciding and unreachable thresholds."""
    last = rng.integers(0, longest, count)
    uniform = rng.uniform(-5, longest, (count, 1)) + rng.uniform(0, 1.5 * longest / levels, (count, 1)) * np.arange(
        levels
    )
    uniform += rng.choice([0, 0.2, 0.6], (count, 1)) * rng.uniform(-1, 1, uniform.shape)
    wild = np.sort(rng.integers(-3, longest + 3, (count, levels)), axis=1)
    first = np.where(rng.random((count, 1)) < 0.7, np.sort(np.ceil(uniform).astype(int), axis=1), wild)
    return StepFunctions(
        start=rng.integers(-(1 << 16), 1 << 16, count),
        direction=rng.choice([-1, 1], count),
        spacing=rng.integers(1, spread + 1, count),
        last=last,
        first=np.clip(first, 0, last[:, None] + 1),
    )


def expected_codes(steps: StepFunctions, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """Every reachable tile result of a channel, and its code."""
    points = np.arange(steps.last[channel] + 1)
    codes = (steps.first[channel][:, None] <= points).sum(axis=0)
    return steps.points(points[None, :])[channel], codes


def exists(steps: StepFunctions, channel: int, config: Widths, bits: int) -> bool:
    """Whether any parameters at all are right at every reachable tile result without a wrap of d: brute force."""
    results, codes = expected_codes(steps, channel)
    half = 1 << (config.acc_width - 1)
    neg = int(steps.direction[channel] < 0)
    m = np.arange(1 << config.mul_width)[:, None, None]
    f = np.arange(1 << config.mul_width)[None, :, None]
    for t0 in range(2 * half):
        d = (results - t0) * steps.direction[channel]
        d = d - d[0] + (d[0] + half) % (2 * half) - half
        if d[-1] >= half:
            continue
        for r in range(config.acc_width + config.mul_width):
            if (ladder_codes(results, neg, r, t0, m, f, bits, config.acc_width) == codes).all(axis=-1).any():
                return True
    return False


def compare_with_brute_force(seed: int, count: int) -> tuple[int, int]:
    rng = np.random.default_rng([30, seed])
    bits = int(rng.integers(1, 4))
    config = Widths(int(rng.integers(4, 6)), int(rng.integers(2, 5)))
    steps = step_functions(rng, count, (1 << bits) - 1, 1 << config.acc_width, 2)
    ladders, solved = search(steps, config)
    for channel in range(count):
        assert solved[channel] == exists(steps, channel, config, bits), (seed, channel, config, bits)
        if solved[channel]:
            results, codes = expected_codes(steps, channel)
            got = ladders.take([channel]).codes(results[None], bits, config.acc_width)
            assert np.array_equal(got[0], codes), (seed, channel)
    return int(solved.sum()), count


def test_search_finds_a_ladder_exactly_where_one_exists():
    found, tried = np.sum([compare_with_brute_force(seed, 6) for seed in range(12)], axis=0)
    assert 0.2 < found / tried < 0.8, "both outcomes must be met"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_search_finds_a_ladder_exactly_where_one_exists_more(seed):
    compare_with_brute_force(seed, 12)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("mul_width", (8, 16, 24))
def test_found_ladders_are_right_everywhere(bits, mul_width):
    rng = np.random.default_rng([31, bits, mul_width])
    config = Widths(int(rng.integers(16, 33)), mul_width)
    steps = step_functions(rng, 40, (1 << bits) - 1, 3000, 3)
    ladders, solved = search(steps, config)
    assert solved.any()
    for channel in np.flatnonzero(solved).tolist():
        results, codes = expected_codes(steps, channel)
        got = ladders.take([channel]).codes(results[None], bits, config.acc_width)
        assert np.array_equal(got[0], codes), channel
    for name, top in (("neg", 1), ("shift", 6), ("offset", config.acc_width), ("multiplier", mul_width)):
        values = getattr(ladders, name)
        assert values.min() >= 0 and values.max() < 1 << top


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("mul_width", (8, 12, 16, 20))
def test_corrected_ladders_are_right_everywhere(bits, mul_width):
    rng = np.random.default_rng([40, bits, mul_width])
    config = Widths(int(rng.integers(16, 33)), mul_width, corrections=True)
    steps = step_functions(rng, 60, (1 << bits) - 1, 3000, 4)
    _, plain = search(steps, Widths(config.acc_width, mul_width))
    ladders, solved = search(steps, config)
    assert solved[plain].all(), "correction bits never lose a ladder"
    assert not ladders.corrected[plain].any(), "and are only used where they are needed"
    assert ladders.corrected.any() or bits < 4
    for channel in np.flatnonzero(solved).tolist():
        results, codes = expected_codes(steps, channel)
        got = ladders.take([channel]).codes(results[None], bits, config.acc_width)
        assert np.array_equal(got[0], codes), channel


def test_one_bit_is_always_possible():
    rng = np.random.default_rng(32)
    steps = step_functions(rng, 200, 1, 1 << 11, 1)
    _, solved = search(steps, Widths(12, 8))
    assert solved.all()
