"""SMART Backend Services (SMART App Launch 2.2): a client proves itself with a signed assertion and gets a token."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt

from ._errors import LATER, raised

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# An assertion is used at once; a token is asked for anew well before it has ended.
ASSERTION_SECONDS = 60
EARLY_SECONDS = 30.0


@dataclass(frozen=True)
class Client:
    """Who asks: an id, the id of its key, the key's file (PKCS#8 PEM, P-384), where tokens are given, what is asked for."""

    client_id: str
    kid: str
    key: Path
    token_url: str
    scope: str = "mesh/studies.crus"

    def assertion(self, now: float | None = None) -> str:
        """A fresh assertion, good once."""
        begin = time.time() if now is None else now
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.token_url,
            "exp": int(begin) + ASSERTION_SECONDS,
            "jti": secrets.token_hex(16),
        }
        return jwt.encode(claims, self.key.read_bytes(), algorithm="ES384", headers={"kid": self.kid})


def object_of(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; an empty one where it is something else."""
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


class Bearer(httpx.Auth):
    """Adds the client's token to each request, and asks for a new one when it is about to end or was refused."""

    requires_response_body = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self._token = ""
        self._until = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if time.monotonic() >= self._until:
            self._take((yield self._ask()))
        request.headers["authorization"] = f"Bearer {self._token}"
        answer = yield request
        if answer.status_code == 401:
            self._take((yield self._ask()))
            request.headers["authorization"] = f"Bearer {self._token}"
            yield request

    def _ask(self) -> httpx.Request:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self._client.assertion(),
            "scope": self._client.scope,
        }
        return httpx.Request("POST", self._client.token_url, data=form)

    def _take(self, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            told = object_of(answer)
            detail = str(told.get("error_description") or told.get("detail") or "no token was given")
            is_no = answer.status_code < 500 and answer.status_code not in LATER
            raise raised(403 if is_no else answer.status_code, detail, told)
        told = object_of(answer)
        if "access_token" not in told:
            raise raised(0, "the answer for a token has none")
        self._token = str(told["access_token"])
        self._until = time.monotonic() + float(told.get("expires_in", 60)) - EARLY_SECONDS
