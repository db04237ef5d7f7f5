// The beginning: the token in the link becomes a session, then the screen that the address names is shown.

import { html, render, useEffect, useMemo, useState } from "./htm-preact.js";
import { address, usePoll, whenLost } from "./api.js";
import { enter, entered } from "./enter.js";
import { Here, link, useRoute } from "./route.js";
import { Frame } from "./frame.js";
import { Waiting } from "./parts.js";
import { startTheme } from "./theme.js";
import { Screen, isOfRun, loadOthers } from "./screens.js";
import { Sheet } from "./sample.js";

function App() {
  const [session, setSession] = useState(null), [refused, setRefused] = useState(null);
  const take = (asked) => asked.then((found) => { setRefused(null); setSession(found); }, setRefused);
  const again = () => take(enter());
  useEffect(() => {
    whenLost(() => setRefused((old) => old || { status: 401 }));
    const pasted = () => { if (/^#[^/]/.test(location.hash)) again(); };
    addEventListener("hashchange", pasted);
    take(entered);
    return () => removeEventListener("hashchange", pasted);
  }, []);
  if (refused) return html`<${Refused} failure=${refused} again=${again}/>`;
  return session ? html`<${Site} session=${session}/>` : html`<p class="page waiting"
    role="status">Loading …</p>`;
}

/** The page of somebody without a token, or with one that ended. */
function Refused({ failure, again }) {
  const away = failure.status !== 401;
  return html`<main class="page door"><p class="eyebrow">fallow</p>
    <h1>${away ? "The server does not answer" : "Open the link that fallow serve printed"}</h1>
    ${away ? html`<p class="lead">${failure.message}</p>`
      : html`<p class="lead">The link ends with a token, which this page does not have, or which ended: with
        the server that made it, or after 12 hours without use.</p>
    <p>In the terminal where <code>fallow serve</code> runs, the link stands alone on a line:</p>
    <pre class="sample">http://…:8000/#TOKEN</pre>
    <p>With <code>fallow serve RUN --qr</code> a phone reads it with its camera. The training goes on, whether
      somebody watches or not.</p>`}
    <p><button type="button" onClick=${again}>Try again</button></p></main>`;
}

function Site({ session }) {
  const route = useRoute();
  const run = session.single === null ? route.params.run || null : null;
  const alone = session.single !== null;
  const screen = isOfRun(route.screen) || route.screen === "compare" ? route.screen : alone || run ?
    "overview" : "runs";
  const ofRun = isOfRun(screen) && (alone || run);
  const poll = usePoll(ofRun ? address("summary", { run }) : screen === "runs" || screen === "compare" ?
    "api/runs" : null);
  const summary = ofRun ? poll.value : null;
  const version = summary ? `${summary.epochs_done} ${summary.epochs_read} ${summary.run.state}` : "";
  const here = useMemo(() => ({ session, run, alone, screen, params: route.params, summary, version, poll }),
    [session, run, alone, screen, route.params, summary, version, poll]);
  useEffect(() => {
    const name = summary ? ` – ${summary.run.name}` : "";
    document.title = `${screen[0].toUpperCase()}${screen.slice(1)}${name} – fallow`;
  }, [screen, summary?.run.name]);
  useEffect(() => {
    scrollTo(0, 0);
    return () => { document.body.dataset.moved = "1"; };
  }, [screen, run]);
  const filled = Boolean(poll.value);
  useEffect(() => { if (filled) loadOthers(); }, [filled]);
  let shown;
  if (screen === "runs" || screen === "compare") shown = html`<${Screen} name=${screen}/>`;
  else if (!ofRun) shown = html`<${Missing}/>`;
  else if (!summary) shown = poll.failure && !poll.failure.passing ? html`<${Unread}
    failure=${poll.failure}/>` : html`<${Waiting} answer=${poll}
    what="The run"/>`;
  else shown = html`<${Screen} name=${screen}/>`;
  return html`<${Here.Provider} value=${here}><${Frame}>${shown}<//>
    ${summary && route.params.sample !== undefined && html`<${Sheet} index=${route.params.sample}/>`}<//>`;
}

const Missing = () => html`<div class="empty"><h1>Choose a run</h1><p><a href=${link("runs")}>All runs of this
  folder</a></p>
  </div>`;

/** A run that cannot be shown at all. */
function Unread({ failure }) {
  return html`<div class="empty"><h1>This run cannot be shown</h1><p>${failure.message}</p>
    <p><a href=${link("runs")}>All runs</a></p></div>`;
}

startTheme();
render(html`<${App}/>`, document.getElementById("app"));
