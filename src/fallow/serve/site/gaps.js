// Where are data too thin, and what should be gathered? Made for a phone in the hand.

import { html, useContext, useEffect, useState } from "./htm-preact.js";
import { address, post, useAnswer } from "./api.js";
import { Here } from "./route.js";
import { Empty, Fold, NotYet, Scroll, Title, Waiting } from "./parts.js";
import { count, number, percent, plural } from "./words.js";

export function Gaps() {
  const { run, version, summary, session } = useContext(Here), { has } = summary;
  const gaps = useAnswer(has.gaps && summary.epochs_read ? address("gaps", { run }) : null, version);
  const picks = useAnswer(has.picks ? address("picks", { run }) : null, version);
  const may = session.scopes.includes("write");
  if (!has.gaps && !has.picks) {
    return html`<${Title}>Gaps<//><${Empty} title="Gaps were not looked for yet">
      <p>When the training has ended, this finds what the training data lack, and lists what to collect:</p>
      <p><code>fallow gaps RUN</code></p><p><code>fallow collect RUN --pool POOL --count 100</code></p>
        <p>The result appears here by itself.</p><//>`;
  }
  return html`<${Title}>Gaps and what to collect<//>
    ${may ? html`<p class="note">What you tick is written into the run's folder at once; nothing else is ever
      changed there.</p>`
      : html`<p class="remarks"
        id="no-write">This link only reads, so nothing can be ticked. <code>fallow serve RUN
          --write</code> prints a second link that may.</p>`}
    ${has.gaps && (!summary.epochs_read ? html`<${NotYet} title="Gaps appear after the first epoch"/>`
      : gaps.value ? html`<${Regions} answer=${gaps.value} may=${may} run=${run}/>` :
      html`<${Waiting} answer=${gaps}
      what="The gaps"/>`)}
    ${has.picks && (picks.value ? picks.value.lists.map((list, i) => html`<${List} key=${list.id} list=${list}
      may=${may}
      run=${run} open=${i === 0}/>`) : html`<${Waiting} answer=${picks} what="The list"/>`)}`;
}

/** Write a tick; returns [how many there are now, write, failure, busy]. */
function useTick(start, body) {
  const [found, setFound] = useState(start), [failure, setFailure] = useState(null),
    [busy, setBusy] = useState(false);
  useEffect(() => { setFound(start); }, [start]);
  const write = async (next) => {
    const before = found;
    setFound(next);
    setBusy(true);
    setFailure(null);
    try {
      setFound((await post("tick", { ...body, found: next })).found);
    } catch (error) {
      setFound(before);
      setFailure(error);
    }
    setBusy(false);
  };
  return [found, write, failure, busy];
}

const Wrong = ({ failure }) => failure && html`<p class="remarks" role="alert">Not
  written: ${failure.message}</p>`;

function List({ list, may, run, open }) {
  const ticked = list.picks.filter((pick) => pick.found).length;
  const content = () => html`<ul class="picks">${list.picks.map((pick) =>
    html`<${Pick} key=${pick.place} pick=${pick} may=${may}
    body=${{ ...(run ? { run } : {}), list: list.id, place: pick.place }}/>`)}</ul>`;
  return html`<section aria-label=${`To collect: ${list.id}`}><h2>To collect <span
    class="small">${list.id}</span></h2>
    ${list.damage ? html`<p class="remarks"><bdi>${list.damage}</bdi></p>` : html`<p class="said">
      ${plural(list.picks.length, "sample")}${ticked ? `, ${count(ticked)} ticked when this page was loaded` :
        ""}. Tick what you have collected.</p>
    ${open ? content() :
      html`<${Fold} title=${`Show ${count(list.picks.length)}`}>${content}<//>`}`}</section>`;
}

function Pick({ pick, may, body }) {
  const [found, write, failure, busy] = useTick(pick.found ?? 0, body);
  return html`<li class=${found ? "done" : ""}><label class="pick"><input type="checkbox" checked=${found > 0}
    disabled=${!may || busy} aria-describedby=${may ? null : "no-write"}
      onChange=${(event) => write(event.target.checked ? 1 : 0)}/>
    <span class="told"><strong><bdi>${pick.label || `pick ${pick.place + 1}`}</bdi></strong> <span
      class="small">${pick.region
      && html`<bdi>${pick.region}</bdi>, `}score ${number(pick.score)}</span>
      <span class="why"><bdi>${pick.reason}</bdi></span><span class="small">place ${count(pick.index)} in the
        pool${pick.file
        && html`: <bdi dir="ltr">${pick.file}</bdi>`}</span></span></label>
    <${Wrong} failure=${failure}/></li>`;
}

function Regions({ answer, may, run }) {
  const { gaps, thin, alone, strange, before } = answer;
  return html`<section aria-labelledby="h-gaps"><h2 id="h-gaps">Gaps</h2>
    <p class="said">${gaps.length ? html`<strong>${answer.sentence}</strong>` :
      answer.sentence}${answer.reference
      && html` Compared with <bdi>${answer.reference}</bdi>.`}</p>
    ${answer.stale && html`<p class="remarks">${answer.stale}</p>`}
    ${gaps.length > 0 && html`<ul class="gaps">${gaps.map((card, i) =>
      html`<${Gap} card=${card} id=${`gap-${i}`} run=${run}
      may=${may} found=${answer.found[card.name] ?? 0} ticks/>`)}</ul>`}
    ${before !== null && before.gaps.length > 0 && html`<h3>Found before</h3><p
      class="said">With ${count(before.training_samples)} training samples these were missing. The share of
        the training set that lies denser, then and now:</p>
      <${Scroll} label="Found before"><table class="past"><thead><tr>${["region", "class", "was",
        "now"].map((name) => html`<th
        scope="col">${name}</th>`)}</tr></thead>
      <tbody>${before.gaps.map((one) =>
        html`<tr><th scope="row"><bdi>${one.name}</bdi></th><td><bdi>${one.class ?? "–"}</bdi>
        </td><td>${percent(one.percentile, 0)}</td><td>${percent(one.now,
          0)}</td></tr>`)}</tbody></table><//>`}
    ${thin.length > 0 && html`<h3>Thin, but not missing</h3><p class="said">
      ${plural(thin.length, "region")} ${thin.length === 1 ? "is" : "are"} thin in the training set too:
        nothing to do.</p>
      <${Fold} title=${`Show ${plural(thin.length, "thin region")}`}>${() => html`<ul class="gaps">${thin
        .map((card, i) => html`<${Gap} card=${card} id=${`thin-${i}`} run=${run}/>`)}</ul>`}<//>`}
    ${[["Alone", alone, "lie by themselves, far from every group"], ["Strange", strange,
      "are made unlike the training samples"]].map(([title, list, words]) => list.length > 0
      && html`<h3>${title}</h3><p class="said">${plural(list.length, "sample")} ${words}.</p><${Fold}
        title="Show them">
        ${() => html`<${Seen} samples=${list} run=${run}/>`}<//>`)}</section>`;
}

function Gap({ card, id, run, may, found, ticks }) {
  const facts = [
    ["Size",
      `${plural(card.size, "thin sample")}: ${count(card.training)} of the training set, ` +
      `${count(card.reference)} of the reference`],
    ["Density", card.percentile === null ? null : `${percent(card.percentile,
      0)} of the training set lie denser`],
    ["Missing", card.lacking === null || !ticks ? null : `about ${count(card.lacking)} such samples`],
    ["Class", card.class === null ? null : html`mostly ${card.class_is_predicted ? "predicted as " :
      ""}<bdi>${card.class}</bdi>
      ${card.class_share === null ? "" : ` (${percent(card.class_share, 0)})`}`],
    ["Error", card.judged ?
      `${count(card.wrong)} of ${count(card.judged)} here (${percent(card.wrong / card.judged,
      0)}), ${percent(card.error_elsewhere)} elsewhere` : null],
    ["Stability", card.stability === null ? null : `${percent(card.stability,
      0)} of it comes up again with half of the samples`],
  ];
  return html`<li class="gap" aria-labelledby=${id}><div class="told"><h3
    id=${id}><bdi>${card.name}</bdi>${card.action
    && html` <span class="badge ${card.action}">${card.action}</span>`}</h3>
      ${card.reason && html`<p><bdi>${card.reason}</bdi></p>`}
      ${ticks && html`<${Found} name=${card.name} may=${may} run=${run} start=${found}
        wanted=${card.lacking}/>`}</div>
    ${card.examples.length > 0 && html`<div class="examples"><p class="small">Examples, the most central
      first</p><${Seen}
      samples=${card.examples.slice(0, 9)} run=${run}/></div>`}
    <div class="rest"><${Fold} title="Figures, and the nearest training samples"><dl>${facts.filter(([,
      value]) => value !== null)
      .map(([key, value]) => html`<div><dt>${key}</dt><dd>${value}</dd></div>`)}</dl>
      ${card.prototypes.length > 0 && html`<p class="small">The nearest training samples in dense
        regions</p><${Seen}
        samples=${card.prototypes.slice(0, 6)} run=${run}/>`}<//></div></li>`;
}

function Found({ name, may, run, start, wanted }) {
  const [found, write, failure, busy] = useTick(start, { ...(run ? { run } : {}), gap: name });
  return html`<div class="counter" role="group" aria-label=${`Collected for ${name}`}>
    <button type="button" disabled=${!may || busy || found <= 0} onClick=${() => write(found - 1)}
      aria-label="One fewer">−</button>
    <output aria-live="polite"><strong>${count(found)}</strong> collected${
      wanted ? ` of about ${count(wanted)}` : ""}</output>
    <button type="button" disabled=${!may || busy} onClick=${() => write(found + 1)}
      aria-label="One more">+</button></div>
      <${Wrong} failure=${failure}/>`;
}

const Seen = ({ samples, run }) => html`<ul class="seen">${samples.map((one) => {
  const wrong = one.label !== null && one.predicted !== null && one.label !== one.predicted;
  return html`<li>${one.picture !== null && html`<img src=${address("gap_picture",
    { run, picture: String(one.picture) })}
    alt=${`Picture of ${one.of} sample ${one.index}`} loading="lazy" width="96" height="96"/>`}
    <span class="names">${one.label !== null && html`<bdi>${one.label}</bdi>`}${one.predicted !== null
      && (wrong || one.label === null) && html` <span class=${wrong ? "wrong" :
        "guess"}><bdi>${one.predicted}</bdi></span>`}</span>
    <span class="small">${one.of} ${one.index}</span>${one.file && html`<span class="small file"><bdi
      dir="ltr">${one.file}</bdi>
      </span>`}</li>`;
})}</ul>`;
