"use strict";
// Asks for the run every two seconds and draws it. All text enters as text, never as markup.
const POLL_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const asked = new URLSearchParams(location.search).get("lang");
let language = WORDS[asked] ? asked : (navigator.language || "").startsWith("zh") ? "zh" : "en";
let last = null;

const byId = (id) => document.getElementById(id);
const words = () => WORDS[language];

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function number(value, digits) {
  return value === null || value === undefined ? words().unknown : value.toFixed(digits);
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  while (value >= 1000 && place < units.length - 1) { value /= 1000; place += 1; }
  return `${value.toFixed(place ? 1 : 0)} ${units[place]}`;
}

function span(seconds) {
  if (seconds === null || seconds === undefined) return words().unknown;
  const zh = language === "zh";
  if (seconds < 90) return `${Math.round(seconds)} ${zh ? "秒" : "s"}`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} ${zh ? "分钟" : "min"}`;
  return `${(seconds / 3600).toFixed(1)} ${zh ? "小时" : "h"}`;
}

function since(moment, now) {
  if (moment === null || moment === undefined) return words().never;
  const gone = Math.max(0, now - moment);
  return gone < 3 ? words().now : `${span(gone)}${language === "zh" ? "" : " "}${words().ago}`;
}

function tile(label, value, note) {
  const made = element("div", undefined, "tile");
  made.append(element("span", label, "label"), element("strong", value));
  if (note) made.append(element("span", note, "note"));
  return made;
}

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// A line over rounds: the axis starts at the smallest value, or at zero for lengths of time.
function chart(place, points, digits, fromZero) {
  place.replaceChildren();
  const known = points.filter((point) => point[1] !== null && point[1] !== undefined);
  if (!known.length) { place.append(element("p", words().none, "none")); return; }
  const [width, height, left, right, top, bottom] = [360, 170, 46, 12, 12, 24];
  const values = known.map((point) => point[1]);
  let low = fromZero ? 0 : Math.min(...values), high = Math.max(...values);
  if (high - low < 1e-9) { high += 0.5 * (Math.abs(high) || 1); low -= fromZero ? 0 : 0.5 * (Math.abs(low) || 1); }
  const first = known[0][0], final = Math.max(first + 1, known[known.length - 1][0]);
  const x = (round) => left + (round - first) / (final - first) * (width - left - right);
  const y = (value) => top + (high - value) / (high - low) * (height - top - bottom);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(shape("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }));
    svg.append(shape("text", { x: left - 6, y: y(value) + 4, class: "axis end" }, value.toFixed(digits)));
  }
  const middle = Math.round((first + final) / 2);
  for (const round of new Set([first, middle, final])) {
    svg.append(shape("text", { x: x(round), y: height - 6, class: "axis middle" }, String(round)));
  }
  svg.append(shape("polyline", { points: known.map((p) => `${x(p[0])},${y(p[1])}`).join(" "), class: "line" }));
  for (const point of known.slice(-60)) {
    const dot = shape("circle", { cx: x(point[0]), cy: y(point[1]), r: 2.5, class: "dot" });
    dot.append(shape("title", {}, `${point[0]}: ${point[1].toFixed(digits)}`));
    svg.append(dot);
  }
  place.append(svg);
}

function drawSites(run) {
  const head = element("tr");
  for (const title of words().columns) head.append(element("th", title));
  byId("head").replaceChildren(head);
  byId("sites").replaceChildren(...run.sites.map((site) => {
    const row = element("tr");
    const state = element("td");
    state.append(element("span", words().states[site.state] || site.state, `state ${site.state}`));
    const round = language === "zh" ? `第 ${site.reason_round} 轮` : `${words().inRound} ${site.reason_round}`;
    const title = element("td", site.title || site.name);
    if (site.title && site.title !== site.name) title.append(element("span", site.name, "note"));
    row.append(title, state, element("td", since(site.seen, run.at)), element("td", span(site.seconds)),
      element("td", number(site.metric, 4)), element("td", String(site.rounds)),
      element("td", site.quarantined ? String(site.quarantined) : words().unknown),
      element("td", site.reason ? `${site.reason} (${round})` : ""));
    return row;
  }));
}

function drawFault(fault) {
  const place = byId("fault");
  place.hidden = !fault;
  if (!fault) return;
  const where = fault.where ? ` (${fault.where})` : "";
  place.replaceChildren(element("strong", fault.what + where));
  if (fault.why) place.append(element("p", fault.why));
  if (fault.next_step) place.append(element("p", `${words().next}: ${fault.next_step}`));
}

function draw(run) {
  const w = words();
  document.documentElement.lang = language;
  document.title = `${run.round}/${run.rounds} · ${run.league} · Hansa`;
  byId("language").textContent = w.other;
  byId("language").lang = language === "en" ? "zh" : "en";
  byId("league").textContent = run.league;
  byId("subtitle").textContent = `${run.sites.length} ${w.sites.toLowerCase()} · ${w.protection}: ${run.protection}`;
  byId("phase").textContent = w.phases[run.phase] || run.phase;
  byId("phase").className = `pill ${run.phase}`;
  byId("bar").style.width = `${100 * run.round / run.rounds}%`;
  const step = run.step ? ` · ${w.steps[run.step.type] || run.step.type}, ${span(run.at - run.step.began)}` : "";
  byId("progress").textContent = `${w.round} ${run.round} ${w.of} ${run.rounds}${step}`;
  drawFault(run.fault);
  const epsilon = run.privacy ? number(run.privacy.spent, 2) : w.noise;
  const budget = run.privacy ? `${w.budget} ${run.privacy.epsilon}, δ ${run.privacy.delta}, ${w.unit}` : "";
  byId("tiles").replaceChildren(
    tile(w.loss, number(run.loss, 4)), tile(w.metric, number(run.metric, 4)), tile(w.left, span(run.left_s)),
    tile(w.up, bytes(run.bytes.up)), tile(w.down, bytes(run.bytes.down)), tile(w.epsilon, epsilon, budget));
  byId("loss-title").textContent = w.loss;
  byId("metric-title").textContent = w.metric;
  byId("seconds-title").textContent = w.seconds;
  byId("sites-title").textContent = w.sites;
  chart(byId("loss"), run.history.map((one) => [one.round, one.loss]), 3, false);
  chart(byId("metric"), run.history.map((one) => [one.round, one.metric]), 3, false);
  chart(byId("seconds"), run.history.map((one) => [one.round, one.seconds]), 1, true);
  drawSites(run);
  byId("footer").textContent = `${w.updated} ${new Date(run.at * 1000).toLocaleString(language === "zh" ? "zh-CN" : "en-GB")}`;
}

async function look() {
  try {
    const answer = await fetch("api/run", { cache: "no-store" });
    const told = await answer.json();
    if (answer.ok) { last = told; draw(last); } else { drawFault(told); }
  } catch {
    drawFault({ what: words().lost, where: "", why: "", next_step: "" });
  }
}

byId("language").addEventListener("click", () => {
  language = language === "en" ? "zh" : "en";
  if (last) draw(last);
});
look();
setInterval(look, POLL_MS);
