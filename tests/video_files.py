"""Videos for tests, made with PyAV alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MS", "make_video", "picture"]

UInt8 = npt.NDArray[np.uint8]

MS = Fraction(1, 1000)


def picture(height: int, width: int, number: int = 0) -> UInt8:
    """A gradient that moves with the number."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [x * 255 // width, y * 255 // height, (x + y + 8 * number) % 256]
    return np.stack(planes, -1).astype(np.uint8)


def make_video(
    path: Path,
    times: list[int],
    size_wh: tuple[int, int] = (64, 48),
    time_base: Fraction = MS,
    *,
    pixels: str = "yuv420p",
    colours: dict[str, Any] | None = None,
    sound: bool = False,
    container: dict[str, str] | None = None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """A video with frames at the times given, a key frame every ten, and with a tone if wanted."""
    import av

    width, height = size_wh
    with av.open(str(path), "w", container_options=container or {}) as file:
        stream = file.add_stream(codec, options=options or {"preset": "ultrafast", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.time_base = stream.codec_context.time_base = time_base
        for name, value in (colours or {}).items():
            setattr(stream.codec_context, name, value)
        tone = file.add_stream("aac", rate=48000, layout="mono") if sound else None
        packets = []
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(height, width, number), format="bgr24").reformat(format=pixels)
            frame.pts, frame.time_base = time, time_base
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet in packets:
            packet.duration = times[1] - times[0]
            file.mux(packet)
        if tone is not None:
            for start in range(0, round(times[-1] * time_base * 48000), 1024):
                wave = np.sin(np.arange(start, start + 1024) / 20).astype(np.float32)[None]
                samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
                samples.sample_rate, samples.pts = 48000, start
                file.mux(tone.encode(samples))
            file.mux(tone.encode(None))
    return path
