"""Requests to AWS Batch: a job definition, the array job that runs it, and the job that merges."""

from __future__ import annotations

import json
import re
from typing import Any

from logist.array_jobs.job import HOPELESS, MOUNT, ArrayJob, Engine, check_range, whole_cpus
from logist.errors import UsageProblem

TITLE = "AWS Batch"
_MOST_TASKS = 10_000
#: Of 10 attempts the first is no retry.
_MOST_RETRIES = 9
_SHORTEST = 60
#: What the id of the array job, which its submission tells, is put in for. As it stands it is refused.
ARRAY_JOB = "ARRAY_JOB_ID"
_FILE_SYSTEM = re.compile(r"fs-[0-9a-f]{8,40}", re.ASCII)
_QUEUE = re.compile(r"[A-Za-z0-9][\w:/-]*", re.ASCII)

Request = dict[str, Any]


def _array(job: ArrayJob) -> str:
    submitted = _submission(job, job.name)
    if job.tasks > 1:
        # An array of one is refused: that is a plain job.
        submitted["arrayProperties"] = {"size": job.tasks}
    return _written({"registerJobDefinition": _definition(job), "submitJob": submitted})


def _merge(job: ArrayJob) -> str:
    overrides = {"command": _command(job.merge_words(job.mounted_target))}
    return _written(
        {
            **_submission(job, job.merge_name),
            "dependsOn": [{"jobId": ARRAY_JOB}],
            "containerOverrides": overrides,
        }
    )


def _submission(job: ArrayJob, name: str) -> Request:
    queue = job.options.queue or ""
    if not _QUEUE.fullmatch(queue):
        raise UsageProblem(f"--queue {queue[:80]!r} is no job queue", "give its name or its ARN")
    return {"jobName": name, "jobQueue": queue, "jobDefinition": job.name}


def _definition(job: ArrayJob) -> Request:
    check_range("retries", job.retries, 0, _MOST_RETRIES, TITLE)
    check_range("time_limit", job.options.time_limit, _SHORTEST, 2**31 - 1, TITLE)
    limit = job.options.time_limit
    return {
        "jobDefinitionName": job.name,
        "type": "container",
        "platformCapabilities": ["EC2"],
        "containerProperties": _container(job),
        "retryStrategy": {"attempts": job.retries + 1, "evaluateOnExit": _exits()},
        **({} if limit is None else {"timeout": {"attemptDurationSeconds": limit}}),
    }


def _exits() -> list[Request]:
    """What is tried again: what ran on a host that was taken away, and all but what would end in the same way."""
    return [
        {"onStatusReason": "Host EC2*", "action": "RETRY"},
        *({"onExitCode": str(int(code)), "action": "EXIT"} for code in HOPELESS),
        {"onReason": "*", "action": "RETRY"},
    ]


def _container(job: ArrayJob) -> Request:
    resources = {"VCPU": whole_cpus(job, TITLE), "MEMORY": job.memory}
    return {
        "image": job.options.image,
        # What the image starts is Logist itself, and can't be named here.
        "command": _command(job.task_words(job.mounted_target)),
        "environment": job.environment(),
        "resourceRequirements": [{"type": kind, "value": str(amount)} for kind, amount in resources.items()],
        **({} if job.options.volume is None else _mounted(job.options.volume)),
    }


def _command(words: tuple[str, ...]) -> list[str]:
    for word in words:
        if "Ref::" in word:
            raise UsageProblem(
                f"{TITLE} puts a parameter in where {word!r} says Ref::", "rename the spec or its folder"
            )
    return list(words)


def _mounted(given: str) -> Request:
    if not _FILE_SYSTEM.fullmatch(given):
        raise UsageProblem(
            f"--volume {given[:80]!r} is no file system of EFS", "give its id, like fs-0123456789abcdef0"
        )
    file_system = {"fileSystemId": given, "transitEncryption": "ENABLED"}
    return {
        "volumes": [{"name": "job", "efsVolumeConfiguration": file_system}],
        "mountPoints": [{"sourceVolume": "job", "containerPath": MOUNT, "readOnly": False}],
    }


def _written(request: Request) -> str:
    return json.dumps(request, indent=2, ensure_ascii=False) + "\n"


ENGINE = Engine(
    title=TITLE,
    needs=frozenset({"image", "volume", "queue"}),
    takes=frozenset({"name", "tasks", "cpus", "memory", "time_limit", "retries"}),
    most_tasks=_MOST_TASKS,
    usual_tasks=_MOST_TASKS,
    array=_array,
    start='aws batch register-job-definition --cli-input-json "$(jq .registerJobDefinition {file})" && '
    'aws batch submit-job --cli-input-json "$(jq .submitJob {file})"',
    merge=_merge,
    start_merge='aws batch submit-job --cli-input-json "$(cat {file})" --depends-on jobId=ARRAY_JOB_ID',
    containers=True,
)
