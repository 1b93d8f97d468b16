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
  const second = document.getElementById("preview-second");
  const redo = document.getElementById("id_redo");
  const hint = document.getElementById("fault-hint");
  const codes = [...form.querySelectorAll("input[name=reason_codes]")];
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
    if (redo.checked) {
      query.set("redo", "on");
    }
    for (const code of codes.filter((box) => box.checked)) {
      query.append("reason_codes", code.value);
    }
    try {
      const answer = await fetch(`${form.dataset.preview}?${query}`, {
        signal: asked.signal,
        headers: { Accept: "application/json" },
      });
      const said = await answer.json();
      if (answer.ok) {
        show(said.entries.length ? said.entries : [{ name: "Nothing moves.", amount: "" }]);
        words.textContent = said.words;
        second.textContent = said.second ? `A second person will be needed. ${said.second}` : "";
        second.hidden = !said.second;
        say("");
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

  // The default fault table, as a suggestion: it never changes what somebody chose by hand.
  const chosen = new Set();
  const suggest = () => {
    const winner = { 0: "client", 10000: "seller" }[Number(share.value)];
    const loses = winner && form.dataset.openedBy !== winner;
    const table = [
      [bond, winner === "client" ? "client" : "seller"],
      [deposit, loses ? "other_side" : "back"],
    ];
    let changed = false;
    for (const [field, value] of table) {
      const offered = [...field.options].some((option) => option.value === value);
      if (offered && !chosen.has(field) && field.value !== value) {
        field.value = value;
        changed = true;
      }
    }
    if (changed) {
      hint.textContent = "Bond and deposit were set by the default fault table. Choose otherwise if the case says so.";
      hint.hidden = false;
    }
  };
  for (const field of [bond, deposit]) {
    field.addEventListener("change", () => {
      chosen.add(field);
      hint.hidden = true;
      soon();
    });
  }
  const wait = () => {
    // Nothing is divided by a redo: share and bond wait for the work.
    for (const field of [slider, bond]) {
      field.disabled = redo.checked;
    }
    share.readOnly = redo.checked;
  };
  slider.addEventListener("input", () => {
    share.value = slider.value;
    tell(slider.value);
    suggest();
    soon();
  });
  share.addEventListener("input", () => {
    slider.value = share.value;
    tell(share.value);
    suggest();
    soon();
  });
  redo.addEventListener("change", () => {
    wait();
    soon();
  });
  for (const code of codes) {
    code.addEventListener("change", soon);
  }
  form.addEventListener("submit", () => {
    bond.disabled = false; // what is disabled is not sent
  });
  wait();

  const count = () => {
    const written = reasons.value.trim().length;
    reasonsCount.textContent = `${written} of at least ${reasons.minLength} characters`;
  };
  reasons.addEventListener("input", count);
  count();
}
