"""Writing a set of files so that a failure leaves none of them half written."""

import os
import tempfile
from pathlib import Path

from ..golden.errors import DipoleError

__all__ = ["write_files"]


def write_files(directory: Path, files: dict[str, str]) -> None:
    """Write text files into a directory, created where missing: all are complete before the first gets its name."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".draft") as draft:
            for name, text in files.items():
                (Path(draft) / name).write_text(text)
            for name in files:
                os.replace(Path(draft) / name, directory / name)
    except OSError as error:
        raise DipoleError(f"cannot write {directory}: {error.strerror}; choose another directory with -o") from error
