"""What the documents claim and a machine can check."""

import re
import shlex
from pathlib import Path

import pytest

from rocket.config import OPTIONS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "bench" / "README.md"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_python_of_the_readme_prints_what_it_says(capsys):
    code = "\n".join(blocks("python"))
    exec(compile(code, str(README), "exec"), {"__name__": "readme"})
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert promised
    assert capsys.readouterr().out.splitlines() == promised


def test_the_readme_begins_with_two_commands_the_second_of_which_is_what_ci_runs():
    serve, test = (block.strip() for block in blocks("sh")[:2])
    assert serve.endswith("rocket serve")
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("an unpacked distribution has no .ci")
    assert shlex.split(re.search(r'^README_TESTS=(".*")$', script.read_text(), re.MULTILINE)[1]) == [test]


def test_the_options_of_the_readme_have_those_defaults():
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", README.read_text(), re.MULTILINE)
    assert len(rows) > 10
    assert rows == [(name, OPTIONS[name].show(OPTIONS[name].default)) for name, _ in rows]


def test_the_floors_of_contributing_are_those_that_are_checked():
    drawn = re.search(r"## The floors.*?```\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[1]
    checked = re.search(r"^layers = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)[1]
    assert drawn.splitlines() == [floor.replace("rocket.", "") for floor in re.findall(r'"(.*?)"', checked)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    targets = re.findall(r"\]\((?!https?:)([^)#\s]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_exist(document):
    """Files of ours in backquotes, such as `rocket/reactor.py`."""
    named = re.findall(r"`((?:rocket|tests|bench|docs|examples)/[\w./-]+\.\w+)", document.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []
