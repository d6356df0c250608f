"""A script around GNU parallel: on this machine, or on those that its own options name."""

from __future__ import annotations

from collections.abc import Iterator

from logist.array_jobs.job import ArrayJob, Engine
from logist.array_jobs.shell import command, enter, script
from logist.chunk_selection import SIZE_VARIABLE, shell_word

#: The spec is handed on in this variable: GNU parallel would read braces in its name.
_SPEC = "LOGIST_SPEC"
_MOST_TASKS = 1_000_000


def _array(job: ArrayJob) -> str:
    task = command(job.task_words(f'"${_SPEC}"'))
    options = " ".join(_options(job))
    return script(
        f"# {job.summary}, then the merge. What follows the script's name goes to GNU parallel:",
        '# --sshloginfile HOSTS --workdir "$PWD", where all hosts have this folder.',
        enter(job),
        f"export {_SPEC}={shell_word(job.target)} {SIZE_VARIABLE}={job.tasks}",
        f"seq {job.tasks} | parallel {options} \"$@\" '{task}' &&",
        f"    {command(job.merge_words(shell_word(job.target)))}",
    )


def _options(job: ArrayJob) -> Iterator[str]:
    # -N0: the numbers are only there to be counted, not to be appended.
    yield from ("-N0", "--halt soon,fail=1", f"--env {_SPEC} --env {SIZE_VARIABLE}")
    if job.options.parallelism is not None:
        yield f"--jobs {job.options.parallelism}"
    if job.options.retries is not None:
        yield f"--retries {job.options.retries + 1}"
    if job.options.time_limit is not None:
        yield f"--timeout {job.options.time_limit}"


ENGINE = Engine(
    title="GNU parallel",
    needs=frozenset(),
    takes=frozenset({"tasks", "parallelism", "retries", "time_limit"}),
    most_tasks=_MOST_TASKS,
    usual_tasks=_MOST_TASKS,
    array=_array,
    start="bash {file}",
)
