// Requests to this server, with the key of this tab, and errors as sentences.

const KEY = "whereupon-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
  get needsKey() {
    return this.status === 401 || this.status === 403;
  }
}

export const key = () => sessionStorage.getItem(KEY) || "";

export function useKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

// The JSON that a route answers with. Throws Refused with the server's own sentence; `onHeaders` marks its arrival.
export async function ask(method, path, body, { signal, onHeaders } = {}) {
  const headers = key() ? { Authorization: `Bearer ${key()}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    // Relative to the page, so that a proxy may put the server below any path.
    response = await fetch(`.${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer. Is it running? Ask again in a moment.");
  }
  onHeaders?.();
  if (response.ok) return response.json();
  let said = `The server answered with the status ${response.status}.`;
  try {
    said = (await response.json()).error.message;
  } catch { /* an answer of something between here and the server */ }
  throw new Refused(response.status, said);
}

export async function text(path) {
  const response = await fetch(`.${path}`);
  if (!response.ok) throw new Refused(response.status, `${path} answered with the status ${response.status}.`);
  return response.text();
}
