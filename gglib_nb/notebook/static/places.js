/**
 * Where this page stands in Jupyter: what a folder of the disk is called in its file browser. Reads the page's own settings and
 * nothing else.
 */

/** @returns {Record<string, string>} What Jupyter's server says of itself to its pages; empty on a page that is none of its. */
function pageSettings() {
  try {
    return JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}");
  } catch {
    return {};
  }
}

/**
 * The address at which Jupyter shows the folder of a file; null where the folder is not below the server's root, or where
 * this is no page of Jupyter.
 * @param {string} path @param {Record<string, string>} settings
 */
export function folderAddress(path, settings = pageSettings()) {
  const { baseUrl, serverRoot } = settings;
  const home = serverRoot?.startsWith("~") ? "" : serverRoot;
  if (!baseUrl || !home) return null;
  const root = home.endsWith("/") ? home : `${home}/`;
  if (!path.startsWith(root)) return null;
  const folder = path.slice(root.length, Math.max(path.lastIndexOf("/"), root.length));
  const isNotebook = settings.appName === "Jupyter Notebook" || settings.notebookPage !== undefined;
  return `${baseUrl}${isNotebook ? "tree" : "lab/tree"}/${folder.split("/").map(encodeURIComponent).join("/")}`;
}
