// Comfort only: every page works without it. What htmx fetched and the server refused is shown as a whole page.
"use strict";

document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401 || event.detail.xhr.status === 404) window.location.reload();
});

// A button that copies what a reader will want to paste. Clipboards are there for secure pages only.
document.addEventListener("DOMContentLoaded", () => {
  if (!navigator.clipboard) return;
  for (const text of document.querySelectorAll("pre[data-copy]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    const content = text.textContent;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(content.trim());
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    text.prepend(button);
  }
});
