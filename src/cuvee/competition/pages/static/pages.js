// Comfort only: every page works without it. What htmx fetched and the server refused is shown as a whole page.
"use strict";

// htmx reads every element when it begins, as long as a large page takes to be drawn: it comes after the first paint.
window.addEventListener("load", () => {
  if (!document.querySelector("[hx-get], [hx-post]")) return;
  const script = document.createElement("script");
  script.src = "/static/htmx.min.js";
  requestAnimationFrame(() => setTimeout(() => document.head.append(script)));
});

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

// A recipe's file that is dropped on the text becomes the text; anything else becomes the chosen file of the form.
document.addEventListener("dragover", (event) => {
  if (!event.target.matches?.("[data-drop]")) return;
  event.preventDefault();
  event.target.classList.add("over");
});
document.addEventListener("dragleave", (event) => event.target.classList?.remove("over"));
document.addEventListener("drop", async (event) => {
  const field = event.target;
  const file = event.dataTransfer?.files[0];
  if (!field.matches?.("[data-drop]") || !file) return;
  event.preventDefault();
  field.classList.remove("over");
  if (/\.ya?ml$/i.test(file.name) && file.size < 100000) {
    field.value = await file.text();
    field.dispatchEvent(new Event("input", { bubbles: true }));
    return;
  }
  field.form.elements.archive.files = event.dataTransfer.files;
});

// A problem's line, chosen in the text.
document.addEventListener("click", (event) => {
  const number = Number(event.target.dataset?.line);
  const field = document.getElementById("recipe");
  if (!number || !field) return;
  const lines = field.value.split("\n");
  const start = lines.slice(0, number - 1).join("\n").length + (number > 1 ? 1 : 0);
  field.focus();
  field.setSelectionRange(start, start + (lines[number - 1] ?? "").length);
});

// Times where the reader is, written as days are; the page itself says them in UTC.
const two = (number) => String(number).padStart(2, "0");
const written = (at) =>
  `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
const showLocally = () => {
  for (const time of document.querySelectorAll("time[datetime$=Z]:not([title])")) {
    time.title = time.textContent;
    time.textContent = written(new Date(time.dateTime));
  }
  const said = document.getElementById("zone");
  if (said) said.textContent = `Times are in your zone, ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`;
};
document.addEventListener("DOMContentLoaded", showLocally);
document.addEventListener("htmx:afterSettle", showLocally);

// The number beside a slider.
document.addEventListener("input", (event) => {
  if (event.target.type !== "range") return;
  const output = event.target.closest("label")?.querySelector("output");
  if (output) output.textContent = String(Math.round(100 * event.target.value) / 100);
});
