"""Private keys in PKCS#11 tokens: smart cards, HSMs, SoftHSM. They sign there, and never leave.

What is asked of a token is to sign, and to show public keys, names, and whether a key may leave it;
no private key's value is read, wrapped or copied. The package `pkcs11` is loaded when the first
token is opened.

    signer = open_token("pkcs11:token=vendor;object=release-2026")
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from nnguard._crypto.algorithms import ESP256, ESP384, Algorithm
from nnguard._crypto.keys import PublicKey
from nnguard._crypto.token_uri import PIN_VARIABLE, TokenUri
from nnguard.errors import KeyFormatError

__all__ = ["TokenKey", "open_token"]

_CURVES: dict[bytes, ec.EllipticCurve] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
}
"""`CKA_EC_PARAMS`: object identifiers in DER."""

_EDWARDS25519 = {bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519"}
"""RFC 8410's identifier, and the name that PKCS#11 3.0 has."""

_HASHES: dict[Algorithm, Any] = {ESP256: hashlib.sha256, ESP384: hashlib.sha384}

_WRONG_PIN = "the PIN is wrong", "mind that tokens lock after some tries"
_WORDS = {
    "PinIncorrect": _WRONG_PIN,
    "PinInvalid": _WRONG_PIN,
    "PinLenRange": _WRONG_PIN,
    "PinLocked": (
        "the PIN is locked, after too many wrong ones",
        "the token's own tool unlocks it",
    ),
    "PinExpired": ("the PIN has expired", "set a new one with the token's own tool"),
    "MechanismInvalid": ("the token cannot sign with this key", "use Ed25519, P-256 or P-384"),
    "KeyFunctionNotPermitted": ("the token does not let this key sign", "use a key made to sign"),
}
"""What errors of `pkcs11` mean, and what to do."""
_GONE = {"DeviceRemoved", "TokenNotPresent", "SessionHandleInvalid", "ObjectHandleInvalid"}

_LOG = logging.getLogger("nnguard")

_LOCK = threading.Lock()
"""Held by the thread that talks to a token."""

_SESSIONS: dict[tuple[str, int, bytes], Any] = {}
"""Open ones, by library, slot and serial number."""


class TokenKey:
    """A private key in a token; a `Signer`. Several threads may use it."""

    __slots__ = ("_key", "_public", "_uri")

    def __init__(self, key: Any, public: PublicKey, uri: TokenUri) -> None:
        self._key = key
        self._public = public
        self._uri = uri

    @property
    def public_key(self) -> PublicKey:
        return self._public

    def sign(self, data: bytes) -> bytes:
        """Return the token's signature over data; see `Signer`.

        Raises:
            KeyFormatError: The token refuses, or is gone.
        """
        from pkcs11 import Mechanism

        hashing = _HASHES.get(self._public.parts[0].algorithm)
        mechanism = Mechanism.EDDSA if hashing is None else Mechanism.ECDSA
        asked = data if hashing is None else hashing(data).digest()
        with _LOCK, _told(self._uri):
            return bytes(self._key.sign(asked, mechanism=mechanism))

    def __repr__(self) -> str:
        return f"<nnguard token key {self._public.id.hex()} {self._public.algorithm}>"

    def __reduce__(self) -> Any:
        raise TypeError("keys in tokens are not pickled")


def open_token(text: str, ask: Callable[[str], str] | None = None) -> TokenKey:
    """Open a key in a token.

    Args:
        text: Its URI (RFC 7512).
        ask: Asks for the PIN of the token with this label, where none is found; None asks nobody.

    Raises:
        KeyFormatError: The URI is malformed; there is no such library, token or key, or several; or
            the PIN is missing or wrong.
    """
    uri = TokenUri.parse(text)
    try:
        import pkcs11
    except ImportError:
        raise KeyFormatError(
            "keys in tokens need the package python-pkcs11", hint="pip install 'nnguard[pkcs11]'"
        ) from None
    unreadable = (f"{uri.module} is not a PKCS#11 library", "name the one of the token")
    with _LOCK, _told(uri, unreadable):
        library = pkcs11.lib(uri.module)
    with _LOCK, _told(uri):
        session = _session(_find_token(library, uri), uri, ask)
        key = _find_key(session, uri)
        _warn_of_copies(key, uri)
        return TokenKey(key, _public_half(session, key), uri)


def _find_token(library: Any, uri: TokenUri) -> Any:
    """Return the one token that the URI names."""
    tokens = [*_tokens_of(library)]
    fitting = [token for token in tokens if _names_of(token).items() >= uri.token.items()]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(sorted(repr(token.label) for token in tokens if token.label))
    if not fitting:
        raise KeyFormatError("there is no such token", hint=f"there are: {names or 'none'}")
    raise KeyFormatError(f"{len(fitting)} tokens fit", hint="add token=, serial= or slot-id=")


def _tokens_of(library: Any) -> Iterator[Any]:
    """Yield the tokens; a card that the library does not know is none."""
    from pkcs11.exceptions import DeviceError, TokenNotPresent, TokenNotRecognised

    for slot in library.get_slots(token_present=True):
        with contextlib.suppress(DeviceError, TokenNotPresent, TokenNotRecognised):
            yield slot.get_token()


def _names_of(token: Any) -> dict[str, str]:
    """What a URI may say of a token."""
    return {
        "token": token.label,
        "serial": token.serial.decode("utf-8", "replace"),
        "manufacturer": token.manufacturer_id,
        "model": token.model,
        "slot-id": str(token.slot.slot_id),
    }


def _session(token: Any, uri: TokenUri, ask: Callable[[str], str] | None) -> Any:
    """Return the session with a token, of which a process has one: closing it would log out all."""
    name = (uri.module, token.slot.slot_id, token.serial)
    if name not in _SESSIONS:
        _SESSIONS[name] = _log_in(token, uri, ask)
    return _SESSIONS[name]


def _log_in(token: Any, uri: TokenUri, ask: Callable[[str], str] | None) -> Any:
    import pkcs11

    pin: Any = uri.find_pin()
    if pin is None and pkcs11.TokenFlag.PROTECTED_AUTHENTICATION_PATH in token.flags:
        pin = pkcs11.PROTECTED_AUTH  # a keypad of its own
    elif pin is None and pkcs11.TokenFlag.LOGIN_REQUIRED in token.flags:
        if ask is None:
            raise KeyFormatError(
                f"the token {token.label!r} needs a PIN",
                hint=f"set {PIN_VARIABLE}, or add pin-source=FILE to its URI",
            )
        pin = ask(token.label)
    try:
        return token.open(user_pin=pin)
    except pkcs11.exceptions.UserAlreadyLoggedIn:  # somebody else in this process was
        return token.open()


def _find_key(session: Any, uri: TokenUri) -> Any:
    """Return the one private key that the URI names."""
    import pkcs11

    wanted = {
        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY,
        pkcs11.Attribute.LABEL: uri.label,
        pkcs11.Attribute.ID: uri.id,
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    keys = list(session.get_objects(wanted))
    if len(keys) == 1:
        return keys[0]
    if not keys:
        raise KeyFormatError(
            "there is no such private key in the token",
            hint="see what it is called: pkcs11-tool --login --list-objects",
        )
    raise KeyFormatError(f"{len(keys)} private keys fit", hint="add object= or id= to the URI")


def _warn_of_copies(key: Any, uri: TokenUri) -> None:
    """Warn of a key that the token gives away."""
    import pkcs11

    with contextlib.suppress(pkcs11.exceptions.PKCS11Error, KeyError):  # the token does not say
        if key[pkcs11.Attribute.EXTRACTABLE]:
            _LOG.warning("%s: the token gives this key away: it is extractable", uri.text)


def _public_half(session: Any, key: Any) -> PublicKey:
    """Return the public key that stands beside a private one."""
    import pkcs11

    wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY}
    same = {pkcs11.Attribute.ID: key.id} if key.id else {pkcs11.Attribute.LABEL: key.label}
    public = next(iter(session.get_objects({**wanted, **same})), None)
    if public is None:
        raise KeyFormatError(
            "the token has no public key beside the private one",
            hint="copy it into the token, under the same id",
        )
    try:
        params = public[pkcs11.Attribute.EC_PARAMS]
        return _public_key(params, public[pkcs11.Attribute.EC_POINT])
    except (pkcs11.exceptions.AttributeTypeInvalid, KeyError, ValueError):
        raise KeyFormatError("the key in the token is none of Ed25519, P-256 and P-384") from None


def _public_key(params: bytes, point: bytes) -> PublicKey:
    """Read a point, which tokens wrap in an octet string, a bit string, or nothing."""
    if params in _EDWARDS25519:
        return PublicKey(ed25519.Ed25519PublicKey.from_public_bytes(point[-32:]))
    curve = _CURVES[params]
    size = 1 + 2 * (curve.key_size // 8)
    return PublicKey(ec.EllipticCurvePublicKey.from_encoded_point(curve, point[-size:]))


@contextlib.contextmanager
def _told(uri: TokenUri, otherwise: tuple[str, str] | None = None) -> Iterator[None]:
    """Name the URI in errors, and make those of `pkcs11` ours."""
    from pkcs11.exceptions import PKCS11Error

    try:
        yield
    except KeyFormatError as error:
        raise KeyFormatError(f"{uri.text}: {error}", hint=error.hint) from None
    except PKCS11Error as error:
        name = type(error).__name__
        failed = f"the token failed: {name}", "see what its own tool says"
        what, hint = otherwise or _WORDS.get(name, failed)
        if name in _GONE:
            _SESSIONS.clear()
            what, hint = "the token is gone", "plug it in again"
        raise KeyFormatError(f"{uri.text}: {what}", hint=hint) from None
