// The usage chart on a canvas: shades for rows of many samples, one mark for each use of a single sample.

import { OUTLIER, USED, rowAt, shareOf } from "./layers.js";
import { count } from "./words.js";

const PALEST = 0.1, DARKER = 0.72, LEGIBLE = 7, KEPT = 2, LEARNED = 3, NOT_DRAWN = 5, BY_HAND = 6;

export function palette() {
  const style = getComputedStyle(document.documentElement), of = (name) =>
    style.getPropertyValue(`--${name}`).trim();
  return { used: of("used"), ink: of("ink"), soft: of("soft"), rule: of("rule"), faint: of("faint"),
    outlier: of("outliers"), learned: of("soft"), drawn: of("link"), hand: of("by-hand") };
}

/** Where the chart stands in a canvas of a width. */
export function boxOf(width, height) {
  const gutter = width < 480 ? 70 : 118;
  return { x: gutter, y: 8, w: Math.max(40, width - gutter - 10), h: height - 44 };
}

const hue = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
const depth = ({ share, none, all }) => (none ? 0 : all ? 1 : PALEST + DARKER * share);

function drawShades(pen, layer, view, box, colours, ratio) {
  const span = view.to - view.from, from = Math.max(view.from, layer.first),
    to = Math.min(view.to, layer.last);
  const top = ((from - view.from) * box.h) / span, tall = ((to - from) * box.h) / span;
  const high = Math.max(1, Math.round(tall * ratio)), { columns } = layer,
    image = new ImageData(columns, high);
  const [blue, orange, gone] = [hue(colours.used), hue(colours.outlier), hue(colours.faint)];
  for (let y = 0; y < high; y++) {
    const low = rowAt(layer, from + (y * (to - from)) / high);
    const last = Math.max(low, rowAt(layer, Math.ceil(from + ((y + 1) * (to - from)) / high) - 1));
    for (let epoch = 0; epoch < columns; epoch++) {
      const found = shareOf(layer, low, last, epoch), at = 4 * (y * columns + epoch);
      if (!found.there) { image.data.set([...gone, 255], at); continue; }
      const a = depth(found), b = found.odd > 0 ? (found.odd >= 1 ? 1 : PALEST + DARKER * found.odd) : 0,
        all = Math.min(1, a + b);
      for (let i = 0; all && i < 3; i++) image.data[at + i] = (a * blue[i] + b * orange[i]) / (a + b);
      image.data[at + 3] = 255 * all;
    }
  }
  const sheet = new OffscreenCanvas(columns, high);
  sheet.getContext("2d").putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.clearRect(box.x, box.y + top, box.w, tall);
  pen.drawImage(sheet, box.x, box.y + top, box.w, tall);
}

function drawGlyph(pen, fate, x, y, size, colours) {
  const r = size / 2;
  pen.lineWidth = Math.max(1, size / 5);
  pen.beginPath();
  if (fate === OUTLIER) {
    pen.strokeStyle = colours.outlier;
    pen.moveTo(x - r, y - r); pen.lineTo(x + r, y + r); pen.moveTo(x + r, y - r); pen.lineTo(x - r, y + r);
  } else if (fate === BY_HAND) {
    pen.strokeStyle = colours.hand;
    pen.moveTo(x - r, y); pen.lineTo(x + r, y);
  } else if (fate === LEARNED) {
    pen.fillStyle = colours.learned;
    pen.arc(x, y, r / 2, 0, 2 * Math.PI);
    pen.fill();
    return;
  } else if (fate === NOT_DRAWN || fate === KEPT) {
    pen.strokeStyle = fate === NOT_DRAWN ? colours.drawn : colours.learned;
    pen.arc(x, y, r * 0.7, 0, 2 * Math.PI);
  } else {
    pen.strokeStyle = colours.soft;
    pen.moveTo(x - r, y + r); pen.lineTo(x + r, y - r);
  }
  pen.stroke();
}

function drawMarks(pen, layer, view, box, colours) {
  const { columns, fates, first } = layer, wide = box.w / columns, high = box.h / (view.to - view.from);
  const across = wide > 6 ? Math.min(2, wide * 0.12) : 0, down = high > 4 ? Math.min(2, high * 0.15) : 0;
  const legible = wide >= LEGIBLE && high >= LEGIBLE;
  for (let row = Math.max(0, Math.floor(view.from) - first); row < Math.min(layer.rows,
    Math.ceil(view.to) - first); row++) {
    const y = box.y + (row + first - view.from) * high;
    for (let epoch = 0; epoch < columns; epoch++) {
      const fate = fates[row * columns + epoch], x = box.x + epoch * wide;
      if (fate === USED) {
        pen.fillStyle = colours.used;
        pen.fillRect(x + across / 2, y + down / 2, wide - across, Math.max(0.5, high - down));
      } else if (legible) drawGlyph(pen, fate, x + wide / 2, y + high / 2, Math.min(wide, high, 14) * 0.5,
        colours);
    }
  }
}

function clipped(pen, name, wide) {
  const letters = [...name];
  let cut = name;
  for (let size = Math.min(40, letters.length - 1); size > 1 && pen.measureText(cut).width > wide; size--) {
    cut = `${letters.slice(0,
      Math.ceil(size / 2)).join("")}…${letters.slice(letters.length - Math.floor(size / 2)).join("")}`;
  }
  return cut;
}

function drawAxes(pen, { view, box, epochs, classes, n }, colours) {
  const toY = (place) => box.y + ((place - view.from) * box.h) / (view.to - view.from);
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = colours.soft;
  pen.textAlign = "center";
  pen.textBaseline = "top";
  const each = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((by) => (box.w * by) / epochs.length >= 34) || 500;
  let free = -Infinity;
  epochs.forEach((epoch, i) => {
    const x = box.x + ((i + 0.5) * box.w) / epochs.length;
    if (((epoch + 1 - (each > 2 ? 0 : epochs[0] + 1)) % each && i) || x < free) return;
    pen.fillText(String(epoch + 1), x, box.y + box.h + 6);
    free = x + 26;
  });
  pen.fillText("epoch", box.x + box.w / 2, box.y + box.h + 21);
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  let free_y = -Infinity;
  classes.forEach(({ name, place }, i) => {
    const end = i + 1 < classes.length ? classes[i + 1].place : n;
    const from = Math.max(view.from, place), to = Math.min(view.to, end), middle = (toY(from) + toY(to)) / 2;
    if (from >= to || toY(to) - toY(from) < 13 || middle < free_y) return;
    if (place > view.from) {
      pen.fillStyle = colours.ink;
      pen.fillRect(box.x - 6, Math.round(toY(place)), box.w + 6, 1);
    }
    pen.fillStyle = colours.soft;
    pen.fillText(clipped(pen, name, box.x - 16), box.x - 10, middle);
    free_y = middle + 13;
  });
  if (free_y > -Infinity) return;
  const steps = Math.min(4, Math.max(1, Math.round(view.to - view.from)));
  for (let i = 0; i <= steps; i++) pen.fillText(count(view.from + (i * (view.to - view.from)) / steps),
    box.x - 8, box.y + (i * box.h) / steps + (i === 0 ? 6 : i === steps ? -6 : 0));
}

/** A bar at the left edge of each row that holds a sample which no epoch used. */
function drawNever(pen, layer, view, box, colours) {
  pen.fillStyle = colours.outlier;
  const high = box.h / (view.to - view.from);
  for (let row = rowAt(layer, view.from); row < layer.rows && layer.edges[row] < view.to; row++) {
    if (!layer.never[row]) continue;
    const top = Math.max(box.y, box.y + (layer.edges[row] - view.from) * high);
    const bottom = Math.min(box.y + box.h, box.y + (layer.edges[row + 1] - view.from) * high);
    pen.fillRect(box.x - 5, top, 3, Math.max(0.75, bottom - top));
  }
}

/** Draw the chart: `scene` has layers, view, box, epochs, classes, n, cursor: {from, to, epoch} or null. */
export function draw(canvas, scene, width, height) {
  const ratio = Math.min(2, window.devicePixelRatio || 1), pen = canvas.getContext("2d"), colours = palette();
  const size = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  const { view, box, layers, cursor } = scene;
  pen.save();
  pen.beginPath();
  pen.rect(box.x, box.y, box.w, box.h);
  pen.clip();
  for (const layer of layers) {
    if (layer.last <= view.from || layer.first >= view.to) continue;
    if (layer.fates && box.h / (view.to - view.from) >= 2) {
      pen.clearRect(box.x, box.y, box.w, box.h);
      drawMarks(pen, layer, view, box, colours);
    } else drawShades(pen, layer, view, box, colours, ratio);
  }
  pen.restore();
  pen.strokeStyle = colours.rule;
  pen.lineWidth = 1;
  pen.strokeRect(box.x - 0.5, box.y - 0.5, box.w + 1, box.h + 1);
  drawAxes(pen, scene, colours);
  if (layers.length) drawNever(pen, layers.at(-1), view, box, colours);
  if (!cursor) return;
  const wide = box.w / scene.epochs.length, scale = box.h / (view.to - view.from);
  pen.lineWidth = 2;
  pen.strokeStyle = colours.ink;
  pen.strokeRect(box.x + cursor.epoch * wide - 1, box.y + (cursor.from - view.from) * scale - 1,
    Math.max(wide, 4) + 2, Math.max((cursor.to - cursor.from) * scale, 4) + 2);
}
