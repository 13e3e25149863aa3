// One photo with its answer, and what its visitor says of it.

import { collect, explain } from "./server.js";

const template = (id) => document.getElementById(id).content.cloneNode(true);

export class Card {
  verdict = null; // true: it was right; false: it was not

  constructor(file, said) {
    this.file = file;
    this.name = file.name || "pasted photo";
    this.said = said; // hears of a verdict
    this.element = template("card").firstElementChild;
    this.element.classList.add("waiting");
    this.element.setAttribute("aria-busy", "true");
    this.photo = URL.createObjectURL(file);
    this.image = this.find("img");
    this.image.alt = this.name;
    this.image.src = this.photo;
    this.image.addEventListener("error", () => this.element.classList.add("unseen")); // the browser cannot show it
    this.image.addEventListener("load", () => this.element.classList.remove("unseen"));
    this.find("h3").textContent = "Waiting …";
    this.find(".about").textContent = this.name;
    this.find(".heat").addEventListener("click", () => this.attempt(() => this.toggleHeat()));
    this.find(".yes").addEventListener("click", () => this.attempt(() => this.keep(this.best, true)));
    this.find(".no").addEventListener("click", () => this.askWhich());
    this.find("form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.find("select").value) this.attempt(() => this.keep(this.find("select").value, false));
    });
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  showAnswer({ predictions, milliseconds }, explains) {
    this.settle();
    this.best = predictions[0].label;
    this.find("h3").textContent = this.best;
    this.find(".about").textContent = `${this.name} · ${milliseconds.toLocaleString("en")} ms`;
    this.find(".bars").replaceChildren(...predictions.map(bar));
    this.find(".heat").hidden = !explains;
    this.find(".right").hidden = false;
    this.find(".right").setAttribute("aria-label", `Was ${this.best} right?`);
  }

  showError(error) {
    this.settle();
    if (!this.best) this.find("h3").textContent = "No answer";
    this.find(".error").textContent = error.message;
    this.find(".error").hidden = false;
  }

  settle() {
    this.element.classList.remove("waiting");
    this.element.removeAttribute("aria-busy");
  }

  /** Do what a button asks for, and show what goes wrong. */
  async attempt(action) {
    this.find(".error").hidden = true;
    try {
      await action();
    } catch (error) {
      this.showError(error);
      this.said(`${this.name}: ${error.message}`);
    }
  }

  async toggleHeat() {
    const button = this.find(".heat");
    const shows = button.getAttribute("aria-pressed") === "true";
    if (!shows && !this.heat) {
      button.disabled = true;
      try {
        this.heat = URL.createObjectURL(await explain(this.file));
      } finally {
        button.disabled = false;
        button.focus();
      }
    }
    this.image.src = shows ? this.photo : this.heat;
    this.image.alt = shows ? this.name : `${this.name}: where the model sees ${this.best}`;
    button.setAttribute("aria-pressed", String(!shows));
  }

  askWhich() {
    const select = this.find("select");
    if (!select.options.length) {
      select.append(template("classes"));
      for (const option of select.options) option.hidden = option.value === this.best;
    }
    this.press(false);
    this.find("form").hidden = false;
    select.focus();
  }

  async keep(label, isRight) {
    const { file } = await collect(this.file, label);
    this.verdict = isRight;
    this.press(isRight);
    this.find("form").hidden = isRight;
    this.find(".kept").textContent = `Kept as ${label}: ${file}`;
    this.said(`${this.name} is kept as ${label}`);
  }

  press(isRight) {
    this.find(".yes").setAttribute("aria-pressed", String(isRight));
    this.find(".no").setAttribute("aria-pressed", String(!isRight));
  }
}

function bar({ label, probability }) {
  const item = template("bar").firstElementChild;
  item.querySelector(".label").textContent = label;
  item.querySelector(".percent").textContent = `${(100 * probability).toFixed(1)} %`;
  item.querySelector(".fill").style.width = `${100 * probability}%`;
  return item;
}
