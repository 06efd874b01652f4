// Asks for the page again and again, shows what changed, and draws latencies as they go.
"use strict";

const PAUSE_MS = 2000;
const KEPT = 150;
const QUANTILES = [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]];
const WIDTH = 520, HEIGHT = 130, LEFT = 46, RIGHT = 52, TOP = 12, BOTTOM = 18;
const SVG = "http://www.w3.org/2000/svg";

const samples = new Map();
let before = read(document);

// Returns the counts that a page has, with the time at which they were so.
function read(page) {
  const main = page.querySelector("main");
  const counts = new Map();
  for (const figure of page.querySelectorAll("figure[data-upstream]"))
    counts.set(figure.dataset.upstream, figure.dataset.latencies.split(" ").map(Number));
  return {
    time: Number(main.dataset.time),
    bounds: main.dataset.bounds.split(" ").map(Number),
    ended: Number(main.dataset.ended),
    shed: Number(main.dataset.shed),
    counts,
  };
}

// Returns a quantile in ms, interpolated in its bucket; null without counts.
function quantile(wanted, counts, bounds) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  const rank = wanted * total;
  let below = 0;
  for (let bucket = 0; bucket < counts.length; bucket++) {
    if (counts[bucket] > 0 && below + counts[bucket] >= rank) {
      if (bucket === bounds.length) return 1000 * bounds[bucket - 1];
      const lower = bucket > 0 ? bounds[bucket - 1] : 0;
      return 1000 * (lower + (bounds[bucket] - lower) * (rank - below) / counts[bucket]);
    }
    below += counts[bucket];
  }
  return null;
}

function learn(now) {
  const seconds = now.time - before.time;
  if (seconds <= 0) return;
  for (const [name, counts] of now.counts) {
    // Counts of what was removed and came back begin anew.
    const earlier = before.counts.get(name) ?? counts;
    const since = counts.map((count, at) => Math.max(0, count - (earlier[at] ?? 0)));
    const total = since.reduce((sum, count) => sum + count, 0);
    const sample = { rate: total / seconds };
    for (const [label, wanted] of QUANTILES) sample[label] = quantile(wanted, since, now.bounds);
    const kept = samples.get(name) ?? [];
    kept.push(sample);
    if (kept.length > KEPT) kept.shift();
    samples.set(name, kept);
  }
  for (const name of samples.keys()) if (!now.counts.has(name)) samples.delete(name);
  tile("rate", `${(Math.max(0, now.ended - before.ended) / seconds).toFixed(1)}/s`);
  tile("shed-rate", `${(Math.max(0, now.shed - before.shed) / seconds).toFixed(1)}/s`);
  before = now;
}

function tile(id, text) {
  const place = document.getElementById(id);
  if (place) place.textContent = text;
}

function draw(figure) {
  const kept = samples.get(figure.dataset.upstream) ?? [];
  const values = kept.flatMap((one) => QUANTILES.map(([label]) => one[label])).filter((v) => v !== null);
  const most = Math.max(1, ...values) * 1.1;
  const x = (at) => LEFT + (WIDTH - LEFT - RIGHT) * (KEPT - kept.length + at) / (KEPT - 1);
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most;
  const plot = svg("svg", { class: "plot live", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  plot.append(svg("title", {}, "Latency of the last minutes"));
  for (const value of [0, most / 2, most]) {
    plot.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    plot.append(svg("text", { x: LEFT - 6, y: y(value) + 3, "text-anchor": "end" }, shown(value)));
  }
  const minutes = KEPT * PAUSE_MS / 60000;
  plot.append(svg("text", { x: LEFT, y: HEIGHT - 4 }, `${minutes} min ago`));
  plot.append(svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 4, "text-anchor": "end" }, "now"));
  let lowest = HEIGHT;
  for (const [label] of QUANTILES) {
    // A gap where nothing ended.
    let stretch = [];
    const end = () => {
      if (stretch.length) plot.append(svg("polyline", { class: label, points: stretch.join(" ") }));
      stretch = [];
    };
    kept.forEach((one, at) => {
      if (one[label] === null) end();
      else stretch.push(`${x(at).toFixed(1)},${y(one[label]).toFixed(1)}`);
    });
    end();
    const last = kept.length ? kept[kept.length - 1][label] : null;
    if (last !== null) {
      // Labels that would lie on each other stand above each other.
      lowest = Math.min(y(last) + 3, lowest - 11);
      plot.append(svg("text", { class: label, x: WIDTH - RIGHT + 4, y: lowest }, `${label} ${shown(last)}`));
    }
  }
  const rate = kept.length ? kept[kept.length - 1].rate : 0;
  const caption = document.createElement("figcaption");
  caption.textContent = `latency of the last minutes in ms; ${rate.toFixed(1)} requests/s now`;
  figure.append(plot, caption);
}

function shown(value) {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(2);
}

function svg(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function show(page) {
  for (const part of page.querySelectorAll("header > p[id], section[id]")) {
    const here = document.getElementById(part.id);
    if (here && here.outerHTML !== part.outerHTML) here.replaceWith(document.importNode(part, true));
  }
  learn(read(page));
  for (const figure of document.querySelectorAll("figure[data-upstream]")) {
    for (const old of figure.querySelectorAll("svg.live, svg.live + figcaption")) old.remove();
    draw(figure);
  }
}

async function refresh() {
  const live = document.getElementById("live");
  if (!document.hidden) {
    try {
      const answer = await fetch(location.origin + location.pathname, { cache: "no-store" });
      if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      live.textContent = "live";
      live.className = "good";
    } catch (error) {
      live.textContent = `not live: ${error.message}`;
      live.className = "bad";
    }
  }
  setTimeout(refresh, PAUSE_MS);
}

refresh();
