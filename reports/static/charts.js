// Draws every figure of a page from its JSON block. No inline script, so that `script-src 'self'` holds.
(function () {
  "use strict";

  var CONFIG = {
    displayModeBar: false,
    displaylogo: false,
    showSendToCloud: false,
    responsive: true,
    scrollZoom: false,
    doubleClick: false,
  };
  var PRINT_WIDTH = 680;

  function plots() {
    return Array.prototype.slice.call(document.querySelectorAll(".plot[data-figure]"));
  }

  function draw(plot) {
    var source = document.getElementById(plot.dataset.figure);
    if (!source) return;
    var figure = JSON.parse(source.textContent);
    figure.layout.height = parseInt(plot.style.minHeight, 10);
    if (window.matchMedia("(prefers-reduced-motion: no-preference)").matches === false) {
      figure.layout.transition = { duration: 0 };
    }
    plot.textContent = "";
    window.Plotly.newPlot(plot, figure.data, figure.layout, CONFIG);
  }

  function resizeAll(width) {
    plots().forEach(function (plot) {
      if (plot.data) window.Plotly.relayout(plot, width ? { width: width, autosize: false } : { width: null, autosize: true });
    });
  }

  document.addEventListener("DOMContentLoaded", function () {
    if (!window.Plotly) return;
    plots().forEach(draw);
    window.addEventListener("beforeprint", function () {
      resizeAll(PRINT_WIDTH);
    });
    window.addEventListener("afterprint", function () {
      resizeAll(null);
    });
  });
})();
