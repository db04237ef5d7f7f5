// Questions to the server. Every answer is kept with its ETag, so that what has not changed is not sent
// again.

import { useEffect, useState } from "./htm-preact.js";

const SEEN = 2000, HIDDEN = 30000, LONGEST = 30000, MOST = 80;
const kept = new Map();
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

/** Ask, and ask again while the server still calculates; the same answer is the same object. */
export async function ask(url, { signal, pending } = {}) {
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

/** The answer to a question as { value, failure, pending }, asked again when `version` changes; null asks
    nothing. */
export function useAnswer(url, version = 0) {
  const [state, setState] = useState({ url: null });
  useEffect(() => {
    if (!url) return undefined;
    const stop = new AbortController();
    let timer, tries = 0;
    const before = (old) => (old.url === url ? old.value : undefined);
    const pending = () => setState((old) => ({ url, value: before(old), pending: true }));
    const go = async () => {
      try {
        const value = await ask(url, { signal: stop.signal, pending });
        setState({ url, value });
      } catch (failure) {
        if (stop.signal.aborted) return;
        setState((old) => ({ url, value: before(old), failure }));
        if (failure.passing) timer = setTimeout(go, Math.min(LONGEST, SEEN * 2 ** tries++));
      }
    };
    go();
    return () => { stop.abort(); clearTimeout(timer); };
  }, [url, version]);
  return state.url === url ? state : { url };
}

/** The answer to a question that is asked all the time: often while the page is seen, seldom while the server
    is away. */
export function usePoll(url) {
  const [state, setState] = useState({ url: null });
  useEffect(() => {
    if (!url) return undefined;
    let timer, stop = null, tries = 0;
    const go = async () => {
      clearTimeout(timer);
      stop?.abort();
      const own = stop = new AbortController();
      try {
        const value = await ask(url, { signal: own.signal });
        tries = 0;
        setState({ url, value, at: Date.now(), now: go });
        timer = setTimeout(go, document.hidden ? HIDDEN : SEEN);
      } catch (failure) {
        if (own.signal.aborted) return;
        const wait = Math.min(LONGEST, SEEN * 2 ** tries++);
        setState((old) => ({ ...(old.url === url ? old : { url }), failure, next: Date.now() + wait,
          now: go }));
        if (failure.status !== 401) timer = setTimeout(go, wait);
      }
    };
    const seen = () => { if (!document.hidden) go(); };
    document.addEventListener("visibilitychange", seen);
    addEventListener("online", go);
    go();
    return () => {
      document.removeEventListener("visibilitychange", seen);
      removeEventListener("online", go);
      clearTimeout(timer);
      stop?.abort();
    };
  }, [url]);
  return state.url === url ? state : { url };
}
