// The hour strip: how the top items change over the 24 hours of the day of the request.

import { ask, Refused } from "./api.js";
import { $, day, h, percent, putKeepingFocus } from "./dom.js";
import { cell } from "./why.js";
import { emit, hasQuestion, on, question, state } from "./state.js";

const AT_ONCE = 3; // requests, so that a small server answers others meanwhile
const SHOWN = 3; // of each hour
const MOST_ROWS = 12;
let running = null;
let drawnFor = ""; // the question of the strip, without its hour
let picked = null; // the hour of the strip whose list was requested

export function startHours() {
  idle();
  on("answered", () => {
    const isOfStrip = picked === $("at").value && drawnFor === withoutHour();
    picked = null;
    if (isOfStrip) return select(); // the strip still holds, and the button that was pressed keeps the focus
    running?.abort();
    idle();
  });
}

const strip = () => $("view-hours").querySelector(".scroll");
const firstButton = () => $("view-hours").querySelector("button:enabled");
const withoutHour = () => JSON.stringify(question({ at: $("at").value.slice(0, 10) }));

function idle(said = "") {
  drawnFor = "";
  putKeepingFocus($("view-hours"), firstButton,
    h("p", { class: "hint" }, "How the list changes over the day: the same person, weather and place at each hour."),
    h("button", { type: "button", onclick: ask24, disabled: !hasQuestion() }, "Show 24 hours"),
    said ? h("p", { class: "problem", role: "alert" }, said) : null);
}

async function ask24() {
  running?.abort();
  const own = (running = new AbortController());
  const progress = h("progress", { max: "24", value: "0", "aria-label": "Hours that are answered" });
  const date = $("at").value.slice(0, 10);
  putKeepingFocus($("view-hours"), firstButton, h("p", { class: "waiting" }, progress, " 24 searches, one an hour ", h("button", { type: "button", class: "small", onclick: () => { own.abort(); idle(); } }, "Stop")));
  const answers = new Array(24);
  const left = [...answers.keys()];
  const worker = async () => {
    while (left.length) {
      const hour = left.shift();
      const body = { ...question({ at: `${date}T${String(hour).padStart(2, "0")}:00` }), k: 5 };
      try {
        answers[hour] = (await ask("POST", "/v1/recommendations", body, { signal: own.signal })).data;
      } catch (error) {
        // Before the first event of the person there is no answer, which is no reason to leave the other hours out.
        if (!(error instanceof Refused) || error.status !== 400) throw error;
        answers[hour] = [];
        answers.problem = error.message;
      }
      progress.value += 1;
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    if (answers.some((items) => items.length)) draw(answers, date);
    else idle(answers.problem);
  } catch (error) {
    if (error.name === "AbortError") return;
    own.abort();
    if (!(error instanceof Refused)) throw error;
    idle(error.message);
  }
}

function draw(answers, date) {
  const best = new Map(); // by id, its title and its largest probability among the first of any hour
  answers.forEach((items) => items.slice(0, SHOWN).forEach((item) => {
    const known = best.get(item.item_id);
    if (!known || item.probability > known.p) best.set(item.item_id, { id: item.item_id, title: item.title, p: item.probability });
  }));
  const rows = [...best.values()].sort((a, b) => b.p - a.p).slice(0, MOST_ROWS);
  const open = (hour) => { $("at").value = picked = `${date}T${String(hour).padStart(2, "0")}:00`; emit("set-context"); };
  const head = answers.map((_, hour) => h("th", { scope: "col" },
    h("button", { type: "button", class: "hour", "aria-label": `Ask about ${hour}:00`, onclick: () => open(hour) }, String(hour))));
  putKeepingFocus($("view-hours"), strip,
    h("p", { class: "hint" }, `${day(`${date}T00:00`)}: probability in per cent; the first of each hour has a frame. An hour opens its list.`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "24 hours" }, h("table", { class: "hours" },
      h("caption", { class: "sr" }, "Probability of the top items by hour"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Item"), head)),
      h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.title), answers.map((items) => hourCell(items, row))))))));
  drawnFor = withoutHour();
  strip().scrollLeft = select().offsetLeft - strip().clientWidth / 2; // on a phone only some hours are in sight
}

// Mark the hour of the request, and give its cell.
function select() {
  const cells = [...$("view-hours").querySelectorAll("thead th + th")];
  const selected = Number($("at").value.slice(11, 13));
  cells.forEach((one, hour) => {
    one.className = hour === selected ? "selected-hour" : "";
    if (hour === selected) one.firstChild.setAttribute("aria-current", "time");
    else one.firstChild.removeAttribute("aria-current");
  });
  return cells[selected];
}

function hourCell(items, row) {
  const at = items.findIndex((item) => item.item_id === row.id);
  if (at < 0) return h("td", { class: "shade none" }, "");
  return cell(items[at].probability, { class: `shade number${at === 0 ? " first" : ""}`, title: `number ${at + 1}, ${percent(items[at].probability)}` });
}
