"""Runs a spec so that it can be run again: what is done and unchanged is skipped, what ends is recorded as it ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from logist.chunk_attempts import marker_of
from logist.chunk_keys import ChunkKeys
from logist.chunk_options import ExecutionOptions
from logist.chunk_state import SpecPast, SpecState, StatePaths, is_done, open_state, read_past, state_paths
from logist.chunks import ChunkId, ChunkStatus, Output, RunReport
from logist.clock import Clock
from logist.errors import ChunkFailed, ExitCode
from logist.execution import WorkerAdapter
from logist.job_executor import JobExecutor
from logist.lifecycle import JobStatus
from logist.models.chunk_history import RunBegan
from logist.render.verify import Expected, is_unchanged, verify
from logist.spec_files import LoadedSpec
from logist.specs import RenderChunk
from logist.stop_requests import clear, pending

#: How many missing chunks an error names.
_NAMED = 10


@dataclass(frozen=True)
class RunPlan:
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
        chunk.id: recorded[chunk.id].output
        for chunk in loaded.spec.chunks
        if chunk.id in recorded and is_done(recorded[chunk.id], keys.of_chunk(chunk), is_unchanged)
    }
    run = tuple(chunk.id for chunk in loaded.spec.chunks if chunk.id not in done)
    return RunPlan(run, frozenset(done), not run and _merge_stands(keys, past, done.values()))


def _merge_stands(keys: ChunkKeys, past: SpecPast, outputs: Iterable[Output | None]) -> bool:
    merge = past.merge
    if merge is None or merge.status is not ChunkStatus.DONE or merge.key != keys.of_merge(outputs):
        return False
    # Of a merged file that nobody names it can't be told whether it is still there.
    return merge.output is not None and is_unchanged(merge.output)


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
) -> RunReport:
    """Run what is not done yet, and merge. `options` are completed by what the state on disk says.

    `merge_only` runs no chunk: it takes the outputs that are there, whoever made them, once they are verified, and
    raises ChunkFailed when one is missing. Raises JobBusy when another runner holds the spec, and what
    `JobExecutor.execute` raises.
    """
    paths = paths or state_paths(loaded.folder, loaded.name)
    with open_state(paths, clock) as state:
        clear(paths.job, "cancel")
        clear(paths.job, "pause")
        keys = ChunkKeys(loaded.spec, loaded.folder)
        plan = _plan(loaded, keys, state.past, force=force)
        outputs = {chunk: ended.output for chunk, ended in state.past.done().items() if chunk in plan.done}
        taken: dict[ChunkId, Output] = {}
        if merge_only:
            taken = _outputs_of_others(loaded, plan)
            plan = RunPlan((), plan.done | taken.keys(), merged=False)
        state.past = SpecPast()
        _begin(state, loaded, options, plan, keys, {**outputs, **taken})
        for chunk in loaded.spec.chunks:
            if chunk.id in taken:
                state.taken(chunk, taken[chunk.id])
        report = JobExecutor(adapter).execute(loaded.spec, _completed(options, state, plan, loaded.name))
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
    outputs: dict[ChunkId, Output | None],
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
        ),
        loaded.spec,
        loaded.name,
        keys,
        outputs,
    )


def _completed(options: ExecutionOptions, state: SpecState, plan: RunPlan, name: str) -> ExecutionOptions:
    requests = state.paths.job

    def cancel() -> str | None:
        why = options.cancel() if options.cancel is not None else None
        if why is not None:
            return why
        message = pending(requests, "cancel")
        return None if message is None else f"canceled: {message}" if message else "canceled by request"

    def drain() -> str | None:
        why = options.drain() if options.drain is not None else None
        if why is not None:
            return why
        return None if pending(requests, "pause") is None else "paused by request"

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


def _outputs_of_others(loaded: LoadedSpec, plan: RunPlan) -> dict[ChunkId, Output]:
    """The outputs of the chunks that no record of ours vouches for, verified now. Raises ChunkFailed."""
    found: dict[ChunkId, Output] = {}
    missing: list[str] = []
    for chunk in loaded.spec.chunks:
        if chunk.id in plan.done:
            continue
        seen = _look(loaded, chunk)
        if isinstance(seen, Output):
            found[chunk.id] = seen
        else:
            missing.append(f"{chunk.id} ({seen})")
    if missing:
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise ChunkFailed(
            f"there is nothing to merge yet, chunks are missing: {', '.join(missing[:_NAMED])}{more}",
            "run them first: `logist job run` on the spec, with --chunk ID for single ones",
        )
    return found


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
