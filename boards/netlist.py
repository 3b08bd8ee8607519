"""A pass over the RTLIL that Amaranth hands to Yosys: each distinct module once, instead of once per instance.

An array of equal PEs is then synthesized as one PE, which makes large boards affordable. Unlike `rtl.rtlil.merge`,
which serves exports without initial values, all that stands in a module is kept and compared, initial values too.
"""

import re

__all__ = ["share_modules"]

_MODULE = re.compile(r"^(?:attribute [^\n]*\n)*module (\S+)\n.*?^end\n", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"^(\s*cell )(\\\S+)(?= )", re.MULTILINE)
_IGNORED = re.compile(r"^(?:module \S+|\s*attribute \\(?:src|generator) .*)\n", re.MULTILINE)


def share_modules(rtlil: str, *, top: str = "top") -> str:
    """The design with one module for all that are equal in everything but their own name; only what `top` needs."""
    modules = {match[1]: match[0] for match in _MODULE.finditer(rtlil)}
    first_of: dict[str, str] = {}
    kept: dict[str, str] = {}
    resolved: dict[str, str] = {}

    def resolve(name: str) -> str:
        """The module that stands for `name`; children first, as two parents are equal only if their children are."""
        if name not in resolved:
            text = _CELL.sub(lambda m: m[1] + (resolve(m[2]) if m[2] in modules else m[2]), modules[name])
            resolved[name] = first_of.setdefault(_IGNORED.sub("", text), name)
            if resolved[name] == name:
                kept[name] = text
        return resolved[name]

    resolve(f"\\{top}")
    return "".join(kept.values())
