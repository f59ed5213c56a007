"""The knee, the limit and the verdict, from figures that a formula made."""

from dataclasses import replace

import pytest
from tuning_helpers import COMPUTES, MIB, MIXES, NOW, POOLED, WAITS, Model

from rocket.tuning.candidates import candidates, comfortable, needed
from rocket.tuning.knee import at_a_time, knee, levels, service_time
from rocket.tuning.limits import CPU, GENERATOR, GIL, MEMORY, OWN, UNKNOWN, WAITING, diagnose, memory_per_thread
from rocket.tuning.samples import Setting, fixed
from rocket.tuning.session import affordable
from rocket.tuning.verdict import decide, undecided

# --- The knee --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("most", "tried"), [(2, [1, 2]), (8, [1, 2, 4, 8]), (100, [1, 2, 4, 8, 16, 32, 64, 100])])
def test_levels_double_up_to_the_most(most, tried):
    assert levels(most) == tried


@pytest.mark.parametrize(("model", "clients"), [(WAITS, 128), (COMPUTES, 1), (POOLED, 4), (MIXES, 8)])
def test_the_knee_is_where_throughput_stops_to_grow(model, clients):
    assert knee(Model(**model).sweep()).connections == clients


@pytest.mark.parametrize(("model", "count"), [(WAITS, 128), (COMPUTES, 1), (POOLED, 4), (MIXES, 11)])
def test_littles_law_tells_how_many_are_at_work(model, count):
    assert at_a_time(Model(**model).sweep()) == pytest.approx(count, rel=0.05)


def test_a_sweep_in_which_nothing_was_answered_has_a_knee_all_the_same():
    dead = [replace(sample, requests=0) for sample in Model().sweep(1, 2)]
    assert knee(dead).connections == 1
    assert diagnose(dead, Model().where).kind == UNKNOWN


def test_the_service_time_is_that_of_the_lonely_request():
    assert service_time(Model(**POOLED, noise=(1.0,)).sweep()) == pytest.approx(0.0201)
    idle = [replace(sample, turn=float("nan")) for sample in Model(**POOLED, noise=(1.0,)).sweep()]
    assert service_time(idle) == pytest.approx(0.0201, rel=0.05)  # what the client saw


# --- The limit -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (WAITS, WAITING),
        (COMPUTES, GIL),
        (POOLED, OWN),
        (MIXES, GIL),
        ({**COMPUTES, "gil": False}, CPU),
        ({**COMPUTES, "cpus": 1.0}, CPU),  # a GIL is no limit where there is no second core
        ({**COMPUTES, "cpus": 2.0, "others": 1.5}, CPU),  # neighbours
        ({"cpu": 0.0001, "generator": 0.0005}, GENERATOR),
        ({**WAITS, "memory": 0.007}, MEMORY),
    ],
)
def test_the_limit_is_named(model, kind):
    model = Model(**model)
    limit = diagnose(model.sweep(), model.where)
    assert limit.kind == kind
    assert limit.evidence


def test_a_lock_is_not_told_where_the_host_is_full():
    sweep = [replace(sample, worker_cpu=0.25, idle_cpu=0.0) for sample in Model(**POOLED).sweep()]
    assert diagnose(sweep, Model().where).kind == CPU
    hardly = [replace(sample, worker_cpu=0.02) for sample in sweep]
    assert diagnose(hardly, Model().where).kind == OWN


def test_the_evidence_has_the_figures():
    own = diagnose(Model(**POOLED, noise=(1.0,)).sweep(), Model().where)
    assert "throughput stops at 200 requests/s" in own.evidence[0]
    assert "about 4 at a time" in own.evidence[1]
    gil = diagnose(Model(**COMPUTES, noise=(1.0,)).sweep(), Model().where)
    assert "at 200 requests/s the workers use 1.00 of the 1 core" in gil.evidence[0]
    assert "3.0 of the host's 4 were idle" in gil.evidence[0]
    assert "a request takes 5 ms, 5 ms of it CPU" in gil.evidence[1]


def test_native_code_that_lets_the_gil_go_is_limited_by_the_cpus():
    sweep = Model(**COMPUTES, gil=False).sweep()
    assert diagnose(sweep, replace(Model().where, gil=True)).kind == CPU


def test_memory_per_thread_needs_threads_to_compare():
    assert memory_per_thread(Model(**WAITS).sweep()) == pytest.approx(MIB)
    assert memory_per_thread(Model(**WAITS).sweep(1, 2)) is None


def test_memory_bounds_the_threads():
    model = Model(**WAITS, memory=0.001)
    assert affordable(model.sweep(), model.where) == 128 + int((0.9 - 0.128 - 0.1) * 1024)
    assert candidates(NOW, 128, at_most=100)[1].max_threads == 100


# --- Candidates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "threads"), [(WAITS, 128), (COMPUTES, 1), (POOLED, 4), (MIXES, 11)])
def test_the_threads_that_are_needed_follow_from_the_limit(model, threads):
    model = Model(**model, noise=(1.0,))
    sweep = model.sweep()
    assert needed(diagnose(sweep, model.where), knee(sweep).connections, 128) == threads


def test_what_there_is_is_always_compared_and_nothing_twice():
    found = candidates(Setting(1, 2, "fixed"), 1, at_most=1000)
    assert found[0] == Setting(1, 2, "fixed")
    assert len(set(found)) == len(found)
    assert all(1 <= setting.min_threads <= setting.max_threads for setting in found)


@pytest.mark.parametrize(("threads", "bound"), [(1, 2), (4, 5), (11, 14), (32, 40), (128, 160)])
def test_some_threads_more_than_needed(threads, bound):
    assert comfortable(threads) == bound


# --- The verdict -----------------------------------------------------------------------------------------------------

A, B, C = Setting(2, 64), Setting(2, 128), fixed(128)


def rounds(*rates, setting=A, p99=None):
    sample = Model().sweep(1)[0]
    return [
        replace(sample, setting=setting, seconds=1.0, requests=rate, p99=(p99 or [0.1] * len(rates))[i])
        for i, rate in enumerate(rates)
    ]


def test_what_is_faster_in_all_rounds_is_taken():
    verdict = decide({A: rounds(100, 101, 99), B: rounds(150, 149, 151)}, A)
    assert verdict.choice == B
    assert verdict.certain
    assert "+50%" in verdict.reason


@pytest.mark.parametrize("others", [(102, 103, 101), (150, 90, 95), (100, 100, 100), (50, 50, 50)])
def test_what_is_within_the_noise_or_slower_is_not(others):
    verdict = decide({A: rounds(100, 101, 99), B: rounds(*others)}, A)
    assert verdict.choice == A
    assert not verdict.certain
    assert "no other was faster beyond the noise" in verdict.reason


def test_rounds_that_overlap_tell_nothing_and_ask_for_more():
    tried = {A: rounds(100, 130, 90), B: rounds(110, 95, 120)}
    assert decide(tried, A).choice == A
    assert undecided(tried, A)
    assert not undecided({A: rounds(100, 100, 100), B: rounds(101, 101, 101)}, A)


def test_a_gain_that_rounds_scatter_as_far_as_is_none():
    tried = {A: rounds(100, 80, 90), B: rounds(110, 125, 101)}
    assert decide(tried, A).choice == A
    assert undecided(tried, A)
    assert decide({A: rounds(100, 99, 95), B: rounds(121, 125, 130)}, A).choice == B


def test_one_bad_round_of_five_does_not_hide_what_is_faster():
    assert decide({A: rounds(100, 101, 99, 100, 180), B: rounds(150, 149, 151, 60, 150)}, A).choice == B


def test_of_those_alike_the_adaptive_is_taken():
    tried = {A: rounds(100, 100, 100), C: rounds(151, 150, 152, setting=C), B: rounds(150, 149, 151, setting=B)}
    assert decide(tried, A).choice == B


def test_of_those_not_alike_the_fastest_is_taken():
    tried = {A: rounds(100, 100, 100), C: rounds(200, 201, 202, setting=C), B: rounds(150, 149, 151, setting=B)}
    assert decide(tried, A).choice == C


def test_the_same_throughput_with_a_much_lower_p99_is_better():
    tried = {A: rounds(100, 101, 99, p99=[0.9, 1.0, 0.8]), B: rounds(100, 99, 101, p99=[0.2, 0.3, 0.2])}
    verdict = decide(tried, A)
    assert verdict.choice == B
    assert "a p99 of 200 ms, not 900 ms" in verdict.reason


def test_of_those_with_a_p99_alike_the_adaptive_is_taken():
    tried = {
        A: rounds(100, 101, 99, p99=[0.9, 1.0, 0.8]),
        C: rounds(100, 99, 101, setting=C, p99=[0.2, 0.2, 0.2]),
        B: rounds(100, 99, 101, setting=B, p99=[0.2, 0.21, 0.22]),
    }
    assert decide(tried, A).choice == B


def test_fewer_than_three_rounds_tell_nothing():
    verdict = decide({A: rounds(100, 101), B: rounds(150, 149)}, A)
    assert (verdict.choice, verdict.certain) == (A, False)
    assert "fewer than 3 rounds" in verdict.reason
    assert decide({}, A).choice == A


def test_a_setting_that_answered_nothing_is_no_candidate():
    assert decide({A: rounds(100, 101, 99), B: rounds(0, 0, 0)}, A).choice == A
