"""The simulator's arithmetic, and what the policies reach in it."""

import math
from dataclasses import replace
from statistics import geometric_mean

import pytest
from holdout import holdout, reports, visitors

from rocket.errors import ConfigError
from rocket.pools import AdaptivePolicy, FixedPolicy, LoadPolicy, QueuePolicy, ScalingPolicy, StallPolicy
from rocket.pools.simulator import SIZES, Workload, best_fixed, cpu, io, poisson, simulate, table
from rocket.pools.workloads import WORKLOADS, load_workload, with_host

HOLDOUTS = 24


def workload(*requests, **options):
    """A workload of (time, phases) pairs."""
    return Workload("test", lambda: iter(requests), **{"seconds": 10.0, "contention": 0.0, **options})


def finished(result):
    return [time + latency for time, latency in result.latencies]


# ---------------------------------------------------------------------- the model


def test_waiting_goes_on_side_by_side():
    result = simulate(FixedPolicy(4), workload(*[(1.0, (io(0.5),))] * 4), min_threads=4)
    assert finished(result) == pytest.approx([1.5] * 4)


def test_computing_shares_the_gil():
    result = simulate(FixedPolicy(2), workload(*[(1.0, (cpu(0.5),))] * 2))
    assert finished(result) == pytest.approx([2.0, 2.0])


def test_short_phase_ends_first():
    result = simulate(FixedPolicy(2), workload((0.0, (cpu(1.0),)), (0.5, (cpu(0.1),))))
    assert finished(result) == pytest.approx([0.7, 1.1])


def test_without_the_gil_each_cpu_computes():
    result = simulate(FixedPolicy(2), workload(*[(1.0, (cpu(0.5),))] * 2, gil=False, cpus=2.0))
    assert finished(result) == pytest.approx([1.5, 1.5])


def test_hogs_and_neighbours_take_their_share():
    assert finished(simulate(FixedPolicy(1), workload((0.0, (cpu(1.0),)), hogs=1))) == pytest.approx([2.0])
    assert finished(simulate(FixedPolicy(1), workload((0.0, (cpu(1.0),)), share=0.5))) == pytest.approx([2.0])


def test_contention_costs_throughput():
    result = simulate(FixedPolicy(2), workload(*[(0.0, (cpu(0.5),))] * 2, contention=0.1))
    assert finished(result) == pytest.approx([1.1, 1.1])


def test_queue_is_first_in_first_out():
    requests = [(n / 1000, (io(0.5),)) for n in range(5)]
    result = simulate(FixedPolicy(1), workload(*requests), min_threads=1)
    assert [time for time, _ in result.latencies] == [time for time, _ in requests]
    assert finished(result) == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.5])


def test_what_is_not_finished_is_not_counted():
    result = simulate(FixedPolicy(1), workload(*[(9.0, (io(0.8),))] * 3), min_threads=1)
    assert (len(result.latencies), result.left) == (1, 1)


class Recorder(ScalingPolicy):
    def __init__(self):
        self.seen = []

    def target(self, readings):
        self.seen.append(readings)
        return readings.goal


def test_readings_are_exact():
    policy = Recorder()
    simulate(policy, workload((0.1, (cpu(0.1), io(0.1))), (0.1, (io(5.0),)), (0.15, (io(1.0),))))
    first = next(r for r in policy.seen if r.now == pytest.approx(0.25))
    assert (first.busy, first.busy_max, first.queued, first.finished) == (2, 2, 1, 0)
    assert first.oldest == pytest.approx(0.1)
    assert (sum(r.arrived for r in policy.seen), sum(r.started for r in policy.seen)) == (3, 3)
    assert sum(r.cpu * r.dt for r in policy.seen) == pytest.approx(0.1)
    assert sum(r.turn_cpu for r in policy.seen) == pytest.approx(0.1)
    assert sum(r.busy_avg * r.dt for r in policy.seen) == pytest.approx(6.2, abs=0.02)
    assert sum(r.wall for r in policy.seen) == pytest.approx(6.2)
    assert max(r.stuck for r in policy.seen) == 1


def test_policy_is_asked_at_its_pace():
    policy = Recorder()
    simulate(policy, workload((1.001, (io(1.0),)), (1.001, (io(1.0),)), (1.001, (io(1.0),))))
    times = [r.now for r in policy.seen]
    assert times[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert [r.now for r in policy.seen if 1.0 < r.now < 1.05] == pytest.approx([1.01, 1.02, 1.03, 1.04])


def test_policy_of_a_server_runs_as_it_is():
    class Bare:
        """All that a server asks for."""

        def target(self, readings):
            return readings.busy + readings.queued

    assert simulate(Bare(), WORKLOADS["mixed"]).throughput > 240


@pytest.mark.parametrize("answer", [None, math.nan, "8", 3.5, True])
def test_answer_that_is_no_int_is_an_error(answer):
    class Wrong:
        def target(self, readings):
            return answer

    with pytest.raises(TypeError, match="not an int"):
        simulate(Wrong(), WORKLOADS["mixed"])


def test_new_threads_take_a_moment():
    class Two(Recorder):
        def target(self, readings):
            return 2

    result = simulate(Two(), workload((0.2, (io(1.0),)), (0.2, (io(1.0),))), min_threads=1)
    assert finished(result) == pytest.approx([1.2, 1.2011])
    assert (result.changes, result.highest) == (1, 2)


def test_same_workload_gives_the_same_result():
    mixed = WORKLOADS["mixed"]
    assert simulate(AdaptivePolicy(), mixed) == simulate(AdaptivePolicy(), mixed)


def test_poisson_keeps_to_its_rate():
    times = [time for time, _ in poisson(200, lambda time, random: (), seconds=20, seed=1)]
    assert times == sorted(times)
    assert 3700 < len(times) < 4300


def test_best_fixed_size_is_the_smallest_p99_of_those_that_keep_up():
    requests = [(n / 100, (io(0.1),)) for n in range(500)]
    assert best_fixed(workload(*requests), (1, 4, 16)).policy == "fixed:16"


def test_table_compares_with_the_best():
    load = workload(*[(n / 100, (io(0.1),)) for n in range(500)])
    lines = table(best_fixed(load, (16,)), [simulate(FixedPolicy(4), load, min_threads=4, name="mine")]).splitlines()
    assert lines[0].split()[:2] == ["policy", "per"]
    assert lines[1].startswith("fixed:16")
    assert lines[2].startswith("mine")
    assert len({len(line) for line in lines}) == 1


def test_nothing_finished_is_no_error():
    result = simulate(FixedPolicy(1), workload((9.0, (io(5.0),))))
    assert result.latency(0.99) == math.inf
    assert "0/s" in str(result)


# ---------------------------------------------------------------------- workloads

mine = workload((1.0, (io(0.5),)))


def test_workloads_are_found_by_name_and_path():
    assert load_workload("mixed") is WORKLOADS["mixed"]
    assert load_workload(f"{__name__}:mine") is mine


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixd", "did you mean 'mixed'"),
        ("nonsense", "there are cpu60"),
        ("no.such.module:x", "cannot load"),
        (f"{__name__}:math", "is no Workload"),
    ],
)
def test_what_is_wrong_with_a_workload_is_said(text, message):
    with pytest.raises(ConfigError, match=message):
        load_workload(text)


def test_host_can_be_exchanged():
    other = with_host(WORKLOADS["mixed"], gil=False, cpus=8.0)
    assert (other.gil, other.cpus, other.name) == (False, 8.0, "mixed, no GIL")


# ---------------------------------------------------------------------- what the policies reach


def compare(policy, load, size):
    """Return throughput and p99 of *policy*, each divided by that of the fixed *size*."""
    best = best_fixed(load, (size,))
    result = simulate(policy, load)
    return result.throughput / best.throughput, result.latency(0.99) / best.latency(0.99)


def judge(ratios, throughput=(0.97, 0.93), p99=(1.15, 1.5)):
    """Check means and worst ones against what the policy is to reach."""
    assert geometric_mean(ratio for ratio, _ in ratios.values()) >= throughput[0], ratios
    assert min(ratio for ratio, _ in ratios.values()) >= throughput[1], ratios
    assert geometric_mean(ratio for _, ratio in ratios.values()) <= p99[0], ratios
    assert max(ratio for _, ratio in ratios.values()) <= p99[1], ratios


# The best fixed sizes, as `test_sizes_are_the_best_ones` finds them.
BEST = {
    True: {
        "cpu60": 1, "cpu-over": 1, "io-step": 64, "mixed": 16, "square": 64, "stuck20": 32, "leak": 64,
        "hogs": 8, "reports": 32, "heavy-tail": 8, "bursts": 8, "hog-io": 32, "hog-cpu": 4, "io-to-cpu": 32,
        "both-over": 16,
    },
    False: {
        "cpu60": 4, "cpu-over": 4, "io-step": 64, "mixed": 16, "square": 64, "stuck20": 32, "leak": 64,
        "hogs": 8, "reports": 32, "heavy-tail": 4, "bursts": 4, "hog-io": 32, "hog-cpu": 4, "io-to-cpu": 64,
        "both-over": 32,
    },
}  # fmt: skip
BEST_HOLDOUT = {
    True: (128, 16, 16, 1, 2, 1, 8, 1, 8, 1, 1, 64, 128, 2, 16, 1, 1, 32, 16, 1, 2, 16, 4, 16),
    False: (128, 16, 16, 4, 8, 4, 16, 4, 8, 4, 4, 128, 128, 8, 8, 4, 4, 64, 16, 4, 8, 16, 8, 64),
}
BEST_VISITORS = {
    True: (32, 1, 128, 32, 32, 128, 16, 4, 16, 1, 1, 4, 8, 64, 32, 4, 16, 4, 32, 32, 32, 64, 1, 16),
    False: (128, 4, 128, 128, 128, 128, 32, 8, 32, 4, 4, 8, 16, 128, 32, 16, 64, 8, 64, 128, 64, 128, 4, 64),
}
BEST_REPORTS = {
    True: (32, 16, 32, 4, 8, 16, 8, 4, 32, 4, 32, 2, 8, 2, 8, 32, 32, 8, 4, 32, 8, 32, 32, 32),
    False: (32, 16, 64, 8, 16, 64, 16, 4, 32, 4, 128, 4, 4, 4, 4, 8, 64, 32, 8, 64, 8, 64, 32, 32),
}


@pytest.mark.parametrize("gil", [True, False], ids=["gil", "free-threaded"])
def test_adaptive_is_as_good_as_the_best_fixed_size(gil):
    loads = {name: with_host(load, gil=gil, cpus=None if gil else 4.0) for name, load in WORKLOADS.items()}
    judge({name: compare(AdaptivePolicy(), load, BEST[gil][name]) for name, load in loads.items()})


@pytest.mark.parametrize("gil", [True, False], ids=["gil", "free-threaded"])
def test_adaptive_is_as_good_on_workloads_that_it_was_not_tuned_for(gil):
    judge(
        {
            number: compare(AdaptivePolicy(), holdout(number, gil=gil), BEST_HOLDOUT[gil][number])
            for number in range(HOLDOUTS)
        }
    )


@pytest.mark.parametrize("gil", [True, False], ids=["gil", "free-threaded"])
def test_adaptive_is_as_good_at_the_limit_of_the_cpu(gil):
    """Beside neighbours, too. Without the GIL number 0 is overloaded: 1.53 times the p99 of 128 threads."""
    ratios = {
        number: compare(AdaptivePolicy(), visitors(number, gil=gil), BEST_VISITORS[gil][number])
        for number in range(HOLDOUTS)
    }
    judge(ratios, p99=(1.15, 1.5 if gil else 1.6))


@pytest.mark.parametrize("gil", [True, False], ids=["gil", "free-threaded"])
def test_adaptive_serves_short_requests_beside_long_ones(gil):
    """With a GIL numbers 2 and 15 have 0.9 of the throughput, and less p99; in number 10 0.2 s pass for waiting."""
    ratios = {
        number: compare(AdaptivePolicy(), reports(number, gil=gil), BEST_REPORTS[gil][number])
        for number in range(HOLDOUTS)
    }
    judge(ratios, throughput=(0.97, 0.88), p99=(1.15, 1.7 if gil else 1.5))


def test_adaptive_regrets_a_cut_that_it_had_to_undo():
    """10 ms of CPU and 30 ms of waiting, 105 % of a core: to cut and grow in turn costs a queue that never ends."""
    load = Workload(
        "at the limit",
        lambda: poisson(105, lambda time, random: (cpu(0.003), io(0.03), cpu(0.007)), seconds=20.0, seed=523),
    )
    throughput, p99 = compare(AdaptivePolicy(), load, 8)
    assert throughput > 0.97
    assert p99 < 1.3


def test_adaptive_sees_at_once_that_requests_wait_that_computed():
    """The controller was late, because requests computed; that it was is no reason not to grow now."""

    def request(time, random):
        return (cpu(0.001), io(0.3)) if 7 < time < 13 else (cpu(0.01),)

    load = Workload("to and fro", lambda: poisson(80, request, seconds=20.0, seed=520))
    assert compare(AdaptivePolicy(), load, 64)[1] < 1.3


@pytest.mark.slow
@pytest.mark.parametrize("gil", [True, False], ids=["gil", "free-threaded"])
def test_sizes_are_the_best_ones(gil):
    found = {}
    for name, load in WORKLOADS.items():
        best = best_fixed(with_host(load, gil=gil, cpus=None if gil else 4.0))
        found[name] = int(best.policy.partition(":")[2])
    assert found == BEST[gil]
    best = [best_fixed(holdout(number, gil=gil)).policy for number in range(HOLDOUTS)]
    assert best == [f"fixed:{size}" for size in BEST_HOLDOUT[gil]]
    best = [best_fixed(visitors(number, gil=gil)).policy for number in range(HOLDOUTS)]
    assert best == [f"fixed:{size}" for size in BEST_VISITORS[gil]]
    best = [best_fixed(reports(number, gil=gil)).policy for number in range(HOLDOUTS)]
    assert best == [f"fixed:{size}" for size in BEST_REPORTS[gil]]


def test_adaptive_converges_within_a_second_after_a_step():
    step = WORKLOADS["io-step"]
    result = simulate(AdaptivePolicy(), step)
    assert result.latency(0.99, since=4.0) < 1.1 * best_fixed(step, (64,)).latency(0.99, since=4.0)


@pytest.mark.parametrize("share", [1.0, 0.7, 0.4])
def test_cpu_overload_does_not_grow_the_pool(share):
    load = replace(WORKLOADS["cpu-over"], share=share)
    assert simulate(AdaptivePolicy(), load).highest <= 2 + 2


def test_shares_of_a_cpu_do_not_mislead_adaptive():
    """Neighbours take 40 % of the CPU; requests that wait still get their threads."""
    for name, size in (("io-step", 64), ("mixed", 16), ("both-over", 16)):
        throughput, p99 = compare(AdaptivePolicy(), replace(WORKLOADS[name], share=0.6), size)
        assert throughput > 0.93
        assert p99 < 1.5


def test_stuck_handlers_leave_the_others_alone():
    load = WORKLOADS["stuck20"]
    result = simulate(AdaptivePolicy(), load)
    assert result.latency(0.99, since=7.0) < 2 * best_fixed(load, (64,)).latency(0.99, since=7.0)


def test_square_wave_makes_no_churn():
    assert simulate(AdaptivePolicy(), WORKLOADS["square"]).changes < 40


@pytest.mark.parametrize("policy", [QueuePolicy, StallPolicy, LoadPolicy])
def test_simpler_policies_keep_up_where_requests_wait(policy):
    throughput, _ = compare(policy(), WORKLOADS["mixed"], 16)
    assert throughput > 0.97


def test_queue_goes_to_the_maximum_when_requests_compute():
    """What `adaptive` is for."""
    assert simulate(QueuePolicy(), WORKLOADS["cpu-over"]).highest == 128


def test_sizes_cover_what_is_simulated():
    assert min(SIZES) == 1
    assert max(SIZES) == 128
