// Behaviour that HTML does not have. Every page works without it.
"use strict";

// Keys: j and k go to the next and the previous row or run; "/" goes to the search field.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, [contenteditable]")) return;
  const selector = { j: "[data-key=next]", k: "[data-key=previous]", "/": "[data-key=search]" }[event.key];
  const element = selector && document.querySelector(selector);
  if (!element) return;
  event.preventDefault();
  if (element.matches("a")) element.click();
  else element.focus();
});

// Times are UTC in the page; a reader with a script sees the local time.
const localTimes = (root) => {
  for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    element.dataset.local = "";
    element.title = `${moment.toLocaleString()} (${element.title || element.dateTime})`;
    if (element.classList.contains("exact")) element.textContent = moment.toLocaleString();
  }
};
document.addEventListener("DOMContentLoaded", () => localTimes(document));
for (const name of ["htmx:after:swap", "rows:change"]) document.addEventListener(name, () => localTimes(document));
