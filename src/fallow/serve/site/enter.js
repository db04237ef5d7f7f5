// The first questions, asked while most of the page is still on its way.

import { address, ask, begin, give, post } from "./ask.js";

/** Take the token out of the address, and exchange it; without one, ask whether there is a session. */
export async function enter() {
  const token = location.hash.slice(1);
  if (!token || token.startsWith("/")) return ask("api/session");
  history.replaceState(null, "", location.pathname + location.search);
  return post("session", { token });
}

/** Ask what the first screen will ask. */
async function ahead({ single, summary }) {
  const [screen, query] = location.hash.replace(/^#\/?/, "").split("?");
  const run = single === null ? new URLSearchParams(query).get("run") : null;
  if (screen === "compare" || (single === null && !run)) {
    if (single === null) begin("api/runs");
    return;
  }
  const url = address("summary", { run });
  if (summary) give(url, summary);
  const { epochs_read: read } = summary || await begin(url);
  if (read && (screen === "" || screen === "overview")) begin(address("epochs", { run }));
}

/** The session of this page; what it cannot have is said by who asks for it. */
export const entered = enter();
entered.then(ahead).catch(() => {});
