// The explorer: asks the local server for rows and examples, shows them with the page's own parts.

async function ask(path, parameters = {}) {
  const filled = Object.entries(parameters).filter(([, v]) => v !== "" && v !== null && v !== undefined);
  const response = await fetch(`/api/${path}?${new URLSearchParams(filled)}`);
  if (!response.ok) {
    const message = await response.json().then((j) => j.error, () => response.statusText);
    complain(message);
    throw new Error(message);
  }
  return response;
}

const askJson = async (path, parameters) => (await ask(path, parameters)).json();

/** Says what went wrong, for long enough to be read. */
function complain(message) {
  const box = document.getElementById("problem");
  box.textContent = message;
  box.hidden = false;
  clearTimeout(complain.timer);
  complain.timer = setTimeout(() => { box.hidden = true; }, 12000);
}

function debounce(work, wait = 120) {
  let timer = 0;
  return (...values) => { clearTimeout(timer); timer = setTimeout(() => work(...values), wait); };
}

/** Drops every answer but the latest question's. */
function latest(work) {
  let asked = 0;
  return async (...values) => {
    const mine = ++asked;
    const result = await work(...values);
    return mine === asked ? result : new Promise(() => {});
  };
}

class Examples {
  constructor(root, run, openQuery) {
    this.run = run;
    this.openQuery = openQuery;
    this.state = { search: "", equals: {}, ranges: {}, sort: run.targets[0] ?? "", way: "desc", offset: 0 };
    this.rows = latest((parameters) => askJson("rows", parameters));
    this.blob = latest(async (parameters) => {
      const bytes = new Uint8Array(await (await ask("example", parameters)).arrayBuffer());
      return decodeExample(bytes);
    });
    this.current = null;
    this.list = el("ul", { "aria-label": "Examples" });
    this.count = el("span", { class: "count", role: "status" });
    this.previous = el("button", { type: "button", click: () => this.page(-50) }, "Previous");
    this.next = el("button", { type: "button", click: () => this.page(50) }, "Next");
    this.where = el("span", { class: "quiet-text" });
    const search = el("input", { type: "search", placeholder: "Words in the text, or an id", "aria-label": "Search texts" });
    search.addEventListener("input", debounce(() => this.change({ search: search.value })));
    this.search = search;
    const orders = [...run.targets.map((t) => [t, `influence on ${t}`]), ...Object.keys(run.columns).map((c) => [c, c]), ["", "order of the data"]];
    this.sort = select("Sort by", orders, (v) => this.change({ sort: v }));
    this.way = select("Direction", [["desc", "most first"], ["asc", "least first"]], (v) => this.change({ way: v }));
    this.mapRoot = el("div");
    this.links = el("div", { class: "links" });
    const wide = matchMedia("(min-width: 901px)").matches;
    root.className = "columns";
    root.replaceChildren(
      el("div", { class: "filters" }, el("details", { class: "filterbox", open: wide }, el("summary", {}, "Filters"), this.filters())),
      el("div", { class: "listing" },
        el("div", { class: "picker" }, el("div", { class: "tools" }, search, el("div", { class: "way" }, this.sort, this.way), this.count), this.list),
        el("div", { class: "pages" }, this.previous, this.where, this.next)),
      el("div", { class: "detail" }, this.mapRoot, this.links));
    this.scales = { loss: {}, position: {} };
    this.map = new TokenMap(this.mapRoot, { scales: this.scales, load: (target) => this.open(this.current, { target }) });
  }

  filters() {
    const { run } = this;
    const box = el("div");
    for (const facet of run.facets) {
      const group = el("fieldset", {}, el("legend", {}, facet.name));
      if (facet.kind === "range") {
        const ends = ["least", "most"].map((word, i) => el("input", { type: "number", step: "any", placeholder: number(facet.range[i]), "aria-label": `${word} ${facet.name}` }));
        const changed = debounce(() => {
          const bounds = ends.map((e) => (e.value === "" ? null : Number(e.value)));
          const ranges = { ...this.state.ranges, [facet.name]: bounds };
          if (bounds.every((b) => b === null)) delete ranges[facet.name];
          this.change({ ranges });
        }, 250);
        ends.forEach((e) => e.addEventListener("input", changed));
        group.append(el("div", { class: "range" }, ends));
      } else {
        const boxes = facet.values.map(([value]) => el("input", { type: "checkbox", change: () => {
          const chosen = facet.values.map(([v]) => v).filter((_, i) => boxes[i].checked);
          const equals = { ...this.state.equals, [facet.name]: chosen };
          if (!chosen.length) delete equals[facet.name];
          this.change({ equals });
        }, "data-value": String(value) }));
        group.append(el("div", { class: "values" }, facet.values.map(([value, n], i) =>
          el("label", { class: "value" }, boxes[i], el("span", {}, value === null ? "(none)" : visible(String(value))), el("span", { class: "n" }, grouped(n))))));
      }
      box.append(group);
    }
    return box;
  }

  change(changes) {
    Object.assign(this.state, { offset: 0 }, changes);
    return this.load();
  }

  page(step) {
    this.state.offset = Math.max(0, this.state.offset + step);
    return this.load();
  }

  async load() {
    const s = this.state;
    const found = await this.rows({ ...s, equals: JSON.stringify(s.equals), ranges: JSON.stringify(s.ranges) });
    const shown = this.run.targets.includes(s.sort) ? s.sort : this.run.targets[0];
    this.count.textContent = `${grouped(found.total)} of ${grouped(this.run.n)} examples`;
    this.where.textContent = found.total ? `${grouped(s.offset + 1)}–${grouped(Math.min(found.total, s.offset + found.rows.length))}` : "none";
    this.previous.disabled = s.offset === 0;
    this.next.disabled = s.offset + found.rows.length >= found.total;
    this.list.replaceChildren(...found.rows.map((row) => this.item(row, shown)));
    this.list.scrollTop = 0;
    this.mark();
    if (this.current === null && found.rows.length) await this.open(found.rows[0].id);
  }

  item(row, target) {
    const value = row[`score_${target}`];
    const what = ["domain", "difficulty", "set"].filter((k) => row[k] !== null && row[k] !== undefined).map((k) => row[k]).join(" · ");
    return el("li", {}, el("button", { type: "button", "data-id": row.id, click: () => this.open(row.id) },
      el("span", { class: "meta" }, el("span", {}, visible(what || row.id)), el("span", { class: tone(value) }, typeof value === "number" ? signed(value) : "")),
      el("span", { class: "preview" }, visible(oneLine(row.preview ?? row.id)))));
  }

  mark() {
    for (const button of this.list.querySelectorAll("button")) {
      if (button.dataset.id === this.current) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  /** Shows an example with the tokens of a target, or of a query. */
  async open(id, { target = null, query = null } = {}) {
    this.current = id;
    this.mark();
    const held = this.run.token_targets;
    const wanted = target ?? (held.includes(this.map.state.target) ? this.map.state.target : held.includes(this.state.sort) ? this.state.sort : held[0]);
    const [view, row] = await Promise.all([
      this.blob(query === null ? { id, target: wanted ?? "" } : { id, query }),
      this.rowOf(id),
    ]);
    if (query === null && wanted) await this.learnScale(wanted);
    view.menu = query === null ? held : [...view.targets, ...held];
    view.sums = [...(query === null ? [] : [[view.targets[0], view.totals[0]]]), ...this.run.targets.map((t) => [t, row[`score_${t}`] ?? 0])];
    this.map.state.target = view.targets[0] ?? null;
    this.map.show(view);
    history.replaceState(null, "", `#example=${encodeURIComponent(id)}`);
    await this.showLinks(id);
  }

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

  async showLinks(id) {
    if (!this.run.queries) { this.links.replaceChildren(); return; }
    const found = await askJson("links", { id });
    if (id !== this.current) return;
    const items = found.slice(0, 40).map((q) => el("li", {},
      el("span", { class: "num " + tone(q.influence) }, `${q.side} ${q.rank}`, " ", signed(q.influence, 2)),
      el("button", { type: "button", class: "link", click: () => this.openQuery(q.query) }, visible(oneLine(q.text || q.query)))));
    this.links.replaceChildren(el("h3", {}, found.length ? `Among the strongest examples of ${grouped(found.length)} ${found.length > 1 ? "queries" : "query"}` : "Among no query's strongest examples"), el("ul", {}, items));
  }
}

class Queries {
  constructor(root, run, openExample) {
    this.run = run;
    this.openExample = openExample;
    this.rows = latest((parameters) => askJson("queries", parameters));
    this.state = { search: "", offset: 0 };
    this.list = el("ul", { "aria-label": "Queries" });
    this.count = el("span", { class: "count", role: "status" });
    this.detail = el("div", { class: "view" }, el("p", { class: "empty" }, "Choose a query to see which examples it gains and loses most from."));
    this.more = el("button", { type: "button", click: () => { this.state.offset += 50; this.load(true); } }, "More");
    const search = el("input", { type: "search", placeholder: "Words in the query", "aria-label": "Search queries" });
    search.addEventListener("input", debounce(() => { Object.assign(this.state, { search: search.value, offset: 0 }); this.load(); }));
    root.className = "columns two";
    root.replaceChildren(
      el("div", { class: "listing" }, el("div", { class: "picker" }, el("div", { class: "tools" }, search, this.count), this.list), el("div", { class: "pages" }, this.more)),
      this.detail);
  }

  async load(append = false) {
    const found = await this.rows(this.state);
    this.count.textContent = `${grouped(found.total)} queries`;
    const items = found.rows.map((q) => el("li", {}, el("button", { type: "button", "data-query": q.query, click: () => this.open(q.query) },
      el("span", { class: "meta" }, el("span", {}, visible(q.target)), el("span", { class: "pos" }, signed(q.best, 2))), el("span", { class: "preview" }, visible(oneLine(q.text))))));
    if (append) this.list.append(...items);
    else this.list.replaceChildren(...items);
    this.more.hidden = this.list.children.length >= found.total;
  }

  async open(query) {
    const found = await askJson("query", { query });
    const columns = [["rank", "rank", "int"], ["id", "example", "code"], ["influence", "influence", "effect"], ["preview", "text", "long"]]
      .map(([key, label, kind]) => ({ key, label, kind, tinted: key === "influence" }));
    const side = (name, title) => {
      const root = el("div", { class: "table" });
      const rows = found.rows.filter((r) => r.side === name).map((r) => [r.rank, r.id, r.influence, oneLine(r.preview ?? "")]);
      makeTable(root, { name: `${query}-${name}`, title, columns, rows, limit: 20 }, (id, asked) => asked || this.openExample(id, query));
      return root;
    };
    this.detail.replaceChildren(el("h2", {}, "Query ", visible(query)), el("p", { class: "quiet-text" }, `part of target ${found.target}`),
      el("div", { class: "querytext", tabindex: "0", role: "region", "aria-label": "Text of the query" }, visible(found.text ?? "").replaceAll("↵", "\n")),
      side("top", "Most helpful examples"), side("bottom", "Least helpful examples"));
  }
}

async function showTables(root) {
  root.className = "view";
  const specs = await askJson("tables");
  root.replaceChildren(...(specs.length ? specs.map((spec) => { const node = el("div", { class: "table" }); makeTable(node, spec); return node; })
    : [el("p", { class: "empty" }, "This run has no finished tables yet.")]));
}

function comparison(root, run, openExample) {
  root.className = "view";
  const place = el("div");
  const load = async (target) => {
    const found = await askJson("compare", { target });
    const nodes = [el("p", {}, `${grouped(found.n)} examples are in both runs; Spearman correlation of their ranks for ${target}: ${number(found.spearman, 3)}.`)];
    for (const spec of [found.ranks, found.effects, found.recipe]) {
      if (!spec) continue;
      const node = el("div", { class: "table" });
      makeTable(node, spec, (id, asked) => asked || openExample(id));
      nodes.push(node);
    }
    place.replaceChildren(...nodes);
  };
  const choose = select("Target compared", run.shared.map((t) => [t, t]), load);
  root.replaceChildren(el("h2", {}, `${run.name} (a) and ${run.other} (b)`), el("label", { class: "field" }, el("span", {}, "Target"), choose), place);
  return () => (run.shared.length ? load(choose.value) : place.replaceChildren(el("p", {}, "The runs share no target.")));
}

async function start() {
  themeButton(document.getElementById("theme"));
  const run = await askJson("run");
  document.title = `${run.name} · explorer`;
  document.getElementById("name").textContent = run.name;
  document.getElementById("size").textContent = `${grouped(run.n)} examples, ${run.targets.length} targets`;
  document.getElementById("report").hidden = !run.report;
  const main = document.getElementById("main");
  const views = {};
  const tabs = [["examples", "Examples"], run.queries && ["queries", "Queries"], ["tables", "Tables"], run.other && ["compare", "Compare"]].filter(Boolean);
  const loaded = new Set();
  const openExample = (id, query = null) => { show("examples"); return examples.open(id, { query }).then(() => true); };
  const openQuery = (query) => { show("queries"); return queries.open(query); };
  for (const [name] of tabs) views[name] = el("div", {});
  const panels = tabs.map(([name, label]) => el("section", { role: "tabpanel", id: `panel-${name}`, "aria-label": label, hidden: true }, views[name]));
  const buttons = tabs.map(([name, label], i) => el("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, click: () => show(name),
    keydown: (e) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (step) { const next = (i + step + tabs.length) % tabs.length; show(tabs[next][0]); buttons[next].focus(); }
    } }, label));
  document.getElementById("tabs").replaceChildren(...buttons);
  main.replaceChildren(...panels);
  const examples = new Examples(views.examples, run, openQuery);
  const queries = run.queries ? new Queries(views.queries, run, openExample) : null;
  const compare = run.other ? comparison(views.compare, run, openExample) : null;
  const loaders = { examples: () => examples.load(), queries: () => queries.load(), tables: () => showTables(views.tables), compare };

  function show(name) {
    tabs.forEach(([other], i) => {
      panels[i].hidden = other !== name;
      buttons[i].setAttribute("aria-selected", String(other === name));
      buttons[i].tabIndex = other === name ? 0 : -1;
    });
    if (!loaded.has(name)) { loaded.add(name); loaders[name](); }
  }

  const wanted = new URLSearchParams(location.hash.slice(1)).get("example");
  if (wanted) examples.current = wanted;
  show("examples");
  if (wanted) examples.open(wanted);
  if (run.search_problem) complain(run.search_problem);
}
start();
