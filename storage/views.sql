-- What analysts see: the names of the public surface over the attached catalog "lake".
CREATE OR REPLACE VIEW traces AS FROM lake.main.traces;
CREATE OR REPLACE VIEW texts AS FROM lake.main.texts;
CREATE OR REPLACE VIEW conflicts AS FROM lake.main.conflicts;
CREATE OR REPLACE VIEW events AS
  SELECT tool, chamber, event, ceid, dataid, ts, vars::JSON AS vars, payload_id, byte_start,
         lot, wafer, recipe, step, role, system_bytes, body_digest
  FROM lake.main.events;
CREATE OR REPLACE VIEW payloads AS FROM lake.main.payloads;
CREATE OR REPLACE VIEW ledger AS
  SELECT seq, recorded_at, actor, action, batch_id, body::JSON AS body, prev_hash, hash FROM lake.main.ledger;
CREATE OR REPLACE VIEW sensors AS
  SELECT tool, trace, position, sensor, unit, svid, source, valid_from,
         lead(valid_from) OVER (PARTITION BY tool, trace, position ORDER BY valid_from) AS valid_to
  FROM lake.main.sensors;
CREATE OR REPLACE VIEW windows AS
  SELECT w.window_id, w.tool, w.chamber, w.lot, w.wafer, w.recipe, w.step, w.occurrence,
         w.started_at, w.ended_at, w.complete, w.revision
  FROM lake.main.windows_log w
  ANTI JOIN (SELECT window_id, revision FROM lake.main.superseded WHERE subject = 'window') s
    ON w.window_id = s.window_id AND w.revision = s.revision;
CREATE OR REPLACE VIEW features AS
  SELECT f.* FROM lake.main.features_log f
  ANTI JOIN (SELECT window_id, revision FROM lake.main.superseded WHERE subject = 'window') s
    ON f.window_id = s.window_id AND f.revision = s.revision;
CREATE OR REPLACE VIEW samples AS
  SELECT t.*, w.lot, w.wafer, w.recipe, w.step, w.occurrence
  FROM lake.main.traces t LEFT JOIN windows w ON t.window_id = w.window_id AND t.tool = w.tool;
CREATE OR REPLACE VIEW gaps AS
  SELECT g.tool, g.chamber, g.trace, g.stream, g.first_missing, g.last_missing, g.missing, g.after_ts, g.before_ts
  FROM lake.main.gaps_log g
  ANTI JOIN (SELECT id, by_revision FROM lake.main.superseded WHERE subject = 'gap') s
    ON g.gap_id = s.id AND g.revision < s.by_revision;
CREATE OR REPLACE VIEW quarantine AS
  SELECT q.quarantine_id, q.payload_id, q.tool, q.start, q.stop, q.reason, q.detail,
         CASE WHEN s.state = 'discarded' THEN NULL ELSE q.bytes END AS bytes, coalesce(s.state, 'open') AS state,
         coalesce(q.sha256, sha256(q.bytes)) AS sha256
  FROM lake.main.quarantine_log q
  LEFT JOIN (SELECT quarantine_id, arg_max(state, revision) AS state FROM lake.main.quarantine_states GROUP BY ALL) s
    USING (quarantine_id);
-- An open circuit whose cool-down is over tries one payload: it is half-open without anybody having written that down; so is the end of an
-- override: 'hold' keeps a circuit open, 'force' closed.
CREATE OR REPLACE VIEW circuits AS
  SELECT tool,
         CASE WHEN in_force = 'hold' THEN 'open' WHEN in_force = 'force' THEN 'closed'
              WHEN state = 'open' AND epoch_us(retry_at) <= epoch_us(now()) THEN 'half-open' ELSE state END AS state,
         reason, opened_at, retry_at, failures, kind, in_force AS override, CASE WHEN in_force IS NOT NULL THEN until END AS override_until
  FROM (SELECT *, CASE WHEN override <> '' AND (until IS NULL OR epoch_us(until) > epoch_us(now())) THEN override END AS in_force
  FROM (SELECT tool, kind, arg_max(state, revision) AS state, arg_max(reason, revision) AS reason,
               arg_max({'at': opened_at}, revision).at AS opened_at,
               arg_max({'at': retry_at}, revision).at AS retry_at, arg_max(failures, revision) AS failures,
               arg_max({'is': c.override}, revision).is AS override, arg_max({'at': c.override_until}, revision).at AS until
        FROM lake.main.circuits_log c GROUP BY tool, kind));
CREATE OR REPLACE VIEW features_owed AS
  SELECT window_id, tool, since FROM (
    SELECT window_id, arg_max(tool, revision) AS tool, max(revision) AS since, arg_max(owed, revision) AS owed
    FROM lake.main.features_owed_log GROUP BY window_id)
  WHERE owed;
