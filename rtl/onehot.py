"""States of one bit each: whatever hangs on a state sees it at once, where a number must be decoded first."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Signal, Value, ValueLike

__all__ = ["OneHot"]


class OneHot(Mapping[str, Signal]):
    """A state machine in domain `sync`: at most one state is 1, in the beginning the first.

    Parameters
    ----------
    states : str
        Their names, by which they are found.
    prefix : str
        Stands in front of the names of their signals.
    """

    def __init__(self, *states: str, prefix: str = "") -> None:
        self._states = {name: Signal(init=name == states[0], name=prefix + name) for name in states}
        self._ways: dict[str, list[Value]] = {name: [] for name in states}

    def __getitem__(self, name: str) -> Signal:
        return self._states[name]

    def __iter__(self):
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def enter(self, state: str, condition: ValueLike) -> None:
        """A way into a state from none."""
        self._ways[state].append(Value.cast(condition))

    def leave(self, state: str, *exits: tuple[ValueLike, str | None]) -> None:
        """The ways out of a state, to others or to none: the first whose condition holds. It stays where none does."""
        stays: Value = self[state]
        for condition, target in exits:
            if target is not None:
                self.enter(target, stays & condition)
            stays = stays & ~Value.cast(condition)[0]
        self.enter(state, stays)

    def done(self, m: Module) -> None:
        """All ways are told."""
        m.d.sync += [state.eq(Cat(self._ways[name]).any()) for name, state in self._states.items()]
