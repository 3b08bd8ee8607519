"""Tests that need PyTorch are in test_torch_*.py and marked `train`: `make test-train` installs it and runs them.

Where it is missing these files are not even collected, as they import it.
"""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_torch_*.py"]
