"""The control word that travels with the operands."""

from amaranth.lib import data

__all__ = ["Control"]

Control = data.StructLayout(
    {
        "valid": 1,  # The popcount counts.
        "first": 1,  # First word of a run: the run accumulator starts anew (at zero if not valid).
        "last": 1,  # Last word of a run: result <- 2 * result + run.
        "fresh": 1,  # The first run of a tile: with last, result <- run. 0 in the cycle behind a last.
        "drain": 1,  # With last: the last run of a tile, the result goes to the drain register.
    }
)
"""What a PE does with the popcount of one word. All zero: nothing."""
