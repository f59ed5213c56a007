"""`rocket simulate`."""

import importlib.util

import pytest
from click.testing import CliRunner

from rocket.cli import main


def run(*arguments):
    return CliRunner().invoke(main, ["simulate", *arguments])


def test_policies_are_compared_with_the_best_fixed_size():
    result = run("--workload", "mixed", "--policy", "adaptive", "--policy", "fixed:2", "--threads", "1:32")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "mixed: 1 ms of CPU, and a tenth waits 200 ms"
    assert [line.split()[0] for line in lines[1:]] == ["policy", "fixed:16", "adaptive", "fixed:2"]


class Broken:
    def target(self, readings):
        raise KeyError("oops")


def test_policy_that_fails_is_named():
    result = run("-w", "cpu60", "-p", f"{__name__}:Broken")
    assert result.exit_code == 1
    assert f"the policy {__name__}:Broken failed: KeyError: 'oops'" in result.output


def test_host_may_be_another_one():
    result = run("-w", "cpu60", "-p", "stall", "--no-gil", "--cpus", "8")
    assert result.output.startswith("cpu60, no GIL: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-w", "mixd"], "did you mean 'mixed'"),
        (["-w", "cpu60", "-p", "adaptve"], "did you mean 'adaptive'"),
        (["-t", "9:3"], "MIN not above MAX"),
    ],
)
def test_mistakes_are_named(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_picture_is_drawn(tmp_path):
    result = run("-w", "cpu60", "-p", "stall", "--plot", str(tmp_path / "a.svg"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_without_matplotlib_or_a_folder_it_says_so(tmp_path):
    result = run("-w", "cpu60", "-p", "stall", "--plot", str(tmp_path / "nowhere" / "a.svg"))
    assert result.exit_code == 1
    assert "cannot draw: " in result.output
