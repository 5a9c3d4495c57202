"""What a user may mix up around plans: folders, names, files that are none, options that come too late."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Exporter
from plan_commands import Command, command_line, contents, names

from isa_deploy.errors import InputError

pytest_plugins = ("standin_fixtures", "plan_fixtures")


def test_a_plan_goes_into_no_folder_of_another_graph(
    gpu: Any, isa: Command, graph_folder: Path, exported: Exporter, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported("isanet_r18w16_streets"), other)
    before = contents(other)
    done = isa("export", graph_folder, "--plan", "--out", other)
    assert done.code == 2
    assert f"{other}: holds another graph, model.onnx" in done.complaint
    assert contents(other) == before


def test_a_graph_that_changes_while_its_plan_is_built_gets_none(
    gpu: Any, isa: Command, graph_folder: Path, exported: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from isa_deploy.export import plan_export

    fp32 = exported("isanet_r18w16_streets") / "model.onnx"
    write = plan_export.write_plan_report

    def exported_again(*arguments: Any) -> None:
        shutil.copy(fp32, graph_folder / "model.onnx")
        write(*arguments)

    monkeypatch.setattr(plan_export, "write_plan_report", exported_again)
    done = isa("export", graph_folder, "--plan")
    assert done.code == 2
    assert "model.onnx: was changed while its plan was built" in done.complaint
    assert "model.plan" not in names(graph_folder)


@pytest.mark.parametrize("stem", ["report", "plan-report"])
def test_a_graph_whose_plan_would_overwrite_a_report_is_refused(
    gpu: Any, isa: Command, graph_folder: Path, stem: str
) -> None:
    (graph_folder / "model.onnx").rename(graph_folder / f"{stem}.onnx")
    before = contents(graph_folder)
    done = isa("export", graph_folder / f"{stem}.onnx", "--plan")
    assert done.code == 2
    assert f"would be {stem}.json, a report's name; rename the graph" in done.complaint
    assert contents(graph_folder) == before


def test_options_of_a_plan_that_cannot_be_met_are_said_before_the_checkpoint_is_traced(
    gpu: Any, isa: Command, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isa_deploy.export.pipeline.trace", lambda *_: pytest.fail("traced"))
    checkpoint = golden / "isanet_r18w16_streets.pth"
    for options in (
        ("--target", "rtx", "--compute-capability", "9.9"),
        ("--shape", "1x64x128", "--max-shape", "1x65x128"),
    ):
        done = isa("export", "--ckpt", checkpoint, "--fp16", "--out", tmp_path / "late", *options)
        assert done.code == 2, done.err
    assert names(tmp_path) == set()


def test_the_smallest_shape_of_a_fixed_graph_is_its_own(isa: Command, gpu: Any) -> None:
    from isa_deploy.cli.export import shape_ranges

    (free,) = shape_ranges([], [], ["2x256x512"], (None, None, None))
    assert (free.min_nhw, free.opt_nhw, free.max_nhw) == ((1, 64, 128), (2, 256, 512), (2, 256, 512))
    (fixed,) = shape_ranges([], [], ["2x256x512"], (None, 256, 512))
    assert fixed.min_nhw == (1, 256, 512)


@pytest.mark.parametrize("text", ["1x1x" + "9" * 5000, "9" * 5000 + "x1x1"])
def test_a_number_of_thousands_of_digits_is_no_shape(text: str) -> None:
    from isa_deploy.cli.export import parse_shape
    from isa_deploy.runtime.preprocess import parse_resize

    with pytest.raises(InputError, match="is not BATCHxHEIGHTxWIDTH"):
        parse_shape(text)
    with pytest.raises(InputError, match="is none of: test, none"):
        parse_resize("9" * 5000 + "x1")


def test_a_workspace_that_no_card_has_is_refused(gpu: Any, isa: Command, graph_folder: Path) -> None:
    done = isa("export", graph_folder, "--plan", "--workspace", "9" * 20)
    assert done.code == 2
    assert "is more than any card has; give at most 1048576" in done.complaint


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes; Linux and macOS have")
def test_a_pipe_is_no_graph_and_no_manifest_and_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.json"):
        os.mkfifo(tmp_path / name)
        done = subprocess.run(
            command_line("info", tmp_path / name), capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 2
        assert f"{name}: is no file" in done.stderr


def test_a_name_that_is_too_long_is_a_line_and_not_our_fault(gpu: Any, isa: Command, golden: Path) -> None:
    long = "n" * 300
    for done in (
        isa("export", f"{long}.onnx", "--plan"),
        isa("info", f"{long}.onnx"),
        isa("infer", golden / "scene_0.png", "--engine", f"{long}.plan"),
    ):
        assert done.code == 2, done.err
        assert "the name is too long" in done.complaint


def test_a_class_name_cannot_forge_a_line_of_isa_info(isa: Command, graph_folder: Path) -> None:
    record = json.loads((graph_folder / "model.json").read_text())
    record["classes"]["names"][0] = "road\nproof  passed: forged \x1b[31m"
    (graph_folder / "copy.json").write_text(json.dumps(record))
    done = isa("info", graph_folder / "copy.json")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert not any(line.startswith("proof  passed: forged") for line in done.out.splitlines())


def test_what_builds_a_plan_again_names_the_graph_only_where_it_is(tmp_path: Path) -> None:
    from isa_deploy.runtime.plan import rebuild_command

    assert rebuild_command(tmp_path / "model.plan") == "isa-export GRAPH --plan"
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "model.onnx").touch()
    assert rebuild_command(folder / "model.plan") == f"isa-export '{folder / 'model.onnx'}' --plan"


def test_a_report_beside_the_folder_that_cannot_be_tidied_takes_nothing_from_a_plan(
    gpu: Any, isa: Command, graph_folder: Path
) -> None:
    graph_folder.with_name("engine-failed").write_text("a file of the user's")
    assert isa("export", graph_folder, "--plan").code == 0
    assert "model.plan" in names(graph_folder)
