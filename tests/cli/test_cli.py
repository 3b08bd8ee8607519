"""The command's frame: verbs, errors as one line, exit codes, speed of the help."""

import json
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from dipole.boards import flash as flash_module
from dipole.cli.main import app, main
from dipole.golden.errors import DipoleError
from dipole.rtl.config import Config
from dipole.rtl.presets import PRESETS

EXPECTED_VERBS = {"check", "compile", "verify", "build", "flash", "presets"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    captured = capsys.readouterr()
    code = stop.value.code
    return (code if isinstance(code, int) else 0), captured.out, captured.err


def assert_one_line(error: str) -> None:
    assert re.fullmatch(r"error: [^\n]+\n", error), error


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for verb in EXPECTED_VERBS:
        assert re.search(rf"\b{verb}\b", out), verb


def test_every_verb_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    names = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    assert set(names) >= EXPECTED_VERBS
    for name in names:
        code, out, _ = run(capsys, name, "--help")
        assert code == 0 and f"dipole {name}" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"dipole {metadata.version('dipole')}\n", "")


def test_help_imports_nothing_heavy() -> None:
    """Time alone would depend on the machine; what is imported does not."""
    code = (
        "import sys, dipole.cli.main\n"
        "heavy = {'numpy', 'onnx', 'qonnx', 'amaranth', 'matplotlib', 'sklearn', 'onnxruntime', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    start = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("arguments", ["nonsense", "presets --nonsense", "build", "build icebreaker --seeds 0"])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    code, out, error = run(capsys, *arguments.split())
    assert code == 2 and "Usage" in error and "Traceback" not in out + error


def test_presets_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "presets")
    assert code == 0
    for config in PRESETS.values():
        assert re.search(rf"\b{config.name}\b.*\b{config.peak_bmac}\b", out)


def test_presets_prints_json_that_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    for config in PRESETS.values():
        code, out, _ = run(capsys, "presets", config.name)
        assert code == 0 and Config.from_json(out) == config


def test_unknown_preset(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = run(capsys, "presets", "nix")
    assert (code, out) == (2, "")
    assert_one_line(error)
    assert "'nix'" in error and "test_tiny" in error


@pytest.mark.parametrize("verb", ["build", "flash"])
def test_unknown_board(capsys: pytest.CaptureFixture[str], verb: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, verb, "nix")
    assert code == 2
    assert_one_line(error)
    assert "unknown board 'nix'" in error and "icebreaker" in error and "ulx3s_85f" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "nix"], "unknown configuration 'nix'"),
        (["--config", "missing.json"], "cannot read configuration 'missing.json'"),
        (["--frequency", "7"], r"the iCE40 PLL cannot make 7 MHz from 12 MHz; the nearest is 8\.0625 MHz"),
        (["--frequency", "5"], "cannot make 5 MHz"),
    ],
)
def test_build_refuses_before_writing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, "build", "icebreaker", *options)
    assert code == 2
    assert_one_line(error)
    assert re.search(message, error)
    assert list(tmp_path.iterdir()) == []


def test_build_without_a_tool(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEXTPNR_ICE40", "no-such-program")
    code, _, error = run(capsys, "build", "icebreaker")
    assert code == 2
    assert_one_line(error.splitlines(keepends=True)[-1])
    assert "NEXTPNR_ICE40 names 'no-such-program'" in error
    assert list(tmp_path.iterdir()) == []


def test_flash_without_a_bitstream(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, "flash", "icebreaker")
    assert code == 2
    assert_one_line(error)
    assert "dipole build icebreaker" in error


def test_error_is_one_line_even_when_the_message_is_not(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise DipoleError("first\n  second")

    monkeypatch.setattr(flash_module, "flash_board", fail)
    assert run(capsys, "flash", "icebreaker") == (2, "", "error: first second\n")


def test_file_error_names_the_file(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr(flash_module, "flash_board", fail)
    assert run(capsys, "flash", "icebreaker") == (2, "", "error: /some/file: Permission denied\n")


def test_fault_of_dipole(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("lane")

    monkeypatch.setattr(flash_module, "flash_board", fail)
    code, _, error = run(capsys, "flash", "icebreaker")
    assert code == 70
    assert_one_line(error)
    assert "internal error, KeyError: 'lane'" in error and "--debug" in error
    for arguments in (["--debug", "flash", "icebreaker"], ["flash", "icebreaker", "--debug"]):
        with pytest.raises(KeyError):
            main(arguments)


def test_interrupt(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(flash_module, "flash_board", fail)
    code, out, error = run(capsys, "flash", "icebreaker")
    assert code == 130 and "Traceback" not in out + error


def test_configuration_from_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({**json.loads(PRESETS["test_tiny"].to_json()), "lanes": 12}))
    code, _, error = run(capsys, "presets", str(path))
    assert code == 2 and "lanes is 12" in error
