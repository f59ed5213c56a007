"""Certificates on the disk: which is taken for whom, what is wrong with them, and that changed ones are taken up."""

import ssl

import pytest
import trustme
from tls_helpers import client_context

from rocket.errors import ConfigError
from rocket.tls import Contexts, Settings


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shown(make_pair, authority):
    """What tells which certificate a client gets from contexts, as (its alternative names)."""

    def shown(contexts, server_name="localhost"):
        context = client_context(authority)
        context.check_hostname = False
        connection, peer = make_pair(contexts, context, server_name)
        peer.shake(connection)
        return [value for _, value in peer.tls.getpeercert()["subjectAltName"]]

    return shown


# --- Which one -------------------------------------------------------------------------------------------------------


def test_each_name_gets_its_certificate_and_others_the_default(files, shown):
    files.pem("a.example", "www.a.example", path="certs/one.pem")
    files.pair("b.example", path="certs/two")
    files.pem("*.wild.example", path="certs/three.pem")
    contexts = Contexts(Settings(certfile=files.pem("default.example"), certdir=str(files.folder / "certs")))
    assert shown(contexts, "www.a.example") == ["a.example", "www.a.example"]
    assert shown(contexts, "A.Example") == ["a.example", "www.a.example"]
    assert shown(contexts, "b.example") == ["b.example"]
    assert shown(contexts, "x.wild.example") == ["*.wild.example"]
    assert shown(contexts, "wild.example") == ["default.example"]
    assert shown(contexts, "x.y.wild.example") == ["default.example"]
    assert shown(contexts, "c.example") == ["default.example"]
    assert shown(contexts, None) == ["default.example"]


def test_the_default_of_a_folder_is_the_one_of_that_name_or_the_first(files, shown):
    files.pem("b.example", path="certs/b.pem")
    files.pem("z.example", path="certs/z.pem")
    settings = Settings(certdir=str(files.folder / "certs"))
    assert shown(Contexts(settings), "unknown.example") == ["b.example"]
    files.pem("default.example", path="certs/default.pem")
    assert shown(Contexts(settings), "unknown.example") == ["default.example"]


# --- What is wrong ---------------------------------------------------------------------------------------------------


def encrypted(files, password):
    from cryptography.hazmat.primitives import serialization as s

    leaf = files.issue("localhost")
    key = s.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    pem = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(password))
    return files.write("server.pem", pem + leaf.cert_chain_pems[0].bytes())


def problem(**settings):
    with pytest.raises(ConfigError) as caught:
        Contexts(Settings(**settings))
    assert "hunter" not in str(caught.value)
    return str(caught.value)


def test_files_that_cannot_be_read_are_named_with_their_option(files):
    crt, key = files.pair("localhost")
    folder = str(files.folder)
    assert problem(certfile="/no/such.pem") == "certfile (/no/such.pem): No such file or directory"
    assert problem(certfile=folder) == f"certfile ({folder}): Is a directory"
    assert problem(certfile=crt, keyfile="/no/such.key") == "keyfile (/no/such.key): No such file or directory"
    assert problem(certdir="/no/such") == "certdir (/no/such): No such file or directory"
    assert problem(certdir=crt) == f"certdir ({crt}): Not a directory"
    assert "ca_certs (/no/such)" in problem(certfile=crt, keyfile=key, ca_certs="/no/such", cert_reqs="required")


def test_files_that_are_not_what_they_should_be_are_named(files):
    crt, key = files.pair("localhost")
    junk = files.write("junk.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    empty = files.write("empty.pem", b"")
    assert problem(certfile=key) == f"certfile ({key}) has no certificate in PEM"
    assert problem(certfile=empty) == f"certfile ({empty}) has no certificate in PEM"
    assert junk in problem(certfile=junk)
    assert problem(certfile=crt) == f"certfile ({crt}) has no private key in PEM; give keyfile"
    assert problem(certfile=crt, keyfile=crt) == f"keyfile ({crt}) has no private key in PEM"
    assert f"ca_certs ({empty})" in problem(certfile=crt, keyfile=key, ca_certs=empty, cert_reqs="optional")


def test_a_folder_of_authorities_must_have_the_names_that_openssl_looks_for(files):
    path, folder = files.pem("localhost"), str(files.folder / "authorities")
    files.authorities(path="authorities/ca.pem")
    assert problem(certfile=path, ca_certs=folder, cert_reqs="required").startswith(
        f"ca_certs ({folder}) has no certificate that OpenSSL would find"
    )
    files.authorities(path="authorities/0123abcd.0")
    Contexts(Settings(certfile=path, ca_certs=folder, cert_reqs="required"))


def test_a_key_of_another_certificate_is_named_with_it(files):
    crt, _ = files.pair("localhost")
    _, key = files.pair("localhost", path="other")
    assert problem(certfile=crt, keyfile=key) == f"the key in {key} does not belong to the certificate in {crt}"
    rsa = files.write("rsa.key", files.authority.issue_cert("x", key_type=trustme.KeyType.RSA).private_key_pem.bytes())
    assert problem(certfile=crt, keyfile=rsa) == f"the key in {rsa} does not belong to the certificate in {crt}"


def test_an_encrypted_key_needs_its_password(files):
    path = encrypted(files, b"hunter2")
    assert problem(certfile=path) == f"the key in {path} is encrypted: give keyfile_password"
    assert problem(certfile=path, password="hunter3") == f"keyfile_password is not that of the key in {path}"
    assert "cannot load" in problem(certfile=path, password="hunter" * 1000)
    assert Contexts(Settings(certfile=path, password="hunter2")).certificates[0].hosts == ("localhost",)
    assert "hunter" not in repr(Settings(certfile=path, password="hunter2"))


def test_an_empty_folder_and_a_broken_file_in_one_are_named(files):
    (files.folder / "certs").mkdir()
    assert "has no certificate: no file named *.pem or *.crt" in problem(certdir=str(files.folder / "certs"))
    path = files.write("certs/x.pem", b"junk")
    assert problem(certdir=str(files.folder / "certs")) == f"certdir ({path}) has no certificate in PEM"
    alone = files.write("certs/x.pem", files.issue("x").cert_chain_pems[0].bytes())
    assert (
        problem(certdir=str(files.folder / "certs"))
        == f"certdir ({alone}) has no private key in PEM, and there is no x.key"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ciphers": "NOSUCH"}, "ciphers: OpenSSL knows none of 'NOSUCH'"),
        ({"cert_reqs": "required"}, "cert_reqs is required: give ca_certs"),
        ({"ca_certs": "/etc"}, "ca_certs (/etc) is given, but cert_reqs is none"),
    ],
)
def test_settings_that_do_not_fit(files, settings, message):
    assert message in problem(certfile=files.pem("localhost"), **settings)


@pytest.mark.parametrize("settings", [{"keyfile": "k"}, {"ca_certs": "c"}, {"cert_reqs": "optional"}])
def test_settings_without_a_certificate_are_refused(settings):
    with pytest.raises(ConfigError, match="certfile or certdir"):
        assert Settings(**settings).wanted
    assert not Settings().wanted


def test_an_expired_certificate_is_warned_of(files, caplog):
    from datetime import datetime, timezone

    path = files.pem("localhost", not_after=datetime(2020, 1, 1, tzinfo=timezone.utc))
    Contexts(Settings(certfile=path))
    assert f"the certificate in {path} expired on 2020-01-01" in caplog.text


# --- Changes ---------------------------------------------------------------------------------------------------------


def test_a_changed_file_is_taken_up_by_new_connections_after_a_second(files, make_pair, shown, clock, caplog):
    contexts = Contexts(Settings(certfile=files.pem("old.example")), clock=clock)
    connection, peer = make_pair(contexts, server_name="old.example")
    peer.shake(connection)
    files.pem("new.example")
    assert shown(contexts) == ["old.example"]  # not looked at yet
    clock.now += 1
    assert shown(contexts) == ["new.example"]
    assert "certificates taken up: new.example" in caplog.text
    peer.send(b"as before")
    assert connection.fill()
    assert connection.variables()["SSL_SERVER_SAN_DNS_0"] == "old.example"


def test_without_a_change_nothing_is_loaded_again(files, clock):
    contexts = Contexts(Settings(certfile=files.pem("localhost")), clock=clock)
    before = contexts.current()
    clock.now += 1
    assert contexts.current() is before


def test_a_pair_that_does_not_fit_keeps_the_old_one_and_warns_once(files, shown, clock, caplog):
    crt, key = files.pair("old.example")
    contexts = Contexts(Settings(certfile=crt, keyfile=key), clock=clock)
    leaf = files.issue("new.example")
    files.write("server.crt", leaf.cert_chain_pems[0].bytes())
    for _ in range(3):
        clock.now += 1
        assert shown(contexts) == ["old.example"]
    assert [record.message for record in caplog.records] == [
        f"the old certificate stays: the key in {key} does not belong to the certificate in {crt}"
    ]
    files.write("server.key", leaf.private_key_pem.bytes())
    clock.now += 1
    assert shown(contexts) == ["new.example"]


@pytest.mark.parametrize("what", ["gone", "junk", "folder gone"])
def test_a_file_that_vanishes_or_breaks_keeps_the_old_certificate(files, shown, clock, caplog, what):
    path = files.pem("old.example", path="certs/a.pem")
    contexts = Contexts(Settings(certdir=str(files.folder / "certs")), clock=clock)
    if what == "junk":
        files.write("certs/a.pem", b"junk")
    elif what == "gone":
        (files.folder / "certs" / "a.pem").unlink()
    else:
        (files.folder / "certs").rename(files.folder / "elsewhere")
    for _ in range(2):
        clock.now += 1
        assert shown(contexts) == ["old.example"]
    assert len(caplog.records) == 1
    assert "the old certificate stays: certdir" in caplog.text
    (files.folder / "certs").mkdir(exist_ok=True)
    assert files.pem("new.example", path="certs/a.pem") == path
    clock.now += 1
    assert shown(contexts) == ["new.example"]


def test_certificates_come_and_go_in_a_folder_and_a_broken_one_harms_no_other(files, shown, clock, caplog):
    files.pem("a.example", path="certs/a.pem")
    contexts = Contexts(Settings(certdir=str(files.folder / "certs")), clock=clock)
    files.pem("b.example", path="certs/b.pem")
    files.write("certs/c.pem", b"junk")
    clock.now += 1
    assert shown(contexts, "b.example") == ["b.example"]
    assert "c.pem) has no certificate" in caplog.text
    (files.folder / "certs" / "b.pem").unlink()
    clock.now += 1
    assert shown(contexts, "b.example") == ["a.example"]


def test_a_symbolic_link_that_points_elsewhere_is_a_change(files, shown, clock):
    """As with certbot's live/, or a secret in Kubernetes."""
    files.pem("one.example", path="one/tls.pem")
    files.pem("two.example", path="two/tls.pem")
    link = files.folder / "live"
    link.symlink_to("one")
    contexts = Contexts(Settings(certfile=str(link / "tls.pem")), clock=clock)
    assert shown(contexts) == ["one.example"]
    link.unlink()
    link.symlink_to("two")
    clock.now += 1
    assert shown(contexts) == ["two.example"]


def test_changed_authorities_are_taken_up(files, make_pair, authority, clock):
    other = trustme.CA()
    settings = Settings(
        certfile=files.pem("localhost"), ca_certs=files.authorities(other), cert_reqs="required", minimum="1.2"
    )
    contexts = Contexts(settings, clock=clock)
    mine = client_context(authority, files.issue("me@example.org"), maximum=ssl.TLSVersion.TLSv1_2)
    connection, peer = make_pair(contexts, mine)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        peer.shake(connection)
    files.authorities()
    clock.now += 1
    connection, peer = make_pair(contexts, mine)
    peer.shake(connection)
    assert connection.variables()["SSL_CLIENT_VERIFY"] == "SUCCESS"


def test_the_application_may_change_the_folder(files, shown, clock, monkeypatch):
    monkeypatch.chdir(files.folder)
    files.pem("old.example")
    contexts = Contexts(Settings(certfile="server.pem"), clock=clock)
    monkeypatch.chdir("/")
    files.pem("new.example")
    clock.now += 1
    assert shown(contexts) == ["new.example"]
