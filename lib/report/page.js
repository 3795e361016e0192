"use strict";
// What a reader can play with. The data are the study's result files; without this script the page has the still figures.
document.documentElement.classList.add("js");
const runs = JSON.parse(document.getElementById("runs").textContent);
const at = id => document.getElementById(id);
const make = (tag, text = "", attributes = {}) => {
  const element = Object.assign(document.createElement(tag), { textContent: text });
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};
const shade = percent => `hsl(205 60% ${95 - 0.65 * percent}%)`;
const percent = value => `${value.toFixed(1)} %`;

function answered(run, after, task) { // who answered the pictures of a task, in words
  const routes = run.routed && run.routed[after] && run.routed[after][task];
  if (!routes) return "";
  const all = routes.reduce((sum, count) => sum + count, 0);
  const named = routes.map((count, i) => [count / all, i < routes.length - 1 ? `the router of ${run.tasks[i]}` : "CLIP"]);
  const most = named.filter(each => each[0] >= 0.03).sort((a, b) => b[0] - a[0]).slice(0, 3);
  return " Answered by " + most.map(([share, who]) => `${who} (${Math.round(100 * share)} %)`).join(", ") + ".";
}

function told(run, rows, after, task) {
  const before = after ? ` Before: ${percent(rows[after - 1][task])}.` : "";
  const state = task <= after ? `learned as number ${task + 1}` : `to be learned as number ${task + 1}`;
  return `${run.tasks[task]} (${state}) after task ${after + 1}: ${percent(rows[after][task])}.${before}` + answered(run, after, task);
}

function drawMatrix() {
  const run = runs[at("run").value], rows = run.matrix[at("space").value] || run.matrix.own;
  const table = at("matrix"), head = make("tr");
  head.append(make("td"), ...run.tasks.map(task => make("th", task, { scope: "col" })));
  const body = rows.map((row, after) => {
    const line = make("tr");
    line.append(make("th", `after ${after + 1}`, { scope: "row" }));
    row.forEach((value, task) => {
      const cell = make("td", value.toFixed(0), { tabindex: after || task ? -1 : 0 });
      cell.style.background = shade(value);
      cell.style.color = value > 77 ? "#fff" : "#000"; // each at least 4.5 : 1
      if (after === task) cell.className = "own";
      const say = () => { at("cell").textContent = told(run, rows, after, task); };
      for (const event of ["mouseenter", "focus", "click"]) cell.addEventListener(event, say);
      line.append(cell);
    });
    return line;
  });
  const top = make("thead"), rest = make("tbody");
  top.append(head);
  rest.append(...body);
  table.replaceChildren(top, rest);
  at("cell").textContent = "Point at a cell, or move with the arrow keys.";
  drawMoment();
}

at("matrix").addEventListener("keydown", event => {
  const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  const cell = event.target.closest("td");
  if (!step || !cell) return;
  const line = cell.parentElement, lines = [...line.parentElement.children];
  const next = lines[lines.indexOf(line) + step[0]]?.cells[cell.cellIndex + step[1]];
  if (next?.matches("td")) { event.preventDefault(); next.focus(); }
});

function drawMoment() { // every task's accuracy at a moment, and the experts that the task learned last has chosen
  const run = runs[at("run").value], rows = run.matrix[at("space").value] || run.matrix.own;
  at("moment").max = rows.length - 1;
  const after = Math.min(at("moment").value, rows.length - 1);
  at("when").textContent = `after task ${after + 1}, ${run.tasks[after]}`;
  at("bars").replaceChildren(...rows[after].map((value, task) => {
    const line = make("div", "", { class: task <= after ? "bar" : "bar later" }), bar = make("i");
    bar.style.width = `${value}%`;
    line.append(make("span", run.tasks[task]), bar, make("span", percent(value)));
    return line;
  }));
  const blocks = Object.entries(run.experts);
  at("chosen").textContent = blocks.length ? `Which experts ${run.tasks[after]} chose, by block of the image tower (a column is an expert; darker: more often):` : "";
  at("experts").replaceChildren(...blocks.map(([block, counts]) => {
    const most = Math.max(...counts[after], 1);
    const line = make("div", "", { class: "experts", role: "img", "aria-label": `block ${block}: ${counts[after].join(", ")} times` });
    line.style.gridTemplateColumns = `repeat(${counts[after].length}, 1fr)`;
    line.append(...counts[after].map(count => { const cell = make("i"); cell.style.opacity = 0.08 + 0.92 * count / most; return cell; }));
    return line;
  }));
}

for (const name of Object.keys(runs)) at("run").append(make("option", name, { value: name }));
const mine = Object.keys(runs).find(name => name.includes("the method"));
if (mine) at("run").value = mine;
for (const id of ["run", "space"]) at(id).addEventListener("change", drawMatrix);
at("moment").addEventListener("input", drawMoment);
if (Object.keys(runs).length) drawMatrix(); else for (const part of document.querySelectorAll(".play")) part.remove();

if (at("pictures")) { // a picture at a time: every autoencoder's error, every router's answer
  const { tasks, thresholds, union, pictures } = JSON.parse(at("pictures").textContent);
  at("among").textContent = union ? "the classes of all tasks" : "its task's classes";
  tasks.forEach((task, number) => at("whose").append(make("option", task, { value: number })));
  const router = number => number < tasks.length ? `the router of ${tasks[number]}` : "CLIP";
  const wanted = {
    "": () => true, wrong: each => !each.right, right: each => each.right, route: each => each.route !== each.task,
  };
  let shown = [], number = 0;

  const draw = () => {
    const one = shown[number];
    at("walker").classList.toggle("none", !one);
    at("place").textContent = one ? `${number + 1} of ${shown.length}` : "no such picture";
    if (!one) return;
    Object.assign(at("seen"), { src: `data:image/png;base64,${one.png}`, alt: one.name });
    const said = each => `${router(each)} answers: ${one.answers[each]} (${one.answers[each] === one.name ? "right" : "wrong"})`;
    const instead = one.route === one.task ? "" : ` Its own, ${said(one.task)}.`;
    at("verdict").textContent = `${one.name}, of ${tasks[one.task]}. DDAS: ${said(one.route)}.${instead}`;
    const longest = Math.max(...one.errors, ...thresholds, one.reference || 0);
    at("routers").replaceChildren(...one.answers.map((answer, each) => {
      const line = make("tr", "", each === one.route ? { class: "mine" } : {}), cell = make("td");
      const error = each < tasks.length ? one.errors[each] : one.reference; // CLIP's: of a set of none of the tasks
      if (error != null) {
        const bar = make("div", "", { class: "error", role: "img", "aria-label": each < tasks.length ? `${error}, threshold ${thresholds[each]}` : `${error}` });
        bar.append(make("i", "", { class: each === one.route ? "claims" : "" }));
        bar.firstChild.style.width = `${100 * error / longest}%`;
        if (each < tasks.length) {
          bar.append(make("b"));
          bar.lastChild.style.left = `${100 * thresholds[each] / longest}%`;
        }
        cell.append(bar);
      }
      const marks = [each === one.route ? "answers" : "", each === one.task ? "its own" : ""].filter(Boolean).join(", ");
      const who = each < tasks.length ? tasks[each] : "CLIP";
      line.append(make("td", who + (marks ? ` (${marks})` : "")), cell, make("td", `${answer}${answer === one.name ? " ✓" : ""}`));
      return line;
    }));
  };
  const choose = () => {
    const whose = at("whose").value, kind = wanted[at("which").value];
    [shown, number] = [pictures.filter(each => (whose === "" || each.task === Number(whose)) && kind(each)), 0];
    draw();
  };
  const step = by => { if (shown.length) { number = (number + by + shown.length) % shown.length; draw(); } };
  for (const id of ["whose", "which"]) at(id).addEventListener("change", choose);
  at("back").addEventListener("click", () => step(-1));
  at("next").addEventListener("click", () => step(1));
  choose();
}

const dialog = document.querySelector("dialog"); // a figure at its own size
for (const image of document.querySelectorAll("figure img:not(#seen)")) {
  image.addEventListener("click", () => {
    dialog.replaceChildren(make("img", "", { src: image.src, alt: image.alt }));
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
