// Questions to the server. Every answer is kept with its ETag, so that what has not changed is not sent
// again.

const MOST = 80, SOON = 5000;
const kept = new Map(), begun = new Map(), given = new Map();
let lost = () => {};

/** An answer that did not come: `code` is the server's word, or "away" where nothing answers. */
export class Failure extends Error {
  constructor(message, code, status) {
    super(message);
    Object.assign(this, { code, status });
  }

  get passing() { return this.code === "away" || this.code === "early" || this.status === 429 ||
    (this.status >= 500 && this.code !== "damaged"); }
}

/** Name what is done where the server no longer knows the session. */
export function whenLost(work) { lost = work; }

/** The address of a question; null, undefined, false and "" are left out, true is 1, lists repeat. */
export function address(path, params = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== false && one !== "") search.append(name, one === true ?
        1 : one);
    }
  }
  const query = search.toString();
  return query ? `api/${path}?${query}` : `api/${path}`;
}

async function sent(url, options) {
  let response, body = {};
  try {
    response = await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
    if (response.status !== 304) body = await response.json().catch(() => ({}));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server does not answer.", "away", 0);
  }
  if (response.status >= 400) {
    if (response.status === 401) lost();
    throw new Failure(body.error || `The server answers ${response.status}.`, body.code || "unknown",
      response.status);
  }
  return { response, body };
}

const pause = (time, signal) => new Promise((done, failed) => {
  const timer = setTimeout(done, time);
  signal?.addEventListener("abort", () => { clearTimeout(timer); failed(new DOMException("", "AbortError"));
    });
});

/** Ask before anybody waits for the answer: who asks within five seconds gets this one. */
export function begin(url) {
  const answer = ask(url);
  answer.catch(() => {}); // who asks first hears of it
  begun.set(url, { answer, at: Date.now() });
  return answer;
}

/** Keep an answer that came along with another one. */
export const give = (url, value) => given.set(url, value);

/** Take such an answer, once; undefined if there is none. */
export function taken(url) {
  const value = given.get(url);
  given.delete(url);
  return value;
}

/** Ask, and ask again while the server still calculates; the same answer is the same object. */
export async function ask(url, { signal, pending } = {}) {
  const waits = begun.get(url);
  if (begun.delete(url) && Date.now() - waits.at < SOON) return waits.answer;
  for (;;) {
    const known = kept.get(url);
    const { response, body } = await sent(url, { signal, headers: known ? { "If-None-Match": known.tag } :
      {} });
    if (response.status === 304) return known.value;
    if (response.status !== 202) {
      const tag = response.headers.get("ETag");
      kept.delete(url);
      if (tag) kept.set(url, { tag, value: body });
      if (kept.size > MOST) kept.delete(kept.keys().next().value);
      return body;
    }
    pending?.();
    await pause(1000, signal);
  }
}

export async function post(path, value) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify(value) };
  return (await sent(`api/${path}`, options)).body;
}
