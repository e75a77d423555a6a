// A kernel of the server that serves this page, through JupyterLab's own client. For the host pages; bundled by esbuild.

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

const shown = new Map();

/** Runs a cell; `show(output, data)` gets the element of each output that is not a stream. Resolves at its end. */
export async function runCell(kernel, code, show) {
  const cell = document.body.appendChild(document.createElement("section"));
  const future = kernel.requestExecute({ code, allow_stdin: true });
  updates(kernel, show);
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === "stream") {
      cell.appendChild(document.createElement("pre")).textContent = content.text;
    } else if (header.msg_type === "error") {
      cell.appendChild(document.createElement("pre")).textContent = `${content.ename}: ${content.evalue}`;
    } else if (header.msg_type === "display_data" || header.msg_type === "execute_result") {
      const output = cell.appendChild(document.createElement("div"));
      if (content.transient?.display_id) shown.set(content.transient.display_id, output);
      show(output, content.data);
    }
  };
  await future.done;
}

const updated = new WeakSet();

/** Updates outputs by their display ids, even after their cell has ended. */
function updates(kernel, show) {
  if (updated.has(kernel)) return;
  updated.add(kernel);
  kernel.iopubMessage.connect((_, { header, content }) => {
    const output = header.msg_type === "update_display_data" && shown.get(content.transient.display_id);
    if (output) show(output, content.data);
  });
}

/** The output of a host that cannot show the widget. */
export function showText(output, data) {
  if (data["text/html"]) output.innerHTML = data["text/html"];
  else output.replaceChildren(Object.assign(document.createElement("pre"), { textContent: data["text/plain"] }));
}
