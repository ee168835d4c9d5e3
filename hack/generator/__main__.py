"""hack/generate: write crds/ and manifests/operator.yaml, or with --check say where they differ from what is written.

Owns: the files and their text. Must not: decide what is in them.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from generator import crds, manifests

ROOT = Path(__file__).resolve().parents[2]
HEADER = (
    "# Made by hack/generate. Do not edit: change what it is made from, in hack/generator and core/src/manx_core/api.\n"
)


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out each time instead of by anchors, and lists indented below their key."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def text_of(documents: Iterable[dict[str, Any]]) -> str:
    """The documents as one YAML file."""
    parts = [
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True) for document in documents
    ]
    return HEADER + "---\n".join(parts)


def generated() -> dict[Path, str]:
    """Path, relative to the checkout → text of every generated file."""
    definitions = crds.definitions()
    files = {Path("crds") / name: text_of([definition]) for name, definition in definitions.items()}
    files[Path("manifests/operator.yaml")] = text_of([*definitions.values(), *manifests.operator()])
    return files


def differences(files: dict[Path, str]) -> list[str]:
    """What is not as generated, as unified diffs; and files in crds/ that are of no kind."""
    found = []
    for path, text in files.items():
        there = (ROOT / path).read_text() if (ROOT / path).exists() else ""
        found += list(
            difflib.unified_diff(there.splitlines(), text.splitlines(), f"{path}", f"{path} (made)", "", "", 1)
        )
    strangers = {path.relative_to(ROOT) for path in (ROOT / "crds").glob("*.yaml")} - set(files)
    return found + [f"{path}: of no kind" for path in sorted(strangers)]


def write(files: dict[Path, str]) -> None:
    """Write every file, and remove from crds/ what is of no kind."""
    for path, text in files.items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text)
    for path in (ROOT / "crds").glob("*.yaml"):
        if path.relative_to(ROOT) not in files:
            path.unlink()


def main() -> int:
    """Exit status 1 where --check finds a difference."""
    parser = argparse.ArgumentParser(prog="hack/generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not as generated")
    files = generated()
    if not parser.parse_args().check:
        write(files)
        return 0
    if found := differences(files):
        print("\n".join(found[:200]), "These files are not as generated; run hack/generate.", sep="\n", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
