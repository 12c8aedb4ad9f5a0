// What makes pages easier to read and to take along: times in the reader's zone, buttons that copy, boxes that tick others.
"use strict";
(() => {
  document.documentElement.classList.add("scripts");

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const two = (number) => String(number).padStart(2, "0");
  const local = (time) =>
    `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;

  // A time is told as the server wrote it too: what was shown is found in logs by it.
  function localise(root) {
    if (zone === "UTC") return;
    for (const element of root.querySelectorAll("time[datetime]")) {
      const time = new Date(element.dateTime);
      if (Number.isNaN(time.getTime())) continue;
      const shown = local(time);
      element.title = `${shown} ${zone} (${time.toISOString().replace("T", " ").replace(/\.\d+Z$/, "")} UTC)`;
      if (element.classList.contains("exact") && element.textContent !== shown) element.textContent = shown;
    }
  }
  localise(document);
  for (const event of ["htmx:after:swap", "htmx:after:settle"]) {
    document.addEventListener(event, () => localise(document));
  }

  // Where the page is not served over TLS there is no clipboard but the old one.
  async function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "unseen";
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    if (!copied) throw new Error("not copied");
  }

  const said = document.createElement("output");
  said.className = "unseen";
  document.body.append(said);

  async function textOf(button) {
    const { copy: text, curl, copyFrom } = button.dataset;
    if (curl) return `curl -sS -H "Authorization: Bearer $REGREEN_TOKEN" '${location.origin}${curl}'`;
    if (!copyFrom) return text;
    const answer = await fetch(copyFrom);
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.text();
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("button.copy");
    if (!button) return;
    button.dataset.name ??= button.textContent;
    let done = "Copied";
    try {
      await copy(await textOf(button));
      button.classList.add("copied");
    } catch {
      done = "Not copied";
      button.classList.add("refused");
    }
    button.textContent = done;
    // Whoever cannot see the button hears it.
    said.textContent = done;
    clearTimeout(button.timer);
    button.timer = setTimeout(() => {
      button.textContent = button.dataset.name;
      button.classList.remove("copied", "refused");
    }, 2000);
  });

  document.addEventListener("change", (event) => {
    if (!event.target.matches?.("[data-tick-all]")) return;
    for (const box of event.target.closest("table").querySelectorAll("td.tick input")) box.checked = event.target.checked;
  });

  // A list in which something is selected stays as it is until it is sent.
  document.addEventListener("htmx:before:request", (event) => {
    const hold = event.target.dataset?.hold;
    if (hold && event.target.querySelector(hold)) event.preventDefault();
  });
})();
