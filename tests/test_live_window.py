"""The window, on a display without a screen; in processes of its own, for Tk wants the main thread."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

PROGRAM = """
import sys
import numpy as np
from isa_deploy.cli.window import Window
"""


def run(code: str, display: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    if display is not None:
        environment["DISPLAY"] = display
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    pytest.importorskip("tkinter", reason="needs Python's tkinter: apt install python3-tk, or a Python built with Tk")
    if shutil.which("Xvfb") is None:
        pytest.skip("needs a display without a screen: apt install xvfb")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "640x480x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        if not number:
            pytest.skip("Xvfb does not start here")
        yield f":{number}"
        server.terminate()


def test_a_picture_is_shown_in_its_colours_and_one_larger_than_the_screen_is_scaled(display: str) -> None:
    done = run(
        """
with Window("a camera") as window:
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, 100:] = (10, 20, 250)
    window.show(picture)
    image = window._image
    print(image.width(), image.height(), image.get(50, 50), image.get(150, 50))
    window.show(np.zeros((3000, 4000, 3), np.uint8))
    print(window._image.width(), window._image.height(), window._root.title(), window.closed)
""",
        display,
    )
    assert done.stdout.splitlines() == ["200 100 (0, 0, 0) (250, 20, 10)", "576 432 a camera False"], done.stderr


@pytest.mark.parametrize("action", ["<KeyPress-q>", "<KeyPress-Escape>", "close"])
def test_q_escape_and_the_close_button_end_it(display: str, action: str) -> None:
    done = run(
        f"""
action = {action!r}
with Window("a camera") as window:
    window.show(np.zeros((10, 10, 3), np.uint8))
    if action == "close":
        window._root.tk.call(*window._root.tk.splitlist(window._root.protocol("WM_DELETE_WINDOW")))
    else:
        window._root.focus_force()
        window._root.update()
        window._root.event_generate(action)
    window.keep_alive()
    print(window.closed)
    window.show(np.zeros((10, 10, 3), np.uint8))
    window.keep_alive()
print("ended")
""",
        display,
    )
    assert done.stdout.splitlines() == ["True", "ended"], done.stderr


def test_closing_the_window_ends_a_live_run(display: str) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")
    from rtsp_standin import RtspCamera

    with RtspCamera() as camera:
        done = run(
            f"""
from pathlib import Path
from types import SimpleNamespace
import av
av.logging.set_libav_level(av.logging.PANIC)
from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.live import LiveOptions, run_live
from isa_deploy.cli.results import Product
from isa_deploy.cli.sources import live_source

shown = []
genuine = Window.show
def show(window, picture_hwc):
    genuine(window, picture_hwc)
    shown.append(picture_hwc.shape)
    if len(shown) >= 5:
        window._root.focus_force()
        window._root.update()
        window._root.event_generate("<KeyPress-q>")
Window.show = show
segmenter = SimpleNamespace(
    segment=lambda frame_hwc: frame_hwc[..., 0], manifest=SimpleNamespace(input=SimpleNamespace(colour_order="BGR"))
)
with Interruption() as interruption:
    product = Product("overlay", lambda frame_hwc, labels_hw: frame_hwc)
    run_live(segmenter, live_source({camera.url!r}), product, Path("none"), LiveOptions(show=True), interruption)
print(shown[0], "ended")
""",
            display,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(64, 96, 3) ended"
    assert "frames shown" in done.stderr


def test_without_a_display_the_preview_is_named() -> None:
    pytest.importorskip("tkinter", reason="needs Python's tkinter: apt install python3-tk, or a Python built with Tk")
    if sys.platform != "linux":
        pytest.skip("only X11 has machines without a display: run on Linux")
    done = run('Window("a")', None)
    last = done.stderr.splitlines()[-1]
    assert "InputError: --show: no display can be opened" in last
    assert "--preview 8080" in last


def test_without_tk_the_package_and_the_preview_are_named() -> None:
    done = run('sys.modules["tkinter"] = None\nWindow("a")', None)
    last = done.stderr.splitlines()[-1]
    assert "BackendUnavailableError: --show needs Python's tkinter" in last
    assert "python3-tk" in last
    assert "--preview 8080" in last
