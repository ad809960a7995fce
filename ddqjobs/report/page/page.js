"use strict";
// The page is whole without this script. It adds a filter, sorting, values under the pointer, larger pictures, and
// buttons that copy commands. It reads the page only, and asks nothing of any network.
(() => {
  const all = (what, where) => [...(where || document).querySelectorAll(what)];
  const make = (tag, more, ...inside) => {
    const made = Object.assign(document.createElement(tag), more);
    made.append(...inside);
    return made;
  };

  // Where there is room, what a large matrix keeps folded for a phone is unfolded.
  for (const details of all("details[data-from]"))
    if (matchMedia(`(min-width: ${details.dataset.from}rem)`).matches) details.open = true;

  // Filter: what does not name every word is hidden; folded lists open while a filter is set.
  const search = make("input", { type: "search", placeholder: "model, run, failure, node …", autocomplete: "off" });
  const state = make("select", {}, make("option", { value: "", textContent: "every state" }));
  // A run without evidence has neither attribute: its text says the same.
  for (const run of all("p.run")) [run.dataset.find, run.dataset.state] = [run.textContent, run.firstElementChild.textContent];
  for (const name of new Set(all("[data-state]").map((run) => run.dataset.state)))
    state.append(make("option", { value: name, textContent: name }));
  const count = make("output", { className: "quiet" });
  const bar = make("form", { className: "toolbar" },
    make("label", {}, "Filter ", search), make("label", {}, "Runs ", state), count);
  bar.setAttribute("role", "search");
  bar.addEventListener("submit", (event) => event.preventDefault());
  const places = all("[data-find]").map((element) => [element, element.dataset.find.toLowerCase()]);
  let opened = [];
  const hits = (details) => {
    const around = details.closest("[data-find]");
    return around ? !around.hidden : details.querySelector("[data-find]:not([hidden])") !== null;
  };
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [element, text] of places) {
      const isRun = element.dataset.state !== undefined;
      const fits = words.every((word) => text.includes(word)) && !(isRun && state.value && element.dataset.state !== state.value);
      element.hidden = !fits;
      shown += isRun && fits;
    }
    const active = words.length > 0 || state.value !== "";
    opened.forEach((details) => (details.open = false));
    opened = active ? all("details:is(.phase, .shown):not([open])").filter(hits) : [];
    opened.forEach((details) => (details.open = true));
    count.textContent = active ? `${shown} run${shown === 1 ? "" : "s"}` : "";
  };
  search.addEventListener("input", filter);
  state.addEventListener("input", filter);
  if (places.length > 1) document.getElementById("main").prepend(bar);

  // Sorting: numbers by value, text by alphabet; a third click restores the order of the page.
  const value = (row, i) => {
    const text = row.cells[i].textContent.trim();
    const number = parseFloat(text.replace(/,/g, "").replace("\u2212", "-"));
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const order = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0], rows = [...body.rows];
    if (rows.length < 2) continue;
    [...table.tHead.rows[0].cells].forEach((head, i) => {
      if (head.classList.contains("ruler") || !head.textContent.trim()) return;
      const button = make("button", { type: "button", className: "sort" }, ...head.childNodes);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] || "ascending";
        all("[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
        if (next !== "none") head.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        body.append(...(next === "none" ? rows : [...rows].sort((a, b) => sign * order(value(a, i), value(b, i)))));
      });
    });
  }

  // Commands: a button that copies them.
  for (const code of all("code.command")) {
    const button = make("button", { type: "button", className: "copy", textContent: "copy" });
    button.setAttribute("aria-label", `copy: ${code.textContent}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = "press Ctrl+C";
      }
      setTimeout(() => (button.textContent = "copy"), 2000);
    });
    code.after(button);
  }

  // Curves: the values next to the pointer, and a larger picture on a click.
  const tip = make("div", { className: "tip", hidden: true });
  document.body.append(tip);
  // A line's places are tenths: a value read from one has no more digits than a tenth of the axis.
  const rounded = (number, low, high, places, least) => {
    const power = Math.max(least, Math.ceil(Math.log10((high - low) / (10 * places))));
    return Number(power < 0 ? number.toFixed(Math.min(100, -power)) : Math.round(number / 10 ** power) * 10 ** power);
  };
  const field = { left: 40, right: 292, top: 8, bottom: 96, width: 300 };
  for (const chart of all("svg.chart")) {
    const [xLow, xHigh] = chart.dataset.x.split(" ").map(Number);
    const [yLow, yHigh] = chart.dataset.y.split(" ").map(Number);
    let lines;
    const read = () =>
      all("path.line", chart).map((path) => ({
        path,
        name: path.dataset.name,
        points: [...path.getAttribute("d").matchAll(/[ML]([\d.-]+) ([\d.-]+)/g)].map((m) => [Number(m[1]), Number(m[2])]),
      }));
    chart.addEventListener("pointermove", (event) => {
      lines ??= read();
      const box = chart.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * field.width;
      const found = lines
        .filter((line) => getComputedStyle(line.path).display !== "none" && line.points.length)
        .map((line) => [line, line.points.reduce((a, b) => (Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a))]);
      if (!found.length) return;
      const at = found[0][1][0];
      const where = xLow + ((at - field.left) / (field.right - field.left)) * (xHigh - xLow);
      tip.replaceChildren(
        make("b", { textContent: `${chart.dataset.of} ${rounded(where, xLow, xHigh, field.right - field.left, 0).toLocaleString("en")}` }),
        ...found.map(([line, point]) => {
          const y = yLow + ((field.bottom - point[1]) / (field.bottom - field.top)) * (yHigh - yLow);
          return make("div", { textContent: `${line.name}: ${rounded(y, yLow, yHigh, field.bottom - field.top, -100)}` });
        }),
      );
      tip.hidden = false;
      tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
    });
    chart.addEventListener("pointerleave", () => (tip.hidden = true));
    chart.addEventListener("click", () => chart.closest("figure").classList.toggle("large"));
  }

  // A link to a run unfolds what holds it, also where the browser does not.
  const unfold = () => {
    let element = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!element) return;
    for (let outer = element; outer; outer = outer.parentElement) if (outer.tagName === "DETAILS") outer.open = true;
    element.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
