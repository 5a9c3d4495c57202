"""A video's sound into another video, packet by packet, as it is."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isa_deploy.runtime.video import load_av, longest_gap_s, open_container, packets_of, start_ticks

if TYPE_CHECKING:
    import av
    from av.container import InputContainer, OutputContainer

__all__ = ["SoundCopy", "SoundCut"]

SOUND_IN_MP4 = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})
LOWEST_MP3_HZ = 16000  # of MPEG-1 and MPEG-2, which MP4 names; MPEG-2.5 goes lower


@dataclass(frozen=True)
class SoundCut:
    """The sound of a file from ``start_s`` on and before ``end_s`` (None: to its end), seconds from its beginning."""

    path: Path
    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None


class SoundCopy:
    """The packets of a file's first sound track, put into another file in step with its pictures.

    A packet (some 20 ms) is copied where it begins inside the cut; times count from the cut's start.
    Damaged packets are left out, and a sound track that breaks off ends there; the pictures go on.
    """

    def __init__(self, source: InputContainer, output: OutputContainer, cut: SoundCut) -> None:
        stream = source.streams.audio[0]
        self._source = source
        self._output = output
        self._stream = output.add_stream_from_template(stream)
        self._time_base = Fraction(stream.time_base or 1)
        self._start = start_ticks(source, self._time_base) + round(cut.start_s / self._time_base)
        self._length_s = None if cut.end_s is None else cut.end_s - cut.start_s
        self._longest_gap = longest_gap_s(source) / self._time_base
        codes = load_av().error
        self._ends = codes.FFmpegError
        self._damaged = codes.InvalidDataError, codes.PatchWelcomeError
        if cut.start_s > 0:
            # where that fails the packets before the start are read and dropped
            with suppress(self._ends):
                source.seek(self._start, stream=stream)
        self._packets = packets_of(source, stream)
        self._last_dts: int | None = None
        # whole, a track may begin before its file: an encoder's run-in
        self._earliest: float = 0 if cut.start_s > 0 else -math.inf
        self._next = self._read()

    @classmethod
    def open(cls, cut: SoundCut, output: OutputContainer) -> SoundCopy | None:
        """None where the file has no sound that MP4 can hold."""
        source = open_container(cut.path)
        if not any(_fits_mp4(stream.codec_context) for stream in source.streams.audio[:1]):
            source.close()
            return None
        return cls(source, output, cut)

    def copy_until(self, time_s: Fraction) -> None:
        """Copy what is heard up to a moment of the video."""
        while self._next is not None and self._next[1] * self._time_base <= time_s:
            self._copy_next()

    def copy_rest(self) -> None:
        """Copy all that is left."""
        while self._next is not None:
            self._copy_next()

    def close(self) -> None:
        """Close the file that the sound comes from."""
        self._source.close()

    def _copy_next(self) -> None:
        if self._next is not None:
            packet, dts = self._next
            packet.pts = dts if packet.pts is None else packet.pts - self._start
            packet.dts = dts
            packet.stream = self._stream
            with suppress(*self._damaged):  # no frame of sound to the parser that MP4 takes it through
                self._output.mux(packet)
            self._last_dts = dts
        self._next = self._read()

    def _read(self) -> tuple[av.Packet[Any], int] | None:
        """The next packet and its time of decoding, in ticks from the cut's start; those rise."""
        while True:
            try:
                packet = next(self._packets, None)
            except self._ends:
                return None
            if packet is None:
                return None
            if packet.dts is None or packet.size == 0:
                continue
            dts = packet.dts - self._start
            if self._length_s is not None and dts * self._time_base >= self._length_s:
                return None
            last = self._last_dts
            if dts >= self._earliest and (last is None or last < dts <= last + self._longest_gap):
                return packet, dts


def _fits_mp4(context: av.AudioCodecContext | None) -> bool:
    """``context``: of a sound track; None where this FFmpeg has no decoder for it."""
    if context is None or context.codec.canonical_name not in SOUND_IN_MP4:
        return False
    return context.sample_rate >= (LOWEST_MP3_HZ if context.codec.canonical_name == "mp3" else 1)
