"""What the pools' test modules share. Nothing here is a fixture."""

from rocket.pools import Readings

QUIET = Readings(
    now=100.0, dt=0.25, goal=4, threads=4, busy=0, busy_avg=0.0, busy_max=0, stuck=0, queued=0, oldest=0.0,
    arrived=0, started=0, finished=0, wall=0.0, lateness=0.0, gil=True, min=2, max=16,
)  # fmt: skip


def readings(**changes):
    return Readings(**{**QUIET.__dict__, **changes})
