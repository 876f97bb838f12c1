// Draws one frame of the precomputed films; the sliders choose the film and the frame.
(() => {
  const data = window.FILM;
  const element = (name) => document.getElementById("film-" + name);
  const choices = { size: data.sizes, decay: data.decays, revival: data.revivals };
  let timer = null;

  function draw() {
    const chosen = Object.entries(choices).map(([name, values]) => values[+element(name).value]);
    Object.keys(choices).forEach((name, i) => { element(name + "-said").textContent = chosen[i]; });
    const film = data.films[chosen.join("/")];
    const step = +element("step").value;
    const batch = step * data.every;
    element("step-said").textContent = batch;
    const centre = -150 + (300 * batch) / data.batches;
    let marks = `<circle cx="${centre}" cy="0" r="100" class="ring"/>`;
    const frame = film.frames[step];
    for (let i = 0; i < frame.length; i += 3) {
      const dead = frame[i + 2] >= data.dead;
      marks += `<circle cx="${frame[i]}" cy="${-frame[i + 1]}" r="5" class="${dead ? "dead" : "alive"}"/>`;
    }
    element("view").innerHTML = marks;
    element("said").textContent =
      `${film.used[step]} of ${chosen[0]} codewords in use; distortion ${film.errors[step].toFixed(3)}`;
  }

  function play() {
    if (timer) { clearInterval(timer); timer = null; element("play").textContent = "Play"; return; }
    element("play").textContent = "Stop";
    timer = setInterval(() => {
      const slider = element("step");
      slider.value = (+slider.value + 1) % (+slider.max + 1);
      draw();
      if (+slider.value === +slider.max) play();
    }, 150);
  }

  [...Object.keys(choices), "step"].forEach((name) => element(name).addEventListener("input", draw));
  element("play").addEventListener("click", play);
  draw();
})();
