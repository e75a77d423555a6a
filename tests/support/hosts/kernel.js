// Starts a kernel on the server of this page, with JupyterLab's client. Used by the host pages; bundled by esbuild.

import { KernelManager, ServerConnection } from "@jupyterlab/services";

export const WIDGET = "application/vnd.jupyter.widget-view+json";

export async function startKernel(token) {
  const serverSettings = ServerConnection.makeSettings({
    baseUrl: `${location.origin}/`,
    wsUrl: `${location.origin.replace("http", "ws")}/`,
    token,
    appendToken: true,
  });
  const manager = new KernelManager({ serverSettings });
  const kernel = await manager.startNew({ name: "python3" });
  await kernel.info;
  return kernel;
}

const outputs = new Map();

/** Runs a cell and calls `show(element, data)` for each output with display data. Resolves when the cell ends. */
export async function runCell(kernel, code, show) {
  const cell = document.body.appendChild(document.createElement("section"));
  const future = kernel.requestExecute({ code, allow_stdin: true });
  connectUpdates(kernel, show);
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === "stream") {
      cell.appendChild(document.createElement("pre")).textContent = content.text;
    } else if (header.msg_type === "error") {
      cell.appendChild(document.createElement("pre")).textContent = `${content.ename}: ${content.evalue}`;
    } else if (header.msg_type === "display_data" || header.msg_type === "execute_result") {
      const output = cell.appendChild(document.createElement("div"));
      if (content.transient?.display_id) outputs.set(content.transient.display_id, output);
      show(output, content.data);
    }
  };
  await future.done;
}

const connected = new WeakSet();

/** Applies `update_display_data` messages, also after the cell has ended. */
function connectUpdates(kernel, show) {
  if (connected.has(kernel)) return;
  connected.add(kernel);
  kernel.iopubMessage.connect((_, { header, content }) => {
    const output = header.msg_type === "update_display_data" && outputs.get(content.transient.display_id);
    if (output) show(output, content.data);
  });
}

/** Shows HTML or text instead of the widget. */
export function showText(output, data) {
  if (data["text/html"]) output.innerHTML = data["text/html"];
  else output.replaceChildren(Object.assign(document.createElement("pre"), { textContent: data["text/plain"] }));
}
