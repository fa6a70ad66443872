"""Plans and approvals as files: what a destructive action will do, exactly, and a signature over the digest of that.

A plan is one JSON object; its digest is the SHA-256 of its canonical JSON without the digest. It names the lake (the hash of the first
ledger entry) and the entry at which it was made, the wish (what was asked for), the effect (what goes), and until when it holds. An
approval is a file of its own, so that a plan is never changed by whoever signs it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from storage import signing
from storage.errors import LoadlockError
from storage.ledger import Entry, canonical
from storage.trust import ROOT, ApprovalMissing, Key, Trust

DOMAIN = "approval"
KINDS = ("purge", "discard", "override", *ROOT)
"""Kinds of plans; the ledger entry that carries one out has its name as action."""

PLAN = dict.fromkeys(("kind", "lake", "head", "made_at", "expires_at", "by", "digest"), str) | {
    "schema": int,
    "seq": int,
    "wish": dict,
    "effect": dict,
}
SIGNED = ("plan", "kind", "lake", "key", "time")
CONFIRMED = "confirmed"
"""What a ledger entry says of a plan that a single confirmation served for: no keys were trusted."""


class BadPlan(LoadlockError):
    """The file is no plan, or no approval."""

    exit_code = 2


@dataclass(slots=True, frozen=True)
class Ground:
    """Where a plan is judged: the lake's identity, keys and time.

    ``head``: hash of the entry at which the plan was made (None: there is none); ``applied``: the entry that carried it out (None: none).
    """

    lake: str
    head: str | None
    trust: Trust
    now: datetime
    applied: int | None = None


def stamp(moment: datetime) -> str:
    """Return a time as plans and approvals write it."""
    return moment.isoformat(timespec="microseconds") + "Z"


def digest_of(plan: Mapping[str, Any]) -> str:
    """Return the digest of a plan's content."""
    return hashlib.sha256(canonical({name: value for name, value in plan.items() if name != "digest"}).encode()).hexdigest()


def sealed(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``plan`` with its digest."""
    return {**plan, "digest": digest_of(plan)}


def read_plan(path: Path) -> dict[str, Any]:
    """Return the plan in the file at ``path``; a changed one is :class:`ApprovalMissing`."""
    plan = _read(path, "plan")
    if (
        set(plan) != set(PLAN)
        or plan["schema"] != 1
        or plan["kind"] not in KINDS
        or not all(isinstance(plan[name], PLAN[name]) for name in PLAN)
    ):
        raise BadPlan(f"{path}: no plan; 'loadlock plan' writes one")
    if digest_of(plan) != plan["digest"]:
        raise ApprovalMissing(f"{path}: changed since it was written (its digest does not match); make a new one with 'loadlock plan'")
    return plan


def read_approval(path: Path) -> dict[str, Any]:
    """Return the approval in the file at ``path``."""
    approval = _read(path, "approval")
    if set(approval) != {"schema", *SIGNED, "signature"} or not all(isinstance(approval[name], str) for name in (*SIGNED, "signature")):
        raise BadPlan(f"{path}: no approval; 'loadlock approve' writes one")
    return approval


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadPlan(f"{path}: {error.strerror}; name the {what}'s file") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadPlan(f"{path}: no {what} ({error})") from error
    if not isinstance(document, dict):
        raise BadPlan(f"{path}: no {what}")
    return document


def approve(plan: Mapping[str, Any], key: Path, now: datetime) -> dict[str, Any]:
    """Return the approval of ``plan`` by the private key in the file ``key``; a plan that has expired is not signed."""
    _check_expiry(plan, now)
    private = signing.read_private(key)
    signed = {
        "plan": plan["digest"],
        "kind": plan["kind"],
        "lake": plan["lake"],
        "key": signing.public_of(private),
        "time": stamp(now),
    }
    return {"schema": 1, **signed, "signature": signing.sign(private, DOMAIN, signed)}


def _check_expiry(plan: Mapping[str, Any], now: datetime) -> None:
    if stamp(now) >= plan["expires_at"]:
        raise ApprovalMissing(f"the plan expired at {plan['expires_at']}; make a new one with 'loadlock plan', and have it approved")


def check_ground(plan: Mapping[str, Any], ground: Ground) -> None:
    """Raise :class:`ApprovalMissing` unless ``plan`` is one of this lake that still holds and was not carried out."""
    if plan["lake"] != ground.lake or ground.head != plan["head"]:
        raise ApprovalMissing(
            f"the plan is of another lake, or of another copy of its ledger (entry {plan['seq']} is not the one that it was made at); "
            "make one here with 'loadlock plan'"
        )
    if ground.applied is not None:
        raise ApprovalMissing(f"the plan was carried out before, by ledger entry {ground.applied}; it serves once. Make a new one")
    _check_expiry(plan, ground.now)


def proof(plan: Mapping[str, Any], approvals: Sequence[Mapping[str, Any]], ground: Ground, *, confirmed: bool) -> Any:
    """Return what the ledger keeps as proof that ``plan`` may be carried out: the signers, or that it was confirmed.

    Raises :class:`ApprovalMissing` with what is wrong, and what to do.
    """
    check_ground(plan, ground)
    needed = ground.trust.needed(plan["kind"])
    if not needed:
        if approvals:
            raise ApprovalMissing("this lake trusts no keys, so nobody can sign for it; 'loadlock keys trust NAME KEY' comes first")
        if not confirmed:
            raise ApprovalMissing("this lake trusts no keys, so a single confirmation serves: give the command with --yes")
        return CONFIRMED
    signers: dict[str, dict[str, str]] = {}
    for approval in approvals:
        key = signer(plan, approval, ground.trust)
        if key.public in signers:
            raise ApprovalMissing(f"'{key.name}' signed twice; a key counts once: have somebody else approve")
        signers[key.public] = {"name": key.name, "id": key.id, **{name: approval[name] for name in ("key", "time", "signature")}}
    if len(signers) < needed:
        waiting = ", ".join(_waiting(plan, ground.trust, signers))
        raise ApprovalMissing(
            f"{len(signers)} of {needed} approvals; the holders of {waiting or 'further trusted keys'} "
            "can give them with 'loadlock approve PLAN --key FILE'; name their files behind the plan"
        )
    return {"needed": needed, "signers": list(signers.values())}


def _waiting(plan: Mapping[str, Any], trust: Trust, signers: Iterable[str]) -> list[str]:
    rule = trust.rule_of(plan["kind"])
    return [key.name for key in trust.trusted if rule.allows(key) and key.public not in signers]


def signer(plan: Mapping[str, Any], approval: Mapping[str, Any], trust: Trust) -> Key:
    """Return the key that signed ``approval``; raise :class:`ApprovalMissing` where it does not count for ``plan``."""
    key = trust.find(approval["key"])
    if key is None:
        raise ApprovalMissing(f"{approval['key']}: not a key of this lake; 'loadlock keys list' shows those that are")
    if key.revoked is not None:
        raise ApprovalMissing(f"'{key.name}' was revoked by ledger entry {key.revoked}; have a trusted key approve")
    if not trust.rule_of(plan["kind"]).allows(key):
        raise ApprovalMissing(
            f"'{key.name}' is trusted, but [approval] keys does not let it approve this; have one approve that is named there"
        )
    if approval["plan"] != plan["digest"] or approval["kind"] != plan["kind"] or approval["lake"] != plan["lake"]:
        raise ApprovalMissing(f"the approval of '{key.name}' is for another plan ({approval['plan'][:16]}...); have this one approved")
    if not signing.signed_by(key.public, DOMAIN, {name: approval[name] for name in SIGNED}, approval["signature"]):
        raise ApprovalMissing(f"the signature of '{key.name}' does not match; the approval was changed since: have it given again")
    return key


# --- the proof, proven


def proof_faults(listed: Iterable[Entry], configs: Iterable[tuple[int, str]]) -> list[str]:
    """Return the ledger entries that destroy, or change keys or rule, without the approval that was needed then.

    ``configs``: (ledger seq, configuration) as the lake keeps them.
    """
    trust, faults = Trust(), []
    given = dict(configs)
    for entry in listed:
        body = json.loads(entry.body) if entry.action in KINDS else {}
        if entry.seq in given:
            try:
                trust.take(entry.seq, "configure", json.loads(given[entry.seq]))
            except (ValueError, TypeError, KeyError, AttributeError) as error:  # a damaged file: whatever a flipped bit makes of it
                faults.append(f"ledger entry {entry.seq}: its configuration is damaged ({error}), so the rule of approvals can't be told")
        if entry.action in KINDS and not (entry.action in ("trust", "revoke") and "plan" not in body and not trust.settled):
            fault = _proof_fault(entry, body, trust)
            faults += [f"ledger entry {entry.seq}: {entry.action} without approval: {fault}"] if fault else []
        if entry.action in ROOT:
            trust.take(entry.seq, entry.action, body)
    return faults


def _proof_fault(entry: Entry, body: Mapping[str, Any], trust: Trust) -> str | None:
    plan, approval = body.get("plan"), body.get("approval")
    if not isinstance(plan, dict) or plan.get("digest") != digest_of(plan) or plan.get("kind") != entry.action:
        return "its plan is missing or changed"
    needed = trust.needed(entry.action)
    if approval == CONFIRMED:
        return f"{needed} signatures were needed" if needed else None
    signers = approval.get("signers", ()) if isinstance(approval, dict) else ()
    try:
        found = {signer(plan, {**one, "plan": plan["digest"], "kind": plan["kind"], "lake": plan["lake"]}, trust).public for one in signers}
    except ApprovalMissing as error:
        return str(error)
    return None if len(found) >= max(1, needed) else f"{len(found)} of {needed} signatures"
