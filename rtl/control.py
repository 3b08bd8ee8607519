"""What the execute engine says of each word: where its operands stand, and what a PE does with their popcount."""

from amaranth.lib import data

from .config import Config

__all__ = ["Control", "access_layout"]

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


def access_layout(config: Config) -> data.StructLayout:
    """Where the operands of one word stand."""
    return data.StructLayout(
        {
            "read": 1,  # There is such a word.
            "a": range(config.row_depth),  # Address in the row buffers,
            "w": range(config.column_depth),  # and in the column buffers.
            "sum": 1,  # Weight in the column of activation sums.
        }
    )
