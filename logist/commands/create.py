"""`logist job create`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import click

from logist.commands.output import print_json, tell
from logist.commands.parameters import Dollars, Duration, complete_job, json_option, read_text
from logist.commands.roles import tell_who_judges_itself
from logist.errors import UsageProblem

if TYPE_CHECKING:
    from pathlib import Path

    from logist.commands.invocation import Invocation
    from logist.models.config import Config, JobFile
    from logist.models.manifest import Budget, JobManifest, Phase, Roles
    from logist.workspace_creation import SourceRequest

#: `name=command`. A name has no capitals: FOO=1 in front of a command is an environment variable.
_NAMED_CHECK = re.compile(r"([a-z0-9][a-z0-9_. -]*)=(.+)", re.DOTALL)
_LONGEST_CHECK_NAME = 80
_LONGEST_NAME = 500


class Wanted(NamedTuple):
    """The options of `job create` as they were given."""

    job_id: str | None
    objective: str | None
    prompt: str | None
    phases: tuple[str, ...]
    requires_change: bool
    checks: tuple[str, ...]
    optional_checks: tuple[str, ...]
    worker: str | None
    supervisor: str | None
    steps: int | None
    time: float | None
    retries: int | None
    cost: float | None
    priority: int | None
    needs: tuple[str, ...]


@click.command()
@click.argument("source", required=False, help="A git repository or a folder to start from; none: empty.")
@click.option("-o", "--objective", metavar="TEXT", help="What is to be reached, in one sentence.")
@click.option("--id", "job_id", metavar="ID", help="The job's name. Default: made from the objective.")
@click.option("-p", "--prompt", metavar="TEXT", help="The objective in full, for the agents.")
@click.option("-F", "--prompt-file", metavar="FILE", help="Read the prompt from a file; - is standard input.")
@click.option(
    "--phase", "phases", multiple=True, metavar="'NAME: TEXT'", help="A part of the work. Repeatable, in order."
)
@click.option("--requires-change", is_flag=True, help="Work that changes no file completes no phase, whoever says so.")
@click.option(
    "--check", "checks", multiple=True, metavar="[NAME=]COMMAND", help="A command that must exit with 0. Repeatable."
)
@click.option(
    "--optional-check", "optional_checks", multiple=True, metavar="[NAME=]COMMAND", help="A check that only informs."
)
@click.option(
    "--spec", metavar="FILE", help="Render this job spec, in one phase; it lies in SOURCE, else its folder is it."
)
@click.option(
    "--concurrency", type=click.IntRange(1, 1024), metavar="N", help="With --spec: chunks at the same time. Default: 1."
)
@click.option("--worker", metavar="AGENT[:ARGUMENT]", help="Who works: playbook, command:LINE, or an agent's name.")
@click.option("--supervisor", metavar="AGENT[:ARGUMENT]", help="Who judges.")
@click.option("--steps", type=click.IntRange(min=0), metavar="N", help="The most steps; 0 is unlimited.")
@click.option("--time", type=Duration(), metavar="DURATION", help="The most active time; 0 is unlimited.")
@click.option("--retries", type=click.IntRange(min=0), metavar="N", help="The most further attempts in a phase.")
@click.option("--cost", type=Dollars(), metavar="DOLLARS", help="The most cost; 0 is unlimited.")
@click.option(
    "--priority",
    type=click.IntRange(-1000, 1000),
    metavar="N",
    help="Where several jobs wait to be run, the higher goes first. Default: 0.",
)
@click.option(
    "--needs",
    multiple=True,
    metavar="JOB",
    shell_complete=complete_job,
    help="A job that `logist run` has to bring to SUCCESS before this one. Repeatable.",
)
@click.option("--from", "job_file", metavar="FILE", help="A whole job as TOML or JSON; options go before it.")
@click.option("--revision", metavar="REV", help="The commit, branch or tag of the repository to start from.")
@click.option("--no-select", is_flag=True, help="Don't make it the selected job.")
@click.option("-q", "--quiet", is_flag=True, help="Print the id alone.")
@json_option
@click.pass_obj
def create(
    invocation: Invocation,
    /,
    source: str | None,
    prompt: str | None,
    prompt_file: str | None,
    spec: str | None,
    concurrency: int | None,
    job_file: str | None,
    revision: str | None,
    no_select: bool,
    quiet: bool,
    as_json: bool,
    **options: object,
) -> None:
    """Create a job from SOURCE. Nothing is written to SOURCE before `job deliver`."""
    from pathlib import Path

    from logist.clock import SystemClock
    from logist.configuration import define_job, read_job_file
    from logist.job_creation import CreateRequest, create_job

    if prompt is not None and prompt_file is not None:
        raise UsageProblem("--prompt and --prompt-file exclude each other", "give the prompt once")
    if prompt_file is not None:
        prompt = read_text(prompt_file, "--prompt-file")
    wanted = Wanted(prompt=prompt, **options)  # type: ignore[arg-type]  # click hands over what the options declare
    _refuse_bad_words(wanted)
    config = invocation.configuration().config
    file = None if job_file is None else read_job_file(Path(job_file))
    place = Path(source) if source is not None else None if file is None else file.source
    render = _render(wanted, spec, place, revision, concurrency)
    store = invocation.store()
    needs = wanted.needs or (() if file is None else file.needs)
    wanted = wanted._replace(needs=tuple(dict.fromkeys(map(store.find, needs))))
    described = _described(wanted, file, render, config)
    request = CreateRequest(
        definition=define_job(described, config),
        source=_source(place, revision) if render is None else render.source,
        job_id=described.id,
        spec_sha256=None if render is None else render.sha256,
    )
    manifest = create_job(store, request, SystemClock())
    if not no_select:
        store.select(manifest.id)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        click.echo(manifest.id)
    if not quiet:
        tell_who_judges_itself(manifest, config)
        if not as_json:
            _tell_created(manifest, selected=not no_select)


def _refuse_bad_words(wanted: Wanted) -> None:
    """Say in the command line's own words which option is wrong. Raises UsageProblem."""
    from logist.job_files import check_job_id
    from logist.models.manifest import MAX_TEXT

    if wanted.job_id is not None:
        check_job_id(wanted.job_id)
    if wanted.objective is not None and not wanted.objective.strip():
        raise UsageProblem("the objective of -o is empty", "say what is to be reached, in one sentence")
    for option, text in (("the objective of -o", wanted.objective), ("the prompt", wanted.prompt)):
        if text is not None and len(text) > MAX_TEXT:
            raise UsageProblem(
                f"{option} is longer than {MAX_TEXT} characters", "put the rest into a file of SOURCE, and name it"
            )
    _refuse_bad_names("--phase", [(text, _phase(text)["name"]) for text in wanted.phases], "'NAME: TEXT'")
    checks = [(text, _check(text)) for text in (*wanted.checks, *wanted.optional_checks)]
    for text, check in checks:
        if not check["command"].strip():
            raise UsageProblem(f"--check {text[:60]!r} has no command", "write checks as COMMAND or NAME=COMMAND")
    _refuse_bad_names("--check", [(text, check["name"]) for text, check in checks], "NAME=COMMAND")


def _refuse_bad_names(option: str, given: list[tuple[str, str]], form: str) -> None:
    seen: set[str] = set()
    hint = f"write {option[2:]}s as {form}, each name once, on one line"
    for text, name in given:
        if not name:
            raise UsageProblem(f"{option} {text[:60]!r} has no name", hint)
        if len(name) > _LONGEST_NAME or len(name.splitlines()) > 1:
            raise UsageProblem(
                f"{option} {text[:60]!r}: a name is one line of at most {_LONGEST_NAME} characters", hint
            )
        if name in seen:
            raise UsageProblem(f"two {option} options have the same name: {name[:60]!r}", hint)
        seen.add(name)


class Render(NamedTuple):
    """What `--spec` asks for. Without `sha256` only the commit that the job starts from has the spec."""

    phase: dict[str, object]
    source: SourceRequest
    objective: str | None
    sha256: str | None


def _render(
    wanted: Wanted, spec: str | None, place: Path | None, revision: str | None, concurrency: int | None
) -> Render | None:
    """The one phase of a job that renders a spec, and its source. Raises UsageProblem, InvalidFile."""
    if spec is None:
        if concurrency is not None:
            raise UsageProblem("--concurrency is for a render", "name its job spec with --spec")
        return None
    if wanted.phases:
        raise UsageProblem(
            "--spec and --phase exclude each other", "a job file can have phases of both kinds: --from FILE"
        )
    from pathlib import Path

    path = Path(spec) if place is None or not (place / spec).exists() else place / spec
    source = _source(path.parent if place is None else place, revision)
    phase = {"name": "render", "kind": "render", "concurrency": concurrency or 1}
    if not path.exists() and source.kind == "git" and place is not None and wanted.objective is not None:
        # A bare repository, or a commit that is not checked out: it is looked at once the workspace is there.
        return Render({**phase, "spec": spec}, source, None, None)
    return _render_of(path, phase, source, committed=revision is not None)


def _render_of(path: Path, phase: dict[str, object], source: SourceRequest, *, committed: bool) -> Render:
    import os
    import sys
    from dataclasses import replace
    from pathlib import Path

    from logist.spec_files import load_spec, output_paths

    loaded = load_spec(
        str(path.absolute()), trust=False, allow_outside=False, stdin=lambda: sys.stdin.buffer, cwd=Path.cwd()
    )
    assert source.path is not None
    inside = os.path.relpath(loaded.folder / loaded.name, source.path)
    if inside.startswith("../"):
        raise UsageProblem(f"the spec {path} is not in {source.path}", "name a spec of the source, or another source")
    chunks, frames = len(loaded.spec.chunks), loaded.spec.metadata.total_frames
    many = "chunk" if chunks == 1 else "chunks"
    return Render(
        {**phase, "spec": inside},
        replace(source, media=tuple(os.path.relpath(made, source.path) for made in output_paths(loaded))),
        f"render {inside}: {chunks:,} {many}, {frames:,} {'frame' if frames == 1 else 'frames'}",
        None if committed else loaded.sha256,
    )


def _described(wanted: Wanted, file: JobFile | None, render: Render | None, config: Config) -> JobFile:
    """The job as the file and the spec describe it, with the options laid over it.

    Raises UsageProblem, and AgentUnavailable when the agent of a role can't run.
    """
    from pydantic import ValidationError

    from logist.models.config import JobFile

    objective = wanted.objective
    if file is None and objective is None and render is not None:
        objective = render.objective
    if file is None and objective is None:
        raise UsageProblem("a job needs an objective", "say what is to be reached with -o TEXT, or give --from FILE")
    described = file or JobFile(objective="(replaced)")
    phases: tuple[object, ...] = tuple(map(_phase, wanted.phases)) if render is None else (render.phase,)
    given = {
        "id": wanted.job_id,
        "objective": objective,
        "prompt": wanted.prompt,
        "phases": phases or None,
        "checks": _checks(wanted) or None,
        "budget": _budget(wanted, described),
        "priority": wanted.priority,
        "needs": wanted.needs or None,
    }
    kept = {key: getattr(described, key) for key in described.model_fields_set}
    try:
        made = JobFile(**{**kept, **{key: value for key, value in given.items() if value is not None}})
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UsageProblem(f"{place}: {problem['msg']}", "see logist job create --help") from error
    return made.model_copy(update={"roles": _roles(wanted, made, config), "phases": _phases(wanted, made)})


def _source(path: Path | None, revision: str | None) -> SourceRequest:
    """Where the first content comes from: a folder with a repository of its own is one, any other is copied."""
    from logist.job_files import is_git
    from logist.models.manifest import SourceKind
    from logist.workspace_creation import SourceRequest

    if path is None:
        if revision is not None:
            raise UsageProblem("--revision needs a git repository as SOURCE", "name the repository too")
        return SourceRequest()
    if not path.is_dir():
        raise UsageProblem(f"the source {path} is not a folder", "name a git repository or a folder on this machine")
    bare = (path / "HEAD").is_file() and (path / "objects").is_dir()
    if is_git(f"{path}/.git") or bare:
        return SourceRequest(kind=SourceKind.GIT, path=path.resolve(), revision=revision)
    if revision is not None:
        raise UsageProblem(f"--revision needs a git repository, and {path} is none", "leave it out to copy the folder")
    return SourceRequest(kind=SourceKind.FOLDER, path=path.resolve())


def _phases(wanted: Wanted, described: JobFile) -> tuple[Phase, ...]:
    if not wanted.requires_change:
        return described.phases
    return tuple(phase.model_copy(update={"requires_change": True}) for phase in described.phases)


def _phase(text: str) -> dict[str, str]:
    name, _, instructions = text.partition(":")
    return {"name": name.strip(), "instructions": instructions.strip()}


def _checks(wanted: Wanted) -> tuple[dict[str, object], ...]:
    given = [(text, True) for text in wanted.checks] + [(text, False) for text in wanted.optional_checks]
    return tuple({**_check(text), "required": required} for text, required in given)


def _check(text: str) -> dict[str, str]:
    named = _NAMED_CHECK.fullmatch(text)
    if named is not None:
        return {"name": named[1].strip(), "command": named[2].strip()}
    return {"name": " ".join(text.split())[:_LONGEST_CHECK_NAME], "command": text}


def _roles(wanted: Wanted, described: JobFile, config: Config) -> Roles | None:
    from logist.agents import find_agent, parse_role
    from logist.configuration import define_roles
    from logist.models.manifest import Roles

    merged = define_roles(described.roles, config)
    roles = Roles(
        worker=parse_role(wanted.worker, merged.worker) if wanted.worker else merged.worker,
        supervisor=parse_role(wanted.supervisor, merged.supervisor) if wanted.supervisor else merged.supervisor,
    )
    works = any(phase.spec is None for phase in described.phases)
    for settings in (roles.worker, roles.supervisor) if works else (roles.supervisor,):
        # An agent that can't run is a slip of the hand: told now, not when the job is run.
        find_agent(settings.agent, config).check(settings)
    return roles


def _budget(wanted: Wanted, described: JobFile) -> Budget | None:
    from logist.models.manifest import Budget

    given = {"steps": wanted.steps, "time": wanted.time, "retries": wanted.retries, "cost": wanted.cost}
    unlimited = ("steps", "time", "cost")
    update = {
        key: None if key in unlimited and value == 0 else value for key, value in given.items() if value is not None
    }
    return (described.budget or Budget()).model_copy(update=update) if update else described.budget


def _tell_created(manifest: JobManifest, *, selected: bool) -> None:
    source = manifest.source
    if source.path is None:
        tell("starts empty")
    elif source.commit is not None:
        branch = f" of branch {source.branch}" if source.branch else ""
        tell(f"starts from commit {source.commit[:12]}{branch} of {source.path}")
    else:
        tell(f"starts from a copy of {source.path}")
    if source.uncommitted:
        tell(f"{source.uncommitted} uncommitted change(s) of the source were not taken; commit what belongs")
    name = "" if selected else f" {manifest.id}"
    tell(f"next: logist job run{name}    or look first: logist job preview{name}")
