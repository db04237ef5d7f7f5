// Which labels are wrong?

import { html, useContext, useState } from "./htm-preact.js";
import { address, useAnswer } from "./api.js";
import { Here, link } from "./route.js";
import { Empty, NotYet, Table, Title, Waiting, moveFocus } from "./parts.js";
import { Card, sheet } from "./sample.js";
import { count, percent, plural } from "./words.js";

const PAGE = 60, MOST = 500;

export function Suspects() {
  const { run, version, summary } = useContext(Here), [size, setSize] = useState(PAGE);
  const early = !summary.epochs_read, none = !early && !summary.has.suspects;
  const answer = useAnswer(early || none ? null : address("suspects", { run, count: size }), version);
  const content = early ?
    html`<${NotYet} title="Suspects appear after the first epoch"/>`
    : none ? html`<${Empty} title="No labels to judge"><p>The samples of this run have no labels, or it is
      scored by density.</p>
      <//>`
    : !answer.value ? html`<${Waiting} answer=${answer} what="The list of suspects"/>`
    : html`<${Found} answer=${answer.value} more=${() => setSize(Math.min(MOST, size * 2))} size=${size}/>`;
  return html`<${Title}>Labels that look wrong<//>${content}`;
}

function Found({ answer, more, size }) {
  const here = useContext(Here), { run } = here, { suspects, pairs, copies, found, samples } = answer;
  return html`<p class="said">
    ${found ? `${plural(found, "label")} of ${count(samples)} ${found === 1 ? "looks" :
      "look"} wrong, judged by the mean over ${plural(answer.epochs, "epoch")}; the surest stand first.` :
      `None of ${plural(samples, "label")} looks wrong.`}</p>
    ${suspects.length > 0 && html`<ul class="cards ${suspects.some((one) => one.text !== null) ? "wider" :
      ""}"
      onKeyDown=${moveFocus}>${suspects.map((one) => html`<${Card} key=${one.index} sample=${one}
      sure=${percent(one.confidence, 0)}/>`)}</ul>
    ${suspects.length < found && size < MOST && html`<p class="next"><button type="button"
      onClick=${more}>Show more</button></p>`}
    <p class="note">To correct them in a spreadsheet: <code>fallow suspects RUN --export suspects.csv</code>,
      then <code>fallow train --config RUN/config.yaml --labels suspects.csv</code>.</p>`}
    ${pairs.length > 0 && html`<section><h2>Confused classes</h2><${Table} kind="pairs"
      label="Confused classes"
      head=${["given", "looks like", "samples"]}
      rows=${pairs.map((pair) => [html`<bdi>${pair.given}</bdi>`, html`<bdi>${pair.suggested}</bdi>`,
        count(pair.count)])}/>
        </section>`}
    ${copies !== null && copies.length > 0 && html`<section><h2>Copies with different labels</h2><p
      class="said">Each line is one and the same sample, given to several classes: all but one of these labels
        are wrong.</p>
      <ul class="copies">${copies.map((alike) => html`<li>${alike.map((one) =>
        html`<a href=${sheet(here, one.index)}><bdi
        class="class">${one.given}</bdi> <span class="key">sample ${one.index}</span>${one.file &&
          html` <bdi class="key"
        dir="ltr">${one.file}</bdi>`}</a>`)}</li>`)}</ul></section>`}
    ${copies === null && html`<p class="note">Copies were not looked for: the run does not know the content of
      its samples.</p>`}
    <p class="note"><a href=${link("browse", { run, suspects: "1" })}>Browse all of them</a></p>`;
}
