"""Whether a stream comes faster than it can be decoded, and what to leave out then.

A frame's age counts from when its packet was read.  Where decoding is too slow, packets wait in the system's buffers
before that, unseen, and every picture becomes older.  A reader that keeps up has to wait for data; one that never
waits has a backlog.  That needs no timestamps, which cameras get wrong.
"""

from __future__ import annotations

__all__ = ["Backlog"]

WAITED_S = 0.002  # longer than reading what is there takes, shorter than what is left of a frame's time as a rule
BEHIND_S = 1.0  # a burst after a pause of the network is read in less


class Backlog:
    """Told about all that is read from a stream, which begins at ``now_s``, and asked about each picture's packet."""

    def __init__(self, now_s: float) -> None:
        self._now_s = self._idle_s = now_s
        self._skipping = False
        self._after_key = False

    def note_read(self, now_s: float, waited_s: float) -> None:
        """A packet was read now, after waiting for so long."""
        self._now_s = now_s
        if waited_s >= WAITED_S:
            self._idle_s = now_s

    def skips(self, is_key: bool) -> bool:
        """Whether to leave a picture's packet out.

        With a backlog only key frames are decoded, or of a stream that has nothing else, none; when it is gone,
        everything from the next key frame on.
        """
        behind = self._now_s - self._idle_s > BEHIND_S
        only_keys = is_key and self._after_key
        self._after_key = is_key
        if is_key or behind:
            self._skipping = behind
        return self._skipping and (not is_key or only_keys)
