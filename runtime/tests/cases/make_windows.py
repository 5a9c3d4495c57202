"""Makes windows.json: cases of windows, weights and maps that Python and C++ are both held to.

    python runtime/tests/cases/make_windows.py

It is made from the Python functions, and committed: a change of theirs shows as a difference in it.  Floats are
hexadecimal ("0x1.8p-1"), which loses nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from isa_deploy.manifest import ResizeSpec
from isa_deploy.runtime.preprocess import ResizeRule, fit_size, network_size
from isa_deploy.runtime.resample import AxisMap, average_windows, bilinear, weigh_windows
from isa_deploy.runtime.tiling import CutMode, cut_axis, slide_spans

TABLE = Path(__file__).with_name("windows.json")

SLIDES = [
    (2048, 769, 513), (1024, 769, 513), (768, 769, 513), (769, 769, 513), (770, 769, 513), (512, 512, 341),
    (683, 512, 341), (1, 1, 1), (7, 3, 1), (65536, 8192, 8000), (100, 64, 64),
]  # fmt: skip

CUTS: list[tuple[int, int, int, CutMode]] = [
    (2500, 1024, 128, "tiles"), (2500, 1024, 128, "slide"), (2500, 1024, 128, "blend"), (100, 128, 32, "tiles"),
    (129, 128, 32, "tiles"), (97, 33, 7, "blend"), (97, 33, 32, "slide"), (40, 9, 8, "blend"), (41, 8, 5, "tiles"),
]  # fmt: skip

WEIGHTS: list[tuple[int, int, int, CutMode, int]] = [
    (41, 8, 5, "tiles", 1), (41, 8, 5, "tiles", 11), (41, 8, 5, "slide", 2), (97, 33, 7, "blend", 1),
    (40, 9, 0, "blend", 0), (61, 32, 31, "blend", 3),
]  # fmt: skip

BILINEAR = [
    (2, 16, False), (9, 65, False), (9, 65, True), (128, 37, False), (128, 37, True), (1, 5, False), (1, 5, True),
    (5, 1, False), (5, 1, True), (7, 7, False), (3, 100, True),
]  # fmt: skip

AVERAGES = [
    # spans' length, crop, stride, the head's stride, frame, align_corners
    (64, 64, 64, 8, 64, False), (97, 97, 97, 8, 97, False), (65, 33, 21, 8, 65, False), (65, 33, 21, 8, 65, True),
    (65, 33, 21, 8, 40, False), (65, 33, 21, 8, 90, True), (30, 9, 2, 4, 30, False), (64, 64, 64, 8, 50, False),
    (40, 40, 40, 8, 130, True),
]  # fmt: skip

WEIGHED: list[tuple[int, int, int, CutMode, int, int, int, bool]] = [
    # length, window, overlap, mode, the head's stride, first pixel and the one after the last, align_corners
    (41, 16, 5, "tiles", 8, 0, 41, False), (41, 16, 5, "tiles", 8, 13, 30, True),
    (41, 16, 5, "slide", 8, 0, 41, False), (60, 24, 12, "slide", 4, 20, 45, False),
    (41, 16, 15, "slide", 8, 6, 17, True),
]  # fmt: skip

FITS = [
    # frame and box, each height and width
    (512, 1024, 256, 512), (1024, 512, 256, 512), (361, 641, 256, 512), (720, 1280, 1024, 2048), (1, 5000, 512, 2048),
    (333, 500, 512, 683), (65536, 3, 769, 769), (1080, 1920, 1024, 2048),
    (375, 1265, 512, 1024), (805, 478, 512, 683),
]  # fmt: skip

NETWORK: list[tuple[tuple[int, int], ResizeRule, tuple[int, int, bool] | None]] = [
    # frame, rule, and the model's box (height and width) and whether it keeps the ratio
    ((361, 641), "test", (256, 512, True)), ((361, 641), "test", (256, 512, False)), ((361, 641), "test", None),
    ((361, 641), "none", (256, 512, True)), ((361, 641), (512, 1024), (256, 512, True)),
]  # fmt: skip


def record_of_map(made: AxisMap) -> dict[str, Any]:
    """A map as the table holds it: its sizes, and row by row its indices and its weights."""
    return {
        "inputs": made.inputs,
        "outputs": made.outputs,
        "taps": int(made.index.shape[1]),
        "index": " ".join(str(index) for index in made.index.ravel()),
        "weight": " ".join(hexadecimal(weight) for weight in made.weight.ravel()),
    }


def hexadecimal(value: float) -> str:
    """A float64 without loss, and short: "0x1.8p-1"."""
    digits, exponent = float(value).hex().split("p")
    return f"{digits.rstrip('0').rstrip('.') if '.' in digits else digits}p{int(exponent)}"


def average_of(length: int, crop: int, stride: int, head: int, frame: int, align: bool) -> AxisMap:
    """Windows' logits to the network's size, and on to the frame's."""
    spans = slide_spans(length, crop, stride)
    made = average_windows(spans, -(-(spans[0][1] - spans[0][0]) // head), length, align)
    return made if frame == length else bilinear(length, frame, align).after(made)


def weighed_of(
    length: int, window: int, overlap: int, mode: CutMode, head: int, start: int, stop: int, align: bool
) -> AxisMap:
    """The windows' logits of a cut axis to some of its pixels."""
    cut = cut_axis(length, window, overlap, mode)
    weights = [cut.weights(number) for number in range(len(cut.windows))]
    return weigh_windows(cut.windows, weights, bilinear(-(-cut.window // head), cut.window, align), (start, stop))


def network_of(frame: tuple[int, int], rule: ResizeRule, box: tuple[int, int, bool] | None) -> tuple[int, int]:
    """The size at which the network sees a frame."""
    spec = None if box is None else ResizeSpec(scale_wh=(box[1], box[0]), keep_ratio=box[2])
    return network_size(frame, rule, spec)


def table() -> dict[str, Any]:
    """The whole table, computed."""
    cuts = []
    for length, window, overlap, mode in CUTS:
        cut = cut_axis(length, window, overlap, mode)
        of = [cut.windows_of(block) for block in range(len(cut.blocks))]
        cuts.append({
            "case": [length, window, overlap, mode],
            "windows": cut.windows,
            "blocks": cut.blocks,
            "windows_of": [[windows.start, windows.stop] for windows in of],
        })  # fmt: skip
    return {
        "slide_spans": [{"case": case, "spans": slide_spans(*case)} for case in SLIDES],
        "cut_axis": cuts,
        "weights": [
            {"case": case, "weights": " ".join(hexadecimal(one) for one in cut_axis(*case[:4]).weights(case[4]))}
            for case in WEIGHTS
        ],
        "bilinear": [{"case": case, "map": record_of_map(bilinear(*case))} for case in BILINEAR],
        "average": [{"case": case, "map": record_of_map(average_of(*case))} for case in AVERAGES],
        "weigh": [{"case": case, "map": record_of_map(weighed_of(*case))} for case in WEIGHED],
        "fit_size": [{"case": case, "size": fit_size(case[:2], (case[3], case[2]))} for case in FITS],
        "network_size": [{"case": case, "size": network_of(*case)} for case in NETWORK],
    }


def text() -> str:
    """The table as it is stored: a case a line."""
    made = table()
    lines = [f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]" for name, cases in made.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    TABLE.write_text(text(), encoding="utf-8")
