// What pages do beyond links and forms: questions before deleting, lost connections. Shortcuts are in keys.js.
"use strict";
(() => {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target.matches?.("textarea[data-submit]")) {
      event.preventDefault();
      const send = event.target.form.querySelector("#send");
      if (!send.disabled) event.target.form.requestSubmit(send);
    }
  });

  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    const hint = event.target.closest?.("[data-fill]");
    if (hint) {
      const field = document.getElementById("message");
      field.value = hint.dataset.fill;
      field.focus();
    }
  });

  // A lost connection is said, and said no more once events come again.
  document.addEventListener("htmx:sse:error", (event) => event.target.classList.add("is-lost"));
  document.addEventListener("htmx:sse:before:connection", (event) => {
    if (event.detail.connection.attempt > 0) event.target.classList.add("is-lost");
  });
  document.addEventListener("htmx:sse:after:connection", (event) => event.target.classList.remove("is-lost"));

  // What grows at the end of a page is kept in sight, unless the reader scrolled away.
  let atEnd = true;
  window.addEventListener("scroll", () => {
    atEnd = window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 160;
  }, { passive: true });
  document.addEventListener("htmx:after:swap", () => {
    const ask = document.querySelector(".ask");
    if (ask && atEnd) window.scrollTo({ top: document.documentElement.scrollHeight });
  });
})();
