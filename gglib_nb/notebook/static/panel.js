/**
 * The download panel: an anywidget module of plain scripts, checked by tsc through JSDoc and joined by panel.py. The kernel supplies
 * every text and action; the page keeps a copy of that state (`kernel`) and renders it (`dom`). A `view` renders its `picture` of `header`,
 * `adder`, `lists` and `row`s; `hold`, `keys` and `requests` handle user input. `types` declares the messages.
 */

/**
 * The widget of one model. Jupyter renders an output again when the kernel updates its static part: it drops the view's element and
 * calls `render` with a new one. The existing view then moves into the new element and keeps its state.
 *
 * The function that `render` returns closes the view: not every version of anywidget passes a signal.
 */
export default () => {
  let views = /** @type {PanelView[]} */ ([]);
  // The model that `render` gets drops its listeners with its element; this one keeps them.
  let sharedModel = /** @type {Model|null} */ (null);
  return {
    /** @param {{model: Model}} props */
    initialize({ model }) {
      sharedModel = model;
      followChanges(model);
    },
    /** @param {{model: Model, el: HTMLElement}} props */
    render({ model, el }) {
      views = views.filter(({ isClosed }) => !isClosed);
      let view = views.find(({ isDetached }) => isDetached);
      if (view) view.moveTo(el);
      else {
        view = new PanelView(sharedModel ?? model, el);
        views.push(view);
        view.open();
      }
      const current = view;
      return () => current.el === el && current.close();
    },
  };
};
