/* Draws a page's Jupyter widgets without a kernel and without another host.

   The classes of the widgets are those of the notebook extension that is installed with
   ipywidgets. It expects the classic notebook around it; of that it is given just enough. */
(function () {
  "use strict";
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
  const here = document.currentScript.src.replace(/[^/]*$/, "");
  const ignore = () => undefined;
  const disconnected = { is_connected: () => false };

  const actions = { register: ignore, get: () => ({ handler: ignore }) };
  const kernel = { comm_manager: { register_target: ignore, kernel: disconnected } };
  const notebook = {
    kernel: kernel,
    metadata: {},
    events: { on: ignore },
    container: { on: ignore },
    keyboard_manager: { actions: actions, register_events: ignore },
    get_cells: () => [],
  };
  const namespace = {
    version: "6.5.0",
    notebook: notebook,
    notification_area: { widget: ignore },
    menubar: { actions: actions },
  };
  function OutputArea() {}
  OutputArea.prototype.register_mime_type = ignore;
  const modules = {
    "base/js/namespace": namespace,
    "base/js/events": { on: ignore },
    "notebook/js/outputarea": { OutputArea: OutputArea },
  };

  /* labels with mathematics ask for version 2 of MathJax; the book has version 3 */
  function shimMathJax() {
    if (window.MathJax && !window.MathJax.Hub) {
      const typeset = (element) =>
        window.MathJax.startup.promise.then(() => window.MathJax.typesetPromise([element]));
      window.MathJax.Hub = { Queue: (task) => typeset(task[2]) };
    }
  }

  function load(source) {
    return new Promise((resolve, reject) => {
      window.Jupyter = namespace;
      window.requirejs = (names, callback) =>
        Promise.resolve().then(() => callback(...names.map((name) => modules[name])));
      window.requirejs.config = ignore;
      window.define = (names, factory) => resolve(factory({ uri: source }));
      const script = document.createElement("script");
      script.src = source;
      script.onerror = () => reject(new Error("cannot load " + source));
      document.head.appendChild(script);
    }).finally(() => delete window.define);
  }

  async function manager(extension) {
    const menu = document.createElement("div");
    menu.hidden = true;
    menu.innerHTML = '<ul><li><span id="help_menu"></span></li></ul>';
    document.body.appendChild(menu);
    await extension.load_ipython_extension();
    menu.remove();
    kernel.widget_manager._get_comm_info = () => Promise.resolve({});
    return kernel.widget_manager;
  }

  async function draw() {
    shimMathJax();
    const widgets = await manager(await load(here + "extension.js"));
    for (const script of document.querySelectorAll(STATE)) {
      await widgets.set_state(JSON.parse(script.textContent));
    }
    for (const script of document.querySelectorAll(VIEW)) {
      const id = JSON.parse(script.textContent).model_id;
      const view = await widgets.create_view(await widgets.get_model(id), {});
      const place = document.createElement("div");
      place.className = "widget-subarea";
      script.after(place);
      const widget = view.luminoWidget;
      widget.processMessage({ type: "before-attach" });
      place.appendChild(widget.node);
      widget.processMessage({ type: "after-attach" });
      widget.processMessage({ type: "resize", width: -1, height: -1 });
    }
    document.documentElement.dataset.widgets = "drawn";
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", draw);
  } else {
    draw();
  }
})();
