"""Five lines of the runtime: every picture of a folder to a label map and an overlay.

python examples/segment_folder.py ENGINE PICTURES OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from isa_deploy import Segmenter, overlay


def main(engine: str, pictures: str, out: str) -> None:
    """Segment every PNG and JPEG of a folder."""
    Path(out).mkdir(parents=True, exist_ok=True)
    with Segmenter.open(engine) as segmenter:
        for path in sorted(Path(pictures).iterdir()):
            frame = cv2.imread(str(path))
            if frame is None:
                continue
            labels = segmenter.segment(frame)  # uint8, H x W, of the frame's own size
            picture = overlay(frame, labels, segmenter.manifest.classes.palette_rgb)
            cv2.imwrite(str(Path(out) / f"{path.stem}.png"), picture)
            cv2.imwrite(str(Path(out) / f"{path.stem}_labels.png"), labels)


if __name__ == "__main__":
    main(*sys.argv[1:4])
