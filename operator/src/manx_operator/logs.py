"""Log lines: one a record, key=value, on standard error.

Owns: their form. Must not: decide what is logged. Why this form: `grep` and log collectors both read it, and a value
with a space in it is quoted, so that a line can be taken apart again.
"""

from __future__ import annotations

import json
import logging
import sys
import time

from manx_kube.errors import ConfigError


class KeyValueFormatter(logging.Formatter):
    """`time=2026-01-31T08:15:30.123Z level=info logger=manx_operator.writer msg="…"`; a traceback is one value."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = (
            f"time={stamp}.{int(record.msecs):03d}Z level={record.levelname.lower()} logger={record.name}"
            f" msg={quoted(record.getMessage())}"
        )
        if record.exc_info:
            line += f" error={quoted(self.formatException(record.exc_info))}"
        return line


def quoted(text: str) -> str:
    """As it is if it is one plain word, else as a JSON string."""
    plain = text and text.isprintable() and not any(char in text for char in ' ="\\')
    return text if plain else json.dumps(text, ensure_ascii=False)


def set_up(level: str) -> None:
    """Raises ConfigError for what is no level."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigError(f"MANX_LOG_LEVEL={level!r}: must be debug, info, warning or error")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    logging.basicConfig(level=number, handlers=[handler], force=True)
    # kopf tells each handler's run and each object it saw; only what is wrong concerns us.
    for chatty in ("kopf", "asyncio", "kubernetes", "urllib3"):
        logging.getLogger(chatty).setLevel(max(number, logging.WARNING))
