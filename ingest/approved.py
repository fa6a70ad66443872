"""Destructive actions: planned, approved, and carried out in one commit that holds the proof.

A plan says what was wished for and what that does. ``apply`` works out the effect anew under the writer lock, and refuses the plan if it
is no longer the same: nobody signs for one thing and gets another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ingest import discarding, overriding, purging
from ingest.config import ApprovalSection
from ingest.errors import UsageError
from ingest.intake import Settings
from storage import erasing, keyring
from storage.index import IndexDelta
from storage.ledger import Entry
from storage.plans import KINDS, Ground, proof, sealed, stamp
from storage.store import Change, Store
from storage.trust import ApprovalMissing, Rule, read_trust

Effect = dict[str, Any]
Text = Annotated[str, Field(min_length=1)]


def _utc(value: datetime) -> datetime:
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


Moment = Annotated[datetime, AfterValidator(_utc)]


class Wish(BaseModel):
    """What a plan was asked for; ``reason`` is kept by the ledger."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reason: Annotated[str, Field(pattern=r"\S")]


class Discard(Wish):
    """The bytes of quarantined spans go."""

    ids: list[Text]


class Purge(Wish):
    """Payloads leave for good: of ``tool``, or older than ``before`` (UTC), or both."""

    tool: Text | None = None
    before: Moment | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Purge:
        if self.tool is None and self.before is None:
            raise ValueError("give a tool, or a date, or both")
        return self


class Override(Wish):
    """The circuit of a tool is held open or forced closed, until a time (UTC) or until that is ended."""

    tool: Text
    override: Annotated[str, Field(pattern=r"^(hold|force|force [0-9a-f]{64}|end)$")]
    until: Moment | None = None


class Trusting(Wish):
    """A public key is trusted."""

    name: Text
    public: Text


class Revoking(Wish):
    """A key is trusted no longer."""

    name: Text


class Policy(Wish):
    """Another rule: an ``[approval]`` section."""

    threshold: int
    actions: dict[str, int]
    keys: list[str] | None


@dataclass(slots=True, frozen=True)
class Deed:
    """A kind of plan: its wish, what it would do now, and how it is done (the caller holds the writer lock; ``note``: the proof)."""

    wish: type[Wish]
    effect: Callable[[Store, Any], Effect]
    carry_out: Callable[[Store, Any, Settings, dict[str, Any]], Entry]


KEYS: dict[str, type[Wish]] = {"trust": Trusting, "revoke": Revoking, "policy": Policy}


def _keys(kind: str) -> Deed:
    def effect(store: Store, wish: Any) -> Effect:
        if kind == "policy":
            return keyring.policy_of(read_trust(store), Rule.of(wish.model_dump()))
        return keyring.body_of(read_trust(store), kind, wish.name, getattr(wish, "public", ""))

    def carry_out(store: Store, wish: Any, settings: Settings, note: dict[str, Any]) -> Entry:
        body = effect(store, wish) | note | {"software": settings.software}
        return store.commit(lambda _seq: Change(kind, settings.actor, "", body, IndexDelta(0, "")))

    return Deed(KEYS[kind], effect, carry_out)


DEEDS = {
    "purge": Deed(
        Purge,
        lambda store, wish: purging.effect(store, wish.tool, wish.before),
        lambda store, wish, settings, note: purging.purge(store, wish.tool, wish.before, note["plan"]["effect"]["files"], settings, note),
    ),
    "override": Deed(
        Override,
        lambda store, wish: overriding.effect(store, wish.tool, wish.override, wish.until),
        lambda store, wish, settings, note: overriding.override(store, wish.tool, wish.override, wish.until, wish.reason, settings, note),
    ),
    "discard": Deed(
        Discard,
        lambda store, wish: discarding.effect(store, wish.ids),
        lambda store, wish, settings, note: discarding.discard(store, wish.ids, settings, note),
    ),
    **{kind: _keys(kind) for kind in KEYS},
}


def policy_wish(section: ApprovalSection) -> dict[str, Any]:
    """Return the wish of a plan for the rule of ``section``."""
    return {"threshold": section.threshold, "actions": dict(section.actions), "keys": None if section.keys is None else list(section.keys)}


def plan(store: Store, kind: str, wish: Mapping[str, Any], actor: str, hours: float | None = None) -> dict[str, Any]:
    """Return the plan for ``wish``; ``hours``: how long it holds, None for what the configuration says."""
    wanted = _wish(kind, wish)
    now = store.clock()
    with store.reading():
        seq, head = store.head()
        document = {
            "schema": 1,
            "kind": kind,
            "lake": _hash(store, 1),
            "seq": seq,
            "head": head,
            "made_at": stamp(now),
            "expires_at": stamp(now + timedelta(seconds=read_trust(store).expiry_s if hours is None else hours * 3600)),
            "by": actor,
            "wish": wanted.model_dump(mode="json"),
            "effect": DEEDS[kind].effect(store, wanted),
        }
    return sealed(document)


def _wish(kind: str, wish: Mapping[str, Any]) -> Wish:
    try:
        return DEEDS[kind].wish.model_validate(dict(wish))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise UsageError(f"{kind}: this can't be planned ({faults})") from error


def _hash(store: Store, seq: int) -> str | None:
    found = store.rows("SELECT hash FROM lake.main.ledger WHERE seq = ?", [seq])
    return str(found[0][0]) if found else None


def ground(store: Store, plan: Mapping[str, Any]) -> Ground:
    """Return where ``plan`` is judged."""
    done = store.rows(
        "SELECT min(seq) FROM lake.main.ledger WHERE list_contains(?, action) AND json_extract_string(body, '$.plan.digest') = ?",
        [list(KINDS), plan["digest"]],
    )[0][0]
    return Ground(str(_hash(store, 1)), _hash(store, plan["seq"]), read_trust(store), store.clock(), done)


def apply(
    store: Store, plan: Mapping[str, Any], approvals: Sequence[Mapping[str, Any]], settings: Settings, *, confirmed: bool = False
) -> dict[str, Any]:
    """Carry ``plan`` out and return what was done, as the command prints it; nothing is changed where it is refused."""
    deed = DEEDS[plan["kind"]]
    with store.locked(settings.wait_s):
        with store.reading():
            found = proof(plan, approvals, ground(store, plan), confirmed=confirmed)
            wish = unchanged(store, plan)
        entry = deed.carry_out(store, wish, settings, {"plan": dict(plan), "approval": found})
    done = {"schema": 1, "kind": plan["kind"], "plan": plan["digest"], "ledger_seq": entry.seq, "approval": found, "effect": plan["effect"]}
    return done | ({"older_snapshots": erasing.older_snapshots(store)} if plan["kind"] in erasing.ACTIONS else {})


def unchanged(store: Store, plan: Mapping[str, Any]) -> Wish:
    """Return the wish of ``plan``; raise :class:`ApprovalMissing` unless it still does exactly what it says."""
    wish = _wish(plan["kind"], plan["wish"])
    try:
        now = DEEDS[plan["kind"]].effect(store, wish)
    except (UsageError, keyring.KeyUnknown) as error:
        raise ApprovalMissing(f"the lake has changed since the plan was made ({error}); make a new one with 'loadlock plan'") from error
    if now != plan["effect"]:
        parts = ", ".join(sorted(name for name in {*now, *plan["effect"]} if now.get(name) != plan["effect"].get(name)))
        raise ApprovalMissing(f"the lake has changed since the plan was made (other {parts}); make a new one with 'loadlock plan'")
    return wish
