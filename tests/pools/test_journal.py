"""What is logged of the pool's size, and how often."""

import logging

import pytest
from pools_helpers import readings

from rocket.pools.journal import PINNED, REPEAT, Journal
from rocket.pools.slot import Counts

BUSY = Counts(
    threads=4, goal=4, awake=4, busy=4, stuck=2, queued=3, oldest=2.0,
    finished=0, wall=0.0, turn_wall=0.0, last_turn=0.0,
)  # fmt: skip


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "rocket.pool")
    return caplog


def test_decision_is_told_with_its_reason_and_readings(log):
    Journal().changed(readings(goal=2, busy=2, queued=9, oldest=0.011, cpu=0.18), 4, "queue 9 long")
    (line,) = log.messages
    assert line.startswith("pool 2 -> 4: queue 9 long (busy 2 of 2, queued 9, oldest 11 ms")
    assert "CPU 0.18 of 1 cores" in line


def test_decisions_in_a_row_become_one_line(log):
    journal = Journal()
    for step, goal in enumerate((4, 8, 16, 32)):
        journal.changed(readings(goal=goal // 2, now=100 + step / 100), goal, "because")
    assert len(log.messages) == 1
    assert journal.pending
    journal.tend(100.5)
    assert len(log.messages) == 1
    journal.tend(101.1)
    assert len(log.messages) == 2
    assert log.messages[1].startswith("pool 4 -> 32 in 3 steps: because")
    assert not journal.pending


def look(journal, now, counts=BUSY, most=4, stacks=lambda: ["the stack of /slow"]):
    journal.look_at(counts, most, now, "why", stacks)


def test_pool_that_is_pinned_at_its_maximum_is_told_with_its_stacks(log):
    journal = Journal()
    for second in range(60):
        look(journal, 100.0 + second)
    (record,) = log.records
    assert record.levelname == "WARNING"
    assert "all 4 threads (max_threads) are busy, and 3 requests wait, the first for 2.0 s" in log.text
    assert "the stack of /slow" in log.text
    look(journal, 100.0 + PINNED + REPEAT)
    assert len(log.records) == 2


def test_many_stacks_are_cut(log):
    journal = Journal()
    for second in (100.0, 100.0 + PINNED):
        look(journal, second, stacks=lambda: [f"stack {n}" for n in range(40)])
    assert "(5 of 40)" in log.text
    assert "stack 5" not in log.text


def test_policy_that_will_not_grow_is_told_with_its_reason(log):
    journal = Journal()
    for second in (100.0, 100.0 + PINNED):
        look(journal, second, most=8)
    assert log.messages == ["pool stays at 4 of 8: why; 3 requests wait, the first for 2.0 s"]


@pytest.mark.parametrize("change", [{"queued": 0}, {"oldest": 0.5}, {"busy": 3}])
def test_moment_of_rest_ends_it(log, change):
    journal = Journal()
    for second in range(20):
        look(journal, 100.0 + second, BUSY._replace(**change) if second % 4 == 0 else BUSY)
    assert not log.records
