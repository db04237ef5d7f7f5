// Light or dark: as the system says, unless the person chose.

const NAME = "fallow-theme", dark = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try { return localStorage.getItem(NAME); } catch { return null; }
}

export const theme = () => document.documentElement.dataset.theme;

function apply() {
  document.documentElement.dataset.theme = stored() || (dark.matches ? "dark" : "light");
  dispatchEvent(new Event("fallow-theme"));
}

export function startTheme() {
  dark.addEventListener("change", apply);
  apply();
}

/** Change it; the choice is forgotten where it is what the system says. */
export function toggleTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  try {
    if ((next === "dark") === dark.matches) localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, next);
  } catch { /* a browser that keeps nothing follows the system */ }
  apply();
  document.documentElement.dataset.theme = next;
  dispatchEvent(new Event("fallow-theme"));
}
