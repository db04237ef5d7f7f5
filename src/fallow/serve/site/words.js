// Words and numbers as the pages show them.

/** What became of a sample: the field of the counts, the word, the word in filters, the glyph of the
    chart. */
export const REASONS = [
  { field: "kept", text: "kept", value: "kept" },
  { field: "learned", text: "learned", value: "learned" },
  { field: "outliers", text: "outlier", value: "outlier" },
  { field: "not_drawn", text: "not drawn", value: "not_drawn" },
  { field: "by_hand", text: "by hand", value: "by_hand" },
];

/** What a tile says of a sample in an epoch, by its number, and the sign beside it. */
export const FATES = ["not there yet", "used", "kept, not used", "learned", "outlier", "not drawn",
  "by hand"];
export const SIGNS = ["·", "■", "○", "●", "✕", "○", "–"];

/** A run's state in a word, with a sign that does not need its colour. */
export const STATES = {
  running: ["▶", "good"], finished: ["✓", "good"], stopped: ["■", "calm"], stalled: ["‖", "bad"],
  crashed: ["✕", "bad"], diverged: ["≈", "bad"], damaged: ["!", "bad"],
};

export const count = (value) => (value === null || value === undefined ? "–" :
  Math.round(value).toLocaleString());

/** A share in percent; what is neither none nor all is never shown as either. */
export function percent(share, digits = 1) {
  if (share === null || share === undefined || !Number.isFinite(share)) return "–";
  const least = 10 ** -digits;
  const value = share <= 0 || share >= 1 ? 100 * share : Math.min(100 - least, Math.max(least, 100 * share));
  return `${value.toLocaleString(undefined, { maximumFractionDigits: digits })}%`;
}

export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-4)
    ? value.toExponential(1).replace(".0e", "e").replace("e-", "e−").replace("e+", "e")
    : value.toLocaleString(undefined, { maximumSignificantDigits: digits });
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${number(seconds, 2)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${number(seconds / 3600, 2)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export const ago = (seconds) => (seconds < 1 ? "just now" : `${duration(Math.floor(seconds))} ago`);

export const plural = (size, one, several = `${one}s`) => `${count(size)} ${size === 1 ? one : several}`;

export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** What a run reached, in the metric that it has. */
export function reached(row) {
  if (row.bits_per_character !== null && row.bits_per_character !== undefined) {
    return `${number(row.bits_per_character, 4)} bits a character`;
  }
  if (row.accuracy !== null && row.accuracy !== undefined) return percent(row.accuracy, 2);
  return row.test_loss === null || row.test_loss === undefined ? "–" : `loss ${number(row.test_loss, 4)}`;
}
