// The ranked list: bars, distances, the certificate; "chosen" stores an event and asks again.

import { ask, Refused } from "./api.js";
import { $, h, km, moved, percent, put, shifted, whole } from "./dom.js";
import { emit, hasQuestion, itemsOf, question, requestContext, state, topk, withOffset } from "./state.js";
import { whyOf } from "./why.js";

let running = null; // the AbortController of the newest request
let lastRank = new Map(); // of the list before, by item id, and whose it was
let lastWho = "";
let note = ""; // what the next list that is drawn has to say

// Ask for the list and draw it. `explain` asks for reasons too, which takes many times as long.
export async function refresh({ explain = false } = {}) {
  if (!hasQuestion()) return problem("Choose a user first, or describe someone new.");
  running?.abort();
  const own = (running = new AbortController());
  waiting(explain ? "Asking the question in other words: this takes some seconds." : "Searching the catalogue.");
  problem("");
  const body = { ...question(), k: topk(), ...(explain ? { explain: true } : {}) };
  try {
    const mark = () => explain || performance.mark("answer-received");
    const answer = await ask("POST", "/v1/recommendations", body, { signal: own.signal, onHeaders: mark });
    state.answer = { ...answer, body };
    draw(answer);
    if (!explain) measureDrawing();
    emit(explain ? "explained" : "answered");
    if (explain) $("certificate").append(reasons(answer.explanation));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    if (!explain) clear();
    problem(error.message);
    if (error.status === 401) emit("key-needed");
  } finally {
    if (running === own) waiting("");
  }
}

function clear() {
  state.answer = null;
  put($("list"));
  put($("certificate"));
  $("explain").disabled = true;
  emit("placed");
}

function measureDrawing() {
  requestAnimationFrame(() => setTimeout(() => {
    performance.mark("list-drawn");
    performance.measure("answer-to-list", "answer-received", "list-drawn");
  }));
}

export function problem(sentence) {
  $("problem").hidden = !sentence;
  $("problem").textContent = sentence;
  if (sentence) $("empty").hidden = true;
}

function waiting(what) {
  $("answer").setAttribute("aria-busy", String(Boolean(what)));
  $("waiting").hidden = !what;
  $("waiting-for").textContent = what;
  $("list").classList.toggle("stale", Boolean(what));
}

function draw(answer) {
  const who = state.isNew ? "someone new" : `user ${state.user}`;
  const top = answer.data[0]?.probability || 1;
  const rows = answer.data.map((item) => row(item, top, who));
  const before = positions();
  const hadFocus = $("list").contains(document.activeElement);
  put($("list"), rows);
  if (hadFocus) $("answer").focus({ preventScroll: true }); // the button that was pressed is gone
  slide(before);
  $("empty").hidden = true;
  $("answer-title").textContent = `Next for ${who}`;
  $("explain").disabled = !answer.data.length;
  put($("certificate"), certificate(answer), note);
  note = "";
  lastRank = new Map(answer.data.map((item) => [item.item_id, item.rank]));
  lastWho = who;
  describe(answer.data);
}

function certificate(answer) {
  const from = `of ${whole(answer.num_candidates)} items, from ${whole(answer.num_events)} events and ${whole(answer.prompt_tokens)} tokens`;
  const proof = answer.exact
    ? h("span", { class: "badge exact" }, "✓ exact")
    : h("span", { class: "badge open" }, `a missing item has at most ${percent(answer.missing_probability)}`);
  const said = answer.exact ? " Provably the most probable " : " The search was stopped; the best found ";
  return h("span", {}, proof, said, `${from}.`, answer.reason ? ` ${answer.reason}` : "");
}

const reasons = ({ left_out: left }) => ` The reasons stand below each item.${left.length ? ` Not done in time: ${left.join("; ")}.` : ""}`;

function row(item, top, who) {
  const change = lastWho === who && lastRank.size ? moved(lastRank.get(item.item_id), item.rank) : null;
  const why = state.answer.explanation?.items.find((one) => one.item_id === item.item_id);
  const share = Math.max(0.004, item.probability / top);
  return h("li", { class: "item", "data-id": item.item_id },
    h("span", { class: "rank", "aria-hidden": "true" }, String(item.rank)),
    h("div", { class: "what" },
      h("span", { class: "title" }, item.title),
      change && h("span", { class: `moved ${change.kind}` }, h("span", { "aria-hidden": "true" }, change.text), h("span", { class: "sr" }, change.said)),
      h("span", { class: "about-item" }, item.distance_km === null ? "" : km(item.distance_km))),
    h("span", { class: "bar", "aria-hidden": "true", "--share": share }),
    h("span", { class: "probability" }, percent(item.probability)),
    h("span", { class: "acts" },
      h("button", { type: "button", class: "small", onclick: () => choose(item), "aria-label": `Chosen: ${item.title}` }, "Chosen"),
      h("button", { type: "button", class: "small quiet", onclick: () => exclude(item), "aria-label": `Leave out ${item.title}`, title: "Leave out" }, "×")),
    why ? whyOf(why, item.rank === 1) : null);
}

// Category and opening hours come from the catalogue, a little later than the list.
async function describe(items) {
  try {
    const rows = await itemsOf(items.map((item) => item.item_id));
    emit("placed");
    rows.forEach((found, index) => {
      const place = $("list").children[index]?.querySelector(".about-item");
      if (!found || !place || $("list").children[index].dataset.id !== found.item_id) return;
      const said = [found.category, found.neighbourhood, found.opening_hours].filter((one) => one && !found.title.includes(one));
      const distance = items[index].distance_km;
      place.textContent = [distance === null ? "" : km(distance), ...said].filter(Boolean).join(" · ");
    });
  } catch (error) {
    if (!(error instanceof Refused)) throw error; // the list stands without
  }
}

const positions = () => new Map([...$("list").children].map((one) => [one.dataset.id, one.getBoundingClientRect().top]));

// Rows that are in both lists move to their new place.
function slide(before) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const one of $("list").children) {
    const by = (before.get(one.dataset.id) ?? NaN) - one.getBoundingClientRect().top;
    if (by) one.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
  }
}

function exclude(item) {
  state.excluded.set(item.item_id, item.title);
  emit("filters");
  refresh();
}

// Any number is as good as another, but the same event must not come twice.
const eventId = () => `page-${Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;

async function choose(item) {
  const { at, latitude, longitude } = requestContext();
  try {
    if (state.isNew) {
      state.described.push({ item_id: item.item_id, title: item.title, at });
      emit("described");
    } else {
      const place = state.context.place && latitude !== undefined ? { latitude, longitude } : {};
      const offset = state.offset === null ? {} : { utc_offset_minutes: state.offset };
      const event = { event_id: eventId(), user_id: state.user, item_id: item.item_id, time: withOffset(at), ...offset, ...place };
      await ask("POST", "/v1/events", { events: [event] });
    }
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return problem(error.message);
  }
  $("at").value = shifted(at, 1);
  const said = state.isNew ? "was added" : "was stored";
  note = ` “${item.title}” ${said} at ${at.slice(11, 16)}; this is the list an hour later.`;
  await refresh();
}
