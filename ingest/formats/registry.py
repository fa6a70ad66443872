"""Which decoder takes which format: a new format is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from ingest.config import Config
from ingest.errors import MappingMissing
from ingest.records import Decoder
from ingest.sources import Delivery


@dataclass(slots=True)
class Opened:
    """A decoder at work.

    ``dictionary`` returns what it learned as JSON, None where it learned nothing; ``dialect`` what it settled about the file, without
    which a rejected row can't be decoded again, None where spans stand for themselves.
    """

    decoder: Decoder
    dictionary: Callable[[], str | None] = lambda: None
    dialect: Callable[[], dict[str, Any] | None] = lambda: None


def _hsms(delivery: Delivery, config: Config, known: Callable[[str], str | None], _walled: Set[str]) -> Opened:
    from ingest.dictionary import Dictionary
    from ingest.formats.hsms import HsmsDecoder

    tool = delivery.tool or ""
    body = known(tool)
    dictionary = Dictionary() if body is None else Dictionary.from_json(body)
    # The batch copies what it takes before it asks for more.
    decoder = HsmsDecoder(tool, delivery.captured, config.model(tool), dictionary, config.limits, reuse=True)
    return Opened(decoder, lambda: decoder.dictionary.to_json() if decoder.learned else None)


def _table(delivery: Delivery, config: Config, _known: Callable[[str], str | None], walled: Set[str]) -> Opened:
    from ingest.formats.table import TableDecoder

    assert delivery.mapping is not None

    def zone_of(tool: str) -> str:
        model = config.model(tool)
        return model.timezone if model else "UTC"

    table = config.tables.get(delivery.mapping)
    if table is None:
        raise MappingMissing(f"{delivery.source}: there is no [tables.{delivery.mapping}]")
    decoder = TableDecoder(
        delivery.mapping, table, delivery.source, delivery.tool, delivery.captured, zone_of, config.limits, delivery.dialect, walled
    )
    return Opened(decoder, dialect=lambda: decoder.dialect)


DECODERS: dict[str, Callable[[Delivery, Config, Callable[[str], str | None], Set[str]], Opened]] = {"hsms": _hsms, "table": _table}


def open_decoder(delivery: Delivery, config: Config, known: Callable[[str], str | None], walled: Set[str] = frozenset()) -> Opened:
    """Return the decoder of a delivery; ``known`` gives the dictionary that the lake holds of a tool, ``walled`` the tools kept out."""
    return DECODERS[delivery.format](delivery, config, known, walled)
