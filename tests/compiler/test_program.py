"""Program files: what is saved comes back, and nothing damaged or foreign is accepted."""

import dataclasses
import json
import os
import re
import struct
import zlib

import numpy as np
import pytest
from running import conv, network, run_program

from dipole.compiler.mapping import compile_network
from dipole.compiler.network import Format
from dipole.compiler.program import MAGIC, VERSION, Program, ProgramError, trace
from dipole.compiler.random_networks import random_codes
from dipole.compiler.transfer import layer_report
from dipole.golden.isa import Op
from dipole.rtl.presets import PRESETS

TINY = PRESETS["test_tiny"]


def make(act=None, last=None):
    rng = np.random.default_rng(0)
    act = act or Format.odd(2)
    layers = [conv(rng, 5, 3, act=act, padding=(1, 1, 1, 1), codes=Format.unsigned(2)),
              conv(rng, 4, 5, (4, 4), act=Format.unsigned(2), codes=last)]  # fmt: skip
    return network(layers, 4, 4)


@pytest.fixture(scope="module")
def program():
    return compile_network(make(), TINY)


@pytest.mark.parametrize("last", [None, Format.signed(3)], ids=["integers", "codes"])
def test_round_trip(tmp_path, last):
    """A loaded program equals the saved one and gives the same results."""
    net = make(last=last)
    program = compile_network(net, TINY)
    path = tmp_path / "net.dipole"
    program.save(path)
    loaded = Program.load(path)
    for field in dataclasses.fields(Program):
        assert getattr(loaded, field.name) == getattr(program, field.name), field.name
    assert layer_report(loaded) == layer_report(program)
    codes = random_codes(np.random.default_rng(1), net)
    for a, b in zip(run_program(loaded, codes)[0], run_program(program, codes)[0], strict=True):
        assert np.array_equal(a, b)
    assert os.listdir(tmp_path) == ["net.dipole"]
    assert path.stat().st_mode & 0o444 == 0o444


def test_image_and_headers(program):
    data = program.to_bytes()
    assert len(program.image) % (TINY.mem_width // 8) == 0
    fields = struct.unpack("<4s4I", program.device_header)
    assert fields == (MAGIC, VERSION, TINY.hash32, len(program.image), zlib.crc32(program.image))
    assert data.startswith(program.device_header)
    assert data[32 : 32 + len(program.image)] == program.image
    assert json.loads(data[32 + len(program.image) :])["name"] == "net"
    assert program.instructions[-1] >> 28 == Op.HALT
    assert [i.op for _, i, _ in trace(program)][-2:] == [Op.AWAIT, Op.HALT]


def test_every_bit_flip_is_noticed(program):
    """All bits of the header, and some of each byte range behind it."""
    data = program.to_bytes()
    rng = np.random.default_rng(0)
    places = [*range(8 * 32), *(int(n) for n in rng.integers(8 * 32, 8 * len(data), 500))]
    for place in places:
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(ProgramError) as caught:
            Program.from_bytes(bytes(flipped), "net.dipole")
        assert "net.dipole" in str(caught.value) and "\n" not in str(caught.value)


def test_every_truncation_is_noticed(program):
    data = program.to_bytes()
    for length in [*range(40), *range(40, len(data), 97), len(data) - 1]:
        with pytest.raises(ProgramError, match=r"truncated|not a Dipole program"):
            Program.from_bytes(data[:length], "net.dipole")
    with pytest.raises(ProgramError, match="damaged"):
        Program.from_bytes(data + b"\0")


def rewritten(program, **fields):
    """The file with header fields changed and the file CRC mended."""
    data = bytearray(program.to_bytes())
    names = ["version", "config_hash", "image_length", "image_crc", "entry", "metadata_length"]
    for name, value in fields.items():
        struct.pack_into("<I", data, 4 + 4 * names.index(name), value)
    struct.pack_into("<I", data, 28, zlib.crc32(data[:28] + data[32:]))
    return bytes(data)


def test_refuses_other_files(program):
    with pytest.raises(ProgramError, match=re.escape("is not a Dipole program: it begins with b'\\x7fELF'")):
        Program.from_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(ProgramError, match=f"format version 99, this Dipole reads {VERSION}"):
        Program.from_bytes(rewritten(program, version=99))
    with pytest.raises(ProgramError, match="configuration hash 00000001, this Dipole computes"):
        Program.from_bytes(rewritten(program, config_hash=1))
    with pytest.raises(ProgramError, match="damaged"):
        Program.from_bytes(rewritten(program, image_crc=1))


def test_refuses_unknown_configuration(program):
    """A program of another Dipole, whose configurations have other fields."""
    data = program.to_bytes()
    metadata = data[32 + len(program.image) :].replace(b'"row_depth"', b'"row_width"')
    other = bytearray(data[: 32 + len(program.image)] + metadata)
    struct.pack_into("<I", other, 28, zlib.crc32(bytes(other[:28]) + bytes(other[32:])))
    with pytest.raises(ProgramError, match="a configuration that this Dipole does not have"):
        Program.from_bytes(bytes(other))


def test_require_config(program):
    program.require_config(TINY)
    program.require_config(dataclasses.replace(TINY, name="renamed"))
    with pytest.raises(ProgramError, match=r"'net' is for configuration 'test_tiny' \(hash .*\), not for 'test_wide'"):
        program.require_config(PRESETS["test_wide"])


def test_file_errors(program, tmp_path):
    with pytest.raises(ProgramError, match=r"cannot read program '.*none': No such file"):
        Program.load(tmp_path / "none")
    with pytest.raises(ProgramError, match=r"cannot write program '.*': No such file"):
        program.save(tmp_path / "folder" / "net.dipole")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ProgramError, match="cannot write program"):
        program.save(tmp_path / "taken")
    assert os.listdir(tmp_path) == ["taken"]
