// Parts of the usage chart as they came from the server, all in one form: rows of samples, with a share per
// epoch.
//
// A layer has { first, last, rows, columns, edges, cells, odd }: row r holds the places edges[r]
// to edges[r + 1] - 1, and cells[r * columns + e] says how many of its samples epoch e used: 0 none, 1 to 253
// some, 254 all, 255 not there.
// A layer of single samples also has `ids` and `fates`, one row a sample.

export const ALL = 254, ABSENT = 255, USED = 1, OUTLIER = 4, MOST = 1024;

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

export function fromRaster(answer) {
  const never = bytes(answer.never), rows = answer.edges.length - 1;
  return {
    first: answer.first, last: answer.last, rows, columns: answer.epochs.length, edges: answer.edges,
      cells: bytes(answer.cells),
    odd: answer.outliers ? bytes(answer.outliers) : null,
    never: Uint8Array.from({ length: rows }, (_, row) => (never[row >> 3] >> (row & 7)) & 1),
  };
}

export function fromTile(answer) {
  const rows = answer.samples.length, columns = answer.epochs.length, fates = bytes(answer.fates);
  const never = new Uint8Array(rows).fill(1);
  fates.forEach((fate, i) => { if (fate === USED) never[Math.floor(i / columns)] = 0; });
  return {
    first: answer.first, last: answer.first + rows, rows, columns, edges: Array.from({ length: rows + 1 },
      (_, i) => answer.first + i),
    cells: fates.map((fate) => (fate === USED ? ALL : fate === 0 ? ABSENT : 0)),
      odd: fates.map((fate) => (fate === OUTLIER ? ALL : 0)),
    never, fates, ids: answer.samples,
  };
}

/** The row of a layer that holds a place. */
export function rowAt({ edges, rows }, place) {
  let low = 0, high = rows - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (edges[middle] <= place) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** How much of some rows an epoch used: { share, none, all, odd, there }; `none` and `all` are exact. */
export function shareOf({ edges, cells, odd, columns }, low, high, epoch) {
  let part = 0, strange = 0, size = 0, none = true, all = true;
  for (let row = low; row <= high; row++) {
    const cell = cells[row * columns + epoch], wide = edges[row + 1] - edges[row];
    if (cell === ABSENT) continue;
    size += wide;
    part += (wide * cell) / ALL;
    if (cell) none = false;
    if (cell !== ALL) all = false;
    if (odd && odd[row * columns + epoch] !== ABSENT) strange += (wide * odd[row * columns + epoch]) / ALL;
  }
  return { share: size ? part / size : 0, odd: size ? strange / size : 0, none, all: all && size > 0,
    there: size > 0 };
}

export const covers = (layer, view) => Boolean(layer) && layer.first <= view.from + 1e-6 &&
  layer.last >= view.to - 1e-6;

export function classAt(classes, place) {
  let low = 0, high = classes.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (classes[middle].place <= place) low = middle;
    else high = middle - 1;
  }
  return classes.length ? classes[low].name : null;
}
