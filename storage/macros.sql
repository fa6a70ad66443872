-- Macros for analysts, over the views. A parameter has precedence over a column of its name: columns are always qualified.
-- A series is one (chamber, trace, recipe, step, sensor) of a tool, in order of time.
CREATE OR REPLACE MACRO trace_overlay(tool, sensor, chamber := NULL, lot := NULL, wafer := NULL, recipe := NULL, step := NULL) AS TABLE
  SELECT w.window_id, w.chamber, w.lot, w.wafer, w.recipe, w.step, w.occurrence, t.trace, t.seq, t.ts,
         (epoch_us(t.ts) - epoch_us(w.started_at)) / 1e6 AS elapsed_s, t.value
  FROM traces t JOIN windows w ON t.window_id = w.window_id AND t.tool = w.tool
  WHERE t.tool = tool AND t.sensor = sensor AND w.tool = tool AND (chamber IS NULL OR w.chamber = chamber) AND (lot IS NULL OR w.lot = lot)
    AND (wafer IS NULL OR w.wafer = wafer) AND (recipe IS NULL OR w.recipe = recipe) AND (step IS NULL OR w.step = step)
  ORDER BY w.started_at, w.window_id, t.ts, t.seq;
CREATE OR REPLACE MACRO feature_points(statistic, tool := NULL, sensor := NULL, chamber := NULL, recipe := NULL, step := NULL) AS TABLE
  SELECT f.window_id, f.tool, f.chamber, f.trace, f.lot, f.wafer, f.recipe, f.step, f.occurrence, f.sensor, f.started_at,
         CASE statistic WHEN 'mean' THEN f.mean WHEN 'std' THEN f.std WHEN 'min' THEN f.min WHEN 'max' THEN f.max
           WHEN 'first' THEN f.first WHEN 'last' THEN f.last WHEN 'median' THEN f.median WHEN 'p05' THEN f.p05 WHEN 'p95' THEN f.p95
           WHEN 'slope' THEN f.slope WHEN 'area' THEN f.area WHEN 'n' THEN f.n WHEN 'missing' THEN f.missing
           ELSE error('no statistic ''' || statistic || '''; there are mean, std, min, max, first, last, median, p05, p95, slope, area, n, missing')
         END::DOUBLE AS x
  FROM features f
  WHERE (tool IS NULL OR f.tool = tool) AND (sensor IS NULL OR f.sensor = sensor) AND (chamber IS NULL OR f.chamber = chamber)
    AND (recipe IS NULL OR f.recipe = recipe) AND (step IS NULL OR f.step = step);
CREATE OR REPLACE MACRO spc(tool, sensor, statistic := 'mean', chamber := NULL, recipe := NULL, step := NULL,
                            baseline := 1000000000, weight := 0.2, k := 0.5, h := 5) AS TABLE
  WITH point AS (
    SELECT p.*, row_number() OVER series AS i, abs(p.x - lag(p.x) OVER series) AS moving_range
    FROM feature_points(statistic, tool, sensor, chamber, recipe, step) p WHERE p.x IS NOT NULL
    WINDOW series AS (PARTITION BY p.chamber, p.trace, p.recipe, p.step ORDER BY p.started_at, p.window_id)
  ), judged AS (
    SELECT p.*, avg(p.x) FILTER (p.i <= baseline) OVER series AS center,
           avg(p.moving_range) FILTER (p.i <= baseline) OVER series * sqrt(pi()) / 2 AS sigma
    FROM point p WINDOW series AS (PARTITION BY p.chamber, p.trace, p.recipe, p.step)
  ), scaled AS (
    SELECT j.*, (j.x - j.center) / nullif(j.sigma, 0) AS z,
           list(j.x) OVER (PARTITION BY j.chamber, j.trace, j.recipe, j.step ORDER BY j.i ROWS BETWEEN 399 PRECEDING AND CURRENT ROW) AS past
    FROM judged j
  ), summed AS (
    SELECT s.*, sum(s.z - k) OVER series AS above, sum(-s.z - k) OVER series AS below
    FROM scaled s WINDOW series AS (PARTITION BY s.chamber, s.trace, s.recipe, s.step ORDER BY s.i)
  )
  SELECT s.window_id, s.tool, s.chamber, s.trace, s.lot, s.wafer, s.recipe, s.step, s.occurrence, s.sensor, s.started_at, s.x AS value,
         s.center, s.sigma, s.center - 3 * s.sigma AS lcl, s.center + 3 * s.sigma AS ucl,
         list_inner_product(list_reverse(s.past), [weight * (1.0 - weight) ** j FOR j IN range(len(s.past))])
           + (1.0 - weight) ** len(s.past) * s.center AS ewma,
         s.center - 3 * s.sigma * sqrt(weight / (2.0 - weight) * (1 - (1.0 - weight) ** (2 * s.i))) AS ewma_lcl,
         s.center + 3 * s.sigma * sqrt(weight / (2.0 - weight) * (1 - (1.0 - weight) ** (2 * s.i))) AS ewma_ucl,
         s.above - least(0, min(s.above) OVER series) AS cusum_high, s.below - least(0, min(s.below) OVER series) AS cusum_low,
         h AS cusum_limit,
         abs(s.z) > 3 AS rule_1,
         greatest(count(*) FILTER (s.z > 2) OVER last_3, count(*) FILTER (s.z < -2) OVER last_3) >= 2 AS rule_2,
         greatest(count(*) FILTER (s.z > 1) OVER last_5, count(*) FILTER (s.z < -1) OVER last_5) >= 4 AS rule_3,
         greatest(count(*) FILTER (s.z > 0) OVER last_8, count(*) FILTER (s.z < 0) OVER last_8) = 8 AS rule_4
  FROM summed s
  WINDOW series AS (PARTITION BY s.chamber, s.trace, s.recipe, s.step ORDER BY s.i),
         last_3 AS (PARTITION BY s.chamber, s.trace, s.recipe, s.step ORDER BY s.i ROWS BETWEEN 2 PRECEDING AND CURRENT ROW),
         last_5 AS (PARTITION BY s.chamber, s.trace, s.recipe, s.step ORDER BY s.i ROWS BETWEEN 4 PRECEDING AND CURRENT ROW),
         last_8 AS (PARTITION BY s.chamber, s.trace, s.recipe, s.step ORDER BY s.i ROWS BETWEEN 7 PRECEDING AND CURRENT ROW)
  ORDER BY s.chamber, s.trace, s.recipe, s.step, s.i;
CREATE OR REPLACE MACRO drift(tool, sensor := NULL, statistic := 'mean', chamber := NULL, recipe := NULL, step := NULL) AS TABLE
  WITH placed AS (
    -- Days from the first window on: from the epoch on, the differences would drown in the digits.
    SELECT p.*, (epoch_us(p.started_at) - min(epoch_us(p.started_at)) OVER series) / 86400e6 AS day
    FROM feature_points(statistic, tool, sensor, chamber, recipe, step) p WHERE p.x IS NOT NULL
    WINDOW series AS (PARTITION BY p.tool, p.chamber, p.trace, p.recipe, p.step, p.sensor)
  )
  SELECT p.tool, p.chamber, p.trace, p.recipe, p.step, p.sensor, count(*) AS n, min(p.started_at) AS since, max(p.started_at) AS until,
         regr_slope(p.x, p.day) AS slope_per_day, regr_r2(p.x, p.day) AS r2,
         slope_per_day * max(p.day) / nullif(1.4826 * mad(p.x), 0) AS change_sigmas
  FROM placed p
  GROUP BY p.tool, p.chamber, p.trace, p.recipe, p.step, p.sensor HAVING count(*) > 2
  ORDER BY abs(change_sigmas) DESC NULLS LAST, p.sensor;
CREATE OR REPLACE MACRO chamber_match(tools := '*', sensor := NULL, statistic := 'mean', recipe := NULL, step := NULL) AS TABLE
  WITH chamber AS (
    SELECT p.trace, p.recipe, p.step, p.sensor, p.tool, p.chamber, count(*) AS n, avg(p.x) AS mean, stddev_samp(p.x) AS std
    FROM feature_points(statistic, NULL, sensor, NULL, recipe, step) p WHERE p.x IS NOT NULL AND p.tool GLOB tools
    GROUP BY p.trace, p.recipe, p.step, p.sensor, p.tool, p.chamber
  ), fleet AS (
    SELECT c.*, count(*) OVER same AS chambers, median(c.mean) OVER same AS fleet_mean,
           sqrt(sum((c.n - 1) * c.std ** 2) OVER same / nullif(sum(c.n - 1) OVER same, 0)) AS pooled_std
    FROM chamber c WINDOW same AS (PARTITION BY c.trace, c.recipe, c.step, c.sensor)
  )
  SELECT f.trace, f.recipe, f.step, f.sensor, f.tool, f.chamber, f.n, f.mean, f.std, f.chambers, f.fleet_mean, f.pooled_std,
         (f.mean - f.fleet_mean) / nullif(f.pooled_std, 0) AS offset_sigmas, f.std / nullif(f.pooled_std, 0) AS std_ratio
  FROM fleet f ORDER BY abs(offset_sigmas) DESC NULLS LAST, f.sensor, f.tool, f.chamber;
CREATE OR REPLACE MACRO wafer_z(tool, lot := NULL, wafer := NULL, statistic := 'mean', chamber := NULL, recipe := NULL, step := NULL) AS TABLE
  WITH centered AS (
    SELECT p.*, count(*) OVER series AS n, median(p.x) OVER series AS center, 1.4826 * mad(p.x) OVER series AS sigma
    FROM feature_points(statistic, tool, NULL, chamber, recipe, step) p WHERE p.x IS NOT NULL
    WINDOW series AS (PARTITION BY p.chamber, p.trace, p.recipe, p.step, p.sensor)
  )
  SELECT c.window_id, c.tool, c.chamber, c.trace, c.lot, c.wafer, c.recipe, c.step, c.occurrence, c.sensor, c.started_at, c.x AS value,
         c.n, c.center, c.sigma,
         CASE WHEN c.x = c.center THEN 0 WHEN c.sigma = 0 THEN sign(c.x - c.center) * 'inf'::DOUBLE ELSE (c.x - c.center) / c.sigma END AS z
  FROM centered c WHERE (lot IS NULL OR c.lot = lot) AND (wafer IS NULL OR c.wafer = wafer)
  ORDER BY abs(z) DESC, c.sensor, c.started_at, c.window_id;
CREATE OR REPLACE MACRO golden_distance(tool, golden_lot, sensor := NULL, chamber := NULL, recipe := NULL, step := NULL, grid_s := 1.0) AS TABLE
  WITH resampled AS (
    SELECT w.window_id, w.chamber, w.lot, w.wafer, w.recipe, w.step, w.occurrence, w.started_at, t.trace, t.sensor,
           floor((epoch_us(t.ts) - epoch_us(w.started_at)) / 1e6 / grid_s)::BIGINT AS cell, avg(t.value) AS x
    FROM traces t JOIN windows w ON t.window_id = w.window_id AND t.tool = w.tool
    WHERE t.tool = tool AND w.tool = tool AND (sensor IS NULL OR t.sensor = sensor) AND (chamber IS NULL OR w.chamber = chamber)
      AND (recipe IS NULL OR w.recipe = recipe) AND (step IS NULL OR w.step = step) AND t.value IS NOT NULL AND NOT isnan(t.value)
    GROUP BY ALL
  ), banded AS (
    SELECT r.*, median(r.x) FILTER (r.lot = golden_lot) OVER cells AS center, stddev_samp(r.x) FILTER (r.lot = golden_lot) OVER cells AS sigma
    FROM resampled r WINDOW cells AS (PARTITION BY r.chamber, r.trace, r.recipe, r.step, r.sensor, r.cell)
  )
  SELECT b.window_id, b.chamber, b.lot, b.wafer, b.recipe, b.step, b.occurrence, b.started_at, b.trace, b.sensor, count(*) AS cells,
         sqrt(avg(((b.x - b.center) / b.sigma) ** 2)) AS distance, max(abs(b.x - b.center) / b.sigma) AS farthest,
         count(*) FILTER (abs(b.x - b.center) > 3 * b.sigma) / count(*) AS outside
  FROM banded b WHERE b.sigma > 0
  GROUP BY b.window_id, b.chamber, b.lot, b.wafer, b.recipe, b.step, b.occurrence, b.started_at, b.trace, b.sensor
  ORDER BY distance DESC, b.sensor, b.window_id;
CREATE OR REPLACE MACRO gap_report(tool := NULL, since := NULL, until := NULL) AS TABLE
  SELECT g.tool, g.chamber, g.trace, g.stream, count(*) AS gaps, sum(g.missing) AS missing, max(g.missing) AS longest,
         min(g.after_ts) AS first_after, max(g.before_ts) AS last_before
  FROM gaps g
  WHERE (tool IS NULL OR g.tool = tool) AND (since IS NULL OR g.before_ts >= since::TIMESTAMP) AND (until IS NULL OR g.after_ts < until::TIMESTAMP)
  GROUP BY g.tool, g.chamber, g.trace, g.stream ORDER BY missing DESC, g.tool, g.chamber, g.trace, g.stream;
CREATE OR REPLACE MACRO data_quality(tool := NULL, since := NULL, until := NULL) AS TABLE
  SELECT p.tool, p.committed_at::DATE AS day, count(*) AS payloads, sum(p.bytes_in) AS bytes_in, sum(p.records_decoded) AS records,
         sum(p.records_duplicate) / nullif(sum(p.records_decoded), 0) AS duplicate_share,
         sum(p.records_conflict) / nullif(sum(p.records_decoded), 0) AS conflict_share,
         sum(p.bytes_quarantined) / nullif(sum(p.bytes_in), 0) AS quarantined_share, sum(p.frames_quarantined) AS quarantined_frames,
         sum(p.ambiguous_time) AS ambiguous_times
  FROM payloads p
  WHERE p.state = 'committed'
    AND (tool IS NULL OR p.tool = tool) AND (since IS NULL OR p.committed_at >= since::TIMESTAMP) AND (until IS NULL OR p.committed_at < until::TIMESTAMP)
  GROUP BY p.tool, day ORDER BY day, p.tool;
CREATE OR REPLACE MACRO wide(tool, trace, since := NULL, until := NULL) AS TABLE
  SELECT t.chamber, t.stream, t.seq, t.ts, any_value(t.window_id) AS window_id, map_from_entries(list((t.sensor, t.value) ORDER BY t.position)) AS sensors
  FROM traces t
  WHERE t.tool = tool AND t.trace = trace AND (since IS NULL OR t.ts >= since::TIMESTAMP) AND (until IS NULL OR t.ts < until::TIMESTAMP)
  GROUP BY t.chamber, t.stream, t.seq, t.ts ORDER BY t.chamber, t.stream, t.ts, t.seq;
