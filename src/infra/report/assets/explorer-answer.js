// A query's answer and the steps of training examples that raised it: each chosen part of the one shows its part of the other.

const SHOWN_UNITS = 3;

class Answer {
  constructor(place) {
    this.place = place;
    this.mapRoot = el("div", { class: "answer" });
    this.heading = el("h3");
    this.back = el("button", { type: "button", click: () => place.go({ from: null, unit: null, part: null }) }, "Whole answer, all examples");
    this.list = el("ul", { class: "raisers", "aria-label": "Training examples that raised it" });
    this.node = el("div", { class: "linked" }, this.mapRoot, el("div", { class: "raising" }, this.heading, this.back, this.list));
    const hover = debounce((t) => { if (this.found) this.draw(t === null ? this.state : { ...this.state, part: `t${t}` }); }, 60);
    this.map = new TokenMap(this.mapRoot, {
      onMove: (t) => { if (`t${t}` !== place.state.part) place.go({ part: `t${t}` }, "part"); },
      onHover: hover,
      onStep: (i) => place.go({ part: place.state.part === `s${i}` ? null : `s${i}` }, "part"),
    });
  }

  /** Shows an answer (`found` as the server gives it) with the part, the example and the step that the state names. */
  show(query, found, state) {
    this.state = state;
    const coloured = JSON.stringify([query, state.from, state.unit]);
    if (coloured !== this.coloured) {
      this.found = found;
      this.coloured = coloured;
      this.map.show(this.view(query, state));
    }
    const token = /^t(\d+)$/.exec(state.part ?? "")?.[1];
    this.map.press(/^s(\d+)$/.test(state.part ?? "") ? Number(state.part.slice(1)) : null);
    if (token === undefined) this.map.leave();
    else if (Number(token) !== this.map.cursor) this.map.move(Number(token));
    this.draw(state);
  }

  /** The answer as a view of the token map, coloured by what the chosen example or step raises in it. */
  view(query, { from, unit }) {
    const { found } = this;
    const links = found.links.filter((l) => from === null || l.id === from);
    const values = new Float32Array(found.mask.length);
    for (const link of links) link.scores.forEach((row, k) => { if (unit === null || from === null || k === unit) row.forEach((v, t) => { values[t] += v; }); });
    const name = from === null ? "all linked examples together" : unit === null ? `example ${from}` : `step ${unit + 1} of example ${from}`;
    return {
      id: `answer to ${query}`, n: found.mask.length, attributes: {}, text: found.text, starts: found.starts, ends: found.ends,
      mask: found.mask, steps: found.steps, targets: [name], decompositions: ["position"], exact: true, totals: [values.reduce((a, b) => a + b, 0)],
      scores: () => values, classOf: () => null,
    };
  }

  /** The tokens of a part of the answer as [from, to), and its name. */
  part(part) {
    const { found } = this;
    const [, kind, number] = /^([ts])(\d+)$/.exec(part ?? "") ?? [];
    const i = Number(number);
    if (kind === "t" && i < found.mask.length) return [i, i + 1, `‘${visible(found.text.slice(found.starts[i], found.ends[i]))}’`];
    if (kind === "s" && found.steps[i]) return [found.steps[i][0], found.steps[i][1], `step ${i + 1} of the answer`];
    return [0, found.mask.length, "the whole answer"];
  }

  /** The examples in the order in which they raise the part, each with its strongest steps. */
  draw(state) {
    const [from, to, name] = this.part(state.part);
    const sum = (row) => row.slice(from, to).reduce((a, b) => a + b, 0);
    const rows = this.found.links.map((link) => {
      const units = link.scores.map((row, k) => ({ k, value: sum(row), ...link.units[k] })).sort((a, b) => b.value - a.value);
      return { link, units, value: units.reduce((a, u) => a + u.value, 0) };
    }).sort((a, b) => b.value - a.value);
    this.heading.textContent = `What raised ${name}`;
    this.back.hidden = state.from === null && state.part === null;
    this.list.replaceChildren(...rows.map((row) => this.item(row, state)));
  }

  item({ link, units, value }, state) {
    const chosen = link.id === state.from;
    return el("li", { class: chosen ? "on" : null },
      el("div", { class: "meta" }, el("span", { class: "num " + tone(value) }, signed(value, 2)),
        el("button", { type: "button", class: "link", "aria-pressed": String(chosen && state.unit === null), "data-from": link.id, title: "Colour the answer by what this example raised",
          click: () => this.place.go(chosen && state.unit === null ? { from: null, unit: null } : { from: link.id, unit: null }, "from") }, visible(link.id)),
        el("button", { type: "button", click: () => this.place.go({ view: "examples", example: link.id, by: this.place.state.query, token: null, step: null }) }, "Open")),
      el("p", { class: "preview" }, visible(oneLine(link.preview))),
      el("ul", {}, units.filter((u, i) => i < SHOWN_UNITS || (chosen && state.unit === u.k)).map((u) => el("li", {}, el("span", { class: "num " + tone(u.value) }, signed(u.value, 2)),
        el("button", { type: "button", class: "link", "aria-pressed": String(chosen && state.unit === u.k), "data-unit": u.k, title: "Colour the answer by what this step raised",
          click: () => this.place.go(chosen && state.unit === u.k ? { unit: null } : { from: link.id, unit: u.k }, "from") },
        visible(u.text || "(no text)"))))));
  }
}
