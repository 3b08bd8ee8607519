"""How logic becomes LUTs: commands of ABC in place of those that Yosys gives it."""

from collections.abc import Sequence

__all__ = ["SMALL", "mapping_script"]

SMALL = (
    "&scorr", "&sweep", "&dc2", "&syn3", "&syn3", "&dc2",
    "&synch2", "&if {W} {D} {R}", "&mfs",
    "&st", "&synch2", "&ps", "&if {W} {D} {R} -v", "&mfs",
)  # fmt: skip
"""As quick as Yosys' own, but the logic is made smaller more often in front of the choice of LUTs, with more structures
to choose from, and LUTs are chosen once more from what became of the first choice. Yosys puts its options in place of
the letters in braces."""


def mapping_script(commands: Sequence[str]) -> str:
    """Yosys' command that has ABC do these; "" for none."""
    if not commands:
        return ""
    return f'scratchpad -set abc9.script "+{";".join(commands).replace(" ", ",")}"'
