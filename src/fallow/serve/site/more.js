// The screens that have no place in the bar of a phone.

import { html, useContext } from "./htm-preact.js";
import { Here, link } from "./route.js";
import { PLACES, Toggle } from "./frame.js";
import { Title, moveFocus } from "./parts.js";

const ABOUT = {
  scores: "How the scores drift, and the thresholds", suspects: "Labels that look wrong, and copies",
  health: "Files, versions, and who can reach this server",
};

export function More() {
  const { run, alone } = useContext(Here);
  return html`<${Title}>More<//><ul class="menu" onKeyDown=${moveFocus}>
    ${PLACES.filter(([place]) => ABOUT[place]).map(([place, name]) => html`<li><a
      href=${link(place, { run })}><strong>${name}
      </strong><span>${ABOUT[place]}</span></a></li>`)}
    ${!alone && html`<li><a href=${link("compare", { with: run })}><strong>Compare</strong><span>This run
      beside others</span></a>
      </li>
    <li><a href=${link("runs")}><strong>All runs</strong><span>The runs of this folder</span></a></li>`}
  </ul><p><${Toggle}/></p>`;
}
