"""The application's process, for real: orders, figures, and how it ends."""

import os
import signal

import pytest
from core_helpers import PATIENCE, until

from rocket.config import Config
from rocket.tuning.report import untuned
from rocket.tuning.samples import Setting, fixed
from rocket.tuning.target import LEAVE
from rocket.tuning.trial import Driver, Requests, Target, TargetFailed, probe, surroundings

APPLICATION = """
import os, sys, time
print("imported", flush=True)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/exit":
        os._exit(7)
    if path == "/wait":
        time.sleep(0.005)
    body = environ["wsgi.input"].read() + environ.get("HTTP_X_WORD", "").encode() + environ["REQUEST_METHOD"].encode()
    start_response("404 Not Found" if path == "/nothing" else "200 OK", [("Content-Length", str(len(body)))])
    return [body]

not_callable = 5
"""


@pytest.fixture
def start(tmp_path):
    """What starts a target with an attribute of the module, and stops it at the end."""
    (tmp_path / "tuned_app.py").write_text(APPLICATION)
    started = []

    def make(name="app"):
        target = Target([f"tuned_app:{name}", "--app-dir", str(tmp_path)])
        started.append(target)
        return target

    yield make
    for target in started:
        target.stop()


def test_a_measurement_has_what_clients_and_server_saw(start):
    target = start()
    target.wait()
    driver = Driver(target, Requests(("/wait",)), {})
    for seconds in (1.0, 5.0, 20.0):  # a busy machine may tell so late that they have begun that they are over
        sample = driver.measure(fixed(4), 2, seconds)
        if sample.turn > 0:
            break
    assert sample.requests > 0
    assert sample.errors == {}
    assert sample.threads == 4
    assert 0.005 <= sample.p50 <= sample.p99
    assert sample.turn >= 0.005
    assert sample.process_cpu > 0
    assert 0 < sample.busy <= 4
    assert sample.rss > 1 << 20
    assert "imported" in target.output()


def test_each_setting_has_a_server_of_its_own_unless_it_may_go_on(start):
    target = start()
    target.wait()
    first = target.start(Setting(1, 2).options())
    assert target.start(Setting(1, 2).options()) == first
    assert target.figures()["threads"] == 1
    target.start(fixed(3).options())
    until(lambda: target.figures()["threads"] == 3)  # they are started by the controller
    turns = probe(target.server["port"], Requests(("/",))) and target.figures()["turns"]
    target.renew()
    target.start(fixed(3).options())
    assert target.figures()["turns"] < max(1, turns)


def test_what_is_sent_arrives(start):
    target = start()
    target.wait()
    port = target.start(Setting(1, 2).options())
    found = probe(port, Requests(("/a", "/nothing"), "PUT", (("X-Word", "hello"),), "grün"))
    assert found == [("/a", 200, "grünhelloPUT"), ("/nothing", 404, "grünhelloPUT")]
    sample = Driver(target, Requests(("/",), "PUT", (("X-Word", "x"),), "grün"), {}).measure(Setting(1, 2), 1, 1.0)
    assert sample.requests > 0


def test_surroundings_are_known(start):
    target = start()
    target.wait()
    target.start({**Setting(1, 2, monitor="poll").options()})
    where = surroundings(target.server)
    assert where.monitor == "poll"
    assert where.cpus > 0
    assert where.memory is None or where.memory > 1 << 20


def test_idle_connections_are_there_while_it_measures(start):
    target = start()
    target.wait()
    driver = Driver(target, Requests(("/",)), {}, idle=20)
    assert driver.measure(Setting(1, 2), 1, 1.0).requests > 0


def test_an_application_that_does_not_import_says_why(start):
    for name, told in (("missing", "has no attribute 'missing'"), ("not_callable", "is not callable")):
        target = start(name)
        with pytest.raises(TargetFailed) as failure:
            target.wait()
        assert failure.value.code == 4
        assert told in target.output()


def test_wrong_options_are_an_error_and_not_the_end(start):
    target = start()
    target.wait()
    with pytest.raises(TargetFailed, match="unknown policy 'nosuch'"):
        target.start({"scaling": "nosuch"})
    assert target.start({}) > 0


def test_a_process_that_dies_is_told_of(start):
    target = start()
    target.wait()
    port = target.start({})
    with pytest.raises(TargetFailed, match="/exit was not answered"):
        probe(port, Requests(("/exit",)))
    with pytest.raises(TargetFailed, match="ended with 7 instead of answering"):
        target.check()
    with pytest.raises(TargetFailed, match="ended with 7"):
        target.figures()


def test_stop_may_be_called_often_and_leaves_no_process(start):
    target = start()
    target.wait()
    target.start({})
    pid = target._process.pid
    target.stop()
    target.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_target_ends_with_who_started_it(start):
    target = start()
    target.wait()
    target.start({})
    target._to.close()  # as the end of our process would
    assert target._process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_a_target_that_hangs_while_it_is_imported_ends_with_who_started_it(tmp_path):
    (tmp_path / "hanging.py").write_text("import threading\nprint('here', flush=True)\nthreading.Event().wait()\n")
    target = Target(["hanging", "--app-dir", str(tmp_path)])
    try:
        until(lambda: "here" in target.output())
        target._to.close()
        assert target._process.wait(LEAVE + 20) == 1
    finally:
        target.stop()


def test_a_target_that_does_not_end_is_killed(start):
    target = start()
    target.wait()
    os.kill(target._process.pid, signal.SIGSTOP)
    target._to.close()
    target._process.kill()
    until(lambda: target._process.poll() is not None)


def test_only_what_concerns_the_load_is_passed_on():
    config = Config(bind="0.0.0.0:80", log_level="debug", keep_alive=5, max_threads=7, backlog=10, max_queue=9)
    assert untuned(config) == {"keep_alive": 5.0, "backlog": 10, "max_queue": 9}
