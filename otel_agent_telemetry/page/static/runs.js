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
