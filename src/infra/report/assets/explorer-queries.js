// The queries, and the opened one: its answer with what raised it, its most and least helpful examples.

class Queries {
  constructor(root, run, place) {
    this.run = run;
    this.place = place;
    this.rows = latest((parameters) => askJson("queries", parameters));
    this.query = latest((parameters) => askJson("query", parameters));
    this.list = el("ul", { "aria-label": "Queries" });
    this.count = el("span", { class: "count", role: "status" });
    this.detail = el("div", { class: "view" });
    this.more = el("button", { type: "button", click: () => this.append() }, "More");
    this.search = el("input", { type: "search", placeholder: "Words in the query", "aria-label": "Search queries" });
    this.search.addEventListener("input", debounce(() => place.go({ words: typed(this.search) }, "words")));
    this.answer = run.links ? new Answer(place) : null;
    root.className = "columns two";
    root.replaceChildren(
      el("div", { class: "listing" }, el("div", { class: "picker" }, el("div", { class: "tools" }, this.search, this.count), this.list), el("div", { class: "pages" }, this.more)),
      this.detail);
  }

  async show(state) {
    write(this.search, state.words);
    await Promise.all([this.load(state.words), this.open(state)]);
    this.mark(state.query);
  }

  load = onChange(async (words) => {
    this.list.replaceChildren();
    await this.append(words);
  });

  async append(words = this.place.state.words) {
    const found = await this.rows({ search: words, offset: this.list.children.length });
    this.count.textContent = `${grouped(found.total)} queries`;
    this.list.append(...found.rows.map((q) => el("li", {}, el("button", { type: "button", "data-query": q.query, click: () => this.choose(q.query) },
      el("span", { class: "meta" }, el("span", {}, visible(q.target)), el("span", { class: "pos" }, signed(q.best, 2))), el("span", { class: "preview" }, visible(oneLine(q.text)))))));
    this.more.hidden = this.list.children.length >= found.total;
    this.mark(this.place.state.query);
  }

  choose(query, kind = "push") {
    return this.place.go({ query, part: null, from: null, unit: null }, kind);
  }

  mark(query) {
    for (const button of this.list.querySelectorAll("button")) {
      if (button.dataset.query === query) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  async step(by) {
    const buttons = [...this.list.querySelectorAll("button")];
    const at = buttons.findIndex((b) => b.dataset.query === this.place.state.query);
    const to = at < 0 ? 0 : Math.max(0, at + by);
    if (to >= buttons.length && !this.more.hidden) { await this.append(); return this.step(by); }
    const button = buttons[Math.min(to, buttons.length - 1)];
    if (!button) return null;
    const shown = this.choose(button.dataset.query, "step");
    reveal(this.list, button);
    return shown;
  }

  leave() {
    return this.place.go({ part: null, from: null, unit: null });
  }

  async open(state) {
    if (state.query === null) {
      this.opened = null;
      this.detail.replaceChildren(el("p", { class: "empty" }, "Choose a query to see which examples it gains and loses most from."));
      return;
    }
    if (this.opened?.query !== state.query) {
      const found = await this.query({ query: state.query });
      this.opened = found;
      this.draw(found);
    }
    const { answer } = this.opened;
    if (this.answer && answer && state.query === this.opened.query) this.answer.show(state.query, answer, this.place.state);
  }

  draw(found) {
    const columns = [["rank", "rank", "int"], ["id", "example", "code"], ["influence", "influence", "effect"], ["preview", "text", "long"]]
      .map(([key, label, kind]) => ({ key, label, kind, tinted: key === "influence" }));
    const side = (name, title) => {
      const root = el("div", { class: "table" });
      const rows = found.rows.filter((r) => r.side === name).map((r) => [r.rank, r.id, r.influence, oneLine(r.preview ?? "")]);
      makeTable(root, { name: `${found.query}-${name}`, title, columns, rows, limit: 20 },
        (id, asked) => asked || this.place.go({ view: "examples", example: id, by: found.query, token: null, step: null }), parquet);
      return root;
    };
    const text = el("div", { class: "querytext", tabindex: "0", role: "region", "aria-label": "Text of the query" }, visible(found.text ?? "").replaceAll("↵", "\n"));
    const linked = this.answer && found.answer;
    this.detail.replaceChildren(el("h2", {}, "Query ", visible(found.query)), el("p", { class: "quiet-text" }, `part of target ${found.target}`),
      ...(linked ? [this.answer.node] : [text]),
      side("top", "Most helpful examples"), side("bottom", "Least helpful examples"));
  }
}
