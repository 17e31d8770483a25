// Why an item stands where it stands, and what each ranker alone would say.

import { $, h, percent, put, signed } from "./dom.js";
import { state } from "./state.js";

// The sentence, and a bar for each group of the prompt.
export function whyOf(why, isOpen) {
  const shares = why.groups.filter((share) => share.log_prob !== null);
  const parts = why.parts.filter((part) => part.name === "model" || Math.abs(part.log_odds) >= 0.005);
  return h("details", { class: "why", open: isOpen },
    h("summary", {}, why.sentence),
    shares.length ? h("h3", {}, "What the prompt adds ", h("span", { class: "unit" }, "nats of log-probability")) : null,
    shares.length ? bars(shares.map((share) => [share.group, share.log_prob, without(share)])) : null,
    parts.length ? h("h3", {}, `What model and rankers add, against ${titleOf(why.against)} `, h("span", { class: "unit" }, "nats of log-odds")) : null,
    parts.length ? bars(parts.map((part) => [part.name, part.log_odds, ""])) : null,
    why.events.length ? h("h3", {}, "Past events that matter most") : null,
    why.events.length ? h("ul", { class: "mattering" }, why.events.map((event) =>
      h("li", {}, h("span", { class: "number" }, signed(event.log_prob)), ` ${event.title} `, h("time", {}, event.time.replace("T", " "))))) : null);
}

function without(share) {
  const place = share.without.rank === null ? "not listed" : `number ${share.without.rank}`;
  return `without: ${place}, ${percent(share.without.probability)}`;
}

function bars(rows) {
  const most = Math.max(0.01, ...rows.map(([, value]) => Math.abs(value)));
  return h("table", { class: "shares" }, h("tbody", {}, rows.map(([name, value, more]) => h("tr", {},
    h("th", { scope: "row" }, name),
    h("td", { class: "number" }, signed(value)),
    h("td", { class: "diverging", "aria-hidden": "true" }, h("span", { class: value < 0 ? "minus" : "plus", "--share": Math.abs(value) / most })),
    h("td", { class: "more-said" }, more)))));
}

const titleOf = (id) => state.answer.data.find((item) => item.item_id === id)?.title || id;

// Each part's log-odds against the first item give a ranking of its own among the items of the list.
export function drawRankers() {
  const explanation = state.answer?.explanation;
  if (!explanation) {
    put($("view-rankers"), h("p", { class: "hint" }, "Ask “Why these?” above the list: then the order that model and rankers would each give alone stands here."));
    return;
  }
  const items = explanation.items;
  const oddsOf = (name) => items.map((why, at) => (at ? why.parts.find((part) => part.name === name)?.log_odds ?? 0 : 0));
  const all = items[0]?.parts.map((part) => part.name) ?? [];
  const names = all.filter((name) => name === "model" || oddsOf(name).some((odds) => Math.abs(odds) >= 0.005)); // what decides nothing is left out
  if (items.length < 2 || !names.length) {
    put($("view-rankers"), h("p", { class: "hint" }, "With fewer than two items there is nothing to compare."));
    return;
  }
  const columns = [...names.map((name) => [name, oddsOf(name)]), ["all together", items.map((why, at) => (at ? why.log_odds : 0))]];
  put($("view-rankers"),
    h("p", { class: "hint" }, "How the items of the list would share 100 % if one part alone decided among them. The parts multiply: all together they give the list."),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rankers" }, h("table", { class: "rankers" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Item"), columns.map(([name]) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, items.map((why, at) => h("tr", {}, h("th", { scope: "row" }, why.title), columns.map(([, odds]) => cell(shareOf(odds, at)))))))));
}

function shareOf(odds, at) {
  const top = Math.max(...odds);
  const all = odds.map((value) => Math.exp(value - top));
  return all[at] / all.reduce((a, b) => a + b, 0);
}

export const cell = (p, extra = {}) => h("td", { class: "shade number", "--share": p, ...extra }, p >= 0.01 ? (100 * p).toFixed(0) : "·");
