"""Programs that a PolicyClass has inside, as one text: a line of JSON for each.

Owns: how such programs become text and are read from it. Must not: know when a program is inside a class (the
operator's model does).

Why text: the API server would look at each field of each rule at every write of the class, and keep all of them apart,
for what it has no use of (docs/decisions/0009, 0010).
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from manx_core.api.core_v1 import KubeStruct
from manx_core.api.lines import lines_of
from manx_core.api.v1alpha1 import PolicyProgramSpec


class ClassProgram(KubeStruct, frozen=True, gc=False):
    """A PolicyProgram as one class alone has it."""

    name: str
    spec: PolicyProgramSpec
    """As the PolicyProgram has it, but with epoch 0: the class's own says who wrote it."""


_decoder = msgspec.json.Decoder(ClassProgram)


def line_of(program: ClassProgram) -> str:
    """JSON, in which there is no newline."""
    return msgspec.json.encode(program).decode()


@lru_cache(maxsize=1024)
def programs_in(text: str) -> tuple[ClassProgram, ...]:
    """`PolicyClassSpec.programs`, read. Raises msgspec.MsgspecError where it is not what `line_of` makes."""
    return tuple([_decoder.decode(line) for line in lines_of(text)])
