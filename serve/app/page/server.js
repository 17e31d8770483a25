// How the server is: /health for the mark at the top, /metrics for the panel.

import { text } from "./api.js";
import { $, h, percent, put, whole } from "./dom.js";
import { on } from "./state.js";

const EVERY_MS = 5000;

export function startServer() {
  const look = () => { if (!document.hidden) health(); };
  look();
  setInterval(look, 6 * EVERY_MS);
  on("shown-server", metrics);
  on("answered", () => { if (!$("view-server").hidden) metrics(); });
  setInterval(() => { if (!document.hidden && !$("view-server").hidden) metrics(); }, EVERY_MS);
}

async function health() {
  let isWell = true;
  try {
    await text("/health");
  } catch {
    isWell = false;
  }
  const said = isWell ? "ready" : "not ready";
  if ($("state").textContent !== said) $("state").textContent = said;
  $("state").className = `state ${isWell ? "well" : "ill"}`;
}

// Sums over the labels of each name; of histograms the buckets, by their upper end.
export function readMetrics(lines) {
  const sum = new Map(), buckets = new Map();
  for (const line of lines.split("\n")) {
    const found = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const [, name, labels = "", value] = found;
    const le = /le="([^"]+)"/.exec(labels);
    const exact = /exact="(\w+)"/.exec(labels);
    sum.set(name, (sum.get(name) ?? 0) + Number(value));
    if (exact) sum.set(`${name}:${exact[1]}`, (sum.get(`${name}:${exact[1]}`) ?? 0) + Number(value));
    if (le && name.endsWith("_bucket")) {
      const base = name.slice(0, -7);
      if (!buckets.has(base)) buckets.set(base, []);
      buckets.get(base).push([le[1] === "+Inf" ? Infinity : Number(le[1]), Number(value)]);
    }
  }
  return { sum, buckets };
}

// A quantile of a histogram, by the upper end of its bucket.
function quantile(buckets, share) {
  const all = buckets?.at(-1)?.[1] ?? 0;
  return all ? buckets.find(([, num]) => num >= share * all)[0] : null;
}

async function metrics() {
  let said;
  try {
    said = readMetrics(await text("/metrics"));
  } catch (error) {
    return put($("view-server"), h("p", { class: "problem", role: "alert" }, error.message));
  }
  const { sum, buckets } = said;
  const get = (name) => sum.get(name) ?? 0;
  const seconds = buckets.get("whereupon_search_seconds");
  const finished = get("whereupon_searches_total");
  const requested = get("whereupon_requested_tokens_total");
  const upTo = (share) => { const end = quantile(seconds, share); return end === null ? "none yet" : end === Infinity ? "over 60 s" : `≤ ${end} s`; };
  const tiles = [
    ["Searches running", whole(get("whereupon_searches_running"))],
    ["Searches finished", whole(finished)],
    ["Of them exact", finished ? percent(get("whereupon_searches_total:true") / finished) : "none yet"],
    ["Median of a search", upTo(0.5)],
    ["95 % of searches", upTo(0.95)],
    ["Requests refused", whole(get("whereupon_requests_refused_total"))],
    ["Searches given up", whole(get("whereupon_searches_abandoned_total"))],
    ["Prompt tokens", whole(get("whereupon_prompt_tokens_total"))],
    ["Tokens from the cache", requested ? percent(get("whereupon_cached_tokens_total") / requested) : "none yet"],
    ["KV cache in use", percent(get("vllm:kv_cache_usage_perc"))],
    ["Items", whole(get("whereupon_catalogue_items"))],
    ["Catalogue edits", whole(get("whereupon_catalogue_edits_total"))],
  ];
  put($("view-server"),
    h("p", { class: "hint" }, "Since the start of the server, from /metrics, every five seconds."),
    h("dl", { class: "tiles" }, tiles.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}
