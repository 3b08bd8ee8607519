"""How adders share carry chains."""

from collections.abc import Sequence

__all__ = ["HALVES", "pack"]

HALVES = 26
"""Half cells of a chain of popcounts on ECP5: static timing sees a path through all of them. So adders share a chain
only where no path leads from one to the other."""


def pack(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Indices of the adders in each chain: as few chains of at most `room` cells as first fit finds, largest first.

    A size is the cells of an adder with its separator. What a chain loses is the cell at its end for the carry out of
    its top adder, so adders of several levels of a tree may mix where no path leads from one to the other: static
    timing sees a path through the whole chain.
    """
    chains: list[list[int]] = []
    left: list[int] = []
    for k in sorted(range(len(sizes)), key=lambda k: -sizes[k]):
        at = next((at for at, free in enumerate(left) if sizes[k] <= free), None)
        if at is None:
            chains.append([])
            left.append(max(room, sizes[k]))
            at = len(chains) - 1
        chains[at].append(k)
        left[at] -= sizes[k]
    return chains
