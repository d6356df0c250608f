"""A job of Cloud Run, as `gcloud run jobs replace` takes it, and the job that merges."""

from __future__ import annotations

import re

from logist.array_jobs.block_yaml import Node, to_yaml
from logist.array_jobs.job import LOGIST, MOUNT, ArrayJob, Engine, check_range, whole_cpus
from logist.array_jobs.volumes import network_folder
from logist.errors import UsageProblem

TITLE = "Cloud Run"
_MOST_TASKS = 10_000
_MOST_RETRIES = 10
_LONGEST = 7 * 24 * 3600
#: Processors of a container, and the MiB that it may have with them.
_SIZES = {1: (512, 4096), 2: (512, 8192), 4: (2048, 16384), 6: (4096, 24576), 8: (4096, 32768)}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", re.ASCII)


def _array(job: ArrayJob) -> str:
    task = _task(job, job.task_words(job.mounted_target), env=job.environment())
    at_once: dict[str, Node] = {}
    if job.options.parallelism is not None:
        at_once = {"parallelism": job.options.parallelism}
    return f"# {job.summary}\n{to_yaml(_job(job.name, {'taskCount': job.tasks, **at_once}, task))}"


def _merge(job: ArrayJob) -> str:
    return to_yaml(_job(job.merge_name, {"taskCount": 1}, _task(job, job.merge_words(job.mounted_target))))


def _job(name: str, counts: dict[str, Node], task: Node) -> Node:
    return {
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": {"spec": {**counts, "template": {"spec": task}}}},
    }


def _task(job: ArrayJob, words: tuple[str, ...], **env: Node) -> Node:
    check_range("retries", job.retries, 0, _MOST_RETRIES, TITLE)
    check_range("time_limit", job.options.time_limit, 1, _LONGEST, TITLE)
    limit = job.options.time_limit
    mounts: dict[str, Node] = {}
    volumes: dict[str, Node] = {}
    if job.options.volume is not None:
        mounts = {"volumeMounts": [{"name": "job", "mountPath": MOUNT}]}
        volumes = {"volumes": [{"name": "job", **_volume(job.options.volume)}]}
    container: Node = {
        "image": job.options.image or "",
        "command": [LOGIST],
        "args": words,
        **env,
        "resources": {"limits": _limits(job)},
        **mounts,
    }
    return {
        "maxRetries": job.retries,
        # 64 bits wide, which JSON's numbers are not.
        **({} if limit is None else {"timeoutSeconds": str(limit)}),
        "containers": [container],
        **volumes,
    }


def _limits(job: ArrayJob) -> Node:
    cpus = whole_cpus(job, TITLE)
    if cpus not in _SIZES:
        raise UsageProblem(f"{TITLE} gives a task no {cpus} processors", f"--cpus takes {', '.join(map(str, _SIZES))}")
    least, most = _SIZES[cpus]
    if not least <= job.memory <= most:
        raise UsageProblem(
            f"{TITLE} gives a task with --cpus {cpus} no {job.memory}M", f"--memory takes {least}M to {most}M there"
        )
    return {"cpu": str(cpus), "memory": f"{job.memory}Mi"}


def _volume(given: str) -> dict[str, Node]:
    folder = network_folder(given)
    if folder is not None:
        return folder
    if _BUCKET.fullmatch(given):
        return {"csi": {"driver": "gcsfuse.run.googleapis.com", "volumeAttributes": {"bucketName": given}}}
    raise UsageProblem(
        f"--volume {given[:80]!r} is nothing that {TITLE} could mount",
        "name a bucket, or a folder of NFS as SERVER:/PATH",
    )


ENGINE = Engine(
    title=TITLE,
    needs=frozenset({"image", "volume"}),
    takes=frozenset({"name", "tasks", "parallelism", "cpus", "memory", "time_limit", "retries"}),
    most_tasks=_MOST_TASKS,
    usual_tasks=_MOST_TASKS,
    array=_array,
    start="gcloud run jobs replace {file} && gcloud run jobs execute {name} --wait",
    merge=_merge,
    start_merge="gcloud run jobs replace {file} && gcloud run jobs execute {name}-merge --wait",
    containers=True,
)
