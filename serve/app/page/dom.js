// Elements, and how numbers and times are written.

export const $ = (id) => document.getElementById(id);

// An element: text is always text, never markup.
export function h(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name.startsWith("--")) made.style.setProperty(name, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const put = (element, ...children) => element.replaceChildren(...children.flat(Infinity).filter(Boolean));

// Change what stands in an element. If the focus was there and its place is gone, `next` of the new content gets it.
export function putKeepingFocus(element, next, ...children) {
  const hadFocus = element.contains(document.activeElement);
  put(element, ...children);
  if (hadFocus) next()?.focus({ preventScroll: true });
}

export function percent(p) {
  if (p >= 0.1) return `${(100 * p).toFixed(0)}\u00a0%`;
  if (p >= 0.001) return `${(100 * p).toFixed(1)}\u00a0%`;
  return p > 0 ? "<\u00a00.1\u00a0%" : "0\u00a0%";
}

export const whole = (n) => Number(n).toLocaleString("en-US", { maximumFractionDigits: 0 });

export const km = (d) => (d < 1 ? `${Math.round(d * 1000)} m` : d < 100 ? `${d.toFixed(1)} km` : `${whole(d)} km`);

export const signed = (x, digits = 2) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;

// A local time as `datetime-local` wants it; dates here are only numbers of a clock, without any zone.
export const clock = (date) => date.toISOString().slice(0, 16);

export const parsed = (at) => new Date(`${at.slice(0, 19)}${at.length > 16 ? "" : ":00"}Z`);

export function shifted(at, hours) {
  return clock(new Date(parsed(at).getTime() + 3600e3 * hours));
}

export function here() {
  const now = new Date();
  return clock(new Date(now.getTime() - 60e3 * now.getTimezoneOffset()));
}

const DAY = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
export const day = (at) => DAY.format(parsed(at));
export const hour = (at) => at.slice(11, 16);

export function moved(before, now) {
  if (before === undefined) return { text: "new", kind: "up", said: "new in the list" };
  if (before === now) return null;
  const by = Math.abs(before - now);
  return before > now
    ? { text: `▲ ${by}`, kind: "up", said: `up by ${by}` }
    : { text: `▼ ${by}`, kind: "down", said: `down by ${by}` };
}

export function debounced(run, wait = 200) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), wait);
  };
}
