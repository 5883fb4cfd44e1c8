/* Names for what the theme and the widgets show as icons alone, to those who do not see them. */
(function () {
  "use strict";

  function name() {
    for (const toggle of document.querySelectorAll("nav summary")) {
      const link = toggle.closest("li").querySelector("a");
      toggle.setAttribute("aria-label", `Pages below ${link.textContent.trim()}`);
    }
    // what is called by a label has to be what it says
    for (const named of document.querySelectorAll(".search-button-field, details.hide > summary")) {
      named.removeAttribute("aria-label");
    }
    for (const icon of document.querySelectorAll(".theme-switch-button svg[role]")) {
      icon.querySelector("title")?.remove();
      icon.removeAttribute("aria-labelledby");
      icon.removeAttribute("role");
      icon.setAttribute("aria-hidden", "true");
    }
    for (const handle of document.querySelectorAll(".noUi-handle")) {
      const label = handle.closest(".widget-slider")?.querySelector(".widget-label");
      handle.setAttribute("aria-label", label?.textContent || "slider");
    }
    // a list's parts are items; the role of an entry is deprecated
    for (const entry of document.querySelectorAll('[role="doc-biblioentry"]')) {
      entry.setAttribute("role", "listitem");
    }
    for (const box of document.querySelectorAll(".widget-subarea .widget-box")) {
      box.setAttribute("tabindex", "0");
    }
  }

  // icons and widgets are drawn once the page is there
  window.addEventListener("load", () => {
    name();
    new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  });
})();
