"""The one command: a lab, an outside suite against it, what came of it in dist/, and the lab's end.

Owns: options and the order. Must not: leave a lab behind that it brought up, unless told to.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance import aliases, results, running, suites
from lab import commands
from lab.cluster import Cluster
from lab.run import LabError
from lab.settings import CHECKOUT


def arguments() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(prog="hack/conformance/run", description="Run an outside suite against a lab.")
    parser.add_argument("--suite", default="e2e", help=f"{', '.join(suites.KNOWN)}, or an executable (default: e2e)")
    parser.add_argument("--args", default="", help="the suite's arguments in one string; {report} is its directory")
    parser.add_argument("--name", default="manx-conformance", help="the lab; one that is up is used, and left up")
    parser.add_argument("--nodes", type=int, default=3, help="of a lab that is brought up (default: %(default)s)")
    parser.add_argument("--dev", action="store_true", help="bring the lab up with Manx from the working tree")
    parser.add_argument("--keep", action="store_true", help="leave a lab up that was brought up for this")
    parser.add_argument("--minutes", type=float, default=60, help="the suite is ended after (default: %(default)s)")
    parser.add_argument("--images", nargs="+", default=[], metavar="FILE", help="image archives that the suite needs")
    parser.add_argument("--alias", action="append", default=[], metavar="NAME[=IMAGE]", help="another name of an image")
    parser.add_argument("--report", type=Path, help="directory of the results (default: dist/conformance/SUITE)")
    return parser


def main() -> int:
    """0 if the suite passed, 1 if not, 2 if it could not be run."""
    given = arguments().parse_args()
    try:
        result = conform(given)
    except LabError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    print(f"\n{result.say()}")
    return 0 if result.ok else 1


def conform(given: argparse.Namespace) -> results.Result:
    """Everything. Raises LabError."""
    suite = suites.find(given.suite, shlex.split(given.args))
    tags = aliases.names(given.alias)
    report = (given.report or CHECKOUT / "dist/conformance" / suite.name).absolute()
    shutil.rmtree(report, ignore_errors=True)
    report.mkdir(parents=True)
    with _lab(given) as cluster:
        for archive in given.images:
            commands.import_everywhere(cluster.machines, Path(archive).absolute())
        aliases.give(cluster.machines, tags)
        print(f"{suite.program} {shlex.join(suite.arguments)}\n", flush=True)
        ended = running.run(cluster.machines, suite, report, given.minutes * 60)
    result = results.collect(suite.name, list(suite.arguments), ended, report)
    result.write(report / "result.json")
    return result


@contextmanager
def _lab(given: argparse.Namespace) -> Iterator[Cluster]:
    options = ["--nodes", str(given.nodes), *(["--dev"] if given.dev else [])]
    print(f"The lab {given.name!r} ...", flush=True)
    cluster, is_new = Cluster.start_or_reuse(given.name, *options)
    try:
        yield cluster
    finally:
        if is_new and not given.keep:
            cluster.down()


if __name__ == "__main__":
    sys.exit(main())
