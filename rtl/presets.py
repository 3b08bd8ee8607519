"""The named configurations, and where a configuration comes from: its name or its file."""

from pathlib import Path

from .config import Config, ConfigError

__all__ = ["PRESETS", "load_config"]

PRESETS: dict[str, Config] = {
    config.name: config
    for config in (
        Config(
            name="test_tiny",
            rows=2,
            columns=4,
            lanes=16,
            mem_depth=16384,
            row_depth=512,
            column_depth=512,
            ladder_depth=64,
            acc_width=28,
            mul_width=22,
            corrections=True,
        ),
        Config(
            name="test_wide",
            rows=3,
            columns=8,
            lanes=32,
            planes=2,
            hop=2,
            chunk=16,
            mem_width=64,
            mem_depth=16384,
            ladders=2,
            acc_width=30,
            mul_width=22,
            corrections=True,
        ),
        Config(
            name="icebreaker",
            rows=2,
            columns=4,
            lanes=64,
            pump=2,
            levels=2,
            memory_lag=1,
            chunk=16,
            mem_width=64,
            mem_depth=16384,
            acc_width=20,
            mul_width=16,
            pixel_bits=8,
            queue_depth=1,
        ),
        Config(
            name="up5k",
            rows=1,
            columns=8,
            lanes=32,
            planes=4,
            pump=2,
            memory_lag=1,
            mem_width=32,
            mem_depth=32768,
            acc_width=20,
            mul_width=16,
            sum_column=False,
            pixel_bits=7,
            queue_depth=1,
        ),
        Config(
            name="hx8k",
            rows=3,
            columns=8,
            lanes=16,
            pump=2,
            memory_lag=1,
            chunk=16,
            mem_width=32,
            mem_depth=2048,
            mem_ports=2,
            acc_width=20,
            mul_width=16,
            pixel_bits=7,
            queue_depth=1,
        ),
        Config(
            name="ulx3s_25f",
            rows=5,
            columns=8,
            lanes=64,
            hop=4,
            stages=1,
            memory_lag=2,
            chunk=16,
            mem_width=64,
            mem_depth=4096,
            mem_ports=2,
            row_depth=512,
            column_depth=512,
            ladder_depth=128,
            acc_width=28,
            mul_width=22,
            corrections=True,
            ladders=2,
        ),
        Config(
            name="ulx3s_45f",
            rows=4,
            columns=16,
            lanes=64,
            hop=4,
            stages=1,
            memory_lag=2,
            chunk=16,
            mem_width=64,
            mem_depth=8192,
            mem_ports=2,
            row_depth=512,
            column_depth=512,
            acc_width=32,
            mul_width=22,
            corrections=True,
            ladders=4,
        ),
        Config(
            name="ulx3s_85f",
            rows=14,
            columns=16,
            lanes=64,
            pump=2,
            hop=2,
            stages=1,
            memory_lag=3,
            chunk=16,
            mem_width=64,
            mem_depth=16384,
            mem_ports=2,
            row_depth=512,
            column_depth=512,
            acc_width=28,
            mul_width=22,
            corrections=True,
            ladders=4,
        ),
        # For activations of 8 bits and many channels: more products per cycle, in fewer and larger tiles. Its buffers
        # leave block RAMs for 64 KB of main memory.
        Config(
            name="ulx3s_85f_w8",
            rows=3,
            columns=16,
            lanes=64,
            planes=8,
            pump=2,
            hop=1,
            stages=1,
            memory_lag=3,
            chunk=16,
            mem_width=128,
            mem_depth=4096,
            mem_ports=2,
            row_depth=512,
            column_depth=512,
            acc_width=28,
            mul_width=22,
            corrections=True,
            ladders=4,
        ),
        Config(name="asic_small", rows=4, columns=4, lanes=32, mem_width=32, mem_depth=8192, ladder_depth=64),
    )
}
"""Named configurations; `load_config` finds them by name."""


def load_config(name_or_path: str) -> Config:
    """The preset of that name, or the configuration in that JSON file."""
    if name_or_path in PRESETS:
        return PRESETS[name_or_path]
    path = Path(name_or_path)
    if path.suffix == ".json":
        try:
            return Config.from_json(path.read_text())
        except OSError as error:
            raise ConfigError(f"cannot read configuration {name_or_path!r}: {error.strerror}") from error
    raise ConfigError(f"unknown configuration {name_or_path!r}: give one of {', '.join(PRESETS)} or a .json file")
