// The runs of a folder: which of them run, how far they are, and what they reached.

import { html, useContext, useState } from "./htm-preact.js";
import { Here, link } from "./route.js";
import { Empty, State, Title, Waiting, moveFocus } from "./parts.js";
import { ago, count, percent, plural, reached } from "./words.js";

const MANY = 8;

export function Runs() {
  const { poll, session } = useContext(Here), [word, setWord] = useState("");
  if (!poll.value) return html`<${Title}>Runs<//><${Waiting} answer=${poll} what="The runs"/>`;
  const { runs, links } = poll.value, sought = word.trim().toLowerCase();
  const shown = runs.filter((row) => [row.name, row.data, row.policy, row.state].some((part) =>
    (part || "").toLowerCase().includes(sought)));
  const states = Object.entries(runs.reduce((all, { state }) => ({ ...all, [state]: (all[state] || 0) + 1 }),
    {}));
  return html`<p class="eyebrow">folder <bdi>${session.folder}</bdi></p><${Title}>Runs<//>
    ${runs.length > 0 && html`<p class="said">${plural(runs.length, "run")}: ${states
      .map(([state, size]) => `${count(size)} ${state}`).join(", ")}. The newest stand first.</p>`}
    ${runs.length > MANY && html`<p><label>Find <input type="search" value=${word}
      onInput=${(event) => setWord(event.target.value)}
        placeholder="name, data, policy, state"/></label></p>`}
    ${runs.length === 0 && html`<${Empty} title="No run in this folder yet"><p>A training that writes here
      appears by itself:</p>
      <p><code>fallow train --data digits --out FOLDER/first</code></p><//>`}
    ${runs.length > 0 && shown.length === 0 && html`<p class="waiting" role="status">No run has these
      words.</p>`}
    <ul class="runs" onKeyDown=${moveFocus}>${shown.map((row) => html`<${Row} key=${row.id}
      row=${row}/>`)}</ul>
    ${links.length > 0 && html`<p class="remarks">Links are not followed: ${links.map((name, i) =>
      html`${i > 0 && ", "}<bdi>${name}</bdi>`)}. Serve what one leads to by its own
      name: <code>fallow serve FOLDER</code></p>`}`;
}

function Row({ row }) {
  const share = row.epochs ? row.epochs_done / row.epochs : null;
  return html`<li><a class="run" href=${link("overview", { run: row.id })}>
    <span class="title"><bdi>${row.name}</bdi></span><${State} row=${row}/>
    <span class="about small">${row.damage ? html`<bdi>${row.damage}</bdi>` :
      html`<bdi>${[row.data, row.policy]
      .filter(Boolean).join(" · ") || "–"}</bdi>`}</span>
    <span class="line"><svg class="bar-line" aria-hidden="true" focusable="false"><rect class="back"
      width="100%" height="100%"/>
      <rect class="f-kept" width=${`${100 * Math.min(1, share ?? 0)}%`} height="100%"/></svg></span>
    <span class="cell"><span class="key">epoch</span> ${count(row.epochs_done)}${row.epochs ?
      ` of ${count(row.epochs)}` : ""}
      </span>
    <span class="cell"><span class="key">saved</span> ${percent(row.saved_fraction)}</span>
    <span class="cell"><span class="key">reached</span> ${reached(row)}</span>
    <span class="cell"><span class="key">wrote</span> ${row.changed_at ?
      ago(Math.max(0, Date.now() / 1000 - row.changed_at)) : "–"}</span>
  </a></li>`;
}
