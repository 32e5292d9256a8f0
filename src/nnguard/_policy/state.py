"""What a deployment remembers, so that it is not talked back into what is older (SPEC 13.1).

    with State("nnguard.state") as state:
        finding = state.against_release("acme.ai/net", key_id, 12)
        if finding is None:
            state.commit(now())

The highest release number is kept for each release *and key*: whoever steals a key can push its own
number up, and nobody else's. A file, rewritten as a whole under a lock, holds it all.

Law: `Memory.parse(memory.encode()) == memory`, and no other bytes are read as that memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from nnguard._base.atomic import leftovers
from nnguard._base.files import read_file, write_bytes
from nnguard._base.locks import locked
from nnguard._base.texts import shown
from nnguard._base.times import CLOCKS_DIFFER, seconds_of, time_of
from nnguard._policy.finding import Finding
from nnguard._policy.policy import TrustPolicy
from nnguard.errors import LimitError, PolicyError, PolicyReason

__all__ = ["Memory", "PinnedPolicy", "State"]

_FORMAT = "nnguard state 1"
_BEGIN = b'{\n "format": "nnguard state '
_LATER = re.compile(rb'\{\s*"format": "nnguard state ([2-9]|[1-9][0-9]+)"')
_LARGEST = 1 << 22
_SHARE = _LARGEST >> 4
"""Characters that the scopes of one key may take: whoever stole it leaves room for others."""
_LONGEST_SCOPE = 4096
_PATIENCE = 30.0
_TICK = timedelta(minutes=1)
"""The time alone is written down only so often."""
_END = 1 << 63
_KEY_ID_SIZE = 8

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class PinnedPolicy:
    """The newest trust policy that was accepted.

    Attributes:
        version: Its version.
        digest: SHA-256 of its text, in hexadecimal.
        text: The policy itself, signed: its root keys check the next version.
    """

    version: int
    digest: str
    text: str


@dataclass(frozen=True, slots=True)
class Memory:
    """What a state file holds.

    Attributes:
        newest: The newest time at which something was accepted; None in a new state.
        releases: The highest release number by scope and key.
        latest: When the newest latest statement was signed, by scope and key.
        policy: The newest policy.
    """

    newest: datetime | None = None
    releases: Mapping[tuple[str, str], int] = field(default_factory=dict)
    latest: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    policy: PinnedPolicy | None = None

    def encode(self) -> bytes:
        """Return the bytes of a state file."""
        policy = self.policy
        members: dict[str, Any] = {
            "format": _FORMAT,
            "newest": None if self.newest is None else seconds_of(self.newest),
            "releases": [[*key, number] for key, number in sorted(self.releases.items())],
            "latest": [[*key, seconds_of(time)] for key, time in sorted(self.latest.items())],
            "policy": None if policy is None else [policy.version, policy.digest, policy.text],
        }
        checksum = hashlib.sha256(json.dumps(members).encode()).hexdigest()
        return (json.dumps(members | {"sha256": checksum}, indent=1) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes) -> Memory:
        """Read the bytes of a state file.

        Raises:
            ValueError: They are not those that `encode` makes.
        """
        try:
            members = json.loads(data)
            read = cls(
                newest=None if members["newest"] is None else time_of(members["newest"]),
                releases=_scopes(members["releases"], _number),
                latest=_scopes(members["latest"], time_of),
                policy=_pinned(members["policy"]),
            )
            same = read.encode() == data
        except (AttributeError, TypeError, KeyError, OverflowError, RecursionError):
            same = False
        if not same:
            raise ValueError("not a state file")
        return read


@dataclass
class State:
    """A state file, locked by this process from `with` on.

    What passes a check is remembered by `commit`, and by nothing before it: a release that is
    refused later leaves no trace. Nothing is ever lowered.

    Args:
        path: The file; its lock lies beside it. Made by the first `commit`.

    Raises:
        PolicyError: It is damaged, of a later version, or not a plain file of ours.
        TimeoutError: Others held the lock for half a minute.
        OSError: It cannot be read, or nothing can be written beside it.
    """

    path: str | os.PathLike[str]
    memory: Memory = field(default_factory=Memory, init=False)
    _next: Memory = field(default_factory=Memory, init=False, repr=False)

    def __enter__(self) -> State:
        self._file = Path(self.path)
        if not self._file.name:
            raise _of_state("the state file has no name", "name a file")
        _check_is_ours(self._file)
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self._file.with_name(f"{self._file.name}.lock"), _PATIENCE))
            self._read()
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _read(self) -> None:
        _check_plain(self._file)
        try:
            data = read_file(self._file, _LARGEST)
            self.memory = Memory.parse(data)
        except FileNotFoundError:
            pass
        except LimitError:
            raise _of_state(f"{self._file} is too large for a state file") from None
        except ValueError:
            later = _LATER.match(data)
            what = "is of a later version of nnguard" if later else "was damaged or edited"
            raise _of_state(f"the state file {self._file} {what}") from None
        self._next = self.memory

    @property
    def is_new(self) -> bool:
        """Whether no release was ever accepted with it."""
        return self.memory.newest is None

    def against_clock(self, time: datetime) -> Finding | None:
        """Say that the clock was set back since something was accepted, if it was."""
        newest = self.memory.newest
        if newest is None or newest - time <= CLOCKS_DIFFER:
            return None
        return Finding(
            PolicyReason.CLOCK_SET_BACK,
            f"the clock says {time.isoformat()}, but it was {newest.isoformat()} before",
            "set the clock right",
        )

    def against_release(self, scope: str, key_id: str, release: int | None) -> Finding | None:
        """Say that a key has signed a newer release, if this deployment has accepted one.

        Args:
            scope: `issuer/name` of the release.
            key_id: A key whose signature counts for it, in hexadecimal.
            release: Its release number.
        """
        _check_scope(scope)
        highest = self.memory.releases.get((scope, key_id))
        if highest is not None and (release is None or release < highest):
            number = "has no release number" if release is None else f"is release {release}"
            return Finding(
                PolicyReason.ROLLBACK,
                f"{shown(scope)} {number}, and release {highest} of key {key_id} was accepted "
                "before",
                "get the newest release",
            )
        if release is not None:
            releases = {**self._next.releases, (scope, key_id): release}
            self._next = replace(self._next, releases=releases)
        return None

    def against_latest(self, scope: str, key_id: str, issued_at: datetime) -> Finding | None:
        """Say that a newer latest statement of this key was accepted, if one was."""
        _check_scope(scope)
        newest = self.memory.latest.get((scope, key_id))
        if newest is not None and issued_at < newest:
            return Finding(
                PolicyReason.STALE,
                f"the latest statement about {shown(scope)} is of {issued_at.isoformat()}, and one "
                f"of {newest.isoformat()} was accepted before",
                "get the vendor's newest statement",
            )
        latest = {**self._next.latest, (scope, key_id): issued_at}
        self._next = replace(self._next, latest=latest)
        return None

    def pin(self, policy: TrustPolicy) -> None:
        """Make sure that a policy is not older than one that was seen, and remember it at once.

        It is remembered whatever becomes of the release that it is to judge: otherwise, refusing
        a release by a new policy would leave the old one good enough to accept it.

        Args:
            policy: The policy, authenticated. One that is not signed is not remembered.

        Raises:
            PolicyError: It is older, changed, not signed, or a version before it is missing.
            OSError: The file cannot be written.
        """
        pinned = self.memory.policy
        if pinned is not None:
            policy.check_succeeds(TrustPolicy.parse(pinned.text))
        if policy.message is None or (pinned is not None and pinned.version >= policy.version):
            return
        newest = PinnedPolicy(policy.version, policy.digest, str(replace(policy, older=())))
        self._write(replace(self.memory, policy=newest))

    def commit(self, time: datetime) -> None:
        """Remember what passed, once every other check has passed, too.

        Args:
            time: Of the checks.

        Raises:
            PolicyError: The file would be too large, or one key would take too much of it.
            OSError: It cannot be written; it is as it was before.
        """
        newest = self.memory.newest
        if self._next == self.memory and newest is not None and time - newest < _TICK:
            return
        self._check_shares()
        self._write(replace(self._next, newest=time if newest is None else max(time, newest)))

    def _check_shares(self) -> None:
        sizes: Counter[str] = Counter()
        for scope, key_id in (*self._next.releases, *self._next.latest):
            sizes[key_id] += len(json.dumps(scope))
        for key_id, size in sizes.items():
            if size > _SHARE:
                raise _of_state(
                    f"releases of key {key_id} take more than their share of {self._file}",
                    "ask its owner why they have so many names",
                )

    def _write(self, memory: Memory) -> None:
        data = memory.encode()
        if len(data) > _LARGEST:
            raise _of_state(f"{self._file} would be too large for a state file")
        try:
            self._sweep()
            write_bytes(self._file, data, overwrite=True, mode=0o600)
        except OSError as error:  # which names a temporary file
            raise OSError(error.errno, error.strerror, str(self._file)) from None
        self.memory = self._next = memory

    def _sweep(self) -> None:
        """Remove what processes left that were killed while they wrote."""
        for path in leftovers(self._file):
            path.unlink()


def _check_is_ours(path: Path) -> None:
    """Make sure that a file is a state file, before anything is made beside it."""
    _check_plain(path)
    with contextlib.suppress(FileNotFoundError, LimitError):
        data = read_file(path, _LARGEST)
        if data and not data.startswith(_BEGIN[: len(data)]):
            hint = "name another; if it was one, put a copy back"
            raise _of_state(f"{path} is not a state file", hint)


def _check_plain(path: Path) -> None:
    """Make sure that a state file has one name, and that not everybody may write it.

    A second name would have a lock of its own, and keep what is old when the file is replaced.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise _of_state(f"the state file {path} is a symbolic link", "name the file itself")
    if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise _of_state(f"the state file {path} has a second name", "remove the other hard link")
    if found.st_mode & stat.S_IWOTH:
        raise _of_state(f"anybody may write the state file {path}", f"chmod 600 {path}")


def _check_scope(scope: str) -> None:
    if len(scope) > _LONGEST_SCOPE:
        raise _of_state(f"issuer and name of a release have more than {_LONGEST_SCOPE} characters")


def _scopes(rows: Any, read: Callable[[Any], _Value]) -> dict[tuple[str, str], _Value]:
    found = {}
    for scope, key_id, value in rows:
        if not isinstance(scope, str) or len(bytes.fromhex(key_id)) != _KEY_ID_SIZE:
            raise ValueError("row")
        found[scope, key_id] = read(value)
    return found


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _END:
        raise ValueError("number")
    return value


def _pinned(value: Any) -> PinnedPolicy | None:
    match value:
        case None:
            return None
        case [int() as version, str() as digest, str() as text]:
            return PinnedPolicy(_number(version), digest, text)
    raise ValueError("policy")


def _of_state(message: str, hint: str = "") -> PolicyError:
    usual = "put a copy back; without one, move it away: a new one is made, and knows nothing"
    return PolicyError(message, reason=PolicyReason.STATE, hint=hint or usual)
