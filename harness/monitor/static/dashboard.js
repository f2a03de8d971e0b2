"use strict";
// Asks for the page again and swaps what changed, so that an open detail, the scroll
// position and the keyboard focus stay where they are.

const is_live = document.getElementById("live") !== null;
// Where the live part says that there is something new, there is little to ask.
const EVERY_MS = is_live ? 30000 : 2000;
const EVERY_MS_MAX = 30000;
const link = document.getElementById("link");
let wait_ms = EVERY_MS;

function swap(next) {
  const current = document.querySelector("main");
  const open = [...current.querySelectorAll("details[open]")].map((d) => d.id);
  const focused = document.activeElement?.closest("details")?.id;
  for (const details of next.querySelectorAll("details")) {
    details.open = open.includes(details.id);
  }
  if (current.innerHTML === next.innerHTML) return;
  current.replaceWith(document.adoptNode(next));
  if (focused) document.getElementById(focused)?.querySelector("summary").focus();
}

async function refresh() {
  try {
    const answer = await fetch(location.href, {
      cache: "no-store",
      signal: AbortSignal.timeout(10000),
    });
    if (answer.status === 404) {
      show("this report is no longer there");
      return;
    }
    if (!answer.ok) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    swap(page.querySelector("main"));
    document.title = page.title;
    show("live");
    wait_ms = EVERY_MS;
  } catch {
    show("server gone; this is what was last seen");
    wait_ms = Math.min(wait_ms * 2, EVERY_MS_MAX);
  }
}

function show(words) {
  if (is_live) return; // The live part knows sooner.
  if (link.textContent === words) return; // Or a screen reader would say it again.
  link.textContent = words;
  link.classList.toggle("lost", words !== "live");
}

async function keep_fresh() {
  if (!document.hidden) await refresh();
  setTimeout(keep_fresh, wait_ms);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
document.addEventListener("lakegauge:measured", () => {
  if (!document.hidden) refresh();
});
show("live");
setTimeout(keep_fresh, wait_ms);
