// One output frame of Colab: its own widget manager, models built from the page's state, and comms over a message port.

import * as base from "@jupyter-widgets/base";
import { ManagerBase } from "@jupyter-widgets/base-manager";

class Comm {
  constructor(id, port) {
    this.comm_id = id;
    this.target_name = "";
    this._port = port;
  }
  send(data, callbacks) {
    this._port.postMessage({ send: { modelId: this.comm_id, data } });
    Promise.resolve().then(() => callbacks?.iopub?.status?.({ content: { execution_state: "idle" } }));
    return "";
  }
  on_msg(callback) {
    this._port.addEventListener("message", ({ data }) => {
      if (!data.model) callback({ content: { comm_id: this.comm_id, data } });
    });
  }
  on_close() {}
  close() {}
}

class Manager extends ManagerBase {
  _models = new Map();
  _modules = {};
  async loadClass(className, moduleName) {
    if (moduleName === "@jupyter-widgets/base") return base[className];
    this._modules[moduleName] ??= this._load(moduleName);
    return (await this._modules[moduleName])[className];
  }
  async _load(moduleName) {
    const script = await (await fetch(`/nbextensions/${moduleName}/index.js`)).text();
    let loaded;
    new Function("define", script)((_dependencies, factory) => (loaded = factory(base)));
    return loaded;
  }
  _get_comm_info() {
    throw new Error("Colab does not list its comms");
  }
  get_model(modelId) {
    if (!this._models.has(modelId)) this._models.set(modelId, this._make(modelId));
    return this._models.get(modelId);
  }
  async _make(modelId) {
    if (modelId !== this.modelId) {
      return this.new_model(
        { model_name: "LayoutModel", model_module: "@jupyter-widgets/base", model_module_version: "2.0.0", model_id: modelId },
        {},
      );
    }
    const reply = new Promise((resolve) => this.port.addEventListener("message", ({ data }) => resolve(data), { once: true }));
    this.port.start();
    this.port.postMessage({ state: modelId });
    const { state } = (await reply).model;
    const model = {
      model_name: state._model_name,
      model_module: state._model_module,
      model_module_version: state._model_module_version,
      model_id: modelId,
      comm: new Comm(modelId, this.port),
    };
    return this.new_model(model, state);
  }
}

addEventListener("message", async ({ data: modelId, ports: [port] }) => {
  const manager = new Manager();
  Object.assign(manager, { modelId, port });
  const view = await manager.create_view(await manager.get_model(modelId));
  view.luminoWidget.processMessage({ type: "before-attach", isConflatable: false, conflate: () => false });
  document.body.appendChild(view.el);
  view.luminoWidget.processMessage({ type: "after-attach", isConflatable: false, conflate: () => false });
});
