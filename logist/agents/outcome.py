"""What came of one oneshot by the program's own account, told before anything of its reply is believed. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

from logist.agents.retry_times import tells_when
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
    #: A limit of the program's own (turns, dollars, time), or how much its model can read at once.
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
    #: What it says of when it is worth trying again, as `seconds_to_wait` reads it; empty: what `detail` says of it.
    retry: str = ""


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
    if status in (408, 425):
        return Outcome.SERVER
    return Outcome.CONFIG if 400 <= status < 500 else Outcome.SERVER


#: Characters of an error that are looked at.
_MOST_READ = 4_000
_PHRASES = "|".join(re.escape(status.phrase) for status in HTTPStatus if status >= 400)
_CODE = r"([45]\d\d)(?!\w|[.:/-]\w)"
#: A number that is said to be an HTTP status; `line 404`, `exit status 401` and `:500/` say nothing of the kind.
_STATUS = re.compile(
    rf"^\W{{0,3}}{_CODE}"
    rf"|(?<!exit )\bstatus(?:[ _-]?code)?\W{{1,4}}{_CODE}"
    rf"|error(?:[ _-]?code)?\W{{1,4}}{_CODE}"
    rf"|\bhttp(?:/\d(?:\.\d)?)?\W{{1,3}}{_CODE}"
    rf"|\b(?:code|message)\\{{0,3}}[\"']\W{{1,5}}{_CODE}"
    r"|\(([45]\d\d)\)"
    rf"|\b([45]\d\d) (?:{_PHRASES})\b",
    re.IGNORECASE | re.ASCII,
)
#: Statuses that providers use for whatever they refuse: their words say more.
_VAGUE = frozenset({400, 403, 422})
#: Paid or allowed use that is over. Some providers call it 400, 403 or 429.
_SPENT = re.compile(
    r"insufficient[ _](?:quota|credits?|balance|funds)|exceeded your.{0,80}quota|quota exceeded|credit balance"
    r"|out of (?:\w+ )?credits|payment required|spending limit|hit your (?:\w+ ){0,3}limit"
    r"|billing(?:[ _]error|[ _]hard|.{0,20}\b(?:details|limit|not (?:active|enabled)|disabled))"
    r"|(?:usage|daily|weekly|monthly)[ _]limit"
)
#: What error messages say, the first that fits.
_WORDS = (
    (
        Outcome.RATE_LIMITED,
        re.compile(
            r"\brate[ _-]?limit|too many requests|\boverloaded|resource[ _]?exhausted|\bthrottl"
            r"|\b(?:\d+[ -]hour|hourly|session) limit"
        ),
    ),
    (
        # Of the model's: a conversation that is too long for it.
        Outcome.LIMIT,
        re.compile(
            r"(?<!-)\bcontext[ _-]?(?:length|window|limit)|\bprompt is too long|\binput token count\b.{0,40}exceeds"
        ),
    ),
    (
        Outcome.AUTH,
        re.compile(
            r"\bauthenticat|\bunauthori[sz]ed|(?<![a-z])api[ _-]?key|/login\b|\blog in\b|\blogged in\b|\bcredentials?\b"
        ),
    ),
    (
        Outcome.MODEL_NOT_FOUND,
        re.compile(
            r"\bmodel\b.{0,80}\b(?:not[ _-]found|not exist|not configured|unknown|unsupported|not supported)"
            r"|unknown model|model_not_found|\bno default model|\bllm provider not provided"
        ),
    ),
    (
        Outcome.SERVER,
        re.compile(
            r"\binternal (?:server )?error|\binternalservererror|internal server|server[ _]?error|\bunavailable\b"
            r"|\btimed? ?out\b|\bbad gateway|fetch failed|socket hang up|\be(?:conn[a-z]+|timedout|notfound|ai_again)\b"
            r"|\b(?:connection|network|stream)\b.{0,60}\b(?:error|refused|reset|closed?|lost|failed|down|unreachable"
            r"|disconnected|ended|interrupted|broken?)"
            r"|\b(?:error in|failed|unable|cannot|lost|no)\b.{0,60}\b(?:connect|connection|network|stream)\b"
        ),
    ),
)


def outcome_of_refusal(status: int | None, said: str) -> Outcome | None:
    """What a provider's refusal means: by its HTTP status, else by what it `said`; None when neither tells.

    `status` is the program's own figure; None: it gave none, and one that stands in the words counts as well. For a
    program's *error* alone, never for what an agent answered.
    """
    said = said[:_MOST_READ]
    status = _status_in(said) if status is None else status
    by_status = None if status is None else outcome_of_status(status)
    if by_status is Outcome.QUOTA or (status is not None and status >= 500):
        # A billing service that is down says nothing of what is spent.
        return by_status
    lowered = said.lower()
    if _SPENT.search(lowered):
        # What is told with its end is waited for, as far as that is wanted.
        return Outcome.RATE_LIMITED if tells_when(said) else Outcome.QUOTA
    if by_status is not None and status not in _VAGUE:
        return by_status
    return next((outcome for outcome, words in _WORDS if words.search(lowered)), by_status)


def outcome_of_message(said: str) -> Outcome | None:
    """What an error message means by itself; see `outcome_of_refusal`."""
    return outcome_of_refusal(None, said)


def _status_in(said: str) -> int | None:
    found = _STATUS.search(said)
    return int(next(filter(None, found.groups()))) if found else None
