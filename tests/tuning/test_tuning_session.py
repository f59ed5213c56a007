"""A session from the sweep to the block, on applications that are formulas."""

import re
from dataclasses import replace

import pytest
from tuning_helpers import COMPUTES, MIXES, NOW, OVERHEAD, POOLED, WAITS, Model, session

from rocket.config import Config
from rocket.server import Server
from rocket.tuning import report
from rocket.tuning.samples import Setting, fixed
from rocket.tuning.session import between_answers, least_budget

APPLICATIONS = {"waits": WAITS, "computes": COMPUTES, "pooled": POOLED, "mixes": MIXES}


def load_block(text, folder):
    (folder / "pyproject.toml").write_text(text + "\n")
    return Config.load({}, {}, folder)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_choice_is_within_5_percent_of_the_best(name):
    model = Model(**APPLICATIONS[name])
    run = session(model)
    run.run()
    best = max(model.capacity(threads, 128) for threads in range(1, 400))
    assert model.capacity(run.outcome.verdict.choice.max_threads, 128) >= 0.95 * best
    assert run.outcome.complete


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_block_is_read_and_served_with_and_each_line_has_its_reason(name, tmp_path):
    run = session(Model(**APPLICATIONS[name]))
    run.run()
    text = report.block(run.outcome, Config())
    lines = text.splitlines()
    assert lines[0] == "[tool.rocket]"
    for i, line in enumerate(lines[1:], 1):
        assert line.startswith("# ") or lines[i - 1].startswith("# "), f"no reason for {line}"
    config = load_block(text, tmp_path)
    choice = run.outcome.verdict.choice
    assert (config.scaling, config.max_threads, config.monitor) == (choice.scaling, choice.max_threads, "auto")
    with Server(lambda environ, start_response: [], config=config.replace(bind="127.0.0.1:0")) as server:
        assert server.stats["max_threads"] == choice.max_threads


@pytest.mark.parametrize("now", [NOW, fixed(4), Setting(1, 1, "queue", "poll"), Setting(3, 8, "fixed:5")])
def test_any_options_before_make_a_block_that_is_read(now, tmp_path):
    run = session(Model(**MIXES), now=now)
    run.run()
    load_block(report.block(run.outcome, Config()), tmp_path)


@pytest.mark.parametrize("budget", [5, 8, 15, 60, 300])
def test_the_budget_is_kept(budget):
    model = Model(**MIXES)
    run = session(model, budget=budget)
    run.run()
    longest = max(seconds for _, _, seconds, _, _ in model.asked) + OVERHEAD
    assert model.now - 100 <= budget + longest
    assert run.outcome.seconds == pytest.approx(model.now - 100)


def test_a_budget_that_is_too_short_to_compare_says_so():
    run = session(Model(**WAITS), budget=5)
    run.run()
    assert not run.outcome.verdict.certain
    assert "fewer than 3 rounds" in report.block(run.outcome, Config())


def test_the_sweep_has_threads_for_all_clients_on_one_server():
    model = Model(**WAITS)
    session(model, clients=200).run()
    sweep = [asked for asked in model.asked if asked[0].max_threads == 200][:9]
    assert [clients for _, clients, _, _, _ in sweep] == [1, 2, 4, 8, 16, 32, 64, 128, 200]
    assert [afresh for *_, afresh in sweep] == [True] + [False] * 8


def test_rounds_are_interleaved_and_begin_with_another_each_time():
    model = Model(**WAITS)
    run = session(model)
    run.run()
    compared = [asked[0] for asked in model.asked[8:] if asked[3] is None]
    many = len(run.outcome.rounds)
    first, second = compared[:many], compared[many : 2 * many]
    assert set(first) == set(second)
    assert second == [*first[1:], first[0]]


def test_what_is_not_decided_gets_more_rounds():
    quiet = session(Model(**POOLED), budget=120)
    quiet.run()
    assert {len(samples) for samples in quiet.outcome.rounds.values()} == {3}
    model = Model(**POOLED)
    compared = []

    def measure(setting, *arguments, **keywords):
        """The adaptive policy is 6 % slower, but not in its second round."""
        sample = model.measure(setting, *arguments, **keywords)
        compared.append(setting)
        slower = setting == NOW and compared.count(NOW) != 2
        return replace(sample, requests=round(sample.requests * 0.94)) if slower else sample

    shaky = session(model, budget=120, measure=measure)
    shaky.run()
    assert max(map(len, shaky.outcome.rounds.values())) > 3
    assert shaky.outcome.verdict.certain


def test_rates_rise_to_what_the_choice_can_do():
    run = session(Model(**WAITS, noise=(1.0,)))
    run.run()
    most = report.rate(run.outcome.rounds[run.outcome.verdict.choice])
    assert [sample.rate_asked / most for sample in run.outcome.rates] == pytest.approx([0.5, 0.75, 0.9])


def test_idle_connections_are_a_reason_to_compare_monitors():
    with_idle, without = session(Model(**WAITS), idle=2000), session(Model(**WAITS))
    for run in (with_idle, without):
        run.run()
    assert {setting.monitor for setting in with_idle.outcome.rounds} == {"auto", "poll"}
    assert {setting.monitor for setting in without.outcome.rounds} == {"auto"}
    assert "beside 2,000 idle connections" in report.block(with_idle.outcome, Config())


@pytest.mark.parametrize("after", [1, 5, 9, 20, 27])
def test_an_interrupt_leaves_what_is_known(after, tmp_path):
    model = Model(**WAITS)

    def measure(*arguments, **keywords):
        if len(model.asked) == after:
            raise KeyboardInterrupt
        return model.measure(*arguments, **keywords)

    run = session(model, measure=measure)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    outcome = run.outcome
    assert not outcome.complete
    assert len(outcome.sweep) == min(after, 8)
    load_block(report.block(outcome, Config()), tmp_path)
    assert report.conclusion(outcome)


def test_a_sweep_ends_before_the_memory_does():
    run = session(Model(**WAITS, memory=0.01))
    run.run()
    assert max(sample.connections for sample in run.outcome.sweep) == 128
    assert any("of the memory is free" in note for note in run.outcome.notes)
    assert all(setting.max_threads <= 128 for setting in run.outcome.rounds)


def test_more_clients_than_the_application_bears_end_the_sweep_and_are_not_compared_with():
    model = Model(**POOLED, bears=40)
    run = session(model)
    run.run()
    assert [sample.connections for sample in run.outcome.sweep] == [1, 2, 4, 8, 16, 32, 64]
    assert {sample.connections for samples in run.outcome.rounds.values() for sample in samples} == {32}
    assert any("the sweep ended at 64 clients: most requests failed" in note for note in run.outcome.notes)
    assert any("timeout: 1,000,000" in note for note in run.outcome.notes)


def test_busy_neighbours_are_told_of():
    run = session(Model(**POOLED, others=2.0))
    run.run()
    assert any("others used 2.0 of the host's 4 CPUs" in note for note in run.outcome.notes)


def test_a_queue_that_is_longer_than_what_can_be_served_in_time_is_shortened(tmp_path):
    run = session(Model(cpu=0.001, wait=1.0, pool=4))
    run.run()
    config = load_block(report.block(run.outcome, Config()), tmp_path)
    assert config.max_queue == 128  # 4/s for 30 s are 120; but never fewer than there are clients
    assert "max_queue" not in report.block(session_of(COMPUTES), Config())


def session_of(model):
    run = session(Model(**model))
    run.run()
    return run.outcome


def test_nothing_answered_at_all_is_told():
    model = Model(**WAITS)
    run = session(model, measure=lambda *a, **k: dead(model.measure(*a, **k)))
    run.run()
    assert run.outcome.limit.kind == "unknown"
    assert any("status 500: 7" in note or "status 500" in note for note in run.outcome.notes)
    assert not run.outcome.rounds
    assert report.conclusion(run.outcome)[1] == "  * no request was answered"


def test_an_application_that_hangs_is_told():
    model = Model(**WAITS)
    run = session(model, measure=lambda *a, **k: replace(dead(model.measure(*a, **k)), errors={}))
    run.run()
    assert any("no request was answered in any measurement" in note for note in run.outcome.notes)


def test_slow_requests_have_longer_rounds_of_fewer_settings():
    model = Model(cpu=0.0001, wait=1.5)
    run = session(model, clients=32)
    run.run()
    assert len(run.outcome.rounds) == 2
    assert all(sample.seconds >= 3.75 for samples in run.outcome.rounds.values() for sample in samples)
    assert any("for want of time" in note for note in run.outcome.notes)
    assert run.outcome.seconds <= 60


@pytest.mark.parametrize("seconds", [0.4, 1.0, 1.6, 2.24, 2.26, 3.0, 4.2, 4.5, 6.0, 14.9, 15.1])
def test_a_round_of_slow_requests_ends_between_their_answers(seconds):
    taken = between_answers(seconds, 1.5)
    assert taken <= seconds
    if 2.25 < seconds < 15:
        assert taken % 1.5 == pytest.approx(0.75)
        assert taken > seconds - 1.5
    assert between_answers(seconds, float("inf")) == seconds
    assert between_answers(seconds, 0.0001) == seconds


def dead(sample):
    return replace(sample, requests=0, p50=float("nan"), p99=float("nan"), errors={"status 500": 7})


def test_figures_are_json_without_nan():
    import json

    outcome = session_of(MIXES)
    outcome.sweep.append(dead(outcome.sweep[0]))
    text = json.dumps(report.as_dict(outcome, Config(), app="app", paths=("/",)), allow_nan=False)
    assert json.loads(text)["limit"]["kind"] == "gil"


def test_the_tables_mark_the_knee_and_the_choice():
    outcome = session_of(WAITS)
    assert re.search(r"^4 .*<- the knee$", report.plain(*report.sweep_table(session_of(POOLED))), re.MULTILINE)
    assert re.search(r"^adaptive 2:160 .*<- the choice$", report.plain(*report.rounds_table(outcome)), re.MULTILINE)
    assert re.search(r"^adaptive 2:64 .*as it is$", report.plain(*report.rounds_table(outcome)), re.MULTILINE)
    assert len(report.rates_table(outcome)[1]) == 3


def test_a_knee_at_the_last_point_is_not_reached(tmp_path):
    """Each of 128 clients that wait brings as much as the one before."""
    waits, pooled = session_of(WAITS), session_of(POOLED)
    assert re.search(r"^128 .*<- knee not reached$", report.plain(*report.sweep_table(waits)), re.MULTILINE)
    assert "The knee was not reached: the best is the last point, 128 clients" in "\n".join(report.conclusion(waits))
    assert "The knee is at 4 clients" in "\n".join(report.conclusion(pooled))
    for outcome, reached in ((waits, False), (pooled, True)):
        assert report.as_dict(outcome, Config(), app="app", paths=("/",))["knee_reached"] is reached
    pytest.importorskip("matplotlib")
    from rocket.tuning.picture import draw

    for outcome, words in ((waits, "knee not reached: at the last point, 128 clients"), (pooled, "knee: 4 clients")):
        draw(outcome, tmp_path / "tune.svg", "app")  # a comment in it has each text
        assert f"<!-- {words} -->" in (tmp_path / "tune.svg").read_text()


def test_tables_fit_a_terminal_and_failures_have_a_column_only_if_there_are_some():
    outcome = session_of(POOLED)
    outcome.rates[:] = [
        replace(sample, sent=round((sample.rate_asked or 0) * sample.seconds)) for sample in outcome.rates
    ]
    for table in (report.sweep_table(outcome), report.rounds_table(outcome), report.rates_table(outcome)):
        assert max(map(len, report.plain(*table).splitlines())) <= 80
    assert "failed" not in report.sweep_table(outcome)[0]
    assert max(map(len, report.block(outcome, Config()).splitlines())) <= 80
    outcome.sweep[-1] = dead(outcome.sweep[-1])
    head, rows = report.sweep_table(outcome)
    assert [row[head.index("failed")] for row in rows[-2:]] == ["0", "7"]


@pytest.mark.parametrize("clients", [2, 4, 128, 200, 10_000])
def test_the_least_budget_is_enough_for_rounds_that_tell_something(clients):
    seconds, why = least_budget(clients)
    run = session(Model(**COMPUTES), clients=clients, budget=seconds)
    run.run()
    assert len(run.outcome.rounds) >= 2
    assert min(map(len, run.outcome.rounds.values())) >= 3
    assert run.outcome.rates
    assert run.outcome.sweep[-1].connections == clients
    assert f"steps up to {clients:,} clients" in why


def test_rates_show_what_was_sent_not_what_was_meant():
    outcome = session_of(POOLED)
    sample = replace(outcome.rates[0], rate_asked=50.0, sent=101, seconds=2.0, requests=102)
    outcome.rates[:] = [sample, replace(sample, sent=2020, requests=2000)]
    assert [row[:2] for row in report.rates_table(outcome)[1]] == [("50.5", "51.0"), ("1,010", "1,000")]


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from rocket.tuning.picture import draw

    for name, model in APPLICATIONS.items():
        draw(session_of(model), tmp_path / f"{name}.png", name)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
