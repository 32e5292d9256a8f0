"""How a machine reaches a relay: by HTTP."""

from __future__ import annotations

import json
from urllib.parse import quote

from nnguard._base.http import check_server, delete, post
from nnguard._crypto.identity import Recipient
from nnguard._licensing.lease import Lease
from nnguard.errors import ActivationError, ActivationReason

__all__ = ["HttpLine"]

_LEASES = "/v1/leases"


class HttpLine:
    """A line to the relay at a URL; see `nnguard._relay.holder.Line`.

    Args:
        url: `https://...`, or `http://...` of this machine.
        token: The secret that the relay asks for, if it does.
        deadline: Seconds until it has to have answered.

    Raises:
        ArgumentError: It is not such a URL.
    """

    def __init__(self, url: str, token: str = "", deadline: float = 10.0) -> None:
        self._url, self._token, self._deadline = check_server(url), token, deadline

    def take(self, lease_id: str, to: Recipient, nonce: str) -> Lease:
        return self._post("", {"id": lease_id, "recipient": to.pem.decode(), "nonce": nonce})

    def renew(self, lease_id: str, to: Recipient, nonce: str) -> Lease:
        path = f"/{quote(lease_id)}/renew"
        return self._post(path, {"recipient": to.pem.decode(), "nonce": nonce})

    def give_back(self, lease_id: str) -> None:
        path = f"{_LEASES}/{quote(lease_id)}"
        delete(self._url, path, token=self._token, deadline=self._deadline)

    def _post(self, path: str, asked: dict[str, str]) -> Lease:
        try:
            answer = post(
                self._url,
                _LEASES + path,
                json.dumps(asked),
                media_type="application/json",
                token=self._token,
                deadline=self._deadline,
            )
        except ActivationError as error:
            if error.reason is ActivationReason.UNREACHABLE:
                error.hint = "see whether the relay is up, and its log"
            raise
        return Lease.from_text(answer)
