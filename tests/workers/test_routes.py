"""What the learned hand-over learns."""

import time

from workers_helpers import GET, answering

from rocket.workers.routes import FAST, SLOW, Routes


def test_a_route_is_not_known_before_it_was_slow():
    routes = Routes()
    routes.learn("/", 1.0)
    assert not routes.waits


def test_a_route_that_waits_is_learned_in_a_few_requests():
    routes = Routes()
    routes.watch("/")
    assert routes.waits["/"] < SLOW
    for _ in range(2):
        routes.learn("/", 0.01)
    assert routes.waits["/"] > SLOW


def test_a_route_that_computes_is_forgotten():
    routes = Routes()
    routes.watch("/")
    for _ in range(20):
        routes.learn("/", 0.0)
    assert not routes.waits


def test_a_route_that_waits_no_more_is_not_handed_over_any_longer():
    routes = Routes()
    routes.watch("/")
    for _ in range(50):
        routes.learn("/", 0.01)
    for _ in range(20):
        routes.learn("/", 2 * FAST)
    assert routes.waits["/"] < SLOW


def test_what_is_known_is_kept_when_a_route_is_watched_again():
    routes = Routes()
    routes.watch("/")
    routes.learn("/", 1.0)
    known = routes.waits["/"]
    routes.watch("/")
    assert routes.waits["/"] == known


def test_the_oldest_route_goes_when_the_table_is_full():
    routes = Routes(size=3)
    for number in range(5):
        routes.watch(f"/{number}")
    assert list(routes.waits) == ["/2", "/3", "/4"]


def test_a_table_that_has_grown_too_large_shrinks():
    routes = Routes(size=3)
    routes.waits.update({f"/{number}": 1.0 for number in range(9)})
    routes.watch("/new")
    assert len(routes.waits) == 3


def nap(environ, start_response):
    time.sleep(0.002)  # what is tested: a route that waits
    return answering([b"abc"])(environ, start_response)


def test_a_route_that_waits_is_handed_over_before_it_runs(stand):
    order = []

    def app(environ, start_response):
        order.append(tested.hand_overs)
        return nap(environ, start_response)

    tested = stand(app)
    for _ in range(5):
        tested.ask(GET)
    assert order[0] == 0
    assert order[-1] == tested.hand_overs >= 1


def test_the_gil_is_kept_around_the_answer_of_a_route_that_waits(stand):
    """Its handler has waited for the GIL once, to go on; each call that let it go would wait once more."""
    kept = []

    def app(environ, start_response):
        kept.append(tested.connection.keeps_gil)
        return answering([b"abc"])(environ, start_response)

    routes = Routes()
    routes.waits["/"] = 1.0
    tested = stand(app, routes=routes)
    tested.ask(GET)
    tested.worker.may_keep_gil = True
    tested.ask(GET)
    assert kept == [False, True]
    assert tested.connection.keeps_gil  # the next request is read so, too
    for waits in ({}, {"/": SLOW / 2}):
        tested.connection.keeps_gil = True
        routes.waits.clear()
        routes.waits.update(waits)
        tested.ask(GET)
        assert kept.pop() is False
    tested.worker.keeps_gil = True
    tested.ask(GET)
    assert kept.pop() is True


def test_a_route_that_computes_is_not_handed_over(stand):
    def app(environ, start_response):
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            pass
        return answering([b"abc"])(environ, start_response)

    routes = Routes()
    tested = stand(app, routes=routes)
    tested.ask(GET)
    assert "/" in routes.waits
    # What a busy machine takes away counts as waiting: learn from a quiet one.
    routes.waits["/"] = SLOW / 2
    before = tested.hand_overs
    tested.ask(GET)
    assert tested.hand_overs == before


def test_a_fast_route_is_not_measured(stand):
    routes = Routes()
    stand(answering([b"abc"]), routes=routes).ask(GET.replace(b"/ ", b"/fast "))
    assert len(routes.waits) <= 1  # a busy machine may make it slow


def test_workers_learn_together(stand):
    routes = Routes()
    routes.watch("/")
    routes.learn("/", 1.0)
    tested = stand(answering([b"abc"]), routes=routes)
    tested.ask(GET)
    assert tested.hand_overs == 1
