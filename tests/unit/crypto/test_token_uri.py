"""URIs of keys in tokens say which key is meant, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnguard._crypto.token_uri import TokenUri, is_token_uri
from nnguard.errors import KeyFormatError

MODULE = "?module-path=/lib/p11.so"


def test_uri_is_read() -> None:
    uri = TokenUri.parse(
        "pkcs11:token=My%20token;serial=0a;manufacturer=A;model=B;slot-id=3;object=r%C3%A9l;"
        "id=%01%ff;type=private?module-path=/lib/p11.so&pin-source=file:/run/pin"
    )
    assert uri.token == {
        "token": "My token",
        "serial": "0a",
        "manufacturer": "A",
        "model": "B",
        "slot-id": "3",
    }
    assert (uri.label, uri.id) == ("rél", b"\x01\xff")
    assert (uri.module, uri.pin_source) == ("/lib/p11.so", "/run/pin")


@pytest.mark.parametrize("lead", [" ", "\n", "\t "])
def test_white_space_makes_no_file_name_of_it(lead: str) -> None:
    with pytest.raises(KeyFormatError, match="white space before the URI"):
        is_token_uri(f"{lead}PKCS11:token=a")
    assert not is_token_uri(f"{lead}key.pem")


def test_uri_of_little() -> None:
    uri = TokenUri.parse(f"pkcs11:{MODULE}")
    assert (uri.token, uri.label, uri.id, uri.pin_source) == ({}, None, None, "")


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token",
        "pkcs11:token=a b",
        "pkcs11:token=%f",
        "pkcs11:token=%ff",
        "pkcs11:token=a;token=b",
        "pkcs11:tokens=a",
        "pkcs11:x-vendor=a",
        "pkcs11:type=public",
        "pkcs11:type=cert",
        "pkcs11:library-version=1",
        f"pkcs11:token=a{MODULE}&module-name=p11",
        f"pkcs11:token=a{MODULE}&module-path=/other.so",
        f"pkcs11:token=a{MODULE}&x-option=1",
        f"pkcs11:token=a{MODULE}&pin-source=%ff",
        "pkcs11:token=a\n;object=b",
    ],
)
def test_other_uris_are_refused(text: str) -> None:
    with pytest.raises(KeyFormatError):
        TokenUri.parse(text if "?" in text else text + MODULE)


def test_pin_has_no_place_in_a_uri() -> None:
    with pytest.raises(KeyFormatError, match="which others see") as caught:
        TokenUri.parse(f"pkcs11:token=a{MODULE}&pin-value=123456")
    assert "123456" not in f"{caught.value}{caught.value.hint}"


def test_a_scheme_has_no_case() -> None:
    """Otherwise it would be the name of a file, which errors show, with a PIN in it."""
    assert is_token_uri("PKCS11:token=a?pin-value=123456")
    assert TokenUri.parse(f"PKCS11:token=a{MODULE}").token == {"token": "a"}


def test_library_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyFormatError, match="without the library") as caught:
        TokenUri.parse("pkcs11:token=a")
    assert "NNGUARD_PKCS11_MODULE" in caught.value.hint
    monkeypatch.setenv("NNGUARD_PKCS11_MODULE", "/lib/env.so")
    assert TokenUri.parse("pkcs11:token=a").module == "/lib/env.so"
    assert TokenUri.parse(f"pkcs11:token=a{MODULE}").module == "/lib/p11.so"


def test_pin_of_environment_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pin"
    uri = TokenUri.parse(f"pkcs11:token=a{MODULE}&pin-source={file}")
    assert TokenUri.parse(f"pkcs11:token=a{MODULE}").find_pin() is None
    monkeypatch.setenv("NNGUARD_PIN", "1234")
    assert TokenUri.parse(f"pkcs11:token=a{MODULE}").find_pin() == "1234"
    file.write_bytes(b"9876\r\nmore")
    assert uri.find_pin() == "9876"
    for content in (b"", b"\n1234", b"\xff", bytes(1 << 20)):
        file.write_bytes(content)
        with pytest.raises(KeyFormatError, match="has no PIN"):
            uri.find_pin()
    file.unlink()
    with pytest.raises(FileNotFoundError):
        uri.find_pin()


def test_paths_are_no_uris() -> None:
    assert is_token_uri("pkcs11:token=a")
    for path in ("vendor.key", "./pkcs11:a", Path("pkcs11:token=a"), None, 7):
        assert not is_token_uri(path)
