# pyright: reportMissingImports=false
"""docs/accuracy.md and its plot, from the measurements of `measure`."""

from pathlib import Path
from statistics import mean, stdev
from textwrap import fill
from typing import Any

from .checkpoint import write_whole
from .data import open_data
from .fit import Options, Progress
from .measure import (
    CASCADE_EPOCHS,
    CASCADE_LEVELS,
    CASCADE_NETWORK,
    CASCADE_ROWS,
    CONFIGS,
    NETWORKS,
    PAIRS,
    Case,
    Measurements,
    cases,
    measure,
    work,
)
from .precision import KINDS, Precision

__all__ = ["make_table", "plot", "render"]

_WIDTH = 118
_KIND_TEXT = {
    "unsigned": "HReLU, unsigned codes",
    "odd": "HTanh, odd codes",
    "odd-relu": "HReLU, odd codes",
}


def _text(case: Case) -> str:
    of_input = "" if case.input_bits == Precision().input_bits else f", {case.input_bits}-bit input"
    return _KIND_TEXT[case.kind] + of_input


def _shares(values: dict[str, float]) -> str:
    """Mean and spread in percent."""
    percent = [100 * value for value in values.values()]
    if not percent:
        return "-"
    return f"{mean(percent):.2f}" + (f" ± {stdev(percent):.2f}" if len(percent) > 1 else "")


def _cycles_text(cycles: int | str | None) -> str:
    return "-" if cycles is None else "no, see below" if isinstance(cycles, str) else f"{cycles:,}"


def _bits(bits: int | None) -> str:
    return "float" if bits is None else str(bits)


def _seeds(found: Measurements, part: str) -> str:
    """How many seeds the figures of a part are of."""
    counts = sorted({len(shares) for shares in found.content[part].values()}) or [0]
    least, most = counts[0], counts[-1]
    return (f"{least}" if least == most else f"{least} to {most}") + (" seeds" if most != 1 else " seed")


def render(found: Measurements, options: Options) -> str:
    """The page; every number in it comes from `found` or from the shapes of the networks."""
    data = open_data("digits")
    samples = len(data.y_test)
    lines = [
        "# Accuracy against precision",
        "",
        fill(
            "Measured and written by `dipole train table`; `accuracy.json` beside this page keeps every single result "
            f"(delete it to measure again). Data: scikit-learn's digits, {len(data.y)} training and {samples} test "
            f"images; one image is {100 / samples:.2f} %. Every network is trained from random weights for "
            f"{options.epochs} epochs, with weights on odd ladders in all layers and, if not said otherwise, an "
            f"{Precision().input_bits}-bit unsigned input; the figure is the accuracy after the last epoch, mean ± "
            f"standard deviation over {_seeds(found, 'accuracy')} (PyTorch {found.content['torch']}).",
            _WIDTH,
        ),
        "",
        fill(
            "Weight memory is bits of all weights; plane products are single-bit products, one XNOR each, per image; "
            "cycles per image are those of the exact cycle model for the preset, of the network of seed 0 (`dipole "
            "train table --cycles` computes only them again). The constant top plane of HReLU on odd codes is neither "
            "stored nor multiplied; the validity plane of zero padding on odd codes is in the cycles, not in products. "
            "A float row has no hardware: activations are clipped and nothing is quantized but the input.",
            _WIDTH,
        ),
        "",
    ]
    for network in NETWORKS:
        lines += [
            f"## {network}",
            "",
            Case(network, "unsigned", 2, 2).spec(data).describe().rpartition(",")[0] + ".",
            "",
        ]
        heads = ["activation", "weights", "activations", "accuracy %", "weight memory", "plane products"]
        lines += ["| " + " | ".join([*heads, *(f"cycles, `{name}`" for name in CONFIGS)]) + " |"]
        lines += ["|---|" + "---:|" * (len(heads) - 1 + len(CONFIGS))]
        for case in cases():
            if case.network == network:
                lines.append(_row(found, case, data))
        lines += ["", *_refusals(found, network)]
    lines += ["![Accuracy against cycles](accuracy.png)", ""]
    lines += _cascade_section(found)
    return "\n".join(lines)


def _row(found: Measurements, case: Case, data: Any) -> str:
    accuracy = _shares(found.content["accuracy"].get(case.key, {}))
    if case.weights is None:
        figures = ["-"] * (2 + len(CONFIGS))
    else:
        cycles = found.content["cycles"].get(case.key, {})
        figures = [f"{n:,}" for n in work(case.spec(data))] + [_cycles_text(cycles.get(name)) for name in CONFIGS]
    cells = [_text(case), _bits(case.weights), _bits(case.activations), accuracy, *figures]
    return "| " + " | ".join(cells) + " |"


def _refusals(found: Measurements, network: str) -> list[str]:
    """Why networks do not run on a preset."""
    lines: list[str] = []
    for case in cases():
        reasons: dict[str, list[str]] = {}
        for config, cycles in found.content["cycles"].get(case.key, {}).items():
            if case.network == network and isinstance(cycles, str):
                reasons.setdefault(cycles, []).append(f"`{config}`")
        for reason, configs in reasons.items():
            where = " and ".join(sorted(configs))
            lines.append(f"* {_text(case)}, {case.weights} / {case.activations}, on {where}: {reason}.")
    return [*lines, ""] if lines else []


def _cascade_section(found: Measurements) -> list[str]:
    rows = found.content["cascade"]
    if not any(rows.values()):
        return []
    lines = [
        "## Cascade against scratch",
        "",
        fill(
            f"{CASCADE_NETWORK}, unsigned codes, weights and activations of the same bits. The cascade goes from full "
            f"precision over 8, 7, .. to 1 bit with {CASCADE_EPOCHS} epochs for each network. A network from scratch "
            'gets as many epochs as each network of the cascade ("same": the two families cost the same), or as many '
            'as the cascade had had in all when it came to its bits ("all"). Mean ± standard deviation over '
            f"{_seeds(found, 'cascade')}.",
            _WIDTH,
        ),
        "",
        "| accuracy % | " + " | ".join(f"{bits} bit" for bits in CASCADE_LEVELS) + " |",
        "|---|" + "---:|" * len(CASCADE_LEVELS),
    ]
    for row in CASCADE_ROWS:
        lines.append(f"| {row} | " + " | ".join(_shares(rows.get(f"{row} {b}", {})) for b in CASCADE_LEVELS) + " |")
    return [*lines, ""]


def plot(found: Measurements, path: Path) -> None:
    """Accuracy against cycles per image on the first preset, one panel per network, one line per activation."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, len(NETWORKS), squeeze=False)[0]
    for panel, network in zip(panels, NETWORKS, strict=True):
        for kind, marker in zip(KINDS, "osd", strict=True):
            points = []
            for weights, activations in PAIRS:
                key = Case(network, kind, weights, activations).key
                cycles, shares = found.content["cycles"].get(key), found.content["accuracy"].get(key)
                if cycles and shares and isinstance(cycles[CONFIGS[0]], int):
                    percent = [100 * value for value in shares.values()]
                    spread = stdev(percent) if len(percent) > 1 else 0.0
                    points.append((cycles[CONFIGS[0]], mean(percent), spread, f"{weights}/{activations}"))
            if not points:
                continue
            x, y, spreads, labels = zip(*sorted(points), strict=True)
            panel.errorbar(x, y, spreads, marker=marker, capsize=3, linewidth=1, label=_KIND_TEXT[kind])
            for at, height, label in zip(x, y, labels, strict=True):
                panel.annotate(label, (at, height), textcoords="offset points", xytext=(4, -11), fontsize=7)
        panel.set(title=network, xlabel=f"cycles per image, {CONFIGS[0]}", ylabel="accuracy on the test images, %")
        panel.set_xscale("log")
        panel.grid(True, alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize=8)
    figure.suptitle("Accuracy against cycles; labels are weight / activation bits")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_whole(path, buffer.getvalue())


def make_table(
    folder: Path, options: Options, seeds: int, progress: Progress | None = None, *, cycles_only: bool = False
) -> str:
    """Measure what is missing in folder/accuracy.json, write accuracy.md and accuracy.png there; returns the page."""
    found = measure(folder / "accuracy.json", options, seeds, progress, cycles_only=cycles_only)
    text = render(found, options)
    plot(found, folder / "accuracy.png")
    write_whole(folder / "accuracy.md", text.encode())
    return text
