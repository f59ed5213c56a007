"""When a pool counts as ill."""

from rocket.pools.health import Health


class Pool:
    turns = 0
    queued = 0


class Controller:
    """Looks when it is woken, unless it is dead."""

    looks = 0
    dead = False

    def wake(self):
        if not self.dead:
            self.looks += 1


def test_an_idle_pool_is_well():
    health = Health(Pool(), Controller())
    assert [health.ailment() for _ in range(3)] == ["", "", ""]


def test_a_busy_pool_that_finishes_something_is_well():
    pool = Pool()
    pool.queued = 5
    health = Health(pool, Controller())
    for _ in range(3):
        pool.turns += 1
        assert health.ailment() == ""


def test_a_pool_that_is_busy_while_nobody_waits_is_well():
    pool = Pool()
    health = Health(pool, Controller())
    for pool.queued in (0, 1, 0, 1, 0):  # somebody waits now and then, for a moment
        assert health.ailment() == ""


def test_a_pool_that_finishes_nothing_while_requests_wait_is_ill_until_it_does():
    pool = Pool()
    health = Health(pool, Controller())
    pool.queued = 2
    assert health.ailment() == ""
    pool.queued = 3
    assert health.ailment() == "3 requests wait, and none is finished"
    assert health.ailment()
    pool.turns += 1
    assert health.ailment() == ""


def test_a_controller_that_does_not_wake_up_is_an_illness():
    controller = Controller()
    health = Health(Pool(), controller)
    assert health.ailment() == ""
    controller.dead = True
    health.ailment()
    assert health.ailment() == "the controller does not look after the threads"
    controller.dead = False
    health.ailment()
    assert health.ailment() == ""
