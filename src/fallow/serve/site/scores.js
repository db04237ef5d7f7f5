// How is the distribution of the scores drifting?

import { html, useContext, useEffect, useMemo, useRef, useState } from "./htm-preact.js";
import { address, useAnswer } from "./api.js";
import { Here, go, link } from "./route.js";
import { Empty, Meter, NotYet, Table, Title, Waiting, useWidth } from "./parts.js";
import { Frame, Stroke, cividis, epochTicks } from "./charts.js";
import { count, number, percent, plural } from "./words.js";

const FAINT = 0.001;
const LINES = [["median", [2]], ["25 and 75%", [1, 3]], ["5 and 95%", [0, 4]]];

export function Scores() {
  const { run, version, summary, params } = useContext(Here);
  const early = !summary.epochs_read;
  const answer = useAnswer(early ? null : address("scores", { run }), version);
  return html`<${Title}>Scores<//>${early ? html`<${NotYet}
    title="Scores appear after the first epoch"/>`
    : !answer.value ? html`<${Waiting} answer=${answer} what="The scores"/>`
    : html`<${Drift} scores=${answer.value} label=${params.class}/>`}`;
}

/** The bins that hold something, and where a score stands among them, from the top. */
function scale({ edges, histogram }) {
  const sums = histogram.map((row) => Math.max(1, row.reduce((a, b) => a + b, 0)));
  const filled = edges.map((_, bin) => histogram.some((row, i) => row[bin] / sums[i] >= FAINT));
  const first = Math.max(0, filled.indexOf(true) - 1), last = Math.min(edges.length,
    filled.lastIndexOf(true) + 2);
  const logs = [edges[1] / 2, ...edges.slice(1), edges.at(-1) * 1.5].map(Math.log);
  const height = (value) => {
    const log = Math.log(Math.max(value, edges[1] / 2));
    let bin = logs.findIndex((edge) => edge > log) - 1;
    if (bin < 0) bin = log >= logs.at(-1) ? logs.length - 1 : 0;
    const inside = bin + 1 < logs.length ? (log - logs[bin]) / (logs[bin + 1] - logs[bin]) : 0;
    return Math.max(0, Math.min(1, (last - bin - inside) / (last - first)));
  };
  return { first, last, sums, height, any: filled.includes(true) };
}

function Drift({ scores, label }) {
  const { run } = useContext(Here), { epochs, quantiles, edges, unit } = scores;
  const spread = useMemo(() => scale(scores), [scores]);
  const [picked, setPicked] = useState(null), [ref, width] = useWidth();
  const place = Math.min(picked ?? epochs.length - 1, epochs.length - 1);
  if (!spread.any) return html`<${Empty} title="No score yet"><p>No epoch has measured a sample so
    far.</p><//>`;
  const levels = Array.from({ length: 8 }, (_, i) => 10 ** (i - 6)).map((value) =>
    [spread.height(value), value])
    .filter(([y]) => y > 0.03 && y < 0.97).map(([y, value]) => [y, number(value)]);
  const medians = [quantiles[0][2], quantiles.at(-1)[2]];
  const sentence = `The median score went from ${number(medians[0])} in epoch ${epochs[0] +
    1} to ${number(medians[1])} in epoch ${epochs.at(-1) + 1}${unit ? `, in ${unit}` : ""}.`;
  const path = (column) => {
    let line = "", drawn = false;
    quantiles.forEach((row, i) => {
      if (row[column] !== null) line += `${drawn ? "L" :
        "M"}${((1000 * (i +
        0.5)) / epochs.length).toFixed(1)} ${(100 * spread.height(row[column])).toFixed(2)}${drawn ? "" :
        "h0"}`;
      drawn = row[column] !== null;
    });
    return line;
  };
  const bad = scores.bad.reduce((a, b) => a + b, 0);
  return html`<p class="said">
    ${sentence} The brighter the colour, the more of the samples that the epoch measured had this score.</p>
    <ul class="legend"><li><${Ramp}/>few to many samples</li>${LINES.map(([name], i) =>
      html`<li><${Stroke} kind=${`q${i + 1}`}/>
      ${name}</li>`)}
      ${scores.thresholds.map((one) => html`<li><${Stroke}
        kind="threshold"/>threshold ${one.name} ${number(one.value)}</li>`)}</ul>
    <figure class="plot heat" ref=${ref}>
      <div class="under"><${Heat} scores=${scores} spread=${spread}/></div>
      <${Frame} title=${sentence} levels=${levels} ticks=${epochTicks(epochs, width - 60)}>
      <svg width="100%" height="100%" viewBox="0 0 1000 100" preserveAspectRatio="none">${LINES.map(([,
        columns], i) => columns
        .map((column) => html`<path class="halo" d=${path(column)}/><path class="quantile q${i + 1}"
          d=${path(column)}/>`))}</svg>
      ${scores.thresholds.map((one) => html`<line
        class="threshold" x1="0" x2="100%" y1=${`${100 * spread.height(one.value)}%`}
          y2=${`${100 * spread.height(one.value)}%`}/>`)}
      <rect class="picked" x=${`${(100 * place) / epochs.length}%`} width=${`${100 / epochs.length}%`} y="0"
        height="100%"/>
    <//><figcaption class="note">Score${unit ? ` in ${unit}` : ""}, two steps per
      octave.</figcaption></figure>
    <${Steps} epochs=${epochs} place=${place} pick=${setPicked}/>
    <${OneEpoch} scores=${scores} spread=${spread} place=${place}/>
    <${OfClass} label=${label} all=${scores} spread=${spread}/>
    <section><h2>Each epoch</h2><p class="said">
      ${bad ? `${plural(bad, "score")} of all epochs ${bad === 1 ? "is" : "are"} not finite.` :
        "All scores of all epochs are finite."} A stale score is of an earlier epoch: the sample was not
        measured.</p>
    <${Table} label="Quantiles of each epoch" head=${["epoch", ...scores.levels.map((level) =>
      percent(level, 0)), "mean", "stale", "not finite"]}
      rows=${epochs.map((epoch, i) => [epoch + 1, ...quantiles[i].map((value) => number(value)),
        number(scores.mean[i]), percent(scores.stale[i]), count(scores.bad[i])])}/></section>
    <p class="note"><a href=${link("browse", { run, order: "-score" })}>Browse the samples with the highest
      scores</a></p>`;
}

/** The heat strip: a column an epoch, a row a bin, drawn once however many samples there are. */
function Heat({ scores, spread }) {
  const ref = useRef(null), { first, last, sums } = spread;
  useEffect(() => {
    const wide = scores.epochs.length, high = last - first, image = new ImageData(wide, high);
    const most = Math.max(...scores.histogram.map((row, i) => Math.max(...row) / sums[i]));
    scores.histogram.forEach((row, x) => {
      for (let bin = first; bin < last; bin++) {
        const share = (row[bin] || 0) / sums[x], at = 4 * ((last - 1 - bin) * wide + x);
        if (share < FAINT / 4) continue;
        image.data.set([...cividis((share / most) ** 0.6), 255], at);
      }
    });
    ref.current.width = wide;
    ref.current.height = high;
    ref.current.getContext("2d").putImageData(image, 0, 0);
  }, [scores]);
  return html`<canvas ref=${ref} aria-hidden="true"/>`;
}

const Ramp = () => html`<svg class="ramp" aria-hidden="true" focusable="false">${[0, 1, 2, 3, 4, 5, 6,
  7].map((i) => html`<rect
  x=${`${12.5 * i}%`} width="13%" height="100%"
    fill=${`rgb(${cividis(i / 7).map(Math.round).join()})`}/>`)}</svg>`;

/** Choose an epoch: two buttons and a slider. */
export const Steps = ({ epochs, place, pick }) => html`<div class="steps">
  <button type="button" disabled=${place === 0} onClick=${() => pick(place - 1)}
    aria-label="The epoch before">◀</button>
  <label><span>epoch ${epochs[place] + 1}</span><input type="range" min="0"
    max=${Math.max(1, epochs.length - 1)} value=${place}
    aria-valuetext=${`epoch ${epochs[place] + 1}`}
    onInput=${(event) => pick(Math.min(epochs.length - 1, Number(event.target.value)))}/></label>
  <button type="button" disabled=${place === epochs.length - 1} onClick=${() => pick(place + 1)}
    aria-label="The epoch after">▶</button></div>`;

function bands({ first, last }, edges, row) {
  const shown = [];
  for (let bin = last - 1; bin >= first; bin--) shown.push([edges[bin], edges[bin + 1] ?? null, row[bin] ||
    0]);
  return shown;
}

function OneEpoch({ scores, spread, place }) {
  const { run } = useContext(Here), row = scores.histogram[place], epoch = scores.epochs[place];
  const most = Math.max(1, ...row);
  return html`<section aria-labelledby="h-one"><h2 id="h-one">Epoch ${epoch + 1}</h2>
    <p class="said">${count(spread.sums[place])} samples were measured; ${percent(scores.stale[place])} of the
      scores are of an earlier epoch. A band leads to its samples.</p>
    <${Table} kind="bands" label=${`Scores of epoch ${epoch + 1}`} head=${["score", "samples"]}
      rows=${bands(spread, scores.edges, row).map(([low, high, size]) => [
      html`<a href=${link("browse", { run, epoch, score_from: low, score_to: high, order: "score" })}>
        ${number(low)} – ${high === null ? "∞" : number(high)}</a>`,
      html`<${Meter} share=${size / most} text=${count(size)}/>`])}/></section>`;
}

function OfClass({ label, all, spread }) {
  const { run, version, summary } = useContext(Here);
  const classes = useAnswer(summary.classes ? address("classes", { run, order: "name" }) : null);
  const one = useAnswer(label === undefined ? null : address("scores", { run, class: label }), version);
  if (!summary.classes) return null;
  const pick = (event) => go(link("scores", { run, class: event.target.value }), true);
  const sum = one.value ? Math.max(1, one.value.histogram[0].reduce((a, b) => a + b, 0)) : 1;
  return html`<section aria-labelledby="h-class"><h2 id="h-class">One class</h2>
    <p><label>Class <select value=${label ?? ""} onChange=${pick}><option value="">choose one</option>
      ${(classes.value?.classes || []).map((row) => html`<option
        value=${row.label}>${row.name}</option>`)}</select></label></p>
    ${label !== undefined && (one.value ? html`<p
      class="said">At the end of the last epoch, of ${plural(sum, "sample")}. The second column is that of all
        classes.</p>
    <${Table} kind="bands" label="Scores of the class" head=${["score", "of the class", "of all"]}
      rows=${bands(spread, all.edges, one.value.histogram[0]).map(([low, high, size], i) => [
      `${number(low)} – ${high === null ? "∞" : number(high)}`, html`<${Meter} share=${size / sum}/>`,
      html`<${Meter} share=${(all.histogram.at(-1)[spread.last - 1 - i] || 0) / spread.sums.at(-1)}/>`])}/>` :
        html`<${Waiting}
        answer=${one} what="The class"/>`)}</section>`;
}
