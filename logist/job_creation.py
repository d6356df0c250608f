"""Makes a job: its folder, evidence repository and workspace, all or nothing."""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass, field

from logist.clock import Clock
from logist.errors import UsageProblem
from logist.job_files import JobPaths, check_job_id
from logist.job_state import JobStore
from logist.lifecycle import JobStatus
from logist.models.manifest import JobDefinition, JobManifest, Reason, ReasonCode
from logist.processes import boot_id
from logist.runtime import branch_of
from logist.workspace_creation import SourceRequest, create_workspace
from logist.workspace_utils import CommitInfo

_SLUG_LENGTH = 40


@dataclass(frozen=True)
class CreateRequest:
    """What to create. Without `job_id` the id is made from the objective."""

    definition: JobDefinition
    source: SourceRequest = field(default_factory=SourceRequest)
    job_id: str | None = None
    #: What the spec of the first phase must be; None: any sound one.
    spec_sha256: str | None = None


def create_job(store: JobStore, request: CreateRequest, clock: Clock) -> JobManifest:
    """Create the job and return its first manifest.

    Raises UsageProblem when the id is taken or bad, a job that it needs is not there, the source is no repository or
    folder, or a render that comes first has no spec there; InvalidFile when that spec or a needed job is not sound.
    Nothing is left then.
    """
    for needed in request.definition.needs:
        store.load(needed)
    job_id = check_job_id(request.job_id) if request.job_id else _free_id(store, request.definition.objective)

    def build(paths: JobPaths) -> JobManifest:
        now = clock.now()
        info = CommitInfo(
            author="logist", message=f"baseline of job {job_id}\n\nLogist-Job: {job_id}\nLogist-Step: 0\n", at=now
        )
        created = create_workspace(paths.repo, paths.workspace, branch_of(job_id), source=request.source, info=info)
        tree = created.workspace.tree_of(created.baseline)
        created.workspace.close()
        _check_first_render(request, paths)
        return JobManifest(
            id=job_id,
            seq=0,
            created_at=now,
            updated_at=now,
            job=request.definition,
            source=created.source,
            seed=secrets.token_hex(16),
            status=JobStatus.PENDING,
            reason=Reason(code=ReasonCode.CREATED, sentence="created; not run yet"),
            budget=request.definition.budget,
            baseline=created.baseline,
            head=created.baseline,
            tree=tree,
            phase_tree=tree,
            boot_id=boot_id(),
        )

    return store.create(job_id, build)


def _check_first_render(request: CreateRequest, paths: JobPaths) -> None:
    """A job that begins with a render needs its spec, and a sound one. Raises UsageProblem, InvalidFile."""
    spec = request.definition.phases[0].spec
    if spec is None:
        return
    # Imported here: most jobs render nothing.
    from logist.render_turn import load_workspace_spec

    loaded = load_workspace_spec(paths.workspace, spec)
    if request.spec_sha256 not in (None, loaded.sha256):
        raise UsageProblem(
            f"{spec} is not what the source has committed: the job would render another spec than the one named",
            "commit it, or name the commit to start from with --revision",
        )


def _free_id(store: JobStore, objective: str) -> str:
    slug = slug_of(objective)
    taken = set(store.ids())
    candidates = (slug if number == 1 else f"{slug}-{number}" for number in range(1, 10_000))
    for candidate in candidates:
        if candidate not in taken:
            return candidate
    raise UsageProblem(f"10,000 jobs are named like {slug}", "give the job a name of its own with --id")


def slug_of(text: str) -> str:
    """A job id made from words: lower case, hyphens, at most 40 characters, cut at a word."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    slug = ""
    for word in words:
        longer = f"{slug}-{word}" if slug else word[:_SLUG_LENGTH]
        if len(longer) > _SLUG_LENGTH:
            break
        slug = longer
    return slug or "job"
