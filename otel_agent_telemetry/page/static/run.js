// The page of a run while it is open: what is new is added, and nothing that is read moves.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", () => navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent));
}

const live = document.querySelector("[data-live]");
const mostEvents = 1000, mostRows = 500;
let place = live?.dataset.after, source, waiting = new Map(), more = 0, isFollowed = false;

const say = (text) => {
  const words = document.getElementById("live-words");
  if (words && words.textContent !== text) words.textContent = text;
};

// Whether the reader has a part in hand: selected text or the focus in it.
const inHand = (element) => {
  const chosen = getSelection();
  return element.contains(document.activeElement) || (!chosen.isCollapsed && chosen.containsNode(element, true));
};

// Replaces a part that is not in hand; one that is waits for the next message.
const refresh = (id, fresh) => {
  const old = document.getElementById(id);
  if (!old) return;
  if (old.innerHTML === fresh.innerHTML) return;
  if (inHand(old)) waiting.set(id, fresh);
  else old.replaceChildren(...fresh.childNodes);
};

const levelOf = (row) => Number(row.ariaLevel || row.getAttribute("aria-level"));

const addStep = (row, section) => {
  const old = document.getElementById(row.id);
  if (old) {
    // The first cell has links to what is inside the step, which a new state of it does not know.
    [...row.cells].forEach((cell, at) => at && old.cells[at].replaceChildren(...cell.childNodes));
    const said = row.querySelector(".word");
    if (said && !old.querySelector(".word")) old.cells[0].append(" ", said, " ", row.querySelector(".message"));
    return;
  }
  const body = section?.querySelector("tbody");
  const parent = row.dataset.parent === "0" ? null : document.getElementById(`s${row.dataset.parent}`);
  const hidden = row.dataset.parent !== "0" && (!parent || parent.ariaExpanded === "false");
  if (!body || !("grows" in section.dataset) || hidden || body.rows.length >= mostRows) {
    more += 1;
    return;
  }
  const level = parent ? levelOf(parent) + 1 : 1;
  row.setAttribute("aria-level", level);
  row.className = row.className.replace(/^d\d+/, `d${Math.min(level, 13)}`);
  let before = parent ? parent.nextElementSibling : null;
  while (parent && before && levelOf(before) >= level) before = before.nextElementSibling;
  body.insertBefore(row, before);
  window.htmx?.process(row);
};

// Draws all bars and marks anew on an axis that reaches to `until`, in milliseconds since the run began.
const stretch = (latest, section) => {
  if (!section || !("grows" in section.dataset)) return;
  const until = Math.max(latest, Number(section.dataset.end));
  section.dataset.end = until;
  const begin = Number(section.dataset.begin), unit = Math.max(until - begin, 0.001) / 1000;
  for (const drawn of section.querySelectorAll("svg [data-begin]")) {
    const from = Number(drawn.dataset.begin), x = (from - begin) / unit;
    if (drawn.tagName === "line") {
      drawn.setAttribute("x1", x);
      drawn.setAttribute("x2", x);
      continue;
    }
    drawn.setAttribute("x", x);
    drawn.setAttribute("width", Math.max(Number(drawn.dataset.lasts ?? until - from) / unit, 2));
  }
};

const addEvent = (item, list, section) => {
  const wanted = section.dataset.type;
  if (document.getElementById(item.id) || (wanted && wanted !== item.dataset.type)) return;
  if (!("tail" in section.dataset) || list.children.length >= mostEvents) more += 1;
  else list.append(item);
};

const change = (message) => {
  place = message.lastEventId;
  const fresh = new DOMParser().parseFromString(message.data, "text/html");
  const anchor = document.elementFromPoint(innerWidth / 2, 1);
  const before = anchor?.getBoundingClientRect().top;
  const earlier = waiting;
  waiting = new Map();
  for (const [id, part] of earlier) if (!fresh.getElementById(id)) refresh(id, part);
  for (const part of fresh.querySelectorAll("[data-part]")) refresh(part.id, part);
  const timeline = document.getElementById("timeline");
  for (const row of [...fresh.querySelectorAll("[data-steps] > tr")]) addStep(row, timeline);
  stretch(Number(fresh.querySelector("[data-until]").dataset.until), timeline);
  const list = document.getElementById("event-list");
  for (const item of [...fresh.querySelectorAll("[data-events] > li")]) addEvent(item, list, list.closest("section"));
  if (list.children.length) document.getElementById("no-events")?.remove();
  document.dispatchEvent(new CustomEvent("htmx:after:swap"));
  if (scrollY > 0 && anchor?.isConnected) scrollBy(0, anchor.getBoundingClientRect().top - before);
  say(more ? `live; ${more} more than this page shows: load it again to see them` : "live");
};

const end = () => {
  source.close();
  isFollowed = false;
  document.getElementById("live-pause").hidden = true;
  say(document.querySelector("#run-state .status.running") ? "not live any more: load the page again" : "the run has ended");
};

const connect = () => {
  source = new EventSource(`${live.dataset.live}?after=${encodeURIComponent(place)}`);
  source.addEventListener("open", () => say("live"));
  source.addEventListener("change", change);
  source.addEventListener("end", end);
  source.addEventListener("error", () => {
    say(source.readyState === EventSource.CLOSED ? "not live: load the page again to see what is new" : "connection lost; trying again");
  });
};

if (live && window.EventSource) {
  const pause = document.getElementById("live-pause");
  pause.hidden = false;
  pause.addEventListener("click", () => {
    isFollowed = pause.getAttribute("aria-pressed") === "true";
    pause.setAttribute("aria-pressed", String(!isFollowed));
    pause.textContent = isFollowed ? "Pause" : "Go on";
    if (isFollowed) connect();
    else {
      source.close();
      say("paused");
    }
  });
  // A browser has six connections to a host: pages that nobody sees must not hold them.
  document.addEventListener("visibilitychange", () => {
    if (!isFollowed) return;
    if (document.hidden) source.close();
    else connect();
  });
  isFollowed = true;
  if (!document.hidden) connect();
}
