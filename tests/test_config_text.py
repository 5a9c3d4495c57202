"""Config texts are read as data: what they say comes out, what they would do does not happen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoints import CONFIG_0X

from isa_deploy.errors import CheckpointError
from isa_deploy.models import config_text
from isa_deploy.models.config_text import UNREADABLE, parse_config
from isa_deploy.models.torch_file import open_torch_file


def parse(text: str) -> dict[str, object]:
    return parse_config(text, "file.pth")


class TestValues:
    def test_literals_containers_dict_calls_and_earlier_names(self) -> None:
        config = parse("a = 1\nb = [a, -2.5, 'x', None, True]\nc = dict(k=(a, b), **dict(d=3))\nd = {'e': c, 4: {5}}\n")
        assert config["b"] == [1, -2.5, "x", None, True]
        assert config["c"] == {"k": (1, config["b"]), "d": 3}
        assert config["d"] == {"e": config["c"], 4: [5]}

    def test_mmsegmentations_own_text(self) -> None:
        config = parse(CONFIG_0X)
        model, data = config["model"], config["data"]
        assert isinstance(model, dict)
        assert isinstance(data, dict)
        assert model["decode_head"]["norm_cfg"] == {"type": "SyncBN", "requires_grad": True}
        assert data["test"]["pipeline"][1]["transforms"][2]["mean"] == [123.675, 116.28, 103.53]

    def test_a_text_of_several_config_files_is_merged_as_mmcv_does(self) -> None:
        text = (
            "/home/user/base.py\n# a comment\nmodel = dict(\n# another\n"
            "    type='A', head=dict(classes=19, channels=8), test=dict(x=1)\n)\n"
            "/home/user/child.py\n_base_ = ['./base.py']\n"
            "model = dict(head=dict(classes=21), test=dict(_delete_=True, y=2))\n"
        )
        assert parse(text) == {"model": {"type": "A", "head": {"classes": 21, "channels": 8}, "test": {"y": 2}}}

    def test_a_later_value_that_is_no_dictionary_replaces(self) -> None:
        assert parse("a = dict(b=1)\na = 2\nc = 1\nc = 3\n") == {"a": 2, "c": 3}

    def test_json_is_read_too(self) -> None:
        assert parse(json.dumps({"model": {"type": "EncoderDecoder"}})) == {"model": {"type": "EncoderDecoder"}}


class TestWhatIsNotData:
    def test_code_is_not_run(self, tmp_path: Path) -> None:
        marker = tmp_path / "ran"
        text = (
            f"import os\nos.system('touch {marker}')\nopen(r'{marker}', 'w').close()\n"
            f"a = open(r'{marker}', 'w')\nb = [open(r'{marker}', 'w') for _ in range(1)]\n"
            f"c = dict(x=__import__('os').system('touch {marker}'))\n"
            f"d = f\"{{open(r'{marker}', 'w')}}\"\ne = (lambda: open(r'{marker}', 'w'))()\n"
            f"def f():\n    open(r'{marker}', 'w')\nf()\nlast = 1\n"
        )
        config = parse(text)
        assert not marker.exists()
        assert config["last"] == 1
        assert config["a"] is UNREADABLE
        assert config["c"] == {"x": UNREADABLE}

    @pytest.mark.parametrize(
        "value",
        [
            "1 + 1",
            "x.y",
            "a[0]",
            "f'{1}'",
            "undefined",
            "float('inf')",
            "dict([('a', 1)])",
            "-[1]",
            "{**{}}",
            "<class 'x'>",
        ],
    )
    def test_other_expressions_are_unreadable_and_harm_nothing_else(self, value: str) -> None:
        config = parse(f"before = 1\nx = {value}\nafter = dict(inner={value}, fine=2)\nend = 3\n")
        assert config["x"] is UNREADABLE
        assert (config["before"], config["end"]) == (1, 3)

    def test_a_statement_cut_short_is_unreadable(self) -> None:
        config = parse("a = 1\nmodel = dict(backbone=dict(depth=50,\n")
        assert config == {"a": 1, "model": UNREADABLE}

    @pytest.mark.parametrize("text", ["", "no config at all", "{broken json", "[1, 2]", "\0", "=", "é = ü"])
    def test_what_is_no_config_is_empty(self, text: str) -> None:
        assert parse(text) == {}


class TestBounds:
    def test_a_text_longer_than_any_config(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(config_text, "MAX_CHARS", 100)
        with pytest.raises(CheckpointError, match="101 characters, more than 100"):
            parse("a" * 101)

    @pytest.mark.parametrize(
        "value",
        [
            "[" * 10_000 + "]" * 10_000,
            "dict(a=" * 300 + "1" + ")" * 300,
            "-" * 50_000 + "1",
            "not " * 50_000 + "1",
            "a" + ".b" * 50_000,
            "1" + " + 1" * 50_000,
            "a" + "()" * 50_000,
            "lambda: " * 50_000 + "1",
            "['[', " * 2000,
            "9" * 5000,
            "[']', " * 5000 + "1" + "]" * 5000,
        ],
        ids=lambda value: value[:8],
    )
    def test_deep_and_long_expressions_are_unreadable(self, value: str) -> None:
        assert parse(f"x = {value}\ny = 1\n") == {"x": UNREADABLE, "y": 1}

    def test_deep_json_is_empty(self) -> None:
        assert parse('{"a":' * 100_000) == {}
        assert parse('{"a": ["]", ' + '["]", ' * 100_000) == {}

    def test_names_that_double_are_not_copied(self) -> None:
        text = "a0 = dict(x=1)\n" + "".join(f"a{i + 1} = dict(l=a{i}, r=a{i})\n" for i in range(60))
        text += "b0 = dict(x=2)\n" + "".join(f"b{i + 1} = dict(l=b{i}, r=b{i})\n" for i in range(60))
        config = parse(text + "m = a60\nm = b60\n")
        assert "m" in config

    def test_names_that_nest_without_end(self) -> None:
        nested = "".join(f"a = dict(x=a0)\na0 = dict(y=a)\n" for _ in range(3000))  # noqa: F541
        parse("a0 = dict(z=1)\n" + nested + "m = a\nm = a0\n")

    @given(st.text(max_size=300))
    @settings(max_examples=200, deadline=None)
    def test_any_text_gives_a_dictionary(self, text: str) -> None:
        assert isinstance(parse(text), dict)

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_a_damaged_config_gives_a_dictionary(self, data: st.DataObject) -> None:
        text = CONFIG_0X
        for _ in range(data.draw(st.integers(1, 5))):
            at = data.draw(st.integers(0, len(text) - 1))
            text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 40)) :]
        assert isinstance(parse(text), dict)


@pytest.mark.parametrize(
    "name", ["tiny_r50_whole_0x", "tiny_r50_whole_1x", "tiny_r101_ade_1x", "isanet_r18w16_streets"]
)
def test_every_statement_of_the_golden_configs_is_read(golden: Path, name: str) -> None:
    with (golden / f"{name}.pth").open("rb") as file:
        root = open_torch_file(file, name).root
    assert isinstance(root, dict)
    text = root["meta"].get("cfg") or root["meta"]["config"]
    config = parse(text)
    assert list(config) == re.findall(r"^(\w+) = ", text, re.MULTILINE)
    assert "not a literal" not in repr(config)
