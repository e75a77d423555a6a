// VS Code's webview: all outputs on one page, VS Code's widget manager, scripts loaded by requirejs, no subshells.

import { activate } from "@vscode/jupyter-ipywidgets8";
import { runCell, showText, startKernel, WIDGET } from "./kernel.js";

window.startHost = async (token) => {
  const kernel = await startKernel(token);
  Object.defineProperty(kernel, "supportsSubshells", { get: () => false });
  activate();
  window.vscIPyWidgets8.load();
  window.problems = [];
  const scripts = {
    widgetsRegisteredInRequireJs: new Set(),
    async loadWidgetScript(name) {
      window.requirejs.config({ paths: { [name]: `${location.origin}/nbextensions/${name}/index` } });
      this.widgetsRegisteredInRequireJs.add(name);
    },
    successHandler() {},
    errorHandler: (...problem) => window.problems.push(problem.join(" ")),
  };
  const container = document.body.appendChild(document.createElement("div"));
  const widgets = new window.vscIPyWidgets.WidgetManager(kernel, container, scripts, () => {});

  window.run = (code) =>
    runCell(kernel, code, async (output, data) => {
      if (!data[WIDGET]) return showText(output, data);
      output.className = "cell-output-ipywidget-background";
      const model = await widgets.get_model(data[WIDGET].model_id);
      const view = await widgets.create_view(model, { el: output });
      await widgets.display_view(data, view, { node: output });
    });
};
