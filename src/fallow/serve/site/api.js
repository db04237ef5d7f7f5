// Answers as components see them: asked once, or all the time.

import { useEffect, useState } from "./htm-preact.js";
import { ask, taken } from "./ask.js";

export { Failure, address, ask, post, whenLost } from "./ask.js";

const SEEN = 2000, HIDDEN = 30000, LONGEST = 30000;

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

function first(url) {
  const value = taken(url);
  return value ? { url, value, at: Date.now() } : { url: null };
}

/** The answer to a question that is asked all the time: often while the page is seen, seldom while the server
    is away. */
export function usePoll(url) {
  const [state, setState] = useState(() => first(url));
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
    if (state.url === url && state.value) timer = setTimeout(go, SEEN);
    else go();
    return () => {
      document.removeEventListener("visibilitychange", seen);
      removeEventListener("online", go);
      clearTimeout(timer);
      stop?.abort();
    };
  }, [url]);
  return state.url === url ? state : { url };
}
