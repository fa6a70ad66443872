"""One file per delivery format, each a decoder of the family in ``ingest.records``."""
