"""The frame for outside suites: names of images, arguments, and what is made of a suite's results."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance import aliases, suites
from conformance.results import collect
from conformance.running import TIMED_OUT, Ended
from lab.run import LabError

JUNIT = """<testsuites><testsuite>
<testcase name="allows"/><testcase name="denies"><failure message="it did not"/></testcase>
<testcase name="later"><skipped/></testcase><testcase name="[SynchronizedBeforeSuite]"/>
</testsuite></testsuites>"""
PASSING = '<testsuite><testcase name="allows"/></testsuite>'
SKIPPING = '<testsuite><testcase name="later"><skipped/></testcase></testsuite>'


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("agnhost", "docker.io/library/agnhost:latest"),
        ("someone/agnhost:2", "docker.io/someone/agnhost:2"),
        ("registry.example/agnhost:2", "registry.example/agnhost:2"),
        ("localhost/agnhost", "localhost/agnhost:latest"),
        ("registry.example:5000/agnhost", "registry.example:5000/agnhost:latest"),
        ("someone/agnhost@sha256:00", "docker.io/someone/agnhost@sha256:00"),
    ],
)
def test_an_alias_is_kept_as_containerd_keeps_names(asked: str, name: str) -> None:
    assert name in aliases.names([asked])["localhost/agnhost:lab"]
    assert aliases.names([f"{asked}=localhost/coredns:lab"])["localhost/coredns:lab"] == [name]


@pytest.mark.parametrize("asked", ["", "=localhost/agnhost:lab", "two words"])
def test_what_is_no_alias_is_refused(asked: str) -> None:
    with pytest.raises(LabError, match="--alias"):
        aliases.names([asked])


def test_a_path_is_a_suite_if_it_can_be_run(tmp_path: Path) -> None:
    path = tmp_path / "suite"
    path.write_text("#!/bin/sh\n")
    with pytest.raises(LabError, match="neither an executable nor one of e2e, cyclonus"):
        suites.find(str(path), [])
    path.chmod(0o755)
    assert suites.find(str(path), ["a", "{report}"]) == suites.Suite("suite", path, ("a", "{report}"))


def test_junit_is_counted(tmp_path: Path) -> None:
    (tmp_path / "junit_01.xml").write_text(JUNIT)
    (tmp_path / "other.xml").write_text("no XML")
    found = collect("some", [], Ended(1, 2.0), tmp_path)
    assert (found.passed, found.failed, found.skipped) == (["allows"], {"denies": "it did not"}, 1)
    assert not found.ok
    assert "FAILED denies: it did not\nsome: 1 passed, 1 failed, 1 skipped in 2 s, exit code 1" in found.say()


@pytest.mark.parametrize(
    ("junit", "code", "ok", "problem"),
    [
        (PASSING, 0, True, ""),
        (PASSING, 1, False, "no case failed, but the suite did"),
        (PASSING, TIMED_OUT, False, "it had not ended"),
        (SKIPPING, 0, False, "every case was skipped"),
        ("", 0, True, ""),
        ("", 3, False, ""),
    ],
)
def test_a_run_passes_only_if_its_process_and_its_cases_do(
    tmp_path: Path, junit: str, code: int, ok: bool, problem: str
) -> None:
    (tmp_path / "junit.xml").write_text(junit)
    found = collect("some", [], Ended(code, 1.0), tmp_path)
    assert found.ok == ok
    assert problem in found.problem
    assert bool(found.problem) == bool(problem)
    if not junit:
        assert found.passed == (["some"] if ok else [])
        assert list(found.failed) == ([] if ok else ["some"])
