"""A test bench in plain Verilog for the exported accelerator: one program, one image, every byte of the answers.

`Script` collects what goes over the link, step by step; its expectations come from a device model around the golden
machine, so the bench checks results, status and cycle count of the Verilog against the NumPy reference. `testbench`
gives the two files: tb.v and tb.hex.
"""

from pathlib import Path

__all__ = ["Script", "testbench"]

_TEMPLATE = Path(__file__).with_name("tb.v")
_SEND, _EXPECT, _SKIP, _WAIT = range(4)


class Script:
    """Steps of the test bench: bytes to send, bytes to expect, waiting."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def send(self, data: bytes) -> None:
        self.steps += [_SEND << 8 | byte for byte in data]

    def expect(self, data: bytes) -> None:
        """Receive exactly these bytes."""
        self.steps += [_EXPECT << 8 | byte for byte in data]

    def skip(self, count: int) -> None:
        """Receive that many bytes, whatever they are."""
        self.steps += [_SKIP << 8] * count

    def wait(self) -> None:
        """Until the engine is idle."""
        self.steps.append(_WAIT << 8)


def testbench(
    script: Script, *, top: str, sources: list[str], limit: int, comment: str, pump: int = 1
) -> dict[str, str]:
    """Files of the test bench by name; `limit` cycles without an event make it fail, `comment` says what it runs.

    With `pump` (see `rtl.config.Config`) above 1 `top` has a port `fast_clk`.
    """
    values = {
        "TOP": top,
        "FAST_CLK": ".fast_clk(fast_clk), " if pump > 1 else "",
        "SOURCES": " ".join(sources),
        "STEPS": str(len(script.steps)),
        "LIMIT": str(limit),
        "PROGRAM": comment,
    }
    text = _TEMPLATE.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return {"tb.v": text, "tb.hex": "".join(f"{step:03x}\n" for step in script.steps)}
