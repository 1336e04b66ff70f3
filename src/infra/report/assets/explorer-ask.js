// Questions to the explorer's own server, and what to do with answers that come late or not at all.

const given = (parameters) => new URLSearchParams(Object.entries(parameters).filter(([, v]) => v !== "" && v !== null && v !== undefined));

async function checked(response) {
  if (response.ok) return response;
  const message = await response.json().then((j) => j.error, () => response.statusText);
  complain(message);
  throw new Error(message);
}

const ask = async (path, parameters = {}) => checked(await fetch(`/api/${path}?${given(parameters)}`));
const askJson = async (path, parameters) => (await ask(path, parameters)).json();

/** Sends `body` as JSON and gives the answer. */
const send = async (path, body) =>
  checked(await fetch(`/api/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }));

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

/** Writes a value into a field, unless that is what the reader typed there last: more may have been typed since. */
function write(input, value) {
  if (input.dataset.sent === value) return;
  input.value = value;
  input.dataset.sent = value;
}

/** The value of a field, noted as what the reader typed. */
function typed(input, value = input.value) {
  input.dataset.sent = value;
  return value;
}

/** Does `work` for a value only where it differs from the last one. */
function onChange(work) {
  let before = null;
  return async (value, ...rest) => {
    const now = JSON.stringify(value);
    if (now === before) return;
    before = now;
    try { await work(value, ...rest); } catch (error) { before = null; throw error; }
  };
}

/** What a list is asked for: the filters, the search and the order of a state, as far as the run has the columns. */
function listParameters(run, state) {
  const kept = (filters, known) => Object.fromEntries(Object.entries(filters).filter(([name]) => known(name)));
  const which = setOf(run, state);
  const equals = kept(state.equals, (name) => name in run.columns);
  const ranges = kept(state.ranges, (name) => run.columns[name] === "number" || run.targets.some((t) => name === `score_${t}`));
  const chosen = which === "all" ? equals : { ...equals, set: [which] };
  return { search: state.search, equals: JSON.stringify(chosen), ranges: JSON.stringify(ranges) };
}

const UNSORTED = "-"; // in the address: the order of the data

/** What a state sorts by: a target or a column of the run, or nothing. */
function sortOf(run, state) {
  const sort = state.sort ?? run.targets[0] ?? UNSORTED;
  return run.targets.includes(sort) || sort in run.columns || sort === UNSORTED ? sort : run.targets[0] ?? UNSORTED;
}

/** How a state orders the list, as the server is asked. */
const orderParameters = (run, state) => ({ sort: sortOf(run, state) === UNSORTED ? "" : sortOf(run, state), way: state.way === "asc" ? "asc" : "desc" });

/** The set that a state shows: training data where the run has several and none is chosen. */
function setOf(run, state) {
  if (!run.sets.length) return "all";
  return state.set === "all" || run.sets.includes(state.set) ? state.set : run.sets[0];
}

/** Offers a table as a Parquet file, made by the server from the rows as they are filtered and sorted. */
async function parquet(spec, rows) {
  const bytes = await (await send("parquet", { columns: spec.columns.map(({ key, kind }) => [key, kind]), rows })).blob();
  offer(`${spec.name}.parquet`, bytes);
}
