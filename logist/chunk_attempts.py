"""Runs one command of a render spec, a chunk's or the merge, and judges what it made."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from logist.chunk_options import ExecutionOptions
from logist.chunks import (
    ChunkEvent,
    ChunkId,
    ChunkProgressed,
    ChunkResult,
    ChunkStarted,
    ChunkStatus,
    Evidence,
    MergeResult,
    MergeStarted,
    Notice,
)
from logist.command_lines import Spelled, resolve, spell
from logist.durable import sync_folder
from logist.errors import StorageFailed
from logist.execution import (
    BatchAdapter,
    BatchItem,
    BatchTerms,
    CancelCheck,
    Command,
    CommandResult,
    Ended,
    WorkerAdapter,
)
from logist.render.verify import Expected, Verified, verify, why_not_decoded
from logist.specs import RenderChunk, RenderSpec

if TYPE_CHECKING:
    from logist.progress_lines import FrameCounter

#: Bytes kept of what one command prints, in its log and in memory.
LOG_LIMIT = 4_000_000
#: Bytes of it that are shown of a command that failed.
_TAIL = 2_000
#: Seconds between two events of one chunk's progress.
_PROGRESS_PACE = 0.1
#: Tell a command which chunk it is, its processes from those of all other commands, and all of a run's from others.
CHUNK_VARIABLE = "LOGIST_CHUNK"
TOKEN_VARIABLE = "LOGIST_CHUNK_TOKEN"
RUN_VARIABLE = "LOGIST_RUN_TOKEN"
#: The system takes no longer names; ours have a few letters more than those of the outputs.
_LONGEST_NAME = 230
#: What is wrong with the disk, and not with one output.
_DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})


class Attempt(NamedTuple):
    """An attempt at a chunk that ended. `lost`: another worker should get it; `hopeless`: nobody."""

    result: ChunkResult
    lost: bool = False
    hopeless: bool = False


class MergeAttempt(NamedTuple):
    """An attempt at the merge that ended. `lost`: another worker should get it."""

    result: MergeResult
    lost: bool


class Bench(NamedTuple):
    """What every command of one run has in common."""

    adapter: WorkerAdapter
    spec: RenderSpec
    options: ExecutionOptions
    token: str
    cancel: CancelCheck
    tell: Callable[[ChunkEvent], None]
    #: Takes what a command prints; None: nobody wants it.
    pass_on: Callable[[ChunkId | None, bytes], None] | None
    #: The adapter, when it is one that is given all chunks at once.
    batch: BatchAdapter | None = None


def how_to_run(command: str | tuple[str, ...]) -> Spelled:
    """How a command of a spec is run on this machine. Raises AgentUnavailable, UsageProblem."""
    return resolve(spell(command), _find_program, (sys.executable, "-m", "logist"))


def _find_program(name: str) -> str | None:
    # Slow to import, and only the commands of Helios are looked for.
    import shutil

    return shutil.which(name)


def new_token() -> str:
    """A token that no other run has."""
    # What `secrets.token_hex` does too, at the cost of its import.
    return os.urandom(16).hex()


def offer_chunks(bench: Bench, batch: BatchAdapter, chunks: Sequence[RenderChunk]) -> dict[ChunkId, str]:
    """Give the first attempts at these chunks to a place that starts them by itself.

    Returns of each why it can't be run, empty when it can. Raises StorageFailed, and what the adapter raises.
    """
    options = bench.options
    folder = Path(options.state_dir, batch.name) if options.state_dir else None
    items = [_item(bench, chunk, 1) for chunk in chunks]
    adopted = batch.adopt(items, BatchTerms(folder, options.concurrency, lambda text: bench.tell(Notice(text))))
    blocked: dict[ChunkId, str] = {}
    offered: list[BatchItem] = []
    try:
        for place, (chunk, item) in enumerate(zip(chunks, items, strict=True)):
            taken = place in adopted
            blocked[chunk.id] = "" if taken or item.output is None else _make_way(item.output)
            if not taken and not blocked[chunk.id]:
                offered.append(item)
        batch.submit(offered)
    except BaseException:  # whatever it was, it travels on; what was not offered is not being made
        for item in offered:
            _withdraw_output(item.output)
        raise
    return blocked


def withdraw_offer(bench: Bench, chunk: RenderChunk) -> None:
    """Nobody waited for the chunk, which does not run any more: nothing of it counts. Raises StorageFailed."""
    _withdraw_output(_output_of(bench, chunk))


def attempt_chunk(bench: Bench, chunk: RenderChunk, number: int, offered: str | None = None) -> Attempt:
    """Run a chunk's command once and look at what it made. Raises StorageFailed, and what the recorder raises.

    `offered` is what `offer_chunks` said of this attempt, None when it was not offered.
    """
    options = bench.options
    name = _attempt_name(chunk, number)
    log = _log(options, name)
    path = _output_of(bench, chunk)
    if options.recorder is not None:
        options.recorder.began(chunk, number, _spelled(log))
    bench.tell(
        ChunkStarted(
            chunk=chunk.id,
            attempt=number,
            start_frame=chunk.start_frame,
            frame_count=chunk.frame_count,
            log=_spelled(log),
        )
    )
    began_at = time.time()
    ran = _run_chunk(bench, chunk, number, offered)
    result = _judge_chunk(bench, chunk, number, ran, path, log)
    if options.recorder is not None:
        options.recorder.ended(chunk, result, began_at, ran.stdout.total)
    if path is not None:
        _withdraw(path, result.status)
    return Attempt(result, lost=ran.ended is Ended.LOST, hopeless=ran.program_missing)


def _run_chunk(bench: Bench, chunk: RenderChunk, number: int, offered: str | None) -> CommandResult:
    path = _output_of(bench, chunk)
    blocked = offered
    if blocked is None:
        blocked = "" if path is None else _make_way(path)
        if not blocked and bench.batch is not None:
            bench.batch.submit([_item(bench, chunk, number)])
    if blocked:
        return CommandResult(Ended.NOT_STARTED, None, 0.0, detail=blocked)
    ran = bench.adapter.run(_chunk_command(bench, chunk, number), cancel=bench.cancel, on_output=_follow(bench, chunk))
    if ran.survivors_killed:
        bench.tell(
            Notice(message=f"{ran.survivors_killed} process(es) of chunk {chunk.id} outlived it and were killed")
        )
    return ran


def _judge_chunk(
    bench: Bench, chunk: RenderChunk, number: int, ran: CommandResult, path: Path | None, log: Path | None
) -> ChunkResult:
    seen = _look(bench, ran, path, chunk.output_file, chunk.frame_count)
    return ChunkResult(
        chunk=chunk.id,
        start_frame=chunk.start_frame,
        frame_count=chunk.frame_count,
        attempt=number,
        status=_status(ran, seen.problem),
        exit_code=ran.exit_code,
        signal=ran.signal,
        duration=round(ran.duration, 3),
        problem=seen.problem,
        output=seen.output,
        log=_spelled(log) if ran.stdout.total else "",
        tail=_tail(ran) if seen.problem else "",
    )


def merge_chunks(bench: Bench) -> MergeAttempt:
    """Run the merge command once and look at the merged file. Raises StorageFailed, and what the recorder raises."""
    spec, options = bench.spec, bench.options
    log = _log(options, "merge")
    bench.tell(MergeStarted(log=_spelled(log)))
    path = options.job_dir / spec.merged_output if spec.merged_output else None
    before = _identity(path)

    def received(_stream: str, data: bytes) -> None:
        if bench.pass_on is not None:
            bench.pass_on(None, data)

    ran = bench.adapter.run(
        _command(bench, spec.merge_command, log, "merge", "merge", None), cancel=bench.cancel, on_output=received
    )
    result = _judge_merge(bench, ran, path, before, log)
    if options.recorder is not None:
        options.recorder.merged(result)
    return MergeAttempt(result, lost=ran.ended is Ended.LOST)


def _judge_merge(
    bench: Bench, ran: CommandResult, path: Path | None, before: tuple[int, ...], log: Path | None
) -> MergeResult:
    name = "" if path is None else path.name
    seen = _look(bench, ran, path, name, bench.spec.metadata.total_frames)
    if ran.ok and path is None:
        bench.tell(Notice(message='the merged file is not verified: the spec does not name it (add "output")'))
    if seen.output is not None and _identity(path) == before:
        seen = Verified(None, f"exit code 0, but {name} was there before and was not written")
    return MergeResult(
        status=_status(ran, seen.problem),
        exit_code=ran.exit_code,
        duration=round(ran.duration, 3),
        problem=seen.problem,
        output=seen.output,
        log=_spelled(log) if ran.stdout.total else "",
        tail=_tail(ran) if seen.problem else "",
    )


def _look(bench: Bench, ran: CommandResult, path: Path | None, name: str, frames: int) -> Verified:
    """What is wrong with a command that ended, or with its output; else the output, when there is to be one."""
    problem = _problem_of(ran)
    if problem or path is None:
        return Verified(None, problem)
    size = bench.spec.metadata
    seen = verify(path, name, Expected(frames, size.width, size.height))
    if seen.output is None:
        return Verified(None, f"exit code 0, but {seen.problem}")
    if seen.output.evidence is Evidence.FILE:
        why = why_not_decoded(path)
        bench.tell(Notice(message=f"outputs are there and not empty, but nobody counted their frames: {why}"))
    return seen


def _status(ran: CommandResult, problem: str) -> ChunkStatus:
    if ran.ended is Ended.CANCELED:
        return ChunkStatus.STOPPED
    return ChunkStatus.FAILED if problem else ChunkStatus.DONE


def _problem_of(ran: CommandResult) -> str:
    """Why a command did not do its work; empty when it exited with 0."""
    if ran.ok:
        return ""
    if ran.ended is Ended.EXITED:
        return f"exit code {ran.exit_code}" + (f", {ran.detail}" if ran.detail else "")
    return ran.detail or ran.ended.value


def _output_of(bench: Bench, chunk: RenderChunk) -> Path | None:
    return bench.options.job_dir / chunk.output_file if chunk.output_file else None


def _attempt_name(chunk: RenderChunk, number: int) -> str:
    # No chunk's id has a tilde.
    return f"{chunk.id}" if number == 1 else f"{chunk.id}~{number}"


def _item(bench: Bench, chunk: RenderChunk, number: int) -> BatchItem:
    recorder = bench.options.recorder
    return BatchItem(
        _chunk_command(bench, chunk, number),
        purpose=f"{chunk.id}: {chunk.start_frame}+{chunk.frame_count}",
        inputs={} if recorder is None else recorder.expects(chunk),
        output=_output_of(bench, chunk),
    )


def _chunk_command(bench: Bench, chunk: RenderChunk, number: int) -> Command:
    name = _attempt_name(chunk, number)
    return _command(bench, chunk.command, _log(bench.options, name), chunk.id, name, bench.options.timeout)


def _tail(ran: CommandResult) -> str:
    return ran.stdout.kept[-_TAIL:].decode("utf-8", "replace")


def _command(
    bench: Bench, line: str | tuple[str, ...], log: Path | None, chunk: ChunkId, attempt: str, timeout: float | None
) -> Command:
    spelled = how_to_run(line)
    token = f"{bench.token}-{attempt}"
    own = {CHUNK_VARIABLE: str(chunk), TOKEN_VARIABLE: token}
    if bench.batch is None:
        # Not of what outlives its run on purpose: a later run takes that over, and kills what is marked by this.
        own[RUN_VARIABLE] = bench.token
    return Command(
        cwd=bench.options.job_dir,
        env={**bench.options.environ, **own},
        argv=spelled.argv,
        shell=spelled.shell,
        timeout=timeout,
        stdout_log=log,
        one_stream=True,
        # Thousands of short commands print nothing, and to make a file takes longer than many of them.
        empty_logs=False,
        log_limit=LOG_LIMIT,
        inherit=bench.options.inherit,
        marker=(TOKEN_VARIABLE, token),
    )


def _follow(bench: Bench, chunk: RenderChunk) -> Callable[[str, bytes], None]:
    """Reads a command's progress as it comes."""
    counter: FrameCounter | None = None
    told = time.monotonic() - _PROGRESS_PACE

    def received(_stream: str, data: bytes) -> None:
        nonlocal counter, told
        if counter is None:
            counter = _frame_counter(chunk)
        if bench.pass_on is not None:
            bench.pass_on(chunk.id, data)
        frames = counter.feed(data)
        now = time.monotonic()
        if frames is not None and (now - told >= _PROGRESS_PACE or frames == chunk.frame_count):
            told = now
            bench.tell(ChunkProgressed(chunk=chunk.id, frames=frames))

    return received


def _frame_counter(chunk: RenderChunk) -> FrameCounter:
    # Slow to import, and thousands of short commands print nothing.
    from logist.progress_lines import FrameCounter

    return FrameCounter(chunk.frame_count, chunk.start_frame)


def _log(options: ExecutionOptions, name: str) -> Path | None:
    return None if options.log_dir is None else options.log_dir / f"{name}.log"


def _spelled(log: Path | None) -> str:
    return "" if log is None else str(log)


def marker_of(path: Path) -> Path:
    """The file beside an output that says, as long as it is there: the output is being made, or was left half made."""
    return path.with_name(f".{_short(path.name)}.unfinished")


def failed_of(path: Path) -> Path:
    """Where the output of an attempt that failed is kept for people to look at."""
    return path.with_name(f".{_short(path.stem)}.failed{path.suffix[:20]}")


def _short(name: str) -> str:
    if len(os.fsencode(name)) <= _LONGEST_NAME:
        return name
    return hashlib.sha256(os.fsencode(name)).hexdigest()


def _make_way(path: Path) -> str:
    """Remove what an earlier attempt left: what is there after the command must be the command's.

    Returns why that could not be done, empty when it was. Raises StorageFailed when the disk is at fault.
    """
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        marker_of(path).touch()
        sync_folder(path.parent)
        path.unlink(missing_ok=True)
        failed_of(path).unlink(missing_ok=True)
    except OSError as error:
        return _unless_the_disk(error, path, "cleared")
    return ""


def _withdraw_output(path: Path | None) -> None:
    if path is not None:
        _withdraw(path, ChunkStatus.STOPPED)


def _withdraw(path: Path, status: ChunkStatus) -> None:
    """Nobody else may take what an attempt made for whole, unless it is. Raises StorageFailed."""
    try:
        if status is ChunkStatus.FAILED and path.is_file():
            path.replace(failed_of(path))
        elif status is ChunkStatus.STOPPED and not path.is_dir():
            path.unlink(missing_ok=True)
        marker_of(path).unlink(missing_ok=True)
    except OSError as error:
        # Then the marker stays, and says what has to be said.
        _unless_the_disk(error, path, "left as it should be")


def _unless_the_disk(error: OSError, path: Path, what: str) -> str:
    """The problem of one output in words. Raises StorageFailed when it is all outputs' problem."""
    problem = f"the place of its output {path.name} can't be {what}: {error.strerror}"
    if error.errno in _DISK_FAULTS:
        raise StorageFailed(f"{path}: {problem}", "make room or mend the disk, then run again") from error
    return problem


def _identity(path: Path | None) -> tuple[int, ...]:
    """What changes when a file is written; empty when there is none."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return ()
    return () if status is None else (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
