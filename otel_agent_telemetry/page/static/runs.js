// The list of runs: keys, the choice of two runs, new runs as they come.
"use strict";

const runLinks = () => [...document.querySelectorAll("#rows a.run")];

// j and k move to the next and the previous row; Enter opens it, x chooses it.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=checkbox]), select, textarea")) return;
  const links = runLinks();
  const row = document.activeElement.closest("#rows tr");
  const at = row ? links.indexOf(row.querySelector("a.run")) : -1;
  if (event.key === "j" || event.key === "k") {
    const next = links[event.key === "j" ? at + 1 : at - 1];
    if (!next) return;
    event.preventDefault();
    next.focus();
  } else if (event.key === "x" && row) row.querySelector("[name=run]").click();
});

// Two runs are compared: the others cannot be chosen then, and the button says how many are.
const showChoice = () => {
  const boxes = [...document.querySelectorAll("#rows [name=run]")];
  const chosen = boxes.filter((box) => box.checked).length;
  for (const box of boxes) box.disabled = chosen >= 2 && !box.checked;
  const button = document.querySelector("[data-compare]");
  if (!button) return;
  button.disabled = chosen !== 2;
  button.textContent = chosen === 2 ? "Compare the two" : `Compare two (${chosen} selected)`;
};
document.addEventListener("change", (event) => event.target.matches("#rows [name=run]") && showChoice());
document.addEventListener("htmx:after:swap", showChoice);
document.addEventListener("DOMContentLoaded", showChoice);

// New runs come at the top of the first page, and rows change when their run ends. What is read stays where it is:
// a row that is in hand (focus, selected text) changes later, and the page scrolls by what came above it.
let source, late = new Map(), came = 0, paused = false;

const liveWords = (text) => {
  const words = document.getElementById("live-words");
  if (words) words.textContent = text;
};

const rowsIn = (html) => {
  const table = document.createElement("template");
  table.innerHTML = `<table><tbody>${html}</tbody></table>`;
  return [...table.content.querySelectorAll("tr")];
};

const isInHand = (row) => {
  const chosen = getSelection();
  return row.contains(document.activeElement) || (!chosen.isCollapsed && chosen.containsNode(row, true));
};

// Replaces the cells of a row but the first, which has the reader's own mark.
const change = (fresh) => {
  const old = document.querySelector(`#rows tr[data-run="${CSS.escape(fresh.dataset.run)}"]`);
  if (!old) return;
  if (isInHand(old)) late.set(fresh.dataset.run, fresh);
  else {
    late.delete(fresh.dataset.run);
    [...fresh.cells].forEach((cell, at) => at && old.cells[at]?.replaceWith(cell));
    old.dataset.status = fresh.dataset.status;
  }
};

// Puts rows where they belong by their time; one that is older than the page has no place on it.
const add = (fresh) => {
  const body = document.getElementById("rows");
  if (!body) return location.reload();
  const rows = [...body.rows];
  const known = new Set(rows.map((row) => row.dataset.run));
  const seen = rows.find((row) => row.getBoundingClientRect().bottom > 0);
  const top = seen?.getBoundingClientRect().top;
  for (const row of fresh) {
    if (known.has(row.dataset.run)) continue;
    const after = [...body.rows].find((one) => one.dataset.at <= row.dataset.at);
    if (!after && "more" in body.closest("table").dataset) continue;
    body.insertBefore(row, after ?? null);
    row.classList.add("new");
    came += 1;
  }
  if (rows[0]?.getBoundingClientRect().top < 0 || scrollY > 0) scrollBy(0, seen ? seen.getBoundingClientRect().top - top : 0);
  showChoice();
};

const received = (event, handle) => {
  const table = document.querySelector("[data-live]");
  if (!table) return;
  if (event.lastEventId) table.dataset.newest = event.lastEventId;
  handle(rowsIn(event.data));
  for (const row of [...late.values()]) change(row);
  document.dispatchEvent(new Event("rows:change"));
  liveWords(came ? `live, ${came} new` : "live");
};

const follow = () => {
  source?.close();
  const table = document.querySelector("[data-live]"), button = document.getElementById("live-pause");
  if (button) {
    button.hidden = false;
    button.textContent = paused ? "Resume" : "Pause";
    button.setAttribute("aria-pressed", paused);
  }
  if (!table || paused) return liveWords(paused ? "paused" : "");
  const open = [...document.querySelectorAll("#rows tr[data-status=running]")].map((row) => row.dataset.run);
  const more = new URLSearchParams({ newest: table.dataset.newest, columns: table.dataset.columns, open: open.join(",") });
  source = new EventSource(`${table.dataset.live}&${more}`);
  source.addEventListener("open", () => liveWords(came ? `live, ${came} new` : "live"));
  source.addEventListener("new", (event) => received(event, add));
  source.addEventListener("changed", (event) => received(event, (rows) => rows.forEach(change)));
  source.addEventListener("error", () => {
    liveWords("not live now");
    source.close();
    setTimeout(follow, 5000);
  });
};

document.addEventListener("click", (event) => {
  if (event.target.id !== "live-pause") return;
  paused = !paused;
  follow();
});
document.addEventListener("htmx:after:swap", () => { came = 0; late.clear(); follow(); });
document.addEventListener("DOMContentLoaded", follow);
addEventListener("pagehide", () => source?.close());
