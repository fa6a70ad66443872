"""The configuration: TOML, validated by pydantic; unknown keys are errors that name file and line."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ingest.errors import ConfigError
from ingest.records import Context
from ingest.suggest import suggestion
from ingest.thresholds import CircuitSection

CAPTURES = ("tool", "chamber", "lot", "wafer", "recipe", "step")
CONTEXTS = Context._fields
COMPRESSIONS = (".zst", ".gz")


def known_zone(name: str) -> str:
    """Return ``name``; raise ValueError where it is no time zone."""
    try:
        ZoneInfo(name)
    except Exception as error:
        raise ValueError(f"'{name}' is no time zone of the IANA database, e.g. 'Europe/Berlin'") from error
    return name


class Section(BaseModel):
    """A table of the file: immutable, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SensorName(Section):
    """A sensor's name and unit; ``column`` names the column in a table where it differs."""

    name: str | None = None
    unit: str | None = None
    column: str | None = None

    @model_validator(mode="after")
    def _named(self) -> SensorName:
        if self.name is None and self.column is None:
            raise ValueError("a sensor needs a name or a column")
        return self


def _sensor(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class TraceModel(Section):
    """What one TRID of a tool holds. ``period`` in seconds; ``group`` is REPGSZ."""

    chamber: str | None = None
    period: Annotated[float, Field(gt=0)] | None = None
    group: Annotated[int, Field(ge=1)] = 1
    sensors: tuple[SensorName, ...] | None = None

    @field_validator("sensors", mode="before")
    @classmethod
    def _strings(cls, value: Any) -> Any:
        return [_sensor(item) for item in value] if isinstance(value, list) else value


class EventModel(Section):
    """What one CEID of a tool means: the report's V values in order, and whether it opens or closes a window."""

    name: str | None = None
    values: tuple[str, ...] = ()
    window: Literal["start", "end"] | None = None
    chamber: str | None = None


class Model(Section):
    """Tools of one kind."""

    timezone: str = "UTC"
    traces: dict[str, TraceModel] = {}
    events: dict[str, EventModel] = {}

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return known_zone(value)


class ToolSection(Section):
    """A tool, or a glob of tools."""

    model: str


class SourceSection(Section):
    """Which files are what."""

    match: str
    format: str
    table: str | None = None


class ToolColumn(Section):
    """The tool's name comes from a column, after a prefix."""

    column: str
    prefix: str = ""


class TimeColumn(Section):
    """A time column: a number with ``unit`` since ``origin``, or text with a strptime ``format``."""

    column: str
    unit: Literal["s", "ms", "us", "ns", "min", "h", "d"] | None = None
    origin: str = "1970-01-01"
    format: str | None = None
    timezone: str | None = None

    @field_validator("origin")
    @classmethod
    def _moment(cls, value: str) -> str:
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"'{value}' is no ISO 8601 date or time, e.g. '1970-01-01' or '1970-01-01T00:00Z'") from error
        return value

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        return value if value is None else known_zone(value)

    @model_validator(mode="after")
    def _one_reading(self) -> TimeColumn:
        if self.unit is not None and self.format is not None:
            raise ValueError("a time is a number with a unit or text with a format, not both")
        return self


class TableSection(Section):
    """A mapping of columns. Empty ``tool``: the captured one."""

    tool: str | ToolColumn | None = None
    chamber: str | ToolColumn | None = None
    time: TimeColumn
    seq: str | None = None
    period: Annotated[float, Field(gt=0)] | None = None
    key: tuple[str, ...] | None = None
    context: dict[Literal["lot", "wafer", "recipe", "step"], str] = {}
    sensors: Literal["*"] | tuple[SensorName, ...] = "*"
    missing: tuple[str, ...] = ("", "NaN")
    delimiter: str | None = None
    header: bool | None = None
    quote: str = '"'
    decimal: Literal[".", ","] = "."

    @field_validator("sensors", mode="before")
    @classmethod
    def _columns(cls, value: Any) -> Any:
        return [{"column": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value

    @field_validator("delimiter", "quote")
    @classmethod
    def _one_byte(cls, value: str | None) -> str | None:
        if value and (len(value) != 1 or not value.isascii() or value in "\r\n"):
            raise ValueError(f"'{value}' is not one ASCII character")
        return value

    @field_validator("sensors")
    @classmethod
    def _have_columns(cls, value: Any) -> Any:
        if value != "*" and any(item.column is None for item in value):
            raise ValueError('a sensor of a table is "COLUMN" or { column = "COLUMN", name = "..." }')
        return value


Signatures = Annotated[int, Field(ge=1, le=100)]


class ApprovalSection(Section):
    """How many trusted keys must sign a destructive plan, which of them may (None: all), and how long a plan holds (seconds).

    ``actions``: another number of signatures for one kind of plan.
    """

    threshold: Signatures = 1
    actions: dict[Literal["purge", "discard", "override"], Signatures] = {}
    keys: tuple[str, ...] | None = None
    expiry: Annotated[float, Field(gt=0, le=366 * 86_400)] = 7 * 86_400.0

    @model_validator(mode="after")
    def _enough(self) -> ApprovalSection:
        most = max(self.threshold, *self.actions.values()) if self.actions else self.threshold
        if self.keys is not None and len(set(self.keys)) < most:
            raise ValueError(f"{len(set(self.keys))} keys can't give {most} signatures; name more keys or lower the threshold")
        return self


class LakeSection(Section):
    """How the lake is written."""

    compression_level: int = 1
    row_group_rows: int = 262_144
    writer: Literal["pages", "pyarrow"] = "pages"
    batch_bytes: int = 64 << 20
    batch_seconds: float = 2.0
    keep_payloads: bool = False
    catalog: str | None = None
    data: str | None = None


class MaintenanceSection(Section):
    """When the lake keeps itself in order, and what it keeps."""

    auto: bool = True
    keep_days: Annotated[float, Field(ge=0)] = 30.0
    keep_all_hours: Annotated[float, Field(ge=0)] = 48.0
    guard_hours: Annotated[float, Field(ge=1)] = 24.0
    quiet_minutes: Annotated[float, Field(ge=0)] = 60.0
    commits: Annotated[int, Field(ge=1)] = 500


class Limits(Section):
    """Hard limits on every length that is read from outside."""

    frame_bytes: int = 16 << 20
    depth: int = 32
    children: int = 1 << 20
    line_bytes: int = 1 << 20
    columns: int = 1 << 14


class Match(NamedTuple):
    """What a path was found to be."""

    format: str
    table: str | None
    captured: dict[str, str]


class Config(Section):
    """The whole file."""

    sources: tuple[SourceSection, ...] = ()
    models: dict[str, Model] = {}
    tools: dict[str, ToolSection] = {}
    tables: dict[str, TableSection] = {}
    circuit: CircuitSection = CircuitSection()
    approval: ApprovalSection = ApprovalSection()
    lake: LakeSection = LakeSection()
    maintenance: MaintenanceSection = MaintenanceSection()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _references(self) -> Config:
        for name, tool in self.tools.items():
            if tool.model not in self.models:
                raise ValueError(f"tools.{name}: there is no [models.{tool.model}]; there are: {', '.join(self.models) or 'none'}")
        for source in self.sources:
            if source.format not in ("hsms", "table"):
                raise ValueError(f"sources: format '{source.format}' is not one of hsms, table (match = \"{source.match}\")")
            if source.format == "table" and source.table not in self.tables:
                raise ValueError(f'sources: there is no [tables.{source.table}] (match = "{source.match}")')
            _pattern(source.match)
        return self

    def model(self, tool: str) -> Model | None:
        """Return the model of ``tool``: its exact entry first, then the first glob that fits, else None."""
        section = self.tools.get(tool)
        if section is None:
            section = next((entry for glob, entry in self.tools.items() if fnmatch.fnmatchcase(tool, glob)), None)
        return None if section is None else self.models[section.model]

    def match(self, path: Path) -> Match | None:
        """Return what ``path`` is by the first source that fits, or None."""
        for source in self.sources or (DEFAULT_SOURCE,):
            captured = match_path(source.match, path)
            if captured is not None:
                return Match(source.format, source.table, captured)
        return None

    def canonical(self) -> str:
        """Return the configuration as canonical JSON (sorted keys, no spaces)."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


DEFAULT_SOURCE = SourceSection(match="{tool}/*.hsms", format="hsms")
"""What stands in where a configuration names no sources."""


def strip_compression(name: str) -> str:
    """Return ``name`` without a trailing ``.zst`` or ``.gz``."""
    for suffix in COMPRESSIONS:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _segment(pattern: str) -> str:
    out = []
    for token in re.findall(r"\{[^}]*\}|\*|\?|[^{*?]+|\{", pattern):
        if token.startswith("{"):
            name = token[1:-1]
            if name not in CAPTURES or not token.endswith("}"):
                raise ValueError(f"'{token}' in match = \"{pattern}\" is none of {{{'}, {'.join(CAPTURES)}}}")
            out.append(f"(?P<{name}>[^/]+?)")
        elif token == "*":
            out.append("[^/]*")
        elif token == "?":
            out.append("[^/]")
        else:
            out.append(re.escape(token))
    return "".join(out)


def _pattern(pattern: str) -> re.Pattern[str]:
    segments = pattern.strip("/").split("/")
    parts = ["(?:[^/]+/)*" if segment == "**" else _segment(segment) + "/" for segment in segments]
    try:
        return re.compile("(?:.*/)?" + "".join(parts).removesuffix("/"))
    except re.error as error:
        raise ValueError(f'match = "{pattern}" names a capture twice ({error}); once is enough') from error


def match_path(pattern: str, path: Path) -> dict[str, str] | None:
    """Match ``pattern`` of n segments against the last n segments of ``path``; return what was captured, or None."""
    text = strip_compression(path.as_posix()).lstrip("/")
    found = _pattern(pattern).fullmatch(text)
    return None if found is None else {name: value for name, value in found.groupdict().items() if value is not None}


def _line_of(text: str, location: tuple[Any, ...]) -> int:
    """Return the line (from 1) that most likely holds the key at ``location``: the deepest key that can be found."""
    lines, best, start = text.splitlines(), 0, 0
    for part in location:
        if isinstance(part, int):
            heads = [i for i, line in enumerate(lines) if line.strip().startswith("[[")]
            start = heads[part] if part < len(heads) else start
            best = max(best, start)
            continue
        wanted = re.compile(rf"(^|[\[.\s{{,\"'])({re.escape(str(part))})([\].\s=\"']|$)")
        for i in range(start, len(lines)):
            if wanted.search(lines[i].split("#")[0]):
                best = start = i
                break
    return best + 1


def parse(text: str, name: str = "configuration") -> Config:
    """Validate TOML ``text``; errors name ``name``, the line and the key (:class:`ConfigError`)."""
    try:
        data: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from error
    except RecursionError:
        raise ConfigError(f"{name}: its values are nested too deeply; no key takes more than a list of tables") from None
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            where = ".".join(str(part) for part in fault["loc"])
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                message = f"unknown key{suggestion(Config, fault['loc'])}"
            lines.append(f"{name}:{_line_of(text, fault['loc'])}: {where or 'file'}: {message}")
        raise ConfigError("\n".join(lines)) from error


def load(path: Path) -> Config:
    """Read and validate the file at ``path``."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name an existing TOML file with --config") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error
    return parse(text, str(path))
