// The history as a timeline, and the prompt as the model reads it: both from /v1/questions.

import { ask, Refused } from "./api.js";
import { $, day, h, hour, put, whole } from "./dom.js";
import { emit, hasQuestion, question, state } from "./state.js";

let running = null;

export async function showPast() {
  if (!hasQuestion()) return;
  running?.abort();
  running = new AbortController();
  try {
    state.question = await ask("POST", "/v1/questions", question(), { signal: running.signal });
    drawPast(state.question);
    drawPrompt(state.question);
    emit("placed");
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    state.question = null;
    const said = error.needsKey ? "Histories and prompts need the admin key." : error.message;
    $("past-about").textContent = said;
    put($("past"));
    put($("view-prompt"), h("p", { class: "hint" }, said));
  }
}

function drawPast(shown) {
  const more = shown.num_events > shown.events.length ? `, the latest ${shown.events.length} of which are shown` : "";
  $("past-about").textContent = shown.num_events ? `${whole(shown.num_events)} events${more}, latest first. ● has a line in the prompt.` : "Nothing happened before.";
  const days = [];
  for (const event of [...shown.events].reverse()) {
    if (days.at(-1)?.day !== day(event.time)) days.push({ day: day(event.time), events: [] });
    days.at(-1).events.push(event);
  }
  put($("past"), days.map((one) => h("li", {}, h("h3", {}, one.day), h("ol", {}, one.events.map((event) =>
    h("li", { class: event.has_line ? "in-prompt" : "" }, h("time", {}, hour(event.time)), h("span", {}, event.title)))))));
}

const NAMES = { preamble: "instructions", others: "what others did", profile: "profile of older events", event: "past events", question: "the question" };
const FIELDS = ["time", "place", "weather", "title"];

function drawPrompt(shown) {
  const costs = new Map();
  for (const piece of shown.prompt) costs.set(piece.kind, (costs.get(piece.kind) ?? 0) + piece.num_tokens);
  put($("view-prompt"),
    h("p", {}, h("strong", {}, `${whole(shown.prompt_tokens)} of ${whole(shown.budget_tokens)} tokens`), ": ",
      [...costs].map(([kind, num]) => `${NAMES[kind]} ${whole(num)}`).join(", "), "."),
    h("p", { class: "legend" }, FIELDS.map((field) => h("span", { class: `field ${field}` }, field))),
    h("ol", { class: "prompt", tabindex: "0", "aria-label": "The prompt, line by line, with token counts" }, shown.prompt.map((piece) => h("li", { class: piece.kind },
      h("span", { class: "words" }, piece.fields.map(({ field, text }) => fieldText(field, text))),
      h("span", { class: "number", title: "tokens" }, whole(piece.num_tokens))))));
  showQuestion();
}

// The question is what is asked now: it stands at the end of the prompt.
export function showQuestion() {
  const lines = $("view-prompt").querySelector(".prompt");
  if (lines) lines.scrollTop = lines.scrollHeight;
}

// Line ends that only fill the prompt up are counted, not shown as empty lines.
function fieldText(field, text) {
  const ends = text.match(/\n*$/)[0].length;
  const [, before, words, after] = /^(\s*)([^]*?)(\s*)$/.exec(ends ? text.slice(0, -ends) : text);
  return [
    before,
    words && h("span", { class: field === "text" ? "" : `field ${field}` }, words),
    after,
    ends > 1 ? h("span", { class: "ends" }, ` ↵ × ${ends}`) : null,
  ];
}
