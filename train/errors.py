"""Errors of training, and the check that PyTorch is there."""

from importlib.util import find_spec

from ..golden.errors import DipoleError

__all__ = ["TrainError", "need_torch"]


class TrainError(DipoleError):
    """Wrong training options, data or checkpoints."""


def need_torch() -> None:
    """Raise TrainError where PyTorch is missing; call it before importing what needs it."""
    if find_spec("torch") is None:
        raise TrainError("training needs PyTorch, which is not installed: pip install 'dipole[train]'")
