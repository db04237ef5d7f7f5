// Where the page is: #/screen?name=value. What follows # without a slash is a token, which main.js takes
// away.

import { createContext, useEffect, useState } from "./htm-preact.js";

/** What every screen knows: session, run, summary, version of the data, params of the address. */
export const Here = createContext(null);

export function readRoute() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { screen: path || "", params: Object.fromEntries(new URLSearchParams(query || "")) };
}

export function link(screen, params = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) search.set(name,
      value === true ? "1" : value);
  }
  const query = search.toString();
  return `#/${screen}${query ? `?${query}` : ""}`;
}

/** Go to an address; `replace` leaves no step back. */
export function go(hash, replace = false) {
  if (replace) {
    history.replaceState(history.state, "", hash);
    dispatchEvent(new HashChangeEvent("hashchange"));
  } else location.hash = hash;
}

export function useRoute() {
  const [route, setRoute] = useState(readRoute);
  useEffect(() => {
    const changed = () => { if (/^#?(\/|$)/.test(location.hash)) setRoute(readRoute()); };
    addEventListener("hashchange", changed);
    changed(); // the address may have changed since it was read
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}
