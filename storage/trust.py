"""Which keys a lake trusts, and how many of them a destructive action needs: read from the ledger and the configurations it keeps.

The first keys are trusted by hand (bootstrap), until as many are trusted as the threshold asks: from then on the lake is settled, and
every change to keys and rule is itself an approved plan, signed under the rule that it changes (as TUF does it). A configuration can
tighten the rule, never loosen it, so that one slipped in beside a delivery does not open the lake; nor can it lock the lake: changes to
keys and rule are judged by the rule that was settled or approved last (ADR 11).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from storage.errors import LoadlockError
from storage.signing import key_id
from storage.store import Store

EXPIRY_S = 7 * 86_400.0
ROOT = ("trust", "revoke", "policy")
"""Kinds of plans that change keys or rule themselves."""

EVENTS = (
    f"SELECT seq, action, body FROM lake.main.ledger WHERE action IN {ROOT} "
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


@dataclass(slots=True, frozen=True)
class Rule:
    """How many signatures a plan needs, more for some kinds (``actions``), and the names or ids of the keys that count (None: all)."""

    threshold: int = 1
    actions: Mapping[str, int] = field(default_factory=dict)
    listed: frozenset[str] | None = None

    @classmethod
    def of(cls, approval: Mapping[str, Any]) -> Rule:
        """Return the rule of an ``[approval]`` section."""
        listed = approval.get("keys")
        return cls(int(approval.get("threshold", 1)), dict(approval.get("actions") or {}), None if listed is None else frozenset(listed))

    def document(self) -> dict[str, Any]:
        """Return it as an ``[approval]`` section has it."""
        return {"threshold": self.threshold, "actions": dict(self.actions), "keys": None if self.listed is None else sorted(self.listed)}

    def of_kind(self, kind: str) -> int:
        """Return how many signatures a plan of ``kind`` needs."""
        return self.actions.get(kind, self.threshold)

    def allows(self, key: Key) -> bool:
        """Tell whether a signature of ``key`` counts."""
        return self.listed is None or key.name in self.listed or key.id in self.listed

    def raised(self, other: Rule) -> Rule:
        """Return the rule with the higher of both thresholds, kind by kind."""
        actions = {kind: max(self.of_kind(kind), other.of_kind(kind)) for kind in {*self.actions, *other.actions}}
        return Rule(max(self.threshold, other.threshold), actions, self.listed)

    def tightened(self, other: Rule) -> Rule:
        """Return the rule that allows only what both allow."""
        both = self.listed if other.listed is None else other.listed if self.listed is None else self.listed & other.listed
        raised = self.raised(other)
        return Rule(raised.threshold, raised.actions, both)


@dataclass(slots=True)
class Trust:
    """The keys and the rule in force. ``root``: the rule by which plans that change keys or rule are judged."""

    keys: list[Key] = field(default_factory=list)
    rule: Rule = field(default_factory=Rule)
    root: Rule = field(default_factory=Rule)
    expiry_s: float = EXPIRY_S
    settled: bool = False

    @property
    def threshold(self) -> int:
        """Signatures that a plan needs whose kind has no number of its own."""
        return self.rule.threshold

    @property
    def trusted(self) -> list[Key]:
        """The keys that are trusted now."""
        return [key for key in self.keys if key.revoked is None]

    @property
    def signers(self) -> list[Key]:
        """The keys that may approve destructive plans now."""
        return [key for key in self.trusted if self.rule.allows(key)]

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
            self.expiry_s = float(approval.get("expiry", EXPIRY_S))
            given = Rule.of(approval)
            raised = self.rule.raised(given)
            self.rule = self.rule.tightened(given) if self.settled else Rule(raised.threshold, raised.actions, given.listed)
        elif action == "policy":
            self.rule = self.root = Rule.of(body)
        elif action == "trust":
            self.keys.append(Key(body["name"], body["public"], seq))
        else:
            for key in self.trusted:
                if key.public == body["public"]:
                    key.revoked = seq
        if not self.settled:
            self.root = self.rule
            self.settled = len(self.trusted) >= self.threshold

    def rule_of(self, kind: str) -> Rule:
        """Return the rule by which a plan of ``kind`` is judged."""
        return self.root if kind in ROOT else self.rule

    def needed(self, kind: str) -> int:
        """Return how many signatures a plan of ``kind`` needs: never more than there are keys for one that changes keys or rule."""
        if not self.in_force:
            return 0
        rule = self.rule_of(kind)
        return max(1, min(rule.threshold, sum(map(rule.allows, self.trusted)))) if kind in ROOT else rule.of_kind(kind)


def read_trust(store: Store) -> Trust:
    """Return the lake's keys and rule."""
    trust = Trust()
    for seq, action, body in store.rows(EVENTS):
        trust.take(int(seq), action, json.loads(body))
    return trust
