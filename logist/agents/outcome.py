"""What came of one oneshot by the program's own account, told before anything of its reply is believed. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from logist.models.usage import AgentSession, Counted, Usage, latest, used_since


class Outcome(StrEnum):
    """How a oneshot ended, as far as its structured output says; its exit code alone proves nothing."""

    OK = "ok"
    #: No valid key or login.
    AUTH = "auth"
    MODEL_NOT_FOUND = "model_not_found"
    #: Paid or allowed use is spent: no use to try again soon.
    QUOTA = "quota"
    #: Too many requests: later it will work.
    RATE_LIMITED = "rate_limited"
    #: The provider failed, or the stream broke off.
    SERVER = "server"
    #: A tool that the work needs was refused to the agent.
    PERMISSION_DENIED = "permission_denied"
    #: A limit of the program's own: turns, dollars, time.
    LIMIT = "limit"
    #: It was called or set up in a way that it does not take.
    CONFIG = "config"
    KILLED = "killed"
    TIMEOUT = "timeout"
    #: It ended without anything that counts as an answer.
    NO_RESULT = "no_result"
    #: It claims what is not on disk.
    EVIDENCE_MISSING = "evidence_missing"


#: Worth waiting for, and no failure of the work.
LATER = frozenset({Outcome.RATE_LIMITED, Outcome.SERVER})
#: Asking again only repeats it: a human has to change something first.
BLOCKED = frozenset({Outcome.AUTH, Outcome.MODEL_NOT_FOUND, Outcome.QUOTA, Outcome.CONFIG, Outcome.PERMISSION_DENIED})


class Report(NamedTuple):
    """A program's own account of one oneshot."""

    outcome: Outcome
    #: The agent's final text: the only text in which a reply may stand.
    text: str = ""
    #: One sentence that says what was wrong, in the program's words as far as it has any.
    detail: str = ""
    usage: Usage = Usage()
    #: The counts of `usage` that are those of the whole session, and not of this oneshot alone.
    cumulative: tuple[Counted, ...] = ()
    #: The program's name for the session; None: it named none.
    session: str | None = None
    #: Seconds until it is worth trying again, where it said so.
    retry_after: float | None = None


#: What may stand after an option as a session: no option itself.
SESSION_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,499}", re.ASCII)


def used_in(session: AgentSession | None, report: Report) -> Usage:
    """What a oneshot used that was to go on with `session`."""
    if session is not None and report.session == session.id:
        return used_since(session.usage, report.usage, report.cumulative)
    return report.usage


def session_of(agent: str, before: AgentSession | None, report: Report) -> AgentSession | None:
    """The session that `report` names, as a later oneshot of `agent` may go on with it; `before`: as it was."""
    if report.session is None or not SESSION_ID.fullmatch(report.session):
        return None
    goes_on = before is not None and before.id == report.session
    usage = latest(before.usage, report.usage) if before is not None and goes_on else report.usage
    return AgentSession(agent=agent, id=report.session, usage=usage)


def outcome_of_status(status: int) -> Outcome:
    """What an HTTP status of a model provider means; other codes than errors are `server`."""
    if status in (401, 403):
        return Outcome.AUTH
    if status == 404:
        return Outcome.MODEL_NOT_FOUND
    if status == 402:
        return Outcome.QUOTA
    if status == 429:
        return Outcome.RATE_LIMITED
    return Outcome.CONFIG if 400 <= status < 500 else Outcome.SERVER


#: Characters of an error that are looked at.
_MOST_READ = 4_000
#: Three digits of an error status that are a word of their own.
_STATUS = re.compile(r"(?<![\w.:/-])[45]\d\d(?![\w./-])", re.ASCII)
#: What error messages say, the first that fits. Some providers call a spent account 429 as well, hence quota first.
_WORDS = (
    (
        Outcome.QUOTA,
        re.compile(r"insufficient.quota|exceeded your.{0,80}quota|credit balance|billing|payment|usage limit"),
    ),
    (Outcome.RATE_LIMITED, re.compile(r"rate.?limit|too many requests|overloaded")),
    (Outcome.AUTH, re.compile(r"authenticat|unauthori|api.?key|/login|log ?in\b|logged in|credential")),
    (
        Outcome.MODEL_NOT_FOUND,
        re.compile(r"model.{0,80}(not found|not exist|not.found|not configured|unknown|unsupported)|unknown model"),
    ),
    (Outcome.SERVER, re.compile(r"internal server|server.?error|unavailable|timed? ?out|connection|network|stream")),
)


def outcome_of_message(said: str) -> Outcome | None:
    """What an error message means: by the status in it, else by its words; None when it tells neither.

    For a program's *error* alone, never for what an agent answered.
    """
    said = said[:_MOST_READ]
    lowered = said.lower()
    if _WORDS[0][1].search(lowered):
        return Outcome.QUOTA
    status = _STATUS.search(said)
    if status:
        return outcome_of_status(int(status[0]))
    return next((outcome for outcome, words in _WORDS if words.search(lowered)), None)
