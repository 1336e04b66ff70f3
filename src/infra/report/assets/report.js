// The page: tables, the effect form switch, the list of examples beside the token map.

const LISTED = 60;

function formSwitches() {
  for (const control of document.querySelectorAll("[data-forms]")) {
    const section = control.closest("section");
    control.addEventListener("change", (e) => {
      for (const figure of section.querySelectorAll("figure[data-form]")) figure.hidden = figure.dataset.form !== e.target.value;
    });
  }
}

/** Figures of many targets show their first panels until asked. */
function unfoldButtons() {
  for (const button of document.querySelectorAll(".unfold")) {
    const extra = [...button.closest("figure").querySelectorAll(".panel[hidden]")];
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      button.textContent = open ? "Show fewer panels" : `Show ${button.dataset.n} more panels`;
      for (const panel of extra) panel.hidden = !open;
    });
  }
}

function exampleBrowser(root, data) {
  const state = { search: "", order: "", listed: LISTED, current: -1 };
  const list = el("ul", { "aria-label": "Examples" });
  const status = el("span", { class: "count", role: "status" });
  const where = el("div");
  const picker = el("div", { class: "picker" });
  root.className = "browser";
  root.replaceChildren(picker, where);
  const map = new TokenMap(where, { scales: data.scales, onTarget: () => draw() });
  const text = (e) => `${e.id} ${e.preview} ${Object.entries(e.attributes).map(([k, v]) => `${k}:${v}`).join(" ")}`.toLowerCase();
  const haystack = data.examples.map(text);
  const orders = [["", "as listed"], ["help", "most helpful for the target"], ["harm", "least helpful for the target"]];
  picker.append(el("div", { class: "tools" },
    el("input", { type: "search", placeholder: "Search text, id, attribute:value", "aria-label": "Search examples", input: (e) => { state.search = e.target.value.toLowerCase(); state.listed = LISTED; draw(); } }),
    select("Order of examples", orders, (v) => { state.order = v; state.listed = LISTED; draw(); }), status), list);

  function found() {
    const words = state.search.split(/\s+/).filter(Boolean);
    const k = Math.max(0, data.targets.indexOf(map.state.target));
    const hits = data.examples.map((_, i) => i).filter((i) => words.every((w) => haystack[i].includes(w)));
    const way = { help: -1, harm: 1 }[state.order];
    return way ? hits.sort((a, b) => way * (data.examples[a].totals[k] - data.examples[b].totals[k])) : hits;
  }

  function draw() {
    const hits = found();
    const k = Math.max(0, data.targets.indexOf(map.state.target));
    status.textContent = `${grouped(hits.length)} of ${grouped(data.examples.length)} examples`;
    const items = hits.slice(0, state.listed).map((i) => {
      const e = data.examples[i];
      const total = e.totals[k];
      return el("li", {}, el("button", { type: "button", "aria-current": i === state.current ? "true" : null, click: () => open(i) },
        el("span", { class: "meta" }, el("span", {}, visible(e.label)), el("span", { class: tone(total) }, signed(total))),
        el("span", { class: "preview" }, visible(e.preview))));
    });
    if (hits.length > state.listed) items.push(el("li", {}, el("button", { type: "button", click: () => { state.listed += 5 * LISTED; draw(); } }, `Show more of ${grouped(hits.length - state.listed)} left`)));
    list.replaceChildren(...items);
  }

  async function open(i) {
    state.current = i;
    draw();
    const view = await decodeExample(fromBase64(document.getElementById("x" + i).textContent));
    if (state.current === i) map.show(view);
  }

  const byId = new Map(data.examples.map((e, i) => [e.id, i]));
  draw();
  if (data.examples.length) open(0);
  return (id, ask = false) => {
    if (ask || !byId.has(id)) return byId.has(id);
    open(byId.get(id));
    document.getElementById("examples").scrollIntoView();
    map.tokens.focus({ preventScroll: true });
    return true;
  };
}

function boot() {
  const data = JSON.parse(document.getElementById("data").textContent);
  themeButton(document.getElementById("theme"));
  formSwitches();
  unfoldButtons();
  const browser = document.getElementById("browser");
  const jump = browser ? exampleBrowser(browser, data) : null;
  for (const button of document.querySelectorAll("[data-open]")) {
    button.hidden = !jump?.(button.dataset.open, true);
    button.addEventListener("click", () => jump(button.dataset.open));
  }
  for (const root of document.querySelectorAll("[data-table]")) makeTable(root, data.tables[root.dataset.table], jump);
}
boot();
