"""What an attempt left that did not become a step: set aside, recorded, and the workspace put back."""

from __future__ import annotations

from datetime import datetime

from logist import decision
from logist.errors import WorkspaceFailed
from logist.job_state import change
from logist.models.history import AttemptFailed, AttemptFailure
from logist.models.manifest import Role
from logist.models.usage import AgentSession, Usage
from logist.runtime import Session
from logist.workspace_utils import CommitInfo


def ensure_workspace(session: Session) -> bool:
    """Make the workspace anew from the evidence when its folder is gone, or something else stands in its place."""
    workspace = session.paths.workspace
    if workspace.is_dir() and not workspace.is_symlink():
        return False
    try:
        workspace.unlink(missing_ok=True)
        workspace.mkdir()
    except OSError as error:
        raise WorkspaceFailed(
            f"the workspace {workspace} is gone and can't be made anew: {error.strerror}",
            "check that the job's folder is writable and has room",
        ) from error
    session.workspace.restore(session.manifest.head)
    session.notice("the workspace was gone; it was made anew from the evidence")
    return True


def set_aside(
    session: Session, kind: AttemptFailure, detail: str, *, duration: float = 0.0, usage: Usage | None = None
) -> str | None:
    """Keep an unfinished attempt's work under a ref, put the workspace back, and record it. Returns the commit."""
    step, attempt = session.manifest.step + 1, session.manifest.attempt + 1
    salvaged = keep_work(session, step, attempt)
    put_back(session, salvaged)
    record_failure(session, step, attempt, kind, detail, duration, salvage=salvaged, usage=usage)
    if salvaged is not None:
        session.notice(f"unfinished work was kept as {salvaged[:12]} (refs/logist/salvage) and the workspace put back")
    return salvaged


def record_failure(
    session: Session,
    step: int,
    attempt: int,
    kind: AttemptFailure,
    detail: str,
    duration: float,
    *,
    salvage: str | None = None,
    usage: Usage | None = None,
    known: AgentSession | None = None,
    retry_at: datetime | None = None,
) -> None:
    """Record that an attempt came to nothing, in seconds of `duration`.

    `known` is the session that may go on, `retry_at` until when the next attempt is held back.
    """
    role = session.manifest.next_role
    spent = decision.add_usage(session.manifest.spent, duration, usage or Usage())
    session.job.record(
        AttemptFailed(
            step=step,
            attempt=attempt,
            kind=kind,
            detail=detail,
            salvage=salvage,
            duration=round(duration, 3),
            retry_at=retry_at,
            change=change(attempt=attempt, spent=spent, **sessions_after(session, role, known)),
        )
    )


def sessions_after(session: Session, role: Role, known: AgentSession | None) -> dict[str, object]:
    """What changes in the manifest once `role` was heard in the session `known`; None: it has none to go on with."""
    held = session.manifest.sessions
    after = {each: held[each] for each in held if each is not role} | ({} if known is None else {role: known})
    return {} if after == held else {"sessions": after}


def keep_aside(session: Session, step: int, attempt: int, base: str) -> str | None:
    """Keep what the workspace holds beyond `base` under refs/logist/salvage; the commit, None for nothing."""
    info = CommitInfo(
        author="logist",
        message=f"unfinished work of step {step}, attempt {attempt}\n\nLogist-Job: {session.job_id}\n",
        at=session.runtime.clock.now(),
    )
    return session.workspace.salvage(f"{step:04d}.{attempt}", base, info)


def keep_work(session: Session, step: int, attempt: int) -> str | None:
    """Keep what the workspace holds beyond the newest evidence; the commit, None for nothing."""
    return keep_aside(session, step, attempt, session.manifest.head)


def put_back(session: Session, salvaged: str | None) -> None:
    """Make the workspace what the newest evidence is, where anything beyond it was `salvaged`."""
    if salvaged is not None:
        session.workspace.restore(session.manifest.head)
