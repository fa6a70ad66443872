"use strict";
// Draws the page's charts; a zoom asks the server for finer points, a click on a point leads to its bytes.
const dark = matchMedia("(prefers-color-scheme: dark)");
const printing = matchMedia("print");

function look() {
  const night = dark.matches && !printing.matches;
  const ink = night ? "#e4e9ef" : "#1b2530", line = night ? "#36414d" : "#dfe3e8";
  return { font: { color: ink, family: "system-ui, sans-serif", size: 12 }, "xaxis.gridcolor": line, "yaxis.gridcolor": line,
           "xaxis.zerolinecolor": line, "yaxis.zerolinecolor": line };
}

function layoutOf(figure) {
  const own = look();
  const axis = { gridcolor: own["xaxis.gridcolor"], zerolinecolor: own["xaxis.gridcolor"] };
  return Object.assign({}, figure.layout, {
    font: own.font, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 64, r: 16, t: 30, b: 56 }, hovermode: "closest",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: own.font.color },
    legend: { orientation: "h", y: -0.3 }, showlegend: figure.layout.showlegend !== false && innerWidth > 600, xaxis: Object.assign({}, axis, figure.layout.xaxis), yaxis: Object.assign({}, axis, figure.layout.yaxis),
  });
}

function follow(plot, figure) {
  const state = plot.parentElement.querySelector(".state");
  let pending = null;
  const refine = async (low, high) => {
    if (pending) pending.abort();
    pending = new AbortController();
    const url = plot.dataset.live + (low === null ? "" : `&from=${low}&to=${high}`);
    state.textContent = "Reading samples...";
    try {
      const answer = await fetch(url, { signal: pending.signal });
      if (!answer.ok) throw new Error(answer.status === 503 ? "it took too long; choose fewer wafers" : answer.statusText);
      const fresh = await answer.json();
      figure.drill = fresh.drill;
      plot.dataset.busy = "1";
      const layout = Object.assign({}, plot.layout);
      await Plotly.react(plot, fresh.data, layout, { responsive: true, displaylogo: false });
      delete plot.dataset.busy;
      state.textContent = `${fresh.shown.toLocaleString("en")} of ${fresh.counted ? "" : "about "}${fresh.samples.toLocaleString("en")} samples drawn` +
        (low === null ? "." : ` between ${low.toFixed(2)} and ${high.toFixed(2)} s.`);
      plot.dataset.drawn = `${fresh.shown}/${fresh.samples}`;
    } catch (error) {
      if (error.name !== "AbortError") state.textContent = `The server did not answer: ${error.message}`;
    }
  };
  plot.on("plotly_relayout", change => {
    if (plot.dataset.busy) return;
    if (change["xaxis.autorange"]) refine(null, null);
    else if ("xaxis.range[0]" in change) refine(Number(change["xaxis.range[0]"]), Number(change["xaxis.range[1]"]));
    else if (change["xaxis.range"]) refine(Number(change["xaxis.range"][0]), Number(change["xaxis.range"][1]));
  });
  return refine(null, null);
}

async function draw(plot) {
  const figure = JSON.parse(plot.querySelector("script").textContent);
  await Plotly.newPlot(plot, figure.data, layoutOf(figure), { responsive: true, displaylogo: false });
  plot.dataset.height = plot.layout.height;
  if (plot.dataset.live) await follow(plot, figure);
  plot.on("plotly_click", event => {
    const point = event.points[0], drill = figure.drill;
    if (!drill || point.customdata === undefined) return;
    const query = new URLSearchParams(drill.query), meta = point.data.meta || {};
    [].concat(point.customdata).forEach((value, i) => query.set(drill.names[i], value));
    if (meta.trace !== undefined) query.set("trace", meta.trace);
    if (drill.clock) query.set(drill.clock, meta.start_us + Math.round(point.x * 1e6));
    location.assign(`${drill.path}?${query}`);
  });
  plot.dataset.ready = "1";
}

const plots = [...document.querySelectorAll(".plot")];
// Paper is 700 pixels wide, and three charts fit on a page.
const dye = () => plots.forEach(plot => Plotly.relayout(plot, Object.assign(look(),
  printing.matches ? { width: 680, height: Math.min(plot.dataset.height, 240), autosize: false } : { width: null, height: plot.dataset.height, autosize: true })));
plots.forEach(draw);
dark.addEventListener("change", dye);
printing.addEventListener("change", dye);
