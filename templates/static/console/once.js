// A form that asks once more is sent once, however often it is clicked. The server sees to it anyway.
"use strict";

for (const form of document.querySelectorAll("form.once-form")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) {
      event.preventDefault();
    }
    form.dataset.sent = "yes";
  });
}
window.addEventListener("pageshow", () => {
  // Coming back by the browser's history must not leave the form asleep.
  for (const form of document.querySelectorAll("form.once-form")) {
    delete form.dataset.sent;
  }
});
