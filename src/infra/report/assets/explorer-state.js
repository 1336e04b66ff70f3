// What the explorer shows, kept in the address: back, reload and a pasted link restore it.

const START = {
  view: "examples", set: null, search: "", equals: {}, ranges: {}, sort: null, way: "desc", offset: 0,
  example: null, target: null, by: null, token: null, step: null, as: null, scale: null,
  words: "", query: null, part: null, from: null, unit: null, a: null, b: null, run: null,
};
const WHOLE = new Set(["offset", "token", "step", "unit"]);
const NOTHING = "\0"; // a value that is not there, as the server writes it

/** The state that an address names; what it does not name is as at the start. */
function readState(hash) {
  const state = { ...START, equals: {}, ranges: {} };
  for (const [key, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const column = key.slice(3);
    if (key.startsWith("is.")) (state.equals[column] ??= []).push(value === NOTHING ? null : value);
    else if (key.startsWith("in.")) {
      const ends = value.split("..").map((x) => (x === "" || !Number.isFinite(Number(x)) ? null : Number(x)));
      if (ends.length === 2 && ends.some((x) => x !== null)) state.ranges[column] = ends;
    } else if (WHOLE.has(key)) { if (/^\d{1,9}$/.test(value)) state[key] = Number(value); }
    else if (Object.hasOwn(START, key) && key !== "equals" && key !== "ranges") state[key] = value;
  }
  return state;
}

/** The address of a state, without what is as at the start. */
function writeState(state) {
  const out = new URLSearchParams();
  for (const [key, value] of Object.entries(state)) {
    if (key === "equals") for (const [column, values] of Object.entries(value)) for (const v of values) out.append(`is.${column}`, v ?? NOTHING);
    else if (key === "ranges") for (const [column, [least, most]] of Object.entries(value)) out.append(`in.${column}`, `${least ?? ""}..${most ?? ""}`);
    else if (value !== START[key] && value !== null && value !== "") out.set(key, value);
  }
  const text = out.toString();
  return text ? `#${text}` : "#";
}

class Place {
  /** `show(state)` is called whenever the state changes, by whatever way. */
  constructor(show) {
    this.show = show;
    this.kind = "";
    this.state = readState(location.hash);
    addEventListener("popstate", () => {
      this.kind = "";
      this.state = readState(location.hash);
      this.show(this.state);
    });
  }

  /**
   * Goes on to the state with these changes. `kind` "push" makes an entry of its own in the browser's history, "replace"
   * makes none; other kinds ("search", "token", ...) make one for a whole series of the same kind.
   */
  go(changes, kind = "push") {
    const state = { ...this.state, ...changes };
    const address = writeState(state);
    this.state = state;
    if (address !== writeState(readState(location.hash))) {
      const entry = kind === "push" || (kind !== "replace" && kind !== this.kind);
      if (entry) history.pushState(null, "", address);
      else history.replaceState(null, "", address);
    }
    if (kind !== "replace") this.kind = kind;
    return this.show(state);
  }
}
