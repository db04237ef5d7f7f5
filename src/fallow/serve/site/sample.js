// The life of one sample, as a sheet over any screen.

import { html, useContext, useEffect, useRef } from "./htm-preact.js";
import { address, useAnswer } from "./api.js";
import { Here, go, link } from "./route.js";
import { Face, Table, Waiting } from "./parts.js";
import { Spark } from "./charts.js";
import { REASONS, count, number, plural } from "./words.js";

const reasonText = (value) => REASONS.find((one) => one.value === value)?.text ?? value;

/** The address of the sheet over the present screen. */
export const sheet = (here, index) => link(here.screen, { ...here.params, sample: String(index) });

/** A card that opens the sheet of its sample. */
export function Card({ sample, sure }) {
  const here = useContext(Here);
  const given = sample.label_name ?? sample.given, other = sample.suggested ?? sample.predicted_name;
  const wrong = given !== null && given !== undefined && other !== null && other !== undefined &&
    given !== other;
  return html`<li><a class="card" href=${sheet(here, sample.index)}>
    <${Face} sample=${sample} run=${here.run}/>
    <span class="names">${given !== null && given !== undefined && html`<span class="given"><span
      class="key">given</span> <bdi>
      ${given}</bdi></span>`}
      ${other !== null && other !== undefined && (wrong || given === null) &&
        html`<span class=${wrong ? "wrong" : "right"}><span
        class="key">${sure === undefined ? "predicted" :
          "looks like"}</span> <bdi>${other}</bdi></span>`}</span>
    ${sure !== undefined ? html`<span class="small">${sure} sure</span>` : html`<span class="small">
      ${reasonText(sample.reason)}, score ${number(sample.score)}, used ${count(sample.times_used)}×</span>`}
    <span class="small">sample ${sample.index}</span>
    ${sample.file && html`<span class="small file"><bdi dir="ltr">${sample.file}</bdi></span>`}</a></li>`;
}

export function Sheet({ index }) {
  const here = useContext(Here), { run, version, params, screen } = here;
  const answer = useAnswer(/^\d{1,15}$/.test(index) ? address("sample", { run, sample: index }) : null,
    version);
  const dialog = useRef(null);
  const close = () => {
    const { sample, ...others } = params;
    go(link(screen, others), true);
  };
  useEffect(() => {
    const shown = dialog.current;
    shown.showModal();
    return () => shown.close(); // which gives the focus back
  }, []);
  useEffect(() => { dialog.current.scrollTop = 0; }, [index]);
  const life = answer.value;
  return html`<dialog ref=${dialog} aria-labelledby="life-title" onCancel=${(event) =>
    { event.preventDefault(); close(); }}
    onClick=${(event) => { if (event.target === dialog.current) close(); }}>
    <div class="bar"><h2 id="life-title">Sample ${index}</h2><button type="button"
      onClick=${close}>Close</button></div>
    <div class="life">${life ? html`<${Life} life=${life}/>` : html`<${Waiting} answer=${answer}
      what="The sample"/>`}</div>
      </dialog>`;
}

function Life({ life }) {
  const { sample, epochs } = life, { summary } = useContext(Here);
  const used = epochs.filter((one) => one.used).length;
  const facts = [["given", sample.label_name], ["predicted", sample.predicted_name],
    ["taken for", life.taken_for.map((one) => `${one.name} in ${plural(one.epochs, "epoch")}`).join(", ") ||
      null],
    ["score", `${number(sample.score)}${summary.unit ? ` ${summary.unit}` : ""}`],
    ["now", reasonText(sample.reason)], ["used in", `${count(used)} of ${count(epochs.length)} epochs${
      summary.missing.length ? " that can be read" : ""}`],
      ["file", sample.file]];
  return html`<div class="facing"><${Face} sample=${sample} run=${useContext(Here).run} big/>
      <dl>${facts.filter(([, value]) => value !== null && value !== undefined).map(([key, value]) =>
        html`<dt>${key}</dt><dd><bdi>
        ${value}</bdi></dd>`)}</dl></div>
    <p class="note">Its score over the epochs; the bar below marks the epochs that used it.</p>
    <${Spark} scores=${epochs.map((one) => one.score)} used=${epochs.map((one) => one.used)}/>
    <p class="note">In a terminal: <code>fallow inspect RUN ${sample.index}</code></p>
    <${Table} kind="past" label="Each epoch" head=${["epoch", "use", "score"]}
      rows=${[...epochs, ...summary.missing.map((epoch) => ({ epoch, reason: null, score: null }))]
        .sort((a, b) => a.epoch - b.epoch).map((one) => [one.epoch + 1,
        one.reason === null ? "cannot be read" : one.used ? "used" :
          one.reason === "kept" ? "kept, not used" : `left out: ${reasonText(one.reason)}`,
        number(one.score)])}/>`;
}
