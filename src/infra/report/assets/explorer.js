// The explorer: tabs over views of one state, which the address keeps.

async function start() {
  themeButton(document.getElementById("theme"));
  const run = await askJson("run");
  document.title = `${run.name} · explorer`;
  document.getElementById("name").textContent = run.name;
  document.getElementById("size").textContent = `${grouped(run.n)} examples, ${run.targets.length} ${run.targets.length === 1 ? "target" : "targets"}`;
  document.getElementById("report").hidden = !run.report;
  const place = new Place((state) => show(state));
  const compared = run.other || run.targets.length > 1;
  const tabs = [["examples", "Examples"], run.queries && ["queries", "Queries"], ["tables", "Tables"], compared && ["compare", "Compare"]].filter(Boolean);
  const names = tabs.map(([name]) => name);
  const roots = Object.fromEntries(names.map((name) => [name, el("div", {})]));
  const panels = tabs.map(([name, label]) => el("section", { role: "tabpanel", id: `panel-${name}`, "aria-label": label, hidden: true }, roots[name]));
  const buttons = tabs.map(([name, label], i) => el("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`, click: () => place.go({ view: name }),
    keydown: (e) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (step) { const next = (i + step + tabs.length) % tabs.length; place.go({ view: names[next] }); buttons[next].focus(); }
    } }, label));
  document.getElementById("tabs").replaceChildren(...buttons);
  document.getElementById("main").replaceChildren(...panels);
  const views = {
    examples: new Examples(roots.examples, run, place),
    queries: run.queries ? new Queries(roots.queries, run, place) : null,
    tables: { show: onChange(() => showTables(roots.tables)) },
    compare: compared ? new Comparison(roots.compare, run, place) : null,
  };
  const viewOf = (state) => (names.includes(state.view) ? state.view : "examples");

  function show(state) {
    const now = viewOf(state);
    names.forEach((name, i) => {
      panels[i].hidden = name !== now;
      buttons[i].setAttribute("aria-selected", String(name === now));
      buttons[i].tabIndex = name === now ? 0 : -1;
    });
    return Promise.resolve(views[now].show(now === "tables" ? "once" : state)).catch((error) => { if (document.getElementById("problem").hidden) complain(error.message); });
  }

  const help = listKeys(() => views[viewOf(place.state)]);
  document.getElementById("keys").addEventListener("click", () => help.showModal());
  if (run.search_problem) complain(run.search_problem);
  await show(place.state);
}
start();
