// A map without tiles, from the coordinates of the items themselves. A click sets the place.

import { ask, Refused } from "./api.js";
import { $, h, put } from "./dom.js";
import { emit, on, state } from "./state.js";

const MOST = 5000; // items to draw; those of an answer are loaded in any case
const view = { x: 0, y: 0, scale: 1 }; // the middle, in projected degrees, and pixels a degree
let squeeze = 1; // how much shorter a degree of longitude is than one of latitude
let colours = {};

export function startMap() {
  const canvas = $("map");
  on("loaded", load);
  on("placed", () => (wantsFit ? fitList() : draw()));
  on("answered", () => { wantsFit ||= state.user !== shownUser || state.isNew; draw(); });
  $("map-in").addEventListener("click", () => zoom(1.6));
  $("map-out").addEventListener("click", () => zoom(1 / 1.6));
  $("map-fit").addEventListener("click", fitList);
  $("map-all").addEventListener("click", fitAll);
  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event); }, { passive: false });
  drags(canvas);
  $("list").addEventListener("mouseover", (event) => highlight(event.target.closest(".item")?.dataset.id));
  $("list").addEventListener("mouseleave", () => highlight(null));
  for (const id of ["latitude", "longitude"]) $(id).addEventListener("input", draw);
}

async function load() {
  const { name, num_items: num, columns } = state.catalogue;
  if (!columns.includes("latitude") || !columns.includes("longitude")) return loadCategories(columns);
  $("map-panel").hidden = false;
  try {
    for (let offset = 0; offset < Math.min(num, MOST); offset += 1000) {
      const part = await ask("GET", `/v1/catalogues/${encodeURIComponent(name)}?limit=1000&offset=${offset}`);
      part.data.forEach((row) => state.items.set(row.item_id, row));
      fitAll();
    }
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("map-panel").hidden = true;
  }
  categories();
}

async function loadCategories(columns) {
  if (!columns.includes("category")) return;
  const part = await ask("GET", `/v1/catalogues/${encodeURIComponent(state.catalogue.name)}?limit=1000`);
  part.data.forEach((row) => state.items.set(row.item_id, row));
  categories();
}

function categories() {
  const found = [...new Set([...state.items.values()].map((row) => row.category).filter(Boolean))].sort();
  $("category-filter").hidden = !found.length;
  put($("category"), h("option", { value: "" }, "any"), found.map((name) => h("option", {}, name)));
}

const isPlaced = (row) => typeof row.latitude === "number" && typeof row.longitude === "number";
const placed = () => [...state.items.values()].filter(isPlaced);

let wantsFit = false; // once for each person: later answers leave the map where it is
let shownUser = null;

// Everything but the outermost hundredth, so that one item far away does not make the rest a dot.
function fitAll() {
  fit(placed(), 0.01);
}

// What is ranked, the last events and the place.
function fitList() {
  const ranked = (state.answer?.data ?? []).map((item) => state.items.get(item.item_id));
  const rows = [...ranked, ...(state.question?.events ?? []).slice(-12), state.question].filter((row) => row && isPlaced(row));
  if (state.question) wantsFit = false;
  shownUser = state.user;
  if (rows.length) fit(rows, 0);
}

function fit(rows, outside) {
  if (!rows.length) return;
  const between = (values) => {
    const sorted = values.sort((a, b) => a - b);
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    return [at(outside), at(1 - outside)];
  };
  const [south, north] = between(rows.map((row) => row.latitude));
  squeeze = Math.cos(((south + north) / 2) * (Math.PI / 180));
  const [west, east] = between(rows.map((row) => row.longitude * squeeze));
  const { clientWidth: width, clientHeight: height } = $("map");
  view.x = (west + east) / 2;
  view.y = (south + north) / 2;
  const least = 0.004; // degrees, some hundred metres
  view.scale = 0.84 * Math.min(width / Math.max(east - west, least), height / Math.max(north - south, least));
  draw();
}

function zoom(by, event) {
  const [x, y] = event ? degrees(event.offsetX, event.offsetY) : [view.x, view.y];
  view.scale = Math.min(Math.max(view.scale * by, 1), 1e6);
  view.x = x + (view.x - x) / by;
  view.y = y + (view.y - y) / by;
  draw();
}

const pixels = (row) => [
  $("map").clientWidth / 2 + (row.longitude * squeeze - view.x) * view.scale,
  $("map").clientHeight / 2 - (row.latitude - view.y) * view.scale,
];

const degrees = (px, py) => [
  view.x + (px - $("map").clientWidth / 2) / view.scale,
  view.y - (py - $("map").clientHeight / 2) / view.scale,
];

function drags(canvas) {
  let from = null;
  canvas.addEventListener("pointerdown", (event) => {
    from = { px: event.offsetX, py: event.offsetY, x: view.x, y: view.y, isMoved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [dx, dy] = [event.offsetX - from.px, event.offsetY - from.py];
    from.isMoved ||= Math.hypot(dx, dy) > 4;
    if (!from.isMoved) return;
    view.x = from.x - dx / view.scale;
    view.y = from.y + dy / view.scale;
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (from && !from.isMoved) setPlace(...degrees(event.offsetX, event.offsetY));
    from = null;
  });
  canvas.addEventListener("pointercancel", () => { from = null; });
}

function setPlace(x, y) {
  $("latitude").value = y.toFixed(5);
  $("longitude").value = (x / squeeze).toFixed(5);
  draw();
  emit("set-context");
}

let highlighted = null;
function highlight(id) {
  if (id === highlighted) return;
  highlighted = id;
  draw();
}

let isPlanned = false;
export function draw() {
  if (isPlanned || $("map-panel").hidden) return;
  isPlanned = true;
  requestAnimationFrame(() => { isPlanned = false; paint(); });
}

function paint() {
  const canvas = $("map"), ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const style = getComputedStyle(canvas);
  colours = Object.fromEntries(["dot", "past", "accent", "place", "surface", "text"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
  const brush = canvas.getContext("2d");
  brush.setTransform(ratio, 0, 0, ratio, 0, 0);
  brush.clearRect(0, 0, width, height);
  for (const row of placed()) disc(brush, row, 1.5, colours.dot);
  drawPast(brush);
  const top = (state.answer?.data ?? []).map((item) => ({ ...item, row: state.items.get(item.item_id) })).filter(({ row }) => row && isPlaced(row));
  for (const item of top.reverse()) number(brush, item);
  drawPlace(brush);
  const named = top.slice(-3).reverse().map((item) => item.title).join("; ");
  canvas.setAttribute("aria-label", `Map of the items${named ? `; first ranked: ${named}` : ""}. The fields for latitude and longitude do the same as a click here.`);
}

function disc(brush, row, radius, fill, edge) {
  const [x, y] = pixels(row);
  brush.beginPath();
  brush.arc(x, y, radius, 0, 2 * Math.PI);
  brush.fillStyle = fill;
  brush.fill();
  if (edge) { brush.strokeStyle = edge; brush.lineWidth = 1.5; brush.stroke(); }
}

function drawPast(brush) {
  const events = (state.question?.events ?? []).filter(isPlaced).slice(-40);
  if (!events.length) return;
  brush.beginPath();
  events.slice(-12).forEach((event, at) => brush[at ? "lineTo" : "moveTo"](...pixels(event)));
  brush.strokeStyle = colours.past;
  brush.globalAlpha = 0.45;
  brush.lineWidth = 1;
  brush.stroke();
  brush.globalAlpha = 1;
  for (const event of events) disc(brush, event, 3, colours.surface, colours.past);
}

function number(brush, { rank, row, item_id: id }) {
  const isUp = id === highlighted;
  disc(brush, row, isUp ? 13 : 9, colours.accent, colours.surface);
  const [x, y] = pixels(row);
  brush.fillStyle = colours.surface;
  brush.font = `600 ${isUp ? 13 : 10}px system-ui, sans-serif`;
  brush.textAlign = "center";
  brush.textBaseline = "middle";
  brush.fillText(String(rank), x, y + 0.5);
}

function drawPlace(brush) {
  const given = $("latitude").value !== "" && $("longitude").value !== "";
  const place = given ? { latitude: Number($("latitude").value), longitude: Number($("longitude").value) } : state.question;
  if (!place || !isPlaced(place)) return;
  const [x, y] = pixels(place);
  brush.strokeStyle = colours.place;
  brush.lineWidth = given ? 2.5 : 1.5;
  brush.beginPath();
  brush.arc(x, y, 6, 0, 2 * Math.PI);
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    brush.moveTo(x + 6 * dx, y + 6 * dy);
    brush.lineTo(x + 12 * dx, y + 12 * dy);
  }
  brush.stroke();
}
