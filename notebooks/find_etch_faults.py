"""From a folder of etch traces to the faulty wafers: open with ``marimo edit notebooks/find_etch_faults.py``.

The data are those of docs/how-to/find-etch-faults.md; ``LOADLOCK_REAL_DATA`` names the folder that holds ``lam9600_etch``.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Find faulty wafers in etch traces")


@app.cell
def _():
    import os
    import pathlib
    import tempfile

    import marimo as mo
    import plotly.graph_objects as go
    import polars as pl

    import loadlock

    return go, loadlock, mo, os, pathlib, pl, tempfile


@app.cell
def _(mo):
    mo.md("""
    # Find faulty wafers in etch traces

    72 normal wafers of a LAM 9600 metal etcher, and 9 in which a setpoint was changed on purpose. Which are they, and which sensor says so?

    ## 1. Bring the files in

    One file a wafer. `docs/how-to/lam.toml` names the columns; lot and wafer come from the path. Two late rows contradict earlier ones:
    they are kept as conflicts, and count in no statistic.
    """)


@app.cell
def _(loadlock, mo, os, pathlib, tempfile):
    root = mo.notebook_dir().parent
    data = pathlib.Path(os.environ.get("LOADLOCK_REAL_DATA") or root.parent / "shared" / "data") / "lam9600_etch"
    folder = tempfile.TemporaryDirectory(prefix="etch-")
    lake = loadlock.open(pathlib.Path(folder.name) / "etch.lake")
    summary = lake.ingest(data, config=root / "docs" / "how-to" / "lam.toml")
    summary.receipts = [receipt for receipt in summary.receipts if receipt.account["records_conflict"]]  # the two to look at
    mo.vstack([summary])
    return lake, summary


@app.cell
def _(mo):
    mo.md("""
    ## 2. How far is each wafer from normal?

    Mean and standard deviation of every sensor in each step, in standard deviations of the normal wafers of the same experiment (wafers
    1 to 34, and 35 to 71). A normal wafer is left out of its own baseline. Nobody says in which experiment the faulty ones were run: they
    are compared with both, and the nearer one counts.
    """)


@app.cell
def _(lake):
    distances = lake.sql("""
        WITH statistic AS (
          UNPIVOT (
            SELECT lot, wafer::INT AS wafer, step, sensor, mean, std,
                   CASE WHEN lot = 'normal' THEN CASE WHEN wafer::INT <= 34 THEN 1 WHEN wafer::INT <= 71 THEN 2 ELSE 3 END END AS experiment
            FROM features
          ) ON mean, std INTO NAME kind VALUE value
        ),
        baseline AS (
          SELECT experiment, step, sensor, kind, count(*) AS n, avg(value) AS mean, var_samp(value) AS variance
          FROM statistic WHERE experiment IN (1, 2) GROUP BY ALL
        )
        SELECT s.lot, s.wafer, b.experiment, s.step, s.sensor, s.kind,
               CASE WHEN s.lot = 'faulty' THEN abs(s.value - b.mean) / sqrt(b.variance)
                    ELSE abs(s.value - b.mean) * n / (n - 1)
                         / sqrt(greatest(0, ((n - 1) * b.variance - (s.value - b.mean) ** 2 * n / (n - 1)) / (n - 2))) END AS sigmas
        FROM statistic s JOIN baseline b USING (step, sensor, kind)
        WHERE s.lot = 'faulty' OR s.experiment = b.experiment
    """).pl()
    return (distances,)


@app.cell
def _(distances, pl):
    limit_sigmas = 5
    furthest = (
        distances.filter(pl.col("sigmas").is_finite())
        .sort("sigmas", descending=True)
        .group_by("lot", "wafer", "experiment", maintain_order=True)
        .first()
        .sort("sigmas")
        .group_by("lot", "wafer", maintain_order=True)  # of both experiments the nearer one
        .first()
        .sort("lot", "wafer")
    )
    found = furthest.filter(pl.col("sigmas") >= limit_sigmas)
    return limit_sigmas, found, furthest


@app.cell
def _(limit_sigmas, furthest, go, mo, pl):
    wafers_chart = go.Figure()
    for _lot, _colour in (("normal", "#7f8c8d"), ("faulty", "#c0392b")):
        _part = furthest.filter(pl.col("lot") == _lot)
        wafers_chart.add_bar(
            x=[f"{_lot} {wafer}" for wafer in _part["wafer"]],
            y=_part["sigmas"].to_list(),
            name=_lot,
            marker_color=_colour,
            hovertext=[f"{sensor} {kind}, step {step}" for sensor, kind, step in _part.select("sensor", "kind", "step").iter_rows()],
        )
    wafers_chart.add_hline(y=limit_sigmas, line_dash="dash", annotation_text=f"limit: {limit_sigmas} sigmas")
    wafers_chart.update_layout(title="Furthest statistic of each wafer", yaxis={"title": "sigmas", "type": "log"}, xaxis={"title": "wafer"})
    mo.ui.plotly(wafers_chart)
    return (wafers_chart,)


@app.cell
def _(found, mo):
    mo.vstack([mo.md("Wafers beyond the limit, with the statistic that gives them away:"), mo.ui.table(found, selection=None)])


@app.cell
def _(mo):
    mo.md("""
    All nine faulty wafers are beyond the limit. Four normal ones are too: 28, 35 and 71 just above it, and 56, of which only three rows
    were recorded. A limit of six leaves wafer 56 alone, and would miss faulty wafer 5.

    ## 3. Which sensors say so?

    A fault seldom shows in the sensor that was tampered with: the tool holds pressure at its setpoint, and the valve gives it away.
    """)


@app.cell
def _(distances, go, mo, pl):
    _faulty = distances.filter((pl.col("lot") == "faulty") & pl.col("sigmas").is_finite())
    _cells = (
        _faulty.group_by("wafer", "sensor", "experiment")
        .agg(pl.col("sigmas").max())
        .group_by("wafer", "sensor")
        .agg(pl.col("sigmas").min())
    )
    _grid = _cells.sort("wafer").pivot(on="wafer", index="sensor", values="sigmas").sort("sensor")
    _wafers = _grid.columns[1:]
    sensors_chart = go.Figure(
        go.Heatmap(
            z=[[min(value or 0, 30) for value in row] for row in _grid.select(_wafers).iter_rows()],
            x=[f"faulty {wafer}" for wafer in _wafers],
            y=_grid["sensor"].to_list(),
            colorscale="OrRd",
            colorbar={"title": "sigmas<br>(30 at most)"},
        )
    )
    sensors_chart.update_layout(title="How far each sensor moved", height=600)
    mo.ui.plotly(sensors_chart)
    return (sensors_chart,)


@app.cell
def _(found, mo, pl):
    wafer = mo.ui.dropdown([str(number) for number in found.filter(pl.col("lot") == "faulty")["wafer"]], value="4", label="faulty wafer")
    mo.vstack([mo.md("## 4. Look at the trace"), wafer])
    return (wafer,)


@app.cell
def _(found, go, lake, mo, pl, wafer):
    _row = found.filter((pl.col("lot") == "faulty") & (pl.col("wafer") == int(wafer.value))).row(0, named=True)
    overlay = lake.sql(
        "SELECT lot, wafer, elapsed_s, value FROM trace_overlay('LAM9600', ?, step := ?) "
        "WHERE lot = 'normal' OR wafer = ? ORDER BY lot DESC, wafer, elapsed_s",
        [_row["sensor"], _row["step"], wafer.value],
    ).pl()
    overlay_chart = go.Figure()
    for (_lot, _wafer), _part in overlay.group_by("lot", "wafer", maintain_order=True):
        overlay_chart.add_scatter(
            x=_part["elapsed_s"].to_list(),
            y=_part["value"].to_list(),
            mode="lines",
            name=f"{_lot} {_wafer}",
            showlegend=_lot == "faulty",
            line={"color": "#c0392b", "width": 3} if _lot == "faulty" else {"color": "rgba(127,140,141,0.3)", "width": 1},
        )
    overlay_chart.update_layout(
        title=f"{_row['sensor']} in step {_row['step']}: faulty wafer {wafer.value} over all normal ones",
        xaxis={"title": "seconds since the step began"},
        yaxis={"title": _row["sensor"]},
    )
    mo.ui.plotly(overlay_chart)
    return overlay, overlay_chart


if __name__ == "__main__":
    app.run()
