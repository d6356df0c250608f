"""Hands the terminal to a program of the user's own, and waits for it."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from logist.errors import AgentUnavailable


def hand_over(argv: Sequence[str], cwd: Path, env: Mapping[str, str], inherit: Sequence[int]) -> int:
    """Run a program in this terminal until it ends; its exit code, 128+n for signal n.

    It inherits the descriptors `inherit`: a lease lasts as long as it does, also where this process is ended. Ctrl-C
    is the program's alone. Raises AgentUnavailable when it can't be started.
    """
    # Looked up here: the system would pass over one that can't be started, and take another one further on in PATH.
    program = shutil.which(argv[0], path=env.get("PATH"))
    if program is None:
        raise AgentUnavailable(f"there is no program {argv[0]} on PATH", "install it, or correct PATH")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = subprocess.run(
            argv,
            executable=program,
            cwd=cwd,
            env=dict(env),
            check=False,
            pass_fds=tuple(inherit),
            # Ignored signals would be inherited: the program gets them back as they were.
            preexec_fn=lambda: _give_back(before),
        ).returncode
    except OSError as error:
        raise _unavailable(program, error) from error
    finally:
        signal.signal(signal.SIGINT, before)
    return code if code >= 0 else 128 - code


def _unavailable(path: str, error: OSError) -> AgentUnavailable:
    if error.errno == errno.ENOENT:
        why, hint = "the interpreter that its first line names is not there", "install that, or the program anew"
    elif error.errno == errno.ENOEXEC:
        why, hint = "it is no program of this machine, and no first line names an interpreter", "install it anew"
    else:
        why, hint = (error.strerror or str(error)).lower(), "see that it may be executed, or install it anew"
    return AgentUnavailable(f"{path} can't be started: {why}", hint)


def _give_back(handler: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)
