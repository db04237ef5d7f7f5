// The screens: the first ones come with the page, the others when they are chosen, or when there is time.

import { html, useEffect, useState } from "./htm-preact.js";
import { Failure } from "./api.js";
import { Overview } from "./overview.js";
import { Waiting } from "./parts.js";
import { Runs } from "./runs.js";
import { capital } from "./words.js";

const LATER = 1000, AGAIN = 2000;
const OF_RUN = ["scores", "usage", "browse", "suspects", "gaps", "health", "more"];
const there = { runs: Runs, overview: Overview }, coming = {}, failed = {};

/** Whether a screen shows a run. */
export const isOfRun = (name) => name === "overview" || OF_RUN.includes(name);

function load(name) {
  // A browser does not ask again for a module that did not come, unless it has another address.
  const more = failed[name] ? `?${failed[name]}` : "";
  return coming[name] ??= import(`./${name}.js${more}`).then((module) => {
    there[name] = module[capital(name)];
  }, (error) => {
    failed[name] = (failed[name] ?? 0) + 1;
    delete coming[name];
    throw error;
  });
}

/** Load the screens that are not here yet, once the first one has been drawn. */
export function loadOthers() {
  setTimeout(() => [...OF_RUN, "compare"].forEach((name) => load(name).catch(() => {})), LATER);
}

export function Screen({ name }) {
  const [answer, setAnswer] = useState({});
  useEffect(() => {
    let left = false, timer;
    const go = () => load(name).then(() => { if (!left) setAnswer({ value: name }); }, () => {
      if (left) return;
      setAnswer({ failure: new Failure("The server does not answer.", "away", 0) });
      timer = setTimeout(go, AGAIN);
    });
    if (!there[name]) go();
    return () => { left = true; clearTimeout(timer); };
  }, [name]);
  return there[name] ? html`<${there[name]}/>` : html`<${Waiting} answer=${answer} what="The page"/>`;
}
