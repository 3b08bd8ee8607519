"""Speech Commands: folders of .wav files, and what their spectrograms show."""

import wave

import numpy as np
import pytest

from dipole.golden.errors import DipoleError
from dipole.train.data import open_data
from dipole.train.speech import BANDS, FRAMES, spectrogram

RATE = 16000


def _tone(frequency, seconds=1.0):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(RATE * seconds)) / RATE)


def _write(path, samples, channels=1, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def test_higher_tones_are_in_higher_bands():
    bands = [int(spectrogram(_tone(f), RATE)[0].mean(axis=1).argmax()) for f in (200, 800, 2000, 5000)]
    assert bands == sorted(set(bands))


def test_range_shape_and_silence():
    x = spectrogram(_tone(440, 0.5), RATE)
    assert x.shape == (1, BANDS, FRAMES) and x.dtype == np.float32
    assert x.max() == 1 and x.min() == 0
    assert x[0, :, FRAMES // 2 + 1 :].max() == 0, "the second half of a half-second clip is silence"
    assert not spectrogram(np.zeros(100), RATE).any()


def test_words_and_official_test_list(tmp_path):
    for k, word in enumerate(("no", "yes")):
        for clip in range(4):
            _write(tmp_path / word / f"{clip}.wav", _tone(300 * (k + 1) + 10 * clip))
    _write(tmp_path / "_background_noise_" / "hum.wav", _tone(50))
    data = open_data(str(tmp_path))
    assert data.classes == ("no", "yes") and data.shape == (1, BANDS, FRAMES)
    assert len(data.x) == 5 and len(data.x_test) == 3

    (tmp_path / "testing_list.txt").write_text("no/1.wav\nyes/0.wav\n")
    data = open_data(str(tmp_path))
    assert len(data.x) == 6
    np.testing.assert_array_equal(data.y_test, [0, 1])


def test_bad_clips(tmp_path):
    _write(tmp_path / "yes" / "0.wav", _tone(300), channels=2)
    with pytest.raises(DipoleError, match=r"0.wav: 2 channels of 16 bits, must be 1 of 16 bits"):
        open_data(str(tmp_path))
    (tmp_path / "yes" / "0.wav").write_bytes(b"RIFF nothing")
    with pytest.raises(DipoleError, match=r"0.wav: not a .wav file of plain PCM samples"):
        open_data(str(tmp_path))
