"use strict";

// Tables: a click on a heading sorts by it, another one turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const first = head.classList.contains("text") ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const th of head.parentNode.children) th.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[head.cellIndex].dataset.v ?? "";
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // what is not known comes last
        const [p, q] = [Number(x), Number(y)];
        return sign * (Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y, "en", { numeric: true }) : p - q);
      });
      body.append(...rows);
    });
  });
}

// Field pairs: a map of R, a cell a pair.
const map = document.querySelector("#pairs");
if (map) drawPairs(map, JSON.parse(document.querySelector("#pair-data").textContent));

function drawPairs(box, data) {
  const NS = "http://www.w3.org/2000/svg"; // a name, never fetched
  const n = data.fields.length, cell = 10, margin = 62;
  const make = (name, attributes, parent) => {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return parent.appendChild(element);
  };
  const side = margin + n * cell;
  const svg = make("svg", { viewBox: `0 0 ${side + 2} ${side}`, tabindex: 0, role: "img",
    "aria-label": "map of field pairs; arrow keys move through it" }, box);
  const short = (name) => (name.length > 12 ? name.slice(0, 11) + "…" : name);
  const label = (name, attributes) => { make("text", { "font-size": 7.5, ...attributes }, svg).textContent = short(name); };
  data.fields.forEach((name, i) => {
    const at = i * cell + cell / 2;
    if (i > 0) label(name, { x: margin - 4, y: at + 2.6, "text-anchor": "end", "data-f": i });
    if (i < n - 1) label(name, { transform: `translate(${margin + at + 2.6} ${n * cell + 4}) rotate(-90)`, "text-anchor": "end", "data-f": i });
  });
  const cells = [], planted = new Set(data.planted);
  for (let i = 0, p = 0; i < n; i++) {
    for (let j = i + 1; j < n; j++, p++) {
      const rect = make("rect", { x: margin + i * cell, y: j * cell, width: cell - 1, height: cell - 1, "data-p": p }, svg);
      if (planted.has(p)) rect.classList.add("planted");
      cells.push({ rect, i, j });
    }
  }

  const select = document.querySelector("#pair-view");
  const keepers = (p) => data.runs.filter((run) => run.keep[p] === "1");
  function paint() {
    const view = select.value;
    let weights;
    if (view === "share") weights = cells.map((_, p) => keepers(p).length / data.runs.length);
    else if (view === "before") weights = data.before;
    else weights = data.runs[view].w.map((w, p) => (data.runs[view].keep[p] === "1" ? w : 0));
    const largest = Math.max(...weights.map(Math.abs)) || 1;
    weights.forEach((w, p) => {
      const depth = w === 0 ? 0 : 0.08 + 0.92 * Math.pow(Math.abs(w) / largest, 0.8);
      cells[p].rect.style.fill = depth ? `rgb(var(--${w > 0 ? "blue" : "orange"}) / ${depth})` : "";
    });
  }
  select.addEventListener("change", paint);
  paint();

  const tip = document.querySelector("#tip");
  let current = -1;
  function show(p, x, y) {
    hide();
    current = p;
    const { rect, i, j } = cells[p];
    rect.classList.add("on");
    svg.querySelectorAll(`text[data-f="${i}"], text[data-f="${j}"]`).forEach((t) => t.classList.add("on"));
    const run = data.runs[select.value] ?? data.runs[0];
    const kept = keepers(p);
    const title = document.createElement("b");
    title.textContent = `${data.fields[i]} × ${data.fields[j]}`;
    const lines = [`weight ${run.keep[p] === "1" ? run.w[p].toPrecision(3) : "pruned"} in ${run.name}`];
    if (data.before) lines.push(`before pruning ${data.before[p].toPrecision(3)}`);
    const names = kept.slice(0, 8).map((r) => r.name).join(", ") + (kept.length > 8 ? ", …" : "");
    lines.push(`kept in ${kept.length} of ${data.runs.length} runs${kept.length ? ": " + names : ""}`);
    if (planted.has(p)) lines.push("planted: it really acts");
    tip.replaceChildren(title, lines.join("\n"));
    tip.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 8))}px`;
    tip.style.top = `${y + 18 + height > innerHeight ? Math.max(8, y - height - 12) : y + 18}px`;
  }
  function hide() {
    tip.hidden = true;
    if (current < 0) return;
    svg.querySelectorAll(".on").forEach((element) => element.classList.remove("on"));
    current = -1;
  }
  const pointed = (event) => {
    const p = event.target.dataset?.p;
    if (p === undefined) hide();
    else show(Number(p), event.clientX, event.clientY);
  };
  svg.addEventListener("pointermove", pointed);
  svg.addEventListener("pointerdown", pointed);
  svg.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
  svg.addEventListener("blur", hide);
  document.addEventListener("pointerdown", (event) => { if (!svg.contains(event.target)) hide(); });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const { i, j } = cells[Math.max(current, 0)];
    const found = current < 0 ? 0 : cells.findIndex((c) => c.i === i + step[0] && c.j === j + step[1]);
    if (found < 0) return;
    const place = cells[found].rect.getBoundingClientRect();
    show(found, place.right, place.bottom);
  });
}
