"""The options: what is read, what is refused, and which source wins."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from rocket.config import OPTIONS, Config
from rocket.errors import ConfigError
from rocket.kinds import parse_size, show_size


def refusal(**options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        Config(**options)
    return str(caught.value)


def load(folder: Path, cli: Any = None, environ: Any = None, file: Any = None) -> Config:
    return Config.load(cli or {}, environ or {}, folder, file)


# --- Values ----------------------------------------------------------------------------------------------------------


def test_every_default_is_a_value_that_its_own_check_accepts():
    for option in OPTIONS.values():
        assert option.read(option.default, "default") == option.default
        assert type(option.read(option.default, "default")) is type(option.default)


def test_every_option_helps():
    for option in OPTIONS.values():
        assert option.help.endswith(".")
        assert len(option.help) > 40


def test_no_option_is_a_bare_timeout():
    assert "timeout" not in OPTIONS


def test_a_default_can_be_read_from_what_is_shown_of_it():
    for option in OPTIONS.values():
        if not option.kind.python_only and option.name != "server_header":
            assert option.read(option.kind.show(option.default), "default") == option.default


@pytest.mark.parametrize(
    ("option", "written", "read"),
    [
        ("max_threads", "8", 8),
        ("keep_alive", 75, 75.0),
        ("keep_alive", "1.5", 1.5),
        ("keep_alive", 0, 0.0),
        ("max_body_size", "64KiB", 65536),
        ("max_body_size", "1.5 MiB", 1572864),
        ("max_body_size", "10MB", 10_000_000),
        ("max_body_size", 0, 0),
        ("max_body_size", 1 << 40, 1 << 40),
        ("dual_stack", "off", False),
        ("dual_stack", "Yes", True),
        ("bind", "localhost:8000", ("localhost:8000",)),
        ("bind", ["127.0.0.1:0", "[::1]:8000"], ("127.0.0.1:0", "[::1]:8000")),
        ("bind", "127.0.0.1:80, :81", ("127.0.0.1:80", ":81")),
        ("log_level", "DEBUG", "debug"),
        ("server_header", "", ""),
        ("scaling", "fixed:8", "fixed:8"),
        ("monitor", dict, dict),
        ("worker", dict, dict),
    ],
)
def test_a_value_is_read(option, written, read):
    value = getattr(Config(**{option: written}), option)
    assert value == read
    assert type(value) is type(read)


@pytest.mark.parametrize(
    ("option", "written"),
    [
        ("max_threads", 0),
        ("max_threads", True),
        ("max_threads", 2.0),
        ("max_threads", ""),
        ("max_threads", None),
        ("keep_alive", -1),
        ("keep_alive", "abc"),
        ("keep_alive", "nan"),
        ("keep_alive", float("inf")),
        ("keep_alive", True),
        ("head_timeout", 0),
        ("max_body_size", "64K"),  # 64000 or 65536?
        ("max_body_size", "1.5"),
        ("max_body_size", -1),
        ("dual_stack", "maybe"),
        ("dual_stack", 1),
        ("bind", ""),
        ("bind", []),
        ("bind", 8000),
        ("bind", [8000]),
        ("log_level", "loud"),
        ("server_header", "a\r\nSet-Cookie: b"),
        ("server_header", "Räkete"),
        ("monitor", ""),
        ("monitor", None),
        ("worker", "a.b:C"),
    ],
)
def test_an_impossible_value_is_refused_by_name(option, written):
    message = refusal(**{option: written})
    assert message.startswith(f"{option} must be ")
    assert message.endswith(f", not {written!r}")


@pytest.mark.parametrize(("option", "written"), [("keep_alive", 10**9), ("keep_alive", 10**400), ("backlog", 1 << 31)])
def test_what_a_system_call_cannot_take_is_too_large(option, written):
    assert refusal(**{option: written}) == f"{option} is too large: {written}"


def test_a_message_tells_what_is_right():
    assert refusal(keep_alive="abc") == "keep_alive must be a number of seconds >= 0, not 'abc'"


def test_an_unknown_option_is_answered_with_the_nearest_known_one():
    assert refusal(max_thread=3) == "unknown option 'max_thread': did you mean 'max_threads'?"
    assert refusal(xyzzy=3) == "unknown option 'xyzzy'"


def test_max_threads_below_min_threads_is_refused():
    assert refusal(min_threads=9, max_threads=3) == "max_threads (3) is below min_threads (9)"


def test_two_options_that_contradict_each_other_are_told_with_their_one_origin(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {"min_threads": "9", "max_threads": "3"})
    assert str(caught.value) == "max_threads (3) is below min_threads (9) (from the command line)"


def test_max_threads_alone_pulls_the_default_of_min_threads_down():
    assert Config(max_threads=1).min_threads == 1


def test_min_threads_alone_does_not_push_max_threads_up():
    assert refusal(min_threads=65).startswith("max_threads (64) is below min_threads (65) (the one from default")


def test_a_config_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().max_threads = 3  # type: ignore[misc]


def test_a_config_can_be_made_from_its_own_values():
    config = Config(max_threads=1, bind=":0")
    assert Config(**config.as_dict()) == config
    assert list(config.as_dict()) == list(OPTIONS)


# --- Sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "shown"), [(0, "0"), (8190, "8190"), (65536, "64KiB"), (1 << 30, "1GiB")])
def test_a_size_is_shown_so_that_it_can_be_read_again(size, shown):
    assert show_size(size) == shown
    assert parse_size(shown) == size


# --- Sources ---------------------------------------------------------------------------------------------------------


def test_command_line_wins_over_environment_over_toml_over_default(tmp_path):
    (tmp_path / "rocket.toml").write_text("max_threads = 11\nkeep_alive = 12\nmin_threads = 3")
    environ = {"ROCKET_MAX_THREADS": "21", "ROCKET_KEEP_ALIVE": "22"}
    config = load(tmp_path, {"max_threads": "31"}, environ)
    assert (config.max_threads, config.keep_alive, config.min_threads, config.backlog) == (31, 22.0, 3, 2048)
    assert config.origin("max_threads") == "the command line"
    assert config.origin("keep_alive") == "ROCKET_KEEP_ALIVE in the environment"
    assert config.origin("min_threads") == f"min_threads in {tmp_path / 'rocket.toml'}"
    assert config.origin("backlog") == "default"
    assert Config(backlog=1).origin("backlog") == "keyword"


def test_the_constructor_reads_no_other_source(tmp_path, monkeypatch):
    (tmp_path / "rocket.toml").write_text("max_threads = 11")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROCKET_MAX_THREADS", "21")
    assert Config().max_threads == 64


def test_a_list_in_the_environment_has_commas(tmp_path):
    assert load(tmp_path, environ={"ROCKET_BIND": "127.0.0.1:0,[::1]:0"}).bind == ("127.0.0.1:0", "[::1]:0")


def test_a_list_in_toml_is_a_list(tmp_path):
    (tmp_path / "rocket.toml").write_text('bind = ["127.0.0.1:0", "[::1]:0"]')
    assert load(tmp_path).bind == ("127.0.0.1:0", "[::1]:0")


def test_pyproject_holds_the_options_in_a_table_of_its_own(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'a'\n[tool.rocket]\nmax_body_size = '64KiB'")
    config = load(tmp_path)
    assert config.max_body_size == 65536
    assert config.origin("max_body_size") == f"tool.rocket.max_body_size in {tmp_path / 'pyproject.toml'}"


def test_a_pyproject_without_that_table_says_nothing(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'a'")
    assert load(tmp_path) == Config()


@pytest.mark.parametrize("name", ["rocket.toml", "other.toml"])
def test_the_table_of_a_pyproject_toml_is_read_from_any_file(name, tmp_path):
    """So that what `rocket tune` prints may be pasted anywhere."""
    (tmp_path / name).write_text("[project]\nname = 'a'\n[tool.black]\nline-length = 3\n[tool.rocket]\nmax_threads = 9")
    config = load(tmp_path, file=tmp_path / name)
    assert config == Config(max_threads=9)
    assert config.origin("max_threads") == f"tool.rocket.max_threads in {tmp_path / name}"


def test_options_at_the_top_and_in_the_table_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "rocket.toml").write_text("backlog = 5\nkeep_alive = 9\n[tool.rocket]\nmax_threads = 9")
    with pytest.raises(
        ConfigError,
        match=r"rocket\.toml has options in two places, backlog, keep_alive at its top and others in \[tool\.rocket\]: "
        r"put them all at the top and leave out the line \[tool\.rocket\]$",
    ):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[tool.rocket]\nmax_thread = 3",
            r"unknown option 'max_thread': did you mean 'max_threads'\?.*tool\.rocket\.max",
        ),
        ("[tool]\nrocket = 3", r"tool\.rocket in .* must be a table, not 3"),
        ("[tool.black]\nline-length = 3", r"unknown option 'tool'"),
        ("[rocket]\nmax_threads = 3", r"rocket\.toml has options in \[rocket\]: put them at the top of the file"),
    ],
    ids=["misspelled", "no table", "another tool", "the command's name"],
)
def test_a_table_that_cannot_be_read_is_refused(text, words, tmp_path):
    (tmp_path / "rocket.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(tmp_path)


def test_rocket_toml_hides_pyproject_toml(tmp_path):
    (tmp_path / "rocket.toml").write_text("max_threads = 11")
    (tmp_path / "pyproject.toml").write_text("[tool.rocket]\nmax_threads = 12\nkeep_alive = 3")
    assert load(tmp_path) == Config(max_threads=11)


def test_a_named_file_hides_both(tmp_path):
    (tmp_path / "rocket.toml").write_text("max_threads = 11")
    (tmp_path / "other.toml").write_text("backlog = 5")
    assert load(tmp_path, file=tmp_path / "other.toml") == Config(backlog=5)


def test_a_named_file_must_exist(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*other\.toml: No such file"):
        load(tmp_path, file=tmp_path / "other.toml")


@pytest.mark.parametrize("content", [b"max_threads = ", b"\xff"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "rocket.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"rocket\.toml is not valid TOML: "):
        load(tmp_path)


def test_the_table_must_be_a_table(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool]\nrocket = 3")
    with pytest.raises(ConfigError, match=r"tool\.rocket in .* must be a table, not 3"):
        load(tmp_path)


def test_a_bad_value_names_its_variable(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^keep_alive must .* not 'abc' \(from ROCKET_KEEP_ALIVE in the environment\)$"
    ):
        load(tmp_path, environ={"ROCKET_KEEP_ALIVE": "abc"})


def test_a_bad_value_names_its_file_and_key(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.rocket]\nkeep_alive = 'abc'")
    with pytest.raises(ConfigError, match=r"not 'abc' \(from tool\.rocket\.keep_alive in .*pyproject\.toml\)$"):
        load(tmp_path)


def test_values_that_do_not_fit_each_other_name_both_sources(tmp_path):
    (tmp_path / "rocket.toml").write_text("min_threads = 9")
    with pytest.raises(
        ConfigError, match=r"the one from the command line, the other from min_threads in .*rocket\.toml"
    ):
        load(tmp_path, {"max_threads": 3})


def test_an_unknown_key_in_toml_is_refused_with_its_file(tmp_path):
    (tmp_path / "rocket.toml").write_text("keep-alive = 3")
    with pytest.raises(
        ConfigError, match=r"^unknown option 'keep-alive': did you mean 'keep_alive'\? \(from .*toml\)$"
    ):
        load(tmp_path)


def test_a_misspelled_variable_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"did you mean 'max_threads'\? \(from ROCKET_MAX_THREAD in the environment\)$"
    ):
        load(tmp_path, environ={"ROCKET_MAX_THREAD": "8"})


def test_variables_that_kubernetes_sets_for_a_service_named_rocket_are_not_ours(tmp_path):
    names = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"]
    assert load(tmp_path, environ={f"ROCKET_{name}": "tcp://10.0.0.11:80" for name in names}) == Config()


@pytest.mark.parametrize("source", ["environ", "toml"])
def test_the_worker_class_comes_from_python_only(tmp_path, source):
    if source == "toml":
        (tmp_path / "rocket.toml").write_text("worker = 'a.b:C'")
    with pytest.raises(ConfigError, match=r"^worker can be given from Python only \(from "):
        load(tmp_path, environ={"ROCKET_WORKER": "a.b:C"} if source == "environ" else {})


def test_addresses_may_stand_in_one_item_with_commas():
    assert Config(bind=["127.0.0.1:1,[::1]:2", ":3"]).bind == ("127.0.0.1:1", "[::1]:2", ":3")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("127.0.0.1, ::1,unix", ("127.0.0.1", "::1", "unix")),
        (["10.0.0.0/8", "UNIX,*"], ("10.0.0.0/8", "unix", "*")),
        ("", ()),
        ("none", ()),
        ([], ()),
    ],
)
def test_proxies_are_a_list_or_one_text_with_commas(written, read):
    assert Config(forwarded_allow_ips=written).forwarded_allow_ips == read


@pytest.mark.parametrize("item", ["10.0.0.1/8", "nginx", "127.0.0.1:80", "10.0.0.0/33"])
def test_the_one_item_that_is_no_network_is_named(item):
    said = refusal(forwarded_allow_ips=f"127.0.0.1,{item},::1")
    assert said.startswith("forwarded_allow_ips must be a list of addresses")
    assert said.endswith(f", not {item!r}")


@pytest.mark.parametrize("value", [None, 1, [1], {"a": 1}.values()])
def test_what_is_no_list_of_texts_is_no_list_of_proxies(value):
    assert "forwarded_allow_ips must be" in refusal(forwarded_allow_ips=value)


def test_header_fields_that_proxies_set_are_known_ones():
    assert Config(forwarded_headers="X-Forwarded-For,X-Real-IP").forwarded_headers == ("x-forwarded-for", "x-real-ip")
    assert refusal(forwarded_headers="x-forwarded-for,x-forwarded-fro").endswith(", not 'x-forwarded-fro'")


def test_who_believes_both_families_believes_what_a_client_writes():
    said = refusal(forwarded_headers="forwarded,x-forwarded-proto")
    assert "forwarded_headers has both forwarded and x-forwarded-proto" in said
    assert Config(forwarded_headers="forwarded,x-forwarded-prefix").forwarded_headers[0] == "forwarded"


def test_a_proxy_protocol_that_nobody_may_speak_is_refused(tmp_path):
    assert "proxy_protocol is v1, but forwarded_allow_ips is empty" in refusal(proxy_protocol="v1")
    with pytest.raises(ConfigError, match="from ROCKET_PROXY_PROTOCOL in the environment"):
        load(tmp_path, environ={"ROCKET_PROXY_PROTOCOL": "on"})
    assert "proxy_protocol must be one of off, on, v1, v2" in refusal(proxy_protocol="v3", forwarded_allow_ips="::1")


def test_with_the_proxy_protocol_no_fields_are_believed_unless_they_are_named():
    proxied = {"proxy_protocol": "on", "forwarded_allow_ips": "127.0.0.1"}
    assert Config(**proxied).forwarded_headers == ()
    assert Config(**proxied, forwarded_headers="forwarded").forwarded_headers == ("forwarded",)
    assert Config(**proxied).replace(proxy_protocol="off").forwarded_headers == ("x-forwarded-for", "x-forwarded-proto")


def test_replace_keeps_what_was_given_and_where():
    config = Config(keep_alive=7).replace(max_threads=1)
    assert (config.keep_alive, config.max_threads, config.min_threads) == (7.0, 1, 1)
    assert config.origin("keep_alive") == "keyword"
    assert config.origin("backlog") == "default"
