"""Runs a spec so that it can be run again: what is done and unchanged is skipped, what ends is recorded as it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

from logist.chunk_attempts import marker_of, new_token
from logist.chunk_keys import ChunkKeys
from logist.chunk_options import ExecutionOptions
from logist.chunk_selection import shell_word
from logist.chunk_state import SpecPast, SpecState, StatePaths, merge_key, open_state, read_past, state_paths
from logist.chunks import ChunkId, ChunkStatus, Output, RunReport
from logist.clock import Clock
from logist.durable import make_durable_folder
from logist.errors import ChunkFailed, ExitCode, JobBusy
from logist.execution import BatchAdapter, WorkerAdapter
from logist.job_executor import JobExecutor
from logist.lifecycle import JobStatus
from logist.models.chunk_history import ChunkEnded, RunBegan
from logist.render.verify import Expected, is_unchanged, verify
from logist.spec_files import LoadedSpec
from logist.specs import RenderChunk
from logist.stop_requests import clear, pending

#: Puts the outputs of chunks where they belong, from elsewhere; returns why it could not, for those that it couldn't.
Gather = Callable[[Sequence[RenderChunk]], Mapping[ChunkId, str]]

#: How many missing chunks an error names.
_NAMED = 10
#: Seconds between two looks for a request of another process.
_REQUEST_PACE = 0.04


class RunPlan(NamedTuple):
    """What a run would do: the chunks that it runs and those that are done, and whether the merged file stands."""

    run: tuple[ChunkId, ...]
    done: frozenset[ChunkId]
    merged: bool


def plan_run(loaded: LoadedSpec, past: SpecPast, *, force: bool = False) -> RunPlan:
    """What a run would do now. Nothing is written. Raises nothing for files that are not there: they are made."""
    return _plan(loaded, ChunkKeys(loaded.spec, loaded.folder), past, force=force)


def _plan(loaded: LoadedSpec, keys: ChunkKeys, past: SpecPast, *, force: bool) -> RunPlan:
    recorded = {} if force else past.done()
    done = {
        chunk.id: recorded[chunk.id]
        for chunk in loaded.spec.chunks
        if chunk.id in recorded and _is_done(loaded, keys, chunk, recorded[chunk.id])
    }
    run = tuple(chunk.id for chunk in loaded.spec.chunks if chunk.id not in done)
    return RunPlan(run, frozenset(done), not run and _merge_stands(loaded, keys, past, done))


def _is_done(loaded: LoadedSpec, keys: ChunkKeys, chunk: RenderChunk, ended: ChunkEnded) -> bool:
    """Whether a chunk need not be run again: its key is the same, and so is its output."""
    if ended.key != keys.of_chunk(chunk, ended.own):
        return False
    return ended.output is None or is_unchanged(loaded.folder / chunk.output_file, ended.output)


def _merge_stands(loaded: LoadedSpec, keys: ChunkKeys, past: SpecPast, done: dict[ChunkId, ChunkEnded]) -> bool:
    merge, name = past.merge, loaded.spec.merged_output
    # Of a merged file that nobody names it can't be told whether it is still there.
    if merge is None or merge.status is not ChunkStatus.DONE or merge.output is None or name is None:
        return False
    outputs = {chunk: ended.output for chunk, ended in done.items() if ended.output is not None}
    own = {chunk: ended.own for chunk, ended in done.items()}
    same = merge.key == merge_key(keys, loaded.spec, outputs, own)
    return same and is_unchanged(loaded.folder / name, merge.output)


def preview_run(loaded: LoadedSpec, *, force: bool = False) -> RunPlan:
    """What `run_spec` would do now; no lease is taken and nothing is written. Raises InvalidFile."""
    return plan_run(loaded, read_past(state_paths(loaded.folder, loaded.name)), force=force)


def run_spec(
    loaded: LoadedSpec,
    adapter: WorkerAdapter,
    options: ExecutionOptions,
    clock: Clock,
    *,
    paths: StatePaths | None = None,
    force: bool = False,
    merge_only: bool = False,
    gather: Gather | None = None,
) -> RunReport:
    """Run what is not done yet, and merge. `options` are completed by what the state on disk says.

    `merge_only` runs no chunk: it takes the outputs that are there, whoever made them, once they are verified, and
    raises ChunkFailed when one is missing; `gather` may bring them first. Raises JobBusy when another runner holds the
    spec or what a dead one left runs at another place, and what `JobExecutor.execute` raises.
    """
    paths = paths or state_paths(loaded.folder, loaded.name)
    place = adapter.name if isinstance(adapter, BatchAdapter) else ""
    with open_state(paths, clock) as state:
        _refuse_two_places(state.past, place, paths)
        clear(paths.job, "cancel")
        clear(paths.job, "pause")
        keys = ChunkKeys(loaded.spec, loaded.folder)
        past, state.past = state.past, SpecPast()
        plan = _plan(loaded, keys, past, force=force)
        done = {chunk: ended for chunk, ended in past.done().items() if chunk in plan.done}
        taken: dict[ChunkId, Output] = {}
        if merge_only:
            missing = [chunk for chunk in loaded.spec.chunks if chunk.id not in plan.done]
            taken = _outputs_of_others(loaded, missing, {} if gather is None else gather(missing))
            plan = RunPlan((), plan.done | taken.keys(), merged=False)
        options = replace(options, token=new_token())
        _begin(state, loaded, options, plan, keys, done, place)
        for chunk in loaded.spec.chunks:
            if chunk.id in taken:
                state.taken(chunk, taken[chunk.id], of_this_spec=_is_news(past, chunk, taken[chunk.id]))
        outputs = {**{chunk: ended.output for chunk, ended in done.items() if ended.output is not None}, **taken}
        with _sign(paths, place):
            report = JobExecutor(adapter).execute(
                loaded.spec, replace(_completed(options, state, plan, loaded.name), outputs=outputs)
            )
        if report.status is JobStatus.PENDING and pending(paths.job, "cancel") is not None:
            report = replace(report, status=JobStatus.CANCELED)
        state.end(report)
    return report


def _begin(
    state: SpecState,
    loaded: LoadedSpec,
    options: ExecutionOptions,
    plan: RunPlan,
    keys: ChunkKeys,
    done: dict[ChunkId, ChunkEnded],
    place: str,
) -> None:
    chunks = loaded.spec.chunks
    state.begin(
        RunBegan(
            spec_sha256=loaded.sha256,
            chunks=len(chunks),
            frames=sum(chunk.frame_count for chunk in chunks),
            skipped=len(plan.done),
            skipped_frames=sum(chunk.frame_count for chunk in chunks if chunk.id in plan.done),
            concurrency=options.concurrency,
            token=options.token,
            outlived_by=place,
        ),
        loaded.spec,
        loaded.name,
        keys,
        done,
    )


def _refuse_two_places(past: SpecPast, place: str, paths: StatePaths) -> None:
    """Raise JobBusy when chunks of an earlier run go on elsewhere: they and ours would make the same files."""
    began = past.began
    if began is None or began.outlived_by in ("", place):
        return
    sign = paths.root / began.outlived_by
    if sign.exists():
        raise JobBusy(
            f"Chunks of an earlier run on {began.outlived_by} may still run there.",
            f"Run with --adapter {began.outlived_by}, which takes them over or ends them. "
            f"If none of them can be running any more, remove {sign}.",
        )


@contextmanager
def _sign(paths: StatePaths, place: str) -> Iterator[None]:
    """The folder of a place that outlives a run is there as long as something of the run may be running there."""
    if not place:
        yield
        return
    sign = paths.root / place
    if not sign.is_dir():
        make_durable_folder(sign)
    try:
        yield
    finally:
        # While the place itself keeps something in it, it stays.
        with suppress(OSError):
            sign.rmdir()


def _is_news(past: SpecPast, chunk: RenderChunk, output: Output) -> bool:
    """Whether no record knows this very file: one that does says that another command, or other inputs, made it."""
    known = past.chunks.get(chunk.id)
    return known is None or known.output is None or known.output.sha256 != output.sha256


def _completed(options: ExecutionOptions, state: SpecState, plan: RunPlan, name: str) -> ExecutionOptions:
    requests = state.paths.job
    asked_to_cancel = _paced(lambda: pending(requests, "cancel"))
    asked_to_pause = _paced(lambda: pending(requests, "pause"))

    def cancel() -> str | None:
        why = options.cancel() if options.cancel is not None else None
        if why is not None:
            return why
        message = asked_to_cancel()
        return None if message is None else f"canceled: {message}" if message else "canceled by request"

    def drain() -> str | None:
        why = options.drain() if options.drain is not None else None
        if why is not None:
            return why
        return None if asked_to_pause() is None else "paused by request"

    return replace(
        options,
        completed_chunk_ids=plan.done,
        merged=plan.merged,
        recorder=state,
        log_dir=state.paths.logs,
        inherit=(*options.inherit, state.lease.fileno()),
        cancel=cancel,
        drain=drain,
        name=name,
        state_dir=str(state.paths.root),
    )


def _paced(look: Callable[[], str | None]) -> Callable[[], str | None]:
    """What `look` says, looked up at most once in a while: many running chunks ask all the time."""
    seen: str | None = None
    due = 0.0

    def paced() -> str | None:
        nonlocal seen, due
        now = time.monotonic()
        if now >= due:
            seen, due = look(), now + _REQUEST_PACE
        return seen

    return paced


def _outputs_of_others(
    loaded: LoadedSpec, chunks: Sequence[RenderChunk], why: Mapping[ChunkId, str]
) -> dict[ChunkId, Output]:
    """The outputs of `chunks`, which no record of ours vouches for, verified now; `why` says why some are not there.

    Raises ChunkFailed.
    """
    found: dict[ChunkId, Output] = {}
    missing: list[str] = []
    for chunk in chunks:
        seen = _look(loaded, chunk)
        if isinstance(seen, Output):
            found[chunk.id] = seen
        else:
            missing.append(f"{chunk.id} ({why.get(chunk.id, seen)})")
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise ChunkFailed(
            f"there is nothing to merge yet, chunks are missing: {', '.join(missing[:_NAMED])}{more}",
            f"run them first: `{_run_command(loaded)}`, with --chunk ID for single ones",
        )
    return found


def _run_command(loaded: LoadedSpec) -> str:
    is_file = (loaded.folder / loaded.name).exists()
    return f"logist job run {shell_word(loaded.source)}" if is_file else "logist job run"


def _look(loaded: LoadedSpec, chunk: RenderChunk) -> Output | str:
    if not chunk.output_file:
        return "it names no output, and no run of this folder did it"
    path = loaded.folder / chunk.output_file
    if marker_of(path).exists():
        return "whoever made its output was killed, or still makes it"
    size = loaded.spec.metadata
    seen = verify(
        path,
        chunk.output_file,
        Expected(chunk.frame_count, size.width, size.height),
    )
    return seen.output or seen.problem


def exit_code_of(report: RunReport, stopped: ExitCode) -> ExitCode:
    """The exit code of a run that ended so; `stopped` is the one of a run that was stopped by its operator."""
    if report.status is JobStatus.SUCCESS:
        return ExitCode.SUCCESS
    if report.status is JobStatus.CANCELED:
        return ExitCode.CANCELED
    if report.status is JobStatus.INTERVENTION_REQUIRED:
        return ExitCode.CHUNK_FAILED
    return stopped if report.stopped else ExitCode.SUCCESS
