// The keyboard in lists: j and k or the arrows by row, / to the search, Esc out of it, ? for all keys.

const KEYS = [
  ["j  k  ↓  ↑", "next and previous row of the list"],
  ["/", "to the search"],
  ["Esc", "out of the search, then out of the chosen token, step or part"],
  ["?", "these keys"],
  ["←  →  ↑  ↓  Home  End", "in a text: by token and by step"],
  ["m", "in a text: the strongest token"],
  ["Enter", "in a text: chooses the step"],
  ["t  d  s", "in a text: next target, loss or position, scale"],
];

/** `view()` is the view on the screen: {search, list, step(by), leave()}, each where it has it. */
function listKeys(view) {
  const help = el("dialog", { class: "help", "aria-labelledby": "help-title" },
    el("h2", { id: "help-title" }, "Keys"),
    el("dl", {}, KEYS.flatMap(([keys, what]) => [el("dt", {}, keys.split("  ").map((k) => el("kbd", {}, k))), el("dd", {}, what)])),
    el("form", { method: "dialog" }, el("button", {}, "Close")));
  document.body.append(help);
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || document.querySelector("dialog[open]")) return;
    const { target } = e;
    const typing = target.matches("input:not([type=checkbox]):not([type=radio]), textarea, select");
    const now = view();
    const arrows = now.list?.contains(target) || target === now.search || target === document.body;
    if (e.key === "Escape") {
      if (typing) target.blur();
      else now.leave?.();
      return;
    }
    const by = { ...(typing ? {} : { j: 1, k: -1 }), ...(arrows ? { ArrowDown: 1, ArrowUp: -1 } : {}) }[e.key];
    if (by && now.step) now.step(by);
    else if (!typing && e.key === "/" && now.search) { now.search.focus(); now.search.select(); }
    else if (!typing && e.key === "?") help.showModal();
    else return;
    e.preventDefault();
  });
  return help;
}

/** Shows a row of a list: scrolls the list, not the page, and moves the focus where it was in the list already. */
function reveal(list, button) {
  if (!button) return;
  const box = button.getBoundingClientRect();
  const frame = list.getBoundingClientRect();
  if (box.top < frame.top) list.scrollTop -= frame.top - box.top;
  else if (box.bottom > frame.bottom) list.scrollTop += box.bottom - frame.bottom;
  if (list.contains(document.activeElement)) button.focus({ preventScroll: true });
}
