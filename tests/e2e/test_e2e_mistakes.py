"""What a new user does wrong, and what the command line says to it."""

import re

from e2e_server import APPS, rocket


def test_an_application_that_does_not_import_is_exit_4_with_its_traceback_and_nothing_of_ours(tmp_path):
    done = rocket("serve", "--app-dir", str(APPS), "broken", cwd=tmp_path)
    assert done.returncode == 4
    assert 'broken.py", line 5, in prepare' in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "rocket/cli.py" not in done.stderr
    assert "rocket/commands/" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Error: importing 'broken' failed")


def test_an_application_that_is_not_there_is_exit_4_in_a_line(tmp_path):
    for spec, said in (("nowhere:app", "no module 'nowhere'"), ("trouble:app", "no attribute 'app'")):
        done = rocket("serve", "--app-dir", str(APPS), spec, cwd=tmp_path)
        assert done.returncode == 4
        assert len(done.stderr.splitlines()) == 1
        assert said in done.stderr


def test_a_taken_port_is_exit_1_and_a_line_that_names_it(serve, tmp_path):
    host, port = serve("trouble").address
    done = rocket("serve", "--app-dir", str(APPS), "trouble", "--bind", f"{host}:{port}", cwd=tmp_path)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(errors) == 1
    assert re.match(rf"Error: .*cannot bind {host}:{port}: Address already in use$", errors[0])


def test_a_wrong_flag_is_exit_2_and_names_the_nearest(tmp_path):
    done = rocket("serve", "--max-thread", "3", cwd=tmp_path)
    assert done.returncode == 2
    assert "--max-threads" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_key_or_variable_is_exit_2_and_names_the_nearest_and_its_place(tmp_path):
    done = rocket("serve", cwd=tmp_path, ROCKET_MAX_THREAD="3")
    assert done.returncode == 2
    assert "did you mean 'max_threads'?" in done.stderr
    assert "ROCKET_MAX_THREAD" in done.stderr
    (tmp_path / "rocket.toml").write_text("max_thread = 3\n")
    done = rocket("serve", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'max_threads'?" in done.stderr
    assert "rocket.toml" in done.stderr


def test_a_wrong_value_is_exit_2_and_says_what_is_right(tmp_path):
    for flags, said in (
        (["--max-threads", "many"], "max_threads"),
        (["--monitor", "epol"], "did you mean 'epoll'?"),
        (["--scaling", "queu"], "did you mean 'queue'?"),
        (["--threads", "8:4"], "8:4"),
        (["--bind", "127.0.0.1"], "bind"),
        (["--keep-alive", "-1"], "keep_alive"),
        (["--min-threads", "9", "--max-threads", "3"], "max_threads (3) is below min_threads (9)"),
    ):
        done = rocket("serve", *flags, cwd=tmp_path)
        assert done.returncode == 2, flags
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_an_address_of_another_host_is_exit_1(tmp_path):
    done = rocket("serve", "--bind", "192.0.2.1:0", cwd=tmp_path)
    assert done.returncode == 1
    assert "cannot bind 192.0.2.1:0" in done.stderr
    assert "Traceback" not in done.stderr
