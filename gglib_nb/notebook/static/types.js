/**
 * The types of the messages between this page and the kernel, as in messages.py (a test compares the fields). Fields with their
 * default value are omitted from a message. Types only.
 */

/** @typedef {{text: string, mood?: string, is_live?: boolean}} Fact */
/** @typedef {{id: string, label: string, aria?: string, confirm?: string, yes?: string, is_worded?: boolean, is_primary?: boolean,
 *   is_off?: boolean}} Action */
/** @typedef {{name: string, status: string, amount: string, part: number|null, percent: string, weight: number,
 *   tag?: string, runs?: number[], verified?: number}} Bar */
/** @typedef {{id: string, status?: string, title?: string, tag?: string, origin?: string, name?: string, position?: number,
 *   icon?: string, measure?: string, lines?: Fact[], note?: string, mood?: string, link?: string, part?: number|null,
 *   progress?: string, bars?: Bar[], is_open?: boolean, reason?: string, path?: string, folder?: string, code?: string, past_id?: string,
 *   actions?: Action[]}} Row */
/** @typedef {{id: string, title?: string, rows?: string[], actions?: Action[]}} View */
/** @typedef {{id: string, label: string, value: string, hint?: string, is_number?: boolean, choices?: [string, string][]}} Field */
/** @typedef {{kind: string, text: string, action?: Action|null}} Notice */
/** @typedef {{counts: string, summary?: string, mood?: string, rate?: string, pace?: Fact[], bytes_per_second?: number|null,
 *   is_busy?: boolean, has_work?: boolean, actions?: Action[], fields?: Field[], notices?: Notice[]}} Header */
/** @typedef {{seq: number, header: Header, views: View[], rows: Record<string, Row>, texts: Record<string, string>,
 *   filters: Field[]}} PanelState */
/** @typedef {{text: string, is_end?: boolean}} News */
/** @typedef {{kind: "changes", seq: number, header?: Header|null, views?: View[]|null, rows?: string, news?: News[]}} Changes */
/** @typedef {{text?: string, mood?: string, news?: string, confirm?: Action|null, code?: [string, string][], is_queued?: boolean}} Answer */
/** @typedef {{title?: string, rows?: Row[], note?: string, actions?: Action[], link?: string, warning?: string, warning_link?: string,
 *   choices?: Action[], revision?: string|null, news?: string}} Listing */
/** @typedef {{kind: "reply", cid: string, result?: any, error?: string, alternatives?: string[]}} Reply */
/** @typedef {{kind: "progress", cid: string, text: string}} Progress */
/** @typedef {{get: (name: "snapshot") => PanelState, set: (name: "snapshot", value: PanelState) => void,
 *   send: (content: object) => void, on: (event: string, listener: (message: any) => void) => void,
 *   off: (event: string, listener: (message: any) => void) => void}} Model */
/**
 * The feedback shown beside one row, list or field: its text, the pending actions (busy), the action to confirm and the button that
 * requested it (opener), the code blocks and the action that opened them (shown), the completed actions (done), and where its row was refused (refusedIn).
 * @typedef {{text: string, mood: string, busy: string[], confirm: Action|null, opener: string, code: [string, string][], shown: string, done: string[],
 *   alternatives: string[], refusedIn: string|null}} Feedback
 */
/** @typedef {{tag: string, props: Record<string, any>, children: (TreeNode|string)[], draw?: () => TreeNode, restMs?: number}} TreeNode */
