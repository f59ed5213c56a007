"""What an application is told of a TLS connection, and how certificates are read."""

import datetime
import ssl

import pytest
import trustme
from tls_helpers import client_context

from rocket.tls import Contexts, Settings
from rocket.tls.variables import ssl_variables
from rocket.tls.x509 import read_der, read_pem, show_name, show_time


def make_certificate(attributes, names=(), raw_names=b""):
    """Return the DER of a certificate with those subject attributes and alternative names.

    *raw_names* are the DER of such names, for those that the package cryptography refuses to write.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in attributes])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0xABCDEF)
        .not_valid_before(datetime.datetime(1999, 2, 3, 4, 5, 6))
        .not_valid_after(datetime.datetime(2077, 12, 1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    if raw_names:
        number = x509.ObjectIdentifier("2.5.29.17")
        value = b"\x30" + bytes([len(raw_names)]) + raw_names
        builder = builder.add_extension(x509.UnrecognizedExtension(number, value), critical=False)
    return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)


def test_a_certificate_is_read_as_openssl_reads_it(make_pair, authority, files):
    connection, peer = make_pair(
        Contexts(Settings(certfile=files.pem("localhost", "*.example.org", "::1", "10.0.0.1")))
    )
    peer.shake(connection)
    theirs = peer.tls.getpeercert()
    mine = read_der(peer.tls.getpeercert(binary_form=True))
    assert mine.version == theirs["version"]
    assert f"{mine.serial:040X}"[-len(theirs["serialNumber"]) :] == theirs["serialNumber"]
    assert show_time(mine.not_before) == theirs["notBefore"]
    assert show_time(mine.not_after) == theirs["notAfter"]
    assert [("DNS", name) for name in mine.dns] == [pair for pair in theirs["subjectAltName"] if pair[0] == "DNS"]
    assert mine.addresses == ("::1", "10.0.0.1")
    assert [value for _, value in mine.subject] == [value for ((_, value),) in theirs["subject"]]
    assert ssl.PEM_cert_to_DER_cert(mine.pem) == peer.tls.getpeercert(binary_form=True)


def test_names_are_written_as_rfc_2253_wants(authority):
    der = make_certificate(
        [("2.5.4.6", "DE"), ("2.5.4.10", 'Müller, "Söhne"'), ("2.5.4.3", " #x\n"), ("1.2.3.4", "odd")],
    )
    certificate = read_der(der)
    assert show_name(certificate.subject) == (r"1.2.3.4=odd,CN=\ #x\0A,O=M\C3\BCller\, \"S\C3\B6hne\",C=DE")
    assert (certificate.not_before.year, certificate.not_after.year) == (1999, 2077)
    assert show_time(certificate.not_before) == "Feb  3 04:05:06 1999 GMT"
    assert (certificate.key_algorithm, certificate.signature_algorithm) == ("id-ecPublicKey", "ecdsa-with-SHA384")
    assert certificate.hosts == (" #x\n",)


def test_odd_alternative_names_do_not_hide_the_others():
    odd = b"\x87\x05\1\2\3\4\5" + b"\x81\x05\xc3\xbc@x\xff" + b"\x82\x03\xc3\xbcx" + b"\x87\x04\x0a\0\0\1"
    certificate = read_der(make_certificate([("2.5.4.3", "x")], raw_names=odd + b"\x82\x09localhost"))
    assert certificate.addresses == ("10.0.0.1",)
    assert certificate.mails == ("\xfc@x\ufffd",)
    assert certificate.dns == ("\xfcx", "localhost")


def test_a_damaged_certificate_is_a_value_error():
    der = make_certificate([("2.5.4.3", "x")])
    for length in range(len(der) - 1):
        try:
            read_der(der[:length])
        except ValueError:
            continue
        raise AssertionError(f"{length} of {len(der)} bytes were taken for all")
    assert read_pem("no certificate") is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_variables_are_those_of_mod_ssl(make_pair, authority, version):
    connection, peer = make_pair(context=client_context(authority, maximum=version))
    peer.shake(connection)
    found = connection.variables()
    name, _, bits = peer.tls.cipher()
    assert found["HTTPS"] == "on"
    assert found["SSL_PROTOCOL"] == peer.tls.version()
    assert (found["SSL_CIPHER"], found["SSL_CIPHER_USEKEYSIZE"]) == (name, str(bits))
    assert found["SSL_TLS_SNI"] == "localhost"
    assert found["SSL_SESSION_RESUMED"] == "Initial"
    assert found["SSL_CLIENT_VERIFY"] == "NONE"
    assert found["SSL_SERVER_SAN_DNS_0"] == "localhost"
    assert found["SSL_SERVER_S_DN"].startswith("OU=")
    assert "SSL_CLIENT_CERT" not in found


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_is_told_of_also_when_a_session_is_resumed(make_pair, authority, files, version):
    settings = Settings(certfile=files.pem("localhost"), ca_certs=files.authorities(), cert_reqs="required")
    contexts = Contexts(settings)
    leaf = authority.issue_cert("joe@example.org", common_name="Jörg")
    context = client_context(authority, leaf, maximum=version)
    connection, peer = make_pair(contexts, context)
    peer.shake(connection)
    connection.write(b"x")
    peer.read(1)  # with the tickets before it
    found = connection.variables()
    assert found["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert found["SSL_CLIENT_S_DN_CN"] == "JÃ¶rg"  # UTF-8 as latin-1: PEP 3333
    assert found["SSL_CLIENT_S_DN"].startswith(r"CN=J\C3\B6rg,OU=")
    assert found["SSL_CLIENT_SAN_Email_0"] == "joe@example.org"
    assert found["SSL_CLIENT_CERT"].startswith("-----BEGIN CERTIFICATE-----\n")
    assert int(found["SSL_CLIENT_V_REMAIN"]) > 0
    again, other = make_pair(contexts, context)
    other.tls = context.wrap_bio(other.incoming, other.outgoing, server_hostname="localhost", session=peer.tls.session)
    other.shake(again)
    assert again.variables()["SSL_SESSION_RESUMED"] == "Resumed"
    assert again.variables()["SSL_CLIENT_S_DN"] == found["SSL_CLIENT_S_DN"]


class Verified:
    """What `ssl_variables` asks of a TLS connection whose client has shown *der*."""

    session, session_reused, context = None, False, None

    def __init__(self, der):
        self.getpeercert = lambda binary_form: der
        self.cipher = self.version = self.compression = lambda: None


def test_a_client_certificate_that_only_openssl_can_read_is_told_of(caplog):
    der = make_certificate([("2.5.4.3", "x")])
    assert ssl_variables(Verified(der), None)["SSL_CLIENT_S_DN_CN"] == "x"
    damaged = der[:-1]
    found = ssl_variables(Verified(damaged), None)
    assert found["SSL_CLIENT_VERIFY"] == "SUCCESS"
    assert ssl.PEM_cert_to_DER_cert(found["SSL_CLIENT_CERT"]) == damaged
    assert "SSL_CLIENT_S_DN" not in found
    assert "damaged" in caplog.text


def test_an_optional_certificate_may_be_missing_but_not_be_a_stranger_s(make_pair, authority, files):
    settings = Settings(certfile=files.pem("localhost"), ca_certs=files.authorities(), cert_reqs="optional")
    connection, peer = make_pair(Contexts(settings))
    peer.shake(connection)
    assert connection.variables()["SSL_CLIENT_VERIFY"] == "NONE"
    stranger = trustme.CA().issue_cert("eve@example.org")
    connection, peer = make_pair(Contexts(settings), client_context(authority, stranger))
    with pytest.raises((ConnectionError, ssl.SSLError), match="verify failed"):
        peer.shake(connection)


def test_alpn_is_agreed_on(make_pair, authority):
    context = client_context(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    connection, peer = make_pair(context=context)
    peer.shake(connection)
    assert peer.tls.selected_alpn_protocol() == "http/1.1"


def test_variables_are_latin_1(make_pair):
    connection, peer = make_pair()
    peer.shake(connection)
    for value in ssl_variables(connection._session.tls, "x").values():
        assert type(value) is str
        value.encode("latin-1")
