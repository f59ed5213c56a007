"""wsgiorg.executor and wsgiorg.futures: the executor by itself, and in a server that is asked for it."""

import gc
import json
import threading
import urllib.request
import weakref
from concurrent.futures import CancelledError, Executor, Future, as_completed

import pytest
from core_helpers import PATIENCE, thread, until

import rocket.futures
from rocket import ConfigError, Server, Worker
from rocket.futures import FuturesMiddleware, WSGIExecutor


@pytest.fixture
def executor():
    made = WSGIExecutor(2)
    yield made
    made.shutdown(wait=False, cancel_futures=True)


@pytest.fixture
def gate():
    """An event that is set at the end, so that no job waits for ever."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def clock(monkeypatch):
    """Set the executor's clock by hand: `clock.now += 30`."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(rocket.futures, "time", made)
    return made


def fill(executor, gate, count=2):
    """Keep *count* threads busy until *gate* is set."""
    begun = threading.Semaphore(0)

    def wait():
        begun.release()
        gate.wait(PATIENCE)

    jobs = [executor.submit(wait) for _ in range(count)]
    for _ in jobs:
        assert begun.acquire(timeout=PATIENCE)
    return jobs


def test_it_is_an_executor_of_concurrent_futures(executor):
    assert isinstance(executor, Executor)
    future = executor.submit(pow, 2, exp=5)
    assert isinstance(future, Future)
    assert future.result(PATIENCE) == 32
    assert list(executor.map(pow, (1, 2, 3), (2, 2, 2))) == [1, 4, 9]
    assert {each.result() for each in as_completed([executor.submit(abs, -1), executor.submit(abs, 2)])} == {1, 2}
    assert (executor.multithread, executor.multiprocess) == (True, False)


def test_what_the_job_raises_is_the_futures_exception(executor):
    assert isinstance(executor.submit(lambda: 1 / 0).exception(PATIENCE), ZeroDivisionError)
    assert isinstance(executor.submit(exit, 3).exception(PATIENCE), SystemExit)
    assert executor.submit(abs, -1).result(PATIENCE) == 1  # its thread is still there


def test_no_more_threads_than_asked_for_and_none_before_the_first_job(executor, gate):
    assert not [each for each in threading.enumerate() if each in executor._threads]
    fill(executor, gate)
    more = [executor.submit(threading.current_thread) for _ in range(20)]
    assert len(executor._threads) == 2
    gate.set()
    assert {future.result(PATIENCE) for future in more} <= set(executor._threads)


def test_a_free_thread_is_used_again(executor):
    for _ in range(10):
        executor.submit(int).result(PATIENCE)
        until(lambda: not executor._unfinished)  # it is told after the result
    assert len(executor._threads) == 1


def test_its_threads_do_not_keep_the_process(executor):
    assert executor.submit(lambda: threading.current_thread().daemon).result(PATIENCE)


def test_jobs_and_results_are_let_go(executor):
    class Big:
        pass

    big = Big()
    gone = weakref.ref(big)
    executor.submit(lambda it: it, big).result(PATIENCE)
    del big
    until(lambda: gc.collect() >= 0 and gone() is None)


def test_a_future_is_found_by_its_name_until_it_is_forgotten(executor):
    future = executor.submit(int).remember("report")
    assert executor.futures["report"] is future
    assert "report" in executor.futures
    assert dict(executor.futures.items()) == {"report": future}
    future.forget()
    future.forget()
    assert len(executor.futures) == 0
    assert executor.futures.get("report") is None


def test_a_name_is_given_once_unless_it_is_to_be_replaced(executor, gate):
    first = executor.submit(gate.wait).remember("report")
    second = executor.submit(int)
    with pytest.raises(NameError, match="'report'"):
        second.remember("report")
    assert executor.futures["report"] is first
    assert second.remember("report", duplicate_behavior="replace") is second
    assert executor.futures["report"] is second
    first.forget()  # not second, which has its name now
    assert executor.futures["report"] is second
    with pytest.raises(ValueError, match="'sometimes'"):
        second.remember("other", duplicate_behavior="sometimes")


def test_a_second_name_takes_the_place_of_the_first(executor):
    future = executor.submit(int).remember("one").remember("two")
    assert dict(executor.futures.items()) == {"two": future}


def test_futures_cannot_be_assigned_to(executor):
    with pytest.raises(TypeError):
        executor.futures["report"] = executor.submit(int)


def test_a_result_is_remembered_for_its_lifespan_after_it_is_done(executor, gate, clock):
    future = executor.submit(gate.wait).remember("report", lifespan=10)
    clock.now += 1000  # it is not done
    assert "report" in executor.futures
    gate.set()
    future.result(PATIENCE)
    until(lambda: executor.futures._ends)
    clock.now += 9.9
    assert "report" in executor.futures
    clock.now += 0.2
    assert list(executor.futures) == []
    executor.submit(int).remember("report")  # the name is free


def test_the_lifespan_is_30_seconds_and_counts_from_now_if_it_is_done_already(executor, clock):
    future = executor.submit(int)
    future.result(PATIENCE)
    clock.now += 100
    future.remember("report")
    clock.now += 29
    assert "report" in executor.futures
    clock.now += 2
    assert "report" not in executor.futures


def test_what_has_waited_for_a_thread_for_longer_than_its_timeout_is_cancelled(executor, gate, clock):
    fill(executor, gate)
    late, patient = executor.submit(int), executor.submit(int)
    late.timeout = 90
    clock.now += 91
    gate.set()
    with pytest.raises(CancelledError):
        late.result(PATIENCE)
    assert patient.result(PATIENCE) == 0


def test_what_waits_can_be_cancelled_and_what_runs_not(executor, gate):
    running, _ = fill(executor, gate)
    waiting = executor.submit(int)
    assert waiting.cancel()
    assert not running.cancel()
    gate.set()
    assert executor.submit(int).result(PATIENCE) == 0


def test_after_shutdown_nothing_is_taken_and_what_waits_is_done_or_dropped(executor, gate):
    fill(executor, gate)
    waiting = executor.submit(int)
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(int)
    assert not waiting.done()
    other = WSGIExecutor(1)
    fill(other, gate, 1)
    dropped = other.submit(int)
    other.shutdown(wait=False, cancel_futures=True)
    assert dropped.cancelled()
    gate.set()
    executor.shutdown()
    assert waiting.result(0) == 0
    assert not any(each.is_alive() for each in executor._threads)


def test_shutdown_in_a_job_does_not_wait_for_itself(executor):
    executor.submit(executor.shutdown).result(PATIENCE)


def test_finish_waits_for_the_jobs_but_not_for_ever(executor, gate):
    assert executor.finish(PATIENCE)
    fill(executor, gate)
    assert not executor.finish(0)
    assert not executor.finish(PATIENCE, hurry=lambda: True)
    gate.set()
    assert executor.finish(PATIENCE)


def test_submitting_while_it_is_shut_down_loses_nothing(hasty_threads):
    """Each job is refused, dropped or done; none waits for ever."""
    for _ in range(50):
        executor = WSGIExecutor(2)
        futures = []
        ready = threading.Barrier(2)

        def submit(executor=executor, futures=futures, ready=ready):
            ready.wait(PATIENCE)
            try:
                while True:
                    futures.append(executor.submit(int))
            except RuntimeError:
                pass

        with thread(submit):
            ready.wait(PATIENCE)
            executor.shutdown()
        for future in futures:
            assert future.result(PATIENCE) == 0


def test_a_pool_without_threads_is_refused():
    with pytest.raises(ValueError, match="0"):
        WSGIExecutor(0)


# --- In a server -----------------------------------------------------------------------------------------------------


class App:
    """/start?name submits a job that waits for `gate`; /result?name tells what became of it; / tells what there is."""

    def __init__(self, gate):
        self.gate = gate
        self.begun = threading.Event()

    def __call__(self, environ, start_response):
        name = environ["QUERY_STRING"]
        executor, futures = environ.get("wsgiorg.executor"), environ.get("wsgiorg.futures")
        if environ["PATH_INFO"] == "/start":
            executor.submit(self.job, name).remember(name)
            answer = sorted(futures)
        elif environ["PATH_INFO"] == "/result":
            answer = futures[name].result(PATIENCE)
            futures[name].forget()
        else:
            answer = [executor is not None, futures is not None]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def job(self, name):
        self.begun.set()
        self.gate.wait(PATIENCE)
        return f"{name} by {threading.current_thread().name}"


@pytest.fixture
def app(gate):
    return App(gate)


def ask(server, path=""):
    with urllib.request.urlopen(server.url + path, timeout=PATIENCE) as response:
        return json.load(response)


def test_a_job_goes_on_behind_its_answer_and_another_request_has_its_result(app, gate):
    with Server(app, bind="127.0.0.1:0", futures=2) as server:
        assert ask(server) == [True, True]
        assert ask(server, "start?report") == ["report"]
        gate.set()
        assert ask(server, "result?report").startswith("report by rocket-future-")


def test_without_the_option_there_is_neither(app):
    with Server(app, bind="127.0.0.1:0") as server:
        assert ask(server) == [False, False]


def test_stopping_waits_for_jobs_in_progress(app, gate):
    server = Server(app, bind="127.0.0.1:0", futures=1, graceful_timeout=PATIENCE)
    server.start()
    ask(server, "start?report")
    finished = []
    with thread(lambda: finished.append(server.drain())):
        assert app.begun.wait(PATIENCE)
        gate.set()
    assert finished == [True]


def test_a_stuck_job_does_not_stop_the_stop(app, caplog):
    server = Server(app, bind="127.0.0.1:0", futures=1, graceful_timeout=0.05)
    server.start()
    ask(server, "start?stuck")
    ask(server, "start?never")
    assert not server.drain()
    assert not server.running
    assert "wsgiorg.executor" in caplog.text


def test_a_server_that_is_started_again_has_a_new_executor(app, gate):
    server = Server(app, bind="127.0.0.1:0", futures=1)
    gate.set()
    for _ in range(2):
        with server:
            ask(server, "start?report")
            assert ask(server, "result?report").startswith("report")


def test_futures_are_for_wsgi_applications():
    class Lines(Worker):
        pass

    with pytest.raises(ConfigError, match=r"futures \(3\).*Lines"):
        Server(object(), worker=Lines, futures=3)


def test_the_middleware_gives_them_to_an_application_on_any_server(app, gate):
    wrapped = FuturesMiddleware(app, threads=1)
    gate.set()
    with Server(wrapped, bind="127.0.0.1:0") as server:
        ask(server, "start?report")
        assert ask(server, "result?report").startswith("report")
    wrapped.executor.shutdown()
