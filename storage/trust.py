"""Which keys a lake trusts, and how many of them a destructive action needs: read from the ledger and the configurations it keeps.

The first keys are trusted by hand (bootstrap), until as many are trusted as the threshold asks. From then on every change to the keys
is itself an approved plan. A configuration can raise the threshold; only an approved plan can lower it, so that a configuration
slipped in beside a delivery does not open the lake.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from storage.errors import LoadlockError
from storage.signing import key_id
from storage.store import Store

EXPIRY_S = 7 * 86_400.0

_EVENTS = (
    "SELECT seq, action, body FROM lake.main.ledger WHERE action IN ('trust', 'revoke', 'threshold') "
    "UNION ALL SELECT revision, 'configure', body FROM lake.main.configs ORDER BY 1"
)


class ApprovalMissing(LoadlockError):
    """A destructive action lacks its approvals, or they do not hold."""

    exit_code = 7


@dataclass(slots=True)
class Key:
    """A public key that the lake trusts or has trusted; ``revoked``: the ledger seq of its revocation."""

    name: str
    public: str
    trusted: int
    revoked: int | None = None

    @property
    def id(self) -> str:
        """The key's id."""
        return key_id(self.public)


@dataclass(slots=True)
class Trust:
    """The keys and the rule in force. ``listed``: the names or ids that the configuration lets sign, None: all trusted ones."""

    keys: list[Key] = field(default_factory=list)
    threshold: int = 1
    expiry_s: float = EXPIRY_S
    listed: frozenset[str] | None = None
    settled: bool = False

    @property
    def trusted(self) -> list[Key]:
        """The keys that are trusted now."""
        return [key for key in self.keys if key.revoked is None]

    @property
    def signers(self) -> list[Key]:
        """The keys that may approve now."""
        return [key for key in self.trusted if self.listed is None or key.name in self.listed or key.id in self.listed]

    @property
    def in_force(self) -> bool:
        """Tell whether destructive actions need signatures."""
        return self.settled or bool(self.trusted)

    def find(self, public: str) -> Key | None:
        """Return what is known of a public key, its newest state."""
        return next((key for key in reversed(self.keys) if key.public == public), None)

    def named(self, name: str) -> Key | None:
        """Return the trusted key of this name or id."""
        return next((key for key in self.trusted if name in (key.name, key.id)), None)

    def take(self, seq: int, action: str, body: dict[str, Any]) -> None:
        """Apply one ledger entry or configuration."""
        if action == "configure":
            approval = body.get("approval") or {}
            self.threshold = max(self.threshold, int(approval.get("threshold", 1)))
            self.expiry_s = float(approval.get("expiry", EXPIRY_S))
            listed = approval.get("keys")
            self.listed = None if listed is None else frozenset(listed)
        elif action == "threshold":
            self.threshold = int(body["threshold"])
        elif action == "trust":
            self.keys.append(Key(body["name"], body["public"], seq))
        else:
            for key in self.trusted:
                if key.public == body["public"]:
                    key.revoked = seq
        self.settled = self.settled or len(self.trusted) >= self.threshold

    def needed(self, kind: str) -> int:
        """Return how many signatures a plan of ``kind`` needs: never more than there are keys for a plan that changes the keys."""
        if not self.in_force:
            return 0
        return min(self.threshold, len(self.trusted)) if kind in ("trust", "revoke") else self.threshold


def read_trust(store: Store) -> Trust:
    """Return the lake's keys and rule."""
    trust = Trust()
    for seq, action, body in store.rows(_EVENTS):
        trust.take(int(seq), action, json.loads(body))
    return trust
