// Runs side by side: pick two to eight.

import { html, useContext } from "./htm-preact.js";
import { address, useAnswer } from "./api.js";
import { Here, go, link } from "./route.js";
import { Empty, State, Table, Title, Waiting, useWidth } from "./parts.js";
import { Frame, range } from "./charts.js";
import { count, duration, number, percent, reached } from "./words.js";

const MOST = 8;
/** A colour (Okabe and Ito), a dash and a mark for each run, so that no two differ by colour alone. */
const LOOKS = [["1", "", "●"], ["2", "8 4", "■"], ["3", "2 4", "▲"], ["4", "10 3 2 3", "◆"],
  ["5", "1 3", "○"], ["6", "14 4", "□"], ["7", "6 2 2 2 2 2", "△"], ["8", "3 3", "◇"]];

export function Compare() {
  const { poll, params, alone } = useContext(Here);
  if (alone) return html`<${Title}>Compare<//><${Empty} title="There is one run">
    <p>This server shows a single run. To compare, serve the folder of the runs: <code>fallow serve
      FOLDER</code></p><//>`;
  if (!poll.value) return html`<${Title}>Compare<//><${Waiting} answer=${poll} what="The runs"/>`;
  const known = poll.value.runs.filter((row) => row.epochs_done > 0), chosen = (params.with ||
    "").split(",").filter((id) => known.some((row) => row.id === id)).slice(0, MOST);
  const set = (id, on) => go(link("compare", { with: (on ? [...chosen, id] :
    chosen.filter((one) => one !== id)).join(",") }), true);
  return html`<${Title}>Compare<//><p
    class="said">Choose two to eight runs; ${count(chosen.length)} ${chosen.length === 1 ? "is" :
      "are"} chosen.</p>
    <ul class="choices">${known.map((row) => html`<li key=${row.id}><label class="pick"><input type="checkbox"
      checked=${chosen.includes(row.id)} disabled=${!chosen.includes(row.id) && chosen.length >= MOST}
        onChange=${(event) => set(row.id, event.target.checked)}/>
      <span class="told"><strong><bdi>${row.name}</bdi></strong> <${State} row=${row}/> <span
        class="small"><bdi>
        ${[row.data,
          row.policy].filter(Boolean).join(" · ")}</bdi>, ${reached(row)}</span></span></label></li>`)}</ul>
    ${known.length < 2 && html`<${Empty} title="Two runs are needed"><p>Runs appear here after their first
      epoch.</p><//>`}
    ${chosen.length >= 2 && html`<${Result} key=${chosen.join()} ids=${chosen} version=${known
      .filter((row) => chosen.includes(row.id)).map((row) => row.epochs_done).join()}/>`}`;
}

function Result({ ids, version }) {
  const answer = useAnswer(address("compare", { run: ids }), version);
  if (!answer.value) return html`<${Waiting} answer=${answer} what="The comparison"/>`;
  const { runs, settings, pairs, remarks, curves } = answer.value;
  const name = (i) => html`<span class="mark c${LOOKS[i][0]}"
    aria-hidden="true">${LOOKS[i][2]}</span> <bdi>${runs[i].name}</bdi>`;
  return html`<section><h2>What they reached</h2><${Curves} curves=${curves} runs=${runs}/>
    <${Table} label="What they did and reached" head=${["run", "epochs", "reached", "loss", "trained on",
      "measured", "saved", "time", "labels that look wrong"]}
      rows=${runs.map((row, i) => [name(i), `${count(row.epochs_done)}${row.epochs ?
        ` of ${count(row.epochs)}` : ""}`, reached(row), number(row.test_loss, 4),
        count(row.samples_backward), count(row.samples_forward_only), percent(row.saved_fraction),
        duration(row.seconds), count(row.wrong_labels)])}/></section>
    ${remarks.length > 0 && html`<ul class="remarks">${remarks.map((one) =>
      html`<li><bdi>${one}</bdi></li>`)}</ul>`}
    ${Object.keys(settings).length > 0 && html`<section><h2>Where their settings differ</h2><${Table}
      kind="settings-table"
      label="Settings that differ" head=${["setting", ...runs.map((_, i) => name(i))]}
      rows=${Object.entries(settings).map(([key, values]) => [html`<bdi>${key}</bdi>`,
        ...values.map((value) => html`<bdi>
        ${value === null ? "–" : typeof value === "object" ? JSON.stringify(value) :
          String(value)}</bdi>`)])}/></section>`}
    ${pairs.length > 0 && html`<section><h2>What they left out</h2><p
      class="said">The share of the samples left out by either run that both left out, and what chance would
        give.</p>
      <${Table} kind="pairs" label="What pairs of runs left out"
        head=${["pair", "last epoch", "by chance", "all epochs", "by chance", "outliers"]}
          rows=${pairs.map((pair) => [html`<bdi>
        ${pair.first}</bdi> and <bdi>${pair.second}</bdi>`,
        ...(pair.reason ? [html`<span class="why"><bdi>${pair.reason}</bdi>
          </span>`, "", "", "", ""] : [percent(pair.last?.share), percent(pair.last?.by_chance),
            percent(pair.all?.share), percent(pair.all?.by_chance),
            percent(pair.outliers?.share)])])}/></section>`}`;
}

/** The metric against the samples trained on. */
function Curves({ curves, runs }) {
  const [ref, width] = useWidth(), shown = curves.filter((curve) => curve.points.length);
  if (!shown.length) return null;
  const bits = shown.some((curve) => curve.metric === "bits_per_character"),
    most = Math.max(1, ...shown.flatMap((curve) => curve.points.map(([x]) => x)));
  const values = shown.flatMap((curve) => curve.points.map(([, y]) => y)),
    { low, high, levels } = range(Math.min(...values), Math.max(...values));
  const spot = ([x, y]) => [x / most, (high - y) / (high - low)];
  const sentence = shown
    .map((curve) => { const [x, y] = curve.points.at(-1); return `${runs.find((row) =>
      row.id === curve.id)?.name}: ${bits ? number(y, 4) : percent(y, 2)} after ${count(x)} samples`;
      }).join("; ");
  const parts = Math.max(1, Math.min(5, Math.floor((width - 60) / 80)));
  return html`<ul class="legend">${curves.map((curve, i) => html`<li><svg class="swatch long"
    aria-hidden="true"
    focusable="false"><line class="run-line c${LOOKS[i][0]}" stroke-dasharray=${LOOKS[i][1]} x1="0" x2="100%"
      y1="50%" y2="50%"/>
    </svg><span class="mark c${LOOKS[i][0]}"
      aria-hidden="true">${LOOKS[i][2]}</span><bdi>${runs[i].name}</bdi></li>`)}</ul>
    <figure class="plot" ref=${ref}><${Frame} title=${sentence} unit="samples trained on" levels=${levels
      .map((value) => [(high - value) / (high - low), bits ? number(value, 4) :
        `${number(100 * value, 4)}%`])}
      ticks=${Array.from({ length: parts + 1 }, (_, i) => [i / parts, count((most * i) / parts)])}>
      <svg width="100%" height="100%" viewBox="0 0 1000 100" preserveAspectRatio="none">${curves.map((curve,
        i) => html`<polyline
        class="run-line c${LOOKS[i][0]}" stroke-dasharray=${LOOKS[i][1]} points=${curve.points.map(spot)
        .map(([x, y]) => `${(1000 * x).toFixed(1)},${(100 * y).toFixed(2)}`).join(" ")}/>`)}</svg>
      ${curves.map((curve, i) => curve.points.length > 0 && html`<text class="glyph c${LOOKS[i][0]}"
        x=${`${100 * spot(curve.points.at(-1))[0]}%`} y=${`${100 * spot(curve.points.at(-1))[1]}%`}
          dy="0.35em"
        text-anchor="middle">${LOOKS[i][2]}</text>`)}
    <//></figure>`;
}
