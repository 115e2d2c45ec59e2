// Comfort only: every page works without it. What htmx fetched and the server refused is shown as a whole page.
"use strict";

document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401 || event.detail.xhr.status === 404) window.location.reload();
});
