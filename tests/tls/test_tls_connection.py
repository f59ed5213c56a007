"""Connections under TLS: what goes in comes out, wherever it is cut, and an end is told from a cut."""

import socket
import ssl
import tempfile

import pytest
from tls_helpers import GET, reading

from rocket.connection import RECEIVE_BYTES
from rocket.errors import ConnectionLost, NotTLS
from rocket.tls.connection import ANSWERS, RECORD

MB = 1 << 20


def fill_until(connection, count):
    while len(connection.buffer) < count:
        assert connection.wait(writable=False, timeout=20)
        connection.fill()


def flush(connection):
    while not connection.flush():
        assert connection.wait(writable=True, timeout=20)


@pytest.fixture
def pair(make_pair):
    """A connection and its peer after the handshake."""
    connection, peer = make_pair()
    peer.shake(connection)
    return connection, peer


def test_it_is_secure_from_the_beginning(make_pair):
    assert make_pair()[0].secure


def test_a_handshake_may_come_byte_by_byte(make_pair):
    connection, peer = make_pair()
    for byte in peer.hello():
        assert not connection.handshake()
        peer.sock.sendall(bytes([byte]))
    assert not connection.handshake()
    peer.incoming.write(peer.sock.recv(65536))
    peer.tls.do_handshake()
    peer.sock.sendall(peer.outgoing.read())
    assert connection.handshake()


def test_a_request_that_comes_with_the_end_of_the_handshake_is_in_the_buffer(make_pair):
    connection, peer = make_pair()
    peer.sock.sendall(peer.hello())
    assert not connection.handshake()
    peer.incoming.write(peer.sock.recv(65536))
    peer.tls.do_handshake()
    peer.tls.write(GET)
    peer.sock.sendall(peer.outgoing.read())
    assert connection.handshake()
    assert connection.buffer == GET


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"G", b"\x80\x2e\x01\0\2", b"\0"])
def test_who_does_not_speak_tls_is_told_apart_by_the_first_byte(make_pair, first):
    connection, peer = make_pair()
    peer.sock.sendall(first)
    with pytest.raises(NotTLS):
        connection.handshake()
    assert (connection.buffer, connection.secure) == (first, False)
    connection.write(b"plain")
    assert peer.sock.recv(100) == b"plain"
    peer.sock.sendall(b"more")
    assert connection.fill()
    assert connection.buffer == first + b"more"


def test_a_handshake_that_fails_ends_with_an_alert(make_pair):
    connection, peer = make_pair()
    peer.sock.sendall(b"\x16\x03\x01\0\5hello")
    with pytest.raises(ConnectionLost, match="handshake failed"):
        connection.handshake()
    assert peer.sock.recv(100)[0] == 21  # an alert: RFC 8446, 5.1
    connection.shutdown()
    assert peer.sock.recv(100) == b""


def test_a_peer_that_goes_away_in_the_handshake_is_lost(make_pair):
    connection, peer = make_pair()
    peer.sock.sendall(peer.hello()[:20])
    assert not connection.handshake()
    peer.sock.close()
    with pytest.raises(ConnectionLost, match="went away"):
        connection.handshake()


def test_records_may_come_byte_by_byte_or_many_at_once(pair):
    connection, peer = pair
    for byte in peer.encrypt(b"one") + peer.encrypt(b"two"):
        assert not connection.buffer.endswith(b"two")
        peer.sock.sendall(bytes([byte]))
        connection.fill()
    assert connection.buffer == b"onetwo"
    peer.sock.sendall(b"".join(peer.encrypt(b"%d," % i) for i in range(100)))
    connection.buffer = b""
    assert connection.fill()
    assert connection.buffer == b"".join(b"%d," % i for i in range(100))


def test_nothing_that_the_system_would_not_tell_of_is_left_inside(pair):
    """Whatever has come whole is in the buffer once nothing more is to be received: else it would wait for ever."""
    connection, peer = pair
    sent = b""
    for size in (1, RECORD - 1, RECORD, RECORD + 1, 3 * RECORD, RECEIVE_BYTES):
        data = bytes([size % 251]) * size
        sent += data
        with_rest = peer.encrypt(data) + peer.encrypt(b"!")
        sent += b"!"
        peer.sock.sendall(with_rest)
        fill_until(connection, len(sent))
        assert connection.buffer == sent


@pytest.mark.parametrize("size", [1, RECORD, RECORD + 1, 100_000, 3 * MB])
def test_what_is_written_arrives(pair, size):
    connection, peer = pair
    data = bytes(range(256)) * (size // 256) + b"." * (size % 256)
    with reading(peer, size) as got:
        connection.write(data)
        flush(connection)
    assert got == [data]


@pytest.mark.parametrize(
    "limits", [(1 << 30, 0), (10_000, 1 << 30), (10_000, 200_000)], ids=["memory", "file", "files"]
)
def test_what_the_peer_does_not_take_is_kept_and_arrives_in_order(make_pair, limits):
    connection, peer = make_pair(output_limits=limits)
    peer.shake(connection)
    blocks = [bytes([i % 251]) * (i * 977) for i in range(100)]
    for block in blocks:
        whole = connection.write(block)
    assert not whole
    assert connection.unsent
    with reading(peer, sum(map(len, blocks))) as got:
        flush(connection)
    assert got == [b"".join(blocks)]


def test_parts_and_files_and_what_is_written_behind_them_arrive_in_order(pair):
    connection, peer = pair
    done = []
    with tempfile.TemporaryFile() as file:
        content = bytes(range(256)) * 8192
        file.write(content)
        file.flush()
        connection.write_parts([b"head", b"x" * MB])
        connection.write_file(file, 1, len(content) - 2, lambda: done.append("first"))
        connection.write(b"between")
        connection.write_file(file, 0, 5, lambda: done.append("second"))
        connection.write(b"behind" * 10_000)
        expected = b"head" + b"x" * MB + content[1:-1] + b"between" + content[:5] + b"behind" * 10_000
        with reading(peer, len(expected)) as got:
            flush(connection)
    assert got == [expected]
    assert done == ["first", "second"]


def test_a_change_of_keys_waits_until_a_file_has_gone(pair):
    connection, peer = pair
    with tempfile.TemporaryFile() as file:
        file.truncate(8 * MB)
        assert not connection.write_file(file, 0, 8 * MB, lambda: None)
        peer.sock.sendall(peer.ask_for_key_update() + peer.encrypt(b"more"))
        assert not connection.fill()
        with reading(peer, 8 * MB) as got:
            flush(connection)
        assert got == [bytes(8 * MB)]
    assert connection.fill()
    assert connection.buffer == b"more"
    connection.write(b"answer")
    assert peer.read(6) == b"answer"


def test_a_file_that_became_shorter_is_not_a_shorter_answer(pair, caplog):
    connection, peer = pair
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100)
        file.flush()
        with pytest.raises(ConnectionLost, match="50 bytes early"):
            connection.write_file(file, 0, 150, lambda: None)
    assert "has become shorter" in caplog.text
    connection.close()
    with pytest.raises(ssl.SSLError):
        peer.read(151)


def test_the_end_is_told_in_tls_words(pair):
    connection, peer = pair
    connection.write(b"all")
    connection.close()
    assert peer.read(100) == b"all"


def test_shutdown_tells_the_end_and_what_still_comes_is_dropped_unread(pair):
    connection, peer = pair
    connection.shutdown()
    assert peer.read(1) == b""
    peer.sock.sendall(b"whatever")
    assert connection.fill()


@pytest.mark.parametrize("how", ["unsent", "dropped", "reset"])
def test_an_answer_that_is_cut_does_not_look_whole(pair, how):
    connection, peer = pair
    connection.write(b"some")
    if how == "reset":
        connection.reset_on_close()
    else:
        connection.write(b"x" * 10 * MB)
        assert connection.unsent
    if how == "dropped":
        connection.output.close()
        assert connection.flush()
    connection.close()
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        peer.read(20 * MB)


def test_a_close_notify_is_the_end_of_the_stream(pair):
    connection, peer = pair
    peer.sock.sendall(peer.encrypt(b"last") + peer.ending())
    assert connection.fill()
    assert (connection.buffer, connection.eof) == (b"last", True)
    assert not connection.fill()
    connection.write(b"answer")  # a half-closed client may still read
    assert connection.flush()


def test_an_end_without_close_notify_is_an_abort(pair):
    connection, peer = pair
    peer.sock.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionLost, match="without ending TLS"):
        connection.fill()


def test_bytes_that_were_changed_on_the_way_are_an_abort(pair):
    connection, peer = pair
    data = bytearray(peer.encrypt(b"transfer 10"))
    data[-1] ^= 1
    peer.sock.sendall(data)
    with pytest.raises(ConnectionLost, match="TLS"):
        connection.fill()


def test_it_cannot_be_detached(pair):
    with pytest.raises(TypeError, match="cannot be detached"):
        pair[0].detach()


def test_nothing_raises_at_the_close_of_a_peer_that_is_gone(make_pair):
    for vanish in (lambda peer: peer.sock.close(), lambda peer: None):
        connection, peer = make_pair()
        peer.shake(connection)
        vanish(peer)
        connection.close()
        connection.close()
        assert connection.closed


def test_keys_are_changed_when_the_peer_asks(pair):
    connection, peer = pair
    for i in range(3):
        peer.sock.sendall(peer.ask_for_key_update() + peer.encrypt(b"%d" % i))
        assert connection.fill()
        assert connection.buffer.endswith(b"%d" % i)
        connection.write(b"answer")
        assert peer.read(6) == b"answer"


def test_a_peer_that_asks_for_key_updates_and_takes_none_is_cut_off(pair):
    """It could else make us keep as many as it likes."""
    connection, peer = pair
    connection.write(b"x" * 10 * MB)
    kept = connection.output.size

    def flood():
        for _ in range(100):
            peer.sock.sendall(b"".join(peer.ask_for_key_update() for _ in range(200)))
            while connection.wait(writable=False, timeout=0):
                connection.fill()

    with pytest.raises(ConnectionLost, match="key updates"):
        flood()
    assert connection.output.size - kept < ANSWERS


def test_a_key_update_that_cannot_be_answered_now_is_answered_later(make_pair):
    connection, peer = make_pair()
    peer.shake(connection)
    written = RECORD
    while connection.write(b"x" * RECORD):
        written += RECORD
    peer.sock.sendall(peer.ask_for_key_update())
    assert not connection.fill()
    assert connection.unsent  # so it is parked until the peer takes something, and not for ever
    with reading(peer, written) as got:
        flush(connection)
    assert got == [b"x" * written]
