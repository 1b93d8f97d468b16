// The treasury page keeps itself up to date. It reads without any of it.
"use strict";

const EVERY_MS = 5000;
const page = document.getElementById("treasury");
const words = document.getElementById("treasury-words");
const pulse = document.getElementById("treasury-pulse");
const shown = new Map();
let failed = 0;
let timer = null;

const place = (part, html) => {
  if (shown.get(part) === html) {
    return;
  }
  shown.set(part, html);
  const box = page.querySelector(`[data-part="${part}"]`);
  const focused = box.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const open = box.querySelector("details")?.open;
  box.innerHTML = html;
  if (open !== undefined && box.querySelector("details")) {
    box.querySelector("details").open = open;
  }
  if (focused) {
    [...box.querySelectorAll("a[href]")].find((link) => link.getAttribute("href") === focused)?.focus();
  }
};

const tell = (text, late) => {
  pulse.hidden = false;
  pulse.textContent = text;
  pulse.classList.toggle("pulse-late", late);
};

const refresh = async () => {
  clearTimeout(timer);
  if (document.hidden) {
    return; // it goes on when somebody looks again
  }
  try {
    const answer = await fetch(page.dataset.live, {
      headers: { Accept: "application/json" },
      signal: AbortSignal.timeout(15000),
      redirect: "error", // signed out meanwhile
    });
    if (!answer.ok) {
      throw new Error(`status ${answer.status}`);
    }
    const said = await answer.json();
    for (const [part, html] of Object.entries(said.parts)) {
      place(part, html);
    }
    if (words.textContent !== said.summary) {
      words.textContent = said.summary;
    }
    failed = 0;
    tell(`Refreshed ${said.at.slice(11, 19)} UTC, every ${EVERY_MS / 1000} s.`, false);
  } catch {
    failed += 1;
    tell(`Not refreshed: the server did not answer ${failed} time${failed > 1 ? "s" : ""}. Reload, or sign in again.`, true);
  }
  timer = setTimeout(refresh, EVERY_MS);
};

document.addEventListener("visibilitychange", refresh);
timer = setTimeout(refresh, EVERY_MS);
