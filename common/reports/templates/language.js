// Shows one language: the reader's own at first, the chosen one after that.
(function () {
  var root = document.documentElement, buttons = document.querySelectorAll("[data-set]");
  function show(language) {
    root.setAttribute("data-lang", language);
    root.lang = language;
    buttons.forEach(function (button) {
      button.setAttribute("aria-pressed", String(button.getAttribute("data-set") === language));
    });
  }
  buttons.forEach(function (button) {
    button.addEventListener("click", function () { show(button.getAttribute("data-set")); });
  });
  var asked = location.hash === "#zh" ? "zh" : location.hash === "#en" ? "en" : navigator.language || "en";
  show(asked.toLowerCase().indexOf("zh") === 0 ? "zh" : "en");
})();
