"""Applications that raise, hang, fork or kill threads. The server goes on, as strong as before."""

import os
import signal

import psutil
import pytest
from e2e_client import Client
from e2e_server import until
from faults_client import GET, PATIENCE, Crowd, Normal, allowed, ask, read_all, request, tell

from rocket.bench.processes import free_port

# A pool of full size from the start, so that a lost thread shows.
EIGHT = ("--threads", "8", "--scaling", "fixed:8")
PLACES = ("call", "started", "iter", "first", "second", "close", "exit")
ERRORS = "BaseException KeyboardInterrupt SystemExit GeneratorExit StopIteration MemoryError RecursionError".split()  # noqa: SIM905


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_an_application_raises_wherever_it_costs_no_thread(serve, error):
    server = serve(*EIGHT)
    server.expects_errors = True
    server.warm_up()
    before = server.holds()
    for place in PLACES:
        for _ in range(9):  # one more than there are threads
            with tell(server.address, request(f"/fail?error={error}&where={place}", "Connection: close")) as client:
                answer = read_all(client)
            if error == "StopIteration" and place in {"first", "second"}:
                assert answer.startswith(b"HTTP/1.1 200 ")  # no error, but the end
            elif place in {"second", "close"}:
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert answer.endswith(b"0\r\n\r\n") is (place == "close")  # cut off is to be seen as such
            else:
                assert answer.startswith(b"HTTP/1.1 500 ")
    assert ask(server.address, "/deep").status == 500
    server.recovers(before)
    server.regains_strength()
    assert "died; another will be started" not in server.log


@pytest.mark.parametrize("which", ["leader", "sleepers", "all"])
def test_killed_worker_threads_are_replaced(serve, which):
    server = serve(*EIGHT)
    server.expects_errors = True
    server.warm_up()
    threads = server.threads

    def replaces():
        assert int(ask(server.address, f"/kill?which={which}").body) >= 1
        took = server.capacity(8)
        server.regains_strength()
        return took < 0.5 + 1.2

    for _ in range(3):
        until(replaces, "they are replaced within a second")
    until(lambda: server.threads == threads, "as many threads as before")
    server.line("died; another will be started")
    until(lambda: not server.connections, "no connection is lost")


def test_requests_that_wait_while_all_threads_are_stuck_are_refused_in_time(serve):
    server = serve("--threads", "4", "--queue-timeout", "1", "--max-queue", "50")
    server.warm_up()
    with Crowd(server.address, 4, first=request("/hold")) as stuck:
        until(lambda: server.log.count("holding") == 4, "all threads are stuck")
        with Crowd(server.address, 100, first=GET) as crowd:
            assert crowd.wait()
        assert stuck.got == 4 * [b""]
        server.signal(signal.SIGUSR2)
        until(lambda: all(b"held" in got for got in stuck.got), "the handlers are done")
    for answer in crowd.answers:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in answer
    assert max(crowd.ages) < allowed(3)
    assert ask(server.address).status == 200
    server.regains_strength(4)


@pytest.mark.slow
def test_a_log_line_names_the_thread_and_the_path_of_a_stuck_handler(serve):
    server = serve("--threads", "4")
    with tell(server.address, request("/sleep?s=13")) as client:
        server.line(r"WARNING .*rocket-worker-\d+.*/sleep", patience=PATIENCE)
        assert client.answer().status == 200
    assert server.log.count("/sleep") == 1


@pytest.mark.parametrize("stuck", [1, 3])
def test_stuck_handlers_do_not_delay_others_while_a_thread_is_free(serve, stuck):
    server = serve("--threads", "4")
    server.warm_up()
    with Crowd(server.address, stuck, first=request("/sleep?s=3")), Normal(server.address) as normal:
        until(lambda: len(normal.times) > 50, "a normal client is served")
    assert normal.median < allowed(0.05)
    assert normal.at(0.9) < allowed(0.25)


# ---------------------------------------------------------------------- fork and exec


def test_no_descriptor_is_inherited_by_a_program_that_a_handler_starts(serve):
    server = serve("--threads", "2")
    with Client(server.address) as idle:
        idle.ask("/hello")
        assert ask(server.address, "/cloexec").body == b"{}"


@pytest.mark.parametrize("how", ["/popen", "/fork?how=live"], ids=["exec", "fork"])
def test_a_child_that_outlives_the_server_holds_neither_its_port_nor_its_connections(serve, how):
    bind = f"127.0.0.1:{free_port()}"
    server = serve("--threads", "2", bind=bind)
    with Client(server.address) as idle, Client(server.address) as client:
        idle.ask("/hello")
        child = psutil.Process(int(client.ask(how).body))
        try:
            server.signal(signal.SIGTERM)
            assert server.process.wait(PATIENCE) == 0
            assert idle.rest() == b""
            assert client.rest() == b""
            again = serve("--threads", "2", bind=bind)
            assert ask(again.address).status == 200
            assert child.is_running()
        finally:
            child.kill()


@pytest.mark.parametrize("how", ["_exit", "exit", "answer"])
def test_a_forked_child_ends_without_touching_the_servers_connections(serve, how):
    server = serve("--threads", "4")
    server.expects_errors = True
    server.warm_up()
    with Client(server.address) as idle:
        idle.ask("/hello")
        for _ in range(3):
            with Client(server.address) as client:
                child = int(client.ask(f"/fork?how={how}").body)
                try:
                    until(lambda child=child: _has_ended(child), "the child has ended")
                finally:
                    _kill(child)
                assert client.ask("/hello").body == b"hello\n"  # nothing of the child's came before it
        for _ in range(50):
            assert idle.ask("/hello").status == 200
            assert ask(server.address).status == 200


def _has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _kill(pid):
    if not _has_ended(pid):
        os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------------- no memory for threads


def test_a_server_that_cannot_start_threads_goes_on_with_those_it_has(serve):
    server = serve("--threads", "2:40")
    server.warm_up()
    assert ask(server.address, "/limit").status == 200
    with Crowd(server.address, 40, first=request("/sleep?s=0.1", "Connection: close")) as crowd:
        assert crowd.wait()
    assert all(b"slept" in answer for answer in crowd.answers)
    server.line("cannot start a worker thread")
    assert server.log.count("cannot start a worker thread") == 1
    threads = server.threads
    assert ask(server.address, "/unlimit").status == 200
    with Crowd(server.address, 40, first=request("/sleep?s=0.5", "Connection: close")) as crowd:
        until(lambda: server.threads > threads + 2, "more threads")
        assert crowd.wait()
