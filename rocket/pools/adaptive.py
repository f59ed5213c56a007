"""The policy that finds the number of threads by what the workers wait for: CPU, or something else."""

from __future__ import annotations

import math
from collections import deque

from rocket.errors import ConfigError
from rocket.pools.policy import Readings, ScalingPolicy

TAU = 0.3  # s: the time constant of all means
TARGET = 0.95  # of the CPU: growing stops here
LATE, LATE_TARGET = 0.1, 0.97  # s, of the CPU: here, once the queue's head has waited for that long
FULL = 0.98  # of the CPU: more threads only add switching. In between nothing changes
AGE = 0.005  # s: what the head of the queue may wait before that means anything
SHORTEST_STALL, LONGEST_STALL = 0.02, 0.25  # s
STALL = 12  # mean turns: when nothing has moved for so long, it stalls
LONG = 12  # usual turns: what takes longer takes long,
SHORTEST_LONG, UNKNOWN_LONG = 0.02, 1.0  # s: at the least; as long as nobody knows what is usual
SHARE_PAUSE, SHARE_STEP = 0.05, 4  # s: how often the share of those who wait beside it grows, by one worker in so many,
SHARE_MOST = 8  # at most to so many for each that takes long,
SHARE_LEFT = 0.1  # of the CPU: and not when that uses no more than this
WINDOW = 30.0  # s: shrinking goes to the peak in this time
SHRINK_PAUSE = 1.0  # s
REGRET = 3.0  # s: a cut that is undone so soon was wrong,
REMEMBER = 10.0  # s: and is not repeated for so long
THROTTLED = 0.05  # of the time: a quota that bites is a full CPU
OTHERS = 0.2  # cores: used by threads outside of the pool
ROBBED = 0.85  # of the CPU: a process that computes all the time gets more on a quiet host
CONTENDED = 0.8  # switch intervals that the controller is late: somebody always holds the GIL
STARVED = 4  # switch intervals: adding threads would starve the controller,
EXPLAINED = 0.7  # of the CPU: unless it is the workers' own CPU time that makes it late
FLOODED = 8  # switch intervals: cut faster
SHORTEST_SWITCH = 0.005  # s: STARVED and FLOODED count in at least this; neighbours make us that late, too


class AdaptivePolicy(ScalingPolicy):
    """Grow to the knee while work waits, cut when the CPU or the GIL is full, shrink to the recent peak.

    The knee is the number of workers that just fills the CPU they can get, one core under a GIL: *busy*
    workers that use *c* of it suggest busy * 0.95 / c. With a request of c seconds of CPU and b of waiting
    that is 1 + b/c from any number below it, so growing does not search: it arrives.

    Above 0.98 of the CPU the goal falls by a tenth each 0.3 s, to the floor: the cores it can use plus
    *spare*, so that another request can be read while one computes. Requests that take long, 12 times as long as is
    usual (20 ms at the least), do not count, and those that wait behind them get workers until they have enough of the
    CPU (`_room`). When nothing moves for 12 usual turns (within 20 to 250 ms) one worker more is let in, whatever the
    CPU says. Nothing waits: shrink by a quarter of the surplus each second, to 1.25 of the peak in *window* s.

    Every constant is a time or a ratio, and every mean knows dt, so it may be asked at any pace. Where workers
    compute but neighbours take the CPU, they look as if they waited; then what they get is all there is (`_starved`).

    Under more load than CPU a few per cent of it decide how long the queue becomes. So it may grow to 0.97 once the
    queue's head has waited for 0.1 s, and a cut that had to be undone is not repeated for 10 s: cut and undone in turn
    cost 3 to 7 %.
    """

    pulse = 0.004  # below AGE: the wait for a thread that is missing is the sum of both
    needs = frozenset({"throttled"})  # costs nothing where there is no quota

    def __init__(self, spare: int = 1, window: float = WINDOW) -> None:
        if not isinstance(spare, int) or spare < 0:
            raise ConfigError(f"scaling: adaptive needs a whole number of spare workers, at least 0, not {spare}")
        if window <= 0:
            raise ConfigError(f"scaling: adaptive needs a window of more than 0 s, not {window}")
        self.spare = spare
        self.window = window
        self._busy = self._used = 0.0  # means: workers, share of the CPU
        # s, mean. As if the CPU were contended: a rush on a robbed host that comes first is not taken for waiting.
        self._late = 0.005
        self._others = 0.0  # mean: cores that threads outside of the pool used
        self._process = ROBBED  # mean: share of the CPU that the process got while all of it was taken; at most this
        self._turn = 0.01  # s, mean
        self._long = 0  # workers at turns that take long
        self._long_cpu = 0.0  # mean: share of the CPU that turns use which are not finished
        self._brief = self._rate = 0.0  # means: workers at other turns; turns finished per second
        self._extra = 0  # workers that those get beside the ones that take long
        self._extra_at = -math.inf  # monotonic s: when that was changed last
        self._cut = self._grown = -math.inf  # monotonic s: the last cut, the last escape from a stall
        self._full_cut = (-math.inf, 0)  # monotonic s, workers: the last cut for a full CPU, and the goal before
        self._needed = (-math.inf, 0)  # monotonic s, workers: when such a cut was undone, and the goal before it
        # (monotonic s, workers in use): the falling maxima of the window, highest first.
        self._peaks: deque[tuple[float, int]] = deque()

    def target(self, readings: Readings) -> int:
        r = readings
        cap = self._capacity(r)
        self._average(r, cap)
        floor = max(r.min, min(r.max, math.ceil(cap) + self.spare))
        # Without the GIL a worker for each core costs nothing: it need not be shown that it is needed.
        patience = AGE if r.gil or r.goal >= cap else 0.0
        waits = r.queued > 0 and r.oldest > patience and r.busy >= r.goal
        stalled = waits and self._stalled(r)
        use = r.busy_max + min(r.queued, r.busy_max)
        if self._used > FULL or (r.throttled or 0.0) > THROTTLED:
            # What was in use before it became full is no guide any more.
            self._peaks = deque([(r.now, min(use, r.goal))])
            return self._when_full(r, floor, waits, stalled)
        self._remember(r.now, use)
        if waits:
            return self._when_waiting(r, cap, floor, stalled)
        self._room(r, floor, waits=False)
        return self._when_calm(r)

    # ------------------------------------------------------------------ what is measured

    def _capacity(self, r: Readings) -> float:
        """How many cores the workers can use."""
        # With a GIL more than one core, and no wait for it, is native code that runs beside it.
        if not r.gil or (r.cpu > 1.15 and self._late < r.switch / 2):
            return r.cpus
        return 1.0

    def _average(self, r: Readings, cap: float) -> None:
        weight = 1 - math.exp(-r.dt / TAU)
        self._busy += weight * (r.busy_avg - self._busy)
        self._used += weight * (min(1.5, r.cpu / cap) - self._used)
        self._late += weight * (r.lateness - self._late)
        contended = min(self._late, r.lateness) > CONTENDED * r.switch  # the mean alone would say so for too long
        got = r.proc_cpu / cap if contended else 1.0
        self._process = min(ROBBED, self._process + weight * (got - self._process))
        self._others += weight * (max(0.0, r.proc_cpu - r.cpu) - self._others)
        if r.finished:
            self._turn += weight * (r.wall / r.finished - self._turn)
        # By Little's law, without those that take long: one of them, when it ends, would count as much as thousands.
        limit = max(SHORTEST_LONG, LONG * self._brief / self._rate) if self._rate else UNKNOWN_LONG
        self._long = sum(age > limit for age in r.ages)
        self._brief += weight * (max(0.0, r.busy_avg - self._long) - self._brief)
        self._rate += weight * (r.finished / r.dt - self._rate)
        self._long_cpu += weight * ((r.cpu - r.turn_cpu / r.dt) / cap - self._long_cpu)

    def _starved(self) -> bool:
        """Whether neighbours take the CPU that the workers would use.

        Whoever wakes up finds the CPU, or the GIL, taken, by nobody but the workers, and yet they do not get all of it:
        then their CPU time is low for want of a CPU.
        """
        return self._process < ROBBED and self._others < OTHERS

    def _mistaken(self, r: Readings) -> bool:
        """Whether something keeps the GIL that is no CPU time: native code that waits without giving it up."""
        return r.gil and self._late >= STARVED * max(r.switch, SHORTEST_SWITCH) and self._used < EXPLAINED

    def _stalled(self, r: Readings) -> bool:
        return min(r.since_start, r.oldest) > self._patience

    @property
    def _patience(self) -> float:
        """Seconds without movement that are a stall: relative to what is usual here."""
        return min(LONGEST_STALL, max(SHORTEST_STALL, STALL * self._turn))

    def _remember(self, now: float, use: int) -> None:
        peaks = self._peaks
        while peaks and peaks[-1][1] <= use:
            peaks.pop()
        peaks.append((now, use))
        while peaks[0][0] < now - self.window:
            peaks.popleft()

    # ------------------------------------------------------------------ what follows

    def _room(self, r: Readings, floor: int, waits: bool) -> int:
        """How many workers there may be beside those that take long, and with them.

        CPU and GIL are shared among all that compute. Where h of them take long, k others get k / (h + k) of it: to
        have a share of 0.8 takes four for each. What share they need nobody says, so *extra* grows while they wait, as
        long as some are finished (or there would just be more of the long ones) and there is something to be had; it
        shrinks when none waits.
        """
        if not self._long:
            self._extra = 0
            # Where all take seconds that is usual, but a few more may be let in all the same.
            return floor + min(r.stuck, 2 * floor)
        room = floor + self._long + self._extra
        if r.oldest <= AGE:
            if r.now - self._extra_at > SHRINK_PAUSE and self._extra:
                self._extra_at = r.now
                self._extra -= max(1, self._extra // 4)
        elif (
            waits
            and r.goal >= room
            and self._extra < SHARE_MOST * self._long
            and r.finished
            and self._long_cpu > SHARE_LEFT
            and r.now - self._extra_at > SHARE_PAUSE
        ):
            self._extra_at = r.now
            self._extra += max(1, (floor + self._extra) // SHARE_STEP)
        return floor + self._long + self._extra

    def _let_in(self, r: Readings, room: int) -> int:
        others = f"{self._long} take much longer than is usual" if self._long else f"{r.stuck} are stuck"
        self.reason = f"{others}, {r.queued} wait beside them"
        return room

    def _when_full(self, r: Readings, floor: int, waits: bool, stalled: bool) -> int:
        room = self._room(r, floor, waits)
        if waits and r.goal < room:
            return self._let_in(r, room)
        when, needed = self._needed
        base = max(room, floor + r.stuck, needed if r.now - when < REMEMBER else 0)
        if self._long:
            # They would fill the CPU all alone, which says nothing of the others: these may wait for something else.
            base = r.goal if waits else max(base, self._long + math.ceil(1.25 * self._brief) + 1)
        if r.goal > base and not stalled and r.now - self._cut >= TAU:
            self._cut = r.now
            self._full_cut = r.now, r.goal
            self.reason = f"the CPU is full: the workers use {self._used:.0%} of what they can"
            return max(base, int(r.goal * (0.75 if self._late > FLOODED * max(r.switch, SHORTEST_SWITCH) else 0.9)))
        pause = min(2.0, self._patience * (1 + max(0, r.goal - floor) / 4))
        if stalled and r.now - self._grown > pause:
            return self._escape(r)
        if waits:
            self.reason = "the CPU is full" + ("; more processes could use more" if r.gil else "")
        return r.goal

    def _when_waiting(self, r: Readings, cap: float, floor: int, stalled: bool) -> int:
        target, used = TARGET if r.oldest < LATE else LATE_TARGET, self._used
        if self._starved():
            # What it gets is all there is, and as soon as it uses that, the CPU is full.
            target *= self._process
            used = max(used, r.cpu / cap)
        knee = max(floor + 1, math.ceil((self._busy - r.stuck) * target / max(used, 1e-3))) + r.stuck
        may_grow = used < target and not self._mistaken(r)
        if r.goal < knee and (may_grow or r.goal < floor + r.stuck):
            when, before = self._full_cut
            if r.goal < before and r.now - when < REGRET:
                self._needed = r.now, before
            self.reason = (
                f"queue {r.queued} long, {r.oldest * 1e3:.0f} ms > {AGE * 1e3:g} ms, "
                f"the workers use {self._used:.0%} of the CPU they can"
            )
            return min(r.goal + min(r.queued, max(1, r.goal)), knee)
        room = self._room(r, floor, waits=True)
        if r.goal < room:
            return self._let_in(r, room)
        if stalled and r.now - self._grown > self._patience:
            return self._escape(r)
        self.reason = f"{r.goal} workers nearly fill the CPU ({self._used:.0%})"
        return r.goal

    def _escape(self, r: Readings) -> int:
        self._grown = r.now
        self.reason = f"nothing has moved for {min(r.since_start, r.oldest) * 1e3:.0f} ms"
        return r.goal + 1

    def _when_calm(self, r: Readings) -> int:
        peak = self._peaks[0][1]
        keep = math.ceil(1.25 * peak) + 1
        if r.goal > keep and r.now - self._cut >= SHRINK_PAUSE:
            self._cut = r.now
            self.reason = f"at most {peak} were needed in {self.window:g} s"
            return max(keep, r.goal - max(1, (r.goal - keep) // 4))
        return r.goal
