from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from license_server import running
from nnguard._server.listening import HttpServer, Listening
from nnguard.errors import ArgumentError


def make() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def who(request: Request) -> list[str]:
        assert request.client
        return [request.client.host, request.url.scheme]

    return app


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    making = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    files = ["-out", folder / "tls.pem", "-keyout", folder / "tls.key"]
    subprocess.run([*f"{making} {names}".split(), *files], check=True, capture_output=True)
    return folder / "tls.pem", folder / "tls.key"


def test_tls(pair: tuple[Path, Path]) -> None:
    certificate, key = pair
    context = ssl.create_default_context(cafile=certificate)
    with running(make(), Listening(port=0, certificate=certificate, key=key)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert httpx.get(server.url, verify=context).json() == ["127.0.0.1", "https"]
        old = ssl.create_default_context(cafile=certificate)
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url, verify=old)
        with pytest.raises(httpx.HTTPError):
            httpx.get(server.url.replace("https", "http"))


def test_a_certificate_that_does_not_fit_is_told(pair: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pair
    for wrong in (
        Listening(certificate=key, key=key),
        Listening(certificate=certificate, key=__file__),
    ):  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="certificate"):
            HttpServer(make(), wrong)
    with pytest.raises(FileNotFoundError):
        HttpServer(make(), Listening(certificate=tmp_path / "none.pem", key=key))
    locked = tmp_path / "locked.key"
    lock = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:word"]
    subprocess.run(lock, check=True, capture_output=True)
    with pytest.raises(ArgumentError, match="certificate"):
        HttpServer(make(), Listening(certificate=certificate, key=locked))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "licenses.example", ""])
def test_nobody_else_is_served_without_tls(host: str) -> None:
    with pytest.raises(ArgumentError, match="without TLS") as caught:
        Listening(host=host)
    assert "--behind-proxy" in caught.value.hint
    assert Listening(host=host, proxies=("10.0.0.0/8",)).proxies
    with pytest.raises(ArgumentError, match="its private key"):
        Listening(host=host, certificate=Path("tls.pem"))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_served(host: str) -> None:
    assert Listening(host=host).host == host


def test_only_a_proxy_is_believed_who_asks() -> None:
    told = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    with running(make()) as server:
        assert httpx.get(server.url, headers=told).json() == ["127.0.0.1", "http"]
    with running(make(), Listening(port=0, proxies=("10.0.0.0/8",))) as server:
        assert httpx.get(server.url, headers=told).json() == ["127.0.0.1", "http"]
    with running(make(), Listening(port=0, proxies=("127.0.0.0/8",))) as server:
        assert httpx.get(server.url, headers=told).json() == ["203.0.113.9", "https"]
        several = {"X-Forwarded-For": "1.2.3.4, 203.0.113.9, 127.0.0.2"}  # the first is made up
        assert httpx.get(server.url, headers=several).json()[0] == "203.0.113.9"


def test_a_port_that_is_taken_is_told() -> None:
    with running(make()) as server, pytest.raises(OSError, match="in use"):
        HttpServer(make(), Listening(port=server.address[1]))
