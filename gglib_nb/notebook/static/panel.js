/**
 * The download panel's page: an anywidget module of plain scripts, checked by tsc through JSDoc and joined by esm.py. The kernel says
 * what is read and what can be done; the page holds one copy of that (`kernel`) and draws it (`dom`): one `view` is a `picture` of its
 * `header`, `adder`, `lists` and `row`s, with what a person does to it in `hold`, `keys` and `asking`. `types` are those of the wire.
 */

/**
 * The widget of one model. Jupyter draws an output anew when the kernel brings its static part up to date: the view's element is
 * dropped and a new one wants a view. The old view goes on in there, as if nothing had happened.
 *
 * What ends a view is the function that `render` returns: not every version of anywidget gives a signal.
 */
export default () => {
  let views = /** @type {PanelView[]} */ ([]);
  // A view's own model forgets its handlers with its element; this one lasts.
  let lasting = /** @type {Model|null} */ (null);
  return {
    /** @param {{model: Model}} props */
    initialize({ model }) {
      lasting = model;
      follow(model);
    },
    /** @param {{model: Model, el: HTMLElement}} props */
    render({ model, el }) {
      views = views.filter(({ isClosed }) => !isClosed);
      let view = views.find(({ isStray }) => isStray);
      if (view) view.moveTo(el);
      else {
        view = new PanelView(lasting ?? model, el);
        views.push(view);
        view.open();
      }
      const shown = view;
      return () => shown.el === el && shown.close();
    },
  };
};
