// The browser of items: draws from the data in the page, as text only.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const PAGE = 100;
const TWO = [
  ["all", "all items", () => true],
  ["differ", "scores that differ", (a, b) => a !== b],
  ["first", "first better", (a, b) => a > b],
  ["second", "second better", (a, b) => a < b],
  ["both", "both right", (a, b) => a === 1 && b === 1],
  ["neither", "neither right", (a, b) => a !== null && a < 1 && b < 1],
];
const ONE = [
  ["all", "all items", () => true],
  ["right", "right", (a) => a === 1],
  ["wrong", "not right", (a) => a !== null && a < 1],
  ["unscored", "without a score", (a) => a === null],
];
let found = [];
let shown = 0;
let current = -1;

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

const task = () => data.tasks[at("task").value];
const second = () => (at("second").value === "" ? null : Number(at("second").value));
const sides = () => [Number(at("first").value), second()].filter((side) => side !== null);
const answer = (side, place) => task().answers[side][place];

function score(side, place) {
  const given = answer(side, place);
  const value = given === null || task().metric === null ? undefined : given.metrics[task().metric];
  return value === undefined ? null : value;
}

function mark(value) {
  if (value === null) return element("span", { class: "quiet" }, "–");
  const words = value === 1 ? ["good", "✓", "right"] : value === 0 ? ["bad", "✗", "wrong"] : ["", value.toFixed(2), "in part right"];
  return element("span", { class: words[0], title: words[2] }, words[1]);
}

function options(select, pairs) {
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  if (pairs.some(([value]) => String(value) === before)) select.value = before;
}

function answerText(item, given) {
  if (given === null) return "";
  if (given.text !== undefined) return given.text;
  return Number.isInteger(given.prediction) ? item.choices[given.prediction] : String(given.prediction);
}

function targetText(item) {
  if (item.target === null) return null;
  return Number.isInteger(item.target) && item.choices.length ? item.choices[item.target] : String(item.target);
}

function matches(place, words) {
  const item = task().items[place];
  const answers = sides().map((side) => answerText(item, answer(side, place)));
  const text = [item.id, item.prompt, ...item.choices, targetText(item) || "", ...answers].join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

function update() {
  const chosen = sides();
  const filters = chosen.length > 1 ? TWO : ONE;
  options(at("show"), filters);
  const keep = filters.find(([name]) => name === at("show").value)[2];
  const words = at("search").value.toLowerCase().split(/\s+/).filter((word) => word);
  found = task().items.map((_, place) => place)
    .filter((place) => keep(...chosen.map((side) => score(side, place))) && matches(place, words));
  at("count").textContent = `${found.length} of ${task().items.length} items`;
  at("list").replaceChildren();
  shown = 0;
  more();
  if (!found.includes(current)) current = found.length ? found[0] : -1;
  choose(current);
}

function more() {
  const places = found.slice(shown, shown + PAGE);
  at("list").append(...places.map(listed));
  shown += places.length;
  at("more").hidden = shown >= found.length;
}

function listed(place) {
  const item = task().items[place];
  const marks = element("span", { class: "marks" });
  sides().forEach((side, i) => marks.append(i ? " " : "", mark(score(side, place))));
  const button = element("button", { type: "button", "data-place": place }, marks,
    element("span", {}, item.id), element("span", { class: "about" }, item.about));
  button.addEventListener("click", () => choose(place));
  return element("li", {}, button);
}

function choose(place) {
  current = place;
  for (const button of at("list").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(Number(button.dataset.place) === place));
  }
  at("item").replaceChildren(...(place < 0 ? [element("p", { class: "quiet" }, "No item fits.")] : drawn(place)));
}

function drawn(place) {
  const item = task().items[place];
  const scored = sides().some((side) => answer(side, place) && answer(side, place).scores);
  const parts = [element("h3", {}, `${task().name} · ${item.id}`), verdicts(place), ...prompts(place)];
  if (scored) parts.push(element("h4", {}, "Choices"), choices(place));
  else parts.push(...texts(place));
  return parts;
}

function verdicts(place) {
  const line = element("p", { class: "verdicts" });
  for (const side of sides()) {
    const given = answer(side, place);
    const metrics = given ? Object.entries(given.metrics).map(([name, value]) => `${name} ${Number(value.toFixed(3))}`) : [];
    const cut = given && given.cut ? `, ${given.cut} tokens cut` : "";
    line.append(element("span", {}, mark(score(side, place)), ` ${data.models[side]} `,
      element("span", { class: "quiet" }, given ? metrics.join(", ") + cut : "did not answer")));
  }
  return line;
}

function prompts(place) {
  const item = task().items[place];
  const own = sides().map((side) => [side, (answer(side, place) || {}).prompt]).filter(([, text]) => text !== undefined);
  if (!own.length) return [element("h4", {}, "Prompt"), highlighted(item.prompt)];
  return sides().flatMap((side) => [element("h4", {}, `Prompt of ${data.models[side]}`),
    highlighted((answer(side, place) || {}).prompt || item.prompt)]);
}

function highlighted(text) {
  const block = element("pre", {});
  const word = at("search").value.toLowerCase().split(/\s+/).filter((each) => each)[0];
  let rest = text;
  for (let place = word ? rest.toLowerCase().indexOf(word) : -1; place >= 0; place = rest.toLowerCase().indexOf(word)) {
    block.append(rest.slice(0, place), element("mark", {}, rest.slice(place, place + word.length)));
    rest = rest.slice(place + word.length);
  }
  block.append(rest);
  return block;
}

function choices(place) {
  const item = task().items[place];
  const head = element("tr", {}, element("th", { scope: "col" }, "Choice"),
    ...sides().map((side) => element("th", { scope: "col" }, data.models[side])));
  const rows = item.choices.map((text, index) => element("tr", {},
    element("td", {}, text, item.target === index ? element("span", { class: "target" }, "target") : null),
    ...sides().map((side) => scoreCell(answer(side, place), index))));
  return element("div", { class: "scroll" },
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

function scoreCell(given, index) {
  if (!given || !given.scores) return element("td", { class: "of quiet" }, "–");
  const largest = Math.max(...given.scores);
  const weights = given.scores.map((each) => Math.exp(each - largest));
  const share = weights[index] / weights.reduce((sum, each) => sum + each, 0);
  const bar = element("span", { class: "share", title: `${(100 * share).toFixed(1)} % of the choices' likelihood` });
  bar.style.width = `${100 * share}%`;
  const picked = given.prediction === index;
  return element("td", { class: picked ? "of picked" : "of" }, `${given.scores[index].toFixed(2)}${picked ? " ← picked" : ""}`, bar);
}

function texts(place) {
  const item = task().items[place];
  const target = targetText(item);
  const answers = sides().map((side) => {
    const given = answer(side, place);
    return element("div", {}, element("h4", {}, `Answer of ${data.models[side]}`),
      element("pre", {}, given ? answerText(item, given) || "(blank)" : "(none)"),
      given && given.extracted !== undefined ? element("p", { class: "quiet" }, `read as: ${given.extracted || "(nothing)"}`) : null);
  });
  const wanted = target === null ? [] : [element("h4", {}, "Target"), element("pre", {}, target)];
  return [...wanted, element("div", { class: "sides" }, ...answers)];
}

function step(event) {
  const steps = { ArrowDown: 1, ArrowUp: -1 };
  if (!(event.key in steps) || !found.length) return;
  event.preventDefault();
  const next = Math.min(Math.max(found.indexOf(current) + steps[event.key], 0), found.length - 1);
  while (next >= shown) more();
  choose(found[next]);
  at("list").children[next].firstChild.focus();
}

options(at("task"), data.tasks.map((each, place) => [place, each.name]));
options(at("first"), data.models.map((name, place) => [place, name]));
options(at("second"), [["", "none"], ...data.models.map((name, place) => [place, name])]);
if (data.models.length > 1) at("second").value = "1";
at("beside").hidden = data.models.length < 2;
for (const id of ["task", "first", "second", "show"]) at(id).addEventListener("change", update);
at("search").addEventListener("input", update);
at("more").addEventListener("click", more);
at("list").addEventListener("keydown", step);
at("browser").hidden = false;
update();
