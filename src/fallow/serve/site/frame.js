// What is around every screen: where one is, how the run does, and where one can go.

import { html, useContext, useEffect, useState } from "./htm-preact.js";
import { Here, link } from "./route.js";
import { State, moveFocus } from "./parts.js";
import { theme, toggleTheme } from "./theme.js";
import { ago, count, plural } from "./words.js";

export const PLACES = [
  ["overview", "Overview", "▦"], ["scores", "Scores", "∿"], ["usage", "Usage", "▤"],
    ["browse", "Browse", "▢"],
  ["suspects", "Suspects", "≠"], ["gaps", "Gaps", "◌"], ["health", "Health", "♡"],
];
const BOTTOM = ["overview", "usage", "browse", "gaps"];

export function Frame({ children }) {
  const here = useContext(Here), { summary, screen, run, alone } = here;
  const ofRun = screen !== "runs" && screen !== "compare";
  const skip = (event) => { event.preventDefault(); document.getElementById("main").focus(); };
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top"><div class="inner">
      <p class="brand"><a href=${alone ? link("overview") : link("runs")}>fallow</a></p>
      ${ofRun && html`<p class="name">${summary ? html`<bdi>${summary.run.name}</bdi>` : "…"}</p>`}
      ${!ofRun && html`<p class="name"><bdi>${here.session.folder}</bdi></p>`}
      ${summary && html`<p class="how"><${State} row=${summary.run}/>
        <span class="epoch">epoch ${summary.epochs_done}/${summary.epochs ?? "?"}</span>
        ${summary.alerts.length > 0 && html`<a class="bell" href=${link("overview", { run })}><span
          aria-hidden="true">▲</span> ${plural(summary.alerts.length, "alert")}</a>`}</p>`}
      <p class="fresh"><${Fresh} poll=${here.poll}/>
        <span class="badge rights">${here.session.scopes.includes("write") ? "may tick" :
          "read-only"}</span><${Toggle}/></p>
    </div></header>
    ${(ofRun || !alone) && html`<nav class="places" aria-label="Screens" onKeyDown=${moveFocus}><ul>
      ${!alone && html`<li class="wide-only"><a href=${link("runs")} aria-current=${screen === "runs" ?
        "page" : null}>Runs</a>
        </li>`}
      ${ofRun && PLACES.map(([place, name, sign]) => html`<li class=${BOTTOM.includes(place) ? "" :
        "wide-only"}><a
        href=${link(place, { run })}
        aria-current=${screen === place ? "page" : null}><span class="sign"
          aria-hidden="true">${sign}</span>${name}</a></li>`)}
      ${!alone && html`<li class=${ofRun ? "wide-only" : ""}><a href=${link("compare", { with: run })}
        aria-current=${screen === "compare" ? "page" : null}>Compare</a></li>`}
      ${!ofRun && html`<li class="narrow-only"><a href=${link("runs")}
        aria-current=${screen === "runs" ? "page" : null}>Runs</a>
        </li>`}
      ${ofRun && html`<li class="narrow-only"><a href=${link("more", { run })}
        aria-current=${BOTTOM.includes(screen) ? null : "page"}><span class="sign"
          aria-hidden="true">⋯</span>More</a></li>`}
    </ul></nav>`}
    <${Away} poll=${here.poll}/>
    <main id="main" class="page" tabindex="-1" data-screen=${screen}>${
      screen !== "overview" && html`<${Unread}/>`}${
      children}</main>`;
}

/** Finished epochs that cannot be read: what the counts of a screen are over. */
function Unread() {
  const { summary, run } = useContext(Here);
  const gone = summary?.epochs_read ? summary.epochs_done - summary.epochs_read : 0;
  return gone > 0 && html`<p class="remarks">Counts are over ${count(summary.epochs_read)} of ${
    plural(summary.epochs_done, "epoch")}: ${count(gone)} cannot be read. <a
    href=${link("health", { run })}>Health</a></p>`;
}

/** Say again each second how old something is. */
function useSeconds() {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => { if (!document.hidden) tick((old) => old + 1); }, 1000);
    return () => clearInterval(timer);
  }, []);
}

function Fresh({ poll }) {
  useSeconds();
  return poll.at ? html`<span class="small">updated ${ago((Date.now() - poll.at) / 1000)}</span>` : null;
}

/** The server is away: what is shown is old, and when it is asked again. */
function Away({ poll }) {
  useSeconds();
  const away = poll.failure && poll.value;
  const wait = away && poll.failure.passing ? Math.max(0, Math.ceil((poll.next - Date.now()) / 1000)) : 0;
  return html`<div class="away" role="status">${away && html`<p><strong>${poll.failure.message}
    </strong> What is shown is as it was ${ago((Date.now() - poll.at) / 1000)}. The training does not need the
      server.</p>`}</div>
    ${away && html`<p class="away-again"><button type="button" onClick=${poll.now}>Try now</button> <span
      class="small">tries again ${wait ? `in ${wait} s` : "now"}</span></p>`}`;
}

export function Toggle() {
  const [dark, setDark] = useState(theme() === "dark");
  useEffect(() => {
    const changed = () => setDark(theme() === "dark");
    addEventListener("fallow-theme", changed);
    return () => removeEventListener("fallow-theme", changed);
  }, []);
  return html`<button type="button" class="toggle" onClick=${toggleTheme}>${dark ? "Light" :
    "Dark"}</button>`;
}
