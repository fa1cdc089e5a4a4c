// The dashboard: asks the control API every two seconds (four requests) and shows what it says. Nothing is kept.
import { drawMap } from "./map.js";
import { drawCharts } from "./charts.js";

const EVERY_MS = 2000, PATIENCE_MS = 5000, DIRECTIVES = 50;
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const $ = (id) => document.getElementById(id);

async function ask(resource) {
  const answer = await fetch(`v1/${resource}`, { signal: AbortSignal.timeout(PATIENCE_MS), headers: { accept: "application/json" } });
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail || `${resource}: HTTP ${answer.status}`);
  }
  return answer.json();
}

function cell(row, text, kind = "tight") {
  const td = row.insertCell();
  td.className = kind;
  td.textContent = text;
  return td;
}

function fill(table, items, empty, write) {
  const body = table.tBodies[0], rows = document.createDocumentFragment();
  for (const item of items) { const row = document.createElement("tr"); write(row, item); rows.append(row); }
  body.replaceChildren(rows);
  if (!items.length) { const td = cell(body.insertRow(), empty, "none"); td.colSpan = table.tHead.rows[0].cells.length; }
}

function ago(then, now) {
  const seconds = Math.max(0, (Date.parse(now) - Date.parse(then)) / 1000);
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit} ago`;
  return `${Math.floor(seconds)} s ago`;
}

const stamp = (time) => new Date(time).toLocaleString("en-GB", { timeZone: "UTC", weekday: "short", hour: "2-digit", minute: "2-digit" });

function showTotals(regions) {
  const sum = (name) => WHOLE.format(regions.reduce((total, region) => total + region[name], 0));
  const fields = { load: "load_eps", capacity: "capacity_eps", published: "published_total", delivered: "delivered_total", taking: "instances" };
  for (const [id, name] of Object.entries(fields)) $(id).textContent = sum(name);
  const now = regions.map((region) => region.as_of).sort().at(-1);
  if (now) $("clock").textContent = stamp(now);
  const federation = regions.find((region) => region.federation)?.federation;
  if (federation) { $("federation").textContent = federation; document.title = `${federation} – fedbus`; }
}

function showInstances(instances, nowOf) {
  fill($("instances"), instances, "no instances", (row, instance) => {
    cell(row, instance.region);
    cell(row, instance.instance);
    const state = cell(row, "");
    state.append(Object.assign(document.createElement("span"), { className: `state ${instance.state}`, textContent: instance.state }));
    state.title = instance.detail;
    const load = cell(row, `${WHOLE.format(instance.load_eps)} / ${WHOLE.format(instance.capacity_eps)}`);
    const share = instance.capacity_eps ? instance.load_eps / instance.capacity_eps : 0;
    const bar = Object.assign(document.createElement("div"), { className: "bar" }), level = document.createElement("i");
    level.className = share > 1 ? "over" : share > 0.8 ? "high" : "";
    level.style.width = `${Math.min(100, share * 100)}%`;
    bar.append(level);
    load.append(bar);
    cell(row, instance.ledger);
    cell(row, ago(instance.since, nowOf(instance.region))).title = instance.since;
  });
}

function showDirectives(directives, nowOf) {
  const newest = [...directives].sort((a, b) => Date.parse(b.created) - Date.parse(a.created)).slice(0, DIRECTIVES);
  fill($("directives"), newest, "none yet: capacity fits the load", (row, directive) => {
    cell(row, `${stamp(directive.created)} · ${ago(directive.created, nowOf(directive.region))}`).title = directive.created;
    cell(row, directive.region);
    cell(row, [directive.action, directive.instance, directive.size && `(${directive.size})`].filter(Boolean).join(" "));
    cell(row, directive.cause);
    cell(row, directive.reason, "");
    const state = cell(row, "");
    state.append(Object.assign(document.createElement("span"), { className: `state ${directive.state}`, textContent: directive.state }));
  });
}

function showStatus(state, text) {
  if ($("status").textContent !== text) $("status").textContent = text; // unchanged text is not announced again
  $("status").dataset.state = state;
}

async function refresh() {
  try {
    const [regions, instances, forecasts, directives] = await Promise.all(
      ["regions", "instances", "forecasts", `directives?limit=${DIRECTIVES}`].map(ask));
    const times = new Map(regions.items.map((region) => [region.region, region.as_of]));
    const nowOf = (region) => times.get(region) ?? regions.as_of;
    showTotals(regions.items);
    showInstances(instances.items, nowOf);
    showDirectives(directives.items, nowOf);
    drawMap($("map"), regions.items);
    drawCharts($("charts"), forecasts.items);
    const stale = [...new Set([regions, instances, forecasts, directives].flatMap((page) => page.stale_regions))];
    if (stale.length) showStatus("stale", `stale: no news from the manager of ${stale.join(", ")}`);
    else showStatus("connected", "connected");
  } catch (error) {
    showStatus("lost", `disconnected, trying again: ${error.message}`);
  }
}

async function run() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((done) => setTimeout(done, EVERY_MS));
  }
}
run();
