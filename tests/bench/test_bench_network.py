"""`dipole bench network`: workloads, what each part must do, errors of wrong options."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from dipole.bench.network import NetworkError, compare, load_network, run_network
from dipole.bench.workloads import WORKLOADS
from dipole.cli.main import main
from dipole.compiler.mapping import compile_network
from dipole.golden.timing import simulate_cycles
from dipole.rtl.presets import PRESETS


def test_workloads_have_the_shapes_of_their_titles() -> None:
    shapes = {name: [layer.weights.shape for layer in load_network(name).layers] for name in WORKLOADS}
    assert shapes["conv64"] == [(64, 64, 3, 3)] and shapes["conv3"] == [(16, 3, 3, 3)]
    assert shapes["dense"] == [(64, 1024, 1, 1)]
    assert [s[0] for s in shapes["resnet8"]] == [16, 16, 16, 32, 32, 64, 64, 10]
    assert all(layer.weight_format.is_odd for name in WORKLOADS for layer in load_network(name).layers)


def test_cycles_are_those_of_the_model_and_parts_stay_within_them() -> None:
    config = PRESETS["test_tiny"]
    run = run_network(load_network("dense"), config, frequency=10e6)
    program = compile_network(load_network("dense"), config)
    timing = simulate_cycles(np.frombuffer(program.image, "<u4"), program.entry, config)
    assert run.total.cycles == timing.cycles and run.fps == 10e6 / timing.cycles
    assert run.total.use == pytest.approx(1024 * 64 * 4 / (timing.cycles * config.peak_bmac), abs=1e-4)
    # One engine cannot be busier than all cycles of the program, and words of all pairs bound the array from below.
    assert all(0 < share <= 1 for share in run.total.busy.values())
    assert run.total.busy["array"] >= run.total.use


def test_a_network_of_several_layers_has_its_layers_and_a_total(models: Path) -> None:
    run = run_network(load_network(str(models / "digits_w2a2.onnx")), PRESETS["icebreaker"])
    assert run.frequency is not None  # the clock of the board that carries the preset
    assert sum(layer.cycles for layer in run.layers) <= run.total.cycles
    assert [row[2] for row in run.rows()][-1] == "total" and len(run.rows()) == len(run.layers) + 1


def test_what_does_not_fit_is_said_and_the_rest_is_measured() -> None:
    small = dataclasses.replace(PRESETS["test_tiny"], mem_depth=4096)
    results = compare(["conv3", "dense"], [small])
    assert [run.network for run in results.runs] == ["conv3"]
    assert re.fullmatch(r"dense on test_tiny: .*mem_depth", results.refused[0])
    with pytest.raises(NetworkError, match=r"nothing to measure: dense on test_tiny: .*mem_depth"):
        compare(["dense"], [small])


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, document = tmp_path / "out" / "cycles.json", tmp_path / "performance.md"
    document.write_text("# Performance\n\nkept\n")
    for _ in range(2):  # the second time the section is replaced
        with pytest.raises(SystemExit) as stop:
            main(["bench", "network", "dense", "--config", "test_tiny", "--frequency", "10", "-o", str(output),
                  "--document", str(document)])  # fmt: skip
        assert stop.value.code == 0
    run = json.loads(output.read_text())["runs"][0]
    assert run["estimated_throughput_fps"] == pytest.approx(10e6 / run["cycles"])
    text = document.read_text()
    assert "kept" in text and text.count("bench network: begin") == 1 and f"| {run['cycles']} |" in text
    assert str(run["cycles"]) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nothing"], r"unknown network 'nothing': give conv64, .*QONNX file"),
     (["missing.onnx"], r"missing\.onnx"),
     (["dense", "--config", "none"], r"unknown configuration 'none'")],
)  # fmt: skip
def test_errors_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "network", *arguments])
    assert stop.value.code == 2
    assert re.fullmatch(rf"error: [^\n]*{message}[^\n]*\n", capsys.readouterr().err)
