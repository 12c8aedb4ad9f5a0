// The log viewer: only the lines in sight are in the page; others are fetched in pieces as they come into sight.
"use strict";
(() => {
  const box = document.getElementById("log");
  if (!box) return;
  const list = box.querySelector("ol");
  const total = Number(box.dataset.total);
  const HEIGHT = 20, PIECE = 500, BEYOND = 40;
  const spans = (text) => text.split(" ").filter(Boolean).map((span) => span.split("-").map(Number));
  const told = spans(box.dataset.told), cited = spans(box.dataset.cited);
  const red = new Set(box.dataset.red.split(" ").map(Number));
  const inside = (all, number) => all.some(([first, last]) => number >= first && number <= (last || first));
  const url = location.pathname + "/lines";
  const pieces = new Map();
  const wrap = document.getElementById("wrap");
  let hits = [], hit = -1, word = "", target = 0, widest = 0;
  // The line that was asked for, and where the box was scrolled to by this script.
  let pinned = 0, placed = 0;

  // How much higher than one row each line is where lines wrap: known of those that were drawn. Sums of the first so many are kept
  // in a tree (Fenwick), so that a line is found by its place among a million.
  let higher = new Float64Array(total + 1), tree = new Float64Array(total + 1);
  function grow(number, height) {
    const by = height - HEIGHT - higher[number];
    higher[number] += by;
    for (let at = number; by && at <= total; at += at & -at) tree[at] += by;
    return by !== 0;
  }
  function top(number) {
    let sum = (number - 1) * HEIGHT;
    for (let at = number - 1; at > 0; at -= at & -at) sum += tree[at];
    return sum;
  }
  function lineAt(y) {
    let low = 1, high = Math.max(total, 1);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (top(middle) <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }
  function forget() {
    higher = new Float64Array(total + 1);
    tree = new Float64Array(total + 1);
  }

  async function fetched(piece) {
    if (!pieces.has(piece)) {
      const load = fetch(`${url}?from=${piece * PIECE + 1}&count=${PIECE}`)
        .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(answer.status))))
        .then((answer) => answer.lines);
      pieces.set(piece, load);
      load.catch(() => pieces.delete(piece));
    }
    return pieces.get(piece);
  }

  function marked(node, text) {
    const lower = text.toLowerCase();
    let at = 0;
    for (let next = word ? lower.indexOf(word) : -1; next >= 0; next = lower.indexOf(word, at)) {
      node.append(text.slice(at, next));
      const mark = document.createElement("mark");
      mark.textContent = text.slice(next, next + word.length);
      node.append(mark);
      at = next + word.length;
    }
    node.append(text.slice(at));
  }

  function row(number, text) {
    const line = document.createElement("li");
    // No id: the browser would scroll to it by itself, and so would the whole page.
    line.dataset.number = number;
    line.style.top = top(number) + "px";
    line.classList.toggle("told", inside(told, number));
    line.classList.toggle("red", red.has(number));
    line.classList.toggle("cited", number === target || (!target && inside(cited, number)));
    line.classList.toggle("hit", hits[hit] === number);
    const link = document.createElement("a");
    link.href = "#L" + number;
    link.tabIndex = -1;
    link.textContent = number;
    const shown = document.createElement("span");
    marked(shown, text);
    line.append(link, shown);
    return line;
  }

  let drawing = 0;
  async function draw() {
    const turn = ++drawing;
    const first = Math.max(1, lineAt(box.scrollTop) - BEYOND);
    const last = Math.min(total, lineAt(box.scrollTop + box.clientHeight) + BEYOND);
    const rows = [];
    for (let piece = Math.floor((first - 1) / PIECE); piece <= Math.floor((last - 1) / PIECE); piece++) {
      let lines;
      try {
        lines = await fetched(piece);
      } catch {
        document.getElementById("hits").hidden = false;
        document.getElementById("where").textContent = "The lines cannot be fetched; scroll to try again.";
        return;
      }
      if (turn !== drawing) return;
      lines.forEach((text, index) => {
        const number = piece * PIECE + index + 1;
        if (number >= first && number <= last) rows.push(row(number, text));
      });
    }
    list.replaceChildren(...rows);
    if (wrap.checked) settle(rows);
    else widen(rows);
    box.dataset.drawn = `${first}-${last}`;
  }

  // What was guessed about lines that wrap is put right. What is looked at stays where it is: the line that was asked for, or, once
  // somebody scrolled away from it, the one at the top.
  function settle(rows) {
    const anchor = lineAt(box.scrollTop), within = box.scrollTop - top(anchor);
    const heights = rows.map((line) => line.offsetHeight);
    if (!rows.filter((line, index) => grow(Number(line.dataset.number), heights[index])).length) return;
    for (const line of rows) line.style.top = top(Number(line.dataset.number)) + "px";
    list.style.height = top(total + 1) + "px";
    if (pinned) aim();
    else place(top(anchor) + within);
  }

  function place(y) {
    box.scrollTop = y;
    placed = box.scrollTop;
  }

  function aim() {
    place(Math.max(0, top(pinned) - box.clientHeight / 3));
  }

  function widen(rows) {
    const width = Math.max(...rows.map((line) => line.scrollWidth), 0);
    if (width > widest) {
      widest = width;
      list.style.width = widest + "px";
    }
  }

  function relay() {
    const anchor = lineAt(box.scrollTop);
    forget();
    widest = 0;
    list.style.width = "";
    list.style.height = total * HEIGHT + "px";
    if (pinned) aim();
    else place(top(anchor));
    return draw();
  }

  function show(number) {
    pinned = number;
    aim();
    return draw();
  }

  function goto() {
    const match = /^#L(\d+)$/.exec(location.hash);
    if (!match) return false;
    // The cited lines stay marked together as long as the first of them is the target.
    target = inside(cited, Number(match[1])) ? 0 : Number(match[1]);
    show(Number(match[1]));
    box.scrollIntoView({ block: "nearest" });
    return true;
  }

  function found(index) {
    if (!hits.length) return;
    hit = (index + hits.length) % hits.length;
    document.getElementById("where").textContent = `${hit + 1} of ${hits.length}${hits.more ? "+" : ""}`;
    show(hits[hit]);
  }

  async function find(text) {
    word = text.toLowerCase();
    hits = [];
    hit = -1;
    const where = document.getElementById("where");
    document.getElementById("hits").hidden = !word;
    if (word) {
      where.textContent = "…";
      let answer;
      try {
        answer = await fetch(`${url}?find=${encodeURIComponent(text)}`).then((answer) => answer.json());
      } catch {
        where.textContent = "The log cannot be searched now.";
        return;
      }
      hits = answer.hits;
      hits.more = answer.more;
      where.textContent = hits.length ? "" : "no line";
    }
    const here = lineAt(box.scrollTop) - 1;
    const next = hits.findIndex((number) => number > here);
    if (hits.length) found(next < 0 ? 0 : next);
    else draw();
  }

  list.replaceChildren();
  box.classList.add("live");
  list.style.height = total * HEIGHT + "px";
  document.getElementById("pager").hidden = true;
  document.getElementById("found")?.remove();
  box.addEventListener("scroll", () => {
    if (Math.abs(box.scrollTop - placed) > 2) pinned = 0;
    requestAnimationFrame(draw);
  }, { passive: true });
  let wide = box.clientWidth;
  window.addEventListener("resize", () => {
    if (box.clientWidth !== wide && wrap.checked) relay();
    else draw();
    wide = box.clientWidth;
  });
  // Whoever reads logs without wrapping reads the next one so too.
  const KEPT = "regreen.log.wrap";
  try {
    if (localStorage.getItem(KEPT) === "no") wrap.checked = false;
  } catch {}
  wrap.addEventListener("change", () => {
    try {
      localStorage.setItem(KEPT, wrap.checked ? "yes" : "no");
    } catch {}
    relay();
  });
  window.addEventListener("hashchange", goto);
  const form = document.getElementById("find");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const line = Number(form.elements.from.value);
    const asked = event.submitter?.textContent === "Go" || document.activeElement === form.elements.from;
    if (asked && line) location.hash = "L" + line;
    else find(form.elements.q.value.trim());
  });
  document.getElementById("next").addEventListener("click", () => found(hit + 1));
  document.getElementById("previous").addEventListener("click", () => found(hit - 1));
  if (!goto()) show(cited.length ? cited[0][0] : Number(box.dataset.from));
  if (form.elements.q.value.trim()) find(form.elements.q.value.trim());
})();
