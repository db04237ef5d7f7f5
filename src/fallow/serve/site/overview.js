// Is it working, and what did it save?

import { html, useContext, useMemo, useState } from "./htm-preact.js";
import { address, useAnswer } from "./api.js";
import { Here, link } from "./route.js";
import { Fold, Legend, Meter, NotYet, Swatch, Table, Title, Waiting } from "./parts.js";
import { Reached, Stack } from "./charts.js";
import { REASONS, capital, count, duration, number, percent, plural } from "./words.js";

const LEVELS = { bad: ["✕", "Wrong"], warn: ["▲", "Look at"], info: ["i", "Note"] };

export function Overview() {
  const { summary, run, version } = useContext(Here);
  const early = !summary.epochs_read;
  const epochs = useAnswer(early ? null : address("epochs", { run }), version);
  return html`<p class="eyebrow"><bdi>${summary.title}</bdi>${summary.task ? ` · ${summary.task}` : ""}</p>
    <${Title}><bdi>${summary.run.name}</bdi><//>
    ${summary.policy && html`<p class="lead">${summary.policy}</p>`}
    <${Progress}/>
    <${Alerts}/>
    ${early ? html`<${Early}/>` : html`<${Tiles}/>
    <section aria-labelledby="h-epochs"><h2 id="h-epochs">Kept and removed</h2><p
      class="said">${summary.counts_sentence}</p>
      ${epochs.value ? html`<${Epochs} answer=${epochs.value}/>` : html`<${Waiting} answer=${epochs}
        what="The epochs"/>`}</section>
    ${summary.classes > 0 && html`<${Classes}/>`}
    <${Remarks}/>`}`;
}

function Progress() {
  const { summary } = useContext(Here), { run } = summary;
  const share = summary.progress ?? (summary.epochs ? summary.epochs_done / summary.epochs : null);
  return html`<div class="progress">
    ${share !== null && html`<svg class="bar-line" role="img"><title>${percent(share, 0)} of the training is
      done</title><rect
      class="back" width="100%" height="100%"/><rect class="f-kept" width=${`${100 * share}%`}
        height="100%"/></svg>`}
    <p class="small">
      ${capital(run.state)}${run.state_text ? `: ${run.state_text}` : ""}.
        Epoch ${count(summary.epochs_done)}${summary.epochs ? ` of ${count(summary.epochs)}` : ""}${
      summary.samples ? `, ${plural(summary.samples, "sample")}` : ""}${summary.seconds ?
        `, ${duration(summary.seconds)}${run.state === "running" ? " so far" : ""}` : ""}.</p></div>`;
}

function Alerts() {
  const { summary, run } = useContext(Here);
  if (!summary.alerts.length) return null;
  return html`<ul class="alerts" aria-label="Alerts">${summary.alerts.map(({ level, text, screen }) =>
    html`<li class=${level}>
    <span class="sign" aria-hidden="true">${LEVELS[level]?.[0] ?? "i"}</span><span><span
      class="unseen">${LEVELS[level]?.[1] ?? "Note"}: </span><bdi>${text}</bdi>
    ${screen && !["overview", "classes"].includes(screen) && html` <a href=${link(screen,
      { run })}>${capital(screen)}</a>`}
      </span></li>`)}</ul>`;
}

function Early() {
  const { summary } = useContext(Here);
  if (summary.epochs_done) return html`<${NotYet}/>`;
  return html`<div class="empty"><h2>It has begun</h2><p>${summary.early}</p>
    <p>Then this page fills by itself: what was kept and removed, what it saved, the scores, and which sample
      was used when.</p>
      </div>`;
}

function Tiles() {
  const { summary } = useContext(Here), { counts } = summary;
  const n = REASONS.reduce((sum, { field }) => sum + counts[field], 0), removed = n - counts.kept;
  const now = summary.last_read + 1 < summary.epochs_done ? `in epoch ${summary.last_read + 1}` : "now";
  const metric = summary.bits_per_character !== null ? ["Bits a character",
    number(summary.bits_per_character, 4)]
    : summary.accuracy !== null ? [`${capital(summary.evaluated_on)} accuracy`, percent(summary.accuracy, 2)]
    : summary.test_loss !== null ? [`${capital(summary.evaluated_on)} loss`, number(summary.test_loss, 4)] :
      null;
  const best = summary.best && (summary.bits_per_character !== null ? number(summary.best.value, 4) :
    percent(summary.best.value, 2));
  return html`<dl class="figures">
    <div><dt>Kept ${now}</dt><dd><strong>${percent(counts.kept / n)}</strong><span>
      ${count(counts.kept)} of ${plural(n, "sample")}</span></dd></div>
    <div><dt>Removed ${now}</dt><dd><strong>${percent(removed / n)}</strong>${REASONS.slice(1).filter(({
      field }) => counts[field] > 0)
      .map(({ field, text }) => html`<span class="reason"><${Swatch}
        field=${field}/>${count(counts[field])} ${text}
        </span>`)}${removed === 0 && html`<span>nothing is left out</span>`}</dd></div>
    ${metric && html`<div><dt>${metric[0]}</dt><dd><strong>${metric[1]}</strong>${best
      && html`<span>best ${best} in epoch ${summary.best.epoch + 1}</span>`}${summary.train_accuracy !== null
      && html`<span>train ${percent(summary.train_accuracy, 2)}</span>`}</dd></div>`}
    ${summary.saved.map((one) => html`<div><dt>${one.title}</dt><dd><strong>${one.value}</strong><${Fold}
      title="How it is counted"><span class="formula">${one.formula}</span><//></dd></div>`)}
  </dl>`;
}

function Epochs({ answer }) {
  const { summary } = useContext(Here), { epochs } = answer;
  const [picked, setPicked] = useState(null), back = useMemo(() => new Set(answer.readmitted), [answer]);
  if (!epochs.length) return html`<${Waiting} answer=${{}} what="The epochs"/>`;
  const place = picked === null ? null : Math.min(picked, epochs.length - 1), row = place === null ? null :
    epochs[place];
  const metric = epochs.some((one) => one.accuracy !== null || one.bits_per_character !== null);
  const ever = Object.fromEntries(REASONS.map(({ field }) => [field, Math.max(...epochs.map((one) =>
    one[field]))]));
  const told = row ? `Epoch ${row.epoch + 1}: ${REASONS.filter(({ field }) => row[field] > 0)
    .map(({ field, text }) => `${count(row[field])} ${text} (${percent(row[field] / row.n)})`).join(", ")}${
    row.readmitted ? `; ${count(row.readmitted)} came back` : ""}${row.accuracy !== null ?
      `; accuracy ${percent(row.accuracy, 2)}` : ""}.` : "Move the slider to read one epoch.";
  return html`<ul class="legend">${REASONS.filter(({ field }) => field === "kept" || ever[field] > 0)
    .map(({ field, text }) => html`<li><${Swatch} field=${field}/>${text}</li>`)}
      ${back.size > 0 && html`<li><span class="swatch glyph" aria-hidden="true">▾</span>removed samples came
        back</li>`}</ul>
    <${Stack} epochs=${epochs} back=${back} picked=${place} sentence=${summary.counts_sentence}
      ticks=${!metric}/>
    <${Reached} epochs=${epochs} part=${answer.evaluated_on} picked=${place}/>
    ${epochs.length > 1 && html`<div class="slide"><label class="unseen" for="epoch">Epoch to read</label>
      <input id="epoch" type="range" min="0" max=${epochs.length - 1} value=${place ?? epochs.length - 1}
        aria-valuetext=${told} onInput=${(event) => setPicked(Number(event.target.value))}/></div>
    <p class="reading" role="status">${told}</p>`}
    ${answer.damaged.length > 0 && html`<ul class="remarks">${answer.damaged.map((one) =>
      html`<li><bdi>${one.error}</bdi></li>`)}
      </ul>`}
    <${Fold} title="The numbers of each epoch">${() => html`<${Table} label="The numbers of each epoch"
      head=${["epoch", "trained on", "measured", ...REASONS.map(({ text }) => text), "came back",
        "mean score", "median", "accuracy", "seconds"]}
      rows=${epochs.map((one) => [one.epoch + 1, count(one.backward), count(one.forward_only),
        ...REASONS.map(({ field }) => count(one[field])), count(one.readmitted),
        number(one.mean_score), number(one.quantiles[2]), percent(one.accuracy, 2),
          number(one.seconds)])}/>`}<//>`;
}

function Classes() {
  const { summary } = useContext(Here);
  return html`<section aria-labelledby="h-classes"><h2 id="h-classes">Classes</h2>
    <p class="said">${plural(summary.classes, "class", "classes")}. Exposure is the share of its possible
      uses, once per sample and epoch, that a class got.</p>
    <${ClassTable} rows=${summary.worst_classes} label=${summary.classes > summary.worst_classes.length ?
      "The classes that keep the least" : "All classes"}/>
    ${summary.classes > summary.worst_classes.length &&
      html`<${Fold} title=${`All ${count(summary.classes)} classes`}>
      ${() => html`<${AllClasses}/>`}<//>`}</section>`;
}

const ORDERS = [["share", "least exposed"], ["kept", "least kept"], ["score", "highest score"],
  ["samples", "largest"], ["name", "name"]];

function AllClasses() {
  const { run, version } = useContext(Here), [order, setOrder] = useState("share");
  const answer = useAnswer(address("classes", { run, order }), version);
  return html`<p><label>Order <select value=${order} onChange=${(event) =>
    setOrder(event.target.value)}>${ORDERS
    .map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select></label></p>
    ${answer.value ? html`<${ClassTable} rows=${answer.value.classes} label="All classes"/>` :
      html`<${Waiting} answer=${answer}
      what="The classes"/>`}
    ${answer.value && answer.value.total > answer.value.classes.length && html`<p
      class="note">The first ${count(answer.value.classes.length)} of ${count(answer.value.total)}.</p>`}`;
}

function ClassTable({ rows, label }) {
  const { run } = useContext(Here);
  return html`<${Table} kind="classes" label=${label} head=${["class", "kept now", "exposure", "samples",
    "outliers", "mean score"]}
    rows=${rows.map((row) => [html`<a href=${link("browse",
      { run, class: row.label })}><bdi>${row.name}</bdi></a>${row.rare ?
      html` <span class="badge">rare</span>` : ""}`,
      html`<${Meter}
        share=${row.kept_share}/>`, percent(row.share), count(row.samples), count(row.outliers),
          number(row.score)])}/>`;
}

function Remarks() {
  const { summary } = useContext(Here);
  return html`${[["Remarks", summary.remarks], ["Remarks on the data",
    summary.data_remarks]].map(([title, list]) => list.length > 0
    && html`<section><h2>${title}</h2><ul class="remarks">${list.map((one) =>
      html`<li><bdi>${one}</bdi></li>`)}</ul></section>`)}`;
}
