"""Whether a delivery is fit to be committed: shares of what could not be understood and of contradictions, per tool, before the commit.

A delivery that is mostly rubbish, and large enough to say so, is left out of its group and opens the circuit of its tool; a smaller one is
committed and counted. Where rows of several tools came together, only the rows of the tools concerned are kept out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ingest.account import Payload
from ingest.circuits import Breakers
from ingest.config import Config, ToolColumn
from ingest.keys import CONFLICT, Outcome
from ingest.segment import Registry, Segment
from ingest.sources import Delivery
from ingest.thresholds import Thresholds
from storage.circuits import OPEN

if TYPE_CHECKING:
    from ingest.receipts import Receipt


@dataclass(slots=True)
class Member:
    """A delivery of a group, and what it came to."""

    delivery: Delivery
    payload: Payload | None = None
    receipt: Receipt | None = None
    twin: Payload | None = None
    failed: dict[str, str] = field(default_factory=dict)
    """Tools whose circuit this delivery opened, and why."""
    held: str | None = None
    """Why it stays where it is, as a whole."""
    walled: frozenset[str] = frozenset()
    """Tools whose rows go to the quarantine."""

    def forgive(self) -> None:
        """Forget what was decided on a state that others have changed."""
        self.failed, self.held, self.walled = {}, None, frozenset()


class Shares(NamedTuple):
    """What one tool sent in one payload: shares of the unintelligible and of the contradicting, and how much it is in all."""

    bad: float
    conflicting: float
    size: int
    frames: int

    def fault(self, limits: Thresholds) -> str | None:
        """Say what is wrong with it, if it is more than ``limits`` allow."""
        if self.bad > limits.ratio:
            return f"{self.bad:.0%} of {self.size} bytes in {self.frames} frames could not be understood (limit {limits.ratio:.0%})"
        if self.conflicting > limits.conflict_ratio:
            return f"{self.conflicting:.0%} of the records contradict stored ones (limit {limits.conflict_ratio:.0%})"
        return None

    def large(self, limits: Thresholds) -> bool:
        """Tell whether it is large enough to be judged by."""
        return self.size >= limits.minimum_bytes or self.frames >= limits.minimum_frames


def sole_tool(delivery: Delivery, config: Config) -> str | None:
    """Return the tool that all of a delivery comes from, None where each row names its own."""
    table = config.tables.get(delivery.mapping) if delivery.mapping else None
    captured = delivery.captured.get("tool")
    if table is None or (delivery.tool and delivery.tool != captured):
        return delivery.tool
    return None if isinstance(table.tool, ToolColumn) else table.tool or captured


def count_rows(payloads: Sequence[Payload], segment: Segment, outcome: Outcome, registry: Registry) -> None:
    """Enter the records of each tool in the tallies of the payloads that hold several tools."""
    mixed = np.asarray([payload.sole is None for payload in payloads], np.bool_)
    own = mixed[segment.payload]
    if not own.any():
        return
    names = list(dict.fromkeys(key.tool for key in registry.streams))
    tool_of = np.asarray([names.index(key.tool) for key in registry.streams], np.int64)
    code = segment.payload[own].astype(np.int64) * len(names) + tool_of[segment.stream[own]]
    rows = np.bincount(code)
    conflicts = np.bincount(code[outcome.state[own] == CONFLICT], minlength=len(rows))
    for value in np.flatnonzero(rows).tolist():
        number, tool = divmod(value, len(names))
        tally = payloads[number].tally(names[tool])
        tally.records += int(rows[value])
        tally.conflicts += int(conflicts[value])


def shares_of(payload: Payload) -> dict[str | None, Shares]:
    """Return the shares per tool; None stands for rows whose tool can't be told. Without anything to judge by, nothing."""
    account = payload.account
    if payload.sole is None:
        rows = sum(tally.records + tally.bad for tally in payload.tallies.values()) + sum(payload.walled.values())
        found: dict[str | None, Shares] = {}
        for tool, tally in payload.tallies.items():
            own = tally.records + tally.bad
            share = tally.bad / (own if tool is not None else rows)
            found[tool] = Shares(share, tally.conflicts / max(1, tally.records), account.bytes_in * own // rows, own)
        return found
    if not account.records_decoded and not account.frames_quarantined:
        return {}
    bad = account.bytes_quarantined / max(1, account.bytes_in)
    frames = payload.frames + account.frames_quarantined
    if payload.bad_rows:  # a Parquet or Arrow file: its rows are frames, and have no bytes of their own
        frames = account.records_decoded + account.frames_quarantined
        bad = max(bad, payload.bad_rows / frames)
    return {payload.sole: Shares(bad, account.records_conflict / max(1, account.records_decoded), account.bytes_in, frames)}


def judge(members: Sequence[Member], breakers: Breakers) -> bool:
    """Decide over the payloads of a group, in order; return True if some must be left out, so that the others are decoded anew."""
    again = False
    for member in members:
        for tool, reason in member.failed.items():
            breakers.trip(tool, reason)
        if member.payload is not None and not member.delivery.replays:
            again = _judge(member, member.payload, breakers) or again
    return again


def _judge(member: Member, payload: Payload, breakers: Breakers) -> bool:
    found = shares_of(payload)
    out: dict[str, str] = {}
    for tool, shares in found.items():
        if tool is not None and breakers.forces(tool, payload.sha256):
            continue
        limits = breakers.limits(tool or "")
        fault = shares.fault(limits)
        if tool is None:
            if fault and shares.large(limits):
                member.held = f"rubbish: {fault}, and it can't be told which tool sent them"
        elif tool in payload.kept_out:
            continue
        elif breakers.state(tool) == OPEN:
            out[tool] = breakers.waiting(tool)
        elif fault is None:
            breakers.succeed(tool)
        elif shares.large(limits):
            breakers.trip(tool, fault)
            member.failed[tool] = fault
            out[tool] = f"rubbish: {fault}; the circuit of {tool} was opened"
        else:
            breakers.fail(tool, fault)
    concerned = [*out, *payload.walled, *(tool for tool in found if tool and tool in payload.kept_out)]
    if concerned and not found.keys() - out.keys() - payload.kept_out:
        member.held = out.get(concerned[0]) or breakers.waiting(concerned[0])
    member.walled |= out.keys()
    return bool(out) or member.held is not None
