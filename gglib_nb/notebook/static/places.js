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
 * The address at which Jupyter shows the folder of a file; null where the folder is not below the server's root, where its
 * path has a name with a dot in front, which Jupyter does not show, or where this is no page of Jupyter.
 * @param {string} path @param {string} home The kernel's home folder, which the server writes as `~`.
 * @param {Record<string, string>} settings
 */
export function folderAddress(path, home, settings = pageSettings()) {
  const { baseUrl, serverRoot } = settings;
  if (!baseUrl || !serverRoot) return null;
  const root = serverRoot.replace(/^~/, home).replace(/\/*$/, "/");
  if (!path.startsWith(root)) return null;
  const folders = path.slice(root.length).split("/").slice(0, -1);
  if (folders.some((name) => name.startsWith("."))) return null;
  const isNotebook = settings.appName === "Jupyter Notebook" || settings.notebookPage !== undefined;
  return [`${baseUrl}${isNotebook ? "tree" : "lab/tree"}`, ...folders.map(encodeURIComponent)].join("/");
}
