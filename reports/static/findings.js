// Filters all findings of the pack in the browser: fifty rows at a time, built as text, never as markup.
(function () {
  "use strict";

  var ROWS = 50;

  function element(tag, text, className) {
    var made = document.createElement(tag);
    if (text) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function shortened(text, length) {
    return text.length <= length ? text : text.slice(0, length - 1) + "\u2026";
  }

  function start(form, data) {
    var body = document.querySelector("table.findings tbody");
    var caption = document.querySelector("table.findings caption");
    var steps = document.getElementById("steps");
    var found = document.getElementById("found");
    var root = form.dataset.root;
    var at = {};
    data.columns.forEach(function (name, index) { at[name] = index; });
    var texts = data.texts;
    var lowered = texts.map(function (text) { return text.toLowerCase(); });
    var shown = data.rows;
    var page = 0;

    function of(row, name) { return texts[row[at[name]]]; }

    function line(row) {
      var made = document.createElement("tr");
      var severity = element("td");
      severity.appendChild(element("span", of(row, "severity"), "severity " + of(row, "severity")));
      made.appendChild(severity);

      var finding = element("td", "", "text");
      var rule = element("strong");
      rule.appendChild(element("bdi", of(row, "rule")));
      finding.appendChild(rule);
      if (of(row, "verdict")) { finding.append(" "); finding.appendChild(element("small", of(row, "verdict"))); }
      finding.appendChild(element("div", shortened(of(row, "reason"), 400)));
      finding.appendChild(element("div", shortened(of(row, "remediation"), 400), "remedy"));
      var details = element("details");
      details.appendChild(element("summary", "Evidence"));
      var evidence = element("p", "", "evidence");
      evidence.appendChild(element("code", of(row, "id")));
      evidence.append(" " + of(row, "evidence") + (of(row, "waiver") ? "; waiver: " + of(row, "waiver") : ""));
      details.appendChild(evidence);
      finding.appendChild(details);
      made.appendChild(finding);

      var where = element("td");
      var service = of(row, "service");
      var target = Object.prototype.hasOwnProperty.call(data.pages, service) ? data.pages[service] : null;
      var name = element(target ? "a" : "span");
      if (target) name.setAttribute("href", root + target);
      name.appendChild(element("bdi", service || "no service"));
      where.appendChild(name);
      if (of(row, "deployment")) {
        var deployment = element("div");
        deployment.appendChild(element("small", shortened(of(row, "deployment"), 60)));
        where.appendChild(deployment);
      }
      if (of(row, "digest")) {
        var digest = element("div");
        digest.appendChild(element("code", shortened(of(row, "digest"), 19)));
        where.appendChild(digest);
      }
      made.appendChild(where);

      made.appendChild(element("td", of(row, "first"), "date"));
      made.appendChild(element("td", of(row, "age") || "not known", "number"));
      made.appendChild(element("td", shortened(of(row, "owner") || "nobody yet", 60)));
      var state = element("td");
      state.appendChild(element("span", of(row, "state"), "tag"));
      made.appendChild(state);
      return made;
    }

    function step(words, to) {
      var item = element("li");
      var button = element("button", words);
      button.type = "button";
      button.addEventListener("click", function () {
        page = to;
        draw();
        caption.scrollIntoView({ block: "nearest" });
      });
      item.appendChild(button);
      return item;
    }

    function draw() {
      var rows = shown.slice(page * ROWS, (page + 1) * ROWS);
      var last = Math.max(0, Math.ceil(shown.length / ROWS) - 1);
      body.replaceChildren.apply(body, rows.map(line));
      caption.textContent = rows.length
        ? "Findings " + (page * ROWS + 1) + " to " + (page * ROWS + rows.length) + " of " + shown.length
        : "No finding matches";
      found.textContent = shown.length + " of " + data.rows.length + " findings";
      var list = element("ul");
      if (page > 0) { list.appendChild(step("first", 0)); list.appendChild(step("previous", page - 1)); }
      if (page < last) { list.appendChild(step("next", page + 1)); list.appendChild(step("last", last)); }
      steps.replaceChildren(list);
    }

    function filter() {
      var words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
      // A text that many rows share is searched once.
      var hits = words.map(function (word) {
        return lowered.map(function (text) { return text.indexOf(word) >= 0; });
      });
      var severity = form.elements.severity.value;
      var state = form.elements.state.value;
      shown = data.rows.filter(function (row) {
        return (!severity || of(row, "severity") === severity) && (!state || of(row, "state") === state) &&
          hits.every(function (hit) { return row.some(function (cell) { return hit[cell]; }); });
      });
      page = 0;
      draw();
    }

    form.hidden = false;
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    form.addEventListener("input", filter);
    found.textContent = data.rows.length + " findings";
  }

  document.addEventListener("DOMContentLoaded", function () {
    var form = document.getElementById("filter");
    if (form && window.quarterdeckFindings) start(form, window.quarterdeckFindings);
  });
})();
