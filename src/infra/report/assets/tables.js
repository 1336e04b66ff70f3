// A table with sorting, column filters, a row limit and its own CSV.

const CELL = {
  text: (v) => (v === null ? "–" : typeof v === "string" ? visible(v) : String(v)),
  long: (v) => (v === null ? "–" : visible(String(v))),
  code: (v) => (v === null ? "–" : visible(String(v))),
  int: (v) => (typeof v === "number" ? grouped(v) : v === null ? "–" : String(v)),
  number: (v) => (typeof v === "number" ? number(v) : v === null ? "–" : String(v)),
  effect: (v) => (typeof v === "number" ? signed(v) : v === null ? "–" : String(v)),
  percentile: (v) => (typeof v === "number" ? (Number.isInteger(v) ? v : v.toFixed(1)) + "%" : "–"),
  percent: (v) => (typeof v === "number" ? (100 * v).toFixed(1) + "%" : "–"),
  points: (v) => (typeof v === "number" ? (v < 0 ? MINUS : v > 0 ? "+" : "") + Math.abs(100 * v).toFixed(1) : "–"),
};
const RIGHT = new Set(["int", "number", "effect", "percent", "points", "percentile"]);

/**
 * spec: {name, title, columns: [{key, label, kind}], rows: [[...]], filters: [key], limit}.
 * onId(id), when given, makes the cells of the column `id` buttons; onParquet(spec, rows) offers the rows as Parquet.
 */
function makeTable(root, spec, onId = null, onParquet = null) {
  const index = Object.fromEntries(spec.columns.map((c, i) => [c.key, i]));
  const chosen = {};
  let sort = null;
  let expanded = false;
  const limit = spec.limit ?? 6;

  const body = el("tbody");
  const counter = el("span", { class: "count", role: "status" });
  const more = el("button", { type: "button", class: "more", click: () => { expanded = !expanded; draw(); } });
  const heads = spec.columns.map((column, i) => {
    const button = el("button", { type: "button", click: () => {
      sort = sort && sort.column === i && sort.down ? { column: i, down: false } : { column: i, down: true };
      if (sort.down && !RIGHT.has(column.kind) && heads[i].getAttribute("aria-sort") !== "ascending") sort.down = false;
      draw();
    } }, column.label);
    return el("th", { scope: "col", class: RIGHT.has(column.kind) ? "num" : null }, button);
  });
  const filters = (spec.filters ?? []).filter((key) => key in index).map((key) => {
    const values = [...new Set(spec.rows.map((r) => r[index[key]]))];
    if (values.length < 2) return null;
    const label = spec.columns[index[key]].label;
    return select(`Filter by ${label}`, [["", `${label}: all`], ...values.map((v) => [String(v), CELL.text(v)])], (value) => {
      chosen[key] = value;
      draw();
    });
  });

  function rows() {
    let found = spec.rows.filter((r) => Object.entries(chosen).every(([key, value]) => value === "" || String(r[index[key]]) === value));
    if (sort) {
      const c = sort.column;
      const way = sort.down ? -1 : 1;
      found = [...found].sort((a, b) => {
        if (a[c] === null || b[c] === null) return (a[c] === null) - (b[c] === null);
        const order = typeof a[c] === "number" && typeof b[c] === "number" ? a[c] - b[c] : String(a[c]).localeCompare(String(b[c]), "en", { numeric: true });
        return way * order;
      });
    }
    return found;
  }

  function cell(row, column, i) {
    const value = row[i];
    const text = (CELL[column.kind] ?? CELL.text)(value);
    const classes = [RIGHT.has(column.kind) && "num", column.kind === "long" && "long", column.kind === "code" && "code",
      (column.kind === "effect" || column.kind === "points") && column.tinted && tone(value)];
    const content = column.key === "id" && onId && onId(value, true)
      ? el("button", { type: "button", class: "link", click: () => onId(value) }, text) : text;
    return el("td", { class: classes.filter(Boolean).join(" ") || null }, content);
  }

  function draw() {
    const found = rows();
    const shown = expanded ? found : found.slice(0, limit);
    body.replaceChildren(...shown.map((row) => el("tr", {}, spec.columns.map((c, i) => cell(row, c, i)))));
    heads.forEach((head, i) => {
      if (sort && sort.column === i) head.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    counter.textContent = `${grouped(shown.length)} of ${grouped(spec.rows.length)} rows`;
    more.hidden = found.length <= limit;
    more.textContent = expanded ? "Show fewer rows" : `Show all ${grouped(found.length)} rows`;
  }

  root.replaceChildren(
    el("h3", {}, spec.title),
    el("div", { class: "tools" }, filters, el("button", { type: "button", click: () =>
      download(spec.name + ".csv", csv(spec.columns.map((c) => c.key), rows())) }, "Download CSV"),
      onParquet && el("button", { type: "button", click: () => onParquet(spec, rows()) }, "Parquet"), counter),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": spec.title },
      el("table", {}, el("thead", {}, el("tr", {}, heads)), body)),
    more,
  );
  draw();
}
