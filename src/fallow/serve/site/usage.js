// Which samples were used in which epoch: the whole at a glance, and down to one mark for each use.

import { html, useCallback, useContext, useEffect, useLayoutEffect, useMemo, useRef,
  useState } from "./htm-preact.js";
import { address, ask, useAnswer } from "./api.js";
import { Here, go, link } from "./route.js";
import { Fold, NotYet, Table, Title, Waiting, useWidth } from "./parts.js";
import { boxOf, draw } from "./drawing.js";
import { MOST, classAt, covers, fromRaster, fromTile, rowAt, shareOf } from "./layers.js";
import { FATES, SIGNS, count, percent, plural } from "./words.js";

const ORDERS = [["class", "by class, then by number of uses"], ["times", "by number of uses"],
  ["first_left_out", "by when they were first left out"], ["score", "by score, the highest first"],
  ["index", "as in the data"]];
const BY = 8, LEAST = 12, BAND = 6, ROWS = 512;

export function Usage() {
  const { run, version, summary, params } = useContext(Here);
  const order = ORDERS.some(([name]) => name === params.order) ? params.order : "class";
  const early = !summary.epochs_read;
  const answer = useAnswer(early ? null : address("usage", { run, order, rows: ROWS }), version);
  const last = useRef(null);
  if (answer.value) last.current = answer.value;
  const shown = last.current;
  return html`<${Title}>Usage<//>
    ${early ? html`<${NotYet} title="The chart begins with the first epoch"/>`
      : !shown ? html`<${Waiting} answer=${answer} what="The chart"/>`
      : html`<p class="said">A column is an epoch, a row ${shown.n > MOST ?
        `about ${count(shown.n / (shown.edges.length - 1))} samples` : "one sample"}. Samples are
        sorted <label class="inline"><span class="unseen">Order of the samples</span>
        <select value=${order} onChange=${(event) => go(link("usage", { run, order: event.target.value }),
          true)}>${ORDERS
          .map(([name, text]) => html`<option value=${name}>${text}</option>`)}</select></label></p>
      <${Chart} key=${order} raster=${shown.order === order ? shown : answer.value || shown} run=${run}
        version=${version} order=${order}/>
      ${!answer.value && html`<${Waiting} answer=${answer} what="The order"/>`}`}`;
}

/** The layer of a view: the exact samples if they are few enough, otherwise finer rows. */
function detailUrl(view, n, run, order) {
  const span = view.to - view.from;
  if (span <= MOST) {
    const first = Math.max(0, Math.min(n - MOST, Math.floor(view.from - (MOST - span) / 2)));
    return address("usage/tile", { run, order, first: String(first), count: Math.min(MOST, n), fates: 1 });
  }
  return span >= n ? null : address("usage", { run, order, first: String(Math.floor(view.from)),
    last: Math.ceil(view.to), rows: ROWS });
}

function useDetail(view, n, run, order, version) {
  const [detail, setDetail] = useState(null);
  const enough = detail && detail.version === version && covers(detail, view) &&
    (view.to - view.from > MOST ? detail.last - detail.first < 2.5 * (view.to - view.from) && !detail.fates :
    detail.fates);
  const url = enough ? null : detailUrl(view, n, run, order);
  useEffect(() => {
    if (!url) return undefined;
    const stop = new AbortController();
    const timer = setTimeout(() => ask(url, { signal: stop.signal })
      .then((answer) => setDetail({ ...(answer.fates ? fromTile(answer) : fromRaster(answer)), version }),
        () => {}), detail ? 120 : 0);
    return () => { stop.abort(); clearTimeout(timer); };
  }, [url, version]);
  return [detail && detail.last > view.from && detail.first < view.to && view.to - view.from < n + 1 ?
    detail : null, Boolean(url)];
}

function Chart({ raster, run, version, order }) {
  const { n, epochs, classes } = raster, whole = useMemo(() => fromRaster(raster), [raster]);
  const [view, setView] = useState({ from: 0, to: n }), [cursor, setCursor] = useState(null),
    [hover, setHover] = useState(null), [said, setSaid] = useState("");
  const [detail, loading] = useDetail(view, n, run, order, version);
  const [ref, width] = useWidth(320), canvas = useRef(null), state = useRef({});
  const [themed, setThemed] = useState(0), height = Math.round(Math.min(640,
    Math.max(340, innerHeight * 0.56)));
  const span = view.to - view.from, least = Math.min(n, LEAST), full = span >= n;
  const wanted = detail && (!full || detail.fates) ? detail : null;
  const layers = wanted && covers(wanted, view) ? [wanted] : wanted ? [whole, wanted] : [whole];
  const top = layers.at(-1), single = Boolean(top.fates) && covers(top, view), box = boxOf(width, height);

  const band = useCallback((place) => {
    const layer = layers.find((one) => place >= one.first && place < one.last && one === top) || whole;
    const row = rowAt(layer, place), tall = (box.h * (layer.edges[row + 1] - layer.edges[row])) / span;
    const size = single && tall >= 2 ? 1 : 2 ** Math.max(0, Math.ceil(Math.log2(BAND / Math.max(1e-6,
      tall))));
    const low = Math.floor(row / size) * size, high = Math.min(layer.rows, low + size) - 1;
    return { layer, low, high, from: layer.edges[low], to: layer.edges[high + 1] };
  }, [layers, span, box.h]);

  const reading = (spot) => {
    const { layer, low, high, from, to } = band(spot.place), when = `epoch ${epochs[spot.epoch] + 1}`;
    const first = classAt(classes, from), last = classAt(classes, to - 1);
    const of = first === null ? "" : first === last ? `, class ${first}` : `, classes ${first} to ${last}`;
    if (layer.fates && low === high) {
      const fate = layer.fates[low * layer.columns + spot.epoch];
      return `Sample ${layer.ids[low]}${of}, ${when}: ${fate > 2 ? `left out as ${FATES[fate]}` :
        FATES[fate]}.`;
    }
    const { share, none, all, odd, there } = shareOf(layer, low, high, spot.epoch);
    const used = !there ? "not there yet" : none ? "none used" : all ? "all used" : `${percent(share)} used`;
    return `Samples ${count(from)} to ${count(to - 1)}${of}, ${when}: ${used}${odd > 0 ?
      `, ${percent(odd)} left out as outliers` : ""}.`;
  };

  const look = (from, size) => {
    const now = Math.min(n, Math.max(least, size)), start = Math.min(n - now, Math.max(0, from));
    setView({ from: start, to: start + now });
    return { from: start, to: start + now };
  };
  const zoom = (factor, place = cursor ? cursor.place : (view.from + view.to) / 2) => {
    const size = Math.min(n, Math.max(least, span / factor));
    look(place - ((place - view.from) * size) / span, size);
  };
  const put = (place, epoch) => {
    const spot = { place: Math.min(n - 1, Math.max(0, place)), epoch: Math.min(epochs.length - 1,
      Math.max(0, epoch)) };
    const { from, to } = band(spot.place);
    if (from < view.from) look(from, span);
    else if (to > view.to) look(to - span, span);
    setCursor(spot);
  };
  const move = (down, across) => {
    if (!cursor) return put(view.from, 0);
    const { from, to } = band(cursor.place), wide = to - from;
    return put(down > 0 ? to + (down - 1) * wide : down < 0 ? from - 1 + (down + 1) * wide : cursor.place,
      cursor.epoch + across);
  };
  const alone = ({ layer, low, high }) => layer.fates && low === high;
  const open = (spot) => {
    const { layer, low, high } = band(spot.place);
    if (alone({ layer, low, high })) go(link("usage", { run, order, sample: String(layer.ids[low]) }));
    else zoom(BY, spot.place);
  };
  const keys = {
    ArrowUp: (fast) => move(fast ? -10 : -1, 0), ArrowDown: (fast) => move(fast ? 10 : 1, 0),
    ArrowLeft: (fast) => move(0, fast ? -10 : -1), ArrowRight: (fast) => move(0, fast ? 10 : 1),
    Home: () => move(0, -epochs.length), End: () => move(0, epochs.length),
    PageUp: () => { const at = look(view.from - span, span); setCursor({ place: at.from,
      epoch: cursor?.epoch ?? 0 }); },
    PageDown: () => { const at = look(view.from + span, span); setCursor({ place: at.from,
      epoch: cursor?.epoch ?? 0 }); },
    "+": () => zoom(BY), "=": () => zoom(BY), "-": () => zoom(1 / BY),
    Enter: () => (cursor ? open(cursor) : put(view.from, 0)),
    Escape: () => { if (full) setCursor(null); look(0, n); },
  };
  state.current = { view, span, box, epochs, zoom, look, put, keys, full, n, open, single };

  const spoken = cursor ? reading(cursor) : "";
  useEffect(() => { if (spoken && !loading) setSaid(spoken); }, [spoken, loading]);
  useLayoutEffect(() => {
    const held = cursor ? band(cursor.place) : null;
    draw(canvas.current, { layers, view, box, epochs, classes, n, cursor: held &&
      { from: held.from, to: held.to, epoch: cursor.epoch } }, width, height);
  });
  useEffect(() => {
    const changed = () => setThemed((old) => old + 1);
    addEventListener("fallow-theme", changed);
    return () => removeEventListener("fallow-theme", changed);
  }, []);
  useEffect(() => listen(ref.current, canvas.current, state, setHover), []);
  const present = useMemo(() => new Set(top.fates ?? []), [top]);
  const seen = Math.ceil(view.to) - Math.floor(view.from);
  const rows = top.rows > 1 ? (top.last - top.first) / top.rows : 1;
  return html`<div class="tools"><button type="button" onClick=${() => zoom(BY)}
    disabled=${span <= least}>+ Zoom in</button>
      <button type="button" onClick=${() => zoom(1 / BY)} disabled=${full}>− Zoom out</button>
      <button type="button" onClick=${() => look(0, n)} disabled=${full}>Whole</button>
      <button type="button" onClick=${() => keys.PageUp()} disabled=${view.from <= 0}
        aria-label="The rows above">▲</button>
      <button type="button" onClick=${() => keys.PageDown()} disabled=${view.to >= n}
        aria-label="The rows below">▼</button>
      <p class="small level">
        ${single ? `${plural(seen, "single sample")} of ${count(n)}` :
          `${count(seen)} of ${plural(n, "sample")}, about ${count(Math.max(1, rows))} in a row`}${loading ?
          " · loading" : ""}</p></div>
    <div class="chart" ref=${ref} tabindex="0" role="application" aria-roledescription="chart"
      aria-label="Usage of the samples over the epochs" aria-describedby="keys"
      data-zoomed=${full ? null : ""} data-ready=${loading ? null : ""} data-exact=${single ? "" : null}
        data-themed=${themed}><canvas ref=${canvas}/></div>
    <p class="reading">${cursor ? spoken : hover ? reading(hover) : "Tap a place to read it."}${cursor &&
      html` <button
      type="button" onClick=${() => open(cursor)}>${alone(band(cursor.place)) ? "Open the sample" :
        "Zoom in here"}</button>`}</p>
    <p class="unseen" role="status">${said}</p>
    ${single ? html`<ul class="legend">${FATES.map((text, i) => present.has(i) &&
      html`<li><span class="swatch glyph fate-${i}"
      aria-hidden="true">${SIGNS[i]}</span>${text}</li>`)}</ul>`
      : html`<ul class="legend"><li><svg class="ramp" aria-hidden="true"
        focusable="false">${[0, 0.17, 0.46, 0.75, 1]
        .map((deep, i) => html`<rect class="f-kept" x=${`${20 * i}%`} width="20%" height="100%"
          fill-opacity=${deep}/>`)}
        </svg>used: none, a few, half, most, all of the samples in a row</li>
      ${whole.odd && html`<li><svg class="swatch" aria-hidden="true"><rect class="f-outliers" width="100%"
        height="100%"/>
        </svg>left out as outliers</li>`}</ul>`}
    ${top.never.some(Boolean) && html`<ul class="legend"><li><span class="swatch edge" aria-hidden="true"/>
      ${single ? "sample that no epoch used" : "rows with a sample that no epoch used"}</li></ul>`}
    <p id="keys" class="note">Drag to move, pinch to zoom, tap to read; a double tap zooms in. Keys: arrows
      move a cursor, + and − zoom by eight, Page Up and Page Down scroll, Enter zooms in or opens a sample,
      Escape shows the whole chart.</p>
    <${Fold} title="The chart as a table">${() => html`<${AsTable} view=${view} layers=${layers}
      whole=${whole}
      epochs=${epochs}/>`}<//>`;
}

/** What the chart shows, as at most 16 rows and 12 epochs. */
function AsTable({ view, layers, whole, epochs }) {
  const layer = covers(layers.at(-1), view) ? layers.at(-1) : whole;
  const low = rowAt(layer, view.from), high = rowAt(layer, Math.ceil(view.to) - 1),
    size = Math.max(1, Math.ceil((high - low + 1) / 16));
  const columns = epochs.length <= 12 ? epochs.map((_, i) => i) : Array.from({ length: 12 }, (_, i) =>
    Math.round((i * (epochs.length - 1)) / 11));
  const rows = [];
  for (let row = low; row <= high; row += size) {
    const last = Math.min(high, row + size - 1), one = layer.fates && size === 1;
    rows.push([one ? `sample ${layer.ids[row]}` : `${count(layer.edges[row])} to ${count(layer.edges[last +
      1] - 1)}`, ...columns
      .map((epoch) => {
      if (one) return FATES[layer.fates[row * layer.columns + epoch]];
      const found = shareOf(layer, row, last, epoch);
      return found.there ? percent(found.none ? 0 : found.all ? 1 : Math.min(0.999, found.share)) : "–";
    })]);
  }
  return html`<${Table} label="Share of used samples in each part of the chart" head=${["places", ...columns
    .map((i) => epochs[i] + 1)]} rows=${rows}/>`;
}

/** Fingers, mouse, wheel and keys on the chart; the newest state is in `state.current`. */
function listen(chart, canvas, state, setHover) {
  const down = new Map(), stop = new AbortController(), { signal } = stop;
  let moved = 0, pinch = 0;
  const spot = (event) => {
    const area = canvas.getBoundingClientRect(), { view, span, box, epochs } = state.current;
    return { place: view.from + ((event.clientY - area.top - box.y) * span) / box.h,
      epoch: Math.floor(((event.clientX - area.left - box.x) * epochs.length) / box.w) };
  };
  const inside = ({ place, epoch }) => place >= state.current.view.from && place < state.current.view.to &&
    epoch >= 0 && epoch < state.current.epochs.length;
  const apart = () => {
    const [a, b] = [...down.values()];
    return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
  };
  const on = (name, work, more = {}) => chart.addEventListener(name, work, { signal, ...more });
  on("keydown", (event) => {
    const work = state.current.keys[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !work) return;
    event.preventDefault();
    work(event.shiftKey);
  });
  on("wheel", (event) => {
    const { full } = state.current;
    if ((!event.ctrlKey && document.activeElement !== chart) || (event.deltaY > 0 && full)) return;
    event.preventDefault();
    state.current.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.003)), spot(event).place);
  }, { passive: false });
  on("pointerdown", (event) => {
    down.set(event.pointerId, event);
    moved = 0;
    if (down.size === 2) pinch = apart();
  });
  on("pointermove", (event) => {
    const before = down.get(event.pointerId), { view, span, box, full } = state.current;
    if (!before) { setHover(inside(spot(event)) ? spot(event) : null); return; }
    moved += Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY);
    down.set(event.pointerId, event);
    if (down.size === 2) {
      const now = apart(), [a, b] = [...down.values()];
      state.current.zoom(now / pinch, (spot(a).place + spot(b).place) / 2);
      pinch = now;
    } else if (!full &&
      moved > 4) state.current.look(view.from - ((event.clientY - before.clientY) * span) / box.h, span);
  });
  const up = (event) => {
    const pressed = down.delete(event.pointerId), at = spot(event);
    if (pressed && event.type === "pointerup" && down.size === 0 && moved < 6 &&
      inside(at)) state.current.put(at.place, at.epoch);
  };
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) on(name, up);
  on("pointerleave", () => setHover(null));
  on("dblclick", (event) => { if (inside(spot(event))) state.current.open(spot(event)); });
  return () => stop.abort();
}
