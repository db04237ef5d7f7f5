// What did it remove? Samples by reason, class, epoch, and how they fared.

import { html, useContext, useEffect, useRef, useState } from "./htm-preact.js";
import { address, ask, useAnswer } from "./api.js";
import { Here, go, link } from "./route.js";
import { Empty, NotYet, Title, Waiting, moveFocus } from "./parts.js";
import { Card } from "./sample.js";
import { REASONS, count, number, plural } from "./words.js";

const ORDERS = [["-score", "highest score"], ["score", "lowest score"], ["times", "used least"],
  ["-times", "used most"], ["index", "as in the data"]];
const SWITCHES = [["never", "never used"], ["returned", "left out, then used again"],
  ["suspects", "label looks wrong"], ["wrong", "predicted as another class"]];
const FILTERS = ["reason", "class", "predicted", "epoch", "score_from", "score_to",
  ...SWITCHES.map(([name]) => name)];

export function Browse() {
  const { run, version, summary, params } = useContext(Here);
  const early = !summary.epochs_read;
  const asked = Object.fromEntries([...FILTERS, "order"].map((name) => [name, params[name]]));
  const classes = useAnswer(early || !summary.classes ? null : address("classes", { run, order: "name" }));
  const epochs = useAnswer(early ? null : address("epochs", { run }), version);
  const set = (name, value) => go(link("browse", { run, ...asked, [name]: value }), true);
  if (early) return html`<${Title}>Browse<//><${NotYet}
    title="Samples appear after the first epoch"/>`;
  const url = address("samples", { run, order: "-score", ...asked });
  const choice = (name, label, first, list) => html`<label>${label}<select value=${asked[name] ?? ""}
    onChange=${(event) => set(name, event.target.value)}>
    <option value="">${first}</option>${list.map(([value, text]) => html`<option
      value=${value}>${text}</option>`)}</select>
      </label>`;
  const band = asked.score_from !== undefined || asked.score_to !== undefined;
  return html`<${Title}>Browse<//>
    <form class="filters" onSubmit=${(event) => event.preventDefault()} aria-label="Filters">
      ${choice("reason", "What became of it", "anything", REASONS.map(({ value, text }) => [value, text]))}
      ${summary.classes > 0 && choice("class", "Class", "any", (classes.value?.classes || []).map((row) =>
        [row.label, row.name]))}
      ${choice("epoch", "Epoch", "the last", (epochs.value?.epochs || []).map((row) =>
        [row.epoch, row.epoch + 1]))}
      <label>Order<select value=${asked.order ?? "-score"} onChange=${(event) =>
        set("order", event.target.value)}>${ORDERS
        .map(([value, text]) => html`<option value=${value}>${text}</option>`)}</select></label>
      <fieldset><legend>Only those</legend>${SWITCHES
        .filter(([name]) => summary.classes > 0 || ["never", "returned"].includes(name)).map(([name, text]) =>
          html`<label
        class="tick"><input type="checkbox" checked=${asked[name] === "1"}
        onChange=${(event) => set(name, event.target.checked ? "1" :
          null)}/><span>${text}</span></label>`)}</fieldset>
      ${(band || FILTERS.some((name) => asked[name])) && html`<p class="chips">${band &&
        html`<button type="button"
        onClick=${() => go(link("browse", { run, ...asked, score_from: null, score_to: null }),
          true)}>score ${number(Number(asked.score_from ?? 0))} to ${asked.score_to === undefined ? "∞" :
          number(Number(asked.score_to))} ✕</button>`}
        <button type="button" onClick=${() => go(link("browse", { run }), true)}>Clear all</button></p>`}
    </form>
    <${Pages} key=${url} url=${url} version=${version}/>`;
}

/** Pages of cards; what comes next is asked for by the cursor of the page before. */
function Pages({ url, version }) {
  const first = useAnswer(url, version), [more, setMore] = useState([]), [state, setState] = useState({});
  const list = useRef(null), stop = useRef(new AbortController());
  useEffect(() => () => stop.current.abort(), []);
  useEffect(() => { setMore([]); }, [first.value]);
  if (!first.value) return html`<${Waiting} answer=${first} what="The samples"/>`;
  const pages = [first.value, ...more], { next } = pages.at(-1), { total, epoch } = first.value;
  const samples = pages.flatMap((page) => page.samples);
  const load = async () => {
    setState({ loading: true });
    try {
      const page = await ask(`${url}&after=${encodeURIComponent(next)}`, { signal: stop.current.signal });
      setMore((old) => [...old, page]);
      setState({});
      requestAnimationFrame(() => list.current?.children[samples.length]?.querySelector("a")?.focus());
    } catch (failure) {
      if (!stop.current.signal.aborted) setState({ failure });
    }
  };
  if (!total) return html`<${Empty} title="No sample is like this"><p>Change a filter, or clear all.</p><//>`;
  return html`<p class="said" role="status">
    ${plural(total, "sample")} at the end of epoch ${epoch + 1}; ${samples.length < total ?
      `the first ${count(samples.length)} are shown` : "all are shown"}.</p>
    <ul class="cards ${samples.some((one) => one.text !== null) ? "wider" : ""}" ref=${list}
      onKeyDown=${moveFocus}>${samples
      .map((one) => html`<${Card} key=${one.index} sample=${one}/>`)}</ul>
    ${next && html`<p class="next"><button type="button" onClick=${load} disabled=${state.loading}>
      ${state.loading ? "Loading …" : "Show more"}</button></p>`}
    ${state.failure && html`<p class="remarks" role="status">${state.failure.message}</p>`}`;
}
