/**
 * The download panel's page: an anywidget module of plain scripts, checked by tsc through JSDoc and joined by esm.py.
 *
 * The kernel says what is read and what can be done; the page holds one copy of that and draws it.
 *
 *     types    shapes on the wire                   dom      the renderer               kernel   requests, answers, changes
 *     row      one row and its parts                header, adder, lists                the parts of the panel
 *     hold     rows under a pointer                 keys     focus and the keyboard     asking   what is asked and said where
 *     view     one view                             picture  all of it, drawn                panel    the widget
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
