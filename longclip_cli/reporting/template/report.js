"use strict";
// Moves the threshold: counts, shares, the line, the command and the marks of the examples follow.

const data = JSON.parse(document.getElementById("histograms").textContent);
const element = (name) => document.getElementById(name);
const slider = element("slider"), exact = element("exact"), chart = element("distribution");
const low = Number(slider.min), high = Number(slider.max), width = chart.viewBox.baseVal.width;

// How many scores are in each bin or a higher one, from a list: bin, count, bin, count, ….
function countsFrom(histogram) {
  const counts = new Float64Array(data.bins + 2);
  for (let i = 0; i < histogram.length; i += 2) counts[histogram[i]] = histogram[i + 1];
  for (let place = data.bins; place >= 0; place--) counts[place] += counts[place + 1];
  return counts;
}

const histograms = { pairs: countsFrom(data.pairs), mismatched: countsFrom(data.mismatched) };
const number = (value) => value.toLocaleString("en-US");
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function show(place) {
  const score = (place / data.bins).toFixed(4);
  for (const [name, counts] of Object.entries(histograms)) {
    const row = element(name);
    if (!row) continue;
    const above = counts[place], all = counts[0], cells = row.querySelectorAll("td");
    cells[0].textContent = all ? percent(above / all) : "–";
    cells[1].textContent = number(above);
    cells[2].textContent = number(all - above);
  }
  for (const each of document.querySelectorAll(".threshold-value")) each.textContent = score;
  for (const card of document.querySelectorAll(".card[data-place]")) {
    const side = card.querySelector(".side");
    if (side) side.textContent = Number(card.dataset.place) >= place ? "kept" : "rest";
  }
  for (const button of document.querySelectorAll("button[data-place]")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.place) === place));
  }
  const x = Math.min(1, Math.max(0, (place - low) / (high - low))) * width;
  element("line").setAttribute("x1", x);
  element("line").setAttribute("x2", x);
  element("rest").setAttribute("width", x);
  const all = histograms.pairs[0];
  slider.setAttribute("aria-valuetext", all ? `${score}, keeps ${percent(histograms.pairs[place] / all)} of your pairs` : score);
}

function move(place, source) {
  place = Math.min(data.bins, Math.max(0, place));
  if (source !== slider) slider.value = place;
  if (source !== exact) exact.value = (place / data.bins).toFixed(4);
  show(place);
}

slider.addEventListener("input", () => move(Number(slider.value), slider));
exact.addEventListener("input", () => {
  // The fourth decimal is a bin; a score that is more exact than that is rounded up, so that no lower score is kept.
  if (exact.value !== "") move(Math.ceil(Number((Number(exact.value) * data.bins).toFixed(6))), exact);
});
exact.addEventListener("change", () => move(Number(slider.value)));
element("controls").addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("button[data-place]")) {
  button.addEventListener("click", () => move(Number(button.dataset.place)));
}

function moveTo(event) {
  const box = chart.getBoundingClientRect();
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  move(Math.round(low + share * (high - low)));
}

chart.addEventListener("pointerdown", (event) => {
  chart.setPointerCapture(event.pointerId);
  moveTo(event);
});
chart.addEventListener("pointermove", (event) => {
  if (event.buttons) moveTo(event);
});

element("controls").hidden = false;
move(Number(slider.value)); // a browser may have kept another value over a reload
