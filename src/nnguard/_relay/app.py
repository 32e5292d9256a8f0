"""The relay as an ASGI app.

    app = make_app(relay, token="...")

Law: every answer that is a lease was counted before, on the disk.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

import nnguard
from nnguard._crypto.identity import Recipient
from nnguard._relay.metrics import RelayMetrics
from nnguard._relay.refresher import Refresher
from nnguard._relay.relay import Relay
from nnguard._server.guard import Guard
from nnguard._server.logs import tell
from nnguard._server.problems import Problem, add_handlers
from nnguard._server.settings import ServerSettings
from nnguard._server.strict import StrictRoute
from nnguard.errors import ActivationError, KeyFormatError, NnguardError

__all__ = ["make_app"]

_BODY = 16 << 10
_THREADS = 8
_HEX = r"^[0-9a-f]{32}$"


class _Renewal(BaseModel):
    """What a machine sends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    recipient: str = Field(max_length=_BODY, description="The machine's public key, as PEM.")
    nonce: str = Field(pattern=_HEX, description="16 random bytes, other ones each time.")


class _Question(_Renewal):
    """What a machine sends that has no lease yet."""

    id: str = Field(
        pattern=_HEX,
        description="16 random bytes: whoever knows them renews the lease and gives it back.",
    )


def make_app(relay: Relay, *, token: str = "", refresher: Refresher | None = None) -> FastAPI:
    """Make the app.

    Args:
        relay: Hands out leases.
        token: What machines have to say to be heard; nothing, if empty.
        refresher: Renews the relay's own license.
    """
    metrics = RelayMetrics(relay)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        if refresher is not None:
            refresher.start()
        yield
        if refresher is not None:
            refresher.stop()

    app = FastAPI(
        title="nnguard relay",
        version=nnguard.__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    add_handlers(app)
    app.include_router(_leases_routes(relay, metrics), dependencies=[_admit(token)])
    app.include_router(_health_routes(relay, metrics, _admit(token)))
    app.add_middleware(Guard, settings=ServerSettings(max_body=_BODY), metrics=metrics)
    return app


def _leases_routes(relay: Relay, metrics: RelayMetrics) -> APIRouter:
    routes = APIRouter(prefix="/v1/leases", route_class=StrictRoute)

    @routes.post("", status_code=201, response_class=PlainTextResponse)
    def take(asked: _Question) -> str:
        """Hand out a lease; asked again with the same id, the same one, from now on."""
        with _own_trouble():
            lease = relay.take(asked.id, _recipient(asked.recipient), asked.nonce)
        metrics.leases.labels("taken").inc()
        return str(lease)

    @routes.post("/{lease_id}/renew", response_class=PlainTextResponse)
    def renew(lease_id: str, asked: _Renewal) -> str:
        """Let a lease hold for once more."""
        with _own_trouble():
            lease = relay.renew(lease_id, _recipient(asked.recipient), asked.nonce)
        metrics.leases.labels("renewed").inc()
        return str(lease)

    @routes.delete("/{lease_id}", status_code=204)
    def give_back(lease_id: str) -> Response:
        """End a lease; one that is not out is passed over."""
        with _own_trouble():
            relay.leases.give_back(lease_id)
        metrics.leases.labels("given back").inc()
        return Response(status_code=204)

    return routes


def _health_routes(relay: Relay, metrics: RelayMetrics, admit: Any) -> APIRouter:
    routes = APIRouter()

    @routes.get("/healthz")
    def health() -> dict[str, Any]:
        """Say how many leases are out; a problem, if none could be handed out."""
        with _own_trouble():
            held = relay.held()
            out = relay.leases.count()
        terms = held.license.terms
        return {
            "status": "ok",
            "leases": terms.leases,
            "out": out,
            "expires_at": None if terms.expires_at is None else terms.expires_at.isoformat(),
            "warnings": list(held.status.warnings),
        }

    @routes.get("/metrics", dependencies=[admit])
    def numbers() -> Response:
        """Return counts and durations, as Prometheus reads them."""
        return metrics.response()

    return routes


_BEARER = HTTPBearer(auto_error=False)


def _admit(token: str) -> Any:
    """Return a dependency that refuses whoever does not know the token."""

    def admit(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> None:
        said = "" if given is None else given.credentials
        if not hmac.compare_digest(said.encode(), token.encode()) and token:
            raise Problem(
                401,
                "this relay wants a token",
                hint="nnguard lease --token-file names the file that has it",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return Depends(admit)


def _recipient(pem: str) -> Recipient:
    try:
        return Recipient.from_pem(pem.encode())
    except KeyFormatError as error:
        raise Problem(422, f"recipient: {error}", reason="malformed", hint=error.hint) from None


@contextlib.contextmanager
def _own_trouble() -> Iterator[None]:
    """Let callers know that it is not their fault where a license or a file fails."""
    try:
        yield
    except ActivationError:
        raise
    except (NnguardError, OSError) as error:
        tell("failed", level=logging.ERROR, why=str(error))
        detail = "the relay has trouble with its files"
        if isinstance(error, NnguardError):
            detail = f"the relay cannot hand out leases: {error}"
        raise Problem(503, detail, reason="unreachable", headers={"Retry-After": "5"}) from None
