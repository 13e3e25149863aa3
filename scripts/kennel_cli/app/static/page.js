// Photos come in by drop, paste, choice or camera; a few at a time are answered.

import { Card } from "./card.js";
import { predict } from "./server.js";

const AT_ONCE = 4;
const limit = Number(document.body.dataset.limit);
const explains = Boolean(document.body.dataset.explains);
const drop = document.getElementById("drop");
const progress = document.getElementById("progress");
const status = document.getElementById("status");

const cards = [];
const waiting = [];
let busy = 0;
let asked = 0; // since nothing was on its way
let done = 0;

function add(files) {
  for (const file of files) {
    const card = new Card(file, (text) => {
      status.textContent = text;
      count();
    });
    cards.push(card);
    waiting.push(card);
    asked += 1;
    document.getElementById("cards").prepend(card.element);
  }
  report();
  while (busy < AT_ONCE && waiting.length) work();
}

async function work() {
  busy += 1;
  while (waiting.length) {
    const card = waiting.shift();
    try {
      if (card.file.size > limit) throw new Error(`the photo is larger than ${Math.round(limit / 2 ** 20)} MB, which the model does not take`);
      card.showAnswer(await predict(card.file), explains);
      report(`${card.name}: ${card.best}`);
    } catch (error) {
      card.showError(error);
      report(`${card.name}: ${error.message}`);
    }
  }
  busy -= 1;
}

/** Say how far it has come; `text` is of the photo that was answered last, if there is one. */
function report(text) {
  if (text) done += 1;
  const isOver = done === asked;
  progress.hidden = isOver;
  progress.max = asked;
  progress.value = done;
  if (!isOver) status.textContent = `${done} of ${asked} ${asked === 1 ? "photo" : "photos"} answered`;
  else status.textContent = asked === 1 ? text : `All ${asked} photos are answered`;
  if (isOver) asked = done = 0;
  count();
}

function count() {
  const right = cards.filter((card) => card.verdict === true).length;
  const wrong = cards.filter((card) => card.verdict === false).length;
  const parts = [`${cards.length} ${cards.length === 1 ? "photo" : "photos"}`];
  if (right + wrong) parts.push(`${right} right`, `${wrong} wrong`);
  const heading = document.getElementById("visit");
  heading.textContent = `This visit: ${parts.join(" · ")}`;
  heading.hidden = !cards.length;
}

for (const id of ["files", "camera"]) {
  document.getElementById(id).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = ""; // so that the same photo can be chosen again
  });
}
document.addEventListener("paste", (event) => add(event.clipboardData.files));
document.addEventListener("dragover", (event) => {
  event.preventDefault(); // else the browser leaves the page for the photo
  drop.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  add(event.dataTransfer.files);
});
