"""Sections of a Markdown file that commands write: each stands between two marks and is replaced as a whole."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["table", "write_section"]

_HEAD = "# Performance\n\nEvery table is printed by the command it names.\n\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Lines of a Markdown table whose first `left` columns hold words, the others numbers."""
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * left + "---:|" * (len(columns) - left),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def write_section(path: Path, name: str, lines: Sequence[str]) -> None:
    """Put `lines` between the marks of section `name`; a file without them gets the section at its end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = "\n".join([begin, *lines, end]) + "\n"
    text = path.read_text() if path.exists() else _HEAD
    if begin in text and end in text:
        text = text[: text.index(begin)] + section + text[text.index(end) + len(end) + 1 :]
    else:
        text = text.rstrip("\n") + "\n\n" + section
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
