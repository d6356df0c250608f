"""Tells while an agent works that the version of its program was not tested. The agent does not wait for that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

from logist.agents.oneshot import Agent, Tested
from logist.runtime import Session

#: Seconds between two looks at whether the run is to stop, when the agent was faster than the answer.
_PACE = 0.05


@contextmanager
def version_noticed(session: Session, agent: Agent) -> Iterator[None]:
    """Ask the agent's program for its version meanwhile, once in a run; a doubt is told to the operator at the end."""
    elsewhere = bool(session.runtime.fence)
    if elsewhere or not isinstance(agent, Tested) or agent.name in session.versions_asked:
        yield
        return
    session.versions_asked.add(agent.name)
    over = threading.Event()
    with ThreadPoolExecutor(1, "version") as asker:
        asked = asker.submit(
            agent.doubt, session.runtime.environ, lambda: "nobody waits for it" if over.is_set() else None
        )
        try:
            yield
            while not asked.done() and session.stop_now() is None:
                wait((asked,), _PACE)
        finally:
            over.set()
    doubt = _doubt(agent, asked)
    if doubt is not None:
        session.notice(doubt)


def _doubt(agent: Agent, asked: Future[str | None]) -> str | None:
    try:
        return asked.result()
    except OSError as error:
        return f"{agent.name} could not be asked for its version: {error}"
