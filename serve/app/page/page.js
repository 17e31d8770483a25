// The page: loads what the server is, and connects the parts. Each part is a module of its own.

import { ask, key, Refused, useKey } from "./api.js";
import { startCatalogue } from "./catalogue.js";
import { startCompare } from "./compare.js";
import { $, debounced, h, here, put, putKeepingFocus, shifted, whole } from "./dom.js";
import { startHours } from "./hours.js";
import { problem, refresh } from "./list.js";
import { startMap } from "./map.js";
import { showPast, showQuestion } from "./past.js";
import { askNow, startPerson } from "./person.js";
import { startServer } from "./server.js";
import { emit, filters, hasQuestion, on, state } from "./state.js";
import { drawRankers } from "./why.js";

const again = debounced(() => hasQuestion() && refresh(), 250);

async function load() {
  try {
    state.catalogue = (await ask("GET", "/v1/catalogues")).data[0];
    state.context = await ask("GET", "/v1/context");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
    if (error.needsKey) emit("key-needed");
    return;
  }
  problem("");
  const { name, num_items: num, columns } = state.catalogue;
  $("about").textContent = `${name} · ${whole(num)} items`;
  document.title = `${name}: what comes next`;
  $("weather").hidden = !state.context.weather;
  $("k").value = state.context.default_k;
  $("open").closest("label").hidden = !columns.includes("opening_hours");
  $("place-hint").hidden = !columns.includes("latitude");
  put($("columns"), state.context.columns.map((column) => h("div", {}, h("label", { for: `column-${column}` }, column),
    h("input", { id: `column-${column}`, placeholder: "as last known", autocomplete: "off" }))));
  emit("loaded");
}

function startMoment() {
  $("at").value = here();
  for (const one of document.querySelectorAll("[data-shift]")) {
    one.addEventListener("click", () => setAt(shifted($("at").value || here(), Number(one.dataset.shift))));
  }
  $("now").addEventListener("click", () => setAt(here()));
  $("no-place").addEventListener("click", () => {
    $("latitude").value = $("longitude").value = "";
    again();
    emit("placed");
  });
  on("set-context", () => again());
  $("question").addEventListener("submit", (event) => {
    event.preventDefault();
    askNow();
    showAnswer();
  });
  $("question").addEventListener("change", (event) => {
    if (!event.target.closest("#known-person, #new-person, .choice")) again();
    if (event.target.closest("#filters")) drawFilters();
  });
  on("filters", drawFilters);
}

// On a phone the list stands far below the question.
function showAnswer() {
  if (hasQuestion() && $("answer").getBoundingClientRect().top > 0.7 * innerHeight) $("answer").focus();
}

function setAt(value) {
  $("at").value = value;
  again();
}

function drawFilters() {
  const num = Object.keys(filters()).length;
  $("filters-said").textContent = num ? `${num} set` : "";
  putKeepingFocus($("excluded"), () => $("filters").querySelector("summary"), [...state.excluded].map(([id, title]) => h("button", { type: "button", "aria-label": `Allow ${title} again`, onclick: () => {
    state.excluded.delete(id);
    drawFilters();
    refresh();
  } }, `without ${title} ×`)));
}

function startKey() {
  const dialog = $("key-dialog");
  const open = () => {
    $("key").value = key();
    if (!dialog.open) dialog.showModal();
  };
  $("key-button").addEventListener("click", open);
  $("key-cancel").addEventListener("click", () => dialog.close());
  $("key-form").addEventListener("submit", async () => {
    useKey($("key").value.trim());
    await load();
    emit("key");
    if (hasQuestion()) refresh();
  });
  on("key-needed", () => {
    $("key-problem").hidden = false;
    $("key-problem").textContent = key() ? "The server refused this key." : "This server wants a key.";
    open();
  });
}

// One stop of the Tab key; arrows move between the tabs, as in the ARIA practices.
function startTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const select = (tab) => {
    for (const one of tabs) {
      one.setAttribute("aria-selected", String(one === tab));
      one.tabIndex = one === tab ? 0 : -1;
      $(one.getAttribute("aria-controls")).hidden = one !== tab;
    }
    tab.focus();
    emit(`shown-${tab.id.slice(4)}`);
  };
  tabs.forEach((tab, at) => {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (to !== undefined) { event.preventDefault(); select(tabs.at(to % tabs.length)); }
    });
  });
}

$("explain").addEventListener("click", () => refresh({ explain: true }));
on("answered", () => { showPast(); drawRankers(); });
on("explained", drawRankers);
on("shown-prompt", showQuestion);
startKey();
startTabs();
startMoment();
startMap();
startHours();
startCompare();
startCatalogue();
startServer();
drawRankers();
await load();
startPerson();
document.documentElement.dataset.ready = "yes";
