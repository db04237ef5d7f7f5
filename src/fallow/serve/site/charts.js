// Charts over the epochs, as SVG.

import { html, useMemo } from "./htm-preact.js";
import { useWidth } from "./parts.js";
import { REASONS, count, number, percent } from "./words.js";

const at = (share) => `${(100 * share).toFixed(3)}%`;

/** Places of labels for epochs, at most one every 44 pixels, on round numbers. */
export function epochTicks(epochs, width) {
  const most = Math.max(1, Math.floor(width / 44));
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000].find((by) =>
    Math.ceil(epochs.length / by) <= most) || 65536;
  return epochs.map((epoch, place) => [place, epoch + 1])
    .filter(([place, label]) => step === 1 || label % step === 0 || (place === 0 && epochs.length > 1 &&
      step > 2))
    .map(([place, label]) => [(place + 0.5) / epochs.length, String(label)]);
}

/** The ends of an axis, and two to five round values on it. */
export function range(low, high) {
  const wide = Math.max(high - low, 0.002);
  let step = 1e-4;
  for (let k = -4; step * 4 < wide && k < 300; k++)
    for (const s of [1, 2, 5]) if (step * 4 < wide) step = s * 10 ** k;
  let first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  if (last <= first) [first, last] = first > 0 ? [first - 1, first] : [first, first + 1];
  return { low: first * step, high: last * step, levels: Array.from({ length: last - first + 1 }, (_, i) =>
    (first + i) * step) };
}

/** A frame around a chart: values upright, epochs across; `levels` are [share from the top, label]. */
export function Frame({ levels, ticks, size = "tall", title, unit = "epoch", children }) {
  return html`<div class="frame">
    <svg class="up ${size}" aria-hidden="true" focusable="false">${levels.map(([y, label]) =>
      html`<text x="100%" y=${at(y)}
      dy="0.32em" text-anchor="end">${label}</text>`)}</svg>
    <svg class="area ${size}" role="img"><title>${title}</title>${levels.map(([y]) => html`<line
      class="rule" x1="0" x2="100%" y1=${at(y)} y2=${at(y)}/>`)}${children}</svg>
    ${ticks && html`<svg class="across" aria-hidden="true" focusable="false">${ticks.map(([x, label]) =>
      html`<text x=${at(x)}
      y="15" text-anchor="middle">${label}</text>`)}</svg>
    <p class="unit">${unit}</p>`}</div>`;
}

/** Kept and removed samples of each epoch, one on the other; `picked` is the place of an epoch. */
export function Stack({ epochs, back, picked, sentence, ticks = true }) {
  const [ref, width] = useWidth();
  const top = Math.max(...epochs.map((row) => row.n)), wide = 1 / epochs.length;
  const gap = epochs.length <= 60 ? 0.1 * wide : 0;
  // What is the same object is not compared again, whatever else of the chart changes.
  const bars = useMemo(() => epochs.flatMap((row, place) => {
    let below = 0;
    return REASONS.filter(({ field }) => row[field] > 0).map(({ field }) => {
      below += row[field];
      return html`<rect class=${field === "kept" ? "f-kept" : ""} fill=${field === "kept" ? null :
        `url(#p-${field})`}
        x=${at(place * wide + gap / 2)} width=${at(wide - gap)} y=${at(1 - below / top)}
          height=${at(row[field] / top)}/>`;
    });
  }), [epochs]);
  const parts = top >= 4 ? [0, 1, 2, 3, 4] : [0, 4];
  return html`<figure class="plot" ref=${ref}><${Frame} title=${sentence} levels=${parts
    .map((part) => [1 - part / 4, count((top * part) / 4)])}
    ticks=${ticks && epochTicks(epochs.map((row) => row.epoch), width - 60)}>
    ${bars}${epochs.map((row, place) => back.has(row.epoch) && html`<text class="glyph"
      x=${at((place + 0.5) * wide)} y="-3"
      text-anchor="middle">▾</text>`)}
    ${picked !== null && html`<rect class="picked" x=${at(picked * wide)} width=${at(wide)} y="0"
      height="100%"/>`}
  <//></figure>`;
}

/** What the run reached after each epoch; null if nothing is known. */
export function Reached({ epochs, part, picked }) {
  const [ref, width] = useWidth();
  const bits = epochs.some((row) => row.bits_per_character !== null);
  const name = bits ? "bits_per_character" : "accuracy";
  const known = epochs.map((row, place) => [place, row[name]]).filter(([, value]) => value !== null);
  if (!known.length) return null;
  const trained = bits ? [] : epochs.map((row, place) => [place, row.train_accuracy]).filter(([, value]) =>
    value !== null);
  const values = [...known, ...trained].map(([, value]) => value);
  const { low, high, levels } = range(Math.min(...values), Math.max(...values));
  const spot = ([place, value]) => [(place + 0.5) / epochs.length, (high - value) / (high - low)];
  const points = (line) => line.map(spot).map(([x, y]) =>
    `${(1000 * x).toFixed(1)},${(100 * y).toFixed(2)}`).join(" ");
  const shown = (value) => (bits ? number(value, 4) : percent(value, 2));
  const best = known.reduce((a, b) => ((bits ? b[1] < a[1] : b[1] > a[1]) ? b : a));
  const what = bits ? "bits a character" : "accuracy";
  const sentence = `${part === "validation" ? "Validation" :
    "Test"} ${what}: ${shown(known.at(-1)[1])} in the last epoch, ` +
    `best ${shown(best[1])} in epoch ${epochs[best[0]].epoch + 1}.`
    + (trained.length ? ` Train accuracy: ${shown(trained.at(-1)[1])}.` : "");
  return html`<p class="said">${sentence}</p>
    ${trained.length > 0 && html`<ul class="legend"><li><${Stroke} kind="q1"/>${part}</li><li><${Stroke}
      kind="q2"/>train: measured while training, on the samples that the epoch trained on</li></ul>`}
    <figure class="plot" ref=${ref}><${Frame} size="low" title=${sentence} levels=${levels
      .map((value) => [(high - value) / (high - low), bits ? number(value, 4) :
        `${number(100 * value, 4)}%`])}
      ticks=${epochTicks(epochs.map((row) => row.epoch), width - 60)}>
      <svg width="100%" height="100%" viewBox="0 0 1000 100" preserveAspectRatio="none"><polyline
        class="curve train" points=${points(trained)}/><polyline class="curve" points=${points(known)}/></svg>
      ${known.length <= 60 && known.map(spot).map(([x, y]) => html`<circle class="point" cx=${at(x)}
        cy=${at(y)} r="3"/>`)}
      ${picked !== null && html`<rect class="picked" x=${at(picked / epochs.length)}
        width=${at(1 / epochs.length)} y="0"
        height="100%"/>`}
    <//></figure>`;
}

export const Stroke = ({ kind }) => html`<svg class="swatch long ${kind}" aria-hidden="true"
  focusable="false">
  <line x1="0" x2="100%" y1="50%" y2="50%"/></svg>`;

/** A sample's scores over the epochs, on a square-root scale, with the epochs that used it marked below. */
export function Spark({ scores, used }) {
  const most = Math.max(1e-9, ...scores.filter(Number.isFinite));
  let line = "", drawn = false;
  scores.forEach((score, i) => {
    const known = score !== null && Number.isFinite(score);
    if (known) line += `${drawn ? "L" : "M"}${i + 0.5} ${(30 - 28 * Math.sqrt(Math.max(0,
      score) / most)).toFixed(1)}${drawn ? "" : "h0"}`;
    drawn = known;
  });
  const marks = used.map((is, i) => (is ? `M${i} 37h1` : "")).join("");
  return html`<svg class="spark" viewBox="0 0 ${scores.length} 40" preserveAspectRatio="none"
    aria-hidden="true"
    focusable="false"><path class="marks" d=${marks}/><path class="line" d=${line}/></svg>`;
}

const CIVIDIS = ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55",
  "fee838"]
  .map((colour) => [0, 2, 4].map((i) => parseInt(colour.slice(i, i + 2), 16)));

/** The colour of a magnitude in [0, 1], as [red, green, blue]: cividis, which everybody can read. */
export function cividis(value) {
  const place = Math.max(0, Math.min(1, value)) * (CIVIDIS.length - 1),
    low = Math.min(CIVIDIS.length - 2, Math.floor(place));
  return CIVIDIS[low].map((part, i) => part + (CIVIDIS[low + 1][i] - part) * (place - low));
}
