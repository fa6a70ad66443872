"""The tables of the working index."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE IF NOT EXISTS head (seq INTEGER NOT NULL, hash TEXT NOT NULL, generation TEXT NOT NULL, snapshot INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS payload (key TEXT PRIMARY KEY, payload_id TEXT, sha256 TEXT, size INTEGER, ledger_seq INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS payload_size ON payload (size);
CREATE TABLE IF NOT EXISTS stream (
  id INTEGER PRIMARY KEY, tool TEXT, chamber TEXT, trace TEXT, stream TEXT, timed INTEGER, period_us INTEGER,
  UNIQUE (tool, chamber, trace, stream));
CREATE TABLE IF NOT EXISTS run (
  stream INTEGER, time_lo INTEGER, seq_lo INTEGER, time_hi INTEGER, seq_hi INTEGER,
  PRIMARY KEY (stream, time_lo, seq_lo, time_hi, seq_hi)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS window (
  window_id INTEGER PRIMARY KEY, tool TEXT, chamber TEXT, lot TEXT, wafer TEXT, recipe TEXT, step TEXT, occurrence INTEGER,
  started_us INTEGER, ended_us INTEGER, complete INTEGER, source TEXT, ordinal INTEGER, revision INTEGER);
CREATE INDEX IF NOT EXISTS window_time ON window (tool, chamber, source, started_us);
CREATE INDEX IF NOT EXISTS window_context ON window (tool, chamber, wafer, lot, recipe, step);
CREATE TABLE IF NOT EXISTS tool (
  tool TEXT PRIMARY KEY, revision INTEGER, last_event_us INTEGER, last_trace_us INTEGER,
  has_texts INTEGER, has_conflicts INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dictionary (tool TEXT PRIMARY KEY, body TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sensor (
  tool TEXT, trace TEXT, position INTEGER, sensor TEXT, unit TEXT, svid TEXT, source TEXT,
  PRIMARY KEY (tool, trace, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chamber (tool TEXT, chamber TEXT, PRIMARY KEY (tool, chamber)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoint (tool TEXT, day INTEGER, time_us INTEGER, state TEXT, PRIMARY KEY (tool, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS circuit (
  kind TEXT, tool TEXT, state TEXT, reason TEXT, opened_us INTEGER, retry_us INTEGER, failures INTEGER, override TEXT NOT NULL DEFAULT '',
  until_us INTEGER, revision INTEGER, PRIMARY KEY (kind, tool)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS owed (window_id INTEGER PRIMARY KEY, tool TEXT);
CREATE TABLE IF NOT EXISTS trouble (dependency TEXT PRIMARY KEY, reason TEXT, since_us INTEGER, failures INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, next INTEGER) WITHOUT ROWID;
"""
