"""Values of any type to bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.errors import InputError
from isa_deploy.runtime.raster_values import ValueRange, byte_scale, parse_value_range

FINITE = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(low=FINITE, high=FINITE)
def test_a_range_reads_back_as_it_was_written(low: float, high: float) -> None:
    text = f"{low!r}:{high!r}"
    if low < high and 1e-300 < high - low < np.inf:
        assert parse_value_range(text) == ValueRange(low, high)
    elif low < high:
        with pytest.raises(InputError, match="too wide or too narrow"):
            parse_value_range(text)
    else:
        with pytest.raises(InputError, match="the lower one first"):
            parse_value_range(text)


@pytest.mark.parametrize("text", ["", ":", "1", "1:", ":2", "1:2:3", "a:b", "nan:1", "0:inf", "1_0:20", "0x1:2"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="value range"):
        parse_value_range(text)


@given(
    dtype=st.sampled_from(["uint16", "int16", "int32", "uint32", "float32", "float64"]),
    low=st.integers(-1000, 1000),
    width=st.integers(1, 60000),
    data=st.data(),
)
def test_a_range_is_linear_between_its_ends_and_flat_beyond(
    dtype: str, low: int, width: int, data: st.DataObject
) -> None:
    bounds = (0, 65535) if dtype.startswith("uint") else (-32768, 32767)
    values = np.array(data.draw(st.lists(st.integers(*bounds), min_size=1, max_size=20)), dtype=dtype)
    convert = byte_scale(values.dtype, None, ValueRange(low, low + width))
    assert convert is not None
    wanted = np.clip((values.astype(np.float64) - low) / width, 0, 1) * 255
    found = convert(values)
    assert found.dtype == np.uint8
    assert np.abs(found - wanted).max() <= 0.51
    assert (found[values <= low] == 0).all()
    assert (found[values >= low + width] == 255).all()


def test_bytes_stay_as_they_are_whatever_the_range() -> None:
    assert byte_scale(np.dtype(np.uint8), None, ValueRange(10, 20)) is None
    assert byte_scale(np.dtype(np.uint8), 8, None) is None


@given(st.integers(0, 65535))
def test_sixteen_bits_are_the_nearest_of_x_over_257(value: int) -> None:
    convert = byte_scale(np.dtype(np.uint16), None, None)
    assert convert is not None
    assert int(convert(np.array([value], np.uint16))[0]) == round(value / 257)


@pytest.mark.parametrize("text", ["-1e308:1.7e308", "0:1e-310"])
def test_a_range_that_no_float_holds_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="too wide or too narrow"):
        parse_value_range(text)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("low", "high"), [(-1e300, 1e300), (0, 1e39), (0, 1e-40), (-3e38, 3e38)])
def test_a_range_beyond_what_four_bytes_hold_is_as_linear_as_any(dtype: str, low: float, high: float) -> None:
    convert = byte_scale(np.dtype(dtype), None, ValueRange(low, high))
    assert convert is not None
    values = np.array([0, min(high, 3e38), -3e38, np.inf], dtype=dtype)
    wanted = np.clip((values.astype(np.float64) / 2 - low / 2) / (high / 2 - low / 2), 0, 1) * 255
    assert np.abs(convert(values) - wanted).max() <= 0.51


def test_what_is_not_a_number_is_black() -> None:
    convert = byte_scale(np.dtype(np.float32), None, ValueRange(-1, 1))
    assert convert is not None
    assert convert(np.array([np.nan, -np.inf, np.inf, 0], np.float32)).tolist() == [0, 0, 255, 128]


def test_complex_numbers_are_no_picture() -> None:
    with pytest.raises(InputError, match="complex64"):
        byte_scale(np.dtype(np.complex64), None, ValueRange(0, 1))
