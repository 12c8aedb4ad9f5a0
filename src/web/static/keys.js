// Keyboard shortcuts, and the window that lists them. A reader may turn them off: speech input types letters too (WCAG 2.1.4).
"use strict";
(() => {
  const OFF = "regreen-keys-off";
  // How long the second key of two may take.
  const PAUSE_MS = 1500;
  const dialog = document.getElementById("keys");
  if (!dialog) return;
  const box = document.getElementById("keys-on");
  // A browser that stores nothing has them on.
  const stored = (work, otherwise) => {
    try { return work(); } catch { return otherwise; }
  };
  const isOff = () => stored(() => localStorage.getItem(OFF) === "yes", !box.checked);
  const typing = (element) => element?.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");
  const open = () => {
    document.getElementById("menu")?.hidePopover?.();
    if (!dialog.open) dialog.showModal();
  };
  const step = (by) => {
    const all = [...document.querySelectorAll("a.title")].filter((link) => link.checkVisibility());
    const next = all.indexOf(document.activeElement) + by;
    all[Math.max(0, Math.min(next, all.length - 1))]?.focus();
  };
  const search = () => {
    const field = document.querySelector("[data-search]");
    field?.focus();
    field?.select();
    return field;
  };
  let goBy = 0;
  const press = (event) => {
    if (event.timeStamp < goBy) {
      goBy = 0;
      const link = document.querySelector(`#menu a[data-key="${CSS.escape(event.key)}"]`);
      if (link) {
        event.preventDefault();
        location.assign(link.href);
        return;
      }
    }
    if (event.key === "?") open();
    else if (event.key === "g") goBy = event.timeStamp + PAUSE_MS;
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "/" && search()) event.preventDefault();
  };

  box.checked = !isOff();
  box.addEventListener("change", () => {
    stored(() => (box.checked ? localStorage.removeItem(OFF) : localStorage.setItem(OFF, "yes")));
  });
  for (const button of document.querySelectorAll("[data-open-keys]")) {
    button.hidden = false;
    button.addEventListener("click", open);
  }
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing(event.target) || dialog.open || isOff()) return;
    press(event);
  });
})();
