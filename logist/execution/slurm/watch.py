"""Watches arrays for all who wait for their tasks: one look at the folder and one `squeue` for all of them."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from logist.errors import LogistError
from logist.execution import BatchItem
from logist.execution.bare.task_files import TaskFiles
from logist.execution.slurm.client import ArrayView, SlurmClient, TaskView
from logist.execution.slurm.spool import Spool, give_up

#: Seconds between two looks at the folder, and between two calls of squeue: the first ones, and in quiet times.
SCAN_PACE = (0.05, 1.0)
QUEUE_PACE = (1.0, 30.0)
#: The folder is never looked at for more than this part of the time.
_SCAN_SHARE = 0.1
#: Seconds until canceling what still runs is tried again.
_CANCEL_PACE = 5.0
#: Seconds that a file may need to be seen here after Slurm says that the task has ended.
LAG = 5.0
#: Why a task waits without that being worth a word, and why it may, for so many seconds.
_USUAL = frozenset(("None", "JobArrayTaskLimit", "Dependency", "BeginTime"))
_PATIENT = frozenset(("Priority", "Resources"))
_LONG = 60.0


@dataclass(eq=False)
class Array:
    """An array. Without a `spool` nothing was done about it yet; without a `job` it was not submitted."""

    #: What it is to do, until this run has submitted it.
    items: Sequence[BatchItem]
    spool: Spool | None
    job: str
    #: Those that have to end before it may begin.
    after: Sequence[Array]
    tasks: tuple[Task, ...] = ()
    #: Held by who submits it; and the moment before which that is not tried again.
    sending: threading.Lock = field(default_factory=threading.Lock)
    not_before: float = 0.0


@dataclass(eq=False)
class Task:
    """A task, as far as it is known."""

    array: Array
    index: int
    #: Somebody is in `run` for it.
    awaited: bool = False
    #: Somebody wants to know what Slurm says of it, its result or no.
    asked_for: bool = False
    #: Why it is to end; empty while it is not.
    end_why: str = ""
    #: Slurm was told to cancel it when no start of it had been stopped yet: one that is now has no successor.
    cancel_came_first: bool = False
    #: What is in the folder: the ends of its files' names.
    files: frozenset[str] = frozenset()
    #: What Slurm said last; None: nothing yet.
    view: TaskView | None = None
    #: Looks in a row in which it was not live.
    quiet: int = 0
    #: When it was first seen to be no longer live.
    ended_at: float | None = None

    @property
    def spool(self) -> Spool:
        """The files of its array, which has been submitted."""
        if self.array.spool is None:
            raise ValueError("the array was not submitted")
        return self.array.spool

    @property
    def paths(self) -> TaskFiles:
        """Its own files, once its array has been submitted."""
        return self.spool.task(self.index)

    @property
    def id(self) -> str:
        """What Slurm calls it."""
        return f"{self.array.job}_{self.index}"

    @property
    def started(self) -> bool:
        """A node began with it."""
        return "claim" in self.files

    def is_over(self, now: float) -> bool:
        """Nothing of it runs or is going to; its result, if there is one, is in the folder."""
        if "result" in self.files:
            return True
        if "stopped" in self.files and self.cancel_came_first:
            return True
        if self.ended_at is None:
            return False
        # Who has it end waits for no result of it.
        told = bool(self.end_why) or ("stopped" in self.files and not self._may_have_finished())
        return told or not self.started or now - self.ended_at > LAG

    def _may_have_finished(self) -> bool:
        return self.view is None or self.view.state in ("COMPLETED", "FAILED")

    def seen(self, view: ArrayView | None, now: float) -> None:
        """Take what Slurm says now; None: it doesn't know the array."""
        seen = None if view is None else view.tasks.get(self.index)
        if seen is not None and seen.live:
            self.quiet, self.ended_at = 0, None
        else:
            # One look can fall between the end of a task and its coming back into the queue.
            self.quiet += 1
            if self.quiet > 1 and self.ended_at is None:
                self.ended_at = now
        if seen is not None:
            self.view = seen
        elif view is not None and not self.started:
            # One that was canceled while it waited is not listed any more, or only together with others.
            self.view = TaskView("CANCELLED")


def new_array(
    size: int,
    *,
    items: Sequence[BatchItem] = (),
    after: Sequence[Array] = (),
    spool: Spool | None = None,
    job: str = "",
) -> Array:
    """An array with its tasks."""
    array = Array(items, spool, job, after)
    array.tasks = tuple(Task(array, index) for index in range(size))
    return array


class Watch:
    """Looks after the arrays that it is given, in a thread of its own. What tasks are is read holding `changed`."""

    def __init__(self, client: SlurmClient) -> None:
        self.changed = threading.Condition()
        self._client = client
        self._tell: Callable[[str], None] = _nobody
        self._told: set[str] = set()
        self._arrays: list[Array] = []
        self._withdrawn = False
        #: Arrays whose waiting tasks were canceled.
        self._emptied: set[str] = set()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None
        self._scan_pace, self._queue_pace = SCAN_PACE[0], QUEUE_PACE[0]
        self._queue_due = 0.0
        self._cancel_due = 0.0
        #: Since when tasks wait for a reason that may last.
        self._waiting_since: float | None = None

    def begin(self, tell: Callable[[str], None]) -> None:
        """Another run begins."""
        self._tell = tell
        self._told.clear()
        self._withdrawn = False

    def tell_once(self, message: str) -> None:
        """Tell the operator, unless that was told before."""
        with self.changed:
            if message in self._told:
                return
            self._told.add(message)
        self._tell(message)

    def add(self, array: Array) -> None:
        """Look after an array that was submitted."""
        with self.changed:
            self._arrays.append(array)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="slurm", daemon=True)
                self._thread.start()
        self.hurry()

    def drop(self, array: Array) -> None:
        """Look after it no longer."""
        with self.changed:
            if array in self._arrays:
                self._arrays.remove(array)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Those that are looked after."""
        with self.changed:
            return tuple(self._arrays)

    @property
    def withdrawn(self) -> bool:
        """Nothing more is to start."""
        return self._withdrawn

    def withdraw(self) -> None:
        """Have no more start, and end what nobody waits for."""
        if not self._withdrawn:
            self._withdrawn = True
            self.hurry()

    def hurry(self) -> None:
        """Look now, and often for a while: something was changed."""
        self._scan_pace, self._queue_pace = SCAN_PACE[0], QUEUE_PACE[0]
        self._queue_due = min(self._queue_due, time.monotonic() + self._queue_pace)
        self._cancel_due = 0.0
        self._wake.set()

    def end(self, tasks: Iterable[Task], why: str) -> None:
        """Have tasks end."""
        with self.changed:
            for task in tasks:
                task.end_why = task.end_why or why
        self.hurry()

    def await_end(self, tasks: Sequence[Task], patience: float) -> bool:
        """Wait until all of them are over, at most so many seconds; whether they are."""
        deadline = time.monotonic() + patience
        with self.changed:
            while not all(task.is_over(time.monotonic()) for task in tasks):
                self.raise_fault()
                if time.monotonic() > deadline:
                    return False
                self.changed.wait(0.1)
        return True

    def final_state(self, task: Task, patience: float) -> str:
        """What Slurm calls the state of a task that has ended; empty when it doesn't say so in so many seconds."""
        deadline = time.monotonic() + patience
        with self.changed:
            task.asked_for = True
            self.hurry()
            while task.ended_at is None and time.monotonic() < deadline:
                self.raise_fault()
                self.changed.wait(0.1)
            return task.view.state if task.ended_at is not None and task.view is not None else ""

    def raise_fault(self) -> None:
        """Raise what ended the watch."""
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        """End the thread and wait for it."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    # --- The thread ---

    def _work(self) -> None:
        try:
            while not self._closing:
                self._wake.clear()
                began = time.monotonic()
                news = self._scan()
                cost = time.monotonic() - began
                self._cancel()
                self._ask()
                self._scan_pace = SCAN_PACE[0] if news else min(self._scan_pace * 1.3, SCAN_PACE[1])
                self._wake.wait(max(self._scan_pace, cost / _SCAN_SHARE))
        except BaseException as fault:  # noqa: BLE001 - raised again by those who wait
            with self.changed:
                self._fault = fault
                self.changed.notify_all()

    def _scan(self) -> bool:
        """Look into the folders; whether there is news."""
        news = False
        for array in self.arrays:
            if array.spool is None or self._needs_no_look(array):
                continue
            found = _files(array.spool)
            if found is None:
                continue
            with self.changed:
                for task in array.tasks:
                    files = found.get(task.index, frozenset())
                    if files != task.files:
                        task.files, news = files, True
                if news:
                    self.changed.notify_all()
        return news

    def _needs_no_look(self, array: Array) -> bool:
        with self.changed:
            return all("result" in task.files and not task.asked_for for task in array.tasks)

    def _cancel(self) -> None:
        """Cancel what is to end: first what waits, or it would start in the place of what ends."""
        now = time.monotonic()
        if now < self._cancel_due:
            return
        waiting, ending = self._to_cancel(now)
        if not waiting and not ending:
            return
        self._cancel_due = now + _CANCEL_PACE
        try:
            self._client.cancel(waiting, pending=True)
            self._client.cancel([task.id for task in ending])
            self._emptied.update(waiting)
        except LogistError as problem:
            self.tell_once(problem.message)
            for task in ending:
                # Whoever runs it looks there.
                give_up(task.paths)
        self._queue_due = 0.0
        self._queue_pace = QUEUE_PACE[0]

    def _to_cancel(self, now: float) -> tuple[list[str], list[Task]]:
        """The arrays whose waiting tasks are to be canceled, and the tasks."""
        waiting: list[str] = []
        ending: list[Task] = []
        with self.changed:
            for array in self._arrays:
                alive = [task for task in array.tasks if not task.is_over(now)]
                if self._withdrawn:
                    if alive and array.job not in self._emptied:
                        waiting.append(array.job)
                    for task in alive:
                        if not task.awaited:
                            task.end_why = task.end_why or "the run was stopped"
                ending += [task for task in alive if task.end_why]
            for task in ending:
                task.cancel_came_first |= "stopped" not in task.files
        return waiting, ending

    def _ask(self) -> None:
        """Ask Slurm, when it is time to."""
        now = time.monotonic()
        asked = [array for array in self.arrays if array.spool is not None and not self._needs_no_look(array)]
        if now < self._queue_due or not asked:
            return
        try:
            views = self._client.look([array.spool.name for array in asked if array.spool is not None])
        except LogistError as problem:
            # Results still come by the folder.
            self.tell_once(problem.message)
        else:
            self._take(asked, views)
        self._queue_due = time.monotonic() + self._queue_pace
        self._queue_pace = min(self._queue_pace * 1.5, QUEUE_PACE[1])

    def _take(self, asked: Sequence[Array], views: dict[str, ArrayView]) -> None:
        now = time.monotonic()
        with self.changed:
            for array in asked:
                if array.spool is not None:
                    for task in array.tasks:
                        task.seen(views.get(array.spool.name), now)
            self.changed.notify_all()
            waits = Counter(
                task.view.reason
                for array in asked
                for task in array.tasks
                if task.view is not None and task.view.state == "PENDING" and task.ended_at is None
            )
        self._tell_waits(waits, now)

    def _tell_waits(self, waits: Counter[str], now: float) -> None:
        """Say why tasks wait: at once when that may need somebody, else when it takes long."""
        if not waits.keys() & _PATIENT:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        long = self._waiting_since is not None and now - self._waiting_since > _LONG
        for reason in waits:
            if reason not in _USUAL and (long or reason not in _PATIENT):
                self.tell_once(f"Slurm lets chunks wait: {reason}")


def _files(spool: Spool) -> dict[int, frozenset[str]] | None:
    """What is there of each task; None when the folder can't be read now: what Slurm says is all that is left."""
    found: dict[int, set[str]] = {}
    try:
        with os.scandir(spool.root) as entries:
            for entry in entries:
                index, _, kind = entry.name.partition(".")
                if index.isdigit():
                    found.setdefault(int(index), set()).add(kind)
    except OSError:
        return None
    return {index: frozenset(kinds) for index, kinds in found.items()}


def _nobody(_message: str) -> None:
    """Nobody is there to be told."""
