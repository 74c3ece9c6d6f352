"""The client `requests`: with_requests.py URL SECURE_URL AUTHORITY. Ends with 0 when all came out as it should."""

import concurrent.futures
import io
import sys

import requests
import urllib3.util.connection

PIECE = bytes(range(251)) * 64
TIMEOUT = 60


class Opened:
    """Counts the connections that are opened, whoever opens them; a pool's own count leaves those out that replace a lost one."""

    def __init__(self):
        self.count, self.open = 0, urllib3.util.connection.create_connection
        urllib3.util.connection.create_connection = self

    def __call__(self, *arguments, **options):
        self.count += 1
        return self.open(*arguments, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        urllib3.util.connection.create_connection = self.open


def a_session_keeps_its_connection(url):
    with requests.Session() as session, Opened() as opened:
        for number in range(20):
            response = session.post(f"{url}/echo", data=PIECE[:number], timeout=TIMEOUT)
            assert (response.status_code, response.content) == (200, PIECE[:number])
        assert session.head(f"{url}/hello", timeout=TIMEOUT).headers["content-length"] == "6"
        assert session.options(f"{url}/hello", timeout=TIMEOUT).headers["allow"] == "GET, HEAD, OPTIONS"
        assert session.get(f"{url}/no/such", timeout=TIMEOUT).status_code == 404
        assert session.delete(f"{url}/hello", timeout=TIMEOUT).status_code == 405
        assert opened.count == 1, "the connection was not kept"


def uploads_stream(url):
    with requests.Session() as session, Opened() as opened:
        generated = session.post(f"{url}/echo", data=(PIECE for _ in range(20)), timeout=TIMEOUT)
        assert generated.content == PIECE * 20
        # This client reads nothing before it has sent all: an echo of more than buffers hold would come to a standstill.
        large = session.post(f"{url}/read-then-reply", data=(PIECE for _ in range(2000)), timeout=TIMEOUT)
        assert large.text == f"{2000 * len(PIECE)}\n"
        measured = session.post(f"{url}/read-then-reply", data=io.BytesIO(PIECE * 500), timeout=TIMEOUT)
        assert measured.text == f"{500 * len(PIECE)}\n"
        form = session.post(f"{url}/echo", files={"file": ("a.txt", b"contents")}, data={"name": "value"}, timeout=TIMEOUT)
        assert b"contents" in form.content and b"value" in form.content
        assert opened.count == 1, "the connection was not kept"


def downloads_stream_and_can_be_given_up(url):
    with requests.Session() as session:
        with session.get(f"{url}/download?bytes=20000000", stream=True, timeout=TIMEOUT) as response:
            assert sum(len(piece) for piece in response.iter_content(65536)) == 20_000_000
        with session.get(f"{url}/slow-body?pieces=100&ms=20", stream=True, timeout=TIMEOUT) as response:
            assert next(response.iter_content(1))
        assert session.get(f"{url}/hello", timeout=TIMEOUT).text == "hello\n"


def codings_are_undone(url):
    text = "a" * 4000
    for coding in ("gzip", "identity"):
        response = requests.get(f"{url}/show", params={"text": text}, headers={"accept-encoding": coding}, timeout=TIMEOUT)
        assert response.headers.get("content-encoding", "identity") == coding and text in response.text
    ranged = requests.get(f"{url}/assets/digits.txt", headers={"range": "bytes=2-4"}, timeout=TIMEOUT)
    assert (ranged.status_code, ranged.content) == (206, b"234")


def whoever_waits_too_long_may_leave(url):
    try:
        requests.get(f"{url}/sleep?ms=2000", timeout=0.2)
    except requests.exceptions.ReadTimeout:
        pass
    else:
        raise AssertionError("nobody slept")


def tls_is_as_good_as_none(secure_url, authority):
    with requests.Session() as session, Opened() as opened:
        session.verify = authority
        for _ in range(3):
            assert session.post(f"{secure_url}/echo", data=(PIECE for _ in range(20)), timeout=TIMEOUT).content == PIECE * 20
        assert opened.count == 1, "the connection was not kept"


def many_at_once_are_served(url):
    with requests.Session() as session, concurrent.futures.ThreadPoolExecutor(8) as pool:
        codes = pool.map(lambda _: session.get(f"{url}/hello", timeout=TIMEOUT).status_code, range(200))
        assert set(codes) == {200}


if __name__ == "__main__":
    url, secure_url, authority = sys.argv[1:]
    a_session_keeps_its_connection(url)
    uploads_stream(url)
    downloads_stream_and_can_be_given_up(url)
    codings_are_undone(url)
    whoever_waits_too_long_may_leave(url)
    tls_is_as_good_as_none(secure_url, authority)
    many_at_once_are_served(url)
