"""A script for `sbatch`: a job array of Slurm, and the job that merges."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from logist.array_jobs.job import ArrayJob, Engine, whole_cpus
from logist.array_jobs.shell import command, enter, script
from logist.chunk_selection import INDEX_VARIABLE, SIZE_VARIABLE, shell_word
from logist.errors import UsageProblem

TITLE = "Slurm"
#: The highest index is MaxArraySize - 1, and MaxArraySize is 1001 unless the site says otherwise, at most 4000001.
_USUAL_TASKS = 1001
_MOST_TASKS = 4_000_001
#: Seconds before its end that a task is told, so that it can finish the chunk that it is at; it may be twice as early.
_WARNING = 60
_PARTITION = re.compile(r"[\w.,+-]+", re.ASCII)


def _array(job: ArrayJob) -> str:
    throttle = "" if job.options.parallelism is None else f"%{job.options.parallelism}"
    return script(
        f"# {job.summary}; `sbatch --array=I SCRIPT` runs task I again.",
        *_directives(job, job.name, "%x-%A_%a.log"),
        f"#SBATCH --array=0-{job.tasks - 1}{throttle}",
        *_warning(job),
        "",
        enter(job),
        # Slurm's own sizes are those of the array that is run: of an array of one task again they would be wrong.
        f"export {INDEX_VARIABLE}=$SLURM_ARRAY_TASK_ID {SIZE_VARIABLE}={job.tasks}",
        f"exec {command(job.task_words(shell_word(job.target)))}",
    )


def _warning(job: ArrayJob) -> Iterator[str]:
    # A task that is told as it begins would make nothing at all.
    if job.options.time_limit is None or job.options.time_limit > 2 * _WARNING:
        yield f"#SBATCH --signal=B:TERM@{_WARNING}"


def _merge(job: ArrayJob) -> str:
    return script(
        *_directives(job, job.merge_name, "%x-%j.log"),
        "",
        enter(job),
        f"exec {command(job.merge_words(shell_word(job.target)))}",
    )


def _directives(job: ArrayJob, name: str, log: str) -> Iterator[str]:
    options = job.options
    yield f"#SBATCH --job-name={name}"
    yield f"#SBATCH --output={log}"
    # A task that is run again goes on in the same log.
    yield "#SBATCH --open-mode=append"
    yield "#SBATCH --requeue"
    if options.queue is not None:
        if not _PARTITION.fullmatch(options.queue):
            raise UsageProblem(f"--queue {options.queue[:80]!r} is no name of a partition", "`sinfo` lists them")
        yield f"#SBATCH --partition={options.queue}"
    if options.cpus is not None:
        yield f"#SBATCH --cpus-per-task={whole_cpus(job, TITLE)}"
    if options.memory is not None:
        yield f"#SBATCH --mem={options.memory}M"
    if options.time_limit is not None:
        yield f"#SBATCH --time={math.ceil(options.time_limit / 60)}"


ENGINE = Engine(
    title=TITLE,
    needs=frozenset(),
    takes=frozenset({"name", "tasks", "parallelism", "queue", "cpus", "memory", "time_limit"}),
    most_tasks=_MOST_TASKS,
    usual_tasks=_USUAL_TASKS,
    array=_array,
    start="sbatch {file}",
    merge=_merge,
    start_merge="sbatch --dependency=afterok:JOBID {file}",
)
