"""Which sizes a plan is built for, before any TensorRT is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.errors import InputError
from isa_deploy.export.plan_profiles import check_profiles, default_profiles, make_range
from isa_deploy.manifest import Manifest, ShapeRange
from isa_deploy.runtime.preprocess import fit_size
from isa_deploy.runtime.tiling import slide_grid

NHW = tuple[int | None, int | None, int | None]


def manifest(
    shape_nhw: NHW = (None, None, None),
    scale_wh: tuple[int, int] | None = None,
    keep_ratio: bool = True,
    crop_hw: tuple[int, int] | None = None,
) -> Manifest:
    record: dict[str, Any] = {
        "format_version": 1,
        "architecture": "isanet",
        "precision": "fp32",
        "source": {"file": "a.pth", "sha256": "0" * 64, "layout": "state_dict"},
        "input": {
            "name": "image",
            "colour_order": "BGR",
            "shape_nhw": shape_nhw,
            "mean": (0.0, 0.0, 0.0),
            "std": (1.0, 1.0, 1.0),
            "resize": None if scale_wh is None else {"scale_wh": scale_wh, "keep_ratio": keep_ratio},
        },
        "inference": {
            "mode": "whole" if crop_hw is None else "slide",
            "crop_hw": crop_hw,
            "stride_hw": crop_hw,
            "align_corners": False,
            "windows_in_graph": crop_hw is not None and shape_nhw[1] is not None,
        },
        "classes": {"names": ["a"], "palette_rgb": [[0, 0, 0]]},
        "outputs": {"labels": "labels", "logits": "logits", "logits_stride": 8, "confidence": None},
    }
    return Manifest.from_json(json.dumps(record), "made here")


def shapes(profiles: tuple[ShapeRange, ...]) -> list[tuple[tuple[int, ...], ...]]:
    return [(each.min_nhw, each.opt_nhw, each.max_nhw) for each in profiles]


def holds(profile: ShapeRange, size_hw: tuple[int, int]) -> bool:
    sides = (1, *size_hw)
    return all(low <= side <= high for low, side, high in zip(profile.min_nhw, sides, profile.max_nhw, strict=True))


def test_a_graph_of_one_size_needs_no_profile() -> None:
    assert default_profiles(manifest((1, 512, 1024))) == ()
    assert check_profiles(manifest((1, 512, 1024)), ()) == ()
    assert check_profiles(manifest((1, 4, 8)), [make_range((1, 4, 8), (1, 4, 8), (1, 4, 8))]) == ()


def test_fixed_sides_stay() -> None:
    assert shapes(default_profiles(manifest((None, 512, 1024)))) == [((1, 512, 1024),) * 3]
    assert shapes(default_profiles(manifest((4, None, None), (2048, 1024), keep_ratio=False))) == [
        ((4, 256, 512), (4, 1024, 2048), (4, 1024, 2048))
    ]


def test_a_slide_model_is_built_for_its_window_and_smaller_frames() -> None:
    slide = manifest(scale_wh=(2048, 1024), crop_hw=(769, 769))
    assert shapes(default_profiles(slide)) == [((1, 192, 192), (1, 769, 769), (1, 769, 769))]
    assert slide_grid((500, 1000), (769, 769), (513, 513)).window_hw == (500, 769)


def test_a_slide_model_with_its_windows_in_the_graph_has_its_frame() -> None:
    assert shapes(default_profiles(manifest((None, 1025, 2049), crop_hw=(769, 769)))) == [((1, 1025, 2049),) * 3]


@pytest.mark.parametrize("scale_wh", [(2048, 1024), (1024, 2048), None])
def test_a_box_that_keeps_the_ratio_takes_landscapes_and_portraits(scale_wh: tuple[int, int] | None) -> None:
    assert shapes(default_profiles(manifest(scale_wh=scale_wh))) == [
        ((1, 256, 256), (1, 1024, 2048), (1, 1024, 2048)),
        ((1, 256, 256), (1, 2048, 1024), (1, 2048, 1024)),
    ]


def test_a_box_longer_than_any_picture_is_best_for_a_photograph() -> None:
    assert shapes(default_profiles(manifest(scale_wh=(2048, 512)))) == [
        ((1, 128, 128), (1, 512, 683), (1, 512, 2048)),
        ((1, 128, 128), (1, 683, 512), (1, 2048, 512)),
    ]
    assert fit_size((480, 640), (2048, 512)) == (512, 683)


def test_a_square_box_has_one_profile() -> None:
    assert shapes(default_profiles(manifest(scale_wh=(513, 513)))) == [((1, 128, 128), (1, 513, 513), (1, 513, 513))]


@given(
    frame=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    box=st.sampled_from([(2048, 1024), (2048, 512), (512, 2048), (640, 640), (683, 512)]),
)
def test_every_frame_up_to_four_times_the_boxs_ratio_fits_a_profile(
    frame: tuple[int, int], box: tuple[int, int]
) -> None:
    ratio = max(frame) / min(frame)
    size = fit_size(frame, box)
    fits = any(holds(profile, size) for profile in default_profiles(manifest(scale_wh=box)))
    assert fits or ratio > 3.9 * max(box) / min(box)


@given(scale=st.tuples(st.integers(1, 65536), st.integers(1, 65536)), keep=st.booleans(), free_batch=st.booleans())
def test_the_defaults_always_pass_the_check(scale: tuple[int, int], keep: bool, free_batch: bool) -> None:
    made = manifest((None if free_batch else 2, None, None), scale, keep)
    profiles = default_profiles(made)
    assert check_profiles(made, profiles) == profiles == check_profiles(made, ())


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((1, 2, 2), (1, 1, 2), (1, 2, 2)), "height 2 to 2 with 1 as the best"),
        (((1, 1, 1), (1, 1, 1), (2000, 1, 1)), "batch 1 to 2000"),
        (((0, 1, 1), (1, 1, 1), (1, 1, 1)), "batch 0 to 1"),
        (((1, 1, 1), (1, 1, 1), (1, 1, 65537)), "width 1 to 65537"),
        (((1, 1, -5), (1, 1, 1), (1, 1, 1)), "width -5 to 1"),
    ],
)
def test_a_range_that_is_none_is_refused_with_its_values(sizes: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_range(*sizes)


def test_a_batch_beyond_the_bound_is_refused_though_a_manifest_may_hold_it() -> None:
    wide = ShapeRange(min_nhw=(1, 8, 8), opt_nhw=(1, 8, 8), max_nhw=(5000, 8, 8))
    with pytest.raises(InputError, match="batch 1 to 5000"):
        check_profiles(manifest(), [wide])


def test_a_range_that_changes_a_fixed_side_is_refused() -> None:
    free_batch = manifest((None, 64, 128))
    assert check_profiles(free_batch, [make_range((1, 64, 128), (2, 64, 128), (4, 64, 128))])
    with pytest.raises(InputError, match="change the width, which the export fixed to 128"):
        check_profiles(free_batch, [make_range((1, 64, 128), (1, 64, 128), (1, 64, 256))])
    with pytest.raises(InputError, match="change the height, which the export fixed to 64"):
        check_profiles(manifest((1, 64, 128)), [make_range((1, 32, 128), (1, 64, 128), (1, 64, 128))])


def test_a_range_given_twice_or_too_many_are_refused() -> None:
    one = make_range((1, 8, 8), (1, 8, 8), (1, 16, 16))
    with pytest.raises(InputError, match="same one twice"):
        check_profiles(manifest(), [one, one])
    many = [make_range((1, 8, 8), (1, 8, 8), (1, 16, 16 + side)) for side in range(65)]
    with pytest.raises(InputError, match="65 shape ranges are too many"):
        check_profiles(manifest(), many)
