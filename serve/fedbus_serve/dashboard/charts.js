// Charts: per region the load as it was, the forecast with its band, the capacity in service, what was decided and why,
// what triggers make one expect, and a line at "now".
/* global uPlot */
const HEIGHT = 230, DECISIONS = 3, WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact" });
const HOUR = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit" });
const charts = new Map();
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const seconds = (time) => Date.parse(time) / 1000;

/** Columns for uPlot: time, load, mean, lower, upper, capacity. */
function columns(view) {
  const column = (points, at) => points.map((point) => (at ? point[at] : seconds(point[0])));
  const capacity = [...view.capacity], last = [...view.forecast, ...view.history].map((point) => point[0]).sort().at(-1);
  // The last step holds until the end of what is shown.
  if (capacity.length && last && seconds(capacity.at(-1)[0]) < seconds(last)) capacity.push([last, capacity.at(-1)[1]]);
  const tables = [
    [column(view.history, 0), column(view.history, 1)],
    [column(view.forecast, 0), column(view.forecast, 1), column(view.forecast, 2), column(view.forecast, 3)],
    [column(capacity, 0), column(capacity, 1)],
  ];
  return uPlot.join(tables);
}

/** A vertical line at a time, where that is shown. */
function line(chart, time, name, width, dash = []) {
  const at = Math.round(chart.valToPos(time, "x", true)), { ctx, bbox } = chart;
  if (!(at >= bbox.left && at <= bbox.left + bbox.width)) return;
  ctx.save();
  ctx.strokeStyle = colour(name);
  ctx.lineWidth = width * devicePixelRatio;
  ctx.setLineDash(dash.map((length) => length * devicePixelRatio));
  ctx.beginPath();
  ctx.moveTo(at, bbox.top);
  ctx.lineTo(at, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}

/** The window of a trigger, shaded, and up to where the load is expected to rise in it. */
function shade(chart, trigger) {
  const { ctx, bbox } = chart, x = (time) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, chart.valToPos(seconds(time), "x", true)));
  const from = x(trigger.starts), wide = x(trigger.ends) - from, level = chart.valToPos(trigger.peak_eps, "y", true);
  ctx.save();
  ctx.fillStyle = colour("--trigger");
  ctx.globalAlpha = 0.15;
  ctx.fillRect(from, bbox.top, wide, bbox.height);
  ctx.globalAlpha = 1;
  if (level >= bbox.top) ctx.fillRect(from, level, wide, 2 * devicePixelRatio);
  ctx.restore();
}

function annotate(chart) {
  const { view } = chart;
  if (!view) return;
  for (const trigger of view.triggers) shade(chart, trigger);
  for (const decision of view.decisions) line(chart, seconds(decision.created), `--${decision.action === "create" ? "out" : "in"}`, 1, [2, 3]);
  line(chart, seconds(view.as_of), "--now", 2);
}

/** Ticks in UTC: hours and minutes, days where they are further apart. */
function times(chart, ticks, axis, space, step) {
  const format = step < 86400 ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" };
  const text = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...format });
  return ticks.map((tick) => text.format(tick * 1000));
}

function options(width) {
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const series = (label, name, more = {}) => ({ label, stroke: colour(name), width: 1.6, spanGaps: true, points: { show: false }, ...more });
  const edge = { width: 0, stroke: "transparent" };
  return {
    width, height: HEIGHT,
    tzDate: (time) => uPlot.tzDate(new Date(time * 1000), "Etc/UTC"),
    scales: { x: { time: true }, y: { range: (chart, low, high) => [0, (high || 1) * 1.08] } },
    axes: [{ ...axis, size: 30, values: times }, { ...axis, size: 52, values: (chart, ticks) => ticks.map((tick) => SHORT.format(tick)) }],
    series: [
      {}, series("load", "--load"), series("forecast", "--forecast", { dash: [6, 4] }), series("lower", "--forecast", edge),
      series("upper", "--forecast", edge), series("capacity", "--capacity", { paths: uPlot.paths.stepped({ align: 1 }) }),
    ],
    bands: [{ series: [4, 3], fill: colour("--band") }],
    cursor: { points: { show: false } },
    hooks: { draw: [annotate] },
  };
}

function describe(view) {
  const at = (points) => (points.length ? WHOLE.format(points.at(-1)[1]) : "unknown");
  const peak = view.forecast.length ? WHOLE.format(Math.max(...view.forecast.map((point) => point[1]))) : "unknown";
  return `${view.region}: load ${at(view.history)}, forecast peak ${peak}, capacity ${at(view.capacity)} events per second`;
}

function figure(host, view) {
  const made = document.createElement("figure"), caption = document.createElement("figcaption"), plot = document.createElement("div");
  made.dataset.region = view.region;
  const why = document.createElement("p"), decided = document.createElement("ol");
  plot.setAttribute("role", "img");
  decided.setAttribute("aria-label", `Decisions for ${view.region}, newest first`);
  caption.append(document.createElement("strong"), document.createElement("small"));
  made.append(caption, plot, why, decided);
  host.append(made);
  return { made, caption, plot, why, decided, chart: null };
}

/** Why there are so many instances, what triggers will bring, and the last decisions in words. */
function explain(shown, view) {
  const hour = (time) => HOUR.format(new Date(time));
  const triggers = view.triggers.map((each) => `${each.title || each.trigger} (${each.state}, ${hour(each.starts)} to ${hour(each.ends)}, up to ${WHOLE.format(each.peak_eps)}: ${each.why})`);
  shown.why.textContent = [view.why, ...triggers].filter(Boolean).join(" · ");
  shown.decided.replaceChildren(...view.decisions.slice(0, DECISIONS).map((each) => {
    const item = document.createElement("li"), what = document.createElement("b");
    what.textContent = `${hour(each.created)} ${each.action} ${each.instance}`;
    item.append(what, ` ${each.cause}: ${each.reason}`);
    item.className = each.action;
    return item;
  }));
}

function forget(region) {
  const shown = charts.get(region);
  shown.chart?.destroy();
  shown.made.remove();
  charts.delete(region);
}

function draw(shown, view) {
  const model = [view.model || "no forecast yet", view.basis, view.mase === null ? "" : `MASE ${view.mase.toFixed(2)}`];
  shown.caption.children[0].textContent = view.region;
  shown.caption.children[1].textContent = model.filter(Boolean).join(" · ");
  shown.plot.setAttribute("aria-label", describe(view));
  const data = columns(view);
  shown.chart ??= new uPlot(options(shown.plot.clientWidth), data, shown.plot);
  shown.chart.view = view;
  shown.chart.setData(data);
  explain(shown, view);
}

export function drawCharts(host, views) {
  for (const region of charts.keys()) if (!views.some((view) => view.region === region)) forget(region);
  for (const view of views) {
    if (!charts.has(view.region)) charts.set(view.region, figure(host, view));
  }
  for (const view of views) draw(charts.get(view.region), view); // after all are laid out: widths are settled
}

new ResizeObserver(() => {
  for (const { chart, plot } of charts.values()) chart?.setSize({ width: plot.clientWidth, height: HEIGHT });
}).observe(document.getElementById("charts"));
dark.addEventListener("change", () => [...charts.keys()].forEach(forget)); // drawn anew, in the other colours
