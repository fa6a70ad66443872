"""A generated HSMS capture of any size: trace data of 200 SVs with step events and 5 % re-sends, a recipe step at a time.

Values follow the mix of a tool: 40 % 12-bit ADC steps, 30 % decimals of 2 to 4 digits, 20 % raw floats, 10 % small integers,
each a setpoint by recipe step with 0.2 % noise. One template message is tiled; numpy fills in what varies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sample_data.secs_encoder import item, s6f1, s6f11, text

SVS = 200
TRID = 7
PERIOD_CS = 10
STEP_MESSAGES = 500
RESENT_MESSAGES = 25
STEPS = ("pump", "stabilise", "strike", "main", "overetch", "purge")
START = np.datetime64("2026-03-17T00:00:00", "ms")
STIME_CHARS = 16
HEADER_BYTES = 14
ADC_STEPS = 4095
NOISE = 0.002

LAYOUTS: dict[str, tuple[str, ...]] = {"f4": ("F4",), "mixed": ("F4", "F8", "U4", "I2")}
"""Layout to the formats that its SVs go through in turn: one run of equal items, or no two neighbours alike."""

KINDS = ("adc", "adc", "adc", "adc", "decimals", "decimals", "decimals", "raw", "raw", "small")
"""What a sensor is, in turn; integer formats hold ADC counts or small integers."""

NUMPY_TYPES = {"F4": ">f4", "F8": ">f8", "U4": ">u4", "I2": ">i2"}


@dataclass
class Counts:
    """What must come out of a capture."""

    records: int = 0
    duplicates: int = 0
    events: int = 0
    bytes_in: int = 0

    @property
    def samples(self) -> int:
        """Values of the accepted records."""
        return self.records * SVS


class Tool:
    """One tool's endless trace, cut into recipe steps of 500 messages (or as the keywords say)."""

    def __init__(
        self,
        name: str,
        layout: str = "f4",
        seed: int = 0,
        *,
        period_cs: int = PERIOD_CS,
        step_messages: int = STEP_MESSAGES,
        resent: int = RESENT_MESSAGES,
    ) -> None:
        self.name = name
        self.period_cs, self.step_messages, self.resent = period_cs, step_messages, resent
        self.random = np.random.default_rng([seed, len(layout), *name.encode()])
        self.formats = [LAYOUTS[layout][i % len(LAYOUTS[layout])] for i in range(SVS)]
        self.kinds = [KINDS[int(k)] for k in self.random.permutation(SVS) % len(KINDS)]
        self.digits = self.random.integers(2, 5, SVS)
        self.levels = self.random.uniform(5, 500, (len(STEPS), SVS))
        self.scales = self.levels.max(axis=0) * 1.25
        self.counts = Counts()
        self.step = 0
        self.system = int(self.random.integers(1, 1 << 30))
        self.template, self.message = self._template()
        self.before: np.ndarray | None = None

    def _template(self) -> tuple[bytes, np.dtype]:
        """Return one message, and the structured type that overlays what varies in it."""
        stime = "0" * STIME_CHARS
        values = [item(name, 0) for name in self.formats]
        data = s6f1(item("U1", TRID), item("U4", 0), stime, values, wait=True)
        smpln = HEADER_BYTES + 2 + len(item("U1", TRID)) + 2
        stime_at = smpln + 4 + 2
        first = len(data) - sum(len(value) for value in values)
        offsets = (first + np.cumsum([2, *(len(value) for value in values[:-1])])).tolist()
        names = ["system", "smpln", "stime", *(f"v{i}" for i in range(SVS))]
        types = [">u4", ">u4", f"S{STIME_CHARS}", *(NUMPY_TYPES[name] for name in self.formats)]
        layout = {"names": names, "formats": types, "offsets": [10, smpln, stime_at, *offsets], "itemsize": len(data)}
        return data, np.dtype(layout)  # type: ignore[call-overload]  # numpy's stubs take no dict with an itemsize

    def _overlay(self, raw: np.ndarray) -> np.ndarray:
        """Return ``raw`` (messages x bytes) as a structured view; only views keep the bytes between the fields."""
        return raw.view(self.message)[:, 0]

    def _systems(self, count: int) -> np.ndarray:
        self.system += count
        return np.arange(self.system - count, self.system, dtype=np.uint32)

    def _event(self, ceid: int, message: int) -> bytes:
        stime = stimes(np.array([message]), self.period_cs)[0].decode()
        step = self.step if ceid == 1001 else self.step - 1
        wafer, name = f"W{step // len(STEPS):05d}", STEPS[step % len(STEPS)]
        values = [text(stime), text("A"), text(f"L{step // (25 * len(STEPS)):04d}"), text(wafer), text("BENCH"), text(name)]
        self.counts.events += 1
        return s6f11(ceid, [(1, values)], system=int(self._systems(1)[0]))

    def next_step(self) -> bytes:
        """Return the next recipe step: its events, its trace messages, and some of the step before once more."""
        count = self.step_messages
        first = self.step * count
        events = (self._event(1002, first) if self.step else b"") + self._event(1001, first)
        raw = np.tile(np.frombuffer(self.template, dtype=np.uint8), (count, 1))
        rows = self._overlay(raw)
        rows["system"] = self._systems(count)
        rows["smpln"] = np.arange(first + 1, first + count + 1)
        rows["stime"] = stimes(np.arange(first, first + count), self.period_cs)
        self._values(rows)
        again = b""
        if self.before is not None and self.resent:
            chosen = self.before[np.sort(self.random.choice(len(self.before), self.resent, replace=False))]
            self._overlay(chosen)["system"] = self._systems(self.resent)
            again = chosen.tobytes()
            self.counts.duplicates += self.resent
        self.before = raw
        self.step += 1
        self.counts.records += count
        data = events + raw.tobytes() + again
        self.counts.bytes_in += len(data)
        return data

    def _values(self, rows: np.ndarray) -> None:
        levels = self.levels[self.step % len(STEPS)]
        exact = levels * (1 + NOISE * self.random.standard_normal((len(rows), SVS), dtype=np.float32))
        for i, (kind, name) in enumerate(zip(self.kinds, self.formats, strict=True)):
            column = exact[:, i]
            whole = name in ("U4", "I2")
            if kind == "small":
                column = np.full(len(rows), np.floor(levels[i] / 50))
            elif whole or kind == "adc":
                column = np.round(column / self.scales[i] * ADC_STEPS)
                column = column if whole else column * (self.scales[i] / ADC_STEPS)
            elif kind == "decimals":
                column = np.round(column, int(self.digits[i]))
            rows[f"v{i}"] = column


def stimes(messages: np.ndarray, period_cs: int = PERIOD_CS) -> np.ndarray:
    """Return the 16-character STIME (YYYYMMDDhhmmsscc) of message numbers from 0, as ``S16``."""
    moments = START + messages * np.timedelta64(period_cs * 10, "ms")
    iso = np.datetime_as_string(moments, unit="ms").astype("S23").view("S1").reshape(-1, 23)
    keep = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21]
    return np.ascontiguousarray(iso[:, keep]).view(f"S{STIME_CHARS}").ravel()


def chunks(tool: Tool, size_bytes: int) -> Iterator[bytes]:
    """Yield recipe steps of ``tool`` until ``size_bytes`` are reached."""
    stop = tool.counts.bytes_in + size_bytes
    while tool.counts.bytes_in < stop:
        yield tool.next_step()


def write(folder: Path, size_bytes: int, *, layout: str = "f4", tools: Sequence[str] = ("ETCH01",), payloads: int = 1) -> Counts:
    """Write ``folder/{tool}/0000.hsms``..., ``size_bytes`` in all, and ``folder/loadlock.toml``; return what must come out."""
    total = Counts()
    for name in tools:
        tool = Tool(name, layout)
        (folder / name).mkdir(parents=True, exist_ok=True)
        for payload in range(payloads):
            with (folder / name / f"{payload:04d}.hsms").open("wb") as file:
                file.writelines(chunks(tool, size_bytes // len(tools) // payloads))
        for field, count in vars(tool.counts).items():
            setattr(total, field, getattr(total, field) + count)
    (folder / "loadlock.toml").write_text(configuration(), encoding="utf-8")
    return total


def configuration() -> str:
    """Return the configuration of every generated tool."""
    names = ", ".join(f'"sensor_{i:03d}"' for i in range(1, SVS + 1))
    values = '["ts", "chamber", "lot", "wafer", "recipe", "step"]'
    sections = [
        '[[sources]]\nmatch = "{tool}/*.hsms"\nformat = "hsms"',
        f'[models.m.traces.{TRID}]\nchamber = "A"\nperiod = 0.1\nsensors = [{names}]',
    ]
    for ceid, name, role in ((1001, "StepStarted", "start"), (1002, "StepEnded", "end")):
        sections.append(f'[models.m.events.{ceid}]\nname = "{name}"\nvalues = {values}\nwindow = "{role}"')
    return "\n\n".join([*sections, '[tools."*"]\nmodel = "m"']) + "\n"


def bodies(count: int, layout: str) -> list[bytes]:
    """Return the bodies of ``count`` trace messages, for decoders that take one body at a time."""
    tool = Tool("BODIES", layout)
    out: list[bytes] = []
    while len(out) < count:
        tool.next_step()
        assert tool.before is not None
        out += [row.tobytes()[HEADER_BYTES:] for row in tool.before[: count - len(out)]]
    return out
