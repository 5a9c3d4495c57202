"""A window that shows pictures, through Tk, which comes with Python (opencv-python-headless has no window)."""

from __future__ import annotations

from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import BackendUnavailableError, InputError

__all__ = ["Window"]

UInt8 = npt.NDArray[np.uint8]

SCREEN_SHARE = 0.9  # of the screen's sides that a picture may fill


class Window:
    """Shows the pictures given to :meth:`show`, inside a ``with``, until ``q``, Escape or its close button.

    For the main thread: some systems allow windows nowhere else.  Call :meth:`keep_alive` ten times a second or
    more, or the window stops answering.  Raises :class:`BackendUnavailableError` where this Python has no Tk, and
    :class:`InputError` where there is no display.
    """

    def __init__(self, title: str) -> None:
        self.closed = False
        try:
            import tkinter
        except ImportError as error:
            raise BackendUnavailableError(
                f"--show needs Python's tkinter ({error}); install it (Debian, Ubuntu: apt install python3-tk), "
                "or use --preview 8080 and a browser"
            ) from None
        try:
            self._root = tkinter.Tk(className="isa-infer")
        except tkinter.TclError as error:
            raise InputError(f"--show: no display can be opened ({error}); use --preview 8080 and a browser") from None
        self._tkinter = tkinter
        self._root.title(title)
        self._root.configure(background="black")
        self._label = tkinter.Label(self._root, background="black", borderwidth=0)
        self._label.pack(expand=True)
        self._image: tkinter.PhotoImage | None = None
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        for key in ("<KeyPress-q>", "<KeyPress-Escape>"):
            self._root.bind(key, lambda _: self._close())
        screen_hw = self._root.winfo_screenheight(), self._root.winfo_screenwidth()
        self._largest_hw = int(screen_hw[0] * SCREEN_SHARE), int(screen_hw[1] * SCREEN_SHARE)

    def show(self, picture_hwc: UInt8) -> None:
        """Replace the picture (uint8 H x W x 3, BGR); one that is larger than the screen is scaled down."""
        if self.closed:
            return
        # Tk reads PPM (P6), which is a header and the pixels
        rgb_hwc = cv2.cvtColor(self._fitted(picture_hwc), cv2.COLOR_BGR2RGB)
        height, width = rgb_hwc.shape[:2]
        self._image = self._tkinter.PhotoImage(data=b"P6 %d %d 255\n" % (width, height) + rgb_hwc.tobytes())
        self._label.configure(image=self._image)
        self.keep_alive()

    def keep_alive(self) -> None:
        """Let the window answer its user."""
        if not self.closed:
            self._root.update()

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True
        self._image = None
        self._root.destroy()

    def _close(self) -> None:
        self.closed = True

    def _fitted(self, picture_hwc: UInt8) -> UInt8:
        height, width = picture_hwc.shape[:2]
        scale = min(1.0, self._largest_hw[0] / height, self._largest_hw[1] / width)
        if scale == 1.0:
            return picture_hwc
        size_wh = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(cv2.resize(picture_hwc, size_wh, interpolation=cv2.INTER_AREA), dtype=np.uint8)
