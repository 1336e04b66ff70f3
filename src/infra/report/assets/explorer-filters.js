// The filters of the list: values with counts that follow the other filters, ranges, and a histogram with a brush.

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

class Filters {
  constructor(run, place) {
    this.run = run;
    this.place = place;
    this.counts = latest((parameters) => askJson("facets", parameters));
    this.ends = {};
    this.boxes = {};
    this.histogram = new Histogram(run, place);
    this.clear = el("button", { type: "button", class: "quiet", click: () => this.place.go({ equals: {}, ranges: {}, offset: 0 }) }, "Clear filters");
    this.node = el("div", {}, this.histogram.node, run.facets.map((facet) =>
      el("fieldset", {}, el("legend", {}, facet.name), facet.kind === "range" ? this.range(facet) : this.values(facet))), this.clear);
  }

  range({ name, range }) {
    this.ends[name] = rangeInputs(name, range, this.place);
    return el("div", { class: "range" }, this.ends[name]);
  }

  values({ name, values }) {
    const rows = (this.boxes[name] = values.map(([value, n]) => {
      const box = el("input", { type: "checkbox", "data-value": String(value), change: () => {
        const equals = { ...this.place.state.equals, [name]: rows.filter((r) => r.box.checked).map((r) => r.value) };
        if (!equals[name].length) delete equals[name];
        this.place.go({ equals, offset: 0 });
      } });
      return { value, box, count: el("span", { class: "n" }, grouped(n)) };
    }));
    return el("div", { class: "values" }, rows.map((row) =>
      el("label", { class: "value" }, row.box, el("span", {}, row.value === null ? "(none)" : visible(String(row.value))), row.count)));
  }

  /** Ticks what a state filters, and counts anew. */
  async show(state) {
    this.clear.hidden = !Object.keys(state.equals).length && !Object.keys(state.ranges).length;
    for (const [name, rows] of Object.entries(this.boxes)) for (const row of rows) row.box.checked = Boolean(state.equals[name]?.includes(row.value));
    for (const [name, ends] of Object.entries(this.ends)) fill(ends, state.ranges[name]);
    const asked = listParameters(this.run, state);
    await Promise.all([this.count(asked), this.histogram.show(state, asked)]);
  }

  count = onChange(async (asked) => {
    const counts = await this.counts(asked);
    for (const [name, rows] of Object.entries(this.boxes)) {
      const found = new Map(counts[name]);
      for (const row of rows) {
        row.count.textContent = grouped(found.get(row.value) ?? 0);
        row.box.parentNode.classList.toggle("none", !found.get(row.value));
      }
    }
  });
}

/** Two inputs for the ends of a range of a column. */
function rangeInputs(name, range, place, label = name) {
  const ends = ["least", "most"].map((word, i) => el("input", { type: "number", step: "any", placeholder: number(range[i]), "aria-label": `${word} ${label}` }));
  const changed = debounce(() => setRange(place, name, ends.map((e) => (typed(e, e.value && String(Number(e.value))) === "" ? null : Number(e.value)))), 250);
  ends.forEach((e) => e.addEventListener("input", changed));
  return ends;
}

function setRange(place, name, bounds) {
  const ranges = { ...place.state.ranges, [name]: bounds };
  if (bounds.every((b) => b === null)) delete ranges[name];
  place.go({ ranges, offset: 0 }, `range ${name}`);
}

/** Writes the ends of a range into its inputs. */
function fill(ends, bounds = [null, null]) {
  ends.forEach((input, i) => write(input, String(bounds[i] ?? "")));
}

/** Scores of the target that the list is sorted by: grey for all examples, coloured for those that pass the filters. */
class Histogram {
  constructor(run, place) {
    this.run = run;
    this.place = place;
    this.found = latest((parameters) => askJson("histogram", parameters));
    this.legend = el("legend");
    this.bars = svg("g");
    this.brush = svg("rect", { class: "brush", y: 0, height: 60 });
    this.plot = svg("svg", { viewBox: "0 0 200 60", preserveAspectRatio: "none", role: "img" }, this.bars, this.brush);
    this.axis = el("div", { class: "axis" });
    this.inputs = el("div", { class: "range" });
    this.node = el("fieldset", { class: "histogram" }, this.legend, this.plot, this.axis, this.inputs);
    this.plot.addEventListener("pointerdown", (e) => this.drag(e));
  }

  async show(state, asked) {
    const target = sortedTarget(this.run, state);
    this.node.hidden = !target;
    if (!target) return;
    if (this.target !== target) {
      this.target = target;
      this.column = `score_${target}`;
      this.ends = rangeInputs(this.column, [null, null], this.place, `influence on ${target}`);
      this.inputs.replaceChildren(...this.ends);
      this.legend.textContent = `influence on ${target}`;
    }
    fill(this.ends, state.ranges[this.column]);
    await this.draw({ ...asked, of: this.column });
    this.mark(state.ranges[this.column]);
  }

  draw = onChange(async (asked) => {
    const shape = (this.shape = await this.found(asked));
    const { counts, all, low, high } = shape;
    const top = Math.max(1, ...all.map(Math.sqrt));
    const width = 200 / all.length;
    const bar = (n, i, kind) => svg("rect", { class: kind, x: i * width, width: width - 0.5, y: 60 - (58 * Math.sqrt(n)) / top, height: (58 * Math.sqrt(n)) / top });
    const side = (i) => (low + ((i + 0.5) * (high - low)) / all.length > 0 ? "up" : "down");
    this.bars.replaceChildren(...all.map((n, i) => bar(n, i, "rest")), ...counts.map((n, i) => bar(n, i, side(i))));
    this.plot.setAttribute("aria-label", `Histogram of the influence on ${this.target}, from ${number(low)} to ${number(high)}; drag to choose a range, or type it below`);
    this.axis.replaceChildren(el("span", {}, signed(low, 2)), el("span", {}, signed(high, 2)));
    this.ends.forEach((input, i) => { input.placeholder = number([low, high][i]); });
  });

  /** Shows a range as the brush. */
  mark(bounds) {
    const { low, high } = this.shape ?? { low: 0, high: 1 };
    const at = (x, end) => (x === null ? end : Math.max(0, Math.min(200, (200 * (x - low)) / (high - low))));
    const [from, to] = bounds ? [at(bounds[0], 0), at(bounds[1], 200)] : [0, 0];
    this.brush.setAttribute("x", Math.min(from, to));
    this.brush.setAttribute("width", Math.max(0, to - from));
  }

  drag(start) {
    if (!this.shape) return;
    const { low, high } = this.shape;
    const box = this.plot.getBoundingClientRect();
    const at = (e) => Math.max(0, Math.min(1, (e.clientX - box.left) / box.width));
    const first = at(start);
    let bounds = null;
    const move = (e) => {
      const [a, b] = [Math.min(first, at(e)), Math.max(first, at(e))];
      const rounded = (share) => Number((low + share * (high - low)).toPrecision(4));
      bounds = b - a < 0.01 ? null : [a <= 0.005 ? null : rounded(a), b >= 0.995 ? null : rounded(b)]; // to the edge: without end
      this.mark(bounds ?? undefined);
    };
    const end = () => {
      this.plot.removeEventListener("pointermove", move);
      setRange(this.place, this.column, bounds ?? [null, null]);
    };
    try { this.plot.setPointerCapture(start.pointerId); } catch { /* a pointer that is gone already */ }
    this.plot.addEventListener("pointermove", move);
    this.plot.addEventListener("pointerup", end, { once: true });
    start.preventDefault();
  }
}

/** The target that a state's list is sorted by; the first one where it is sorted by something else. */
function sortedTarget(run, state) {
  const sort = sortOf(run, state);
  return run.targets.includes(sort) ? sort : run.targets[0];
}
