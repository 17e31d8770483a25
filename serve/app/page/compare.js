// Two times side by side: the list of the request, and the same person at another time, weather or place.

import { ask, Refused } from "./api.js";
import { $, day, h, here, hour, moved, percent, put } from "./dom.js";
import { hasQuestion, on, question, state, topk, weatherOf } from "./state.js";

export function startCompare() {
  on("loaded", draw);
  on("answered", renew);
  draw();
}

let ownTime = ""; // a second time that was set; without one, the form begins with the first

// Another list stands above: what was compared with the one before is gone, the fields stay.
function renew() {
  put($("compared"));
  $("other-at").value = ownTime || $("at").value || here();
  $("compare").disabled = !hasQuestion() || !state.answer;
}

function draw() {
  const input = (id, type, label, more = {}) => h("div", {}, h("label", { for: id }, label), h("input", { id, type, ...more }));
  const skies = ["", "clear", "rain", "snow", "windy", "storm"].map((sky) => h("option", { value: sky }, sky || "last known"));
  put($("view-compare"),
    h("p", { class: "hint" }, "The list above is for the first time. Say how the second one differs."),
    h("form", { class: "inline", onsubmit: compare },
      input("other-at", "datetime-local", "Second time", { oninput: (event) => { ownTime = event.target.value; } }),
      state.context.weather ? h("div", {}, h("label", { for: "other-sky" }, "Weather"), h("select", { id: "other-sky" }, skies)) : null,
      state.context.weather ? input("other-degrees", "number", "Degrees, °C", { placeholder: "not said" }) : null,
      input("other-latitude", "number", "Latitude", { step: "any", placeholder: "as above" }),
      input("other-longitude", "number", "Longitude", { step: "any", placeholder: "as above" }),
      h("button", { id: "compare", type: "submit", class: "primary" }, "Compare")),
    h("div", { id: "compared", "aria-live": "polite" }));
  renew();
}

async function compare(event) {
  event.preventDefault();
  const value = (id) => $(id)?.value || "";
  const changed = { at: value("other-at") || here() };
  const weather = weatherOf(value("other-sky"), value("other-degrees"));
  if (weather) changed.weather = weather;
  if (value("other-latitude") && value("other-longitude")) Object.assign(changed, { latitude: Number(value("other-latitude")), longitude: Number(value("other-longitude")) });
  put($("compared"), h("p", { class: "waiting" }, h("progress", { "aria-label": "Waiting for the answer" }), " Searching the catalogue."));
  try {
    const other = await ask("POST", "/v1/recommendations", { ...question(changed), k: topk() });
    const first = state.answer;
    put($("compared"), h("div", { class: "columns" },
      column(said(first.body.context), first.data, null),
      column(said(question(changed).context), other.data, new Map(first.data.map((item) => [item.item_id, item.rank])))));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    put($("compared"), h("p", { class: "problem", role: "alert" }, error.message));
  }
}

const said = (context) => [`${day(context.at)}, ${hour(context.at)}`, context.weather, context.latitude !== undefined && `${context.latitude}, ${context.longitude}`].filter(Boolean).join(" · ");

function column(title, items, before) {
  const top = items[0]?.probability || 1;
  return h("section", {}, h("h3", {}, title), h("ol", { class: "list narrow" }, items.map((item) => {
    const change = before && moved(before.get(item.item_id), item.rank);
    return h("li", { class: "item" },
      h("span", { class: "rank", "aria-hidden": "true" }, String(item.rank)),
      h("div", { class: "what" }, h("span", { class: "title" }, item.title), change && h("span", { class: `moved ${change.kind}` }, h("span", { "aria-hidden": "true" }, change.text), h("span", { class: "sr" }, change.said))),
      h("span", { class: "bar", "aria-hidden": "true", "--share": Math.max(0.004, item.probability / top) }),
      h("span", { class: "probability" }, percent(item.probability)));
  })));
}
