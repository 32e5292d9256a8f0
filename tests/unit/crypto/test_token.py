"""Keys in a token sign all there is to sign, and never leave it (SoftHSM 2)."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.exceptions import PKCS11Error, TokenNotRecognised

import nnguard
import samples
from nnguard._crypto import token as token_module
from nnguard._crypto.cose import parse_signed, sign
from nnguard._crypto.keys import as_signer
from nnguard._crypto.token import TokenKey, open_token
from nnguard._crypto.token_uri import TokenUri
from nnguard.errors import KeyFormatError
from nnguard.licensing import RevocationList, Terms, issue
from softhsm import MODULE, PIN, Token

ALGORITHMS = ["ed25519", "p256", "p384"]


@pytest.fixture(autouse=True)
def pin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGUARD_PIN", PIN)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_signs_all_there_is(token: Token, algorithm: str) -> None:
    uri = token.uri(algorithm)
    public = as_signer(uri).public_key
    assert public.algorithm == algorithm
    model = nnguard.Stream.from_bytes(samples.small_stream(weights=6000))
    release = nnguard.sign(model, uri, name="small")
    assert nnguard.verify(release, public).algorithm == algorithm
    locked = nnguard.lock(release, signer=uri, soft=nnguard.Soft(fraction=0.003))
    ada = nnguard.Identity.generate()
    terms = Terms(customer="Ada")
    sold = issue(locked.trial, locked.content_key, to=ada.recipient, signer=uri, terms=terms)
    assert nnguard.verify(nnguard.unlock(locked.trial, sold, ada, public), public)
    RevocationList.make([sold.terms.id], uri).authenticate([public])


@pytest.mark.parametrize("algorithm", ALGORITHMS[1:])
def test_token_signs_bundles(token: Token, algorithm: str, tmp_path: Path) -> None:
    """Of OpenSSF Model Signing."""
    uri = token.uri(algorithm)
    as_signer(uri).public_key.save(tmp_path / "token.pub")
    release = nnguard.Stream.from_bytes(samples.small_stream())
    nnguard.oms.save(release, tmp_path / "a.nnc", tmp_path / "a.sig", uri)
    bundle = nnguard.oms.Bundle.open(tmp_path / "a.sig", tmp_path / "token.pub")
    assert list(bundle.files) == ["a.nnc"]
    with pytest.raises(KeyFormatError, match="not an ECDSA key"):
        nnguard.oms.sign(tmp_path, tmp_path / "b.sig", token.uri("ed25519"))


@pytest.mark.parametrize("algorithm", ALGORITHMS[1:])
def test_token_that_returns_either_s(token: Token, algorithm: str) -> None:
    """SoftHSM draws s at random: half of its signatures have to be normalized."""
    key = open_token(token.uri(algorithm))
    taken = set()
    for number in range(40):
        data = b"%d" % number
        raw = key.sign(data)
        taken.add(key.public_key.verifies(raw, data))
        message = parse_signed(sign(key, {}, data, b""))
        assert message.verified_by(key.public_key, b"")
    assert taken == {True, False}


def test_threads_share_a_token(token: Token) -> None:
    key = open_token(token.uri("ed25519"))
    data = [b"%d" % number for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        signatures = list(pool.map(key.sign, data))
    assert all(map(key.public_key.verifies, signatures, data))


# A private key never leaves the token


class Spied:
    """An object of a token that writes down what is asked of it."""

    def __init__(self, found: Any, asked: list[Any]) -> None:
        self.found, self.asked = found, asked

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self.found, name)

    def __getitem__(self, attribute: Attribute) -> Any:
        self.asked.append(attribute)
        return self.found[attribute]


class SpiedSession:
    """A session whose private keys are spied on."""

    def __init__(self, session: Any, asked: list[Any]) -> None:
        self.session, self.asked = session, asked

    def get_objects(self, wanted: dict[Attribute, Any]) -> list[Any]:
        found = list(self.session.get_objects(wanted))
        if wanted[Attribute.CLASS] is ObjectClass.PUBLIC_KEY:
            return found
        return [Spied(each, self.asked) for each in found]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_is_asked_of_a_private_key_but_to_sign(
    token: Token, algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    session = SpiedSession(token.session, asked)
    monkeypatch.setattr(token_module, "_session", lambda *_: session)
    key = open_token(token.uri(algorithm))
    key.sign(b"data")
    assert set(asked) <= {"id", "label", "sign", Attribute.EXTRACTABLE}
    assert "sign" in asked


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_private_key_does_not_leave(token: Token, algorithm: str) -> None:
    key: Any = open_token(token.uri(algorithm))._key
    assert key[Attribute.SENSITIVE]
    assert key[Attribute.ALWAYS_SENSITIVE]
    assert not key[Attribute.EXTRACTABLE]
    assert key[Attribute.NEVER_EXTRACTABLE]
    with pytest.raises(PKCS11Error):
        key[Attribute.VALUE]
    wrapping = token.session.generate_key(KeyType.AES, 256)
    with pytest.raises(PKCS11Error):
        wrapping.wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP)
    with pytest.raises(PKCS11Error):
        key[Attribute.EXTRACTABLE] = True


def test_a_key_that_may_leave_is_warned_of(token: Token, caplog: pytest.LogCaptureFixture) -> None:
    token.generate("leaving", more={Attribute.EXTRACTABLE: True})
    open_token(token.uri("leaving"))
    assert "it is extractable" in caplog.text
    caplog.clear()
    open_token(token.uri("ed25519"))
    assert not caplog.text


def test_key_shows_its_public_half_alone(token: Token) -> None:
    key = open_token(token.uri("ed25519"))
    assert repr(key) == f"<nnguard token key {key.public_key.id.hex()} ed25519>"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


# What may go wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("token=vendor", "token=nobody"), "there is no such token"),
        (("token=vendor", "serial=00"), "there is no such token"),
        (("token=vendor;object=ed25519", "token=twin"), "2 tokens fit"),
        (("object=ed25519", "object=nothing"), "there is no such private key"),
        (("object=ed25519", "id=%00"), "there is no such private key"),
        (("object=ed25519", "object=two"), "2 private keys fit"),
        (("object=ed25519", "object=P-521"), "none of Ed25519, P-256 and P-384"),
        ((MODULE, "/nowhere/p11.so"), "/nowhere/p11.so is not a PKCS#11 library"),
        ((MODULE, __file__), "is not a PKCS#11 library"),
    ],
)
def test_key_that_cannot_be_opened(token: Token, change: tuple[str, str], message: str) -> None:
    uri = token.uri("ed25519").replace(*change)
    with pytest.raises(KeyFormatError, match=message) as caught:
        open_token(uri)
    assert "\n" not in str(caught.value)
    assert PIN not in f"{caught.value} {caught.value.hint}"


def test_one_of_two_keys_is_named_by_its_identifier(token: Token) -> None:
    keys = {open_token(token.uri(f"two;id=%3{n}")).public_key for n in (1, 2)}
    assert len(keys) == 2


def second_uri(token: Token) -> str:
    """A key in a token that nobody is logged in to."""
    for session in token_module._SESSIONS.values():
        if session.token.label == "second":  # another test was
            session.close()
    token_module._SESSIONS.clear()
    return token.uri("release").replace("token=vendor", "token=second")


def test_pin_is_needed_and_has_to_be_right(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = second_uri(token)
    for wrong in ("0000", "", "9" * 300):
        monkeypatch.setenv("NNGUARD_PIN", wrong)
        with pytest.raises(KeyFormatError, match="the PIN is wrong"):
            open_token(uri)
    monkeypatch.delenv("NNGUARD_PIN")
    with pytest.raises(KeyFormatError, match="the token 'second' needs a PIN") as caught:
        open_token(uri)
    assert "NNGUARD_PIN" in caught.value.hint
    asked = []

    def ask(label: str) -> str:
        asked.append(label)
        return PIN

    assert open_token(uri, ask).public_key.algorithm == "ed25519"
    assert open_token(uri, ask).public_key.algorithm == "ed25519"
    assert asked == ["second"]


def test_token_that_is_gone(token: Token) -> None:
    uri = second_uri(token)
    key = open_token(uri)
    for session in token_module._SESSIONS.values():
        session.close()
    with pytest.raises(KeyFormatError, match="the token is gone"):
        key.sign(b"data")
    assert open_token(uri).sign(b"data")


def test_private_key_without_its_public_half(token: Token) -> None:
    token.generate("half")
    wanted = {Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: "half"}
    for public in token.session.get_objects(wanted):
        public.destroy()
    with pytest.raises(KeyFormatError, match="no public key beside the private one"):
        open_token(token.uri("half"))


def test_public_half_that_is_another_key_s(token: Token) -> None:
    """Nothing that it signs comes out."""
    one, two = (open_token(token.uri(name)) for name in ("p256", "two;id=%31"))
    mixed = TokenKey(one._key, two.public_key, one._uri)
    with pytest.raises(nnguard.errors.ArgumentError, match="does not verify"):
        sign(mixed, {}, b"data", b"")


def test_card_of_another_kind_is_passed_over(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        def get_token(self) -> Any:
            raise TokenNotRecognised

    class Readers:
        def get_slots(self, *, token_present: bool) -> list[Any]:
            return [Reader(), *pkcs11.lib(MODULE).get_slots(token_present)]

    found = token_module._find_token(Readers(), TokenUri.parse(token.uri("ed25519")))
    assert found.label == "vendor"


def test_package_that_is_missing(token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(KeyFormatError, match="python-pkcs11") as caught:
        open_token(token.uri("ed25519"))
    assert caught.value.hint == "pip install 'nnguard[pkcs11]'"
