// The token map: one example's text, coloured by the influence of each token on one target.

const CHUNK = 2000;      // tokens put on the page at a time
const LONGEST = 2000;    // characters shown of one token
const RAMP = [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1];

/** Colour strength of a value: square root, so that small and large tokens are both seen; clipped at the reference. */
const strength = (value, reference) => (reference > 0 ? Math.sqrt(Math.min(1, Math.abs(value) / reference)) : 0);

class TokenMap {
  /**
   * options: {scales: {decomposition: {target: reference}}, onTarget(name), load(name), onMove(t), onHover(t or null),
   * onStep(i), onChoose(change)}. A view may name in `menu` targets it does not hold; choosing one calls `load`, which
   * shows the view that does. `sums` are [target, total]. With `onStep` the names of steps can be chosen. `onChoose` hears
   * of what the reader sets, `onMove` of where the cursor goes.
   */
  constructor(root, options = {}) {
    this.options = options;
    this.state = { target: null, decomposition: "loss", scaling: "document", steps: true };
    this.view = null;
    this.cursor = -1;
    this.spans = [];
    this.id = "map" + TokenMap.count++;
    this.title = el("h3");
    this.attributes = el("div", { class: "attributes" });
    this.totals = el("dl", { class: "totals" });
    this.target = el("select", { "aria-label": "Target", change: () => this.choose({ target: this.target.value }) });
    this.decomposition = segmented("Token as", this.id + "d", [["loss", "loss"], ["position", "position"]], (v) => this.choose({ decomposition: v }));
    this.scaling = segmented("Scale", this.id + "s", [["document", "per document"], ["token", "per token"]], (v) => this.choose({ scaling: v }));
    this.stepsBox = el("input", { type: "checkbox", checked: true, change: () => this.set({ steps: this.stepsBox.checked }) });
    this.legend = el("div", { class: "legend" });
    this.tokens = el("div", { class: "tokens", role: "listbox", tabindex: "0", "aria-label": "Tokens" });
    this.live = el("p", { class: "sr", role: "status" });
    this.more = el("button", { type: "button", click: () => this.grow(), hidden: true });
    this.tip = el("div", { class: "tip", role: "tooltip", hidden: true });
    document.body.append(this.tip);
    root.replaceChildren(el("div", { class: "map" },
      el("header", {}, this.title, this.attributes), this.totals,
      el("div", { class: "controls" }, el("label", { class: "field" }, el("span", {}, "Target"), this.target),
        this.decomposition.node, this.scaling.node, el("label", { class: "field" }, this.stepsBox, "steps and behaviours")),
      this.legend, this.tokens, this.live,
      el("div", { class: "below" }, this.more,
        el("button", { type: "button", click: () => tokensCsv(this.view) }, "Tokens as CSV")),
      el("p", { class: "keys" }, "In the text: ", ["←", "→"].map((k) => el("kbd", {}, k)), " token, ", ["↑", "↓"].map((k) => el("kbd", {}, k)),
        " step, ", el("kbd", {}, "Home"), el("kbd", {}, "End"), ", ", el("kbd", {}, "m"), " strongest token, ", el("kbd", {}, "t"), " next target, ",
        el("kbd", {}, "d"), " loss or position, ", el("kbd", {}, "s"), " scale")));
    const hover = (span) => { this.point(span); this.options.onHover?.(span ? Number(span.dataset.t) : null); };
    this.tokens.addEventListener("mouseover", (e) => hover(e.target.closest(".tok")));
    this.tokens.addEventListener("mouseleave", () => hover(null));
    this.tokens.addEventListener("scroll", () => { this.tip.hidden = true; }, { passive: true });
    this.tokens.addEventListener("click", (e) => { const t = e.target.closest(".tok"); if (t) this.move(Number(t.dataset.t)); });
    this.tokens.addEventListener("keydown", (e) => this.key(e));
    this.tokens.addEventListener("focus", () => { if (this.cursor < 0 && this.view) this.move(Math.max(0, this.view.mask.indexOf(1)), false); else this.point(this.spans[this.cursor]); });
    this.tokens.addEventListener("blur", () => this.point(null));
  }

  /** Shows an example; the target, decomposition and scaling chosen before stay where they exist. */
  show(view) {
    this.view = view;
    this.cursor = -1;
    const s = this.state;
    if (!view.targets.includes(s.target)) s.target = view.targets[0] ?? null;
    if (!view.decompositions.includes(s.decomposition)) s.decomposition = view.decompositions[0] ?? null;
    this.title.textContent = visible(view.id);
    this.attributes.replaceChildren(...Object.entries(view.attributes).filter(([, v]) => v !== null && v !== "")
      .map(([k, v]) => el("span", { class: "chip", title: `${k}: ${v}` }, visible(`${k} ${v}`))));
    this.menu = view.menu ?? view.targets;
    this.sums = view.sums ?? view.targets.map((name, i) => [name, view.totals[i]]);
    this.target.replaceChildren(...this.menu.map((t) => el("option", { value: t }, t)));
    this.decomposition.enable(view.decompositions);
    this.decomposition.node.hidden = view.decompositions.length < 2;
    this.steps = cover(view);
    this.tokens.replaceChildren();
    this.tokens.scrollTop = 0;
    this.spans = [];
    this.next = { row: 0, token: 0 };
    this.set({});
    this.grow();
  }

  /** What the reader sets. */
  choose(change) {
    this.set(change);
    this.options.onChoose?.(change);
  }

  set(change) {
    if (this.view && "target" in change && !this.view.targets.includes(change.target) && this.options.load) {
      this.options.load(change.target);
      return;
    }
    Object.assign(this.state, change);
    const { target, decomposition, scaling, steps } = this.state;
    if (!this.view) return;
    this.target.value = target;
    this.decomposition.set(decomposition);
    this.scaling.set(scaling);
    this.stepsBox.checked = steps;
    this.tokens.classList.toggle("plain", !steps);
    const k = this.view.targets.indexOf(target);
    const d = this.view.decompositions.indexOf(decomposition);
    this.values = k >= 0 && d >= 0 ? this.view.scores(d, k) : new Float32Array(this.view.n);
    this.sum = this.values.reduce((a, b) => a + b, 0);
    const shared = this.options.scales?.[decomposition]?.[target];
    const own = this.values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    this.reference = scaling === "token" && shared ? shared : own;
    this.totals.replaceChildren(...this.sums.map(([name, total]) => {
      return el("div", { class: `${tone(total)}${name === target ? " on" : ""}` }, el("dt", { title: name }, name), el("dd", {}, signed(total)));
    }));
    this.drawLegend();
    this.spans.forEach((span, t) => this.paint(span, t));
    this.gutters();
    if ("target" in change) this.options.onTarget?.(target);
    if (this.cursor >= 0) this.announce();
  }

  paint(span, t) {
    const value = this.values[t];
    span.classList.toggle("p", value > 0);
    span.classList.toggle("n", value < 0);
    span.style.setProperty("--s", strength(value, this.reference).toFixed(3));
  }

  drawLegend() {
    const r = this.reference;
    const clipped = this.state.scaling === "token" ? "The same colour is the same influence in every example; stronger tokens are clipped." : "The strongest colour is this example's strongest token.";
    const ramp = el("div", { class: "ramp", "aria-hidden": "true" });
    for (let i = -20; i <= 20; i++) {
      const cell = el("i", { class: i > 0 ? "p" : i < 0 ? "n" : "" });
      cell.style.setProperty("--s", Math.abs(i) / 20);
      ramp.append(cell);
    }
    const only = this.view.decompositions.length === 1 && this.state.decomposition === "position" ? " (position scores)" : "";
    const ticks = RAMP.filter((_, i) => i % 2 === 0).map((x) => el("span", {}, signed(Math.sign(x) * x * x * r, 2)));
    this.legend.replaceChildren(ramp, el("div", { class: "ticks" }, ticks),
      el("div", {}, `Influence on ${this.state.target}${only}: orange hurts, blue helps; square-root scale. ${clipped}`));
  }

  /** Puts the next CHUNK tokens on the page; a long step is continued in a further row. */
  grow() {
    const { view } = this;
    let room = CHUNK;
    while (this.next.row < this.steps.length && room > 0) {
      const row = this.steps[this.next.row];
      const from = Math.max(row.from, this.next.token);
      const to = Math.min(row.to, from + room);
      const body = el("div", { class: "body" });
      for (let t = from; t < to; t++) {
        const before = t ? view.ends[t - 1] : 0;
        if (view.starts[t] > before) body.append(view.text.slice(before, view.starts[t]));
        body.append((this.spans[t] = this.token(t)));
      }
      if (to === view.n) body.append(view.text.slice(view.n ? view.ends[view.n - 1] : 0));
      const gutter = el("div", { class: "gutter" });
      const node = el("div", { class: `row ${row.kind}`, role: "group", "aria-label": row.name + (from > row.from ? ", continued" : "") }, gutter, body);
      if (from === row.from) row.node = node;
      this.tokens.append(node);
      room -= Math.max(1, to - from);
      if (to === row.to) this.next = { row: this.next.row + 1, token: to };
      else this.next.token = to;
    }
    this.gutters();
    const left = view.n - this.spans.length;
    this.more.hidden = left <= 0;
    this.more.textContent = `Show ${grouped(Math.min(CHUNK, left))} more of ${grouped(left)} tokens left`;
  }

  token(t) {
    const { view } = this;
    const text = view.text.slice(view.starts[t], view.ends[t]);
    const span = el("span", { class: text ? "tok" : "tok zero", role: "option", id: `${this.id}t${t}`, "data-t": t, "aria-selected": "false" });
    if (!text) span.setAttribute("aria-label", "part of the character before");
    else if (!text.trim()) span.setAttribute("aria-label", text.includes("\n") ? "line break" : "space");
    let at = 0;
    const shown = text.length > LONGEST ? text.slice(0, LONGEST) : text;
    for (const match of shown.matchAll(INVISIBLE)) {
      span.append(shown.slice(at, match.index), el("span", { class: "inv" }, codePoint(match[0])));
      at = match.index + match[0].length;
    }
    span.append(shown.slice(at));
    if (shown !== text) span.append(el("span", { class: "cut" }, `${grouped(text.length - LONGEST)} more characters`));
    this.paint(span, t);
    return span;
  }

  /** The step sums beside the text. */
  gutters() {
    const first = this.view.mask.indexOf(1);
    for (const row of this.steps) {
      if (!row.node) continue;
      let sum = 0;
      for (let t = row.from; t < row.to; t++) sum += this.values[t];
      row.node.classList.toggle("pos", row.kind === "step" && sum > 0);
      row.node.classList.toggle("neg", row.kind === "step" && sum < 0);
      const parts = row.kind === "step" ? [this.stepName(row)] : row.kind === "prompt" && row.from <= Math.max(first, 0) ? [el("span", { class: "name" }, "prompt")] : [];
      if (row.kind !== "prompt" || sum) parts.push(el("span", { class: "sum" }, signed(sum, 2)));
      row.node.firstChild.replaceChildren(...parts);
    }
  }

  stepName(row) {
    const name = row.labels.join(", ").replaceAll("_", " ") || "unlabelled";
    if (!this.options.onStep) return el("b", {}, name);
    row.choice = el("b", { class: "choice", role: "option", title: "Choose this step (Enter)", "aria-selected": String(row.index === this.pressed), click: () => this.options.onStep(row.index) }, name);
    return row.choice;
  }

  /** Marks a step as the chosen one; null marks none. */
  press(index) {
    this.pressed = index;
    for (const row of this.steps ?? []) row.choice?.setAttribute("aria-selected", String(row.index === index));
  }

  describe(t) {
    const { view } = this;
    const value = this.values[t];
    const row = this.steps.find((r) => t >= r.from && t < r.to);
    const total = this.values.reduce((a, b) => a + Math.abs(b), 0);
    const text = visible(view.text.slice(view.starts[t], Math.min(view.ends[t], view.starts[t] + 80))) || "(part of a character)";
    const facts = [`token ${grouped(t + 1)} of ${grouped(view.n)}`, `${((100 * Math.abs(value)) / (total || 1)).toFixed(1)}% of all movement`];
    if (!view.mask[t]) facts.push("prompt, no loss");
    if (view.classOf(t)) facts.push(view.classOf(t));
    if (row?.kind === "step") facts.push(row.name);
    return { text, value: `${view.exact ? "" : "≈ "}${signed(value)}`, facts };
  }

  point(span) {
    if (!span || !this.view) { this.tip.hidden = true; return; }
    const { text, value, facts } = this.describe(Number(span.dataset.t));
    this.tip.replaceChildren(el("strong", {}, value), el("code", {}, text), ...facts.map((f) => el("div", {}, f)));
    this.tip.hidden = false;
    const box = span.getClientRects()[0] ?? span.getBoundingClientRect();
    const { offsetWidth: w, offsetHeight: h } = this.tip;
    this.tip.style.left = `${Math.max(6, Math.min(innerWidth - w - 6, box.left))}px`;
    this.tip.style.top = `${box.top - h - 6 > 0 ? box.top - h - 6 : box.bottom + 6}px`;
  }

  move(t, scroll = true) {
    if (!this.view?.n) return;
    t = Math.max(0, Math.min(this.view.n - 1, t));
    while (t >= this.spans.length) this.grow();
    if (this.cursor >= 0) { this.spans[this.cursor].classList.remove("at"); this.spans[this.cursor].setAttribute("aria-selected", "false"); }
    this.cursor = t;
    const span = this.spans[t];
    span.classList.add("at");
    span.setAttribute("aria-selected", "true");
    this.tokens.setAttribute("aria-activedescendant", span.id);
    if (scroll) {
      const box = span.getBoundingClientRect();
      const frame = this.tokens.getBoundingClientRect();
      if (box.top < frame.top || box.bottom > frame.bottom) this.tokens.scrollTop += box.top - frame.top - frame.height / 3;
    }
    this.announce();
    this.point(span);
    this.options.onMove?.(t);
  }

  /** Takes the cursor away. */
  leave() {
    if (this.cursor >= 0) { this.spans[this.cursor].classList.remove("at"); this.spans[this.cursor].setAttribute("aria-selected", "false"); }
    this.cursor = -1;
    this.tokens.removeAttribute("aria-activedescendant");
    this.point(null);
  }

  announce() {
    const { text, value, facts } = this.describe(this.cursor);
    this.live.textContent = `${text}: ${value}. ${facts.join(", ")}`;
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey || !this.view) return;
    const at = this.steps.findIndex((r) => this.cursor >= r.from && this.cursor < r.to);
    const cycle = (list, now) => list[(list.indexOf(now) + 1) % list.length];
    const { view, state } = this;
    const strongest = () => { let best = 0; this.values.forEach((v, t) => { if (Math.abs(v) > Math.abs(this.values[best])) best = t; }); return best; };
    const acts = {
      ArrowRight: () => this.move(this.cursor + 1),
      ArrowLeft: () => this.move(this.cursor - 1),
      ArrowDown: () => this.move(this.steps[Math.min(this.steps.length - 1, at + 1)]?.from ?? 0),
      ArrowUp: () => this.move(this.steps[Math.max(0, at - 1)]?.from ?? 0),
      Home: () => this.move(0),
      End: () => this.move(view.n - 1),
      Escape: () => this.point(null),
      Enter: () => { if (this.options.onStep && this.steps[at]?.kind === "step") this.options.onStep(this.steps[at].index); },
      m: () => this.move(strongest()),
      t: () => this.choose({ target: cycle(this.menu, state.target) }),
      d: () => this.choose({ decomposition: cycle(view.decompositions, state.decomposition) }),
      s: () => this.choose({ scaling: cycle(["document", "token"], state.scaling) }),
    };
    if (acts[e.key]) { e.preventDefault(); acts[e.key](); }
  }
}
TokenMap.count = 0;
