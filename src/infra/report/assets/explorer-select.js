// From the list to a training file: the settings of `infra select`, over all training data or over what the list shows.

class Selection {
  constructor(run, place) {
    this.run = run;
    this.place = place;
    const field = (label, node) => el("label", { class: "field" }, el("span", {}, label), node);
    const amount = (label, attributes) => el("input", { type: "number", "aria-label": label, ...attributes });
    this.how = select("What to keep", [["keep", "the best share"], ["top", "the best N records"], ["harmless", "all but the harmful"], ["shown", "all that the list shows"], ["weights", "all, with weights"]], () => this.draw());
    this.keep = amount("Share kept, per cent", { min: 1, max: 100, step: 1, value: 80 });
    this.top = amount("Number kept", { min: 1, step: 1, value: Math.max(1, Math.round(run.n / 2)) });
    this.target = select("Whose scores count", [["", "all targets, balanced"], ...run.targets.map((t) => [t, t])], () => {});
    this.by = select("What is ranked", [["score", "influence"], ["percentile", "percentile"], ["per-token", "influence per token"]], () => {});
    this.balance = el("input", { type: "checkbox" });
    this.shown = el("input", { type: "checkbox" });
    this.control = select("Control", [["length", "random, of equal length"], ["random", "random"], ["", "none"]], () => {});
    this.messages = select("Written as", [["own", "rows of my own files"], ["messages", "messages (JSON Lines)"]], () => {});
    this.said = el("p", { role: "status" });
    this.make = el("button", { type: "submit" }, "Make the files");
    this.fields = { keep: field("Per cent", this.keep), top: field("Records", this.top), shown: field("only of what the list shows", this.shown),
      balance: field("every domain keeps its share", this.balance), control: field("Control beside it", this.control) };
    const form = el("form", { submit: (e) => { e.preventDefault(); this.send(); } },
      field("Keep", this.how), this.fields.keep, this.fields.top, field("By the influence on", this.target), field("Ranked by", this.by),
      this.fields.balance, this.fields.shown, this.fields.control, field("Written as", this.messages), this.said,
      el("div", { class: "buttons" }, this.make, el("button", { type: "button", click: () => this.dialog.close() }, "Close")));
    this.dialog = el("dialog", { class: "help select", "aria-labelledby": "select-title" }, el("h2", { id: "select-title" }, "A training file of the best examples"), form);
    document.body.append(this.dialog);
    this.node = el("div", { class: "exports" }, el("span", {}, "A training file"), el("button", { type: "button", click: () => this.open() }, "Select…"));
  }

  open() {
    const { state } = this.place;
    const target = sortedTarget(this.run, state);
    this.target.value = sortOf(this.run, state) === target ? target : "";
    const filtered = state.search !== "" || Object.keys(state.equals).length > 0 || Object.keys(state.ranges).length > 0;
    this.shown.checked = filtered;
    if (filtered) this.how.value = "shown";
    this.said.textContent = "";
    this.draw();
    this.dialog.showModal();
  }

  draw() {
    const how = this.how.value;
    this.fields.keep.hidden = how !== "keep";
    this.fields.top.hidden = how !== "top";
    this.fields.balance.hidden = !["keep", "top"].includes(how);
    this.fields.shown.hidden = ["weights", "shown"].includes(how);
    this.control.options[0].disabled = how === "weights";
    if (how === "weights" && this.control.value === "length") this.control.value = "random";
  }

  /** What the server is asked for. */
  asked() {
    const how = this.how.value;
    const settings = { by: this.by.value, target: this.target.value || null, control: this.control.value || null };
    if (how === "keep") Object.assign(settings, { keep: Number(this.keep.value) / 100, balance: this.balance.checked });
    if (how === "top") Object.assign(settings, { top: Number(this.top.value), balance: this.balance.checked });
    if (how === "harmless") settings.drop_harmful = true;
    if (how === "weights") settings.weights = true;
    const list = how === "shown" || (this.shown.checked && how !== "weights");
    return { settings, shown: list ? listParameters(this.run, this.place.state) : null, messages: this.messages.value === "messages" };
  }

  async send() {
    this.make.disabled = true;
    this.said.textContent = "Choosing and writing …";
    try {
      const response = await send("select", this.asked());
      const account = JSON.parse(response.headers.get("Selection"));
      offer(`${this.run.name}-selected.zip`, await response.blob());
      const { kept, control, scored } = account;
      this.said.textContent = `${grouped(kept.records)} of ${grouped(scored.records)} records are kept, ${grouped(kept.response_tokens)} response tokens`
        + (control ? `; the control keeps ${grouped(control.records)}, ${grouped(control.response_tokens)} tokens.` : ".");
    } catch (error) {
      this.said.textContent = error.message;
    } finally {
      this.make.disabled = false;
    }
  }
}
