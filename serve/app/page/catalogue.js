// Search in the catalogue; adding, changing and taking out items with the admin key.

import { ask, Refused } from "./api.js";
import { $, debounced, h, put, putKeepingFocus, whole } from "./dom.js";
import { emit, hasQuestion, on, state } from "./state.js";

const PAGE = 20;
let query = "";
let offset = 0;

const path = (more = "") => `/v1/catalogues/${encodeURIComponent(state.catalogue.name)}${more}`;

export function startCatalogue() {
  on("shown-catalogue", () => { if (!$("catalogue-query")) draw(); });
}

function draw() {
  if (!state.catalogue) return put($("view-catalogue"), h("p", { class: "hint" }, "The catalogue needs the API key."));
  const search = debounced(() => { query = $("catalogue-query").value.trim(); offset = 0; list(); });
  put($("view-catalogue"),
    h("div", { class: "inline" },
      h("div", { class: "wide" }, h("label", { for: "catalogue-query" }, "Title or id"), h("input", { id: "catalogue-query", type: "search", autocomplete: "off", oninput: search })),
      h("button", { type: "button", onclick: () => edit(null) }, "Add an item")),
    h("p", { id: "catalogue-said", class: "hint", role: "status" }),
    h("div", { id: "catalogue-problem" }),
    h("div", { id: "catalogue-rows", class: "scroll", tabindex: "0", role: "region", "aria-label": "Items of the catalogue" }));
  list();
}

async function list(note = "") {
  put($("catalogue-problem"));
  try {
    const found = await ask("GET", path(`?limit=${PAGE}&offset=${offset}&query=${encodeURIComponent(query)}`));
    found.data.forEach((row) => state.items.set(row.item_id, row));
    const last = offset + found.data.length;
    $("catalogue-said").textContent = `${note}${found.num_found ? `Items ${whole(offset + 1)} to ${whole(last)} of ${whole(found.num_found)}` : "No item has this text"}; version ${found.version}.`;
    const columns = found.columns.slice(0, 5);
    putKeepingFocus($("catalogue-rows"), () => $("catalogue-rows"),
      h("table", { class: "rows" },
        h("thead", {}, h("tr", {}, ["Title", "Id", ...columns, "Edit"].map((name) => h("th", { scope: "col", class: typeof found.data[0]?.[name] === "number" ? "number" : "" }, name)))),
        h("tbody", {}, found.data.map((row) => h("tr", {},
          h("th", { scope: "row" }, row.title), h("td", { class: "id" }, row.item_id),
          columns.map((name) => h("td", { class: typeof row[name] === "number" ? "number" : "" }, shown(row[name]))),
          h("td", { class: "buttons" },
            h("button", { type: "button", class: "small", "aria-label": `Edit ${row.title}`, onclick: () => edit(row, found.columns) }, "Edit"),
            h("button", { type: "button", class: "small quiet", "aria-label": `Take out ${row.title}`, onclick: () => takeOut(row) }, "Take out")))))),
      h("p", { class: "buttons" },
        h("button", { type: "button", disabled: !offset, onclick: () => { offset -= PAGE; list(); } }, "Earlier"),
        h("button", { type: "button", disabled: !found.has_more, onclick: () => { offset += PAGE; list(); } }, "Later")));
  } catch (error) {
    failed(error);
  }
}

const shown = (value) => (value === null || value === undefined ? "" : typeof value === "number" ? String(Math.round(value * 1e5) / 1e5) : String(value));

function failed(error) {
  if (!(error instanceof Refused)) throw error;
  put($("catalogue-problem"), h("p", { class: "problem", role: "alert" }, error.message));
}

// What a text field says, of the kind that the column has so far.
function valueOf(text, before, column) {
  if (text === "") return null;
  if (typeof before === "number" || ["latitude", "longitude"].includes(column)) return Number(text);
  if (typeof before === "boolean") return text === "true";
  return text;
}

function kindOf(column) {
  for (const row of state.items.values()) if (row[column] !== null && row[column] !== undefined) return row[column];
  return "";
}

function edit(row, columns = state.catalogue.columns) {
  const dialog = $("item-dialog");
  const fields = [...(row ? [] : ["item_id"]), "title", ...columns];
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const save = async (event) => {
    event.preventDefault();
    const item = row ? { item_id: row.item_id } : {};
    for (const name of fields) {
      const text = $(`field-${name}`).value.trim();
      const value = ["item_id", "title"].includes(name) ? text || null : valueOf(text, kindOf(name), name);
      if (value !== null || (row && row[name] !== null)) item[name] = value;
    }
    try {
      await ask(row ? "PUT" : "POST", path("/items"), { items: [item] });
      dialog.close();
      await changed(`“${item.title ?? item.item_id}” is saved. `);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      problem.hidden = false;
      problem.textContent = error.message;
    }
  };
  put(dialog, h("form", { onsubmit: save },
    h("h2", { id: "item-title" }, row ? `Edit ${row.title}` : "Add an item"), problem,
    fields.map((name) => h("div", {}, h("label", { for: `field-${name}` }, name), h("input", { id: `field-${name}`, autocomplete: "off", value: row ? shown(row[name]) : "" }))),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Save"), h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"))));
  dialog.showModal();
}

function takeOut(row) {
  const dialog = $("item-dialog");
  const confirm = async (event) => {
    event.preventDefault();
    dialog.close();
    try {
      await ask("DELETE", path("/items"), { item_ids: [row.item_id] });
      state.items.delete(row.item_id);
      await changed(`“${row.title}” is taken out. `);
    } catch (error) {
      failed(error);
    }
  };
  put(dialog, h("form", { onsubmit: confirm },
    h("h2", { id: "item-title" }, "Take out an item"), h("p", {}, `“${row.title}” will not be recommended any more. Histories show it as before.`),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Take it out"), h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"))));
  dialog.showModal();
}

async function changed(note) {
  state.catalogue = (await ask("GET", "/v1/catalogues")).data[0];
  $("about").textContent = `${state.catalogue.name} · ${whole(state.catalogue.num_items)} items`;
  await list(note);
  if (hasQuestion()) emit("set-context");
}
