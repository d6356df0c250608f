"""The worker's turn in a phase that is a render: no agent is asked, Logist runs the chunks of a spec in the workspace.

What is done of a render is kept by its own state in the job's folder, chunk by chunk. So a turn has no `started`
record and no work to set aside: whoever takes it up again, after a kill or a stop, goes on with what is not done.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import threading
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import NamedTuple

from logist import decision, events
from logist.chunk_attempts import CHUNK_VARIABLE, TOKEN_VARIABLE, how_to_run
from logist.chunk_options import ExecutionOptions
from logist.chunk_state import StatePaths, read_past
from logist.chunks import ChunkEvent, ChunkId, RunReport
from logist.durable import make_durable_folder, storage_failed
from logist.durations import format_duration
from logist.environment import inherited, inside
from logist.errors import (
    AgentUnavailable,
    ExtraMissing,
    InvalidFile,
    LogistError,
    PlaceUnavailable,
    UsageProblem,
    WorkspaceFailed,
)
from logist.execution import StreamResult, WorkerAdapter
from logist.execution.adapters import open_adapter
from logist.job_state import change
from logist.lifecycle import JobStatus
from logist.models.history import AttemptFailed, Exited, Intent, OutputDigest
from logist.models.job_spec import CommandLine
from logist.models.manifest import MAX_TEXT, Phase, ReasonCode, Role, Verdict
from logist.models.render_report import MEDIA, evidence_folder, report_path
from logist.models.usage import Usage
from logist.plain_text import plain_text
from logist.processes import boot_id
from logist.render.verify import is_unchanged
from logist.render_evidence import (
    RenderEvidence,
    event_words,
    gather,
    media_paths,
    progress_words,
    summary_of,
)
from logist.runtime import Interrupted, JobView, Session
from logist.spec_files import LoadedSpec, load_spec
from logist.spec_runs import plan_run, run_spec
from logist.turn_requests import PlannedCommand, Preview, step_token
from logist.turns import tell_start
from logist.unfinished_work import ensure_workspace
from logist.workspace_utils import check_evidence_path

#: What the history and the evidence call who did it.
RENDER = "render"
_OUT_OF_TIME = "the active time of the budget is used up"


class _Turn(NamedTuple):
    """Which attempt at which step this is, and where its things are."""

    step: int
    attempt: int
    phase: Phase
    spec: str
    folder: Path
    state: StatePaths
    workspace: Path

    @property
    def log(self) -> Path:
        """What happened in it, a line each; what the commands print is in the state's folder."""
        return self.folder / "stdout.log"

    @property
    def argv(self) -> tuple[str, ...]:
        """What does the same by hand, in the workspace."""
        phase = self.phase
        options = ["--concurrency", str(phase.concurrency), "--retries", str(phase.retries), "--halt", phase.halt.value]
        options += [] if phase.adapter is None else ["--adapter", phase.adapter]
        for name, value in phase.adapter_options.items():
            options += ["--adapter-option", f"{name}={value}"]
        options += [] if phase.chunk_timeout is None else ["--timeout", format_duration(phase.chunk_timeout)]
        return ("logist", "job", "run", self.spec, *options)


class _Outcome(NamedTuple):
    """What a turn came to, before it is recorded."""

    action: Verdict
    summary: str
    failure: ReasonCode | None = None
    evidence_files: tuple[str, ...] = ()


def take_render_turn(session: Session) -> Exited:
    """Run the phase's spec as far as it goes, write its evidence into the workspace, and record that it exited.

    A chunk or merge that failed for good, a spec that can't be used, and a spent time budget are Logist's own STUCK,
    with the reason code in `failure`. Raises Interrupted when it was stopped on request; what is done is kept.
    """
    session.raise_if_stopped()
    ensure_workspace(session)
    turn = _turn(session)
    began = session.runtime.clock.monotonic()
    _lay_out(turn)
    _record_intent(session, turn)
    tell_start(session, turn.step, turn.attempt, Role.WORKER, RENDER, turn.log)
    try:
        loaded = load_workspace_spec(turn.workspace, turn.spec)
    except (InvalidFile, UsageProblem) as error:
        outcome = _Outcome(Verdict.STUCK, f"the spec can't be used: {error.message}", ReasonCode.EVIDENCE_INVALID)
        return _record_exit(session, turn, outcome, began)
    return _record_exit(session, turn, _render(session, turn, loaded, began), began)


def load_workspace_spec(workspace: Path, spec: str) -> LoadedSpec:
    """The spec at a path of a workspace. Raises InvalidFile, UsageProblem when it is not there or not sound."""
    wrong = check_evidence_path(workspace, spec)
    if wrong is not None:
        raise UsageProblem(
            f"there is no spec {spec}: {wrong[:1].lower()}{wrong[1:].removesuffix('.')}",
            "a git source must have it committed, a folder must not ignore it",
        )
    return load_spec(spec, trust=False, allow_outside=False, stdin=lambda: sys.stdin.buffer, cwd=workspace)


def _turn(view: JobView) -> _Turn:
    manifest = view.manifest
    phase, step, attempt = manifest.current_phase, manifest.step + 1, manifest.attempt + 1
    assert phase.spec is not None
    return _Turn(
        step=step,
        attempt=attempt,
        phase=phase,
        spec=phase.spec,
        folder=view.paths.step_dir(step, Role.WORKER.value, attempt),
        state=StatePaths(view.paths.chunk_state(phase.spec, manifest.line)),
        workspace=view.paths.workspace,
    )


# --- Running -------------------------------------------------------------------------------------------------------


def _render(session: Session, turn: _Turn, loaded: LoadedSpec, began: float) -> _Outcome:
    if not turn.phase.commit_media:
        # Before anything is made: whatever becomes of this turn, no media get into git.
        why = f"{MEDIA}, recorded by size and hash in {report_path(turn.spec)}"
        session.workspace.leave_out(media_paths(loaded, turn.workspace), why)
    left = decision.time_left(session.manifest)
    watch = _Watch(session, turn, None if left is None else began + left)
    options = _options(session, turn, loaded, watch)
    try:
        with _place(session, turn.phase) as adapter:
            run = run_spec(loaded, adapter, options, session.runtime.clock, paths=turn.state)
    except (AgentUnavailable, ExtraMissing, PlaceUnavailable, UsageProblem) as error:
        return _Outcome(Verdict.STUCK, f"{error.message} ({error.hint})", ReasonCode.AGENT_FAILED)
    _raise_if_stopped(session, turn, run, watch, began)
    return _outcome(session, turn, loaded, run)


def _place(session: Session, phase: Phase) -> AbstractContextManager[WorkerAdapter]:
    """Where the phase's chunks run. Raises UsageProblem, ExtraMissing."""
    if phase.adapter is None:
        return nullcontext(session.runtime.adapter)
    return closing(open_adapter(phase.adapter, phase.adapter_options))


def _options(session: Session, turn: _Turn, loaded: LoadedSpec, watch: _Watch) -> ExecutionOptions:
    return ExecutionOptions(
        job_dir=loaded.folder,
        concurrency=turn.phase.concurrency,
        retries=turn.phase.retries,
        halt=turn.phase.halt,
        timeout=turn.phase.chunk_timeout,
        environ=_environment(session, turn),
        on_progress=watch.told,
        on_output=watch.printed,
        cancel=watch.why_kill,
        drain=watch.why_drain,
        inherit=session.lease_fds,
    )


def _environment(view: JobView, turn: _Turn) -> dict[str, str]:
    manifest = view.manifest
    return inherited(view.runtime.environ, view.runtime.config.env) | {
        "LOGIST_JOB_ID": manifest.id,
        "LOGIST_PHASE": turn.phase.name,
        "LOGIST_STEP": str(turn.step),
        **inside(turn.workspace),
        # By this recovery finds what a dead runner left.
        "LOGIST_STEP_TOKEN": step_token(manifest.seed, turn.step, turn.attempt),
    }


class _Watch:
    """Stands between a chunk run, which speaks from several threads, and the session, which is for one at a time."""

    def __init__(self, session: Session, turn: _Turn, deadline: float | None) -> None:
        self._session = session
        self._turn = turn
        self._deadline = deadline
        self._lock = threading.RLock()
        #: The time budget was used up while chunks ran.
        self.out_of_time = False

    def told(self, event: ChunkEvent) -> None:
        with self._lock:
            _keep_words(self._turn, event_words(event))
            self._session.emit(events.RenderProgressed(job_id=self._session.job_id, step=self._turn.step, event=event))

    def printed(self, chunk: ChunkId | None, data: bytes) -> None:
        name = "merge" if chunk is None else f"chunk {chunk}"
        with self._lock:
            self._session.emit(
                events.OutputReceived(job_id=self._session.job_id, step=self._turn.step, stream=name, data=data)
            )

    def why_kill(self) -> str | None:
        with self._lock:
            why = self._session.stop_now()
            if why is None and self._deadline is not None:
                self.out_of_time |= self._session.runtime.clock.monotonic() >= self._deadline
            return why or (_OUT_OF_TIME if self.out_of_time else None)

    def why_drain(self) -> str | None:
        with self._lock:
            return self._session.stop_after_step()


def _keep_words(turn: _Turn, words: str) -> None:
    """The step's own log: what happened, a line each."""
    if not words:
        return
    try:
        with turn.log.open("a", encoding="utf-8", errors="replace") as log:
            log.write(f"{words}\n")
    except OSError as error:
        raise storage_failed("write", turn.log, error) from error


def _raise_if_stopped(session: Session, turn: _Turn, run: RunReport, watch: _Watch, began: float) -> None:
    """Record a run that was stopped on request, and end it. Raises Interrupted; a spent budget is no request."""
    why = None if run.status is JobStatus.SUCCESS else session.stop_now()
    if why is None and run.status in (JobStatus.PENDING, JobStatus.CANCELED) and not watch.out_of_time:
        why = run.reason
    if why is None:
        return
    passed = _passed(session, began)
    spent = decision.add_usage(session.manifest.spent, passed, Usage())
    session.job.record(
        AttemptFailed(
            step=turn.step,
            attempt=turn.attempt,
            kind="stopped",
            detail=why,
            duration=passed,
            change=change(attempt=turn.attempt, spent=spent),
        )
    )
    session.notice("the chunks that are done are kept; the next run goes on with the others")
    raise Interrupted(why)


def _passed(session: Session, began: float) -> float:
    """Seconds, rounded up: a budget that is used up must not look as if some of it were left."""
    return math.ceil((session.runtime.clock.monotonic() - began) * 1_000) / 1_000


# --- What came of it -----------------------------------------------------------------------------------------------


def _outcome(session: Session, turn: _Turn, loaded: LoadedSpec, run: RunReport) -> _Outcome:
    evidence = gather(loaded, run, turn.state, turn.workspace, turn.spec, media_in_git=turn.phase.commit_media)
    files = _write_evidence(session, turn, loaded, evidence)
    summary = plain_text(summary_of(evidence))[:MAX_TEXT]
    if run.status is JobStatus.SUCCESS:
        return _Outcome(Verdict.COMPLETED, summary, None, files)
    if evidence.report.failed:
        return _Outcome(Verdict.STUCK, summary, ReasonCode.CHUNK_FAILED, files)
    if run.status is JobStatus.INTERVENTION_REQUIRED:
        return _Outcome(Verdict.STUCK, summary, ReasonCode.MERGE_FAILED, files)
    words = f"{_OUT_OF_TIME}; {progress_words(evidence.report)}"
    return _Outcome(Verdict.STUCK, words, ReasonCode.BUDGET_TIME, files)


def _write_evidence(session: Session, turn: _Turn, loaded: LoadedSpec, evidence: RenderEvidence) -> tuple[str, ...]:
    """Lay the evidence into the workspace; all files that the commit must hold, ignored or not."""
    folder = evidence_folder(turn.spec)
    session.workspace.write_files(folder, evidence.files)
    if evidence.logs or (turn.workspace / folder / "logs").is_dir():
        session.workspace.write_files(f"{folder}/logs", evidence.logs, alone=True)
    named = [turn.spec, *(f"{folder}/{name}" for name in evidence.files)]
    named += [f"{folder}/logs/{name}" for name in evidence.logs]
    if turn.phase.commit_media:
        named += media_paths(loaded, turn.workspace)
    return tuple(named)


def _record_exit(session: Session, turn: _Turn, outcome: _Outcome, began: float) -> Exited:
    nothing = OutputDigest(bytes=0, sha256=StreamResult().sha256)
    exited = Exited(
        step=turn.step,
        attempt=turn.attempt,
        role=Role.WORKER,
        at=session.runtime.clock.now(),
        ended="exited",
        exit_code=None,
        duration=_passed(session, began),
        stdout=nothing,
        stderr=nothing,
        action=outcome.action,
        summary=outcome.summary,
        evidence_files=outcome.evidence_files,
        reply_source=RENDER,
        usage=Usage(),
        agent=RENDER,
        argv=turn.argv,
        failure=outcome.failure,
        boot_id=boot_id(),
    )
    # As for an agent: it becomes durable with the evidence's objects, before the evidence branch moves.
    session.job.record(exited, sync=False)
    return exited


def altered_media(view: JobView) -> tuple[str, ...]:
    """The files that are no longer what the phase's render made, from the workspace's top."""
    turn = _turn(view)
    past = read_past(turn.state)
    made = [ended.output for ended in past.done().values()] + ([] if past.merge is None else [past.merge.output])
    top = os.path.realpath(turn.workspace)
    return tuple(
        os.path.relpath(file.path, top) for file in made if file is not None and not is_unchanged(Path(file.path), file)
    )


# --- Its beginning -------------------------------------------------------------------------------------------------


def _lay_out(turn: _Turn) -> None:
    try:
        turn.folder.mkdir(parents=True, exist_ok=True)
        described = {"argv": turn.argv, "cwd": str(turn.workspace), "spec": turn.spec, "state": str(turn.state.root)}
        (turn.folder / "command.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
    except OSError as error:
        raise WorkspaceFailed(
            f"the files of step {turn.step} could not be written: {error}",
            "check that the job's folder is there, writable and has room",
        ) from error
    above = turn.state.root.parent
    for missing in reversed([folder for folder in (above, *above.parents) if not folder.is_dir()]):
        make_durable_folder(missing)


def _record_intent(session: Session, turn: _Turn) -> None:
    # Durable at once, unlike an agent's: no `started` follows, and chunks run next.
    session.job.record(
        Intent(
            step=turn.step,
            attempt=turn.attempt,
            role=Role.WORKER,
            phase=turn.phase.name,
            agent=RENDER,
            base=session.manifest.head,
            prompt_sha256="",
        )
    )


# --- Looking ahead -------------------------------------------------------------------------------------------------


def preview_render(view: JobView) -> Preview:
    """Which chunks would run now, and their commands; nothing is written. Raises InvalidFile, UsageProblem."""
    turn = _turn(view)
    loaded = load_workspace_spec(turn.workspace, turn.spec)
    plan = plan_run(loaded, read_past(turn.state))
    wanted = frozenset(plan.run)
    commands = [
        PlannedCommand(f"chunk {chunk.id}", _spelled(chunk.command))
        for chunk in loaded.spec.chunks
        if chunk.id in wanted
    ]
    if loaded.spec.merge_command and not plan.merged:
        commands.append(PlannedCommand("merge", _spelled(loaded.spec.merge_command)))
    return Preview(
        job_id=view.manifest.id,
        role=Role.WORKER,
        step=turn.step,
        attempt=turn.attempt,
        agent=RENDER,
        scripted=False,
        phase=turn.phase.name,
        prompt="",
        argv=turn.argv,
        cwd=str(loaded.folder),
        stdin=False,
        env=tuple(sorted((*_environment(view, turn), CHUNK_VARIABLE, TOKEN_VARIABLE))),
        timeout=turn.phase.chunk_timeout,
        commands=tuple(commands),
        done=len(plan.done),
    )


def _spelled(command: CommandLine) -> str:
    try:
        how = how_to_run(command)
    except LogistError as error:
        return f"{command if isinstance(command, str) else shlex.join(command)}  ({error.message})"
    return shlex.join(how.argv) if how.shell is None else how.shell
