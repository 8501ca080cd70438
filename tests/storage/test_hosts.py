from __future__ import annotations

from collections.abc import Iterator

import pytest

from ddpm_seg import storage
from ddpm_seg.storage import hosts, patience, remote_read, stores
from tests.web_server import WebServer, web_server

SPELLINGS = ["127.0.0.1", "127.9.9.9", "localhost", "0x7f000001", "0", "127.1", "2130706433", "0177.0.0.1", "0.0.0.0"]
SPELLINGS += [
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[64:ff9b::7f00:1]",
]
SPELLINGS += ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "[2002:7f00:1::]"]


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        server.files["/x.png"] = (b"secret of this machine", "e1")
        yield server


def port(web: WebServer) -> str:
    return web.url.rpartition(":")[2]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_a_local_host_is_asked(web: WebServer, host: str) -> None:
    url = f"http://{host}:{port(web)}/x.png"
    with pytest.raises(OSError, match=r"this machine or a link-local service|is not a canonical IPv4 address"):
        storage.read_listed(url, max_bytes=100)
    with pytest.raises(OSError, match=r"this machine or a link-local service|is not a canonical IPv4 address"):
        storage.info(url, listed=True)
    assert not web.asked


def test_the_users_own_names_and_the_flag_are_not_guarded(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage.read_bytes(f"{web.url}/x.png", max_bytes=100) == b"secret of this machine"
    monkeypatch.setattr(hosts, "_allowed", True)
    data, read = storage.read_listed(f"{web.url}/x.png", max_bytes=100)
    assert (data, read.etag, read.size_bytes) == (b"secret of this machine", "e1", 22)
    assert storage.info(f"{web.url}/x.png", listed=True).etag == "e1"
    monkeypatch.setattr(hosts, "_allowed", False)
    monkeypatch.setenv("DDPM_SEG_ALLOW_LOCAL_HOSTS", "1")
    assert storage.read_listed(f"{web.url}/x.png", max_bytes=100)[0] == data


def but_one(monkeypatch: pytest.MonkeyPatch, allowed: str) -> None:
    """Makes one loopback address count as a host of the internet."""
    real = hosts.is_local_address
    monkeypatch.setattr(hosts, "is_local_address", lambda address: address != allowed and real(address))
    stores._open_filesystem.cache_clear()  # no connection of an earlier test


def test_a_redirect_to_a_local_host_is_not_followed(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    but_one(monkeypatch, "127.0.0.1")
    web.files["/y.png"] = (b"pixels", "e2")
    web.redirects = {"/to-local": f"http://127.0.0.2:{port(web)}/x.png", "/to-itself": f"{web.url}/y.png"}
    assert storage.read_listed(f"{web.url}/to-itself", max_bytes=100)[0] == b"pixels"
    with pytest.raises(PermissionError, match="this machine"):
        storage.read_listed(f"{web.url}/to-local", max_bytes=100)
    assert web.asked["GET /x.png"] == 0


def test_a_name_that_changes_between_two_look_ups_is_refused(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    answers = ["93.184.216.34", "127.0.0.1"]  # what a rebinding name server says first, and when it counts

    async def rebinding(self: object, host: str, number: int, **options: object) -> list[object]:
        assert host == "rebinding.example"
        return [(2, 1, 6, "", (answers.pop(0) if len(answers) > 1 else answers[0], number))]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", rebinding)
    answers.pop(0)
    with pytest.raises(PermissionError, match="this machine"):
        storage.read_listed(f"http://rebinding.example:{port(web)}/x.png", max_bytes=100)
    assert not web.asked


def test_behind_a_proxy_of_this_machine_local_names_are_refused_and_others_are_not(
    web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(patience, "PATIENCE_S", 0)
    hosts._proxies.cache_clear()
    stores._open_filesystem.cache_clear()
    web.redirects["/leads-back"] = "http://127.0.0.1:1/x.png"
    try:
        # The proxy is asked, knows only paths here, and has the file.
        assert storage.read_listed("http://host.example/x.png", max_bytes=100)[0] == b"secret of this machine"
        for url in ("http://127.0.0.1:8/x.png", "http://localhost/x.png", "http://host.example/leads-back"):
            with pytest.raises(PermissionError, match="this machine"):
                storage.read_listed(url, max_bytes=100)
    finally:
        hosts._proxies.cache_clear()
        stores._open_filesystem.cache_clear()


def test_private_networks_are_allowed() -> None:
    for address in ("10.1.2.3", "172.16.0.1", "192.168.1.1", "fd12::1", "8.8.8.8", "2606:4700::1111", "100.64.0.1"):
        assert not hosts.is_local_address(address)


def test_a_server_that_drips_is_left(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_allowed", True)
    monkeypatch.setattr(remote_read, "FIRST_S", 0.3)
    with pytest.raises(storage.StorageError, match=r"/drip: the server is too slow: \d+ bytes"):
        storage.read_listed(f"{web.url}/drip", max_bytes=10_000)
    monkeypatch.setattr(remote_read, "FIRST_S", 100)
    monkeypatch.setattr(remote_read, "DOWNLOAD_TIMEOUT_S", 0.3)
    with pytest.raises(storage.StorageError, match=r"/drip: the server is too slow: \d+ bytes"):
        storage.read_listed(f"{web.url}/drip", max_bytes=10_000)
    assert web.asked["GET /drip"] == 2  # it is not asked again
