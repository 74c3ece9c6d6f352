"""The client `httpx`: with_httpx.py URL SECURE_URL AUTHORITY. Ends with 0 when all came out as it should."""

import asyncio
import ssl
import sys

import httpx

PIECE = bytes(range(251)) * 64
TIMEOUT = 60


class Opened:
    """Counts the connections that a client opens."""

    def __init__(self):
        self.count = 0

    def __call__(self, event, _details):
        self.count += event == "connection.connect_tcp.started"

    async def later(self, event, details):
        self(event, details)


def a_client_keeps_its_connection(url):
    opened = Opened()
    with httpx.Client(timeout=TIMEOUT) as client:
        for number in range(20):
            response = client.post(f"{url}/echo", content=PIECE[:number], extensions={"trace": opened})
            assert (response.status_code, response.http_version, response.content) == (200, "HTTP/1.1", PIECE[:number])
        assert client.head(f"{url}/hello", extensions={"trace": opened}).headers["content-length"] == "6"
    assert opened.count == 1, "the connection was not kept"


def bodies_stream_both_ways(url):
    with httpx.Client(timeout=TIMEOUT) as client:
        assert client.post(f"{url}/echo", content=(PIECE for _ in range(20))).content == PIECE * 20
        # This client reads nothing before it has sent all: an echo of more than buffers hold would come to a standstill.
        large = client.post(f"{url}/read-then-reply", content=(PIECE for _ in range(2000)))
        assert large.text == f"{2000 * len(PIECE)}\n"
        with client.stream("GET", f"{url}/download?bytes=20000000") as response:
            assert sum(len(piece) for piece in response.iter_bytes()) == 20_000_000
        with client.stream("GET", f"{url}/slow-body?pieces=100&ms=20") as response:
            assert next(response.iter_raw())
        assert client.get(f"{url}/hello").text == "hello\n"


def whoever_waits_too_long_may_leave(url):
    try:
        httpx.get(f"{url}/sleep?ms=2000", timeout=0.2)
    except httpx.ReadTimeout:
        pass
    else:
        raise AssertionError("nobody slept")


def tls_is_as_good_as_none(secure_url, authority):
    with httpx.Client(timeout=TIMEOUT, verify=ssl.create_default_context(cafile=authority)) as client:
        for _ in range(3):
            assert client.post(f"{secure_url}/echo", content=(PIECE for _ in range(20))).content == PIECE * 20


async def many_at_once_are_served(url):
    opened = Opened()
    limits = httpx.Limits(max_connections=8, max_keepalive_connections=8)

    async def upload():
        for _ in range(20):
            yield PIECE

    async with httpx.AsyncClient(timeout=TIMEOUT, limits=limits) as client:
        asked = (client.get(f"{url}/hello", extensions={"trace": opened.later}) for _ in range(200))
        assert {response.text for response in await asyncio.gather(*asked)} == {"hello\n"}
        sent = (client.post(f"{url}/echo", content=upload()) for _ in range(16))
        assert all(response.content == PIECE * 20 for response in await asyncio.gather(*sent))
    assert opened.count <= 8, "connections were not kept"


if __name__ == "__main__":
    url, secure_url, authority = sys.argv[1:]
    a_client_keeps_its_connection(url)
    bodies_stream_both_ways(url)
    whoever_waits_too_long_may_leave(url)
    tls_is_as_good_as_none(secure_url, authority)
    asyncio.run(many_at_once_are_served(url))
