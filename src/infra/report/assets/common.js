// Small things every other file here uses: elements, numbers, CSV.

/** An element with attributes (functions become listeners) and children; text children are text, never markup. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}

const MINUS = "−";
const superscript = (n) => String(n).replace(/[-0-9]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);

/** Significant digits with a real minus; the same rule as infra.report.wording.number. */
function number(x, digits = 3) {
  if (typeof x !== "number" || !Number.isFinite(x)) return "–";
  if (x === 0) return "0";
  if (Number.isInteger(x) && Math.abs(x) < 1e6) return (x < 0 ? MINUS : "") + Math.abs(x);
  const exponent = Math.floor(Math.log10(Math.abs(x)));
  const size = Math.abs(x);
  const text = exponent >= -4 && exponent < 6
    ? size.toFixed(Math.max(0, digits - 1 - exponent))
    : (size / 10 ** exponent).toFixed(digits - 1) + "×10" + superscript(exponent);
  return (x < 0 ? MINUS : "") + text;
}

const signed = (x, digits = 3) => (x > 0 ? "+" : "") + number(x, digits);
const tone = (x) => (x > 0 ? "pos" : x < 0 ? "neg" : "");
const grouped = (n) => Number(n).toLocaleString("en").replaceAll(",", "\u2009");

/** Characters that would not be seen, or that would reorder what is seen. */
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;
const codePoint = (c) => "U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
const oneLine = (text) => text.replace(/\s+/g, " ");
const visible = (text) => text.replace(INVISIBLE, codePoint).replaceAll("\n", "↵");

/** One CSV cell (RFC 4180); text that a spreadsheet would run as a formula gets a leading apostrophe. */
function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  let text = typeof value === "string" ? value : JSON.stringify(value);
  if (/^[=+\-@\t\r]/.test(text) && !/^[-+]?[\d.]+(e[-+]?\d+)?$/i.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

const csv = (header, rows) => [header, ...rows].map((row) => row.map(csvCell).join(",")).join("\r\n") + "\r\n";

/** Offers `text` as a file, from memory. */
const download = (name, text, type = "text/csv;charset=utf-8") => offer(name, new Blob([text], { type }));

function offer(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** A segmented switch of radio buttons; returns {node, value, set, enable}. */
function segmented(legend, name, options, onChange) {
  const inputs = options.map(([value], i) =>
    el("input", { type: "radio", name, value, checked: i === 0, change: () => onChange(value) }));
  const node = el("fieldset", { class: "segmented" }, el("legend", {}, legend),
    options.map(([, label], i) => el("label", {}, inputs[i], el("span", {}, label))));
  return {
    node,
    get value() { return inputs.find((i) => i.checked)?.value; },
    set(value) { for (const i of inputs) i.checked = i.value === value; },
    enable(values) { for (const i of inputs) i.disabled = !values.includes(i.value); },
  };
}

/** A labelled select; options are [value, label]. */
function select(label, options, onChange) {
  const box = el("select", { change: () => onChange(box.value), "aria-label": label },
    options.map(([value, text]) => el("option", { value }, text)));
  return box;
}

/** The theme button: follows the system until pressed, then remembers where the browser lets it. */
function themeButton(button) {
  const root = document.documentElement;
  const stored = (() => { try { return localStorage.getItem("infra-theme"); } catch { return null; } })();
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const label = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(dark()));
    button.setAttribute("aria-label", dark() ? "Light theme" : "Dark theme");
  };
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("infra-theme", root.dataset.theme); } catch { /* a file page may not keep anything */ }
    label();
  });
  label();
}
