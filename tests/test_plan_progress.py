"""How far a build is, from phases inside phases."""

from __future__ import annotations

from isa_deploy.export.plan_progress import BuildWatch


def test_a_phase_inside_a_step_is_a_part_of_that_step() -> None:
    watch = BuildWatch()
    assert watch.read() == ("", 0.0)
    watch.start("build", None, 4)
    watch.step("build", 0)
    assert watch.read() == ("build", 0.25)
    watch.start("time", "build", 2)
    watch.step("time", 0)
    assert watch.read() == ("time", 0.375)
    watch.finish("time")
    assert watch.read()[0] == "build"


def test_the_part_never_falls_when_a_phase_ends_before_its_step_does() -> None:
    watch = BuildWatch()
    watch.start("build", None, 2)
    watch.start("time", "build", 10)
    watch.step("time", 9)
    assert watch.read()[1] == 0.5
    watch.finish("time")
    assert watch.read()[1] == 0.5
    watch.start("time", "build", 10)
    assert watch.read()[1] == 0.5


def test_odd_phases_are_harmless() -> None:
    watch = BuildWatch()
    watch.start("self", "self", 0)
    watch.start("orphan", "nobody", -3)
    assert watch.step("unknown", 5)
    assert watch.step("orphan", 99)
    watch.finish("unknown")
    assert 0 <= watch.read()[1] <= 1


def test_a_step_after_the_cancel_stops_the_build() -> None:
    watch = BuildWatch()
    watch.start("build", None, 2)
    assert watch.step("build", 0)
    watch.cancel()
    assert not watch.step("build", 1)
    assert not watch.step("unknown", 0)
