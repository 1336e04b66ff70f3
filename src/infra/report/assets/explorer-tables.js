// The run's tables, and two targets or two runs side by side.

async function showTables(root) {
  root.className = "view";
  const specs = await askJson("tables");
  root.replaceChildren(...(specs.length ? specs.map((spec) => { const node = el("div", { class: "table" }); makeTable(node, spec, null, parquet); return node; })
    : [el("p", { class: "empty" }, "This run has no finished tables yet.")]));
}

/** Ranks by one target and by another, or by the same target in another run: how far each example moved. */
class Comparison {
  constructor(root, run, place) {
    this.run = run;
    this.place = place;
    this.asked = latest((parameters) => askJson("compare", parameters));
    this.found = el("div");
    const options = (targets) => targets.map((t) => [t, t]);
    this.a = select("Target compared", options(run.targets), (a) => place.go({ a }));
    this.runs = select("Compared with", [...(run.other ? [["other", run.other]] : []), ["this", `${run.name} itself`]], (name) => place.go({ run: name, b: null }));
    this.b = el("select", { "aria-label": "Its target", change: () => place.go({ b: this.b.value }) });
    root.className = "view";
    root.replaceChildren(el("h2", {}, "Side by side"),
      el("div", { class: "compared" }, el("label", { class: "field" }, el("span", {}, `(a) ${run.name}, by`), this.a),
        el("label", { class: "field" }, el("span", {}, "(b)"), this.runs), el("label", { class: "field" }, el("span", {}, "by"), this.b)),
      this.found);
  }

  async show(state) {
    const { run } = this;
    const here = !run.other || state.run === "this";
    const targets = here ? run.targets : run.other_targets;
    const a = run.targets.includes(state.a) ? state.a : run.targets[0];
    const b = targets.includes(state.b) ? state.b : here ? targets.find((t) => t !== a) ?? a : targets.includes(a) ? a : targets[0];
    this.a.value = a;
    this.runs.value = here ? "this" : "other";
    this.b.replaceChildren(...targets.map((t) => el("option", { value: t }, t)));
    this.b.value = b ?? "";
    if (a === undefined || b === undefined) { this.found.replaceChildren(el("p", {}, "There is nothing to compare.")); return; }
    await this.load({ target: a, against: b, run: here ? "this" : "other", set: setOf(run, state) });
  }

  load = onChange(async (asked) => {
    const found = await this.asked(asked);
    const second = asked.run === "this" ? asked.against : `${asked.against} in ${this.run.other}`;
    const nodes = [el("p", {}, `${grouped(found.n)} examples have both scores (${asked.set === "all" ? "training data and pool" : asked.set}). Spearman correlation of their ranks for ${asked.target} (a) and for ${second} (b): ${number(found.spearman, 3)}. Rank 1 is the most helpful; the examples that moved furthest stand first.`)];
    for (const spec of [found.ranks, found.effects, found.recipe]) {
      if (!spec) continue;
      const node = el("div", { class: "table" });
      makeTable(node, spec, (id, is) => is || this.place.go({ view: "examples", example: id, by: null, token: null, step: null }), parquet);
      nodes.push(node);
    }
    this.found.replaceChildren(...nodes);
  });
}
