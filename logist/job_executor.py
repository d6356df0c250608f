"""Runs the chunks of a render spec, several at a time, through a `WorkerAdapter`, verifies what they make, then merges.

A chunk is done when its command exits 0 *and* its output is there and whole. Knows nothing of state on disk: who
wants to go on later hands in what is done already, and a `Recorder`.
"""

from __future__ import annotations

import contextlib
import heapq
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple

from logist.chunk_attempts import (
    Attempt,
    Bench,
    attempt_chunk,
    how_to_run,
    merge_chunks,
    new_token,
    offer_chunks,
    withdraw_offer,
)
from logist.chunk_options import ExecutionOptions
from logist.chunks import (
    ChunkEvent,
    ChunkFinished,
    ChunkId,
    ChunkResult,
    ChunkStatus,
    Halt,
    MergeFinished,
    MergeResult,
    Notice,
    Output,
    RunReport,
    RunStarted,
)
from logist.execution import BatchAdapter, QueueingAdapter, WorkerAdapter
from logist.lifecycle import JobStatus
from logist.render.verify import is_unchanged
from logist.specs import RenderChunk, RenderSpec

_MEDDLED = "its output was removed or written by something else after it was verified"
#: Seconds between two looks for a request to stop while all chunks wait.
_PACE = 0.1
#: How often a chunk, or the merge, whose worker was lost is given to another one; it is not the chunk's fault.
LOST_LIMIT = 5
#: Seconds: the upper bound of the first random wait before another attempt, doubled each time, and the longest one.
BACKOFF_START = 1.0
BACKOFF_LIMIT = 30.0


class JobExecutor:
    """Executes render specs on one adapter."""

    def __init__(self, adapter: WorkerAdapter) -> None:
        self._adapter = adapter

    def execute(self, spec: RenderSpec, options: ExecutionOptions) -> RunReport:
        """Run the chunks, then merge. What fails is in the report.

        Raises AgentUnavailable before anything runs when a command's program can't be there, StorageFailed when a log
        or a record can't be written, and whatever the callbacks raise; nothing that was started lives then.
        """
        return _Run(self._adapter, spec, options).execute()


class _Task(NamedTuple):
    """A chunk to run: at once, or not before `due` (monotonic seconds), and the attempts that were made at it."""

    due: float
    order: int
    chunk: RenderChunk
    made: tuple[Attempt, ...] = ()


class _Run:
    """One execution. Its threads share what the lock guards."""

    def __init__(self, adapter: WorkerAdapter, spec: RenderSpec, options: ExecutionOptions) -> None:
        self._spec = spec
        self._options = options
        batch = adapter if isinstance(adapter, BatchAdapter) else None
        self._bench = Bench(
            adapter=adapter,
            spec=spec,
            options=options,
            token=options.token or new_token(),
            cancel=self._why_end,
            tell=self._tell,
            pass_on=None if options.on_output is None else self._pass_on,
            batch=batch,
        )
        self._lock = threading.RLock()
        #: Callbacks are called one at a time; one of them may tell the next.
        self._telling = threading.RLock()
        self._queue: Iterator[RenderChunk] = iter(())
        #: Chunks whose first attempt the adapter starts by itself and nobody waits for yet: see `offer_chunks`.
        self._offered: dict[ChunkId, str] = {}
        #: A heap of the chunks that wait for another attempt; they keep nobody from working meanwhile.
        self._waiting: list[_Task] = []
        #: Failed chunks that would have been tried again, had the run not been stopped.
        self._cut_short: set[ChunkId] = set()
        self._order = count()
        #: Chunks that were done before and whose output was removed or written under way.
        self._spoiled: list[ChunkId] = []
        self._results: list[ChunkResult] = []
        self._fault: BaseException | None = None
        #: Why what runs is killed, and why no more is started; empty while it goes on.
        self._kill_why = ""
        self._drain_why = ""
        self._wake = threading.Event()
        self._noticed: set[str] = set()

    def execute(self) -> RunReport:
        """Run it."""
        began = time.monotonic()
        wanted = self._wanted()
        self._check_programs(wanted)
        self._tell_start(wanted)
        self._queue = iter(wanted)
        if isinstance(self._bench.adapter, QueueingAdapter):
            self._bench.adapter.attend(lambda text: self._tell(Notice(text)))
        with self._offer(wanted):
            self._run_all(min(self._options.concurrency, len(wanted)))
        if self._fault is not None:
            raise self._fault
        for task in self._waiting:
            self._cut_short.add(task.chunk.id)
            self._settle(task.made[-1].result)
        self._look_again()
        merge = self._merge()
        if merge is not None:
            self._look_again()
        status, reason = self._verdict(merge)
        skipped = tuple(chunk.id for chunk in self._skipped())
        return RunReport(
            status=status,
            reason=reason,
            results=tuple(self._results),
            skipped=skipped,
            merge=merge,
            duration=round(time.monotonic() - began, 3),
            stopped=status is JobStatus.PENDING
            and bool(self._kill_why or self._drain_why)
            and not self._did_all(wanted),
        )

    # --- Which chunks, and the threads that run them ---

    def _wanted(self) -> list[RenderChunk]:
        ids, completed = self._options.chunk_ids, self._options.completed_chunk_ids
        return [chunk for chunk in self._spec.chunks if (ids is None or chunk.id in ids) and chunk.id not in completed]

    def _skipped(self) -> list[RenderChunk]:
        return [chunk for chunk in self._spec.chunks if chunk.id in self._options.completed_chunk_ids]

    def _check_programs(self, wanted: list[RenderChunk]) -> None:
        for chunk in wanted:
            how_to_run(chunk.command)
        if self._options.merge and self._spec.merge_command:
            how_to_run(self._spec.merge_command)

    @contextlib.contextmanager
    def _offer(self, wanted: list[RenderChunk]) -> Iterator[None]:
        """Let a place that starts chunks by itself have all of them; nothing of them runs on afterwards."""
        batch = self._bench.batch
        # Also without a chunk to run: the merge of a run that died may still run there.
        if batch is None or self._why_drain() is not None:
            yield
            return
        try:
            self._offered = offer_chunks(self._bench, batch, wanted)
            yield
        finally:
            ended = batch.finish()
            for chunk in wanted:
                if ended and chunk.id in self._offered:
                    withdraw_offer(self._bench, chunk)

    def _run_all(self, threads: int) -> None:
        helpers = [threading.Thread(target=self._work, name=f"chunks-{number}") for number in range(threads)]
        started: list[threading.Thread] = []
        try:
            for helper in helpers:
                helper.start()
                started.append(helper)
            for helper in started:
                helper.join()
        except BaseException as fault:
            self._fail(fault)
            _await(started)
            raise

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                self._attempt(task)
        except BaseException as fault:  # noqa: BLE001 - recorded here, raised again by `execute`
            self._fail(fault)

    def _fail(self, fault: BaseException) -> None:
        with self._lock:
            self._fault = self._fault or fault
        self._kill("the run failed")

    def _next(self) -> _Task | None:
        """The next chunk to run; waits while all that is left waits for another attempt. None: there is no more."""
        while self._why_drain() is None:
            with self._lock:
                if self._waiting and self._waiting[0].due <= time.monotonic():
                    return heapq.heappop(self._waiting)
                chunk = next(self._queue, None)
                if chunk is not None:
                    return _Task(0.0, 0, chunk)
                if not self._waiting:
                    return None
                left = self._waiting[0].due - time.monotonic()
            self._wake.wait(min(_PACE, max(0.0, left)))
        return None

    def _kill(self, why: str) -> None:
        self._kill_why = self._kill_why or why
        self._wake.set()

    def _why_kill(self) -> str | None:
        if not self._kill_why and self._options.cancel is not None:
            why = self._options.cancel()
            if why is not None:
                self._kill(why or "canceled")
        return self._kill_why or None

    def _why_end(self) -> str | None:
        """Asked while commands run: why they are killed. What has not started by then must not start any more."""
        place = self._bench.adapter
        if isinstance(place, BatchAdapter | QueueingAdapter) and self._why_drain() is not None:
            place.withdraw()
        return self._why_kill()

    def _why_drain(self) -> str | None:
        if not self._drain_why and self._options.drain is not None:
            self._drain_why = self._options.drain() or ""
        return self._why_kill() or self._drain_why or None

    # --- One chunk ---

    def _attempt(self, task: _Task) -> None:
        offered = self._offered.pop(task.chunk.id, None)
        attempt = attempt_chunk(self._bench, task.chunk, len(task.made) + 1, offered)
        made = (*task.made, attempt)
        if attempt.result.status is not ChunkStatus.FAILED or attempt.hopeless or self._out_of_tries(made):
            self._settle(attempt.result)
        elif self._why_drain() is not None:
            self._cut_short.add(task.chunk.id)
            self._settle(attempt.result)
        else:
            self._postpone(task.chunk, made)

    def _out_of_tries(self, made: Sequence[Attempt]) -> bool:
        lost = sum(attempt.lost for attempt in made)
        return lost > LOST_LIMIT or len(made) - lost > self._options.retries

    def _postpone(self, chunk: RenderChunk, made: tuple[Attempt, ...]) -> None:
        wait = _backoff(len(made))
        self._tell(ChunkFinished(result=replace(made[-1].result, retry_in=round(wait, 3))))
        with self._lock:
            heapq.heappush(self._waiting, _Task(time.monotonic() + wait, next(self._order), chunk, made))

    def _settle(self, result: ChunkResult) -> None:
        """This is how the chunk ended."""
        with self._lock:
            self._results.append(result)
        self._tell(ChunkFinished(result=result))
        if self._options.on_chunk_complete is not None:
            with self._telling:
                self._options.on_chunk_complete(result)
        if result.status is ChunkStatus.FAILED and result.chunk not in self._cut_short:
            self._halt(result)

    def _halt(self, failed: ChunkResult) -> None:
        if self._options.halt is Halt.NOW:
            self._kill(f"chunk {failed.chunk} failed")
        elif self._options.halt is Halt.SOON:
            self._drain_why = self._drain_why or f"chunk {failed.chunk} failed"

    # --- The merge, and what is told ---

    def _look_again(self) -> None:
        """A chunk whose output was removed or written after it was verified is not done: the commands are strangers."""
        names = {chunk.id: chunk.output_file for chunk in self._spec.chunks}
        for place, result in enumerate(self._results):
            if result.output is not None and not self._stands(names[result.chunk], result.output):
                self._results[place] = replace(result, status=ChunkStatus.FAILED, problem=_MEDDLED, output=None)
                self._tell(ChunkFinished(result=self._results[place]))
        for chunk in self._skipped():
            output = self._options.outputs.get(chunk.id)
            if output is not None and not self._stands(chunk.output_file, output):
                self._spoiled.append(chunk.id)

    def _stands(self, name: str, output: Output) -> bool:
        return is_unchanged(self._options.job_dir / name, output)

    def _merge(self) -> MergeResult | None:
        options = self._options
        if not options.merge or not self._all_done() or (options.merged and not self._results):
            return None
        if not self._spec.merge_command:
            self._tell(Notice(message="the spec has no merge command: the chunks are left as they are"))
            return None
        if self._why_drain() is not None:
            return None
        for _ in range(LOST_LIMIT + 1):
            attempt = merge_chunks(self._bench)
            self._tell(MergeFinished(result=attempt.result))
            if not attempt.lost or self._why_drain() is not None:
                break
        return attempt.result

    def _did_all(self, wanted: list[RenderChunk]) -> bool:
        """Whether what was asked for was done, though a stop was asked for too."""
        done = sum(result.status is ChunkStatus.DONE for result in self._results) == len(wanted)
        return done and not (self._options.merge and self._spec.merge_command and self._all_done())

    def _all_done(self) -> bool:
        done = sum(result.status is ChunkStatus.DONE for result in self._results)
        return not self._spoiled and done + len(self._skipped()) == len(self._spec.chunks)

    def _verdict(self, merge: MergeResult | None) -> tuple[JobStatus, str]:
        failed = [
            result
            for result in self._results
            if result.status is ChunkStatus.FAILED and result.chunk not in self._cut_short
        ]
        if failed:
            return JobStatus.INTERVENTION_REQUIRED, _failure_sentence(failed, len(self._spec.chunks))
        if self._spoiled:
            named = ", ".join(map(str, self._spoiled[:10]))
            return JobStatus.INTERVENTION_REQUIRED, f"chunk {named}: {_MEDDLED}"
        if merge is not None and merge.status is ChunkStatus.FAILED:
            return JobStatus.INTERVENTION_REQUIRED, f"the merge failed: {merge.problem}"
        to_merge = bool(self._spec.merge_command) and self._options.merge and not self._options.merged
        unmerged = merge is None or merge.status is ChunkStatus.STOPPED
        if (not self._all_done() or (to_merge and unmerged)) and (why := self._kill_why or self._drain_why):
            return JobStatus.PENDING, why
        if not self._all_done():
            return JobStatus.PENDING, "the chunks that were asked for are done, others are not"
        if merge is None and self._spec.merge_command and not self._options.merged:
            return JobStatus.PENDING, "all chunks are done and not merged"
        return JobStatus.SUCCESS, "all chunks are done" + (" and merged" if self._spec.merge_command else "")

    def _tell(self, event: ChunkEvent) -> None:
        if self._options.on_progress is None:
            return
        with self._telling:
            if isinstance(event, Notice):
                if event.message in self._noticed:
                    return
                self._noticed.add(event.message)
            self._options.on_progress(event)

    def _pass_on(self, chunk: ChunkId | None, data: bytes) -> None:
        if self._options.on_output is not None:
            with self._telling:
                self._options.on_output(chunk, data)

    def _tell_start(self, wanted: list[RenderChunk]) -> None:
        skipped = self._skipped()
        skipped_frames = sum(chunk.frame_count for chunk in skipped)
        self._tell(
            RunStarted(
                spec=self._options.name,
                chunks=len(wanted) + len(skipped),
                frames=sum(chunk.frame_count for chunk in wanted) + skipped_frames,
                skipped_chunks=len(skipped),
                skipped_frames=skipped_frames,
                concurrency=self._options.concurrency,
                state_dir=self._options.state_dir,
            )
        )


def _await(threads: list[threading.Thread]) -> None:
    """Wait for threads that will end soon; being interrupted once more is no reason to leave them alone."""
    while any(thread.is_alive() for thread in threads):
        with contextlib.suppress(KeyboardInterrupt):
            for thread in threads:
                thread.join()


def _backoff(attempts: int) -> float:
    """Seconds to wait after so many attempts: random, growing."""
    # Slow to import, and most runs never need it.
    from tenacity import RetryCallState, Retrying, wait_random_exponential

    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempts
    return wait_random_exponential(multiplier=BACKOFF_START, max=BACKOFF_LIMIT)(state)


def _failure_sentence(failed: list[ChunkResult], chunks: int) -> str:
    if len(failed) == 1:
        return f"chunk {failed[0].chunk} failed: {failed[0].problem}"
    named = ", ".join(str(result.chunk) for result in failed[:10]) + (", …" if len(failed) > 10 else "")
    return f"{len(failed)} of {chunks} chunks failed: {named}"
