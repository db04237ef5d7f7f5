// Small parts of several screens.

import { html, useContext, useEffect, useLayoutEffect, useRef, useState } from "./htm-preact.js";
import { Here } from "./route.js";
import { REASONS, STATES, count, percent } from "./words.js";

/** A square of a reason's colour and hatch. */
export const Swatch = ({ field }) => html`<svg class="swatch" aria-hidden="true" focusable="false">
  <rect class=${field === "kept" ? "f-kept" : ""} fill=${field === "kept" ? null : `url(#p-${field})`}
    width="100%"
    height="100%"/></svg>`;

/** A run's state: a sign and words, besides the colour. */
export function State({ row, long }) {
  const [sign, mood] = STATES[row.state] || ["?", "calm"];
  return html`<span class="state ${mood}"><span class="sign" aria-hidden="true">${sign}</span>${row.state}${
    long && row.state_text ? html`<span class="small"> – ${row.state_text}</span>` : null}</span>`;
}

/** A table that scrolls by itself where it is wide. */
export const Scroll = ({ label, children }) =>
  html`<div class="scroll" role="region" tabindex="0" aria-label=${label}>${children}</div>`;

export const Table = ({ label, head, rows, kind = "" }) => html`<${Scroll} label=${label}>
  <table class=${kind}><caption class="unseen">${label}</caption>
  <thead><tr>${head.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
  <tbody>${rows.map((cells) => html`<tr>${cells.map((cell, i) => (i ? html`<td>${cell}</td>` :
    html`<th scope="row">${cell}
    </th>`))}</tr>`)}</tbody>
  </table><//>`;

/** Details whose content is made when they are opened. */
export function Fold({ title, children, open: opened = false }) {
  const [open, setOpen] = useState(opened);
  return html`<details open=${open} onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>${title}</summary>${open ? (typeof children === "function" ? children() : children) :
      null}</details>`;
}

export const Meter = ({ share, text }) => html`<span class="meter"><svg aria-hidden="true" focusable="false">
  <rect class="back" width="100%" height="100%"/><rect class="f-kept" width=${`${100 * Math.max(0,
    Math.min(1, share || 0))}%`}
    height="100%"/></svg>
  <span>${text ?? percent(share)}</span></span>`;

/** What stands where an answer is still to come, or did not come. */
export function Waiting({ answer, what }) {
  if (answer.failure && !answer.failure.passing) {
    return html`<div class="empty" role="status"><p>${answer.failure.message}</p></div>`;
  }
  const words = answer.failure ? answer.failure.message
    : answer.pending ? `${what} is being calculated. A large run takes some seconds the first time.` :
      `Loading ${what.toLowerCase()} …`;
  return html`<p class="waiting" role="status">${words}</p>`;
}

/** A screen of a run without an epoch that can be read: what will come, or what is damaged. */
export function NotYet({ title }) {
  const { summary } = useContext(Here);
  return html`<${Empty} title=${summary.epochs_done ? "No epoch can be read" : title}>
    <p>${summary.early}</p><//>`;
}

/** A screen that has nothing yet: what will come, and what makes it. */
export const Empty = ({ title, children }) => html`<div class="empty"><h2>${title}</h2>${children}</div>`;

export const Legend = ({ counts, when = "" }) => html`<ul class="legend">${REASONS
  .filter(({ field }) => field === "kept" || counts[field] > 0)
  .map(({ field, text }) => html`<li><${Swatch} field=${field}/>${text} <span
    class="small">${count(counts[field])}${when}</span>
    </li>`)}</ul>`;

/** The width of an element in CSS pixels, as it changes. */
export function useWidth(start = 600) {
  const ref = useRef(null), [width, setWidth] = useState(start);
  useLayoutEffect(() => {
    if (!ref.current) return undefined;
    const seen = new ResizeObserver(([entry]) => setWidth(Math.round(entry.contentRect.width) || start));
    seen.observe(ref.current);
    return () => seen.disconnect();
  }, []);
  return [ref, width];
}

/** Arrow keys move among the links and buttons of a group, to the nearest one on that side. */
export function moveFocus(event) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way || event.ctrlKey || event.altKey || event.metaKey) return;
  const middle = (element) => {
    const box = element.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
  };
  const [x, y] = middle(document.activeElement);
  let best = null, least = Infinity;
  for (const other of event.currentTarget.querySelectorAll("a, button:not([disabled])")) {
    if (other === document.activeElement || !other.checkVisibility()) continue;
    const [dx, dy] = [middle(other)[0] - x, middle(other)[1] - y];
    const along = dx * way[0] + dy * way[1], across = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
    if (along > 4 && along + 3 * across < least) [best, least] = [other, along + 3 * across];
  }
  if (!best) return;
  event.preventDefault();
  best.focus();
}

function Picture({ url, name, big }) {
  const [broken, setBroken] = useState(false);
  if (broken) return html`<span class="excerpt broken">This picture cannot be shown.</span>`;
  return html`<img src=${url} alt=${name} loading=${big ? "eager" : "lazy"} width="96" height="96"
    onError=${() => setBroken(true)}/>`;
}

/** The picture of a sample, or the beginning of its text. */
export function Face({ sample, run, big = false }) {
  if (sample.picture) {
    const url = `api/picture?${new URLSearchParams({ ...(run ? { run } : {}), sample: sample.index })}`;
    return html`<${Picture} key=${url} url=${url} name=${`Picture of sample ${sample.index}`} big=${big}/>`;
  }
  return sample.text === null || sample.text === undefined ? null : html`<span class="excerpt"
    dir="auto">${sample.text}</span>`;
}

/** The title of a screen; it takes the focus when the screen changes, so that a reader begins there. */
export function Title({ children }) {
  const ref = useRef(null);
  useEffect(() => { if (document.body.dataset.moved) ref.current?.focus({ preventScroll: true }); }, []);
  return html`<h1 tabindex="-1" ref=${ref}>${children}</h1>`;
}
