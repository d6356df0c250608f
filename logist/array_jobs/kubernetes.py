"""An Indexed Job of Kubernetes 1.29 or newer, and the Job that merges."""

from __future__ import annotations

import re

from logist.array_jobs.block_yaml import Node, to_yaml
from logist.array_jobs.job import HOPELESS, LOGIST, MOUNT, ArrayJob, Engine
from logist.array_jobs.volumes import network_folder
from logist.errors import UsageProblem

TITLE = "Kubernetes"
#: The API server takes no more where failures are counted for each index.
_MOST_TASKS = 100_000
#: Each is a pod that the control plane makes: more of them only where they are asked for.
_USUAL_TASKS = 10_000
#: All pods that may run at the same time are made at once, whether or not there is room for them.
_USUAL_PARALLELISM = 100
#: The user of the worker image: the volume is made writable for it.
_GROUP = 1000
_CONTAINER = "worker"
_CLAIM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)


def _array(job: ArrayJob) -> str:
    indexed: dict[str, Node] = {
        "completionMode": "Indexed",
        "completions": job.tasks,
        "parallelism": job.options.parallelism or min(job.tasks, _USUAL_PARALLELISM),
        "backoffLimitPerIndex": job.retries,
        # Without all chunks there is no video: when many fail, the page does, and not the nodes.
        "maxFailedIndexes": job.tasks // 10,
    }
    pod = _pod(job, job.task_words(job.mounted_target), env=job.environment())
    return f"# {job.summary}\n{to_yaml(_job(job.name, indexed, pod))}"


def _merge(job: ArrayJob) -> str:
    pod = _pod(job, job.merge_words(job.mounted_target))
    return to_yaml(_job(job.merge_name, {"backoffLimit": job.retries}, pod))


def _job(name: str, counts: dict[str, Node], pod: Node) -> Node:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {**counts, "podFailurePolicy": {"rules": _failure_rules()}, "template": {"spec": pod}},
    }


def _failure_rules() -> list[Node]:
    """A pod whose node is taken away failed for no fault of its own; one that can't be run fails all."""
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": _CONTAINER, "operator": "In", "values": [int(code) for code in HOPELESS]},
        },
    ]


def _pod(job: ArrayJob, words: tuple[str, ...], **env: Node) -> Node:
    resources: Node = {"cpu": f"{job.cpus:g}", "memory": f"{job.memory}Mi"}
    limit: dict[str, Node] = {} if job.options.time_limit is None else {"activeDeadlineSeconds": job.options.time_limit}
    mounts: dict[str, Node] = {}
    volumes: dict[str, Node] = {}
    if job.options.volume is not None:
        mounts = {"volumeMounts": [{"name": "job", "mountPath": MOUNT}]}
        volumes = {
            "securityContext": {"fsGroup": _GROUP, "fsGroupChangePolicy": "OnRootMismatch"},
            "volumes": [{"name": "job", **_volume(job.options.volume)}],
        }
    return {
        "restartPolicy": "Never",
        **limit,
        "containers": [
            {
                "name": _CONTAINER,
                "image": job.options.image or "",
                "command": [LOGIST],
                # Kubernetes puts variables in for $(NAME), and reads $$ as a dollar sign.
                "args": [word.replace("$", "$$") for word in words],
                **env,
                "resources": {"requests": resources, "limits": {"memory": f"{job.memory}Mi"}},
                **mounts,
            }
        ],
        **volumes,
    }


def _volume(given: str) -> dict[str, Node]:
    folder = network_folder(given)
    if folder is not None:
        return folder
    if _CLAIM.fullmatch(given):
        return {"persistentVolumeClaim": {"claimName": given}}
    raise UsageProblem(
        f"--volume {given[:80]!r} is nothing that Kubernetes could mount",
        "name a PersistentVolumeClaim, or a folder of NFS as SERVER:/PATH",
    )


ENGINE = Engine(
    title=TITLE,
    needs=frozenset({"image", "volume"}),
    takes=frozenset({"name", "tasks", "parallelism", "cpus", "memory", "time_limit", "retries"}),
    most_tasks=_MOST_TASKS,
    usual_tasks=_USUAL_TASKS,
    array=_array,
    start="kubectl apply -f {file}",
    merge=_merge,
    start_merge="kubectl wait --for=condition=Complete --timeout=-1s job/{name} && kubectl apply -f {file}",
    containers=True,
)
