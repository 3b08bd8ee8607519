"""What `check_model` says about a model: every node with what it becomes, or why it cannot be used."""

from dataclasses import dataclass, field
from typing import Literal

from .network import Network

__all__ = ["NodeReport", "Report", "Status"]

Status = Literal["used", "host", "unused", "unsupported", "blocked"]
"""used: part of the integer network; host: computed after the network by the host; unused: no output needs it;
unsupported: with a reason; blocked: not judged, because an unsupported node comes before it."""


@dataclass
class NodeReport:
    """One node of the file."""

    name: str
    op: str
    status: Status = "used"
    becomes: str = ""
    """What the node becomes, or the reason why it is unsupported."""

    @property
    def problem(self) -> bool:
        return self.status == "unsupported"


@dataclass
class Report:
    """Every node of a model, and the problems of the graph as a whole."""

    path: str
    nodes: list[NodeReport]
    problems: list[str] = field(default_factory=list)
    """Problems that belong to no single node."""
    network: Network | None = None
    """The integer network; None where there are problems."""

    @property
    def all_problems(self) -> list[str]:
        """One line per problem: those of the graph, then those of the nodes in order."""
        nodes = [f"node {node.name!r} ({node.op}): {node.becomes}" for node in self.nodes if node.problem]
        return self.problems + nodes

    @property
    def ok(self) -> bool:
        return not self.all_problems and self.network is not None

    def count(self, status: Status) -> int:
        return sum(node.status == status for node in self.nodes)
