# pyright: reportMissingImports=false
"""Checkpoints: all that training needs to go on as if it had not stopped, in one file of tensors and plain values."""

import os
from pathlib import Path
from typing import Any

import torch

from .errors import TrainError
from .spec import NetworkSpec

__all__ = ["load_checkpoint", "save_checkpoint", "write_whole"]

_FORMAT = "dipole training checkpoint 1"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def save_checkpoint(path: Path, spec: NetworkSpec, run: dict[str, Any], state: dict[str, Any]) -> None:
    """Save; `run` says what was asked for (data, seed, epochs and so on), `state` where training stands."""
    import io

    buffer = io.BytesIO()
    torch.save({"format": _FORMAT, "spec": spec.to_dict(), "run": run, "state": state}, buffer)
    write_whole(path, buffer.getvalue())


def load_checkpoint(path: Path, spec: NetworkSpec | None = None, run: dict[str, Any] | None = None) -> dict[str, Any]:
    """The checkpoint as saved; TrainError where the file is none, or is one of another network or another run."""
    if not path.is_file():
        raise TrainError(f"{path}: no such checkpoint")
    try:
        # Tensors and plain values only: a file from elsewhere cannot run code.
        found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:
        raise TrainError(f"{path}: not a checkpoint of dipole train, or a damaged one") from None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise TrainError(f"{path}: not a checkpoint of dipole train")
    other = NetworkSpec.from_dict(found["spec"])
    if spec is not None and other != spec:
        raise TrainError(
            f"{path}: a checkpoint of another network ({other.describe()}, {other.precision.kind}; this one is "
            f"{spec.describe()}, {spec.precision.kind}): give another --output, or no --resume"
        )
    for key, value in (run or {}).items():
        if found["run"].get(key) != value:
            raise TrainError(
                f"{path}: a checkpoint of another run ({key} is {found['run'].get(key)!r}, asked for is {value!r}): "
                "give the same options, or no --resume"
            )
    return found
