// Draws each chart of a page from the table beside it. The page reads without any of it.
"use strict";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const axis = () => ({ ticks: { color: colour("--body-quiet-color") }, grid: { color: colour("--hairline-color") } });

const legend = () => ({ position: "bottom", labels: { color: colour("--body-fg"), boxWidth: 22, boxHeight: 1 } });

// Money over time: rows with data-at, data-holdings and data-liabilities, the newest first.
const lines = (table) => {
  const rows = [...table.querySelectorAll("tbody tr")].reverse();
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
  const span = rows.length > 1 ? [rows[0], rows.at(-1)].map((row) => Date.parse(row.dataset.at)) : [];
  const when = (ms, long) => {
    const text = new Date(ms).toISOString();
    const days = span[1] - span[0] > 2 * 864e5;
    return long ? `${text.slice(0, 16).replace("T", " ")} UTC` : days ? text.slice(5, 10) : text.slice(11, 16);
  };
  const base = axis();
  return {
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
        x: { ...base, type: "linear", min: span[0], max: span[1], ticks: { ...base.ticks, maxTicksLimit: 6, maxRotation: 0, callback: (ms) => when(ms) } },
        y: { ...base, beginAtZero: true, ticks: { ...base.ticks, maxTicksLimit: 6 } },
      },
      plugins: { legend: legend(), tooltip: { callbacks: { title: (items) => when(items[0].parsed.x, true) } } },
    },
  };
};

// Counts: rows with a name, data-value, and, where the table tells them apart, data-late of them.
const bars = (table) => {
  const rows = [...table.querySelectorAll("tbody tr")];
  const parted = rows.some((row) => row.dataset.late !== undefined);
  const bar = (label, ink, count) => ({ label, data: rows.map(count), backgroundColor: colour(ink), maxBarThickness: 34 });
  const late = (row) => Number(row.dataset.late ?? 0);
  const base = axis();
  return {
    type: "bar",
    data: {
      labels: rows.map((row) => row.querySelector("th").innerText),
      datasets: [
        bar(table.dataset.label, "--chart-chain", (row) => Number(row.dataset.value) - late(row)),
        ...(parted ? [bar("Past their time", "--late", late)] : []),
      ],
    },
    options: {
      animation: false,
      maintainAspectRatio: false,
      indexAxis: "y",
      scales: {
        x: { ...base, stacked: true, beginAtZero: true, suggestedMax: 4, ticks: { ...base.ticks, precision: 0, maxTicksLimit: 6 } },
        y: { ...base, stacked: true, grid: { display: false } },
      },
      plugins: { legend: { ...legend(), display: parted, labels: { ...legend().labels, boxHeight: 8 } } },
    },
  };
};

const draw = () => {
  if (typeof Chart === "undefined") {
    return;
  }
  for (const canvas of document.querySelectorAll("canvas[data-table]")) {
    const table = document.getElementById(canvas.dataset.table);
    Chart.getChart(canvas)?.destroy();
    new Chart(canvas, canvas.dataset.kind === "lines" ? lines(table) : bars(table));
  }
};

new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
