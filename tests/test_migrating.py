"""docs/migrating.md: what it names as ours exists, and no option of the others is forgotten."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from rocket.config import OPTIONS

PAGE = (Path(__file__).parent.parent / "docs" / "migrating.md").read_text()


def rows(title):
    """The rows of the tables below the heading *title*, as lists of cells."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)[1]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def names(cells):
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def theirs(title):
    return names(row[0] for row in rows(title))


SECTIONS = ["From Rocket 1.x and rocket3", "From gunicorn", "From waitress", "From cheroot"]


@pytest.mark.parametrize("section", SECTIONS)
def test_each_option_of_ours_exists(section):
    named = names(row[1] for row in rows(section))
    assert named
    assert named - set(OPTIONS) == set()


@pytest.mark.parametrize("section", SECTIONS)
def test_each_row_has_three_cells_and_says_why_there_is_none(section):
    for row in rows(section):
        assert len(row) == 3, row
        assert row[1], row


def test_no_setting_of_gunicorn_is_forgotten():
    config = pytest.importorskip("gunicorn.config")
    assert {setting.name for setting in config.KNOWN_SETTINGS} - theirs("From gunicorn") == set()


def test_no_adjustment_of_waitress_is_forgotten():
    adjustments = pytest.importorskip("waitress.adjustments").Adjustments
    assert {name for name, _ in adjustments._params} - theirs("From waitress") == set()


def test_no_parameter_of_cheroot_is_forgotten():
    server = pytest.importorskip("cheroot.wsgi").Server
    assert set(inspect.signature(server).parameters) - theirs("From cheroot") == set()


@pytest.mark.parametrize("name", ["Rocket", "CherryPyWSGIServer"])
def test_no_parameter_of_rocket_1_is_forgotten(name):
    made = getattr(importlib.import_module("rocket.classic"), name)
    assert set(inspect.signature(made).parameters) - theirs("From Rocket 1.x and rocket3") <= {
        "app_info",  # by its keys
        "options",
    }
