"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const facts = JSON.parse(byId("facts").textContent);
  const { n, epochs, step, first, classes, reasons, samples, edges, reached } = facts;
  const [PALEST, DARKER] = facts.shades;
  const columns = epochs.length;
  const singles = Math.ceil((n - first) / step);
  const ABSENT = 0, USED = 1, LEARNED = 3, OUTLIER = 4, NOT_DRAWN = 5, BY_HAND = 6;
  const MANY = 1000, LEAST = 12, BAND = 6, LEGIBLE = 7;
  const count = (value) => Math.round(value).toLocaleString("en");

  function make(tag, text, name) {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  }

  // ---- data ---------------------------------------------------------------------------------------------

  async function unpack(id) {
    const packed = atob(byId(`d-${id}`).textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function wholeNumbers(planes) {
    const size = planes.length / 4;
    const values = new Uint32Array(size);
    for (let i = 0; i < size; i++) {
      values[i] = planes[i] | (planes[i + size] << 8) | (planes[i + 2 * size] << 16) | (planes[i + 3 * size] << 24);
    }
    return values;
  }

  // { rows, edges, counts, outliers }: samples of each block that every epoch used, or left out as outliers
  let levels = [];
  let marks = null;         // half a byte per single sample, epoch by epoch
  let ids = null;           // the index of each single sample
  const half = Math.ceil(singles / 2);

  function fate(single, epoch) {
    const pair = marks[epoch * half + (single >> 1)];
    return single & 1 ? pair >> 4 : pair & 15;
  }

  function edge(level, block) {
    return level.edges ? level.edges[block] : Math.floor((block * n) / level.rows);
  }

  async function counted(name, rows, edges) {
    const odd = byId(`d-${name}-outliers`) ? wholeNumbers(await unpack(`${name}-outliers`)) : null;
    return { rows, edges, counts: wholeNumbers(await unpack(name)), outliers: odd };
  }

  function blockAt(level, place) {
    let block = Math.min(level.rows - 1, Math.floor((place * level.rows) / n));
    while (block > 0 && edge(level, block) > place) block--;
    while (block < level.rows - 1 && edge(level, block + 1) <= place) block++;
    return block;
  }

  function classAt(place) {
    let low = 0, high = classes.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (classes[middle][1] <= place) low = middle;
      else high = middle - 1;
    }
    return classes.length ? low : -1;
  }

  // ---- the usage chart ----------------------------------------------------------------------------------

  const chart = byId("chart"), canvas = byId("canvas"), pen = canvas.getContext("2d");
  const view = { from: 0, to: n };
  let cursor = null;        // { place, epoch }
  let box = { x: 0, y: 8, w: 1, h: 1 }, side = 0, strip = { y: 0, h: 0 };
  const least = Math.min(n, LEAST * step);
  const span = () => view.to - view.from;
  // the whole chart has the rows of usage.png, which are single samples only if a rule chose them
  const single = () => marks !== null && span() / step <= MANY && (span() < n || edges.length === n + 1);
  const level = () => levels[span() <= n / 4 ? levels.length - 1 : 0];

  function band(place) {
    if (single()) {
      const at = Math.min(singles - 1, Math.floor(place / step));
      return { at, from: at * step, to: Math.min(n, (at + 1) * step), size: 1 };
    }
    const { rows } = level();
    let size = 1;
    while (size < rows && (box.h * size * n) / rows / span() < BAND) size *= 2;
    const at = Math.floor(blockAt(level(), place) / size);
    return { at, from: edge(level(), at * size), to: edge(level(), Math.min(rows, (at + 1) * size)), size };
  }

  function sum(counts, at, size, epoch) {
    const { rows } = level();
    let total = 0;
    for (let block = at * size; counts && block < Math.min(rows, (at + 1) * size); block++) total += counts[epoch * rows + block];
    return total;
  }

  function reading(spot) {
    const { at, from, to, size } = band(spot.place);
    const when = `epoch ${epochs[spot.epoch]}`;
    if (single()) {
      const what = fate(at, spot.epoch);
      const became = what > 2 ? `left out as ${reasons[what]}` : reasons[what];
      const of = classes.length ? `, class ${classes[classAt(first + at * step)][0]}` : "";
      return `Sample ${ids[at]}${of}, ${when}: ${became}.`;
    }
    let of = "";
    if (classes.length) {
      const [low, high] = [classAt(from), classAt(to - 1)];
      of = low === high ? `, class ${classes[low][0]}` : `, classes ${classes[low][0]} to ${classes[high][0]}`;
    }
    const used = sum(level().counts, at, size, spot.epoch), odd = sum(level().outliers, at, size, spot.epoch);
    const besides = odd ? `; ${count(odd)} left out as outlier${odd === 1 ? "" : "s"}` : "";
    const part = (100 * used) / (to - from);
    const rounded = used && used < to - from ? Math.min(99.9, Math.max(0.1, part)).toFixed(1) : part.toFixed(0);
    return `Places ${count(from)} to ${count(to - 1)}${of}, ${when}: ${rounded}% used, ${count(used)} of ${count(to - from)} samples${besides}.`;
  }

  function colours(printing) {
    if (printing) return { used: "#0072b2", ink: "#000", soft: "#444", rule: "#bbb", outlier: "#d55e00", learned: "#777", drawn: "#0072b2", hand: "#cc79a7" };
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    return { used: of("used"), ink: of("ink"), soft: of("soft"), rule: of("rule"), outlier: of("outliers"), learned: of("soft"), drawn: of("link"), hand: of("by-hand") };
  }

  const hue = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));

  function drawShares(palette, ratio) {
    const height = Math.max(1, Math.round(box.h * ratio));
    const image = new ImageData(columns, height), { counts, outliers, rows } = level();
    const hues = [hue(palette.used), hue(palette.outlier)];
    const depth = (part, size) => (part === 0 ? 0 : part >= size ? 1 : PALEST + (DARKER * part) / size);
    for (let y = 0; y < height; y++) {
      const low = blockAt(level(), Math.floor(view.from + (y * span()) / height));
      const high = Math.max(low, blockAt(level(), Math.ceil(view.from + ((y + 1) * span()) / height) - 1));
      for (let epoch = 0; epoch < columns; epoch++) {
        const size = Math.min(edge(level(), high + 1) - edge(level(), low), facts.sizes[epoch]);
        let used = 0, odd = 0;
        for (let block = low; block <= high; block++) {
          used += counts[epoch * rows + block];
          if (outliers) odd += outliers[epoch * rows + block];
        }
        const [a, b] = [depth(used, size), depth(odd, size)], all = a + b, at = 4 * (y * columns + epoch);
        for (let i = 0; all && i < 3; i++) image.data[at + i] = (a * hues[0][i] + b * hues[1][i]) / all;
        image.data[at + 3] = 255 * all;
      }
    }
    const sheet = new OffscreenCanvas(columns, height);
    sheet.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(sheet, box.x, box.y, box.w, box.h);
  }

  // a bar beside each row: the share of epochs that used its samples
  function drawTimes(palette) {
    if (!side) return;
    const { counts, rows } = level(), x = box.x + box.w + 10, wide = side - 18;
    pen.fillStyle = palette.used;
    const ends = single() ? [Math.floor(view.from / step), Math.min(singles, Math.ceil(view.to / step))]
      : [blockAt(level(), Math.floor(view.from)), blockAt(level(), Math.ceil(view.to) - 1) + 1];
    for (let at = ends[0]; at < ends[1]; at++) {
      let used = 0;
      for (let epoch = 0; epoch < columns; epoch++) used += single() ? fate(at, epoch) === USED : counts[epoch * rows + at];
      const [from, to] = single() ? [at * step, Math.min(n, (at + 1) * step)] : [edge(level(), at), edge(level(), at + 1)];
      const top = Math.max(box.y, toY(from)), bottom = Math.min(box.y + box.h, toY(to));
      const share = used / columns / (single() ? 1 : to - from);
      pen.fillRect(x, top, wide * share, Math.max(0.5, bottom - top));
    }
    pen.fillStyle = palette.rule;
    pen.fillRect(x, box.y, 1, box.h);
    pen.fillRect(x + wide, box.y, 1, box.h);
    pen.fillStyle = palette.soft;
    pen.textAlign = "center";
    pen.textBaseline = "top";
    pen.fillText("% of", x + wide / 2, box.y + box.h + 6);
    pen.fillText("epochs", x + wide / 2, box.y + box.h + 20);
  }

  // the strip below: the share of samples that each epoch used, and the accuracy after it
  function drawStrip(palette) {
    const wide = box.w / columns, { counts, rows } = levels[0];
    const [r, g, b] = hue(palette.used);
    pen.fillStyle = `rgba(${r}, ${g}, ${b}, 0.3)`;
    pen.beginPath();
    for (let epoch = 0; epoch < columns; epoch++) {
      let used = 0;
      for (let row = 0; row < rows; row++) used += counts[epoch * rows + row];
      const high = (strip.h * used) / facts.sizes[epoch];
      pen.rect(box.x + epoch * wide, strip.y + strip.h - high, wide + 0.5, high);
    }
    pen.fill();
    pen.strokeStyle = palette.rule;
    pen.lineWidth = 1;
    pen.strokeRect(box.x - 0.5, strip.y - 0.5, box.w + 1, strip.h + 1);
    pen.textBaseline = "middle";
    if (side) {
      pen.fillStyle = palette.drawn;
      pen.textAlign = "left";
      [["100% used", 0], ["0%", 1]].forEach(([label, at]) => pen.fillText(label, box.x + box.w + 6, strip.y + at * strip.h + (at ? -5 : 5)));
    }
    if (!reached) return;
    pen.fillStyle = palette.soft;
    pen.textAlign = "right";
    const shown = reached.levels.filter((_, i) => i === 0 || i === reached.levels.length - 1);
    for (const [y, label] of shown) pen.fillText(label, box.x - 8, strip.y + (y * strip.h) / 100 + (y < 50 ? 5 : -5));
    pen.strokeStyle = pen.fillStyle = palette.ink;
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.beginPath();
    const points = reached.line.map(([x, y]) => [box.x + (x * box.w) / 1000, strip.y + (y * strip.h) / 100]);
    points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.stroke();
    if (columns > 60) return;
    for (const [x, y] of points) {
      pen.beginPath();
      pen.arc(x, y, 2.5, 0, 2 * Math.PI);
      pen.fill();
    }
  }

  const toY = (place) => box.y + ((place - view.from) * box.h) / span();

  function drawGlyph(what, x, y, size, palette) {
    const r = size / 2;
    pen.lineWidth = Math.max(1, size / 5);
    pen.beginPath();
    if (what === OUTLIER) {
      pen.strokeStyle = palette.outlier;
      pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r); pen.moveTo(x + r, y - r); pen.lineTo(x - r, y + r);
    } else if (what === BY_HAND) {
      pen.strokeStyle = palette.hand;
      pen.moveTo(x - r, y); pen.lineTo(x + r, y);
    } else if (what === ABSENT) {
      pen.strokeStyle = palette.soft;
      pen.moveTo(x - r, y + r); pen.lineTo(x + r, y - r);
    } else {
      pen.strokeStyle = pen.fillStyle = what === NOT_DRAWN ? palette.drawn : palette.learned;
      pen.arc(x, y, what === LEARNED ? r / 2 : r * 0.7, 0, 2 * Math.PI);
      if (what === LEARNED) { pen.fill(); return; }
    }
    pen.stroke();
  }

  function drawMarks(palette) {
    const wide = box.w / columns, high = (box.h * step) / span();
    const from = Math.floor(view.from / step), to = Math.min(singles, Math.ceil(view.to / step));
    const across = wide > 6 ? Math.min(2, wide * 0.12) : 0, down = high > 4 ? Math.min(2, high * 0.15) : 0;
    const legible = wide >= LEGIBLE && high >= LEGIBLE;
    for (let row = from; row < to; row++) {
      const y = box.y + ((row * step - view.from) * box.h) / span();
      for (let epoch = 0; epoch < columns; epoch++) {
        const what = fate(row, epoch), x = box.x + epoch * wide;
        if (what === USED) {
          pen.fillStyle = palette.used;
          pen.fillRect(x + across / 2, y + down / 2, wide - across, Math.max(0.5, high - down));
        } else if (legible) {
          drawGlyph(what, x + wide / 2, y + high / 2, Math.min(wide, high, 14) * 0.5, palette);
        }
      }
    }
  }

  function drawAxes(palette) {
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = palette.soft;
    pen.textAlign = "center";
    pen.textBaseline = "top";
    const each = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((by) => (box.w * by) / columns >= 34) || 500;
    let free = -Infinity;
    for (let epoch = 0; epoch < columns; epoch++) {
      const x = box.x + ((epoch + 0.5) * box.w) / columns;
      if ((epochs[epoch] - (each > 2 ? 0 : epochs[0])) % each && epoch) continue;
      if (x < free) continue;
      pen.fillText(String(epochs[epoch]), x, strip.y + strip.h + 8);
      free = x + 26;
    }
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    let named = 0;
    classes.forEach(([name, start], i) => {
      const end = i + 1 < classes.length ? classes[i + 1][1] : n;
      const top = Math.max(view.from, start), bottom = Math.min(view.to, end), high = toY(bottom) - toY(top);
      if (top >= bottom || high < 5) return;
      if (start > view.from) {
        pen.fillStyle = palette.ink;
        pen.fillRect(box.x - 6, Math.round(toY(start)), box.w + 6, 1);
      }
      if (high < 14) return;
      pen.fillStyle = palette.soft;
      pen.fillText(clipped(name, box.x - 16), box.x - 8, (toY(top) + toY(bottom)) / 2);
      named++;
    });
    if (named) return;
    pen.fillStyle = palette.soft;
    for (let i = 0; i <= 4; i++) {
      pen.fillText(count(view.from + (i * span()) / 4), box.x - 8, box.y + (i * box.h) / 4 + (i === 0 ? 5 : i === 4 ? -5 : 0));
    }
  }

  function clipped(name, wide) {
    const letters = [...name];
    let cut = name;
    for (let size = letters.length - 1; size > 1 && pen.measureText(cut).width > wide; size--) {
      cut = `${letters.slice(0, Math.ceil(size / 2)).join("")}…${letters.slice(letters.length - Math.floor(size / 2)).join("")}`;
    }
    return cut;
  }

  function drawCursor(palette) {
    if (!cursor) return;
    const { from, to } = band(cursor.place), wide = box.w / columns;
    const y = box.y + ((from - view.from) * box.h) / span(), high = ((to - from) * box.h) / span();
    pen.lineWidth = 2;
    pen.strokeStyle = palette.ink;
    pen.strokeRect(box.x + cursor.epoch * wide - 1, y - 1, Math.max(wide, 4) + 2, Math.max(high, 4) + 2);
  }

  function draw(printing = false) {
    const room = chart.clientWidth, palette = colours(printing === true);
    const gutter = room < 480 ? 74 : 108, ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.max(room, gutter + columns * 2 + 12);
    const height = Math.round(Math.min(680, Math.max(400, window.innerHeight * 0.72)));
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    side = room < 480 ? 0 : 84;
    strip = { y: height - 96, h: 64 };
    box = { x: gutter, y: 10, w: width - gutter - 12 - side, h: height - 116 - (side ? 26 : 0) };
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.save();
    pen.beginPath();
    pen.rect(box.x, box.y, box.w, box.h);
    pen.clip();
    if (single()) drawMarks(palette);
    else drawShares(palette, ratio);
    pen.restore();
    pen.strokeStyle = palette.rule;
    pen.lineWidth = 1;
    pen.strokeRect(box.x - 0.5, box.y - 0.5, box.w + 1, box.h + 1);
    drawAxes(palette);
    drawTimes(palette);
    drawStrip(palette);
    drawCursor(palette);
  }

  let asked = false;
  function later() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  }

  function describe() {
    const seen = Math.min(singles, Math.ceil(view.to / step)) - Math.floor(view.from / step);
    const each = step === 1 ? "" : `: every ${step}${step % 10 === 2 && step % 100 !== 12 ? "nd" : step % 10 === 3 && step % 100 !== 13 ? "rd" : step % 10 === 1 && step % 100 !== 11 ? "st" : "th"} sample`;
    byId("level").textContent = single()
      ? `${count(seen)} single samples${each}, of ${count(n)}`
      : `${count(span())} of ${count(n)} samples, about ${(n / level().rows).toLocaleString("en", { maximumFractionDigits: n < 10 * level().rows ? 1 : 0 })} in a row`;
    byId("legend-shares").hidden = single();
    byId("legend-marks").hidden = !single();
    byId("out").disabled = byId("whole").disabled = span() >= n;
    byId("in").disabled = span() <= least;
    if (span() < n) chart.dataset.zoomed = "";
    else delete chart.dataset.zoomed;
  }

  function look(from, size) {
    const now = Math.min(n, Math.max(least, size));
    view.from = Math.min(n - now, Math.max(0, from));
    view.to = view.from + now;
    describe();
    later();
  }

  function zoom(factor, place = cursor ? cursor.place : (view.from + view.to) / 2) {
    const size = Math.min(n, Math.max(least, span() / factor));
    look(place - ((place - view.from) * size) / span(), size);
  }

  function say(aloud) {
    const sentence = cursor ? reading(cursor) : "\u00a0";
    byId("reading").textContent = sentence;
    if (aloud) byId("live").textContent = sentence;
  }

  function put(place, epoch) {
    cursor = { place: Math.min(n - 1, Math.max(0, place)), epoch: Math.min(columns - 1, Math.max(0, epoch)) };
    const { from, to } = band(cursor.place);
    if (from < view.from) look(from, span());
    else if (to > view.to) look(to - span(), span());
    say(true);
    later();
  }

  function move(down, across) {
    if (!cursor) return put(view.from, 0);
    const { from, to } = band(cursor.place);
    return put(down > 0 ? to + (down - 1) * (to - from) : down < 0 ? from - 1 + (down + 1) * (to - from) : cursor.place, cursor.epoch + across);
  }

  function openAtCursor() {
    if (!cursor) return;
    if (!single()) { zoom(8); say(true); return; }
    const at = band(cursor.place).at, row = samples.findIndex((sample) => sample[0] === ids[at]);
    if (row >= 0) openShown(row);
    else openOther(at);
  }

  const keys = {
    ArrowUp: (shift) => move(shift ? -10 : -1, 0),
    ArrowDown: (shift) => move(shift ? 10 : 1, 0),
    ArrowLeft: (shift) => move(0, shift ? -10 : -1),
    ArrowRight: (shift) => move(0, shift ? 10 : 1),
    Home: () => move(0, -columns),
    End: () => move(0, columns),
    PageUp: () => { look(view.from - span(), span()); put(view.from, cursor ? cursor.epoch : 0); },
    PageDown: () => { look(view.from + span(), span()); put(view.from, cursor ? cursor.epoch : 0); },
    "+": () => { zoom(2); say(true); },
    "=": () => { zoom(2); say(true); },
    "-": () => { zoom(0.5); say(true); },
    Enter: openAtCursor,
    Escape: () => { if (span() >= n) cursor = null; look(0, n); say(true); },
  };

  function listen() {
    const down = new Map();
    let moved = 0, pinch = 0;
    const spot = (event) => {
      const area = canvas.getBoundingClientRect();
      return {
        place: view.from + ((event.clientY - area.top - box.y) * span()) / box.h,
        epoch: Math.floor(((event.clientX - area.left - box.x) * columns) / box.w),
      };
    };
    const inside = ({ place, epoch }) => place >= view.from && place < view.to && epoch >= 0 && epoch < columns;
    const apart = () => {
      const [a, b] = [...down.values()];
      return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) || 1;
    };
    chart.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
      event.preventDefault();
      keys[event.key](event.shiftKey);
    });
    chart.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== chart) return;
      if (event.deltaY > 0 && span() >= n) return;
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.003)), spot(event).place);
    }, { passive: false });
    chart.addEventListener("pointerdown", (event) => {
      down.set(event.pointerId, event);
      moved = 0;
      if (down.size === 2) pinch = apart();
    });
    chart.addEventListener("pointermove", (event) => {
      const before = down.get(event.pointerId);
      if (!before) {
        if (inside(spot(event))) byId("reading").textContent = reading(spot(event));
        return;
      }
      moved += Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY);
      down.set(event.pointerId, event);
      if (down.size === 2) {
        const now = apart(), [a, b] = [...down.values()];
        zoom(now / pinch, (spot(a).place + spot(b).place) / 2);
        pinch = now;
      } else if (span() < n && moved > 4) {
        look(view.from - ((event.clientY - before.clientY) * span()) / box.h, span());
      }
    });
    const up = (event) => {
      const pressed = down.delete(event.pointerId);
      if (pressed && event.type === "pointerup" && down.size === 0 && moved < 6 && inside(spot(event))) {
        const { place, epoch } = spot(event);
        put(place, epoch);
      }
    };
    for (const name of ["pointerup", "pointercancel", "pointerleave"]) chart.addEventListener(name, up);
    chart.addEventListener("pointerleave", () => say(false));
    chart.addEventListener("dblclick", (event) => zoom(4, spot(event).place));
    byId("in").addEventListener("click", () => { zoom(4); say(true); });
    byId("out").addEventListener("click", () => { zoom(0.25); say(true); });
    byId("whole").addEventListener("click", () => { look(0, n); say(true); });
    new ResizeObserver(later).observe(chart);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later);
    window.addEventListener("beforeprint", () => draw(true));
    window.addEventListener("afterprint", later);
  }

  function nameMarks() {
    const palette = ["·", "■", "○", "●", "✕", "○", "–"];
    const pairs = new Set(marks.length < 4e6 ? marks : marks.subarray(0, 4e6));
    const seen = new Set([...pairs].flatMap((pair) => [pair & 15, pair >> 4]));
    reasons.forEach((name, i) => {
      if (!seen.has(i) || (i === ABSENT && facts.sizes.every((size) => size === n))) return;
      const line = make("li"), glyph = make("span", palette[i], "swatch glyph");
      glyph.setAttribute("aria-hidden", "true");
      line.append(glyph, name);
      byId("legend-marks").append(line);
    });
  }

  // ---- the history of a sample ----------------------------------------------------------------------------------

  let histories = null;
  const dialog = byId("life");

  function historyTable(fates, scores) {
    const box = make("div", undefined, "scroll"), table = make("table"), head = make("tr"), body = make("tbody");
    for (const title of ["epoch", "use", ...(scores ? ["score"] : [])]) {
      const cell = make("th", title);
      cell.scope = "col";
      head.append(cell);
    }
    fates.forEach((what, i) => {
      const row = make("tr"), name = make("th", String(epochs[i]));
      name.scope = "row";
      row.append(name, make("td", what > 2 ? `left out: ${reasons[what]}` : reasons[what]));
      if (scores) row.append(make("td", Number.isFinite(scores[i]) ? scores[i].toPrecision(3) : "–"));
      body.append(row);
    });
    const top = make("thead");
    top.append(head);
    table.append(top, body);
    box.append(table);
    box.tabIndex = 0;
    return box;
  }

  function show(title, ...parts) {
    byId("life-title").textContent = title;
    byId("life-body").replaceChildren(...parts);
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  function listed(pairs) {
    const list = make("dl");
    for (const [key, value] of pairs) if (value !== null && value !== undefined) list.append(make("dt", key), make("dd", String(value)));
    return list;
  }

  async function openShown(row) {
    histories ??= Promise.all([unpack("scores"), unpack("fates")]);
    const [raw, all] = await histories;
    const scores = new Float32Array(raw.buffer).subarray(row * columns, (row + 1) * columns);
    const fates = all.subarray(row * columns, (row + 1) * columns);
    const [index, given, predicted, score, times, file] = samples[row];
    const card = document.querySelector(`[data-row="${row}"]`), parts = [];
    const facing = make("div", undefined, "facing");
    for (const part of card.querySelectorAll("img, .excerpt")) facing.append(part.cloneNode(true));
    facing.append(listed([["given", given], ["predicted", predicted], ["last score", `${score}${facts.unit ? ` ${facts.unit}` : ""}`],
      ["used in", `${times} of ${facts.total} epochs`], ["file", file]]));
    parts.push(facing);
    const spark = card.querySelector(".spark").cloneNode(true);
    parts.push(spark, historyTable([...fates], scores));
    show(`Sample ${index}`, ...parts);
  }

  function openOther(at) {
    const fates = epochs.map((_, epoch) => fate(at, epoch));
    const used = fates.filter((what) => what === USED).length;
    const of = classes.length ? classes[classAt(first + at * step)][0] : null;
    const note = make("p", `The report has scores only for the samples that it shows. For this one: fallow inspect RUN ${ids[at]}`, "note");
    show(`Sample ${ids[at]}`, listed([["class", of], ["used in", `${used} of ${columns} epochs`]]), note, historyTable(fates, null));
  }

  // ---- start ----------------------------------------------------------------------------------------

  async function begin() {
    document.addEventListener("click", (event) => {
      const card = event.target.closest ? event.target.closest(".card") : null;
      if (card) openShown(Number(card.dataset.row));
    });
    byId("close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    levels = [await counted("rows", edges.length - 1, edges)];
    describe();
    draw();
    listen();
    const [planes, halves] = await Promise.all([unpack("ids"), unpack("marks")]);
    ids = wholeNumbers(planes);
    if (byId("d-fine")) levels.push(await counted("fine", facts.fine, null));
    marks = halves;
    nameMarks();
    describe();
    draw();
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  }

  begin();
})();
