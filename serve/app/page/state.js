// The request: person, context and filters; and what is known of this server.

import { ask } from "./api.js";
import { $, here } from "./dom.js";

export const state = {
  catalogue: null, // the card of /v1/catalogues
  context: { weather: true, place: false, columns: [], latest: null, default_k: 10 },
  items: new Map(), // by id, those that were loaded
  isNew: false,
  user: "",
  described: [], // events of someone new: {item_id, title, at}
  excluded: new Map(), // id -> title
  offset: null, // minutes of the person's clock against UTC, where it is known
  answer: null,
  question: null,
};

const bus = new EventTarget();
export const emit = (name) => bus.dispatchEvent(new Event(name));
export const on = (name, run) => bus.addEventListener(name, run);

const number = (id) => ($(id).value === "" ? null : Number($(id).value));

export function weatherOf(sky, degrees) {
  return [sky, degrees === null || degrees === "" ? "" : `${degrees} C`].filter(Boolean).join(", ") || undefined;
}

// The time with the offset of the person's clock, which events have to say.
export function withOffset(at) {
  const minutes = state.offset ?? -new Date().getTimezoneOffset();
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  const size = Math.abs(minutes);
  return `${at.length > 16 ? at : `${at}:00`}${minutes < 0 ? "-" : "+"}${two(size / 60)}:${two(size % 60)}`;
}

export function requestContext() {
  const place = number("latitude") !== null && number("longitude") !== null;
  const columns = {};
  for (const name of state.context.columns) {
    const value = $(`column-${name}`)?.value;
    if (value) columns[name] = value;
  }
  return {
    at: $("at").value || here(),
    ...(state.context.weather ? { weather: weatherOf($("sky").value, $("degrees").value) } : {}),
    ...(place ? { latitude: number("latitude"), longitude: number("longitude") } : {}),
    ...(Object.keys(columns).length ? { columns } : {}),
  };
}

export function filters() {
  const found = {};
  if (number("near") > 0) found.near_km = number("near");
  if ($("category").value) found.category = [$("category").value];
  if ($("unseen").checked) found.unseen = true;
  if ($("open").checked) found.open_now = true;
  if (state.excluded.size) found.exclude = [...state.excluded.keys()];
  return found;
}

// What /v1/questions and /v1/recommendations have in common; `changed` replaces parts of the context.
export function question(changed = {}) {
  const events = state.described.map((one) => ({ item_id: one.item_id, time: withOffset(one.at) }));
  const who = state.isNew ? { events } : { user_id: state.user };
  return { ...who, context: { ...requestContext(), ...changed }, filters: filters() };
}

export const hasQuestion = () => state.isNew || Boolean(state.user);

export const topk = () => Math.max(1, number("k") || state.context.default_k);

// The rows of items by their ids; those not loaded yet are requested.
export async function itemsOf(ids) {
  const missing = ids.filter((id) => !state.items.has(id));
  if (missing.length && state.catalogue) {
    const query = missing.map((id) => `item_id=${encodeURIComponent(id)}`).join("&");
    const found = await ask("GET", `/v1/catalogues/${encodeURIComponent(state.catalogue.name)}?limit=1000&${query}`);
    found.data.forEach((row) => state.items.set(row.item_id, row));
  }
  return ids.map((id) => state.items.get(id));
}
