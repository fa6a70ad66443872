"""Changes to the keys that a lake trusts: each a ledger entry, by hand at first, afterwards the work of an approved plan."""

from __future__ import annotations

from typing import Any

from storage.errors import LoadlockError
from storage.index import IndexDelta
from storage.ledger import Entry
from storage.signing import key_id
from storage.store import Change, Store
from storage.trust import ApprovalMissing, Rule, Trust, read_trust


class KeyUnknown(LoadlockError):
    """No key, or another one, has this name."""

    exit_code = 2


def change(store: Store, action: str, actor: str, wait_s: float, *, name: str, public: str = "") -> tuple[Entry, dict[str, Any]]:
    """Trust or revoke a key by hand; refused once the lake has as many keys as its threshold asks."""
    with store.locked(wait_s):
        trust = read_trust(store)
        body = body_of(trust, action, name, public)
        if trust.settled:
            words = f"{name} {public}" if action == "trust" else name
            raise ApprovalMissing(
                f"{action} {name}: {len(trust.trusted)} keys are trusted and the threshold is {trust.threshold}, so changes to the keys "
                f"need approval; write 'loadlock plan {action} {words}', then approve and apply it"
            )
        body["bootstrap"] = True
        entry = store.commit(lambda _seq: Change(action, actor, "", body, IndexDelta(0, "")))
    return entry, body


def body_of(trust: Trust, action: str, name: str, public: str = "") -> dict[str, Any]:
    """Return the ledger body of a change to the keys; raise where it makes no sense."""
    if action == "trust":
        if trust.named(name) or any(key.public == public for key in trust.trusted):
            raise KeyUnknown(f"'{name}' or its key is trusted already; 'loadlock keys list' shows the keys")
        known = trust.find(public)
        if known is not None:
            raise KeyUnknown(f"this key was revoked (as '{known.name}') and is not trusted again; make a new one")
        return {"name": name, "id": key_id(public), "public": public}
    key = trust.named(name)
    if key is None:
        raise KeyUnknown(f"no trusted key is named '{name}'; 'loadlock keys list' shows the keys")
    left = [other for other in trust.trusted if other is not key]
    if trust.settled and not any(map(trust.root.allows, left)):
        raise KeyUnknown(f"'{name}' is the last trusted key that may approve; trust another one first")
    return {"name": key.name, "id": key.id, "public": key.public}


def policy_of(trust: Trust, wanted: Rule) -> dict[str, Any]:
    """Return the ledger body of another rule; raise where it could never be met."""
    most = max([wanted.threshold, *wanted.actions.values()])
    able = [key.name for key in trust.trusted if wanted.allows(key)]
    if len(able) < most:
        raise KeyUnknown(f"the rule asks for {most} signatures, and {len(able)} trusted keys could give them ({', '.join(able) or 'none'})")
    return wanted.document()
