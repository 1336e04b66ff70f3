// The list of examples and the opened one: both are what the state says, and every control changes the state.

const PAGE = 50;

class Examples {
  constructor(root, run, place) {
    this.run = run;
    this.place = place;
    this.rows = latest((parameters) => askJson("rows", parameters));
    this.blob = latest(async (parameters) => decodeExample(new Uint8Array(await (await ask("example", parameters)).arrayBuffer())));
    this.list = el("ul", { "aria-label": "Examples" });
    this.count = el("span", { class: "count", role: "status" });
    this.previous = el("button", { type: "button", click: () => this.page(-PAGE) }, "Previous");
    this.next = el("button", { type: "button", click: () => this.page(PAGE) }, "Next");
    this.where = el("span", { class: "quiet-text" });
    this.search = el("input", { type: "search", placeholder: "Words, \"a phrase\" or an id", "aria-label": "Search texts" });
    this.search.addEventListener("input", debounce(() => place.go({ search: typed(this.search), offset: 0 }, "search")));
    const orders = [...run.targets.map((t) => [t, `influence on ${t}`]), ...Object.keys(run.columns).map((c) => [c, c]), [UNSORTED, "order of the data"]];
    this.sort = select("Sort by", orders, (sort) => place.go({ sort, offset: 0, ...(run.token_targets.includes(sort) ? { target: null, by: null } : {}) }));
    this.way = select("Direction", [["desc", "most first"], ["asc", "least first"]], (way) => place.go({ way, offset: 0 }));
    this.sets = segmented("Data", "set", [...run.sets, "all"].map((s) => [s, s === "train" ? "training" : s]), (set) => place.go({ set, offset: 0 }));
    this.sets.node.hidden = !run.sets.length;
    this.filters = new Filters(run, place);
    this.mapRoot = el("div");
    this.links = el("div", { class: "links" });
    this.exports = exportButtons(run, place);
    this.selection = new Selection(run, place);
    const wide = matchMedia("(min-width: 901px)").matches;
    root.className = "columns";
    root.replaceChildren(
      el("div", { class: "filters" }, el("details", { class: "filterbox", open: wide }, el("summary", {}, "Filters"), this.filters.node, this.selection.node, this.exports)),
      el("div", { class: "listing" },
        el("div", { class: "picker" }, el("div", { class: "tools" }, this.sets.node, this.search, el("div", { class: "way" }, this.sort, this.way), this.count), this.list),
        el("div", { class: "pages" }, this.previous, this.where, this.next)),
      el("div", { class: "detail" }, this.mapRoot, this.links));
    this.scales = { loss: {}, position: {} };
    const token = debounce((t) => place.go({ token: t }, "token"), 150);
    this.map = new TokenMap(this.mapRoot, {
      scales: this.scales,
      load: () => {},
      onMove: (t) => { if (t !== place.state.token) token(t); },
      onStep: run.links ? (step) => place.go({ step: place.state.step === step ? null : step }) : null,
      onChoose: (change) => place.go({
        ...("target" in change ? { target: change.target, by: null } : {}),
        ...("decomposition" in change ? { as: change.decomposition } : {}),
        ...("scaling" in change ? { scale: change.scaling } : {}),
      }),
    });
  }

  /** Makes the screen what the state says. */
  async show(state) {
    write(this.search, state.search);
    this.sort.value = sortOf(this.run, state);
    this.way.value = state.way === "asc" ? "asc" : "desc";
    this.sets.set(setOf(this.run, state));
    const listed = this.load({ ...listParameters(this.run, state), ...orderParameters(this.run, state), offset: state.offset });
    const open = state.example === null ? listed.then(() => this.openFirst()) : this.open(state);
    await Promise.all([listed, open, this.filters.show(state)]);
  }

  load = onChange(async (asked) => {
    const found = await this.rows(asked);
    const shown = this.run.targets.includes(asked.sort) ? asked.sort : this.run.targets[0];
    this.found = found;
    this.count.textContent = `${grouped(found.total)} of ${grouped(this.run.n)} examples`;
    this.where.textContent = found.total ? `${grouped(asked.offset + 1)}–${grouped(asked.offset + found.rows.length)}` : "none";
    this.previous.disabled = asked.offset === 0;
    this.next.disabled = asked.offset + found.rows.length >= found.total;
    this.list.replaceChildren(...found.rows.map((row) => this.item(row, shown)));
    this.list.scrollTop = 0;
    this.mark(this.place.state.example);
  });

  /** Opens the first row where the address names no example: the address then names it. */
  openFirst() {
    const first = this.found?.rows[0];
    if (first && this.place.state.example === null) return this.place.go({ example: first.id }, "replace");
    return null;
  }

  item(row, target) {
    const value = row[`score_${target}`];
    const what = ["domain", "difficulty"].filter((k) => row[k] !== null && row[k] !== undefined).map((k) => row[k]).join(" · ");
    return el("li", {}, el("button", { type: "button", "data-id": row.id, click: () => this.choose(row.id) },
      el("span", { class: "meta" }, el("span", {}, visible(what || row.id)), el("span", { class: tone(value) }, typeof value === "number" ? signed(value) : "")),
      el("span", { class: "preview" }, visible(oneLine(row.preview ?? row.id)))));
  }

  choose(id, kind = "push") {
    return this.place.go({ example: id, by: null, token: null, step: null }, kind);
  }

  mark(id) {
    for (const button of this.list.querySelectorAll("button")) {
      if (button.dataset.id === id) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  page(step) {
    return this.place.go({ offset: Math.max(0, this.place.state.offset + step) });
  }

  /** The row `by` places further, on the next page where this one ends. */
  async step(by) {
    const rows = this.found?.rows ?? [];
    const at = rows.findIndex((r) => r.id === this.place.state.example);
    const to = at < 0 ? 0 : at + by;
    if (to >= rows.length && !this.next.disabled) { await this.page(PAGE); return this.choose(this.found.rows[0].id, "step"); }
    if (to < 0 && !this.previous.disabled) { await this.page(-PAGE); return this.choose(this.found.rows.at(-1).id, "step"); }
    const row = rows[Math.max(0, Math.min(rows.length - 1, to))];
    if (!row) return null;
    const shown = this.choose(row.id, "step");
    reveal(this.list, this.list.querySelector("[aria-current]"));
    return shown;
  }

  leave() {
    this.map.leave();
    return this.place.go({ token: null, step: null });
  }

  /** Shows an example with the tokens of a target, or of a query. */
  async open(state) {
    this.mark(state.example);
    const held = this.run.token_targets;
    const wanted = held.includes(state.target) ? state.target : held.includes(state.sort) ? state.sort : held[0] ?? "";
    await this.fetch(state.by === null ? { id: state.example, target: wanted } : { id: state.example, query: state.by });
    state = this.place.state; // another change may have come meanwhile
    const { view } = this.map;
    if (!view || view.id !== state.example) return;
    const change = { decomposition: state.as ?? view.decompositions[0] ?? null, scaling: state.scale ?? "document" };
    if (view.decompositions.includes(change.decomposition) && (this.map.state.decomposition !== change.decomposition || this.map.state.scaling !== change.scaling)) this.map.set(change);
    this.map.press(state.step);
    if (state.token === null) this.map.leave();
    else if (state.token !== this.map.cursor) this.map.move(state.token);
    await this.showLinks(state);
  }

  fetch = onChange(async (asked) => {
    const [view, row] = await Promise.all([this.blob(asked), this.rowOf(asked.id)]);
    const held = this.run.token_targets;
    if (!asked.query && asked.target) await this.learnScale(asked.target);
    view.menu = asked.query ? [...view.targets, ...held] : held;
    view.sums = [...(asked.query ? [[view.targets[0], view.totals[0]]] : []), ...this.run.targets.map((t) => [t, row[`score_${t}`] ?? 0])];
    this.map.state.target = view.targets[0] ?? null;
    this.map.show(view);
  });

  /** The fixed colour scale of a target, asked for once. */
  async learnScale(target) {
    if (target in this.scales.loss || target in this.scales.position) return;
    const found = await askJson("scale", { target });
    for (const [decomposition, value] of Object.entries(found)) this.scales[decomposition][target] = value;
  }

  async rowOf(id) {
    const found = await askJson("rows", { search: id, limit: 1 });
    return found.rows[0] ?? {};
  }

  /** The queries that the example helps or harms most; with a chosen step, what it raises in their answers. */
  showLinks = onChangeOf((state) => [state.example, state.step], async (state) => {
    if (!this.run.queries) return;
    const found = await askJson("links", { id: state.example });
    if (state.example !== this.place.state.example) return;
    const start = this.map.view.steps[state.step]?.[0];
    const unit = (q) => q.units.findIndex((u) => u.t0 === start);
    const raised = state.step === null ? [] : found.filter((q) => unit(q) >= 0);
    const rows = raised.length ? raised.map((q) => this.raised(q, unit(q), state)) : found.slice(0, 40).map((q) => this.linked(q, state));
    const title = raised.length ? `What step ${state.step + 1} raises in ${grouped(raised.length)} ${raised.length > 1 ? "answers" : "answer"}`
      : found.length ? `Among the strongest examples of ${grouped(found.length)} ${found.length > 1 ? "queries" : "query"}` : "Among no query's strongest examples";
    this.links.replaceChildren(el("h3", {}, title), el("ul", {}, rows));
  });

  linked(q, state) {
    return el("li", {},
      el("span", { class: "num " + tone(q.influence) }, `${q.side} ${q.rank}`, " ", signed(q.influence, 2)),
      el("button", { type: "button", class: "link", click: () => this.toQuery(q.query, state.example, null, null) }, visible(oneLine(q.text || q.query))));
  }

  raised(q, k, state) {
    const { value, step, text, step_value } = q.units[k];
    return el("li", {},
      el("span", { class: "num " + tone(value) }, signed(value, 2)),
      el("button", { type: "button", class: "link", click: () => this.toQuery(q.query, state.example, k, step === null ? null : `s${step}`) },
        `query ${visible(q.query)}: `, text ? `most in step ${step + 1} (${signed(step_value, 2)}): ${visible(text)}` : "its answer"));
  }

  toQuery(query, from, unit, part) {
    return this.place.go({ view: "queries", query, from, unit, part });
  }
}

/** As `onChange`, where only some of a state matters. */
function onChangeOf(key, work) {
  let before = null;
  return async (state) => {
    const now = JSON.stringify(key(state));
    if (now === before) return;
    before = now;
    await work(state);
  };
}

/** The examples of the list as files. */
function exportButtons(run, place) {
  const save = async (format) => {
    const { state } = place;
    const bytes = await (await ask("export", { ...listParameters(run, state), ...orderParameters(run, state), format })).blob();
    offer(`examples.${format}`, bytes);
  };
  return el("div", { class: "exports" }, el("span", {}, "The list as a file"),
    el("button", { type: "button", click: () => save("csv") }, "CSV"), el("button", { type: "button", click: () => save("parquet") }, "Parquet"));
}
