"""Speech Commands: one folder of .wav files per word, as the archive unpacks; made into small spectrogram images.

A clip is cut or padded with silence to one second. Features: log power in `BANDS` bands of equal width on the mel scale
(2595 * log10(1 + f/700)), Hann windows of 32 ms every 32 ms, brought to 0..1 from -60 dB to 0 dB of the clip's loudest
value; so one image is 1 x BANDS x FRAMES.
"""

import wave
from pathlib import Path

import numpy as np

from .data import Data, split
from .errors import TrainError

__all__ = ["BANDS", "FRAMES", "has_speech", "load_speech", "spectrogram"]

BANDS = 32
FRAMES = 32
_RANGE_DB = 60


def _words(folder: Path) -> list[Path]:
    """Folders with .wav files; those with a leading underscore (background noise) are no words."""
    return sorted(
        child
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith("_") and any(child.glob("*.wav"))
    )


def has_speech(folder: Path) -> bool:
    return bool(_words(folder))


def _filters(bins: int, rate: int) -> np.ndarray:
    """Triangular mel bands [BANDS, bins]."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, bins)
    rise = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.clip(np.minimum(rise, fall), 0, None)
    # Low bands may be narrower than a bin: they take the nearest one.
    empty = filters.sum(axis=1) == 0
    filters[empty, np.abs(frequencies - edges[1:-1, None]).argmin(axis=1)[empty]] = 1
    return filters


def spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """Features float32 [1, BANDS, FRAMES], 0..1, of mono samples."""
    clip = np.zeros(rate)
    clip[: min(rate, len(samples))] = samples[:rate]
    starts = np.linspace(0, rate, FRAMES, endpoint=False).astype(int)
    length = rate * 32 // 1000
    padded = np.concatenate([clip, np.zeros(length)])
    frames = np.stack([padded[start : start + length] for start in starts]) * np.hanning(length)
    power = np.abs(np.fft.rfft(frames)) ** 2
    bands = _filters(power.shape[1], rate) @ power.T
    loudest = bands.max()
    if loudest == 0:
        return np.zeros((1, BANDS, FRAMES), np.float32)
    decibel = 10 * np.log10(np.maximum(bands / loudest, 1e-12))
    return np.clip(decibel / _RANGE_DB + 1, 0, 1).astype(np.float32)[None]


def _read(path: Path) -> np.ndarray:
    try:
        with wave.open(str(path), "rb") as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise TrainError(
                    f"{path}: {file.getnchannels()} channels of {8 * file.getsampwidth()} bits, must be 1 of 16 bits"
                )
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    except (wave.Error, EOFError):
        raise TrainError(f"{path}: not a .wav file of plain PCM samples") from None
    if rate < 2000:
        raise TrainError(f"{path}: {rate} samples per second, must be 2000 or more")
    return spectrogram(samples, rate)


def load_speech(folder: Path) -> Data:
    """All words of the folder; test clips are those of testing_list.txt where there is one, else 30 %."""
    words = _words(folder)
    files = [(path, label) for label, word in enumerate(words) for path in sorted(word.glob("*.wav"))]
    x = np.stack([_read(path) for path, _ in files])
    y = np.array([label for _, label in files], np.int64)
    classes = tuple(word.name for word in words)
    listed = folder / "testing_list.txt"
    if not listed.is_file():
        return split(folder.name, x, y, classes)
    names = set(listed.read_text().split())
    test = np.array([path.relative_to(folder).as_posix() in names for path, _ in files])
    return Data(folder.name, x[~test], y[~test], x[test], y[test], classes)
