// The treasury page keeps itself up to date, and draws its chart from its own table. It reads without any of it.
"use strict";

const EVERY_MS = 5000;
const page = document.getElementById("treasury");
const words = document.getElementById("treasury-words");
const pulse = document.getElementById("treasury-pulse");
const shown = new Map();
let failed = 0;
let timer = null;
let chart = null;

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

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const draw = () => {
  const canvas = document.getElementById("history-chart");
  if (!canvas || typeof Chart === "undefined") {
    return;
  }
  const rows = [...document.querySelectorAll("#history-rows tbody tr")].reverse();
  const line = (label, name, ink, options) => ({
    label,
    data: rows.map((row) => ({ x: Date.parse(row.dataset.at), y: Number(row.dataset[name]) / 1e6 })),
    borderColor: colour(ink),
    backgroundColor: colour(ink),
    borderWidth: 2,
    pointRadius: rows.length < 3 ? 3 : 0,
    pointHitRadius: 8,
    ...options,
  });
  const when = (ms, long) => {
    const text = new Date(ms).toISOString();
    const days = span[1] - span[0] > 2 * 864e5;
    return long ? `${text.slice(0, 16).replace("T", " ")} UTC` : days ? text.slice(5, 10) : text.slice(11, 16);
  };
  const span = rows.length > 1 ? [rows[0], rows.at(-1)].map((row) => Date.parse(row.dataset.at)) : [];
  const axis = { ticks: { color: colour("--body-quiet-color") }, grid: { color: colour("--hairline-color") } };
  chart?.destroy();
  chart = new Chart(canvas, {
    type: "line",
    data: {
      datasets: [
        line("Liabilities", "liabilities", "--chart-owed", { borderDash: [6, 4] }), // over the other where they agree
        line("On the chain", "holdings", "--chart-chain", {}),
      ],
    },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { ...axis, type: "linear", min: span[0], max: span[1], ticks: { ...axis.ticks, maxTicksLimit: 6, maxRotation: 0, callback: (ms) => when(ms) } },
        y: { ...axis, beginAtZero: true, ticks: { ...axis.ticks, maxTicksLimit: 6 } },
      },
      plugins: {
        legend: { position: "bottom", labels: { color: colour("--body-fg"), boxWidth: 22, boxHeight: 1 } },
        tooltip: { callbacks: { title: (items) => when(items[0].parsed.x, true) } },
      },
    },
  });
};

document.addEventListener("visibilitychange", refresh);
new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
timer = setTimeout(refresh, EVERY_MS);
