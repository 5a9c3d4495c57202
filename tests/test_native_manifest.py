"""The manifests that both languages accept or refuse: Python's side of runtime/tests/cases/manifests.

The C++ side of the same table is runtime/tests/test_trust.cpp.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from isa_deploy.errors import ManifestError
from isa_deploy.manifest import Manifest

FOLDER = Path(__file__).parent.parent / "runtime" / "tests" / "cases" / "manifests"
CASES: list[dict[str, Any]] = json.loads((FOLDER / "index.json").read_text(encoding="utf-8"))["cases"]
PLACEHOLDER = "put here as it is"


def base_manifest(case: dict[str, Any]) -> Manifest:
    path = FOLDER / f"{case['base']}.json"
    return Manifest.from_json(path.read_bytes(), str(path))


def manifest_text(case: dict[str, Any]) -> bytes:
    if "text" in case:
        return case["text"].encode()
    record = json.loads((FOLDER / f"{case['base']}.json").read_text(encoding="utf-8"))
    literal, before, after = b"", "", ""
    for edit in case.get("edits", []):
        before += edit.get("before", "")
        after += edit.get("after", "")
        if "drop" in edit:
            *parents, last = edit["drop"]
            del _inside(record, parents)[last]
        elif "set" in edit:
            *parents, last = edit["set"]
            target = _inside(record, parents)
            literal = edit["raw"].encode() if "raw" in edit else bytes.fromhex(edit.get("hex", "")) or literal
            target[int(last) if isinstance(target, list) else last] = _value(edit)
    text = json.dumps(record, ensure_ascii=False).encode()
    return before.encode() + text.replace(json.dumps(PLACEHOLDER).encode(), literal) + after.encode()


def _inside(record: Any, path: list[str]) -> Any:
    for part in path:
        record = record[int(part) if isinstance(record, list) else part]
    return record


def _value(edit: dict[str, Any]) -> Any:
    if "raw" in edit or "hex" in edit:
        return PLACEHOLDER
    if "text" in edit:
        return edit["text"] * edit["times"]
    return [edit["item"]] * edit["times"] if "item" in edit else edit["value"]


def test_every_case_is_another_one() -> None:
    assert len({case["says"] for case in CASES}) == len(CASES)
    texts = [manifest_text(case) for case in CASES]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("case", [case for case in CASES if case["accepted"]], ids=lambda case: case["says"])
def test_an_accepted_manifest_is_read(case: dict[str, Any]) -> None:
    manifest = Manifest.from_json(manifest_text(case), "m.json")
    if "equals_base" in case:
        bare, base = (each.model_copy(update={"engine": None}) for each in (manifest, base_manifest(case)))
        assert (bare == base) == case["equals_base"]


@pytest.mark.parametrize("case", [case for case in CASES if not case["accepted"]], ids=lambda case: case["says"])
def test_a_refused_manifest_names_what_is_wrong(case: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=r"^m\.json: ") as caught:
        Manifest.from_json(manifest_text(case), "m.json")
    assert case.get("names", "") in str(caught.value)
