"""Building a corpus from a question's sources, in a thread, while the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from rlm_server.config import ContextConfig
from rlm_server.context.assembly import Assembly
from rlm_server.context.corpus import INDEX, TEXT, Corpus, discard
from rlm_server.context.decode import BINARY_SUFFIXES
from rlm_server.context.entry import READER
from rlm_server.context.plan import Plan
from rlm_server.context.reasons import LeftOuts
from rlm_server.context.refusals import nothing_to_read
from rlm_server.context.state import State
from rlm_server.context.store import Store
from rlm_server.errors import SourceError
from rlm_server.protocol import Overlay, Source

PROGRESS_SECONDS = 0.1
"""Least time between two calls of ``on_progress``."""
_STOP_SECONDS = 0.2

_Result = TypeVar("_Result")
OnProgress = Callable[[int, int], None]
"""Takes the documents and the bytes that have been read."""


class Measure(msgspec.Struct):
    """What the sources hold, found without opening a file."""

    documents: int
    bytes: int
    left_out_counts: dict[str, int]


class _StoppedError(Exception):
    """The task that waits for the thread has been cancelled."""


class _Watch:
    """What the thread and the loop have in common: the wish to stop, and the progress."""

    def __init__(
        self, on_progress: OnProgress | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stop = threading.Event()
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._next = 0.0

    def checkpoint(self) -> None:
        """Raise _StoppedError once stopping is wished."""
        if self.stop.is_set():
            raise _StoppedError

    def progress(self, documents: int, count: int) -> None:
        """Tell the loop how far the thread is, but not too often."""
        if self._on_progress is None or (now := self._clock()) < self._next:
            return
        self._next = now + PROGRESS_SECONDS
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, documents, count)

    def _tell(self, documents: int, count: int) -> None:
        if self._on_progress is not None and not self.stop.is_set():
            self._on_progress(documents, count)


async def build_corpus(
    sources: Sequence[Source],
    overlays: Sequence[Overlay],
    *,
    directory: Path,
    config: ContextConfig,
    on_progress: OnProgress,
    store: Store | None = None,
) -> Corpus:
    """Read all sources into a corpus in ``directory``, which is made, private to its owner.

    With a store, the corpus stands there, and is taken from there if the sources are unchanged;
    ``directory`` is made all the same, and removed when the corpus is closed if it is empty then.
    ``on_progress`` is called on the loop, at most every 100 ms. What can't be read is left out,
    and the corpus says so. Raises SourceError when there is no text at all, when a limit of the
    configuration is exceeded, or when the disk is too full; nothing stays on disk then, nor when
    the waiting task is cancelled.
    """
    watch = _Watch(on_progress)

    def work() -> Corpus:
        if (directory / TEXT).exists():
            raise SourceError(
                f"{directory} holds a context already.", cure="Name another directory."
            )
        if store is not None:
            return _stored(sources, overlays, directory, config, watch, store)
        return _build(sources, overlays, directory, config, watch)

    return await _in_thread(work, watch, abandon=Corpus.close)


async def measure(
    sources: Sequence[Source], overlays: Sequence[Overlay], *, config: ContextConfig
) -> Measure:
    """Count the files and bytes that the sources reach, by name and size alone.

    A file counts as binary by the ending of its name, so the true figures can differ a little.
    """
    watch = _Watch(None)

    def work() -> Measure:
        return _measure(sources, overlays, config, watch)

    return await _in_thread(work, watch, abandon=lambda _: None)


async def _in_thread(
    work: Callable[[], _Result], watch: _Watch, *, abandon: Callable[[_Result], None]
) -> _Result:
    """Run blocking work in a thread of its own, which stops when the waiting task is cancelled.

    ``abandon`` disposes of a result that comes too late.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="rlm-context")
    try:
        future = executor.submit(work)
    finally:
        executor.shutdown(wait=False)
    waiting = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        watch.stop.set()
        future.add_done_callback(
            lambda done: abandon(done.result()) if done.exception() is None else None
        )
        # Wait a moment for the thread to remove its files; a hanging disk can't hold us.
        await asyncio.wait([waiting], timeout=_STOP_SECONDS)
        raise


def _stored(
    sources: Sequence[Source],
    overlays: Sequence[Overlay],
    directory: Path,
    config: ContextConfig,
    watch: _Watch,
    store: Store,
) -> Corpus:
    """Take the corpus from the store, or build it and keep it there."""
    started = store.clock()
    left = LeftOuts()
    before = State(watch.checkpoint, reading=True)
    plan = Plan(sources, overlays, config, left, checkpoint=watch.checkpoint, own=_own(directory))
    for _ in before.watch(plan):
        watch.checkpoint()
    key = before.key(left, config, READER)
    corpus = store.find(key, directory)
    if corpus is not None:
        return corpus
    state = State(watch.checkpoint, reading=False)
    corpus = _build(sources, overlays, directory, config, watch, store=store, state=state)
    trusted = state.confirms(before, corpus.documents, started)
    return store.keep(corpus, key if trusted else None)


def _build(
    sources: Sequence[Source],
    overlays: Sequence[Overlay],
    directory: Path,
    config: ContextConfig,
    watch: _Watch,
    *,
    store: Store | None = None,
    state: State | None = None,
) -> Corpus:
    left = LeftOuts()
    plan = Plan(sources, overlays, config, left, checkpoint=watch.checkpoint, own=_own(directory))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        assembly = Assembly(
            state.watch(plan) if state else plan,
            left,
            directory,
            config,
            checkpoint=watch.checkpoint,
            progress=watch.progress,
            make_room=store.clear if store else lambda: None,
        )
        corpus = assembly.run()
    except OSError as error:
        discard(directory)
        raise SourceError(
            f"The context can't be written to {directory}: {error.strerror or error}.",
            cure="Check the disk, or set RLM_CACHE to another place.",
        ) from error
    except BaseException:
        discard(directory)
        raise
    if not any(document.end > document.start for document in corpus.documents):
        corpus.close()
        raise nothing_to_read(sources, left, config)
    return corpus


def _own(directory: Path) -> list[Path]:
    return [directory / TEXT, directory / INDEX]


def _measure(
    sources: Sequence[Source],
    overlays: Sequence[Overlay],
    config: ContextConfig,
    watch: _Watch,
) -> Measure:
    left = LeftOuts()
    documents = total = 0
    for piece in Plan(sources, overlays, config, left, checkpoint=watch.checkpoint):
        if piece.text is not None:
            size = len(piece.text.encode("utf-8", "replace"))
        else:
            try:
                size = os.stat(piece.file).st_size  # noqa: PTH116
            except OSError:
                left.add(piece.path, "gone")
                continue
            if size > piece.limit:
                left.add(piece.path, "too large")
                continue
            if not piece.spooled and Path(piece.file).suffix.lower() in BINARY_SUFFIXES:
                left.add(piece.path, "binary")
                continue
        documents += 1
        total += size
    return Measure(documents, total, left.counts)
