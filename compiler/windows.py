"""Geometry of convolution and pooling windows: ONNX attributes to kernel, stride and explicit padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Geometry", "conv_geometry", "pool_geometry"]


@dataclass(frozen=True)
class Geometry:
    """Windows in rows and columns; padding (top, left, bottom, right); 1-D windows have one row."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    output: tuple[int, int]
    dilated: bool


def _pair(values: Sequence[int] | None, default: int, one_d: bool) -> tuple[int, int]:
    """Two numbers from an attribute of a 1-D or 2-D node."""
    given = list(values) if values else [default] * (1 if one_d else 2)
    if len(given) != (1 if one_d else 2):
        raise ValueError(f"has attributes for {len(given)} axes: 2-D and 1-D windows are supported")
    return (default if one_d else given[0], given[-1])


def _geometry(attributes: dict[str, Any], kernel: tuple[int, int], image: tuple[int, int], one_d: bool) -> Geometry:
    stride = _pair(attributes.get("strides"), 1, one_d)
    dilations = _pair(attributes.get("dilations"), 1, one_d)
    if min(*kernel, *stride, *dilations) < 1:
        raise ValueError(f"kernel {kernel}, strides {stride} and dilations {dilations} must be positive")
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto = attributes.get("auto_pad", "NOTSET") or "NOTSET"
    pads = list(attributes.get("pads") or [0] * (2 if one_d else 4))
    if len(pads) != (2 if one_d else 4):
        raise ValueError(f"has {len(pads)} pads, must have {2 if one_d else 4}")
    if one_d:
        pads = [0, pads[0], 0, pads[1]]
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [max(0, (-(-i // s) - 1) * s + w - i) for i, s, w in zip(image, stride, span, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if auto == "SAME_UPPER" else large + small
    elif auto == "VALID":
        pads = [0, 0, 0, 0]
    elif auto != "NOTSET":
        raise ValueError(f"auto_pad {auto!r} is not known")
    if min(pads) < 0:
        raise ValueError(f"negative padding {pads} is not supported")
    top, left, bottom, right = pads
    room = (image[0] + top + bottom - span[0], image[1] + left + right - span[1])
    if attributes.get("ceil_mode", 0) and auto == "NOTSET":
        # One more window where it is cut by the edge, unless it would start in the padding behind the image;
        # it is the same as padding that completes it.
        for axis, before in enumerate((top, left)):
            extra = -room[axis] % stride[axis] if room[axis] >= 0 else 0
            if extra and ((room[axis] + extra) // stride[axis]) * stride[axis] < image[axis] + before:
                pads[2 + axis] += extra
        top, left, bottom, right = pads
        room = (image[0] + top + bottom - span[0], image[1] + left + right - span[1])
    output = (room[0] // stride[0] + 1, room[1] // stride[1] + 1)
    return Geometry(kernel, stride, (top, left, bottom, right), output, dilations != (1, 1))


def conv_geometry(attributes: dict[str, Any], kernel: Sequence[int], image: Sequence[int], one_d: bool) -> Geometry:
    """Windows of a Conv whose weights have `kernel` (rows, columns); ValueError where attributes contradict."""
    given = list(attributes.get("kernel_shape") or [])
    size = (kernel[0], kernel[1])
    if given and given != list(size)[-len(given) :]:
        raise ValueError(f"kernel_shape {given} contradicts weights of kernel {list(size)}")
    return _geometry(attributes, size, (image[0], image[1]), one_d)


def pool_geometry(attributes: dict[str, Any], image: Sequence[int], one_d: bool) -> Geometry:
    """Windows of a MaxPool; ValueError where attributes are missing or contradict."""
    if not attributes.get("kernel_shape"):
        raise ValueError("its kernel_shape is missing")
    kernel = _pair(attributes["kernel_shape"], 1, one_d)
    return _geometry(attributes, kernel, (image[0], image[1]), one_d)
