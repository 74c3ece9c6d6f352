"""Python's own clients, http.client and urllib: with_stdlib.py URL SECURE_URL AUTHORITY. Ends with 0 when all came out as it should."""

import concurrent.futures
import http.client
import ssl
import sys
import urllib.error
import urllib.request

PIECE = bytes(range(251)) * 64
TIMEOUT = 60


def address(url):
    return url.split("//")[1]


def one_connection_carries_many_requests(url):
    connection = http.client.HTTPConnection(address(url), timeout=TIMEOUT)
    connection.connect()
    socket = connection.sock
    for number in range(20):
        body = PIECE[:number]
        connection.request("POST", "/echo", body=body)
        response = connection.getresponse()
        assert (response.status, response.version, response.read()) == (200, 11, body)
        connection.request("HEAD", "/hello")
        response = connection.getresponse()
        assert (response.status, response.getheader("content-length"), response.read()) == (200, "6", b"")
    for status in (204, 304, 404):
        connection.request("GET", f"/status/{status}?code={status}")
        response = connection.getresponse()
        assert response.status == status
        response.read()
    assert connection.sock is socket, "the connection was not kept"
    connection.close()


def a_body_of_unknown_length_goes_in_chunks(url):
    connection = http.client.HTTPConnection(address(url), timeout=TIMEOUT)
    for _ in range(2):
        connection.request("POST", "/echo", body=(PIECE for _ in range(20)), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})
        assert connection.getresponse().read() == PIECE * 20
    connection.close()


def a_download_is_read_piece_by_piece(url):
    with urllib.request.urlopen(f"{url}/download?bytes=20000000", timeout=TIMEOUT) as response:
        total = 0
        while piece := response.read(65536):
            total += len(piece)
    assert total == 20_000_000


def an_error_has_its_status_and_its_text(url):
    try:
        urllib.request.urlopen(f"{url}/no/such", timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        assert error.code == 404 and b"request id" in error.read()
    else:
        raise AssertionError("404 was taken for an answer")


def whoever_waits_too_long_may_leave(url):
    connection = http.client.HTTPConnection(address(url), timeout=0.2)
    connection.request("GET", "/sleep?ms=2000")
    try:
        connection.getresponse()
    except TimeoutError:
        connection.close()
    else:
        raise AssertionError("nobody slept")
    assert urllib.request.urlopen(f"{url}/hello", timeout=TIMEOUT).read() == b"hello\n"


def tls_is_as_good_as_none(secure_url, authority):
    context = ssl.create_default_context(cafile=authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    connection = http.client.HTTPSConnection(address(secure_url), timeout=TIMEOUT, context=context)
    for _ in range(3):
        connection.request("POST", "/echo", body=PIECE * 10)
        assert connection.getresponse().read() == PIECE * 10
    connection.close()


def many_at_once_are_served(url):
    def some(_):
        connection = http.client.HTTPConnection(address(url), timeout=TIMEOUT)
        for _ in range(25):
            connection.request("GET", "/hello")
            assert connection.getresponse().read() == b"hello\n"
        connection.close()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(some, range(8)))


if __name__ == "__main__":
    url, secure_url, authority = sys.argv[1:]
    one_connection_carries_many_requests(url)
    a_body_of_unknown_length_goes_in_chunks(url)
    a_download_is_read_piece_by_piece(url)
    an_error_has_its_status_and_its_text(url)
    whoever_waits_too_long_may_leave(url)
    tls_is_as_good_as_none(secure_url, authority)
    many_at_once_are_served(url)
