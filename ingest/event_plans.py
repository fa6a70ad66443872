"""Plans of events: what each V value of one CEID with these reports is, compiled once and read by ``kernels.secs_events``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ingest.config import EventModel, Model
from ingest.dictionary import Dictionary
from ingest.event_trees import NAMED, integer, learned_names
from ingest.items import id_of, read_at
from ingest.records import Int64
from kernels.secs_events import COUNT_BYTES, LAST, VALUE

MOST_TOKENS = 1 << 16
"""More values than this in one event, and it is read alone; as many in all plans, and they are forgotten."""

Tokens = list[tuple[int, str]]
Places = dict[str, int | list[int]]
"""Key of ``vars`` to the position of its value, or to those of a list's."""


@dataclass(slots=True)
class Plan:
    """What all events of one key have in common. ``number``: -1 where they are read one by one."""

    event: str | None = None
    ceid: int | None = None
    role: str | None = None
    chamber: str | None = None
    number: int = -1
    prefix_bytes: int = 0


@dataclass(slots=True)
class Tables:
    """The plans as ``event_values`` takes them."""

    firsts: Int64
    tokens: Int64
    prefixes: npt.NDArray[np.uint8]
    prefix_at: Int64


def _key(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) + ":"


def _tokens(places: Places, roles: dict[int, int], count: int) -> Tokens | None:
    """Return the tokens of ``count`` positions, or None where the values of ``vars`` don't stand in payload order."""
    before: dict[int, str] = {}
    text = "{"
    for nth, (key, place) in enumerate(places.items()):
        text += ("," if nth else "") + _key(key)
        if isinstance(place, int):
            before[place], text = text, ""
            continue
        text += "["
        for i in place:
            before[i], text = text, ","
        text = "]" if place else text + "]"
    order = list(before)
    if any(a >= b for a, b in pairwise(order)) or len(before) + len(roles) != count:
        return None
    return [(roles[i], "") if i in roles else (VALUE, before[i]) for i in range(count)] + [(LAST, text + "}")]


def _configured(model: EventModel, count: int) -> Tokens | None:
    places: Places = {}
    roles: dict[int, int] = {}
    for i in range(count):
        name = model.values[i] if i < len(model.values) else f"value{i + 1}"
        role = NAMED.index(name) if name in NAMED else VALUE
        if role != VALUE and role not in roles.values():
            roles[i] = role
        elif name in places:
            return None
        else:
            places[name] = i
    return _tokens(places, roles, count)


def _unknown(reports: list[tuple[str, int]], dictionary: Dictionary) -> Tokens | None:
    places: Places = {}
    at = 0
    for rptid, count in reports:
        names = learned_names(dictionary, rptid, count)
        positions = list(range(at, at + count))
        listed = places.get(rptid)
        at += count
        if names is not None and not places.keys() & {*names}:
            places.update(zip(names, positions, strict=True))
        elif isinstance(listed, list):
            listed += positions
        elif listed is not None:
            return None
        else:
            places[rptid] = positions
    return _tokens(places, {}, at)


@dataclass(slots=True)
class PlanBook:
    """The plans met so far, by key (see ``kernels.secs_events.event_heads``)."""

    chamber: str | None
    model: Model
    dictionary: Dictionary
    plans: dict[bytes, Plan] = field(default_factory=dict)
    _firsts: list[int] = field(default_factory=list)
    _tokens: Tokens = field(default_factory=list)
    _tables: Tables | None = None

    def forget(self) -> None:
        """Start anew: the dictionary has changed."""
        self.plans.clear()
        self._firsts.clear()
        self._tokens.clear()
        self._tables = None

    def make_room(self) -> None:
        """Start anew where the plans take too much room."""
        if len(self._tokens) + len(self.plans) > MOST_TOKENS:
            self.forget()

    def plan(self, key: bytes) -> Plan:
        """Compile the plan of a key."""
        self._tables = None
        plan = self.plans[key] = self._alarm() if not key else self._report(key)
        return plan

    def _alarm(self) -> Plan:
        plan = Plan("alarm", chamber=self.chamber)
        self._number(plan, [(LAST, "")])
        return plan

    def _report(self, key: bytes) -> Plan:
        item, at = read_at(key, 0)
        reports: list[tuple[str, int]] = []
        while at < len(key):
            rptid, at = read_at(key, at)
            reports.append((id_of(rptid) or "", int.from_bytes(key[at : at + COUNT_BYTES], "big")))
            at += COUNT_BYTES
        ceid = id_of(item) or ""
        number = integer(ceid)
        name = None if number is not None else ceid
        count = sum(values for _, values in reports)
        few = count + len(reports) <= MOST_TOKENS
        model = self.model.events.get(ceid)
        if model is None:
            plan = Plan(name, number, chamber=self.chamber)
            tokens = _unknown(reports, self.dictionary) if few else None
        else:
            plan = Plan(model.name or name, number, model.window, model.chamber if model.chamber is not None else self.chamber)
            tokens = _configured(model, count) if few else None
        self._number(plan, tokens)
        return plan

    def _number(self, plan: Plan, tokens: Tokens | None) -> None:
        if tokens is not None:
            plan.number = len(self._firsts)
            plan.prefix_bytes = sum(len(text.encode()) for _, text in tokens)
            self._firsts.append(len(self._tokens))
            self._tokens += tokens

    def tables(self) -> Tables:
        """Return all plans as arrays."""
        if self._tables is None:
            texts = [text.encode() for _, text in self._tokens]
            ends = np.cumsum([0, *(len(text) for text in texts)], dtype=np.int64)
            prefixes = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
            roles = np.array([role for role, _ in self._tokens], np.int64)
            self._tables = Tables(np.array(self._firsts, np.int64), roles, prefixes, ends)
        return self._tables
