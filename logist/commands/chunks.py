"""`logist job run` with a spec: its chunks, several at once, then the merge."""

from __future__ import annotations

import os
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from logist.chunk_selection import bundle_address
from logist.commands.output import print_json, print_text, tell, tell_drawn
from logist.errors import ExitCode, UsageProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from logist.chunk_options import ExecutionOptions, Recorder
    from logist.chunks import ChunkId, EventSink, RunReport
    from logist.command_lines import Spelled
    from logist.console import Line
    from logist.execution import WorkerAdapter
    from logist.spec_files import LoadedSpec
    from logist.spec_runs import Gather
    from logist.stop_switch import StopSwitch


#: More at once would be a slip of the finger.
MOST_AT_ONCE = 1024


class SpecOptions(NamedTuple):
    """The options of `logist job run` for a spec, as they were given. `timeout` is in seconds."""

    chunk: tuple[str, ...] = ()
    concurrency: str = "1"
    merge: bool = True
    merge_only: bool = False
    retries: int = 0
    timeout: float | None = None
    halt: str = "now"
    adapter: str = "local"
    adapter_option: tuple[str, ...] = ()
    storage: str = ""
    force: bool = False
    dry_run: bool = False
    trust: bool = False
    allow_outside: bool = False

    def given_for_spec(self) -> tuple[str, ...]:
        """The names of those that were given and mean nothing for a job."""
        defaults = SpecOptions(timeout=self.timeout, adapter=self.adapter, adapter_option=self.adapter_option)
        names = (name for name, value, default in zip(self._fields, self, defaults, strict=True) if value != default)
        return tuple("--no-merge" if name == "merge" else "--" + name.replace("_", "-") for name in names)


def run_target(target: str, options: SpecOptions, *, progress: str, verbose: bool) -> int:
    """Run a spec; the exit code."""
    if options.merge_only and (options.chunk or not options.merge):
        raise UsageProblem("--merge-only excludes --chunk and --no-merge", "give one of them")
    from logist.execution.adapters import open_adapter

    if options.dry_run:
        _concurrency(options.concurrency)
        with (
            closing(open_adapter(options.adapter, adapter_options(options.adapter_option))) as adapter,
            _opened(target, options, adapter) as work,
        ):
            return _show_plan(work.loaded, options, as_json=progress == "json")
    with closing(open_adapter(options.adapter, adapter_options(options.adapter_option))) as adapter:
        # What starts the commands gets ready while the spec is read and the rest of the program is imported.
        adapter.prepare(_concurrency(options.concurrency))
        with _opened(target, options, adapter, quiet=progress in ("json", "none")) as work:
            return _run(work, options, progress=progress, verbose=verbose)


def adapter_options(given: tuple[str, ...]) -> dict[str, str]:
    """`--adapter-option` as it was given, each NAME=VALUE. Raises UsageProblem."""
    options: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageProblem(
                f"--adapter-option {text!r} is not NAME=VALUE", "write it like scheduler=tcp://host:8786"
            )
        if name in options:
            raise UsageProblem(f"--adapter-option {name} was given twice", "give it once")
        options[name] = value
    return options


class Work(NamedTuple):
    """A spec that is to be run: on which adapter, and how its outputs come and go."""

    #: What commands call it.
    target: str
    loaded: LoadedSpec
    adapter: WorkerAdapter
    recorder: Recorder | None = None
    gather: Gather | None = None


@contextmanager
def _opened(target: str, options: SpecOptions, adapter: WorkerAdapter, *, quiet: bool = False) -> Iterator[Work]:
    bundle = bundle_address(target)
    if bundle is None and not options.storage:
        yield Work(target, load(target, options), adapter)
        return
    # Slow to import, and most runs share a folder.
    from logist.commands.stored import opened_bundle_target, opened_with_storage

    opened = (
        opened_with_storage(target, options, adapter, quiet=quiet)
        if bundle is None
        else opened_bundle_target(bundle, options, adapter)
    )
    with opened as work:
        yield work


def load(target: str, options: SpecOptions) -> LoadedSpec:
    """The spec that `target` names. Raises UsageProblem, InvalidFile."""
    from pathlib import Path

    from logist.spec_files import load_spec

    return load_spec(
        target,
        trust=options.trust,
        allow_outside=options.allow_outside,
        stdin=lambda: sys.stdin.buffer,
        cwd=Path.cwd(),
    )


def _selected(loaded: LoadedSpec, wanted: tuple[str, ...]) -> frozenset[ChunkId] | None:
    if not wanted:
        return None
    from logist.chunk_selection import select

    return frozenset(select([chunk.id for chunk in loaded.spec.chunks], wanted, os.environ))


def _run(work: Work, options: SpecOptions, *, progress: str, verbose: bool) -> int:
    from logist.chunks import RunFinished
    from logist.commands.signals import stop_on_signals
    from logist.console.chunk_display import open_chunk_display
    from logist.spec_runs import exit_code_of
    from logist.stop_switch import StopSwitch

    loaded = work.loaded
    chunk_ids = _selected(loaded, options.chunk)
    # A stateless worker's terminal is the log of what runs it: no bars between the lines of its command.
    shown = "plain" if chunk_ids is not None and progress in ("auto", "tty") else progress
    stop = StopSwitch()
    quiet = progress in ("json", "none")
    with open_chunk_display(shown, environ=os.environ, verbose=verbose) as sink, stop_on_signals(stop):
        # The tail of a failed chunk would repeat what was just passed on.
        told = sink if chunk_ids is None or quiet else _without_tails(sink)
        execution = _options(work, options, stop, told)
        report = _execute(work, options, chunk_ids, execution, quiet=quiet)
        code = exit_code_of(report, stop.exit_code)
        if chunk_ids is not None:
            report = _stateless_report(report, loaded, chunk_ids)
        told(RunFinished(report=report, exit_code=int(code)))
    if not quiet:
        _show_end(work.target, loaded, options, report, chunk_ids)
    return int(code)


def _without_tails(sink: EventSink) -> EventSink:
    from dataclasses import replace

    from logist.chunks import ChunkEvent, ChunkFinished

    def told(event: ChunkEvent) -> None:
        sink(ChunkFinished(result=replace(event.result, tail="")) if isinstance(event, ChunkFinished) else event)

    return told


def _stateless_report(report: RunReport, loaded: LoadedSpec, chunk_ids: frozenset[ChunkId]) -> RunReport:
    """A worker without state knows of its own chunks only: when they are done it has done all that it can."""
    from dataclasses import replace

    from logist.chunks import ChunkStatus
    from logist.console.chunk_outcome import stateless_reason
    from logist.lifecycle import JobStatus

    if sum(result.status is ChunkStatus.DONE for result in report.results) < len(chunk_ids):
        return report
    return replace(report, status=JobStatus.SUCCESS, reason=stateless_reason(_in_order(loaded, chunk_ids)))


def _in_order(loaded: LoadedSpec, chunk_ids: frozenset[ChunkId]) -> list[ChunkId]:
    return [chunk.id for chunk in loaded.spec.chunks if chunk.id in chunk_ids]


def _stop_notices(stop: StopSwitch, sink: EventSink) -> Callable[[], None]:
    """Tells, once each, that a signal to stop was heard: called often while commands run, from any thread."""
    import threading

    from logist.chunks import Notice

    lock = threading.Lock()
    said: set[str] = set()

    def tell_once(message: str) -> None:
        with lock:
            if message in said:
                return
            said.add(message)
        sink(Notice(message=message))

    def notice() -> None:
        if stop.now:
            tell_once("ending the running chunks now; what is done stays done")
        elif stop.after_step:
            again = "Ctrl-C again" if stop.exit_code is ExitCode.INTERRUPTED else "the same signal again"
            tell_once(f"stopping after the running chunks; {again} ends them now")

    return notice


def _options(work: Work, options: SpecOptions, stop: StopSwitch, sink: EventSink) -> ExecutionOptions:
    from logist.chunk_options import ExecutionOptions
    from logist.chunks import Halt

    notice = _stop_notices(stop, sink)

    def cancel() -> str | None:
        # Read before the notice: a signal between the two would end the chunks untold.
        now = stop.now
        notice()
        return stop.cause if now else None

    def drain() -> str | None:
        return f"{stop.cause} once the running chunks had ended" if stop.after_step else None

    return ExecutionOptions(
        job_dir=work.loaded.folder,
        concurrency=_concurrency(options.concurrency),
        merge=options.merge,
        retries=options.retries,
        halt=Halt(options.halt),
        timeout=options.timeout,
        environ=dict(os.environ),
        on_progress=sink,
        recorder=work.recorder,
        cancel=cancel,
        drain=drain,
        name=work.loaded.name,
    )


def _concurrency(text: str) -> int:
    """How many chunks run at once. Raises UsageProblem."""
    from logist.processes import processors

    if text == "auto":
        return processors()
    if text.isascii() and text.isdigit() and 0 < int(text) <= MOST_AT_ONCE:
        return int(text)
    raise UsageProblem(
        f"--concurrency {text!r} is not a number of chunks",
        f"give 1 to {MOST_AT_ONCE}, or auto: one for each processor",
    )


def _execute(
    work: Work,
    options: SpecOptions,
    chunk_ids: frozenset[ChunkId] | None,
    execution: ExecutionOptions,
    *,
    quiet: bool,
) -> RunReport:
    from dataclasses import replace

    if chunk_ids is None:
        from logist.clock import SystemClock
        from logist.spec_runs import run_spec

        return run_spec(
            work.loaded,
            work.adapter,
            execution,
            SystemClock(),
            force=options.force,
            merge_only=options.merge_only,
            gather=work.gather,
        )
    from logist.job_executor import JobExecutor

    # The stateless worker: no lease, no state, no merge; what the commands print is what this command prints.
    passed_on = None if quiet else _pass_on
    stateless = replace(execution, chunk_ids=chunk_ids, merge=False, on_output=passed_on)
    return JobExecutor(work.adapter).execute(work.loaded.spec, stateless)


def _pass_on(_chunk: ChunkId | None, data: bytes) -> None:
    from logist.plain_text import plain_text

    # Bytes as they are for a file or a pipe; a terminal gets no control sequences of strangers.
    click.echo(plain_text(data) if sys.stderr.isatty() else data, nl=False, err=True)


def _show_end(
    target: str,
    loaded: LoadedSpec,
    options: SpecOptions,
    report: RunReport,
    chunk_ids: frozenset[ChunkId] | None,
) -> None:
    """The chunks, the verdict, and what to do next, on stderr."""
    from logist.commands.spec_views import words_of
    from logist.console import drawn
    from logist.console.chunk_outcome import outcome_lines, stateless_lines
    from logist.console.chunk_tables import summary_lines

    words = words_of(target, loaded, allow_outside=options.allow_outside, storage=options.storage)

    def outcome(width: int | None) -> list[Line]:
        if chunk_ids is None:
            return outcome_lines(report, words, width)
        return stateless_lines(report, _in_order(loaded, chunk_ids), words, width)

    tell_drawn(f"\n{drawn(lambda width: summary_lines(report, width), sys.stderr)}")
    tell_drawn(f"\n{drawn(outcome, sys.stderr)}")


def _show_plan(loaded: LoadedSpec, options: SpecOptions, *, as_json: bool) -> int:
    """What a run would do; nothing changes."""
    from logist.chunk_attempts import how_to_run
    from logist.spec_runs import preview_run

    chunk_ids = _selected(loaded, options.chunk)
    # A stateless worker runs what it is told to, whatever was done before.
    plan = preview_run(loaded, force=options.force or chunk_ids is not None)
    wanted = frozenset(() if options.merge_only else plan.run if chunk_ids is None else chunk_ids)
    chunks = [chunk for chunk in loaded.spec.chunks if chunk.id in wanted]
    merges = bool(loaded.spec.merge_command) and options.merge and chunk_ids is None
    # To merge alone is to merge again.
    merges = merges and (options.merge_only or not plan.merged)
    if as_json:
        rows = [
            {
                "chunk": chunk.id,
                "startFrame": chunk.start_frame,
                "frameCount": chunk.frame_count,
                "outputFile": chunk.output_file,
                "command": _words(how_to_run(chunk.command)),
            }
            for chunk in chunks
        ]
        merge = _words(how_to_run(loaded.spec.merge_command)) if merges else None
        print_json({"spec": loaded.name, "run": rows, "skip": sorted(plan.done, key=str), "merge": merge})
        return ExitCode.SUCCESS
    import shlex

    for chunk in chunks:
        print_text(f"chunk {chunk.id}: {shlex.join(_words(how_to_run(chunk.command)))}")
    if merges:
        print_text(f"merge: {shlex.join(_words(how_to_run(loaded.spec.merge_command)))}")
    if options.merge_only:
        tell("would run no chunk: every output would be verified, then merged")
        return ExitCode.SUCCESS
    skipped = 0 if chunk_ids is not None else len(plan.done)
    are = "is" if skipped == 1 else "are"
    tell(f"would run {len(chunks)} of {len(loaded.spec.chunks)} chunks; {skipped} {are} done and unchanged")
    return ExitCode.SUCCESS


def _words(spelled: Spelled) -> tuple[str, ...]:
    return spelled.argv if spelled.shell is None else ("/bin/sh", "-c", spelled.shell)
