// Colab's page. Only this page is connected to the kernel; each output is a frame of another origin. A frame requests a model's state
// (recorded here from the comm messages) and uses a message port as its comm.

import { runCell, showText, startKernel, WIDGET } from "./kernel.js";

const models = new Map();

function registerModel(comm, { content }) {
  const { state, ...rest } = content.data;
  const model = { comm, state: { ...state }, ports: new Set(), ...rest };
  models.set(comm.commId, model);
  comm.onMsg = (message) => {
    const { data } = message.content;
    if (data.method === "update") Object.assign(model.state, data.state);
    for (const port of model.ports) port.postMessage(data);
  };
}

window.startHost = async (token) => {
  const kernel = await startKernel(token);
  Object.defineProperty(kernel, "supportsSubshells", { get: () => false });
  kernel.registerCommTarget("jupyter.widget", registerModel);

  let outputs = 0;
  window.run = (code) =>
    runCell(kernel, code, (output, data) => {
      if (!data[WIDGET]) return showText(output, data);
      const frame = document.createElement("iframe");
      frame.name = `output-${++outputs}`;
      frame.src = `http://output-${outputs}.colab.test/frame.html?${document.documentElement.getAttribute("theme")}`;
      frame.onload = () => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = ({ data: { state: modelId, send } }) => {
          if (send) return void models.get(send.modelId).comm.send(send.data);
          const { comm, ports, ...model } = models.get(modelId);
          ports.add(port1);
          port1.postMessage({ model });
        };
        frame.contentWindow.postMessage(data[WIDGET].model_id, "*", [port2]);
      };
      output.appendChild(frame);
    });
};
