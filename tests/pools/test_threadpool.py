"""The leader/followers pool, over a source of events that says what it is asked."""

import threading
import time

import pytest
from core_helpers import PATIENCE, kill, until

from rocket.pools import FixedPolicy
from rocket.pools.controller import Controller
from rocket.pools.threadpool import ThreadPool


class Item:
    """What the pool needs of a connection."""

    def __init__(self, name="", work=lambda item: None):
        self.name = name
        self.work = work
        self.since = 0.0
        self.served_by = []
        self.served = threading.Event()
        self.closed = False

    def close(self):
        self.closed = True

    def __repr__(self):
        return f"<Item {self.name}>"


class Source:
    """The reactor's part: what `bring` was told is ready at the next poll. Knows who polls, and that one does."""

    def __init__(self):
        self._condition = threading.Condition()
        self._ready = []
        self._woken = False
        self.pollers = []  # who is waiting in poll
        self.error = None
        self.polls = 0

    def bring(self, *items):
        with self._condition:
            self._ready.extend(items)
            self._condition.notify_all()

    def wakeup(self):
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def poll(self, *, block):
        with self._condition:
            self.polls += 1
            assert not self.pollers, "two leaders"
            if self.error is not None:
                raise self.error
            if block:
                self.pollers.append(threading.current_thread())
                try:
                    assert self._condition.wait_for(lambda: self._ready or self._woken, PATIENCE)
                finally:
                    self.pollers.clear()
            self._woken = False
            ready, self._ready = self._ready, []
            return ready


class Pool:
    """A pool with its source, its controller, and everything stopped at the end."""

    def __init__(self, threads=2, *, maximum=None, guard=True, policy=None, **options):
        self.source = Source()
        self.lost = []
        self.pool = ThreadPool(
            make_worker=lambda: self.serve,
            poll=self.source.poll,
            wakeup=self.source.wakeup,
            min_threads=threads,
            max_threads=maximum or threads,
            on_busy=lambda: self.controller.ring(),  # noqa: PLW0108 (it is made later)
            on_lost=self.lost.append,
            **options,
        )
        self.controller = Controller(self.pool, policy or FixedPolicy())
        self.guard = guard

    def serve(self, item):
        item.served_by.append(threading.current_thread())
        item.work(item)
        item.served.set()

    def __enter__(self):
        self.pool.start()
        if self.guard:
            self.controller.start()
        self.settle()
        return self

    def __exit__(self, *exc):
        self.controller.stop()
        assert self.pool.stop(PATIENCE) == []

    def settle(self):
        """Wait until nothing happens any more: one leads, the others and the guard sleep."""
        until(lambda: self.source.pollers and self.pool.counts().awake == 1 and not self.pool.queued)
        if self.guard:
            until(lambda: self.controller._asleep)


class Stuck:
    """Work that goes on until it is released; `begun` tells that it has."""

    def __init__(self):
        self.begun = threading.Event()
        self.release = threading.Event()

    def __call__(self, item):
        self.begun.set()
        assert self.release.wait(PATIENCE)


def wait(*items):
    for item in items:
        assert item.served.wait(PATIENCE), f"{item} was not served"


# ---------------------------------------------------------------------- leader and followers


def test_one_leads_and_the_others_sleep():
    with Pool(4) as p:
        counts = p.pool.counts()
        assert (counts.threads, counts.awake, counts.busy) == (4, 1, 0)
        assert p.pool.quiet


def test_who_polled_serves_the_batch_in_order():
    with Pool(4, guard=False) as p:
        p.pool.width = 1  # without the GIL the others would help
        order = []
        items = [Item(i, lambda item: order.append(item.name)) for i in range(20)]
        p.source.bring(*items)
        wait(*items)
        assert order == list(range(20))
        assert len({thread for item in items for thread in item.served_by}) == 1


def test_each_connection_is_served_once():
    with Pool(4) as p:
        items = [Item(i) for i in range(300)]
        for item in items[::2]:
            p.source.bring(item)
        for item in items[1::2]:
            p.pool.submit(item)
        wait(*items)
        assert all(len(item.served_by) == 1 for item in items)


def test_last_to_sleep_is_the_first_to_wake():
    with Pool(3) as p:
        slots = list(p.pool._idle)
        stuck = Stuck()
        blocker = Item("blocker", stuck)
        p.source.bring(blocker)
        assert stuck.begun.wait(PATIENCE)
        item = Item("next")
        p.source.bring(item)
        wait(item)
        stuck.release.set()
        wait(blocker)
        # Without the GIL a follower may be quicker than the leader that brought the blocker.
        assert slots[-1].thread in item.served_by + blocker.served_by
        assert slots[0].thread not in item.served_by + blocker.served_by


def test_submitted_connection_wakes_the_leader():
    with Pool(2, guard=False) as p:
        item = Item()
        p.pool.submit(item)
        wait(item)


def test_worker_that_finds_the_queue_empty_while_it_is_turned_over_is_woken():
    class Held(Item):
        @property
        def task(self):  # asked while it is out of the queue
            stuck.release.set()
            until(lambda: p.source.pollers)

    with Pool(1, guard=False) as p:
        stuck = Stuck()
        p.source.bring(Item("blocker", stuck))
        assert stuck.begun.wait(PATIENCE)
        item = Held("held")
        p.pool.submit(item)
        assert p.pool.take_overdue(1000.0, 1000) == []
        wait(item)


def test_connection_behind_one_that_was_submitted_and_is_stuck():
    # The poll was woken and brought nothing: the guard has to be told nevertheless.
    with Pool(2) as p:
        stuck = Stuck()
        first, second, third = Item("first", stuck), Item("second"), Item("third")
        p.pool.submit(first)
        assert stuck.begun.wait(PATIENCE)
        p.pool.submit(second)
        wait(second)
        p.source.bring(third)
        wait(third)
        stuck.release.set()
        wait(first)


def test_rest_of_a_batch_does_not_wait_for_a_stuck_handler():
    with Pool(2) as p:
        stuck = Stuck()
        items = [Item("stuck", stuck), *(Item(i) for i in range(10))]
        p.source.bring(*items)
        wait(*items[1:])
        stuck.release.set()
        wait(items[0])


@pytest.mark.parametrize("k", [1, 3, 7])
def test_k_stuck_handlers_do_not_stop_the_others(k):
    with Pool(8) as p:
        jams = [Stuck() for _ in range(k)]
        items = [Item("stuck", jam) for jam in jams]
        p.source.bring(*items)
        for jam in jams:
            assert jam.begun.wait(PATIENCE)
        for _ in range(20):
            item = Item("quick")
            p.source.bring(item)
            wait(item)
        for jam in jams:
            jam.release.set()
        wait(*items)
        p.settle()


def test_when_all_are_stuck_the_guard_polls():
    with Pool(2) as p:
        jams = [Stuck(), Stuck()]
        items = [Item("stuck", jam) for jam in jams]
        p.source.bring(*items)
        for jam in jams:
            assert jam.begun.wait(PATIENCE)
        waiting = Item("waiting")
        p.source.bring(waiting)
        until(lambda: p.pool.queued == 1)
        jams[0].release.set()
        wait(waiting)
        jams[1].release.set()
        wait(*items)


def test_handler_that_is_about_to_block_hands_over():
    with Pool(2, guard=False) as p:
        begun = Stuck()

        def block(item):
            p.pool.hand_over()
            begun(item)

        blocker, other = Item("blocker", block), Item("other")
        p.source.bring(blocker, other)
        wait(other)
        begun.release.set()
        wait(blocker)


def test_guard_sleeps_while_nothing_happens():
    with Pool(4) as p:
        polls = p.source.polls
        looks = []
        p.controller._look = looks.append  # it would fail, and be logged
        assert not p.controller._bell.acquire(timeout=0.1)
        assert p.source.polls == polls
        assert looks == []


def test_guard_sleeps_though_the_goal_is_above_the_minimum():
    with Pool(1, maximum=4, guard=False) as p:
        p.pool.resize(4)
        naps = []
        while naps[-1:] != [-1]:
            naps.append(p.controller._until_next_task(p.pool.counts()))
        assert naps == [*sorted(naps[:-1]), -1]
        assert len(naps) < 12


def test_flood_of_one_connection_starves_nobody():
    # Like pipelined requests it queues again each turn.
    with Pool(1, guard=False) as p:
        end = threading.Event()

        def again(item):
            if not end.is_set():
                p.pool.submit(item)

        flood = Item("flood", again)
        p.source.bring(flood)
        for _ in range(50):
            item = Item("other")
            p.source.bring(item)
            wait(item)
        end.set()


def test_without_the_gil_a_batch_is_spread():
    with Pool(3, guard=False) as p:
        p.pool.width = 3
        jams = [Stuck() for _ in range(3)]
        items = [Item(i, jam) for i, jam in enumerate(jams)]
        p.source.bring(*items)
        for jam in jams:
            assert jam.begun.wait(PATIENCE)  # all three at once
        for jam in jams:
            jam.release.set()
        wait(*items)


# ---------------------------------------------------------------------- sizes


def test_goal_is_kept_within_the_bounds():
    with Pool(2, maximum=5, guard=False) as p:
        assert p.pool.resize(-3) == 2
        assert p.pool.resize(10**9) == 5
        assert len(p.pool.threads) == 5


def test_goal_below_the_workers_that_are_awake():
    with Pool(1, maximum=4, guard=False) as p:
        p.pool.resize(4)
        p.pool.width = 4
        p.settle()
        jams = [Stuck() for _ in range(4)]
        items = [Item(i, jam) for i, jam in enumerate(jams)]
        p.source.bring(*items)
        for jam in jams:
            assert jam.begun.wait(PATIENCE)
        p.pool.resize(1)
        for jam in jams:
            jam.release.set()
        wait(*items)
        p.settle()
        item = Item()
        p.source.bring(item)
        wait(item)


def test_surplus_worker_that_sleeps_while_nobody_leads_tells_the_guard():
    with Pool(1, maximum=2, policy=FixedPolicy(1)) as p:
        p.pool.resize(2)
        stuck = Stuck()
        blocker = Item("blocker", stuck)
        p.source.bring(blocker)
        assert stuck.begun.wait(PATIENCE)
        until(lambda: p.source.pollers)  # the other leads now
        p.pool.resize(1)
        rung = []
        p.pool._on_busy = lambda: (rung.append(p.pool.quiet), p.controller.ring())
        p.source.wakeup()
        until(lambda: False in rung)
        stuck.release.set()
        wait(blocker)


def test_thread_that_slept_longest_is_retired():
    now = [100.0]
    with Pool(1, maximum=3, guard=False, clock=lambda: now[0]) as p:
        p.pool.resize(3)
        p.settle()
        p.pool.resize(1)
        oldest = p.pool._idle[0].thread
        assert not p.pool.retire(10)
        now[0] += 11
        assert p.pool.retire(10)
        oldest.join(PATIENCE)
        until(lambda: oldest not in p.pool.threads)
        assert p.pool.retire(10)
        until(lambda: len(p.pool.threads) == 1)
        assert not p.pool.retire(10)
        item = Item()
        p.source.bring(item)
        wait(item)


def test_no_thread_is_retired_that_the_goal_needs():
    now = [100.0]
    with Pool(3, guard=False, clock=lambda: now[0]) as p:
        now[0] += 1000
        assert not p.pool.retire(10)


# ---------------------------------------------------------------------- the threads' hooks and clocks


def test_hooks_are_called_in_each_thread_before_and_after_its_turns():
    begun, ended, served = [], [], []

    with Pool(
        3,
        on_thread_start=lambda: begun.append(threading.current_thread()),
        on_thread_exit=lambda: ended.append(threading.current_thread()),
    ) as p:
        until(lambda: len(begun) == 3)
        item = Item(work=lambda item: served.append(threading.current_thread() in begun))
        p.source.bring(item)
        wait(item)
        assert served == [True]
        assert ended == []
        threads = p.pool.threads
    assert sorted(map(id, begun)) == sorted(map(id, ended)) == sorted(map(id, threads))


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_hook_that_fails_costs_no_thread(caplog, error):
    """Whatever it raises: the thread that is started in its place would die of it, too, and so on."""

    def fail():
        raise error("oops")

    with Pool(2, on_thread_start=fail, on_thread_exit=fail) as p:
        item = Item()
        p.source.bring(item)
        wait(item)
        threads = p.pool.threads
    assert not any(thread.is_alive() for thread in threads)
    assert caplog.text.count(f"{error.__name__}: oops") == 4


def test_hook_that_takes_long_holds_up_nobody_else():
    """A new thread that opens its database connection does not count as one that runs."""
    first, go_on = threading.Event(), threading.Event()

    def connect():
        if first.is_set():
            assert go_on.wait(PATIENCE)
        first.set()

    with Pool(1, maximum=3, guard=False, on_thread_start=connect) as p:
        p.pool.resize(3)  # two that are at it for long
        items = [Item(n) for n in range(20)]
        for item in items:
            p.source.bring(item)
            wait(item)
        assert {item.served_by[0] for item in items} == {p.pool.threads[0]}
        go_on.set()
        p.settle()
        assert p.pool._blocked == 0


def test_hook_is_called_when_a_thread_is_retired():
    ended = []
    with Pool(1, maximum=2, guard=False, on_thread_exit=lambda: ended.append(threading.current_thread())) as p:
        p.pool.resize(2)
        p.settle()
        p.pool.resize(1)
        assert p.pool.retire(0.0)
        until(lambda: len(ended) == 1)


def test_cpu_time_of_the_workers_is_known_also_of_those_that_are_gone():
    def compute(item):
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    with Pool(1, maximum=2, guard=False) as p:
        p.pool.resize(2)
        item = Item(work=compute)
        p.source.bring(item)
        wait(item)
        p.settle()
        before = p.pool.crew.cpu_times(0.0)
        assert before is not None
        assert 0.02 <= before[1] <= before[0]
        p.pool.resize(1)
        assert p.pool.retire(0.0)
        until(lambda: len(p.pool.threads) == 1)
        assert p.pool.crew.cpu_times(0.0)[0] >= before[0]


def test_cpu_time_of_a_turn_counts_as_finished_once_it_is():
    with Pool(1) as p:
        stuck = Stuck()
        item = Item(work=stuck)
        p.source.bring(item)
        assert stuck.begun.wait(PATIENCE)
        since = p.pool.counts().last_turn
        p.pool.crew.cpu_times(since)  # it has just begun
        done = p.pool.crew.cpu_times(since + 1e-6)[1]
        assert p.pool.crew.cpu_times(since + 1e-6)[1] == done
        stuck.release.set()
        wait(item)
        p.settle()
        assert p.pool.crew.cpu_times(since + 1e-6)[1] > done


def test_counts_tell_when_something_moved():
    with Pool(1) as p:
        before = p.pool.counts()
        item = Item()
        p.source.bring(item)
        wait(item)
        p.settle()
        after = p.pool.counts()
        assert after.last_turn > before.last_turn
        assert after.turn_wall > before.turn_wall


# ---------------------------------------------------------------------- faults


def test_dead_leader_is_replaced(caplog):
    with Pool(2) as p:
        (leader,) = p.source.pollers
        kill(leader)
        p.source.wakeup()
        leader.join(PATIENCE)
        assert not leader.is_alive()
        until(lambda: len(p.pool.threads) == 2 and leader not in p.pool.threads)
        item = Item()
        p.source.bring(item)
        wait(item)
    assert "died" in caplog.text


def test_dead_sleeper_is_replaced():
    with Pool(2) as p:
        (sleeper,) = (slot.thread for slot in p.pool._idle)
        kill(sleeper)  # it finds out when it is woken
        stuck = Stuck()
        blocker, item = Item("blocker", stuck), Item("other")
        p.source.bring(blocker, item)
        wait(item)
        until(lambda: sleeper not in p.pool.threads and len(p.pool.threads) == 2)
        stuck.release.set()
        wait(blocker)
        p.settle()


def test_worker_that_raises_is_replaced_and_its_connection_given_back():
    def fail(item):
        raise SystemExit

    with Pool(2) as p:
        bad = [Item(f"bad {i}", fail) for i in range(5)]
        good = [Item("good") for _ in range(5)]
        p.source.bring(*(item for pair in zip(bad, good) for item in pair))
        wait(*good)
        until(lambda: len(p.lost) == 5)
        assert {item.name for item in p.lost} == {item.name for item in bad}
        until(lambda: len(p.pool.threads) == 2)
        p.settle()


def test_death_of_all_threads_is_survived():
    with Pool(3) as p:
        for thread in p.pool.threads:
            kill(thread)
        items = [Item(i) for i in range(10)]
        p.source.bring(*items)
        wait(*items)
        until(lambda: len(p.pool.threads) == 3)


class Scarce:
    """A system that has no more threads than `left`."""

    def __init__(self, left):
        self.left = left

    def __call__(self, thread):
        if not self.left:
            raise RuntimeError("can't start new thread")
        self.left -= 1
        thread.start()


def test_pool_serves_with_the_threads_it_could_start(caplog):
    scarce = Scarce(1)
    with Pool(1, maximum=4, guard=False, start_thread=scarce) as p:
        for _ in range(3):
            assert p.pool.resize(4) == 4
        assert len(p.pool.threads) == p.pool.counts().threads == 1
        assert p.pool.counts().awake == 1
        item = Item()
        p.source.bring(item)
        wait(item)
        assert len([line for line in caplog.messages if "can't start new thread" in line]) == 1
        scarce.left = 2
        p.pool.resize(4)
        assert len(p.pool.threads) == 3


def test_missing_threads_are_started_later():
    scarce = Scarce(0)
    p = Pool(2, start_thread=scarce)
    p.pool.start()
    p.controller.start()
    item = Item()
    p.pool.submit(item)
    scarce.left = 2
    wait(item)
    until(lambda: len(p.pool.threads) == 2)
    p.__exit__()


def test_failing_poll_neither_kills_nor_spins(caplog):
    with Pool(2) as p:
        p.source.error = OSError("the monitor is broken")
        p.source.wakeup()
        until(lambda: "the monitor is broken" in caplog.text)
        polls = p.source.polls
        item = Item()
        p.pool.submit(item)
        wait(item)
        assert p.source.polls - polls < 100
        p.source.error = None
        item = Item()
        p.source.bring(item)
        wait(item)
        assert len(p.pool.threads) == 2
    assert caplog.text.count("cannot poll") == 1


# ---------------------------------------------------------------------- the end


def test_stop_ends_all_threads():
    p = Pool(5)
    with p:
        threads = p.pool.threads
    assert not any(thread.is_alive() for thread in threads)


def test_stop_begins_no_queued_work():
    p = Pool(1, guard=False)
    with p:
        stuck = Stuck()
        items = [Item("stuck", stuck), *(Item(i) for i in range(5))]
        p.source.bring(*items)
        assert stuck.begun.wait(PATIENCE)
        assert p.pool.stop(0.0) == p.pool.threads
        assert p.pool.take_queued() == items[1:]
        stuck.release.set()
        wait(items[0])
    assert not any(item.served_by for item in items[1:])


def test_stop_from_a_worker():
    p = Pool(3, guard=False)
    with p:
        late = []
        item = Item("stop", lambda item: late.extend(p.pool.stop(PATIENCE)))
        p.source.bring(item)
        wait(item)
        assert late == []


def test_what_is_queued_after_the_end_is_given_back():
    p = Pool(1)
    with p:
        pass
    item = Item()
    p.pool.submit(item)
    assert p.lost == [item]


def test_stacks_name_the_stuck_thread_and_where_it_is():
    with Pool(2) as p:
        stuck = Stuck()
        item = Item("the slow one", stuck)
        p.source.bring(item)
        assert stuck.begun.wait(PATIENCE)
        (stack,) = p.pool.stacks()
        assert stack.startswith("rocket-worker-")
        assert "the slow one" in stack
        assert "in __call__" in stack
        stuck.release.set()
        wait(item)


def test_no_worker_is_lost_under_hasty_threads(hasty_threads):
    with Pool(6, maximum=12) as p:
        p.pool.width = 4
        for _ in range(30):
            items = [Item(i, lambda item: p.pool.hand_over() if item.name % 5 == 0 else None) for i in range(40)]
            for i, item in enumerate(items):
                if i % 3:
                    p.source.bring(item)
                else:
                    p.pool.submit(item)
                if i % 10 == 0:
                    p.pool._goal = 6 + i % 7  # as the controller would
            wait(*items)
            assert all(len(item.served_by) == 1 for item in items)
        p.settle()
        counts = p.pool.counts()
        assert counts.awake == counts.threads - len(p.pool._idle) == 1
        assert p.pool._blocked == 0
