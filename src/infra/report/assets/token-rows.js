// What a token map is cut into, and what it holds as a file.

/** Rows that cover all tokens in order: the steps, and what lies before, between and after them. */
function cover(view) {
  const rows = [];
  let at = 0;
  const other = (to) => {
    while (at < to) {
      const prompt = !view.mask[at];
      let end = at;
      while (end < to && !view.mask[end] === prompt) end++;
      rows.push({ from: at, to: end, kind: prompt ? "prompt" : "text", name: prompt ? "prompt" : "response", labels: [] });
      at = end;
    }
  };
  view.steps.map((step, i) => [...step, i]).sort((a, b) => a[0] - b[0]).forEach(([a, b, labels, index], i) => {
    other(Math.max(at, a));
    if (b > at) rows.push({ from: at, to: b, kind: "step", index, labels, name: `step ${i + 1}${labels.length ? ": " + labels.join(", ").replaceAll("_", " ") : ""}` });
    at = Math.max(at, b);
  });
  other(view.n);
  if (!rows.length) rows.push({ from: 0, to: 0, kind: "text", name: "text", labels: [] });
  return rows;
}

/** Every token of an example with every score it has, rounded only if the page holds rounded ones. */
function tokensCsv(view) {
  const columns = view.decompositions.flatMap((d, i) => view.targets.map((t, k) => [`${d}_${t}${view.exact ? "" : "_approx"}`, view.scores(i, k)]));
  const stepOf = new Array(view.n).fill("");
  view.steps.forEach(([a, b, labels]) => stepOf.fill(labels.join(" ") || "unlabelled", a, b));
  const rows = Array.from({ length: view.n }, (_, t) => [t, view.text.slice(view.starts[t], view.ends[t]), view.mask[t], stepOf[t], view.classOf(t), ...columns.map(([, v]) => v[t])]);
  download(`tokens-${view.id.replace(/[^\w.-]+/g, "_").slice(0, 60)}.csv`, csv(["token", "text", "loss_mask", "behaviours", "class", ...columns.map(([name]) => name)], rows));
}
