"""`logist export-job --target`: definitions of arrays, what their tasks do, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest
import yaml
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator
from hypothesis import example, given
from hypothesis import strategies as st
from slurm_site import missing_programs, running_site
from specs import runs, spec, text_spec, video_spec, write_spec

from logist.array_jobs import TARGETS, engine_of
from logist.array_jobs.block_yaml import to_yaml
from logist.array_jobs.job import ArrayOptions, array_job, parse_memory
from logist.cli import run
from logist.render.media import check

IMAGE = "registry.example/logist:1"
#: What each engine can't do without.
NEEDED: dict[str, tuple[str, ...]] = {
    "slurm": (),
    "parallel": (),
    "k8s": ("--image", IMAGE, "--volume", "films"),
    "cloud-run": ("--image", IMAGE, "--volume", "films-bucket"),
    "aws-batch": ("--image", IMAGE, "--volume", "fs-0123456789abcdef0", "--queue", "spot"),
}
CONTAINERS = ("k8s", "cloud-run", "aws-batch")
HERE = str(Path(sys.executable).parent)


class Outcome(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Logist = Callable[..., Outcome]


@pytest.fixture
def logist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Logist:
    """Run `logist …` in `tmp_path`, in this process."""
    monkeypatch.chdir(tmp_path)

    def logist(*arguments: str) -> Outcome:
        code = run(arguments)
        out, err = capfdbinary.readouterr()
        return Outcome(code, out.decode(), err.decode())

    return logist


def export(logist: Logist, target: str, *arguments: str, file: str = "job.json") -> str:
    """The definition for `target`, with all that it needs."""
    done = logist("export-job", file, "--target", target, *NEEDED[target], *arguments)
    assert (done.code, done.err) == (0, ""), done
    return done.out


def refused(outcome: Outcome, *words: str, code: int = 2) -> None:
    """One `Error:` line, one `Hint:` line, nothing else."""
    assert (outcome.code, outcome.out) == (code, ""), outcome
    error, hint = outcome.err.splitlines()
    assert (error[:7], hint[:6]) == ("Error: ", "Hint: ")
    for word in words:
        assert word in outcome.err


# --- Every chunk once ----------------------------------------------------------------------------------------------


class Task(NamedTuple):
    """What an engine runs in a container: the words behind `logist`, and the variables."""

    words: list[str]
    variables: dict[str, str]


def container_tasks(target: str, definition: str) -> list[Task]:
    """The tasks of an array, with the index variable that the engine sets for each."""
    if target == "aws-batch":
        document = json.loads(definition)
        container = document["registerJobDefinition"]["containerProperties"]
        size = document["submitJob"].get("arrayProperties", {}).get("size")
        env, words, index = container["environment"], container["command"], "AWS_BATCH_JOB_ARRAY_INDEX"
    else:
        document = yaml.safe_load(definition)["spec"]
        indexed = target == "k8s"
        size = document["completions"] if indexed else document["template"]["spec"]["taskCount"]
        container = containers_of(definition)[0]
        assert container["command"] == ["logist"]
        env, words = container["env"], container["args"]
        index = "JOB_COMPLETION_INDEX" if indexed else "CLOUD_RUN_TASK_INDEX"
    variables = {each["name"]: each["value"] for each in env}
    if size is None:
        return [Task(words, variables)]
    return [Task(words, {**variables, index: str(place)}) for place in range(size)]


def containers_of(definition: str) -> list[dict[str, Any]]:
    template = yaml.safe_load(definition)["spec"]["template"]["spec"]
    return template.get("containers") or template["template"]["spec"]["containers"]


def merge_words(target: str, definition: str) -> list[str]:
    if target == "aws-batch":
        return json.loads(definition)["containerOverrides"]["command"]
    return containers_of(definition)[0]["args"]


@pytest.mark.parametrize("tasks", [None, 3, 1], ids=str)
@pytest.mark.parametrize("target", CONTAINERS)
def test_the_tasks_of_a_container_engine_make_every_chunk_once_and_the_merge_joins_them(
    logist: Logist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, tasks: int | None
) -> None:
    write_spec(tmp_path, text_spec(5))
    asked = () if tasks is None else ("--tasks", str(tasks))
    array = container_tasks(target, export(logist, target, *asked))
    assert len(array) == (tasks or 5)
    for task in array:
        with monkeypatch.context() as variables:
            for name, value in task.variables.items():
                variables.setenv(name, value)
            assert logist(*mounted(task.words, tmp_path)).code == 0
    assert [runs(tmp_path, number) for number in range(5)] == [1] * 5
    assert logist(*mounted(merge_words(target, export(logist, target, "--merge")), tmp_path)).code == 0
    assert (tmp_path / "all.txt").read_text() == "".join(f"chunk {number}\n" for number in range(5))


def mounted(words: list[str], folder: Path) -> list[str]:
    """The command as it would find the volume that holds `folder`."""
    return [word.replace("/job/", f"{folder}/") if word.startswith("/job/") else word for word in words]


@pytest.mark.parametrize("tasks", [None, 2], ids=str)
def test_the_tasks_of_slurm_make_every_chunk_once_and_the_merge_joins_them(
    logist: Logist, tmp_path: Path, tasks: int | None
) -> None:
    write_spec(tmp_path, text_spec(3))
    asked = () if tasks is None else ("--tasks", str(tasks))
    script = export(logist, "slurm", *asked)
    assert f"#SBATCH --array=0-{(tasks or 3) - 1}\n" in script
    for index in range(tasks or 3):
        run_script(script, tmp_path, SLURM_ARRAY_TASK_ID=str(index))
    assert [runs(tmp_path, number) for number in range(3)] == [1] * 3
    run_script(export(logist, "slurm", "--merge"), tmp_path)
    assert (tmp_path / "all.txt").read_text() == "chunk 0\nchunk 1\nchunk 2\n"


def run_script(script: str, folder: Path, *arguments: str, **variables: str) -> None:
    """Run a script as an engine does, elsewhere than where it was written."""
    environ = {**os.environ, "PATH": f"{HERE}:{os.environ['PATH']}", **variables}
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "script").write_text(script)
    line = ["bash", "script", *arguments]
    ran = subprocess.run(line, cwd=elsewhere, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_task_of_slurm_can_be_run_again_alone(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(4))
    # As `sbatch --array=1` sets them.
    alone = {f"SLURM_ARRAY_TASK_{name}": "1" for name in ("ID", "MIN", "MAX", "COUNT")}
    run_script(export(logist, "slurm", "--tasks", "2"), tmp_path, **alone)
    assert [runs(tmp_path, number) for number in range(4)] == [0, 1, 0, 1]


@pytest.mark.slow  # A Slurm is started for it.
@pytest.mark.skipif(bool(missing_programs()), reason="Slurm is not installed")
def test_slurm_itself_runs_the_array_and_the_merge_after_it(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, video_spec([2, 3, 2, 2]))
    options = ("--tasks", "3", "--parallelism", "2", "--time-limit", "5m")
    for kind in ((), ("--merge",)):
        done = logist("export-job", "job.json", "--target", "slurm", *options, *kind, "-o", f"array{''.join(kind)}")
        assert done.code == 0, done
    (tmp_path / "site").mkdir()
    with running_site(tmp_path / "site") as site:
        site = site._replace(environ={**site.environ, "PATH": f"{HERE}:{site.environ['PATH']}"})
        array = site.call("sbatch", "--parsable", "array")
        site.call("sbatch", "--parsable", "--wait", f"--dependency=afterok:{array}", "array--merge")
    assert [runs(tmp_path, number) for number in range(4)] == [1] * 4
    assert check(tmp_path / "final.mp4", frames=9) is None


@pytest.fixture
def parallel(tmp_path: Path) -> dict[str, str]:
    """The variables with which `parallel` is found: GNU's, or where it is not installed a loop that counts like it."""
    if shutil.which("parallel"):
        return {}
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "parallel").write_text(
        '#!/bin/bash\nwhile read -r PARALLEL_SEQ; do export PARALLEL_SEQ; bash -c "${!#}" </dev/null || exit; done\n'
    )
    (programs / "parallel").chmod(0o755)
    return {"PATH": f"{programs}:{HERE}:{os.environ['PATH']}"}


def test_the_script_of_gnu_parallel_makes_a_whole_video(
    logist: Logist, tmp_path: Path, parallel: dict[str, str]
) -> None:
    write_spec(tmp_path, video_spec([3, 4, 2]))
    options = ("--tasks", "2", "--parallelism", "2", "--retries", "1", "--time-limit", "10m")
    run_script(export(logist, "parallel", *options), tmp_path, **parallel)
    assert [runs(tmp_path, number) for number in range(3)] == [1] * 3
    assert check(tmp_path / "final.mp4", frames=9) is None


def test_the_script_of_gnu_parallel_does_not_merge_what_is_not_whole(
    logist: Logist, tmp_path: Path, parallel: dict[str, str]
) -> None:
    write_spec(tmp_path, spec(["true", "false"], merge="touch merged", output="merged"))
    script = export(logist, "parallel")
    with pytest.raises(AssertionError):
        run_script(script, tmp_path, **parallel)
    assert not (tmp_path / "merged").exists()


# --- Names that are not words --------------------------------------------------------------------------------------

EVIL_FOLDER = "a b'$(touch pwned)\"\n{}`touch pwned`"
EVIL_SPEC = "-$HOME {}; 'touch pwned' \n#.json"


def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / EVIL_FOLDER
    folder.mkdir()
    write_spec(folder, text_spec(2), EVIL_SPEC)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("target", ["slurm", "parallel"])
def test_a_script_reads_hostile_names_as_they_are(
    logist: Logist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: dict[str, str], target: str
) -> None:
    folder = evil(tmp_path, monkeypatch)
    script = export(logist, target, file=f"./{EVIL_SPEC}")
    assert all(line.isprintable() for line in script.splitlines())
    if target == "slurm":
        for index in range(2):
            run_script(script, tmp_path, SLURM_ARRAY_TASK_ID=str(index))
        script = export(logist, target, "--merge", file=f"./{EVIL_SPEC}")
    run_script(script, tmp_path, **parallel)
    assert [runs(folder, number) for number in range(2)] == [1, 1]
    assert (folder / "all.txt").exists()
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("target", CONTAINERS)
def test_a_container_is_handed_hostile_names_as_they_are(
    logist: Logist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    evil(tmp_path, monkeypatch)
    definition = export(logist, target, file=f"./{EVIL_SPEC}")
    words = container_tasks(target, definition)[0].words
    # Kubernetes reads $$ as a dollar sign, and puts variables in for $(NAME).
    assert words[2].replace("$$", "$" if target == "k8s" else "$$") == f"/job/{EVIL_SPEC}"
    named = yaml.safe_load(definition)
    assert (named.get("registerJobDefinition", {}).get("jobDefinitionName") or named["metadata"]["name"]) == (
        "home-touch-pwned"
    )


def test_kubernetes_puts_no_variable_into_a_name(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(2), "$(HOME)$$.json")
    words = container_tasks("k8s", export(logist, "k8s", file="$(HOME)$$.json"))[0].words
    assert words[2] == "/job/$$(HOME)$$$$.json"


@pytest.mark.parametrize("target", ["slurm", "parallel"])
def test_a_script_has_no_syntax_error(logist: Logist, tmp_path: Path, hostile_names: list[str], target: str) -> None:
    for name in hostile_names:
        file = f"{name[:200]}.json"
        write_spec(tmp_path, text_spec(2), file)
        # SC2016: a variable stands in single quotes because the tasks' own shells are to read it.
        checked = ["bash", "-n"], ["shellcheck", "--shell=bash", "--exclude=SC2016", "-"]
        for line in checked if shutil.which("shellcheck") and name == hostile_names[0] else checked[:1]:
            script = export(logist, target, file=f"./{file}").encode()
            ran = subprocess.run(line, input=script, capture_output=True, check=False)
            assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


# --- The published schemas -----------------------------------------------------------------------------------------

#: Everything that may be said, and as little as may be.
SAID = {
    "k8s": ("--parallelism", "2", "--cpus", "0.5", "--memory", "8G", "--time-limit", "2h", "--retries", "0"),
    "aws-batch": ("--cpus", "4", "--memory", "8G", "--time-limit", "2h", "--retries", "9", "--name", "a-film"),
}


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize("merge", [(), ("--merge",)], ids=str)
@pytest.mark.parametrize("said", [(), SAID["k8s"], ("--tasks", "1", "--volume", "nfs.example:/films")], ids=str)
def test_a_kubernetes_job_is_valid(
    logist: Logist, tmp_path: Path, said: tuple[str, ...], merge: tuple[str, ...], version: str
) -> None:
    write_spec(tmp_path, text_spec(25))
    document = yaml.safe_load(export(logist, "k8s", *said, *merge))
    assert document["apiVersion"] == "batch/v1"
    kubernetes_validate.validate(document, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {**document, "spec": {**document["spec"], "complletions": 1}}, version, strict=True
        )


def test_a_kubernetes_job_counts_failures_of_each_index_and_not_those_of_nodes(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(25))
    job = yaml.safe_load(export(logist, "k8s"))["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 25, 25)
    assert (job["backoffLimitPerIndex"], job["maxFailedIndexes"]) == (3, 2)
    assert job["template"]["spec"]["restartPolicy"] == "Never"
    ignored, hopeless = job["podFailurePolicy"]["rules"]
    assert (ignored["action"], ignored["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (hopeless["action"], hopeless["onExitCodes"]["values"]) == ("FailJob", [2, 78])


BATCH = ServiceModel(Loader().load_service_model("batch", "service-2"))


def problems_of(operation: str, request: dict[str, Any]) -> list[str]:
    """What the published model of the API has against a request; words of its enumerations are checked, too."""
    shape = BATCH.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    return [report.generate_report()] if report.has_errors() else list(unknown_words(shape, request))


def unknown_words(shape: Shape, value: Any) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, member in value.items():
            yield from unknown_words(shape.members[name], member)
    elif shape.type_name == "list":
        for member in value:
            yield from unknown_words(shape.member, member)
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{value} is none of {shape.enum}"


@pytest.mark.parametrize("said", [(), SAID["aws-batch"], ("--tasks", "1")], ids=str)
def test_the_requests_to_aws_batch_are_valid(logist: Logist, tmp_path: Path, said: tuple[str, ...]) -> None:
    write_spec(tmp_path, text_spec(3))
    document = json.loads(export(logist, "aws-batch", *said))
    assert problems_of("RegisterJobDefinition", document["registerJobDefinition"]) == []
    assert problems_of("SubmitJob", document["submitJob"]) == []
    assert problems_of("SubmitJob", json.loads(export(logist, "aws-batch", *said, "--merge"))) == []
    assert problems_of("SubmitJob", {**document["submitJob"], "queue": "q"})
    assert problems_of("RegisterJobDefinition", {**document["registerJobDefinition"], "type": "pod"})


def test_a_host_that_is_taken_away_costs_aws_batch_a_retry_and_a_bad_spec_none(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(3))
    document = json.loads(export(logist, "aws-batch"))
    strategy = document["registerJobDefinition"]["retryStrategy"]
    assert strategy["attempts"] == 4
    assert strategy["evaluateOnExit"][0] == {"onStatusReason": "Host EC2*", "action": "RETRY"}
    assert [each["onExitCode"] for each in strategy["evaluateOnExit"] if each["action"] == "EXIT"] == ["2", "78"]
    assert document["submitJob"]["arrayProperties"] == {"size": 3}


def test_the_merge_of_aws_batch_waits_for_the_array_and_is_refused_before_it_is_named(
    logist: Logist, tmp_path: Path
) -> None:
    write_spec(tmp_path, text_spec(3))
    merge = json.loads(export(logist, "aws-batch", "--merge"))
    assert merge["dependsOn"] == [{"jobId": "ARRAY_JOB_ID"}]
    assert (merge["jobName"], merge["jobDefinition"]) == ("job-merge", "job")


def test_one_chunk_is_no_array_to_aws_batch(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(1))
    assert "arrayProperties" not in json.loads(export(logist, "aws-batch"))["submitJob"]


def test_a_job_of_cloud_run_says_how_its_tasks_are_run(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(8))
    said = ("--parallelism", "3", "--retries", "1", "--time-limit", "90m", "--cpus", "4", "--memory", "8G")
    document = yaml.safe_load(export(logist, "cloud-run", *said))
    assert (document["apiVersion"], document["kind"]) == ("run.googleapis.com/v1", "Job")
    execution = document["spec"]["template"]["spec"]
    task = execution.pop("template")["spec"]
    assert execution == {"taskCount": 8, "parallelism": 3}
    assert (task["maxRetries"], task["timeoutSeconds"]) == (1, "5400")
    assert task["containers"][0]["resources"] == {"limits": {"cpu": "4", "memory": "8192Mi"}}
    assert task["volumes"][0]["csi"]["volumeAttributes"] == {"bucketName": "films-bucket"}


def test_a_script_for_slurm_says_how_its_tasks_are_run(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(8))
    said = ("--parallelism", "3", "--time-limit", "121s", "--cpus", "4", "--memory", "8G", "--queue", "long")
    directives = {line for line in export(logist, "slurm", *said).splitlines() if line.startswith("#SBATCH")}
    assert directives == {
        "#SBATCH --job-name=job",
        "#SBATCH --array=0-7%3",
        "#SBATCH --output=%x-%A_%a.log",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:TERM@60",
        "#SBATCH --partition=long",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --mem=8192M",
        "#SBATCH --time=3",
    }


def test_a_task_of_slurm_that_is_to_be_short_is_not_told_to_stop_as_it_begins(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(2))
    script = export(logist, "slurm", "--time-limit", "2m")
    assert "#SBATCH --time=2\n" in script
    assert "--signal" not in script


# --- How long an array is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "chunks", "tasks"),
    [
        ("slurm", 1001, 1001),
        ("slurm", 1002, 1001),
        ("k8s", 100_000, 10_000),
        ("aws-batch", 10_001, 10_000),
        ("cloud-run", 10_001, 10_000),
        ("parallel", 100_000, 100_000),
        ("aws-batch", 1, 1),
    ],
)
def test_an_array_is_no_longer_than_the_engine_takes(target: str, chunks: int, tasks: int) -> None:
    options = ArrayOptions(image="x" if target in CONTAINERS else None, volume="x" if target in CONTAINERS else None)
    if target == "aws-batch":
        options = ArrayOptions(image="x", volume="x", queue="x")
    assert array_job(engine_of(target), "job.json", "/films", chunks, options).tasks == tasks


def test_no_more_tasks_run_at_once_than_there_are(logist: Logist, tmp_path: Path) -> None:
    write_spec(tmp_path, text_spec(8))
    assert "#SBATCH --array=0-3%4\n" in export(logist, "slurm", "--tasks", "4", "--parallelism", "900")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Film.json", "film"),
        ("a b_c.json", "a-b-c"),
        ("7.json", "job-7"),
        (".json", "job"),
        ("über.json", "ber"),
        (f"{'x' * 100}.json", "x" * 40),
        (f"{'x' * 39}-y.json", "x" * 39),
    ],
)
def test_a_job_is_called_as_its_spec_in_letters_that_every_engine_takes(
    logist: Logist, tmp_path: Path, file: str, name: str
) -> None:
    write_spec(tmp_path, text_spec(2), file)
    assert yaml.safe_load(export(logist, "k8s", file=file))["metadata"]["name"] == name


# --- Where the spec comes from -------------------------------------------------------------------------------------


def test_a_composition_is_cut_and_its_spec_written_beside_the_definition(logist: Logist, tmp_path: Path) -> None:
    (tmp_path / "film").mkdir()
    (tmp_path / "film" / "index.html").write_text("<canvas>")
    flags = ("--frame-count", "50", "--shards", "7", "--width", "64", "--output", "film.mp4")
    done = logist("export-job", "film", *flags, "--target", "slurm", "--spec", "film.json", "-o", "film.sbatch")
    assert (done.code, done.out) == (0, "")
    assert "film.sbatch: 7 chunks of film.json in 7 tasks; start it: sbatch film.sbatch" in done.err
    assert "#SBATCH --array=0-6\n" in (tmp_path / "film.sbatch").read_text()
    emitted = logist("render", "film", *flags[:-2], "-o", "film.mp4", "--emit-job", "-")
    assert (tmp_path / "film.json").read_text() == emitted.out


def test_outputs_out_of_the_folder_are_allowed_to_the_tasks_too(logist: Logist, tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    write_spec(tmp_path / "jobs", spec(["true"], outputs=["../out.txt"]))
    refused(logist("export-job", "jobs/job.json", "--target", "slurm"), "--allow-outside", code=78)
    script = export(logist, "slurm", "--allow-outside", file="jobs/job.json")
    assert "logist job run jobs/job.json --allow-outside --chunk auto --no-merge\n" in script
    (tmp_path / "page.html").write_text("<canvas>")
    planned = logist("export-job", "page.html", "--target", "parallel", "--spec", "jobs/film.json")
    assert planned.out.count("--allow-outside") == 2


@pytest.mark.parametrize("target", CONTAINERS)
def test_with_a_storage_tasks_share_no_folder(
    logist: Logist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    for folder in ("project", "worker", "anywhere"):
        (tmp_path / folder).mkdir()
    write_spec(tmp_path / "project", text_spec(3))
    monkeypatch.chdir(tmp_path / "project")
    needed = [word for word in NEEDED[target] if word not in ("--volume", NEEDED[target][3])]
    done = logist("export-job", "job.json", "--target", target, *needed, "--tasks", "2", "--storage", "../storage")
    assert (done.code, "/job" in done.out) == (0, False)
    (tmp_path / "project").rename(tmp_path / "gone")
    monkeypatch.chdir(tmp_path / "worker")
    for task in container_tasks(target, done.out):
        with monkeypatch.context() as variables:
            for name, value in task.variables.items():
                variables.setenv(name, value)
            assert logist(*task.words).code == 0
    monkeypatch.chdir(tmp_path / "anywhere")
    assert logist("job", "run", task.words[2], "--trust", "--merge-only").code == 0
    [merged] = (tmp_path / "anywhere").rglob("all.txt")
    assert merged.read_text() == "chunk 0\nchunk 1\nchunk 2\n"


def test_with_a_storage_the_script_of_gnu_parallel_brings_the_video(
    logist: Logist, tmp_path: Path, parallel: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    write_spec(tmp_path / "project", text_spec(2))
    monkeypatch.chdir(tmp_path / "project")
    wanted = ("export-job", "job.json", "--target", "parallel", "--storage", "../storage", "-o", "../job.sh")
    assert "start it: bash ../job.sh" in logist(*wanted).err
    run_script((tmp_path / "job.sh").read_text(), tmp_path, **parallel)
    assert [path.read_text() for path in (tmp_path / "project").rglob("all.txt")] == ["chunk 0\nchunk 1\n"]


def test_the_address_to_merge_from_is_told(logist: Logist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    write_spec(tmp_path / "project", text_spec(2))
    monkeypatch.chdir(tmp_path / "project")
    told = logist("export-job", "job.json", "--target", "slurm", "--storage", "../storage", "-o", "job.sbatch").err
    address = re.search(r"then the merge: logist job run (\S+) --trust --merge-only\n", told)
    assert address is not None
    assert f"logist job run {address[1]} --trust --chunk auto --no-merge\n" in Path("job.sbatch").read_text()


def test_what_is_refused_writes_nothing(logist: Logist, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<canvas>")
    before = sorted(tmp_path.iterdir())
    refused(logist("export-job", "page.html", "--target", "k8s", "--spec", "film.json"), "needs --image")
    assert sorted(tmp_path.iterdir()) == before


# --- Bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("job.json", "--image", IMAGE), ("--image is for --target",)),
        (("job.json", "--merge"), ("--merge is for --target",)),
        (("job.json", "--storage", "../s"), ("--storage is for --target",)),
        (("job.json", "--target", "slurm", "--merge", "--storage", "../s"), ("no task merges", "--merge-only")),
        (("job.json", "--target", "slurm", "--allow-outside", "--storage", "../s"), ("no output lies outside",)),
        (("job.json", "--target", "k8s", *NEEDED["k8s"], "--storage", "../s"), ("exclude each other",)),
        (("job.json", "--target", "k8s", "--storage", "../s"), ("Kubernetes needs --image",)),
        (("job.json", "--spec", "x.json"), ("--spec is for --target",)),
        (("gone.json", "--target", "slurm"), ("there is no file gone.json",)),
        (("https://host/job.json", "--target", "slurm"), ("no file that tasks could read",)),
        (("job.json", "--target", "slurm", "--shards", "2"), ("--shards is for a composition",)),
        (("job.json", "--target", "slurm", "--concurrency", "2"), ("--concurrency", "--parallelism")),
        (("job.json", "--target", "slurm", "--spec", "x.json"), ("--spec is for a composition",)),
        (("job.json", "--target", "slurm", "-o", "job.json"), ("job.json is the spec",)),
        (("job.json", "--target", "lsf"), ("lsf",)),
        (("page.html", "--target", "slurm"), ("--spec film.json",)),
        (("page.html", "--target", "slurm", "--spec", "-"), ("--spec film.json",)),
        (("gone", "--target", "slurm", "--spec", "x.json"), ("there is no composition gone",)),
        (("job.json", "--target", "slurm", "--image", IMAGE), ("--image means nothing to Slurm", "--queue")),
        (("job.json", "--target", "slurm", "--retries", "1"), ("--retries means nothing to Slurm",)),
        (("job.json", "--target", "slurm", "--queue", "a b"), ("is no name of a partition",)),
        (("job.json", "--target", "slurm", "--queue", "a\n#SBATCH -x"), ("is no name of a partition",)),
        (("job.json", "--target", "slurm", "--cpus", "1.5"), ("whole processors, not 1.5",)),
        (("job.json", "--target", "slurm", "--tasks", "4"), ("--tasks 4 is more than the 3 chunks",)),
        (("job.json", "--target", "slurm", "--tasks", "0"), ("--tasks",)),
        (("job.json", "--target", "slurm", "--name", "Film"), ("--name 'Film'", "a-z")),
        (("job.json", "--target", "slurm", "--name", "a\n#SBATCH -x"), ("--name",)),
        (("job.json", "--target", "slurm", "--name", "x" * 41), ("at most 40",)),
        (("job.json", "--target", "slurm", "--memory", "4"), ("write it like 512M or 4G",)),
        (("job.json", "--target", "slurm", "--memory", "0G"), ("write it like 512M or 4G",)),
        (("job.json", "--target", "slurm", "--time-limit", "soon"), ("45s, 30m or 1h30m",)),
        (("job.json", "--target", "slurm", "--time-limit", "0"), ("--time-limit from 1",)),
        (("job.json", "--target", "k8s", *NEEDED["k8s"], "--time-limit", "99y"), ("--time-limit",)),
        (("job.json", "--target", "k8s", *NEEDED["k8s"], "--cpus", "nan"), ("is not a number of processors",)),
        (("job.json", "--target", "k8s", *NEEDED["k8s"], "--cpus", "0"), ("from 0.1 to 1024",)),
        (("job.json", "--target", "k8s", *NEEDED["k8s"], "--memory", "99999999999G"), ("512M or 4G",)),
        (("job.json", "--target", "parallel", "--merge"), ("GNU parallel merges, too",)),
        (("job.json", "--target", "parallel", "--memory", "1G"), ("--memory means nothing to GNU parallel",)),
        (("job.json", "--target", "k8s"), ("Kubernetes needs --image",)),
        (("job.json", "--target", "k8s", "--image", IMAGE), ("Kubernetes needs --volume",)),
        (("job.json", "--target", "k8s", "--image", "a b", "--volume", "x"), ("is no name of an image",)),
        (("job.json", "--target", "k8s", "--image", IMAGE, "--volume", "My Films"), ("PersistentVolumeClaim",)),
        (("job.json", "--target", "k8s", "--queue", "x"), ("--queue means nothing to Kubernetes",)),
        (("job.json", "--target", "cloud-run", *NEEDED["cloud-run"], "--cpus", "3"), ("no 3 processors", "1, 2, 4")),
        (("job.json", "--target", "cloud-run", *NEEDED["cloud-run"], "--memory", "64G"), ("512M to 8192M",)),
        (("job.json", "--target", "cloud-run", *NEEDED["cloud-run"], "--retries", "11"), ("from 0 to 10",)),
        (("job.json", "--target", "cloud-run", *NEEDED["cloud-run"], "--time-limit", "8d"), ("to 604800",)),
        (("job.json", "--target", "cloud-run", "--image", IMAGE, "--volume", "?"), ("a bucket",)),
        (("job.json", "--target", "aws-batch", "--image", IMAGE, "--volume", "fs-01234567"), ("needs --queue",)),
        (("job.json", "--target", "aws-batch", *NEEDED["aws-batch"], "--retries", "10"), ("from 0 to 9",)),
        (("job.json", "--target", "aws-batch", *NEEDED["aws-batch"], "--time-limit", "59s"), ("from 60",)),
        (("job.json", "--target", "aws-batch", *NEEDED["aws-batch"], "--parallelism", "2"), ("means nothing",)),
        (("job.json", "--target", "aws-batch", *NEEDED["aws-batch"], "--volume", "films"), ("file system of EFS",)),
        (("Ref::x.json", "--target", "aws-batch", *NEEDED["aws-batch"]), ("puts a parameter in",)),
        (("../job.json", "--target", "k8s", *NEEDED["k8s"]), ("out of the current folder",)),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, tuple) else None,
)
def test_what_no_engine_could_run_is_refused(
    logist: Logist, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "page.html").write_text("<canvas>")
    for file in (here / "job.json", here / "Ref::x.json", tmp_path / "job.json"):
        write_spec(file.parent, text_spec(3), file.name)
    before = sorted(tmp_path.rglob("*"))
    refused(logist("export-job", *arguments), *words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_spec_that_is_not_sound_is_refused(logist: Logist, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}")
    refused(logist("export-job", "job.json", "--target", "slurm"), "job.json", code=78)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("chunks", "tasks"), [(200_000, 100_001), (10**8, 10**7)])
def test_an_array_that_is_too_long_is_refused_with_how_long_it_may_be(
    logist: Logist, target: str, chunks: int, tasks: int
) -> None:
    engine = engine_of(target)
    options = ArrayOptions(**dict.fromkeys(engine.needs, "x"), tasks=tasks)
    if tasks <= engine.most_tasks:
        assert array_job(engine, "job.json", "/films", chunks, options).tasks == tasks
        return
    with pytest.raises(Exception, match=f"--tasks {tasks} is more than {engine.title} takes") as caught:
        array_job(engine, "job.json", "/films", chunks, options)
    assert str(engine.most_tasks) in caught.value.hint


@pytest.mark.parametrize(
    ("text", "mebibytes"), [("512M", 512), ("4G", 4096), ("4GiB", 4096), ("4gb", 4096), ("4Gi", 4096)]
)
def test_memory_is_counted_in_mebibytes(text: str, mebibytes: int) -> None:
    assert parse_memory(text) == mebibytes


# --- YAML ----------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NODES = st.recursive(
    TEXT | st.integers() | st.booleans(),
    lambda node: st.lists(node) | st.dictionaries(TEXT, node),
)


@given(node=NODES)
@example(node={"no": ["yes", "1e3", "0x1f", "~", "null", "", "- a", "a: b", "a #b", "1:30", "2024-01-01", "=", "<<"]})
@example(node=["\u2028\x85\ufeff\x7f\U0001f3ac\t\n\"\\'", [[], {}], {"a": {}}, [["a"], ["b"]]])
def test_yaml_is_read_back_as_it_was_meant(node: Any) -> None:
    assert yaml.safe_load(to_yaml(node)) == node
