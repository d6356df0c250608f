from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from logist_adapter_nice import NiceAdapter, open_nice

from logist.errors import UsageProblem
from logist.execution import WorkerAdapter
from logist.execution.adapters import open_adapter
from logist.execution.local import LocalWorkerAdapter
from logist.testing.adapter_contract import AdapterContract, MakeAdapter
from logist.testing.bench import Bench


class TestNiceAdapter(AdapterContract):
    @pytest.fixture
    def make_adapter(self) -> MakeAdapter:
        return lambda: NiceAdapter(LocalWorkerAdapter(grace=0.2))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def opened() -> Iterator[list[WorkerAdapter]]:
    """What is put in here is closed in the end."""
    opened: list[WorkerAdapter] = []
    yield opened
    for adapter in opened:
        adapter.close()


def test_a_command_and_what_it_starts_have_the_niceness_that_was_asked_for(
    bench: Bench, opened: list[WorkerAdapter]
) -> None:
    opened.append(open_adapter("nice", {"niceness": "7"}))
    result = opened[0].run(bench.shell("cut -d' ' -f19 /proc/$$/stat; (cut -d' ' -f19 /proc/self/stat)"))
    assert result.stdout.kept == b"7\n7\n"


def test_a_command_is_nice_without_being_told_how_much(bench: Bench, opened: list[WorkerAdapter]) -> None:
    opened.append(open_nice({}))
    assert opened[0].run(bench.argv("nice")).stdout.kept == b"10\n"


def test_commands_share_the_processors_that_they_may_use(bench: Bench, opened: list[WorkerAdapter]) -> None:
    opened.append(open_nice({"processors": "1"}))
    last = max(os.sched_getaffinity(0))
    result = opened[0].run(bench.python("import os; print(*os.sched_getaffinity(0))"))
    assert result.stdout.kept == b"%d\n" % last


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"niceness": "20"}, "niceness"),
        ({"niceness": "-1"}, "niceness"),
        ({"niceness": "much"}, "much"),
        ({"processors": "0"}, "processors"),
        ({"processors": "100000"}, "100000"),
        ({"speed": "high"}, "speed"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageProblem, match=words):
        open_nice(options)
