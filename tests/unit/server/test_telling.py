from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
import standardwebhooks

from nnguard._server.telling import signature_of, wait_before

SECRET = "whsec_" + "c2VjcmV0IGZvciB0ZXN0cyBvbmx5IQ=="


def test_others_check_our_signatures() -> None:
    now = int(datetime.now(timezone.utc).timestamp())
    body = b'{"type":"order.created","data":{"customer":"\xc3\x84da"}}'
    headers = {
        "webhook-id": "0f" * 16,
        "webhook-timestamp": str(now),
        "webhook-signature": signature_of(SECRET, "0f" * 16, now, body),
    }
    receiver = standardwebhooks.Webhook(SECRET)
    assert receiver.verify(body.decode(), headers)["type"] == "order.created"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        receiver.verify(body.decode().replace("created", "deleted"), headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        receiver.verify(body.decode(), {**headers, "webhook-id": "0e" * 16})


def test_what_fails_is_tried_again_later_and_later() -> None:
    waits = [wait_before(attempt, 0.5).total_seconds() for attempt in range(1, 12)]
    assert waits[:4] == [5, 15, 45, 135]
    assert waits == sorted(waits)
    assert waits[-1] == 6 * 3600
    assert wait_before(10**9, 0.5) == timedelta(hours=6)
    assert wait_before(1, 0.0) == timedelta(seconds=4)
    assert wait_before(1, 1.0) == timedelta(seconds=6)
