"""The address journal on disk.

Owns: the file, its lock and when something is durable. Must not: know what the records mean.

Goals, and how they are met:
 1. What was answered survives any crash: `submit`'s future resolves after fdatasync.
 2. Many at once cost one: whatever was submitted while a write was under way goes into the next one, together.
 3. The event loop never waits for a disk: writes are in a thread of their own.
 4. The file stays small: once most of it is history it is rewritten (new file, fsync, rename, fsync of the directory).
 5. After a failed write nothing is trusted of the file's end (what a failed fsync left is unknowable): the next
    write is a rewrite.
 6. Two agents never write at once: a lock that dies with its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from manx_agent.ipam import records
from manx_agent.ipam.records import Parsed, Record
from manx_agent.model import AgentError

log = logging.getLogger(__name__)

SLACK = 1000
"""Lines of history kept before a rewrite is worth its two fsyncs."""
LOCK_INTERVAL = 0.5


class JournalError(AgentError):
    """The journal cannot be read or written: nothing that it had to record may be relied on."""


class Journal:
    """`snapshot` returns all records that make up the present state, those just submitted included."""

    def __init__(self, path: Path, snapshot: Callable[[], Iterable[Record]]) -> None:
        self._path = path
        self._snapshot = snapshot
        self._thread = ThreadPoolExecutor(1, "journal")
        self._queue: list[tuple[Record, asyncio.Future[None]]] = []
        self._last: asyncio.Future[None] | None = None
        self._work = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._file = -1
        self._lock = -1
        self._lines = 0
        self._rewrite = True

    async def open(self) -> Parsed:
        """Lock and read. Waits while another process has the lock. Raises JournalError."""
        loop = asyncio.get_running_loop()
        try:
            await self._take_lock()
            content = await loop.run_in_executor(self._thread, self._read)
        except OSError as error:
            raise JournalError(f"{self._path}: {error.strerror}") from error
        parsed = records.parse(content)
        if parsed.format > records.FORMAT:
            raise JournalError(f"{self._path}: format {parsed.format} was written by a later Manx; this one knows 1")
        self._writer = asyncio.create_task(self._run(), name="ipam journal")
        return parsed

    async def _take_lock(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        waiting = False
        while not _try_lock(self._lock):
            if not waiting:
                log.warning("%s is locked: another agent still runs; waiting for it to end", self._path)
            waiting = True
            await asyncio.sleep(LOCK_INTERVAL)

    def _read(self) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return self._path.read_bytes()
        return b""

    async def close(self) -> None:
        """Writes out what was submitted, then lets go of file and lock."""
        if self._writer is not None:
            while self._last is not None and not self._last.done():
                await asyncio.wait([self._last])
            self._writer.cancel()
            await asyncio.wait([self._writer])
        self._thread.shutdown()
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def submit(self, record: Record) -> asyncio.Future[None]:
        """Resolves once the record is on the disk; JournalError if it cannot be. Records keep their order."""
        future = self._last = asyncio.get_running_loop().create_future()
        self._queue.append((record, future))
        self._work.set()
        return future

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            batch, self._queue = self._queue, []
            if batch:
                _settle([future for _, future in batch], await self._write([record for record, _ in batch]))

    async def _write(self, batch: list[Record]) -> JournalError | None:
        whole = self._rewrite or self._lines > SLACK
        content = list(self._snapshot()) if whole else batch
        write = self._replace if whole else self._append
        # A cancelled wait would leave the thread writing: let it end, it is a matter of one fsync.
        running = asyncio.get_running_loop().run_in_executor(self._thread, write, records.encode(content))
        try:
            await asyncio.shield(running)
        except OSError as error:
            self._rewrite = True
            log.error("%s: %s", self._path, error)
            return JournalError(f"{self._path}: {error.strerror}")
        self._rewrite = False
        self._lines = 0 if whole else self._lines + len(batch)
        return None

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _append(self, content: bytes) -> None:
        _write_all(self._file, content)
        os.fdatasync(self._file)

    def _replace(self, content: bytes) -> None:
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
            os.rename(temporary, self._path)
            _sync_directory(self._path.parent)
        except OSError:
            os.close(descriptor)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file = descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _settle(futures: list[asyncio.Future[None]], error: JournalError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
            future.exception()  # whoever awaits it still gets it; nobody need
