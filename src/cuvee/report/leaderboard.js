// Comfort only: sorting and copying. The page is complete without it.
"use strict";

function compare(a, b) {
  if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
  const numbers = !Number.isNaN(Number(a)) && !Number.isNaN(Number(b));
  return numbers ? Number(a) - Number(b) : a.localeCompare(b);
}

function sortBy(header) {
  const body = header.closest("table").tBodies[0];
  const column = header.cellIndex;
  const value = (row) => row.cells[column].dataset.value;
  const first = header.classList.contains("number") ? "descending" : "ascending";
  const second = first === "ascending" ? "descending" : "ascending";
  const order = header.getAttribute("aria-sort") === first ? second : first;
  const sign = order === "ascending" ? 1 : -1;
  const byValue = (a, b) => {
    const missing = value(a) === "" || value(b) === "";
    return (missing ? 1 : sign) * compare(value(a), value(b));
  };
  for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  body.append(...[...body.rows].sort(byValue));
}

for (const header of document.querySelectorAll("th[data-sort]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  button.addEventListener("click", () => sortBy(header));
  header.append(button);
}

for (const block of document.querySelectorAll("pre[data-copy]")) {
  const text = block.textContent;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async (event) => {
    event.stopPropagation();
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed here";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  block.prepend(button);
}
