// Who the request is for: a user by id, or someone new by events from a search in the catalogue.

import { ask, Refused } from "./api.js";
import { $, day, debounced, h, here, hour, parsed, put, putKeepingFocus, shifted } from "./dom.js";
import { problem, refresh } from "./list.js";
import { emit, on, state } from "./state.js";

export function startPerson() {
  for (const one of document.querySelectorAll("input[name=kind]")) one.addEventListener("change", kindChanged);
  $("user").addEventListener("input", debounced(suggest));
  $("user").addEventListener("change", () => pick($("user").value.trim()));
  catalogueSearch($("event-item"), $("event-found"), "Add", addEvent);
  on("described", drawDescribed);
  on("key", suggest);
  suggest();
}

function kindChanged() {
  state.isNew = document.querySelector("input[name=kind]:checked").value === "new";
  $("known-person").hidden = state.isNew;
  $("new-person").hidden = !state.isNew;
  if (state.isNew && !$("event-time").value) $("event-time").value = shifted($("at").value || here(), -2);
  state.offset = null;
  if (state.isNew || state.user) refresh();
}

// Ids for the field, and some to begin with; without the right to list users, the field alone stays.
async function suggest() {
  try {
    const typed = $("user").value.trim();
    const found = await ask("GET", `/v1/users?limit=20&starting=${encodeURIComponent(typed)}`);
    put($("users"), found.data.map((id) => h("option", { value: id })));
    if (!typed) put($("suggested"), ...found.data.slice(0, 5).map((id) => h("button", { type: "button", onclick: () => pick(id) }, id)));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    put($("suggested"));
  }
}

let settling = false; // while the context of the next user is looked up

async function pick(id) {
  if (!id) return;
  $("user").value = id;
  state.user = id;
  state.excluded.clear();
  emit("filters");
  settling = true;
  try {
    await settleMoment();
  } finally {
    settling = false;
  }
  if (state.user === id) await refresh();
}

// The button, and Enter in any field: in that of the user it comes with a change, which asks by itself.
export function askNow() {
  const typed = $("user").value.trim();
  if (!state.isNew && typed !== state.user) pick(typed);
  else if (!settling) refresh();
}

// Right after the last event, where the data end long ago: today nothing would be known of the weather.
async function settleMoment() {
  let last = null;
  state.offset = null;
  try {
    const shown = await ask("POST", "/v1/questions", { user_id: state.user });
    last = shown.events.at(-1);
    state.offset = last?.utc_offset_minutes ?? null;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (!error.needsKey) return problem(error.message);
    last = state.context.latest ? { time: state.context.latest } : null;
  }
  const isRecent = last && parsed(here()) - parsed(last.time) < 48 * 3600e3;
  $("at").value = last && !isRecent ? shifted(last.time, 1) : here();
}

function addEvent(item) {
  state.described.push({ item_id: item.item_id, title: item.title, at: $("event-time").value });
  state.described.sort((a, b) => a.at.localeCompare(b.at));
  $("event-time").value = shifted($("event-time").value, 1);
  emit("described");
  refresh();
}

function drawDescribed() {
  putKeepingFocus($("described"), () => $("event-item"), state.described.map((event, at) => h("li", {},
    h("span", {}, event.title), h("time", {}, `${day(event.at)} ${hour(event.at)}`),
    h("button", { type: "button", class: "small quiet", "aria-label": `Remove ${event.title}`, onclick: () => {
      state.described.splice(at, 1);
      emit("described");
      refresh();
    } }, "×"))));
}

// A search field over the catalogue: `onPick` gets the row of the item that is chosen.
export function catalogueSearch(field, list, verb, onPick) {
  const search = debounced(async () => {
    const query = field.value.trim();
    if (!query || !state.catalogue) return put(list);
    try {
      const found = await ask("GET", `/v1/catalogues/${encodeURIComponent(state.catalogue.name)}?limit=8&query=${encodeURIComponent(query)}`);
      found.data.forEach((row) => state.items.set(row.item_id, row));
      put(list, found.data.length
        ? found.data.map((row) => h("li", {}, h("button", { type: "button", "aria-label": `${verb} ${row.title}`, onclick: () => { field.value = ""; put(list); field.focus(); onPick(row); } }, row.title)))
        : h("li", { class: "hint", role: "status" }, "No title or id has this text."));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      put(list, h("li", { class: "problem", role: "alert" }, error.message));
    }
  });
  field.addEventListener("input", search);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { event.preventDefault(); list.querySelector("button")?.click(); }
    if (event.key === "Escape") put(list);
    if (event.key === "ArrowDown") { event.preventDefault(); list.querySelector("button")?.focus(); }
  });
}
