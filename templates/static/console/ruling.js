// The slider, the live preview and the counter of the ruling form. The form works without any of it.
"use strict";

for (const form of document.querySelectorAll("#ruling-form, form.once")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) {
      event.preventDefault();
    }
    form.dataset.sent = "yes";
  });
}
window.addEventListener("pageshow", () => {
  // Coming back by the browser's history must not leave the form asleep.
  for (const form of document.querySelectorAll("#ruling-form, form.once")) {
    delete form.dataset.sent;
  }
});

const form = document.getElementById("ruling-form");
if (form) {
  const share = document.getElementById("id_seller_bps");
  const slider = document.getElementById("share-slider");
  const bar = document.getElementById("share-bar");
  const shareWords = document.getElementById("share-words");
  const bond = document.getElementById("id_bond");
  const deposit = document.getElementById("id_deposit");
  const entries = document.getElementById("entries");
  const words = document.getElementById("preview-words");
  const refusal = document.getElementById("preview-refusal");
  const reasons = document.getElementById("id_reasons");
  const reasonsCount = document.getElementById("reasons-count");
  let waiting = null;
  let asked = null;

  slider.hidden = false;
  bar.hidden = true;

  const say = (text) => {
    refusal.textContent = text || "";
    refusal.hidden = !text;
  };

  const show = (rows) => {
    entries.replaceChildren(
      ...rows.map((row) => {
        const line = document.createElement("tr");
        const name = document.createElement("th");
        const amount = document.createElement("td");
        name.scope = "row";
        name.textContent = row.name;
        amount.className = "number";
        amount.textContent = row.amount;
        line.append(name, amount);
        return line;
      }),
    );
  };

  const preview = async () => {
    if (asked) {
      asked.abort();
    }
    asked = new AbortController();
    const query = new URLSearchParams({ seller_bps: share.value, bond: bond.value, deposit: deposit.value });
    try {
      const answer = await fetch(`${form.dataset.preview}?${query}`, {
        signal: asked.signal,
        headers: { Accept: "application/json" },
      });
      const said = await answer.json();
      if (answer.ok) {
        show(said.entries);
        words.textContent = said.words;
        say(said.refusal);
      } else {
        say(said.error);
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        say("The preview could not be fetched; the next page shows it again.");
      }
    }
  };

  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(preview, 120);
  };

  const tell = (value) => {
    shareWords.textContent = `${Number(value) / 100} %`;
  };

  slider.addEventListener("input", () => {
    share.value = slider.value;
    tell(slider.value);
    soon();
  });
  share.addEventListener("input", () => {
    slider.value = share.value;
    tell(share.value);
    soon();
  });
  bond.addEventListener("change", soon);
  deposit.addEventListener("change", soon);

  const count = () => {
    const written = reasons.value.trim().length;
    reasonsCount.textContent = `${written} of at least ${reasons.minLength} characters`;
  };
  reasons.addEventListener("input", count);
  count();
}
