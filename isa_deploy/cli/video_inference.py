"""Videos through one engine: one alone, or several side by side."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isa_deploy.cli.colour_order import in_colour_order
from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.progress import FileProgress
from isa_deploy.cli.sources import Source
from isa_deploy.cli.tally import Tally
from isa_deploy.cli.unusable import UnusableInputError, input_errors
from isa_deploy.cli.video_task import VideoTask
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.video import VideoFrame

__all__ = ["VideoInference"]

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Call:
    """Frames of one size, of one video each, that were given to the engine together."""

    frames: Sequence[tuple[VideoTask, VideoFrame]]
    labels: Callable[[], list[UInt8]]


@dataclass
class VideoInference:
    """A number of videos through the engine, frame by frame, side by side.

    Each round takes the next frame of each video that is not over; those of one size are given to the engine
    together.  It is given as many frames as it takes (:attr:`Segmenter.capacity`) before the first labels are waited
    for, and the memory of a video is bounded by what waits on either side of the engine.

    ``open_task``: makes the task of a source.  ``failed``: told of each input that cannot be used; what it
    raises ends the run.
    """

    segmenter: Segmenter
    open_task: Callable[[Source], VideoTask]
    failed: Callable[[Source, UnusableInputError], None]
    progress: FileProgress
    interruption: Interruption
    tally: Tally
    _ended: int = 0

    def run(self, sources: Sequence[Source]) -> None:
        """Infer videos.

        Raises :class:`InputError` where an output cannot be written, :class:`EngineError` where the engine fails,
        :class:`KeyboardInterrupt` after Ctrl-C.
        """
        count = len(sources)
        self.progress.begin(sources[0].path.name if count == 1 else f"{count} videos side by side")
        with ExitStack() as stack:
            tasks = []
            for source in sources:
                self.interruption.check()
                try:
                    tasks.append(stack.enter_context(self.open_task(source)))
                except UnusableInputError as error:
                    self._give_up(source, error)
            under_way: deque[_Call] = deque()
            rounds = self._rounds(tasks)
            while True:
                self.interruption.check()
                # One call more than the engine takes: it waits at the engine's door, inside submit(), so that
                # the next one begins the moment one ends, and the labels of that are made meanwhile.
                full = sum(len(call.frames) for call in list(under_way)[1:]) >= self.segmenter.capacity
                frames = None if full else next(rounds, None)
                if frames is not None:
                    under_way.extend(self._submit(frames))
                elif under_way:
                    self._put(under_way.popleft())
                else:
                    break
                self._finish_those_done(tasks)

    def _rounds(self, tasks: Sequence[VideoTask]) -> Iterator[list[tuple[VideoTask, VideoFrame]]]:
        """The next frame of each video, until all are over."""
        while True:
            frames = []
            for task in tasks:
                if task.is_over:
                    continue
                try:
                    frame = task.next_frame()
                except UnusableInputError as error:
                    self._fail(task, error)
                    continue
                if frame is not None:
                    frames.append((task, frame))
            if not frames:
                return
            yield frames

    def _submit(self, frames: Sequence[tuple[VideoTask, VideoFrame]]) -> list[_Call]:
        of_size: defaultdict[tuple[int, ...], list[tuple[VideoTask, VideoFrame]]] = defaultdict(list)
        for task, frame in frames:
            of_size[frame.frame_hwc.shape].append((task, frame))
        calls = []
        for group in of_size.values():
            images = [in_colour_order(frame.frame_hwc, self.segmenter.manifest) for _, frame in group]
            try:
                with input_errors():
                    labels = self._start(images)
            except UnusableInputError as error:
                for task, _ in group:
                    self._fail(task, error)
                continue
            for task, _ in group:
                task.under_way += 1
            calls.append(_Call(group, labels))
        return calls

    def _start(self, images: Sequence[UInt8]) -> Callable[[], list[UInt8]]:
        if len(images) == 1:
            alone = self.tally.engine(lambda: self.segmenter.submit(images[0]))
            return lambda: [alone.result()]
        return self.tally.engine(lambda: self.segmenter.submit_batch(images)).result

    def _put(self, call: _Call) -> None:
        for (task, frame), labels_hw in zip(call.frames, self.tally.engine(call.labels), strict=True):
            task.under_way -= 1
            self.tally.frames += 1
            if not task.is_closed:
                task.put(frame, labels_hw)
        self._advance([task for task, _ in call.frames])

    def _advance(self, tasks: Sequence[VideoTask]) -> None:
        parts = [part for task in tasks if (part := task.part) is not None]
        self.progress.advance(sum(parts) / len(parts) if parts else None, sum(task.frames_done for task in tasks))

    def _finish_those_done(self, tasks: Sequence[VideoTask]) -> None:
        for task in tasks:
            if task.is_over and not task.is_closed and not task.under_way:
                task.finish()
                self.tally.videos += 1
                self._end(task.source, task.result)
                for note in task.notes:
                    self.progress.note(f"isa-infer: {note}")

    def _fail(self, task: VideoTask, error: UnusableInputError) -> None:
        task.fail(error)
        self._give_up(task.source, error)

    def _give_up(self, source: Source, error: UnusableInputError) -> None:
        self.failed(source, error)
        self._end(source, "skipped")

    def _end(self, source: Source, result: str) -> None:
        if self._ended:  # the first ends what all began together
            self.progress.begin(source.path.name)
        self._ended += 1
        self.progress.end(result)
