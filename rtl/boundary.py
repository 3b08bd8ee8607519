"""Cuts an Amaranth design into one RTLIL module per component, with the ports of the component's signature.

Amaranth itself gives a submodule the ports that its nets happen to need: constants and copies are folded into it,
unused outputs vanish, and so the PEs of one array come out in several shapes under made-up port names. Here a
component is converted on its own and stands in its parent as an instance. Signals of others that it reads all the same
(the control of a ResetInserter around it) become further inputs. A component that drives something the rest sees
without it being in the signature, or that has clock domains besides `sync` and `fast` (which has no reset of its
own), stays part of its parent's conversion.
Equal modules are left to `rtlil.merge`.

The passes use Amaranth's intermediate representation, which is private to it: the version is pinned in pyproject.toml.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from amaranth.back import rtlil as backend
from amaranth.hdl import ClockDomain, ClockSignal, Instance, ResetSignal, Signal, Value
from amaranth.hdl._ast import Switch, _StatementList
from amaranth.hdl._ir import Fragment, PortDirection
from amaranth.hdl._mem import MemoryInstance
from amaranth.lib import wiring

from .rtlil import Module, drop_unused, parse

__all__ = ["component_ports", "convert"]

_Ports = dict[str, tuple[Any, PortDirection]]
_SWITCH: Any = Switch  # their attributes are not in amaranth-stubs
_INSTANCE: Any = Instance
_MEMORY: Any = MemoryInstance


def component_ports(component: wiring.Component) -> _Ports:
    """Ports of a component by their Verilog names: the path of the member joined by two underscores."""
    ports: _Ports = {}
    for path, member, value in component.signature.flatten(component):
        flow = PortDirection.Input if member.flow == wiring.In else PortDirection.Output
        ports["__".join(map(str, path))] = (Value.cast(value), flow)
    return {name: (value, flow) for name, (value, flow) in ports.items() if len(value)}


def _subtree(fragment: Any) -> Iterator[Any]:
    yield fragment
    for sub, _, _ in fragment.subfragments:
        yield from _subtree(sub)


def _prune(statements: Any) -> Any:
    """Without switches that do nothing: a ResetInserter leaves one in everything that has no reset."""
    kept: list[Any] = []
    for statement in statements:
        if isinstance(statement, _SWITCH):
            cases = [(patterns, _prune(body), location) for patterns, body, location in statement.cases]
            if not any(body for _, body, _ in cases):
                continue
            statement = _SWITCH(statement.test, cases, src_loc=statement.src_loc)
        kept.append(statement)
    return _StatementList(kept)


def _rtlil(fragment: Any, ports: _Ports, name: str) -> str:
    def domain(name: str) -> ClockDomain:
        return ClockDomain(name, reset_less=name == "fast")

    text, _ = backend.convert_fragment(fragment, ports, name, emit_src=False, missing_domain=domain)
    return text


@dataclass
class _Use:
    """Signals, by identity, that a part of the design reads and drives, and how many fragments in it use each."""

    read: dict[int, Signal] = field(default_factory=dict)
    driven: dict[int, Signal] = field(default_factory=dict)
    users: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, fragment: Any) -> "_Use":
        """What the fragment uses itself, not in its subfragments."""
        reads: list[Any] = []
        drives: list[Any] = []
        if isinstance(fragment, _INSTANCE):
            for value, kind in fragment.ports.values():
                (reads if kind == "i" else drives).append(value)
        elif isinstance(fragment, _MEMORY):
            for port in fragment._read_ports:
                reads += [port._addr, port._en]
                drives.append(port._data)
            for port in fragment._write_ports:
                reads += [port._addr, port._en, port._data]
        for statements in fragment.statements.values():
            reads.append(statements)
            drives.append(statements)
        use = cls(
            {id(signal): signal for value in reads for signal in value._rhs_signals()},
            {id(signal): signal for value in drives for signal in value._lhs_signals()},
        )
        use.users = Counter({**use.read, **use.driven}.keys())
        return use

    def add(self, other: "_Use") -> None:
        self.read |= other.read
        self.driven |= other.driven
        self.users += other.users


class _Cutter:
    """Walks a fragment tree from the leaves up and replaces what can stand alone by instances."""

    def __init__(self, root: Any, ports: _Ports) -> None:
        self.modules: list[Module] = []
        self.all = _Use()
        for fragment in _subtree(root):
            fragment.statements = {domain: _prune(body) for domain, body in fragment.statements.items()}
            self.all.add(_Use.of(fragment))
        self.sources = {id(signal) for value, _ in ports.values() for signal in value._rhs_signals()}
        self.sources |= self.all.driven.keys()

    def cut(self, fragment: Any, path: str) -> _Use:
        """Cut below `fragment`; returns what its subtree used before."""
        use = _Use.of(fragment)
        for index, (sub, name, location) in enumerate(fragment.subfragments):
            sub_path = f"{path}.{name or f'u{index}'}"
            sub_use = self.cut(sub, sub_path)
            instance = self._instance(sub, sub_path, sub_use)
            if instance is not None:
                fragment.subfragments[index] = (instance, name, location)
            use.add(sub_use)
        return use

    def _ports(self, fragment: Any, use: _Use) -> _Ports | None:
        """Ports with which the fragment can stand alone, or None."""
        component = next((origin for origin in fragment.origins or () if isinstance(origin, wiring.Component)), None)
        if component is None or not set(fragment.statements) <= {"comb", "sync", "fast"}:
            return None
        ports = component_ports(component)
        public = {id(signal) for value, _ in ports.values() for signal in value._rhs_signals()}
        for key in use.driven:
            if key not in public and use.users[key] < self.all.users[key]:
                return None
        for key, signal in use.read.items():
            # A signal that nothing drives is a constant and stays inside.
            if key not in public and key not in use.driven and key in self.sources:
                if signal.name in ports:
                    return None
                ports[signal.name] = (signal, PortDirection.Input)
        return ports if ports.keys().isdisjoint(("clk", "rst", "fast_clk")) else None

    def _instance(self, fragment: Any, path: str, use: _Use) -> Instance | None:
        ports = self._ports(fragment, use)
        if ports is None:
            return None
        modules = parse(_rtlil(fragment, ports, path))
        drop_unused(modules[0], {r"\clk", r"\rst", r"\fast_clk"})
        self.modules += modules
        have = {item.name for item in modules[0].ports()}
        arguments: list[tuple[str, str, Any]] = [
            ("i" if flow is PortDirection.Input else "o", name, value) for name, (value, flow) in ports.items()
        ]
        if r"\clk" in have:
            arguments.append(("i", "clk", ClockSignal("sync")))
        if r"\fast_clk" in have:
            arguments.append(("i", "fast_clk", ClockSignal("fast")))
        if r"\rst" in have:
            arguments.append(("i", "rst", ResetSignal("sync", allow_reset_less=True)))
        return Instance(path, *arguments)


def convert(component: wiring.Component, name: str, platform: object = None) -> list[Module]:
    """RTLIL modules of a component, cut at its components; the top module is the first and called `name`."""
    fragment = Fragment.get(component, platform)
    ports = component_ports(component)
    cutter = _Cutter(fragment, ports)
    cutter.cut(fragment, name)
    return parse(_rtlil(fragment, ports, name)) + cutter.modules
