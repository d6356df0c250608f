"""What one invocation of the command line works with: the global options, and what is made from them on demand.

Even pathlib is imported on demand: it takes a tenth of the time that `logist --help` may take.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from logist.errors import JobNotFound, LogistError, UsageProblem

if TYPE_CHECKING:
    from pathlib import Path

    from logist.configuration import LoadedConfig
    from logist.events import Reporter
    from logist.job_files import JobPaths
    from logist.job_state import JobStore
    from logist.runtime import Runtime
    from logist.stop_switch import StopSwitch

_CONFIG_FILES = ("logist.toml", "pyproject.toml")


class Place(NamedTuple):
    """Where the commands of a run are run: an adapter's name, and what it is told."""

    adapter: str
    options: Mapping[str, str]


#: This machine.
HERE = Place("local", {})


class Invocation:
    """The global options. Everything heavy is imported and made when a command asks for it."""

    def __init__(self) -> None:
        self.debug = False
        self._jobs_dir: str | None = None
        self._config_file: str | None = None

    def set_options(self, *, jobs_dir: str | None, config_file: str | None, debug: bool) -> None:
        """Take the global options as they were parsed."""
        self._jobs_dir, self._config_file, self.debug = jobs_dir, config_file, debug

    def jobs_dir(self) -> Path:
        """The jobs folder, which need not exist.

        Raises InvalidFile when a configuration that names it is not valid, UsageProblem when it is something else.
        """
        from pathlib import Path

        from logist.job_files import find_jobs_dir

        configured = None if self._jobs_dir else self._configured_jobs_dir()
        found = configured or find_jobs_dir(self._jobs_dir, {}, Path.cwd())
        if os.path.isfile(found):  # noqa: PTH113  # Unlike Path.is_file, no error for what must not be looked at.
            hint = "name another jobs folder with --jobs-dir or LOGIST_JOBS_DIR"
            raise UsageProblem(f"{found} is not a folder", hint)
        return found

    def _configured_jobs_dir(self) -> Path | None:
        # Reading the configuration is slow, and hardly any says where the jobs are: look for the word first.
        if any(_mentions_jobs_dir(path) for path in self._config_candidates()):
            return self.configuration().config.jobs_dir
        return None

    def _config_candidates(self) -> Iterator[Path]:
        from pathlib import Path

        if self._config_file is not None:
            yield Path(self._config_file)
        for folder in (Path.cwd(), *Path.cwd().parents):
            yield from (folder / name for name in _CONFIG_FILES)
        if sys.platform == "linux":
            # What platformdirs says too, at the cost of its import.
            yield Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser()) / "logist" / "config.toml"
        else:
            import platformdirs

            yield platformdirs.user_config_path("logist", appauthor=False) / "config.toml"

    def job_names(self) -> tuple[str, ...]:
        """The ids of all jobs by the names of their folders."""
        from logist.job_files import job_ids

        return job_ids(self.jobs_dir())

    def job_id(self, given: str | None) -> str:
        """The job that is meant: `given`, else LOGIST_JOB_ID, else the selected one.

        Raises UsageProblem when none is meant, JobNotFound when there is no such job.
        """
        from logist.job_files import find_job, is_job, read_selected

        jobs_dir = self.jobs_dir()
        if given is not None:
            return find_job(jobs_dir, given)
        named = os.environ.get("LOGIST_JOB_ID")
        if named:
            try:
                return find_job(jobs_dir, named)
            except UsageProblem as error:
                raise type(error)(f"LOGIST_JOB_ID: {error.message}", error.hint) from error
        selected = read_selected(jobs_dir)
        if selected is None and not self.job_names():
            raise UsageProblem("there are no jobs yet", 'make one: logist job create -o "what is to be reached"')
        if selected is None:
            raise UsageProblem(
                "no job is named and none is selected",
                "name one, or choose one with `logist job select JOB`; `logist job list` shows them",
            )
        if not is_job(_paths(jobs_dir, selected)) and selected not in self.job_names():
            raise JobNotFound(
                f"the selected job {selected} is gone from {jobs_dir}", "choose another one: logist job select JOB"
            )
        return selected

    def job_paths(self, job_id: str) -> JobPaths:
        """The file names of a job."""
        return _paths(self.jobs_dir(), job_id)

    def store(self) -> JobStore:
        """The jobs."""
        from logist.clock import SystemClock
        from logist.job_state import JobStore

        return JobStore(self.jobs_dir(), SystemClock())

    def configuration(self) -> LoadedConfig:
        """The configuration, and where its values come from. Raises InvalidFile."""
        from pathlib import Path

        from logist.configuration import load_configuration

        explicit = None if self._config_file is None else Path(self._config_file)
        return load_configuration(Path.cwd(), os.environ, explicit)

    @contextlib.contextmanager
    def runtime(
        self,
        *,
        reporter: Reporter | None = None,
        stop: StopSwitch | None = None,
        max_wait: float | None = None,
        place: Place = HERE,
    ) -> Iterator[Runtime]:
        """Everything outside the job: store, configuration, and the adapter that runs commands.

        Raises UsageProblem for an adapter that can't run a job's steps.
        """
        from logist.clock import SystemClock
        from logist.events import NullReporter
        from logist.execution.adapters import open_adapter_of_jobs
        from logist.runtime import Runtime
        from logist.stop_switch import StopSwitch

        store, config = self.store(), self.configuration().config
        with contextlib.closing(open_adapter_of_jobs(place.adapter, place.options)) as adapter:
            yield Runtime(
                store=store,
                adapter=adapter,
                config=config,
                reporter=reporter or NullReporter(),
                clock=SystemClock(),
                stop=stop or StopSwitch(),
                environ=os.environ,
                prompts_dir=config.prompts,
                max_wait=max_wait,
            )

    def log_folders(self) -> Iterator[Path]:
        """Where the traceback of a fault may be kept, the best place first."""
        import tempfile
        from pathlib import Path

        with contextlib.suppress(LogistError, OSError):
            jobs_dir = self.jobs_dir()
            if jobs_dir.is_dir():
                yield jobs_dir.parent / "logs"
        yield Path(tempfile.gettempdir())


def _paths(jobs_dir: Path, job_id: str) -> JobPaths:
    from logist.job_files import JobPaths

    return JobPaths(jobs_dir / job_id)


def _mentions_jobs_dir(path: Path) -> bool:
    try:
        return b"jobs_dir" in path.read_bytes()
    except OSError:
        # Not there, or not readable: whoever reads the whole of it will say so.
        return False
