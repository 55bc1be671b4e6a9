"""What a facility has spent, as it signs it (`medmesh fl ledger --signed`), and ε computed again by Google's dp-accounting."""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# Width of the interval of privacy losses with which dp-accounting computes. Its default, 1e-4, is too coarse for many steps of
# a small epsilon: what it comes to is more than the true one by a thousandth.
INTERVAL = 1e-5

# c2sp.org/signed-note, "Signature types".
ED25519 = 0x01


class NotSigned(ValueError):
    """The note is not one that the key has signed."""


@dataclass(frozen=True)
class Entry:
    """A debit: a Gaussian on Poisson samples, `steps` times; the noise in units of the clip."""

    release: str
    sampling: float
    noise_multiplier: float
    steps: int
    epsilon_after: float


@dataclass(frozen=True)
class Ledger:
    """What a facility has spent across all studies, at `delta`, when it signed."""

    facility: str
    time: str
    delta: float
    budget: float
    spent: float
    entries: tuple[Entry, ...]


def read(note: str, key: str) -> Ledger:
    """The ledger in a signed note (c2sp.org/signed-note), checked against its key `name+id+base64`. Raises `NotSigned`."""
    name, _, rest = key.partition("+")
    key_id, _, encoded = rest.partition("+")
    material = _decoded(encoded)
    text, separator, signatures = note.rpartition("\n\n")
    text += "\n"
    stated = hashlib.sha256(name.encode() + bytes([0x0A]) + material).hexdigest()[:8]
    if not separator or material[:1] != bytes([ED25519]) or stated != key_id:
        raise NotSigned("the key or the note is malformed")
    try:
        public = Ed25519PublicKey.from_public_bytes(material[1:])
    except ValueError:
        raise NotSigned("the key or the note is malformed") from None
    for line in signatures.splitlines():
        prefix = f"\N{EM DASH} {name} "
        signature = _decoded(line.removeprefix(prefix)) if line.startswith(prefix) else b""
        if signature[:4].hex() != key_id:
            continue
        try:
            public.verify(signature[4:], text.encode())
        except InvalidSignature:
            raise NotSigned("the signature is not of this text") from None
        return _ledger(name, text)
    raise NotSigned("the note has no signature of this key")


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise NotSigned("the key or the note is malformed") from None


def _ledger(name: str, text: str) -> Ledger:
    origin, time, told = text.splitlines()
    if origin != name:
        raise NotSigned("the note is no ledger of this facility")
    of = json.loads(told)
    entries = tuple(
        Entry(
            release=str(one["release"]),
            sampling=float(one["event"]["sampling"]),
            noise_multiplier=float(one["event"]["noise_multiplier"]),
            steps=int(one["event"]["steps"]),
            epsilon_after=float(one["epsilon_after"]),
        )
        for one in of["entries"]
    )
    return Ledger(str(of["facility"]), time, float(of["delta"]), float(of["budget"]), float(of["spent"]), entries)


def epsilon(entries: Sequence[Entry], delta: float) -> float:
    """ε of all entries together, by privacy loss distributions of dp-accounting (pessimistic estimate)."""
    try:
        from dp_accounting.pld import privacy_loss_distribution as pld
    except ImportError as error:
        raise ImportError("an accountant is needed: pip install medmesh[privacy]") from error
    # Equal mechanisms are composed at once.
    steps: dict[tuple[float, float], int] = {}
    for entry in entries:
        event = (entry.sampling, entry.noise_multiplier)
        steps[event] = steps.get(event, 0) + entry.steps
    losses = [
        pld.from_gaussian_mechanism(
            noise, sampling_prob=sampling, value_discretization_interval=INTERVAL, use_connect_dots=True
        ).self_compose(times)
        for (sampling, noise), times in steps.items()
    ]
    if not losses:
        return 0.0
    together = functools.reduce(lambda one, other: one.compose(other), losses)
    return float(together.get_epsilon_for_delta(delta))
