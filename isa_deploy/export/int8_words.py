"""What was chosen for an int8 graph, as a record and as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from isa_deploy.export.int8_search import Int8Choice, LayerFinding

__all__ = ["choice_lines", "choice_record", "in_order_of_loss"]


def choice_record(choice: Int8Choice) -> dict[str, Any]:
    """The key ``int8`` of ``report.json``; its fields are in :mod:`isa_deploy.export.report`."""
    return {
        "ranges": choice.ranges,
        "points": choice.points,
        "budget": choice.budget,
        "agreement": choice.agreement,
        "frames": choice.frames,
        "tried_ranges": [asdict(each) for each in choice.range_findings],
        "layers": [{**asdict(each), "gained_ms": each.gained_ms} for each in choice.layer_findings],
    }


def in_order_of_loss(layers: Sequence[LayerFinding]) -> list[LayerFinding]:
    """The layers, those that cost most first."""
    return sorted(layers, key=lambda each: each.error_share, reverse=True)


def choice_lines(choice: Int8Choice) -> list[str]:
    """The tables of ranges and layers, and what came of them, a line each."""
    width = max(len(each.name) for each in choice.layer_findings)
    lines = [f"{'ranges':<20} {'mIoU lost':>9} {'labels equal':>12}"]
    lines += [f"{each.name:<20} {each.points:>9.3f} {each.agreement:>12.3%}" for each in choice.range_findings]
    lines += ["", f"{'layer':<{width}} {'mIoU lost':>9} {'error':>7} {'gained':>9}  kept"]
    for each in in_order_of_loss(choice.layer_findings):
        gained = "-" if each.gained_ms is None else f"{each.gained_ms:.2f} ms"
        lines.append(
            f"{each.name:<{width}} {each.points:>9.3f} {each.error_share:>7.1%} {gained:>9}  {each.kept}".rstrip()
        )
    kept = sum(bool(each.kept) for each in choice.layer_findings)
    lines += [
        "",
        f"int8: {len(choice.layer_findings) - kept} of {len(choice.layer_findings)} convolutions, ranges by "
        f"{choice.ranges}; an estimated {choice.points:.2f} points of mIoU lost ({choice.budget:g} allowed), "
        f"{choice.agreement:.2%} of the labels equal at stride 8, on {choice.frames} calibration frames",
    ]
    return lines
