"""What `logist job status`, `log`, `history`, `cancel` and `pause` do with a spec's file instead of a job."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from logist.chunk_selection import nearby, shell_word
from logist.commands.output import print_drawn, print_json, print_text, tell
from logist.errors import JobBusy, LogistError, UsageProblem, WrongState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from logist.chunk_state import StatePaths
    from logist.console.chunk_outcome import SpecWords
    from logist.spec_files import LoadedSpec
    from logist.stop_requests import RequestKind


def spec_state(target: str) -> StatePaths:
    """Where the state of the spec is that `target` names; the spec itself need not be readable. Raises UsageProblem."""
    from pathlib import Path

    from logist.chunk_state import state_paths

    if target == "-" or "://" in target:
        raise UsageProblem(f"{target} names no file, so it has no state of its own", _state_hint(Path.cwd()))
    path = Path(target).absolute()
    found = state_paths(path.parent, path.name)
    if not found.job.history.exists() and not path.exists():
        raise UsageProblem(f"there is no spec {target}", "check the path; `logist job list` shows the jobs")
    return found


def _state_hint(folder: Path) -> str:
    """What the state of a spec from elsewhere is called, by the newest one."""
    found = [path for path in (folder / ".logist").glob("spec-*.json") if (path / "history.jsonl").exists()]
    if not found:
        return "it is named after the spec's content once it was run, and none was run in this folder"
    newest = max(found, key=lambda path: (path / "history.jsonl").stat().st_mtime)
    return f"it is named after the spec's content; the last one that ran here: logist job status {newest.name}"


def refuse_for_spec(target: str, given: dict[str, bool]) -> None:
    """Raise UsageProblem when one of these options was given: they mean nothing for a spec."""
    for option, is_given in given.items():
        if is_given:
            raise UsageProblem(f"{option} is for a job, and {target} is a spec", "leave it out")


def words_of(target: str, loaded: LoadedSpec | None, *, allow_outside: bool = False, storage: str = "") -> SpecWords:
    """How the next commands name the spec that was given as `target`; `loaded` is None where it can't be read."""
    from pathlib import Path

    from logist.chunk_state import state_paths
    from logist.console.chunk_outcome import SpecWords
    from logist.spec_files import merged_path

    named = target != "-" and "://" not in target
    path = Path(target).absolute()
    state = target if named else "" if loaded is None else loaded.name
    folder = path.parent if loaded is None else loaded.folder
    merged = None if loaded is None else merged_path(loaded)
    again = "" if named else _AGAIN
    if named and not path.exists():
        again = "the spec's file is not here; a run of the same spec in this folder goes on"
    # What is printed ends up in logs, and a query may hold a key.
    runs = path.exists() if named else target != "-" and not set("?#@") & set(target)
    options = ("" if named else " --trust") + (" --allow-outside" if allow_outside else "")
    options += f" --storage {shell_word(storage)}" if storage else ""
    return SpecWords(
        run=f"{shell_word(target)}{options}" if runs else "",
        state=shell_word(state) if state else "",
        again="" if runs else again,
        merged="" if merged is None else nearby(merged),
        merges=loaded is None or bool(loaded.spec.merge_command),
        state_dir=nearby(state_paths(folder, path.name if named else state).root) if state else "",
    )


_AGAIN = "to go on, run the same command with the same spec: what is done is not done again"


def _load_as_it_is(target: str) -> tuple[LoadedSpec | None, str]:
    """What the spec says now, or why that can't be read; neither when there is no such file."""
    from pathlib import Path

    from logist.spec_files import load_spec

    if not Path(target).exists():
        return None, ""
    try:
        return load_spec(target, trust=False, allow_outside=True, stdin=lambda: sys.stdin.buffer, cwd=Path.cwd()), ""
    except LogistError as problem:
        return None, problem.message


def _writes_outside(loaded: LoadedSpec | None) -> bool:
    from logist.spec_files import misplaced_outputs

    return loaded is not None and any(misplaced_outputs(loaded.spec, loaded.folder, file=loaded.folder / loaded.name))


def _words_now(target: str, loaded: LoadedSpec | None, problem: str) -> SpecWords:
    """How commands name the spec, by what its file says now: one that can't be read is not to be run."""
    from dataclasses import replace

    words = words_of(target, loaded, allow_outside=_writes_outside(loaded))
    return replace(words, run="") if problem else words


def show_spec_status(target: str, *, as_json: bool) -> None:
    """Where the spec's run stands, its chunks, and what to do next."""
    from logist.spec_report import read_status

    paths = spec_state(target)
    loaded, problem = _load_as_it_is(target)
    status = read_status(paths, target, loaded, problem)
    if as_json:
        import json
        from dataclasses import asdict

        from logist.plain_text import plain_values

        runner = None if status.runner is None else status.runner._asdict()
        # There and back: lists instead of tuples, and values instead of the members of enums.
        print_json(plain_values(json.loads(json.dumps({**asdict(status), "runner": runner}))))
        return
    from logist.console import drawn
    from logist.console.chunk_outcome import status_lines

    words = _words_now(target, loaded, problem)
    print_drawn(drawn(lambda width: status_lines(status, words, width), sys.stdout))


def show_chunk_log(target: str, chunk: str | None, lines: int | None, *, raw: bool, as_json: bool) -> None:
    """What a chunk's last attempt printed, or the merge for `merge`; without a chunk the chunks, one a line."""
    if chunk is None:
        show_spec_status(target, as_json=as_json)
        return
    data = _read_chunk_log(spec_state(target), target, chunk)
    if lines is not None:
        data = b"".join(data.splitlines(keepends=True)[-lines:])
    if as_json:
        from logist.plain_text import plain_text

        text = data.decode("utf-8", "replace") if raw else plain_text(data)
        print_json({"spec": target, "chunk": chunk, "text": text})
    elif not data:
        tell(f"{'the merge' if chunk == 'merge' else f'chunk {chunk}'} printed nothing")
    elif raw:
        click.echo(data, nl=False)
    else:
        print_text(data.removesuffix(b"\n"))


def _read_chunk_log(paths: StatePaths, target: str, chunk: str) -> bytes:
    from pathlib import Path

    from logist.spec_report import last_attempt

    attempt = last_attempt(paths, chunk)
    if attempt is not None and not attempt.log:
        return b""
    log = Path(attempt.log) if attempt is not None else None
    try:
        if log is not None:
            return log.read_bytes()
    except FileNotFoundError:
        # A command that prints nothing leaves no log.
        return b""
    except OSError as error:
        raise UsageProblem(
            f"the log of chunk {chunk} can't be read: {error.strerror}", f"look at what is in {nearby(paths.logs)}"
        ) from error
    what = "it was not merged here" if chunk == "merge" else f"chunk {chunk} of {target} was not run here"
    raise UsageProblem(what, f"`logist job status {shell_word(target)}` lists the chunks")


def show_spec_history(target: str, lines: int | None, *, as_json: bool) -> None:
    """Every record of the spec's runs, oldest first, or the last `lines` of them."""
    from collections import deque

    from logist.chunk_state import read_records
    from logist.models.chunk_history import to_document

    for at, record in deque(read_records(spec_state(target)), maxlen=lines):
        content = to_document(record)
        if as_json:
            import json

            click.echo(json.dumps({"at": at, **content}))
            continue
        kind = content.pop("type")
        print_text(f"{at} {kind:12} {_facts(content)}".rstrip())


_FOR_PROGRAMS = frozenset({"key", "spec_sha256", "token"})


def _facts(content: Mapping[str, object]) -> str:
    """What a record says, for people: hashes are for programs."""
    facts = []
    for name, value in content.items():
        if isinstance(value, dict):
            facts.append(_output_facts(value))
        elif value not in ("", None, ()) and name not in _FOR_PROGRAMS:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            facts.append(f"{name}={_quoted(nearby(shown) if name == 'log' else shown)}")
    return " ".join(facts)


def _output_facts(output: Mapping[str, object]) -> str:
    frames = "" if output["frames"] is None else f" frames={output['frames']}"
    checked = {"frames": "decoded", "file": "not decoded", "exit": "exit code only"}[str(output["evidence"])]
    return f"output={_quoted(nearby(str(output['path'])))} size={output['size']}{frames} checked={_quoted(checked)}"


def _quoted(text: str) -> str:
    import json

    return text if text.isprintable() and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)


def cancel_spec(target: str, message: str, *, wait: bool, as_json: bool) -> None:
    """Stop the spec's run: its commands are ended, and what is done stays done."""
    from logist.commands.stop import await_runner

    paths = _ask_runner(target, "cancel", message)
    if wait:
        await_runner(paths.job, JobBusy(f"the runner of {target} was asked to stop", ""))
    if as_json:
        print_json({"spec": target, "canceled": wait})
    else:
        tell(f"{target} is canceled" if wait else f"the runner of {target} was asked to stop")


def pause_spec(target: str, message: str, *, as_json: bool) -> None:
    """Ask the spec's runner to stop once its running chunks have ended."""
    _ask_runner(target, "pause", message)
    if as_json:
        print_json({"spec": target, "requested": "pause"})
    else:
        words = _words_now(target, *_load_as_it_is(target))
        then = (
            f"go on with: logist job run {words.run}" if words.run else f"see it with: logist job status {words.state}"
        )
        tell(f"{target} pauses when its running chunks have ended; {then}")


def _ask_runner(target: str, kind: RequestKind, message: str) -> StatePaths:
    """Leave a request for who runs the spec. Raises WrongState when nobody does."""
    from datetime import UTC, datetime

    from logist.lease import read_holder
    from logist.stop_requests import request

    paths = spec_state(target)
    if read_holder(paths.job) is None:
        words = _words_now(target, *_load_as_it_is(target))
        now = f"logist job run {words.run}" if words.run else f"logist job status {words.state}"
        raise WrongState(f"{target} is not being run: nothing to {kind}", f"possible now: {now}")
    request(paths.job, kind, message, datetime.now(UTC))
    return paths
