// Files, versions, settings, and who can reach this server.

import { html, useContext, useState } from "./htm-preact.js";
import { address, useAnswer } from "./api.js";
import { Here } from "./route.js";
import { Fold, State, Table, Title, Waiting } from "./parts.js";
import { count, duration, plural } from "./words.js";

const Facts = ({ pairs }) => html`<dl class="settings">${pairs.filter(([, value]) => value !== null &&
  value !== undefined
  && value !== "").map(([key, value]) => html`<div><dt>${key}</dt><dd>${typeof value === "string" ?
    html`<bdi>${value}
  </bdi>` : value}</dd></div>`)}</dl>`;

const when = (iso) => (iso ? new Date(iso).toLocaleString() : null);

export function Health() {
  const { run, version } = useContext(Here), [verify, setVerify] = useState(false);
  const answer = useAnswer(address("health", { run }), version), checked = useAnswer(verify ?
    address("health", { run, verify: 1 }) : null, version);
  if (!answer.value) return html`<${Title}>Health<//><${Waiting} answer=${answer}
    what="The health of the run"/>`;
  const { server, run: found } = answer.value;
  return html`<${Title}>Health<//>
    ${found && html`<section aria-labelledby="h-run"><h2 id="h-run">The run</h2><p><${State} row=${found.row}
      long/></p>
      ${found.problems.length ? html`<ul class="remarks">${found.problems.map((one) =>
        html`<li><bdi>${one.file}</bdi>: <bdi>
        ${one.problem}</bdi></li>`)}</ul>` : html`<p class="said">No damage in what this server has
          read of the run.</p>`}
      <${Facts} pairs=${[["last write", when(found.last_write)],
        ["usual epoch", found.usual_epoch_seconds === null ? null : duration(found.usual_epoch_seconds)],
        ["state in use", found.generation === null ? null : `generation ${found.generation}`],
        ["samples", found.samples === null ? null : count(found.samples)],
          ["held out", found.held_out === null ? null : count(found.held_out)],
          ["fingerprint of the data", found.fingerprint]]}/>
      <h3>Checksums</h3>${!verify ? html`<p><button type="button"
        onClick=${() => setVerify(true)}>Compare every file with its checksum</button></p><p
        class="note">Reads the whole run, which may take long.</p>`
        : checked.value ? html`<${Verified} found=${checked.value.run.verified}/>` :
          html`<${Waiting} answer=${checked}
          what="The comparison of all files"/>`}</section>`}
    <section aria-labelledby="h-server"><h2 id="h-server">This server</h2><p class="said">It listens
      on <bdi>${server.address}</bdi>${server.secure ? ", over TLS" : ", without TLS"}. Who has the link may
      read${server.writable ? "; a second link may tick what was collected" : "; nobody may write"}.</p>
      <${Facts} pairs=${[["fallow", server.version], ["Python", server.python],
        ["started", when(server.started)], ["this link may", server.scopes.join(" and ")],
        ["SHA-256 of the certificate", server.fingerprint]]}/></section>
    ${found && found.settings.length > 0 && html`<section aria-labelledby="h-settings"><h2
      id="h-settings">Settings</h2><${Facts}
      pairs=${found.settings.map((one) => [html`<bdi>${one.name}</bdi>`, one.value])}/></section>`}
    ${found && found.sessions.length > 0 && html`<section aria-labelledby="h-sessions"><h2
      id="h-sessions">Where it trained</h2>
      ${found.sessions.map((one, i) => html`<${Fold} key=${i} open=${i === found.sessions.length - 1}
      title=${`Session ${i + 1}${one.started ? `, ${when(one.started)}` : ""}`}><${Facts}
        pairs=${Object.entries(one)
      .map(([key, value]) => [key, value === null ? null : typeof value === "object" ? JSON.stringify(value) :
        String(value)])}/>
      <//>`)}</section>`}`;
}

const Verified = ({ found }) => html`<p class="said" role="status"><strong>${found.sound ? "All sound." :
  "Not all is sound."}
  </strong> ${plural(found.checked, "file")} ${found.checked === 1 ? "was" : "were"} compared
    with ${found.checked === 1 ? "its checksum" : "their checksums"}${found.complete ? "" :
    "; the run is not complete"}.</p>
  ${found.damaged.length > 0 && html`<${Table} kind="pairs" label="Damaged files" head=${["file", "problem"]}
    rows=${found.damaged
    .map((one) => [html`<bdi>${one.file}</bdi>`, html`<bdi>${one.problem}</bdi>`])}/>`}
  ${found.remarks.length > 0 && html`<ul class="remarks">${found.remarks.map((one) =>
    html`<li><bdi>${one}</bdi></li>`)}</ul>`}`;
