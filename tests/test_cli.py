"""The command line: what each command prints, and the code that it exits with."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rocket.cli import Parts, load_application, main
from rocket.config import OPTIONS
from rocket.errors import BindError, ConfigError, MonitorUnavailable

ROOT = Path(__file__).parent.parent


class FakeServer:
    """Does nothing, and remembers what it was asked to."""

    def __init__(self, start=lambda: None):
        self.app = self.config = None
        self.calls = []
        self._start = start

    def make(self, app, config):
        self.app, self.config = app, config
        return self

    def describe(self):
        return ["listening on http://127.0.0.1:4711", "100 % of it"]

    def serve_forever(self, on_ready):
        self.calls.append("serve_forever")
        self._start()
        on_ready()

    def stop(self):
        self.calls.append("stop")


def run(*arguments, server=None, env=None, **parts):
    """Return what `rocket` *arguments* does, here and now."""
    # Variables of the one who runs the tests are not the test's.
    clean = {name: None for name in os.environ if name.startswith("ROCKET_")}
    parts["make_server"] = (server or FakeServer()).make
    return CliRunner().invoke(main, arguments, prog_name="rocket", obj=Parts(**parts), env={**clean, **(env or {})})


def raising(error):
    def call(*_):
        raise error

    return call


@pytest.fixture
def module(tmp_path, request):
    """Return a function that writes a module and returns its name, which no other test has."""
    made = []

    def write(source):
        name = f"module_{abs(hash(request.node.nodeid))}_{len(made)}"
        made.append(name)
        (tmp_path / f"{name}.py").write_text(source)
        return name

    before = list(sys.path)
    sys.path.insert(0, str(tmp_path))
    yield write
    sys.path[:] = before
    for name in made:
        sys.modules.pop(name, None)


# --- rocket serve ----------------------------------------------------------------------------------------------------


def test_serve_starts_serves_and_stops(module):
    server = FakeServer()
    name = module("def app(environ, start_response): pass")
    result = run("serve", name, server=server)
    assert result.exit_code == 0
    assert server.calls == ["serve_forever", "stop"]
    assert server.app is sys.modules[name].app


def test_serve_without_an_application_serves_the_demo():
    from rocket.demo import application

    server = FakeServer()
    assert "serving the demo rocket.demo:application" in run("serve", server=server).output
    assert server.app is application


def test_the_start_up_lines_are_logged_with_time_and_logger():
    lines = run("serve").output.splitlines()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} INFO rocket\.server: "
    assert all(re.match(stamp, line) for line in lines)
    texts = [re.sub(stamp, "", line) for line in lines]
    assert re.match(rf"Rocket \S+ on \w+ \S+, GIL (on|off), pid {os.getpid()}$", texts[0])
    assert texts[-2:] == ["listening on http://127.0.0.1:4711", "100 % of it"]


def test_log_level_decides_what_is_printed():
    assert run("serve", "--log-level", "warning").output == ""


def test_logging_is_left_as_it_was():
    import logging

    def state():
        ours = logging.getLogger("rocket")
        return ours.handlers[:], ours.propagate, ours.level, logging.getLogger().handlers[:]

    before = state()
    run("serve", "--log-level", "error")
    assert state() == before


def test_every_option_is_a_flag(tmp_path):
    given = {
        "bind": ":0",
        "dual_stack": None,
        "defer_accept": None,
        "stream": None,
        "server_header": "x",
        "log_level": "error",
        "memory_reserve": "0.1",
        "self_signed": None,
        "cert_reqs": "optional",
        "min_tls_version": "1.3",
        "forwarded_allow_ips": "::1",
        "forwarded_headers": "forwarded",
        "proxy_protocol": "v2",
    }
    arguments = []
    for option in OPTIONS.values():
        if not option.kind.python_only:
            value = given.get(option.name, "300")
            arguments += [f"--no-{option.flag[2:]}"] if value is None else [option.flag, value]
    server = FakeServer()
    assert run("serve", *arguments, server=server).exit_code == 0
    origins = {name for name in OPTIONS if server.config.origin(name) == "the command line"}
    assert origins == OPTIONS.keys() - {"worker", "on_thread_start", "on_thread_exit"}
    assert (server.config.max_threads, server.config.dual_stack, server.config.bind) == (300, False, (":0",))


def test_bind_may_be_given_several_times():
    server = FakeServer()
    run("serve", "-b", ":0", "--bind", "[::1]:0", server=server)
    assert server.config.bind == (":0", "[::1]:0")


@pytest.mark.parametrize(("written", "low", "high"), [("8", 8, 8), ("2:8", 2, 8)])
def test_threads_is_short_for_both_limits(written, low, high):
    server = FakeServer()
    run("serve", "--threads", written, server=server)
    assert (server.config.min_threads, server.config.max_threads) == (low, high)


@pytest.mark.parametrize("written", ["", "a", "0", "8:2", "1:2:3", "-1:3"])
def test_threads_takes_nothing_else(written):
    result = run("serve", "--threads", written)
    assert result.exit_code == 2
    assert repr(written) in result.output


def test_threads_and_max_threads_contradict_each_other():
    result = run("serve", "--threads", "8", "--max-threads", "9")
    assert (result.exit_code, "--threads and --max-threads contradict" in result.output) == (2, True)


def test_a_wrong_option_is_told_in_one_line_and_exits_2():
    result = run("serve", "--keep-alive", "abc")
    assert result.exit_code == 2
    assert result.output == ("Error: keep_alive must be a number of seconds >= 0, not 'abc' (from the command line)\n")


def test_a_wrong_variable_exits_2():
    result = run("serve", env={"ROCKET_MAX_THREADS": "many"})
    assert (result.exit_code, "ROCKET_MAX_THREADS" in result.output) == (2, True)


def test_a_flag_wins_over_its_variable():
    server = FakeServer()
    run("serve", "--max-threads", "9", env={"ROCKET_MAX_THREADS": "5", "ROCKET_BACKLOG": "7"}, server=server)
    assert (server.config.max_threads, server.config.backlog) == (9, 7)


def test_config_names_the_file_to_read(tmp_path):
    (tmp_path / "other.toml").write_text("backlog = 7")
    server = FakeServer()
    run("serve", "--config", str(tmp_path / "other.toml"), server=server)
    assert server.config.backlog == 7


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BindError("cannot listen on :80: Permission denied"), 1),
        (ConfigError("unknown policy 'x'"), 2),
        (MonitorUnavailable("monitor 'x' is unknown"), 2),
    ],
)
def test_an_error_of_the_server_is_told_in_one_line(error, code):
    server = FakeServer(start=raising(error))
    result = run("serve", "--log-level", "error", server=server)
    assert (result.exit_code, result.output) == (code, f"Error: {error}\n")
    assert server.calls == ["serve_forever", "stop"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_stops_the_server(number):
    server = FakeServer(start=lambda: signal.raise_signal(number))
    before = signal.getsignal(number)
    assert run("serve", server=server).exit_code == 0
    assert server.calls == ["serve_forever", "stop"]
    assert signal.getsignal(number) is before


# --- rocket files -----------------------------------------------------------------------------------------------------


def test_files_serves_a_folder(tmp_path):
    from rocket import FileWorker, Folder

    server = FakeServer()
    result = run("files", str(tmp_path), "--listing", "--index", "a", "--index", "b", "-t", "3", server=server)
    assert result.exit_code == 0
    assert server.calls == ["serve_forever", "stop"]
    assert type(server.app) is Folder
    assert (server.app.path, server.app.listing, server.app.index) == (str(tmp_path), True, (b"a", b"b"))
    assert (server.config.worker, server.config.max_threads) == (FileWorker, 3)
    assert f"serving {tmp_path}; folders without a, b are listed" in result.output


def test_files_is_careful_unless_it_is_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = FakeServer()
    result = run("files", server=server)
    assert (server.app.path, server.app.listing, server.app.dot_files) == (str(tmp_path), False, False)
    assert "folders without index.html are answered 404 (--listing lists them)" in result.output


def test_files_of_a_folder_that_is_not_there_is_a_wrong_option(tmp_path):
    result = run("files", str(tmp_path / "nothing"))
    assert (result.exit_code, result.output) == (2, f"Error: the folder to serve does not exist: {tmp_path}/nothing\n")


# --- The application -------------------------------------------------------------------------------------------------

APPLICATIONS = """
def app(environ, start_response): return ["app"]
def other(environ, start_response): return ["other"]
class Holder:
    wsgi = other
    @classmethod
    def create(cls): return app
holder = Holder
def create(name="no", *, debug=False):
    def made(environ, start_response): return [name, debug]
    return made
def crash(): raise KeyError("no database")
def nothing(): pass
_hidden = 3
from pathlib import Path
"""


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("", ["app"]),
        (":other", ["other"]),
        (":holder.wsgi", ["other"]),
        (":create()", ["no", False]),
        (":create('a', debug=True)", ["a", True]),
        (':create({"a": [1, -2]})', [{"a": [1, -2]}, False]),
        (":holder.create()", ["app"]),
    ],
)
def test_an_application_is_named(module, expression, answer):
    assert load_application(module(APPLICATIONS) + expression)({}, None) == answer


def test_application_is_looked_for_before_app(module):
    assert load_application(module("application = str\napp = int")) is str


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        (":missing", "module '{0}' has no attribute 'missing'; callable there: app, other, Holder, holder, create, "),
        (":holder.missing", "{0}:holder has no attribute 'missing'"),
        (":_hidden", "{0}:_hidden is not callable: it is a int; callable there: app, "),
        (":crash()", "calling {0}:crash failed: KeyError: 'no database'"),
        (":create(1, 2)", "calling {0}:create failed: TypeError: "),
        (":nothing()", "{0}:nothing() returned a NoneType, which is not callable"),
        (".sub:app", "there is no module '{0}.sub'"),
        (".py", "there is no module '{0}.py'"),
    ],
)
def test_a_missing_application_is_told_and_exits_4(module, expression, problem):
    name = module(APPLICATIONS)
    result = run("serve", name + expression)
    assert result.exit_code == 4
    assert f"Error: {problem.format(name)}" in result.output


def test_the_hint_leaves_out_what_was_imported(module):
    assert "Path" not in run("serve", module(APPLICATIONS) + ":missing").output


def test_a_module_without_application_or_app_is_told(module):
    name = module("x = 3")
    result = run("serve", name)
    assert result.exit_code == 4
    assert result.output == f"Error: module '{name}' has neither 'application' nor 'app'; nothing there is callable\n"


@pytest.mark.parametrize(
    "expression", [":", ":3", ":a b", ":a[0]", ":f()()", ":f(x)", ":f({[]: 1})", ":f(*[1])", ":f(**{'a': 1})"]
)
def test_what_names_nothing_is_a_wrong_usage(module, expression):
    assert run("serve", module("def f(*a): return f") + expression).exit_code == 2


def test_no_module_is_a_wrong_usage():
    assert run("serve", ":app").exit_code == 2


def test_an_empty_name_serves_no_demo():
    """As of `rocket serve "$APP"` without that variable."""
    server = FakeServer()
    result = run("serve", "", server=server)
    assert result.exit_code == 2
    assert "'' is not MODULE" in result.output


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_module_xyz", "ModuleNotFoundError: No module named 'no_such_module_xyz'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_an_application_that_fails_is_told_with_its_traceback_alone(module, source, error):
    name = module(source)
    result = run("serve", name)
    assert result.exit_code == 4
    lines = result.output.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert f"{name}.py" in lines[1]
    assert lines[-2:] == [error, f"Error: importing '{name}' failed: {error}"]


def test_an_application_with_a_syntax_error_is_told(module):
    result = run("serve", module("def (:"))
    assert (result.exit_code, "SyntaxError" in result.output) == (4, True)


# --- The other commands ----------------------------------------------------------------------------------------------


def test_help_groups_the_flags():
    text = run("serve", "--help").output
    assert [line for line in text.splitlines() if line and line[0] != " " and line.endswith(":")] == [
        *[f"{group}:" for group in dict.fromkeys(option.group for option in OPTIONS.values())],
        "Other:",
    ]
    assert all(option.flag in text for option in OPTIONS.values() if not option.kind.python_only)


def test_monitors_shows_reasons_and_the_choice():
    available = {"epoll": None, "kqueue": "no such system call"}
    result = run("monitors", available=lambda: available, choose=lambda: ("epoll", "the first of two"))
    assert result.output == (
        "epoll   available\n"
        "kqueue  no: no such system call\n"
        "\n"
        "auto takes epoll: the first of two\n"
    )  # fmt: skip


def test_monitors_knows_this_host():
    result = run("monitors")
    assert result.exit_code == 0
    assert re.search(r"^select +available$", result.output, re.MULTILINE)
    assert re.search(r"^auto takes (epoll|kqueue|poll|select): ", result.output, re.MULTILINE)


def test_options_lists_name_default_unit_and_help():
    text = run("options").output
    assert all(f"{option.name} = {option.show(option.default)}" in text for option in OPTIONS.values())
    assert "keep_alive = 75 seconds" in text


def test_the_page_of_options_is_up_to_date():
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert page == run("options", "--markdown").output, "run: rocket options --markdown > docs/options.md"


def test_config_shows_values_and_where_they_come_from(tmp_path):
    (tmp_path / "a.toml").write_text("backlog = 7")
    result = run("config", "-t", "4", "--config", str(tmp_path / "a.toml"), env={"ROCKET_KEEP_ALIVE": "3"})
    rows = dict(re.split(r"  +", line) for line in result.output.splitlines())
    assert rows["max_threads = 4"] == "the command line"
    assert rows["keep_alive = 3 seconds"] == "ROCKET_KEEP_ALIVE in the environment"
    assert rows["backlog = 7"] == f"backlog in {tmp_path / 'a.toml'}"
    assert rows["bind = 127.0.0.1:8000"] == "default"
    assert len(rows) == len(OPTIONS)


# --- As a process ----------------------------------------------------------------------------------------------------


def process(*arguments, folder, code=None):
    """Run `python -m rocket` *arguments*, or *code*, in *folder*, and return what it did."""
    command = [sys.executable, "-m", "rocket"] if code is None else [sys.executable, "-c", code]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ROCKET_")}
    environ["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_python_m_rocket_is_rocket(tmp_path):
    ran = process("--version", folder=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.match(r"Rocket \d\S* on \w+ \d\S*, GIL (on|off)\n$", ran.stdout)
    assert process("--help", folder=tmp_path).stdout.startswith("Usage: rocket ")


def test_an_application_that_does_not_import_ends_the_process_with_4(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    ran = process("serve", "broken", folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (4, "")
    assert ran.stderr.endswith("Error: importing 'broken' failed: ZeroDivisionError: division by zero\n")


def test_a_wrong_file_in_the_current_folder_ends_the_process_with_2(tmp_path):
    (tmp_path / "rocket.toml").write_text("max_thread = 8")
    ran = process("serve", folder=tmp_path)
    assert ran.returncode == 2
    assert (
        ran.stderr
        == "Error: unknown option 'max_thread': did you mean 'max_threads'? (from max_thread in rocket.toml)\n"
    )


def test_chdir_comes_before_files_and_imports(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "rocket.toml").write_text("backlog = 7")
    (inner / "broken.py").write_text("1 / 0")
    assert "backlog = 7" in process("config", "--chdir", "inner", folder=tmp_path).stdout
    assert process("serve", "--chdir", "inner", "broken", folder=tmp_path).returncode == 4
    assert "no module 'broken'" in process("serve", "broken", folder=tmp_path).stderr


def test_a_named_file_is_looked_for_before_chdir(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "other.toml").write_text("backlog = 7")
    assert "backlog = 7" in process("config", "--chdir", "inner", "--config", "other.toml", folder=tmp_path).stdout


def test_app_dir_is_where_the_application_is_imported_from(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "broken.py").write_text("1 / 0")
    assert "ZeroDivisionError" in process("serve", "--app-dir", "inner", "broken", folder=tmp_path).stderr


def test_a_folder_that_does_not_exist_is_a_wrong_option(tmp_path):
    ran = process("config", "--chdir", "nowhere", folder=tmp_path)
    assert (ran.returncode, ran.stderr) == (
        2,
        "Error: cannot change to the folder nowhere: No such file or directory\n",
    )


def test_help_imports_little(tmp_path):
    code = (
        "import sys\n"
        "from rocket.cli import main\n"
        "main(['serve', '--help'], standalone_mode=False)\n"
        "print({'psutil', 'rocket.server', 'rocket.monitors', 'rocket.pools'} & set(sys.modules), file=sys.stderr)"
    )
    ran = process(folder=tmp_path, code=code)
    assert (ran.returncode, ran.stderr) == (0, "set()\n")


def test_an_application_that_configures_logging_does_not_silence_the_server(tmp_path):
    (tmp_path / "loud.py").write_text(
        "import logging.config\n"
        "logging.config.dictConfig({'version': 1, 'root': {'level': 'ERROR'}})\n"
        "def app(environ, start_response): pass\n"
    )
    code = (
        "from rocket.cli import Parts, main\n"
        "class Server:\n"
        "    def stop(self): pass\n"
        "    def serve_forever(self, on_ready): on_ready()\n"
        "    def describe(self): return ['listening somewhere']\n"
        "main(['serve', 'loud'], obj=Parts(make_server=lambda app, config: Server()))"
    )
    ran = process(folder=tmp_path, code=code)
    assert ran.returncode == 0
    assert ran.stderr.endswith("INFO rocket.server: listening somewhere\n")
